//! What is true of any answer of a server.

use std::time::Duration;

use bytes::Bytes;
use grpc_wire::frames::{Frames, Part};
use http::HeaderMap;
use prost_reflect::DescriptorPool;
use shared_process::is_unseen;
use tonic::{Code, Status};

use crate::{Event, Failed, Json, Kind, Mermaid, Message, Outcome, Renderer, Side, Text};

/// Draws what a server answered, in each format: a byte that chooses the method of
/// `pool`, a byte with the code of the status, a byte with the length of its message,
/// the message, and then the body, of which the end is the status's details, too.
///
/// Panics when anything is drawn that acts on a terminal.
pub fn timeline(pool: &DescriptorPool, bytes: &[u8]) {
    let Some((&[method, code, length], rest)) = bytes.split_first_chunk() else { return };
    let Some((message, body)) = rest.split_at_checked(usize::from(length)) else { return };
    let methods: Vec<_> = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    let method = &methods[usize::from(method) % methods.len()];
    let output = method.output();
    let status = Status::with_details(
        Code::from(i32::from(code % 17)),
        String::from_utf8_lossy(message),
        Bytes::copy_from_slice(&body[body.len().saturating_sub(usize::from(length))..]),
    );
    let metadata = HeaderMap::new();
    let (mut whole, mut messages) = (Frames::default(), Vec::new());
    whole.feed(body, |part| match part {
        Part::Begin { flag, .. } => messages.push((flag != 0, Vec::new())),
        Part::Data(data) => messages.last_mut().into_iter().for_each(|(_, message)| message.extend(data)),
        Part::End => {}
    });
    let draw = |renderer: &mut dyn Renderer| {
        let mut at = Duration::ZERO;
        let mut happen = |kind: Kind<'_>| {
            at += Duration::from_millis(1);
            assert!(renderer.event(&Event { at, client: "client", kind }).is_ok());
        };
        happen(Kind::Request { path: "/a/B", metadata: &metadata, server: None });
        for (number, (compressed, bytes)) in (1..).zip(&messages) {
            let encoding = compressed.then_some("gzip");
            let message = Message { bytes, encoding, descriptor: Some(&output) };
            happen(Kind::Message { from: Side::Server, number, message });
        }
        happen(Kind::Trailers { status: &status, only: false, metadata: &metadata });
        let outcome = Outcome {
            mode: "unary",
            scenario: "multiply",
            value: serde_json::Value::Null,
            text: String::new(),
            failed: Some(Failed {
                code: "UNKNOWN",
                message: status.message().to_owned(),
                json: status.message().into(),
            }),
        };
        assert!(renderer.outcome(&outcome).is_ok());
    };
    let (mut text, mut json, mut mermaid) = (Vec::new(), Vec::new(), Vec::new());
    draw(&mut Text::to_stdout(&mut text, false));
    draw(&mut Json::new(&mut json, false));
    draw(&mut Mermaid::new(&mut mermaid));
    for drawn in [&text, &json, &mermaid] {
        let drawn = str::from_utf8(drawn);
        assert!(drawn.is_ok_and(|drawn| !drawn.contains(|c| is_unseen(c) && c != '\n')), "{drawn:?}");
    }
    for line in json.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(serde_json::from_slice::<serde_json::Value>(line).is_ok(), "no JSON");
    }
}

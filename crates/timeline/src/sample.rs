//! A run with everything that can happen in it, for the renderers' tests.

use std::{io, time::Duration};

use http::{HeaderMap, StatusCode};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{Event, Failed, Kind, Message, Outcome, Renderer, Side};

/// What a renderer makes of the sample.
pub(crate) fn drawn<R: Renderer>(mut renderer: R) -> io::Result<R> {
    let mut at = Duration::ZERO;
    let mut happen = |renderer: &mut R, client: &str, kind: Kind<'_>| {
        at += Duration::from_micros(1_234);
        renderer.event(&Event { at, client, kind })
    };
    let server = http::Uri::from_static("http://127.0.0.1:50051/");
    let path = "/fourmodes.v1.BidiStreamingService/Chat";
    let method = shared_proto::method(path);
    let (input, output) = (method.as_ref().map(|m| m.input()), method.as_ref().map(|m| m.output()));
    let message = |from, number, bytes| {
        let descriptor = if from == Side::Client { input.as_ref() } else { output.as_ref() };
        Kind::Message { from, number, message: Message { bytes, encoding: None, descriptor } }
    };
    let mut metadata = HeaderMap::new();
    metadata.insert("grpc-timeout", "2500m".parse().map_err(io::Error::other)?);
    metadata.append("key", "one".parse().map_err(io::Error::other)?);
    metadata.append("key", "two".parse().map_err(io::Error::other)?);
    let empty = HeaderMap::new();

    happen(&mut renderer, "client", Kind::Connected { server: &server })?;
    happen(&mut renderer, "client", Kind::Note("Everything that can happen; half of it # at %%once%%."))?;
    happen(&mut renderer, "ana", Kind::Request { path, metadata: &metadata, server: None })?;
    happen(&mut renderer, "ana", message(Side::Client, 1, b"\x0a\x0a\x0a\x03r<1\x12\x03ana"))?;
    happen(&mut renderer, "ana", Kind::Response { http: StatusCode::OK, metadata: &empty })?;
    let post =
        b"\x08\x07\x12\x06\x08\x80\xe8\x92\xcb\x06\x1a\x03ben\x32\x0c\x0a\x0a\xe5\xae\x89\x1b[2J\xe5\xa8\x9c";
    let event = [&[0x0a, post.len() as u8], &post[..]].concat();
    for number in 1..=30 {
        happen(&mut renderer, "ana", message(Side::Server, number, &event))?;
    }
    let long = "a text that is much too long for the diagram ".repeat(4);
    // post { text }, whose lengths take two bytes each.
    let post = [&[0x12, 183, 1, 0x0a, 180, 1][..], long.as_bytes()].concat();
    happen(&mut renderer, "ana", message(Side::Client, 2, &post))?;
    happen(&mut renderer, "ana", message(Side::Client, 3, b"\xff\xff"))?;
    for (from, failed, text) in [
        (Side::Client, false, "request 0  MathService.Multiply  {A: 6  B: 7}"),
        (Side::Server, false, "response 0  42"),
        (Side::Server, true, "response 1  rpc: can't find service \u{1b}[2J"),
    ] {
        let fields = json!({ "seq": 0, "bytes": 8 });
        happen(&mut renderer, "ana", Kind::Exchange { from, failed, text, fields: &fields })?;
    }
    happen(&mut renderer, "ana", Kind::HalfClose)?;
    happen(&mut renderer, "ana", Kind::Trailers { status: &Status::ok(""), only: false, metadata: &empty })?;
    let details =
        ErrorDetails::with_error_info("FELL_BEHIND", "fourmodes", [("next".to_owned(), "7".to_owned())]);
    let status = Status::with_error_details(Code::OutOfRange, "this member fell behind; ".repeat(5), details);
    happen(&mut renderer, "ben", Kind::Trailers { status: &status, only: true, metadata: &empty })?;
    happen(
        &mut renderer,
        "ben",
        Kind::Sent { from: Side::Client, what: "frame", text: "PING  a\u{1b}[2Jb" },
    )?;
    happen(&mut renderer, "ben", Kind::Sent { from: Side::Server, what: "body", text: "153 bytes" })?;
    let http = StatusCode::BAD_GATEWAY;
    happen(&mut renderer, "client", Kind::Response { http, metadata: &empty })?;
    happen(&mut renderer, "client", Kind::Cancel)?;
    happen(&mut renderer, "client", Kind::Broken { reason: "connection reset by peer" })?;
    let after = Duration::from_millis(170);
    happen(&mut renderer, "client", Kind::Reconnect { attempt: 1, after, reason: "connection refused" })?;
    let time = Duration::from_secs(2);
    happen(&mut renderer, "client", Kind::Ejected { server: &server, time, reason: "it is NOT_SERVING" })?;
    let request = Kind::Request { path, metadata: &empty, server: Some(&server) };
    happen(&mut renderer, "client", request)?;
    renderer.outcome(&Outcome {
        mode: "bidi-streaming",
        scenario: "chat",
        value: json!({"heard": 30}),
        text: "30 events heard".to_owned(),
        failed: Some(Failed {
            code: "OUT_OF_RANGE",
            message: status.message().to_owned(),
            json: json!({ "code": "OUT_OF_RANGE" }),
        }),
    })?;
    Ok(renderer)
}

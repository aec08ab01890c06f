use std::future::poll_fn;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::seen::Fields;

type Pieces = Vec<(Side, Vec<u8>)>;

/// What is seen of these pieces, each of them cut into pieces of `size` bytes.
fn seen(pieces: &Pieces, size: usize, frames: bool) -> Vec<(u64, Seen)> {
    let mut decoder = Decoder::new(
        Numbers::default(),
        Depth { keep: 64 << 10, frames, windows: frames, ..Depth::default() },
    );
    let mut seen = Vec::new();
    for (from, bytes) in pieces {
        bytes.chunks(size).for_each(|piece| seen.extend(decoder.pass(*from, piece, Duration::ZERO)));
    }
    seen.extend(decoder.closed("closed"));
    seen
}

/// [`seen`], which has to be the same wherever the pieces are cut.
fn seen_however_cut(pieces: &Pieces) -> Vec<Seen> {
    let whole = seen(pieces, usize::MAX, true);
    for size in [1, 2, 3, 5, 8, 9, 10, 100] {
        assert_eq!(seen(pieces, size, true), whole, "in pieces of {size}");
    }
    seen(pieces, usize::MAX, false).into_iter().map(|(_, seen)| seen).collect()
}

/// Passes on what two ends say to each other, and tells what that was.
async fn overheard(mut client: DuplexStream, mut server: DuplexStream) -> Pieces {
    let mut pieces = Pieces::new();
    let (mut from_client, mut from_server) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let (from, read) = tokio::select! {
            read = client.read(&mut from_client) => (Side::Client, read.unwrap()),
            read = server.read(&mut from_server) => (Side::Server, read.unwrap()),
        };
        let (bytes, to) = match from {
            Side::Client => (&from_client[..read], &mut server),
            Side::Server => (&from_server[..read], &mut client),
        };
        if read == 0 {
            return pieces;
        }
        pieces.push((from, bytes.to_vec()));
        let _ = to.write_all(bytes).await;
    }
}

fn grpc(message: &[u8]) -> Bytes {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat().into()
}

/// Two calls of h2 to h2, with every byte that a value may have.
async fn h2_calls() -> (Pieces, Vec<u8>) {
    let every: Vec<u8> = (b' '..=0xff).filter(|byte| *byte != 0x7f).collect();
    let odd = [&b"x"[..], &every, b"x"].concat();
    let (client, client_end) = duplex(1 << 20);
    let (server, server_end) = duplex(1 << 20);
    let overheard = tokio::spawn(overheard(client_end, server_end));
    let expected = odd.clone();
    let serving = tokio::spawn(async move {
        let mut connection = h2::server::handshake(server).await.unwrap();
        while let Some(call) = connection.accept().await {
            let (request, mut respond) = call.unwrap();
            assert_eq!(request.headers()["odd"].as_bytes(), expected);
            tokio::spawn(async move {
                let mut body = request.into_body();
                while let Some(data) = body.data().await {
                    body.flow_control().release_capacity(data.unwrap().len()).unwrap();
                }
                let head = http::Response::builder().header("content-type", "application/grpc").body(());
                let mut stream = respond.send_response(head.unwrap(), false).unwrap();
                for message in [&b"one"[..], b"", b"three"] {
                    stream.send_data(grpc(message), false).unwrap();
                }
                let trailers = [("grpc-status", "0"), ("secret-token", "abc")];
                let trailers = trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
                stream.send_trailers(trailers.into_iter().collect()).unwrap();
            });
        }
    });
    let (mut send, connection) = h2::client::handshake(client).await.unwrap();
    let driven = tokio::spawn(async move { connection.await.unwrap() });
    for _ in 0..2 {
        poll_fn(|cx| send.poll_ready(cx)).await.unwrap();
        let request = http::Request::post("http://here/a.B/C").header("content-type", "application/grpc");
        let request = request.header("odd", http::HeaderValue::from_bytes(&odd).unwrap());
        let (response, mut stream) = send.send_request(request.body(()).unwrap(), false).unwrap();
        stream.send_data(grpc(b"hello"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        while let Some(data) = body.data().await {
            body.flow_control().release_capacity(data.unwrap().len()).unwrap();
        }
        body.trailers().await.unwrap().unwrap();
    }
    drop(send);
    driven.await.unwrap();
    let pieces = overheard.await.unwrap();
    serving.abort();
    (pieces, odd)
}

fn text(fields: &Fields, name: &str) -> String {
    fields.iter().find(|(candidate, _)| candidate == name).unwrap().1.clone()
}

#[tokio::test]
async fn calls_of_h2_are_seen_however_their_bytes_are_cut() {
    let (pieces, odd) = h2_calls().await;
    let seen = seen_however_cut(&pieces);
    let mut kinds = Vec::new();
    for seen in &seen {
        match seen {
            Seen::Request { method, path, headers } => {
                assert_eq!((method.as_str(), path.as_str()), ("POST", "/a.B/C"));
                assert_eq!(text(headers, "odd"), String::from_utf8_lossy(&odd));
                kinds.push("request".to_owned());
            }
            Seen::Response { status: 200, .. } => kinds.push("response".to_owned()),
            Seen::Message { from, number, bytes, .. } => {
                kinds.push(format!("{from:?} {number} {}", String::from_utf8_lossy(bytes)));
            }
            Seen::HalfClose => kinds.push("half-close".to_owned()),
            Seen::Trailers { only: false, headers } => {
                assert_eq!(text(headers, "grpc-status"), "0");
                assert_eq!(text(headers, "secret-token"), "(masked)");
                kinds.push("trailers".to_owned());
            }
            other => panic!("{other:?}"),
        }
    }
    let call = [
        "request",
        "Client 1 hello",
        "half-close",
        "response",
        "Server 1 one",
        "Server 2 ",
        "Server 3 three",
        "trailers",
    ];
    assert_eq!(kinds, [call, call].concat());
}

#[tokio::test]
async fn frames_say_what_the_table_saves_and_which_windows_are_left() {
    let (pieces, _) = h2_calls().await;
    let frames: Vec<String> = seen(&pieces, usize::MAX, true)
        .into_iter()
        .filter_map(|(_, seen)| match seen {
            Seen::Frame { from, text } => Some(format!("{from:?} {text}")),
            _ => None,
        })
        .collect();
    let found = |text: &str| frames.iter().filter(|frame| frame.contains(text)).collect::<Vec<_>>();
    assert_eq!(found("Client SETTINGS").len(), 2, "{frames:#?}");
    let requests = found("Client HEADERS");
    assert!(
        requests[0].contains("6 fields in ") && requests[0].contains("2 from the table, 3 new in it"),
        "{requests:?}"
    );
    assert!(
        requests[1].contains("stream 3") && requests[1].contains("5 from the table, 0 new"),
        "{requests:?}"
    );
    let data = found("Client DATA  stream 1  10 bytes: message 1 begins  END_STREAM");
    assert_eq!(data.len(), 1, "{frames:#?}");
    assert!(data[0].ends_with("left: stream 65,525, connection 65,525"), "{data:?}");
    let data = found("Server DATA  stream 1  5 bytes: message 2 begins");
    assert!(data[0].ends_with("left: stream 65,522, connection 65,522"), "{data:?}");
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// `POST /a.B/C` with gRPC's content type.
fn request() -> Vec<u8> {
    [&[0x83, 0x04, 6][..], b"/a.B/C", &[0x0f, 0x10, 16], b"application/grpc"].concat()
}

/// What each side begins with.
fn settings() -> Vec<u8> {
    frame(4, 0, 0, &[])
}

fn client(frames: &[Vec<u8>]) -> (Side, Vec<u8>) {
    (Side::Client, [&PREFACE[..], &settings(), &frames.concat()].concat())
}

fn server(frames: &[Vec<u8>]) -> (Side, Vec<u8>) {
    (Side::Server, [settings(), frames.concat()].concat())
}

#[test]
fn padding_priority_and_continuation_are_no_part_of_a_call() {
    let block = request();
    let (first, second) = block.split_at(5);
    let padded = [&[3, 0, 0, 0, 0, 9][..], first, &[0; 3]].concat();
    let data = [&[4][..], &grpc(b"hi"), &[0; 4]].concat();
    let pieces = vec![client(&[
        frame(1, 0x28, 1, &padded),
        frame(9, 4, 1, second),
        frame(0, 8, 1, &data),
        frame(0xfa, 0, 0, b"of another document"),
        frame(0, 9, 1, &[0]),
    ])];
    let seen = seen_however_cut(&pieces);
    assert!(matches!(&seen[0], Seen::Request { path, .. } if path == "/a.B/C"), "{seen:?}");
    assert!(matches!(&seen[1], Seen::Message { bytes, length: 2, .. } if bytes == b"hi"), "{seen:?}");
    assert_eq!(seen[2], Seen::HalfClose);
    assert_eq!(seen[3], Seen::Broken { reason: "closed".to_owned() });
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_reset_ends_a_call_and_says_whose_it_was() {
    for (from, end) in [(Side::Client, 8), (Side::Server, 11)] {
        let mut pieces = vec![client(&[frame(1, 4, 1, &request())]), server(&[])];
        pieces.push((from, frame(3, 0, 1, &[0, 0, 0, end])));
        let seen = seen_however_cut(&pieces);
        assert_eq!(seen[1..], [Seen::Reset { from, code: u32::from(end) }]);
    }
}

#[test]
fn a_connection_that_ends_breaks_its_calls() {
    let (from, bytes) = client(&[frame(1, 4, 1, &request()), frame(1, 4, 3, &request())]);
    let mut decoder = Decoder::new(
        Numbers::default(),
        Depth { keep: 1 << 10, frames: false, windows: false, ..Depth::default() },
    );
    decoder.pass(from, &bytes, Duration::ZERO).for_each(drop);
    assert_eq!(decoder.half_closed(Side::Client, Side::Client).count(), 0);
    let broken: Vec<_> = decoder.half_closed(Side::Server, Side::Client).collect();
    let reason = "the client closed the connection".to_owned();
    assert_eq!(broken, [1, 2].map(|call| (call, Seen::Broken { reason: reason.clone() })));
    assert_eq!(decoder.closed("closed").count(), 0);
}

/// What is told when the decoder gives up on these bytes.
fn lost(pieces: Pieces) -> String {
    let seen = seen_however_cut(&pieces);
    let Some(Seen::Note { text }) = seen.last() else { panic!("{seen:?}") };
    assert!(text.starts_with("no longer decoded: "), "{text}");
    text.clone()
}

#[test]
fn the_decoder_says_what_it_cannot_follow() {
    let begun = client(&[frame(1, 4, 1, &request())]);
    let hpack = vec![begun.clone(), server(&[frame(1, 4, 1, &[0xff, 0xff, 0xff])])];
    assert!(lost(hpack).contains("a header block of the server is not HPACK"));
    let long = vec![client(&[frame(1, 0, 1, &[0; 200 << 10]), frame(9, 0, 1, &[0; 100 << 10])])];
    assert!(lost(long).contains("longer than 262,144 bytes"));
    let http1 = vec![begun.clone(), (Side::Server, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())];
    assert!(lost(http1).contains("the server answers in HTTP/1.1"));
    let none = vec![begun.clone(), (Side::Server, frame(6, 0, 0, &[0; 8]))];
    assert!(lost(none).contains("the server does not begin with SETTINGS"));
    let alert = vec![begun, (Side::Server, vec![0x15, 3, 3, 0, 2, 2, 70])];
    assert!(lost(alert).contains("the server expects TLS"));
    assert!(lost(vec![(Side::Client, vec![0x16, 3, 1, 2, 0])]).contains("the client speaks TLS"));
    assert!(lost(vec![(Side::Client, b"hello\r\n\r\n".to_vec())]).contains("neither HTTP/2 nor HTTP/1.1"));
    let answer = (Side::Server, b"HTTP/1.1 408 Request Timeout\r\n\r\n".to_vec());
    let early = vec![answer, (Side::Client, b"GET / HTTP/1.1\r\n\r\n".to_vec())];
    assert!(lost(early).contains("the server answers without a request"));
}

#[test]
fn a_server_may_send_its_settings_first() {
    let (from_client, from_server) = (client(&[frame(1, 4, 1, &request())]), server(&[]));
    let seen = seen_however_cut(&vec![from_server, from_client]);
    assert!(matches!(&seen[..], [Seen::Request { .. }, Seen::Broken { .. }]), "{seen:?}");
}

#[test]
fn grpc_web_is_seen_in_its_binary_form_and_in_base64() {
    let trailers = b"grpc-status:5\r\ngrpc-message:gone\r\n";
    let trailers = [&[0x80][..], &(trailers.len() as u32).to_be_bytes(), trailers].concat();
    for is_text in [false, true] {
        let suffix = if is_text { "-text" } else { "" };
        let coded = |bytes: &[u8]| match is_text {
            true => BASE64.encode(bytes).into_bytes(),
            false => bytes.to_vec(),
        };
        let question = coded(&grpc(b"hi"));
        let head = format!(
            "POST /a.B/C HTTP/1.1\r\nContent-Type: application/grpc-web{suffix}\r\nContent-Length: {}\r\n\r\n",
            question.len()
        );
        let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web{suffix}\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let body = [chunk(&coded(&grpc(b"one"))), chunk(&coded(&trailers)), b"0\r\n\r\n".to_vec()].concat();
        let pieces = vec![
            (Side::Client, [head.as_bytes(), &question].concat()),
            (Side::Server, [answer.as_bytes(), &body].concat()),
            // The next one, on the same connection.
            (Side::Client, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            (Side::Server, b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone".to_vec()),
        ];
        let seen = seen_however_cut(&pieces);
        assert!(
            matches!(&seen[1], Seen::Message { from: Side::Client, bytes, .. } if bytes == b"hi"),
            "{seen:?}"
        );
        assert!(
            matches!(&seen[4], Seen::Message { from: Side::Server, bytes, .. } if bytes == b"one"),
            "{seen:?}"
        );
        let Seen::Trailers { headers, .. } = &seen[5] else { panic!("{seen:?}") };
        assert_eq!(
            (text(headers, "grpc-status"), text(headers, "grpc-message")),
            ("5".into(), "gone".into())
        );
        assert!(matches!(&seen[6], Seen::Request { method, .. } if method == "GET"), "{seen:?}");
        assert!(matches!(&seen[8], Seen::Response { status: 404, .. }), "{seen:?}");
        assert!(matches!(&seen[9], Seen::Body { length: 4, .. }), "{seen:?}");
        assert_eq!(seen[10], Seen::Broken { reason: "the server's answer is not gRPC".to_owned() });
        assert_eq!(seen.len(), 11, "{seen:?}");
    }
}

#[test]
fn a_body_that_is_no_grpc_framing_is_shown_as_bytes() {
    let pieces = vec![client(&[frame(1, 4, 1, &request()), frame(0, 1, 1, b"no message at all")])];
    let seen = seen_however_cut(&pieces);
    assert!(matches!(&seen[1], Seen::Note { text } if text.contains("no gRPC framing")), "{seen:?}");
    assert!(matches!(&seen[2], Seen::Body { length: 17, .. }), "{seen:?}");
}

#[test]
fn what_is_kept_is_bounded() {
    // A message of 16 MiB on each of twenty streams, of which a part is there.
    let prefix = [0, 1, 0, 0, 0];
    let mut frames = Vec::new();
    for stream in (1..=39).step_by(2) {
        frames.push(frame(1, 4, stream, &request()));
        frames.push(frame(0, 0, stream, &[&prefix[..], &vec![7; 1 << 20]].concat()));
    }
    let mut decoder = Decoder::new(
        Numbers::default(),
        Depth { keep: 16 << 20, frames: false, windows: false, ..Depth::default() },
    );
    let (from, bytes) = client(&frames);
    assert_eq!(decoder.pass(from, &bytes, Duration::ZERO).count(), 20);
    assert!(decoder.out.partial() <= 4 << 20, "{}", decoder.out.partial());
    let rest: Vec<u8> = (1..=39).step_by(2).flat_map(|stream| frame(3, 0, stream, &[0, 0, 0, 8])).collect();
    assert_eq!(decoder.pass(from, &rest, Duration::ZERO).count(), 20);
    assert_eq!(decoder.out.partial(), 0);
}

#[test]
fn whatever_peers_send_is_seen_alike_however_it_is_cut() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..3_000 {
        let is_http2 = random.bool();
        let mut bytes = vec![if is_http2 { 3 } else { 0 }];
        for _ in 0..random.usize(..20) {
            let payload: Vec<u8> = (0..random.usize(..60)).map(|_| random.u8(..)).collect();
            let piece = match random.u8(..5) {
                0 if !is_http2 => match random.u8(..4) {
                    0 => b"POST /a.B/C HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc".to_vec(),
                    1 => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi".to_vec(),
                    2 => [&PREFACE[..], &settings()].concat(),
                    _ => payload,
                },
                1 => frame(1, random.u8(..) | 4, random.u8(..8), &request()),
                2 => frame(0, random.u8(..), random.u8(..8), &grpc(&payload)),
                _ => frame(random.u8(..11), random.u8(..), random.u8(..8), &payload),
            };
            bytes.push((piece.len() as u8) << 1 | random.u8(..2));
            bytes.extend(piece);
        }
        crate::fuzzed::watched(&bytes);
    }
}

#[tokio::test]
async fn windows_of_streams_are_told_of_now_and_then() {
    let (pieces, _) = h2_calls().await;
    let depth = Depth { keep: 0, frames: false, windows: true, ..Depth::default() };
    let windows = |step: Duration| {
        let mut decoder = Decoder::new(Numbers::default(), depth.clone());
        let (mut at, mut seen) = (Duration::ZERO, Vec::new());
        for (from, bytes) in &pieces {
            at += step;
            seen.extend(decoder.pass(*from, bytes, at));
        }
        seen.retain(|(call, seen)| *call == 1 && matches!(seen, Seen::Window { .. }));
        seen.into_iter().map(|(_, seen)| seen).collect::<Vec<_>>()
    };
    let at_once = windows(Duration::ZERO);
    assert_eq!(at_once[0], Seen::Window { from: Side::Client, left: 65_525 });
    assert_eq!(at_once[1], Seen::Window { from: Side::Server, left: 65_527 });
    assert_eq!(at_once.len(), 2, "{at_once:?}");
    assert!(windows(Duration::from_secs(1)).len() >= 2);
}

#[tokio::test]
async fn messages_of_calls_that_nobody_wants_are_not_told_of() {
    let (pieces, _) = h2_calls().await;
    let messages = |only: &str| {
        let only = [only.parse().unwrap()].into();
        let depth = Depth { keep: 64, only, ..Depth::default() };
        let mut decoder = Decoder::new(Numbers::default(), depth);
        let mut seen = Vec::new();
        for (from, bytes) in &pieces {
            seen.extend(decoder.pass(*from, bytes, Duration::ZERO));
        }
        assert_eq!(seen.iter().filter(|(_, seen)| seen.is_end()).count(), 2, "the calls are");
        seen.iter().filter(|(_, seen)| matches!(seen, Seen::Message { .. })).count()
    };
    assert!(messages("B/C") > 0);
    assert_eq!(messages("some.Other"), 0);
}

//! What a client is answered when its server cannot be reached.

use std::time::Duration;

use timeline::Side;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{Seen, tap::Tap, watch::Socket};

/// How long the client may take to make its call, and to hang up after the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Of what is said, in characters.
const LONGEST: usize = 1_000;

/// Answers the first call UNAVAILABLE, or 502 where it is not one of HTTP/2. Then the
/// connection ends, so that the client connects again.
pub(crate) async fn refuse(client: &mut Socket, first: &[u8], reason: &str, tap: Tap) {
    // A client that is gone needs no answer, and one that says nothing gets none.
    let _ = timeout(PATIENCE, answer(client, first, reason, &tap)).await;
    tap.closed(reason);
    let _ = client.shutdown().await;
    let mut rest = [0; 4096];
    let _ = timeout(PATIENCE, async { while matches!(client.read(&mut rest).await, Ok(1..)) {} }).await;
}

async fn answer(client: &mut Socket, first: &[u8], reason: &str, tap: &Tap) -> std::io::Result<()> {
    let mut buffer = first.to_vec();
    let mut greeted = false;
    loop {
        let (called, is_http2) = tap.decode(|decoder, at, see| {
            let seen: Vec<_> = decoder.pass(Side::Client, &buffer, at).collect();
            let call = seen.iter().find(|(_, seen)| matches!(seen, Seen::Request { .. }));
            let stream = call.map(|(call, _)| decoder.stream_of(*call));
            seen.into_iter().for_each(see);
            (stream, decoder.is_http2())
        });
        if is_http2 && !std::mem::replace(&mut greeted, true) {
            // Some clients make no call before.
            client.write_all(&[frame(4, 0, [0; 4], &[]), frame(4, 1, [0; 4], &[])].concat()).await?;
        }
        match called {
            Some(Some(stream)) => return client.write_all(&unavailable(stream, reason)).await,
            Some(None) => {
                let head = "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/plain\r\nconnection: close\r\n";
                let length = reason.len() + 1;
                let answer = format!("{head}content-length: {length}\r\n\r\n{reason}\n");
                return client.write_all(answer.as_bytes()).await;
            }
            None => {}
        }
        buffer.clear();
        if client.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Frames of HTTP/2: the answer to a call, and that there will be no more.
fn unavailable(stream: u32, reason: &str) -> Vec<u8> {
    const NO_ERROR: [u8; 4] = [0; 4];
    const STATUS_200: u8 = 0x88;
    let stream = stream.to_be_bytes();
    let reason: String = reason.chars().take(LONGEST).collect();
    let mut block = vec![STATUS_200];
    for (name, value) in
        [("content-type", "application/grpc"), ("grpc-status", "14"), ("grpc-message", &encoded(&reason))]
    {
        // A literal that enters no table.
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    let end_of_headers_and_stream = 0x5;
    [
        frame(1, end_of_headers_and_stream, stream, &block),
        // What the client still sends of the call is not read.
        frame(3, 0, stream, &NO_ERROR),
        frame(7, 0, [0; 4], &[stream, NO_ERROR].concat()),
    ]
    .concat()
}

fn frame(kind: u8, flags: u8, stream: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    [&length[..], &[kind, flags], &stream, payload].concat()
}

/// Without Huffman's code.
fn string(block: &mut Vec<u8>, text: &str) {
    match text.len() {
        short @ ..127 => block.push(short as u8),
        long => {
            let rest = long - 127;
            block.extend([127, rest as u8 | 0x80, (rest >> 7) as u8 & 0x7f]);
        }
    }
    block.extend_from_slice(text.as_bytes());
}

/// As gRPC has `grpc-message`.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

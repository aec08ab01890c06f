//! The HTTP of `net/rpc`: one CONNECT, and then gob.

use bytes::{Buf, BytesMut};

/// Go's `rpc.DefaultRPCPath`.
pub const PATH: &str = "/_goRPC_";
/// What Go's client wants to read, and nothing else.
pub(crate) const CONNECTED: &str = "200 Connected to Go RPC";
/// Bytes of a request or a response with its headers.
pub(crate) const MAX_HEAD: usize = 8 << 10;

/// Takes lines up to the empty one off `buffer`, and returns the first. `None`: more bytes are needed.
pub(crate) fn first_line(buffer: &mut BytesMut) -> Option<String> {
    let ends = |(at, byte): (usize, &u8)| {
        let rest = &buffer[at..];
        if *byte != b'\n' {
            None
        } else if rest.starts_with(b"\n\n") {
            Some(at + 2)
        } else {
            rest.starts_with(b"\n\r\n").then_some(at + 3)
        }
    };
    let end = buffer.iter().enumerate().find_map(ends)?;
    let line = String::from_utf8_lossy(buffer[..end].split(|byte| *byte == b'\n').next().unwrap_or_default());
    let line = line.trim_end().to_owned();
    buffer.advance(end);
    Some(line)
}

/// What a server answers to a first line, and whether gob follows.
pub(crate) fn answer(line: &str) -> (String, bool) {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        (refusal("400 Bad Request", "400 Bad Request"), false)
    } else if path != PATH {
        (refusal("404 Not Found", "404 page not found\n"), false)
    } else if method != "CONNECT" {
        (refusal("405 Method Not Allowed", "405 must CONNECT\n"), false)
    } else {
        (format!("HTTP/1.0 {CONNECTED}\n\n"), true)
    }
}

fn refusal(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

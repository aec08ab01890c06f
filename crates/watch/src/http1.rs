//! HTTP/1.1 as it passes, RFC 9112: gRPC-Web of browsers and proxies, and whatever
//! else is not HTTP/2.

use std::collections::VecDeque;

use timeline::Side;

use crate::{
    call::{Call, Out},
    http2::Lost,
    numbers::Numbers,
    seen::{Fields, masked, named},
};

/// The longest head, in bytes.
const HEAD: usize = 64 << 10;
/// How many fields it may have.
const FIELDS: usize = 128;
/// How many calls may wait for their answers on one connection.
const CALLS: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Http1 {
    client: Half,
    server: Half,
    /// Whose answers are to come, in order. The request of the last one may still be
    /// on its way.
    pub(crate) calls: VecDeque<Call>,
    numbers: Numbers,
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    /// A head, or the size of a chunk, as far as it is there.
    line: Vec<u8>,
    body: Body,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// A head comes first.
    #[default]
    None,
    /// So many bytes are missing.
    Length(u64),
    /// The size of a chunk comes next.
    Size,
    /// So many bytes of a chunk are missing, and the end of its line.
    Chunk(u64),
    /// Lines up to an empty one.
    Trailers,
    UntilClose,
}

impl Http1 {
    pub(crate) fn new(numbers: Numbers) -> Self {
        Self { client: Half::default(), server: Half::default(), calls: VecDeque::new(), numbers }
    }

    fn half(&mut self, side: Side) -> &mut Half {
        if side == Side::Client { &mut self.client } else { &mut self.server }
    }

    fn call(&mut self, side: Side) -> Option<&mut Call> {
        if side == Side::Client { self.calls.back_mut() } else { self.calls.front_mut() }
    }

    /// Takes what a side has sent, in pieces of any size.
    pub(crate) fn pass(&mut self, from: Side, mut bytes: &[u8], out: &mut Out) -> Result<(), Lost> {
        while !bytes.is_empty() {
            let half = self.half(from);
            match half.body {
                Body::None | Body::Size | Body::Trailers => {
                    let line = bytes.iter().position(|byte| *byte == b'\n');
                    let (piece, rest) = bytes.split_at(line.map_or(bytes.len(), |end| end + 1));
                    bytes = rest;
                    half.line.extend_from_slice(piece);
                    if half.line.len() > HEAD {
                        return Err(Lost(format!("a head of {} is longer than {HEAD} bytes", named(from))));
                    }
                    if line.is_some() {
                        self.line(from, out)?;
                    }
                }
                Body::Length(left) | Body::Chunk(left) => {
                    let is_chunk = matches!(half.body, Body::Chunk(_));
                    let piece = bytes.split_off(..bytes.len().min(left as usize)).unwrap_or_default();
                    let left = left - piece.len() as u64;
                    half.body = match (is_chunk, left) {
                        (true, 0) => Body::Size,
                        (true, left) => Body::Chunk(left),
                        (false, left) => Body::Length(left),
                    };
                    self.data(from, piece, out);
                    if !is_chunk && left == 0 {
                        self.end(from, out);
                    }
                }
                Body::UntilClose => {
                    self.data(from, bytes, out);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn data(&mut self, from: Side, data: &[u8], out: &mut Out) {
        if let Some(call) = self.call(from) {
            call.data(from, data, out);
        }
    }

    /// A line is complete, and `self.half(from).line` ends with it.
    fn line(&mut self, from: Side, out: &mut Out) -> Result<(), Lost> {
        let half = self.half(from);
        let is_empty = |line: &[u8]| matches!(line, b"\n" | b"\r\n");
        match half.body {
            Body::Size if is_empty(&half.line) => half.line.clear(),
            Body::Size => {
                let line = std::mem::take(&mut half.line);
                let Ok(httparse::Status::Complete((_, size))) = httparse::parse_chunk_size(&line) else {
                    return Err(Lost(format!("{} sent a chunk without a size", named(from))));
                };
                half.body = if size == 0 { Body::Trailers } else { Body::Chunk(size) };
            }
            Body::Trailers => {
                let line = std::mem::take(&mut half.line);
                if is_empty(&line) {
                    self.end(from, out);
                }
            }
            // Empty lines may come before a head.
            _ if is_empty(&half.line) => half.line.clear(),
            _ if half.line.ends_with(b"\r\n\r\n") || half.line.ends_with(b"\n\n") => {
                let head = std::mem::take(&mut half.line);
                match from {
                    Side::Client => self.request(&head, out)?,
                    Side::Server => self.response(&head, out)?,
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn request(&mut self, head: &[u8], out: &mut Out) -> Result<(), Lost> {
        let mut headers = [httparse::EMPTY_HEADER; FIELDS];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(head);
        let (Ok(httparse::Status::Complete(_)), Some(method), Some(path)) =
            (parsed, request.method, request.path)
        else {
            return Err(Lost("what the client sends is neither HTTP/2 nor HTTP/1.1".to_owned()));
        };
        if self.calls.len() == CALLS {
            return Err(Lost(format!("more than {CALLS} requests wait for their answers")));
        }
        let (method, path) = (method.to_owned(), path.to_owned());
        let fields = fields(request.headers);
        let body = body(&fields);
        self.calls.push_back(Call::begin(self.numbers.next(), method, path, fields, out));
        // A request that says nothing has none.
        self.client.body = if body == Body::UntilClose { Body::Length(0) } else { body };
        if self.client.body == Body::Length(0) {
            self.end(Side::Client, out);
        }
        Ok(())
    }

    fn response(&mut self, head: &[u8], out: &mut Out) -> Result<(), Lost> {
        let mut headers = [httparse::EMPTY_HEADER; FIELDS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(head);
        let (Ok(httparse::Status::Complete(_)), Some(status)) = (parsed, response.code) else {
            return Err(Lost("what the server sends is not HTTP/1.1".to_owned()));
        };
        if status == 101 {
            return Err(Lost("both sides switched to another protocol".to_owned()));
        }
        let fields = fields(response.headers);
        let Some(call) = self.calls.front_mut() else {
            return Err(Lost("the server answers without a request".to_owned()));
        };
        if status < 200 {
            return Ok(());
        }
        let none = call.is_head || matches!(status, 204 | 304);
        self.server.body = if none { Body::Length(0) } else { body(&fields) };
        call.fields(Some(status), fields, false, out);
        if self.server.body == Body::Length(0) {
            self.end(Side::Server, out);
        }
        Ok(())
    }

    fn end(&mut self, from: Side, out: &mut Out) {
        self.half(from).body = Body::None;
        if let Some(call) = self.call(from) {
            call.end(from, out);
        }
        if from == Side::Server
            && let Some(mut call) = self.calls.pop_front()
        {
            call.release(out);
        }
    }

    /// A side has closed the connection, which ends a body without a length.
    pub(crate) fn closed(&mut self, by: Side, out: &mut Out) {
        if self.half(by).body == Body::UntilClose {
            self.end(by, out);
        }
    }
}

fn fields(headers: &[httparse::Header<'_>]) -> Fields {
    let fields = headers.iter().map(|header| {
        let name = header.name.to_ascii_lowercase();
        let value = masked(&name, String::from_utf8_lossy(header.value).into_owned());
        (name, value)
    });
    fields.collect()
}

/// What comes after a head with these fields.
fn body(fields: &Fields) -> Body {
    let value = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
    match (value("transfer-encoding"), value("content-length").map(str::parse)) {
        (Some(coding), _) if coding.to_ascii_lowercase().ends_with("chunked") => Body::Size,
        (None, Some(Ok(length))) => Body::Length(length),
        _ => Body::UntilClose,
    }
}

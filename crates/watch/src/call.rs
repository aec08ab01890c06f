//! One call: its two bodies, and what is to be told of it.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use grpc_wire::{
    frames::{Frames, Part},
    http2_error, is_grpc,
};
use timeline::Side;

use crate::{
    filter::{Only, takes_path},
    seen::{Fields, Seen, masked, named},
};

/// How many bytes are held of messages that are not complete, on one connection
/// and over all its calls.
const PARTIAL: usize = 4 << 20;
/// How many bytes the trailers of gRPC-Web may have.
const TRAILERS: usize = 64 << 10;

/// How much of what passes is told of.
#[derive(Debug, Clone, Default)]
pub struct Depth {
    /// How many bytes of a message are kept. With 0 no message is told of.
    pub keep: usize,
    /// Whether frames of HTTP/2 are told of.
    pub frames: bool,
    /// Whether windows of streams are told of.
    pub windows: bool,
    /// Messages of other calls are not told of; of none, when it is empty.
    pub only: Arc<[Only]>,
}

/// What was seen, by call.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) seen: Vec<(u64, Seen)>,
    pub(crate) depth: Depth,
    /// How many bytes are held of messages that are not complete.
    partial: usize,
}

impl Out {
    pub(crate) fn new(depth: Depth) -> Self {
        Self { seen: Vec::new(), depth, partial: 0 }
    }

    /// Adds to what is kept of a message, up to `most`, as long as there is room.
    fn hold(&mut self, kept: &mut Vec<u8>, most: usize, data: &[u8]) {
        let room = most.saturating_sub(kept.len()).min(PARTIAL.saturating_sub(self.partial));
        let data = &data[..data.len().min(room)];
        kept.extend_from_slice(data);
        self.partial += data.len();
    }

    /// Tells of a frame.
    pub(crate) fn frame(&mut self, call: u64, from: Side, text: impl FnOnce() -> String) {
        if self.depth.frames {
            self.seen.push((call, Seen::Frame { from, text: text() }));
        }
    }

    #[cfg(test)]
    pub(crate) fn partial(&self) -> usize {
        self.partial
    }

    /// Says what belongs to no call.
    pub(crate) fn note(&mut self, text: String) {
        self.seen.push((0, Seen::Note { text }));
    }
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) number: u64,
    /// The answer to HEAD has no body.
    pub(crate) is_head: bool,
    request: Body,
    response: Body,
    answered: bool,
    half_closed: bool,
    done: bool,
}

impl Call {
    pub(crate) fn begin(number: u64, method: String, path: String, headers: Fields, out: &mut Out) -> Self {
        let keep = if takes_path(&out.depth.only, &path) { out.depth.keep } else { 0 };
        let request = Body::new(Side::Client, keep, &headers);
        let is_head = method == "HEAD";
        out.seen.push((number, Seen::Request { method, path, headers }));
        let response = Body::new(Side::Server, keep, &Fields::new());
        Self { number, is_head, request, response, answered: false, half_closed: false, done: false }
    }

    /// The head of an answer, or the trailers after it.
    pub(crate) fn fields(&mut self, status: Option<u16>, headers: Fields, end: bool, out: &mut Out) {
        let only = !std::mem::replace(&mut self.answered, true);
        let has_status = headers.iter().any(|(name, _)| name == "grpc-status");
        if has_status && (end || only) {
            self.tell(Seen::Trailers { only, headers }, out);
        } else if only {
            self.response = Body::new(Side::Server, self.response.keep, &headers);
            self.tell(Seen::Response { status: status.unwrap_or_default(), headers }, out);
        }
    }

    pub(crate) fn data(&mut self, from: Side, data: &[u8], out: &mut Out) {
        let body = if from == Side::Client { &mut self.request } else { &mut self.response };
        if !self.done && body.feed(data, self.number, out) {
            self.done = true;
        }
    }

    /// Where a side is in its messages.
    pub(crate) fn place(&self, from: Side) -> String {
        let body = if from == Side::Client { &self.request } else { &self.response };
        match (&body.kind, body.frames.is_whole()) {
            (Kind::Other | Kind::Misframed, _) => "body".to_owned(),
            (_, true) => format!("message {} begins", body.number + 1),
            (_, false) => format!("message {} goes on", body.number + 1),
        }
    }

    /// A side will send no more.
    pub(crate) fn end(&mut self, from: Side, out: &mut Out) {
        let body = if from == Side::Client { &mut self.request } else { &mut self.response };
        let rest = body.finish(out);
        rest.into_iter().for_each(|seen| self.tell(seen, out));
        match from {
            Side::Client if !std::mem::replace(&mut self.half_closed, true) => {
                self.tell(Seen::HalfClose, out)
            }
            Side::Client => {}
            Side::Server => {
                let reason = match &self.response.kind {
                    Kind::Other | Kind::Misframed => "the server's answer is not gRPC",
                    _ => "the server ended the stream without a status",
                };
                self.tell(Seen::Broken { reason: reason.to_owned() }, out);
            }
        }
    }

    pub(crate) fn reset(&mut self, from: Side, code: u32, out: &mut Out) {
        self.release(out);
        self.tell(Seen::Reset { from, code }, out);
    }

    pub(crate) fn broke(&mut self, reason: &str, out: &mut Out) {
        self.release(out);
        self.tell(Seen::Broken { reason: reason.to_owned() }, out);
    }

    pub(crate) fn release(&mut self, out: &mut Out) {
        self.request.release(out);
        self.response.release(out);
    }

    /// Nothing of a call is told after its end: it never got to the other side.
    fn tell(&mut self, seen: Seen, out: &mut Out) {
        if !self.done {
            self.done = seen.is_end();
            out.seen.push((self.number, seen));
        }
    }
}

/// Why a side reset a call, for people.
pub(crate) fn reset_reason(from: Side, code: u32) -> String {
    format!("{} reset the stream: {}", named(from), http2_error(code))
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Grpc,
    Web,
    /// gRPC-Web in base64, of which up to three characters wait for the fourth.
    Text(Vec<u8>),
    Other,
    /// Of gRPC, as its head said, and not in its framing. Nothing of it is kept.
    Misframed,
}

/// What one side sends.
#[derive(Debug)]
struct Body {
    from: Side,
    /// As [there](Depth::keep).
    keep: usize,
    kind: Kind,
    frames: Frames,
    /// In bytes, with all prefixes.
    total: u64,
    /// Messages that are complete.
    number: u64,
    flag: u8,
    length: u64,
    /// As much of the message as is kept.
    kept: Vec<u8>,
}

impl Body {
    fn new(from: Side, keep: usize, headers: &Fields) -> Self {
        let content_type = headers.iter().find(|(name, _)| name == "content-type");
        let kind = match content_type.map_or("", |(_, value)| value) {
            grpc if is_grpc(grpc) => Kind::Grpc,
            text if text.starts_with("application/grpc-web-text") => Kind::Text(Vec::new()),
            web if web.starts_with("application/grpc-web") => Kind::Web,
            _ => Kind::Other,
        };
        Self {
            from,
            keep,
            kind,
            frames: Frames::default(),
            total: 0,
            number: 0,
            flag: 0,
            length: 0,
            kept: Vec::new(),
        }
    }

    /// Whether this was the end of the call.
    fn feed(&mut self, data: &[u8], call: u64, out: &mut Out) -> bool {
        let Kind::Text(waiting) = &mut self.kind else { return self.binary(data, call, out) };
        waiting.extend_from_slice(data);
        let mut text = std::mem::take(waiting);
        let mut rest = &text[..];
        let mut plain = Vec::with_capacity(text.len());
        // Each piece of a body may end with its own padding.
        while let Some(group) = rest.split_off(..4) {
            match BASE64_STANDARD.decode(group) {
                Ok(bytes) => plain.extend(bytes),
                Err(_) => {
                    let ended = self.binary(&plain, call, out);
                    self.kind = Kind::Misframed;
                    self.total += (group.len() + rest.len()) as u64;
                    return ended;
                }
            }
        }
        text.drain(..text.len() / 4 * 4);
        self.kind = Kind::Text(text);
        self.binary(&plain, call, out)
    }

    fn binary(&mut self, data: &[u8], call: u64, out: &mut Out) -> bool {
        let Self { from, keep, kind, frames, total, number, flag, length, kept } = self;
        let is_web = matches!(kind, Kind::Web | Kind::Text(_));
        let mut ended = false;
        *total += data.len() as u64;
        if !matches!(kind, Kind::Other | Kind::Misframed) {
            let mut is_grpc = true;
            frames.feed(data, |part| match part {
                // There is nothing after the trailers.
                _ if ended => {}
                Part::Begin { flag: begun, length: bytes } => {
                    (*flag, *length) = (begun, u64::from(bytes));
                    is_grpc &= begun <= 1 || is_web && begun & !1 == 0x80;
                }
                Part::Data(data) => out.hold(kept, *keep, data),
                Part::End => {
                    out.partial -= kept.len();
                    let bytes = std::mem::take(kept);
                    if !is_grpc {
                        return;
                    }
                    if *flag & 0x80 != 0 {
                        let headers = web_trailers(&bytes);
                        out.seen.push((call, Seen::Trailers { only: false, headers }));
                        ended = true;
                    } else {
                        *number += 1;
                        if *keep == 0 {
                            return;
                        }
                        let (from, number, length) = (*from, *number, *length);
                        let compressed = *flag & 1 != 0;
                        out.seen.push((call, Seen::Message { from, number, length, compressed, bytes }));
                    }
                }
            });
            if is_grpc {
                return ended;
            }
            *kind = Kind::Misframed;
            let text = format!("what {} sends is no gRPC framing; it is passed on", named(*from));
            out.seen.push((call, Seen::Note { text }));
            out.partial -= kept.len();
            kept.clear();
        }
        if *kind == Kind::Other {
            out.hold(kept, *keep, data);
        }
        false
    }

    /// What is left at the end.
    fn finish(&mut self, out: &mut Out) -> Option<Seen> {
        let bytes = self.release(out);
        let Self { from, kind, frames, total, number, length, .. } = self;
        let from = *from;
        match kind {
            Kind::Other | Kind::Misframed => {
                (*total > 0).then_some(Seen::Body { from, length: *total, bytes })
            }
            _ if frames.is_whole() => None,
            _ => {
                let (side, number, have) = (named(from), *number + 1, frames.partial());
                let text = format!("{side} ended in message {number}, after {have} of {length} bytes of it");
                Some(Seen::Note { text })
            }
        }
    }

    fn release(&mut self, out: &mut Out) -> Vec<u8> {
        out.partial -= self.kept.len();
        std::mem::take(&mut self.kept)
    }
}

/// The trailers of gRPC-Web are a message, with lines as HTTP/1.1 has them.
fn web_trailers(bytes: &[u8]) -> Fields {
    let bytes = &bytes[..bytes.len().min(TRAILERS)];
    let text = String::from_utf8_lossy(bytes);
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    fields
        .map(|(name, value)| {
            let name = name.trim().to_ascii_lowercase();
            let value = masked(&name, value.trim().to_owned());
            (name, value)
        })
        .collect()
}

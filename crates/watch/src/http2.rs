//! HTTP/2 as it passes, RFC 9113: frames, header blocks, windows. Both directions of
//! one connection; nothing is sent, and what is not valid is not judged.

mod control;
mod half;

use std::{collections::BTreeMap, time::Duration};

use grpc_wire::heads::Part;
use indicatif::HumanCount;
use timeline::{Side, words::counted};

use self::half::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, Half, PADDED, PING, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, fragment, number,
};
use crate::{
    call::{Call, Out},
    hpack::How,
    numbers::Numbers,
    seen::{Fields, Seen, masked, named},
};

/// What a client sends first.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest header block that is decoded, in bytes.
const BLOCK: usize = 256 << 10;
/// How much is kept of the fields of a block, in bytes.
const FIELDS: usize = 64 << 10;
/// How many calls are followed at the same time on a connection.
const CALLS: usize = 10_000;
/// Why a connection is not followed any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) String);

#[derive(Debug)]
pub(crate) struct Http2 {
    client: Half,
    server: Half,
    streams: BTreeMap<u32, Stream>,
    /// Calls that were too many to be followed.
    too_many: u64,
    /// Who was the first to say that there will be no more calls.
    pub(crate) leaves: Option<Side>,
    numbers: Numbers,
}

#[derive(Debug)]
struct Stream {
    /// A node of the map has room for several streams, and most connections have one.
    call: Box<Call>,
    /// How much DATA the client may send, and the server.
    windows: [i64; 2],
    ended: [bool; 2],
    /// When these were last told of.
    told: [Option<Duration>; 2],
}

impl Stream {
    fn tell_window(&mut self, from: Side, at: Duration, out: &mut Out) {
        /// A chart has no use for more.
        const PAUSE: Duration = Duration::from_millis(20);
        let told = &mut self.told[from as usize];
        if out.depth.windows && told.is_none_or(|told| at.saturating_sub(told) >= PAUSE) {
            *told = Some(at);
            out.seen.push((self.call.number, Seen::Window { from, left: self.windows[from as usize] }));
        }
    }
}

impl Http2 {
    /// For what comes after the preface.
    pub(crate) fn new(numbers: Numbers) -> Self {
        Self {
            client: Half::new(),
            server: Half::new(),
            streams: BTreeMap::new(),
            too_many: 0,
            leaves: None,
            numbers,
        }
    }

    fn half(&mut self, side: Side) -> &mut Half {
        if side == Side::Client { &mut self.client } else { &mut self.server }
    }

    /// The open calls, to tell them that it is over.
    pub(crate) fn calls(&mut self) -> impl Iterator<Item = &mut Call> {
        self.streams.values_mut().map(|stream| &mut *stream.call)
    }

    /// The number of an open call's stream.
    pub(crate) fn stream_of(&self, call: u64) -> Option<u32> {
        self.streams.iter().find(|(_, stream)| stream.call.number == call).map(|(stream, _)| *stream)
    }

    /// Takes what a side has sent, in pieces of any size.
    pub(crate) fn pass(
        &mut self,
        from: Side,
        mut bytes: &[u8],
        at: Duration,
        out: &mut Out,
    ) -> Result<(), Lost> {
        while let Some(part) = self.half(from).heads.next(&mut bytes) {
            let half = self.half(from);
            match part {
                Part::Head([a, b, c, kind, flags, stream @ ..]) => {
                    let length = u32::from_be_bytes([0, a, b, c]) as usize;
                    let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
                    half.frame = Frame { length, kind, flags, stream };
                    half.left = length;
                    half.payload.clear();
                    half.padding = (!half.frame.has(PADDED)).then_some(0);
                    if kind == DATA {
                        self.data_begins(from, at, out);
                    }
                }
                Part::Payload(piece) => {
                    half.left -= piece.len();
                    if half.frame.kind == DATA {
                        self.data(from, piece, out);
                    } else {
                        let room = half.kept().saturating_sub(half.payload.len());
                        half.payload.extend_from_slice(&piece[..piece.len().min(room)]);
                    }
                }
                Part::Other(first) => return Err(half::lost(from, first)),
            }
            if self.half(from).left == 0 {
                self.complete(from, at, out)?;
            }
        }
        Ok(())
    }

    fn data_begins(&mut self, from: Side, at: Duration, out: &mut Out) {
        let half = self.half(from);
        let (frame, length) = (half.frame, half.frame.length as i64);
        half.window -= length;
        let connection = half.window;
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            out.frame(0, from, || format!("DATA  stream {}  {}", frame.stream, bytes(frame.length)));
            return;
        };
        stream.windows[from as usize] -= length;
        stream.tell_window(from, at, out);
        out.frame(stream.call.number, from, || {
            let end = if frame.has(END_STREAM) { "  END_STREAM" } else { "" };
            let what = if length == 0 { "nothing".to_owned() } else { stream.call.place(from) };
            let left = [stream.windows[from as usize], connection].map(left);
            format!(
                "DATA  stream {}  {}: {what}{end}  left: stream {}, connection {}",
                frame.stream,
                bytes(frame.length),
                left[0],
                left[1]
            )
        });
    }

    /// More of a DATA frame, of which `half.left` bytes come after this piece.
    fn data(&mut self, from: Side, mut piece: &[u8], out: &mut Out) {
        let half = self.half(from);
        if half.padding.is_none()
            && let Some(padding) = piece.split_off_first()
        {
            half.padding = Some(usize::from(*padding));
        }
        let left = half.left + piece.len();
        let data = left.saturating_sub(half.padding.unwrap_or_default()).min(piece.len());
        let stream = half.frame.stream;
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.call.data(from, &piece[..data], out);
        }
    }

    fn complete(&mut self, from: Side, at: Duration, out: &mut Out) -> Result<(), Lost> {
        let half = self.half(from);
        let frame = half.frame;
        let payload = std::mem::take(&mut half.payload);
        if half.block.is_some() && frame.kind != CONTINUATION {
            return Err(Lost(format!("{} sent another frame in the middle of a header block", named(from))));
        }
        match frame.kind {
            DATA => {
                if frame.has(END_STREAM) {
                    self.end(from, frame.stream, out);
                }
            }
            HEADERS | PUSH_PROMISE => {
                let Some(block) = fragment(frame, &payload) else {
                    return Err(Lost(format!("a frame of {} does not hold what it says", named(from))));
                };
                self.block(from, frame, block.to_vec(), frame.has(END_HEADERS), out)?;
            }
            CONTINUATION => {
                let Some((first, mut block)) = self.half(from).block.take() else {
                    return Err(Lost(format!(
                        "{} continues a header block that was not started",
                        named(from)
                    )));
                };
                block.extend_from_slice(&payload);
                self.block(from, first, block, frame.has(END_HEADERS), out)?;
            }
            RST_STREAM => self.reset(from, frame, number(&payload, 0), out),
            SETTINGS => self.settings(from, frame, &payload, out),
            PING => self.ping(from, frame, &payload, at, out),
            GOAWAY => self.goaway(from, &payload, out),
            WINDOW_UPDATE => self.window_update(from, frame, &payload, at, out),
            // PRIORITY, and what other documents have added.
            kind => out.frame(0, from, || format!("frame of type {kind}  {}", bytes(frame.length))),
        }
        Ok(())
    }

    /// A header block, as far as it is there.
    fn block(
        &mut self,
        from: Side,
        frame: Frame,
        block: Vec<u8>,
        is_whole: bool,
        out: &mut Out,
    ) -> Result<(), Lost> {
        if block.len() > BLOCK {
            return Err(Lost(format!("a header block of {} is longer than {}", named(from), bytes(BLOCK))));
        }
        let half = self.half(from);
        if !is_whole {
            half.block = Some((frame, block));
            return Ok(());
        }
        let mut fields = Fields::new();
        let (mut method, mut path, mut status) = (String::new(), String::new(), None);
        let (mut size, mut cut, mut count, mut known, mut added) = (0, 0, 0, 0, 0);
        let decoded = half.hpack.decode(&block, |name, value, how| {
            count += 1;
            known += u32::from(how == How::Table);
            added += u32::from(how == How::Added);
            size += name.len() + value.len();
            if size > FIELDS {
                cut += 1;
                return;
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            match name {
                b":method" => method = text(value),
                b":path" => path = text(value),
                b":status" => status = text(value).parse().ok(),
                [b':', ..] => {}
                name => {
                    let name = text(name);
                    let value = masked(&name, text(value));
                    fields.push((name, value));
                }
            }
        });
        if decoded.is_err() {
            return Err(Lost(format!("a header block of {} is not HPACK", named(from))));
        }
        if frame.kind == PUSH_PROMISE {
            return Ok(());
        }
        let table = half.hpack.size();
        let is_open = self.streams.contains_key(&frame.stream);
        let begins = from == Side::Client && !path.is_empty() && !is_open;
        let is_followed = begins && self.streams.len() < CALLS;
        let call = match self.streams.get(&frame.stream) {
            Some(stream) => stream.call.number,
            None if is_followed => self.numbers.next(),
            None => 0,
        };
        out.frame(call, from, || {
            let end = if frame.has(END_STREAM) { "  END_STREAM" } else { "" };
            let (fields, coded, plain) =
                (counted(count, "field"), bytes(block.len()), HumanCount(size as u64));
            let (stream, table) = (frame.stream, bytes(table));
            format!(
                "HEADERS  stream {stream}{end}  {fields} in {coded}, {plain} before HPACK: \
                 {known} from the table, {added} new in it; it has {table}"
            )
        });
        if is_followed {
            let windows = [self.client.initial_window, self.server.initial_window];
            let call = Box::new(Call::begin(call, method, path, std::mem::take(&mut fields), out));
            self.streams.insert(frame.stream, Stream { call, windows, ended: [false; 2], told: [None; 2] });
        } else if begins {
            self.too_many += 1;
            if self.too_many == 1 {
                let most = HumanCount(CALLS as u64);
                out.note(format!(
                    "more than {most} calls are open on one connection; further calls are not drawn"
                ));
            }
        }
        let stream = self.streams.get_mut(&frame.stream);
        let Some(stream) = stream else { return Ok(()) };
        if cut > 0 {
            out.note(format!("{} of {} are too long to show", counted(cut, "field"), named(from)));
        }
        // What begins with 1 is not the answer yet.
        if from == Side::Server && status.is_none_or(|status: u16| status >= 200) {
            stream.call.fields(status, fields, frame.has(END_STREAM), out);
        }
        if frame.has(END_STREAM) {
            self.end(from, frame.stream, out);
        }
        Ok(())
    }

    fn end(&mut self, from: Side, number: u32, out: &mut Out) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.call.end(from, out);
        stream.ended[from as usize] = true;
        if stream.ended == [true; 2]
            && let Some(mut stream) = self.streams.remove(&number)
        {
            stream.call.release(out);
        }
    }
}

fn bytes(count: usize) -> String {
    counted(count as u64, "byte")
}

/// A window may be below zero when a setting has made it smaller.
fn left(window: i64) -> String {
    let sign = if window < 0 { "-" } else { "" };
    format!("{sign}{}", HumanCount(window.unsigned_abs()))
}

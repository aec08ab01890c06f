//! One direction of a connection: where it is in its frames, and what they have set.

use std::time::Duration;

use grpc_wire::heads::Heads;
use timeline::Side;

use super::{BLOCK, Lost};
use crate::{hpack::Hpack, seen::named};

/// How much of any other frame is looked at, in bytes.
const LOOKED_AT: usize = 4096;
/// The windows at the beginning, in bytes.
const WINDOW: i64 = 65_535;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITY: u8 = 0x20;

/// One direction.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) heads: Heads,
    pub(super) frame: Frame,
    /// How much of the payload is missing.
    pub(super) left: usize,
    /// What is known of it, unless it is DATA.
    pub(super) payload: Vec<u8>,
    /// Of a frame of DATA: bytes at its end, once they are known.
    pub(super) padding: Option<usize>,
    pub(super) hpack: Hpack,
    /// A header block that goes on in the next frame.
    pub(super) block: Option<(Frame, Vec<u8>)>,
    /// How much DATA this side may send on the connection, and on a new stream.
    pub(super) window: i64,
    pub(super) initial_window: i64,
    pub(super) pings: Vec<([u8; 8], Duration)>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frame {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Frame {
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Half {
    pub(super) fn new() -> Self {
        Self {
            heads: Heads::of_server(),
            frame: Frame::default(),
            left: 0,
            payload: Vec::new(),
            padding: None,
            hpack: Hpack::new(),
            block: None,
            window: WINDOW,
            initial_window: WINDOW,
            pings: Vec::new(),
        }
    }

    /// How much of the payload is kept until the frame is complete, in bytes.
    pub(super) fn kept(&self) -> usize {
        match self.frame.kind {
            HEADERS | PUSH_PROMISE | CONTINUATION => BLOCK + 256,
            _ => LOOKED_AT,
        }
    }
}

/// Why nothing can be made of a side that begins with these bytes.
pub(super) fn lost(from: Side, first: [u8; 4]) -> Lost {
    let side = named(from);
    Lost(match first {
        [b'H', b'T', b'T', b'P'] => format!("{side} answers in HTTP/1.1, so it is not a gRPC server"),
        // An alert.
        [0x15, 0x03, ..] => format!("{side} expects TLS: pass on to https://"),
        _ => format!("{side} does not begin with SETTINGS"),
    })
}

/// What HEADERS and PUSH_PROMISE have of a header block.
pub(super) fn fragment(frame: Frame, mut payload: &[u8]) -> Option<&[u8]> {
    let padding = match frame.has(PADDED) {
        true => usize::from(*payload.split_off_first()?),
        false => 0,
    };
    let before = match frame.kind {
        PUSH_PROMISE => 4,
        _ if frame.has(PRIORITY) => 5,
        _ => 0,
    };
    payload.get(before..payload.len().checked_sub(padding)?)
}

pub(super) fn number(payload: &[u8], at: usize) -> u32 {
    let bytes = payload.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

//! What passes on one connection, whichever protocol it is in.

use std::time::Duration;

use timeline::Side;

use crate::{
    call::{Depth, Out},
    http1::Http1,
    http2::{Http2, Lost, PREFACE},
    numbers::Numbers,
    seen::{Seen, named},
};

/// Reads along on one connection. It holds nothing back and sends nothing.
#[derive(Debug)]
pub(crate) struct Decoder {
    protocol: Protocol,
    numbers: Numbers,
    out: Out,
}

#[derive(Debug)]
enum Protocol {
    /// What the client has sent, which may be the beginning of the preface, and what
    /// the server has sent before it is known.
    Unknown(Vec<u8>, Vec<u8>),
    Http2(Box<Http2>),
    Http1(Box<Http1>),
    /// Nothing more is decoded.
    Lost,
}

/// How much a server may say before its client does, in bytes.
const FIRST_WORDS: usize = 16 << 10;

impl Decoder {
    pub(crate) fn new(numbers: Numbers, depth: Depth) -> Self {
        Self { protocol: Protocol::Unknown(Vec::new(), Vec::new()), numbers, out: Out::new(depth) }
    }

    /// Takes what a side has sent, in pieces of any size, and hands over what was
    /// seen, by the number of the call.
    pub(crate) fn pass(
        &mut self,
        from: Side,
        bytes: &[u8],
        at: Duration,
    ) -> impl Iterator<Item = (u64, Seen)> {
        if let Err(Lost(reason)) = self.take(from, bytes, at) {
            self.lose(&reason);
        }
        // What it took is given back: many connections would hold the room of their fullest piece.
        std::mem::take(&mut self.out.seen).into_iter()
    }

    fn take(&mut self, from: Side, bytes: &[u8], at: Duration) -> Result<(), Lost> {
        match &mut self.protocol {
            Protocol::Http2(http2) => http2.pass(from, bytes, at, &mut self.out),
            Protocol::Http1(http1) => http1.pass(from, bytes, &mut self.out),
            Protocol::Lost => Ok(()),
            Protocol::Unknown(client, server) => {
                let said = if from == Side::Client { &mut *client } else { &mut *server };
                said.extend_from_slice(bytes);
                said_what(client, server)?;
                // What begins like TLS is not told from HTTP by its first byte.
                if matches!(client[..], [0x15 | 0x16]) {
                    return Ok(());
                }
                let preface = client.len().min(PREFACE.len());
                // What the server has said came before the last bytes of the client.
                if client[..preface] != PREFACE[..preface] {
                    if !server.is_empty() {
                        return Err(Lost("the server answers without a request".to_owned()));
                    }
                    let client = std::mem::take(client);
                    self.protocol = Protocol::Http1(Box::new(Http1::new(self.numbers.clone())));
                    self.take(Side::Client, &client, at)?;
                } else if preface == PREFACE.len() {
                    let (client, server) = (std::mem::take(client), std::mem::take(server));
                    self.protocol = Protocol::Http2(Box::new(Http2::new(self.numbers.clone())));
                    self.take(Side::Server, &server, at)?;
                    self.take(Side::Client, &client[preface..], at)?;
                }
                Ok(())
            }
        }
    }

    fn lose(&mut self, reason: &str) {
        let reason = format!("no longer decoded: {reason}");
        let calls = self.broke(&reason);
        self.protocol = Protocol::Lost;
        let calls = if calls == 0 { "" } else { " Its calls continue, but are no longer drawn." };
        self.out.note(format!("{reason}. The connection is forwarded unchanged.{calls}"));
    }

    /// Tells the open calls why they will not be seen to end, and how many they are.
    fn broke(&mut self, reason: &str) -> usize {
        let out = &mut self.out;
        let mut count = 0;
        let mut tell = |call: &mut crate::call::Call| {
            call.broke(reason, out);
            count += 1;
        };
        match &mut self.protocol {
            Protocol::Http2(http2) => http2.calls().for_each(&mut tell),
            Protocol::Http1(http1) => http1.calls.iter_mut().for_each(&mut tell),
            Protocol::Unknown(..) | Protocol::Lost => {}
        }
        count
    }

    /// A side has closed its half of the connection, which `first` was the first to do.
    pub(crate) fn half_closed(&mut self, by: Side, first: Side) -> impl Iterator<Item = (u64, Seen)> {
        match &mut self.protocol {
            Protocol::Http1(http1) => http1.closed(by, &mut self.out),
            // Nothing more can come of its calls.
            Protocol::Http2(http2) if by == Side::Server => {
                let first = http2.leaves.unwrap_or(first);
                self.broke(&format!("{} closed the connection", named(first)));
            }
            _ => {}
        }
        self.out.seen.drain(..)
    }

    /// The connection is over.
    pub(crate) fn closed(&mut self, reason: &str) -> impl Iterator<Item = (u64, Seen)> {
        self.broke(reason);
        self.out.seen.drain(..)
    }

    /// The stream of HTTP/2 that a call is on. None, when it is one of HTTP/1.1.
    pub(crate) fn stream_of(&self, call: u64) -> Option<u32> {
        match &self.protocol {
            Protocol::Http2(http2) => http2.stream_of(call),
            _ => None,
        }
    }

    /// Whether the client has begun with HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.protocol, Protocol::Http2(_))
    }
}

/// What is recognised by its first bytes, and is not HTTP.
fn said_what(client: &[u8], server: &[u8]) -> Result<(), Lost> {
    for (side, said) in [(Side::Client, client), (Side::Server, server)] {
        // A handshake or an alert.
        if matches!(said, [0x15 | 0x16, 0x03, ..]) {
            return Err(Lost(format!("{} speaks TLS here", named(side))));
        }
    }
    match server.len() > FIRST_WORDS {
        true => Err(Lost("the server sends before the client does".to_owned())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;

//! The frames of HTTP/2 that pass in one direction.

use crate::empty_data::{HEAD, PREFACE};

const SETTINGS: u8 = 4;

/// Where one direction of a connection stands.
#[derive(Debug)]
pub struct Heads(State);

#[derive(Debug)]
enum State {
    /// So many bytes of the preface are there.
    Preface(usize),
    /// So many bytes of a head are there. The first one has to be of SETTINGS.
    Head { have: usize, head: [u8; HEAD], is_first: bool },
    /// So many bytes of a frame are missing.
    Payload(usize),
    /// This is not HTTP/2.
    Other,
}

impl State {
    fn first() -> Self {
        Self::Head { have: 0, head: [0; HEAD], is_first: true }
    }
}

/// What passes of a frame.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// All of its head.
    Head(&'a [u8; HEAD]),
    /// More of its payload.
    Payload(&'a [u8]),
}

impl Heads {
    /// What a client sends.
    pub fn of_client() -> Self {
        Self(State::Preface(0))
    }

    /// What a server sends.
    pub fn of_server() -> Self {
        Self(State::first())
    }

    /// Shows what is in these bytes, in their order.
    pub fn feed(&mut self, mut bytes: &[u8], mut see: impl FnMut(Part<'_>)) {
        while let Some(byte) = bytes.first() {
            let taken = match &mut self.0 {
                State::Other => return,
                State::Preface(have) => {
                    self.0 = match *have + 1 {
                        _ if PREFACE.get(*have) != Some(byte) => State::Other,
                        have if have < PREFACE.len() => State::Preface(have),
                        _ => State::first(),
                    };
                    1
                }
                State::Payload(missing) => {
                    let taken = bytes.len().min(*missing);
                    *missing -= taken;
                    if *missing == 0 {
                        self.0 = State::Head { have: 0, head: [0; HEAD], is_first: false };
                    }
                    see(Part::Payload(&bytes[..taken]));
                    taken
                }
                State::Head { have, head, is_first } => {
                    head[*have] = *byte;
                    *have += 1;
                    if *have == HEAD {
                        let [a, b, c, kind, ..] = *head;
                        let length = u32::from_be_bytes([0, a, b, c]) as usize;
                        let is_http2 = !*is_first || kind == SETTINGS;
                        if is_http2 {
                            see(Part::Head(head));
                        }
                        self.0 = match length {
                            _ if !is_http2 => State::Other,
                            0 => State::Head { have: 0, head: [0; HEAD], is_first: false },
                            length => State::Payload(length),
                        };
                    }
                    1
                }
            };
            bytes = &bytes[taken..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 0], payload].concat()
    }

    /// How many PINGs there are, and how many bytes in the payloads of all frames.
    fn found(mut heads: Heads, bytes: &[u8], size: usize) -> (usize, usize) {
        let (mut pings, mut payload) = (0, 0);
        for chunk in bytes.chunks(size) {
            heads.feed(chunk, |part| match part {
                Part::Head([_, _, _, kind, flags, ..]) => pings += usize::from((*kind, *flags) == (PING, 0)),
                Part::Payload(bytes) => payload += bytes.len(),
            });
        }
        (pings, payload)
    }

    #[test]
    fn a_ping_is_found_however_the_bytes_come() {
        let pong = frame(PING, 1, &[PING; 8]);
        let frames = [frame(SETTINGS, 0, &[]), frame(0, 0, &[PING; 99]), pong, frame(PING, 0, &[0; 8])];
        let from_server = frames.concat();
        let from_client = [PREFACE, &from_server].concat();
        for size in 1..=from_client.len() {
            assert_eq!(found(Heads::of_server(), &from_server, size), (1, 8 + 99 + 8), "{size}");
            assert_eq!(found(Heads::of_client(), &from_client, size), (1, 8 + 99 + 8), "{size}");
        }
    }

    #[test]
    fn there_is_none_in_what_is_not_http2() {
        let ping = frame(PING, 0, &[0; 8]);
        assert_eq!(found(Heads::of_server(), &ping, 1), (0, 0));
        assert_eq!(found(Heads::of_client(), &[b"PRI * HTTP/1.1\r\n\r\n", &ping[..]].concat(), 1), (0, 0));
    }
}

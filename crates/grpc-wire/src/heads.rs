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

    fn head() -> Self {
        Self::Head { have: 0, head: [0; HEAD], is_first: false }
    }
}

/// What passes of a frame.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// All of its head.
    Head([u8; HEAD]),
    /// More of its payload.
    Payload(&'a [u8]),
    /// The first bytes of something else, which is not looked at any further.
    Other([u8; KIND + 1]),
}

/// Where the type of a frame is in its head.
const KIND: usize = 3;

impl Heads {
    /// What a client sends.
    pub fn of_client() -> Self {
        Self(State::Preface(0))
    }

    /// What a server sends, or a client after its preface.
    pub fn of_server() -> Self {
        Self(State::first())
    }

    /// Shows what is in these bytes, in their order.
    pub fn feed(&mut self, mut bytes: &[u8], mut see: impl FnMut(Part<'_>)) {
        while let Some(part) = self.next(&mut bytes) {
            see(part);
        }
    }

    /// Takes what comes next off the bytes. None, when all of them are taken.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Part<'a>> {
        loop {
            match &mut self.0 {
                State::Other => {
                    *bytes = &[];
                    return None;
                }
                State::Preface(have) => {
                    let is_right = PREFACE.get(*have) == Some(bytes.split_off_first()?);
                    self.0 = match *have + 1 {
                        _ if !is_right => State::Other,
                        have if have < PREFACE.len() => State::Preface(have),
                        _ => State::first(),
                    };
                }
                State::Payload(missing) => {
                    let taken = bytes.split_off(..bytes.len().min(*missing)).filter(|it| !it.is_empty())?;
                    *missing -= taken.len();
                    if *missing == 0 {
                        self.0 = State::head();
                    }
                    return Some(Part::Payload(taken));
                }
                State::Head { have, head, is_first } => {
                    let taken =
                        bytes.split_off(..bytes.len().min(HEAD - *have)).filter(|it| !it.is_empty())?;
                    head[*have..*have + taken.len()].copy_from_slice(taken);
                    *have += taken.len();
                    if *is_first && *have > KIND && head[KIND] != SETTINGS {
                        let [a, b, c, kind, ..] = *head;
                        self.0 = State::Other;
                        return Some(Part::Other([a, b, c, kind]));
                    }
                    if *have == HEAD {
                        let head = *head;
                        self.0 = match u32::from_be_bytes([0, head[0], head[1], head[2]]) {
                            0 => State::head(),
                            length => State::Payload(length as usize),
                        };
                        return Some(Part::Head(head));
                    }
                }
            }
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
                Part::Head([_, _, _, kind, flags, ..]) => pings += usize::from((kind, flags) == (PING, 0)),
                Part::Payload(bytes) => payload += bytes.len(),
                Part::Other(_) => {}
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

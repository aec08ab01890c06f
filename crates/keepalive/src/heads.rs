//! The heads of the frames that pass in one direction.

use grpc_wire::empty_data::{HEAD, PREFACE};

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;

/// Where one direction of a connection stands.
#[derive(Debug)]
pub(crate) enum Heads {
    /// So many bytes of the preface are there.
    Preface(usize),
    /// So many bytes of a head are there. The first one has to be of SETTINGS.
    Head { have: usize, head: [u8; HEAD], is_first: bool },
    /// So many bytes of a frame are missing.
    Payload(usize),
    /// This is not HTTP/2.
    Other,
}

pub(crate) fn is_ping([_, _, _, kind, flags, ..]: &[u8; HEAD]) -> bool {
    *kind == PING && flags & ACK == 0
}

pub(crate) fn is_pong([_, _, _, kind, flags, ..]: &[u8; HEAD]) -> bool {
    *kind == PING && flags & ACK != 0
}

impl Heads {
    pub(crate) fn of_client() -> Self {
        Self::Preface(0)
    }

    pub(crate) fn of_server() -> Self {
        Self::Head { have: 0, head: [0; HEAD], is_first: true }
    }

    /// Whether the head of any frame that begins in these bytes, or is complete with
    /// them, is of that kind.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], is: impl Fn(&[u8; HEAD]) -> bool) -> bool {
        let mut found = false;
        while let Some(byte) = bytes.first() {
            let taken = match self {
                Self::Other => return found,
                Self::Preface(have) => {
                    *self = match *have + 1 {
                        _ if PREFACE.get(*have) != Some(byte) => Self::Other,
                        have if have < PREFACE.len() => Self::Preface(have),
                        _ => Self::of_server(),
                    };
                    1
                }
                Self::Payload(missing) => {
                    let taken = bytes.len().min(*missing);
                    *missing -= taken;
                    if *missing == 0 {
                        *self = Self::Head { have: 0, head: [0; HEAD], is_first: false };
                    }
                    taken
                }
                Self::Head { have, head, is_first } => {
                    head[*have] = *byte;
                    *have += 1;
                    if *have == HEAD {
                        let [a, b, c, kind, ..] = *head;
                        let length = u32::from_be_bytes([0, a, b, c]) as usize;
                        let is_http2 = !*is_first || kind == SETTINGS;
                        found |= is_http2 && is(head);
                        *self = match length {
                            _ if !is_http2 => Self::Other,
                            0 => Self::Head { have: 0, head: [0; HEAD], is_first: false },
                            length => Self::Payload(length),
                        };
                    }
                    1
                }
            };
            bytes = &bytes[taken..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 0], payload].concat()
    }

    fn found(mut heads: Heads, bytes: &[u8], size: usize) -> usize {
        bytes.chunks(size).filter(|chunk| heads.feed(chunk, is_ping)).count()
    }

    #[test]
    fn a_ping_is_found_however_the_bytes_come() {
        let pong = frame(PING, ACK, &[PING; 8]);
        let frames = [frame(SETTINGS, 0, &[]), frame(0, 0, &[PING; 99]), pong, frame(PING, 0, &[0; 8])];
        let from_server = frames.concat();
        let from_client = [PREFACE, &from_server].concat();
        for size in 1..=from_client.len() {
            assert_eq!(found(Heads::of_server(), &from_server, size), 1, "{size}");
            assert_eq!(found(Heads::of_client(), &from_client, size), 1, "{size}");
        }
    }

    #[test]
    fn there_is_none_in_what_is_not_http2() {
        let ping = frame(PING, 0, &[0; 8]);
        assert_eq!(found(Heads::of_server(), &ping, 1), 0);
        assert_eq!(found(Heads::of_client(), &[b"PRI * HTTP/1.1\r\n\r\n", &ping[..]].concat(), 1), 0);
    }
}

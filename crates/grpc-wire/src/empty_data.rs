//! Removes empty DATA frames from the bytes that HTTP/2 reads.
//!
//! An empty DATA frame that does not end its stream has no meaning (RFC 9113, 6.1), but
//! some proxies send one with each call. h2 counts them over the life of a connection,
//! and closes the connection at the 101st. So they are removed before h2 sees them. In
//! a flood they are not removed: h2 closes that connection, as it should.

use std::{
    io,
    ops::Range,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::io::ReadBuf;

/// The first bytes that an HTTP/2 client sends.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame header in bytes.
pub const HEAD: usize = 9;

/// How many empty frames are removed in a row.
const BURST: u32 = 1000;

/// How many empty frames are removed per second once the burst is used up.
const PER_SECOND: u32 = 100;

/// Removes empty DATA frames from what one connection reads.
#[derive(Debug)]
pub struct EmptyData {
    state: State,
    /// An incomplete frame header, or a complete one that is to be passed on.
    head: [u8; HEAD],
    given: Range<usize>,
    /// How many frames may be removed. Each other frame adds one.
    credit: u32,
    taken_out: u64,
    /// When the credit was last used up.
    used_up: Instant,
}

#[derive(Debug)]
enum State {
    /// How many bytes of the preface have arrived.
    Preface(usize),
    /// How many bytes of a frame header have arrived.
    Head(usize),
    /// How many bytes of a frame are missing.
    Payload(usize),
    /// The connection does not speak HTTP/2.
    Other,
}

impl EmptyData {
    /// For the server side of a connection. If it does not begin with the HTTP/2
    /// preface, everything passes unchanged.
    pub fn of_client() -> Self {
        Self::new(State::Preface(0))
    }

    /// For the client side of a connection.
    pub fn of_server() -> Self {
        Self::new(State::Head(0))
    }

    fn new(state: State) -> Self {
        Self { state, head: [0; HEAD], given: 0..0, credit: BURST, taken_out: 0, used_up: Instant::now() }
    }

    /// How many frames were removed.
    pub fn taken_out(&self) -> u64 {
        self.taken_out
    }

    /// Reads with `read`, which is `AsyncRead::poll_read` of the stream below.
    ///
    /// # Errors
    ///
    /// The errors of `read`.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        mut read: impl FnMut(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.given.is_empty() {
                let end = self.given.end.min(self.given.start + buf.remaining());
                buf.put_slice(&self.head[self.given.start..end]);
                self.given.start = end;
                return Poll::Ready(Ok(()));
            }
            let before = buf.filled().len();
            if let State::Head(have @ 1..) = self.state {
                // Whether the header is passed on depends on the missing bytes.
                let mut rest = ReadBuf::new(&mut self.head[have..]);
                ready!(read(cx, &mut rest))?;
                let have_now = have + rest.filled().len();
                self.state = State::Head(have_now);
                if have_now == have {
                    self.given = 0..have;
                    self.state = State::Other;
                } else if have_now == HEAD && !self.takes_out(self.head) {
                    self.given = 0..HEAD;
                }
                continue;
            }
            ready!(read(cx, buf))?;
            let read = buf.filled().len() - before;
            let kept = self.sift(&mut buf.filled_mut()[before..]);
            buf.set_filled(before + kept);
            // Zero bytes would mean the end of the stream.
            if kept > 0 || read == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Compacts the bytes that are kept, and returns their number. An incomplete frame
    /// header at the end is held back.
    fn sift(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            let left = bytes.len() - at;
            let (take, keep) = match self.state {
                State::Other => (left, true),
                State::Preface(have) if bytes[at] == PREFACE[have] => {
                    self.state = match have + 1 {
                        have if have == PREFACE.len() => State::Head(0),
                        have => State::Preface(have),
                    };
                    (1, true)
                }
                State::Preface(_) => {
                    self.state = State::Other;
                    (0, true)
                }
                State::Payload(missing) => {
                    let take = left.min(missing);
                    self.state = match missing - take {
                        0 => State::Head(0),
                        missing => State::Payload(missing),
                    };
                    (take, true)
                }
                State::Head(_) => match bytes[at..].first_chunk() {
                    Some(head) => (HEAD, !self.takes_out(*head)),
                    None => {
                        self.head[..left].copy_from_slice(&bytes[at..]);
                        self.state = State::Head(left);
                        (left, false)
                    }
                },
            };
            if keep {
                if kept < at {
                    bytes.copy_within(at..at + take, kept);
                }
                kept += take;
            }
            at += take;
        }
        kept
    }

    /// Moves past a frame header, and returns whether to remove its frame.
    fn takes_out(&mut self, head: [u8; HEAD]) -> bool {
        const DATA: u8 = 0;
        const END_STREAM: u8 = 1;
        const PADDED: u8 = 8;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        self.state = if length == 0 { State::Head(0) } else { State::Payload(length) };
        let says_nothing = (length, kind, flags & (END_STREAM | PADDED)) == (0, DATA, 0) && stream != [0; 4];
        if says_nothing {
            return self.spend();
        }
        self.credit = BURST.min(self.credit + 1);
        false
    }

    fn spend(&mut self) -> bool {
        if self.credit == 0 {
            let now = Instant::now();
            let earned = (now - self.used_up).as_secs_f64() * f64::from(PER_SECOND);
            if earned >= 1.0 {
                (self.credit, self.used_up) = (BURST.min(earned as u32), now);
            }
        }
        let takes_out = self.credit > 0;
        self.credit = self.credit.saturating_sub(1);
        self.taken_out += u64::from(takes_out);
        takes_out
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
        [&length[..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn empty() -> Vec<u8> {
        frame(0, 0, &[])
    }

    /// Returns what is read of `sent` if it arrives in pieces and is read in pieces.
    fn read(mut sifter: EmptyData, sent: &[u8], pieces: &[usize], buffers: &[usize]) -> Vec<u8> {
        let (mut sent, mut pieces) = (sent, pieces.iter().cycle());
        let mut received = Vec::new();
        for size in buffers.iter().cycle() {
            let mut space = vec![0; *size];
            let mut buf = ReadBuf::new(&mut space);
            let polled = sifter.poll_read(&mut Context::from_waker(Waker::noop()), &mut buf, |_, buf| {
                let take = sent.len().min(*pieces.next().unwrap()).min(buf.remaining());
                buf.put_slice(&sent[..take]);
                sent = &sent[take..];
                Poll::Ready(Ok(()))
            });
            assert!(matches!(polled, Poll::Ready(Ok(()))));
            if buf.filled().is_empty() {
                break;
            }
            received.extend_from_slice(buf.filled());
        }
        received
    }

    proptest! {
        #[test]
        fn all_but_empty_data_passes_however_it_is_cut(
            frames in prop::collection::vec((0..4_u8, 0..16_u8, prop::collection::vec(any::<u8>(), 0..30)), 0..20),
            pieces in prop::collection::vec(1..40_usize, 1..10),
            buffers in prop::collection::vec(1..40_usize, 1..10),
            cut in 0..9_usize,
        ) {
            let is_kept = |(kind, flags, payload): &&(u8, u8, Vec<u8>)| {
                *kind != 0 || !payload.is_empty() || flags & 9 != 0
            };
            let wire = |(kind, flags, payload): &(u8, u8, Vec<u8>)| frame(*kind, *flags, payload);
            let end = &frame(4, 1, &[])[..cut];
            let sent = [frames.iter().flat_map(wire).collect(), end.to_vec()].concat();
            let kept = [frames.iter().filter(is_kept).flat_map(wire).collect(), end.to_vec()].concat();
            prop_assert_eq!(&read(EmptyData::of_server(), &sent, &pieces, &buffers), &kept);
            let (sent, kept) = ([PREFACE, &sent].concat(), [PREFACE, &kept].concat());
            prop_assert_eq!(read(EmptyData::of_client(), &sent, &pieces, &buffers), kept);
        }
    }

    #[test]
    fn what_is_not_http_2_passes() {
        for sent in [b"PRI / HTTP/1.1\r\n\r\n".to_vec(), [b"POST ".to_vec(), empty()].concat()] {
            assert_eq!(read(EmptyData::of_client(), &sent, &[7], &[5]), sent);
        }
    }

    #[test]
    fn one_with_each_call_is_taken_out_without_end_and_a_flood_is_not() {
        let call = [frame(1, 4, b"head"), empty(), frame(0, 1, b"data")].concat();
        let calls = call.repeat(10_000);
        let without = [frame(1, 4, b"head"), frame(0, 1, b"data")].concat().repeat(10_000);
        assert_eq!(read(EmptyData::of_server(), &calls, &[1000], &[4096]), without);
        let flood = empty().repeat(100_000);
        let passed = read(EmptyData::of_server(), &flood, &[1000], &[4096]).len() / HEAD;
        assert!((90_000..100_000).contains(&passed), "{passed}");
    }
}

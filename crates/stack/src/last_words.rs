//! The last frame that the server sends on an HTTP/2 connection.
//!
//! When a peer reaches a limit of the HTTP/2 library, the library names the limit only
//! in its last frame, a GOAWAY.

use grpc_wire::empty_data::HEAD;

use crate::{connection::Connection, metrics::Metrics};

/// The last bytes written: enough for a GOAWAY that names a limit.
#[derive(Debug)]
pub(crate) struct LastWords([u8; 64]);

/// Why the server ended a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GoAway {
    /// The error code (RFC 9113, 7).
    pub(crate) code: u32,
    /// The library's name of the limit that was reached, if there was one.
    pub(crate) limit: Option<&'static str>,
}

impl GoAway {
    pub(crate) fn log(&self, connection: &Connection, metrics: &Metrics) {
        let Self { code, limit } = *self;
        let peer = connection.peer.map(tracing::field::display);
        if let Some(limit) = limit {
            metrics.refused(limit);
            tracing::warn!(peer, limit, "closing a connection: a limit of HTTP/2 is reached");
        } else {
            let code = h2::Reason::from(code);
            tracing::info!(peer, %code, "closing a connection: an error of HTTP/2");
        }
    }
}

impl LastWords {
    pub(crate) fn new() -> Self {
        Self([0; 64])
    }

    pub(crate) fn wrote(&mut self, bytes: &[u8]) {
        let Self(last) = self;
        let new = bytes.len().min(last.len());
        last.rotate_left(new);
        let kept = last.len() - new;
        last[kept..].copy_from_slice(&bytes[bytes.len() - new..]);
    }

    /// The last GOAWAY written, unless it was a graceful one. Returned once.
    pub(crate) fn take(&mut self) -> Option<GoAway> {
        /// The names of limits in h2 0.4.
        const LIMITS: [&str; 5] = [
            "too_many_resets",
            "too_many_internal_resets",
            "too_many_data_frames",
            "too_many_continuations",
            "header_list_way_too_large",
        ];
        let is_go_away = |from: &&[u8]| {
            let [_, _, length, kind, _, stream @ ..] = *from.first_chunk::<HEAD>()?;
            ((kind, stream) == (7, [0; 4]) && usize::from(length) == from.len() - HEAD).then_some(())
        };
        let mut ends = (0..=self.0.len() - HEAD - 8).map(|at| &self.0[at..]);
        let frame = ends.find(|from| is_go_away(from).is_some())?;
        let (_last_stream, rest) = frame[HEAD..].split_first_chunk::<4>()?;
        let (code, name) = rest.split_first_chunk::<4>()?;
        let code = u32::from_be_bytes(*code);
        let limit = LIMITS.into_iter().find(|limit| limit.as_bytes() == name);
        *self = Self::new();
        (code != 0).then_some(GoAway { code, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go_away(code: u8, name: &str) -> Vec<u8> {
        let length = 8 + name.len() as u8;
        [&[0, 0, length, 7, 0, 0, 0, 0, 0], &[0, 0, 0, 5, 0, 0, 0, code][..], name.as_bytes()].concat()
    }

    fn last(written: &[u8], size: usize) -> Option<GoAway> {
        let mut words = LastWords::new();
        written.chunks(size).for_each(|chunk| words.wrote(chunk));
        words.take()
    }

    #[test]
    fn the_limit_of_the_last_frame_is_known_however_it_was_written() {
        let before = [7; 100];
        let limit = [&before, &go_away(11, "too_many_resets")[..]].concat();
        let wrong = [&before, &go_away(1, "")[..]].concat();
        let polite = [&before, &go_away(0, "")[..]].concat();
        for size in [1, 3, 63, 64, 65, 1000] {
            assert_eq!(last(&limit, size), Some(GoAway { code: 11, limit: Some("too_many_resets") }));
            assert_eq!(last(&wrong, size), Some(GoAway { code: 1, limit: None }));
            assert_eq!(last(&polite, size), None);
            assert_eq!(last(&before, size), None);
            assert_eq!(last(&[&limit, &[0][..]].concat(), size), None);
        }
    }
}

//! A body that is observed while it passes, unchanged.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

/// What a body has yielded.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A chunk of data. Its boundaries are not those of messages: see
    /// [`frames`](crate::frames).
    Data(&'a Bytes),
    /// The trailers, after all data.
    Trailers(&'a HeaderMap),
    /// The body failed.
    Error(&'a Status),
    /// The body has ended.
    End,
}

/// Observes a body.
pub trait Observer: Send + Unpin + 'static {
    /// Polls the body by calling `next`. An observer overrides this if it has to know
    /// when the body is polled, or if something has to be active during the poll, such
    /// as a tracing span.
    fn ask<T>(&mut self, next: impl FnOnce() -> T) -> T {
        next()
    }

    /// Sees what passes. If it was the last item, `body.is_end_stream()` is true; a
    /// reader that checks this may never poll for the end.
    fn see(&mut self, seen: Seen<'_>, body: &Body);
}

/// Returns the same body, observed by `observer`.
pub fn observe(body: Body, observer: impl Observer) -> Body {
    Body::new(Observed { body, observer })
}

struct Observed<O> {
    body: Body,
    observer: O,
}

impl<O: Observer> http_body::Body for Observed<O> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, observer } = &mut *self;
        let frame = ready!(observer.ask(|| Pin::new(&mut *body).poll_frame(cx)));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    observer.see(Seen::Data(data), body);
                } else if let Some(trailers) = frame.trailers_ref() {
                    observer.see(Seen::Trailers(trailers), body);
                }
            }
            Some(Err(status)) => observer.see(Seen::Error(status), body),
            None => observer.see(Seen::End, body),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use http_body::Body as _;

    use super::*;

    /// Yields its frames, and knows when there are no more.
    struct Given(VecDeque<Result<Frame<Bytes>, Status>>);

    impl http_body::Body for Given {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front())
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(7)
        }
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<String>>>);

    impl Observer for Log {
        fn ask<T>(&mut self, next: impl FnOnce() -> T) -> T {
            self.0.lock().unwrap().push("asked".to_owned());
            next()
        }

        fn see(&mut self, seen: Seen<'_>, body: &Body) {
            let seen = match seen {
                Seen::Data(data) => format!("{data:?}"),
                Seen::Trailers(trailers) => format!("{trailers:?}"),
                Seen::Error(status) => status.message().to_owned(),
                Seen::End => "end".to_owned(),
            };
            let last = if body.is_end_stream() { ", the last" } else { "" };
            self.0.lock().unwrap().push(format!("{seen}{last}"));
        }
    }

    #[test]
    fn all_that_passes_is_seen_and_nothing_is_changed() {
        let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, http::HeaderValue::from_static("0"))]);
        let given = [
            Ok(Frame::data(Bytes::from("a"))),
            Ok(Frame::trailers(trailers)),
            Err(Status::aborted("broken")),
        ];
        let log = Log::default();
        let mut body = observe(Body::new(Given(given.into())), log.clone());
        assert_eq!(body.size_hint().exact(), Some(7));
        let mut next = || Pin::new(&mut body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
        let data = next().map(|frame| frame.unwrap().unwrap().into_data().unwrap());
        assert_eq!(data, Poll::Ready(Bytes::from("a")));
        assert!(next().map(|frame| frame.unwrap().unwrap().is_trailers()) == Poll::Ready(true));
        assert!(next().map(|frame| frame.unwrap().unwrap_err().code()) == Poll::Ready(tonic::Code::Aborted));
        assert!(next().map(|frame| frame.is_none()) == Poll::Ready(true));
        assert!(body.is_end_stream());
        let asked_and_seen = log.0.lock().unwrap().clone();
        let seen = ["b\"a\"", "{\"grpc-status\": \"0\"}", "broken, the last", "end, the last"];
        let expected: Vec<_> = seen.into_iter().flat_map(|seen| ["asked", seen]).collect();
        assert_eq!(asked_and_seen, expected);
    }
}

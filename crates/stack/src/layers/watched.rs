//! Reports the traffic of each call while it runs: the headers, the messages, the end. It changes
//! nothing.
//!
//! The watcher decides for each call whether to observe it. Other calls cost nothing, and neither
//! does a server without a watcher.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use grpc_wire::{
    body::{Observer, Seen, observe},
    frames::{Frames, Part},
};
use http::{HeaderMap, request, response};
use tonic::{Status, body::Body};
use tower::Service;

use super::around::{Around, Request, Response, ResponseFuture};

/// Decides by the headers of a new call which observer it gets, if any.
pub type Watcher = Arc<dyn Fn(&request::Parts) -> Option<Told> + Send + Sync>;
/// Receives the events of one call, in order. It runs between the frames of a connection, so it
/// must not block.
pub type Told = Box<dyn FnMut(Passed<'_>) + Send>;

/// An event of a call.
#[derive(Debug)]
pub enum Passed<'a> {
    /// The headers of the response.
    Response(&'a response::Parts),
    /// A complete message.
    Message {
        /// True for messages of the client.
        is_request: bool,
        /// From 1 on, for each side.
        number: u64,
        /// Whether gRPC compressed it.
        compressed: bool,
        /// On the wire, in bytes, without the prefix.
        length: u32,
        /// Its first 64 KiB.
        bytes: &'a [u8],
    },
    /// The client will send no more.
    HalfClose,
    /// The end: the trailers, or headers that contain the status.
    Trailers {
        /// Whether there were no other headers.
        only: bool,
        /// The headers that contain the status.
        headers: &'a HeaderMap,
    },
    /// The end without a status.
    Broken(&'a Status),
    /// The client left before the end.
    Cancelled,
}

/// How much of a message is kept for display, in bytes.
const KEPT: usize = 64 << 10;

pub(super) struct Watched(pub(super) Option<Watcher>);

impl<S> Around<S> for Watched
where
    S: Service<Request, Response = Response, Error = Infallible, Future = ResponseFuture>,
{
    type Future = ResponseFuture;

    fn call(&self, request: Request, inner: &mut S) -> ResponseFuture {
        let Some(watcher) = &self.0 else { return inner.call(request) };
        let (head, body) = request.into_parts();
        let Some(told) = watcher(&head) else { return inner.call(Request::from_parts(head, body)) };
        let told = Shared(Arc::new(Mutex::new(Some(told))));
        let requests = Messages::of(true, told.clone());
        let response = inner.call(Request::from_parts(head, observe(body, requests)));
        let end = End(told);
        Box::pin(async move {
            let (head, body) = response.await?.into_parts();
            end.0.tell(Passed::Response(&head));
            if head.headers.contains_key("grpc-status") {
                end.0.tell_last(Passed::Trailers { only: true, headers: &head.headers });
            }
            let mut responses = Messages::of(false, end.0.clone());
            responses.end = Some(end);
            Ok(Response::from_parts(head, observe(body, responses)))
        })
    }
}

/// The observer of a call, until the call ends.
#[derive(Clone)]
struct Shared(Arc<Mutex<Option<Told>>>);

impl Shared {
    fn tell(&self, passed: Passed<'_>) {
        if let Some(told) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            told(passed);
        }
    }

    fn tell_last(&self, passed: Passed<'_>) {
        if let Some(mut told) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            told(passed);
        }
    }
}

/// Reports a call that is dropped before its end as cancelled.
struct End(Shared);

impl Drop for End {
    fn drop(&mut self) {
        self.0.tell_last(Passed::Cancelled);
    }
}

struct Messages {
    is_request: bool,
    /// Whether the client is known to send no more.
    half_closed: bool,
    frames: Frames,
    number: u64,
    compressed: bool,
    length: u32,
    bytes: Vec<u8>,
    told: Shared,
    end: Option<End>,
}

impl Messages {
    fn of(is_request: bool, told: Shared) -> Self {
        let (frames, bytes) = (Frames::default(), Vec::new());
        Self {
            is_request,
            half_closed: false,
            frames,
            number: 0,
            compressed: false,
            length: 0,
            bytes,
            told,
            end: None,
        }
    }

    fn half_close(&mut self) {
        if !std::mem::replace(&mut self.half_closed, true) {
            self.told.tell(Passed::HalfClose);
        }
    }

    fn data(&mut self, data: &[u8]) {
        let Self { is_request, frames, number, compressed, length, bytes, told, .. } = self;
        frames.feed(data, |part| match part {
            Part::Begin { flag, length: of } => {
                (*number, *compressed, *length) = (*number + 1, flag == 1, of);
                bytes.clear();
            }
            Part::Data(data) => bytes.extend_from_slice(&data[..data.len().min(KEPT - bytes.len())]),
            Part::End => told.tell(Passed::Message {
                is_request: *is_request,
                number: *number,
                compressed: *compressed,
                length: *length,
                bytes,
            }),
        });
    }
}

impl Observer for Messages {
    fn see(&mut self, seen: Seen<'_>, body: &Body) {
        match seen {
            Seen::Data(data) => {
                self.data(data);
                if self.is_request && http_body::Body::is_end_stream(body) {
                    self.half_close();
                }
            }
            Seen::End | Seen::Trailers(_) if self.is_request => self.half_close(),
            Seen::Trailers(headers) => self.told.tell_last(Passed::Trailers { only: false, headers }),
            Seen::Error(status) => self.told.tell_last(Passed::Broken(status)),
            Seen::End => {}
        }
    }
}

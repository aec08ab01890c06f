//! Whether an answer is that of a gRPC server, and all of it.
//!
//! A proxy answers by itself when it does not reach its server: with a page, or by
//! cutting off an answer that has begun, or by writing a page into it. tonic reads
//! that as messages, and says that the server has failed. Here it gets the name of what
//! it is, by the head, the frames and the trailers.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use grpc_wire::{
    Mode,
    frames::{Frames, Part},
    is_grpc,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use tokio::time::{Sleep, sleep};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, body::Body};

/// An answer that is none of gRPC, such as the page of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("HTTP {status}{detail}")]
pub struct Page {
    /// The status of HTTP.
    pub status: StatusCode,
    /// Where it leads, or what it is, for people.
    detail: String,
}

impl Page {
    /// The page that begins with this, if it is one. A status of gRPC counts, whatever
    /// came with it.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let text = |name: HeaderName| {
            let value = headers.get(name).map(HeaderValue::as_bytes);
            value.map(String::from_utf8_lossy)
        };
        if is_answer(status, headers) || headers.contains_key(Status::GRPC_STATUS) {
            return None;
        }
        let content_type = text(header::CONTENT_TYPE);
        let detail = match (text(header::LOCATION), content_type) {
            (Some(location), _) if status.is_redirection() => format!(" to {location}"),
            (_, Some(content_type)) => format!(" with {content_type}"),
            (_, None) => String::new(),
        };
        Some(Self { status, detail })
    }
}

fn is_answer(status: StatusCode, headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    status == StatusCode::OK && content_type.is_some_and(is_grpc)
}

/// What a call takes for an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Whether there is one message in it.
    one: bool,
    /// How messages may be compressed, as the request says.
    encodings: Option<HeaderValue>,
}

impl Wanted {
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        let mode = request.extensions().get::<Mode>();
        Self {
            one: mode.is_some_and(|mode| !mode.has_many_responses()),
            encodings: request.headers().get(ACCEPT_ENCODING).cloned(),
        }
    }

    fn takes(&self, encoding: &HeaderValue) -> bool {
        let taken = self.encodings.as_ref().map(HeaderValue::as_bytes).unwrap_or_default();
        encoding == "identity" || taken.split(|byte| *byte == b',').any(|it| it.trim_ascii() == encoding)
    }
}

const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Why an answer is none that counts.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the answer is not gRPC, but {0}")]
    Page(Page),
    #[error("the answer ended without a status")]
    NoStatus,
    #[error("the answer contains bytes that are not a gRPC message")]
    NoMessage,
    #[error("the answer is compressed by {0}, which was not offered")]
    Encoding(String),
    #[error("the answer has {0} messages, and a call of this method has one")]
    NotOne(u64),
    #[error("nothing has come for {}", humantime::format_duration(*.0))]
    Silent(Duration),
}

impl From<NoAnswer> for Status {
    fn from(why: NoAnswer) -> Self {
        Self::from_error(Box::new(why))
    }
}

/// What the status of HTTP means for a call, as gRPC's `http-grpc-status-mapping.md`
/// has it.
pub(crate) fn code_of(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// The answer without a status in its head that is not the status of the call: if
/// anything follows, that is in the trailers.
pub(crate) async fn settled(response: http::Response<Body>) -> http::Response<Body> {
    let has_status = response.headers().contains_key(Status::GRPC_STATUS);
    if !has_status || response.body().is_end_stream() || !is_answer(response.status(), response.headers()) {
        return response;
    }
    let (mut head, mut body) = response.into_parts();
    let first = loop {
        match body.frame().await {
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            first => break first,
        }
    };
    if let Some(first) = first {
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
            head.headers.remove(name);
        }
        body = Body::new(StreamBody::new(tokio_stream::once(first).chain(BodyStream::new(body))));
    }
    http::Response::from_parts(head, body)
}

/// The answer with an error in the place of what no gRPC server has sent, and of an
/// end that is none. It may be silent no longer than `silence`.
pub(crate) fn checked(
    mut response: http::Response<Body>,
    wanted: Wanted,
    silence: Option<Duration>,
) -> http::Response<Body> {
    if let Some(page) = Page::of(response.status(), response.headers()) {
        return failed(response, NoAnswer::Page(page));
    }
    let headers = response.headers_mut();
    let status = Status::from_header_map(headers);
    let encoding = headers.get(ENCODING);
    match &status {
        None if encoding.is_some_and(|encoding| !wanted.takes(encoding)) => {
            let encoding = headers.remove(ENCODING);
            let name = encoding.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
            return failed(response, NoAnswer::Encoding(name.unwrap_or_default()));
        }
        Some(status) if wanted.one && status.code() == Code::Ok => {
            headers.remove(Status::GRPC_STATUS);
            return failed(response, NoAnswer::NotOne(0));
        }
        _ => {}
    }
    let highest_flag = u8::from(encoding.is_some());
    response.map(|body| {
        Body::new(Answer {
            body,
            frames: Frames::default(),
            one: wanted.one,
            messages: 0,
            highest_flag,
            ended: status.is_some(),
            silence,
            waiting: None,
        })
    })
}

fn failed(response: http::Response<Body>, why: NoAnswer) -> http::Response<Body> {
    let error: Result<Frame<Bytes>, Status> = Err(why.into());
    response.map(|_| Body::new(StreamBody::new(tokio_stream::once(error))))
}

/// The body of an answer that has begun well.
struct Answer {
    body: Body,
    frames: Frames,
    /// Whether there is to be one message.
    one: bool,
    /// How many have begun.
    messages: u64,
    /// Of its messages.
    highest_flag: u8,
    /// Whether its status was there, or something else that ends it.
    ended: bool,
    silence: Option<Duration>,
    /// For the next frame, since somebody asked for it and it was not there: a reader
    /// that takes its time is no server that says nothing.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Answer {
    fn see(&mut self, frame: Option<Frame<Bytes>>) -> Result<Option<Frame<Bytes>>, NoAnswer> {
        let Some(frame) = frame else {
            return if self.ended { Ok(None) } else { Err(NoAnswer::NoStatus) };
        };
        if let Some(data) = frame.data_ref()
            && !self.are_messages(data)
        {
            return Err(NoAnswer::NoMessage);
        }
        if let Some(trailers) = frame.trailers_ref() {
            match Status::from_header_map(trailers) {
                None => return Err(NoAnswer::NoStatus),
                Some(status) if status.code() == Code::Ok && !self.frames.is_whole() => {
                    return Err(NoAnswer::NoMessage);
                }
                Some(status) if status.code() == Code::Ok && self.one && self.messages != 1 => {
                    return Err(NoAnswer::NotOne(self.messages));
                }
                Some(_) => self.ended = true,
            }
        }
        Ok(Some(frame))
    }

    fn are_messages(&mut self, data: &[u8]) -> bool {
        /// In bytes. Four characters of a text that are taken for a length are more.
        const LONGEST: u32 = 128 << 20;
        let (mut are, highest_flag) = (true, self.highest_flag);
        self.frames.feed(data, |part| {
            if let Part::Begin { flag, length } = part {
                self.messages += 1;
                are &= flag <= highest_flag && length <= LONGEST;
            }
        });
        are
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let answer = &mut *self;
        let frame = match Pin::new(&mut answer.body).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some(silence) = answer.silence else { return Poll::Pending };
                let waiting = answer.waiting.get_or_insert_with(|| Box::pin(sleep(silence)));
                ready!(waiting.as_mut().poll(cx));
                Some(Err(NoAnswer::Silent(silence).into()))
            }
        };
        answer.waiting = None;
        let frame = frame.transpose().and_then(|frame| Ok(answer.see(frame)?));
        answer.ended |= frame.is_err();
        Poll::Ready(frame.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;

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
    frames::{Frames, Part},
    is_grpc,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::{Frame, SizeHint};
use http_body_util::StreamBody;
use tokio::time::{Sleep, sleep};
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
        let content_type = text(header::CONTENT_TYPE);
        let is_grpc = status == StatusCode::OK && content_type.as_deref().is_some_and(is_grpc);
        if is_grpc || headers.contains_key(Status::GRPC_STATUS) {
            return None;
        }
        let detail = match (text(header::LOCATION), content_type) {
            (Some(location), _) if status.is_redirection() => format!(" to {location}"),
            (_, Some(content_type)) => format!(" with {content_type}"),
            (_, None) => String::new(),
        };
        Some(Self { status, detail })
    }
}

/// Why an answer is none that counts.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the answer is not gRPC, but {0}")]
    Page(Page),
    #[error("the answer ended without a status")]
    NoStatus,
    #[error("the answer contains bytes that are not a gRPC message")]
    NoMessage,
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

/// The answer with an error in the place of what no gRPC server has sent, and of an
/// end that is none. It may be silent no longer than `silence`.
pub(crate) fn checked(response: http::Response<Body>, silence: Option<Duration>) -> http::Response<Body> {
    if let Some(page) = Page::of(response.status(), response.headers()) {
        let error: Result<Frame<Bytes>, Status> = Err(NoAnswer::Page(page).into());
        return response.map(|_| Body::new(StreamBody::new(tokio_stream::once(error))));
    }
    let ended = response.headers().contains_key(Status::GRPC_STATUS);
    let is_compressed = response.headers().contains_key("grpc-encoding");
    response.map(|body| {
        Body::new(Answer {
            body,
            frames: Frames::default(),
            highest_flag: u8::from(is_compressed),
            ended,
            silence,
            waiting: None,
        })
    })
}

/// The body of an answer that has begun well.
struct Answer {
    body: Body,
    frames: Frames,
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
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::{CallError, Kind};

    const MESSAGE: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
    const PAGE: &[u8] = b"<html>Bad Gateway</html>";

    fn head(status: StatusCode, headers: &[(&'static str, &'static str)]) -> http::Response<()> {
        let mut response = http::Response::new(());
        *response.status_mut() = status;
        let fields = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        response.headers_mut().extend(fields);
        response
    }

    fn grpc() -> http::Response<()> {
        head(StatusCode::OK, &[("content-type", "application/grpc")])
    }

    fn status(code: &'static str) -> Frame<Bytes> {
        Frame::trailers(HeaderMap::from_iter([(Status::GRPC_STATUS, HeaderValue::from_static(code))]))
    }

    fn data(bytes: &[u8]) -> Frame<Bytes> {
        Frame::data(Bytes::copy_from_slice(bytes))
    }

    /// What a client reads in an answer.
    async fn read(
        head: http::Response<()>,
        frames: impl IntoIterator<Item = Frame<Bytes>>,
    ) -> Result<Bytes, CallError> {
        let frames: Vec<Result<_, Status>> = frames.into_iter().map(Ok).collect();
        let answer = head.map(|()| Body::new(StreamBody::new(tokio_stream::iter(frames))));
        let collected = checked(answer, None).into_body().collect().await;
        collected.map(http_body_util::Collected::to_bytes).map_err(CallError::from)
    }

    #[tokio::test]
    async fn an_answer_of_a_server_is_left_as_it_is() {
        assert_eq!(
            read(grpc(), [data(MESSAGE), data(&MESSAGE[..3]), data(&MESSAGE[3..]), status("0")])
                .await
                .unwrap(),
            [MESSAGE, MESSAGE].concat()
        );
        assert_eq!(
            read(grpc(), [data(MESSAGE), data(&MESSAGE[..3]), status("5")]).await.unwrap(),
            [MESSAGE, &MESSAGE[..3]].concat()
        );
        let compressed =
            head(StatusCode::OK, &[("content-type", "application/grpc"), ("grpc-encoding", "gzip")]);
        assert_eq!(read(compressed, [data(&[1, 0, 0, 0, 0]), status("0")]).await.unwrap().len(), 5);
        // A status alone, also where a proxy has made it.
        for http in [StatusCode::OK, StatusCode::BAD_GATEWAY] {
            assert!(read(head(http, &[("grpc-status", "14")]), []).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn a_page_is_known_by_its_status_whatever_is_in_it() {
        use StatusCode as Http;
        let html = &[("content-type", "text/html")][..];
        let moved = &[("content-type", "text/html"), ("location", "https://there.example/")][..];
        for (http, headers, code, name) in [
            (Http::BAD_GATEWAY, html, Code::Unavailable, "HTTP 502 Bad Gateway with text/html"),
            (Http::BAD_GATEWAY, &[], Code::Unavailable, "HTTP 502 Bad Gateway"),
            (
                Http::BAD_GATEWAY,
                &[("content-type", "application/grpc")],
                Code::Unavailable,
                "HTTP 502 Bad Gateway with application/grpc",
            ),
            (
                Http::SERVICE_UNAVAILABLE,
                html,
                Code::Unavailable,
                "HTTP 503 Service Unavailable with text/html",
            ),
            (Http::NOT_FOUND, html, Code::Unimplemented, "HTTP 404 Not Found with text/html"),
            (
                Http::MOVED_PERMANENTLY,
                moved,
                Code::Unknown,
                "HTTP 301 Moved Permanently to https://there.example/",
            ),
            (Http::OK, html, Code::Unknown, "HTTP 200 OK with text/html"),
            (Http::OK, &[], Code::Unknown, "HTTP 200 OK"),
        ] {
            for frames in [vec![], vec![data(PAGE)], vec![data(MESSAGE), status("0")]] {
                let error = read(head(http, headers), frames).await.unwrap_err();
                assert_eq!((error.kind, error.code()), (Kind::Page(http), code));
                assert_eq!(error.message, format!("the answer is not gRPC, but {name}"));
                assert_eq!(error.may_be_tried_again(), code == Code::Unavailable, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_missing_or_written_into_an_answer_is_a_loss() {
        for (frames, kind) in [
            (vec![], Kind::NoStatus),
            (vec![data(MESSAGE)], Kind::NoStatus),
            (vec![data(&MESSAGE[..6])], Kind::NoStatus),
            (vec![data(MESSAGE), Frame::trailers(HeaderMap::new())], Kind::NoStatus),
            (vec![data(MESSAGE), data(PAGE)], Kind::NoMessage),
            (vec![data(PAGE), status("0")], Kind::NoMessage),
            (vec![data(&[1, 0, 0, 0, 0]), status("0")], Kind::NoMessage),
            (vec![data(&[0, 0x20, 0x20, 0x20, 0x20]), status("0")], Kind::NoMessage),
            (vec![data(&MESSAGE[..6]), status("0")], Kind::NoMessage),
            (vec![data(&MESSAGE[..3]), status("0")], Kind::NoMessage),
        ] {
            let error = read(grpc(), frames).await.unwrap_err();
            assert_eq!(error.kind, kind);
            assert!(error.may_be_tried_again());
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_a_loss_too() {
        let decoded = <() as prost::Message>::decode(&[0xff][..]);
        let mut status = Status::internal("as tonic has it");
        status.set_source(std::sync::Arc::new(decoded.unwrap_err()));
        let error = CallError::from(status);
        assert_eq!((error.kind, error.code()), (Kind::NoMessage, Code::Internal));
        assert!(error.may_be_tried_again());
        assert!(!CallError::from(Status::internal("said by a server")).may_be_tried_again());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_not_silent_because_nobody_reads_it() {
        const SILENCE: Duration = Duration::from_secs(15);
        let (put, frames) = tokio::sync::mpsc::channel(1);
        let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
        let answer = grpc().map(|()| Body::new(StreamBody::new(frames)));
        let mut body = checked(answer, Some(SILENCE)).into_body();
        for _ in 0..3 {
            sleep(2 * SILENCE).await;
            let put = put.clone();
            tokio::spawn(async move {
                sleep(SILENCE * 9 / 10).await;
                put.send(Ok::<_, Status>(data(MESSAGE))).await.unwrap();
            });
            assert!(body.frame().await.unwrap().is_ok());
        }
        let begun = tokio::time::Instant::now();
        let error = CallError::from(body.frame().await.unwrap().unwrap_err());
        assert_eq!(begun.elapsed().as_secs(), 15);
        assert_eq!((error.code(), error.message.as_str()), (Code::Unavailable, "nothing has come for 15s"));
        assert!(error.may_be_tried_again());
    }
}

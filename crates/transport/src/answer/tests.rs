use http_body_util::BodyExt as _;

use super::*;
use crate::{CallError, Kind};

const MESSAGE: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
const PAGE: &[u8] = b"<html>Bad Gateway</html>";

fn head(status: StatusCode, headers: &[(&'static str, &'static str)]) -> http::Response<()> {
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    let fields =
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
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
    // It takes gzip.
    let wanted = Wanted { one: false, encodings: Some(HeaderValue::from_static("zstd, gzip")) };
    read_wanted(wanted, head, frames).await
}

async fn read_wanted(
    wanted: Wanted,
    head: http::Response<()>,
    frames: impl IntoIterator<Item = Frame<Bytes>>,
) -> Result<Bytes, CallError> {
    let frames: Vec<Result<_, Status>> = frames.into_iter().map(Ok).collect();
    let answer = head.map(|()| Body::new(StreamBody::new(tokio_stream::iter(frames))));
    let answer = checked(settled(answer).await, wanted, None);
    let collected = answer.into_body().collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(CallError::from)
}

#[tokio::test]
async fn an_answer_of_a_server_is_left_as_it_is() {
    assert_eq!(
        read(grpc(), [data(MESSAGE), data(&MESSAGE[..3]), data(&MESSAGE[3..]), status("0")]).await.unwrap(),
        [MESSAGE, MESSAGE].concat()
    );
    assert_eq!(
        read(grpc(), [data(MESSAGE), data(&MESSAGE[..3]), status("5")]).await.unwrap(),
        [MESSAGE, &MESSAGE[..3]].concat()
    );
    let compressed = head(StatusCode::OK, &[("content-type", "application/grpc"), ("grpc-encoding", "gzip")]);
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
        (Http::SERVICE_UNAVAILABLE, html, Code::Unavailable, "HTTP 503 Service Unavailable with text/html"),
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
    let mut body = checked(answer, Wanted::default(), Some(SILENCE)).into_body();
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

#[tokio::test]
async fn a_status_in_the_head_counts_when_nothing_follows() {
    let settled = async |frames: Vec<Frame<Bytes>>| {
        let fields = [("content-type", "application/grpc"), ("grpc-status", "8"), ("grpc-message", "no")];
        let frames: Vec<Result<_, Status>> = frames.into_iter().map(Ok).collect();
        let answer =
            head(StatusCode::OK, &fields).map(|()| Body::new(StreamBody::new(tokio_stream::iter(frames))));
        settled(answer).await
    };
    for frames in [vec![], vec![data(&[])]] {
        assert_eq!(Status::from_header_map(settled(frames).await.headers()).unwrap().message(), "no");
    }
    let answer = checked(settled(vec![status("9")]).await, Wanted::default(), None);
    assert!(!answer.headers().contains_key("grpc-status") && !answer.headers().contains_key("grpc-message"));
    let trailers = answer.into_body().collect().await.unwrap().trailers().cloned().unwrap();
    assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::FailedPrecondition);
    let answer = checked(settled(vec![data(MESSAGE)]).await, Wanted::default(), None);
    let error = CallError::from(answer.into_body().collect().await.unwrap_err());
    assert_eq!(error.kind, Kind::NoStatus);
    // What a proxy has written below its own status is none of gRPC.
    let page = head(StatusCode::BAD_GATEWAY, &[("grpc-status", "14")]);
    assert!(read(page, [data(PAGE)]).await.is_err_and(|error| error.kind == Kind::NoMessage));
}

#[tokio::test]
async fn a_call_that_has_one_answer_gets_unimplemented_for_none_and_for_two() {
    let one = || Wanted { one: true, encodings: None };
    let wrong = Kind::WrongAnswer(Code::Unimplemented);
    let two = [MESSAGE, MESSAGE].concat();
    for frames in
        [vec![status("0")], vec![data(&two), status("0")], vec![data(MESSAGE), data(MESSAGE), status("0")]]
    {
        let error = read_wanted(one(), grpc(), frames).await.unwrap_err();
        assert_eq!((error.kind, error.code()), (wrong, Code::Unimplemented));
        assert!(!error.may_be_tried_again());
    }
    let none = head(StatusCode::OK, &[("content-type", "application/grpc"), ("grpc-status", "0")]);
    assert_eq!(read_wanted(one(), none, []).await.unwrap_err().kind, wrong);
    assert_eq!(read_wanted(one(), grpc(), [data(MESSAGE), status("0")]).await.unwrap(), MESSAGE);
    assert_eq!(read_wanted(one(), grpc(), [data(&two), status("5")]).await.unwrap(), two);
    assert_eq!(read(grpc(), [data(&two), status("0")]).await.unwrap(), two);
}

#[tokio::test]
async fn a_compression_that_was_not_offered_is_internal() {
    let by =
        |encoding| head(StatusCode::OK, &[("content-type", "application/grpc"), ("grpc-encoding", encoding)]);
    let frames = || [data(&[1, 0, 0, 0, 0]), status("0")];
    for encoding in ["gzip", "zstd"] {
        read(by(encoding), frames()).await.unwrap();
    }
    read(by("identity"), [data(MESSAGE), status("0")]).await.unwrap();
    let error = read(by("snappy"), frames()).await.unwrap_err();
    assert_eq!((error.kind, error.code()), (Kind::WrongAnswer(Code::Internal), Code::Internal));
    assert_eq!(error.message, "the answer is compressed by snappy, which was not offered");
    assert!(!error.may_be_tried_again());
    assert!(read_wanted(Wanted::default(), by("gzip"), frames()).await.is_err());
    // A status says more than how nothing is compressed.
    let refused = head(StatusCode::OK, &[("grpc-encoding", "snappy"), ("grpc-status", "5")]);
    assert!(read(refused, []).await.unwrap().is_empty());
}

//! Unary calls, one after the other. Several of these are several in flight.
//!
//! They are made without tonic's client, which encodes each message anew and takes more time than
//! HTTP/2: what is measured is the path and the server.

use bytes::{Bytes, BytesMut};
use grpc_wire::Mode;
use http_body_util::{BodyExt as _, Full};
use tonic::{Code, Status, body::Body};
use tower::{Service as _, ServiceExt as _};

use crate::{
    job::PREFIX,
    line::Line,
    times::Tally,
    work::{Error, Work},
};

pub(crate) async fn unary(mut line: Line, work: Work) -> Result<Tally, Error> {
    let mut frames = work.job.frames();
    let mut request = http::Request::post(http::Uri::from(work.job.path.clone()))
        .version(http::Version::HTTP_2)
        .header(http::header::TE, "trailers")
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .extension(Mode::Unary)
        .body(())
        .map_err(|error| Status::from_error(error.into()))?;
    request.headers_mut().extend(std::mem::take(&mut line.headers));
    let mut tally = Tally::default();
    while let Some(due) = work.load.next().await {
        let frame = frames();
        let sent = frame.len() - PREFIX;
        let response =
            line.ready().await?.call(request.clone().map(|()| Body::new(Full::new(frame)))).await?;
        let answer = message(response).await?;
        work.times.record(due.elapsed());
        tally.passed(1, sent + answer.len());
        tally.frames += 2;
        work.job.check(answer)?;
    }
    Ok(tally)
}

/// The one message of an answer. That there is one, the channel has an eye on.
async fn message(response: http::Response<Body>) -> Result<Bytes, Status> {
    let (head, mut body) = response.into_parts();
    succeeded(&head.headers)?;
    let (mut message, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if message.is_empty() => message = data,
            Ok(data) => rest.extend_from_slice(&data),
            Err(frame) => frame.trailers_ref().map_or(Ok(()), succeeded)?,
        }
    }
    if !rest.is_empty() {
        message = [&message[..], &rest].concat().into();
    }
    Ok(message.slice(PREFIX.min(message.len())..))
}

/// Where there is a status, it has to be OK.
fn succeeded(headers: &http::HeaderMap) -> Result<(), Status> {
    match headers.get(Status::GRPC_STATUS) {
        Some(status) if status != "0" => {
            Err(Status::from_header_map(headers).unwrap_or_else(|| Status::new(Code::Unknown, "")))
        }
        _ => Ok(()),
    }
}

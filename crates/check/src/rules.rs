//! Whether the server refuses invalid calls, over HTTP/2 and, if it speaks it, over
//! HTTP/1.1.

use std::collections::BTreeSet;

use bytes::{BufMut as _, BytesMut};
use http::{HeaderMap, HeaderValue, Method, header};
use prost::Message as _;
use shared_proto::fourmodes::v1 as pb;
use tonic::Code;

use crate::{
    Group,
    check::Check,
    extras::{by_http1, web_status},
    outcome::{Checked, Outcome},
    path::{Path, UNARY},
    remedies, script,
    wire_error::WireError,
};

pub(crate) const CHECKS: [Check; 4] = [
    Check::new(Group::Rules, "content-type", |path| Box::pin(content_type(path))),
    Check::new(Group::Rules, "method", |path| Box::pin(method(path))),
    Check::new(Group::Rules, "message-count", |path| Box::pin(message_count(path))),
    Check::new(Group::Rules, "host", |path| Box::pin(host(path))),
];

const WEB: &str = "application/grpc-web+proto";
const ELSEWHERE: &str = "elsewhere.invalid";

/// A unary call with one error in it.
#[derive(Clone)]
struct Wrong {
    what: &'static str,
    method: Method,
    content_type: &'static str,
    messages: usize,
    /// The origin of the calling page.
    origin: Option<&'static str>,
    /// A foreign name for the server.
    host: Option<&'static str>,
}

const RIGHT: Wrong = Wrong {
    what: "",
    method: Method::POST,
    content_type: "application/grpc",
    messages: 1,
    origin: None,
    host: None,
};

async fn content_type(path: &Path) -> Checked {
    let wrong = |what| Wrong { what, content_type: what, ..RIGHT };
    refused(path, &[wrong("application/json"), wrong("text/plain")]).await
}

async fn method(path: &Path) -> Checked {
    let wrong = |what, method| Wrong { what, method, ..RIGHT };
    refused(path, &[wrong("GET", Method::GET), wrong("PUT", Method::PUT)]).await
}

async fn message_count(path: &Path) -> Checked {
    let wrong = |what, messages| Wrong { what, messages, ..RIGHT };
    refused(path, &[wrong("no message", 0), wrong("two messages", 2)]).await
}

/// A page must not call a server of another origin, nor a server that its DNS gave the
/// page's own name (DNS rebinding).
async fn host(path: &Path) -> Checked {
    let origin = Some("http://elsewhere.invalid");
    let page = Wrong { what: "a page of another origin", origin, ..RIGHT };
    let rebound = Wrong { what: "a page with a foreign host name", host: Some(ELSEWHERE), ..page.clone() };
    refused(path, &[page, rebound]).await
}

async fn refused(path: &Path, wrong: &[Wrong]) -> Checked {
    let (mut answers, mut carried_out) = (BTreeSet::new(), Vec::new());
    let has_web = by_web(path, &RIGHT).await.is_none();
    for wrong in wrong {
        let by_web = if has_web { Some(by_web(path, wrong).await) } else { None };
        let by_http2 = Some(by_http2(path, wrong).await?);
        for (transport, answer) in [("HTTP/2", by_http2), ("HTTP/1.1", by_web)] {
            match answer {
                None => {}
                Some(None) => carried_out.push(format!("{} over {transport}", wrong.what)),
                Some(Some(how)) => drop(answers.insert(format!("{how} over {transport}"))),
            }
        }
    }
    match carried_out.is_empty() {
        true => Ok(Outcome::pass(answers.into_iter().collect::<Vec<_>>().join(", "))),
        false => Ok(Outcome::warn(
            format!("accepted: {}", carried_out.join(", ")),
            "the server, or a hop before it, accepts invalid calls",
            remedies::RULES,
        )),
    }
}

fn message() -> pb::UnaryRequest {
    pb::UnaryRequest { script: Some(script::steps([])), ..pb::UnaryRequest::default() }
}

/// Returns how the call was refused, or `None` if it was carried out.
async fn by_http2(path: &Path, wrong: &Wrong) -> Result<Option<String>, WireError> {
    let mut metadata = HeaderMap::new();
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static(wrong.content_type));
    metadata.extend(wrong.origin.map(|it| (header::ORIGIN, HeaderValue::from_static(it))));
    let own = path.server.authority().map_or("", |authority| authority.as_str());
    let authority = wrong.host.unwrap_or(own);
    let wire = path.open().await?;
    let mut call = wire.call_by(wrong.method.clone(), authority, UNARY, metadata).await?;
    for _ in 0..wrong.messages {
        // The server may refuse the call before all messages have arrived.
        let _ = call.send(&message()).await;
    }
    let _ = call.half_close();
    let ended = async {
        let _: Option<pb::UnaryResponse> = call.next().await?;
        call.end().await
    };
    match ended.await {
        Ok((status, _)) if status.code() == Code::Ok => Ok(None),
        Ok((status, _)) => Ok(Some(grpc_wire::code_name(status.code()).to_owned())),
        Err(WireError::Http(page)) => Ok(Some(format!("HTTP {}", page.status))),
        Err(lost @ (WireError::Reset(_) | WireError::StatusInHead(_))) => Ok(Some(lost.to_string())),
        Err(lost) => Err(lost),
    }
}

/// Makes the same call by gRPC-Web.
async fn by_web(path: &Path, wrong: &Wrong) -> Option<String> {
    let mut body = BytesMut::new();
    for _ in 0..wrong.messages {
        let message = message().encode_to_vec();
        body.put_u8(0);
        body.put_u32(message.len() as u32);
        body.put_slice(&message);
    }
    let content_type = if wrong.content_type == RIGHT.content_type { WEB } else { wrong.content_type };
    let mut request = http::Request::builder()
        .method(wrong.method.clone())
        .uri(UNARY)
        .header(header::CONTENT_TYPE, content_type);
    for (name, value) in [(header::ORIGIN, wrong.origin), (header::HOST, wrong.host)] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    let answer = match by_http1(path, request, body.freeze()).await {
        Ok(answer) => answer,
        Err(what) => return Some(what),
    };
    let in_head = answer.headers().get("grpc-status").and_then(|value| value.to_str().ok()?.parse().ok());
    match in_head.or_else(|| web_status(answer.body().clone())) {
        Some(0) => None,
        Some(code) => Some(grpc_wire::code_name(Code::from_i32(code)).to_owned()),
        None => Some(format!("HTTP {}", answer.status())),
    }
}

//! Checks that work with any gRPC server. A server without a test service answers a
//! call with UNIMPLEMENTED, and that is an answer too.

use std::rc::Rc;

use grpc_wire::code_name;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue};
use shared_proto::fourmodes::v1 as pb;
use tonic::Code;

use crate::{
    Group,
    check::Ask,
    connect,
    life::{self, NOT_ASKED},
    outcome::{Checked, Outcome},
    path::{Path, UNARY},
    remedies,
    wire::{Wire, within},
    wire_error::WireError,
};

/// The checks that are possible here, by group and name.
pub(crate) const ASKED: [(Group, &str, Ask); 4] = [
    (Group::Connect, "round-trip", |path| Box::pin(round_trip(path))),
    (Group::Metadata, "8-kib", |path| Box::pin(headers(path))),
    (Group::Life, life::IDLE, |path| Box::pin(idle(path))),
    (Group::Life, "1200-calls", |path| Box::pin(many_calls(path))),
];

/// Makes a call that reaches the server and returns with its refusal.
async fn refused(wire: &Wire, metadata: HeaderMap) -> Result<(), WireError> {
    match wire.unary::<pb::UnaryResponse>(UNARY, metadata, &pb::UnaryRequest::default()).await {
        Err(WireError::Status(status)) if status.code() == Code::Unimplemented => Ok(()),
        other => other.map(drop),
    }
}

async fn round_trip(path: &Path) -> Checked {
    let wire = path.open().await?;
    connect::measured(path, &wire, None, async |_| refused(&wire, HeaderMap::new()).await).await
}

/// How much metadata a request may have.
async fn headers(path: &Path) -> Checked {
    const KIB: [usize; 4] = [4, 8, 16, 32];
    /// Left for the other headers.
    const OTHERS: usize = 1 << 10;
    /// What HTTP/2 adds to the size of each header.
    const ENTRY: usize = 32;
    const VALUE: usize = 448;
    let (mut most, mut lost) = (0, None);
    for kib in KIB {
        let mut metadata = HeaderMap::new();
        let value = HeaderValue::from_str(&"v".repeat(VALUE));
        for number in 0..((kib << 10) - OTHERS) / (VALUE + ENTRY + "x-check-00".len()) {
            let name = HeaderName::from_bytes(format!("x-check-{number:02}").as_bytes());
            if let (Ok(name), Ok(value)) = (name, &value) {
                metadata.insert(name, value.clone());
            }
        }
        match within(path.answer(), refused(&path.open().await?, metadata)).await {
            Ok(()) => most = kib,
            Err(why) => {
                lost = Some(why);
                break;
            }
        }
    }
    let figure = match lost {
        None => format!("{most} KiB to the server"),
        // Some servers repeat the headers in their message.
        Some(WireError::Status(status)) => {
            format!("{most} KiB to the server, {} for more", code_name(status.code()))
        }
        Some(lost) => format!("{most} KiB to the server; with more {lost}"),
    };
    Ok(match most {
        8.. => Outcome::pass(figure),
        _ => Outcome::fail(
            figure,
            "the server, or a hop on the path, accepts less than 8 KiB of headers",
            remedies::HEADERS,
        ),
    })
}

/// Leaves a connection without calls for a while.
async fn idle(path: &Path) -> Checked {
    let Some(time) = path.idle else { return Ok(Outcome::skip(NOT_ASKED)) };
    let asked = humantime::format_duration(time);
    let wire = path.open().await?;
    refused(&wire, HeaderMap::new()).await?;
    tokio::time::sleep(time).await;
    Ok(match within(path.answer(), refused(&wire, HeaderMap::new())).await {
        Ok(()) => Outcome::pass(format!("idle for {asked}, and alive")),
        Err(WireError::GoAway(Reason::NO_ERROR, _)) => {
            Outcome::pass(format!("idle for {asked}, then closed in order"))
        }
        Err(lost) => Outcome::fail(
            format!("{lost} after {asked} without a call"),
            "a hop on the path closes idle connections without GOAWAY",
            remedies::IDLE,
        ),
    })
}

async fn many_calls(path: &Path) -> Checked {
    async fn call(wire: Rc<Wire>) -> Result<(), WireError> {
        refused(&wire, HeaderMap::new()).await
    }
    life::calls_on_connections(path, call).await
}

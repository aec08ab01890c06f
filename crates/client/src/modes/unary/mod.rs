//! Unary: one request, one response.

pub(crate) mod files;
mod tasks;

use std::fmt;

use serde::Serialize;
use shared_proto::fourmodes::v1::{GetStatusRequest, Mode, MultiplyRequest};
use timeline::words::printable;
use tonic::Code;

pub(crate) use self::tasks::{cancel, submit, task};
use crate::modes::tour::{Step, expect_code};
use crate::{failure::Failure, session::Session};

#[derive(Debug, Default, Serialize)]
pub(crate) struct Product {
    a: i64,
    b: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<i64>,
}

pub(crate) async fn multiply(session: &Session, a: i64, b: i64, report: &mut Product) -> Result<(), Failure> {
    (report.a, report.b) = (a, b);
    let request = MultiplyRequest { a, b };
    let response = session.unary(request, async |mut client, request| client.multiply(request).await).await?;
    report.product = Some(response.product);
    Ok(())
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.product {
            Some(product) => write!(f, "{} × {} = {product}", self.a, self.b),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct ServerStatus {
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    start_time: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    modes: Vec<ModeStatus>,
}

#[derive(Debug, Serialize)]
struct ModeStatus {
    mode: &'static str,
    served: bool,
    calls_started: u64,
    calls_open: u64,
    messages_received: u64,
    messages_sent: u64,
}

pub(crate) async fn status(session: &Session, report: &mut ServerStatus) -> Result<(), Failure> {
    let request = GetStatusRequest {};
    let status = session.unary(request, async |mut client, request| client.get_status(request).await).await?;
    report.version = status.version;
    report.start_time = status.start_time.map(|time| time.to_string()).unwrap_or_default();
    report.modes = status
        .modes
        .into_iter()
        .map(|mode| ModeStatus {
            mode: match mode.mode() {
                Mode::Unary => grpc_wire::Mode::Unary.name(),
                Mode::ServerStreaming => grpc_wire::Mode::ServerStreaming.name(),
                Mode::ClientStreaming => grpc_wire::Mode::ClientStreaming.name(),
                Mode::BidiStreaming => grpc_wire::Mode::BidiStreaming.name(),
                Mode::Unspecified => "unknown",
            },
            served: mode.served,
            calls_started: mode.calls_started,
            calls_open: mode.calls_open,
            messages_received: mode.messages_received,
            messages_sent: mode.messages_sent,
        })
        .collect();
    Ok(())
}

impl fmt::Display for ServerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.modes.is_empty() {
            return Ok(());
        }
        writeln!(f, "version {}, up since {}", printable(&self.version), self.start_time)?;
        write!(
            f,
            "{:<18}{:<8}{:>12}{:>8}{:>12}{:>12}",
            "mode", "served", "calls", "open", "received", "sent"
        )?;
        for mode in &self.modes {
            let served = if mode.served { "yes" } else { "no" };
            write!(
                f,
                "\n{:<18}{served:<8}{:>12}{:>8}{:>12}{:>12}",
                mode.mode, mode.calls_started, mode.calls_open, mode.messages_received, mode.messages_sent
            )?;
        }
        Ok(())
    }
}

pub(crate) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "UNARY: one request, one response. The client's half-close follows its only message at once; \
         the server answers with headers, one message, and trailers that carry the status.",
    );
    let mut product = Product::default();
    multiply(session, 6, 7, &mut product).await?;
    steps.push(Step::new("multiply", product.to_string()));

    session.note(
        "An error is an answer, too: no message, only a status, here with details that a program can \
         read. It does not disturb the connection.",
    );
    let overflow = multiply(session, i64::MAX, 2, &mut product).await;
    steps.push(expect_code("multiply", overflow, Code::OutOfRange, "an overflow")?);

    session.note("The server tells what it serves and what it has done so far.");
    let mut server = ServerStatus::default();
    status(session, &mut server).await?;
    let served = server.modes.iter().filter(|mode| mode.served).count();
    steps.push(Step::new("status", format!("the server serves {served} of 4 modes")));
    tasks::demonstrate(session, steps).await
}

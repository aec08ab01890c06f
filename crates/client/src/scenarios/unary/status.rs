//! What the server is, and what it is doing.

use std::fmt;

use clap::Args;
use serde::Serialize;
use shared_proto::fourmodes::v1::{self as pb, GetStatusRequest};
use timeline::words::printable;

use crate::{failure::Failure, scenario::Scenario, session::Session};

/// Show the server's version, modes, calls and state
#[derive(Debug, Args)]
pub(crate) struct Status {}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    start_time: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) modes: Vec<Mode>,
    /// What it keeps. Absent when the server does not say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    state: Vec<Usage>,
}

#[derive(Debug, Serialize)]
struct Usage {
    kind: String,
    count: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Mode {
    mode: &'static str,
    pub(crate) served: bool,
    calls_started: u64,
    calls_open: u64,
    messages_received: u64,
    messages_sent: u64,
}

impl Scenario for Status {
    type Report = Report;

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        let request = GetStatusRequest {};
        let status =
            session.unary(request, async |mut client, request| client.get_status(request).await).await?;
        report.version = status.version;
        report.start_time = status.start_time.map(|time| time.to_string()).unwrap_or_default();
        report.modes = status.modes.into_iter().map(Mode::from).collect();
        let usage = |pb::StateUsage { kind, count, bytes }| Usage { kind, count, bytes };
        report.state = status.state.into_iter().map(usage).collect();
        Ok(())
    }
}

impl From<pb::ModeStatus> for Mode {
    fn from(status: pb::ModeStatus) -> Self {
        Self {
            mode: match status.mode() {
                pb::Mode::Unary => grpc_wire::Mode::Unary.name(),
                pb::Mode::ServerStreaming => grpc_wire::Mode::ServerStreaming.name(),
                pb::Mode::ClientStreaming => grpc_wire::Mode::ClientStreaming.name(),
                pb::Mode::BidiStreaming => grpc_wire::Mode::BidiStreaming.name(),
                pb::Mode::Unspecified => "unknown",
            },
            served: status.served,
            calls_started: status.calls_started,
            calls_open: status.calls_open,
            messages_received: status.messages_received,
            messages_sent: status.messages_sent,
        }
    }
}

impl fmt::Display for Report {
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
        if !self.state.is_empty() {
            write!(f, "\n{:<18}{:>20}{:>20}", "kept", "count", "bytes")?;
        }
        for Usage { kind, count, bytes } in &self.state {
            write!(f, "\n{:<18}{count:>20}{bytes:>20}", printable(kind))?;
        }
        Ok(())
    }
}

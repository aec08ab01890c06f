//! A file in step with a document, and by it with the files of others.
//!
//! What was edited is in the sidecar before it is sent: sent again after a loss
//! it is the same edit. What the server tells is in the sidecar before it is in
//! the file: a file that has it is known to have it.

mod in_step;
pub(crate) mod replica;
mod working_copy;

use std::{fmt, path::PathBuf};

use clap::Args;
use serde::Serialize;
use timeline::words::{counted, printable};
use tokio::task::block_in_place;

use self::{in_step::InStep, working_copy::WorkingCopy};
use crate::{failure::Failure, scenario::Scenario, session::Session};

/// Keep a text file equal to copies elsewhere, until Ctrl-C
///
/// Edit it with any editor, even while the client or the server is not running. The file
/// `.FILE.sync` next to it keeps the last synced state.
#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// UTF-8 text of up to 1 MiB; created if missing
    file: PathBuf,
    /// Name of the document [default: the file's name]
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    document: Option<String>,
    /// End when file and document are equal and on the server's disk
    #[arg(long)]
    once: bool,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    document: String,
    /// Of the text, as this client has it.
    bytes: usize,
    /// Changes that were sent; again, when the connection was lost.
    edits_sent: u64,
    /// Changes of others.
    edits_received: u64,
    heads: Vec<String>,
    /// Whether file and document were the same, and all of it on the server's
    /// disk.
    in_step: bool,
    /// Why the file is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_synced: Option<String>,
}

impl Scenario for Sync {
    type Report = Report;

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        session.goes_on_elsewhere();
        let own = || self.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        report.document = self.document.clone().unwrap_or_else(own);
        let opened = block_in_place(|| WorkingCopy::open(&self.file, &report.document));
        let mut in_step = InStep::new(opened?, self.once, report);
        session.resuming(async || in_step.keep(session).await).await
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.heads.is_empty() {
            return Ok(());
        }
        let (sent, received) = (counted(self.edits_sent, "edit"), counted(self.edits_received, "edit"));
        let bytes = counted(self.bytes as u64, "byte");
        let in_step = if self.in_step { "in step" } else { "not in step" };
        write!(f, "{}: {bytes}, {in_step}, {sent} sent, {received} received", printable(&self.document))?;
        match &self.not_synced {
            Some(reason) => write!(f, "\nthe file is not synced: {reason}"),
            None => Ok(()),
        }
    }
}

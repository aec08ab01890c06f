//! An upload that can be resumed after the client, the server or the connection was
//! lost. The client stores nothing for that: the upload's id follows from the content
//! and the name, and the server reports how much has arrived.
//!
//! When the input fails, the call is cancelled, so that the server does not take the
//! end of the stream for the end of the content.

mod source;
mod transfer;

use std::{
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use clap::Args;
use indicatif::HumanBytes;
use serde::{Serialize, Serializer};
use shared_proto::limits::CHUNK_BYTES;
use timeline::words::printable;

pub(crate) use self::transfer::upload_name;
use self::{source::checksum, transfer::Transfer};
use crate::{failure::Failure, scenario::Scenario, session::Session};

/// Upload a file; repeat the command to resume
#[derive(Debug, Args)]
pub(crate) struct Upload {
    /// File to upload; not `-`, because its size and checksum are sent first
    pub(crate) file: PathBuf,
    /// Name on the server [default: the name of the file]
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) name: Option<String>,
    /// Size of a message, from 1KiB to 2MiB
    #[arg(
        long,
        default_value = "256KiB",
        value_name = "SIZE",
        value_parser = chunk,
        allow_hyphen_values = true
    )]
    pub(crate) chunk: usize,
}

fn chunk(text: &str) -> Result<usize, String> {
    const SMALLEST: usize = 1 << 10;
    match usize::try_from(shared_process::bytes(text)?).unwrap_or(usize::MAX) {
        size if (SMALLEST..=CHUNK_BYTES).contains(&size) => Ok(size),
        size => {
            Err(format!("{size} bytes are not from 1KiB to 2MiB, half of the largest message of a server"))
        }
    }
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_name: String,
    size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    blake3: String,
    /// The bytes given to the transport, including those sent again.
    #[serde(serialize_with = "count")]
    bytes_sent: Arc<AtomicU64>,
    /// The offset of each resumption.
    resumed_from: Vec<u64>,
    /// Whether the server had the content before it was sent.
    already_there: bool,
    /// Without the time for the checksum.
    seconds: f64,
    #[serde(skip)]
    done: bool,
}

fn count<S: Serializer>(count: &AtomicU64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(count.load(Relaxed))
}

impl Scenario for Upload {
    type Report = Report;

    fn check(&self) -> Result<(), Failure> {
        let unusable = |reason: &str| Failure::input(&self.file, reason);
        if self.file == Path::new("-") {
            let reason = "cannot be uploaded: size and checksum are sent first; save it to a file";
            return Err(unusable(reason));
        }
        let unreadable = |error| Failure::input(&self.file, format!("cannot be read: {error}"));
        // Before the file is opened, because opening a pipe would wait for a writer.
        if !fs::metadata(&self.file).map_err(unreadable)?.is_file() {
            return Err(unusable("cannot be uploaded: it is not a file"));
        }
        File::open(&self.file).map_err(unreadable)?;
        self.name().map(drop)
    }

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        session.goes_on_elsewhere();
        report.name = self.name()?.to_owned();
        let (file, progress) = (self.file.clone(), session.progress().clone());
        let hashed = tokio::task::spawn_blocking(move || checksum(&file, &progress)).await;
        let (hash, size) = hashed.map_err(|error| Failure::cut_short(&error))??;
        report.size = size;
        report.blake3 = hash.to_string();
        report.resource_name = format!("blobs/{hash}/{size}");
        let name = upload_name(&hash, size, Some(&report.name));
        let mut transfer = Transfer::new(session, &self.file, size, name, self.chunk);
        let begun = Instant::now();
        let ended = session.resuming(async || transfer.attempt(report).await).await;
        report.seconds = begun.elapsed().as_secs_f64();
        report.done = ended.is_ok();
        ended
    }
}

impl Upload {
    fn name(&self) -> Result<&str, Failure> {
        let own = || self.file.file_name().and_then(|name| name.to_str());
        let unnamed = || Failure::input(&self.file, "has a name that is not text; set one with --name");
        self.name.as_deref().or_else(own).ok_or_else(unnamed)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.done {
            return Ok(());
        }
        let (name, size) = (printable(&self.name), HumanBytes(self.size));
        match self.already_there {
            true => write!(f, "{name}: {size}, which the server already had")?,
            false => write!(f, "{name}: {size} in {:.1} s", self.seconds)?,
        }
        if !self.already_there && self.seconds > 0.0 {
            let rate = self.bytes_sent.load(Relaxed) as f64 / self.seconds;
            write!(f, " ({}/s)", HumanBytes(rate as u64))?;
        }
        if let Some(last) = self.resumed_from.last() {
            write!(f, ", resumed at {}", HumanBytes(*last))?;
        }
        write!(f, "\n    {}", printable(&self.resource_name))
    }
}

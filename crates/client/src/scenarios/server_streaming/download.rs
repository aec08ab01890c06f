//! A download that can be resumed. Its name may stand for other content by then. So the
//! header of the first answer says which content it is, and the client then requests
//! that content by its checksum.

pub(crate) mod content;
mod part;
mod sink;

use std::{
    fmt, fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    time::Instant,
};

use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;
use shared_process::is_unseen;
use shared_proto::bytestream::ReadResponse;
use timeline::words::printable;
use tonic::Streaming;

use self::{
    content::{Content, read},
    sink::{STDOUT, Sink},
};
use crate::{bar, config::Config, failure::Failure, scenario::Scenario, session::Session};

/// Download a file; repeat the command to resume
#[derive(Debug, Args)]
pub(crate) struct Download {
    /// Uploaded name, or blobs/BLAKE3/SIZE for certain content
    name: String,
    /// Output file, - for stdout [default: the name, in this directory]. Until the file is complete
    /// and verified, its content is in a file that ends in .part
    #[arg(long, short, value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_name: String,
    size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    blake3: String,
    output: String,
    bytes_received: u64,
    /// The offset of each resumption.
    resumed_from: Vec<u64>,
    seconds: f64,
    #[serde(skip)]
    done: bool,
}

impl Scenario for Download {
    type Report = Report;

    fn check(&self) -> Result<(), Failure> {
        self.output().map(drop)
    }

    fn takes_stdout(&self, _: &Config) -> bool {
        self.output_file.as_deref() == Some(Path::new(STDOUT))
    }

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        session.goes_on_elsewhere();
        report.name = self.resource();
        let output = self.output()?;
        report.output = output.display().to_string();
        let begun = Instant::now();
        let ended = self.fetch(session, output, report).await;
        report.seconds = begun.elapsed().as_secs_f64();
        report.done = ended.is_ok();
        ended
    }
}

impl Download {
    fn resource(&self) -> String {
        let is_resource = ["blobs/", "files/"].iter().any(|prefix| self.name.starts_with(prefix));
        if is_resource { self.name.clone() } else { format!("files/{}", self.name) }
    }

    /// Where to write the file. Fails when a file is there that has to stay.
    fn output(&self) -> Result<PathBuf, Failure> {
        let own = || default_output(&self.resource());
        let output = self.output_file.clone().or_else(own).ok_or_else(|| {
            Failure::input(
                Path::new(&self.name),
                "is not a valid file name here; choose one with --output-file",
            )
        })?;
        let unwritable = |kind, reason| {
            let error = io::Error::new(kind, reason);
            Err(Failure::output(&output.display().to_string(), &error))
        };
        if output == Path::new(STDOUT) {
            return match io::stdout().is_terminal() {
                true => unwritable(
                    io::ErrorKind::InvalidInput,
                    "stdout is a terminal; redirect it to a file or a program",
                ),
                false => Ok(output),
            };
        }
        // A symbolic link stays, and its target is replaced.
        let place = match fs::symlink_metadata(&output) {
            Ok(there) if there.is_symlink() => {
                let target = fs::canonicalize(&output);
                target.map_err(|error| Failure::output(&output.display().to_string(), &error))?
            }
            _ => output.clone(),
        };
        match fs::metadata(&place) {
            Ok(there) if there.is_dir() => unwritable(io::ErrorKind::IsADirectory, "it is a directory"),
            Ok(there) if !there.is_file() => unwritable(io::ErrorKind::InvalidInput, "it is no regular file"),
            Ok(_) if !self.force => unwritable(
                io::ErrorKind::AlreadyExists,
                "it already exists; --force replaces it, --output-file chooses another file",
            ),
            _ => Ok(place),
        }
    }

    async fn fetch(&self, session: &Session, output: PathBuf, report: &mut Report) -> Result<(), Failure> {
        let resource = &report.name;
        let (content, first) = session.resuming(async || read(session, resource, 0).await).await?;
        let Content { hash, size } = content;
        report.resource_name = content.to_string();
        (report.size, report.blake3) = (size, hash.to_string());
        let place = output.clone();
        let mut part = Some(blocking(move || Sink::open(&place, &hash, size)).await?);

        bar::of_bytes(session.progress(), size, "the server");
        let mut first = Some(first);
        session
            .resuming(async || {
                let length = part.as_ref().map_or(0, Sink::length);
                let (_, chunks) = match first.take() {
                    Some(chunks) if length == 0 => (content, chunks),
                    _ => read(session, &content.to_string(), length).await?,
                };
                if length > 0 {
                    report.resumed_from.push(length);
                }
                receive(session, chunks, &mut part, content, report).await
            })
            .await?;

        let replace = self.force;
        match part {
            Some(part) => blocking(move || part.finish(&hash, &output, replace)).await,
            None => Ok(()),
        }
    }
}

/// A file in the current directory, or `None` if the name is not clearly harmless.
fn default_output(resource: &str) -> Option<PathBuf> {
    let name = match resource.strip_prefix("blobs/") {
        Some(blob) => blob.split('/').next(),
        None => resource.strip_prefix("files/"),
    };
    let harmless = |name: &&str| {
        !matches!(*name, "" | "." | "..") && !name.contains(['/', '\\', ':']) && !name.contains(is_unseen)
    };
    // A content named like the option for stdout is still a file here.
    name.filter(harmless).map(|name| if name == STDOUT { Path::new(".").join(name) } else { name.into() })
}

async fn receive(
    session: &Session,
    mut chunks: Streaming<ReadResponse>,
    part: &mut Option<Sink>,
    content: Content,
    report: &mut Report,
) -> Result<(), Failure> {
    while let Some(ReadResponse { data }) = chunks.message().await? {
        let Some(mut open) = part.take() else { break };
        report.bytes_received += data.len() as u64;
        if data.len() as u64 > content.size - open.length() {
            return Err(Failure::answer(format!("more than the {} bytes of the content", content.size)));
        }
        let written = blocking(move || open.append(&data).map(|()| open)).await?;
        session.progress().set_position(written.length());
        session.progressed();
        *part = Some(written);
    }
    match part.as_ref().map_or(0, Sink::length) {
        length if length == content.size => Ok(()),
        length => Err(Failure::answer(format!("the answer ended after {length} of {} bytes", content.size))),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::cut_short(&error))?
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.done {
            return Ok(());
        }
        let output = printable(if self.output == STDOUT { "stdout" } else { &self.output });
        let size = HumanBytes(self.size);
        write!(f, "{output}: {size} in {:.1} s", self.seconds)?;
        if self.seconds > 0.0 {
            write!(f, " ({}/s)", HumanBytes((self.bytes_received as f64 / self.seconds) as u64))?;
        }
        if let Some(last) = self.resumed_from.last() {
            write!(f, ", resumed at {}", HumanBytes(*last))?;
        }
        write!(f, "\n    {}", printable(&self.resource_name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_place_is_a_plain_name_here() {
        let place = |resource| default_output(resource).map(|path| path.display().to_string());
        assert_eq!(place("files/report.pdf").as_deref(), Some("report.pdf"));
        assert_eq!(place("blobs/abc/7").as_deref(), Some("abc"));
        assert_eq!(place("files/-").as_deref(), Some("./-"));
        for hostile in
            ["files/", "files/..", "files/.", "files/a/b", "files//etc/passwd", "files/a\\b", "blobs//1"]
        {
            assert_eq!(place(hostile), None, "{hostile}");
        }
        assert_eq!(place("files/a\u{1b}[m"), None);
        assert_eq!(place("files/c:x"), None);
    }
}

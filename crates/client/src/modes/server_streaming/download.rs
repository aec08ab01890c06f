//! A download that goes on where it was. A name may stand for other content by
//! then; so the first answer's header tells which content it is, and from there
//! on it is asked for by its checksum.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Instant,
};

use blake3::Hash;
use indicatif::HumanBytes;
use serde::Serialize;
use shared_process::is_unseen;
use shared_proto::{
    RESOURCE_NAME_HEADER,
    bytestream::{ReadRequest, ReadResponse, byte_stream_client::ByteStreamClient},
};
use timeline::words::printable;
use tonic::{Code, Streaming, metadata::MetadataMap};

use super::super::client_streaming::upload::DEMONSTRATION;
use crate::{
    bar,
    failure::Failure,
    modes::tour::{Step, expect_code},
    part::Part,
    session::Session,
};

#[derive(Debug, Default, Serialize)]
pub(crate) struct Download {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_name: String,
    size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    blake3: String,
    output: String,
    bytes_received: u64,
    /// Where it went on, each time that it did.
    resumed_from: Vec<u64>,
    seconds: f64,
    #[serde(skip)]
    done: bool,
}

/// What to download, and where to.
#[derive(Debug)]
pub(crate) struct Plan {
    resource: String,
    output: PathBuf,
    replace: bool,
}

/// Content by its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Content {
    hash: Hash,
    size: u64,
}

impl Plan {
    pub(crate) fn new(name: &str, output: Option<&Path>, replace: bool) -> Result<Self, Failure> {
        let is_resource = ["blobs/", "files/"].iter().any(|prefix| name.starts_with(prefix));
        let resource = if is_resource { name.to_owned() } else { format!("files/{name}") };
        let output = match output {
            Some(output) => output.to_owned(),
            None => default_output(&resource).ok_or_else(|| {
                Failure::input(Path::new(name), "is no name for a file here; choose one with --output-file")
            })?,
        };
        let unwritable = |reason| {
            let error = io::Error::new(io::ErrorKind::AlreadyExists, reason);
            Err(Failure::output(&output.display().to_string(), &error))
        };
        match fs::symlink_metadata(&output) {
            Ok(there) if there.is_dir() => unwritable("it is a directory"),
            Ok(_) if !replace => {
                unwritable("it is there already; --force replaces it, --output-file names another place")
            }
            _ => Ok(Self { resource, output, replace }),
        }
    }
}

/// A name in the current directory, or none if there could be doubt.
fn default_output(resource: &str) -> Option<PathBuf> {
    let name = match resource.strip_prefix("blobs/") {
        Some(blob) => blob.split('/').next(),
        None => resource.strip_prefix("files/"),
    };
    let harmless = |name: &&str| {
        !matches!(*name, "" | "." | "..") && !name.contains(['/', '\\', ':']) && !name.contains(is_unseen)
    };
    name.filter(harmless).map(PathBuf::from)
}

pub(crate) async fn download(session: &Session, plan: &Plan, report: &mut Download) -> Result<(), Failure> {
    report.name.clone_from(&plan.resource);
    report.output = plan.output.display().to_string();
    let begun = Instant::now();
    let ended = fetch(session, plan, report).await;
    report.seconds = begun.elapsed().as_secs_f64();
    report.done = ended.is_ok();
    ended
}

async fn fetch(session: &Session, plan: &Plan, report: &mut Download) -> Result<(), Failure> {
    let (content, first) = session.resuming(async || read(session, &plan.resource, 0).await).await?;
    let Content { hash, size } = content;
    report.resource_name = content.to_string();
    (report.size, report.blake3) = (size, hash.to_string());
    let output = plan.output.clone();
    let mut part = Some(blocking(move || Part::open(&output, &hash, size)).await?);

    bar::of_bytes(session.progress(), size);
    let mut first = Some(first);
    session
        .resuming(async || {
            let length = part.as_ref().map_or(0, Part::length);
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

    let (output, replace) = (plan.output.clone(), plan.replace);
    match part {
        Some(part) => blocking(move || part.finish(&hash, &output, replace)).await,
        None => Ok(()),
    }
}

/// Begins to read, and finds out what.
async fn read(
    session: &Session,
    resource: &str,
    offset: u64,
) -> Result<(Content, Streaming<ReadResponse>), Failure> {
    let request =
        ReadRequest { resource_name: resource.to_owned(), read_offset: offset as i64, read_limit: 0 };
    let mut client = ByteStreamClient::new(session.channel());
    let response = client.read(session.request(request)).await?;
    Ok((Content::of(response.metadata())?, response.into_inner()))
}

async fn receive(
    session: &Session,
    mut chunks: Streaming<ReadResponse>,
    part: &mut Option<Part>,
    content: Content,
    report: &mut Download,
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
    match part.as_ref().map_or(0, Part::length) {
        length if length == content.size => Ok(()),
        length => Err(Failure::answer(format!("the answer ended after {length} of {} bytes", content.size))),
    }
}

impl Content {
    /// A server that is none of ours does not say what it sends: then there is
    /// nothing to compare it with.
    fn of(metadata: &MetadataMap) -> Result<Self, Failure> {
        let header = metadata.get(RESOURCE_NAME_HEADER).and_then(|header| header.to_str().ok());
        let content = header.and_then(|name| {
            let (hash, size) = name.strip_prefix("blobs/")?.split_once('/')?;
            Some(Self { hash: Hash::from_hex(hash).ok()?, size: size.parse().ok()? })
        });
        content.ok_or_else(|| {
            Failure::answer(format!("no header {RESOURCE_NAME_HEADER} that names the content"))
        })
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blobs/{}/{}", self.hash, self.size)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::cut_short(&error))?
}

impl fmt::Display for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.done {
            return Ok(());
        }
        let (output, size) = (printable(&self.output), HumanBytes(self.size));
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

pub(super) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "A download is pulled: the server reads from its disk what the client has room for. The header says \
         which content the name stands for, so that a client that was cut off goes on with the same.",
    );
    let (content, mut chunks) = match read(session, &format!("files/{DEMONSTRATION}"), 0).await {
        Ok(read) => read,
        Err(failure) => {
            let what = "a file that nobody has uploaded yet";
            steps.push(expect_code("download", Err(failure), Code::NotFound, what)?);
            return Ok(());
        }
    };
    let mut hasher = blake3::Hasher::new();
    while let Some(ReadResponse { data }) = chunks.message().await? {
        hasher.update(&data);
    }
    if (hasher.finalize(), hasher.count()) != (content.hash, content.size) {
        return Err(Failure::damaged("what has arrived does not have its checksum"));
    }
    steps.push(Step::new("download", format!("{} bytes that have their checksum", content.size)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_place_is_a_plain_name_here() {
        let place = |resource| default_output(resource).map(|path| path.display().to_string());
        assert_eq!(place("files/report.pdf").as_deref(), Some("report.pdf"));
        assert_eq!(place("blobs/abc/7").as_deref(), Some("abc"));
        for hostile in
            ["files/", "files/..", "files/.", "files/a/b", "files//etc/passwd", "files/a\\b", "blobs//1"]
        {
            assert_eq!(place(hostile), None, "{hostile}");
        }
        assert_eq!(place("files/a\u{1b}[m"), None);
        assert_eq!(place("files/c:x"), None);
    }
}

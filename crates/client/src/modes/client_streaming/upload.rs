//! An upload that goes on where it was, whoever was lost in between. Nothing is
//! kept here for that: the upload's id follows from the content and the name,
//! and how far it got is for the server to say.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use blake3::{Hash, Hasher};
use bytes::Bytes;
use indicatif::{HumanBytes, ProgressBar};
use serde::{Serialize, Serializer};
use shared_proto::Reason;
use shared_proto::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, WriteRequest, byte_stream_client::ByteStreamClient,
};
use timeline::words::printable;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::Code;
use uuid::Uuid;

use crate::{bar, failure::Failure, modes::tour::Step, session::Session};

/// How many chunks may be read ahead of what the network takes.
const AHEAD: usize = 4;

/// How much of a file is read at a time for its checksum.
const HASHED: usize = 1 << 20;

/// How often a server may say that it is somewhere else before that is a
/// failure. Once is normal: it still had to write what had arrived.
const CORRECTIONS: u32 = 3;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Upload {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_name: String,
    size: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    blake3: String,
    /// What was given to the transport, repetitions included.
    #[serde(serialize_with = "count")]
    bytes_sent: Arc<AtomicU64>,
    /// Where it went on, each time that it did.
    resumed_from: Vec<u64>,
    /// The server had the content before it was sent.
    already_there: bool,
    /// Without the checksum.
    seconds: f64,
    #[serde(skip)]
    done: bool,
}

fn count<S: Serializer>(count: &AtomicU64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(count.load(Relaxed))
}

/// What is to be uploaded: a file that can be read, and a name for it.
#[derive(Debug)]
pub(crate) struct Plan {
    file: PathBuf,
    name: String,
    chunk: usize,
}

impl Plan {
    pub(crate) fn new(file: &Path, name: Option<&str>, chunk: usize) -> Result<Self, Failure> {
        let unusable = |reason: &str| Failure::input(file, reason);
        if file == Path::new("-") {
            let reason =
                "cannot be uploaded: size and checksum go ahead of the bytes; put it into a file first";
            return Err(unusable(reason));
        }
        let unreadable = |error| Failure::input(file, format!("cannot be read: {error}"));
        // Before it is opened, for which a pipe would wait.
        if !fs::metadata(file).map_err(unreadable)?.is_file() {
            return Err(unusable("cannot be uploaded: it is no file"));
        }
        File::open(file).map_err(unreadable)?;
        let own = || file.file_name().and_then(|name| name.to_str());
        let name =
            name.or_else(own).ok_or_else(|| unusable("has no name that is text; give it one with --name"));
        Ok(Self { file: file.to_owned(), name: name?.to_owned(), chunk })
    }
}

pub(crate) async fn upload(session: &Session, plan: &Plan, report: &mut Upload) -> Result<(), Failure> {
    report.name.clone_from(&plan.name);
    let (file, progress) = (plan.file.clone(), session.progress().clone());
    let hashed = tokio::task::spawn_blocking(move || checksum(&file, &progress)).await;
    let (hash, size) = hashed.map_err(|error| Failure::cut_short(&error))??;
    report.size = size;
    report.blake3 = hash.to_string();
    report.resource_name = format!("blobs/{hash}/{size}");
    let transfer = Transfer { session, plan, size, name: upload_name(&hash, size, &plan.name) };
    let begun = Instant::now();
    let mut known = 0;
    let ended = session.resuming(async || transfer.attempt(&mut known, report).await).await;
    report.seconds = begun.elapsed().as_secs_f64();
    report.done = ended.is_ok();
    ended
}

/// Reads the whole file, on one core while another computes; what it is by now
/// is what is uploaded. Blocks.
fn checksum(file: &Path, progress: &ProgressBar) -> Result<(Hash, u64), Failure> {
    bar::of_bytes(progress, fs::metadata(file).map_or(0, |file| file.len()));
    progress.set_message("checksum");
    let (mut hasher, mut chunks) = (Hasher::new(), read_ahead(file, 0, u64::MAX, HASHED));
    while let Some(chunk) = chunks.blocking_recv() {
        let chunk = chunk?;
        hasher.update(&chunk);
        progress.inc(chunk.len() as u64);
    }
    Ok((hasher.finalize(), hasher.count()))
}

/// The same for the same content under the same name, whoever uploads it.
fn upload_name(hash: &Hash, size: u64, name: &str) -> String {
    let mut hasher = Hasher::new_derive_key("Four Modes, the id of an upload");
    hasher.update(hash.as_bytes()).update(name.as_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    let id = uuid::Builder::from_custom_bytes(id).into_uuid();
    resource_name(&id, hash, size, name)
}

fn resource_name(id: &Uuid, hash: &Hash, size: u64, name: &str) -> String {
    format!("uploads/{id}/blobs/{hash}/{size}/{name}")
}

struct Transfer<'a> {
    session: &'a Session,
    plan: &'a Plan,
    size: u64,
    /// Of the upload.
    name: String,
}

impl Transfer<'_> {
    /// Asks how far the upload got, and sends the rest.
    async fn attempt(&self, known: &mut u64, report: &mut Upload) -> Result<(), Failure> {
        let mut corrections = 0;
        loop {
            let QueryWriteStatusResponse { committed_size, complete } = self.query().await?;
            let committed = u64::try_from(committed_size).ok().filter(|committed| *committed <= self.size);
            let committed = committed.ok_or_else(|| {
                Failure::answer(format!("{committed_size} of {} bytes committed", self.size))
            })?;
            if committed > *known {
                *known = committed;
                self.session.progressed();
            }
            if complete {
                // Perhaps by an attempt whose answer was lost.
                report.already_there = report.bytes_sent.load(Relaxed) == 0;
                return Ok(());
            }
            if (1..self.size).contains(&committed) {
                report.resumed_from.push(committed);
            }
            match self.write(committed, report).await {
                Err(failure)
                    if failure.has_reason(Reason::OffsetNotCommittedSize) && corrections < CORRECTIONS =>
                {
                    corrections += 1;
                }
                ended => return ended,
            }
        }
    }

    async fn query(&self) -> Result<QueryWriteStatusResponse, Failure> {
        let request = QueryWriteStatusRequest { resource_name: self.name.clone() };
        let mut client = ByteStreamClient::new(self.session.channel());
        let status = client.query_write_status(self.session.unary_request(request)).await;
        match status.map_err(Failure::from) {
            Ok(status) => Ok(status.into_inner()),
            Err(failure) if failure.is_status(Code::NotFound) => {
                Ok(QueryWriteStatusResponse { committed_size: 0, complete: false })
            }
            Err(failure) => Err(failure),
        }
    }

    async fn write(&self, from: u64, report: &mut Upload) -> Result<(), Failure> {
        let (failed, failure) = oneshot::channel();
        let sent_before = report.bytes_sent.load(Relaxed);
        let requests = self.requests(from, report.bytes_sent.clone(), failed);
        let mut client = ByteStreamClient::new(self.session.channel());
        let response = tokio::select! {
            biased;
            // As with readings: the stream does not end, the call is dropped.
            Ok(failure) = failure => return Err(failure),
            response = client.write(self.session.request(requests)) => response?.into_inner(),
        };
        if u64::try_from(response.committed_size) != Ok(self.size) {
            let (committed, size) = (response.committed_size, self.size);
            return Err(Failure::answer(format!("finished, and {committed} of {size} bytes committed")));
        }
        // Somebody else was faster when the answer came before the end.
        let sent = report.bytes_sent.load(Relaxed);
        report.already_there = self.size > 0 && (sent == 0 || sent - sent_before < self.size - from);
        Ok(())
    }

    fn requests(
        &self,
        from: u64,
        sent: Arc<AtomicU64>,
        failed: oneshot::Sender<Failure>,
    ) -> impl Stream<Item = WriteRequest> + use<> {
        let mut chunks = read_ahead(&self.plan.file, from, self.size, self.plan.chunk);
        let (file, mut resource_name, size) = (self.plan.file.clone(), self.name.clone(), self.size);
        let progress = self.session.progress().clone();
        bar::of_bytes(&progress, size);
        progress.set_message("upload");
        progress.set_position(from);
        async_stream::stream! {
            let mut offset = from;
            loop {
                let data = match chunks.recv().await {
                    Some(data) => data,
                    // All was committed; only the end was not said.
                    None if offset == size => Ok(Bytes::new()),
                    None => {
                        let reason = "cannot be read: it has become shorter since the upload began";
                        Err(Failure::input(&file, reason))
                    }
                };
                let data = match data {
                    Ok(data) => data,
                    Err(failure) => {
                        let _ = failed.send(failure);
                        return std::future::pending().await;
                    }
                };
                let write_offset = offset;
                offset += data.len() as u64;
                sent.fetch_add(data.len() as u64, Relaxed);
                progress.set_position(offset);
                let finish_write = offset == size;
                yield WriteRequest {
                    resource_name: std::mem::take(&mut resource_name),
                    write_offset: write_offset as i64,
                    finish_write,
                    data,
                };
                if finish_write {
                    return;
                }
            }
        }
    }
}

/// Reads a file in a thread of its own, in chunks, up to `to` or to its end.
fn read_ahead(file: &Path, from: u64, to: u64, chunk: usize) -> mpsc::Receiver<Result<Bytes, Failure>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let path = file.to_owned();
    std::thread::spawn(move || {
        let chunks = || -> io::Result<()> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(from))?;
            let mut file = file.take(to - from);
            loop {
                let mut bytes = Vec::with_capacity(file.limit().min(chunk as u64) as usize);
                file.by_ref().take(chunk as u64).read_to_end(&mut bytes)?;
                if bytes.is_empty() || sender.blocking_send(Ok(bytes.into())).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = chunks() {
            // Without a receiver the call is over, and so is the interest.
            let _ = sender.blocking_send(Err(Failure::input(&path, format!("cannot be read: {error}"))));
        }
    });
    receiver
}

impl fmt::Display for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.done {
            return Ok(());
        }
        let (name, size) = (printable(&self.name), HumanBytes(self.size));
        match self.already_there {
            true => write!(f, "{name}: {size}, which the server had already")?,
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

/// What the demonstrations upload and download.
pub(crate) const DEMONSTRATION: &str = "four-modes-demonstration.txt";

pub(super) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    const CHUNK: usize = 1 << 10;
    session.note(
        "An upload is a stream, too, but its end means nothing: a client that cancels ends in the same way. \
         So the last message says finish_write, and the answer comes when size and checksum are right and \
         the content is on disk. The server says where to begin; what it has already it does not want again.",
    );
    let content = Bytes::from("A line of the file that shows how to upload.\n".repeat(60));
    let (hash, size) = (blake3::hash(&content), content.len() as u64);
    let name = upload_name(&hash, size, DEMONSTRATION);
    for time in ["first", "second"] {
        let mut client = ByteStreamClient::new(session.channel());
        let query = QueryWriteStatusRequest { resource_name: name.clone() };
        let complete = match client.query_write_status(session.unary_request(query)).await {
            Ok(status) => status.into_inner().complete,
            Err(status) if status.code() == Code::NotFound => false,
            Err(status) => return Err(status.into()),
        };
        if complete {
            steps.push(Step::new(
                "upload",
                format!("the {time} time the server has all {size} bytes already"),
            ));
            continue;
        }
        let offsets = (0..content.len()).step_by(CHUNK);
        let requests = offsets.map(|offset| WriteRequest {
            resource_name: if offset == 0 { name.clone() } else { String::new() },
            write_offset: offset as i64,
            finish_write: offset + CHUNK >= content.len(),
            data: content.slice(offset..content.len().min(offset + CHUNK)),
        });
        let requests = tokio_stream::iter(requests.collect::<Vec<_>>());
        let response = client.write(session.request(requests)).await?.into_inner();
        if u64::try_from(response.committed_size) != Ok(size) {
            return Err(Failure::answer(format!("{} of {size} bytes committed", response.committed_size)));
        }
        steps.push(Step::new("upload", format!("the {time} time {size} bytes, in messages of {CHUNK}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_upload_follows_from_content_and_name() {
        let name = |content: &str, name| upload_name(&blake3::hash(content.as_bytes()), 1, name);
        assert_eq!(name("a", "x"), name("a", "x"));
        assert_ne!(name("a", "x")[..44], name("b", "x")[..44]);
        assert_ne!(name("a", "x")[..44], name("a", "y")[..44]);
    }
}

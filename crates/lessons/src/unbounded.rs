//! A server with no limits under a burst.

use std::fmt;

use anyhow::bail;
use timeline::Diagram;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{self, server::Router},
};

use crate::{
    Lesson, half,
    proto::{
        UploadRequest, UploadResponse,
        upload_service_client::UploadServiceClient,
        upload_service_server::{UploadService, UploadServiceServer},
    },
    serve::serve,
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "unbounded",
    line: "a server without limits keeps everything that a burst of clients sends",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "By default tonic accepts any number of connections, and any number of calls on each. A handler \
          that keeps what it receives keeps it for all calls at once.",
    recognise: "The server's memory follows the number of its callers. The system kills the server when all \
                clients call at once, and again when they all reconnect.",
    cure: "Limit the number of open calls and the size of each. Refuse further calls at once with \
           RESOURCE_EXHAUSTED, before reading them. Set `max_concurrent_streams`, which limits a single \
           connection.",
    elsewhere: "connectrpc 0.9 has the same trap: it accepts 200 calls on a connection, and does not limit \
                connections.",
};

struct Broken(Memory);

#[tonic::async_trait]
impl UploadService for Broken {
    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let mut chunks = request.into_inner();
        let mut file = self.0.file();
        while let Some(chunk) = chunks.message().await? {
            // The trap: nobody counts how many of these there are.
            file.extend(&chunk.data);
        }
        Ok(Response::new(UploadResponse { bytes: file.len() }))
    }
}

fn broken_server(memory: Memory) -> Router {
    transport::Server::builder().add_service(UploadServiceServer::new(Broken(memory)))
}

struct Fixed {
    memory: Memory,
    places: Semaphore,
}

#[tonic::async_trait]
impl UploadService for Fixed {
    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        // Kept until the end of the call. Whoever gets none is told at once: a
        // queue would only be another thing that grows.
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Status::resource_exhausted("32 uploads are on their way: come again later"));
        };
        let mut chunks = request.into_inner();
        let mut file = self.memory.file();
        while let Some(chunk) = chunks.message().await? {
            if file.len() + chunk.data.len() as u64 > 1 << 20 {
                return Err(Status::resource_exhausted("an upload has 1 MiB at most"));
            }
            file.extend(&chunk.data);
        }
        Ok(Response::new(UploadResponse { bytes: file.len() }))
    }
}

fn fixed_server(memory: Memory) -> Router {
    let service = UploadServiceServer::new(Fixed { memory, places: Semaphore::new(32) });
    transport::Server::builder().max_concurrent_streams(100).add_service(service)
}

/// What a server did with uploads that came all at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How many it took.
    pub taken: u64,
    /// How many it refused.
    pub refused: u64,
    /// The most bytes that it kept at a time.
    pub kept: u64,
    /// What it said to one more.
    pub next: Code,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { taken, refused, kept, .. } = self;
        let kept = kept >> 20;
        match refused {
            0 => write!(
                f,
                "{kept} MiB of memory for a burst of {taken} uploads; ten times as many take \
                            ten times as much, until none is left"
            ),
            _ => write!(
                f,
                "{kept} MiB of memory for {taken} uploads at a time, however many come; {refused} were \
                            refused at once"
            ),
        }
    }
}

/// Takes whatever comes.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    let memory = Memory::default();
    burst(broken_server(memory.clone()), memory, diagram).await
}

/// Takes what it has room for.
///
/// # Errors
///
/// When the lesson cannot be run.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    let memory = Memory::default();
    burst(fixed_server(memory.clone()), memory, diagram).await
}

const CONNECTIONS: u64 = 8;
const UPLOADS: u64 = 64 * CONNECTIONS;
/// In bytes.
const CHUNK: usize = 64 << 10;

/// Begins many uploads, and another one when each of them was taken or refused.
async fn burst(router: Router, memory: Memory, diagram: Diagram) -> anyhow::Result<Outcome> {
    let server = serve(router).await?;
    let mut uploads = JoinSet::new();
    let mut going_on = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = UploadServiceClient::new(server.connect().await?);
        for _ in 0..UPLOADS / CONNECTIONS {
            let mut client = client.clone();
            let (chunks, to_send) = mpsc::channel(1);
            chunks.send(chunk()).await?;
            going_on.push(chunks);
            uploads.spawn(async move { client.upload(ReceiverStream::new(to_send)).await });
        }
    }
    diagram.at_client(&format!("{UPLOADS} uploads begin, each with {} KiB", CHUNK >> 10));

    let (mut used, mut refused) = (memory.used.subscribe(), 0);
    let kept = loop {
        let Used { files, bytes } = *used.borrow_and_update();
        if files + refused == UPLOADS && bytes == files * CHUNK as u64 {
            break bytes;
        }
        tokio::select! {
            changed = used.changed() => changed?,
            Some(ended) = uploads.join_next() => match ended? {
                Err(status) if status.code() == Code::ResourceExhausted => refused += 1,
                other => bail!("an upload that goes on has ended: {other:?}"),
            },
        }
    };
    let taken = UPLOADS - refused;
    diagram.at_server(&format!("{taken} uploads at a time, {} MiB of memory; {refused} refused", kept >> 20));
    diagram.at_client("then one more");
    let mut client = UploadServiceClient::new(diagram.watch(server.connect().await?));
    let next = match client.upload(tokio_stream::once(chunk())).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    };
    Ok(Outcome { taken, refused, kept, next })
}

fn chunk() -> UploadRequest {
    UploadRequest { data: vec![0; CHUNK], finish: true }
}

/// What the files of all uploads take up.
#[derive(Clone, Default)]
struct Memory {
    used: watch::Sender<Used>,
}

#[derive(Default, Clone, Copy)]
struct Used {
    files: u64,
    bytes: u64,
}

/// A file in memory.
struct File<'a> {
    memory: &'a Memory,
    content: Vec<u8>,
}

impl Memory {
    fn file(&self) -> File<'_> {
        self.used.send_modify(|used| used.files += 1);
        File { memory: self, content: Vec::new() }
    }
}

impl File<'_> {
    fn extend(&mut self, data: &[u8]) {
        self.content.extend_from_slice(data);
        self.memory.used.send_modify(|used| used.bytes += data.len() as u64);
    }

    fn len(&self) -> u64 {
        self.content.len() as u64
    }
}

impl Drop for File<'_> {
    fn drop(&mut self) {
        self.memory.used.send_modify(|used| {
            used.files -= 1;
            used.bytes -= self.content.len() as u64;
        });
    }
}

//! A cancelled upload reaches the handler as a clean end.

use std::fmt;

use anyhow::Context as _;
use timeline::Diagram;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport};

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
    name: "eof-is-not-commit",
    line: "a cancelled upload looks like a complete one",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "A client that cancels (a dropped future, a deadline, a handled Ctrl-C) resets its stream. In the \
          handler, `message()` then returns `Ok(None)`. A client that is done causes the same `Ok(None)`.",
    recognise: "Now and then a file, a batch or an import is too short. The log shows nothing, and the \
                handler reports success.",
    cure: "Let the client mark its last message: with `finish`, a count or a checksum. Commit only then. \
           Answer a stream that ends without the mark with an error.",
    elsewhere: "connectrpc 0.9 does not have it: in the handler, the stream of a cancelled call ends with an \
                error. The client of `grpc` 0.9 makes it worse: it ends a call that it cancels as it ends a \
                complete one.",
};

struct Broken(Store);

#[tonic::async_trait]
impl UploadService for Broken {
    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let mut chunks = request.into_inner();
        let mut file = self.0.new_file();
        while let Some(chunk) = chunks.message().await? {
            file.append(&chunk.data);
        }
        // The trap: `None` says that no more comes, not that this was all.
        let bytes = file.commit();
        Ok(Response::new(UploadResponse { bytes }))
    }
}

struct Fixed(Store);

#[tonic::async_trait]
impl UploadService for Fixed {
    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let mut chunks = request.into_inner();
        let mut file = self.0.new_file();
        let mut finished = false;
        while let Some(chunk) = chunks.message().await? {
            file.append(&chunk.data);
            finished = chunk.finish;
        }
        if !finished {
            return Err(Status::aborted("the upload ended without `finish`: send it again"));
        }
        let bytes = file.commit();
        Ok(Response::new(UploadResponse { bytes }))
    }
}

/// Two uploads of four chunks: a complete one, and one that the client cancels after two.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the server did with the complete upload.
    pub whole: Upload,
    /// What the server did with the cancelled upload.
    pub cancelled: Upload,
}

/// What a server did with an upload, and how many bytes it had.
#[derive(Debug, PartialEq, Eq)]
pub enum Upload {
    /// The server stored it as a file.
    Stored(u64),
    /// The server discarded it.
    Discarded(u64),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cancelled {
            Upload::Stored(bytes) => {
                write!(f, "the client cancelled, and half a file ({bytes} bytes) is stored as a complete one")
            }
            Upload::Discarded(bytes) => {
                write!(f, "the client cancelled, and its {bytes} bytes are discarded")
            }
        }
    }
}

/// Stores a cancelled upload too.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    let (store, events) = Store::new(&diagram);
    two_uploads(UploadServiceServer::new(Broken(store)), events, diagram).await
}

/// Stores only finished uploads.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    let (store, events) = Store::new(&diagram);
    two_uploads(UploadServiceServer::new(Fixed(store)), events, diagram).await
}

/// One client sends all four chunks, another one gives up after two.
async fn two_uploads(
    service: UploadServiceServer<impl UploadService>,
    mut events: mpsc::UnboundedReceiver<Event>,
    diagram: Diagram,
) -> anyhow::Result<Outcome> {
    let server = serve(transport::Server::builder().add_service(service)).await?;
    let mut client = UploadServiceClient::new(diagram.watch(server.connect().await?));
    let chunk = |text: &str, finish| UploadRequest { data: text.into(), finish };

    let four = [chunk("one ", false), chunk("two ", false), chunk("three ", false), chunk("four", true)];
    client.upload(tokio_stream::iter(four)).await?;
    let whole = ended(&mut events).await?;

    let (chunks, to_send) = mpsc::channel(2);
    let call = tokio::spawn(async move { client.upload(ReceiverStream::new(to_send)).await });
    chunks.send(chunk("one ", false)).await?;
    chunks.send(chunk("two ", false)).await?;
    while events.recv().await != Some(Event::Appended(2)) {}
    call.abort();
    let cancelled = ended(&mut events).await?;
    Ok(Outcome { whole, cancelled })
}

/// Waits for the end of the next upload.
async fn ended(events: &mut mpsc::UnboundedReceiver<Event>) -> anyhow::Result<Upload> {
    loop {
        match events.recv().await.context("the server is gone")? {
            Event::Appended(_) => {}
            Event::Ended(upload) => return Ok(upload),
        }
    }
}

/// Stores the files, and reports what happens to them.
struct Store {
    events: mpsc::UnboundedSender<Event>,
    diagram: Diagram,
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// The number of chunks that a file has now.
    Appended(usize),
    Ended(Upload),
}

/// An incomplete file. Dropping it before it is committed removes it.
struct NewFile<'a> {
    store: &'a Store,
    chunks: usize,
    bytes: u64,
    committed: bool,
}

impl Store {
    fn new(diagram: &Diagram) -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (events, told) = mpsc::unbounded_channel();
        (Self { events, diagram: diagram.clone() }, told)
    }

    fn new_file(&self) -> NewFile<'_> {
        NewFile { store: self, chunks: 0, bytes: 0, committed: false }
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more when the lesson is over.
        let _ = self.events.send(event);
    }
}

impl NewFile<'_> {
    fn append(&mut self, data: &[u8]) {
        self.chunks += 1;
        self.bytes += data.len() as u64;
        self.store.tell(Event::Appended(self.chunks));
    }

    fn commit(mut self) -> u64 {
        self.committed = true;
        self.bytes
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        let (end, upload) = match self.committed {
            true => ("stored as a file", Upload::Stored(self.bytes)),
            false => ("discarded", Upload::Discarded(self.bytes)),
        };
        self.store.diagram.at_server(&format!("the stream has ended: {} bytes {end}", self.bytes));
        self.store.tell(Event::Ended(upload));
    }
}

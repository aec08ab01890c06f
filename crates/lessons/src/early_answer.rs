//! The server answers in the middle of an upload; the client reports the wrong
//! error.

use std::{fmt, time::Duration};

use grpc_wire::code_name;
use timeline::{Diagram, Tap};
use tokio::{
    join,
    sync::mpsc::{self, error::SendError},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming, transport};

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
    name: "early-answer",
    line: "the server answers in the middle of an upload, and the client reports the wrong error",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "A server may answer before it has read everything. Nothing reads the remaining messages, so the \
          client's next `send` fails. A client that reports this error never reads the answer, and only the \
          answer has the reason.",
    recognise: "Clients report \"channel closed\", \"broken pipe\" or \"cannot send\" for uploads. The \
                server's log shows that it refused them for a good reason, or even stored them.",
    cure: "When `send` fails, stop sending and await the answer. Only the answer says how the call ended.",
    elsewhere: "connectrpc 0.9 has the same trap: a late `send` fails with an error of its own, and only \
                `message()` returns the reason. A late `send` of the client of `grpc` 0.9 fails without any \
                text.",
};

async fn upload_broken(mut client: UploadServiceClient<Tap>) -> anyhow::Result<UploadResponse> {
    let (send, chunks) = mpsc::channel(1);
    let (answer, sent) = join!(client.upload(ReceiverStream::new(chunks)), send_file(send));
    // The trap: once the server has answered, nobody takes what is sent.
    sent?;
    Ok(answer?.into_inner())
}

async fn upload_fixed(mut client: UploadServiceClient<Tap>) -> anyhow::Result<UploadResponse> {
    let (send, chunks) = mpsc::channel(1);
    // What could not be sent is of no interest: the answer says what became of it.
    let (answer, _) = join!(client.upload(ReceiverStream::new(chunks)), send_file(send));
    Ok(answer?.into_inner())
}

/// Twenty chunks, from a disk that is slower than the server's answer.
async fn send_file(send: mpsc::Sender<UploadRequest>) -> Result<(), SendError<UploadRequest>> {
    for n in 1..=20 {
        send.send(UploadRequest { data: vec![0; 1024], finish: n == 20 }).await?;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// What the client can tell its user.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was taken.
    Done,
    /// An error of its own making.
    OwnError(String),
    /// What the server answered.
    Refused(Code, String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => write!(f, "the upload is done"),
            Self::OwnError(error) => {
                write!(f, "the client reports {error:?}, and the server's reason is lost")
            }
            Self::Refused(code, message) => {
                write!(f, "the client reports the server's reason: {}, {message}", code_name(*code))
            }
        }
    }
}

/// With a client that looks at its own end first.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    told_by(async |client| upload_broken(client).await, diagram).await
}

/// With a client that looks at the answer.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    told_by(async |client| upload_fixed(client).await, diagram).await
}

async fn told_by(
    upload: impl AsyncFnOnce(UploadServiceClient<Tap>) -> anyhow::Result<UploadResponse>,
    diagram: Diagram,
) -> anyhow::Result<Outcome> {
    let server = serve(transport::Server::builder().add_service(UploadServiceServer::new(SmallDisk))).await?;
    let client = UploadServiceClient::new(diagram.watch(server.connect().await?));
    Ok(match upload(client).await {
        Ok(_) => Outcome::Done,
        Err(error) => match error.downcast_ref::<Status>() {
            Some(status) => Outcome::Refused(status.code(), status.message().to_owned()),
            None => Outcome::OwnError(error.to_string()),
        },
    })
}

/// A server that has room for one chunk.
struct SmallDisk;

#[tonic::async_trait]
impl UploadService for SmallDisk {
    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let mut chunks = request.into_inner();
        let mut bytes = 0;
        while let Some(chunk) = chunks.message().await? {
            bytes += chunk.data.len() as u64;
            if bytes > 1024 {
                return Err(Status::resource_exhausted("the disk is full"));
            }
        }
        Ok(Response::new(UploadResponse { bytes }))
    }
}

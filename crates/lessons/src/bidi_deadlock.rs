//! Both sides wait for the other's first word.

use std::{fmt, pin::Pin};

use timeline::Diagram;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport};

use crate::{
    Lesson, PATIENCE, half,
    proto::{
        ChatRequest, ChatResponse,
        chat_service_client::ChatServiceClient,
        chat_service_server::{ChatService, ChatServiceServer},
    },
    serve::serve,
};

/// The trap, and the way around it.
pub static LESSON: Lesson = Lesson {
    name: "bidi-deadlock",
    line: "both sides of a conversation wait for the first message of the other",
    broken: |diagram| half(broken(diagram)),
    fixed: |diagram| half(fixed(diagram)),
    why: "The client's call returns when the server's headers arrive. tonic sends them when the handler \
          returns. A handler that first reads a message waits for the client, and the client waits for the \
          headers.",
    recognise: "A bidirectional call hangs at its start. The client never gets past `client.chat(…).await`. \
                The server has the call, but no message.",
    cure: "On the server, return the response stream at once and read the first message inside it. On the \
           client, put the first message into the request stream before the call.",
    elsewhere: "connectrpc 0.9 has half of it: its server sends no headers before the handler returns, but \
                its client sends messages before the headers arrive. So does the client of `grpc` 0.9.",
};

type Answers = Pin<Box<dyn Stream<Item = Result<ChatResponse, Status>> + Send>>;

struct Broken;

#[tonic::async_trait]
impl ChatService for Broken {
    type ChatStream = Answers;

    async fn chat(&self, request: Request<Streaming<ChatRequest>>) -> Result<Response<Answers>, Status> {
        let mut texts = request.into_inner();
        // The trap: no headers go out before this function returns.
        let name = name(texts.message().await?)?;
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            while let Some(ChatRequest { text }) = texts.message().await? {
                yield ChatResponse { text: format!("{name}: {text}") };
            }
        })))
    }
}

struct Fixed;

#[tonic::async_trait]
impl ChatService for Fixed {
    type ChatStream = Answers;

    async fn chat(&self, request: Request<Streaming<ChatRequest>>) -> Result<Response<Answers>, Status> {
        let mut texts = request.into_inner();
        Ok(Response::new(Box::pin(async_stream::try_stream! {
            let name = name(texts.message().await?)?;
            while let Some(ChatRequest { text }) = texts.message().await? {
                yield ChatResponse { text: format!("{name}: {text}") };
            }
        })))
    }
}

/// The first message has the name of the client.
fn name(first: Option<ChatRequest>) -> Result<String, Status> {
    first.map(|request| request.text).ok_or_else(|| Status::invalid_argument("say first who you are"))
}

/// The result of a conversation.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Neither side sent anything for a long time.
    Hung,
    /// The answer of the server.
    Answered(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hung => write!(
                f,
                "hung: the client waits for the headers, the server for a message; the lesson gives up after \
                 {PATIENCE:?}, these two never"
            ),
            Self::Answered(text) => write!(f, "the server answered {text:?}"),
        }
    }
}

/// With a server that reads first.
pub async fn broken(diagram: Diagram) -> anyhow::Result<Outcome> {
    match timeout(PATIENCE, converse(ChatServiceServer::new(Broken), diagram)).await {
        Ok(answer) => answer.map(Outcome::Answered),
        Err(_) => Ok(Outcome::Hung),
    }
}

/// With a server that answers first.
pub async fn fixed(diagram: Diagram) -> anyhow::Result<Outcome> {
    converse(ChatServiceServer::new(Fixed), diagram).await.map(Outcome::Answered)
}

async fn converse(service: ChatServiceServer<impl ChatService>, diagram: Diagram) -> anyhow::Result<String> {
    let server = serve(transport::Server::builder().add_service(service)).await?;
    let mut client = ChatServiceClient::new(diagram.watch(server.connect().await?));
    let (say, texts) = mpsc::channel(4);
    // The other half of the trap: this returns when the headers are there.
    let mut answers = client.chat(ReceiverStream::new(texts)).await?.into_inner();
    say.send(ChatRequest { text: "ana".to_owned() }).await?;
    say.send(ChatRequest { text: "hello".to_owned() }).await?;
    let answer = answers.message().await?.unwrap_or_default();
    drop(say);
    while answers.message().await?.is_some() {}
    Ok(answer.text)
}

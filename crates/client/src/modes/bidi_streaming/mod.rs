//! Bidirectional streaming: many requests, many responses, neither waits.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    time::SystemTime,
};

use serde::Serialize;
use shared_proto::{
    fourmodes::v1::{
        ChatRequest, ChatResponse, JoinRoom, PostText,
        bidi_streaming_service_client::BidiStreamingServiceClient, chat_request::Action,
        chat_response::Event,
    },
    limits::TEXT_BYTES,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, once, wrappers::ReceiverStream};
use tonic::Streaming;

use crate::modes::tour::Step;
use crate::{
    failure::Failure,
    lines::Lines,
    session::Session,
    words::{counted, printable},
};

#[derive(Debug, Default, Serialize)]
pub(crate) struct Chat {
    room: String,
    name: String,
    /// Events of the room that were heard, the own ones too.
    heard: u64,
    /// Own posts that came back, and so are part of the room.
    posted: u64,
}

pub(crate) async fn chat(
    session: &Session,
    room: &str,
    name: &str,
    report: &mut Chat,
) -> Result<(), Failure> {
    (report.room, report.name) = (room.to_owned(), name.to_owned());
    if io::stdin().is_terminal() {
        session.note("Each line that you type is a post; Ctrl-D leaves the room.");
    }
    let mut responses = join(session, "client", room, name, lines_of_stdin()).await?;
    while let Some(response) = responses.message().await? {
        report.hear(&response);
    }
    Ok(())
}

/// Joins a room under a name and posts `texts`; their end is the half-close.
async fn join(
    session: &Session,
    client: &str,
    room: &str,
    name: &str,
    texts: impl Stream<Item = String> + Send + 'static,
) -> Result<Streaming<ChatResponse>, Failure> {
    let join = Action::Join(JoinRoom { room: room.to_owned(), name: name.to_owned() });
    let posts = texts.map(|text| Action::Post(PostText { text }));
    let requests = once(join).chain(posts).map(|action| ChatRequest { action: Some(action) });
    let mut client = BidiStreamingServiceClient::new(session.channel_of(client));
    Ok(client.chat(session.request(requests)).await?.into_inner())
}

/// What can be posted of what is typed. A thread of its own reads it: a
/// terminal may block for ever, and nothing waits for a plain thread at the end.
fn lines_of_stdin() -> ReceiverStream<String> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut lines = Lines::of(io::stdin());
        loop {
            match lines.advance() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return tracing::error!("standard input cannot be read: {error}"),
            }
            let number = lines.number;
            match std::str::from_utf8(&lines.line) {
                Ok(text) if text.len() <= TEXT_BYTES => {
                    if sender.blocking_send(text.to_owned()).is_err() {
                        return;
                    }
                }
                Ok(_) => tracing::warn!("line {number} not posted: it has more than {TEXT_BYTES} bytes"),
                Err(_) => tracing::warn!("line {number} not posted: it is not UTF-8"),
            }
        }
    });
    ReceiverStream::new(receiver)
}

impl Chat {
    fn hear(&mut self, response: &ChatResponse) {
        self.heard += 1;
        if response.name == self.name && matches!(response.event, Some(Event::Posted(_))) {
            self.posted += 1;
        }
    }
}

impl fmt::Display for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.heard == 0 {
            return Ok(());
        }
        let (posted, heard) = (counted(self.posted, "post"), counted(self.heard, "event"));
        write!(f, "{} in {}: {posted}, {heard} heard", printable(&self.name), printable(&self.room))
    }
}

pub(crate) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "BIDIRECTIONAL STREAMING: both sides speak when they have something to say. Two clients, ana and \
         ben, share a room; what one of them posts, both hear, in the same order.",
    );
    // A room of its own for each run: demonstrations do not meet.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let room = format!("demonstration-{}-{}", std::process::id(), now.subsec_nanos());
    let mut ana = Scripted::join(session, &room, "ana").await?;
    ana.hear().await?;
    let mut ben = Scripted::join(session, &room, "ben").await?;
    both_hear(&mut ana, &mut ben).await?;
    ana.post("who may speak first?").await;
    both_hear(&mut ana, &mut ben).await?;
    ben.post("whoever has something to say").await;
    both_hear(&mut ana, &mut ben).await?;

    session.note(
        "Each side ends its own direction. ana half-closes, still hears what the room said until then, \
         her own leaving last, and gets her trailers; ben's call goes on.",
    );
    ana.half_close();
    both_hear(&mut ana, &mut ben).await?;
    ana.end().await?;
    ben.half_close();
    ben.hear().await?;
    ben.end().await?;

    if !ana.heard.ends_with(&ben.heard[..ben.heard.len() - 1]) {
        let (ana, ben) = (ana.heard, ben.heard);
        return Err(Failure::answer(format!("ana heard the events {ana:?}, ben {ben:?}")));
    }
    steps.push(Step::new(
        "chat",
        format!("2 members heard the same {} events in one order", ben.heard.len() - 1),
    ));
    Ok(())
}

/// A member that posts when it is told to.
struct Scripted {
    posts: Option<mpsc::Sender<String>>,
    responses: Streaming<ChatResponse>,
    /// The sequences of the events.
    heard: Vec<u64>,
}

impl Scripted {
    async fn join(session: &Session, room: &str, name: &str) -> Result<Self, Failure> {
        let (posts, texts) = mpsc::channel(1);
        let responses = join(session, name, room, name, ReceiverStream::new(texts)).await?;
        Ok(Self { posts: Some(posts), responses, heard: Vec::new() })
    }

    async fn post(&self, text: &str) {
        if let Some(posts) = &self.posts {
            // Fails when the call is over; hearing then tells why.
            let _ = posts.send(text.to_owned()).await;
        }
    }

    fn half_close(&mut self) {
        self.posts = None;
    }

    async fn hear(&mut self) -> Result<(), Failure> {
        let event =
            self.responses.message().await?.ok_or_else(|| Failure::answer("the call ended too early"))?;
        self.heard.push(event.sequence);
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Failure> {
        match self.responses.message().await? {
            None => Ok(()),
            Some(event) => Err(Failure::answer(format!("event {} came after the last", event.sequence))),
        }
    }
}

async fn both_hear(one: &mut Scripted, other: &mut Scripted) -> Result<(), Failure> {
    one.hear().await?;
    other.hear().await
}

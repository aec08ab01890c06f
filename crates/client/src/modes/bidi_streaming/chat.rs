//! A conversation that survives the connection.
//!
//! What is posted is kept until the server has accepted it, and posted again
//! under the same id after a loss; what is heard goes on after the last event.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IsTerminal as _},
};

use serde::Serialize;
use shared_proto::{
    fourmodes::v1::{
        ChatRequest, ChatResponse, JoinRoom, PostText, RoomEvent,
        bidi_streaming_service_client::BidiStreamingServiceClient, chat_request::Action,
        chat_response::Response, join_room,
    },
    limits::TEXT_BYTES,
};
use timeline::words::{counted, printable};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, once, wrappers::ReceiverStream};
use tonic::Streaming;
use uuid::Uuid;

use crate::{
    config::Since,
    failure::Failure,
    lines::Lines,
    session::{Session, Tap},
};

/// Posts that the server has not accepted yet. With more, nothing is read from
/// standard input.
const UNACCEPTED: usize = 256;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Chat {
    room: String,
    name: String,
    /// Events of the room that were heard, the own ones too.
    heard: u64,
    /// Own posts that the server has accepted.
    posted: u64,
    /// Own posts that it may not have.
    unaccepted: u64,
    last_sequence: u64,
    /// Sequences that were left out.
    gaps: u64,
    /// Sequences that came again.
    duplicates: u64,
}

pub(crate) async fn chat(
    session: &Session,
    room: &str,
    name: &str,
    since: Since,
    report: &mut Chat,
) -> Result<(), Failure> {
    (report.room, report.name) = (room.to_owned(), name.to_owned());
    if io::stdin().is_terminal() {
        session.note("Each line that you type is a post; Ctrl-D leaves the room.");
    }
    let mut member = Member {
        report,
        since,
        id: Uuid::new_v4(),
        lines: Some(lines_of_stdin()),
        unaccepted: VecDeque::new(),
    };
    session.resuming(async || member.converse(session).await).await
}

/// What is the same over all connections.
struct Member<'a> {
    report: &'a mut Chat,
    since: Since,
    id: Uuid,
    /// `None` after the end of the input.
    lines: Option<mpsc::Receiver<String>>,
    unaccepted: VecDeque<(Uuid, String)>,
}

impl Member<'_> {
    async fn converse(&mut self, session: &Session) -> Result<(), Failure> {
        let join = join(&self.report.room, &self.report.name, self.id, self.since);
        let (posts, actions) = mpsc::channel(UNACCEPTED);
        // They fit: there are never more of them than the channel takes.
        self.unaccepted.iter().for_each(|(id, text)| drop(posts.try_send(post(*id, text))));
        let mut posts = Some(posts);
        let mut responses = call(session, session.channel(), join, ReceiverStream::new(actions)).await?;
        loop {
            if self.lines.is_none() && self.unaccepted.is_empty() {
                // The half-close: nothing is left to say.
                posts = None;
            }
            let room = self.unaccepted.len() < UNACCEPTED;
            tokio::select! {
                response = responses.message() => match response? {
                    Some(response) => {
                        session.progressed();
                        self.hear(response)?;
                    }
                    None => return Ok(()),
                },
                line = next(&mut self.lines), if room => match line {
                    Some(text) => {
                        let id = Uuid::now_v7();
                        // Fails when the call is over; the response then tells why.
                        posts.as_ref().map(|posts| posts.try_send(post(id, &text)));
                        self.unaccepted.push_back((id, text));
                        self.report.unaccepted += 1;
                    }
                    None => self.lines = None,
                },
            }
        }
    }

    fn hear(&mut self, response: ChatResponse) -> Result<(), Failure> {
        match response.response {
            Some(Response::Event(event)) => self.report.hear(&event),
            Some(Response::StillThere(_)) => {}
            Some(Response::Accepted(accepted)) => {
                let first = self.unaccepted.pop_front();
                if first.is_none_or(|(id, _)| id.to_string() != accepted.message_id) {
                    return Err(Failure::answer("the server accepted what was not posted"));
                }
                self.report.posted += 1;
                self.report.unaccepted -= 1;
            }
            None => return Err(Failure::answer("a response without an event")),
        }
        if self.report.heard > 0 {
            self.since = Since::After(self.report.last_sequence);
        }
        Ok(())
    }
}

/// Waits for ever after the end.
async fn next(lines: &mut Option<mpsc::Receiver<String>>) -> Option<String> {
    match lines {
        Some(lines) => lines.recv().await,
        None => std::future::pending().await,
    }
}

/// Opens the call; the end of `actions` is the half-close.
pub(super) async fn call(
    session: &Session,
    channel: Tap,
    join: Action,
    actions: impl Stream<Item = Action> + Send + 'static,
) -> Result<Streaming<ChatResponse>, Failure> {
    let requests = once(join).chain(actions).map(|action| ChatRequest { action: Some(action) });
    let mut client = BidiStreamingServiceClient::new(channel);
    Ok(client.chat(session.request(requests)).await?.into_inner())
}

pub(super) fn join(room: &str, name: &str, id: Uuid, since: Since) -> Action {
    let (room, name, member_id) = (room.to_owned(), name.to_owned(), id.to_string());
    let since = match since {
        Since::History(events) => join_room::Since::History(events),
        Since::After(sequence) => join_room::Since::AfterSequence(sequence),
    };
    Action::Join(JoinRoom { room, name, member_id, since: Some(since) })
}

pub(super) fn post(id: Uuid, text: &str) -> Action {
    Action::Post(PostText { text: text.to_owned(), message_id: id.to_string() })
}

/// What can be posted of what is typed. A thread of its own reads it: a
/// terminal may block for ever, and nothing waits for a plain thread at the end.
fn lines_of_stdin() -> mpsc::Receiver<String> {
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
    receiver
}

impl Chat {
    fn hear(&mut self, event: &RoomEvent) {
        if event.sequence <= self.last_sequence {
            self.duplicates += 1;
            return;
        }
        if self.heard > 0 {
            self.gaps += event.sequence - self.last_sequence - 1;
        }
        self.last_sequence = event.sequence;
        self.heard += 1;
    }
}

impl fmt::Display for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.heard == 0 {
            return Ok(());
        }
        let (posted, heard) = (counted(self.posted, "post"), counted(self.heard, "event"));
        write!(f, "{} in {}: {posted}, {heard} heard", printable(&self.name), printable(&self.room))?;
        write!(f, ", {}, {}", counted(self.gaps, "gap"), counted(self.duplicates, "duplicate"))?;
        match self.unaccepted {
            0 => Ok(()),
            unaccepted => write!(f, "\n{} not accepted", counted(unaccepted, "post")),
        }
    }
}

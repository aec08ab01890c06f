//! Bidirectional streaming: many requests, many responses, and neither side waits.

use std::time::SystemTime;

use shared_document::{Document, NoDocument};
use shared_proto::fourmodes::v1::{
    ChatResponse, DeleteDocumentRequest, DeleteRoomRequest, chat_request::Action, chat_response::Response,
};
use timeline::words::counted;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use uuid::Uuid;

use super::step::{Step, unless_refused};
use crate::{
    failure::Failure,
    scenarios::bidi_streaming::{
        chat::call::{self, Since},
        sync::replica::Replica,
    },
    session::Session,
};

pub(super) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "BIDIRECTIONAL STREAMING: many requests, many responses. Either side sends at any time. Two clients, \
         ana and ben, share a room. Both receive every post, in the same order.",
    );
    // Each run has a room of its own, so that demonstrations do not meet.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let room = format!("demonstration-{}-{}", std::process::id(), now.subsec_nanos());
    let mut ana = Scripted::join(session, &room, "ana").await?;
    // A new room may begin after the events of removed rooms, so its first sequence is
    // not always 1.
    let before = ana.hear_first().await? - 1;
    let mut ben = Scripted::join(session, &room, "ben").await?;
    both_hear_through(before + 2, &mut ana, &mut ben).await?;
    ana.post("who may speak first?").await?;
    both_hear_through(before + 3, &mut ana, &mut ben).await?;
    ben.post("whoever has something to say").await?;
    both_hear_through(before + 4, &mut ana, &mut ben).await?;

    session.note(
        "Each side ends its own direction. ana half-closes. She still receives the earlier events, her own \
         leaving last, and then the trailers. ben's call continues.",
    );
    ana.half_close();
    both_hear_through(before + 5, &mut ana, &mut ben).await?;
    ana.end().await?;
    ben.half_close();
    ben.hear_through(before + 6).await?;
    ben.end().await?;

    if !ana.heard.ends_with(&ben.heard[..ben.heard.len() - 1]) {
        let (ana, ben) = (ana.heard, ben.heard);
        return Err(Failure::answer(format!("ana heard the events {ana:?}, ben {ben:?}")));
    }
    steps.push(Step::new(
        "chat",
        format!("2 members received the same {} events in one order", ben.heard.len() - 1),
    ));
    edit_together(session, &room, steps).await?;

    session.note("What the two have made is removed again.");
    let request = DeleteRoomRequest { room: room.clone() };
    let removed =
        session.unary_at_home(request, async |mut client, request| client.delete_room(request).await);
    unless_refused(removed.await)?;
    let request = DeleteDocumentRequest { document: room };
    let removed =
        session.unary_at_home(request, async |mut client, request| client.delete_document(request).await);
    unless_refused(removed.await)
}

async fn edit_together(session: &Session, document: &str, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "ana and ben open one document. Both edit it before either has seen the other's edit. Each sends its \
         edits and receives the missing ones, until both have the same text.",
    );
    let mut editors = [("ana", "ana was here\n"), ("ben", "and ben\n")]
        .into_iter()
        .map(|(name, text)| {
            let mut document = Document::genesis()?;
            document.edit(&document.heads(), text)?;
            Ok((name, text, Replica::new(document, Vec::new())))
        })
        .collect::<Result<Vec<_>, NoDocument>>()
        .map_err(|error| Failure::answer(error.to_string()))?;
    let mut calls = Vec::new();
    for (name, _, replica) in &mut editors {
        let mut call = replica.open(session, session.channel_of(name).await?, document).await?;
        replica.hear(&mut call).await?;
        calls.push(call);
    }
    for ((_, _, replica), call) in editors.iter_mut().zip(&calls) {
        replica.send(call);
    }
    let texts: Vec<_> = editors.iter().map(|(_, text, _)| *text).collect();
    let mut equal = Vec::new();
    for ((_, _, replica), mut call) in editors.iter_mut().zip(calls) {
        let has_all = |replica: &Replica| {
            let text = replica.document.text().unwrap_or_default();
            replica.is_durable() && texts.iter().all(|part| text.contains(part))
        };
        while !has_all(replica) {
            replica.hear(&mut call).await?;
        }
        equal.push(replica.document.text().map_err(|error| Failure::answer(error.to_string()))?);
        call.end().await?;
    }
    if equal[0] != equal[1] {
        return Err(Failure::answer(format!("ana has the text {:?}, ben {:?}", equal[0], equal[1])));
    }
    let bytes = counted(equal[0].len() as u64, "byte");
    steps.push(Step::new("sync", format!("2 peers wrote at the same time and have the same {bytes}")));
    Ok(())
}

/// A member that posts on request.
struct Scripted {
    posts: Option<mpsc::Sender<Action>>,
    responses: Streaming<ChatResponse>,
    /// The sequence numbers of the events.
    heard: Vec<u64>,
}

impl Scripted {
    async fn join(session: &Session, room: &str, name: &str) -> Result<Self, Failure> {
        let (posts, actions) = mpsc::channel(1);
        let join = call::join(room, name, Uuid::new_v4(), Since::History(0));
        let responses =
            call::call(session, session.channel_of(name).await?, join, ReceiverStream::new(actions)).await?;
        Ok(Self { posts: Some(posts), responses, heard: Vec::new() })
    }

    /// Returns when the server has the post.
    async fn post(&mut self, text: &str) -> Result<(), Failure> {
        if let Some(posts) = &self.posts {
            // Fails when the call is over; the response then says why.
            let _ = posts.send(call::post(Uuid::now_v7(), text)).await;
        }
        while !matches!(self.next().await?, Response::Accepted(_)) {}
        Ok(())
    }

    fn half_close(&mut self) {
        self.posts = None;
    }

    async fn hear_first(&mut self) -> Result<u64, Failure> {
        loop {
            match self.heard.first() {
                Some(first) => return Ok(*first),
                None => self.next().await?,
            };
        }
    }

    async fn hear_through(&mut self, sequence: u64) -> Result<(), Failure> {
        while self.heard.last().is_none_or(|last| *last < sequence) {
            self.next().await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Response, Failure> {
        let response = self.responses.message().await?.and_then(|response| response.response);
        let response = response.ok_or_else(|| Failure::answer("the call ended too early"))?;
        if let Response::Event(event) = &response {
            self.heard.push(event.sequence);
        }
        Ok(response)
    }

    async fn end(&mut self) -> Result<(), Failure> {
        match self.responses.message().await? {
            None => Ok(()),
            Some(_) => Err(Failure::answer("something came after the last event")),
        }
    }
}

async fn both_hear_through(sequence: u64, one: &mut Scripted, other: &mut Scripted) -> Result<(), Failure> {
    one.hear_through(sequence).await?;
    other.hear_through(sequence).await
}

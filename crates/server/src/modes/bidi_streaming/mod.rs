//! Bidirectional streaming: many requests, many responses, neither waits.
//!
//! Copy: the response stream is returned before anything is read. A client
//! that sees no headers yet may not have sent its first message, and a handler
//! that waits for that message first would wait for ever. Then one loop that
//! listens to both sides, each of which may be cancelled at its await.
//! Mind: what is to be said goes before what is to be read. A member that does
//! not read is not read from either, so it cannot flood the room.

use std::{pin::Pin, sync::Arc};

use shared_proto::fourmodes::v1::{
    self as pb, ChatRequest, ChatResponse, JoinRoom, PostText,
    bidi_streaming_service_server::BidiStreamingService, chat_request::Action, chat_response,
};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    domain::rooms::{Event, Member, Rooms, What},
    error::{bad_request, out_of_turn},
};

#[derive(Debug, Default)]
pub(crate) struct BidiStreaming {
    rooms: Arc<Rooms>,
}

#[tonic::async_trait]
impl BidiStreamingService for BidiStreaming {
    type ChatStream = Pin<Box<dyn Stream<Item = Result<ChatResponse, Status>> + Send>>;

    async fn chat(
        &self,
        request: Request<Streaming<ChatRequest>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        Ok(Response::new(Box::pin(conversation(self.rooms.clone(), request.into_inner()))))
    }
}

fn conversation(
    rooms: Arc<Rooms>,
    mut requests: Streaming<ChatRequest>,
) -> impl Stream<Item = Result<ChatResponse, Status>> {
    async_stream::try_stream! {
        let Some(first) = requests.message().await? else { return };
        let JoinRoom { room, name } = join_of(first)?;
        let member = rooms.join(&room, &name)?;
        let mut conversation = Conversation { member, requests, half_closed: false };
        while let Some(event) = conversation.next().await? {
            yield event.into();
        }
    }
}

/// A member and the client that speaks for it.
struct Conversation {
    member: Member,
    requests: Streaming<ChatRequest>,
    half_closed: bool,
}

impl Conversation {
    async fn next(&mut self) -> Result<Option<Event>, Status> {
        loop {
            tokio::select! {
                biased;
                event = self.member.hear() => return Ok(event?),
                request = self.requests.message(), if !self.half_closed => match request? {
                    Some(request) => self.member.post(&post_of(request)?.text)?,
                    None => {
                        self.half_closed = true;
                        self.member.leave();
                    }
                },
            }
        }
    }
}

fn join_of(request: ChatRequest) -> Result<JoinRoom, Status> {
    match request.action {
        Some(Action::Join(join)) => Ok(join),
        Some(Action::Post(_)) => Err(out_of_turn("the first message must be a join")),
        None => Err(no_action()),
    }
}

fn post_of(request: ChatRequest) -> Result<PostText, Status> {
    match request.action {
        Some(Action::Post(post)) => Ok(post),
        Some(Action::Join(_)) => Err(out_of_turn("this call has joined a room already")),
        None => Err(no_action()),
    }
}

fn no_action() -> Status {
    bad_request("action", "a message must be a join or a post".to_owned())
}

impl From<Event> for ChatResponse {
    fn from(event: Event) -> Self {
        let what = match event.what {
            What::Joined(members) => chat_response::Event::Joined(pb::MemberJoined {
                members: members.iter().map(ToString::to_string).collect(),
            }),
            What::Left => chat_response::Event::Left(pb::MemberLeft {}),
            What::Posted(text) => chat_response::Event::Posted(pb::TextPosted { text: text.to_string() }),
        };
        Self {
            sequence: event.sequence,
            time: Some(event.time.into()),
            name: event.name.to_string(),
            event: Some(what),
        }
    }
}

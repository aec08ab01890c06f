//! A conversation: events of the room and acknowledgements go out, posts come in.
//!
//! Copy: an acknowledgement is sent when the post is durable and not when it was
//! read, while further posts are on their way to the disk. There is no queue of
//! responses: a member that does not read leaves its events where they are, in
//! the room. After the half-close what was posted is still accepted.
//! Leave: 256 posts on their way, which suits posts of 4 KiB at most; the sign of
//! life, where the room is never quiet for long.

use std::{collections::VecDeque, pin::Pin, sync::Arc};

use domain::{
    rooms::{Event, Member, RoomError, Rooms, Since, TEXT_BYTES, What},
    store::Id,
};
use shared_proto::{
    fourmodes::v1::{
        self as pb, ChatRequest, ChatResponse, JoinRoom, PostAccepted, PostText, StillThere,
        chat_request::Action, chat_response, join_room, room_event,
    },
    limits::{self, CONVERSATION_HEARTBEAT},
};
use tokio::time::{Instant, sleep_until};
use tokio_stream::Stream;
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::refused::{Refused, bad_request, out_of_turn};

// Clients keep to the bound that is theirs to know.
const _: () = assert!(TEXT_BYTES == limits::TEXT_BYTES);

/// Posts of one member that are on their way to the disk. With more, it is not
/// read from.
const UNACCEPTED: usize = 256;

pub(super) fn conversation(
    rooms: Arc<Rooms>,
    mut requests: Streaming<ChatRequest>,
) -> impl Stream<Item = Result<ChatResponse, Refused>> {
    async_stream::try_stream! {
        let Some(first) = requests.message().await? else { return };
        let JoinRoom { room, name, member_id, since } = join_of(first)?;
        let since = since.map_or(Since::History(0), since_of);
        let member = rooms.join(&room, &name, id("member_id", &member_id)?, since).await?;
        let posts = VecDeque::new();
        let mut conversation = Conversation { member, requests, posts, half_closed: false };
        while let Some(response) = conversation.next().await? {
            yield ChatResponse { response: Some(response) };
        }
    }
}

/// A member and the client that speaks for it.
struct Conversation {
    member: Member,
    requests: Streaming<ChatRequest>,
    /// Not accepted yet, in their order.
    posts: VecDeque<Pin<Box<Post>>>,
    half_closed: bool,
}

type Post = dyn Future<Output = Result<PostAccepted, RoomError>> + Send;

impl Conversation {
    async fn next(&mut self) -> Result<Option<chat_response::Response>, Refused> {
        let quiet = Instant::now() + CONVERSATION_HEARTBEAT;
        loop {
            let reads = !self.half_closed && self.posts.len() < UNACCEPTED;
            tokio::select! {
                biased;
                Some(accepted) = accepted(&mut self.posts) => {
                    return Ok(Some(chat_response::Response::Accepted(accepted?)));
                }
                // After the half-close the own leaving ends the call: what was
                // posted before is accepted before.
                event = self.member.hear(), if !self.half_closed || self.posts.is_empty() => {
                    return Ok(event?.map(|event| chat_response::Response::Event(wire(event))));
                }
                () = sleep_until(quiet), if !self.half_closed => {
                    return Ok(Some(chat_response::Response::StillThere(StillThere {})));
                }
                request = self.requests.message(), if reads => match request? {
                    Some(request) => self.post(post_of(request)?)?,
                    None => {
                        self.half_closed = true;
                        self.member.leave().await?;
                    }
                },
            }
        }
    }

    fn post(&mut self, PostText { text, message_id }: PostText) -> Result<(), Refused> {
        let posted = self.member.post(&text, id("message_id", &message_id)?)?;
        self.posts.push_back(Box::pin(async { Ok(PostAccepted { message_id, sequence: posted.await? }) }));
        Ok(())
    }
}

/// The oldest of the posts, once it is accepted. Cancelling loses nothing.
async fn accepted(posts: &mut VecDeque<Pin<Box<Post>>>) -> Option<Result<PostAccepted, RoomError>> {
    let accepted = posts.front_mut()?.await;
    posts.pop_front();
    Some(accepted)
}

fn since_of(wire: join_room::Since) -> Since {
    match wire {
        join_room::Since::AfterSequence(sequence) => Since::After(sequence),
        join_room::Since::History(events) => Since::History(events),
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
        Some(Action::Join(_)) => Err(out_of_turn("this call has already joined a room")),
        None => Err(no_action()),
    }
}

fn no_action() -> Status {
    bad_request("action", "a message must be a join or a post".to_owned())
}

fn id(field: &str, text: &str) -> Result<Option<Id>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let id =
        Uuid::try_parse(text).map_err(|error| bad_request(field, format!("{field} is no UUID: {error}")))?;
    Ok(Some(id.into_bytes()))
}

fn wire(Event { sequence, said }: Event) -> pb::RoomEvent {
    let event = match said.what {
        What::Joined(members) => room_event::Event::Joined(pb::MemberJoined { members }),
        What::Left => room_event::Event::Left(pb::MemberLeft {}),
        What::Posted { text, id } => {
            let message_id = id.map(|id| Uuid::from_bytes(id).to_string()).unwrap_or_default();
            room_event::Event::Posted(pb::TextPosted { text, message_id })
        }
    };
    pb::RoomEvent { sequence, time: Some(said.time.into()), name: said.name, event: Some(event) }
}

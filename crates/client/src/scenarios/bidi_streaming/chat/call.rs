//! A call of a room.

use shared_proto::{
    fourmodes::v1::{
        ChatRequest, ChatResponse, JoinRoom, PostText,
        bidi_streaming_service_client::BidiStreamingServiceClient, chat_request::Action, join_room,
    },
    limits::CONVERSATION_HEARTBEAT,
};
use tokio_stream::{Stream, StreamExt as _, once};
use tonic::Streaming;
use uuid::Uuid;

use crate::{
    failure::Failure,
    session::{Session, Tap},
};

/// Where a member of a room begins to hear.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Since {
    /// So many events before its own joining.
    History(u64),
    /// With the event after this one.
    After(u64),
}

/// Opens the call; the end of `actions` is the half-close.
pub(crate) async fn call(
    session: &Session,
    channel: Tap,
    join: Action,
    actions: impl Stream<Item = Action> + Send + 'static,
) -> Result<Streaming<ChatResponse>, Failure> {
    let requests = once(join).chain(actions).map(|action| ChatRequest { action: Some(action) });
    let mut client = BidiStreamingServiceClient::new(channel);
    let request = session.request(requests, Some(CONVERSATION_HEARTBEAT));
    Ok(client.chat(request).await?.into_inner())
}

pub(crate) fn join(room: &str, name: &str, id: Uuid, since: Since) -> Action {
    let (room, name, member_id) = (room.to_owned(), name.to_owned(), id.to_string());
    let since = match since {
        Since::History(events) => join_room::Since::History(events),
        Since::After(sequence) => join_room::Since::AfterSequence(sequence),
    };
    Action::Join(JoinRoom { room, name, member_id, since: Some(since) })
}

pub(crate) fn post(id: Uuid, text: &str) -> Action {
    Action::Post(PostText { text: text.to_owned(), message_id: id.to_string() })
}

//! Members of a room, each with its texts.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use anyhow::{Result, ensure};
use shared_proto::fourmodes::v1::{
    ChatRequest, ChatResponse, JoinRoom, PostText, RoomEvent,
    bidi_streaming_service_client::BidiStreamingServiceClient, chat_request::Action, chat_response::Response,
    join_room::Since, room_event::Event,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use turmoil::Sim;

use crate::{
    Story,
    network::{connect, may_happen, pause},
    tell,
};

const MEMBERS: [&str; 3] = ["ana", "ben", "cem"];
const TEXTS: usize = 150;

/// Everything that happened in the room, as a member heard it.
type Heard = Rc<RefCell<Vec<RoomEvent>>>;
/// A text and the sequence that it was accepted with.
type Accepted = Rc<RefCell<Vec<(String, u64)>>>;

pub(crate) struct Chat {
    heard: Vec<Heard>,
    accepted: Accepted,
}

struct Member {
    name: &'static str,
    id: String,
    new_ids: bool,
    heard: Heard,
    accepted: Accepted,
    /// What is not accepted yet, with its id, in order.
    unaccepted: VecDeque<(String, String)>,
    made: usize,
    story: Story,
}

impl Chat {
    pub(crate) fn start(
        sim: &mut Sim<'_>,
        clients: &mut Vec<&'static str>,
        story: &Story,
        new_ids: bool,
    ) -> Self {
        let accepted = Accepted::default();
        let heard = MEMBERS.map(|name| {
            let member = Member {
                name,
                id: new_id(),
                new_ids,
                heard: Heard::default(),
                accepted: accepted.clone(),
                unaccepted: VecDeque::new(),
                made: 0,
                story: story.clone(),
            };
            clients.push(name);
            let heard = member.heard.clone();
            sim.client(name, async { Ok(member.talk().await?) });
            heard
        });
        Self { heard: heard.into(), accepted }
    }

    /// By what the room says to somebody who comes later.
    pub(crate) async fn judge(&self) -> Result<()> {
        let judge = Heard::default();
        while let Err(_) | Ok(None) = listen(&judge).await {
            pause(500).await;
        }
        let events = judge.borrow();
        for heard in &self.heard {
            ensure!(events.starts_with(&heard.borrow()), "a member heard something else");
        }
        let texts: Vec<_> = events.iter().filter_map(text).collect();
        for (text, sequence) in self.accepted.borrow().iter() {
            let said = usize::try_from(*sequence)?.checked_sub(1).and_then(|index| events.get(index));
            ensure!(
                said.and_then(self::text) == Some(text),
                "{text:?} was accepted as {sequence}, and there is {said:?}"
            );
            let times = texts.iter().filter(|said| **said == text).count();
            ensure!(times == 1, "{text:?} is there {times} times");
        }
        ensure!(texts.len() == MEMBERS.len() * TEXTS, "{} texts", texts.len());
        Ok(())
    }
}

fn new_id() -> String {
    uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes()).into_uuid().to_string()
}

fn text(event: &RoomEvent) -> Option<&String> {
    match &event.event {
        Some(Event::Posted(posted)) => Some(&posted.text),
        _ => None,
    }
}

fn request(action: Action) -> ChatRequest {
    ChatRequest { action: Some(action) }
}

/// Joins after what was heard.
fn join(name: &str, id: &str, heard: &Heard) -> ChatRequest {
    request(Action::Join(JoinRoom {
        room: "simulated".to_owned(),
        name: name.to_owned(),
        member_id: id.to_owned(),
        since: Some(Since::AfterSequence(heard.borrow().len() as u64)),
    }))
}

fn hear(heard: &Heard, event: RoomEvent) -> Result<()> {
    let expected = heard.borrow().len() as u64 + 1;
    ensure!(event.sequence == expected, "{} instead of {expected}", event.sequence);
    heard.borrow_mut().push(event);
    Ok(())
}

impl Member {
    async fn talk(mut self) -> Result<()> {
        while !self.is_done() {
            if let Some(channel) = connect().await {
                let mut client = BidiStreamingServiceClient::new(channel);
                let (requests, receiver) = mpsc::unbounded_channel();
                requests.send(join(self.name, &self.id, &self.heard))?;
                let called = client.chat(UnboundedReceiverStream::new(receiver)).await;
                match called {
                    Ok(responses) => self.converse(&requests, responses.into_inner()).await?,
                    Err(status) => self.lost(&status)?,
                }
            }
            pause(500).await;
        }
        tell(&self.story, format!("{} is done", self.name));
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.made == TEXTS && self.unaccepted.is_empty()
    }

    fn lost(&self, status: &tonic::Status) -> Result<()> {
        tell(&self.story, format!("{}: {:?} after {}", self.name, status.code(), self.heard.borrow().len()));
        may_happen(status)
    }

    /// Until everything is accepted, or the call ends.
    async fn converse(
        &mut self,
        requests: &mpsc::UnboundedSender<ChatRequest>,
        mut responses: Streaming<ChatResponse>,
    ) -> Result<()> {
        let post = |(text, message_id): &(String, String)| {
            let (text, message_id) = (text.clone(), message_id.clone());
            // Fails when the call has ended, which its responses tell.
            let _ = requests.send(request(Action::Post(PostText { text, message_id })));
        };
        if self.new_ids {
            self.unaccepted.iter_mut().for_each(|(_, id)| *id = new_id());
        }
        self.unaccepted.iter().for_each(post);
        while !self.is_done() {
            tokio::select! {
                biased;
                () = pause(200), if self.made < TEXTS => {
                    self.made += 1;
                    self.unaccepted.push_back((format!("{} says {}", self.name, self.made), new_id()));
                    self.unaccepted.back().into_iter().for_each(post);
                }
                response = responses.message() => match response {
                    Ok(Some(ChatResponse { response: Some(Response::Event(event)) })) => hear(&self.heard, event)?,
                    Ok(Some(ChatResponse { response: Some(Response::StillThere(_)) })) => {}
                    Ok(Some(ChatResponse { response: Some(Response::Accepted(accepted)) })) => {
                        let (text, id) = self.unaccepted.pop_front().unwrap_or_default();
                        ensure!(accepted.message_id == id, "not posted, or not in its turn: {accepted:?}");
                        self.accepted.borrow_mut().push((text, accepted.sequence));
                    }
                    Ok(Some(ChatResponse { response: None }) | None) => return Ok(()),
                    Err(status) => return self.lost(&status),
                }
            }
        }
        Ok(())
    }
}

/// Hears all, and leaves: nothing when the call did not come to its end.
async fn listen(heard: &Heard) -> Result<Option<()>> {
    let Some(channel) = connect().await else { return Ok(None) };
    heard.borrow_mut().clear();
    let requests = tokio_stream::once(join("judge", "", heard));
    let mut responses = BidiStreamingServiceClient::new(channel).chat(requests).await?.into_inner();
    while let Some(response) = responses.message().await? {
        if let Some(Response::Event(event)) = response.response {
            hear(heard, event)?;
        }
    }
    Ok(Some(()))
}

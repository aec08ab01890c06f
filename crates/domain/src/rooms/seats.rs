//! Who is in a room, at any server: a key that changes by compare-and-set, together
//! with what the room hears of it.

use std::{
    collections::HashMap,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{EVENTS_PER_TRIM, MAX_MEMBERS, MAX_ROOMS, RoomError, Rooms, What, sequence};
use crate::{
    lock,
    store::{Answer, Expect, Id, StoreError, Write, Written, decode, encode},
};

/// What the keys begin with.
const SEATS: &str = "seats/";

/// A member as every server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seat {
    name: String,
    /// Chosen by the client; whoever comes with it again is the same member.
    id: Option<Id>,
    /// Where the member is.
    server: u64,
    /// The number of the member at that server.
    call: u64,
}

/// A room that has members at this server.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: String,
    /// Since it was last looked at.
    pub(super) events: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the store has when all is made that was asked of it: each commit expects
    /// what the one before leaves, whether or not its answer is there.
    value: Option<Bytes>,
    seats: Vec<Seat>,
    /// The members at this server. Cancelled when another call takes the seat.
    here: HashMap<u64, CancellationToken>,
}

/// A seat that somebody has taken, if the store says so.
pub(super) struct Taken {
    pub(super) room: Arc<Room>,
    pub(super) call: u64,
    pub(super) lost: CancellationToken,
    /// With the joining, unless the seat was taken over.
    pub(super) made: Answer<Vec<Written>>,
}

pub(super) fn key(room: &str) -> String {
    format!("{SEATS}{room}")
}

/// Has a record when a seat goes from one server to another. It is trimmed at once:
/// only its waking is of use.
pub(super) fn stream(room: &str) -> String {
    format!("seat/{room}")
}

impl Room {
    fn new(name: &str, value: Option<Bytes>) -> Result<Arc<Self>, StoreError> {
        let state = State { seats: seats_of(value.as_ref())?, value, here: HashMap::new() };
        let events = AtomicU64::new(EVENTS_PER_TRIM);
        Ok(Arc::new(Self { name: name.to_owned(), events, state: Mutex::new(state) }))
    }

    /// Goes on with what the store has.
    fn renew(&self, value: Option<Bytes>) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        state.seats = seats_of(value.as_ref())?;
        state.value = value;
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members() == 0
    }

    pub(super) fn members(&self) -> usize {
        lock(&self.state).seats.len()
    }
}

fn seats_of(value: Option<&Bytes>) -> Result<Vec<Seat>, StoreError> {
    value.map_or(Ok(Vec::new()), |value| decode("the members of a room", value))
}

impl Rooms {
    /// The room as it is here, or as the store has it.
    pub(super) async fn find(&self, room: &str) -> Result<Arc<Room>, StoreError> {
        if let Some(open) = lock(&self.open).get(room) {
            return Ok(open.clone());
        }
        Room::new(room, self.store.get(&key(room)).await?)
    }

    /// `found` is used unless somebody has come in the meantime.
    pub(super) fn sit_down(&self, found: Arc<Room>, name: &str, id: Option<Id>) -> Result<Taken, RoomError> {
        let mut open = lock(&self.open);
        let room = match open.get(&found.name) {
            Some(room) => room.clone(),
            None if open.len() == MAX_ROOMS => return Err(RoomError::TooManyRooms),
            None => found,
        };
        let call = self.calls.fetch_add(1, Relaxed);
        let mut state = lock(&room.state);
        let seat = Seat { name: name.to_owned(), id, server: self.peers.me(), call };
        let (mut seats, mut writes) = (state.seats.clone(), Vec::new());
        let same = seats.iter_mut().find(|seat| seat.name == name && id.is_some() && seat.id == id);
        if let Some(same) = same {
            let old = std::mem::replace(same, seat);
            if old.server == self.peers.me() {
                if let Some(lost) = state.here.remove(&old.call) {
                    lost.cancel();
                }
            } else if self.peers.are_there() {
                let stream = stream(&room.name);
                writes.push(Write::Append {
                    stream: stream.clone(),
                    record: Bytes::new(),
                    id: None,
                    expect: None,
                });
                writes.push(Write::Trim { stream, before: u64::MAX });
            }
            self.bury_ghosts(&room, &state, call, &mut seats, &mut writes);
        } else {
            self.bury_ghosts(&room, &state, call, &mut seats, &mut writes);
            if seats.iter().any(|seat| seat.name == name) {
                return Err(RoomError::NameTaken { room: room.name.clone(), name: name.to_owned() });
            }
            if seats.len() == MAX_MEMBERS {
                return Err(RoomError::RoomFull { room: room.name.clone() });
            }
            seats.push(seat);
            // Whoever is faster elsewhere makes this commit fail: events say who is
            // there in the order of the joinings.
            let names = seats.iter().map(|seat| seat.name.clone()).collect();
            writes.push(self.event(&room, name, What::Joined(names)));
        }
        let lost = CancellationToken::new();
        state.here.insert(call, lost.clone());
        let made = self.change(&room, &mut state, seats, writes);
        drop(state);
        open.insert(room.name.clone(), room.clone());
        Ok(Taken { room, call, lost, made })
    }

    /// Takes those out whose server is dead, and those that are not at this one any
    /// more although the store says so, since an answer was lost.
    fn bury_ghosts(
        &self,
        room: &Room,
        state: &State,
        new: u64,
        seats: &mut Vec<Seat>,
        writes: &mut Vec<Write>,
    ) {
        seats.retain(|seat| {
            let is_ghost = match seat.server == self.peers.me() {
                true => seat.call != new && !state.here.contains_key(&seat.call),
                false => self.peers.is_dead(seat.server),
            };
            if is_ghost {
                writes.push(self.event(room, &seat.name, What::Left));
            }
            !is_ghost
        });
    }

    /// All of it is made, unless the members have changed elsewhere.
    fn change(
        &self,
        room: &Room,
        state: &mut State,
        seats: Vec<Seat>,
        writes: Vec<Write>,
    ) -> Answer<Vec<Written>> {
        let key = key(&room.name);
        let value = (!seats.is_empty()).then(|| encode(&seats));
        state.seats = seats;
        let before = std::mem::replace(&mut state.value, value.clone());
        let expect = before.map_or(Expect::Nothing, Expect::Value);
        let change = match value {
            Some(value) => Write::Put { key, value, expect },
            None => Write::Delete { key, expect },
        };
        self.store.commit(std::iter::once(change).chain(writes).collect())
    }

    /// Takes its place among the commits at once. `None` when the seat is not this
    /// member's any more.
    pub(super) fn stand_up(&self, room: &Room, call: u64) -> Option<Answer<Vec<Written>>> {
        // The lock order of `sit_down`: an empty room goes before anyone else can
        // enter it.
        let mut open = lock(&self.open);
        let mut state = lock(&room.state);
        state.here.remove(&call)?;
        if state.here.is_empty() {
            open.remove(&room.name);
        }
        // What is known here may be older than the joining: `has_left` looks at the store then.
        let unknown = || -> Answer<Vec<Written>> {
            Box::pin(ready(Err(StoreError::Conflict { what: key(&room.name) })))
        };
        Some(self.leave(room, &mut state, call).unwrap_or_else(unknown))
    }

    fn leave(&self, room: &Room, state: &mut State, call: u64) -> Option<Answer<Vec<Written>>> {
        let mut seats = state.seats.clone();
        let me = self.peers.me();
        let seat = seats.remove(seats.iter().position(|seat| seat.server == me && seat.call == call)?);
        let left = self.event(room, &seat.name, What::Left);
        Some(self.change(room, state, seats, vec![left]))
    }

    /// Waits until a member has left: the sequence of that, or `None` when somebody
    /// else has its seat.
    pub(super) async fn has_left(
        &self,
        room: &Room,
        call: u64,
        mut made: Answer<Vec<Written>>,
    ) -> Result<Option<u64>, StoreError> {
        loop {
            match made.await {
                Err(StoreError::Conflict { .. }) => room.renew(self.store.get(&key(&room.name)).await?)?,
                made => return Ok(Some(sequence(&made?))),
            }
            match self.leave(room, &mut lock(&room.state), call) {
                Some(again) => made = again,
                None => return Ok(None),
            }
        }
    }

    /// A joining was not made: what the store has is looked at anew.
    pub(super) async fn has_not_joined(&self, room: &Room, call: u64) -> Result<(), StoreError> {
        {
            let mut open = lock(&self.open);
            let mut state = lock(&room.state);
            // Where it was taken over, the room may have been left and opened anew.
            if state.here.remove(&call).is_some() && state.here.is_empty() {
                open.remove(&room.name);
            }
        }
        room.renew(self.store.get(&key(&room.name)).await?)
    }

    /// Whether a seat is this member's still.
    pub(super) async fn is_in(&self, room: &Room, call: u64) -> Result<bool, StoreError> {
        let seats = seats_of(self.store.get(&key(&room.name)).await?.as_ref())?;
        Ok(seats.iter().any(|seat| seat.server == self.peers.me() && seat.call == call))
    }

    /// Says of the members of dead servers that they have left.
    pub async fn bury(&self) -> Result<(), StoreError> {
        const PAGE: usize = 64;
        let mut after = String::new();
        loop {
            let page = self.store.list(SEATS, &after, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after.clone_from(last);
            for (key, value) in page {
                let dead = |seat: &Seat| seat.server != self.peers.me() && self.peers.is_dead(seat.server);
                if seats_of(Some(&value))?.iter().any(dead) {
                    self.bury_in(key.strip_prefix(SEATS).unwrap_or(&key)).await?;
                }
            }
        }
    }

    async fn bury_in(&self, name: &str) -> Result<(), StoreError> {
        loop {
            let value = self.store.get(&key(name)).await?;
            let found = Room::new(name, value.clone())?;
            let made = {
                let open = lock(&self.open);
                let room = open.get(name).unwrap_or(&found);
                room.renew(value)?;
                let mut state = lock(&room.state);
                let (mut seats, mut writes) = (state.seats.clone(), Vec::new());
                self.bury_ghosts(room, &state, u64::MAX, &mut seats, &mut writes);
                if writes.is_empty() {
                    return Ok(());
                }
                self.change(room, &mut state, seats, writes)
            };
            match made.await {
                // Another server was faster, or somebody has come.
                Err(StoreError::Conflict { .. }) => {}
                made => return made.map(drop),
            }
        }
    }
}

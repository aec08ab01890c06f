//! Rooms in which members talk. A room is a stream of events in the store, and
//! each member reads it at its own pace by a cursor: everyone hears the same
//! events in the same order, nobody waits for a slow member, and what was said
//! is there after a restart. Who is in a room is a key that changes together with
//! what the room hears of it, so servers that share the store agree on it.
//!
//! When events that a member has not heard are no longer kept, its stream ends with
//! an error (`FELL_BEHIND`) and never skips them.

mod seats;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::sync::CancellationToken;

use self::seats::{Room, Taken};
use super::{
    feed::{self, Cursor, Retention, Usage},
    names::{self, BadName},
    peers::Peers,
    store::{self, Answer, Extent, Id, Record, Store, StoreError, Write, Written},
};
use crate::platform;

/// The longest text that may be posted, in bytes.
pub const TEXT_BYTES: usize = 4096;
const MAX_ROOMS: usize = 64;
const MAX_MEMBERS: usize = 256;
/// After so many events a room looks whether it keeps too much.
const EVENTS_PER_TRIM: u64 = 1024;
/// What the names of their streams begin with.
const ROOM: &str = "room/";

/// Something that happened in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counts the events of the room, from 1.
    pub sequence: u64,
    /// What happened.
    pub said: Said,
}

/// What a room has of an event in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// When.
    pub time: SystemTime,
    /// Who did it.
    pub name: String,
    /// What it was.
    pub what: What,
}

/// What a member did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// With everyone who is there by now, in the order of joining.
    Joined(Vec<String>),
    /// Nobody speaks for the member any more.
    Left,
    /// A text for everyone in the room.
    Posted {
        /// Up to [`TEXT_BYTES`].
        text: String,
        /// The one that the client chose, if any.
        id: Option<Id>,
    },
}

#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    #[error("{field} {reason}")]
    BadName { field: &'static str, reason: BadName },
    #[error("text must not be empty")]
    EmptyText,
    #[error("text has {0} bytes; {TEXT_BYTES} are allowed")]
    LongText(usize),
    #[error("message {id:02x?} was posted before with another text, as event {sequence}")]
    IdReused { id: Id, sequence: u64 },
    #[error("room {room:?} already has a member {name:?}; join under another name")]
    NameTaken { room: String, name: String },
    #[error("the same member has joined again in another call")]
    TakenOver,
    #[error("{MAX_ROOMS} rooms already have members; join one of them or try again later")]
    TooManyRooms,
    #[error("the server keeps {0} rooms, which is the maximum; join one of them")]
    TooManyKept(usize),
    #[error("room {0:?} has members; it can be removed when they have left")]
    Occupied(String),
    #[error("room {room:?} is full: it has {MAX_MEMBERS} members")]
    RoomFull { room: String },
    #[error("this member fell behind: its next event is {next}, the oldest kept event is {oldest}")]
    FellBehind { next: u64, oldest: u64 },
    #[error(
        "the last event of this room is {last}: it cannot continue after {after}, which belongs to another history"
    )]
    Ahead { after: u64, last: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a new member begins to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With so many events before its joining.
    History(u64),
    /// With the event after this one.
    After(u64),
}

/// All rooms.
#[derive(Debug)]
pub struct Rooms {
    store: Arc<dyn Store>,
    peers: Peers,
    retention: Retention,
    /// How many rooms may be kept, with members or without.
    most: usize,
    /// Those that have members at this server.
    open: Mutex<HashMap<String, Arc<Room>>>,
    /// Counts the members of this server.
    calls: AtomicU64,
}

/// A member's place in a room. Dropping it leaves the room.
pub struct Member {
    rooms: Arc<Rooms>,
    room: Arc<Room>,
    name: String,
    /// Its number at this server.
    call: u64,
    cursor: Cursor,
    taken: CancellationToken,
    /// Wakes when another server has taken a seat of this room.
    elsewhere: watch::Receiver<u64>,
    /// The number of the own leaving, once it has happened.
    left: Option<u64>,
}

impl Rooms {
    /// Up to `most` rooms, whose events are kept in `store`.
    pub fn new(store: Arc<dyn Store>, peers: Peers, retention: Retention, most: usize) -> Self {
        Self { store, peers, retention, most, open: Mutex::default(), calls: AtomicU64::new(0) }
    }

    /// Forgets what is too old or too much, of quiet rooms as well, and every room
    /// in which nothing is left and nobody is.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        for (stream, _) in feed::streams(&*self.store, ROOM).await? {
            self.retention.apply(&*self.store, &stream, time).await?;
            let Extent { first, last, .. } = self.store.extent(&stream).await?;
            let room = stream.strip_prefix(ROOM).unwrap_or(&stream);
            if first > last && self.store.get(&seats::key(room)).await?.is_none() {
                match self.forget(room, last).await {
                    // Somebody has come.
                    Ok(()) | Err(StoreError::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Removes a room and all that was said in it. One that is not there is removed
    /// already.
    pub async fn remove(&self, room: &str) -> Result<(), RoomError> {
        names::check(room).map_err(|reason| RoomError::BadName { field: "room", reason })?;
        let stream = stream(room);
        let Extent { last, .. } = self.store.extent(&stream).await?;
        let occupied = || RoomError::Occupied(room.to_owned());
        if self.store.get(&seats::key(room)).await?.is_some() {
            return Err(occupied());
        }
        feed::clear(&*self.store, &stream, last).await?;
        match self.forget(room, last).await {
            Err(StoreError::Conflict { .. }) => Err(occupied()),
            removed => Ok(removed?),
        }
    }

    async fn forget(&self, room: &str, last: u64) -> Result<(), StoreError> {
        let mut writes = vec![Write::Forget { stream: stream(room), expect: last }];
        if self.peers.are_there() {
            let stream = seats::stream(room);
            let Extent { last: expect, .. } = self.store.extent(&stream).await?;
            writes.push(Write::Forget { stream, expect });
        }
        self.store.commit(writes).await.map(drop)
    }

    /// What all rooms take.
    pub async fn usage(&self) -> Result<Usage, StoreError> {
        Usage::of(&*self.store, ROOM).await
    }

    /// A member that was away and comes back under the same `id` takes its old
    /// place, if the room has not noticed yet that it was away.
    pub async fn join(
        self: &Arc<Self>,
        room: &str,
        name: &str,
        id: Option<Id>,
        since: Since,
    ) -> Result<Member, RoomError> {
        names::check(room).map_err(|reason| RoomError::BadName { field: "room", reason })?;
        names::check(name).map_err(|reason| RoomError::BadName { field: "name", reason })?;
        let extent = self.store.extent(&stream(room)).await?;
        match since {
            Since::After(after) if after > extent.last => {
                return Err(RoomError::Ahead { after, last: extent.last });
            }
            Since::After(after) if after + 1 < extent.first => {
                return Err(RoomError::FellBehind { next: after + 1, oldest: extent.first });
            }
            _ => {}
        }
        let next = extent.last + 1;
        loop {
            let found = self.find(room).await?;
            let is_new = extent.first > extent.last && found.is_empty();
            if is_new && feed::is_full(&*self.store, ROOM, self.most).await? {
                return Err(RoomError::TooManyKept(self.most));
            }
            let Taken { room, call, lost, made } = self.sit_down(found, name, id)?;
            // Made before the first await: dropped there, it leaves.
            let cursor = |next| Cursor::new(self.store.clone(), stream(&room.name), next);
            let mut member = Member {
                rooms: self.clone(),
                cursor: cursor(next),
                elsewhere: self.store.watch(&seats::stream(&room.name)),
                room: room.clone(),
                name: name.to_owned(),
                call,
                taken: lost,
                left: None,
            };
            let joined = match made.await {
                // None in a seat that was taken over.
                Ok(written) => Some(sequence(&written)).filter(|joined| *joined > 0).unwrap_or(next),
                Err(error) => {
                    member.left = Some(0);
                    self.has_not_joined(&room, call).await?;
                    match error {
                        // The newer call has the seat.
                        _ if member.taken.is_cancelled() => return Err(RoomError::TakenOver),
                        // Somebody else was faster.
                        StoreError::Conflict { .. } => continue,
                        error => return Err(error.into()),
                    }
                }
            };
            self.trim(&room);
            member.cursor = cursor(match since {
                Since::After(after) => after + 1,
                Since::History(events) => joined.saturating_sub(events).max(extent.first),
            });
            return Ok(member);
        }
    }

    fn event(&self, room: &Room, name: &str, what: What) -> Write {
        let id = match &what {
            What::Posted { id, .. } => *id,
            What::Joined(_) | What::Left => None,
        };
        let said = Said { time: platform::now(), name: name.to_owned(), what };
        let record = store::encode(&said);
        room.events.fetch_add(1, Relaxed);
        Write::Append { stream: stream(&room.name), record, id, expect: None }
    }

    /// Now and then.
    fn trim(self: &Arc<Self>, room: &Arc<Room>) {
        if room.events.load(Relaxed) < EVENTS_PER_TRIM {
            return;
        }
        room.events.store(0, Relaxed);
        let (rooms, room) = (self.clone(), room.clone());
        tokio::spawn(async move {
            if let Err(error) = rooms.retention.apply(&*rooms.store, &stream(&room.name), time).await {
                tracing::warn!(room = %room.name, %error, "could not remove expired events");
            }
        });
    }
}

fn stream(room: &str) -> String {
    format!("{ROOM}{room}")
}

fn time(record: &[u8]) -> Result<SystemTime, StoreError> {
    Ok(store::decode::<Said>("an event", record)?.time)
}

/// Of the last event that was written; 0 when there was none.
fn sequence(written: &[Written]) -> u64 {
    match written.last() {
        Some(Written::Appended(sequence) | Written::Known(sequence)) => *sequence,
        Some(Written::Done) | None => 0,
    }
}

impl Member {
    /// Says something. It is part of the room when the answer is there, which
    /// is the number of the event; answers come in the order of the posts.
    pub fn post(
        &self,
        text: &str,
        id: Option<Id>,
    ) -> Result<impl Future<Output = Result<u64, RoomError>> + Send + use<>, RoomError> {
        match text.len() {
            0 => return Err(RoomError::EmptyText),
            length if length > TEXT_BYTES => return Err(RoomError::LongText(length)),
            _ => {}
        }
        if self.taken.is_cancelled() {
            return Err(RoomError::TakenOver);
        }
        self.rooms.trim(&self.room);
        let what = What::Posted { text: text.to_owned(), id };
        let said = self.rooms.event(&self.room, &self.name, what.clone());
        let said = self.rooms.store.commit(vec![said]);
        let (rooms, room, name) = (self.rooms.clone(), self.room.clone(), self.name.clone());
        Ok(async move {
            let written = said.await?;
            let sequence = sequence(&written);
            if let ([Written::Known(_)], Some(id)) = (&written[..], id) {
                let first = rooms.store.read(&stream(&room.name), sequence, 1).await?;
                let first = first.first().map(event).transpose()?;
                let same = first.is_some_and(|first| first.said.name == name && first.said.what == what);
                if !same {
                    return Err(RoomError::IdReused { id, sequence });
                }
            }
            Ok(sequence)
        })
    }

    /// The next event; `None` after the member's own leaving. Cancelling loses
    /// nothing.
    pub async fn hear(&mut self) -> Result<Option<Event>, RoomError> {
        if self.left.is_some_and(|left| self.cursor.position() > left) {
            return Ok(None);
        }
        tokio::select! {
            biased;
            () = self.taken.cancelled() => Err(RoomError::TakenOver),
            taken = taken_elsewhere(&self.rooms, &self.room, self.call, &mut self.elsewhere),
                if self.left.is_none() => Err(taken),
            record = self.cursor.next() => match record {
                Ok(record) => Ok(Some(event(&record)?)),
                Err(StoreError::Trimmed { from, first }) => {
                    Err(RoomError::FellBehind { next: from, oldest: first })
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Leaves; [`hear`](Self::hear) still gives what the room said until then.
    pub async fn leave(&mut self) -> Result<(), RoomError> {
        if let Some(made) = self.stand_up() {
            let left = self.rooms.has_left(&self.room, self.call, made).await?;
            self.left = Some(match left {
                Some(left) => left,
                // Another joining has said it already, or the seat is taken.
                None => self.rooms.store.extent(&stream(&self.room.name)).await?.last,
            });
        }
        Ok(())
    }

    /// `None` when the seat is not this member's any more.
    fn stand_up(&self) -> Option<Answer<Vec<Written>>> {
        // Whoever has taken the seat over is in it still, and an own leaving
        // has been said.
        if self.taken.is_cancelled() || self.left.is_some() {
            return None;
        }
        self.rooms.stand_up(&self.room, self.call)
    }
}

/// Comes back when another server has the seat of a member.
async fn taken_elsewhere(
    rooms: &Rooms,
    room: &Room,
    call: u64,
    elsewhere: &mut watch::Receiver<u64>,
) -> RoomError {
    loop {
        // Cancelled below, this looks again.
        if elsewhere.clone().changed().await.is_err() || !rooms.peers.are_there() {
            return std::future::pending().await;
        }
        match rooms.is_in(room, call).await {
            Ok(true) => elsewhere.mark_unchanged(),
            Ok(false) => return RoomError::TakenOver,
            Err(error) => return error.into(),
        }
    }
}

fn event(record: &Record) -> Result<Event, StoreError> {
    Ok(Event { sequence: record.sequence, said: store::decode("an event of a room", &record.bytes)? })
}

impl Drop for Member {
    fn drop(&mut self) {
        let Some(made) = self.stand_up() else { return };
        // There is nobody left who could wait for it; at the end of the program there
        // is no runtime either.
        let Ok(runtime) = Handle::try_current() else { return };
        let (rooms, room, call) = (self.rooms.clone(), self.room.clone(), self.call);
        runtime.spawn(async move {
            if let Err(error) = rooms.has_left(&room, call, made).await {
                tracing::warn!(room = %room.name, %error, "a member has left, and the room could not be told");
            }
        });
    }
}

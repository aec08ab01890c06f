//! Rooms in which members talk. A room is a stream of events in the store, and
//! each member reads it at its own pace by a cursor: everyone hears the same
//! events in the same order, nobody waits for a slow member, and what was said
//! is there after a restart. Who is in a room is known only while it lasts.
//!
//! When events that a member has not heard are no longer kept, its stream ends with
//! an error (`FELL_BEHIND`) and never skips them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    feed::{self, Cursor, Retention, Usage},
    lock,
    names::{self, BadName},
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

/// All rooms that have members.
#[derive(Debug)]
pub struct Rooms {
    store: Arc<dyn Store>,
    retention: Retention,
    /// How many rooms may be kept, with members or without.
    most: usize,
    open: Mutex<HashMap<String, Arc<Room>>>,
}

#[derive(Debug)]
struct Room {
    name: String,
    members: Mutex<Vec<Seat>>,
    /// Since it was last looked at.
    events: AtomicU64,
}

/// A member as the room knows it.
#[derive(Debug)]
struct Seat {
    name: String,
    /// Chosen by the client; whoever comes with it again is the same member.
    id: Option<Id>,
    /// Cancelled when another call takes this seat.
    taken: CancellationToken,
}

/// A member's place in a room. Dropping it leaves the room.
pub struct Member {
    rooms: Arc<Rooms>,
    room: Arc<Room>,
    name: String,
    cursor: Cursor,
    taken: CancellationToken,
    /// The number of the own leaving, once it has happened.
    left: Option<u64>,
}

impl Rooms {
    /// Up to `most` rooms, whose events are kept in `store`.
    pub fn new(store: Arc<dyn Store>, retention: Retention, most: usize) -> Self {
        Self { store, retention, most, open: Mutex::default() }
    }

    /// Forgets what is too old or too much, of quiet rooms as well, and every room
    /// in which nothing is left and nobody is.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        for (stream, _) in feed::streams(&*self.store, ROOM).await? {
            self.retention.apply(&*self.store, &stream, time).await?;
            let Extent { first, last, .. } = self.store.extent(&stream).await?;
            if first > last && !self.is_open(stream.strip_prefix(ROOM).unwrap_or(&stream)) {
                match self.store.commit(vec![Write::Forget { stream, expect: last }]).await {
                    // Somebody has come.
                    Ok(_) | Err(StoreError::Conflict { .. }) => {}
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
        if self.is_open(room) {
            return Err(occupied());
        }
        feed::clear(&*self.store, &stream, last).await?;
        match self.store.commit(vec![Write::Forget { stream, expect: last }]).await {
            Err(StoreError::Conflict { .. }) => Err(occupied()),
            removed => Ok(removed.map(drop)?),
        }
    }

    /// What all rooms take.
    pub async fn usage(&self) -> Result<Usage, StoreError> {
        Usage::of(&*self.store, ROOM).await
    }

    fn is_open(&self, room: &str) -> bool {
        lock(&self.open).contains_key(room)
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
        let is_new = extent.first > extent.last && !self.is_open(room);
        if is_new && feed::is_full(&*self.store, ROOM, self.most).await? {
            return Err(RoomError::TooManyKept(self.most));
        }
        let (room, taken, joined) = self.sit_down(room, name, id)?;
        // Made before the first await: dropped there, it leaves.
        let next = extent.last + 1;
        let cursor = |next| Cursor::new(self.store.clone(), stream(&room.name), next);
        let mut member = Member {
            rooms: self.clone(),
            cursor: cursor(next),
            room: room.clone(),
            name: name.to_owned(),
            taken,
            left: None,
        };
        let joined = match joined {
            Some(joined) => sequence(&joined.await?),
            None => next,
        };
        self.trim(&room);
        member.cursor = cursor(match since {
            Since::After(after) => after + 1,
            Since::History(events) => joined.saturating_sub(events).max(extent.first),
        });
        Ok(member)
    }

    /// Without a joining, the seat was taken over.
    #[expect(clippy::type_complexity, reason = "used once")]
    fn sit_down(
        &self,
        room: &str,
        name: &str,
        id: Option<Id>,
    ) -> Result<(Arc<Room>, CancellationToken, Option<Answer<Vec<Written>>>), RoomError> {
        let mut open = lock(&self.open);
        let room = match open.get(room) {
            Some(room) => room.clone(),
            None if open.len() == MAX_ROOMS => return Err(RoomError::TooManyRooms),
            None => Arc::new(Room {
                name: room.to_owned(),
                members: Mutex::default(),
                events: AtomicU64::new(EVENTS_PER_TRIM),
            }),
        };
        let taken = CancellationToken::new();
        let mut members = lock(&room.members);
        if let Some(seat) = members.iter_mut().find(|seat| seat.name == name) {
            if id.is_none() || seat.id != id {
                return Err(RoomError::NameTaken { room: room.name.clone(), name: name.to_owned() });
            }
            std::mem::replace(&mut seat.taken, taken.clone()).cancel();
            drop(members);
            return Ok((room, taken, None));
        }
        if members.len() == MAX_MEMBERS {
            return Err(RoomError::RoomFull { room: room.name.clone() });
        }
        members.push(Seat { name: name.to_owned(), id, taken: taken.clone() });
        // While nobody else can join: events say who is there in the order of
        // the joinings.
        let names = members.iter().map(|seat| seat.name.clone()).collect();
        let joined = self.say(&room, name, What::Joined(names));
        drop(members);
        open.insert(room.name.clone(), room.clone());
        Ok((room, taken, Some(joined)))
    }

    fn say(&self, room: &Room, name: &str, what: What) -> Answer<Vec<Written>> {
        let id = match &what {
            What::Posted { id, .. } => *id,
            What::Joined(_) | What::Left => None,
        };
        let said = Said { time: platform::now(), name: name.to_owned(), what };
        let record = store::encode(&said);
        room.events.fetch_add(1, Relaxed);
        self.store.commit(vec![Write::Append { stream: stream(&room.name), record, id, expect: None }])
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

/// Of the one event that was written.
fn sequence(written: &[Written]) -> u64 {
    match written {
        [Written::Appended(sequence) | Written::Known(sequence)] => *sequence,
        _ => 0,
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
        let said = self.rooms.say(&self.room, &self.name, what.clone());
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
        if let Some(left) = self.stand_up() {
            self.left = Some(sequence(&left.await?));
        }
        Ok(())
    }

    /// `None` when the seat is not this member's any more.
    fn stand_up(&self) -> Option<Answer<Vec<Written>>> {
        // The lock order of `sit_down`: an empty room goes before anyone else
        // can enter it.
        let mut open = lock(&self.rooms.open);
        let mut members = lock(&self.room.members);
        // Whoever has taken the seat over is in it still, and an own leaving
        // has been said.
        let seat = members.iter().position(|seat| seat.name == self.name)?;
        if self.taken.is_cancelled() || self.left.is_some() {
            return None;
        }
        members.remove(seat);
        if members.is_empty() {
            open.remove(&self.room.name);
        }
        Some(self.rooms.say(&self.room, &self.name, What::Left))
    }
}

fn event(record: &Record) -> Result<Event, StoreError> {
    Ok(Event { sequence: record.sequence, said: store::decode("an event of a room", &record.bytes)? })
}

impl Drop for Member {
    fn drop(&mut self) {
        // Takes its place among the commits at once; there is nobody left who
        // could wait for it.
        drop(self.stand_up());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::Memory;

    const ALL: Retention = Retention { age: Duration::MAX, bytes: u64::MAX };
    const NOW: Since = Since::History(0);

    fn rooms(retention: Retention) -> Arc<Rooms> {
        Arc::new(Rooms::new(Arc::new(Memory::default()), retention, 999))
    }

    async fn join(rooms: &Arc<Rooms>, name: &str) -> Member {
        rooms.join("lobby", name, None, NOW).await.unwrap()
    }

    async fn post(member: &Member, text: &str) -> u64 {
        member.post(text, None).unwrap().await.unwrap()
    }

    fn shown(event: Event) -> (u64, String) {
        let name = event.said.name;
        let what = match event.said.what {
            What::Joined(members) => format!("{name} joined {members:?}"),
            What::Left => format!("{name} left"),
            What::Posted { text, .. } => format!("{name}: {text}"),
        };
        (event.sequence, what)
    }

    async fn hear_all(member: &mut Member) -> Vec<(u64, String)> {
        let mut heard = Vec::new();
        while let Some(event) = member.hear().await.unwrap() {
            heard.push(shown(event));
        }
        heard
    }

    #[tokio::test]
    async fn everyone_hears_everything_between_joining_and_leaving_in_one_order() {
        let rooms = rooms(ALL);
        let mut ana = join(&rooms, "ana").await;
        post(&ana, "anyone?").await;
        let mut ben = join(&rooms, "ben").await;
        post(&ben, "here").await;
        ana.leave().await.unwrap();
        ben.leave().await.unwrap();
        let all = [
            (1, r#"ana joined ["ana"]"#.to_owned()),
            (2, "ana: anyone?".to_owned()),
            (3, r#"ben joined ["ana", "ben"]"#.to_owned()),
            (4, "ben: here".to_owned()),
            (5, "ana left".to_owned()),
            (6, "ben left".to_owned()),
        ];
        assert_eq!(hear_all(&mut ana).await, all[..5]);
        assert_eq!(hear_all(&mut ben).await, all[2..]);
    }

    #[tokio::test]
    async fn a_member_hears_as_much_of_the_history_as_it_asks_for() {
        let rooms = rooms(ALL);
        let ana = join(&rooms, "ana").await;
        for n in 2..=9 {
            assert_eq!(post(&ana, &n.to_string()).await, n);
        }
        let first = async |since| {
            let mut ben = rooms.join("lobby", "ben", None, since).await.unwrap();
            ben.hear().await.unwrap().unwrap().sequence
        };
        assert_eq!(first(Since::History(0)).await, 10);
        assert_eq!(first(Since::History(4)).await, 12 - 4);
        assert_eq!(first(Since::History(1_000)).await, 1);
        assert_eq!(first(Since::After(0)).await, 1);
        assert_eq!(first(Since::After(7)).await, 8);
        let last = rooms.store.extent("room/lobby").await.unwrap().last;
        assert_eq!(
            rooms.join("lobby", "ben", None, Since::After(last + 1)).await.err(),
            Some(RoomError::Ahead { after: last + 1, last })
        );
    }

    #[tokio::test]
    async fn what_was_said_outlives_the_members_and_the_server() {
        let store: Arc<dyn Store> = Arc::new(Memory::default());
        let first = Arc::new(Rooms::new(store.clone(), ALL, 999));
        let ana = join(&first, "ana").await;
        post(&ana, "remember").await;
        // Killed, not left.
        std::mem::forget(ana);
        let second = Arc::new(Rooms::new(store, ALL, 999));
        let mut ana = second.join("lobby", "ana", None, Since::After(1)).await.unwrap();
        assert_eq!(shown(ana.hear().await.unwrap().unwrap()), (2, "ana: remember".to_owned()));
        assert_eq!(shown(ana.hear().await.unwrap().unwrap()), (3, r#"ana joined ["ana"]"#.to_owned()));
    }

    #[tokio::test]
    async fn a_message_with_a_known_id_appears_once() {
        let rooms = rooms(ALL);
        let ana = join(&rooms, "ana").await;
        let id = Some([7; 16]);
        assert_eq!(ana.post("once", id).unwrap().await, Ok(2));
        assert_eq!(ana.post("once", id).unwrap().await, Ok(2));
        let reused = RoomError::IdReused { id: [7; 16], sequence: 2 };
        assert_eq!(ana.post("twice", id).unwrap().await, Err(reused));
        let ben = join(&rooms, "ben").await;
        assert!(ben.post("once", id).unwrap().await.is_err());
        assert_eq!(rooms.store.extent("room/lobby").await.unwrap().last, 3);
    }

    #[tokio::test]
    async fn a_member_that_comes_back_takes_its_own_place() {
        let rooms = rooms(ALL);
        let id = Some([7; 16]);
        let mut stale = rooms.join("lobby", "ana", id, NOW).await.unwrap();
        stale.hear().await.unwrap();
        let mut ana = rooms.join("lobby", "ana", id, Since::After(1)).await.unwrap();
        assert_eq!(stale.hear().await, Err(RoomError::TakenOver));
        assert!(stale.post("late", None).is_err());
        drop(stale);
        // Nobody has left or joined in the meantime.
        assert_eq!(post(&ana, "back").await, 2);
        assert_eq!(shown(ana.hear().await.unwrap().unwrap()).1, "ana: back");
        for other in [None, Some([8; 16])] {
            let taken = rooms.join("lobby", "ana", other, NOW).await.err();
            assert_eq!(taken, Some(RoomError::NameTaken { room: "lobby".into(), name: "ana".into() }));
        }
    }

    #[tokio::test]
    async fn a_dropped_member_has_left_and_an_empty_room_is_gone() {
        let rooms = rooms(ALL);
        let mut ana = join(&rooms, "ana").await;
        drop(join(&rooms, "ben").await);
        ana.leave().await.unwrap();
        assert_eq!(hear_all(&mut ana).await.iter().filter(|(_, what)| what == "ben left").count(), 1);
        assert!(lock(&rooms.open).is_empty());
        // A member that has left and is dropped later does not touch the room
        // that others have opened under the same name, nor one who has its name.
        let other = join(&rooms, "ana").await;
        drop(ana);
        assert_eq!(lock(&other.room.members).len(), 1);
        assert_eq!(lock(&rooms.open).len(), 1);
    }

    #[tokio::test]
    async fn a_member_that_falls_behind_is_told_and_the_others_are_not_held_up() {
        let rooms = rooms(Retention { bytes: 4_000, ..ALL });
        let mut slow = join(&rooms, "slow").await;
        let mut quick = join(&rooms, "quick").await;
        let mut oldest = 1;
        while oldest == 1 {
            post(&quick, "and").await;
            quick.hear().await.unwrap().unwrap();
            tokio::task::yield_now().await;
            oldest = rooms.store.extent("room/lobby").await.unwrap().first;
        }
        match slow.hear().await {
            Err(RoomError::FellBehind { next: 1, oldest }) => assert!(oldest > 1),
            other => panic!("{other:?}"),
        }
        let late = rooms.join("lobby", "late", None, Since::After(0)).await.err();
        assert!(matches!(late, Some(RoomError::FellBehind { next: 1, .. })), "{late:?}");
        rooms.join("lobby", "late", None, Since::History(1_000_000)).await.unwrap().hear().await.unwrap();
    }

    #[tokio::test]
    async fn joins_and_leaves_count_towards_the_size_of_a_room() {
        for somebody_stays in [true, false] {
            let rooms = rooms(Retention { bytes: 2_000, ..ALL });
            let _stays = if somebody_stays { Some(join(&rooms, "ana").await) } else { None };
            for _ in 0..EVENTS_PER_TRIM {
                drop(join(&rooms, "ben").await);
                tokio::task::yield_now().await;
            }
            let extent = rooms.store.extent("room/lobby").await.unwrap();
            assert!(extent.first > 1 && extent.bytes < 50_000, "{extent:?}");
        }
    }

    #[tokio::test]
    async fn a_sweep_forgets_what_is_too_old_and_rooms_in_which_nothing_is_left() {
        let rooms = rooms(Retention { age: Duration::ZERO, ..ALL });
        let ana = join(&rooms, "ana").await;
        drop(rooms.join("attic", "ana", None, NOW).await.unwrap());
        rooms.sweep().await.unwrap();
        assert_eq!(rooms.usage().await.unwrap(), Usage { count: 1, bytes: 0 });
        // Somebody is in it, and goes on where it was.
        assert_eq!(post(&ana, "still here").await, 2);
        drop(ana);
        rooms.sweep().await.unwrap();
        assert_eq!(rooms.usage().await.unwrap(), Usage::default());
        // A member of before is not given what others say now.
        let again = join(&rooms, "ben").await;
        assert_eq!(post(&again, "new").await, 5);
        let late = rooms.join("lobby", "ana", None, Since::After(2)).await.err();
        assert_eq!(late, Some(RoomError::FellBehind { next: 3, oldest: 4 }));
    }

    #[tokio::test]
    async fn hearing_waits_for_what_is_not_there_yet() {
        let rooms = rooms(ALL);
        let mut ana = join(&rooms, "ana").await;
        ana.hear().await.unwrap();
        let ben = tokio::spawn({
            let rooms = rooms.clone();
            async move {
                let ben = join(&rooms, "ben").await;
                ben.post("hi", None).unwrap().await.unwrap()
            }
        });
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.push(ana.hear().await.unwrap().unwrap().sequence);
        }
        ben.await.unwrap();
        assert_eq!(heard, [2, 3, 4]);
    }

    #[tokio::test]
    async fn what_breaks_a_rule_is_refused() {
        let rooms = rooms(ALL);
        let ana = join(&rooms, "ana").await;
        let refused = async |room: &str, name: &str| rooms.join(room, name, None, NOW).await.err().unwrap();
        assert_eq!(refused("", "x").await, RoomError::BadName { field: "room", reason: BadName::Blank });
        assert_eq!(refused("x", "\n").await, RoomError::BadName { field: "name", reason: BadName::Blank });
        assert_eq!(
            refused("lobby", "ana").await,
            RoomError::NameTaken { room: "lobby".into(), name: "ana".into() }
        );
        assert_eq!(ana.post("", None).err(), Some(RoomError::EmptyText));
        assert_eq!(ana.post(&"x".repeat(4097), None).err(), Some(RoomError::LongText(4097)));
        let mut others = Vec::new();
        for n in 1..MAX_MEMBERS {
            others.push(join(&rooms, &n.to_string()).await);
        }
        assert_eq!(refused("lobby", "ben").await, RoomError::RoomFull { room: "lobby".into() });
        drop(others);
        let mut rest = Vec::new();
        for n in 1..MAX_ROOMS {
            rest.push(rooms.join(&n.to_string(), "ana", None, NOW).await.unwrap());
        }
        assert_eq!(refused("one more", "ana").await, RoomError::TooManyRooms);
    }
}

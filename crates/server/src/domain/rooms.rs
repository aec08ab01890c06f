//! Rooms in which members talk. A room is a log of events, and each member
//! reads it at its own pace by a cursor: everyone hears the same events in the
//! same order, and nobody waits for a slow member.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use shared_proto::limits::TEXT_BYTES;
use tokio::sync::watch;

use super::names::{self, BadName};

const MAX_ROOMS: usize = 64;
const MAX_MEMBERS: usize = 256;
/// How far a member may fall behind, in events and in bytes of text.
const KEPT_EVENTS: usize = 16_384;
const KEPT_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) sequence: u64,
    pub(crate) time: SystemTime,
    /// Who did it.
    pub(crate) name: Arc<str>,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// With everyone who is there by now, in the order of joining.
    Joined(Arc<[Arc<str>]>),
    Left,
    Posted(Arc<str>),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RoomError {
    #[error("{field} {reason}")]
    BadName { field: &'static str, reason: BadName },
    #[error("text must not be empty")]
    EmptyText,
    #[error("text has {0} bytes; {TEXT_BYTES} are allowed")]
    LongText(usize),
    #[error("room {room:?} has a member called {name:?} already; join under another name")]
    NameTaken { room: String, name: String },
    #[error("there are {MAX_ROOMS} rooms already; join one of them or come back later")]
    TooManyRooms,
    #[error("room {room:?} is full: it has {MAX_MEMBERS} members")]
    RoomFull { room: String },
    #[error("this member fell behind: the next event for it is {next}, the oldest that is kept is {oldest}")]
    FellBehind { next: u64, oldest: u64 },
}

/// All rooms that have members.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    rooms: Mutex<HashMap<String, Arc<Room>>>,
}

#[derive(Debug)]
struct Room {
    log: Mutex<Log>,
    /// The number of the last event. Only says that there is more: what there
    /// is, is read from the log.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Log {
    members: Vec<Arc<str>>,
    events: VecDeque<Event>,
    last: u64,
    bytes: usize,
}

/// A member's place in a room. Dropping it leaves the room.
#[derive(Debug)]
pub(crate) struct Member {
    rooms: Arc<Rooms>,
    room_name: String,
    room: Arc<Room>,
    name: Arc<str>,
    /// The next event to hear.
    next: u64,
    more: watch::Receiver<u64>,
    /// The number of the own leaving, once it has happened.
    left: Option<u64>,
}

impl Rooms {
    /// The first event that the new member hears is its own joining.
    pub(crate) fn join(self: &Arc<Self>, room_name: &str, name: &str) -> Result<Member, RoomError> {
        names::check(room_name).map_err(|reason| RoomError::BadName { field: "room", reason })?;
        names::check(name).map_err(|reason| RoomError::BadName { field: "name", reason })?;
        let mut rooms = lock(&self.rooms);
        let room = match rooms.get(room_name) {
            Some(room) => room.clone(),
            None if rooms.len() == MAX_ROOMS => return Err(RoomError::TooManyRooms),
            None => Arc::new(Room { log: Mutex::default(), last: watch::Sender::new(0) }),
        };
        let name: Arc<str> = name.into();
        let more = room.last.subscribe();
        let mut log = lock(&room.log);
        if log.members.contains(&name) {
            return Err(RoomError::NameTaken { room: room_name.into(), name: name.to_string() });
        }
        if log.members.len() == MAX_MEMBERS {
            return Err(RoomError::RoomFull { room: room_name.into() });
        }
        log.members.push(name.clone());
        let members = log.members.as_slice().into();
        let next = room.append(&mut log, name.clone(), What::Joined(members));
        drop(log);
        rooms.insert(room_name.to_owned(), room.clone());
        Ok(Member {
            rooms: self.clone(),
            room_name: room_name.to_owned(),
            room,
            name,
            next,
            more,
            left: None,
        })
    }
}

impl Room {
    fn append(&self, log: &mut Log, name: Arc<str>, what: What) -> u64 {
        log.last += 1;
        log.bytes += what.bytes();
        log.events.push_back(Event { sequence: log.last, time: SystemTime::now(), name, what });
        while log.events.len() > KEPT_EVENTS || log.bytes > KEPT_BYTES {
            let Some(forgotten) = log.events.pop_front() else { break };
            log.bytes -= forgotten.what.bytes();
        }
        self.last.send_replace(log.last);
        log.last
    }
}

impl What {
    fn bytes(&self) -> usize {
        match self {
            Self::Posted(text) => text.len(),
            Self::Joined(members) => size_of_val::<[_]>(members),
            Self::Left => 0,
        }
    }
}

impl Member {
    pub(crate) fn post(&self, text: &str) -> Result<(), RoomError> {
        match text.len() {
            0 => Err(RoomError::EmptyText),
            length if length > TEXT_BYTES => Err(RoomError::LongText(length)),
            _ => {
                self.room.append(&mut lock(&self.room.log), self.name.clone(), What::Posted(text.into()));
                Ok(())
            }
        }
    }

    /// The next event; `None` after the member's own leaving. Cancelling loses
    /// nothing.
    pub(crate) async fn hear(&mut self) -> Result<Option<Event>, RoomError> {
        loop {
            if self.left.is_some_and(|left| self.next > left) {
                return Ok(None);
            }
            // Marked as seen before the log is read: what comes after the
            // reading wakes this member again.
            self.more.borrow_and_update();
            if let Some(event) = self.read()? {
                self.next += 1;
                return Ok(Some(event));
            }
            // The sender lives in `self.room`, so this cannot fail.
            let _ = self.more.changed().await;
        }
    }

    fn read(&self) -> Result<Option<Event>, RoomError> {
        let log = lock(&self.room.log);
        let Some(oldest) = log.events.front().map(|event| event.sequence) else { return Ok(None) };
        match self.next.checked_sub(oldest) {
            Some(index) => Ok(log.events.get(index as usize).cloned()),
            None => Err(RoomError::FellBehind { next: self.next, oldest }),
        }
    }

    /// Leaves; [`hear`](Self::hear) still gives what the room said until then.
    pub(crate) fn leave(&mut self) {
        if self.left.is_some() {
            return;
        }
        // The lock order of `join`: an empty room goes before anyone else can
        // enter it.
        let mut rooms = lock(&self.rooms.rooms);
        let mut log = lock(&self.room.log);
        log.members.retain(|member| *member != self.name);
        self.left = Some(self.room.append(&mut log, self.name.clone(), What::Left));
        if log.members.is_empty() {
            rooms.remove(&self.room_name);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}

/// No code here panics while it holds a lock; if that were ever wrong, the data
/// would still be whole, since each change is made before anything can fail.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hear_all(member: &mut Member) -> Vec<(u64, String)> {
        let mut heard = Vec::new();
        while let Some(event) = member.hear().await.unwrap() {
            let what = match event.what {
                What::Joined(members) => format!("{} joined {members:?}", event.name),
                What::Left => format!("{} left", event.name),
                What::Posted(text) => format!("{}: {text}", event.name),
            };
            heard.push((event.sequence, what));
        }
        heard
    }

    #[tokio::test]
    async fn everyone_hears_everything_between_joining_and_leaving_in_one_order() {
        let rooms = Arc::<Rooms>::default();
        let mut ana = rooms.join("lobby", "ana").unwrap();
        ana.post("anyone?").unwrap();
        let mut ben = rooms.join("lobby", "ben").unwrap();
        ben.post("here").unwrap();
        ana.leave();
        ben.leave();
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
    async fn a_dropped_member_has_left_and_an_empty_room_is_gone() {
        let rooms = Arc::<Rooms>::default();
        let mut ana = rooms.join("lobby", "ana").unwrap();
        drop(rooms.join("lobby", "ben").unwrap());
        ana.leave();
        assert_eq!(hear_all(&mut ana).await.iter().filter(|(_, what)| what == "ben left").count(), 1);
        assert!(lock(&rooms.rooms).is_empty());
        // A member that has left and is dropped later does not touch the room
        // that others have opened under the same name.
        let bea = rooms.join("lobby", "bea").unwrap();
        drop(ana);
        assert_eq!(lock(&rooms.rooms).len(), 1);
        drop(bea);
    }

    #[tokio::test]
    async fn a_member_that_falls_behind_is_told_and_the_others_are_not_held_up() {
        let rooms = Arc::<Rooms>::default();
        let mut slow = rooms.join("lobby", "slow").unwrap();
        let mut quick = rooms.join("lobby", "quick").unwrap();
        for n in 0..KEPT_EVENTS {
            quick.post(&n.to_string()).unwrap();
            quick.hear().await.unwrap().unwrap();
        }
        assert_eq!(slow.hear().await, Err(RoomError::FellBehind { next: 1, oldest: 3 }));
    }

    #[tokio::test]
    async fn a_room_keeps_no_more_text_than_it_may() {
        let rooms = Arc::<Rooms>::default();
        let ana = rooms.join("lobby", "ana").unwrap();
        let text = "x".repeat(TEXT_BYTES);
        for _ in 0..2 * KEPT_BYTES / TEXT_BYTES {
            ana.post(&text).unwrap();
        }
        let log = lock(&ana.room.log);
        assert!(log.bytes <= KEPT_BYTES && log.events.len() <= KEPT_BYTES / TEXT_BYTES);
    }

    #[tokio::test]
    async fn hearing_waits_for_what_is_not_there_yet() {
        let rooms = Arc::<Rooms>::default();
        let mut ana = rooms.join("lobby", "ana").unwrap();
        ana.hear().await.unwrap();
        let ben = tokio::spawn({
            let rooms = rooms.clone();
            async move { rooms.join("lobby", "ben").unwrap().post("hi").unwrap() }
        });
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.push(ana.hear().await.unwrap().unwrap().sequence);
        }
        ben.await.unwrap();
        assert_eq!(heard, [2, 3, 4]);
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let rooms = Arc::<Rooms>::default();
        let ana = rooms.join("lobby", "ana").unwrap();
        let refused = |room: &str, name: &str| rooms.join(room, name).unwrap_err();
        assert_eq!(refused("", "x"), RoomError::BadName { field: "room", reason: BadName::Blank });
        assert_eq!(refused("x", "\n"), RoomError::BadName { field: "name", reason: BadName::Blank });
        assert_eq!(
            refused("lobby", "ana"),
            RoomError::NameTaken { room: "lobby".into(), name: "ana".into() }
        );
        assert_eq!(ana.post(""), Err(RoomError::EmptyText));
        assert_eq!(ana.post(&"x".repeat(4097)), Err(RoomError::LongText(4097)));
        let others: Vec<_> = (1..MAX_MEMBERS).map(|n| rooms.join("lobby", &n.to_string()).unwrap()).collect();
        assert_eq!(refused("lobby", "ben"), RoomError::RoomFull { room: "lobby".into() });
        drop(others);
        let rest: Vec<_> = (1..MAX_ROOMS).map(|n| rooms.join(&n.to_string(), "ana").unwrap()).collect();
        assert_eq!(refused("one more", "ana"), RoomError::TooManyRooms);
        drop(rest);
    }
}

use std::time::Duration;

use super::*;
use crate::{
    lock,
    peers::{self, Living},
    store::{
        Memory,
        failing::{Failing, How},
    },
};

const ALL: Retention = Retention { age: Duration::MAX, bytes: u64::MAX };
const NOW: Since = Since::History(0);

fn rooms(retention: Retention) -> Arc<Rooms> {
    Arc::new(Rooms::new(Arc::new(Memory::default()), Peers::alone(), retention, 999))
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
    let first = Arc::new(Rooms::new(store.clone(), Peers::alone(), ALL, 999));
    let ana = join(&first, "ana").await;
    post(&ana, "remember").await;
    // Killed, not left.
    std::mem::forget(ana);
    let second = Arc::new(Rooms::new(store, Peers::alone(), ALL, 999));
    let mut ana = second.join("lobby", "ana", None, Since::After(1)).await.unwrap();
    assert_eq!(shown(ana.hear().await.unwrap().unwrap()), (2, "ana: remember".to_owned()));
    assert_eq!(shown(ana.hear().await.unwrap().unwrap()), (3, "ana left".to_owned()));
    assert_eq!(shown(ana.hear().await.unwrap().unwrap()), (4, r#"ana joined ["ana"]"#.to_owned()));
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
    assert_eq!(other.room.members(), 1);
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

fn shared<const COUNT: usize>() -> (watch::Sender<Living>, [Arc<Rooms>; COUNT]) {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let (living, servers) = peers::servers();
    (living, servers.map(|peers| Arc::new(Rooms::new(store.clone(), peers, ALL, 999))))
}

#[tokio::test]
async fn members_of_several_servers_are_in_one_room() {
    let (_living, [one, other]) = shared();
    let mut ana = join(&one, "ana").await;
    let ben = join(&other, "ben").await;
    post(&ben, "here").await;
    let taken = one.join("lobby", "ben", None, NOW).await.err();
    assert_eq!(taken, Some(RoomError::NameTaken { room: "lobby".into(), name: "ben".into() }));
    assert_eq!(one.remove("lobby").await, Err(RoomError::Occupied("lobby".into())));
    drop(ben);
    // What this server knows of the room is old by now.
    let cat = join(&one, "cat").await;
    drop(cat);
    ana.leave().await.unwrap();
    let heard: Vec<_> = hear_all(&mut ana).await.into_iter().map(|(_, what)| what).collect();
    let expected = [
        r#"ana joined ["ana"]"#,
        r#"ben joined ["ana", "ben"]"#,
        "ben: here",
        "ben left",
        r#"cat joined ["ana", "cat"]"#,
        "cat left",
        "ana left",
    ];
    assert_eq!(heard, expected);
    other.remove("lobby").await.unwrap();
    assert_eq!(one.usage().await.unwrap(), Usage::default());
}

/// Each join expects what the one before has left, whoever made it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_joining_says_who_is_there_however_many_come_at_once() {
    const EACH: usize = 20;
    let (_living, servers) = shared::<3>();
    let joining = (0..3 * EACH).map(|n| {
        let rooms = servers[n % 3].clone();
        tokio::spawn(async move { join(&rooms, &n.to_string()).await })
    });
    let joining: Vec<_> = joining.collect();
    let mut members = Vec::new();
    for member in joining {
        members.push(member.await.unwrap());
    }
    let records = servers[0].store.read("room/lobby", 1, usize::MAX).await.unwrap();
    let mut there = Vec::new();
    for record in &records {
        let said = event(record).unwrap().said;
        there.push(said.name);
        assert_eq!(said.what, What::Joined(there.clone()));
    }
    assert_eq!(there.len(), 3 * EACH);
}

#[tokio::test]
async fn a_member_that_comes_back_at_another_server_takes_its_own_place() {
    let (_living, [one, other]) = shared();
    let id = Some([7; 16]);
    let mut stale = one.join("lobby", "ana", id, NOW).await.unwrap();
    stale.hear().await.unwrap();
    let mut ana = other.join("lobby", "ana", id, Since::After(1)).await.unwrap();
    assert_eq!(stale.hear().await, Err(RoomError::TakenOver));
    stale.leave().await.unwrap();
    drop(stale);
    // Nobody has left or joined in the meantime.
    assert_eq!(post(&ana, "back").await, 2);
    assert_eq!(shown(ana.hear().await.unwrap().unwrap()).1, "ana: back");
}

#[tokio::test]
async fn who_was_at_a_server_that_died_has_left_once() {
    let (living, [one, two, three]) = shared();
    let id = Some([7; 16]);
    let (ana, ben) = (join(&one, "ana").await, one.join("lobby", "ben", id, NOW).await.unwrap());
    let mut cat = join(&two, "cat").await;
    one.join("attic", "ana", None, NOW).await.map(std::mem::forget).unwrap();
    std::mem::forget((ana, ben));
    two.bury().await.unwrap();
    assert_eq!(one.store.extent("room/lobby").await.unwrap().last, 3, "nobody has died");
    peers::kill(&living, 1);
    // Came back before anybody noticed.
    let ben = three.join("lobby", "ben", id, Since::After(3)).await.unwrap();
    let buried = tokio::join!(two.bury(), three.bury());
    assert_eq!(buried, (Ok(()), Ok(())));
    drop(ben);
    tokio::task::yield_now().await;
    cat.leave().await.unwrap();
    let heard: Vec<_> = hear_all(&mut cat).await.into_iter().map(|(_, what)| what).collect();
    assert_eq!(heard, [r#"cat joined ["ana", "ben", "cat"]"#, "ana left", "ben left", "cat left"]);
    assert_eq!(two.store.extent("room/attic").await.unwrap().last, 2);
}

/// The store refuses the joining of the older call last.
#[tokio::test]
async fn a_newer_call_of_a_member_keeps_its_seat() {
    let memory: Arc<dyn Store> = Arc::new(Memory::default());
    let store = Failing::new(memory.clone());
    let (_living, [mine, others]) = peers::servers();
    let one = Arc::new(Rooms::new(store.clone(), mine, ALL, 999));
    let other = Arc::new(Rooms::new(memory, others, ALL, 999));
    store.now(How::Held);
    let mut calls = [(); 2].map(|()| Box::pin(one.join("lobby", "ana", Some([7; 16]), NOW)));
    for call in &mut calls {
        tokio::select! {
            biased;
            _ = call => panic!("not held"),
            () = store.met(1) => {}
        }
    }
    let _ben = join(&other, "ben").await;
    store.now(How::Works);
    let [old, new] = calls;
    let mut ana = new.await.unwrap();
    assert_eq!(old.await.err(), Some(RoomError::TakenOver));
    let _cat = join(&one, "cat").await;
    assert_eq!(shown(ana.hear().await.unwrap().unwrap()).1, r#"ana joined ["ben", "ana"]"#);
    assert_eq!(shown(ana.hear().await.unwrap().unwrap()).1, r#"cat joined ["ben", "ana", "cat"]"#);
}

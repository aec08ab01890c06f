//! Many requests, many responses.

mod sync;

use server::config::{Config, Retention};
use shared_proto::{
    fourmodes::v1::{JoinRoom, PostText, chat_request::Action},
    limits::TEXT_BYTES,
};
use test_support::{Member, Server, bad_fields, channel, raw_member, reason, run};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

#[test]
fn everyone_in_a_room_hears_the_same_events_in_the_same_order() {
    run(async {
        let server = Server::start().await;
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        let mut ben = Member::joined(server.address, "lobby", "ben").await;
        for n in 0..100 {
            ana.post(&format!("from ana {n}")).await;
            ben.post(&format!("from ben {n}")).await;
        }
        assert_eq!(ana.hear().await.unwrap(), "2 ben joined ana, ben");
        let by_ana = ana.hear_times(200).await;
        let by_ben = ben.hear_times(200).await;
        assert_eq!(by_ana, by_ben);
        let sequence = |event: &String| event.split(' ').next().unwrap().parse::<u64>().unwrap();
        assert!(by_ana.iter().map(sequence).eq(3..=202), "{by_ana:?}");
        for name in ["ana", "ben"] {
            let said = by_ana.iter().filter_map(|event| event.split_once(&format!("from {name} ")));
            assert!(said.map(|(_, n)| n.to_owned()).eq((0..100).map(|n| n.to_string())), "{by_ana:?}");
        }
        ben.half_close();
        assert_eq!(ana.hear().await.unwrap(), "203 ben left");
        assert_eq!(ben.hear().await.unwrap(), "203 ben left");
    });
}

#[test]
fn rooms_do_not_hear_each_other() {
    run(async {
        let server = Server::start().await;
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        let ben = Member::joined(server.address, "attic", "ana").await;
        ben.post("up here").await;
        drop(ben);
        ana.post("down here").await;
        assert_eq!(ana.hear().await.unwrap(), "2 ana: down here");
    });
}

#[test]
fn a_half_close_is_answered_with_the_own_leaving_and_ok() {
    run(async {
        let server = Server::start().await;
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        ana.post("bye").await;
        ana.half_close();
        assert_eq!(ana.hear().await.unwrap(), "2 ana: bye");
        assert_eq!(ana.hear().await.unwrap(), "3 ana left");
        assert_eq!(ana.hear().await, None);
    });
}

#[test]
fn a_call_that_is_cut_leaves_the_room_and_its_name_is_free() {
    run(async {
        let server = Server::start().await;
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        let ben = raw_member(server.address, "ben").await;
        assert_eq!(ana.hear().await.unwrap(), "2 ben joined ana, ben");
        ben.cancel();
        assert_eq!(ana.hear().await.unwrap(), "3 ben left");
        let _ben = Member::joined(server.address, "lobby", "ben").await;
        assert_eq!(ana.hear().await.unwrap(), "4 ben joined ana, ben");
    });
}

#[test]
fn a_name_is_held_by_one_member() {
    run(async {
        let server = Server::start().await;
        let _ana = Member::joined(server.address, "lobby", "ana").await;
        let mut other = Member::silent(channel(server.address)).await;
        other.join("lobby", "ana").await;
        let refused = other.failure().await;
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "NAME_TAKEN"));
    });
}

#[test]
fn what_breaks_a_rule_is_refused_and_the_field_is_named() {
    run(async {
        let server = Server::start().await;
        let long_name = "x".repeat(65);
        for (room, name, field) in [
            ("", "ana", "room"),
            (" ", "ana", "room"),
            (long_name.as_str(), "ana", "room"),
            ("a\u{7}b", "ana", "room"),
            ("lobby", "", "name"),
            ("lobby", long_name.as_str(), "name"),
            ("lobby", "a\u{1b}[2Jb", "name"),
            ("lobby", "a\u{202e}b", "name"),
        ] {
            let mut member = Member::silent(channel(server.address)).await;
            member.join(room, name).await;
            assert_eq!(bad_fields(&member.failure().await), [field], "{room:?} {name:?}");
        }
        for (name, text) in [("ana", String::new()), ("ben", "x".repeat(TEXT_BYTES + 1))] {
            let mut member = Member::joined(server.address, "lobby", name).await;
            member.post(&text).await;
            assert_eq!(bad_fields(&member.failure().await), ["text"]);
        }
        let mut member = Member::silent(channel(server.address)).await;
        member.send(None).await;
        assert_eq!(bad_fields(&member.failure().await), ["action"]);
    });
}

#[test]
fn the_longest_text_is_heard_as_it_was_said() {
    run(async {
        let server = Server::start().await;
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        let text = "é".repeat(TEXT_BYTES / 2);
        ana.post(&text).await;
        assert_eq!(ana.hear().await.unwrap(), format!("2 ana: {text}"));
    });
}

#[test]
fn a_post_before_the_join_and_a_second_join_are_out_of_turn() {
    run(async {
        let server = Server::start().await;
        let mut early = Member::silent(channel(server.address)).await;
        early.send(Some(Action::Post(PostText { text: "hi".to_owned(), ..PostText::default() }))).await;
        let mut twice = Member::joined(server.address, "lobby", "ana").await;
        let (room, name) = ("attic".to_owned(), "ana".to_owned());
        let join = JoinRoom { room, name, ..JoinRoom::default() };
        twice.send(Some(Action::Join(join))).await;
        for member in [&mut early, &mut twice] {
            let refused = member.failure().await;
            assert_eq!(
                (refused.code(), reason(&refused).as_str()),
                (Code::FailedPrecondition, "OUT_OF_TURN")
            );
        }
    });
}

#[test]
fn a_member_that_is_refused_has_left() {
    run(async {
        let server = Server::start().await;
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        let ben = Member::joined(server.address, "lobby", "ben").await;
        ben.post("").await;
        assert_eq!(ana.hear_until("ben left").await.len(), 2);
    });
}

#[test]
fn the_call_is_answered_before_its_first_message() {
    run(async {
        let server = Server::start().await;
        let mut ana = Member::silent(channel(server.address)).await;
        ana.join("lobby", "ana").await;
        assert_eq!(ana.hear().await.unwrap(), "1 ana joined ana");
    });
}

#[test]
fn a_call_that_says_nothing_at_all_ends_with_ok() {
    run(async {
        let server = Server::start().await;
        let mut ana = Member::silent(channel(server.address)).await;
        ana.half_close();
        assert_eq!(ana.hear().await, None);
    });
}

/// A connection on which little arrives that is not read.
fn narrow(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535).connect_lazy()
}

#[test]
fn a_member_that_never_reads_holds_nobody_up_and_is_told_that_it_fell_behind() {
    run(async {
        let retention = Retention { bytes: 1 << 20, ..Retention::default() };
        let server = Server::with(Config { retention, ..Config::default() }).await;
        let mut quick = Member::joined(server.address, "lobby", "quick").await;
        let mut slow = Member::silent(narrow(&server)).await;
        slow.join("lobby", "slow").await;
        assert_eq!(quick.hear().await.unwrap(), "2 slow joined quick, slow");
        // More than a room keeps.
        let texts = (6 << 20) / TEXT_BYTES;
        let text = "x".repeat(TEXT_BYTES - 4);
        for n in 0..texts {
            quick.post(&format!("{text}{n:04}")).await;
            assert!(quick.hear().await.unwrap().ends_with(&format!("{n:04}")));
        }
        let told = slow.failure().await;
        assert_eq!((told.code(), reason(&told).as_str()), (Code::OutOfRange, "FELL_BEHIND"));
        assert_eq!(quick.hear().await.unwrap().split_once(' ').unwrap().1, "slow left");
    });
}

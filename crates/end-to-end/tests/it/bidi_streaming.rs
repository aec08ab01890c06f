//! Many requests, many responses.

mod sync;

use grpc_wire::Mode;
use serde_json::{Value, json};
use test_support::{BlockingServer as Server, Ended};

use crate::Called as _;

fn events(ended: &Ended) -> Vec<(u64, String)> {
    let heard = ended.json().into_iter().filter(|line| line["value"]["event"].is_object());
    heard
        .map(|line| {
            let value = &line["value"]["event"];
            let what = ["joined", "left", "posted"].into_iter().find(|what| value[what].is_object()).unwrap();
            let text = value["posted"]["text"].as_str().unwrap_or_default();
            (
                value["sequence"].as_str().unwrap().parse().unwrap(),
                format!("{} {what} {text}", value["name"].as_str().unwrap()),
            )
        })
        .collect()
}

#[test]
fn what_is_said_is_shown_plainly() {
    let server = Server::start();
    let ended =
        server.client("bidi-streaming chat --room r --name ana --plain").stdin("hello\n\u{202e}x\n").run();
    let shown: Vec<_> = ended.ok().stdout.lines().take(4).map(str::to_owned).collect();
    assert_eq!(shown, ["* ana joined", "ana: hello", "ana: \\u{202e}x", "* ana left"]);
}

#[test]
fn lines_of_standard_input_are_posts_and_its_end_leaves() {
    let server = Server::start();
    let ended = server
        .client("bidi-streaming chat --room r --name ana --output json")
        .stdin("hello\n\n  two  \nlast without end")
        .run()
        .ok();
    let texts: Vec<_> = events(&ended).into_iter().map(|(_, text)| text).collect();
    assert_eq!(
        texts,
        ["ana joined ", "ana posted hello", "ana posted   two  ", "ana posted last without end", "ana left "]
    );
    assert_eq!(
        ended.result()["value"],
        json!({
            "room": "r", "name": "ana", "heard": 5, "posted": 3, "unaccepted": 0,
            "last_sequence": 5, "gaps": 0, "duplicates": 0,
        })
    );
}

#[test]
fn two_clients_in_a_room_hear_the_same_in_the_same_order() {
    let server = Server::start();
    let join = |name: &str| {
        let mut member =
            server.client(&format!("bidi-streaming chat --room r --name {name} --output json")).spawn();
        let lines = member.lines();
        lines.until(r#""joined""#);
        (member, lines)
    };
    let (mut ana, ana_hears) = join("ana");
    let (mut ben, ben_hears) = join("ben");
    ana_hears.until(r#""members":["ana","ben"]"#);
    let mut heard = Vec::new();
    for n in 0..50 {
        ana.say(&format!("a{n}"));
        ben.say(&format!("b{n}"));
    }
    for _ in 0..100 {
        let [at_ana, at_ben] = [&ana_hears, &ben_hears].map(|lines| {
            let event: Value = serde_json::from_str(&lines.until(r#""posted":"#)).unwrap();
            event["value"]["event"].clone()
        });
        assert_eq!(at_ana, at_ben);
        heard.push(at_ana["posted"]["text"].as_str().unwrap().to_owned());
    }
    let of =
        |first: char| heard.iter().filter(move |text| text.starts_with(first)).cloned().collect::<Vec<_>>();
    assert_eq!(of('a'), (0..50).map(|n| format!("a{n}")).collect::<Vec<_>>());
    assert_eq!(of('b'), (0..50).map(|n| format!("b{n}")).collect::<Vec<_>>());
    ana.half_close();
    ben_hears.until(r#""name":"ana","left""#);
    assert_eq!(ana.wait().code, Some(0));
    drop(ben);
    server.has_let_go_of(Mode::BidiStreaming);
}

#[test]
fn what_a_peer_says_does_nothing_to_a_terminal() {
    let server = Server::start();
    let says = "\u{1b}[2J\u{9b}31m\u{202e}\u{7f}";
    for output in ["text", "json"] {
        let chat = server.client(&format!("bidi-streaming chat --room r --name ana --output {output}"));
        let ended = chat.stdin(says).run().ok();
        assert!(
            !ended.stdout.contains(|c: char| c != '\n' && shared_process::is_unseen(c)),
            "{:?}",
            ended.stdout
        );
        if output == "json" {
            let posted = ended.json().into_iter().find(|line| line["value"]["event"]["posted"].is_object());
            assert_eq!(posted.unwrap()["value"]["event"]["posted"]["text"], says, "nothing is lost by it");
        }
    }
}

#[test]
fn a_chat_at_the_pace_of_people_is_shown_whole_and_at_once() {
    let server = Server::start();
    let mut ana = server.client("bidi-streaming chat --room r --name ana").spawn();
    let ana_hears = ana.lines();
    ana_hears.until("joined");
    let mut ben = server.client("bidi-streaming chat --room r --name ben").spawn();
    let ben_hears = ben.lines();
    ana_hears.until("members: [ana, ben]");
    for n in 0..30 {
        ben.say(&format!("line-{n}."));
        ana_hears.until(&format!("posted {{text: line-{n}.  "));
        ben_hears.until(&format!("posted {{text: line-{n}.  "));
    }
}

#[test]
fn what_cannot_be_posted_is_said_and_the_rest_goes_on() {
    let server = Server::start();
    let mut lines = b"before\n".to_vec();
    lines.extend(b"x".repeat(4097));
    lines.extend(b"\n\xff\xfe\nafter\n");
    let ended = server.client("bidi-streaming chat --room r --name ana --output json").stdin(lines).run();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("line 2 not posted") && ended.stderr.contains("4096"), "{}", ended.stderr);
    assert!(ended.stderr.contains("line 3 not posted") && ended.stderr.contains("UTF-8"), "{}", ended.stderr);
    assert_eq!(ended.result()["value"]["posted"], 2);
}

#[test]
fn names_that_break_a_rule_are_refused_with_the_field_and_the_reason() {
    let server = Server::start();
    let long = "x".repeat(65);
    for (room, name, words) in [
        ("", "ana", ["room", "must not be blank"]),
        ("r", "", ["name", "must not be blank"]),
        ("r", "a\u{1b}[2J", ["name", "invisible character"]),
        (long.as_str(), "ana", ["room", "65 characters"]),
    ] {
        let chat =
            server.client("bidi-streaming chat").arg(format!("--room={room}")).arg(format!("--name={name}"));
        let ended = chat.run().failed(1, &["INVALID_ARGUMENT"]).failed(1, &words);
        assert!(!ended.stderr.contains('\u{1b}') && !ended.stdout.contains('\u{1b}'), "{ended:?}");
    }
    let mut ana = server.client("bidi-streaming chat --room r --name ana").spawn();
    ana.lines().until("joined");
    server
        .client("bidi-streaming chat --room r --name ana")
        .run()
        .failed(1, &["ALREADY_EXISTS", "another name"]);
}

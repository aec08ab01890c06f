//! Recordings: drawn again, and made again.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use serde_json::Value;
use test_support::{BlockingServer as Server, ServerProgram, Signal};

use super::{Watching, watch};
use crate::{Called as _, client, server};

/// A recording of some calls, and what was drawn of them.
fn recorded(server: &Server, directory: &Path, calls: &[&str]) -> (PathBuf, String) {
    let file = directory.join("calls.jsonl");
    let watching = Watching::start(watch(&server.url, "--output json --record").arg(&file));
    calls.iter().for_each(|call| drop(watching.client(call).run()));
    (file, watching.end())
}

const CALLS: [&str; 4] = [
    "unary multiply 6 7",
    "unary task 01939f6c-8a1b-7c2d-9e3f-0123456789ab",
    "unary multiply 9223372036854775807 7",
    "server-streaming quotes --symbols ACME,BOLT --count 5 --from-sequence 1",
];

#[test]
fn a_recording_is_drawn_as_the_calls_were() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let (file, drawn) = recorded(&server, directory.path(), &CALLS);
    let shown = client("show --output json").arg(&file).run().ok().stdout;
    assert_eq!(shown, drawn);
    let begun = Instant::now();
    let live = client("show --output json --live --speed 2").arg(&file).run().ok().stdout;
    assert_eq!(live, drawn);
    let last: Value = serde_json::from_str(drawn.lines().rev().nth(1).unwrap()).unwrap();
    assert!(begun.elapsed().as_secs_f64() * 2e3 >= last["at_ms"].as_f64().unwrap());
    let only = client("show --only GetTask").arg(&file).run().ok().stdout;
    assert!(!only.contains("call 1"), "{only}");
    let only = client("show --only UnaryService/GetTask").arg(&file).run().ok().stdout;
    assert!(only.contains("call 2: trailers only  NOT_FOUND") && !only.contains("call 1"), "{only}");
}

#[test]
fn a_replay_finds_what_differs_and_nothing_else() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let (file, _) = recorded(&server, directory.path(), &CALLS);
    let replayed = server.client("replay --output json").arg(&file).run().ok();
    assert_eq!(replayed.result()["value"]["calls"], 4, "{replayed:?}");
    assert_eq!(replayed.result()["value"]["differ"], 0, "{replayed:?}");
    // One answer is another one: 42 becomes 43.
    let text = fs::read_to_string(&file).unwrap();
    let changed = text.replacen(r#""bytes":"CCo=""#, r#""bytes":"CCs=""#, 1);
    assert_ne!(changed, text);
    fs::write(&file, changed).unwrap();
    let replayed = server.client("replay --speed 4").arg(&file).run().failed(1, &[]);
    assert!(
        replayed.stdout.contains("call 1 /fourmodes.v1.UnaryService/Multiply differs: message 1"),
        "{replayed:?}"
    );
    assert!(replayed.stdout.ends_with("4 calls made again, 1 of them not as recorded\n"), "{replayed:?}");
    // And one status.
    fs::write(&file, text.replacen(r#"["grpc-status","5"]"#, r#"["grpc-status","7"]"#, 1)).unwrap();
    let replayed = server.client("replay").arg(&file).run().failed(1, &[]);
    assert!(
        replayed.stdout.contains("the status is NOT_FOUND")
            && replayed.stdout.contains("was PERMISSION_DENIED"),
        "{replayed:?}"
    );
}

#[test]
fn a_replay_waits_for_what_the_server_said_before() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("calls.jsonl");
    let watching = Watching::start(watch(&server.url, "--record").arg(&file));
    watching.client("check --only modes").run().ok();
    watching.end();
    let replayed = server.client("replay --speed 1000 --output json").arg(&file).run();
    let differs: Vec<_> = replayed.json().into_iter().filter(|line| line["type"] == "differs").collect();
    // Times differ, and so messages do; their number and the statuses do not.
    for line in &differs {
        let reason = line["reason"].as_str().unwrap();
        assert!(reason.starts_with("message "), "{line}");
    }
    assert!(replayed.result()["value"]["calls"].as_u64().unwrap() >= 8, "{replayed:?}");
}

#[test]
fn a_recording_that_cannot_be_read_is_refused_by_name() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let (file, drawn) = recorded(&server, directory.path(), &CALLS[..1]);
    let text = fs::read_to_string(&file).unwrap();
    let show = |content: &str| {
        fs::write(&file, content).unwrap();
        client("show --output json").arg(&file).run()
    };
    let cut = show(&text[..text.len() - 9]).failed(3, &["calls.jsonl", "cut off in line"]);
    assert!(cut.stdout.lines().count() + 1 >= drawn.lines().count() - 1, "{cut:?}");
    show(&text.replacen(r#""fourmodes_recording":1"#, r#""fourmodes_recording":2"#, 1))
        .failed(3, &["version 2", "newer"]);
    show("").failed(3, &["not a recording"]);
    show("{}\n").failed(3, &["not a recording"]);
    show(&text.replacen(r#""type":"request""#, r#""type":"dance""#, 1)).failed(3, &["is no event"]);
    server.client("replay").arg(directory.path().join("none")).run().failed(3, &["none"]);
}

#[test]
fn a_recording_has_a_bound() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("calls.jsonl");
    let watching = Watching::start(watch(&server.url, "--record-limit 20KiB --record").arg(&file));
    watching.client("measure --only unary --messages 500 --warmup 0s").run().ok();
    watching.end();
    let size = fs::metadata(&file).unwrap().len();
    assert!((15 << 10..21 << 10).contains(&size), "{size}");
    assert!(fs::read_to_string(&file).unwrap().trim_end().ends_with(r#"for more"}"#));
    client("show").arg(&file).run().ok();
}

/// The calls that `call` makes are recorded without those of reflection.
#[test]
fn a_call_is_recorded_as_watch_does_it() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("call.jsonl");
    let call = |method: &str, data: &str| {
        let call = format!("call {} fourmodes.v1.{method} --record {}", server.url, file.display());
        client(&call).arg("-d").arg(data)
    };
    call("UnaryService/Multiply", r#"{"a": 6, "b": 7}"#).run().ok();
    let shown = client("show").arg(&file).run().ok().stdout;
    for text in
        ["call 1: HEADERS /fourmodes.v1.UnaryService/Multiply", "message 1  product: 42", "trailers  OK"]
    {
        assert!(shown.contains(text), "no {text:?} in:\n{shown}");
    }
    assert!(!shown.contains("call 2"), "{shown}");
    let replayed = server.client("replay --output json").arg(&file).run().ok();
    assert_eq!(replayed.result()["value"]["calls"], 1, "{replayed:?}");
    // One that is given up has its end in the recording.
    let mut quotes = call("ServerStreamingService/WatchQuotes", r#"{"symbols": ["ACME"]}"#).spawn();
    quotes.lines().until("message 1  quote");
    quotes.signal(Signal::INT);
    assert_eq!(quotes.wait().code, Some(130));
    let replayed = server.client("replay --output json").arg(&file).run();
    assert_eq!(replayed.result()["value"]["left_out"], 0, "{replayed:?}");
    call("UnaryService/Multiply", "{}").args("--record-limit 10").run().ok();
    let missing = directory.path().join("none/call.jsonl");
    let call =
        format!("call {} fourmodes.v1.UnaryService/Multiply --record {}", server.url, missing.display());
    client(&call).run().failed(1, &["the recording", "none/call.jsonl"]);
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copied(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// A server with this state.
fn served(directory: &Path, state: &str) -> ServerProgram {
    let server = server("all --log-root").arg(directory).env("FOURMODES_DATA_DIR", directory.join(state));
    server.serve()
}

fn stopped(mut server: ServerProgram) {
    server.signal(Signal::TERM);
    assert_eq!(server.wait(), Some(0));
}

/// A server makes up times, loads and counters anew. Everything else it says is the same
/// when it has the state that it had.
#[test]
fn all_scenarios_are_replayed_without_a_difference() {
    const MADE_UP: &str = "google.protobuf.Timestamp,fourmodes.v1.ProcessLoad,fourmodes.v1.MachineLoad,\
                           fourmodes.v1.ModeStatus,cpu_time";
    const REQUEST: &str = "7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42";
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("lines.log"), "one\ntwo\nthree\n").unwrap();
    fs::write(path("file.txt"), "content").unwrap();
    fs::write(path("notes.txt"), "text\n").unwrap();
    let submit = format!("unary submit primes --below 1000 --request-id {REQUEST} --output json");

    let server = served(directory.path(), "state");
    let submitted = server.client(&submit).run().ok();
    let task = submitted.result()["value"]["id"].as_str().unwrap().to_owned();
    server.client(&format!("server-streaming task {task}")).run().ok();
    stopped(server);
    copied(&path("state"), &path("before"));

    let server = served(directory.path(), "state");
    let recording = path("calls.jsonl");
    let watching = Watching::start(watch(server.url(), "--record").arg(&recording));
    let calls = [
        ("unary multiply 6 7", ""),
        ("unary status", ""),
        (submit.as_str(), ""),
        (&format!("unary task {task}"), ""),
        (&format!("unary cancel {task}"), ""),
        ("client-streaming upload file.txt", ""),
        ("unary files", ""),
        ("server-streaming download file.txt -o copy.txt", ""),
        ("server-streaming quotes --symbols ACME --count 3 --from-sequence 1", ""),
        ("server-streaming system --interval 200ms --count 2", ""),
        (&format!("server-streaming task {task}"), ""),
        ("server-streaming log lines.log --count 3", ""),
        ("client-streaming readings - --producer p", "device,time,value\na,1,2.5\na,2,3.5\n"),
        // Whether a post is accepted or heard first is a matter of chance.
        ("bidi-streaming chat --room r --name ana", ""),
        ("bidi-streaming sync notes.txt --once", ""),
    ];
    for (call, typed) in calls {
        let ended = watching.client(call).current_dir(directory.path()).stdin(typed).run();
        // The task is over.
        let refused = call.starts_with("unary cancel");
        assert_eq!(ended.code, Some(i32::from(refused)), "{call}: {ended:?}");
    }
    watching.end();
    stopped(server);
    let documented =
        include_str!("../../../../../docs/scenarios.md").lines().filter_map(|line| line.strip_prefix("### "));
    let documented: BTreeSet<_> =
        documented.filter(|name| name.contains("unary ") || name.contains("-streaming ")).collect();
    let two_words = |call: &str| call.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let made: BTreeSet<_> = calls.iter().map(|(call, _)| two_words(call)).collect();
    assert!(made.iter().map(String::as_str).eq(documented), "{made:?}");

    let replayed = |state: &str, options: &str| {
        copied(&path("before"), &path(state));
        let server = served(directory.path(), state);
        let replay = format!("replay --output json {options} --ignore {MADE_UP}");
        let replayed = server.client(&replay).arg(&recording).run();
        let result = &replayed.result()["value"];
        assert_eq!(result["left_out"], 0, "{replayed:?}");
        (result["differ"].as_u64().unwrap(), replayed)
    };
    // At 1000 times the speed the server is slower than it was: calls wait for those before.
    for (state, options) in [("once", ""), ("fast", "--speed 1000")] {
        let (differ, same) = replayed(state, options);
        assert_eq!((differ, same.code), (0, Some(0)), "{same:?}");
    }
    let text = fs::read_to_string(&recording).unwrap();
    let changed = text.replacen(r#""bytes":"CCo=""#, r#""bytes":"CCs=""#, 1);
    assert_ne!(changed, text);
    fs::write(&recording, changed).unwrap();
    let (differ, other) = replayed("again", "");
    assert_eq!((differ, other.code), (1, Some(1)), "{other:?}");
}

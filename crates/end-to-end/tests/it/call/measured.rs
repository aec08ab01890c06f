//! `measure --call`: any method of any server, in all four modes.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::Value;
use stack::{Settings, Tokens};
use test_support::{BlockingServer, Ended, Program};

use super::echo::Echo;
use crate::client;

fn measure(echo: &Echo, method: &str, data: &str, options: &str) -> Program {
    let program = client("measure --warmup 0s --output json").arg(&echo.address).args(options);
    program.arg("--call").arg(format!("t.Echo/{method}")).arg("-d").arg(data)
}

fn ways(ended: &Ended) -> Vec<Value> {
    ended.json().into_iter().filter(|line| line["type"] == "way").collect()
}

/// The way's name, how many messages there were, how long each was, and what its times are.
fn facts(line: &Value) -> (&str, u64, u64, &str) {
    assert_eq!(line["goal"], "call");
    let number = |name: &str| line[name].as_u64().unwrap_or_else(|| panic!("no {name} in {line}"));
    let text = |name: &str| line[name].as_str().unwrap();
    (text("way"), number("messages"), number("message_bytes"), text("time_of"))
}

#[test]
fn a_method_of_each_mode_is_measured_in_the_ways_of_its_mode() {
    for (method, wanted, calls, messages) in [
        ("Unary", vec![("unary", 200, 4, "answer"), ("unary-in-flight", 200, 4, "answer")], 402, 402),
        // Each call brings five, and the first one was for one.
        ("Many", vec![("server-streaming", 200, 2, "gap")], 41, 41),
        ("Collect", vec![("client-streaming", 200, 2, "send")], 2, 201),
        ("Each", vec![("bidi-ping-pong", 200, 4, "answer"), ("bidi-pipelined", 200, 4, "answer")], 4, 402),
    ] {
        let echo = Echo::start();
        let ended = measure(&echo, method, r#"{"n": 5}"#, "--messages 200").run().ok();
        assert_eq!(ways(&ended).iter().map(facts).collect::<Vec<_>>(), wanted, "{method}");
        assert_eq!((echo.calls.load(Relaxed), echo.messages.load(Relaxed)), (calls, messages), "{method}");
        assert_eq!(ended.result()["value"]["method"], format!("/t.Echo/{method}"));
    }
}

#[test]
fn with_a_rate_each_message_or_call_is_due_at_its_time() {
    let echo = Echo::start();
    for (method, messages, time_of) in
        [("Unary", 50, "answer"), ("Collect", 50, "wait"), ("Each", 50, "answer"), ("Many", 250, "call")]
    {
        let ended = measure(&echo, method, r#"{"n": 5}"#, "--messages 50 --rate 500").run().ok();
        for line in ways(&ended) {
            assert_eq!((&line["messages"], &line["time_of"]), (&messages.into(), &time_of.into()), "{line}");
            let schedule = &line["schedule"];
            assert_eq!((&schedule["messages"], &schedule["unsent"]), (&50.into(), &0.into()), "{line}");
            // The last one is due a tenth of a second after the first.
            assert!(line["seconds"].as_f64() >= Some(0.098), "{line}");
        }
    }
}

#[test]
fn calls_of_a_stream_are_whole_when_they_are_bounded() {
    for (method, ways_of_it) in [("Collect", 1), ("Each", 2)] {
        for options in ["--messages 200", "--messages 200 --rate 2000"] {
            let echo = Echo::start();
            let ended = measure(&echo, method, "{}", &format!("{options} --per-call 10")).run().ok();
            assert!(ways(&ended).iter().all(|line| line["messages"] == 200), "{}", ended.stdout);
            // With the one before that shows whether it works.
            assert_eq!(echo.calls.load(Relaxed), ways_of_it * 21, "{method} {options}");
            assert_eq!(echo.messages.load(Relaxed), ways_of_it * 210, "{method} {options}");
        }
    }
    let echo = Echo::start();
    let options = "--duration 100ms --per-call 10 --connections 2";
    let ended = measure(&echo, "Collect", "{}", options).run().ok();
    assert_eq!(ways(&ended)[0]["messages"].as_u64().unwrap() % 10, 0, "{}", ended.stdout);
    assert_eq!(echo.messages.load(Relaxed) % 10, 0);
}

#[test]
fn several_messages_have_their_turns() {
    let echo = Echo::start();
    let ended = measure(&echo, "Unary", r#"{"n": 1} {"n": 200}"#, "--messages 100 --only unary").run().ok();
    // Two bytes and three, there and back.
    assert_eq!(ways(&ended).iter().map(facts).collect::<Vec<_>>(), [("unary", 100, 5, "answer")]);
}

#[test]
fn a_stream_that_never_ends_is_read_for_as_long_as_was_asked_for() {
    let echo = Echo::start();
    let ended = measure(&echo, "Endless", "{}", "--messages 1000 --connections 3").run().ok();
    assert_eq!(ways(&ended)[0]["messages"], 1000);
    for method in ["Endless", "Stalls"] {
        let ended = measure(&echo, method, "{}", "--duration 100ms").run().ok();
        assert!(ways(&ended)[0]["messages"].as_u64() >= Some(1), "{}", ended.stdout);
    }
}

#[test]
fn answers_that_do_not_come_one_for_one_are_an_error_that_says_so() {
    let echo = Echo::start();
    // It answers all at the end, and so one after the other it answers one.
    let ended = measure(&echo, "Late", "{}", "--duration 100ms --only bidi-ping-pong").run().ok();
    assert_eq!(ways(&ended)[0]["messages"], 1);
    measure(&echo, "Twice", "{}", "--messages 5")
        .run()
        .failed(1, &["2 messages", "a call of this method has one"]);
    let ended = measure(&echo, "Early", "{}", "--messages 500 --only bidi-pipelined").run();
    ended.failed(1, &["1 answers to 64 messages", "fourmodes call"]);
}

#[cfg(unix)]
#[test]
fn a_server_of_ours_tells_its_cpu_time() {
    let server = BlockingServer::start();
    let options =
        "measure --warmup 0s --output json --messages 200 --call fourmodes.v1.UnaryService/Multiply";
    let ended = client(options).arg(&server.url).run().ok();
    assert!(ways(&ended).iter().all(|line| line["server_cpu"] == "known"), "{}", ended.stdout);
    let echo = Echo::start();
    let ended = measure(&echo, "Unary", "{}", "--messages 20").run().ok();
    let unknown = "the server does not serve UnaryService.GetStatus";
    assert!(ways(&ended).iter().all(|line| line["server_cpu"] == unknown), "{}", ended.stdout);
}

/// The same token, by the header that somebody else's server would want.
#[test]
fn metadata_goes_along_with_each_call() {
    const SHA_256: &str = "063daa1177dc8df59cf26a8fb19be24989988f7349ab8f2973f2bc04eadaff3e";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, format!("ana {SHA_256} all\n").as_bytes()).unwrap();
    let tokens = Some(Tokens::read(file.path()).unwrap());
    let server = BlockingServer::with(Settings { tokens, ..Settings::default() }.into());
    let options = "measure --warmup 0s --output json --messages 20 --call fourmodes.v1.UnaryService/Multiply";
    let measure = || client(options).arg(&server.url);
    let ended = measure().arg("-H").arg("authorization: Bearer for-bench").run().ok();
    assert!(ways(&ended).iter().all(|line| line["messages"] == 20), "{}", ended.stdout);
    measure().run().failed(1, &["UNAUTHENTICATED"]);
}

#[test]
fn text_and_plot_have_the_method() {
    let echo = Echo::with_reflection(false);
    let directory = tempfile::tempdir().unwrap();
    let plot = directory.path().join("call.svg");
    let program = client("measure --warmup 0s --messages 300").arg(&echo.url).arg("--proto").arg(&echo.proto);
    let program = program.args("--call t.Echo/Each -H x-own:1 --plot").arg(&plot);
    let text = program.run().ok().stdout;
    for words in ["/t.Echo/Each: 300 in each way", "\ncall  ", "bidi pipelined", "call: a message"] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    assert!(!text.contains("reason"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(std::fs::read_to_string(plot).unwrap().contains("Time of a message: call"));
}

#[test]
fn what_does_not_fit_is_said_and_nothing_is_called() {
    let echo = Echo::start();
    for (method, data, options, words) in [
        ("Unry", "{}", "", vec!["no method \"Unry\"", "Unary"]),
        ("", "{}", "", vec!["no SERVICE/METHOD"]),
        ("Unary", r#"{"m": 1}"#, "", vec!["m", "line 1"]),
        ("Unary", "", "", vec!["no message to send", "-d"]),
        ("Unary", "{}", "--per-call 3", vec!["--per-call is for streams", "unary"]),
        ("Unary", "{}", "--only columnar", vec!["/t.Echo/Unary is unary", "unary in flight", "--only"]),
    ] {
        let ended = measure(&echo, method, data, options).run();
        assert_eq!(ended.result()["error"]["code"], "INPUT");
        ended.failed(3, &words);
    }
    assert_eq!(echo.calls.load(Relaxed), 0);
    measure(&echo, "Fail", "{}", "").run().failed(1, &["ABORTED", "no"]);
    for (options, words) in [
        ("-d {}", "--call"),
        ("--per-call 3", "--call"),
        ("--proto x.proto", "--call"),
        ("-H a:b", "--call"),
        ("--call t.Echo/Unary --size 5", "--size"),
    ] {
        client("measure localhost:1").args(options).run().failed(2, &[words]);
    }
}

//! Answers that are not those of the server, or not all of them: what a proxy says when
//! it does not reach its server, and what it does to an answer that has begun.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use test_support::{BlockingServer as Server, Fault, LONG, Path};

use crate::client;

#[test]
fn a_page_is_named_as_what_it_is_in_every_mode() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.csv");
    fs::write(&file, "device,time,value\na,0,1\n").unwrap();
    for (status, code, name) in [
        (502, "UNAVAILABLE", "HTTP 502 Bad Gateway with text/html"),
        (503, "UNAVAILABLE", "HTTP 503 Service Unavailable with text/html"),
        (200, "UNKNOWN", "HTTP 200 OK with text/html"),
        (404, "UNIMPLEMENTED", "HTTP 404 Not Found with text/html"),
    ] {
        let path = Path::to(&server, Fault::Page(status));
        for call in [
            "unary multiply 6 7",
            "server-streaming quotes",
            "client-streaming readings",
            "client-streaming upload",
            "bidi-streaming chat --room r --name ana",
        ] {
            let mut program = client(&format!("{call} --reconnect 1s --server {}", path.url));
            if call.starts_with("client-streaming") {
                program = program.arg(&file);
            }
            let what = format!("the answer is not gRPC, but {name}");
            let ended = program.run().failed(1, &[&format!("error: {code}: {what}"), "proxy"]);
            assert!(!ended.stderr.contains("the server failed"), "{call}: {}", ended.stderr);
        }
    }
}

#[test]
fn a_stream_goes_on_after_an_answer_that_was_cut_off_or_written_into() {
    for fault in [Fault::EndAfter(2000), Fault::PageAfter(2000)] {
        let server = Server::start();
        let path = Path::to(&server, fault);
        let call = "server-streaming quotes --count 100 --interval 1ms --output json";
        let ended = client(&format!("{call} --server {}", path.url)).run().ok();
        let value = &ended.result()["value"];
        assert_eq!(
            (&value["count"], &value["gaps"], &value["duplicates"]),
            (&100.into(), &0.into(), &0.into())
        );
        let lost = ended.json().into_iter().filter(|line| line["type"] == "reconnect").count();
        assert!(lost > 1, "{fault:?}: {}", ended.stdout);
    }
}

#[test]
fn a_unary_call_with_an_answer_that_was_cut_off_is_not_made_again() {
    let server = Server::start();
    for (fault, said) in [
        (Fault::EndAfter(0), "UNKNOWN: the answer ended without a status"),
        (Fault::DropTrailers, "UNKNOWN: the answer ended without a status"),
        (Fault::PageAfter(0), "INTERNAL: the answer contains bytes that are not a gRPC message"),
    ] {
        let path = Path::to(&server, fault);
        let ended = client(&format!("unary multiply 6 7 --server {}", path.url)).run().failed(1, &[said]);
        assert!(!ended.stdout.contains("reconnect"), "{}", ended.stdout);
    }
}

#[test]
fn a_proxy_whose_server_is_not_there_yet_is_waited_for_only_if_that_is_asked_for() {
    let server = Server::start();
    let path = Path::to(&server, Fault::Page(502));
    for (options, attempts) in [("", false), ("--wait-for-ready --reconnect 1s", true)] {
        let call = format!("server-streaming quotes {options} --output json --server {}", path.url);
        let ended = client(&call).run().failed(1, &["UNAVAILABLE", "HTTP 502"]);
        assert_eq!(ended.json().iter().any(|line| line["type"] == "reconnect"), attempts, "{}", ended.stdout);
    }
}

/// What is between answers SETTINGS and PING by itself.
#[test]
fn every_stream_notices_that_there_is_nobody_behind_what_answers() {
    const PROMISED: Duration = Duration::from_secs(15);
    let logs = tempfile::tempdir().unwrap();
    fs::write(logs.path().join("a.log"), "a line\n").unwrap();
    let config = server::config::Config {
        log_root: Some(logs.path().to_owned()),
        ..server::config::Config::default()
    };
    let server = Server::with(config);
    let submitted = client("unary submit primes --below 1000 --quiet --output json");
    let submitted = submitted.env("FOURMODES_SERVER", &server.url).run().ok().result()["value"].clone();
    let task = format!("server-streaming task {}", submitted["id"].as_str().unwrap());
    let document = logs.path().join("a.txt");
    let sync = format!("bidi-streaming sync {}", document.display());
    let nobody = Path::to(&server, Fault::Nothing);
    let nobody_then = Path::to(&server, Fault::NothingAfter(0));
    let head = [
        "server-streaming quotes",
        "server-streaming system",
        "server-streaming log a.log",
        &task,
        "bidi-streaming chat --room r --name ana",
        &sync,
    ];
    let frame = &head[..4];
    thread::scope(|scope| {
        let each =
            head.iter().map(|call| (&nobody, call)).chain(frame.iter().map(|call| (&nobody_then, call)));
        for (path, call) in each {
            scope.spawn(move || {
                let begun = Instant::now();
                let call = format!("{call} --reconnect 0s --keepalive-interval 1s --server {}", path.url);
                client(&call).run().failed(1, &["UNAVAILABLE: nothing has come for 15s"]);
                let took = begun.elapsed();
                assert!((PROMISED..PROMISED + LONG).contains(&took), "{call}: {took:?}");
            });
        }
    });
}

#[test]
fn an_answer_that_comes_early_is_seen_while_nothing_more_can_be_sent() {
    let server = Server::start();
    let path = Path::to(&server, Fault::KeepRequest);
    let directory = tempfile::tempdir().unwrap();
    let (large, many) = (directory.path().join("large"), directory.path().join("many.csv"));
    fs::write(&large, vec![1; 16 << 20]).unwrap();
    let rows: String = (0..400_000).map(|row| format!("device,{row},1\n")).collect();
    fs::write(&many, format!("device,time,value\n{rows}")).unwrap();
    for (call, file, said) in [
        ("client-streaming upload --name a/b", &large, "INVALID_ARGUMENT"),
        ("client-streaming readings --producer", &many, "INVALID_ARGUMENT"),
    ] {
        let mut program = client(call);
        if call.ends_with("--producer") {
            program = program.arg("x".repeat(1000));
        }
        let ended = program.arg(file).env("FOURMODES_SERVER", &path.url).args("--deadline 20s").run();
        ended.failed(1, &[said]);
    }
}

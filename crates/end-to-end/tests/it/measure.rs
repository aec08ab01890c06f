//! `fourmodes measure`: what it says was really delivered and received, what it counts
//! is what passed, and what goes wrong is said.

use std::{collections::HashMap, thread, time::Duration};

use grpc_wire::Mode;
use serde_json::Value;
use server::config::Config;
use stack::{Settings, Tokens};
use test_support::{BlockingServer as Server, Ended, Program, Proxy, Signal, Trouble, eventually};
use tonic_health::server::health_reporter;

use crate::{Called as _, client};

/// All that can be measured.
const ALL: [(&str, &str); 11] = [
    ("deliver", "unary"),
    ("deliver", "unary-in-flight"),
    ("deliver", "bidi-ping-pong"),
    ("deliver", "bidi-pipelined"),
    ("deliver", "client-streaming"),
    ("deliver", "columnar"),
    ("receive", "unary"),
    ("receive", "unary-in-flight"),
    ("receive", "bidi-ping-pong"),
    ("receive", "bidi-pipelined"),
    ("receive", "server-streaming"),
];

/// Each has them, whatever the way.
const NUMBERS: [&str; 13] = [
    "messages",
    "message_bytes",
    "connections",
    "seconds",
    "messages_per_second",
    "bytes_per_second",
    "p50_us",
    "p90_us",
    "p99_us",
    "p99_9_us",
    "max_us",
    "wire_sent_bytes_per_message",
    "wire_received_bytes_per_message",
];

fn measure(server: &Server, options: &str) -> Program {
    server.client(&format!("measure --output json --warmup 0s {options}"))
}

/// The lines about ways.
fn ways(ended: &Ended) -> Vec<Value> {
    ended.json().into_iter().filter(|line| line["type"] == "way").collect()
}

#[track_caller]
fn way(ended: &Ended, goal: &str, way: &str) -> Value {
    let found = ways(ended).into_iter().find(|line| line["goal"] == goal && line["way"] == way);
    found.unwrap_or_else(|| panic!("no {goal} by {way} in {}", ended.stdout))
}

#[track_caller]
fn number(line: &Value, name: &str) -> f64 {
    line[name].as_f64().unwrap_or_else(|| panic!("no number {name} in {line}"))
}

/// What the server has counted: messages received and sent, by mode.
fn counted(server: &Server) -> HashMap<&'static str, (u64, u64)> {
    let of = |mode: Mode| {
        let status = server.status(mode);
        (mode.name(), (status.messages_received, status.messages_sent))
    };
    Mode::ALL.into_iter().map(of).collect()
}

#[test]
fn every_way_delivers_and_receives_exactly_what_it_says() {
    let server = Server::start();
    let ended = measure(&server, "--messages 300").run().ok();
    let found: Vec<_> = ways(&ended);
    let names: Vec<_> =
        found.iter().map(|line| (line["goal"].as_str().unwrap(), line["way"].as_str().unwrap())).collect();
    assert_eq!(names, ALL);
    for line in &found {
        NUMBERS.iter().for_each(|name| assert!(number(line, name) >= 0.0));
        assert_eq!(line["messages"], 300, "{line}");
        assert!(number(line, "p50_us") <= number(line, "p99_9_us"), "{line}");
        assert!(number(line, "p99_9_us") <= number(line, "max_us") * 1.001, "{line}");
        let rate = 300.0 / number(line, "seconds");
        assert!((number(line, "messages_per_second") / rate - 1.0).abs() < 1e-6, "{line}");
    }
    let result = ended.result();
    assert_eq!(
        (&result["mode"], &result["scenario"], &result["ok"]),
        (&"all".into(), &"measure".into(), &true.into())
    );
    let value = &result["value"];
    assert_eq!(
        (&value["messages"], &value["measured"], &value["left_out"]),
        (&300.into(), &11.into(), &0.into())
    );
    for recommendation in value["recommendations"].as_array().unwrap() {
        for name in ["goal", "sentence", "reason", "price"] {
            assert!(!recommendation[name].as_str().unwrap().is_empty(), "{recommendation}");
        }
    }

    // As the server has counted it, with the message before each way that shows
    // whether it works; a batch is one message.
    let counted = counted(&server);
    assert_eq!(counted["client-streaming"], (301 + 1 + 1, 2 + 2));
    assert_eq!(counted["server-streaming"], (2, 301));
    assert_eq!(counted["bidi-streaming"], (4 * 301, 4 * 301));
    assert!(counted["unary"].0 >= 4 * 301);
}

#[test]
fn connections_share_the_messages() {
    let server = Server::start();
    let ended = measure(&server, "--messages 100 --connections 3 --concurrency 7").run().ok();
    assert_eq!(ways(&ended).len(), ALL.len());
    for line in ways(&ended) {
        let alone = ["unary", "bidi-ping-pong"].contains(&line["way"].as_str().unwrap());
        assert_eq!(
            (&line["messages"], &line["connections"]),
            (&100.into(), &(if alone { 1 } else { 3 }).into())
        );
    }
}

#[test]
fn streams_tell_when_they_began_and_when_all_had_arrived() {
    let server = Server::start();
    let ended = measure(&server, "--messages 500").run().ok();
    let bidi = way(&ended, "deliver", "bidi-pipelined");
    assert!(number(&bidi, "headers_us") <= number(&bidi, "first_message_us"), "{bidi}");
    let server_streaming = way(&ended, "receive", "server-streaming");
    assert!(number(&server_streaming, "headers_us") <= number(&server_streaming, "first_message_us"));
    assert_eq!(server_streaming["time_of"], "gap");
    for name in ["client-streaming", "columnar"] {
        let stream = way(&ended, "deliver", name);
        assert!(number(&stream, "acknowledged_us") > 0.0);
        assert!(number(&stream, "blocked_seconds") <= number(&stream, "seconds"), "{stream}");
        assert_eq!(stream["time_of"], "send");
    }
    let unary = way(&ended, "deliver", "unary");
    assert_eq!((&unary["time_of"], &unary["in_flight"]), (&"answer".into(), &1.into()));
    assert_eq!(bidi["in_flight"], 64);
    // What a way does not have is missing, and no zero.
    assert!(unary.get("acknowledged_us").is_none() && unary.get("schedule").is_none(), "{unary}");
}

#[test]
fn for_a_time_it_measures_for_about_that_time() {
    let server = Server::start();
    let ended = server.client("measure --output json --duration 100ms --warmup 50ms").run().ok();
    assert_eq!(ways(&ended).len(), ALL.len());
    for line in ways(&ended) {
        assert!(number(&line, "messages") >= 1.0, "{line}");
        // A stream from the server is asked for as many as will come in that time.
        let least = if line["way"] == "server-streaming" { 0.01 } else { 0.1 };
        assert!(number(&line, "seconds") >= least, "{line}");
    }
}

#[test]
fn bytes_are_those_at_the_socket() {
    let server = Server::start();
    let ended = measure(&server, "--messages 500 --size 16").run().ok();
    let sent = |name| number(&way(&ended, "deliver", name), "wire_sent_bytes_per_message");
    let received = |name| number(&way(&ended, "receive", name), "wire_received_bytes_per_message");
    for (_, name) in ALL.iter().filter(|(goal, _)| *goal == "deliver") {
        assert!((16.0..200.0).contains(&sent(name)), "{name}: {}", sent(name));
    }
    for (_, name) in ALL.iter().filter(|(goal, _)| *goal == "receive") {
        assert!((16.0..200.0).contains(&received(name)), "{name}: {}", received(name));
    }
    // A call has headers, trailers and frames of its own; a message of a stream has
    // the five bytes of gRPC and a share of a frame; one in a batch has nothing.
    assert!(sent("unary") > 2.0 * sent("client-streaming"), "{} {}", sent("unary"), sent("client-streaming"));
    assert!(received("unary") > 2.0 * received("server-streaming"));
    assert!(sent("columnar") + 5.0 < sent("client-streaming"));
}

#[cfg(unix)]
#[test]
fn cpu_time_is_told_of_both_sides() {
    let server = Server::start();
    let ended = measure(&server, "--messages 200 --only unary,client-streaming").run().ok();
    for line in ways(&ended) {
        assert!(number(&line, "client_cpu_us_per_message") > 0.0);
        assert!(number(&line, "server_cpu_us_per_message") > 0.0);
        assert_eq!(line["server_cpu"], "known", "{line}");
    }
}

#[test]
fn cpu_time_of_a_server_that_does_not_tell_it_is_unknown() {
    let modes = vec![Mode::ClientStreaming];
    let server = Server::with(Config { modes, ..Config::default() });
    let options = "measure --output json --warmup 0s --messages 10 --only client-streaming";
    let ended = server.client(options).run().ok();
    let line = way(&ended, "deliver", "client-streaming");
    assert_eq!(line["server_cpu"], "the server does not serve UnaryService.GetStatus");
    assert!(line.get("server_cpu_us_per_message").is_none(), "{line}");
    let text = server.client("measure --warmup 0s --messages 10 --only client-streaming").run().ok().stdout;
    assert!(text.contains("not known: the server does not serve UnaryService.GetStatus"), "{text}");
}

#[cfg(unix)]
#[test]
fn cpu_time_of_a_server_that_others_use_is_shared() {
    let server = Server::start();
    let _other = measure(&server, "--only client-streaming --duration 300s").spawn();
    eventually(|| counted(&server)["client-streaming"].0 > 1000, "the other one does nothing");
    // For a time in which the other one has its turn on any machine.
    let ended = measure(&server, "--duration 500ms --only unary").run().ok();
    assert!(ways(&ended).iter().all(|line| line["server_cpu"] == "shared"), "{}", ended.stdout);
}

#[test]
fn a_token_goes_along_as_with_every_command() {
    const SHA_256: &str = "063daa1177dc8df59cf26a8fb19be24989988f7349ab8f2973f2bc04eadaff3e";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, format!("ana {SHA_256} all\n").as_bytes()).unwrap();
    let tokens = Some(Tokens::read(file.path()).unwrap());
    let server = Server::with(Settings { tokens, ..Settings::default() }.into());
    let ended = measure(&server, "--messages 5").env("FOURMODES_TOKEN", "for-bench").run().ok();
    assert!(ways(&ended).iter().all(|line| line["messages"] == 5), "{}", ended.stdout);
    measure(&server, "--messages 5").run().failed(1, &["UNAUTHENTICATED", "FOURMODES_TOKEN"]);
    // So does it with a call that has a trace of its own.
    let traced = client("call").arg(&server.url).args("fourmodes.v1.UnaryService/Multiply -q -d {} -H");
    let traced = traced.arg("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    traced.env("FOURMODES_TOKEN", "for-bench").run().ok();
}

/// Freedom from coordinated omission: every message that was due while nothing
/// passed is late, and not only the one that was under way.
#[test]
fn a_stall_is_seen_by_all_that_were_due_in_it() {
    const STALL: Duration = Duration::from_millis(600);
    let server = Server::start();
    for name in ["unary", "bidi-pipelined"] {
        let proxy = Proxy::start(server.url.strip_prefix("http://").unwrap().parse().unwrap());
        // Two seconds of messages, of which the stall has three tenths.
        let options =
            format!("measure --output json --warmup 0s --rate 100 --messages 200 --size 16 --only {name}");
        let ended = thread::scope(|scope| {
            let measuring = scope.spawn(|| client(&options).arg(format!("http://{}", proxy.address)).run());
            eventually(|| proxy.passed() > 1500, "nothing is measured");
            proxy.set(Trouble::StallAfter(0));
            eventually(|| proxy.reached(), "nothing is sent any more");
            // The length of the stall is what is to be seen.
            thread::sleep(STALL);
            proxy.set(Trouble::None);
            measuring.join().unwrap()
        });
        let line = way(&ended.ok(), "deliver", name);
        assert_eq!(line["messages"], 200);
        // The tenth that is the latest was due in the first 400 ms of the 600.
        assert!(number(&line, "p90_us") >= 300e3, "{line}");
        assert!(number(&line, "max_us") >= 550e3, "{line}");
        // One at a time they could not even be sent.
        assert!(name != "unary" || number(&line["schedule"], "late") >= 40.0, "{line}");
    }
}

#[test]
fn a_schedule_that_is_kept_is_said_to_be() {
    let server = Server::start();
    let ended = measure(&server, "--rate 200 --messages 100").run().ok();
    for line in ways(&ended) {
        if line["way"] == "server-streaming" {
            assert!(line["left_out"].as_str().unwrap().contains("the server"), "{line}");
            continue;
        }
        assert_eq!((&line["schedule"]["messages"], &line["schedule"]["unsent"]), (&100.into(), &0.into()));
        // The last one is due half a second after the first.
        assert!((0.49..2.2).contains(&number(&line, "seconds")), "{line}");
    }
}

#[test]
fn a_schedule_that_cannot_be_kept_is_said() {
    let server = Server::start();
    let ended = measure(&server, "--rate 1000000 --messages 200000 --only unary --deadline 60s").run().ok();
    let line = way(&ended, "deliver", "unary");
    let schedule = &line["schedule"];
    assert_eq!(schedule["kept"], false, "{line}");
    assert!(number(schedule, "unsent") > 0.0, "{line}");
    assert_eq!(number(schedule, "unsent") + number(&line, "messages"), 200e3);
    let text =
        server.client("measure --warmup 0s --rate 1000000 --messages 200000 --only unary").run().ok().stdout;
    assert!(text.contains("1000000/s not kept: "), "{text}");
    assert!(text.contains("messages were given up"), "{text}");
}

#[test]
fn a_way_that_the_server_refuses_messages_of_that_size_is_left_out_with_the_reason() {
    let server = Server::start();
    let ended = measure(&server, "--messages 5 --size 100KiB").run().ok();
    let unary = way(&ended, "deliver", "unary");
    assert!(unary["left_out"].as_str().unwrap().contains("65536"), "{unary}");
    assert!(way(&ended, "deliver", "columnar")["left_out"].as_str().unwrap().contains("64 KiB"));
    // In the other direction the message is an answer.
    assert_eq!(way(&ended, "receive", "unary")["messages"], 5);
    assert_eq!(way(&ended, "deliver", "client-streaming")["messages"], 5);
    let text = server.client("measure --warmup 0s --messages 5 --size 100KiB").run().ok().stdout;
    assert!(text.contains("left out: "), "{text}");
    // When nothing is left, that is a failure.
    let ended = server.client("measure --size 16MiB --only client-streaming").run();
    ended.failed(1, &["client streaming", "4194304", "tried", "cause", "next"]);
}

#[test]
fn text_is_a_table_and_ends_with_what_to_do() {
    let server = Server::start();
    let text = server.client("measure --messages 300 --warmup 0s").run().ok().stdout;
    for words in
        ["unary one at a time", "bidi pipelined", "server streaming", "deliver: a message", "reason", "price"]
    {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
    let quiet = server.client("measure --messages 300 --warmup 0s --quiet").run().ok().stdout;
    assert!(!quiet.contains("deliver: a message") && quiet.starts_with("deliver "), "{quiet}");
}

#[test]
fn the_plot_is_an_svg_of_all_that_was_measured() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("measure.svg");
    server.client("measure --messages 300 --warmup 0s --plot").arg(&path).run().ok();
    let svg = std::fs::read_to_string(&path).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    assert!(document.root_element().has_tag_name("svg"));
    let texts: Vec<_> = document.descendants().filter_map(|node| node.text()).map(str::trim).collect();
    for words in
        ["Throughput", "On the wire", "Time of a message: deliver", "columnar", "server streaming", "p99"]
    {
        assert!(texts.contains(&words), "no {words:?} in {texts:?}");
    }
    assert!(!svg.contains("NaN"));

    let nowhere = directory.path().join("none").join("measure.svg");
    let ended = measure(&server, "--messages 3 --only unary --plot").arg(&nowhere).run();
    let ended = ended.failed(1, &["measure.svg cannot be written", "choose another path"]);
    assert!(ways(&ended).is_empty(), "measured before it is known where to: {ended:?}");
}

#[test]
fn a_connection_that_is_lost_in_the_middle_is_said() {
    let server = Server::start();
    for name in
        ["unary", "unary-in-flight", "client-streaming", "server-streaming", "bidi-pipelined", "columnar"]
    {
        let proxy = Proxy::start(server.url.strip_prefix("http://").unwrap().parse().unwrap());
        let options = format!("measure --output json --warmup 0s --messages 100000000 --only {name}");
        let ended = thread::scope(|scope| {
            let measuring = scope.spawn(|| client(&options).arg(format!("http://{}", proxy.address)).run());
            // So much takes more than the message that shows whether it works.
            eventually(|| proxy.passed() > 1500, "nothing is measured");
            proxy.cut();
            measuring.join().unwrap()
        });
        let result = ended.result();
        assert_eq!(result["ok"], false, "{result}");
        assert!(!result["error"]["message"].as_str().unwrap().is_empty(), "{result}");
        assert!(result["value"]["recommendations"].as_array().unwrap().is_empty(), "{result}");
        ended.failed(1, &["tried", "measure at http://", "cause", "next"]);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_tells_what_there_is_so_far() {
    let server = Server::start();
    for signal in [Signal::INT, Signal::TERM] {
        let mut running = measure(&server, "--duration 1s").spawn();
        let lines = running.lines();
        lines.until(r#""type":"way""#);
        running.signal(signal);
        let result: Value = serde_json::from_str(&lines.until(r#""type":"result""#)).unwrap();
        assert_eq!((&result["ok"], &result["error"]["code"]), (&false.into(), &"INTERRUPTED".into()));
        assert!(result["value"]["measured"].as_u64() >= Some(1), "{result}");
        assert_eq!(running.wait().code, Some(130));
    }
}

#[test]
fn a_deadline_ends_all_of_it() {
    let server = Server::start();
    let ended = measure(&server, "--duration 100s --only unary --deadline 300ms").run();
    assert_eq!(ended.result()["error"]["code"], "DEADLINE_EXCEEDED");
    ended.failed(1, &["measure at", "deliver by unary one at a time", "not done after 300ms"]);
}

#[test]
fn a_server_without_the_service_is_told_from_one_that_is_not_there() {
    let (_, health) = health_reporter();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    runtime.spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
    let ended = client(&format!("measure http://{address}")).run();
    ended.failed(1, &["UNIMPLEMENTED", "without this service", "`fourmodes-server all` starts one"]);

    let (address, _sockets) = test_support::deaf_address();
    client(&format!("measure {address}")).run().failed(1, &["nothing listens at that address"]);
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for (options, words) in [
        ("--messages 5 --duration 1s", "cannot be used with"),
        ("--messages 0", "0"),
        ("--duration 1ms", "50ms"),
        ("--only sometimes", "sometimes"),
        ("--size 0", "from 1 to 16MiB"),
        ("--size 17MiB", "from 1 to 16MiB"),
        ("--rate 0", "0"),
        ("--concurrency 0", "0"),
        ("--connections 3 --concurrency 2", "--connections 3 needs"),
        ("--server a:1,b:2", "name one server"),
        ("--diagram x.mmd", "--plot"),
        ("--output junit", "only for check"),
    ] {
        client(&format!("measure {options}")).run().failed(2, &[words]);
    }
}

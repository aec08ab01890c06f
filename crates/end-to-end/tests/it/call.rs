//! `call`: any method of any server.

mod completed;
pub(crate) mod echo;
mod measured;

use std::sync::atomic::Ordering::Relaxed;

use serde_json::json;
use stack::Settings;
use test_support::{BlockingServer, Certs, Ended, Program, eventually};

use self::echo::Echo;
use crate::client;

impl Echo {
    /// The client calls a method, and shows the responses alone.
    fn quietly(&self, method: &str) -> Program {
        client("call").arg(&self.url).arg(format!("t.Echo/{method}")).arg("-q")
    }

    fn with(&self, method: &str, data: &str) -> Program {
        self.quietly(method).arg("-d").arg(data)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        format!("@{}", path.display())
    }
}

fn numbers(ended: Ended) -> Vec<i64> {
    let line = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_i64().unwrap_or_default()
    };
    ended.ok().stdout.lines().map(line).collect()
}

#[test]
fn services_methods_and_messages_are_shown_with_what_is_in_them() {
    let own = BlockingServer::start();
    let listed = client("call").arg(&own.url).run().ok().stdout;
    assert!(listed.lines().any(|name| name == "fourmodes.v1.UnaryService"), "{listed}");
    let listed = client("call --output json").arg(&own.url).run().ok().result();
    assert!(listed["value"]["services"].as_array().unwrap().contains(&json!("Greeter")));

    let echo = Echo::start();
    let show = |symbol: &str| client("call").arg(&echo.address).arg(symbol).run().ok().stdout;
    let text = show("t.Echo");
    assert!(text.contains("rpc Late(stream t.M) returns (stream t.M); // bidi-streaming"), "{text}");
    assert!(text.contains("message t.M {\n  int32 n = 1;"), "{text}");
    assert!(show("t.M.In").starts_with("message t.M.In {"));
    assert!(show("t.Echo.Unary").contains("rpc Unary("));
    // A service may be named without its package.
    assert_eq!(show("Echo"), text);
    assert!(show("Echo.Unary").contains("rpc Unary("));
    // Reflection has no comments, and the source has.
    let source =
        client("call").arg(&echo.address).arg("t.Echo").arg("--proto").arg(&echo.proto).run().ok().stdout;
    assert!(source.contains("// Sends back what it gets.\nservice t.Echo {"), "{source}");
    let filled = client("call --template").arg(&echo.address).arg("t.Echo/Unary").run().ok().stdout;
    let filled: serde_json::Value = serde_json::from_str(&filled).unwrap();
    assert_eq!((&filled["n"], &filled["bigNumber"]), (&json!(0), &json!("0")));
    // It can be sent as it is.
    echo.with("Unary", &filled.to_string()).run().ok();
    assert_eq!(echo.calls.load(Relaxed), 1);
}

#[test]
fn messages_of_every_kind_come_back_as_they_were_sent() {
    let echo = Echo::start();
    let given = r#"{"n":-1,"text":"a\"b","more":[{"n":2},{}],"map":{"a":"1","b":"-2"},"raw":"AP8=","fn":true,"any":{"@type":"x/t.M","n":3},"atTime":"2026-01-31T10:20:30.500Z","bigNumber":"18446744073709551615","in":{"type":{"class":"c"}}}"#;
    assert_eq!(echo.with("Unary", given).run().ok().stdout.trim_end(), given);
    let proto_names = echo.with("Unary", r#"{"big_number": 1e3}"#).arg("--proto-names").run().ok().stdout;
    assert_eq!(proto_names, "{\"big_number\":\"1000\"}\n");
    let without = echo.quietly("Unary").run().ok().stdout;
    assert_eq!(without, "{}\n");
}

#[test]
fn all_four_modes_are_called_by_reflection_by_sources_and_by_descriptors() {
    let echo = Echo::start();
    let bare = Echo::with_reflection(false);
    let described: [(&Echo, Vec<&std::ffi::OsStr>); 3] = [
        (&echo, vec![]),
        (&bare, vec!["--proto".as_ref(), bare.proto.as_os_str()]),
        (&bare, vec!["--descriptors".as_ref(), bare.descriptors.as_os_str()]),
    ];
    for (server, by) in described {
        let call = |method: &str, data: &str| {
            by.iter().fold(server.with(method, data), |program, argument| program.arg(argument)).run()
        };
        assert_eq!(numbers(call("Unary", r#"{"n": 7}"#)), [7]);
        assert_eq!(numbers(call("Many", r#"{"n": 3}"#)), [1, 2, 3]);
        assert_eq!(numbers(call("Collect", r#"{"n": 1} {"n": 2} {"n": 3}"#)), [3]);
        assert_eq!(numbers(call("Each", r#"{"n": 1}{"n": 2}"#)), [1, 2]);
    }
    for (server, by) in [(&echo, vec![]), (&bare, vec!["--proto", bare.proto.to_str().unwrap()])] {
        let call = client("call").arg(&server.address).arg("Echo/Unary").arg("-d").arg("{\"n\": 7}");
        let drawn = by.iter().fold(call, |call, option| call.arg(option)).run().ok().stdout;
        assert!(drawn.contains("HEADERS /t.Echo/Unary"), "{drawn}");
    }
    // Without data, a stream is empty.
    assert_eq!(echo.quietly("Each").run().ok().stdout, "");
}

#[test]
fn a_call_is_drawn_and_summed_up() {
    let echo = Echo::start();
    let call = |format: &str| {
        client("call")
            .args(format)
            .arg(&echo.url)
            .arg("t.Echo/Each")
            .args("-v -H x-own:1 -d")
            .arg(r#"{"n": 1}{"n": 2}"#)
    };
    let text = call("--output text").run().ok().stdout;
    for drawn in [
        "HEADERS /t.Echo/Each",
        "message 2  n: 2",
        "trailers  OK",
        "header   x-own: 1",
        "trailer  grpc-status: 0",
    ] {
        assert!(text.contains(drawn), "{drawn}\n{text}");
    }
    assert!(text.contains("sent 2 messages, 4 B; received 2 messages, 4 B"), "{text}");
    // Below the diagram, as --quiet prints them.
    assert!(text.contains("│\n\n{\"n\":1}\n{\"n\":2}\n\n"), "{text}");
    assert!(text.contains("first message ") && text.contains("gaps: "), "{text}");
    let ended = call("--output json").run().ok();
    let types: Vec<_> = ended.json().iter().map(|line| line["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!((types[0].as_str(), types.iter().filter(|kind| *kind == "message").count()), ("connected", 4));
    let result = ended.result();
    assert_eq!(
        (&result["mode"], &result["scenario"], &result["ok"]),
        (&json!("bidi-streaming"), &json!("call"), &json!(true))
    );
    let value = &result["value"];
    assert_eq!(
        (&value["method"], &value["sent"]),
        (&json!("/t.Echo/Each"), &json!({"messages": 2, "bytes": 4}))
    );
    assert_eq!(value["headers"]["x-own"], json!(["1"]));
    for time in
        ["connect_ms", "headers_ms", "first message_ms", "trailers_ms"].map(|name| name.replace(' ', "_"))
    {
        assert!(value[&time].as_f64() > Some(0.0), "{time}: {value}");
    }
    let one = client("call --output json")
        .arg(&echo.url)
        .args("t.Echo/Unary -d")
        .arg(r#"{"n": 7}"#)
        .run()
        .ok()
        .result();
    assert_eq!(one["value"]["response"], json!({"n": 7}));
    let lines = echo.with("Many", r#"{"n": 2}"#).args("--output json").run().ok().json();
    assert_eq!(lines[1], json!({"type": "message", "from": "server", "number": 2, "value": {"n": 2}}));
    assert_eq!(lines[2]["type"], "result");
}

#[test]
fn maps_are_drawn_with_their_keys_unless_they_are_unset() {
    let echo = Echo::start();
    let drawn =
        |data: &str| client("call").arg(&echo.url).args("t.Echo/Unary -d").arg(data).run().ok().stdout;
    let text = drawn(r#"{"map": {"b": "-2", "a": "1", "c\u001b": "3", "d": "4"}}"#);
    assert!(text.contains(r#"map: {a: 1, b: -2, "c\u{1b}": 3, … 1 more}"#), "{text}");
    let text = drawn("{}");
    assert!(text.contains("message 1  n: 0") && !text.contains("map"), "{text}");
}

#[test]
fn data_comes_from_files_from_standard_input_and_as_bytes() {
    let echo = Echo::start();
    let file = echo.file("data.json", "\u{feff}{\"n\": 1}\n\n{\"n\":\n2}{\"n\": 3}");
    assert_eq!(numbers(echo.with("Each", &file).run()), [1, 2, 3]);
    assert_eq!(numbers(echo.with("Each", "@-").stdin(r#"{"n": 4} {"n": 5}"#).run()), [4, 5]);
    let binary = echo.file("data.bin", [0, 0, 0, 0, 2, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 8, 7]);
    assert_eq!(numbers(echo.quietly("Each").arg("--data-binary").arg(binary).run()), [6, 0, 7]);
    for (bytes, wrong) in [
        (&[1, 0, 0, 0, 0][..], "message 1: it starts with 1"),
        (&[0, 0, 0], "message 1: it ends within the length"),
        (&[0, 0, 0, 0, 9, 1], "message 1: it has 1 bytes, but its length says 9"),
    ] {
        let binary = echo.file("wrong.bin", bytes);
        echo.quietly("Each").arg("--data-binary").arg(binary).run().failed(3, &[wrong]);
    }
    echo.with("Each", "@/no/such/file").run().failed(3, &["/no/such/file", "INPUT"]);
}

#[test]
fn nothing_is_sent_when_the_first_message_is_wrong_or_there_is_one_too_many() {
    let echo = Echo::start();
    let misfit = "-d: message 1: line 1, column 8, at n: \"x\" is not a whole number of 32 bits";
    for method in ["Unary", "Many", "Collect", "Each"] {
        echo.with(method, r#"{"n":"x"}"#).run().failed(3, &[misfit, "--template"]);
        let json = echo.with(method, r#"{"n":"x"}"#).args("--output json").run().failed(3, &[]).result();
        assert_eq!(json["error"]["code"], "INPUT");
    }
    for method in ["Unary", "Many"] {
        echo.with(method, "{} {}")
            .run()
            .failed(3, &[&format!("t.Echo.{method} takes one message, but there are more")]);
    }
    assert_eq!(echo.calls.load(Relaxed), 0);
    // Later it is a cancel, and no half-close: the server does not take it for whole.
    for method in ["Collect", "Each", "Late"] {
        let data = "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 3.5}";
        let words = [
            "message 3: line 3, column 9, at n: 3.5 is not a whole number",
            "the call was cancelled after 2 messages",
        ];
        echo.with(method, data).run().failed(3, &words);
    }
}

#[test]
fn what_is_not_there_is_an_error_with_the_next_step() {
    let echo = Echo::start();
    let call = |arguments: &str| client("call").arg(&echo.address).args(arguments).run();
    call("t.Echo/Unari").failed(3, &["there is no method \"Unari\"; did you mean Unary or Early or Never?"]);
    call("t.Eko/Unary")
        .failed(3, &["there is no service \"t.Eko\"; did you mean t.Echo?", "lists the services"]);
    call("t.Echo/Unary --proto /no/such.proto").failed(3, &["no/such.proto"]);
    call("t.Echo/Unary --descriptors /no/such.binpb").failed(3, &["/no/such.binpb"]);
    let wrong = echo.directory.path().join("wrong.proto");
    std::fs::write(&wrong, "syntax = \"proto3\";\nmessage {}\n").unwrap();
    client("call x:1 t.Echo/Unary --proto").arg(&wrong).run().failed(3, &["wrong.proto:2:9: "]);
    let bare = Echo::with_reflection(false);
    let words =
        ["has no reflection, neither grpc.reflection.v1 nor v1alpha", "--proto FILE", "--descriptors FILE"];
    bare.quietly("Unary").run().failed(3, &words);
    client("call localhost").run().failed(2, &["\"localhost\" has neither a scheme nor a port", "host:port"]);
    client("call ftp://x:1").run().failed(2, &["ftp is no scheme for gRPC"]);
    for port in ["0", "70000"] {
        client(&format!("call http://x:{port}")).run().failed(2, &["a number from 1 to 65535"]);
    }
    client("call x:1 t.Echo/Unary --data-binary {}").run().failed(2, &["--data-binary takes @FILE"]);
    client("call x:1 t.Echo/Unary --repeat 2 -d @-").run().failed(2, &["--repeat"]);
    client("call x:1 t.Echo/Unary -H nonsense").run().failed(2, &["write it as 'key: value'"]);
    client("call x:1 t.Echo/Unary -H a-bin:*").run().failed(2, &["the value is not base64"]);
    let nobody = test_support::Reserved::new();
    let words = ["UNAVAILABLE", "nothing listens", "whether the server runs"];
    let ended = client("call").arg(nobody.address.to_string()).run().failed(1, &words);
    assert!(!ended.stderr.contains("fourmodes-server"), "{}", ended.stderr);
}

#[test]
fn what_a_server_does_wrong_is_told() {
    let echo = Echo::start();
    let failed =
        echo.quietly("Fail").run().failed(1, &["ABORTED: no", "detail  {\"@type\":\"x/t.M\",\"n\":42}"]);
    assert_eq!(failed.stdout, "");
    let json = echo.quietly("Fail").args("--output json").run().failed(1, &[]).result();
    assert_eq!(json["error"]["code"], "ABORTED");
    assert_eq!(json["error"]["more_details"], json!([{"@type": "x/t.M", "n": 42}]));
    echo.quietly("Twice").run().failed(1, &["UNIMPLEMENTED", "2 messages"]);
    let long = format!("{{\"text\": \"{}\"}}", "x".repeat(5000));
    let file = echo.file("long.json", long);
    let words = ["--max-message"];
    echo.with("Unary", &file).args("--max-message 4KiB").run().failed(1, &words);
    echo.with("Unary", &file).args("--max-message 6KiB").run().ok();
    let late =
        echo.quietly("Silent").args("--deadline 300ms").run().failed(1, &["DEADLINE_EXCEEDED", "--deadline"]);
    assert_eq!(late.stdout, "");
    let other = BlockingServer::start();
    let proto = echo.proto.to_str().unwrap();
    let call = client("call").arg(&other.url).args("t.Echo/Unary --proto").arg(proto);
    call.run().failed(1, &["UNIMPLEMENTED", "list its services"]);
}

#[test]
fn headers_go_along_and_secrets_are_not_shown() {
    let echo = Echo::start();
    let call = client("call --output json -v").arg(&echo.url).arg("t.Echo/Unary");
    let ended = call
        .args("-H")
        .arg("x-a: 1")
        .args("-H")
        .arg("X-A: 2")
        .args("-H")
        .arg("x-raw-bin: AP8")
        .args("-H")
        .arg("Authorization: Bearer secret")
        .run()
        .ok();
    assert!(!ended.stdout.contains("secret"), "{}", ended.stdout);
    let sent = ended.json().into_iter().find(|line| line["type"] == "headers").unwrap();
    assert_eq!(sent["metadata"]["authorization"], "***");
    let headers = &ended.result()["value"]["headers"];
    assert_eq!((&headers["x-a"], &headers["x-raw-bin"]), (&json!(["1", "2"]), &json!(["AP8"])));
    for encoding in ["gzip", "zstd"] {
        let given = format!("{{\"text\":\"{}\"}}", "x".repeat(20_000));
        let file = echo.file("long.json", &given);
        let call = client("call --output json").arg(&echo.url).args("t.Echo/Unary --compress").arg(encoding);
        let result = call.arg("-d").arg(file).run().ok().result();
        assert_eq!(result["value"]["response"]["text"].as_str().map(str::len), Some(20_000));
        assert!(
            result["value"]["connection"]["sent_bytes"].as_u64() < Some(2_000),
            "{}",
            result["value"]["connection"]
        );
    }
}

#[test]
fn a_call_is_made_once_unless_more_is_asked_for() {
    let echo = Echo::start();
    echo.quietly("Flaky").run().failed(1, &["UNAVAILABLE: not now"]);
    assert_eq!(echo.calls.load(Relaxed), 1);
    echo.quietly("Flaky").args("--max-attempts 3").run().ok();
    assert_eq!(echo.calls.load(Relaxed), 3);
    assert_eq!(numbers(echo.with("Unary", r#"{"n": 7}"#).args("--repeat 3").run()), [7, 7, 7]);
    assert_eq!(numbers(echo.with("Each", r#"{"n": 1}{"n": 2}"#).args("--repeat 2").run()), [1, 2, 1, 2]);
}

#[test]
fn messages_are_paced() {
    let echo = Echo::start();
    let call = client("call --output json").arg(&echo.url).args("t.Echo/Each --pace 60ms -d").arg("{}{}{}");
    let lines = call.run().ok().json();
    let sent = lines.iter().filter(|line| line["type"] == "message" && line["from"] == "client");
    let times: Vec<_> = sent.map(|line| line["at_ms"].as_f64().unwrap()).collect();
    assert_eq!(times.len(), 3);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 55.0), "{times:?}");
}

#[test]
fn what_is_typed_is_sent_line_by_line_to_servers_that_answer_late_early_and_never() {
    let echo = Echo::start();
    let interactive = |method: &str| echo.quietly(method).arg("--interactive").spawn();

    let mut each = interactive("Each");
    let (lines, warnings) = (each.lines(), each.warnings());
    each.say(r#"{"n": 1}"#);
    assert_eq!(lines.until(""), r#"{"n":1}"#);
    // What is wrong is not sent, and ends nothing.
    each.say(r#"{"n": true}"#);
    assert!(warnings.until("").starts_with("not sent: line 2, column 10, at n: "));
    each.say(r#"{"n": 2}"#);
    assert_eq!(lines.until(""), r#"{"n":2}"#);
    each.half_close();
    assert_eq!(each.wait().code, Some(0));

    let mut late = interactive("Late");
    let lines = late.lines();
    late.say(r#"{"n": 1}"#);
    late.say(r#"{"n": 2}"#);
    late.half_close();
    assert_eq!([lines.until(""), lines.until("")], [r#"{"n":1}"#, r#"{"n":2}"#]);
    assert_eq!(late.wait().code, Some(0));

    // The input is still open when the server has ended the call.
    let mut early = interactive("Early");
    let lines = early.lines();
    assert_eq!(lines.until(""), r#"{"n":1}"#);
    assert_eq!(early.wait().code, Some(0));

    #[cfg(unix)]
    {
        let before = echo.messages.load(Relaxed);
        let mut never = interactive("Never");
        never.say("{}");
        eventually(|| echo.messages.load(Relaxed) > before, "the message does not come");
        never.signal(rustix::process::Signal::INT);
        assert_eq!(never.wait().code, Some(130));
    }
}

#[test]
#[cfg(unix)]
fn a_stream_is_kept_open_until_the_server_or_the_user_ends_it() {
    let echo = Echo::start();
    assert_eq!(numbers(echo.with("Early", "{}").arg("--keep-open").run()), [1]);
    let mut open = echo.with("Each", r#"{"n": 5}"#).arg("--keep-open").spawn();
    let lines = open.lines();
    assert_eq!(lines.until(""), r#"{"n":5}"#);
    open.signal(rustix::process::Signal::INT);
    assert_eq!(open.wait().code, Some(130));
}

#[test]
#[cfg(unix)]
fn a_socket_of_this_machine_is_called() {
    let echo = Echo::start();
    let socket = format!("unix://{}", echo.directory.path().join("socket").display());
    let call = client("call").arg(&socket).args("t.Echo/Unary -q -d").arg(r#"{"n": 7}"#);
    assert_eq!(numbers(call.run()), [7]);
    client("call unix:///no/such/socket").run().failed(1, &["UNAVAILABLE", "No such file"]);
}

#[test]
fn tls_is_verified_unless_it_is_said_otherwise_aloud() {
    let certs = Certs::new();
    let server = BlockingServer::with(Settings { tls: Some(certs.server()), ..Settings::default() }.into());
    let call = |arguments: &str| client("call").arg(&server.url).args(arguments);
    let multiply = "fourmodes.v1.UnaryService/Multiply -q -d {\"a\":6,\"b\":7}";
    call(multiply).run().failed(1, &["from a CA that is not trusted here", "--ca FILE"]);
    assert_eq!(certs.trusted_by(call(multiply)).run().ok().stdout, "{\"product\":\"42\"}\n");
    let ended = call(multiply).args("--insecure-skip-verify").run().failed(0, &[]);
    assert_eq!(ended.stdout, "{\"product\":\"42\"}\n");
    assert!(
        ended.stderr.contains("warning: the certificate of the server is not verified"),
        "{}",
        ended.stderr
    );
    // Calls and the certificate are for the name that is given.
    certs
        .trusted_by(call(multiply))
        .args("--authority elsewhere.example")
        .run()
        .failed(1, &["for another name"]);
    certs.trusted_by(call(multiply)).args("--authority localhost").run().ok();

    let keys = tempfile::NamedTempFile::new().unwrap();
    certs.trusted_by(call(multiply)).env("SSLKEYLOGFILE", keys.path()).run().ok();
    let logged = std::fs::read_to_string(keys.path()).unwrap();
    assert!(logged.contains("CLIENT_TRAFFIC_SECRET_0 "), "{logged}");

    let plain = client("call").arg(server.address.to_string()).args(multiply);
    plain.run().failed(1, &["the server expects TLS", "https://"]);
}

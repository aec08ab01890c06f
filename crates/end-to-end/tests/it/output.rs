use std::path::Path;

use test_support::BlockingServer as Server;

use crate::{Called as _, client};

#[test]
fn text_goes_without_colour_where_there_is_no_terminal() {
    let server = Server::start();
    let text = server
        .client("unary multiply 6 7")
        .env("TERM", "xterm-256color")
        .without("NO_COLOR")
        .run()
        .ok()
        .stdout;
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(text.lines().all(|line| line.chars().count() <= 102), "{text}");
    assert!(text.ends_with("\n6 × 7 = 42\n"), "{text}");
}

#[test]
fn quiet_leaves_the_result_alone() {
    let server = Server::start();
    assert_eq!(server.client("unary multiply 6 7 -q").run().ok().stdout, "6 × 7 = 42\n");
    let json = server.client("-q --output json unary multiply 6 7").run().ok();
    assert_eq!(json.json().len(), 1);
    assert_eq!(json.result()["value"]["product"], 42);
}

#[test]
fn options_that_describe_an_environment_come_from_it_as_well() {
    let server = Server::start();
    let ended = client("unary multiply 6 7")
        .env("FOURMODES_SERVER", &server.url)
        .env("FOURMODES_OUTPUT", "json")
        .run()
        .ok();
    assert_eq!(ended.result()["value"]["product"], 42);
}

#[test]
fn a_diagram_is_a_mermaid_sequence_diagram_also_of_a_failure() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let diagram = |arguments: &str, name: &str| {
        let path = directory.path().join(name);
        server.client(arguments).arg("--diagram").arg(&path).run();
        read(&path)
    };
    let quotes = diagram("-q server-streaming quotes --count 500 --interval 0s", "quotes.mmd");
    assert!(quotes.starts_with("sequenceDiagram\n"), "{quotes}");
    assert!(
        quotes.contains("client->>server: HEADERS /fourmodes.v1.ServerStreamingService/WatchQuotes"),
        "{quotes}"
    );
    assert!(quotes.contains("Note over server: … 489 more messages …"), "{quotes}");
    assert!(quotes.contains("server-->>client: message 500  quote"), "{quotes}");
    assert!(quotes.trim_end().ends_with("server-->>client: trailers OK"), "{quotes}");
    let refused = diagram("unary multiply 9223372036854775807 2", "refused.mmd");
    assert!(refused.contains("server--xclient: trailers only OUT_OF_RANGE"), "{refused}");
    let two = diagram("bidi-streaming", "two.mmd");
    assert!(two.contains("ana->>server: ") && two.contains("server-->>ben: "), "{two}");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

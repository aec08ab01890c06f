//! Answers that are not those of the server, or not all of them: what a proxy says when
//! it does not reach its server, and what it does to an answer that has begun.

use std::fs;

use test_support::{BlockingServer as Server, Fault, Path};

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
        (Fault::PageAfter(0), "INTERNAL: the answer went on with what is no message of gRPC"),
    ] {
        let path = Path::to(&server, fault);
        let ended = client(&format!("unary multiply 6 7 --server {}", path.url)).run().failed(1, &[said]);
        assert!(!ended.stdout.contains("reconnect"), "{}", ended.stdout);
    }
}

//! What a user gets to see.

use grpc_wire::Mode;
use roxmltree::Document;
use server::config::Config;
use stack::{Settings, Tokens};
use test_support::{BlockingServer as Server, Fault, Path, Signal, deaf_address, listener};

use crate::check::{
    check, client,
    faults::{certificates, over_tls},
    outcomes, with,
};

/// Directly there is nothing that could be wrong.
#[test]
fn a_server_without_anything_before_it_passes() {
    let server = Server::start();
    let found = outcomes(check(&server.url, "--idle 1s"));
    let not_over_tls = ["connect/certificate", "connect/tls"];
    assert_eq!(with(&found, "skip"), not_over_tls, "{found:#?}");
    assert_eq!(with(&found, "pass").len(), found.len() - not_over_tls.len(), "{found:#?}");
    insta::assert_snapshot!(found.keys().cloned().collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_server_with_tls_passes() {
    let certificates = certificates(100);
    let server = over_tls(&certificates);
    let client = check(&server.url, "--idle 1s").arg("--ca").arg(certificates.path().join("ca.pem"));
    let found = outcomes(client);
    assert_eq!(with(&found, "pass").len(), found.len(), "{found:#?}");
}

#[test]
fn a_server_that_wants_a_token_is_told_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens.txt");
    std::fs::write(&file, "ana d0c04f4b1951e4aeaaec8223ed2039e542f3aae805a6fa7f6d794e5afff5d272 all\n")
        .unwrap();
    let tokens = Some(Tokens::read(&file).unwrap());
    let server = Server::with(Settings { tokens, open_reflection: true, ..Settings::default() }.into());
    let found = outcomes(check(&server.url, ""));
    assert_eq!(with(&found, "fail"), ["connect/call"]);
    assert!(found["connect/call"]["remedy"].as_str().unwrap().contains("FOURMODES_TOKEN"), "{found:#?}");
    let found = outcomes(check(&server.url, "").env("FOURMODES_TOKEN", "sesame"));
    assert_eq!(
        [with(&found, "fail"), with(&found, "warn")],
        [Vec::<String>::new(), Vec::new()],
        "{found:#?}"
    );
}

#[test]
fn a_standard_server_passes_without_what_only_the_probe_tells() {
    let server = Server::start();
    let found = outcomes(check(&server.url, "--standard --idle 1s"));
    assert_eq!(
        [with(&found, "fail"), with(&found, "warn")],
        [Vec::<String>::new(), Vec::new()],
        "{found:#?}"
    );
    assert!(with(&found, "pass").len() > 25, "{found:#?}");
}

#[test]
fn a_standard_server_behind_a_fault_does_not() {
    let server = Server::start();
    std::thread::scope(|scope| {
        for (fault, name) in [
            (Fault::BufferResponse, "modes/server-streaming"),
            (Fault::BufferRequest, "modes/full-duplex"),
            (Fault::DropTrailers, "modes/unary"),
            (Fault::EndAfterRequest, "modes/server-ends-first"),
            (Fault::RewriteStatus, "status/codes"),
            (Fault::RewriteMessage, "status/message"),
            (Fault::DropTrailingMetadata, "status/trailing-metadata"),
        ] {
            let server = &server;
            scope.spawn(move || {
                let path = Path::to(server, fault);
                let found = outcomes(check(&path.url, "--standard --only modes,status"));
                assert_eq!(found[name]["outcome"], "fail", "{fault:?}: {found:#?}");
            });
        }
    });
}

/// The path has a gRPC server at its end, and no more is known of it.
#[test]
fn what_can_be_found_out_without_a_probe_is() {
    let server = Server::start();
    let path = Path::to(&server, Fault::Unimplemented("/fourmodes.v1.ProbeService/"));
    let found = outcomes(check(&path.url, ""));
    assert_eq!(found["connect/call"]["outcome"], "warn", "{found:#?}");
    assert_eq!(found["modes/server-streaming"]["outcome"], "pass", "{found:#?}");
    assert_eq!(found["control/cancel"]["outcome"], "skip", "{found:#?}");
    assert_eq!(found["extras/health"]["outcome"], "pass", "{found:#?}");
}

#[test]
fn a_run_is_text_for_people() {
    let server = Server::start();
    let ended = check(&server.url, "--only connect").run().ok();
    assert!(ended.stdout.starts_with(&server.url), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("\npass  connect   http2              prior knowledge\n"),
        "{}",
        ended.stdout
    );
    let path = Path::to(&server, Fault::BufferResponse);
    let ended = check(&path.url, "--only modes").run().failed(1, &[]);
    assert!(ended.stdout.contains("FAIL  modes     server-streaming   5 messages over "), "{}", ended.stdout);
    // What helps is told once, and last.
    assert_eq!(ended.stdout.matches("forward data at once").count(), 1, "{}", ended.stdout);
    assert_eq!(ended.stdout.matches("remedy  as for modes/").count(), 2, "{}", ended.stdout);
    assert_eq!(ended.stdout.matches("\nFAIL  modes     server-streaming").count(), 2, "{}", ended.stdout);
    let last = ended.stdout.rsplit_once("forward data at once").unwrap().1;
    assert!(!last.contains("\npass"), "{}", ended.stdout);
    let quiet = check(&path.url, "--only modes -q").run().failed(1, &[]).stdout;
    assert_eq!(quiet.matches("\nFAIL  modes     server-streaming").count(), 1, "{quiet}");
    assert!(!quiet.contains("\npass"), "{quiet}");
    let (address, _sockets) = deaf_address();
    let ended = check(&format!("http://{address}"), "").run().failed(1, &[]);
    assert!(ended.stdout.lines().count() < 20, "{}", ended.stdout);
    assert!(
        ended.stdout.contains(" checks  ") && ended.stdout.contains("connect/tcp failed"),
        "{}",
        ended.stdout
    );
    let ended = check(&format!("http://{address}"), "--only connect -q").run().failed(1, &[]);
    assert!(ended.stdout.contains("FAIL  connect   tcp "), "{}", ended.stdout);
    assert!(ended.stdout.contains("\n          cause   nothing listens"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("resolve"), "{}", ended.stdout);
}

#[test]
fn a_report_is_junit_s() {
    let (address, _sockets) = deaf_address();
    let ended = check(&format!("http://{address}"), "--output junit").run().failed(1, &[]);
    let report = Document::parse(&ended.stdout).unwrap();
    let cases = elements(&report, "testcase");
    assert_eq!(counts(&report), [cases, 1, 0, cases - 2], "{}", ended.stdout);
    assert_eq!((elements(&report, "failure"), elements(&report, "skipped")), (1, cases - 2));
}

fn elements(report: &Document<'_>, name: &str) -> usize {
    report.descendants().filter(|node| node.has_tag_name(name)).count()
}

/// What a report says of its checks: all, those that failed, errors, those that were
/// left out.
fn counts(report: &Document<'_>) -> [usize; 4] {
    let suite = report.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
    ["tests", "failures", "errors", "skipped"].map(|count| suite.attribute(count).unwrap().parse().unwrap())
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    client("check ftp://x").run().failed(2, &["no scheme"]);
    client("check --only nothing").run().failed(2, &["nothing", "modes"]);
    client("check --server 127.0.0.1:1,127.0.0.1:2").run().failed(2, &["one path"]);
    client("check --diagram x.mmd").run().failed(2, &["--diagram"]);
    client("unary status --output junit").run().failed(2, &["junit"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_it() {
    let (listener, address) = listener();
    let mut running = check(&format!("http://{address}"), "--output json").spawn();
    // It is under way once it has connected.
    let _connection = listener.accept().unwrap();
    running.signal(Signal::INT);
    let ended = running.wait().failed(130, &["interrupted"]);
    let result = ended.result();
    assert_eq!((&result["ok"], &result["error"]["code"]), (&false.into(), &"INTERRUPTED".into()));
}

#[test]
fn a_deadline_is_for_all_of_it() {
    let (_listener, address) = listener();
    let ended = check(&format!("http://{address}"), "--deadline 1s --output json").run();
    let ended = ended.failed(1, &["DEADLINE_EXCEEDED"]);
    assert_eq!(ended.result()["value"]["pass"], 2, "{ended:?}");
    // Who reads a report alone is not to take it for a good one.
    let ended = check(&format!("http://{address}"), "--deadline 1s --output junit").run();
    let ended = ended.failed(1, &["DEADLINE_EXCEEDED"]);
    let report = Document::parse(&ended.stdout).unwrap();
    assert_eq!((counts(&report), elements(&report, "error")), ([5, 0, 1, 2], 1), "{ended:?}");
}

#[test]
fn a_server_for_one_mode_has_the_probe_as_well() {
    let server = Server::with(Config { modes: vec![Mode::Unary], ..Config::default() });
    let found = outcomes(check(&server.url, "--only modes"));
    assert_eq!(with(&found, "fail"), Vec::<String>::new(), "{found:#?}");
}

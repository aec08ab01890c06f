//! Every check is failed by something, or it would be none.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use server::certs::Request;
use stack::{Settings, TlsFiles};
use test_support::{BlockingServer as Server, Fault, Path, deaf_address};

use crate::check::{check, outcomes, with};

/// A fault, the group that is asked, what fails and what warns of it.
type Row = (Fault, &'static str, &'static [&'static str], &'static [&'static str]);

const TABLE: &[Row] = &[
    (Fault::Http1, "connect", &["http2"], &[]),
    (Fault::Page(502), "connect", &["call"], &[]),
    (Fault::Http1Upstream, "connect", &["call"], &[]),
    (Fault::Delay(Duration::from_millis(300)), "connect", &[], &["round-trip"]),
    (Fault::DropTrailers, "modes", &["unary", "server-streaming"], &[]),
    (Fault::BufferResponse, "modes", &["server-streaming", "full-duplex", "head-first"], &[]),
    (
        Fault::BufferRequest,
        "modes",
        &["client-streaming", "full-duplex", "server-ends-first", "early-answer"],
        &[],
    ),
    (Fault::DelayEnd(Duration::from_secs(1)), "modes", &["client-ends-first"], &[]),
    (Fault::EndAfterRequest, "modes", &["server-ends-first"], &[]),
    (Fault::HoldHead, "modes", &["head-first"], &[]),
    (Fault::RewriteStatus, "modes", &["early-answer"], &[]),
    (Fault::RewriteStatus, "status", &["codes", "trailers-only", "after-messages"], &[]),
    (Fault::RewriteMessage, "status", &["message", "trailers-only", "after-messages"], &[]),
    (Fault::DropDetails, "status", &["details"], &[]),
    (Fault::BareStatus, "status", &["trailers-only"], &[]),
    (Fault::StatusInHead(1), "status", &["codes", "message", "details", "trailers-only"], &[]),
    // As Go's ReverseProxy does by chance.
    (Fault::StatusInHead(8), "status", &["codes"], &[]),
    (Fault::DropTrailers, "status", &["after-messages", "trailing-metadata"], &[]),
    (Fault::DropTrailingMetadata, "status", &["trailing-metadata"], &[]),
    (Fault::Remove("x-check"), "metadata", &["ascii", "repeated"], &[]),
    (Fault::RemoveFromResponse("x-check"), "metadata", &["ascii", "repeated"], &[]),
    (Fault::DropUnderscores, "metadata", &[], &["names"]),
    (Fault::DropBinary, "metadata", &["binary"], &[]),
    (Fault::LastOfRepeated, "metadata", &["repeated"], &[]),
    (Fault::LimitHeaders(8 << 10), "metadata", &["8-kib"], &[]),
    (Fault::Remove("x-check-7"), "metadata", &["8-kib"], &[]),
    (Fault::RemoveFromResponse("x-check-7"), "metadata", &["8-kib"], &[]),
    (Fault::Remove("te"), "metadata", &[], &["changes"]),
    (Fault::Replace("user-agent", "proxy"), "metadata", &[], &["changes"]),
    (Fault::Remove("grpc-timeout"), "control", &["deadline"], &[]),
    (Fault::Replace("grpc-timeout", "10S"), "control", &["deadline"], &["no-deadline"]),
    (Fault::Replace("grpc-timeout", "60S"), "control", &["deadline"], &["no-deadline"]),
    (Fault::SwallowCancels, "control", &["cancel"], &[]),
    (Fault::ResetIsEnd, "control", &["reset"], &[]),
    (Fault::ResetIsInternal, "control", &[], &["reset"]),
    (Fault::CalmResets(30), "control", &["60-cancels"], &[]),
    (Fault::Replace("content-type", "application/grpc"), "rules", &[], &["content-type"]),
    (Fault::AlwaysPost, "rules", &[], &["method"]),
    (Fault::OneMessage, "rules", &[], &["message-count"]),
    (Fault::Remove("origin"), "rules", &[], &["host"]),
    (Fault::LimitBody(512 << 10), "flow", &["1-mib-up", "4-mib-up", "long-upload", "slow-server"], &[]),
    // That is refused, by a status.
    (Fault::RewriteStatus, "flow", &["16-mib-up"], &[]),
    (Fault::LimitBody(8 << 20), "flow", &["long-upload"], &[]),
    (Fault::CutAfter(512 << 10), "flow", &["1-mib-down", "4-mib-down", "16-mib-down", "long-download"], &[]),
    (Fault::CutAfter(8 << 20), "flow", &["16-mib-down", "long-download"], &[]),
    (Fault::RefuseStreams(50), "flow", &["streams"], &[]),
    (Fault::FewStreams(50), "flow", &[], &["streams"]),
    (Fault::CarryStreams(6), "flow", &[], &["streams"]),
    (Fault::StatusAfter(0, "8"), "flow", &["1-mib-down", "4-mib-down", "16-mib-down", "long-download"], &[]),
    (Fault::HoardResponse, "flow", &["slow-client"], &[]),
    (Fault::HoardRequest, "flow", &["slow-server"], &[]),
    (Fault::Remove("grpc-accept-encoding"), "flow", &[], &["gzip", "zstd"]),
    (Fault::Remove("grpc-encoding"), "flow", &["gzip", "zstd"], &[]),
    (Fault::CutIdle(Duration::from_millis(800)), "life", &["idle"], &[]),
    (Fault::CutOld(Duration::from_secs(1)), "life", &["idle", "lasting"], &[]),
    (Fault::CutOldRequest(Duration::from_secs(1)), "life", &["lasting"], &[]),
    (Fault::EmptyData(1), "life", &[], &["empty-frames"]),
    (Fault::SwallowPings, "life", &["keepalive"], &[]),
    (Fault::Calm, "life", &[], &["keepalive"]),
    (Fault::HangUpAfter(500), "life", &["1200-calls"], &[]),
    (Fault::DeadInstance, "balance", &["connections"], &[]),
    (Fault::Unimplemented("/grpc.health.v1."), "extras", &[], &["health"]),
    (Fault::Unimplemented("/grpc.reflection.v1."), "extras", &[], &["reflection-v1"]),
    (Fault::Unimplemented("/grpc.reflection.v1alpha."), "extras", &[], &["reflection-v1alpha"]),
    // What is between speaks HTTP/2 alone.
    (Fault::None, "extras", &[], &["grpc-web", "http1"]),
];

/// These have tests of their own, below.
const ELSEWHERE: [&str; 5] =
    ["connect/resolve", "connect/tcp", "connect/tls", "connect/certificate", "balance/calls"];

/// Several at a time: most of it is waiting.
fn each_of(group: &str) {
    let server = Server::start();
    let rows: Vec<_> = TABLE.iter().filter(|row| row.1 == group).collect();
    for some in rows.chunks(4) {
        std::thread::scope(|scope| {
            for row in some {
                scope.spawn(|| is_found(&server, row));
            }
        });
    }
}

fn is_found(server: &Server, (fault, group, failing, warning): &Row) {
    let path = Path::to(server, *fault);
    // Long enough for what is cut, whatever is looked at.
    let found = outcomes(check(&path.url, &format!("--only {group} --idle 2s")));
    for (names, verdict) in [(failing, "fail"), (warning, "warn")] {
        for name in *names {
            let found = &found[&format!("{group}/{name}")];
            assert_eq!(found["outcome"], verdict, "{fault:?}: {found}");
        }
    }
}

#[test]
fn faults_of_the_connection_are_found() {
    each_of("connect");
}

#[test]
fn faults_of_the_modes_are_found() {
    each_of("modes");
}

#[test]
fn faults_of_the_status_are_found() {
    each_of("status");
}

#[test]
fn faults_of_metadata_are_found() {
    each_of("metadata");
}

#[test]
fn faults_of_control_are_found() {
    each_of("control");
}

#[test]
fn what_gets_through_and_is_no_right_call_is_found() {
    each_of("rules");
}

#[test]
fn faults_of_size_and_flow_are_found() {
    each_of("flow");
}

#[test]
fn faults_in_the_life_of_connections_are_found() {
    each_of("life");
}

#[test]
fn faults_of_balancing_are_found() {
    each_of("balance");
}

#[test]
fn faults_in_the_extras_are_found() {
    each_of("extras");
}

#[test]
fn there_is_a_fault_for_every_check() {
    let (address, _sockets) = deaf_address();
    let all: BTreeSet<_> = outcomes(check(&format!("http://{address}"), "")).into_keys().collect();
    let found = TABLE.iter().flat_map(|(_, group, failing, warning)| {
        failing.iter().chain(*warning).map(move |name| format!("{group}/{name}"))
    });
    let found: BTreeSet<_> = found.chain(ELSEWHERE.map(str::to_owned)).collect();
    assert_eq!(all, found);
}

/// So that what the others are blamed for is not the doing of the tests.
#[test]
fn a_path_without_a_fault_passes() {
    let server = Server::start();
    let path = Path::to(&server, Fault::None);
    let found = outcomes(check(&path.url, "--idle 1s"));
    assert_eq!(with(&found, "fail"), Vec::<String>::new(), "{found:#?}");
    assert_eq!(with(&found, "warn"), ["extras/grpc-web", "extras/http1"], "{found:#?}");
}

/// Times are compared with times that took the same way.
#[test]
fn a_slow_path_is_only_slow() {
    let server = Server::start();
    let path = Path::to(&server, Fault::Delay(Duration::from_millis(150)));
    let found = outcomes(check(&path.url, "--only connect,modes,status,metadata,control,flow,balance"));
    assert_eq!(
        [with(&found, "fail"), with(&found, "warn")],
        [Vec::<String>::new(), Vec::new()],
        "{found:#?}"
    );
}

#[test]
fn a_connection_that_is_replaced_in_order_loses_no_call() {
    let server = Server::start();
    let path = Path::to(&server, Fault::GoAwayAfter(500));
    let found = outcomes(check(&path.url, "--only life"));
    let calls = &found["life/1200-calls"];
    assert_eq!(calls["outcome"], "pass", "{calls}");
    assert!(calls["figure"].as_str().unwrap().ends_with("3 connections"), "{calls}");
    // Fewer than it asks for the codes.
    let path = Path::to(&server, Fault::GoAwayAfter(100));
    let codes = &outcomes(check(&path.url, "--only status"))["status/codes"];
    assert_eq!(codes["outcome"], "pass", "{codes}");
}

/// The last stream is waited for longer than that.
#[test]
fn streams_are_counted_where_silence_ends_them() {
    let server = Server::start();
    let path = Path::to(&server, Fault::CutIdle(Duration::from_millis(1500)));
    let streams = &outcomes(check(&path.url, "--only flow"))["flow/streams"];
    assert_eq!(streams["outcome"], "pass", "{streams}");
}

#[test]
fn http1_to_the_server_is_told_by_name() {
    let server = Server::start();
    let path = Path::to(&server, Fault::Http1Upstream);
    let found = outcomes(check(&path.url, "--only connect"));
    let call = &found["connect/call"];
    assert!(call["cause"].as_str().unwrap().contains("HTTP/1.1 to the server"), "{call}");
    // Nothing shows which product it is.
    assert_eq!(call["remedy"], "speak HTTP/2 to the server", "{call}");
}

#[test]
fn a_page_in_the_place_of_an_answer_is_told_with_what_to_change_in_what_has_sent_it() {
    let server = Server::start();
    for (status, figure, cause, remedy) in [
        (200, "HTTP 200 OK with text/html", "not gRPC", "`grpc_pass"),
        (301, "HTTP 301 Moved Permanently to https://elsewhere.example/", "redirects", "`return 301`"),
        (401, "HTTP 401 Unauthorized with text/html", "credentials", "`auth_basic off`"),
        (429, "HTTP 429 Too Many Requests with text/html", "limits the rate", "`limit_req`"),
        (502, "HTTP 502 Bad Gateway with text/html", "does not reach the server", "`grpc_pass"),
        (503, "HTTP 503 Service Unavailable with text/html", "or limits the rate", "`limit_req`"),
    ] {
        let path = Path::to(&server, Fault::Page(status));
        let call = &outcomes(check(&path.url, "--only connect"))["connect/call"];
        let text = |field: &str| call[field].as_str().unwrap().to_owned();
        assert_eq!((text("outcome").as_str(), text("figure").as_str()), ("fail", figure), "{call}");
        assert!(text("cause").contains(cause) && text("remedy").contains(remedy), "{call}");
        assert!(text("remedy").contains(". nginx: ") && !text("remedy").contains("Envoy"), "{call}");
    }
}

/// It may, and so the client has to hear the answer while it waits to send the rest.
#[test]
fn a_path_that_reads_no_more_of_a_request_that_is_answered_passes() {
    let server = Server::start();
    let path = Path::to(&server, Fault::KeepRequest);
    let found = outcomes(check(&path.url, "--only modes,status,flow"));
    assert_eq!(with(&found, "fail"), Vec::<String>::new(), "{found:#?}");
    let refused = found["flow/16-mib-up"]["figure"].as_str().unwrap();
    assert!(refused.starts_with("16 MiB refused: the server takes 4 MiB"), "{refused}");
}

#[test]
fn a_balancer_of_connections_is_told_from_one_of_calls() {
    let servers = [Server::start(), Server::start()];
    let path = Path::to_each(&[&servers[0], &servers[1]], Fault::None);
    let found = outcomes(check(&path.url, "--only balance,control"));
    assert_eq!(found["balance/connections"]["outcome"], "pass", "{found:#?}");
    assert!(
        found["balance/connections"]["figure"].as_str().unwrap().starts_with("2 instances"),
        "{found:#?}"
    );
    assert_eq!(found["balance/calls"]["outcome"], "warn", "{found:#?}");
    assert!(found["balance/calls"]["cause"].as_str().unwrap().contains("L4"), "{found:#?}");
    // The right one of them is found, to be asked what it saw.
    assert_eq!(found["control/cancel"]["outcome"], "pass", "{found:#?}");
}

#[test]
fn a_server_that_is_not_there_is_told_at_once() {
    let (address, _sockets) = deaf_address();
    let found = outcomes(check(&format!("http://{address}"), ""));
    assert_eq!(with(&found, "pass"), ["connect/resolve"]);
    assert_eq!(with(&found, "fail"), ["connect/tcp"]);
    // Also when something else was asked for.
    let found = outcomes(check(&format!("http://{address}"), "--only flow"));
    assert_eq!(with(&found, "fail"), ["connect/tcp"]);
}

#[test]
fn a_name_that_is_none_is_told() {
    let found = outcomes(check("http://nowhere.invalid:1", "--only connect"));
    assert_eq!(with(&found, "fail"), ["connect/resolve"]);
}

pub(crate) fn certificates(days: u64) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let until = SystemTime::now() + Duration::from_secs(days * 24 * 3600);
    let request = Request { until, ..Request::for_a_year(Vec::new()) };
    request.make(directory.path(), false).unwrap();
    directory
}

pub(crate) fn over_tls(certificates: &tempfile::TempDir) -> Server {
    let file = |name| certificates.path().join(name);
    let tls = TlsFiles { certificate: file("server.pem"), key: file("server-key.pem"), client_ca: None };
    Server::with(Settings { tls: Some(tls), ..Settings::default() }.into())
}

#[test]
fn a_certificate_that_ends_soon_is_told() {
    for (days, verdict) in [(5, "warn"), (100, "pass")] {
        let certificates = certificates(days);
        let server = over_tls(&certificates);
        let client = check(&server.url, "--only connect").arg("--ca").arg(certificates.path().join("ca.pem"));
        let found = outcomes(client);
        assert_eq!(
            found["connect/tls"]["figure"].as_str().unwrap().split(',').next(),
            Some("TLSv1.3"),
            "{found:#?}"
        );
        assert_eq!(found["connect/certificate"]["outcome"], verdict, "{found:#?}");
        assert_eq!(found["connect/http2"]["figure"], "ALPN h2", "{found:#?}");
    }
}

#[test]
fn what_is_wrong_with_tls_is_told() {
    let certificates = certificates(100);
    let server = over_tls(&certificates);
    // Its CA is not trusted.
    let found = outcomes(check(&server.url, "--only connect"));
    assert_eq!(with(&found, "fail"), ["connect/tls"]);
    // Without TLS.
    let found = outcomes(check(&server.url.replace("https", "http"), "--only connect"));
    assert_eq!(with(&found, "fail"), ["connect/http2"]);
    let plain = Server::start();
    let found = outcomes(check(&plain.url.replace("http", "https"), "--only connect"));
    assert_eq!(with(&found, "fail"), ["connect/tls"]);
}

#[test]
fn a_server_that_swallows_everything_is_told_in_bounded_time() {
    let (listener, address) = test_support::listener();
    let found = outcomes(check(&format!("http://{address}"), ""));
    assert_eq!(with(&found, "fail"), ["connect/http2"]);
    drop(listener);
}

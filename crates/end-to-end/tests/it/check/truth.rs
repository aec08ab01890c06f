//! A verdict names the cause that is the cause: on slow paths, at dead ends, and where
//! somebody else than the path ended something.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stack::{Limits, Settings};
use test_support::{BlockingServer as Server, Certs, Fate, Fault, Link, Path, Slow, listener};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::check::{Outcomes, check, outcomes, with};

#[track_caller]
fn says(check: &Value, field: &str, what: &str) {
    assert!(check[field].as_str().unwrap().contains(what), "{field} without {what:?}: {check}");
}

/// What ended the last connection of a check.
fn end(check: &Value) -> Value {
    let ended = || check["evidence"].as_array().unwrap().iter().rev().filter(|it| !it["ended"].is_null());
    // Of two connections the client may end the other one first.
    let ended = ended().find(|it| it["ended"]["by"] != "client").or_else(|| ended().next());
    let mut end = ended.unwrap_or_else(|| panic!("no connection ended: {check}"))["ended"].clone();
    end.as_object_mut().unwrap().remove("after_ms");
    end
}

fn over(server: &Server, link: Link) -> Slow {
    Slow::over(server.address, link)
}

/// No fault of the path, and no limit of it.
#[track_caller]
fn is_only_slow(found: &Outcomes, warning: &[&str]) {
    assert_eq!(with(found, "fail"), Vec::<String>::new(), "{found:#?}");
    assert_eq!(with(found, "warn"), warning, "{found:#?}");
}

#[test]
fn a_status_in_a_head_that_does_not_end_the_stream_is_none() {
    let server = Server::start();
    let path = Path::to(&server, Fault::StatusInHead(1));
    let found = outcomes(check(&path.url, "--only status"));
    let status = &found["status/message"];
    says(status, "figure", "NOT_FOUND in headers that do not end the stream");
    says(status, "remedy", "END_STREAM");
    let call = &status["evidence"][0]["calls"][0];
    assert_eq!((&call["http_status"], &call["grpc_status"]), (&json!(200), &Value::Null), "{status}");
    assert_eq!((&call["ended"]["by"], &call["ended"]["frame"]), (&json!("peer"), &json!("DATA")), "{status}");
}

/// What one library has a limit for is no fault of the path, and yet worth a word.
#[test]
fn empty_frames_are_told_with_the_clients_that_they_hurt() {
    let server = Server::start();
    let path = Path::to(&server, Fault::EmptyData(1));
    let found = outcomes(check(&path.url, "--only life,flow"));
    is_only_slow(&found, &["life/empty-frames"]);
    says(
        &found["life/empty-frames"],
        "cause",
        "h2 0.4.16 to 0.4.20 (tonic) loses its connection every 100 answers",
    );
}

#[test]
fn a_limit_of_the_library_of_this_client_is_its_own() {
    let server = Server::start();
    let path = Path::to(&server, Fault::EmptyData(3000));
    let found = outcomes(check(&path.url, "--only modes"));
    let unary = &found["modes/unary"];
    says(unary, "cause", "a limit of this client's HTTP/2 library");
    assert_eq!(
        (&end(unary)["by"], &end(unary)["code"]),
        (&json!("client"), &json!("ENHANCE_YOUR_CALM")),
        "{unary}"
    );
}

#[test]
fn a_limit_of_streams_is_counted_by_what_comes_back() {
    let server = Server::start();
    for (fault, figure) in
        [(Fault::CarryStreams(6), "6 at once, the server allows "), (Fault::HoldHead, "one more waited")]
    {
        let path = Path::to(&server, fault);
        let found = outcomes(check(&path.url, "--only flow"));
        says(&found["flow/streams"], "figure", figure);
    }
    let limits = Limits { streams: 5000, ..Limits::default() };
    let many = Server::with(Settings { limits, ..Settings::default() }.into());
    let found = outcomes(check(&many.url, "--only flow"));
    says(&found["flow/streams"], "figure", "1001 at once, the server allows 5000; more were not tried");
}

/// 1 Mbit/s.
const NARROW: Link = Link { rate: Some(125_000), round_trip: Duration::from_millis(40), ..Link::GOOD };

#[test]
fn a_narrow_path_is_only_narrow() {
    let server = Server::start();
    let slow = over(&server, NARROW);
    let begun = Instant::now();
    let found = outcomes(check(&slow.url, ""));
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}: {found:#?}", begun.elapsed());
    is_only_slow(&found, &[]);
    says(&found["flow/16-mib-up"], "cause", "16 MiB would take");
    assert_eq!(found["flow/1-mib-up"]["outcome"], "pass", "{found:#?}");
}

#[test]
fn a_path_that_is_far_away_is_only_far_away() {
    let server = Server::start();
    let slow = over(&server, Link { round_trip: Duration::from_millis(200), ..Link::GOOD });
    let begun = Instant::now();
    let found = outcomes(check(&slow.url, ""));
    // It is 30 s on a machine that has nothing else to do.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}: {found:#?}", begun.elapsed());
    is_only_slow(&found, &[]);
    assert_eq!(found["life/1200-calls"]["outcome"], "pass", "{found:#?}");
}

#[test]
fn a_path_by_satellite_is_only_slow() {
    let server = Server::start();
    let link =
        Link { round_trip: Duration::from_millis(600), jitter: Duration::from_millis(20), ..Link::GOOD };
    let slow = over(&server, link);
    let found = outcomes(check(&slow.url, "--only connect,modes,status,control,balance,life"));
    is_only_slow(&found, &["connect/round-trip"]);
}

#[test]
fn a_path_that_cuts_all_in_small_pieces_is_only_slow() {
    let server = Server::start();
    let link = Link { rate: Some(256 << 10), slice: 64, ..Link::GOOD };
    let slow = over(&server, link);
    is_only_slow(&outcomes(check(&slow.url, "--only modes,status,metadata,flow")), &[]);
}

#[test]
fn a_connection_that_is_lost_is_no_limit_of_size() {
    let server = Server::start();
    let slow = over(&server, Link { fate: Fate::CutAfter(600 << 10), ..Link::GOOD });
    let found = outcomes(check(&slow.url, "--only flow"));
    for name in ["1-mib-up", "4-mib-down", "long-upload"] {
        let found = &found[&format!("flow/{name}")];
        says(found, "cause", "ended the connection");
        says(found, "figure", "closed without GOAWAY, after ");
    }
}

#[test]
fn a_path_that_takes_nothing_more_is_told_soon() {
    let server = Server::start();
    let slow = over(&server, Link { fate: Fate::DeafAfter(300 << 10), ..Link::GOOD });
    let found = outcomes(check(&slow.url, "--only flow"));
    let long = &found["flow/long-upload"];
    assert!(long["ms"].as_u64().unwrap() < 15_000, "{long}");
    says(long, "figure", "bytes were not accepted");
    says(long, "cause", "has forgotten the connection");
}

#[test]
fn a_connection_that_is_forgotten_is_told_as_that() {
    let server = Server::start();
    let slow = over(&server, Link { fate: Fate::Forgotten(Duration::from_secs(2)), ..Link::GOOD });
    for dialect in ["", "--standard"] {
        let found = outcomes(check(&slow.url, &format!("--only life --idle 3s {dialect}")));
        let idle = &found["life/idle"];
        assert_eq!(idle["outcome"], "fail", "{idle}");
        says(idle, "cause", "has forgotten the connection");
        says(idle, "remedy", "keepalive");
        assert!(idle["ms"].as_u64().unwrap() < 15_000, "{idle}");
    }
}

#[test]
fn a_dead_end_is_told_as_what_it_is() {
    let server = Server::start();
    let closes = over(&server, Link { fate: Fate::Closed, ..Link::GOOD });
    let (_listener, mute) = listener();
    for (url, cause) in [
        (closes.url.clone(), "accepts connections and closes them"),
        (format!("http://{mute}"), "accepts connections and sends nothing"),
        (closes.url.replace("http", "https"), "accepts connections and closes them"),
        (format!("https://{mute}"), "accepts connections and sends nothing"),
    ] {
        let found = outcomes(check(&url, "--only connect"));
        let failed = with(&found, "fail");
        assert_eq!(failed.len(), 1, "{found:#?}");
        says(&found[&failed[0]], "cause", cause);
        says(&found[&failed[0]], "remedy", "a server runs behind it");
    }
}

#[test]
fn what_ended_a_connection_with_pings_is_told() {
    let server = Server::start();
    let life = |url: &str| outcomes(check(url, "--only life"))["life/keepalive"].clone();
    let calm = Path::to(&server, Fault::Calm);
    let keepalive = life(&calm.url);
    says(&keepalive, "figure", "GOAWAY ENHANCE_YOUR_CALM (too_many_pings)");
    says(&keepalive, "cause", "an attack");
    let goaway = json!({"by": "peer", "frame": "GOAWAY", "code": "ENHANCE_YOUR_CALM", "last_stream": 0,
        "debug": "too_many_pings"});
    assert_eq!(end(&keepalive), goaway, "{keepalive}");
    // An age ends a connection without PINGs as well.
    let old = Path::to(&server, Fault::GoAwayOld(Duration::from_millis(2500)));
    let keepalive = life(&old.url);
    assert_eq!(keepalive["outcome"], "pass", "{keepalive}");
    says(&keepalive, "figure", "GOAWAY NO_ERROR");
    let cut = over(&server, Link { fate: Fate::CutOld(Duration::from_millis(2500)), ..Link::GOOD });
    let keepalive = life(&cut.url);
    assert_eq!(keepalive["outcome"], "warn", "{keepalive}");
    says(&keepalive, "cause", "without GOAWAY");
    assert_eq!(end(&keepalive), json!({"by": "peer", "frame": "FIN"}), "{keepalive}");
}

#[test]
fn the_age_of_a_request_is_told_from_silence() {
    let server = Server::start();
    let path = Path::to(&server, Fault::CutOldRequest(Duration::from_secs(1)));
    for dialect in ["", "--standard"] {
        let found = outcomes(check(&path.url, &format!("--only life --idle 2s {dialect}")));
        says(&found["life/lasting"], "cause", "ends requests by their age");
        assert_eq!(found["life/idle"]["outcome"], "fail", "{found:#?}");
        says(&found["life/idle"], "cause", "by their age");
        says(&found["life/idle"], "remedy", "maximum age");
    }
    let silence = Path::to(&server, Fault::CutIdle(Duration::from_millis(800)));
    let found = outcomes(check(&silence.url, "--only life --idle 2s"));
    says(&found["life/idle"], "cause", "silent streams");
    assert_eq!(found["life/lasting"]["outcome"], "pass", "{found:#?}");
}

#[test]
fn a_server_as_those_of_java_passes_in_the_standard_way() {
    let server = Server::start();
    let path = Path::to(&server, Fault::ResetsOk);
    let found = outcomes(check(&path.url, "--standard --only status"));
    assert_eq!(found["status/codes"]["outcome"], "pass", "{found:#?}");
}

#[test]
fn a_limit_of_the_server_is_its_own() {
    let limits = Limits { message: 20 << 10, ..Limits::default() };
    let server = Server::with(Settings { limits, ..Settings::default() }.into());
    is_only_slow(&outcomes(check(&server.url, "--only flow")), &[]);
}

#[test]
fn too_few_calls_are_no_pass() {
    let server = Server::start();
    let path = Path::to(&server, Fault::FewStreams(1));
    let slow = Slow::over(path.address, Link { round_trip: Duration::from_millis(60), ..Link::GOOD });
    let found = outcomes(check(&slow.url, "--only life"));
    assert_eq!(found["life/1200-calls"]["outcome"], "skip", "{found:#?}");
    says(&found["life/1200-calls"], "cause", "none lost");
}

#[test]
fn a_buffer_without_a_bound_is_found_far_away() {
    let server = Server::start();
    let path = Path::to(&server, Fault::HoardRequest);
    let slow = Slow::over(path.address, Link { round_trip: Duration::from_millis(600), ..Link::GOOD });
    let found = outcomes(check(&slow.url, "--only flow"));
    let verdict = found["flow/slow-server"]["outcome"].as_str().unwrap();
    assert!(["fail", "skip"].contains(&verdict), "{found:#?}");
}

/// Speaks TLS without ALPN, and has a server behind it.
async fn without_alpn(listener: TcpListener, config: ServerConfig, server: std::net::SocketAddr) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            if let Ok(mut client) = acceptor.accept(client).await {
                let mut server = TcpStream::connect(server).await.unwrap();
                // Either side may go at any time.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

#[test]
fn without_alpn_the_clients_are_named_that_refuse_it() {
    let (server, certs) = (Server::start(), Certs::new());
    let key = PrivateKeyDer::from_pem_file(certs.path("server-key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certs.certificate("server.pem")], key)
        .unwrap();
    let listener = server.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    server.runtime.spawn(without_alpn(listener, config, server.address));
    let found = outcomes(certs.trusted_by(check(&url, "--only connect")));
    let http2 = &found["connect/http2"];
    assert_eq!(http2["outcome"], "fail", "{http2}");
    says(http2, "figure", "HTTP/2 works");
    says(http2, "cause", "grpcurl");
}

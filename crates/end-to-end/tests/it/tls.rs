//! TLS, and what the client says when it does not come about.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use ::server::certs::Request;
use stack::{Settings, TlsFiles};
use tempfile::TempDir;
use test_support::{BlockingServer as Server, Certs, Ended, Killable, Signal};
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::{Called as _, client, server};

/// By the certificates, for any client or those of a CA.
fn serve(certs: &Certs, client_ca: Option<&Certs>) -> Server {
    let tls = TlsFiles { client_ca: client_ca.map(|certs| certs.path("ca.pem")), ..certs.server() };
    Server::with(Settings { tls: Some(tls), ..Settings::default() }.into())
}

/// With its state in a directory, as it is to be there after a kill.
fn killable(certs: &Certs, data: &TempDir) -> Killable {
    let program = server("all --data-dir").arg(data.path());
    let program = program.arg("--tls-cert").arg(certs.path("server.pem"));
    Killable::start(program.arg("--tls-key").arg(certs.path("server-key.pem")))
}

const CALL: &str = "unary multiply 6 7 --output json";

/// Failed for good at the first attempt: mostly in connecting, on a busy machine
/// in the call.
#[track_caller]
fn assert_refused(ended: Ended, words: &[&str]) {
    let ended = ended.failed(1, words);
    assert!(ended.json().iter().all(|line| line["type"] != "reconnect"), "{}", ended.stdout);
    assert_eq!(ended.result()["error"]["code"], "UNAVAILABLE");
}

#[test]
fn what_is_measured_at_the_socket_has_tls_in_it() {
    let certs = Certs::new();
    let (with, without) = (serve(&certs, None), Server::start());
    let measure = "measure --messages 100 --warmup 0s --only unary --output json";
    let sent = |ended: Ended| ended.ok().json()[0]["wire_sent_bytes_per_message"].as_f64().unwrap();
    let (with, without) =
        (sent(certs.trusted_by(with.client(measure)).run()), sent(without.client(measure).run()));
    // A record of TLS 1.3 has 22 bytes of its own.
    assert!(with >= without + 20.0, "{with} {without}");
}

#[test]
fn calls_go_over_tls_with_the_ca_that_is_named() {
    let certs = Certs::new();
    let server = serve(&certs, None);
    let ended = certs.trusted_by(server.client(CALL)).run().ok();
    assert_eq!(ended.json()[0]["server"], format!("{}/", server.url));
    assert_eq!(ended.result()["value"]["product"], 42);
    let by_name = server.url.replace("127.0.0.1", "localhost");
    certs.trusted_by(client(CALL)).env("FOURMODES_SERVER", &by_name).run().ok();
    certs.trusted_by(server.client("server-streaming quotes --count 3 --interval 0s")).run().ok();
}

#[test]
fn calls_go_over_tls_with_the_cas_of_the_platform() {
    let certs = Certs::new();
    let ca = certs.path("ca.pem");
    serve(&certs, None).client(CALL).env("SSL_CERT_FILE", ca.to_str().unwrap()).run().ok();
}

#[test]
fn a_client_shows_its_certificate() {
    let (certs, clients) = (Certs::new(), Certs::new());
    let server = serve(&certs, Some(&clients));
    clients.shown_by(certs.trusted_by(server.client(CALL))).run().ok();
}

#[test]
fn a_certificate_that_has_expired() {
    let past = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
    let request = Request { from: past(2), until: past(1), ..Request::for_a_year(Vec::new()) };
    let certs = Certs::of(&request);
    let ended = certs.trusted_by(serve(&certs, None).client(CALL)).run();
    assert_refused(ended, &["the certificate of the server has expired", "renew it", "clock"]);
}

#[test]
fn a_certificate_for_another_name() {
    let names = vec!["example.test".to_owned()];
    let certs = Certs::of(&Request { names, ..Request::for_a_year(Vec::new()) });
    let ended = certs.trusted_by(serve(&certs, None).client(CALL)).run();
    assert_refused(
        ended,
        &["the certificate of the server is for another name", "example.test", "certs --name HOST"],
    );
}

#[test]
fn a_certificate_of_a_ca_that_is_not_trusted() {
    let (certs, others) = (Certs::new(), Certs::new());
    let server = serve(&certs, None);
    for client in [others.trusted_by(server.client(CALL)), server.client(CALL)] {
        let ended = client.run();
        assert_refused(ended, &["from a CA that is not trusted here", "--ca FILE"]);
    }
    // Who waits for a server does so for one that may come.
    let waiting = server.client(CALL).args("--wait-for-ready --deadline 10min").run();
    assert_refused(waiting, &["from a CA that is not trusted here"]);
}

const QUOTES: &str = "server-streaming quotes --count 0 --interval 1ms --output json";

#[cfg(unix)]
#[test]
fn a_stream_goes_on_when_its_server_is_back() {
    let (certs, data) = (Certs::new(), tempfile::tempdir().unwrap());
    let server = killable(&certs, &data);
    let mut stream = certs.trusted_by(server.client(QUOTES)).spawn();
    let lines = stream.lines();
    for _ in 0..3 {
        lines.until(r#""sequence""#);
        server.restart();
        lines.until(r#""type":"connected""#);
    }
    lines.until(r#""sequence""#);
    stream.signal(Signal::INT);
    let result: serde_json::Value = serde_json::from_str(&lines.until(r#""type":"result""#)).unwrap();
    assert_eq!((&result["value"]["gaps"], &result["value"]["duplicates"]), (&0.into(), &0.into()));
    assert!(result["value"]["count"].as_u64() >= Some(4), "{result}");
}

#[test]
fn a_server_that_comes_back_as_somebody_else_is_not_tried_again() {
    let (certs, data) = (Certs::new(), tempfile::tempdir().unwrap());
    let server = killable(&certs, &data);
    std::fs::copy(certs.path("ca.pem"), certs.path("old-ca.pem")).unwrap();
    let mut stream = server.client(QUOTES).arg("--ca").arg(certs.path("old-ca.pem")).spawn();
    let lines = stream.lines();
    lines.until(r#""sequence""#);
    certs.make_new();
    server.restart();
    loop {
        let line = lines.until("");
        let is_refused = line.contains("from a CA that is not trusted here");
        match line.contains(r#""type":"result""#) {
            true => break assert!(is_refused, "{line}"),
            false => assert!(!is_refused, "tried again: {line}"),
        }
    }
    stream.wait().failed(1, &["from a CA that is not trusted here", "--ca FILE"]);
}

#[test]
fn a_client_without_a_certificate_where_one_is_asked_for() {
    let certs = Certs::new();
    let server = serve(&certs, Some(&certs));
    for call in
        [CALL, "server-streaming quotes --output json", "bidi-streaming chat --room r --name n --output json"]
    {
        for _ in 0..5 {
            let ended = certs.trusted_by(server.client(call)).run();
            assert_refused(
                ended,
                &["the server requires a client certificate", "--cert FILE and --key FILE"],
            );
        }
    }
}

#[test]
fn a_client_with_a_certificate_of_another_ca() {
    let (certs, others) = (Certs::new(), Certs::new());
    let server = serve(&certs, Some(&certs));
    for _ in 0..5 {
        let ended = others.shown_by(certs.trusted_by(server.client(CALL))).run();
        assert_refused(ended, &["rejects the client's certificate", "a CA that the server does not accept"]);
    }
}

#[test]
fn with_tls_where_there_is_none_and_without_where_there_is() {
    let certs = Certs::new();
    let url = Server::start();
    let ended =
        certs.trusted_by(client(CALL)).env("FOURMODES_SERVER", url.url.replace("http:", "https:")).run();
    assert_refused(ended, &["does not speak TLS", "http:// instead of https://"]);
    let server = serve(&certs, None);
    for _ in 0..5 {
        let ended = client(CALL).env("FOURMODES_SERVER", server.url.replace("https:", "http:")).run();
        assert_refused(ended, &["the server expects TLS", "https:// instead of http://"]);
    }
}

#[test]
fn a_server_without_http_2() {
    let certs = Certs::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let key = PrivateKeyDer::from_pem_file(certs.path("server-key.pem")).unwrap();
        let chain = vec![CertificateDer::from_pem_file(certs.path("server.pem")).unwrap()];
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = protocols;
        let call = certs.trusted_by(client(CALL)).env("FOURMODES_SERVER", &url);
        let ended = std::thread::spawn(move || call.run());
        runtime.block_on(async {
            let (socket, _) = listener.accept().await.unwrap();
            let _ = TlsAcceptor::from(Arc::new(config)).accept(socket).await;
        });
        assert_refused(ended.join().unwrap(), &["speaks TLS, but not HTTP/2 over it", "ALPN"]);
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let certs = Certs::new();
    let server = serve(&certs, None);
    server.client(CALL).args("--ca missing.pem").run().failed(3, &["missing.pem"]);
    let key = certs.path("client-key.pem");
    server.client(CALL).arg("--ca").arg(&key).run().failed(3, &["client-key.pem", "no certificate"]);
    let client = certs.trusted_by(server.client(CALL)).arg("--cert").arg(certs.path("client.pem"));
    let client = client.arg("--key").arg(certs.path("server-key.pem"));
    client.run().failed(3, &["client.pem", "does not match", "server-key.pem"]);
}

#[test]
fn the_commands_of_the_documentation_work() {
    let page = include_str!("../../../../docs/operate.md");
    let command = |start: &str| {
        let line = page.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no {start} in docs/operate.md")).split('#').next().unwrap().trim()
    };
    let dir = tempfile::tempdir().unwrap();
    let run = |command: &str| {
        let cli = <::server::cli::Cli as clap::Parser>::try_parse_from(command.split_whitespace().skip(1));
        cli.unwrap_or_else(|error| panic!("{command}: {error}"))
    };
    let made = run(command("just server certs"));
    assert!(matches!(&made.command, ::server::cli::Command::Certs { dir, .. } if dir.as_os_str() == "certs"));
    Request::for_a_year(Vec::new()).make(&dir.path().join("certs"), false).unwrap();
    let serve = run(command("just server all --tls-cert"));
    let file = |file: Option<std::path::PathBuf>| dir.path().join(file.unwrap());
    let tls = TlsFiles {
        certificate: file(serve.stack.tls.tls_cert),
        key: file(serve.stack.tls.tls_key),
        client_ca: serve.stack.tls.client_ca.map(|ca| file(Some(ca))),
    };
    assert!(tls.client_ca.is_some());
    let server = Server::with(Settings { tls: Some(tls), ..Settings::default() }.into());
    let call = command("just unary multiply 6 7 --server https:");
    let port = server.url.rsplit_once(':').unwrap().1;
    let call = call.strip_prefix("just ").unwrap().replace(":50051", &format!(":{port}"));
    assert!(client(&call).current_dir(dir.path()).run().ok().stdout.contains("6 × 7 = 42"));
}

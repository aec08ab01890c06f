//! TLS: who is let in, with which certificates, and who cannot hold anybody up.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use shared_proto::fourmodes::v1::{
    JoinRoom, MultiplyRequest, UnaryRequest, chat_request::Action, probe_service_client::ProbeServiceClient,
    unary_service_client::UnaryServiceClient,
};
use stack::{Limits, Settings, TlsFiles};
use test_support::{Certs, Ended, Member, Program, Server, ServerProgram, run, until, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::ClientConfig};
use tonic::transport::{Channel, Endpoint};

use crate::server::binary;

async fn with(tls: TlsFiles, limits: Limits) -> Server {
    Server::with(Settings { tls: Some(tls), limits, ..Settings::default() }.into()).await
}

async fn handshake(address: SocketAddr, client: TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    Certs::handshake(address, client).await
}

fn channel(address: SocketAddr, client: TlsConnector) -> Channel {
    Certs::channel(Endpoint::from_static("https://localhost"), address, client)
}

async fn answers(address: SocketAddr, client: TlsConnector) -> bool {
    let mut client = UnaryServiceClient::new(channel(address, client));
    within(client.multiply(MultiplyRequest { a: 6, b: 7 })).await.is_ok()
}

async fn member(address: SocketAddr, client: TlsConnector, name: &str) -> Member {
    let member = Member::silent(channel(address, client)).await;
    let join = JoinRoom { room: "lobby".to_owned(), name: name.to_owned(), ..JoinRoom::default() };
    member.send(Some(Action::Join(join))).await;
    member
}

#[test]
fn only_who_has_a_certificate_of_the_right_ca_is_let_in() {
    run(async {
        let (certs, others) = (Certs::new(), Certs::new());
        let open = with(certs.server(), Limits::default()).await;
        assert!(answers(open.address, certs.client(false)).await);
        assert!(answers(open.address, certs.client(true)).await);
        assert!(!answers(open.address, others.client(false)).await);
        let mutual = with(certs.mutual(), Limits::default()).await;
        assert!(answers(mutual.address, certs.client(true)).await);
        assert!(!answers(mutual.address, certs.client(false)).await);
        // Trusts the server, and has a certificate of somebody else.
        std::fs::copy(certs.path("ca.pem"), others.path("ca.pem")).unwrap();
        assert!(!answers(mutual.address, others.client(true)).await);
    });
}

#[test]
fn a_probe_sees_what_the_handshake_agreed_on() {
    run(async {
        let certs = Certs::new();
        let server = with(certs.mutual(), Limits::default()).await;
        let mut client = ProbeServiceClient::new(channel(server.address, certs.client(true)));
        let answer = within(client.unary(UnaryRequest::default())).await.unwrap().into_inner();
        let tls = answer.observation.unwrap().tls.expect("no TLS");
        assert_eq!((tls.version.as_str(), tls.alpn.as_str()), ("TLSv1.3", "h2"));
        assert!(tls.cipher_suite.starts_with("TLS13_"), "{tls:?}");
        assert_eq!(
            (tls.server_name.as_str(), tls.client_certificate.as_str()),
            ("localhost", "CN=Four Modes client")
        );
        let open = with(certs.server(), Limits::default()).await;
        let mut client = ProbeServiceClient::new(channel(open.address, certs.client(false)));
        let answer = within(client.unary(UnaryRequest::default())).await.unwrap().into_inner();
        assert_eq!(answer.observation.unwrap().tls.unwrap().client_certificate, "");
    });
}

/// By which gRPC-Web comes where there is no HTTP/2.
#[test]
fn http_1_1_is_agreed_to_if_that_is_all_there_is() {
    run(async {
        let certs = Certs::new();
        let server = with(certs.server(), Limits::default()).await;
        for (offered, agreed) in [(vec!["http/1.1"], "http/1.1"), (vec!["http/1.1", "h2"], "h2")] {
            let mut config = ClientConfig::clone(certs.client(false).config());
            config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
            let mut stream = handshake(server.address, TlsConnector::from(Arc::new(config))).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(agreed.as_bytes()));
            if agreed == "http/1.1" {
                stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                within(stream.read_to_string(&mut answer)).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
            }
        }
    });
}

#[test]
fn new_files_are_taken_for_new_connections_and_open_streams_go_on() {
    run(async {
        let certs = Certs::new();
        let server = binary_with(&certs);
        let address = server.address;
        let (old, old_client) = (certs.certificate("server.pem"), certs.client(true));
        let stream = handshake(address, old_client.clone()).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap(), std::slice::from_ref(&old));
        let mut ana = member(address, old_client.clone(), "ana").await;
        ana.hear_until("ana joined ana").await;

        std::fs::write(certs.path("server.pem"), "half of a certifi").unwrap();
        until(async || server.logged(&["WARN", "server.pem has no certificate"])).await;
        assert!(answers(address, old_client.clone()).await);

        certs.make_new();
        until(async || server.logged(&["certificates changed"])).await;
        let new_client = certs.client(true);
        let stream = handshake(address, new_client.clone()).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap(), [certs.certificate("server.pem")]);
        assert_ne!(certs.certificate("server.pem"), old);
        let _ben = member(address, new_client, "ben").await;
        ana.hear_until("ben joined ana, ben").await;
        ana.post("still here").await;
        ana.hear_until("still here").await;
        // The CA of the clients is another one as well.
        std::fs::copy(certs.path("ca.pem"), certs.path("new-ca.pem")).unwrap();
        let others = Certs::new();
        std::fs::copy(certs.path("ca.pem"), others.path("ca.pem")).unwrap();
        assert!(!answers(address, others.client(true)).await);
    });
}

fn binary_with(certs: &Certs) -> ServerProgram {
    let TlsFiles { certificate, key, client_ca } = certs.mutual();
    let program = binary(&["all", "--tls-cert"]).arg(certificate).arg("--tls-key").arg(key);
    program.arg("--client-ca").arg(client_ca.unwrap()).serve()
}

#[test]
fn a_handshake_that_does_not_end_is_ended_and_holds_nobody_up() {
    run(async {
        let certs = Certs::new();
        let short = Duration::from_millis(300);
        let limits = Limits { connections: 1, first_byte: short, handshake: short, ..Limits::default() };
        let server = with(certs.server(), limits).await;
        for said in [b"".as_slice(), b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
            let mut peer = within(TcpStream::connect(server.address)).await.unwrap();
            peer.write_all(said).await.unwrap();
            let _ = within(peer.read_to_end(&mut Vec::new())).await;
            let ended = Instant::now();
            until(async || answers(server.address, certs.client(false)).await).await;
            // Nobody waits for what else it may say, which is 5 s elsewhere.
            assert!(ended.elapsed() < Duration::from_secs(4), "it keeps its place");
        }
        // TLS is done, and HTTP/2 does not begin.
        let mut peer = loop {
            // The place may still be taken.
            if let Ok(peer) = handshake(server.address, certs.client(false)).await {
                break peer;
            }
        };
        let _ = within(peer.read_to_end(&mut Vec::new())).await;
        until(async || answers(server.address, certs.client(false)).await).await;

        let patient = Duration::from_secs(600);
        let limits = Limits { first_byte: patient, handshake: patient, ..Limits::default() };
        let server = with(certs.server(), limits).await;
        let mut stuck = Vec::new();
        for said in [b"".as_slice(), b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
            let mut peer = within(TcpStream::connect(server.address)).await.unwrap();
            peer.write_all(said).await.unwrap();
            stuck.push(peer);
        }
        assert!(answers(server.address, certs.client(false)).await);
    });
}

#[test]
fn the_first_line_says_https_and_the_log_has_the_peer() {
    run(async {
        let certs = Certs::new();
        let server = binary_with(&certs);
        let address = server.address;
        assert!(answers(address, certs.client(true)).await);
        until(async || server.logged(&["unary ended", "Multiply", "code=OK", "peer=127.0.0.1:"])).await;
        assert!(!answers(address, certs.client(false)).await);
        until(async || server.logged(&["TLS handshake failed", "peer=127.0.0.1:", "no certificates"])).await;
        assert_eq!(server.killed(), format!("listening on https://{address}\n"));
    });
}

/// Of `server certs`.
fn certs(dir: &Path, options: &[&str]) -> (Option<i32>, String) {
    let ended = options.iter().fold(binary(&["certs", "--dir"]).arg(dir), Program::arg).run();
    (ended.code, ended.stdout + &ended.stderr)
}

#[test]
fn certs_makes_files_that_work_and_replaces_none_unasked() {
    run(async {
        let made = Certs { directory: tempfile::tempdir().unwrap() };
        let (code, shown) = certs(made.directory.path(), &["--name", "example.test", "--name", "192.0.2.1"]);
        assert_eq!(code, Some(0), "{shown}");
        assert!(shown.contains("for example.test, 192.0.2.1, localhost, 127.0.0.1, ::1"), "{shown}");
        assert!(shown.contains("--server https://example.test:50051 --ca "), "{shown}");
        #[cfg(unix)]
        for (name, mode) in [
            ("ca", 0o644),
            ("server", 0o644),
            ("client", 0o644),
            ("ca-key", 0o600),
            ("server-key", 0o600),
            ("client-key", 0o600),
        ] {
            use std::os::unix::fs::PermissionsExt as _;
            let metadata = std::fs::metadata(made.path(&format!("{name}.pem"))).unwrap();
            let found = metadata.permissions().mode() & 0o777;
            assert_eq!(found & !mode, 0, "{name}: {found:o}");
        }
        let server = with(made.mutual(), Limits::default()).await;
        assert!(answers(server.address, made.client(true)).await);

        let before = made.certificate("ca.pem");
        std::fs::remove_file(made.path("ca.pem")).unwrap();
        let (code, shown) = certs(made.directory.path(), &[]);
        assert_eq!(code, Some(1), "{shown}");
        assert!(shown.contains("ca-key.pem already exists") && shown.contains("--force"), "{shown}");
        assert!(!made.path("ca.pem").exists());
        let (code, shown) = certs(made.directory.path(), &["--force"]);
        assert_eq!(code, Some(0), "{shown}");
        assert_ne!(made.certificate("ca.pem"), before);
    });
}

#[test]
fn files_that_make_no_tls_are_named() {
    run(async {
        let certs = Certs::new();
        let others = Certs::new();
        let path = |certs: &Certs, name| certs.path(name).display().to_string();
        let (cert, key) = (path(&certs, "server.pem"), path(&certs, "server-key.pem"));
        let (missing, other_key) = (path(&certs, "missing.pem"), path(&others, "server-key.pem"));
        for (code, options, words) in [
            (2, vec!["--tls-cert", &cert], vec!["--tls-cert and --tls-key need each other"]),
            (2, vec!["--client-ca", &cert], vec!["--client-ca needs TLS"]),
            (1, vec!["--tls-cert", &missing, "--tls-key", &key], vec!["cannot read", &missing]),
            (1, vec!["--tls-cert", &key, "--tls-key", &key], vec![&key, "has no certificate"]),
            (1, vec!["--tls-cert", &cert, "--tls-key", &cert], vec![&cert, "has no private key"]),
            (1, vec!["--tls-cert", &cert, "--tls-key", &other_key], vec!["do not go together", &other_key]),
            (
                1,
                vec!["--tls-cert", &cert, "--tls-key", &key, "--client-ca", &key],
                vec![&key, "no certificate"],
            ),
        ] {
            let Ended { code: ended, stdout, stderr } =
                options.iter().fold(binary(&["all"]), Program::arg).run();
            assert_eq!(ended, Some(code), "{options:?}: {stderr}");
            // Who waits for an address gets none from a server that cannot begin.
            assert!(stdout.is_empty(), "{options:?}: {stdout:?}");
            for word in words {
                assert!(stderr.contains(word), "{options:?}: {stderr}");
            }
        }
    });
}

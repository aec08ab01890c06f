use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use shared_proto::tutorial::greeter::greeter_client::GreeterClient;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::service_fn;

use super::*;

/// Writes a certificate for `localhost` and its key.
fn make_certificate(certificate: &Path, key: &Path) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(certificate, made.cert.pem()).unwrap();
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
}

/// To a server that has this certificate.
fn channel(address: SocketAddr, certificate: &Path) -> Channel {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsConnector::from(Arc::new(config));
    Endpoint::from_static("https://localhost").connect_with_connector_lazy(service_fn(move |_| {
        let tls = tls.clone();
        async move {
            let socket = TcpStream::connect(address).await?;
            tls.connect(ServerName::try_from("localhost").unwrap(), socket).await.map(TokioIo::new)
        }
    }))
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn it_has_tls_limits_metrics_and_an_end_by_flags() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("server.pem"), directory.path().join("server-key.pem"));
    make_certificate(&certificate, &key);
    let metrics = free_address().await;
    let cli = Cli::parse_from([
        "greeter",
        "--tls-cert",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
        "--max-unary-message",
        "1KiB",
        "--metrics",
        &metrics.to_string(),
        "--grace",
        "1h",
    ]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, cli.stack, shutdown.clone().cancelled_owned()));

    let mut greeter = GreeterClient::new(channel(address, &certificate));
    let hello = greeter.say_hello(HelloRequest { name: "Ana".to_owned() }).await.unwrap();
    assert_eq!(hello.into_inner().name, "Hello, Ana!");
    let refused = greeter.say_hello(HelloRequest { name: "a".repeat(2 << 10) }).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");

    let page = get(metrics, "/metrics").await;
    for figure in [
        "grpc_server_started_total{grpc_type=\"unary\",grpc_service=\"Greeter\",grpc_method=\"SayHello\"} 2",
        "fourmodes_refused_total{limit=\"max_message\"} 1",
    ] {
        assert!(page.contains(figure), "{page}");
    }
    assert!(get(metrics, "/").await.starts_with("HTTP/1.1 404"));

    // A stream is open, and ends by itself, long before the hour is over.
    let mut health = HealthClient::new(channel(address, &certificate));
    let watched = HealthCheckRequest { service: "Greeter".to_owned() };
    let mut watch = health.watch(watched).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status().as_str_name(), "SERVING");
    shutdown.cancel();
    assert_eq!(watch.message().await.unwrap().unwrap().status().as_str_name(), "NOT_SERVING");
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    drop((greeter, health));
    timeout(Duration::from_secs(10), serving).await.expect("it goes on").unwrap().unwrap();
}

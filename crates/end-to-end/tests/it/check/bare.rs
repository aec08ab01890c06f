//! Servers that nobody made for checks: with gRPC and nothing that helps, and with no
//! gRPC at all.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    thread,
};

use bytes::Bytes;
use http::{Response, header};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tonic::transport::server::{Router, Server, TcpIncoming};
use tonic_health::server::health_reporter;
use tonic_reflection::server::Builder;

use super::{Outcomes, check, outcomes, with};

/// It ends when the runtime is dropped.
fn serve(router: impl FnOnce(Server) -> Router) -> (String, Runtime) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(router(Server::builder()).serve_with_incoming(TcpIncoming::from(listener)));
    (url, runtime)
}

#[track_caller]
fn is(found: &Outcomes, name: &str, outcome: &str, words: &str) {
    let check = &found[name];
    let said = ["figure", "cause", "remedy"].map(|field| check[field].as_str().unwrap()).join(" ");
    assert!(check["outcome"] == outcome && said.contains(words), "{name}: {check}");
}

#[test]
fn of_a_server_without_a_service_that_helps_the_rest_is_found_out() {
    let (url, _runtime) = serve(|mut server| server.add_service(health_reporter().1));
    let found = outcomes(check(&url, "--idle 300ms"));
    for name in ["tcp", "http2", "round-trip"].map(|name| format!("connect/{name}")) {
        is(&found, &name, "pass", "");
    }
    is(&found, "connect/call", "warn", "no fourmodes.v1.ProbeService");
    is(&found, "metadata/8-kib", "pass", "KiB to the server");
    is(&found, "life/keepalive", "pass", "5 of 5 PINGs");
    is(&found, "life/idle", "pass", "idle for 300ms, and alive");
    is(&found, "life/1200-calls", "pass", "1,200 calls, 1 connection");
    is(&found, "extras/health", "pass", "SERVING");
    is(&found, "extras/reflection-v1", "warn", "is missing");
    is(&found, "extras/grpc-web", "warn", "browsers cannot call");
    let needs = "this needs fourmodes.v1.ProbeService or grpc.testing.TestService at the server";
    is(&found, "modes/full-duplex", "skip", needs);
    is(&found, "control/cancel", "skip", needs);
    assert_eq!(with(&found, "fail"), Vec::<String>::new(), "{found:#?}");
}

#[test]
fn one_version_of_reflection_is_enough_for_tools() {
    for is_v1 in [true, false] {
        let (url, _runtime) = serve(|mut server| {
            let reflection = || {
                Builder::configure()
                    .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            };
            match is_v1 {
                true => server.add_service(reflection().build_v1().unwrap()),
                false => server.add_service(reflection().build_v1alpha().unwrap()),
            }
        });
        let found = outcomes(check(&url, "--only extras"));
        let versions = ["v1", "v1alpha"];
        let (there, missing) = if is_v1 { (versions[0], versions[1]) } else { (versions[1], versions[0]) };
        is(&found, &format!("extras/reflection-{there}"), "pass", "service");
        is(
            &found,
            &format!("extras/reflection-{missing}"),
            "pass",
            &format!("not there; tools use grpc.reflection.{there}"),
        );
    }
}

#[test]
fn a_reason_to_skip_checks_is_told_once() {
    let (url, _runtime) = serve(|mut server| server.add_service(health_reporter().1));
    let ended = check(&url, "--only modes,control").run();
    let reasons: Vec<_> = ended.stdout.lines().filter(|line| line.starts_with("skip")).collect();
    let (last, rest) = reasons.split_last().unwrap();
    assert!(rest.len() <= 1 && last.contains(" checks ") && last.contains("this needs"), "{}", ended.stdout);
}

#[test]
fn a_server_that_takes_little_metadata_is_told() {
    let (url, _runtime) = serve(|server| {
        let mut server = server.http2_max_header_list_size(6 << 10);
        server.add_service(health_reporter().1)
    });
    let found = outcomes(check(&url, "--only metadata"));
    is(&found, "metadata/8-kib", "fail", "4 KiB to the server");
}

#[test]
fn a_server_of_http1_alone_is_no_server_of_grpc() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                if lines.any(|line| line.is_empty()) {
                    let page = "HTTP/1.1 404 Not Found\r\nserver: nginx/1.27\r\ncontent-length: 2\r\n\r\nno";
                    let _ = (&stream).write_all(page.as_bytes());
                }
            });
        }
    });
    let found = outcomes(check(&url, ""));
    is(&found, "connect/tcp", "pass", "");
    is(&found, "connect/http2", "fail", "does not speak HTTP/2");
    is(&found, "extras/health", "skip", "connect/http2");
    assert_eq!(with(&found, "fail"), ["connect/http2"], "{found:#?}");
}

#[test]
fn a_server_of_http2_without_grpc_is_told_by_its_page() {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(pages(socket));
        }
    });
    let found = outcomes(check(&url, ""));
    is(&found, "connect/http2", "pass", "prior knowledge");
    is(&found, "connect/call", "fail", "404");
    is(&found, "extras/health", "skip", "connect/call");
    assert_eq!(with(&found, "fail"), ["connect/call"], "{found:#?}");
}

async fn pages(socket: TcpStream) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(request) = connection.accept().await {
        let head =
            Response::builder().status(404).header(header::CONTENT_TYPE, "text/html").body(()).unwrap();
        request?.1.send_response(head, false)?.send_data(Bytes::from_static(b"<p>no"), true)?;
    }
    Ok(())
}

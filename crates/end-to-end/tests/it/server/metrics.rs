//! What Prometheus gets to read.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use server::certs::Request as Certificates;
use shared_proto::fourmodes::v1::{MultiplyRequest, WatchQuotesRequest};
use test_support::{
    Certs, Program, RawCall, ServerProgram, run, server_streaming, unary, until,
    wire::{CONTINUATION, DATA, END_HEADERS, HEADERS, Peer, RST_STREAM, call, frame},
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::server::binary;

pub(crate) struct Scraped {
    pub(crate) server: ServerProgram,
    /// Where the metrics are.
    pub(crate) address: String,
}

impl Scraped {
    async fn start() -> Self {
        Self::of(binary(&["--max-calls", "3", "all"])).await
    }

    pub(crate) async fn of(server: Program) -> Self {
        let server = server.env("FOURMODES_METRICS", "127.0.0.1:0").serve();
        let mut address = None;
        until(async || {
            address = server.log().lines().find_map(|line| {
                let (_, rest) = line.split_once("metrics at http://")?;
                Some(rest.split_once("/metrics")?.0.to_owned())
            });
            address.is_some()
        })
        .await;
        Self { server, address: address.unwrap() }
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let mut connection = within(TcpStream::connect(&self.address)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(connection.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    /// All figures, by name and labels.
    async fn figures(&self) -> BTreeMap<String, f64> {
        let page = self.get("/metrics").await;
        let lines = page.lines().filter(|line| line.starts_with("grpc_") || line.starts_with("fourmodes_"));
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect()
    }

    async fn figure(&self, name: &str, labels: &[&str]) -> f64 {
        let figures = self.figures().await;
        let is_it = |figure: &&String| {
            figure.split('{').next() == Some(name) && labels.iter().all(|label| figure.contains(label))
        };
        figures.keys().filter(is_it).map(|figure| figures[figure]).sum()
    }
}

#[test]
fn calls_and_messages_are_counted_under_the_names_that_dashboards_know() {
    run(async {
        let scraped = Scraped::start().await;
        let address = scraped.server.address;
        for _ in 0..3 {
            unary(address).multiply(MultiplyRequest { a: 6, b: 7 }).await.unwrap();
        }
        unary(address).multiply(MultiplyRequest { a: i64::MAX, b: 7 }).await.unwrap_err();
        let request = WatchQuotesRequest { count: 5, ..WatchQuotesRequest::default() };
        let mut quotes = server_streaming(address).watch_quotes(request).await.unwrap().into_inner();
        while quotes.message().await.unwrap().is_some() {}
        let multiply = "grpc_method=\"Multiply\"";
        until(async || scraped.figure("grpc_server_handled_total", &[]).await == 5.0).await;
        assert_eq!(
            scraped.figure("grpc_server_started_total", &[multiply, "grpc_type=\"unary\""]).await,
            4.0
        );
        assert_eq!(scraped.figure("grpc_server_handled_total", &[multiply, "grpc_code=\"OK\""]).await, 3.0);
        assert_eq!(
            scraped.figure("grpc_server_handled_total", &[multiply, "grpc_code=\"OutOfRange\""]).await,
            1.0
        );
        assert_eq!(scraped.figure("grpc_server_msg_received_total", &[multiply]).await, 4.0);
        assert_eq!(scraped.figure("grpc_server_handling_seconds_count", &[multiply]).await, 4.0);
        let sent = ["grpc_service=\"fourmodes.v1.ServerStreamingService\"", "grpc_type=\"server_stream\""];
        assert_eq!(scraped.figure("grpc_server_msg_sent_total", &sent).await, 5.0);
        assert!(scraped.figure("fourmodes_store_commit_seconds_count", &[]).await > 0.0);
        assert_eq!(scraped.figure("fourmodes_open_calls", &[]).await, 0.0);
        assert!(scraped.get("/").await.starts_with("HTTP/1.1 404"));
    });
}

#[test]
fn what_is_over_a_limit_and_what_is_open_are_counted() {
    run(async {
        let scraped = Scraped::start().await;
        let address = scraped.server.address;
        let mut open = Vec::new();
        for name in ["ana", "ben", "cem"] {
            open.push(test_support::raw_member(address, name).await);
        }
        unary(address).multiply(MultiplyRequest { a: 6, b: 7 }).await.unwrap_err();
        assert_eq!(scraped.figure("fourmodes_refused_total", &["limit=\"max_calls\""]).await, 1.0);
        assert_eq!(scraped.figure("fourmodes_open_calls", &["grpc_method=\"Chat\""]).await, 3.0);
        assert!(scraped.figure("fourmodes_connections", &[]).await >= 3.0);
        drop(open);
        until(async || scraped.figure("fourmodes_connections", &[]).await == 0.0).await;
    });
}

#[test]
fn there_are_figures_of_limits_health_disk_and_certificate() {
    run(async {
        let ends = SystemTime::now() + Duration::from_secs(3600);
        let certs = Certs::of(&Certificates { until: ends, ..Certificates::for_a_year(Vec::new()) });
        let server = binary(&["all", "--max-calls", "3", "--tls-cert"]).arg(certs.path("server.pem"));
        let scraped = Scraped::of(server.arg("--tls-key").arg(certs.path("server-key.pem"))).await;
        assert_eq!(scraped.figure("fourmodes_limit", &["limit=\"max_calls\""]).await, 3.0);
        assert_eq!(scraped.figure("fourmodes_serving", &[]).await, 1.0);
        let size = scraped.figure("fourmodes_disk_size_bytes", &[]).await;
        assert!((1.0..=size).contains(&scraped.figure("fourmodes_disk_free_bytes", &[]).await));
        let expires = async || scraped.figure("fourmodes_certificate_expires_timestamp_seconds", &[]).await;
        let ends = ends.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((expires().await - ends).abs() <= 1.0);
        // New files are taken while the server runs.
        certs.make_new();
        until(async || expires().await > ends + 3600.0).await;
    });
}

/// HTTP/2 has limits that no status tells of.
#[test]
fn the_log_and_the_metrics_name_each_limit_of_http_2_that_ends_a_connection() {
    const PATH: &str = "/fourmodes.v1.UnaryService/Multiply";
    let plain = call(PATH, &[]);
    let on_each = |sent: &dyn Fn(u32) -> Vec<u8>| (1..).step_by(2).take(5_000).flat_map(sent).collect();
    let open = |stream, block: &[u8]| frame(HEADERS, END_HEADERS, stream, block);
    let reset = |stream| [open(stream, &plain), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
    // A header that HTTP/2 does not have.
    let wrong = call(PATH, &[("connection", "x")]);
    // A field that the table of HPACK keeps, and a byte for each time that it comes again.
    let mut unfolding = call(PATH, &[("long", &"x".repeat(4_000))]);
    unfolding[plain.len()] = 0x40;
    unfolding.extend([0xbe; 200]);
    let attacks: [(_, Vec<u8>); 5] = [
        ("too_many_resets", on_each(&reset)),
        ("too_many_internal_resets", on_each(&|stream| open(stream, &wrong))),
        ("too_many_data_frames", [open(1, &plain), frame(DATA, 0, 1, &[]).repeat(5_000)].concat()),
        (
            "too_many_continuations",
            [frame(HEADERS, 0, 1, &plain), frame(CONTINUATION, 0, 1, &[]).repeat(100)].concat(),
        ),
        ("header_list_way_too_large", open(1, &unfolding)),
    ];
    run(async {
        let scraped = Scraped::start().await;
        for (limit, sent) in attacks {
            let mut peer = Peer::connect(scraped.server.address).await.unwrap();
            // Fails when the server has had enough.
            let _ = peer.writer.write_all(&sent).await;
            while within(peer.next()).await.is_some() {}
            until(async || scraped.server.logged(&[&format!("limit={limit}"), "a limit of HTTP/2"])).await;
            let label = format!("limit=\"{limit}\"");
            assert_eq!(scraped.figure("fourmodes_refused_total", &[&label]).await, 1.0, "{limit}");
        }
    });
}

#[test]
fn a_request_that_is_no_call_is_counted_by_its_reason() {
    run(async {
        let scraped = Scraped::start().await;
        let web = "content-type: application/grpc-web";
        for (reason, method, headers) in [
            ("method", "GET", web.to_owned()),
            ("content_type", "POST", "content-type: text/plain".to_owned()),
            ("http_1_1", "POST", "content-type: application/grpc".to_owned()),
            ("origin", "POST", format!("{web}\r\norigin: https://other.example")),
            ("host", "POST", format!("{web}\r\norigin: http://evil.example")),
        ] {
            let mut peer = within(TcpStream::connect(scraped.server.address)).await.unwrap();
            let request = format!("{method} / HTTP/1.1\r\nhost: evil.example\r\n{headers}\r\n\r\n");
            peer.write_all(request.as_bytes()).await.unwrap();
            within(peer.read_to_end(&mut Vec::new())).await.unwrap();
            until(async || scraped.server.logged(&["is not a gRPC call", &format!("reason={reason}")])).await;
            let label = format!("reason=\"{reason}\"");
            assert_eq!(scraped.figure("fourmodes_no_calls_total", &[&label]).await, 1.0, "{reason}");
        }
        assert_eq!(scraped.figure("fourmodes_no_calls_total", &[]).await, 5.0);
        assert_eq!(scraped.figure("grpc_server_started_total", &[]).await, 0.0);
    });
}

/// A million would do as little: each has the labels of all the others.
#[test]
fn methods_that_nobody_knows_do_not_grow_the_page() {
    run(async {
        let scraped = Scraped::start().await;
        let mut lines = Vec::new();
        for calls in [1, 200] {
            for call in 0..calls {
                let path = format!("/service{calls}/Method{call}");
                RawCall::status(scraped.server.address, &path, &[], Some(&MultiplyRequest::default())).await;
            }
            until(async || {
                scraped.figure("fourmodes_open_calls", &[]).await == 0.0
                    && scraped.figure("grpc_server_handled_total", &["unknown"]).await >= f64::from(calls)
            })
            .await;
            lines.push(scraped.figures().await.len());
        }
        assert_eq!(lines[0], lines[1]);
    });
}

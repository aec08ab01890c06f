//! The alerts and the dashboard in `ops/`: a real Prometheus reads the metrics of real servers.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use regex::Regex;
use serde_json::Value;
use server::certs::Request as Certificates;
use shared_proto::fourmodes::v1::{
    CountPrimes, MultiplyRequest, WatchQuotesRequest, submit_task_request::Work,
};
use tempfile::TempDir;
use test_support::{
    Certs, LONG, Lines, Postgres, Program, Running, Signal, raw_member, run, server_streaming, unary, within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::Request;
use uuid::Uuid;

use super::{binary, metrics::Scraped, unary::tasks::submit};
use crate::documents::ROOT;

fn ops(name: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join("ops").join(name)).unwrap()
}

fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    let found = Regex::new(pattern).unwrap();
    found.captures_iter(text).map(|captures| captures[1].to_owned()).collect()
}

/// The queries of the dashboard, as a reader gets them who chooses nothing.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&ops("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    queries.map(|query| query.replace("$__rate_interval", "10s").replace("$instance", ".*")).collect()
}

/// Prometheus with the alerts, in which a minute is two seconds.
struct Prometheus {
    address: String,
    _running: Running,
    _log: Lines,
    _directory: TempDir,
}

impl Prometheus {
    fn start(servers: &[&Scraped]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let minutes = Regex::new(r"(for: |\[)(\d+)m\b").unwrap();
        let rules = minutes
            .replace_all(&ops("alerts.yml"), |found: &regex::Captures<'_>| {
                format!("{}{}s", &found[1], 2 * found[2].parse::<u64>().unwrap())
            })
            .into_owned();
        fs::write(directory.path().join("alerts.yml"), rules).unwrap();
        let targets: Vec<_> = servers.iter().map(|server| &server.address).collect();
        let config = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms }}\n\
             rule_files: [alerts.yml]\n\
             scrape_configs: [{{ job_name: fourmodes, static_configs: [{{ targets: {targets:?} }}] }}]\n"
        );
        let config_file = directory.path().join("prometheus.yml");
        fs::write(&config_file, config).unwrap();
        let program = Program::new("prometheus").args("--web.listen-address=127.0.0.1:0 --config.file");
        let program = program.arg(config_file).arg("--storage.tsdb.path").arg(directory.path().join("data"));
        let mut running = program.spawn();
        let log = running.warnings();
        let line = log.until("\"Listening on\"");
        let address = line.rsplit_once("address=").unwrap().1.to_owned();
        log.until("Server is ready");
        Self { address, _running: running, _log: log, _directory: directory }
    }

    async fn query(&self, query: &str) -> Value {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut connection = within(TcpStream::connect(&self.address)).await.unwrap();
        // Version 1.0 has no chunks.
        let request = format!("GET /api/v1/query?query={query} HTTP/1.0\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(connection.read_to_string(&mut answer)).await.unwrap();
        let answer: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"]["result"].clone()
    }

    async fn has(&self, query: &str) {
        let answered = async {
            while self.query(query).await == Value::Array(Vec::new()) {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(LONG, answered).await.unwrap_or_else(|_| panic!("nothing for {query}"));
    }

    async fn fires(&self, alert: &str, server: &Scraped) {
        let instance = &server.address;
        let firing = format!(r#"ALERTS{{alertstate="firing",alertname="{alert}",instance="{instance}"}}"#);
        self.has(&firing).await;
    }
}

/// The names of the figures on a page of metrics.
fn figures(page: &str) -> impl Iterator<Item = String> {
    page.lines().filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned)
}

/// Does it again and again.
fn always<F: Future<Output = ()> + Send + 'static>(call: impl Fn() -> F + Send + 'static) {
    tokio::spawn(async move {
        loop {
            call().await;
            sleep(Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn each_alert_has_a_test() {
    let (rules, tests) = (ops("alerts.yml"), ops("alerts.test.yml"));
    let alerts = found(r"- alert: (\w+)", &rules);
    assert!(alerts.len() > 10);
    assert_eq!(
        alerts,
        found(r"alertname: (\w+)\n\s+eval_time: \w+\n\s+exp_alerts:\n\s+- exp_labels", &tests)
    );
}

#[test]
#[ignore = "needs Prometheus and PostgreSQL: just alerts"]
fn alerts_fire_for_the_servers_that_have_the_fault_and_the_dashboard_has_figures() {
    run(async {
        let postgres = Postgres::start(&["fsync=off"]);
        postgres.listens().await;
        let store = postgres.database().await;
        let shared = || Scraped::of(binary(&["all"]).env("FOURMODES_STORE", &store));
        let tomorrow = SystemTime::now() + Duration::from_secs(24 * 3600);
        let certs = Certs::of(&Certificates { until: tomorrow, ..Certificates::for_a_year(Vec::new()) });
        let tls = binary(&["all", "--tls-cert"]).arg(certs.path("server.pem"));
        let tls = tls.arg("--tls-key").arg(certs.path("server-key.pem"));
        let (well, mut gone, one, two) =
            tokio::join!(Scraped::of(binary(&["all"])), Scraped::of(binary(&["all"])), shared(), shared());
        let (faulty, full, old) = tokio::join!(
            Scraped::of(binary(&["all", "--allow-faults"])),
            Scraped::of(binary(&["all", "--max-calls", "3"])),
            Scraped::of(tls),
        );
        let (to_well, to_faulty, to_full, to_one) =
            (well.server.address, faulty.server.address, full.server.address, one.server.address);

        let request = MultiplyRequest { a: 6, b: 7 };
        always(move || async move { drop(unary(to_well).multiply(request).await) });
        always(move || async move {
            let request = WatchQuotesRequest { count: 2, ..WatchQuotesRequest::default() };
            let Ok(quotes) = server_streaming(to_well).watch_quotes(request).await else { return };
            let mut quotes = quotes.into_inner();
            while let Ok(Some(_)) = quotes.message().await {}
        });
        always(move || async move {
            let mut request = Request::new(request);
            request.metadata_mut().insert("x-envoy-fault-abort-grpc-request", "13".parse().unwrap());
            drop(unary(to_faulty).multiply(request).await);
        });
        let mut members = Vec::new();
        for name in ["ana", "ben", "cem"] {
            members.push(raw_member(to_full, name).await);
        }
        always(move || async move { drop(unary(to_full).multiply(request).await) });
        always(move || async move {
            let work = Some(Work::CountPrimes(CountPrimes { below: 10 }));
            drop(submit(to_one, &Uuid::new_v4().to_string(), work).await);
        });
        // No gRPC call.
        let mut no_call = TcpStream::connect(to_well).await.unwrap();
        no_call.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();

        let prometheus = Prometheus::start(&[&well, &gone, &one, &two, &faulty, &full, &old]);
        for query in queries() {
            prometheus.has(&query).await;
        }
        let mut known = BTreeSet::from(["up".to_owned()]);
        for server in [&well, &one, &old, &full] {
            known.extend(figures(&server.get("/metrics").await));
        }
        let used = [ops("alerts.yml"), queries().join("\n")].concat();
        let used = found(r"\b(up|(?:fourmodes|grpc_server)_\w+)\b", &used);
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(used.len() > 10 && unknown.is_empty(), "no server has {unknown:?}");

        gone.server.kill();
        // Longer than its lease.
        two.server.signal(Signal::STOP);
        prometheus.fires("FourModesDown", &gone).await;
        prometheus.fires("FourModesLeaseLost", &one).await;
        prometheus.fires("FourModesErrors", &faulty).await;
        prometheus.fires("FourModesRefuses", &full).await;
        prometheus.fires("FourModesNearLimit", &full).await;
        prometheus.fires("FourModesCertificateExpires", &old).await;
        for setting in
            ["ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (away)'", "SELECT pg_reload_conf()"]
        {
            postgres.run("postgres", setting).await.unwrap();
        }
        for alert in ["FourModesQuorumLost", "FourModesNotServing", "FourModesCommitsFail"] {
            prometheus.fires(alert, &one).await;
        }
        drop(postgres);
        prometheus.fires("FourModesDatabaseAway", &one).await;
        // The machine may be slow.
        let fired = format!(
            r#"count_over_time(ALERTS{{alertstate="firing",alertname!~".*Slow",instance="{}"}}[5m])"#,
            well.address
        );
        assert_eq!(prometheus.query(&fired).await, Value::Array(Vec::new()));
    });
}

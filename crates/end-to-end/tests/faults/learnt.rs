//! Clients that are given one server of a database and learn the others.

use std::time::Instant;

use serde_json::Value;
use server::certs::Request;
use tempfile::NamedTempFile;
use test_support::{Certs, Program, ServerProgram, eventually};

use crate::{
    alone,
    cluster::database,
    world::{Client, Server},
};

type Watching = Client<Vec<Value>>;

fn watch(quotes: Program) -> Watching {
    Watching::start(quotes, |seen, line| seen.push(line))
}

const QUOTES: &str = "server-streaming quotes --count 0 --interval 10ms";

/// The latest note of the servers.
fn known_to(client: &Watching) -> String {
    let seen = client.seen();
    let notes = seen.iter().rev().filter(|line| line["type"] == "note");
    let mut notes = notes.filter_map(|line| line["text"].as_str());
    notes.find(|text| text.contains("://")).unwrap_or_default().to_owned()
}

fn eventually_knows(client: &Watching, count: usize) {
    eventually(
        || known_to(client).matches("://").count() == count,
        &format!("the client does not know {count} servers"),
    );
}

/// From now on.
fn eventually_gets_quotes(client: &Watching) {
    let before = client.seen().len();
    let is_quote = |line: &Value| line["value"]["quote"].is_object();
    eventually(|| client.seen()[before..].iter().any(is_quote), "the stream does not go on");
}

/// Every quote has come once.
fn ends_well(client: Watching) -> Vec<Value> {
    client.interrupt();
    let (result, seen) = client.ended();
    let value = &result["value"];
    assert_eq!((&value["gaps"], &value["duplicates"]), (&0.into(), &0.into()), "{value}");
    seen
}

#[test]
#[ignore = "needs PostgreSQL: just cluster-test"]
fn clients_of_one_server_of_a_database_go_on_at_the_others() {
    let _alone = alone();
    let (_postgres, url) = database();
    let mut servers = [(); 3].map(|()| Server::start_with(Some(&url)));
    for dies in 0..3 {
        let client = watch(servers[dies].address.client(QUOTES));
        eventually_knows(&client, 3);
        servers[dies].kill();
        let died = Instant::now();
        eventually_gets_quotes(&client);
        println!("a stream goes on {:?} after the death of its server", died.elapsed());
        servers[dies].restart();
        // The server that the user gave stays in the list; the others come and go.
        let other = &mut servers[(dies + 1) % 3];
        other.kill();
        eventually_knows(&client, 2);
        other.restart();
        eventually_knows(&client, 3);
        ends_well(client);
    }
}

fn with_tls(url: &str, certs: &Certs) -> ServerProgram {
    let server = program(url).arg("--tls-cert").arg(certs.path("server.pem"));
    server.arg("--tls-key").arg(certs.path("server-key.pem")).serve()
}

fn program(url: &str) -> Program {
    let server = Program::new(env!("CARGO_BIN_EXE_end-to-end-server")).args("all --data-dir :memory:");
    server.env("FOURMODES_LISTEN", "127.0.0.1:0").env("FOURMODES_STORE", url)
}

/// The client trusts every certificate here. One server has a certificate for its own address
/// alone, and one has no TLS.
#[test]
#[ignore = "needs PostgreSQL: just cluster-test"]
fn servers_of_a_database_need_a_certificate_for_the_name_that_the_user_gave() {
    let _alone = alone();
    let (_postgres, url) = database();
    let named = |name: &str| {
        let request = Request { names: vec![name.to_owned()], ..Request::for_a_year(Vec::new()) };
        Certs::of(&request)
    };
    let (right, wrong) = (named("localhost"), named("127.0.0.1"));
    let trusted = NamedTempFile::new().unwrap();
    let cas = [&right, &wrong].map(|certs| std::fs::read_to_string(certs.path("ca.pem")).unwrap());
    std::fs::write(trusted.path(), cas.concat()).unwrap();

    let mut first = with_tls(&url, &right);
    let mut second = with_tls(&url, &right);
    let other_name = with_tls(&url, &wrong);
    let clear = program(&url).serve();
    let client = Program::new(env!("CARGO_BIN_EXE_end-to-end-client")).args("--output json").args(QUOTES);
    let client = client.arg("--server").arg(format!("https://localhost:{}", first.address.port()));
    let client = watch(client.arg("--ca").arg(trusted.path()));
    eventually_knows(&client, 3);
    for server in [&second, &other_name] {
        assert!(known_to(&client).contains(&server.address.to_string()));
    }

    // Only servers that the client must not use are left.
    first.kill();
    second.kill();
    let is_refused = |line: &Value| {
        line["type"] == "ejected"
            && line["server"] == format!("https://{}/", other_name.address)
            && line["reason"].as_str().unwrap().contains("for another name")
    };
    eventually(|| client.seen().iter().any(is_refused), "the client does not refuse the certificate");
    second.restart();
    eventually_gets_quotes(&client);
    for line in ends_well(client) {
        assert!(!line.to_string().contains(&clear.address.to_string()), "{line}");
        let is_other_name = line.to_string().contains(&other_name.address.to_string());
        assert!(line["type"] != "connected" || !is_other_name, "{line}");
    }
}

/// It listens in a network of its own.
#[test]
#[ignore = "needs PostgreSQL: just cluster-test"]
fn a_server_of_a_database_says_that_clients_cannot_learn_its_address() {
    let _alone = alone();
    let (_postgres, url) = database();
    let warns = |listen: &str, advertise: &str| {
        let server = program(&url).env("FOURMODES_LISTEN", listen).env("FOURMODES_ADVERTISE", advertise);
        let server = server.isolated(r#"exec unshare --net "$@""#).serve();
        eventually(|| server.logged(&["serving"]), "the server does not say that it serves");
        server.logged(&["WARN", "cannot learn the address", "--advertise"])
    };
    assert!(warns("0.0.0.0:0", ""));
    assert!(warns("[::]:0", ""));
    assert!(!warns("0.0.0.0:0", "none"));
    assert!(!warns("0.0.0.0:0", "http://10.0.0.1:50051"));
}

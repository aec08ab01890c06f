//! A name that has the addresses of several servers.

use std::{net::SocketAddr, path::Path};

use ::server::{certs::Request, config::Config};
use tempfile::NamedTempFile;
use test_support::{BlockingServer as Server, Certs, Program};

use crate::client;

/// What is in the place of `/etc/hosts` for a client.
fn hosts(addresses: &[&str]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    write(file.path(), addresses);
    file
}

fn write(hosts: &Path, addresses: &[&str]) {
    let lines: Vec<_> = addresses.iter().map(|address| format!("{address} cluster.test\n")).collect();
    std::fs::write(hosts, lines.concat()).unwrap();
}

fn resolving(client: Program, hosts: &NamedTempFile) -> Program {
    let client = client.env("TEST_HOSTS", hosts.path());
    client.isolated(r#"mount --bind "$TEST_HOSTS" /etc/hosts && exec "$@""#)
}

fn at(address: &str, port: u16, certs: Option<&Certs>) -> Server {
    let mut config = Config { listen: SocketAddr::new(address.parse().unwrap(), port), ..Config::default() };
    config.stack.tls = certs.map(Certs::server);
    Server::with(config)
}

/// Two servers at one port of two addresses.
fn two(certs: Option<&Certs>) -> ([Server; 2], u16) {
    loop {
        let one = at("127.0.0.2", 0, certs);
        let port = one.address.port();
        if std::net::TcpListener::bind(("127.0.0.3", port)).is_ok() {
            return ([one, at("127.0.0.3", port, certs)], port);
        }
    }
}

#[test]
fn all_addresses_of_a_name_take_calls() {
    let (_servers, port) = two(None);
    let hosts = hosts(&["127.0.0.2", "127.0.0.3"]);
    let mut connected = std::collections::HashSet::new();
    while connected.len() < 2 {
        let call = client(&format!("unary multiply 6 7 --output json --server dns:///cluster.test:{port}"));
        let ended = resolving(call, &hosts).run().ok();
        assert_eq!(ended.result()["value"]["product"], 42);
        let lines = ended.json();
        let line = lines.iter().find(|line| line["type"] == "connected").unwrap();
        connected.insert(line["server"].as_str().unwrap().to_owned());
    }
    let both = ["127.0.0.2", "127.0.0.3"].map(|address| format!("http://{address}:{port}/"));
    assert_eq!(connected, both.into());
}

#[test]
fn a_name_is_looked_up_again_until_a_server_is_there() {
    let server = at("127.0.0.3", 0, None);
    let hosts = hosts(&["127.0.0.2"]);
    let call = "unary multiply 6 7 --deadline 1min --wait-for-ready --output json --server";
    let call = client(call).arg(format!("dns:///cluster.test:{}", server.address.port()));
    let mut waiting = resolving(call, &hosts).spawn();
    let lines = waiting.lines();
    lines.until(r#""type":"reconnect","#);
    write(hosts.path(), &["127.0.0.3"]);
    lines.until(&format!(r#""server":"http://{}/""#, server.address));
    waiting.wait().ok();
}

#[test]
fn the_certificate_of_a_server_has_to_be_for_the_name() {
    let named = Certs::of(&Request::for_a_year(vec!["cluster.test".to_owned()]));
    let (_servers, port) = two(Some(&named));
    let hosts = hosts(&["127.0.0.2", "127.0.0.3"]);
    let call = |certs: &Certs, url: String| {
        let call = certs.trusted_by(client(&format!("unary multiply 6 7 --output json --server {url}")));
        resolving(call, &hosts).run()
    };
    let url = format!("dns+https://cluster.test:{port}");
    for _ in 0..5 {
        assert_eq!(call(&named, url.clone()).ok().result()["value"]["product"], 42);
    }
    call(&named, format!("https://127.0.0.2:{port}")).failed(1, &["for another name"]);
    let unnamed = Certs::new();
    let (_servers, port) = two(Some(&unnamed));
    call(&unnamed, format!("dns+https://cluster.test:{port}")).failed(1, &["for another name"]);
}

#[test]
fn every_command_takes_a_name() {
    let server = Server::start();
    let name = format!("dns:///localhost:{}", server.address.port());
    for command in ["tour", "measure --messages 10 --warmup 0s", "check --only modes"] {
        client(command).arg("--server").arg(&name).run().ok();
    }
    client("call").arg(&name).run().ok();
}

#[test]
fn what_is_wrong_with_a_name_is_said() {
    client("unary status --server dns:///no-such-host.invalid:1")
        .run()
        .failed(1, &["dns:///no-such-host.invalid:1", "cannot be resolved"]);
    client("unary status --server dns://8.8.8.8/name:1")
        .run()
        .failed(2, &["a DNS server in the address is not supported", "dns:///name:port"]);
}

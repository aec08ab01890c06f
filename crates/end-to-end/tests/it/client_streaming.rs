//! Many requests, one response.

mod upload;

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _};

use serde_json::{Value, json};
use server::config::Config;
use test_support::{BlockingServer as Server, Killable};

use crate::{Called as _, client};

const TABLE: &str = "device,time,value\n\
    a,2026-01-01T00:00:00Z,1\n\
    a,2026-01-01T00:00:01Z\n\
    a,2026-01-01T00:00:02Z,NaN\n\
    a,2026-01-01T00:00:03Z,three\n\
    ,2026-01-01T00:00:04Z,4\n\
    a,2026-01-01T00:00:05Z,3\n";

fn check(value: &Value) {
    assert_eq!((&value["count"], &value["refused_count"]), (&json!(2), &json!(4)));
    let refused = value["refused"].as_array().unwrap();
    let refused: Vec<_> =
        refused.iter().map(|r| (r["line"].as_u64().unwrap(), r["reason"].as_str().unwrap())).collect();
    assert_eq!(
        refused,
        [
            (3, "the row has 2 columns, the header 3"),
            (4, "value NaN is not a finite number"),
            (5, "value \"three\" is not a number"),
            (6, "device must not be blank"),
        ]
    );
    let a = &value["devices"][0];
    assert_eq!((&a["device"], &a["count"]), (&json!("a"), &json!(2)));
    assert_eq!(
        (&a["min"], &a["max"], &a["mean"], &a["p50"]),
        (&json!(1.0), &json!(3.0), &json!(2.0), &json!(2.0))
    );
    assert_eq!(a["first_time"], "2026-01-01T00:00:00Z");
    assert_eq!(a["last_time"], "2026-01-01T00:00:05Z");
}

#[test]
fn readings_come_from_a_file_or_from_standard_input() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, TABLE).unwrap();
    let readings = |input: &dyn AsRef<std::ffi::OsStr>| {
        // Each on a server that has nothing yet: statistics are over everything.
        let server = Server::start();
        let client = server.client("client-streaming readings --output json").arg(input);
        client.stdin(TABLE).run().ok().result()["value"].clone()
    };
    check(&readings(&file.path()));
    check(&readings(&"-"));
}

#[test]
fn the_same_file_again_adds_nothing_and_the_same_lines_of_a_pipe_do() {
    let server = Server::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, TABLE).unwrap();
    let readings = || server.client("client-streaming readings --output json");
    let first = readings().arg(file.path()).run().ok().result()["value"].clone();
    check(&first);
    let again = readings().arg(file.path()).run().ok().result()["value"].clone();
    assert_eq!(
        (&again["count"], &again["repeated_count"], &again["refused_count"]),
        (&0.into(), &2.into(), &4.into())
    );
    for same in ["producer_id", "devices", "refused"] {
        assert_eq!(again[same], first[same]);
    }
    let text = server.client("client-streaming readings -q").arg(file.path()).run().ok().stdout;
    assert!(text.contains("0 readings of 1 device, 2 known before, 4 refused"), "{text}");
    for (producer, total) in [("", 4), ("", 6), ("--producer me", 8), ("--producer me", 8)] {
        let piped = readings().args(producer).arg("-").stdin(TABLE).run().ok().result();
        assert_eq!(piped["value"]["devices"][0]["count"], total, "{piped}");
    }
}

/// Rows of several devices, and what has to come of them.
fn rows(count: u64) -> impl Iterator<Item = (String, f64)> {
    (0..count).map(|row| (format!("d{}", row * row % 13), (row * 7919 % 10_007) as f64 / 8.0 - 300.0))
}

fn table(count: u64) -> String {
    let mut table = "device,time,value\n".to_owned();
    for (row, (device, value)) in rows(count).enumerate() {
        writeln!(table, "{device},{row},{value}").unwrap();
    }
    table
}

/// Each row counts once.
fn check_rows(count: u64, value: &Value) {
    let mut expected: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    rows(count).for_each(|(device, value)| expected.entry(device).or_default().push(value));
    let devices = value["devices"].as_array().unwrap();
    assert_eq!(devices.len(), expected.len());
    for (device, (name, values)) in devices.iter().zip(expected) {
        let figure = |name: &str| device[name].as_f64().unwrap();
        assert_eq!((&device["device"], &device["count"]), (&name.into(), &values.len().into()));
        assert_eq!(figure("min"), values.iter().copied().fold(f64::INFINITY, f64::min));
        assert_eq!(figure("max"), values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (values.len() as f64 - 1.0)).sqrt();
        assert!((figure("mean") - mean).abs() < 1e-9, "{device} {mean}");
        assert!((figure("standard_deviation") - deviation).abs() < 1e-9, "{device} {deviation}");
    }
}

fn killable(directory: &tempfile::TempDir) -> Killable {
    Killable::start(crate::server("all --data-dir").arg(directory.path().join("data")))
}

#[test]
fn each_row_of_a_file_counts_once_though_the_server_is_killed() {
    const ROWS: u64 = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let server = killable(&directory);
    let file = directory.path().join("rows.csv");
    std::fs::write(&file, table(ROWS)).unwrap();
    let mut client = server.client("client-streaming readings --output json").arg(&file).spawn();
    let lines = client.lines();
    for _ in 0..4 {
        // In the midst of a call, and again in the one that comes after it.
        lines.until("RecordReadings");
        lines.until(r#""sequence":"2"#);
        server.restart();
    }
    let result: Value = serde_json::from_str(&lines.until(r#""type":"result""#)).unwrap();
    client.wait().ok();
    let value = &result["value"];
    assert_eq!(value["count"].as_u64().unwrap() + value["repeated_count"].as_u64().unwrap(), ROWS);
    check_rows(ROWS, value);
}

#[test]
fn each_row_of_a_pipe_counts_once_though_the_server_is_killed() {
    const ROWS: u64 = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let server = killable(&directory);
    let mut client = server.client("client-streaming readings --output json -").spawn();
    let lines = client.lines();
    let table = table(ROWS);
    for (part, text) in table.as_bytes().chunks(table.len() / 5).enumerate() {
        client.child.stdin.as_mut().unwrap().write_all(text).unwrap();
        if part < 4 {
            lines.until("RecordReadings");
            lines.until(r#""type":"message""#);
            server.restart();
        }
    }
    client.half_close();
    let result: Value = serde_json::from_str(&lines.until(r#""type":"result""#)).unwrap();
    client.wait().ok();
    check_rows(ROWS, &result["value"]);
}

#[test]
fn a_client_that_was_killed_goes_on_with_the_same_command() {
    const ROWS: u64 = 100_000;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rows.csv");
    std::fs::write(&file, table(ROWS)).unwrap();
    let server = Server::start();
    let readings = || server.client("client-streaming readings --output json").arg(&file);
    let mut answered = 0;
    for answers in [0, 1, 2] {
        let mut client = readings().spawn();
        let lines = client.lines();
        lines.until(r#""sequence":"2"#);
        answered = 0;
        for _ in 0..answers {
            let answer: Value = serde_json::from_str(&lines.until("repeated_count")).unwrap();
            for rows in ["count", "repeated_count"] {
                answered += answer["value"][rows].as_str().unwrap().parse::<u64>().unwrap();
            }
        }
        drop(client);
    }
    let value = readings().run().ok().result()["value"].clone();
    assert!(answered > 0 && value["repeated_count"].as_u64() >= Some(answered), "{answered}: {value}");
    assert_eq!(value["count"].as_u64().unwrap() + value["repeated_count"].as_u64().unwrap(), ROWS);
    check_rows(ROWS, &value);
}

#[test]
fn two_that_deliver_the_same_file_at_once_come_to_the_same() {
    const ROWS: u64 = 100_000;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, table(ROWS)).unwrap();
    let server = Server::start();
    let readings = || server.client("client-streaming readings --output json -q").arg(file.path()).spawn();
    let both = [readings(), readings()];
    let mut counted = 0;
    for mut client in both {
        let value = client.wait().ok().result()["value"].clone();
        counted += value["count"].as_u64().unwrap();
    }
    assert!(counted <= ROWS, "{counted}");
    check_rows(ROWS, &readings().wait().ok().result()["value"]);
}

#[test]
fn json_lines_are_recognised() {
    let lines = "{\"device\":\"a\",\"time\":0,\"value\":1.5}\n{\"device\":\"a\"}\n{\"device\":\"a\",\"time\":\"1970-01-01T00:00:01Z\",\"value\":2.5,\"more\":1}\n";
    let ended = Server::start().client("client-streaming readings --output json -").stdin(lines).run().ok();
    let value = &ended.result()["value"];
    assert_eq!((&value["count"], &value["refused_count"]), (&json!(2), &json!(1)));
    assert_eq!(value["refused"][0]["line"], 2);
    assert_eq!(value["devices"][0]["mean"], 2.0);
}

#[test]
fn many_rows_go_in_batches_and_many_refusals_are_counted() {
    let mut table = "device,time,value\n".to_owned();
    for row in 0..50_000 {
        let value = if row % 10 == 0 { "x" } else { "1" };
        writeln!(table, "d{},{row},{value}", row % 7).unwrap();
    }
    let ended = Server::start().client("client-streaming readings --output json -").stdin(table).run().ok();
    let value = &ended.result()["value"];
    assert_eq!((&value["count"], &value["refused_count"]), (&json!(45_000), &json!(5_000)));
    assert_eq!(value["refused"].as_array().unwrap().len(), 100);
    assert_eq!(value["devices"].as_array().unwrap().len(), 7);
    let sent =
        ended.json().into_iter().filter(|line| line["type"] == "message" && line["from"] == "client").count();
    assert!((80..2_000).contains(&sent), "{sent} messages for 50,000 rows");
}

#[test]
fn an_input_in_which_no_row_counts_is_an_error_that_names_the_first() {
    let server = Server::start();
    for (value, reason) in [("NaN", "NaN is not a finite number"), ("x", "is not a number")] {
        let table = format!("device,time,value\na,0,{value}\na,1,{value}\n");
        let ended = server.client("client-streaming readings --output json -").stdin(table).run();
        let result = ended.failed(3, &["no row counts", "line 2", reason]).result();
        assert_eq!((&result["ok"], &result["value"]["refused_count"]), (&json!(false), &json!(2)));
    }
}

#[test]
fn the_result_is_the_last_line_also_when_the_server_refuses_an_upload_under_way() {
    let server = Server::with(Config { modes: vec![grpc_wire::Mode::Unary], ..Config::default() });
    let table = format!("device,time,value\n{}", "a,0,1\n".repeat(20_000));
    for _ in 0..10 {
        let readings = server.client("client-streaming readings --output json -").stdin(table.as_str());
        readings.run().failed(1, &["UNIMPLEMENTED", "client-streaming"]).result();
    }
}

#[test]
fn an_input_that_cannot_be_used_is_refused_before_a_call_is_made() {
    let server = Server::start();
    let refused = |input: &[u8], words: &[&str]| {
        let readings = server.client("client-streaming readings --output json -");
        let ended = readings.stdin(input).run().failed(3, words);
        assert_eq!(ended.result()["error"]["code"], "INPUT");
        assert!(!ended.json().iter().any(|line| line["type"] == "headers"), "{ended:?}");
    };
    refused(b"", &["standard input: is empty"]);
    refused(b"\x7fELF\x00\x01", &["is not text"]);
    refused(b"device,time,value\n", &["has a header and no rows"]);
    refused(b"1,2,3\n4,5,6\n", &["device, time and value", "1,2,3"]);
    let missing = server.client("client-streaming readings /nonexistent/file").run();
    missing.failed(3, &["/nonexistent/file", "No such file"]);
    server.client("client-streaming readings /").run().failed(3, &["/: cannot be read"]);
}

#[test]
fn a_full_file_without_server_is_the_server_s_failure() {
    let (address, _sockets) = test_support::deaf_address();
    let readings = client("client-streaming readings -").env("FOURMODES_SERVER", address.to_string());
    readings.stdin(TABLE).run().failed(1, &["UNAVAILABLE", "server all"]);
}

use std::fmt::Write as _;

use serde_json::{Value, json};
use server::config::Config;

use crate::support::{Server, client};

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
            (3, "the row has 2 columns, too few"),
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
    // A server each: it keeps the totals of a device.
    for (path, stdin) in [(file.path(), ""), (std::path::Path::new("-"), TABLE)] {
        let readings = Server::start().client("client-streaming readings --output json");
        check(&readings.arg(path).stdin(stdin).run().ok().result()["value"]);
    }
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
    let server = Server::with(Config { modes: vec![shared_proto::Mode::Unary], ..Config::default() });
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
    refused(b"\x7fELF\x00\x01", &["is no text"]);
    refused(b"device,time,value\n", &["has a header and no rows"]);
    refused(b"1,2,3\n4,5,6\n", &["device, time and value", "1,2,3"]);
    let missing = server.client("client-streaming readings /nonexistent/file").run();
    missing.failed(3, &["/nonexistent/file", "No such file"]);
    server.client("client-streaming readings /").run().failed(3, &["/: cannot be read"]);
}

#[test]
fn a_full_file_without_server_is_the_server_s_failure() {
    let (address, _sockets) = crate::support::deaf_address();
    let readings = client("client-streaming readings -").env("FOURMODES_SERVER", &address.to_string());
    readings.stdin(TABLE).run().failed(1, &["UNAVAILABLE", "server all"]);
}

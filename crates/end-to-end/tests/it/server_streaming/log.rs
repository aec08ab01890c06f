use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
};

use serde_json::Value;
use server::config::Config;
use test_support::{BlockingServer as Server, Killable, Lines, eventually};

use crate::Called as _;

fn server(logs: &Path) -> Server {
    Server::with(Config { log_root: Some(logs.to_owned()), ..Config::default() })
}

fn append(path: &Path, text: &str) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn result(lines: &Lines) -> Value {
    let result: Value = serde_json::from_str(&lines.until(r#""type":"result""#)).unwrap();
    assert_eq!(result["ok"], true, "{result}");
    result["value"].clone()
}

#[test]
fn a_quiet_log_is_its_lines() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("app.log");
    append(&log, "one\ttab\ntwo \u{1b}[2J\nthree\nfour");
    let server = server(directory.path());
    let client = |arguments: &str| server.client(&format!("server-streaming log app.log {arguments}"));
    let log = |arguments: &str| client(arguments).run().ok();
    let quiet = client("--from start --count 2 -q").run();
    assert_eq!(quiet.stdout, "one\ttab\ntwo \u{1b}[2J\n");
    assert!(quiet.stderr.contains("2 lines of app.log, 17 B, up to offset 17\n"), "{}", quiet.stderr);
    // Which is where one can go on.
    let json = log("--from 17 --count 1 -q --output json");
    assert_eq!(json.json()[0]["text"], "three");
    assert_eq!(json.result()["value"]["offset"], 23);
    // Without a place it begins with the last lines, as `tail -F` does.
    assert_eq!(client("--count 2 -n 3 -q").run().stdout, "two \u{1b}[2J\nthree\n");
    assert_eq!(client("--count 3 -q").run().stdout, "one\ttab\ntwo \u{1b}[2J\nthree\n");
    // What is not quiet has the bytes in its messages.
    let text = log("--from start --count 1").stdout;
    assert!(text.contains(r#"chunk {data: "one\ttab\n"#), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains("\none\ttab"), "{text}");
}

/// Not UTF-8, and with line ends of more than one kind.
#[test]
fn a_quiet_log_is_the_bytes_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = b"caf\xe9 \xff\xfe\r\n\x00\n\r\nlast\n";
    fs::write(directory.path().join("log"), bytes).unwrap();
    let server = server(directory.path());
    let copy = directory.path().join("copy");
    let quiet = server.client("server-streaming log log --from start --count 4 -q");
    let ended = quiet.stdout(File::create(&copy).unwrap()).run();
    assert_eq!((ended.code, fs::read(copy).unwrap().as_slice()), (Some(0), &bytes[..]));
}

#[test]
fn a_log_is_followed_as_it_grows_through_rotation_and_truncation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    append(&path, "before\n");
    let server = server(directory.path());
    let mut client = server.client("server-streaming log app.log -n 0 --count 4 --output json").spawn();
    let lines = client.lines();
    lines.until("opened");
    append(&path, "one\n");
    let line = |text: &str| lines.until(r#""type":"line","at_ms":"#).contains(text);
    assert!(line("one"));
    append(&path, "two, unfinished");
    fs::rename(&path, directory.path().join("app.log.1")).unwrap();
    append(&path, "three\n");
    assert!(line("two, unfinished"), "the end of a file ends its line");
    assert!(line("three"));
    File::create(&path).unwrap();
    append(&path, "4\n");
    assert!(line("4"));
    let value = result(&lines);
    let of = |field: &str| value[field].as_u64().unwrap();
    assert_eq!((of("lines"), of("rotations"), of("truncations"), of("missing")), (4, 1, 1, 0), "{value}");
}

#[test]
fn what_cannot_be_followed_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let with = server(directory.path());
    with.client("server-streaming log none").run().failed(1, &["NOT_FOUND", "none", "--log-root"]);
    with.client("server-streaming log ../x").run().failed(1, &["INVALID_ARGUMENT", "log directory"]);
    with.client("server-streaming log x --from middle").run().failed(2, &["middle", "start"]);
    append(&directory.path().join("log"), "x");
    with.client("server-streaming log log --from 2").run().failed(1, &["OUT_OF_RANGE", "BEYOND_THE_END"]);
    let without = Server::start();
    without.client("server-streaming log x").run().failed(1, &["FAILED_PRECONDITION", "--log-root"]);
}

#[test]
fn no_line_is_lost_or_doubled_when_the_server_is_killed_while_the_log_grows_and_rotates() {
    const LINES: usize = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.log");
    append(&path, "0\n");
    let program = crate::server("all --data-dir").arg(data.path()).arg("--log-root").arg(directory.path());
    let server = Killable::start(program);
    let arguments = format!("server-streaming log app.log --from start --count {LINES} --output json -q");
    let mut client = server.client(&arguments).spawn();
    let lines = client.lines();
    lines.until(r#""text":"0""#);

    let heard = &AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..LINES {
                append(&path, &number.to_string());
                // A little ahead of the client: the file grows while the server
                // is killed, and is not yet whole when it is back. Most of the
                // time its end is in the midst of a line.
                eventually(|| heard.load(SeqCst) + LINES / 10 > number, "the client hears nothing");
                append(&path, "\n");
                if number == LINES / 2 {
                    fs::rename(&path, directory.path().join("app.log.1")).unwrap();
                }
            }
        });
        scope.spawn(|| {
            for tenths in [1, 3, 5, 7] {
                eventually(|| heard.load(SeqCst) >= LINES / 10 * tenths, "the client hears nothing");
                server.restart();
            }
        });
        for number in 1..LINES {
            let line: Value = serde_json::from_str(&lines.until("")).unwrap();
            assert_eq!(line["text"], number.to_string().as_str(), "{line}");
            heard.store(number, SeqCst);
        }
    });
    let value = result(&lines);
    let of = |field: &str| value[field].as_u64().unwrap();
    assert_eq!((of("lines"), of("rotations"), of("missing")), (LINES as u64, 1, 0), "{value}");
    assert!(of("reconnects") >= 4, "{value}");
}

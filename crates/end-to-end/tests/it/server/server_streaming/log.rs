use std::{
    fs::{self, File},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use grpc_wire::Mode;
use server::config::Config;
use shared_proto::fourmodes::v1::{
    LogEdge, LogPosition, TailLogRequest, TailLogResponse, tail_log_request::Start, tail_log_response::Event,
};
use tempfile::TempDir;
use test_support::{
    RawCall, Server, bad_fields, failure_of, missing_resource, open_calls, reason, run, server_streaming,
    status_of, until, within,
};
use tonic::{Code, Status, Streaming};

use crate::server::binary;

/// A server and the directory whose files it follows.
struct Logs {
    server: Server,
    root: PathBuf,
    _directory: TempDir,
}

impl Logs {
    async fn start() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        let server = Server::with(Config { log_root: Some(root.clone()), ..config }).await;
        Self { server, root, _directory: directory }
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = File::options().create(true).append(true).open(self.root.join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.root.join(from), self.root.join(to)).unwrap();
    }

    async fn refused(&self, file: &str, start: Option<Start>) -> Status {
        tail(self.server.address, file, start).await.err().unwrap_or_else(|| panic!("{file} was opened"))
    }

    /// Follows the file `log`.
    async fn follow(&self, start: Option<Start>) -> Tail {
        follow(self.server.address, start).await
    }
}

async fn tail(
    address: SocketAddr,
    file: &str,
    start: Option<Start>,
) -> Result<Streaming<TailLogResponse>, Status> {
    let request = TailLogRequest { file: file.to_owned(), start };
    Ok(within(server_streaming(address).tail_log(request)).await?.into_inner())
}

async fn follow(address: SocketAddr, start: Option<Start>) -> Tail {
    Tail { responses: tail(address, "log", start).await.unwrap(), last: None }
}

/// A call to `TailLog`, and what it hears as text.
struct Tail {
    responses: Streaming<TailLogResponse>,
    last: Option<LogPosition>,
}

impl Tail {
    async fn hear(&mut self) -> String {
        let response = within(self.responses.message()).await.unwrap().expect("the stream ended");
        self.last = response.position;
        match response.event.expect("no event") {
            Event::Opened(opened) => format!("<opened {}>", opened.size),
            Event::Chunk(chunk) => String::from_utf8(chunk.data).unwrap(),
            Event::Rotated(rotated) if rotated.rest_missing => "<rotated, rest missing>".to_owned(),
            Event::Rotated(_) => "<rotated>".to_owned(),
            Event::Truncated(_) => "<truncated>".to_owned(),
            Event::Heartbeat(_) => "<heartbeat>".to_owned(),
        }
    }

    /// Everything up to an end. Where chunks end is up to the server.
    async fn hear_until(&mut self, end: &str) -> String {
        let mut heard = String::new();
        while !heard.ends_with(end) {
            heard += &self.hear().await;
        }
        heard
    }

    fn go_on(&self) -> Option<Start> {
        Some(Start::Position(self.last.clone().unwrap()))
    }
}

fn at(edge: LogEdge) -> Option<Start> {
    Some(Start::Edge(edge.into()))
}

#[test]
fn a_log_is_followed_from_where_it_is_asked_for() {
    run(async {
        let logs = Logs::start().await;
        logs.append("log", "one\ntwo\n");
        let mut tails = Vec::new();
        for (start, before) in [
            (at(LogEdge::Start), "<opened 8>one\ntwo\n"),
            (Some(Start::Offset(4)), "<opened 8>two\n"),
            (at(LogEdge::End), "<opened 8>"),
            (None, "<opened 8>"),
        ] {
            let mut tail = logs.follow(start).await;
            tail.hear_until(before).await;
            tails.push(tail);
        }
        logs.append("log", "three\n");
        for tail in &mut tails {
            assert_eq!(tail.hear_until("\n").await, "three\n");
            assert_eq!(tail.last.as_ref().unwrap().offset, 14);
        }
    });
}

#[test]
fn rotation_and_truncation_are_followed_and_told() {
    run(async {
        let logs = Logs::start().await;
        logs.append("log", "one\n");
        let mut tail = logs.follow(at(LogEdge::Start)).await;
        tail.hear_until("one\n").await;
        logs.append("log", "two\n");
        logs.rename("log", "log.1");
        logs.append("log", "three\n");
        assert_eq!(tail.hear_until("three\n").await, "two\n<rotated>three\n");
        File::create(logs.root.join("log")).unwrap();
        assert_eq!(tail.hear().await, "<truncated>");
        logs.append("log", "four\n");
        assert_eq!(tail.hear_until("four\n").await, "four\n");
        fs::remove_file(logs.root.join("log")).unwrap();
        logs.append("log", "five\n");
        assert_eq!(tail.hear_until("five\n").await, "<rotated>five\n");
    });
}

#[test]
fn who_comes_back_with_a_position_goes_on_there() {
    run(async {
        let logs = Logs::start().await;
        logs.append("log", "one\n");
        let mut tail = logs.follow(at(LogEdge::Start)).await;
        assert_eq!(tail.hear_until("one\n").await, "<opened 4>one\n");
        let place = tail.go_on();
        drop(tail);
        let heard = async |end| logs.follow(place.clone()).await.hear_until(end).await;
        logs.append("log", "two\n");
        assert_eq!(heard("two\n").await, "<opened 8>two\n");
        logs.rename("log", "log.1");
        logs.append("log", "three\n");
        assert_eq!(heard("three\n").await, "<opened 8>two\n<rotated>three\n");
        fs::remove_file(logs.root.join("log.1")).unwrap();
        assert_eq!(heard("three\n").await, "<rotated, rest missing>three\n");
    });
}

#[test]
fn a_position_is_good_for_the_server_that_comes_after_a_kill() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "one\n").unwrap();
        let root = directory.path().to_str().unwrap();
        let server = binary(&["all", "--log-root", root]).serve();
        let mut tail = follow(server.address, at(LogEdge::Start)).await;
        tail.hear_until("one\n").await;
        drop(server);
        fs::write(&path, "one\ntwo\n").unwrap();
        let server = binary(&["all", "--log-root", root]).serve();
        let mut tail = follow(server.address, tail.go_on()).await;
        // Overwritten with the same beginning, it is the file that grew.
        assert_eq!(tail.hear_until("two\n").await, "<opened 8>two\n");
    });
}

#[test]
fn a_log_without_news_sends_heartbeats_from_where_it_stands() {
    run(async {
        let heartbeat = Duration::from_millis(20);
        let logs = Logs::with(Config { heartbeat, ..Config::default() }).await;
        logs.append("log", "one\n");
        let mut tail = logs.follow(None).await;
        tail.hear().await;
        for _ in 0..5 {
            assert_eq!(tail.hear().await, "<heartbeat>");
            assert_eq!(tail.last.as_ref().unwrap().offset, 4);
        }
    });
}

#[test]
fn nothing_but_regular_files_below_the_directory_can_be_followed() {
    run(async {
        let logs = Logs::start().await;
        let outside = logs.root.parent().unwrap().join("secret");
        fs::write(&outside, "secret").unwrap();
        symlink(&outside, logs.root.join("link")).unwrap();
        symlink("..", logs.root.join("up")).unwrap();
        assert!(Command::new("mkfifo").arg(logs.root.join("fifo")).status().unwrap().success());
        let absolute = outside.to_str().unwrap();
        let long = "x".repeat(1_025);
        let paths =
            ["", ".", "..", "../secret", absolute, "link", "up/secret", "fifo", "/dev/zero", "a\0b", &long];
        for path in paths {
            let refused = logs.refused(path, at(LogEdge::Start)).await;
            assert_eq!(bad_fields(&refused), ["file"], "{path:?}");
            assert!(!refused.message().contains(&logs.root.to_string_lossy().into_owned()), "{refused}");
        }
        let missing = logs.refused("none", None).await;
        assert_eq!(missing_resource(&missing), ("file".to_owned(), "none".to_owned()));
    });
}

#[test]
fn a_start_that_makes_no_sense_is_refused() {
    run(async {
        let logs = Logs::start().await;
        logs.append("log", "one\n");
        let beyond = logs.refused("log", Some(Start::Offset(5))).await;
        assert_eq!((beyond.code(), reason(&beyond)), (Code::OutOfRange, "BEYOND_THE_END".to_owned()));
        for edge in [0, 7] {
            assert_eq!(bad_fields(&logs.refused("log", Some(Start::Edge(edge))).await), ["edge"]);
        }
        let position = LogPosition { file_id: "x".repeat(129), ..LogPosition::default() };
        let refused = logs.refused("log", Some(Start::Position(position))).await;
        assert_eq!(bad_fields(&refused), ["position.file_id"]);
    });
}

#[test]
fn a_server_without_a_log_directory_says_how_to_get_one() {
    run(async {
        let server = Server::start().await;
        let refused = tail(server.address, "log", None).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "NO_LOG_ROOT".to_owned()));
        assert!(refused.message().contains("--log-root"), "{refused}");
    });
}

#[test]
fn a_log_directory_that_is_none_is_an_error_at_the_start() {
    run(async {
        let ended = binary(&["all", "--log-root", "/nonexistent/logs"]).run();
        ended.failed(1, &["/nonexistent/logs", "--log-root"]);
    });
}

#[test]
fn a_log_is_read_no_faster_than_its_reader_reads() {
    run(async {
        let logs = Logs::start().await;
        File::create(logs.root.join("log")).unwrap().set_len(64 << 20).unwrap();
        let request = TailLogRequest { file: "log".to_owned(), start: at(LogEdge::Start) };
        let path = "/fourmodes.v1.ServerStreamingService/TailLog";
        let unread = RawCall::open(logs.server.address, path, &request, true).await;
        // What it has sent is bounded by the windows, whatever time goes by.
        let sent = async || status_of(Mode::ServerStreaming, logs.server.address).await.messages_sent;
        until(async || sent().await >= 2).await;
        for _ in 0..50 {
            assert!(sent().await <= 8, "of a file of 1,024 chunks");
        }
        unread.cancel();
        until(async || open_calls(Mode::ServerStreaming, logs.server.address).await == 0).await;
    });
}

#[test]
fn a_shutdown_ends_who_follows_a_log() {
    run(async {
        let logs = Logs::start().await;
        logs.append("log", "one\n");
        let mut tail = logs.follow(None).await;
        tail.hear().await;
        logs.server.begin_shutdown();
        assert_eq!(failure_of(&mut tail.responses).await.code(), Code::Unavailable);
        logs.server.ended().await;
    });
}

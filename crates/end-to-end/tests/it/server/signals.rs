use shared_proto::fourmodes::v1::WatchQuotesRequest;
use test_support::{
    Member, Signal, assert_answers, failure_of, multiplication_that_waits, refuses_connections, run,
    server_streaming, silent_peer, until,
};
use tonic::Code;

use crate::server::binary;

#[test]
fn a_signal_ends_open_streams_and_the_process_with_0() {
    run(async {
        for signal in [Signal::INT, Signal::TERM] {
            let server = binary(&["all", "--grace", "10min"]).serve();
            let mut client = server_streaming(server.address);
            let mut quotes = client.watch_quotes(WatchQuotesRequest::default()).await.unwrap().into_inner();
            assert!(quotes.message().await.unwrap().is_some());
            server.signal(signal);
            assert_eq!(failure_of(&mut quotes).await.code(), Code::Unavailable);
            assert_eq!(server.ended().0, Some(0), "{signal:?}");
        }
    });
}

#[test]
fn a_signal_ends_the_process_with_0_when_a_peer_is_silent() {
    run(async {
        for signal in [Signal::INT, Signal::TERM] {
            let server = binary(&["all", "--grace", "300ms"]).serve();
            let _peer = silent_peer(server.address).await;
            server.signal(signal);
            assert_eq!(server.ended().0, Some(0), "{signal:?}");
        }
    });
}

#[test]
fn a_signal_leaves_a_state_that_needs_no_repair() {
    run(async {
        for signal in [Signal::INT, Signal::TERM] {
            let directory = tempfile::tempdir().unwrap();
            let data = directory.path().to_str().unwrap();
            let server = binary(&["all", "--grace", "300ms", "--data-dir", data]).serve();
            let _member = Member::joined(server.address, "lobby", "ana").await;
            let _peer = silent_peer(server.address).await;
            server.signal(signal);
            assert_eq!(server.ended().0, Some(0), "{signal:?}");
            let mut builder = redb::Database::builder();
            builder.set_repair_callback(|repair| repair.abort());
            builder.open(directory.path().join("state.redb")).unwrap();
        }
    });
}

#[test]
fn a_second_signal_ends_the_process_at_once_with_130() {
    run(async {
        for (first, second) in [(Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)] {
            let server = binary(&["all", "--grace", "10min"]).serve();
            let (_request, _answer) = multiplication_that_waits(server.address).await;
            server.signal(first);
            until(async || refuses_connections(server.address).await).await;
            server.signal(second);
            assert_eq!(server.ended().0, Some(130), "{first:?}, {second:?}");
        }
    });
}

#[test]
fn a_signal_counts_from_the_first_line_on() {
    run(async {
        for _ in 0..20 {
            let server = binary(&["all"]).serve();
            server.signal(Signal::TERM);
            assert_eq!(server.ended().0, Some(0));
        }
    });
}

#[test]
fn a_server_that_nobody_called_stops_with_0() {
    run(async {
        let server = binary(&["unary"]).serve();
        assert_answers(server.address).await;
        server.signal(Signal::INT);
        let (code, stdout) = server.ended();
        assert_eq!(code, Some(0));
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
    });
}

#[test]
fn a_server_whose_stdout_nobody_reads_runs_until_a_signal() {
    run(async {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut server = binary(&["all"]).stdout(writer).spawn();
        let _ = server.warnings().until("serving");
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code, Some(0));
    });
}

use std::process::Stdio;

use rustix::process::{Pid, Signal};
use shared_proto::fourmodes::v1::WatchQuotesRequest;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
};
use tonic::Code;

use crate::support::{
    Process, assert_answers, binary, failure_of, multiplication_that_waits, refuses_connections, run,
    server_streaming, silent_peer, until, within,
};

fn send(signal: Signal, child: &Child) {
    let id = child.id().expect("the process has ended").try_into().unwrap();
    rustix::process::kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
}

#[test]
fn a_signal_ends_open_streams_and_the_process_with_0() {
    run(async {
        for signal in [Signal::INT, Signal::TERM] {
            let server = Process::start(&["all", "--grace", "10min"]).await;
            let mut client = server_streaming(server.address);
            let mut quotes = client.watch_quotes(WatchQuotesRequest::default()).await.unwrap().into_inner();
            assert!(quotes.message().await.unwrap().is_some());
            send(signal, server.child());
            assert_eq!(failure_of(&mut quotes).await.code(), Code::Unavailable);
            assert_eq!(server.ended().await.0, Some(0), "{signal:?}");
        }
    });
}

#[test]
fn a_signal_ends_the_process_with_0_when_a_peer_is_silent() {
    run(async {
        for signal in [Signal::INT, Signal::TERM] {
            let server = Process::start(&["all", "--grace", "300ms"]).await;
            let _peer = silent_peer(server.address).await;
            send(signal, server.child());
            assert_eq!(server.ended().await.0, Some(0), "{signal:?}");
        }
    });
}

#[test]
fn a_second_signal_ends_the_process_at_once_with_130() {
    run(async {
        for (first, second) in [(Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)] {
            let server = Process::start(&["all", "--grace", "10min"]).await;
            let (_request, _answer) = multiplication_that_waits(server.address).await;
            send(first, server.child());
            until(async || refuses_connections(server.address).await).await;
            send(second, server.child());
            assert_eq!(server.ended().await.0, Some(130), "{first:?}, {second:?}");
        }
    });
}

#[test]
fn a_signal_counts_from_the_first_line_on() {
    run(async {
        for _ in 0..20 {
            let server = Process::start(&["all"]).await;
            send(Signal::TERM, server.child());
            assert_eq!(server.ended().await.0, Some(0));
        }
    });
}

#[test]
fn a_server_that_nobody_called_stops_with_0() {
    run(async {
        let server = Process::start(&["unary"]).await;
        assert_answers(server.address).await;
        send(Signal::INT, server.child());
        let (code, stdout) = server.ended().await;
        assert_eq!(code, Some(0));
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
    });
}

#[test]
fn a_server_whose_stdout_nobody_reads_runs_until_a_signal() {
    run(async {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = binary(&["all", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        while !within(log.next_line()).await.unwrap().expect("it stopped").contains("serving") {}
        send(Signal::TERM, &child);
        assert_eq!(within(child.wait()).await.unwrap().code(), Some(0));
    });
}

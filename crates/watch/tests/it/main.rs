//! What passes is what was sent, whatever it is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]

use std::{net::SocketAddr, time::Duration};

use test_support::within;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use transport::TlsFiles;
use watch::{Depth, Events, Taps, Watch, queue};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A watch, which ends with the test.
struct Watching {
    address: SocketAddr,
    serving: JoinHandle<()>,
    /// Nobody takes them.
    _events: Events,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn watching(server: SocketAddr) -> Watching {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let to = format!("http://{server}").parse().unwrap();
    let (queue, events) = queue(1 << 20);
    let depth = Depth { keep: 64 << 10, frames: true, windows: true, ..Depth::default() };
    let taps = Taps::new(depth, move |event| queue.put(event));
    let watch = Watch { to, tls: TlsFiles::default(), acceptor: None, taps };
    Watching { address, serving: tokio::spawn(watch.serve(listener)), _events: events }
}

fn frame(random: &mut fastrand::Rng) -> Vec<u8> {
    let payload: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    let head = [random.u8(..11), random.u8(..), 0, 0, 0, random.u8(..9)];
    [&length[..], &head, &payload].concat()
}

/// What a side may say: frames, valid and not, HTTP/1.1, TLS, or anything.
fn said(random: &mut fastrand::Rng, is_client: bool) -> Vec<u8> {
    let count = random.usize(1..60);
    let first: &[u8] = match random.u8(..5) {
        0 => b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n",
        1 => &[0x16, 3, 1, 0, 200],
        2 => &[],
        _ if is_client => PREFACE,
        _ => &[],
    };
    let mut said = first.to_vec();
    (0..count).for_each(|_| said.extend(frame(random)));
    if random.u8(..3) == 0 {
        (0..random.usize(..100_000)).for_each(|_| said.push(random.u8(..)));
    }
    said
}

/// Sends it cut at random places, ends, and takes what comes, up to its end.
async fn exchange(stream: TcpStream, said: Vec<u8>, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let write = async move {
        let mut rest = &said[..];
        while !rest.is_empty() {
            let most = if random.bool() { 20 } else { 5_000 };
            let piece = rest.split_off(..rest.len().min(random.usize(1..most))).unwrap();
            writer.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        writer.shutdown().await.unwrap();
        writer
    };
    let mut heard = Vec::new();
    let (_writer, read) = tokio::join!(write, reader.read_to_end(&mut heard));
    read.unwrap();
    heard
}

#[tokio::test]
async fn all_bytes_pass_unchanged_in_both_directions() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let watching = watching(listener.local_addr().unwrap()).await;
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (question, answer) = (said(&mut random, true), said(&mut random, false));
        let client = TcpStream::connect(watching.address).await.unwrap();
        let (server, _) = within(listener.accept()).await.unwrap();
        let exchanges = async {
            tokio::join!(exchange(client, question.clone(), seed), exchange(server, answer.clone(), seed + 1))
        };
        let (heard_by_client, heard_by_server) = within(exchanges).await;
        assert!(heard_by_server == question, "seed {seed}: the server heard something else");
        assert!(heard_by_client == answer, "seed {seed}: the client heard something else");
    }
}

/// What was sent before the cut arrives before anything is sent after it: nothing is
/// held back until it makes sense.
#[tokio::test]
async fn a_piece_passes_before_the_next_one_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let watching = watching(listener.local_addr().unwrap()).await;
    // The settings, a request, and a message of gRPC.
    let block = [&[0x83, 0x04, 6][..], b"/a.B/C", &[0x0f, 0x10, 16], b"application/grpc"].concat();
    let frames = [
        &[0, 0, 0, 4, 0, 0, 0, 0, 0][..],
        &[0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1],
        &block,
        &[0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 2, 8, 1],
    ];
    let said = [PREFACE, &frames.concat()].concat();
    for cut in 1..said.len() {
        let mut client = TcpStream::connect(watching.address).await.unwrap();
        let (mut server, _) = within(listener.accept()).await.unwrap();
        for piece in [&said[..cut], &said[cut..]] {
            for (from, to) in [(&mut client, &mut server)] {
                from.write_all(piece).await.unwrap();
                let mut heard = vec![0; piece.len()];
                within(to.read_exact(&mut heard)).await.unwrap();
                assert_eq!(heard, piece, "cut at {cut}");
            }
            // And the other way round, as a server's answer.
            server.write_all(piece).await.unwrap();
            let mut heard = vec![0; piece.len()];
            within(client.read_exact(&mut heard)).await.unwrap();
            assert_eq!(heard, piece, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer() {
    /// More than the sockets of a connection take by themselves, twice.
    const MOST: usize = 64 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let watching = watching(listener.local_addr().unwrap()).await;
    let mut client = TcpStream::connect(watching.address).await.unwrap();
    let (mut server, _) = within(listener.accept()).await.unwrap();
    let piece = vec![7; 1 << 16];
    let mut sent = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), client.write(&piece)).await {
        sent += written.unwrap();
        assert!(sent < MOST, "{sent} bytes are taken, and nobody reads them");
    }
    client.shutdown().await.unwrap();
    let mut heard = Vec::new();
    within(server.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard.len(), sent);
}

#[tokio::test]
async fn each_side_is_told_that_the_other_has_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let watching = watching(listener.local_addr().unwrap()).await;
    for client_first in [true, false] {
        let client = TcpStream::connect(watching.address).await.unwrap();
        let (server, _) = within(listener.accept()).await.unwrap();
        let (first, mut other) = if client_first { (client, server) } else { (server, client) };
        drop(first);
        assert_eq!(within(other.read(&mut [0; 1])).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_answered_for() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let watching = watching(address).await;
    // A client of HTTP/2.
    let stream = TcpStream::connect(watching.address).await.unwrap();
    let (mut send, connection) = h2::client::handshake(stream).await.unwrap();
    let driven = tokio::spawn(connection);
    let request = http::Request::post("http://here/a.B/C").header("content-type", "application/grpc");
    let (response, _body) = send.send_request(request.body(()).unwrap(), false).unwrap();
    let response = within(response).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "14");
    let message = response.headers()["grpc-message"].to_str().unwrap();
    assert!(message.contains(&format!("http://{address}/ is unreachable")), "{message}");
    drop((send, _body));
    // The connection ends, so that the next call is made on another one.
    assert!(within(driven).await.unwrap().is_ok());
    // One of HTTP/1.1.
    let mut stream = TcpStream::connect(watching.address).await.unwrap();
    stream.write_all(b"POST /a.B/C HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("is unreachable"), "{answer}");
}

//! Peers that mean harm. While each is at work somebody else's calls succeed,
//! and the server does not grow.
//!
//! Everything is bounded in number and goes to the loopback interface.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in a test a panic is the report")]
#![allow(clippy::print_stdout, reason = "the figures are worth a look")]
#![cfg(target_os = "linux")]

mod tls;
mod victim;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use grpc_wire::limits;
use shared_proto::{
    fourmodes::v1::{
        MultiplyRequest, Reading, RecordReadingsRequest, TailLogRequest, WatchQuotesRequest,
        client_streaming_service_client::ClientStreamingServiceClient,
        server_streaming_service_client::ServerStreamingServiceClient,
        unary_service_client::UnaryServiceClient,
    },
    testing::SimpleRequest,
};
use test_support::{
    Certs,
    wire::{CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, Peer, RST_STREAM, call, frame},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, transport::Channel};
use victim::{Victim, run, run_alone};

const MULTIPLY: &str = "/fourmodes.v1.UnaryService/Multiply";

/// How long a stall lasts in `just abuse`, which has more of everything.
fn at_length() -> Option<Duration> {
    let seconds = std::env::var("ABUSE_SECONDS").ok()?;
    Some(Duration::from_secs(seconds.parse().unwrap()))
}

fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

#[test]
fn rapid_reset() {
    run(async {
        let victim = Victim::start(&[]).await;
        let address = victim.address;
        victim
            .survives(async {
                for _ in 0..20 {
                    let block = call(MULTIPLY, &[]);
                    let resets = streams().take(50_000).map(|stream| {
                        let cancel = 8u32.to_be_bytes();
                        [frame(HEADERS, END_HEADERS, stream, &block), frame(RST_STREAM, 0, stream, &cancel)]
                            .concat()
                    });
                    let sent = Peer::connect(address).await.unwrap().send_all(resets).await;
                    assert!(sent < 50_000, "nobody minded");
                }
            })
            .await;
    });
}

/// Within the limit of streams that is no attack: a page is left, a fan-out is
/// given up.
#[test]
fn calls_that_are_given_up_as_they_are_made() {
    run(async {
        let victim = Victim::start(&[]).await;
        let address = victim.address;
        victim
            .survives(async {
                let mut peer = Peer::connect(address).await.unwrap();
                let mut stream = streams();
                for _ in 0..50 {
                    let block = call(MULTIPLY, &[]);
                    let cancel = 8u32.to_be_bytes();
                    let given_up = stream.by_ref().take(100).map(|stream| {
                        [frame(HEADERS, END_HEADERS, stream, &block), frame(RST_STREAM, 0, stream, &cancel)]
                    });
                    let given_up = given_up.collect::<Vec<_>>().concat().concat();
                    // And a neighbour on the same connection.
                    let last = multiplication(stream.next().unwrap(), &[]);
                    peer.writer.write_all(&[given_up, last].concat()).await.unwrap();
                    peer.until_ended(1).await;
                }
            })
            .await;
    });
}

/// A whole call, with `between` its head and its message.
fn multiplication(stream: u32, between: &[u8]) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, &call(MULTIPLY, &[]));
    [&head[..], between, &frame(DATA, END_STREAM, stream, &[0; 5])].concat()
}

/// As some proxies do it.
#[test]
fn an_empty_frame_with_each_call_and_a_flood_of_them() {
    run(async {
        let victim = Victim::start(&[]).await;
        let address = victim.address;
        victim
            .survives(async {
                let mut peer = Peer::connect(address).await.unwrap();
                let mut stream = streams();
                for _ in 0..200 {
                    let calls = stream.by_ref().take(50);
                    let calls = calls.map(|stream| multiplication(stream, &frame(DATA, 0, stream, &[])));
                    peer.writer.write_all(&calls.collect::<Vec<_>>().concat()).await.unwrap();
                    peer.until_ended(50).await;
                }
                let head = frame(HEADERS, END_HEADERS, 1, &call(MULTIPLY, &[]));
                let flood =
                    std::iter::once(head).chain(std::iter::repeat_n(frame(DATA, 0, 1, &[]), 1_000_000));
                let sent = Peer::connect(address).await.unwrap().send_all(flood).await;
                assert!(sent < 1_000_000, "nobody minded");
            })
            .await;
    });
}

/// Each way to make the server hold memory that its peer does not pay for.
#[test]
fn peers_that_do_not_read_and_messages_that_do_not_end() {
    run(async {
        let victim = Victim::start(&["--max-buffered", "16MiB", "--unary-deadline", "2s"]).await;
        let address = victim.address;
        // The budget, what each call may hold besides, and what arrives on a
        // connection before anybody looks: its window.
        let most = (16 << 20) + 300 * (64 << 10) + 4 * u64::from(limits::CONNECTION_WINDOW);
        victim
            .survives_within(most + (16 << 20), async {
                let large = victim::message(&SimpleRequest { response_size: 2 << 20, ..Default::default() });
                let half: Bytes = [&[0, 0, 0x3f, 0, 0][..], &vec![0; 2 << 20]].concat().into();
                let (mut unary, mut streams) = (Vec::new(), Vec::new());
                for window in [0, 1, 5_000, 65_535] {
                    let mut peer = victim::peer(address, window).await;
                    for _ in 0..25 {
                        unary.push(peer.call("/grpc.testing.TestService/UnaryCall", &large, true).await);
                        streams.push(peer.call(victim::QUOTES, &victim::quotes(Duration::ZERO), true).await);
                        streams.push(peer.call(victim::READINGS, &half, false).await);
                    }
                }
                // Those end by themselves for which there is no room, and the unary
                // ones in their time.
                for call in unary {
                    call.over().await;
                }
            })
            .await;
    });
}

#[test]
fn a_thousand_followers_of_a_log() {
    run(async {
        let logs = tempfile::tempdir().unwrap();
        std::fs::write(logs.path().join("a.log"), "a line\n").unwrap();
        let victim = Victim::start(&["--log-root", logs.path().to_str().unwrap()]).await;
        let address = victim.address;
        victim
            .survives_within(128 << 20, async {
                let request = TailLogRequest { file: "a.log".to_owned(), ..TailLogRequest::default() };
                let request = victim::message(&request);
                let mut followers = Vec::new();
                for _ in 0..10 {
                    let mut peer = victim::peer(address, 65_535).await;
                    for _ in 0..100 {
                        let path = "/fourmodes.v1.ServerStreamingService/TailLog";
                        followers.push(peer.call(path, &request, true).await);
                    }
                }
                // Connections are accepted all the same.
                for _ in 0..100 {
                    let mut call = victim::raw_call(address, MULTIPLY, &[]).await;
                    call.send(Bytes::from_static(&[0; 5]));
                    assert_eq!(call.code().await, Some(Code::Ok));
                }
            })
            .await;
    });
}

#[test]
fn malformed_headers() {
    run(async {
        let victim = Victim::start(&[]).await;
        let address = victim.address;
        victim
            .survives(async {
                // Upper case is against the rules.
                let block = call(MULTIPLY, &[("Wrong", "x")]);
                let headers =
                    streams().take(50_000).map(|stream| frame(HEADERS, END_HEADERS, stream, &block));
                let sent = Peer::connect(address).await.unwrap().send_all(headers).await;
                println!("hung up on after {sent} HEADERS");
                assert!(sent < 50_000, "nobody minded");
            })
            .await;
    });
}

#[test]
fn continuation_flood() {
    run(async {
        let victim = Victim::start(&[]).await;
        let address = victim.address;
        victim
            .survives(async {
                for _ in 0..5 {
                    let first = frame(HEADERS, 0, 1, &call(MULTIPLY, &[]));
                    let mut block = Vec::new();
                    for number in 0..400 {
                        block.extend(call("", &[(&format!("name{number}"), "value")])[2..].iter());
                    }
                    block.truncate(16 << 10);
                    let more = frame(CONTINUATION, 0, 1, &block);
                    let flood = std::iter::once(first).chain(std::iter::repeat_n(more, 8_192));
                    let sent = Peer::connect(address).await.unwrap().send_all(flood).await;
                    assert!(sent < 8_000, "nobody minded");
                }
            })
            .await;
    });
}

#[test]
fn silent_sockets() {
    run(async {
        let victim = Victim::start(&["--first-byte-timeout", "1s"]).await;
        let address = victim.address;
        victim
            .survives(async {
                let mut silent = Vec::new();
                for _ in 0..5_000 {
                    // A full backlog refuses some of them, which is as well.
                    silent.extend(TcpStream::connect(address).await.ok());
                }
                println!("{} connected", silent.len());
                // All of them are hung up on by and by.
                for peer in silent {
                    peer.readable().await.unwrap();
                }
            })
            .await;
    });
}

#[test]
fn handshakes_byte_by_byte() {
    run(async {
        let victim = Victim::start(&["--first-byte-timeout", "1s", "--handshake-timeout", "1s"]).await;
        victim.survives(drip(victim.address, PREFACE.to_vec())).await;
    });
}

#[test]
fn tls_handshakes_that_stop_in_their_middle() {
    run(async {
        let certs = Certs::new();
        let timeouts = ["--first-byte-timeout", "2s", "--handshake-timeout", "2s"];
        let victim = Victim::with_tls(&timeouts, &certs).await;
        let (address, hello) = (victim.address, tls::hello(&certs));
        victim
            .survives(async {
                // The last of them leave the server with an answer that nobody
                // wants, and a key to keep.
                for said in [&hello[..1], &hello[..hello.len() / 2], &hello, &hello] {
                    let mut stuck = Vec::new();
                    // Nearly as many as there may be connections.
                    for _ in 0..1_000 {
                        let mut peer = TcpStream::connect(address).await.unwrap();
                        peer.write_all(said).await.unwrap();
                        stuck.push(peer);
                    }
                    let late = tls::channel(&certs, address);
                    UnaryServiceClient::new(late).multiply(MultiplyRequest { a: 6, b: 7 }).await.unwrap();
                    // All of them are hung up on by and by.
                    for mut peer in stuck {
                        let _ = peer.read_to_end(&mut Vec::new()).await;
                    }
                }
            })
            .await;
    });
}

#[test]
fn tls_handshakes_byte_by_byte() {
    run(async {
        let certs = Certs::new();
        let timeouts = ["--first-byte-timeout", "1s", "--handshake-timeout", "1s"];
        let victim = Victim::with_tls(&timeouts, &certs).await;
        let address = victim.address;
        victim.survives(drip(address, tls::hello(&certs))).await;
    });
}

/// Two hundred peers that need far longer for what they have to say than they
/// are given.
async fn drip(address: SocketAddr, said: Vec<u8>) {
    let said = Arc::new(said);
    let slow = (0..200).map(|_| {
        let said = said.clone();
        async move {
            let mut peer = TcpStream::connect(address).await.unwrap();
            for byte in said.iter() {
                if peer.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            panic!("nobody minded");
        }
    });
    let slow: Vec<_> = slow.map(tokio::spawn).collect();
    for peer in slow {
        peer.await.unwrap();
    }
}

#[test]
fn heads_of_http_1_1_byte_by_byte() {
    run(async {
        let victim = Victim::start(&["--first-byte-timeout", "1s", "--handshake-timeout", "1s"]).await;
        let address = victim.address;
        victim
            .survives(async {
                let slow = (0..200).map(|_| async move {
                    let mut peer = TcpStream::connect(address).await.unwrap();
                    let begun = format!("POST {MULTIPLY} HTTP/1.1\r\nhost: x\r\nx-slow: ");
                    peer.write_all(begun.as_bytes()).await.unwrap();
                    for _ in 0..100 {
                        if peer.write_all(b"x").await.is_err() {
                            return;
                        }
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    panic!("nobody minded");
                });
                let slow: Vec<_> = slow.map(tokio::spawn).collect();
                for peer in slow {
                    peer.await.unwrap();
                }
                // Nor is one taken that never ends.
                let mut peer = TcpStream::connect(address).await.unwrap();
                let line = format!("x-long: {}\r\n", "x".repeat(1000));
                peer.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
                let mut sent = 0;
                while sent < 100_000 && peer.write_all(line.as_bytes()).await.is_ok() {
                    sent += 1;
                }
                assert!(sent < 100_000, "nobody minded");
            })
            .await;
    });
}

/// A few bytes on the wire, and more in memory than there may be.
#[test]
fn bombs_in_gzip() {
    run(async {
        let victim = Victim::start(&[]).await;
        let address = victim.address;
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        // The field of a payload of half a gigabyte.
        std::io::Write::write_all(&mut bomb, &[0x12, 0x80, 0x80, 0x80, 0x80, 0x02]).unwrap();
        for _ in 0..512 {
            std::io::Write::write_all(&mut bomb, &[0; 1 << 20]).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        let message = Bytes::from([&[1], &(bomb.len() as u32).to_be_bytes()[..], &bomb].concat());
        victim
            .survives(async {
                for path in [
                    "/fourmodes.v1.ProbeService/ClientStreaming",
                    "/grpc.testing.TestService/StreamingInputCall",
                ] {
                    for _ in 0..10 {
                        let mut call = victim::raw_call(address, path, &[("grpc-encoding", "gzip")]).await;
                        call.send(message.clone());
                        assert_eq!(call.code().await, Some(Code::ResourceExhausted), "{path}");
                    }
                }
            })
            .await;
    });
}

#[test]
fn calls_that_are_wrong_each_have_their_answer() {
    run(async {
        let victim = Victim::start(&[]).await;
        let address = victim.address;
        let answer = async |more: &[(&str, &str)], message: &[u8]| {
            let mut call = victim::raw_call(address, MULTIPLY, more).await;
            call.send(Bytes::copy_from_slice(message));
            call.code().await
        };
        // A million zeros are a kilobyte in gzip: nothing is unpacked here.
        let bomb = [&[1, 0, 0, 4, 0][..], &[0; 1024]].concat();
        assert_eq!(answer(&[("grpc-encoding", "gzip")], &bomb).await, Some(Code::Unimplemented));
        assert!(matches!(answer(&[], &bomb).await, Some(Code::Internal | Code::Unimplemented)));
        let long = "x".repeat(20 << 10);
        let too_long = answer(&[("metadata", &long)], &[0, 0, 0, 0, 0]).await;
        assert_eq!(too_long, Some(Code::ResourceExhausted));
        assert_eq!(answer(&[], &[0, 0, 0, 0, 0]).await, Some(Code::Ok));
        // Field 1 is a number, and here a text that never ends; and the prefix
        // of a message that is longer than all there is.
        assert_eq!(answer(&[], &[0, 0, 0, 0, 2, 0x0a, 0xff]).await, Some(Code::Internal));
        assert_eq!(answer(&[], &[0, 0xff, 0xff, 0xff, 0xff, 1]).await, Some(Code::ResourceExhausted));
        let mut hello = victim::raw_call(address, "/Greeter/SayHello", &[]).await;
        hello.send(Bytes::from_static(&[0, 0, 0, 0, 4, 0x0a, 0x02, 0xc3, 0x28]));
        assert_eq!(hello.code().await, Some(Code::Internal));
        victim.survives(std::future::ready(())).await;
    });
}

#[test]
fn a_hundred_thousand_methods_that_there_are_not() {
    run(async {
        let victim = Victim::start(&["--metrics", "127.0.0.1:0"]).await;
        let address = victim.address;
        victim
            .survives(async {
                for round in 0..100 {
                    let calls = streams().take(1_000).map(|stream| {
                        let block = call(&format!("/service{round}/Method{stream}"), &[]);
                        let message = frame(DATA, END_STREAM, stream, &[0; 5]);
                        [frame(HEADERS, END_HEADERS, stream, &block), message].concat()
                    });
                    Peer::connect(address).await.unwrap().send_all(calls).await;
                }
            })
            .await;
    });
}

/// Each in a frame of its own: h2 counts small frames that nobody has read yet.
#[test]
fn small_messages_in_each_direction() {
    run(async {
        // The budget for small frames is gone after some ten thousand.
        let count = if at_length().is_some() { 1_000_000 } else { 100_000 };
        // What is kept of the quotes is not to be kept in memory.
        let directory = tempfile::tempdir().unwrap();
        let victim = Victim::start(&["--data-dir", directory.path().to_str().unwrap()]).await;
        // Caches fill with the first tenth, and stay as they are with the rest.
        exchange(victim.channel.clone(), "first", count / 10).await;
        victim.survives(exchange(victim.channel.clone(), "second", count)).await;
    });
}

async fn exchange(channel: Channel, producer: &'static str, count: u64) {
    let messages = async_stream::stream! {
        for sequence in 1..=count {
            let time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
            yield RecordReadingsRequest {
                producer_id: producer.to_owned(),
                device: "kiln".to_owned(),
                sequence,
                readings: vec![Reading { time, value: 1.0, line: sequence }],
            };
            // Whoever waits between two messages sends each in a frame of its own.
            tokio::task::yield_now().await;
        }
    };
    let mut client = ClientStreamingServiceClient::new(channel.clone());
    let recorded = client.record_readings(messages).await.unwrap().into_inner();
    assert_eq!((recorded.count, recorded.refused_count), (count, 0));
    let request = WatchQuotesRequest { count, ..WatchQuotesRequest::default() };
    let mut client = ServerStreamingServiceClient::new(channel);
    let mut quotes = client.watch_quotes(request).await.unwrap().into_inner();
    let mut received = 0;
    while quotes.message().await.unwrap().is_some() {
        received += 1;
    }
    assert_eq!(received, count);
}

#[test]
fn a_reader_that_stalls_and_a_handler_that_stalls() {
    run_alone(async {
        let victim = Victim::start(&["--allow-faults"]).await;
        let address = victim.address;
        let seconds = at_length().unwrap_or(Duration::from_secs(2));
        // Before and after, so that what else the machine begins or ends to do in
        // the meantime is not taken for the effect.
        let before = victim.latency(2_000, seconds).await;
        let beside = victim
            .survives(async {
                // Reads the head and nothing more.
                let mut stalled = victim::raw_call(address, victim::QUOTES, &[]).await;
                stalled.send(victim::quotes(Duration::from_micros(500)));
                // The handler is not called for a minute, and its requests wait.
                let headers = [("x-envoy-fault-delay-request", "60000")];
                let mut unread = victim::raw_call(address, victim::READINGS, &headers).await;
                let sending = async {
                    let mut tick = tokio::time::interval(Duration::from_micros(500));
                    while unread.try_send(Bytes::from_static(&[0; 25])) {
                        tick.tick().await;
                    }
                };
                let beside = victim.latency(2_000, seconds);
                tokio::select! { beside = beside => beside, () = sending => panic!("the call was ended") }
            })
            .await;
        let after = victim.latency(2_000, seconds).await;
        println!("p99 alone {before:?} and {after:?}, beside those that stall {beside:?}");
        let alone = before.max(after).max(Duration::from_millis(25));
        assert!(beside <= 2 * alone, "{before:?} and {after:?} alone, {beside:?} beside");
    });
}

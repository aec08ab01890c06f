//! Many requests, one response.

mod upload;

use std::{fs::File, net::SocketAddr, path::Path};

use prost_types::Timestamp;
use server::config::{Config, Data};
use shared_proto::fourmodes::v1::{DeviceStatistics, Reading, RecordReadingsRequest, RecordReadingsResponse};
use test_support::{Server, ServerProgram, bad_fields, client_streaming, reason, run, until, within};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::server::binary;

fn reading(value: f64) -> Reading {
    Reading { time: at(7), value, line: 0 }
}

fn batch(device: &str, sequence: u64, readings: impl Into<Vec<Reading>>) -> RecordReadingsRequest {
    RecordReadingsRequest {
        producer_id: "p".to_owned(),
        device: device.to_owned(),
        sequence,
        readings: readings.into(),
    }
}

fn values(device: &str, sequence: u64, values: &[f64]) -> RecordReadingsRequest {
    batch(device, sequence, values.iter().map(|value| reading(*value)).collect::<Vec<_>>())
}

fn from(producer: &str, batch: RecordReadingsRequest) -> RecordReadingsRequest {
    RecordReadingsRequest { producer_id: producer.to_owned(), ..batch }
}

async fn deliver(
    address: SocketAddr,
    batches: impl Into<Vec<RecordReadingsRequest>>,
) -> Result<RecordReadingsResponse, Status> {
    let batches = tokio_stream::iter(batches.into());
    within(client_streaming(address).record_readings(batches)).await.map(Response::into_inner)
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

async fn record(batches: impl Into<Vec<RecordReadingsRequest>>) -> RecordReadingsResponse {
    deliver(Server::start().await.address, batches).await.unwrap()
}

#[test]
fn statistics_are_of_each_device_over_all_batches() {
    run(async {
        let kiln = |seconds, value| Reading { time: at(seconds), ..reading(value) };
        let first = [(20, 2.0), (30, 4.0), (40, 9.0)].map(|(seconds, value)| kiln(seconds, value));
        let second = [4.0, 5.0, 5.0, 7.0, 4.0].map(|value| kiln(-10, value));
        let batches = [
            batch("kiln", 1, first),
            values("cellar", 1, &[-1.5]),
            batch("kiln", 2, []),
            batch("kiln", 3, second),
        ];
        let response = record(batches).await;
        assert_eq!((response.count, response.repeated_count, response.refused_count), (9, 0, 0));
        let [cellar, kiln] = response.devices.try_into().unwrap();
        let expected = DeviceStatistics {
            device: "cellar".to_owned(),
            count: 1,
            first_time: at(7),
            last_time: at(7),
            min: -1.5,
            max: -1.5,
            mean: -1.5,
            standard_deviation: 0.0,
            p50: -1.5,
            p95: -1.5,
            p99: -1.5,
            accepted_through: 1,
        };
        assert_eq!(cellar, expected);
        assert_eq!((kiln.device.as_str(), kiln.count, kiln.accepted_through), ("kiln", 8, 3));
        assert_eq!((kiln.first_time, kiln.last_time), (at(-10), at(40)));
        assert_eq!((kiln.min, kiln.max, kiln.mean, kiln.p50), (2.0, 9.0, 5.0, 4.5));
        assert!((kiln.standard_deviation - (32.0_f64 / 7.0).sqrt()).abs() < 1e-12, "{kiln:?}");
        assert!(kiln.p50 <= kiln.p95 && kiln.p95 <= kiln.p99 && kiln.p99 <= kiln.max, "{kiln:?}");
    });
}

#[test]
fn a_reading_that_is_none_is_refused_with_its_line_and_the_others_count() {
    run(async {
        let bad = [
            (reading(f64::NAN), "finite"),
            (reading(f64::NEG_INFINITY), "finite"),
            (Reading { time: None, ..reading(1.0) }, "time"),
        ];
        let mut readings = vec![reading(1.0)];
        let mut reasons = Vec::new();
        for ((reading, reason), line) in bad.into_iter().zip(2..) {
            readings.push(Reading { line, ..reading });
            reasons.push((line, reason));
        }
        readings.push(reading(3.0));
        let mut batches = vec![batch("kiln", 1, readings)];
        let long = "k".repeat(65);
        for ((device, reason), line) in
            [("", "blank"), ("ki\nln", "control"), (&long, "65 characters")].into_iter().zip(5..)
        {
            batches.push(batch(device, 1, [Reading { line, ..reading(1.0) }]));
            reasons.push((line, reason));
        }
        let response = record(batches).await;
        assert_eq!((response.count, response.refused_count), (2, 6));
        assert_eq!(response.refused.len(), reasons.len());
        for (refused, (line, reason)) in response.refused.iter().zip(reasons) {
            assert_eq!(refused.line, line);
            assert!(refused.reason.contains(reason), "{refused:?} is not about {reason}");
        }
        assert_eq!(response.devices.len(), 1);
        assert_eq!((response.devices[0].count, response.devices[0].mean), (2, 2.0));
    });
}

#[test]
fn the_first_hundred_that_were_refused_are_listed_and_all_are_counted() {
    run(async {
        let readings = (1..=150).map(|line| Reading { line, ..reading(1.0) }).collect::<Vec<_>>();
        let response = record([batch("", 1, readings)]).await;
        assert_eq!((response.count, response.refused_count), (0, 150));
        assert!(response.refused.iter().map(|refused| refused.line).eq(1..=100));
    });
}

#[test]
fn a_time_that_no_timestamp_has_is_refused() {
    run(async {
        const FIRST: i64 = -62_135_596_800;
        const LAST: i64 = 253_402_300_799;
        let times = [FIRST, LAST, FIRST - 1, LAST + 1, -i64::MAX, i64::MIN, i64::MAX];
        let times = times.map(|seconds| Timestamp { seconds, nanos: 0 });
        let ends = [i64::MIN, i64::MAX].map(|seconds| Timestamp { seconds, nanos: seconds.signum() as i32 });
        let times = times.into_iter().chain(ends).zip(1..);
        let readings = times.map(|(time, line)| Reading { time: Some(time), line, ..reading(1.0) });
        let response = record([batch("kiln", 1, readings.collect::<Vec<_>>())]).await;
        assert!(response.refused.iter().map(|refused| refused.line).eq(3..=9), "{response:?}");
        assert_eq!(response.count, 2);
        assert_eq!((response.devices[0].first_time, response.devices[0].last_time), (at(FIRST), at(LAST)));
    });
}

#[test]
fn a_long_stream_of_small_messages_arrives() {
    run(async {
        const COUNT: u64 = 200_000;
        let server = Server::start().await;
        let batches = async_stream::stream! {
            for line in 1..=COUNT {
                yield batch("k", line, [Reading { time: at(1), value: 1.0, line }]);
                // Whoever waits between two messages sends each in a frame of its own.
                tokio::task::yield_now().await;
            }
        };
        let response = client_streaming(server.address).record_readings(batches).await.unwrap().into_inner();
        assert_eq!((response.count, response.refused_count), (COUNT, 0));
    });
}

#[test]
fn a_batch_that_is_too_large_is_refused_and_the_connection_goes_on() {
    run(async {
        let mut client = client_streaming(Server::start().await.address);
        let large = batch("kiln", 1, vec![Reading { line: u64::MAX, ..reading(1.0) }; 200_000]);
        let refused = client.record_readings(tokio_stream::once(large)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        let response =
            client.record_readings(tokio_stream::once(values("kiln", 1, &[1.0]))).await.unwrap().into_inner();
        assert_eq!(response.count, 1);
    });
}

#[test]
fn an_empty_stream_is_answered_with_nothing() {
    run(async {
        assert_eq!(record([]).await, RecordReadingsResponse::default());
    });
}

#[test]
fn a_batch_that_is_delivered_again_changes_nothing_and_is_answered_the_same() {
    run(async {
        let server = Server::start().await;
        let batches = [
            values("kiln", 1, &[1.0, f64::NAN]),
            values("kiln", 2, &[3.0]),
            values("kiln", 2, &[3.0]),
            values("cellar", 1, &[7.0]),
        ];
        let first = deliver(server.address, batches.clone()).await.unwrap();
        assert_eq!((first.count, first.repeated_count, first.refused_count), (3, 1, 1));
        let second = deliver(server.address, batches).await.unwrap();
        assert_eq!((second.count, second.repeated_count, second.refused_count), (0, 4, 1));
        assert_eq!((&second.devices, &second.refused), (&first.devices, &first.refused));
        // It goes on where it was, and another producer has numbers of its own.
        let third = deliver(server.address, [values("kiln", 3, &[5.0])]).await.unwrap();
        assert_eq!((third.devices[0].count, third.devices[0].mean), (3, 3.0));
        let other = deliver(server.address, [from("q", values("kiln", 1, &[7.0]))]).await.unwrap();
        assert_eq!((other.devices[0].count, other.devices[0].accepted_through), (4, 1));
    });
}

#[test]
fn a_call_that_does_not_keep_to_the_numbers_is_refused() {
    run(async {
        let server = Server::start().await;
        let gap = deliver(server.address, [values("kiln", 1, &[1.0]), values("kiln", 3, &[1.0])]).await;
        let gap = gap.unwrap_err();
        assert_eq!((gap.code(), reason(&gap).as_str()), (Code::FailedPrecondition, "SEQUENCE_GAP"));
        assert_eq!(gap.get_details_error_info().unwrap().metadata["expected"], "2");
        for (batches, field) in [
            (vec![values("kiln", 0, &[1.0])], "sequence"),
            (vec![from("", values("kiln", 1, &[1.0]))], "producer_id"),
            (vec![values("a", 1, &[1.0]), from("q", values("a", 1, &[1.0]))], "producer_id"),
        ] {
            let refused = deliver(server.address, batches).await.unwrap_err();
            assert_eq!(bad_fields(&refused), [field]);
        }
    });
}

#[test]
fn of_two_calls_of_one_producer_the_one_that_was_overtaken_is_told_to_come_again() {
    run(async {
        let server = Server::start().await;
        let (batches, receiver) = mpsc::channel(1);
        let slow = tokio::spawn({
            let mut client = client_streaming(server.address);
            async move { client.record_readings(ReceiverStream::new(receiver)).await }
        });
        // Answered by the second call once the first one has this batch.
        batches.send(values("kiln", 1, &[1.0])).await.unwrap();
        until(async || {
            let sent = test_support::status_of(grpc_wire::Mode::ClientStreaming, server.address).await;
            sent.messages_received > 0
        })
        .await;
        let quick = deliver(server.address, [values("kiln", 1, &[1.0]), values("kiln", 2, &[2.0])]).await;
        drop(batches);
        match (quick, within(slow).await.unwrap()) {
            (Ok(quick), Err(slow)) => {
                assert_eq!((slow.code(), reason(&slow).as_str()), (Code::Aborted, "PRODUCER_FENCED"));
                assert!(slow.get_details_retry_info().is_some());
                assert_eq!(quick.devices[0].count, 2);
            }
            // The first call was through a checkpoint before the second began.
            (Ok(quick), Ok(_)) => assert_eq!((quick.count, quick.repeated_count), (1, 1)),
            (quick, slow) => panic!("{quick:?} {slow:?}"),
        }
        let again = deliver(server.address, [values("kiln", 1, &[1.0]), values("kiln", 2, &[2.0])]).await;
        assert_eq!(again.unwrap().devices[0].count, 2);
    });
}

#[test]
fn producers_that_share_a_device_add_up() {
    run(async {
        const BATCHES: u64 = 50;
        let server = Server::start().await;
        let address = server.address;
        let producers: Vec<_> = (0..4)
            .map(|producer: u32| {
                tokio::spawn(async move {
                    for sequence in 1..=BATCHES {
                        let value = f64::from(producer) + sequence as f64 * 10.0;
                        let batch = from(&producer.to_string(), values("kiln", sequence, &[value]));
                        assert_eq!(deliver(address, [batch]).await.unwrap().count, 1);
                    }
                })
            })
            .collect();
        for producer in producers {
            producer.await.unwrap();
        }
        let total = deliver(address, [values("kiln", 1, &[])]).await.unwrap();
        let kiln = &total.devices[0];
        assert_eq!((kiln.count, kiln.min, kiln.max), (4 * BATCHES, 10.0, 503.0));
        assert!((kiln.mean - 256.5).abs() < 1e-9, "{kiln:?}");
    });
}

#[test]
fn totals_are_there_after_a_restart() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let data = Data::Directory(directory.path().to_owned());
        let mut before = None;
        for (sequence, count) in [(1, 2), (2, 4), (3, 6)] {
            let server = Server::with(Config { data: data.clone(), ..Config::default() }).await;
            let known = deliver(server.address, (1..sequence).map(pair).collect::<Vec<_>>()).await.unwrap();
            assert_eq!((known.count, known.devices.first().cloned()), (0, before));
            let added = deliver(server.address, [pair(sequence)]).await.unwrap();
            assert_eq!((added.count, added.devices[0].count), (2, count));
            before = added.devices.first().cloned();
            server.begin_shutdown();
            server.ended().await;
            is_free(directory.path()).await;
        }
    });
}

/// Waits until a server that has ended has let go of its state.
async fn is_free(directory: &Path) {
    let lock = File::open(directory.join("lock")).unwrap();
    until(async || lock.try_lock().is_ok()).await;
}

fn pair(sequence: u64) -> RecordReadingsRequest {
    values("kiln", sequence, &[sequence as f64, -1.5])
}

/// The batches of several devices, their turns taken.
fn many() -> Vec<RecordReadingsRequest> {
    let batches = (1..=100).flat_map(|sequence| {
        ["kiln", "cellar", "attic"].map(|device| {
            let readings = (0..200).map(|n| ((sequence * 200 + n) * 7919 % 10_007) as f64 / 7.0 - 300.0);
            values(device, sequence, &readings.collect::<Vec<_>>())
        })
    });
    batches.collect()
}

fn process(directory: &Path) -> ServerProgram {
    binary(&["client-streaming", "--data-dir", directory.to_str().unwrap()]).serve()
}

#[test]
fn nothing_counts_twice_when_the_server_is_killed_again_and_again() {
    run(async {
        let undisturbed = record(many()).await;
        let directory = tempfile::tempdir().unwrap();
        for kill_after in [1, 40, 150, 290, 299] {
            let server = process(directory.path());
            let (batches, receiver) = mpsc::channel(1);
            let mut client = client_streaming(server.address);
            let call =
                tokio::spawn(async move { client.record_readings(ReceiverStream::new(receiver)).await });
            let all = many();
            // Some calls that are answered, then one that is not.
            deliver(server.address, &all[..kill_after / 2]).await.unwrap();
            for batch in &all[..kill_after] {
                batches.send(batch.clone()).await.unwrap();
            }
            drop(server);
            within(call).await.unwrap().unwrap_err();
        }
        let server = process(directory.path());
        let response = deliver(server.address, many()).await.unwrap();
        assert!(response.repeated_count >= 149 * 200, "{}", response.repeated_count);
        assert_eq!(response.count + response.repeated_count, undisturbed.count);
        for (device, expected) in response.devices.iter().zip(&undisturbed.devices) {
            assert_eq!((&device.device, device.count), (&expected.device, expected.count));
            assert_eq!((device.min, device.max), (expected.min, expected.max));
            assert!((device.mean - expected.mean).abs() < 1e-9, "{device:?} {expected:?}");
            let deviations = (device.standard_deviation, expected.standard_deviation);
            assert!((deviations.0 - deviations.1).abs() < 1e-9, "{device:?} {expected:?}");
        }
        assert_eq!(response.devices.len(), 3);
    });
}

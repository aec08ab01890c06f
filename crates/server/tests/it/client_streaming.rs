use prost_types::Timestamp;
use shared_proto::fourmodes::v1::{DeviceStatistics, Reading, RecordReadingsRequest, RecordReadingsResponse};
use tonic::Code;

use crate::support::{Server, client_streaming, run};

fn reading(device: &str, value: f64) -> Reading {
    Reading { device: device.to_owned(), time: at(7), value, line: 0 }
}

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

async fn record(batches: Vec<Vec<Reading>>) -> RecordReadingsResponse {
    let server = Server::start().await;
    let batches = batches.into_iter().map(|readings| RecordReadingsRequest { readings });
    let response = client_streaming(server.address).record_readings(tokio_stream::iter(batches)).await;
    response.unwrap().into_inner()
}

#[test]
fn statistics_are_of_each_device_over_all_batches() {
    run(async {
        let kiln = |seconds, value| Reading { time: at(seconds), ..reading("kiln", value) };
        let first = [(20, 2.0), (30, 4.0), (40, 9.0)].map(|(seconds, value)| kiln(seconds, value));
        let second = [4.0, 5.0, 5.0, 7.0, 4.0].map(|value| kiln(-10, value));
        let third = [reading("cellar", -1.5)];
        let response = record(vec![first.into(), third.into(), vec![], second.into()]).await;
        assert_eq!((response.count, response.refused_count), (9, 0));
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
        };
        assert_eq!(cellar, expected);
        assert_eq!((kiln.device.as_str(), kiln.count), ("kiln", 8));
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
            (reading("kiln", f64::NAN), "finite"),
            (reading("kiln", f64::NEG_INFINITY), "finite"),
            (reading("", 1.0), "blank"),
            (reading("ki\nln", 1.0), "control"),
            (reading(&"k".repeat(65), 1.0), "65 characters"),
            (Reading { time: None, ..reading("kiln", 1.0) }, "time"),
        ];
        let mut readings = vec![reading("kiln", 1.0)];
        let mut reasons = Vec::new();
        for ((reading, reason), line) in bad.into_iter().zip(2..) {
            readings.push(Reading { line, ..reading });
            reasons.push((line, reason));
        }
        readings.push(reading("kiln", 3.0));
        let response = record(vec![readings]).await;
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
        let readings = (1..=150).map(|line| Reading { line, ..reading("", 1.0) }).collect();
        let response = record(vec![readings]).await;
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
        let readings = times.map(|(time, line)| Reading { time: Some(time), line, ..reading("kiln", 1.0) });
        let response = record(vec![readings.collect()]).await;
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
                let reading = Reading { device: "k".to_owned(), time: at(1), value: 1.0, line };
                yield RecordReadingsRequest { readings: vec![reading] };
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
        let large = RecordReadingsRequest { readings: vec![reading(&"k".repeat(64), 1.0); 60_000] };
        let refused = client.record_readings(tokio_stream::once(large)).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
        let one = RecordReadingsRequest { readings: vec![reading("kiln", 1.0)] };
        let response = client.record_readings(tokio_stream::once(one)).await.unwrap().into_inner();
        assert_eq!(response.count, 1);
    });
}

#[test]
fn an_empty_stream_is_answered_with_nothing() {
    run(async {
        assert_eq!(record(vec![]).await, RecordReadingsResponse::default());
    });
}

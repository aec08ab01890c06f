//! One request, one response.

pub(crate) mod tasks;
mod tasks_killed;

use std::time::{Duration, SystemTime};

use grpc_wire::Mode;
use shared_proto::fourmodes::v1::{GetStatusRequest, Mode as WireMode, MultiplyRequest};
use test_support::{Server, run, unary, until};
use tonic::Code;
use tonic_types::StatusExt as _;

#[test]
fn products_are_exact() {
    run(async {
        let mut client = unary(Server::start().await.address);
        for (a, b, product) in [(6, 7, 42), (-3, 5, -15), (0, i64::MIN, 0), (i64::MAX, -1, -i64::MAX)] {
            let response = client.multiply(MultiplyRequest { a, b }).await.unwrap();
            assert_eq!(response.into_inner().product, product, "{a} × {b}");
        }
    });
}

#[test]
fn a_product_that_does_not_fit_is_refused_with_its_factors() {
    run(async {
        let mut client = unary(Server::start().await.address);
        let refused = client.multiply(MultiplyRequest { a: i64::MAX, b: -2 }).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        assert!(refused.message().contains("9223372036854775807 × -2"), "{refused}");
        let info = refused.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INT64_OVERFLOW", "fourmodes"));
        assert_eq!(info.metadata["a"], i64::MAX.to_string());
        assert_eq!(info.metadata["b"], "-2");
        assert_eq!(info.metadata.len(), 2);
    });
}

#[test]
fn status_lists_all_modes_and_which_are_served() {
    run(async {
        let before = SystemTime::now();
        let server = Server::serving([Mode::Unary, Mode::BidiStreaming]).await;
        let status = unary(server.address).get_status(GetStatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
        let start = SystemTime::try_from(status.start_time.unwrap()).unwrap();
        assert!((before..=SystemTime::now()).contains(&start));
        let modes: Vec<_> = status.modes.iter().map(|mode| (mode.mode(), mode.served)).collect();
        let expected = [
            (WireMode::Unary, true),
            (WireMode::ServerStreaming, false),
            (WireMode::ClientStreaming, false),
            (WireMode::BidiStreaming, true),
        ];
        assert_eq!(modes, expected);
    });
}

/// The server of this test is in its process.
#[cfg(unix)]
#[test]
fn status_tells_the_cpu_time_of_the_process() {
    run(async {
        let mut client = unary(Server::start().await.address);
        let before = shared_process::cpu_time().unwrap();
        let mut told = Vec::new();
        for _ in 0..2 {
            let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
            told.push(Duration::try_from(status.cpu_time.unwrap()).unwrap());
        }
        let after = shared_process::cpu_time().unwrap();
        assert!(before < told[0] && told[0] < told[1] && told[1] < after, "{before:?} {told:?} {after:?}");
    });
}

#[test]
fn status_counts_calls_and_messages() {
    run(async {
        let mut client = unary(Server::start().await.address);
        for b in [1, 2, i64::MAX] {
            let _ = client.multiply(MultiplyRequest { a: 2, b }).await;
        }
        let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.modes[0].calls_started, 4);
        assert!(status.modes[1..].iter().all(|mode| mode.calls_started == 0));
        // The overflow has no answer, and the call that asks has none yet.
        assert_eq!((status.modes[0].messages_received, status.modes[0].messages_sent), (4, 2));
        until(async || {
            let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
            status.modes[0].calls_open == 1
        })
        .await;
    });
}

//! Faults that a call asks for.

use shared_proto::fourmodes::v1::{MultiplyRequest, MultiplyResponse};
use stack::Settings;
use test_support::{Server, reason, run, unary};
use tonic::{Code, Request, Response, Status};

const ABORT: &str = "x-envoy-fault-abort-grpc-request";
const ABORT_PERCENTAGE: &str = "x-envoy-fault-abort-request-percentage";
const DELAY: &str = "x-envoy-fault-delay-request";

async fn multiply(server: &Server, headers: &[(&'static str, &str)]) -> Result<MultiplyResponse, Status> {
    let mut request = Request::new(MultiplyRequest { a: 6, b: 7 });
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    unary(server.address).multiply(request).await.map(Response::into_inner)
}

#[test]
fn a_call_gets_the_faults_it_asks_for() {
    run(async {
        let server = Server::with(Settings { allow_faults: true, ..Settings::default() }.into()).await;
        let aborted = multiply(&server, &[(ABORT, "14")]).await.unwrap_err();
        assert_eq!((aborted.code(), reason(&aborted).as_str()), (Code::Unavailable, "FAULT_INJECTED"));
        // A delay is longer than the deadline of the call: the deadline ends it.
        let late = multiply(&server, &[(DELAY, "600000"), ("grpc-timeout", "100m")]).await.unwrap_err();
        assert!(matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled), "{late}");
        for harmless in [(ABORT, "0"), (ABORT, "17"), (ABORT, "x"), (DELAY, "1"), (DELAY, "-1")] {
            assert_eq!(multiply(&server, &[harmless]).await.unwrap().product, 42, "{harmless:?}");
        }
    });
}

#[test]
fn a_percentage_is_one_of_the_calls() {
    run(async {
        let server = Server::with(Settings { allow_faults: true, ..Settings::default() }.into()).await;
        let mut failed = [0; 3];
        for (failed, percent) in failed.iter_mut().zip(["0", "50", "100"]) {
            for _ in 0..100 {
                *failed += u32::from(
                    multiply(&server, &[(ABORT, "14"), (ABORT_PERCENTAGE, percent)]).await.is_err(),
                );
            }
        }
        // A half: that it is not from 15 to 85 happens once in 10^12.
        assert!(failed[0] == 0 && failed[2] == 100 && (15..=85).contains(&failed[1]), "{failed:?}");
    });
}

#[test]
fn a_server_that_was_not_told_to_makes_no_faults() {
    run(async {
        let server = Server::start().await;
        assert_eq!(multiply(&server, &[(ABORT, "14")]).await.unwrap().product, 42);
    });
}

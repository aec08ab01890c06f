//! A disk that fails under the server.

use std::{path::Path, process::Command};

use shared_proto::fourmodes::v1::{CountPrimes, submit_task_request::Work};
use test_support::{ServerProgram, assert_answers, channel, run, until};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use uuid::Uuid;

use crate::{binary, unary::tasks::submit};

/// A server on a disk that fails while there is a file `failing` in the directory.
/// What it has synced stands in `synced`.
fn on_failing_disk(directory: &Path, data: &Path) -> ServerProgram {
    let library = directory.join("disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/disk.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.unwrap().success());
    let server = binary(&["all", "--data-dir", data.to_str().unwrap()]).env("LD_PRELOAD", library);
    server.env("FAILING_SYNCS", directory.join("failing")).env("SYNCED", directory.join("synced")).serve()
}

#[test]
fn what_a_server_makes_is_synced_with_the_directories_above_it() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let above = directory.path().canonicalize().unwrap();
        let data = above.join("new").join("data");
        drop(on_failing_disk(&above, &data));
        let synced = std::fs::read_to_string(above.join("synced")).unwrap();
        for made_in in [&above, &above.join("new"), &data, &data.join("blobs")] {
            assert!(synced.lines().any(|line| Path::new(line) == made_in), "{}: {synced}", made_in.display());
        }
    });
}

#[test]
fn while_no_commit_can_be_synced_none_is_acknowledged_and_health_says_so() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let failing = directory.path().join("failing");
        let server = on_failing_disk(directory.path(), &directory.path().join("data"));
        let mut health = HealthClient::new(channel(server.address));
        let mut health_is = async |expected| {
            until(async || {
                let checked = health.check(HealthCheckRequest::default()).await.unwrap();
                checked.into_inner().status() == expected
            })
            .await;
        };
        let work = || Some(Work::CountPrimes(CountPrimes { below: 1_000 }));
        let [before, during] = [(), ()].map(|()| Uuid::new_v4().to_string());
        let known = submit(server.address, &before, work()).await.unwrap().id;
        health_is(ServingStatus::Serving).await;
        std::fs::write(&failing, "").unwrap();
        let refused = submit(server.address, &during, work()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        health_is(ServingStatus::NotServing).await;
        std::fs::remove_file(&failing).unwrap();
        health_is(ServingStatus::Serving).await;
        assert_eq!(submit(server.address, &before, work()).await.unwrap().id, known);
        submit(server.address, &during, work()).await.unwrap();
    });
}

#[test]
fn a_log_that_cannot_be_written_ends_no_call() {
    run(async {
        let server = binary(&["all"]).isolated(r#"exec "$@" 2>/dev/full"#).serve();
        for _ in 0..3 {
            assert_answers(server.address).await;
        }
    });
}

//! A disk that fails under the server.

use std::{path::Path, process::Command};

use shared_proto::fourmodes::v1::{CountPrimes, submit_task_request::Work};
use test_support::{channel, run, until};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use uuid::Uuid;

use crate::{binary, unary::tasks::submit};

#[test]
fn while_no_commit_can_be_synced_none_is_acknowledged_and_health_says_so() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let (library, failing) = (directory.path().join("disk.so"), directory.path().join("failing"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/disk.c");
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        assert!(compiled.unwrap().success());
        let data = directory.path().join("new").join("data");
        let server = binary(&["all", "--data-dir", data.to_str().unwrap()]);
        let server = server.env("LD_PRELOAD", library).env("FAILING_SYNCS", &failing).serve();

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

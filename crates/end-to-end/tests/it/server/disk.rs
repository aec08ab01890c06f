//! A disk that fails under the server.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use shared_proto::fourmodes::v1::{CountPrimes, submit_task_request::Work};
use tempfile::TempDir;
use test_support::{Program, assert_answers, channel, run, until};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use uuid::Uuid;

use crate::server::{binary, unary::tasks::submit};

/// A directory for a server, and a library that lets its disk fail.
struct Disk {
    directory: TempDir,
    library: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("disk.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/server/disk.c");
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        assert!(compiled.unwrap().success());
        Self { directory, library }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    /// A server whose call of this number fails; and while there is a file
    /// `failing`, all of them.
    fn server(&self, data: &str, failing_call: i32) -> Program {
        let server = binary(&["all", "--data-dir"]).arg(self.path(data));
        let server = server.env("LD_PRELOAD", &self.library).env("FAILING", self.path("failing"));
        server.env("FAILING_CALL", failing_call.to_string()).env("SYNCED", self.path("synced"))
    }

    fn synced(&self) -> String {
        std::fs::read_to_string(self.path("synced")).unwrap()
    }
}

const NONE: i32 = -1;

fn work() -> Option<Work> {
    Some(Work::CountPrimes(CountPrimes { below: 1_000 }))
}

#[test]
fn what_a_server_makes_is_synced_with_the_directories_above_it() {
    run(async {
        let disk = Disk::new();
        drop(disk.server("new/data", NONE).serve());
        let synced = disk.synced();
        for made_in in ["", "new", "new/data", "new/data/blobs"].map(|name| disk.path(name)) {
            assert!(synced.lines().any(|line| Path::new(line) == made_in), "{}: {synced}", made_in.display());
        }
    });
}

/// From the first start on: the second one goes on with what is there.
#[test]
fn whichever_call_fails_a_server_starts_again_and_has_what_it_acknowledged() {
    run(async {
        let disk = Disk::new();
        for call in 0.. {
            let data = format!("new/{call}");
            let started = disk.server(&data, call).try_serve();
            let server = started.unwrap_or_else(|_| disk.server(&data, NONE).serve());
            let id = Uuid::new_v4().to_string();
            let task = loop {
                match submit(server.address, &id, work()).await {
                    Ok(task) => break task.id,
                    Err(refused) => assert_eq!(refused.code(), Code::Unavailable, "{call}: {refused}"),
                }
            };
            drop(server);
            let server = disk.server(&data, NONE).serve();
            assert_eq!(submit(server.address, &id, work()).await.unwrap().id, task, "{call}");
            if !disk.synced().lines().any(|line| line == "failed") {
                assert!(call > 20, "only {call} calls");
                return;
            }
            std::fs::remove_file(disk.path("synced")).unwrap();
        }
    });
}

#[test]
fn while_no_commit_can_be_synced_none_is_acknowledged_and_health_says_so() {
    run(async {
        let disk = Disk::new();
        let failing = disk.path("failing");
        let server = disk.server("data", NONE).serve();
        let mut health = HealthClient::new(channel(server.address));
        let mut health_is = async |expected| {
            until(async || {
                let checked = health.check(HealthCheckRequest::default()).await.unwrap();
                checked.into_inner().status() == expected
            })
            .await;
        };
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

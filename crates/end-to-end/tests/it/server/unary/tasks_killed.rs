//! Tasks and what becomes of them when the process is killed, or stopped.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use shared_proto::fourmodes::v1::{CountPrimes, Task, TaskState, submit_task_request::Work, task};
use test_support::{ServerProgram, run, until, within};
use tokio::task::JoinSet;
use tonic::Code;
use uuid::Uuid;

use crate::server::binary;

use super::tasks::{ended, submit};

fn start(directory: &Path) -> ServerProgram {
    binary(&["all", "--data-dir", directory.to_str().unwrap()]).serve()
}

/// The tasks of client `client` are of work of its own, so that each result
/// tells whose it is.
fn work(client: u64) -> (u64, Option<Work>) {
    let below = 1_000 + client;
    (below, Some(Work::CountPrimes(CountPrimes { below })))
}

/// Submits one task after the other until the server is gone. What was tried,
/// and what was acknowledged as which task.
async fn submissions(
    address: SocketAddr,
    client: u64,
    acknowledged: Arc<AtomicUsize>,
) -> Vec<(String, Option<String>)> {
    let mut made = Vec::new();
    loop {
        let request_id = Uuid::new_v4().to_string();
        let submitted = submit(address, &request_id, work(client).1).await;
        made.push((request_id, submitted.ok().map(|task| task.id)));
        if let Some((_, None)) = made.last() {
            return made;
        }
        acknowledged.fetch_add(1, SeqCst);
    }
}

#[test]
fn what_was_acknowledged_before_a_kill_is_there_once_and_comes_to_its_end() {
    run(async {
        const CLIENTS: u64 = 8;
        let directory = tempfile::tempdir().unwrap();
        let mut known: HashMap<String, (u64, Option<String>)> = HashMap::new();
        let mut unacknowledged = 0;
        for round in 0..5 {
            let server = start(directory.path());
            let mut clients = JoinSet::new();
            let acknowledged = Arc::<AtomicUsize>::default();
            for client in 0..CLIENTS {
                let made = submissions(server.address, client, acknowledged.clone());
                clients.spawn(async move { (client, made.await) });
            }
            // While all of them are submitting.
            until(async || acknowledged.load(SeqCst) >= 10 + 17 * round).await;
            drop(server);
            while let Some(made) = clients.join_next().await {
                let (client, made) = made.unwrap();
                unacknowledged += made.iter().filter(|(_, task)| task.is_none()).count();
                known.extend(made.into_iter().map(|(request, task)| (request, (client, task))));
            }
        }
        assert_eq!(unacknowledged as u64, 5 * CLIENTS, "each client was interrupted in a submission");

        let server = start(directory.path());
        let mut tasks = HashMap::new();
        for (request, (client, task)) in known {
            let (below, work) = work(client);
            let again = within(submit(server.address, &request, work)).await.unwrap();
            if let Some(task) = task {
                assert_eq!(again.id, task, "a second task of request {request}");
            }
            let twice = tasks.insert(again.id, below);
            assert_eq!(twice, None, "one task of two requests");
        }
        for (id, below) in tasks {
            let Task { result, .. } = ended(server.address, &id).await;
            let expected =
                (2..below).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d)));
            assert_eq!(result, Some(task::Result::Primes(expected.count() as u64)), "below {below}");
        }
    });
}

#[test]
fn a_task_that_ran_when_the_server_was_killed_or_stopped_is_run_by_the_next_one() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let server = start(directory.path());
        let request = Uuid::new_v4().to_string();
        let long = || Some(Work::CountPrimes(CountPrimes { below: 30_000_000 }));
        let id = submit(server.address, &request, long()).await.unwrap().id;
        drop(server);

        let server = start(directory.path());
        assert_eq!(submit(server.address, &request, long()).await.unwrap().id, id);
        #[cfg(unix)]
        {
            server.signal(test_support::Signal::TERM);
            assert_eq!(server.ended().0, Some(0));
        }
        #[cfg(not(unix))]
        drop(server);

        let server = start(directory.path());
        let task = ended(server.address, &id).await;
        assert_eq!(
            (task.state(), task.result),
            (TaskState::Succeeded, Some(task::Result::Primes(1_857_859)))
        );
        drop(server);

        // An end state is for good.
        let server = start(directory.path());
        let task = submit(server.address, &request, long()).await.unwrap();
        assert_eq!((task.id.as_str(), task.state()), (id.as_str(), TaskState::Succeeded));
        let refused = submit(server.address, &request, work(0).1).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    });
}

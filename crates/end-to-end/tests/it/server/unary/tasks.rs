use std::{net::SocketAddr, time::Duration};

use grpc_wire::Mode;
use server::config::Config;
use shared_proto::fourmodes::v1::{
    CancelTaskRequest, ComputeChecksum, CountPrimes, GetTaskRequest, SubmitTaskRequest, Task, TaskState,
    WatchTaskRequest, WatchTaskResponse, submit_task_request::Work, task, watch_task_response::Event,
};
use test_support::{
    Server, bad_fields, failure_of, missing_resource, open_calls, reason, run, server_streaming, unary,
    until, within,
};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// More than any test waits for.
const ENDLESS: u64 = 100_000_000_000;

fn new_id() -> String {
    Uuid::new_v4().to_string()
}

fn primes(below: u64) -> Option<Work> {
    Some(Work::CountPrimes(CountPrimes { below }))
}

pub(crate) async fn submit(
    address: SocketAddr,
    request_id: &str,
    work: Option<Work>,
) -> Result<Task, Status> {
    let request = SubmitTaskRequest { request_id: request_id.to_owned(), work };
    Ok(within(unary(address).submit_task(request)).await?.into_inner().task.unwrap())
}

async fn get(address: SocketAddr, id: &str) -> Result<Task, Status> {
    let response = within(unary(address).get_task(GetTaskRequest { id: id.to_owned() })).await?;
    Ok(response.into_inner().task.unwrap())
}

async fn cancel(address: SocketAddr, id: &str) -> Result<Task, Status> {
    let response = within(unary(address).cancel_task(CancelTaskRequest { id: id.to_owned() })).await?;
    Ok(response.into_inner().task.unwrap())
}

async fn watch(address: SocketAddr, id: &str) -> Result<Streaming<WatchTaskResponse>, Status> {
    let mut client = server_streaming(address);
    Ok(within(client.watch_task(WatchTaskRequest { id: id.to_owned() })).await?.into_inner())
}

/// The end of a task, by way of a stream that has to end with it.
pub(crate) async fn ended(address: SocketAddr, id: &str) -> Task {
    let mut pushes = watch(address, id).await.unwrap();
    let mut latest: Option<Task> = None;
    while let Some(push) = within(pushes.message()).await.unwrap() {
        assert!(!latest.as_ref().is_some_and(|task| is_end(task.state())), "{latest:?} is no end");
        if let Some(Event::Task(task)) = push.event {
            latest = Some(task);
        }
    }
    latest.filter(|task| is_end(task.state())).expect("the stream ended before the task")
}

fn is_end(state: TaskState) -> bool {
    matches!(state, TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled)
}

#[test]
fn a_task_is_pushed_until_its_result() {
    run(async {
        let address = Server::start().await.address;
        let submitted = submit(address, &new_id(), primes(1_000_000)).await.unwrap();
        assert_eq!(submitted.work, Some(task::Work::CountPrimes(CountPrimes { below: 1_000_000 })));
        assert_eq!(submitted.result, None);
        let task = ended(address, &submitted.id).await;
        assert_eq!(
            (task.state(), task.result.clone()),
            (TaskState::Succeeded, Some(task::Result::Primes(78_498)))
        );
        assert_eq!((task.done, task.total), (1_000_000, 1_000_000));
        assert_eq!(task.create_time, submitted.create_time);
        assert!(task.update_time.is_some());
        assert_eq!(get(address, &task.id).await.unwrap(), task);
        // Who comes later gets the end alone.
        let mut pushes = watch(address, &task.id).await.unwrap();
        let only = pushes.message().await.unwrap().unwrap();
        assert_eq!(only.event, Some(Event::Task(task)));
        assert!(pushes.message().await.unwrap().is_none());
    });
}

#[test]
fn a_task_that_fails_says_why_with_a_code() {
    run(async {
        let address = Server::start().await.address;
        let work = Work::ComputeChecksum(ComputeChecksum { resource: "no/such/file".to_owned() });
        let id = submit(address, &new_id(), Some(work)).await.unwrap().id;
        let task = ended(address, &id).await;
        let Some(task::Result::Error(error)) = &task.result else { panic!("{task:?}") };
        assert_eq!((task.state(), error.code), (TaskState::Failed, Code::NotFound as i32));
        assert!(error.message.contains("no/such/file"), "{error:?}");
    });
}

#[test]
fn the_same_request_id_gives_the_same_task_and_no_other_work() {
    run(async {
        let address = Server::start().await.address;
        let request_id = new_id();
        let first = submit(address, &request_id, primes(1_000)).await.unwrap();
        let task = ended(address, &first.id).await;
        assert_eq!(submit(address, &request_id, primes(1_000)).await.unwrap(), task);
        assert_eq!(submit(address, &request_id.to_uppercase(), primes(1_000)).await.unwrap(), task);
        let refused = submit(address, &request_id, primes(1_001)).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["request_id"]);
        assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
        assert!(refused.message().contains(&task.id), "{refused}");
    });
}

#[test]
fn requests_without_a_proper_id_or_work_are_refused() {
    run(async {
        let address = Server::start().await.address;
        let long = "0".repeat(60_000);
        let simple = Uuid::new_v4().simple().to_string();
        for id in ["", "1", "00000000-0000-0000-0000-000000000000", &simple, &long] {
            let refused = submit(address, id, primes(10)).await.unwrap_err();
            assert_eq!(bad_fields(&refused), ["request_id"]);
            assert!(refused.message().len() < 300, "{refused}");
            for refused in [get(address, id).await, cancel(address, id).await] {
                assert_eq!(bad_fields(&refused.unwrap_err()), ["id"]);
            }
            assert_eq!(bad_fields(&watch(address, id).await.unwrap_err()), ["id"]);
        }
        let refused = submit(address, &new_id(), None).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["work"]);
        let refused = submit(address, &new_id(), primes(ENDLESS + 1)).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["count_primes.below"]);
        for resource in ["", &"x".repeat(1_025)] {
            let work = Work::ComputeChecksum(ComputeChecksum { resource: resource.to_owned() });
            let refused = submit(address, &new_id(), Some(work)).await.unwrap_err();
            assert_eq!(bad_fields(&refused), ["compute_checksum.resource"]);
        }
    });
}

#[test]
fn a_task_that_nobody_knows_is_not_found() {
    run(async {
        let address = Server::start().await.address;
        let id = new_id();
        let of = |status: Status| missing_resource(&status);
        let task = ("fourmodes.v1.Task".to_owned(), id.clone());
        assert_eq!(of(get(address, &id).await.unwrap_err()), task);
        assert_eq!(of(cancel(address, &id).await.unwrap_err()), task);
        assert_eq!(of(watch(address, &id).await.unwrap_err()), task);
    });
}

#[test]
fn cancelling_ends_a_task_once_and_who_watches_learns_it() {
    run(async {
        let address = Server::start().await.address;
        let id = submit(address, &new_id(), primes(ENDLESS)).await.unwrap().id;
        let mut pushes = watch(address, &id).await.unwrap();
        assert!(within(pushes.message()).await.unwrap().is_some());
        let cancelled = cancel(address, &id).await.unwrap();
        assert_eq!(cancelled.state(), TaskState::Cancelled);
        assert_eq!(cancel(address, &id).await.unwrap(), cancelled);
        assert_eq!(ended(address, &id).await, cancelled);
        let mut last = None;
        while let Some(push) = within(pushes.message()).await.unwrap() {
            last = push.event;
        }
        assert_eq!(last, Some(Event::Task(cancelled)));

        let id = submit(address, &new_id(), primes(10)).await.unwrap().id;
        ended(address, &id).await;
        let refused = cancel(address, &id).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused)), (Code::FailedPrecondition, "TASK_ENDED".to_owned()));
    });
}

#[test]
fn more_tasks_than_the_limit_are_refused_with_it() {
    run(async {
        let address = Server::start().await.address;
        let mut client = unary(address);
        let mut request = async || {
            client.submit_task(SubmitTaskRequest { request_id: new_id(), work: primes(ENDLESS) }).await
        };
        let mut made = 0;
        let refused = loop {
            match request().await {
                Ok(_) => made += 1,
                Err(refused) => break refused,
            }
        };
        assert_eq!((made, refused.code()), (1_024, Code::ResourceExhausted));
        let quota = refused.get_details_quota_failure().unwrap().violations;
        assert_eq!(quota[0].subject, "tasks");
        assert!(quota[0].description.contains("1024"), "{quota:?}");
    });
}

#[test]
fn a_task_without_news_sends_heartbeats() {
    run(async {
        let heartbeat = Duration::from_millis(20);
        let address = Server::with(Config { heartbeat, ..Config::default() }).await.address;
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            submit(address, &new_id(), primes(ENDLESS)).await.unwrap();
        }
        let waiting = submit(address, &new_id(), primes(10)).await.unwrap().id;
        let mut pushes = watch(address, &waiting).await.unwrap();
        let first = within(pushes.message()).await.unwrap().unwrap();
        assert!(matches!(first.event, Some(Event::Task(task)) if task.state() == TaskState::Pending));
        for _ in 0..5 {
            let next = within(pushes.message()).await.unwrap().unwrap();
            assert!(matches!(next.event, Some(Event::Heartbeat(beat)) if beat.time.is_some()));
        }
    });
}

#[test]
fn a_watcher_that_goes_away_is_let_go_of_and_the_task_goes_on() {
    run(async {
        let address = Server::start().await.address;
        let id = submit(address, &new_id(), primes(ENDLESS)).await.unwrap().id;
        let mut pushes = watch(address, &id).await.unwrap();
        assert!(within(pushes.message()).await.unwrap().is_some());
        drop(pushes);
        until(async || open_calls(Mode::ServerStreaming, address).await == 0).await;
        assert!(!is_end(get(address, &id).await.unwrap().state()));
    });
}

#[test]
fn a_shutdown_waits_for_no_task_and_ends_who_watches() {
    run(async {
        let server = Server::with_grace(test_support::LONG_GRACE).await;
        let id = submit(server.address, &new_id(), primes(ENDLESS)).await.unwrap().id;
        let mut pushes = watch(server.address, &id).await.unwrap();
        server.begin_shutdown();
        assert_eq!(failure_of(&mut pushes).await.code(), Code::Unavailable);
        server.ended().await;
    });
}

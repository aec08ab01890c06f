use std::{
    collections::HashSet,
    io::{Seek as _, Write as _},
    sync::mpsc,
};

use tokio_util::sync::DropGuard;

use super::*;
use crate::{
    peers::{self, Living},
    store::{
        Memory,
        failing::{Failing, How},
    },
};

fn memory() -> Arc<dyn Store> {
    Arc::new(Memory::default())
}

/// A store that takes its time, so that others come in between.
fn slow() -> Arc<dyn Store> {
    let store = Failing::new(memory());
    store.now(How::Slow);
    store
}

fn no_files() -> OpenResource {
    Arc::new(|_| Err(io::ErrorKind::NotFound.into()))
}

/// A server's tasks, and what stops them when it is dropped.
async fn started(store: &Arc<dyn Store>) -> (Tasks, DropGuard) {
    started_with(store, no_files()).await
}

async fn started_with(store: &Arc<dyn Store>, files: OpenResource) -> (Tasks, DropGuard) {
    let stop = CancellationToken::new();
    (Tasks::open(store.clone(), Peers::alone(), files, stop.clone()).await.unwrap(), stop.drop_guard())
}

fn below(below: u64) -> Work {
    Work::CountPrimes { below }
}

/// More than any test waits for.
fn endless() -> Work {
    below(primes::HIGHEST)
}

async fn ended(tasks: &Tasks, id: Uuid) -> Task {
    reached(tasks, id, State::is_end).await
}

async fn reached(tasks: &Tasks, id: Uuid, is_it: fn(&State) -> bool) -> Task {
    tasks.watch(id).await.unwrap().wait_for(|task| is_it(&task.state)).await.unwrap().clone()
}

fn is_running(state: &State) -> bool {
    *state == State::Running
}

async fn keys(store: &Arc<dyn Store>, prefix: &str) -> usize {
    store.list(prefix, "", usize::MAX).await.unwrap().len()
}

#[tokio::test]
async fn a_task_goes_from_pending_to_its_result() {
    let (tasks, _stop) = started(&memory()).await;
    let task = tasks.submit(Uuid::new_v4(), below(1_000_000)).await.unwrap();
    assert_eq!((&task.state, task.done, task.total), (&State::Pending, 0, 1_000_000));
    let task = ended(&tasks, task.id).await;
    assert_eq!(task.state, State::Succeeded(Outcome::Primes(78_498)));
    assert_eq!((task.done, task.total), (1_000_000, 1_000_000));
    assert!(task.created <= task.updated);
    assert_eq!(tasks.get(task.id).await.unwrap(), task);
}

#[tokio::test]
async fn one_request_id_makes_one_task() {
    let store = slow();
    let (tasks, _stop) = started(&store).await;
    let request = Uuid::new_v4();
    let submissions: Vec<_> = (0..50)
        .map(|_| {
            let tasks = tasks.clone();
            tokio::spawn(async move { tasks.submit(request, below(10)).await.unwrap().id })
        })
        .collect();
    let mut ids = HashSet::new();
    for submission in submissions {
        ids.insert(submission.await.unwrap());
    }
    assert_eq!((ids.len(), keys(&store, "task/").await), (1, 1));
    let id = ids.into_iter().next().unwrap();
    ended(&tasks, id).await;
    let again = tasks.submit(request, below(10)).await.unwrap();
    assert_eq!((again.id, again.state), (id, State::Succeeded(Outcome::Primes(4))));
    let other = tasks.submit(request, below(11)).await;
    assert_eq!(other, Err(TaskError::RequestReused { request, task: id }));
    // No slot is lost to a request that made nothing.
    assert_eq!(tasks.shared.open.available_permits(), MOST_OPEN);
}

#[tokio::test]
async fn what_is_cancelled_stays_cancelled() {
    let store = memory();
    let (tasks, _stop) = started(&store).await;
    let running = tasks.submit(Uuid::new_v4(), endless()).await.unwrap().id;
    reached(&tasks, running, is_running).await;
    let mut watch = tasks.watch(running).await.unwrap();
    let task = tasks.cancel(running).await.unwrap();
    assert_eq!((&task.state, &tasks.get(running).await.unwrap()), (&State::Cancelled, &task));
    assert_eq!(*watch.wait_for(|task| task.state.is_end()).await.unwrap(), task);
    assert_eq!(tasks.cancel(running).await.unwrap(), task, "once more is no error");
    let (tasks, _stop) = started(&store).await;
    assert_eq!(tasks.get(running).await.unwrap(), task);
    // The core is free again as soon as the thread has noticed.
    let cores = tasks.shared.cores.available_permits() as u32;
    drop(tasks.shared.cores.acquire_many(cores).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_result_and_a_cancellation_at_the_same_time_one_counts() {
    let store = slow();
    let (tasks, _stop) = started(&store).await;
    let (mut cancelled, mut succeeded) = (0, 0);
    // Both have to be seen, so it is tried until they are.
    for number in 0.. {
        let id = tasks.submit(Uuid::new_v4(), below(10)).await.unwrap().id;
        if number % 2 == 0 {
            reached(&tasks, id, |state| *state != State::Pending).await;
        }
        let answer = tasks.cancel(id).await;
        let pushed = ended(&tasks, id).await;
        match answer {
            Ok(task) => {
                cancelled += 1;
                assert_eq!((&task.state, &pushed), (&State::Cancelled, &task));
            }
            Err(error) => {
                succeeded += 1;
                assert_eq!(error, TaskError::Ended { id, ending: "succeeded" });
                assert_eq!(pushed.state, State::Succeeded(Outcome::Primes(4)));
            }
        }
        let key = task_key(id);
        // Whatever was still under way has been made, or not, when this has.
        store.commit(vec![put("last".to_owned(), Bytes::new(), Expect::Anything)]).await.unwrap();
        assert_eq!(decode::<Task>(&key, &store.get(&key).await.unwrap().unwrap()).unwrap(), pushed);
        if number >= 200 && cancelled > 0 && succeeded > 0 {
            break;
        }
    }
}

#[tokio::test]
async fn what_waits_can_be_cancelled_and_what_has_ended_cannot() {
    let (tasks, stop) = started(&memory()).await;
    for _ in 0..tasks.shared.cores.available_permits() {
        tasks.submit(Uuid::new_v4(), endless()).await.unwrap();
    }
    let waiting = tasks.submit(Uuid::new_v4(), below(10)).await.unwrap().id;
    assert_eq!(tasks.cancel(waiting).await.unwrap().state, State::Cancelled);
    drop(stop);
    let (tasks, _stop) = started(&memory()).await;
    let unknown = Uuid::new_v4();
    assert_eq!(tasks.cancel(unknown).await, Err(TaskError::Unknown { id: unknown }));
    assert_eq!(tasks.get(unknown).await, Err(TaskError::Unknown { id: unknown }));
    let id = tasks.submit(Uuid::new_v4(), below(10)).await.unwrap().id;
    ended(&tasks, id).await;
    assert_eq!(tasks.cancel(id).await, Err(TaskError::Ended { id, ending: "succeeded" }));
    let missing = Work::ComputeChecksum { resource: "none".into() };
    let id = tasks.submit(Uuid::new_v4(), missing).await.unwrap().id;
    assert_eq!(ended(&tasks, id).await.state, State::Failed(Fault::NoResource { resource: "none".into() }));
    assert_eq!(tasks.cancel(id).await, Err(TaskError::Ended { id, ending: "failed" }));
}

#[tokio::test]
async fn a_stop_leaves_tasks_to_the_next_start() {
    let store = memory();
    let (tasks, stop) = started(&store).await;
    let request = Uuid::new_v4();
    let mut ids = vec![tasks.submit(request, below(300_000_000)).await.unwrap().id];
    reached(&tasks, ids[0], is_running).await;
    drop(stop);
    // Its thread has ended before anything else here runs: that it was stopped
    // and that it came to no result are learned at the same time.
    let cores = thread::available_parallelism().unwrap().get();
    while tasks.shared.cores.available_permits() < cores {
        thread::yield_now();
    }
    // What is submitted while a server stops is kept as well.
    for _ in 0..10 {
        ids.push(tasks.submit(Uuid::new_v4(), below(1_000)).await.unwrap().id);
    }
    while tasks.shared.open.available_permits() < MOST_OPEN {
        tokio::task::yield_now().await;
    }
    let key = task_key(ids[0]);
    let stored: Task = decode(&key, &store.get(&key).await.unwrap().unwrap()).unwrap();
    assert_eq!(stored.state, State::Running);

    // Nobody asks for one of them: the start alone sets them going.
    let (tasks, _stop) = started(&store).await;
    for id in &ids[1..] {
        let begun = Instant::now();
        let state = loop {
            let task = tasks.shared.stored(*id).await.unwrap().unwrap();
            if task.state.is_end() {
                break task.state;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{task:?} is left alone");
            tokio::task::yield_now().await;
        };
        assert_eq!(state, State::Succeeded(Outcome::Primes(168)));
    }
    assert_eq!(tasks.submit(request, below(300_000_000)).await.unwrap().id, ids[0]);
    assert_eq!(tasks.cancel(ids[0]).await.unwrap().state, State::Cancelled);
    assert_eq!(keys(&store, "task/").await, ids.len());
}

#[tokio::test]
async fn checksums_are_of_the_whole_file_and_report_their_progress() {
    let content = vec![7; 3 * READ_BYTES + 11];
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let size = content.len() as u64;
    let files: OpenResource = Arc::new(move |name| match name {
        "file" => {
            let mut file = file.try_clone()?;
            file.rewind()?;
            Ok((Content::File(file), size))
        }
        _ => Err(io::Error::other("the disk is on fire")),
    });
    let (tasks, _stop) = started_with(&memory(), files).await;
    let checksum = |resource: &str| Work::ComputeChecksum { resource: resource.to_owned() };
    let id = tasks.submit(Uuid::new_v4(), checksum("file")).await.unwrap().id;
    let task = ended(&tasks, id).await;
    assert_eq!(task.state, State::Succeeded(Outcome::Checksum(blake3::hash(&content).into())));
    assert_eq!((task.done, task.total), (size, size));
    let id = tasks.submit(Uuid::new_v4(), checksum("other")).await.unwrap().id;
    let fault = Fault::Unreadable { resource: "other".into(), reason: "the disk is on fire".into() };
    assert_eq!(ended(&tasks, id).await.state, State::Failed(fault));
}

#[tokio::test]
async fn work_that_panics_fails_its_task_alone() {
    let (tasks, _stop) = started_with(&memory(), Arc::new(|_| panic!("a defect"))).await;
    let work = Work::ComputeChecksum { resource: "file".to_owned() };
    let id = tasks.submit(Uuid::new_v4(), work).await.unwrap().id;
    assert_eq!(ended(&tasks, id).await.state, State::Failed(Fault::Defect));
    let id = tasks.submit(Uuid::new_v4(), below(10)).await.unwrap().id;
    assert_eq!(ended(&tasks, id).await.state, State::Succeeded(Outcome::Primes(4)));
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused() {
    let (tasks, _stop) = started(&memory()).await;
    let submit = async |work| tasks.submit(Uuid::new_v4(), work).await;
    let over = primes::HIGHEST + 1;
    assert_eq!(submit(below(over)).await, Err(TaskError::TooHigh(over)));
    for length in [0, LONGEST_RESOURCE + 1] {
        let work = Work::ComputeChecksum { resource: "x".repeat(length) };
        assert_eq!(submit(work).await, Err(TaskError::BadResource(length)));
    }
    let mut ids = Vec::new();
    for _ in 0..MOST_OPEN {
        ids.push(submit(endless()).await.unwrap().id);
    }
    assert_eq!(submit(below(10)).await, Err(TaskError::TooManyOpen));
    tasks.cancel(ids[MOST_OPEN / 2]).await.unwrap();
    // Its place is free when its task has noticed.
    while submit(below(10)).await == Err(TaskError::TooManyOpen) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_ended_long_ago_is_forgotten_with_its_request_also_across_a_restart() {
    let store = memory();
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let (tasks, _stop) = started(&store).await;
    for request in [first, second] {
        let id = tasks.submit(request, below(10)).await.unwrap().id;
        ended(&tasks, id).await;
    }
    for _ in 0..MOST_ENDED - 1 {
        let mut task = Task::new(Uuid::new_v4(), below(10));
        task.enter(State::Cancelled);
        let made = vec![
            put(request_key(task.request), encode(&task.id), Expect::Nothing),
            put(task_key(task.id), encode(&task), Expect::Nothing),
        ];
        store.commit(made).await.unwrap();
    }
    // Now there is one too many, which the next end finds.
    let (tasks, _stop) = started(&store).await;
    let id = tasks.submit(Uuid::new_v4(), below(10)).await.unwrap().id;
    ended(&tasks, id).await;
    assert_eq!((keys(&store, "task/").await, keys(&store, "request/").await), (MOST_ENDED, MOST_ENDED));
    for request in [first, second] {
        assert_eq!(tasks.submit(request, below(11)).await.unwrap().work, below(11), "it is new");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_new_tasks_and_delays_the_end_of_others() {
    let failing = Failing::new(memory());
    let store: Arc<dyn Store> = failing.clone();
    let (go_on, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let files = Arc::new(move |_: &str| {
        lock(&gate).recv().unwrap();
        Err(io::ErrorKind::NotFound.into())
    });
    let (tasks, _stop) = started_with(&store, files).await;
    failing.now(How::Full);
    let (request, work) = (Uuid::new_v4(), Work::ComputeChecksum { resource: "file".to_owned() });
    let refused = tasks.submit(request, work.clone()).await;
    assert_eq!(refused, Err(TaskError::Store(StoreError::Full)));
    assert_eq!((keys(&store, "task/").await, tasks.shared.open.available_permits()), (0, MOST_OPEN));
    failing.now(How::Works);
    let id = tasks.submit(request, work).await.unwrap().id;
    reached(&tasks, id, is_running).await;
    failing.now(How::Full);
    go_on.send(()).unwrap();
    // The one above, and two of the end.
    failing.met(3).await;
    assert_eq!(tasks.get(id).await.unwrap().state, State::Running);
    failing.now(How::Works);
    assert_eq!(
        ended(&tasks, id).await.state,
        State::Failed(Fault::NoResource { resource: "file".to_owned() })
    );
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_has_one_effect() {
    let failing = Failing::new(memory());
    let store: Arc<dyn Store> = failing.clone();
    let (tasks, _stop) = started(&store).await;
    failing.now(How::BrokenButMade);
    let request = Uuid::new_v4();
    let lost = tasks.submit(request, below(10)).await;
    assert_eq!(lost, Err(TaskError::Store(StoreError::Broken("no answer".into()))));
    // Each change of the state has its answer lost as well.
    let id = tasks.submit(request, below(10)).await.unwrap().id;
    assert_eq!(ended(&tasks, id).await.state, State::Succeeded(Outcome::Primes(4)));
    let cancelled = tasks.submit(Uuid::new_v4(), endless()).await;
    assert_eq!(cancelled, Err(TaskError::Store(StoreError::Broken("no answer".into()))));
    assert_eq!(keys(&store, "task/").await, 2);
}

/// Servers that share a store.
async fn shared<const COUNT: usize>(
    store: &Arc<dyn Store>,
) -> (watch::Sender<Living>, [(Tasks, DropGuard); COUNT]) {
    let (living, servers) = peers::servers::<COUNT>();
    let mut opened = Vec::new();
    for peers in servers {
        let stop = CancellationToken::new();
        let tasks = Tasks::open(store.clone(), peers, no_files(), stop.clone()).await.unwrap();
        opened.push((tasks, stop.drop_guard()));
    }
    (living, opened.try_into().map_err(|_| "another number").unwrap())
}

#[tokio::test]
async fn a_task_is_watched_and_cancelled_at_any_server() {
    let store = memory();
    let (_living, [(one, _stop_one), (other, _stop_other)]) = shared(&store).await;
    let request = Uuid::new_v4();
    let id = one.submit(request, endless()).await.unwrap().id;
    assert_eq!(other.submit(request, endless()).await.unwrap().id, id);
    reached(&one, id, is_running).await;
    let mut watched = other.watch(id).await.unwrap();
    watched.wait_for(|task| task.state == State::Running && task.done > 0).await.unwrap();
    assert!(lock(&other.shared.live).is_empty(), "two servers work on one task");
    let cancelled = other.cancel(id).await.unwrap();
    assert_eq!(cancelled.state, State::Cancelled);
    assert_eq!(ended(&one, id).await, cancelled);
    assert_eq!(*watched.wait_for(|task| task.state.is_end()).await.unwrap(), cancelled);
    let short = one.submit(Uuid::new_v4(), below(1_000)).await.unwrap().id;
    assert_eq!(ended(&other, short).await.state, State::Succeeded(Outcome::Primes(168)));
    assert_eq!((keys(&store, "task/").await, keys(&store, "claim/").await), (2, 0));
}

#[tokio::test]
async fn the_tasks_of_a_server_that_died_are_done_by_one_of_the_others() {
    let store = memory();
    let (living, [(one, stop), (two, _stop_two), (three, _stop_three)]) = shared(&store).await;
    let running = one.submit(Uuid::new_v4(), below(3_000_000)).await.unwrap().id;
    reached(&one, running, is_running).await;
    let others: Vec<_> = [&two, &three].into();
    let mut watched = two.watch(running).await.unwrap();
    // Its work stops where it is.
    drop(stop);
    for tasks in &others {
        assert_eq!(tasks.get(running).await.unwrap().state, State::Running);
        assert!(lock(&tasks.shared.live).is_empty());
    }
    peers::kill(&living, 1);
    let done = watched.wait_for(|task| task.state.is_end()).await.unwrap().clone();
    assert_eq!(done.state, State::Succeeded(Outcome::Primes(216_816)));
    assert_eq!(ended(&three, running).await, done);
    assert_eq!(keys(&store, "claim/").await, 0);
}

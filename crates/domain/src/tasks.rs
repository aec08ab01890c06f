//! Tasks: work that goes on after the call that asked for it has ended.
//!
//! A task is in the store before anybody is told of it. Each change of its state
//! is a compare-and-set of its whole value, so of all who would end it, its work
//! or a cancellation, one does. How far the work has got is in memory alone: a
//! server that comes back begins again what had not ended.
//!
//! Where servers share the store, a task that has not ended has a claim, which says
//! whose it is. Another server takes it only when that one is dead. What becomes of
//! tasks goes through a stream, by which each server knows of the tasks of the others.

mod shared;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    io::{self, Read as _},
    ops::ControlFlow,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    lock,
    peers::Peers,
    primes,
    store::{Expect, Store, StoreError, Write, decode, encode},
    uploads::Content,
};
use crate::platform;

/// How many tasks may wait or run.
pub(crate) const MOST_OPEN: usize = 1_024;
/// How many that have ended are kept, and with each its request.
const MOST_ENDED: usize = 10_000;
/// In bytes.
const LONGEST_RESOURCE: usize = 1_024;
/// How often the work tells how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Before a state is offered again to a store that could not take it.
const STORE_PAUSE: Duration = Duration::from_millis(500);
/// How much is read of a file at a time; between two readings work can be
/// stopped.
const READ_BYTES: usize = 256 << 10;

/// A task as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The server chose it.
    pub id: Uuid,
    /// The request that made it.
    pub request: Uuid,
    /// What it is to do.
    pub work: Work,
    /// How far it got.
    pub state: State,
    /// Steps of the work, out of `total`.
    pub done: u64,
    /// 0 as long as nobody knows.
    pub total: u64,
    /// When it was submitted.
    pub created: SystemTime,
    /// When it came to its state.
    pub updated: SystemTime,
}

/// What a task can do.
#[allow(missing_docs, reason = "the names say it")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    CountPrimes { below: u64 },
    ComputeChecksum { resource: String },
}

/// How far a task got.
#[allow(missing_docs, reason = "the names say it")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    Pending,
    Running,
    Succeeded(Outcome),
    Failed(Fault),
    Cancelled,
}

/// What came of the work.
#[allow(missing_docs, reason = "the names say it")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Primes(u64),
    /// BLAKE3.
    Checksum([u8; 32]),
}

/// Why work failed.
#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    #[error("there is no uploaded file {resource:?}; upload it first and submit a new task")]
    NoResource { resource: String },
    #[error("the uploaded file {resource:?} cannot be read: {reason}")]
    Unreadable { resource: String, reason: String },
    #[error("the server failed; see its log")]
    Defect,
}

#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    #[error("below is {0}; the maximum is {highest}", highest = primes::HIGHEST)]
    TooHigh(u64),
    #[error("resource has {0} bytes; 1 to {LONGEST_RESOURCE} are allowed")]
    BadResource(usize),
    #[error("request_id {request} belongs to task {task} with other work; choose a new id for a new task")]
    RequestReused { request: Uuid, task: Uuid },
    #[error("{MOST_OPEN} tasks are running or waiting; try again later, or cancel some")]
    TooManyOpen,
    #[error("there is no task {id}; the server keeps the newest {MOST_ENDED} ended tasks")]
    Unknown { id: Uuid },
    #[error("task {id} has already {ending}")]
    Ended { id: Uuid, ending: &'static str },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens an uploaded file by its name, and tells its size in bytes. May block.
/// [`io::ErrorKind::NotFound`] when there is none of that name.
pub type OpenResource = Arc<dyn Fn(&str) -> io::Result<(Content, u64)> + Send + Sync>;

/// All tasks of a server.
#[derive(Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    peers: Peers,
    open_resource: OpenResource,
    stop: CancellationToken,
    /// One permit for each task that may be open.
    open: Arc<Semaphore>,
    /// One permit for each task that may run.
    cores: Arc<Semaphore>,
    live: Mutex<HashMap<Uuid, Live>>,
    /// Tasks of other servers that somebody watches here.
    elsewhere: Mutex<HashMap<Uuid, watch::Sender<Task>>>,
    /// Oldest first.
    ended: Mutex<VecDeque<Ended>>,
}

/// A task that has not ended, and will in this process unless it is stopped.
#[derive(Clone)]
struct Live {
    task: watch::Sender<Task>,
    stop: CancellationToken,
}

/// What is left to do about a task that has ended: to forget it one day.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ended {
    id: Uuid,
    request: Uuid,
}

impl Tasks {
    /// Takes up again what had not ended. When `stop` is cancelled, work stops
    /// where it is and stays in the store as what has not ended.
    pub async fn open(
        store: Arc<dyn Store>,
        peers: Peers,
        open_resource: OpenResource,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let tasks = Self {
            shared: Arc::new(Shared {
                store,
                peers,
                open_resource,
                stop,
                open: Arc::new(Semaphore::new(MOST_OPEN)),
                cores: Arc::new(Semaphore::new(cores)),
                live: Mutex::default(),
                elsewhere: Mutex::default(),
                ended: Mutex::default(),
            }),
        };
        tasks.shared.listen().await?;
        tasks.shared.take_up().await?;
        Ok(tasks)
    }

    /// The task that `request` made, now or before.
    pub async fn submit(&self, request: Uuid, work: Work) -> Result<Task, TaskError> {
        work.check()?;
        let shared = self.shared.clone();
        to_the_end(async move { shared.submit(request, work).await }).await
    }

    /// The task as it is now.
    pub async fn get(&self, id: Uuid) -> Result<Task, TaskError> {
        Ok(self.watch(id).await?.borrow().clone())
    }

    /// The task as it is, and from then on. After the end state nothing comes.
    pub async fn watch(&self, id: Uuid) -> Result<watch::Receiver<Task>, TaskError> {
        self.shared.find(id).await?.ok_or(TaskError::Unknown { id })
    }

    /// Ends the task, unless it has ended. The answer comes when it is durable.
    pub async fn cancel(&self, id: Uuid) -> Result<Task, TaskError> {
        let shared = self.shared.clone();
        to_the_end(async move { shared.cancel(id).await }).await
    }
}

/// Does something also when whoever wants it goes away in between.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, TaskError>> + Send + 'static,
) -> Result<T, TaskError> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Broken(format!("a commit was interrupted: {error}")).into()))
}

impl Shared {
    async fn take_up(self: &Arc<Self>) -> Result<(), StoreError> {
        const PAGE: usize = 256;
        let mut ended = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.store.list(TASK_PREFIX, &after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (key, bytes) in page {
                let task: Task = decode(&key, &bytes)?;
                if task.state.is_end() {
                    ended.push(task);
                } else if self.claim(task.id, &bytes).await? {
                    self.adopt(task, bytes);
                }
            }
        }
        ended.sort_by_key(|task| task.updated);
        lock(&self.ended).extend(ended.iter().map(Ended::new));
        Ok(())
    }

    async fn submit(self: &Arc<Self>, request: Uuid, work: Work) -> Result<Task, TaskError> {
        loop {
            if let Some(task) = self.made_by(request).await? {
                return match task.work == work {
                    true => Ok(task),
                    false => Err(TaskError::RequestReused { request, task: task.id }),
                };
            }
            let permit = self.open.clone().try_acquire_owned().map_err(|_| TaskError::TooManyOpen)?;
            let task = Task::new(request, work.clone());
            let bytes = encode(&task);
            let mut made = vec![
                put(request_key(request), encode(&task.id), Expect::Nothing),
                put(task_key(task.id), bytes.clone(), Expect::Nothing),
            ];
            made.extend(self.new_claim(&task));
            // Before the commit: a task that is stored and not live is one that
            // nobody works on.
            let live = Live::new(task.clone(), &self.stop);
            lock(&self.live).insert(task.id, live.clone());
            match self.store.commit(made).await {
                Ok(_) => {
                    self.begin(live, bytes, Some(permit));
                    return Ok(task);
                }
                Err(error) => {
                    lock(&self.live).remove(&task.id);
                    match error {
                        // The same request came twice, and the other one was faster.
                        StoreError::Conflict { .. } => {}
                        error => return Err(error.into()),
                    }
                }
            }
        }
    }

    async fn made_by(self: &Arc<Self>, request: Uuid) -> Result<Option<Task>, StoreError> {
        let key = request_key(request);
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        if let Some(task) = self.find(decode(&key, &bytes)?).await? {
            return Ok(Some(task.borrow().clone()));
        }
        // A task and its request are forgotten together.
        match self.store.get(&key).await? {
            None => Ok(None),
            Some(_) => Err(StoreError::Damaged(format!("{key} refers to a missing task"))),
        }
    }

    async fn find(self: &Arc<Self>, id: Uuid) -> Result<Option<watch::Receiver<Task>>, StoreError> {
        let live = lock(&self.live).get(&id).map(|live| live.task.subscribe());
        if live.is_some() {
            // Another server may have ended it, and the news of that is still on its way.
            if self.peers.are_there()
                && let Some(task) = self.stored(id).await?
                && task.state.is_end()
            {
                self.publish(&task);
            }
            return Ok(live);
        }
        let key = task_key(id);
        let Some(bytes) = self.store.get(&key).await? else { return Ok(None) };
        let task: Task = decode(&key, &bytes)?;
        if !task.state.is_end() {
            return match self.claim(id, &bytes).await? {
                // The store did not know whether it had made it.
                true => Ok(Some(self.adopt(task, bytes))),
                false => self.follow(task).await,
            };
        }
        Ok(Some(watch::channel(task).1))
    }

    async fn cancel(self: &Arc<Self>, id: Uuid) -> Result<Task, TaskError> {
        let key = task_key(id);
        loop {
            // Live, if it has not ended: what ends it has something to publish to.
            self.find(id).await?.ok_or(TaskError::Unknown { id })?;
            let bytes = self.store.get(&key).await?.ok_or(TaskError::Unknown { id })?;
            let mut task: Task = decode(&key, &bytes)?;
            match task.state {
                State::Pending | State::Running => {}
                State::Cancelled => {
                    self.publish(&task);
                    return Ok(task);
                }
                State::Succeeded(_) => return Err(TaskError::Ended { id, ending: "succeeded" }),
                State::Failed(_) => return Err(TaskError::Ended { id, ending: "failed" }),
            }
            if let Some(progress) = self.progress(id) {
                (task.done, task.total) = progress;
            }
            task.enter(State::Cancelled);
            match self.change(&task, bytes).await {
                Ok(()) => return Ok(task),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Works on a task of the store as if it were new, unless somebody does.
    fn adopt(self: &Arc<Self>, mut task: Task, bytes: Bytes) -> watch::Receiver<Task> {
        task.state = State::Pending;
        (task.done, task.total) = (0, task.work.total());
        let id = task.id;
        let mut live = Live::new(task, &self.stop);
        let receiver = match lock(&self.live).entry(id) {
            Entry::Occupied(other) => return other.get().task.subscribe(),
            Entry::Vacant(place) => {
                // Those who watched it at another server go on.
                if let Some(watched) = lock(&self.elsewhere).remove(&id) {
                    watched.send_replace(live.task.borrow().clone());
                    live.task = watched;
                }
                place.insert(live.clone());
                live.task.subscribe()
            }
        };
        self.begin(live, bytes, self.open.clone().try_acquire_owned().ok());
        receiver
    }

    fn begin(self: &Arc<Self>, live: Live, stored: Bytes, permit: Option<OwnedSemaphorePermit>) {
        let shared = self.clone();
        tokio::spawn(async move {
            let stop = live.stop.clone();
            // Whoever stops it says what becomes of it.
            stop.run_until_cancelled(shared.run(&live, stored)).await;
            drop(permit);
        });
    }

    /// Takes a task from its turn to its end. Can be dropped at any await: what
    /// is in the store is true.
    async fn run(self: &Arc<Self>, live: &Live, stored: Bytes) {
        // Closed by nobody.
        let Ok(core) = self.cores.clone().acquire_owned().await else { return };
        let mut task = live.task.borrow().clone();
        task.enter(State::Running);
        let running = encode(&task);
        if !self.insist(&task, stored).await {
            return;
        }
        live.task.send_if_modified(|shown| {
            // Unless it was cancelled a moment ago.
            let goes_on = !shown.state.is_end();
            if goes_on {
                shown.clone_from(&task);
            }
            goes_on
        });
        let Some(state) = self.work(live, task.work.clone(), core).await else { return };
        (task.done, task.total) = live.task.borrow().progress();
        if matches!(state, State::Succeeded(_)) {
            task.done = task.total;
        }
        task.enter(state);
        self.insist(&task, running).await;
    }

    /// [`change`](Self::change), again and again while the store is full or does
    /// not work. False when somebody else has ended the task.
    async fn insist(&self, task: &Task, before: Bytes) -> bool {
        loop {
            match self.change(task, before.clone()).await {
                Ok(()) => return true,
                Err(StoreError::Conflict { .. }) => match self.stored(task.id).await {
                    Ok(Some(stored)) => {
                        if stored.state.is_end() {
                            self.publish(&stored);
                        }
                        // Equal, when the attempt before was made although the
                        // store did not know.
                        return stored == *task;
                    }
                    Ok(None) => return false,
                    Err(error) => tracing::error!("task {} cannot be read: {error}", task.id),
                },
                Err(error) => tracing::error!("task {} cannot be stored: {error}", task.id),
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }

    async fn stored(&self, id: Uuid) -> Result<Option<Task>, StoreError> {
        let key = task_key(id);
        self.store.get(&key).await?.map(|bytes| decode(&key, &bytes)).transpose()
    }

    /// Makes a new state durable. With an end state, forgets what has ended long
    /// ago, and tells who watches.
    async fn change(&self, task: &Task, before: Bytes) -> Result<(), StoreError> {
        let forgotten = if task.state.is_end() { self.too_old() } else { Vec::new() };
        let change = put(task_key(task.id), encode(task), Expect::Value(before));
        let change = std::iter::once(change).chain(self.news(task));
        let forget = forgotten.iter().flat_map(|ended| [task_key(ended.id), request_key(ended.request)]);
        let forget = forget.map(|key| Write::Delete { key, expect: Expect::Anything });
        self.store.commit(change.chain(forget).collect()).await?;
        if !task.state.is_end() {
            return Ok(());
        }
        // Only now: this may be dropped while it waits. Who ends another task at
        // the same time may have forgotten the same ones.
        lock(&self.ended).retain(|ended| !forgotten.contains(ended));
        self.publish(task);
        Ok(())
    }

    /// What is over the limit when one more task has ended.
    fn too_old(&self) -> Vec<Ended> {
        let ended = lock(&self.ended);
        let too_many = (ended.len() + 1).saturating_sub(MOST_ENDED);
        ended.iter().take(too_many).copied().collect()
    }

    /// Tells who watches that a task has ended, and stops its work. Does nothing
    /// the second time.
    fn publish(&self, task: &Task) {
        let Some(live) = lock(&self.live).remove(&task.id) else { return };
        live.task.send_replace(task.clone());
        live.stop.cancel();
        lock(&self.ended).push_back(Ended::new(task));
    }

    /// `None` when it was stopped. Works on a plain thread: a runtime that shuts
    /// down waits for none of those. The core is taken until the thread ends.
    async fn work(&self, live: &Live, work: Work, core: OwnedSemaphorePermit) -> Option<State> {
        let (sender, ended) = oneshot::channel();
        let (open_resource, progress) = (self.open_resource.clone(), Progress::of(live.clone()));
        let spawned = thread::Builder::new().name("task".to_owned()).spawn(move || {
            // Nobody listens when the task was stopped.
            let _ = sender.send(work.perform(&open_resource, progress));
            drop(core);
        });
        if let Err(error) = spawned {
            tracing::error!("no thread for a task: {error}");
        }
        let ended = tokio::select! {
            ended = ended => ended,
            never = self.report(live) => match never {},
        };
        // A thread that panicked sends nothing.
        ended.unwrap_or(Some(State::Failed(Fault::Defect)))
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").finish_non_exhaustive()
    }
}

impl Live {
    fn new(task: Task, stop: &CancellationToken) -> Self {
        Self { task: watch::Sender::new(task), stop: stop.child_token() }
    }
}

impl Task {
    fn new(request: Uuid, work: Work) -> Self {
        let now = platform::now();
        let total = work.total();
        Self {
            id: Uuid::now_v7(),
            request,
            work,
            state: State::Pending,
            done: 0,
            total,
            created: now,
            updated: now,
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.updated = platform::now();
    }

    fn progress(&self) -> (u64, u64) {
        (self.done, self.total)
    }
}

impl State {
    /// Whether a task stays in this state.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Failed(_) | Self::Cancelled)
    }
}

impl Work {
    fn check(&self) -> Result<(), TaskError> {
        match self {
            Self::CountPrimes { below } if *below > primes::HIGHEST => Err(TaskError::TooHigh(*below)),
            Self::ComputeChecksum { resource } if !(1..=LONGEST_RESOURCE).contains(&resource.len()) => {
                Err(TaskError::BadResource(resource.len()))
            }
            Self::CountPrimes { .. } | Self::ComputeChecksum { .. } => Ok(()),
        }
    }

    /// What is known of it before the beginning.
    fn total(&self) -> u64 {
        match self {
            Self::CountPrimes { below } => *below,
            Self::ComputeChecksum { .. } => 0,
        }
    }

    /// `None` when it was stopped.
    fn perform(self, open_resource: &OpenResource, mut progress: Progress) -> Option<State> {
        match self {
            Self::CountPrimes { below } => {
                let primes = primes::count_below(below, |done| progress.tell(done, below))?;
                Some(State::Succeeded(Outcome::Primes(primes)))
            }
            Self::ComputeChecksum { resource } => {
                let checksum = open_resource(&resource)
                    .and_then(|(file, size)| checksum(file, |done| progress.tell(done, size)));
                match checksum {
                    Ok(checksum) => Some(State::Succeeded(Outcome::Checksum(checksum?))),
                    Err(error) => Some(State::Failed(Fault::of_resource(resource, &error))),
                }
            }
        }
    }
}

/// `None` when `progress` stopped it.
fn checksum(
    mut file: Content,
    mut progress: impl FnMut(u64) -> ControlFlow<()>,
) -> io::Result<Option<[u8; 32]>> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        if progress(hasher.count()).is_break() {
            return Ok(None);
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hasher.finalize().into())),
            Ok(read) => drop(hasher.update(&buffer[..read])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Fault {
    fn of_resource(resource: String, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoResource { resource },
            _ => Self::Unreadable { resource, reason: error.to_string() },
        }
    }
}

/// Where work tells how far it is, and learns that it is to stop.
struct Progress {
    live: Live,
    told: Option<Instant>,
}

impl Progress {
    fn of(live: Live) -> Self {
        Self { live, told: None }
    }

    fn tell(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        if self.live.stop.is_cancelled() {
            return ControlFlow::Break(());
        }
        if self.told.is_none_or(|told| told.elapsed() >= PROGRESS_INTERVAL) {
            self.told = Some(Instant::now());
            self.live.task.send_if_modified(|task| {
                // A task that was cancelled a moment ago stays as it is.
                let gets_further = task.state == State::Running;
                if gets_further {
                    (task.done, task.total) = (done, total);
                }
                gets_further
            });
        }
        ControlFlow::Continue(())
    }
}

impl Ended {
    fn new(task: &Task) -> Self {
        Self { id: task.id, request: task.request }
    }
}

const TASK_PREFIX: &str = "task/";

fn task_key(id: Uuid) -> String {
    format!("{TASK_PREFIX}{id}")
}

fn request_key(request: Uuid) -> String {
    format!("request/{request}")
}

fn put(key: String, value: Bytes, expect: Expect) -> Write {
    Write::Put { key, value, expect }
}

//! Clients of servers that share a database, and the record of what each of them did
//! and saw. Writers stay with a server that hangs until long after its lease, so that
//! their posts wait for it when it goes on.

mod commands;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use shared_proto::fourmodes::v1::{
    ChatRequest, ChatResponse, JoinRoom, PostText, bidi_streaming_service_client::BidiStreamingServiceClient,
    chat_request::Action, chat_response::Response, join_room::Since, room_event,
};
use test_support::eventually;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

use crate::{
    cluster::block_on,
    history::{Answer, Append, Event, Heard, Violation, check_room, check_tasks, joining},
    world::Server,
};

const ROOM: &str = "one order";
/// How long a writer waits for a server.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long the others do.
const HASTE: Duration = Duration::from_secs(3);
/// A writer's posts that are not acknowledged, at most.
const IN_FLIGHT: usize = 4;
/// Between a writer's posts.
const POSTS: Duration = Duration::from_millis(20);
/// Between what another client does, and before a client tries the next server.
const PAUSE: Duration = Duration::from_millis(50);
/// Between the commands of a client: fewer than what servers keep, in a test that is long.
const COMMANDS: Duration = Duration::from_millis(100);

/// Clients that work until they are told to stop.
pub(crate) struct Clients {
    stop: CancellationToken,
    worked: Worked,
    clients: usize,
    running: JoinHandle<Record>,
}

/// For each client, when the latest of what was acknowledged began.
#[derive(Clone, Default)]
struct Worked(Arc<Mutex<BTreeMap<String, Option<Instant>>>>);

/// What all clients did and saw.
#[derive(Default)]
pub(crate) struct Record {
    appends: Vec<Append>,
    readings: Vec<Vec<Heard>>,
    answers: Vec<Answer>,
}

impl Clients {
    /// A writer, a reader and one that gives commands for each of the servers, and for any
    /// of them when that one is away.
    pub(crate) fn start(servers: &[Server]) -> Self {
        let servers: Vec<_> = servers.iter().map(Server::socket).collect();
        let (stop, worked) = (CancellationToken::new(), Worked::default());
        let clients = 3 * servers.len();
        let work = Self::work(servers, stop.clone(), worked.clone());
        Self { stop, worked, clients, running: std::thread::spawn(|| block_on(work)) }
    }

    async fn work(servers: Vec<SocketAddr>, stop: CancellationToken, worked: Worked) -> Record {
        let mut clients = JoinSet::new();
        for at in 0..servers.len() {
            let client = |kind: &str| {
                let name = format!("{kind} {at}");
                worked.0.lock().unwrap().insert(name.clone(), None);
                // Room for many small messages.
                let channel = |server| {
                    let server = Endpoint::from_shared(format!("http://{server}")).unwrap();
                    let server = server.initial_connection_window_size(16 << 20);
                    server.initial_stream_window_size(1 << 20).connect_lazy()
                };
                let servers = servers.iter().map(channel).collect();
                Client { name, servers, at, stop: stop.clone(), worked: worked.clone() }
            };
            clients.spawn(client("writer").write());
            clients.spawn(client("reader").read());
            clients.spawn(client("command").command());
        }
        clients.join_all().await.into_iter().fold(Record::default(), Record::and)
    }

    /// Waits until each client has an answer to what it began after a moment.
    pub(crate) fn work_after(&self, moment: Instant) {
        let all = || {
            let worked = self.worked.0.lock().unwrap();
            worked.len() == self.clients && worked.values().all(|worked| *worked >= Some(moment))
        };
        eventually(|| self.running.is_finished() || all(), "a client does not work");
        assert!(!self.running.is_finished(), "a client has failed");
    }

    /// Ends their work, with a look at everything by each of the servers.
    pub(crate) fn stop(self) -> Record {
        self.stop.cancel();
        self.running.join().expect("a client has failed")
    }
}

impl Record {
    fn and(mut self, other: Self) -> Self {
        self.appends.extend(other.appends);
        self.readings.extend(other.readings);
        self.answers.extend(other.answers);
        self
    }

    /// Asserts that there is one order of it all.
    pub(crate) fn check(self) {
        let in_doubt = self.appends.iter().filter(|append| append.acknowledged.is_none()).count();
        println!(
            "{} appends acknowledged, {in_doubt} in doubt; {} readings; {} answers about tasks",
            self.appends.len() - in_doubt,
            self.readings.len(),
            self.answers.len(),
        );
        let mut violations = check_room(&self.appends, &self.readings);
        violations.extend(check_tasks(&self.answers));
        let mut kinds = BTreeMap::<_, u64>::new();
        for violation in &violations {
            *kinds.entry(kind(violation)).or_default() += 1;
        }
        println!("violations: {kinds:?}");
        violations.truncate(20);
        assert_eq!(violations, [], "{kinds:?}");
    }
}

fn kind(violation: &Violation) -> &'static str {
    match violation {
        Violation::Gap { .. } => "gaps",
        Violation::Disagree { .. } => "readers that disagree",
        Violation::Lost { .. } => "acknowledged and lost",
        Violation::Twice { .. } => "twice",
        Violation::Invented { .. } => "invented",
        Violation::Order { .. } => "against the order of time",
        Violation::Stranger { .. } => "of members that had left",
        Violation::Tasks { .. } => "requests with two tasks",
        Violation::Stale { .. } => "stale answers",
        Violation::Ends { .. } => "tasks with two ends",
    }
}

/// What each of them needs.
#[derive(Clone)]
struct Client {
    name: String,
    servers: Vec<Channel>,
    /// The server that it uses.
    at: usize,
    stop: CancellationToken,
    worked: Worked,
}

impl Client {
    fn stops(&self) -> bool {
        self.stop.is_cancelled()
    }

    fn channel(&self) -> Channel {
        self.servers[self.at].clone()
    }

    fn has_worked(&self, begun: Instant) {
        let mut worked = self.worked.0.lock().unwrap();
        let latest = worked.get_mut(&self.name).unwrap();
        *latest = (*latest).max(Some(begun));
    }

    /// Another server next time. Panics for an error that no fault explains.
    async fn failed(&mut self, status: &Status) {
        use std::error::Error as _;
        // ABORTED is for the join of a call that this client has given up.
        let of_faults = [Code::Unavailable, Code::DeadlineExceeded, Code::Cancelled, Code::Aborted];
        let is_lost = status.source().is_some() || of_faults.contains(&status.code());
        assert!(is_lost, "{}: {status:?}", self.name);
        self.at = (self.at + 1) % self.servers.len();
        sleep(PAUSE).await;
    }

    /// Joins the room, and gives what sends requests and what comes back.
    async fn join(
        &self,
        id: String,
        since: Since,
        patience: Duration,
    ) -> Result<(mpsc::Sender<ChatRequest>, Streaming<ChatResponse>), Status> {
        let (requests, receiver) = mpsc::channel(IN_FLIGHT + 1);
        let join =
            JoinRoom { room: ROOM.to_owned(), name: self.name.clone(), member_id: id, since: Some(since) };
        send(&requests, Action::Join(join));
        let mut client = BidiStreamingServiceClient::new(self.channel());
        let responses =
            timeout(patience, client.chat(ReceiverStream::new(receiver))).await.map_err(no_answer)??;
        Ok((requests, responses.into_inner()))
    }
}

fn no_answer(_: tokio::time::error::Elapsed) -> Status {
    Status::deadline_exceeded("no answer")
}

/// There is room for it. Fails when the call is over: the response then says why.
fn send(requests: &mpsc::Sender<ChatRequest>, action: Action) {
    let _ = requests.try_send(ChatRequest { action: Some(action) });
}

fn heard(event: shared_proto::fourmodes::v1::RoomEvent) -> Heard {
    let name = event.name;
    let said = match event.event.expect("an event of no kind") {
        room_event::Event::Joined(joined) => {
            Event::Joined { name, members: joined.members.into_iter().collect() }
        }
        room_event::Event::Left(_) => Event::Left { name },
        room_event::Event::Posted(posted) => Event::Posted { name, text: posted.text },
    };
    Heard { at: Instant::now(), sequence: event.sequence, event: said }
}

/// A member that comes back after each loss. Every other post has an id, and is posted again
/// then. The others stay in doubt.
struct Writer {
    client: Client,
    id: String,
    heard: Vec<Heard>,
    appends: Vec<Append>,
    /// Not acknowledged.
    pending: VecDeque<usize>,
}

impl Client {
    async fn write(self) -> Record {
        let mut writer = Writer {
            client: self,
            id: Uuid::new_v4().to_string(),
            heard: Vec::new(),
            appends: Vec::new(),
            pending: VecDeque::new(),
        };
        while let Err(status) = writer.talk().await {
            writer.client.failed(&status).await;
        }
        Record { appends: writer.appends, readings: vec![writer.heard], answers: Vec::new() }
    }
}

impl Writer {
    /// Returns when it was told to stop, and all of its posts with an id are acknowledged.
    async fn talk(&mut self) -> Result<(), Status> {
        let last = self.heard.last().map_or(0, |heard| heard.sequence);
        self.pending.retain(|n| has_id(*n));
        let (requests, mut responses) =
            self.client.join(self.id.clone(), Since::AfterSequence(last), PATIENCE).await?;
        self.pending.iter().for_each(|n| send(&requests, self.post(*n)));
        let mut requests = Some(requests);
        let mut posts = interval(POSTS);
        loop {
            if self.client.stops() && self.pending.is_empty() {
                requests = None;
            }
            tokio::select! {
                response = timeout(PATIENCE, responses.message()) => match response.map_err(no_answer)?? {
                    Some(ChatResponse { response }) => self.hear(response.expect("an empty response")),
                    None => return Ok(()),
                },
                _ = posts.tick(), if !self.client.stops() && self.pending.len() < IN_FLIGHT => {
                    let n = self.appends.len();
                    let key = format!("{} {n}", self.client.name);
                    self.appends.push(Append { key, begun: Instant::now(), acknowledged: None });
                    self.pending.push_back(n);
                    requests.iter().for_each(|requests| send(requests, self.post(n)));
                }
            }
        }
    }

    fn post(&self, n: usize) -> Action {
        let message_id = if has_id(n) { message_id(&self.id, n) } else { String::new() };
        Action::Post(PostText { text: self.appends[n].key.clone(), message_id })
    }

    fn hear(&mut self, response: Response) {
        match response {
            Response::Event(event) => self.heard.push(heard(event)),
            Response::Accepted(accepted) => {
                let n = self.pending.pop_front().expect("a post was acknowledged that was not made");
                let append = &mut self.appends[n];
                append.acknowledged = Some((Instant::now(), accepted.sequence));
                self.client.has_worked(append.begun);
            }
            Response::StillThere(_) => {}
        }
    }
}

fn has_id(post: usize) -> bool {
    post.is_multiple_of(2)
}

/// The same for the same post.
fn message_id(writer: &str, post: usize) -> String {
    let writer: Uuid = writer.parse().unwrap();
    Uuid::from_u128(writer.as_u128() ^ post as u128).to_string()
}

impl Client {
    /// Joins, hears what was said before, and leaves, again and again; at last at each
    /// server, and from the beginning.
    async fn read(mut self) -> Record {
        let mut record = Record::default();
        let who = self.name.clone();
        for n in 0_u64.. {
            // A new member each time, whose joining is an event.
            let mut reader = Self { name: format!("{who}-{n}"), ..self.clone() };
            let stops = self.stops();
            let since = if stops { Since::AfterSequence(0) } else { Since::History(20) };
            let visited = reader.visit(since, &mut record).await;
            match visited {
                Ok(begun) => {
                    self.has_worked(begun);
                    if stops {
                        return record;
                    }
                    self.at = (self.at + 1) % self.servers.len();
                    sleep(PAUSE).await;
                }
                Err(status) => self.failed(&status).await,
            }
        }
        record
    }

    /// When it began.
    async fn visit(&mut self, since: Since, record: &mut Record) -> Result<Instant, Status> {
        let (key, begun) = (joining(&self.name), Instant::now());
        let append = record.appends.len();
        record.appends.push(Append { key, begun, acknowledged: None });
        let reading = record.readings.len();
        record.readings.push(Vec::new());
        let (requests, mut responses) = self.join(String::new(), since, HASTE).await?;
        let mut requests = Some(requests);
        while let Some(ChatResponse { response }) =
            timeout(HASTE, responses.message()).await.map_err(no_answer)??
        {
            let Some(Response::Event(event)) = response else { continue };
            let heard = heard(event);
            if matches!(&heard.event, Event::Joined { name, .. } if *name == self.name) {
                record.appends[append].acknowledged = Some((heard.at, heard.sequence));
                requests = None;
            }
            record.readings[reading].push(heard);
        }
        drop(requests);
        Ok(begun)
    }
}

//! How many posts a second each kind of store acknowledges, and how fast an upload goes:
//! `just cluster-throughput`. The kinds take turns, since the machine may be busy at times.

use std::{
    collections::VecDeque,
    fs,
    time::{Duration, Instant},
};

use shared_proto::fourmodes::v1::{
    ChatRequest, JoinRoom, PostText, bidi_streaming_service_client::BidiStreamingServiceClient,
    chat_request::Action, chat_response::Response,
};
use test_support::Postgres;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use uuid::Uuid;

use crate::{
    alone,
    cluster::block_on,
    world::{Server, number},
};

/// Of all servers together.
const MEMBERS: usize = 6;
/// Posts of a member that are not acknowledged, under full load.
const IN_FLIGHT: usize = 256;
const EACH: Duration = Duration::from_secs(3);
const UPLOAD: u64 = 256 << 20;

/// A kind of store, and what was measured there.
struct Kind<'a> {
    name: &'static str,
    servers: &'a [Server],
    is_one_room: bool,
    posts: Vec<f64>,
    loaded: Vec<Duration>,
    quiet: Vec<Duration>,
    uploads: Vec<f64>,
}

impl<'a> Kind<'a> {
    fn new(name: &'static str, servers: &'a [Server], is_one_room: bool) -> Self {
        let (posts, uploads) = (Vec::new(), Vec::new());
        let (loaded, quiet) = (Vec::new(), Vec::new());
        Self { name, servers, is_one_room, posts, loaded, quiet, uploads }
    }

    /// The time of each acknowledgement, and how many there were in a second.
    fn post(&self, members: usize, in_flight: usize) -> (Vec<Duration>, f64) {
        let begun = Instant::now();
        let took: Vec<_> = block_on(async {
            let members = (0..members).map(|n| {
                let room = if self.is_one_room { "all".to_owned() } else { format!("room {n}") };
                let server = self.servers[n % self.servers.len()].socket();
                let endpoint = Endpoint::from_shared(format!("http://{server}")).unwrap();
                post(endpoint, room, format!("member {n}"), in_flight, begun + EACH)
            });
            members.collect::<JoinSet<_>>().join_all().await.concat()
        });
        let a_second = took.len() as f64 / begun.elapsed().as_secs_f64();
        (took, a_second)
    }

    fn measure(&mut self, file: &std::path::Path) {
        let (took, a_second) = self.post(MEMBERS, IN_FLIGHT);
        self.posts.push(a_second);
        self.loaded.extend(took);
        self.quiet.extend(self.post(1, 1).0);
        let name = Uuid::new_v4();
        let begun = Instant::now();
        let upload = format!("client-streaming upload --name {name}");
        let uploaded = self.servers[0].address.result(&upload, Some(file));
        assert_eq!(uploaded["ok"], true, "{uploaded}");
        self.uploads.push((UPLOAD >> 20) as f64 / begun.elapsed().as_secs_f64());
        self.servers[0].address.result(&format!("unary files --delete {name}"), None);
    }

    fn print(mut self) {
        self.posts.sort_by(f64::total_cmp);
        self.uploads.sort_by(f64::total_cmp);
        let [loaded, quiet] = [self.loaded, self.quiet].map(|mut took| {
            took.sort();
            [50, 99].map(|percent| format!("{:.2}", took[took.len() * percent / 100].as_secs_f64() * 1000.0))
        });
        println!(
            "| {} | {:.0} ({:.0} to {:.0}) | {} / {} | {} / {} | {:.0} |",
            self.name,
            self.posts[self.posts.len() / 2],
            self.posts[0],
            self.posts[self.posts.len() - 1],
            loaded[0],
            loaded[1],
            quiet[0],
            quiet[1],
            self.uploads[self.uploads.len() / 2],
        );
    }
}

/// Posts until a moment, and gives the time that each acknowledgement took.
async fn post(
    endpoint: Endpoint,
    room: String,
    name: String,
    in_flight: usize,
    until: Instant,
) -> Vec<Duration> {
    let (sender, requests) = mpsc::channel(in_flight + 1);
    let mut sender = Some(sender);
    let send = |sender: &Option<mpsc::Sender<_>>, action| {
        let Some(sender) = sender else { return };
        sender.try_send(ChatRequest { action: Some(action) }).unwrap();
    };
    send(&sender, Action::Join(JoinRoom { room, name, ..JoinRoom::default() }));
    let channel = endpoint.initial_stream_window_size(1 << 20).connect().await.unwrap();
    let mut client = BidiStreamingServiceClient::new(channel);
    let mut responses = client.chat(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let (mut pending, mut took) = (VecDeque::new(), Vec::new());
    while let Some(response) = responses.message().await.unwrap() {
        if let Some(Response::Accepted(_)) = response.response {
            took.push(pending.pop_front().map(|begun: Instant| begun.elapsed()).unwrap());
        }
        while pending.len() < in_flight && Instant::now() < until {
            let (text, message_id) = ("x".repeat(32), Uuid::now_v7().to_string());
            pending.push_back(Instant::now());
            send(&sender, Action::Post(PostText { text, message_id }));
        }
        if pending.is_empty() {
            sender = None;
        }
    }
    took
}

#[test]
#[ignore = "needs PostgreSQL: just cluster-throughput"]
fn throughput_of_each_store() {
    let _alone = alone();
    // With fsync.
    let postgres = [(); 2].map(|()| Postgres::start(&[]));
    let [one, three] = postgres.each_ref().map(|postgres| {
        block_on(postgres.listens());
        postgres.url("postgres")
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = vec![0; UPLOAD as usize];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    fs::write(file.path(), bytes).unwrap();
    let (redb, one) = ([Server::start()], [Server::start_with(Some(&one))]);
    let three = [(); 3].map(|()| Server::start_with(Some(&three)));
    let mut kinds = [
        Kind::new("redb, one server", &redb, false),
        Kind::new("PostgreSQL, one server", &one, false),
        Kind::new("PostgreSQL, three servers, a room for each member", &three, false),
        Kind::new("PostgreSQL, three servers, one room", &three, true),
    ];
    for _ in 0..number("FAULTS_ROUNDS", 3) {
        kinds.iter_mut().for_each(|kind| kind.measure(file.path()));
    }
    println!(
        "| store | posts/s | p50 / p99, ms, under that load | p50 / p99, ms, one at a time | upload, MiB/s |"
    );
    println!("|---|---|---|---|---|");
    kinds.into_iter().for_each(Kind::print);
}

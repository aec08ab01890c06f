//! Servers that another server names.

use std::pin::Pin;

use ::transport::{OutgoingMetadata, Place};
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use shared_proto::{
    STATE_HEADER,
    fourmodes::v1::{
        Server as Named, WatchServersRequest, WatchServersResponse,
        servers_service_server::{ServersService, ServersServiceServer},
    },
};
use tokio_stream::{Stream, StreamExt as _};
use tower::{
    ServiceBuilder,
    util::{MapRequestLayer, MapResponseLayer},
};

use super::*;
use crate::session::network::Network;

fn named(urls: &[String]) -> WatchServersResponse {
    let server = |url: &String| Named { url: url.clone(), ..Default::default() };
    WatchServersResponse { state: "one".to_owned(), servers: urls.iter().map(server).collect() }
}

/// The addresses of the network of a client that calls `teller`, which names others.
fn known_after(teller: &str, told: WatchServersResponse) -> Vec<Place> {
    let cli = Cli::read(["fourmodes", "unary", "status"]).unwrap();
    let config = Config::of_calls(cli.options).unwrap();
    let network = Network::new(&config, &show::timeline(&config, true, false).unwrap());
    network.set(0, vec![Place { uri: teller.parse().unwrap(), authority: None }], None);
    let teller = lock(&network.servers).numbers().next().unwrap();
    network.set_state(teller, Some("one".to_owned()));
    network.learn(teller, told);
    let servers = lock(&network.servers);
    servers.numbers().map(|server| servers.place(server).unwrap().clone()).collect()
}

fn uris_after(teller: &str, urls: &[&str]) -> Vec<String> {
    let urls: Vec<_> = urls.iter().map(ToString::to_string).collect();
    known_after(teller, named(&urls)).iter().map(|place| place.uri.to_string()).collect()
}

#[test]
fn a_server_that_another_one_names_keeps_the_scheme_and_the_authority() {
    let names = ["https://10.0.0.2:1", "http://10.0.0.3:1", "10.0.0.4:1"];
    assert_eq!(uris_after("https://edge:1", &names), ["https://edge:1/", "https://10.0.0.2:1/"]);
    let known = ["http://edge:1/", "http://10.0.0.3:1/", "http://10.0.0.4:1/"];
    assert_eq!(uris_after("http://edge:1", &names), known);
    let place = known_after("https://edge:1", named(&["https://10.0.0.2:1".to_owned()])).pop().unwrap();
    assert_eq!(place.authority, Some("edge:1".parse().unwrap()));
}

#[test]
fn what_is_no_address_of_a_server_is_not_learnt() {
    let long = format!("http://{}:1", "a".repeat(400));
    let names = ["", "no address", "ftp://x:1", "http://x:1/path", "http://user@x:1", &long];
    assert_eq!(uris_after("http://edge:1", &names), ["http://edge:1/"]);
    let state = "other".to_owned();
    let other = WatchServersResponse { state, ..named(&["http://10.0.0.2:1".to_owned()]) };
    assert_eq!(known_after("http://edge:1", other).len(), 1);
    let mut drains = named(&["http://10.0.0.2:1".to_owned()]);
    drains.servers[0].draining = true;
    assert_eq!(known_after("http://edge:1", drains).len(), 1);
}

#[test]
fn another_machine_names_no_server_of_this_one() {
    let here = ["localhost:2", "LOCALHOST:3", "127.0.0.2:2", "[::1]:2", "[::ffff:127.0.0.1]:2", "0.0.0.0:2"];
    assert_eq!(uris_after("http://10.0.0.1:1", &here), ["http://10.0.0.1:1/"]);
    for teller in ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"] {
        assert_eq!(uris_after(teller, &here).len(), 1 + here.len(), "{teller}");
    }
}

#[test]
fn so_many_servers_are_learnt_and_no_more() {
    let many: Vec<_> = (1..1_000).map(|port| format!("http://10.0.0.2:{port}")).collect();
    assert_eq!(known_after("http://edge:1", named(&many)).len(), 1 + 100);
}

/// Names these servers.
#[derive(Clone)]
struct Telling(Vec<String>);

#[tonic::async_trait]
impl ServersService for Telling {
    type WatchServersStream = Pin<Box<dyn Stream<Item = Result<WatchServersResponse, Status>> + Send>>;

    async fn watch_servers(
        &self,
        _: tonic::Request<WatchServersRequest>,
    ) -> Result<tonic::Response<Self::WatchServersStream>, Status> {
        let told = tokio_stream::once(Ok(named(&self.0)));
        Ok(tonic::Response::new(Box::pin(told.chain(tokio_stream::pending()))))
    }
}

/// What a server got.
#[derive(Clone, Default)]
struct Got {
    calls: Arc<AtomicUsize>,
    tokens: Arc<AtomicUsize>,
}

impl Got {
    fn counts(&self) -> [usize; 2] {
        [&self.calls, &self.tokens].map(|count| count.load(SeqCst))
    }
}

/// A server whose answers say that it has this state, if any, and that names others.
fn telling(state: Option<&'static str>, others: Vec<String>) -> (Server, Got) {
    let got = Got::default();
    let Got { calls, tokens } = got.clone();
    let service = Answering { answer: || Status::not_found("no").into_http(), calls };
    let server = Server::running(SocketAddr::from(([127, 0, 0, 1], 0)), move |listener| async move {
        let (reporter, health) = tonic_health::server::health_reporter();
        HealthReporter::set_service_status(&reporter, "", ServingStatus::Serving).await;
        let says_state = MapResponseLayer::new(move |mut answer: Response<Body>| {
            if let Some(state) = state {
                answer.headers_mut().insert(STATE_HEADER, HeaderValue::from_static(state));
            }
            answer
        });
        let counts_tokens = MapRequestLayer::new(move |request: Request<Body>| {
            tokens.fetch_add(request.headers().contains_key(AUTHORIZATION).into(), SeqCst);
            request
        });
        let layers = ServiceBuilder::new().layer(says_state).layer(counts_tokens);
        let router = transport::Server::builder().layer(layers).add_service(service).add_service(health);
        let router = router.add_service(ServersServiceServer::new(Telling(others)));
        router.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
    });
    (server, got)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_another_one_names_is_used_when_it_has_the_same_state() {
    let (same, same_got) = telling(Some("one"), Vec::new());
    let (other, other_got) = telling(Some("other"), Vec::new());
    let (stateless, stateless_got) = telling(None, Vec::new());
    let named = [&other, &stateless, &same].map(|server| format!("http://{}", server.address)).into();
    let (teller, teller_got) = telling(Some("one"), named);
    let mut config = config_for("1min", &[&teller]);
    config.connector.metadata = Arc::new(OutgoingMetadata::new(Some("secret"), None, None).unwrap());
    // A run that belongs to its server asks for no others.
    let alone = open(&config).await;
    for _ in 0..10 {
        assert!(multiply(&alone).await.unwrap_err().is_status(Code::NotFound));
    }
    assert_eq!(lock(&alone.network.servers).count(), 1);
    let session = open(&config).await;
    session.goes_on_elsewhere();
    let begun = Instant::now();
    while same_got.counts()[0] < 10 {
        assert!(multiply(&session).await.unwrap_err().is_status(Code::NotFound));
        assert!(begun.elapsed() < LONG, "the other server gets no calls");
    }
    assert!(teller_got.counts()[0] > 10);
    assert!(same_got.counts()[1] >= 10, "the calls have no token");
    assert_eq!((other_got.counts(), stateless_got.counts()), ([0, 0], [0, 0]));
}

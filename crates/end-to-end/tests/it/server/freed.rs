use std::net::SocketAddr;

use grpc_wire::Mode;
use shared_proto::fourmodes::v1::{
    RecordReadingsRequest, WatchQuotesRequest, WatchSystemRequest,
    client_streaming_service_client::ClientStreamingServiceClient,
    server_streaming_service_client::ServerStreamingServiceClient,
};
use test_support::{
    Member, Server, channel, client_streaming, open_calls, raw_member, run, server_streaming, status_of,
    unread_quotes, until,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

async fn until_nothing_is_open(mode: Mode, address: SocketAddr) {
    until(async || open_calls(mode, address).await == 0).await;
}

#[test]
fn quotes_whose_reader_goes_away_are_freed() {
    run(async {
        let server = Server::start().await;
        let mut client = server_streaming(server.address);
        let mut quotes = client.watch_quotes(WatchQuotesRequest::default()).await.unwrap().into_inner();
        for _ in 0..3 {
            quotes.message().await.unwrap().unwrap();
        }
        let status = status_of(Mode::ServerStreaming, server.address).await;
        assert_eq!((status.calls_open, status.messages_received), (1, 1));
        assert!(status.messages_sent >= 3, "{status:?}");
        drop(quotes);
        until_nothing_is_open(Mode::ServerStreaming, server.address).await;
    });
}

#[test]
fn quotes_that_wait_for_their_time_are_freed() {
    run(async {
        let server = Server::start().await;
        let mut client = server_streaming(server.address);
        let interval = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
        let request = WatchQuotesRequest { interval, ..Default::default() };
        let mut quotes = client.watch_quotes(request).await.unwrap().into_inner();
        quotes.message().await.unwrap().unwrap();
        assert_eq!(open_calls(Mode::ServerStreaming, server.address).await, 1);
        drop(quotes);
        until_nothing_is_open(Mode::ServerStreaming, server.address).await;
    });
}

#[test]
fn quotes_that_nobody_reads_are_freed() {
    run(async {
        let server = Server::start().await;
        let quotes = unread_quotes(server.address).await;
        assert_eq!(open_calls(Mode::ServerStreaming, server.address).await, 1);
        quotes.cancel();
        until_nothing_is_open(Mode::ServerStreaming, server.address).await;
    });
}

#[test]
fn system_samples_whose_reader_goes_away_are_freed() {
    run(async {
        let server = Server::start().await;
        let mut client = server_streaming(server.address);
        let interval = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
        let samples = client.watch_system(WatchSystemRequest { interval, count: 0 }).await.unwrap();
        assert_eq!(open_calls(Mode::ServerStreaming, server.address).await, 1);
        drop(samples);
        until_nothing_is_open(Mode::ServerStreaming, server.address).await;
    });
}

#[test]
fn a_health_watch_whose_reader_goes_away_is_freed() {
    run(async {
        let server = Server::start().await;
        let mut client = HealthClient::new(channel(server.address));
        let watch = client.watch(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(open_calls(Mode::ServerStreaming, server.address).await, 1);
        drop(watch);
        until_nothing_is_open(Mode::ServerStreaming, server.address).await;
    });
}

type Upload = JoinHandle<Result<(), tonic::Status>>;

/// An upload of which the server has the beginning. It goes on for as long as
/// the sender lives.
async fn open_upload(server: &Server) -> (mpsc::Sender<RecordReadingsRequest>, Upload) {
    let (batches, receiver) = mpsc::channel(1);
    let mut client = client_streaming(server.address);
    let upload =
        tokio::spawn(async move { client.record_readings(ReceiverStream::new(receiver)).await.map(|_| ()) });
    batches.send(test_support::first_batch()).await.unwrap();
    until(async || open_calls(Mode::ClientStreaming, server.address).await == 1).await;
    (batches, upload)
}

#[test]
fn an_upload_that_is_cancelled_is_freed() {
    run(async {
        let server = Server::start().await;
        let (_batches, upload) = open_upload(&server).await;
        upload.abort();
        until_nothing_is_open(Mode::ClientStreaming, server.address).await;
        assert_eq!(status_of(Mode::ClientStreaming, server.address).await.messages_sent, 0);
    });
}

#[test]
fn a_chat_that_is_cancelled_is_freed_and_its_member_is_gone() {
    run(async {
        let server = Server::start().await;
        let mut ana = Member::joined(server.address, "lobby", "ana").await;
        let ben = raw_member(server.address, "ben").await;
        assert_eq!(ana.hear().await.unwrap(), "2 ben joined ana, ben");
        assert_eq!(open_calls(Mode::BidiStreaming, server.address).await, 2);
        ben.cancel();
        assert_eq!(ana.hear().await.unwrap(), "3 ben left");
        until(async || open_calls(Mode::BidiStreaming, server.address).await == 1).await;
        drop(ana);
        until_nothing_is_open(Mode::BidiStreaming, server.address).await;
        let mut cat = Member::silent(channel(server.address)).await;
        cat.join("lobby", "cat").await;
        assert_eq!(cat.hear().await.unwrap(), "5 cat joined cat");
    });
}

/// A connection and the switch that cuts it without a word.
async fn fragile(address: SocketAddr) -> (Channel, JoinHandle<()>) {
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", relay.local_addr().unwrap());
    let cut = tokio::spawn(async move {
        let (mut client, _) = relay.accept().await.unwrap();
        let mut server = tokio::net::TcpStream::connect(address).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    (Endpoint::from_shared(endpoint).unwrap().connect_lazy(), cut)
}

#[test]
fn all_calls_of_a_connection_that_is_cut_are_freed() {
    run(async {
        let server = Server::start().await;
        let mut ana = Member::joined(server.address, "lobby", "ana").await;

        let (connection, cut) = fragile(server.address).await;
        let mut ben = Member::silent(connection.clone()).await;
        ben.join("lobby", "ben").await;
        assert_eq!(ben.hear().await.unwrap(), "2 ben joined ana, ben");
        let mut client = ServerStreamingServiceClient::new(connection.clone());
        let mut quotes = client.watch_quotes(WatchQuotesRequest::default()).await.unwrap().into_inner();
        quotes.message().await.unwrap().unwrap();
        let (_batches, receiver) = mpsc::channel::<RecordReadingsRequest>(1);
        let mut client = ClientStreamingServiceClient::new(connection);
        let upload = tokio::spawn(async move { client.record_readings(ReceiverStream::new(receiver)).await });
        for mode in [Mode::ServerStreaming, Mode::ClientStreaming] {
            until(async || open_calls(mode, server.address).await == 1).await;
        }

        cut.abort();
        assert_eq!(ana.hear_until("ben left").await.len(), 2);
        until_nothing_is_open(Mode::ServerStreaming, server.address).await;
        until_nothing_is_open(Mode::ClientStreaming, server.address).await;
        until(async || open_calls(Mode::BidiStreaming, server.address).await == 1).await;
        assert!(upload.await.unwrap().is_err());
        ben.failure().await;
    });
}

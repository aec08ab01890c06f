//! How many posts a second one room accepts, and how long each takes:
//!
//! ```text
//! cargo run --release --example chat_load -- http://127.0.0.1:50051 [members] [posts of each] [in flight]
//! ```
//!
//! The members are in one process, each on a connection of its own, and each of
//! them hears all that all of them say.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use shared_proto::fourmodes::v1::{
    ChatRequest, JoinRoom, PostText, bidi_streaming_service_client::BidiStreamingServiceClient,
    chat_request::Action, chat_response::Response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use uuid::Uuid;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("which server?")?;
    let mut number = |otherwise: usize| arguments.next().map_or(Ok(otherwise), |number| number.parse());
    let (members, posts, in_flight) = (number(8)?, number(20_000)?, number(64)?);
    let room = format!("load-{}", Uuid::new_v4());
    let begun = Instant::now();
    let running: Vec<_> =
        (0..members).map(|n| tokio::spawn(member(url.clone(), room.clone(), n, posts, in_flight))).collect();
    let mut took = Vec::new();
    let mut accepted = Duration::ZERO;
    for member in running {
        let (each, last) = member.await??;
        took.extend(each);
        accepted = accepted.max(last.duration_since(begun));
    }
    took.sort_unstable();
    let percentile = |p: usize| took[(took.len() - 1) * p / 100];
    println!(
        "{} posts of {members} members accepted in {accepted:.2?}: {:.0}/s; p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        took.len(),
        took.len() as f64 / accepted.as_secs_f64(),
        percentile(50),
        percentile(99),
        percentile(100),
    );
    println!("all of them heard by everyone after {:.2?}", begun.elapsed());
    Ok(())
}

/// How long each post took until it was accepted, and when the last one was.
async fn member(
    url: String,
    room: String,
    number: usize,
    posts: usize,
    in_flight: usize,
) -> anyhow::Result<(Vec<Duration>, Instant)> {
    let channel = Endpoint::from_shared(url)?
        .initial_stream_window_size(grpc_wire::limits::STREAM_WINDOW)
        .initial_connection_window_size(grpc_wire::limits::CONNECTION_WINDOW)
        .connect()
        .await?;
    let (requests, receiver) = mpsc::channel(in_flight + 1);
    let join = JoinRoom { room, name: format!("member {number}"), ..JoinRoom::default() };
    requests.send(ChatRequest { action: Some(Action::Join(join)) }).await?;
    let mut client = BidiStreamingServiceClient::new(channel);
    let mut responses = client.chat(ReceiverStream::new(receiver)).await?.into_inner();
    let mut requests = Some(requests);
    let (mut sent, mut waiting, mut took) = (0, VecDeque::new(), Vec::with_capacity(posts));
    let mut last = Instant::now();
    let mut heard = 0;
    loop {
        while let Some(open) = &requests
            && waiting.len() < in_flight
        {
            if sent == posts {
                break;
            }
            sent += 1;
            let text = format!("{sent:>64}");
            let post = PostText { text, message_id: Uuid::now_v7().to_string() };
            waiting.push_back(Instant::now());
            open.send(ChatRequest { action: Some(Action::Post(post)) }).await?;
        }
        match responses.message().await?.and_then(|response| response.response) {
            Some(Response::Accepted(_)) => {
                last = Instant::now();
                took.push(last - waiting.pop_front().context("accepted a post that was not sent")?);
                if took.len() == posts {
                    // Leaves; what the others say until then is heard.
                    requests = None;
                }
            }
            Some(Response::Event(_)) => heard += 1,
            Some(Response::StillThere(_)) => {}
            None => break,
        }
    }
    ensure!(took.len() == posts && heard > posts, "{} accepted, {heard} heard", took.len());
    Ok((took, last))
}

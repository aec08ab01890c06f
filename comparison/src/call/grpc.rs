//! gRPC: the service for measuring, and `Multiply`.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures_util::stream;
use grpc_wire::limits::{self, MESSAGE_BYTES};
use shared_proto::fourmodes::v1::{
    MeasureBidiStreamingRequest, MeasureClientStreamingRequest, MeasureClientStreamingResponse,
    MeasureServerStreamingRequest, MeasureUnaryRequest, MultiplyRequest,
    measure_service_client::MeasureServiceClient, unary_service_client::UnaryServiceClient,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{
    Status,
    codegen::Bytes,
    transport::{Channel, Endpoint},
};

use super::Done;
use crate::work::Work;

/// The messages in one call of a stream, so that the cost of a call is none.
const RUN: u64 = 10_000;

/// How many streams a server allows on one connection.
pub(crate) const STREAMS_EACH: usize = 100;

type Client = MeasureServiceClient<Channel>;

pub(super) async fn go_on(address: SocketAddr, work: Work, done: Done) -> anyhow::Result<()> {
    let (connections, at_once) = work.in_flight();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let channel = connect(address).await?;
        for _ in 0..at_once {
            tasks.spawn(calls(channel.clone(), work, done.clone()));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// A connection, with the settings of our own client.
pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::FRAME_SIZE);
    Ok(endpoint.connect().await?)
}

async fn calls(channel: Channel, work: Work, done: Done) -> anyhow::Result<()> {
    let mut client = Client::new(channel.clone());
    let mut multiplying = UnaryServiceClient::new(channel);
    loop {
        match work {
            Work::Unary1 | Work::Unary4 | Work::Unary16 | Work::Unary64 | Work::Unary512 => {
                unary(&mut client, work, &done).await?
            }
            Work::ServerStreaming => server_streaming(&mut client, work, &done).await?,
            Work::ClientStreaming | Work::Values => client_streaming(&mut client, work, RUN, &done).await?,
            Work::Columnar | Work::Upload64kib => {
                client_streaming(&mut client, work, RUN / 10, &done).await?
            }
            Work::Upload1mib => client_streaming(&mut client, work, RUN / 100, &done).await?,
            Work::BidiStreaming => bidi_streaming(&mut client, work, &done).await?,
            Work::BidiPingPong => bidi_ping_pong(&mut client, work, &done).await?,
            Work::Multiply1 | Work::Multiply64 => {
                let sent = Instant::now();
                multiplying.multiply(MultiplyRequest { a: 6, b: 7 }).await?;
                done.answered(sent);
            }
        }
    }
}

async fn unary(client: &mut Client, work: Work, done: &Done) -> Result<(), Status> {
    let sent = Instant::now();
    client.measure_unary(MeasureUnaryRequest { payload: payload(work), response_bytes: size(work) }).await?;
    done.answered(sent);
    Ok(())
}

async fn server_streaming(client: &mut Client, work: Work, done: &Done) -> Result<(), Status> {
    let request = MeasureServerStreamingRequest { count: RUN, response_bytes: size(work) };
    let mut responses = client.measure_server_streaming(request).await?.into_inner();
    while responses.message().await?.is_some() {
        done.more(1);
    }
    Ok(())
}

async fn client_streaming(client: &mut Client, work: Work, run: u64, done: &Done) -> Result<(), Status> {
    let (sent, payload, values) = (done.clone(), payload(work), work.values() as u64);
    let requests = stream::iter(0..run).map(move |_| {
        sent.more(values.max(1));
        MeasureClientStreamingRequest { payload: payload.clone(), values: (0..values).collect() }
    });
    let response = client.measure_client_streaming(requests).await?.into_inner();
    if (response.messages, response.values) != (run, run * values) {
        let MeasureClientStreamingResponse { messages, values, .. } = response;
        return Err(Status::data_loss(format!("{messages} of {run} messages arrived, with {values} values")));
    }
    Ok(())
}

async fn bidi_streaming(client: &mut Client, work: Work, done: &Done) -> Result<(), Status> {
    let payload = payload(work);
    let requests = stream::iter(0..RUN)
        .map(move |_| MeasureBidiStreamingRequest { payload: payload.clone(), response_bytes: size(work) });
    let mut responses = client.measure_bidi_streaming(requests).await?.into_inner();
    while responses.message().await?.is_some() {
        done.more(1);
    }
    Ok(())
}

/// Sends the first message before the head of the answer is there: some servers send the head with
/// the first response.
async fn bidi_ping_pong(client: &mut Client, work: Work, done: &Done) -> anyhow::Result<()> {
    let request = MeasureBidiStreamingRequest { payload: payload(work), response_bytes: size(work) };
    let (sender, requests) = mpsc::channel(1);
    let mut sent = Instant::now();
    sender.send(request.clone()).await?;
    let mut responses = client.measure_bidi_streaming(ReceiverStream::new(requests)).await?.into_inner();
    loop {
        responses.message().await?.context("the server has ended the stream")?;
        done.answered(sent);
        sent = Instant::now();
        // A call that takes no more requests answers with the reason.
        let _ = sender.send(request.clone()).await;
    }
}

/// Opens a stream, and when it is `time` sends a message of so many bytes and
/// waits for one as long, again and again; tells how long each answer took. It
/// ends only with an error.
pub(crate) async fn converse(
    channel: Channel,
    bytes: u32,
    time: impl Future,
    mut answered: impl FnMut(Duration),
) -> anyhow::Result<()> {
    // With its fields a message of 4 MiB is not longer than one may be.
    let bytes = bytes.min(MESSAGE_BYTES as u32 - 10);
    let payload = Bytes::from(vec![0; bytes as usize]);
    let (sender, requests) = mpsc::channel(1);
    let mut client = Client::new(channel).max_decoding_message_size(MESSAGE_BYTES as usize);
    let mut responses = client.measure_bidi_streaming(ReceiverStream::new(requests)).await?.into_inner();
    time.await;
    loop {
        let begun = Instant::now();
        let request = MeasureBidiStreamingRequest { payload: payload.clone(), response_bytes: bytes };
        // Whoever takes none any more answers with the reason.
        let _ = sender.send(request).await;
        let response = responses.message().await?.context("the server has ended the stream")?;
        ensure!(response.payload.len() == payload.len(), "{} bytes came back", response.payload.len());
        answered(begun.elapsed());
    }
}

fn payload(work: Work) -> Bytes {
    vec![0; work.message()].into()
}

fn size(work: Work) -> u32 {
    u32::try_from(work.message()).unwrap_or(u32::MAX)
}

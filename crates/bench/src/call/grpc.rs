//! gRPC: the standard interop service, which every contestant of gRPC has, and
//! `Multiply`.

use std::net::SocketAddr;

use shared_proto::{
    fourmodes::v1::{MultiplyRequest, unary_service_client::UnaryServiceClient},
    limits,
    testing::{
        Payload, ResponseParameters, SimpleRequest, StreamingInputCallRequest, StreamingOutputCallRequest,
        test_service_client::TestServiceClient,
    },
};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::Done;
use crate::work::Work;

/// The messages in one call of a stream, so that the cost of a call is none.
const RUN: usize = 10_000;

type Client = TestServiceClient<Channel>;

pub(super) async fn go_on(address: SocketAddr, work: Work, done: Done) -> anyhow::Result<()> {
    let (connections, at_once) = work.in_flight();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .initial_stream_window_size(limits::STREAM_WINDOW)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .max_frame_size(limits::FRAME_SIZE)
            .connect()
            .await?;
        for _ in 0..at_once {
            tasks.spawn(calls(channel.clone(), work, done.clone()));
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn calls(channel: Channel, work: Work, done: Done) -> Result<(), Status> {
    let mut client = Client::new(channel.clone());
    let mut multiplying = UnaryServiceClient::new(channel);
    loop {
        match work {
            Work::Unary1 | Work::Unary64 | Work::Unary512 => unary(&mut client, work, &done).await?,
            Work::ServerStreaming => server_streaming(&mut client, work, &done).await?,
            Work::ClientStreaming => client_streaming(&mut client, work, RUN, &done).await?,
            Work::Upload64kib => client_streaming(&mut client, work, RUN / 10, &done).await?,
            Work::Upload1mib => client_streaming(&mut client, work, RUN / 100, &done).await?,
            Work::BidiStreaming => bidi_streaming(&mut client, work, &done).await?,
            Work::Multiply1 | Work::Multiply64 => {
                multiplying.multiply(MultiplyRequest { a: 6, b: 7 }).await?;
                done.more(1);
            }
        }
    }
}

async fn unary(client: &mut Client, work: Work, done: &Done) -> Result<(), Status> {
    let (response_size, payload) = (size(work), payload(work));
    client.unary_call(SimpleRequest { response_size, payload, ..SimpleRequest::default() }).await?;
    done.more(1);
    Ok(())
}

async fn server_streaming(client: &mut Client, work: Work, done: &Done) -> Result<(), Status> {
    let request = StreamingOutputCallRequest {
        response_parameters: vec![parameters(work); RUN],
        ..StreamingOutputCallRequest::default()
    };
    let mut responses = client.streaming_output_call(request).await?.into_inner();
    while responses.message().await?.is_some() {
        done.more(1);
    }
    Ok(())
}

async fn client_streaming(client: &mut Client, work: Work, run: usize, done: &Done) -> Result<(), Status> {
    let (sent, payload) = (done.clone(), payload(work));
    let requests = tokio_stream::iter(0..run).map(move |_| {
        sent.more(1);
        StreamingInputCallRequest { payload: payload.clone(), ..StreamingInputCallRequest::default() }
    });
    let response = client.streaming_input_call(requests).await?.into_inner();
    match usize::try_from(response.aggregated_payload_size) {
        Ok(size) if size == run * work.message() => Ok(()),
        _ => Err(Status::data_loss(format!("{} bytes arrived", response.aggregated_payload_size))),
    }
}

async fn bidi_streaming(client: &mut Client, work: Work, done: &Done) -> Result<(), Status> {
    let requests = tokio_stream::iter(0..RUN).map(move |_| StreamingOutputCallRequest {
        response_parameters: vec![parameters(work)],
        payload: payload(work),
        ..StreamingOutputCallRequest::default()
    });
    let mut responses = client.full_duplex_call(requests).await?.into_inner();
    while responses.message().await?.is_some() {
        done.more(1);
    }
    Ok(())
}

fn parameters(work: Work) -> ResponseParameters {
    ResponseParameters { size: size(work), ..ResponseParameters::default() }
}

fn payload(work: Work) -> Option<Payload> {
    Some(Payload { body: vec![0; work.message()].into(), ..Payload::default() })
}

fn size(work: Work) -> i32 {
    i32::try_from(work.message()).unwrap_or(i32::MAX)
}

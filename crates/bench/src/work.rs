//! What a client does with a server, as fast as it can, until it is told to stop.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use shared_proto::{
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
    transport::{Channel, Endpoint, Uri},
};

/// The bytes in a small message.
const SMALL: usize = 32;
/// The messages in one call of a stream, so that the cost of a call is none.
const RUN: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Work {
    /// Unary calls, one at a time
    #[value(name = "unary-1")]
    #[serde(rename = "unary-1")]
    Unary1,
    /// Unary calls, 64 in flight
    #[value(name = "unary-64")]
    #[serde(rename = "unary-64")]
    Unary64,
    /// Unary calls, 512 in flight over 8 connections
    #[value(name = "unary-512")]
    #[serde(rename = "unary-512")]
    Unary512,
    /// Small messages from the server
    ServerStreaming,
    /// Small messages to the server
    ClientStreaming,
    /// Small messages to the server, each answered
    BidiStreaming,
}

type Client = TestServiceClient<Channel>;

impl Work {
    pub(crate) const ALL: [Self; 6] = [
        Self::Unary1,
        Self::Unary64,
        Self::Unary512,
        Self::ServerStreaming,
        Self::ClientStreaming,
        Self::BidiStreaming,
    ];

    /// Works on `url`, counting what was done in `done`, until it is dropped; it
    /// ends by itself only with an error.
    pub(crate) async fn go_on(self, url: &Uri, done: Arc<AtomicU64>) -> anyhow::Result<()> {
        let (connections, at_once) = match self {
            Self::Unary64 => (1, 64),
            // A server has 100 streams for a connection.
            Self::Unary512 => (8, 64),
            _ => (1, 1),
        };
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let channel = Endpoint::from(url.clone())
                .initial_stream_window_size(limits::STREAM_WINDOW)
                .initial_connection_window_size(limits::CONNECTION_WINDOW)
                .connect()
                .await?;
            for _ in 0..at_once {
                let (mut client, done) = (Client::new(channel.clone()), done.clone());
                tasks.spawn(async move {
                    loop {
                        match self {
                            Self::Unary1 | Self::Unary64 | Self::Unary512 => {
                                unary(&mut client, &done).await?
                            }
                            Self::ServerStreaming => server_streaming(&mut client, &done).await?,
                            Self::ClientStreaming => client_streaming(&mut client, &done).await?,
                            Self::BidiStreaming => bidi_streaming(&mut client, &done).await?,
                        }
                    }
                });
            }
        }
        while let Some(ended) = tasks.join_next().await {
            let ended: Result<(), Status> = ended?;
            ended?;
        }
        Ok(())
    }
}

async fn unary(client: &mut Client, done: &AtomicU64) -> Result<(), Status> {
    let (response_size, payload) = (SMALL as i32, payload());
    client.unary_call(SimpleRequest { response_size, payload, ..SimpleRequest::default() }).await?;
    done.fetch_add(1, Relaxed);
    Ok(())
}

async fn server_streaming(client: &mut Client, done: &AtomicU64) -> Result<(), Status> {
    let request = StreamingOutputCallRequest {
        response_parameters: vec![small(); RUN],
        ..StreamingOutputCallRequest::default()
    };
    let mut responses = client.streaming_output_call(request).await?.into_inner();
    while responses.message().await?.is_some() {
        done.fetch_add(1, Relaxed);
    }
    Ok(())
}

async fn client_streaming(client: &mut Client, done: &Arc<AtomicU64>) -> Result<(), Status> {
    let sent = done.clone();
    let requests = tokio_stream::iter(0..RUN).map(move |_| {
        sent.fetch_add(1, Relaxed);
        StreamingInputCallRequest { payload: payload(), ..StreamingInputCallRequest::default() }
    });
    let response = client.streaming_input_call(requests).await?.into_inner();
    match usize::try_from(response.aggregated_payload_size) {
        Ok(size) if size == RUN * SMALL => Ok(()),
        _ => Err(Status::data_loss(format!("{} bytes arrived", response.aggregated_payload_size))),
    }
}

async fn bidi_streaming(client: &mut Client, done: &AtomicU64) -> Result<(), Status> {
    let requests = tokio_stream::iter(0..RUN).map(|_| StreamingOutputCallRequest {
        response_parameters: vec![small()],
        payload: payload(),
        ..StreamingOutputCallRequest::default()
    });
    let mut responses = client.full_duplex_call(requests).await?.into_inner();
    while responses.message().await?.is_some() {
        done.fetch_add(1, Relaxed);
    }
    Ok(())
}

fn small() -> ResponseParameters {
    ResponseParameters { size: SMALL as i32, ..ResponseParameters::default() }
}

fn payload() -> Option<Payload> {
    Some(Payload { body: vec![0; SMALL].into(), ..Payload::default() })
}

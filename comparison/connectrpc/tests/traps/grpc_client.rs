//! The client of the crate `grpc`. Its generated code needs plugins of protoc, its channel does
//! not: here a message is bytes.

use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use grpc::{
    client::{
        CallOptions, Channel, ChannelOptions, DynRecvStream, DynSendStream, Invoke as _, RecvStream as _,
        ResponseStreamItem, SendOptions, SendStream as _,
    },
    core::{RecvMessage, RequestHeaders, SendMessage},
    credentials::LocalChannelCredentials,
};

use crate::{SERVICE, soon};

/// A channel with its defaults.
pub(crate) fn connect(address: SocketAddr) -> Channel {
    let target = format!("dns:///{address}");
    Channel::new(target, LocalChannelCredentials::new_arc(), ChannelOptions::default())
}

pub(crate) struct Call {
    /// Dropped, it ends the connection below the call.
    _channel: Channel,
    requests: Box<dyn DynSendStream>,
    pub(crate) responses: Box<dyn DynRecvStream>,
}

impl Call {
    pub(crate) async fn begin(channel: &Channel, method: &str) -> Self {
        Self::with(CallOptions::default(), channel, method).await
    }

    pub(crate) async fn with(options: CallOptions, channel: &Channel, method: &str) -> Self {
        let headers = RequestHeaders::new().with_method_name(format!("/{SERVICE}/{method}"));
        let (requests, responses) = soon(channel.invoke(headers, options)).await;
        Self { _channel: channel.clone(), requests, responses }
    }

    /// Sends an empty message.
    pub(crate) async fn send(&mut self) -> Result<(), ()> {
        soon(self.requests.send(&Raw::default(), SendOptions::default())).await
    }

    pub(crate) async fn receive(&mut self) -> ResponseStreamItem {
        self.responses.recv(&mut Raw::default()).await
    }

    /// Waits for the headers.
    pub(crate) async fn headers(&mut self) {
        assert!(matches!(soon(self.receive()).await, ResponseStreamItem::Headers(_)));
    }

    /// Waits for the end, and returns the message of the error.
    pub(crate) async fn error(&mut self) -> String {
        match soon(self.receive()).await {
            ResponseStreamItem::Trailers(trailers) => {
                trailers.into_status().unwrap_err().message().to_owned()
            }
            other => panic!("no trailers: {other:?}"),
        }
    }
}

/// An encoded message.
#[derive(Default)]
struct Raw(Bytes);

impl SendMessage for Raw {
    fn encode(&self) -> Result<Box<dyn Buf + Send + Sync>, String> {
        Ok(Box::new(self.0.clone()))
    }
}

impl RecvMessage for Raw {
    fn decode(&mut self, data: &mut dyn Buf) -> Result<(), String> {
        self.0 = data.copy_to_bytes(data.remaining());
        Ok(())
    }
}

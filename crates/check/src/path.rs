//! The way to a server: what a check works on.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use grpc_wire::limits;
use http::{HeaderMap, Uri};
use prost::Message;
use shared_proto::{fourmodes::v1 as pb, testing::Empty};
use tokio::{net::TcpStream, time::timeout};
use tonic::Code;
use transport::{CallError, Connect, Connector, Tls, dial};
use uuid::Uuid;

use crate::{
    Request,
    evidence::Evidence,
    outcome::Outcome,
    remedies::Products,
    wire::{Call, Unary, Wire, within},
    wire_error::WireError,
};

pub(crate) const UNARY: &str = "/fourmodes.v1.ProbeService/Unary";
pub(crate) const SERVER_STREAMING: &str = "/fourmodes.v1.ProbeService/ServerStreaming";
pub(crate) const CLIENT_STREAMING: &str = "/fourmodes.v1.ProbeService/ClientStreaming";
pub(crate) const BIDI_STREAMING: &str = "/fourmodes.v1.ProbeService/BidiStreaming";
/// The least that `grpc.testing.TestService` can be asked.
pub(crate) const EMPTY_CALL: &str = "/grpc.testing.TestService/EmptyCall";
const GET_OBSERVATION: &str = "/fourmodes.v1.ProbeService/GetObservation";

/// How long a connection may take, and the first call on it.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// What the server understands, of what the checks need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `fourmodes.v1.ProbeService`.
    Probe,
    /// `grpc.testing.TestService`.
    Standard,
    /// Neither.
    Other,
}

/// The way to one server, and what is known of it.
#[derive(Clone)]
pub(crate) struct Path {
    pub(crate) server: Uri,
    pub(crate) connector: Connector,
    /// How long an idle stream is to live, if that is to be known.
    pub(crate) idle: Option<Duration>,
    /// Whether `grpc.testing.TestService` is to be used.
    pub(crate) standard: bool,
    /// What the first call told; unset, calls do not get through.
    pub(crate) known: Arc<OnceLock<Known>>,
    pace: Arc<Mutex<Pace>>,
    /// The connections of one check.
    pub(crate) evidence: Arc<Evidence>,
    pub(crate) products: Products,
}

/// What is known of a server.
pub(crate) struct Known {
    pub(crate) dialect: Dialect,
    pub(crate) limits: Option<pb::ServerLimits>,
}

/// How fast the path is, as far as that was measured.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Pace {
    /// To the server and back.
    pub(crate) round_trip: Duration,
    /// Bytes a second, in the slower direction.
    pub(crate) rate: Option<f64>,
}

impl Pace {
    /// How long so many bytes take.
    pub(crate) fn time_for(&self, bytes: u64) -> Duration {
        let seconds = self.rate.map_or(0.0, |rate| bytes as f64 / rate.max(1.0));
        self.round_trip + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 2)
    }

    /// Calls side by side would be in each other's way.
    pub(crate) fn is_narrow(&self) -> bool {
        self.time_for(1 << 20).saturating_sub(self.round_trip) > Duration::from_secs(2)
    }

    /// `time` for what is near, and more for what is far away: that many round trips.
    pub(crate) fn within(&self, time: Duration, round_trips: u32) -> Duration {
        time + Duration::from_millis(self.round_trip.as_millis() as u64 * u64::from(round_trips))
    }
}

impl Path {
    pub(crate) fn new(request: &Request) -> Self {
        Self {
            server: request.server.clone(),
            connector: request.connector.clone(),
            idle: request.idle,
            standard: request.standard,
            known: Arc::default(),
            pace: Arc::default(),
            evidence: Arc::default(),
            products: Products::default(),
        }
    }

    /// For one check, whose evidence is its own.
    pub(crate) fn for_one(&self) -> Self {
        Self { evidence: Arc::default(), ..self.clone() }
    }

    pub(crate) fn pace(&self) -> Pace {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn learn(&self, pace: Pace) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = pace;
    }

    /// How long one side waits for the other where nothing is to be waited for.
    pub(crate) fn answer(&self) -> Duration {
        self.pace().within(Duration::from_secs(3), 5)
    }

    /// How long an answer may take that may have to wait for what fills the path.
    pub(crate) fn patience(&self) -> Duration {
        self.pace().within(SOON, 5) + self.pace().time_for(limits::STREAM_WINDOW.into())
    }

    pub(crate) fn dialect(&self) -> Option<Dialect> {
        self.known.get().map(|known| known.dialect)
    }

    /// What the server bears, or what ours does where it has not said it.
    pub(crate) fn limits(&self) -> pb::ServerLimits {
        let told = self.known.get().and_then(|known| known.limits);
        told.unwrap_or(pb::ServerLimits {
            max_concurrent_streams: 100,
            max_unary_message_bytes: limits::UNARY_MESSAGE_BYTES,
            max_stream_message_bytes: limits::MESSAGE_BYTES,
            max_header_list_bytes: 16 << 10,
        })
    }

    /// How long a message of a unary call may be.
    pub(crate) fn unary_limit(&self) -> u32 {
        let limits = self.limits();
        limits.max_unary_message_bytes.min(limits.max_stream_message_bytes).try_into().unwrap_or(u32::MAX)
    }

    pub(crate) fn host(&self) -> &str {
        self.server.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// A TCP connection to the first address that takes one.
    pub(crate) async fn dial(&self) -> Result<TcpStream, WireError> {
        let dialled = timeout(SOON, dial(&self.server)).await;
        let (reason, what) = match dialled {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => (error.reason, CallError::from(error).message),
            Err(_) => (Connect::TimedOut, io::Error::from(io::ErrorKind::TimedOut).to_string()),
        };
        let (cause, remedy) = match reason {
            Connect::Refused => (
                "nothing listens at that address",
                "check whether the server or the proxy runs, and its address and port",
            ),
            Connect::TimedOut => (
                "the host is unreachable, or a firewall drops the connection",
                "check the address, and let the port through the firewall or the security group",
            ),
            _ => ("the network rejects the connection", "check the address and the port"),
        };
        Err(WireError::Unconnected(what, cause, remedy))
    }

    /// TLS, when the path has it.
    pub(crate) fn tls(&self) -> Result<Option<Tls>, WireError> {
        Ok(self.connector.tls(&self.server)?)
    }

    /// A connection of its own, so that no check is in the way of another.
    pub(crate) async fn open(&self) -> Result<Wire, WireError> {
        let socket = self.dial().await?;
        let seen = self.evidence.connection(socket.peer_addr().ok(), &self.products);
        Wire::on(socket, self.tls()?, &self.server, &self.connector.metadata, seen).await
    }

    /// Asks `grpc.testing.TestService` for nothing.
    pub(crate) async fn empty_call(&self) -> Result<Unary<Empty>, WireError> {
        self.open().await?.unary(EMPTY_CALL, HeaderMap::new(), &Empty {}).await
    }

    /// A unary call of the probe, on a connection of its own.
    pub(crate) async fn unary(&self, script: pb::Script) -> Result<Unary<pb::UnaryResponse>, WireError> {
        self.unary_with(HeaderMap::new(), script).await
    }

    pub(crate) async fn unary_with(
        &self,
        metadata: HeaderMap,
        script: pb::Script,
    ) -> Result<Unary<pb::UnaryResponse>, WireError> {
        let request = pb::UnaryRequest { script: Some(script), payload: Bytes::new() };
        self.open().await?.unary(UNARY, metadata, &request).await
    }

    /// A server-streaming call of the probe that has been asked.
    pub(crate) async fn server_streaming(
        &self,
        script: pb::Script,
    ) -> Result<Alone<pb::ServerStreamingRequest, pb::ServerStreamingResponse>, WireError> {
        let mut call = self.alone(SERVER_STREAMING, HeaderMap::new()).await?;
        let request = pb::ServerStreamingRequest { script: Some(script), payload: Bytes::new() };
        call.ask(&request).await;
        Ok(call)
    }

    /// A client-streaming call of the probe that has its script.
    pub(crate) async fn client_streaming(
        &self,
        script: pb::Script,
    ) -> Result<Alone<pb::ClientStreamingRequest, pb::ClientStreamingResponse>, WireError> {
        let mut call = self.alone(CLIENT_STREAMING, HeaderMap::new()).await?;
        call.send(&pb::ClientStreamingRequest { script: Some(script), payload: Bytes::new() }).await?;
        Ok(call)
    }

    /// A bidirectional call of the probe that has its script.
    pub(crate) async fn bidi_streaming(
        &self,
        script: pb::Script,
    ) -> Result<Alone<pb::BidiStreamingRequest, pb::BidiStreamingResponse>, WireError> {
        let mut call = self.alone(BIDI_STREAMING, HeaderMap::new()).await?;
        call.send(&pb::BidiStreamingRequest { script: Some(script), payload: Bytes::new() }).await?;
        Ok(call)
    }

    /// Any call, on a connection of its own.
    pub(crate) async fn alone<Q: Message, R: Message + Default>(
        &self,
        method: &str,
        metadata: HeaderMap,
    ) -> Result<Alone<Q, R>, WireError> {
        let wire = self.open().await?;
        let call = wire.call(method, metadata).await?;
        Ok(Alone { call, _wire: wire })
    }

    /// Asks what the server has seen of a call until that is `enough`, or `time`
    /// is over. Where several servers answer it asks until it gets to the right
    /// one; none, when it did not.
    pub(crate) async fn observe(
        &self,
        id: Uuid,
        time: Duration,
        enough: impl Fn(&pb::Observation) -> bool,
    ) -> Result<Option<pb::Observation>, WireError> {
        const PAUSE: Duration = Duration::from_millis(20);
        let mut wire = self.open().await?;
        let begun = std::time::Instant::now();
        let mut seen = None;
        loop {
            let request = pb::GetObservationRequest { call_id: id.to_string() };
            let asked = wire.unary::<pb::GetObservationResponse>(GET_OBSERVATION, HeaderMap::new(), &request);
            match within(self.patience(), asked).await {
                Ok(response) => seen = response.message.observation.or(seen),
                // The next connection may be to another instance.
                Err(lost) if lost.status().is_some_and(|status| status.code() == Code::NotFound) => {
                    wire = self.open().await?;
                }
                Err(lost) => return Err(lost),
            }
            if seen.as_ref().is_some_and(&enough) || begun.elapsed() >= time {
                return Ok(seen);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Why a check that needs `ProbeService` has to be left out, if it has to.
    pub(crate) fn without_probe(&self) -> Outcome {
        Outcome::skip(match self.dialect() {
            Some(Dialect::Standard) => {
                "grpc.testing.TestService does not support this; it needs fourmodes.v1.ProbeService"
            }
            _ => "this needs fourmodes.v1.ProbeService or grpc.testing.TestService at the server",
        })
    }
}

/// A call with the connection that is for it alone.
pub(crate) struct Alone<Q, R> {
    call: Call<Q, R>,
    _wire: Wire,
}

impl<Q, R> std::ops::Deref for Alone<Q, R> {
    type Target = Call<Q, R>;

    fn deref(&self) -> &Self::Target {
        &self.call
    }
}

impl<Q, R> std::ops::DerefMut for Alone<Q, R> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.call
    }
}

/// The observation in an answer; without it the answer is none of the probe's.
pub(crate) fn seen(observation: Option<pb::Observation>) -> Result<pb::Observation, WireError> {
    observation
        .ok_or_else(|| WireError::Malformed("an answer of the probe without an observation".to_owned()))
}

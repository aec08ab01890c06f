//! How a client reaches a gRPC server, and what it means when a call breaks.
//!
//! A [`Connector`] knows what all connections have in common. It [dials](dial()) the
//! server's address, puts [TLS](Tls) on the socket where the address says so, and
//! speaks HTTP/2 over it. Its [`Channel`] is what generated clients call by. What
//! goes wrong on the way or on a call is a [`CallError`].
//!
//! [`Servers`] and [`retry`] are the rules for a client that has several servers, or
//! makes a call again. They are plain values: no clock, no network.

mod answer;
mod call_error;
mod channel;
mod connect_error;
mod connector;
mod deadline;
mod dial;
mod metadata;
mod onlooker;
pub mod retry;
mod servers;
mod stream;
mod tls;
mod traffic;

pub use answer::Page;
pub use call_error::{CallError, Kind, explain};
pub use channel::{Channel, Silence};
pub use connect_error::{Connect, ConnectError, TlsError};
pub use connector::{Connector, USER_AGENT, serves};
pub use dial::{dial, is_tls, resolve};
pub use grpc_wire::Mode;
pub use metadata::{Abort, Delay, OutgoingMetadata};
pub use onlooker::{Onlooker, Onlookers, Passed};
pub use servers::{Place, Servers};
pub use stream::Stream;
pub use tls::{Handshake, Identity, Tls, TlsFiles};
pub use traffic::{Counted, Traffic};

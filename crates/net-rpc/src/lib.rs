//! Go's `net/rpc` in Rust, on all three of its transports: gob over TCP, gob behind an HTTP CONNECT, and
//! JSON-RPC 1.0. An unchanged Go client calls this server, and this client calls a Go server.
//!
//! ```no_run
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # #[serde(rename_all = "PascalCase")]
//! # struct Args { a: i64, b: i64 }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use net_rpc::{Client, ClientLimits, Registry, ServerLimits, Transport, serve};
//!
//! let mut registry = Registry::new();
//! registry.register("MathService.Multiply", async |args: Args| args.a.checked_mul(args.b).ok_or("overflow"))?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?;
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let stopped = async { drop(stopped.await) };
//! let server = serve(listener, registry.into(), ServerLimits::default(), |_, _| (), stopped);
//! let server = tokio::spawn(server);
//!
//! let stream = tokio::net::TcpStream::connect(address).await?;
//! let client = Client::connect(stream, Transport::Tcp, ClientLimits::default(), |_| ()).await?;
//! let product: i64 = client.call("MathService.Multiply", &Args { a: 6, b: 7 }).await?;
//! # drop(stop); server.await?; Ok(()) }
//! ```
//!
//! # What is on the wire
//!
//! A request is a head (`ServiceMethod`, `Seq`) and a body; a response a head with an `Error` and a body,
//! which is an empty struct if there is an error. In JSON a request is
//! `{"method":"…","params":[…],"id":…}`, and a response `{"id":…,"result":…,"error":…}`. Answers come in any
//! order. [`gob`] says which Rust types pass.
//!
//! One port speaks all three. The first two bytes decide: gob has a byte above 0x7f there, HTTP a capital
//! letter, JSON a brace or white space.
//!
//! # Errors
//!
//! The client gets the text of an error and nothing else, as in Go. A method that is not there, and
//! arguments of another type, are errors of the call, and the connection goes on. Bytes that are no message
//! end it, after the answers to what came before.
//!
//! # Bounds
//!
//! | bound | default | at the bound |
//! |---|---|---|
//! | a message ([`gob::Limits::message`]) | 1 MiB; a request has two | the connection ends |
//! | descriptors, types, fields, names, depth ([`gob::Limits`]) | 64 KiB, 1,000, 1,000, 256 bytes, 64 | an error of the call, or the connection ends |
//! | open calls of a connection ([`Limits::calls`]) | 1,000 | the server stops reading |
//! | bytes of their requests ([`Limits::requests`]) | 4 MiB | the server stops reading |
//! | bytes of unsent answers ([`Limits::unsent`]) | 1 MiB | the server stops reading |
//! | a connection at rest ([`Limits::idle`]) | 10 minutes | the connection ends |
//! | connections ([`ServerLimits::connections`]) | 1,024 | the server stops accepting |
//! | open calls after the shutdown ([`ServerLimits::drain`]) | 10 seconds | they are dropped |
//! | open calls and unsent bytes of a client ([`ClientLimits`]) | 10,000; 1 MiB | calls wait |
//!
//! # Where this differs from Go
//!
//! - Text has to be UTF-8.
//! - JSON: a `Vec<u8>` is an array of numbers; Go has base64.
//! - After the shutdown open calls are answered; Go has no shutdown.

mod client;
mod codec;
mod connection;
pub mod gob;
mod http;
pub mod json;
mod registry;
mod server;

pub use client::{CallError, Client, ClientLimits, ConnectError, Passed};
pub use codec::{CodecError, Transport};
pub use connection::{Call, ConnectionError, Limits, serve_connection};
pub use http::PATH;
pub use registry::{RegisterError, Registry};
pub use server::{Event, ServerLimits, serve};

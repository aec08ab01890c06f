//! One folder for each mode: decode the request, ask the domain, encode the answer.

pub(crate) mod bidi_streaming;
pub(crate) mod byte_stream;
pub(crate) mod client_streaming;
pub(crate) mod server_streaming;
mod task;
pub(crate) mod unary;

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use crate::refused::Refused;

/// The responses of a call that streams them.
type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn responses<T>(stream: impl Stream<Item = Result<T, Refused>> + Send + 'static) -> ResponseStream<T> {
    Box::pin(stream.map(|response| response.map_err(Status::from)))
}

//! Streams that say at least now and then that they are alive.

use std::time::Duration;

use shared_proto::limits::MONITORING_HEARTBEAT;
use tokio::time::timeout;
use tonic::Streaming;

use crate::failure::Failure;

/// The next response. A stream that stays silent is as lost as its connection:
/// something in between may keep that one open for a server that is gone.
pub(crate) async fn next<T>(responses: &mut Streaming<T>) -> Result<Option<T>, Failure> {
    const SILENCE: Duration = MONITORING_HEARTBEAT.saturating_mul(3);
    match timeout(SILENCE, responses.message()).await {
        Ok(response) => Ok(response?),
        Err(_) => Err(Failure::silent(SILENCE)),
    }
}

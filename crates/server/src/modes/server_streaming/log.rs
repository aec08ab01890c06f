//! A log that is followed.
//!
//! Copy: nothing is read before the transport asks for it, so a slow client slows
//! the reading down; what it has not read is on the disk. Each response has the
//! position after it, with which a client comes back.
//! Leave: looking again after a pause, where the writer is yours and can wake the
//! readers, as `feed.rs` has it.

use std::{sync::Arc, time::Duration};

use domain::logs::{Event, FileId, Follower, Logs, POLL, Position, Start};
use shared_proto::fourmodes::v1::{
    LogChunk, LogEdge, LogOpened, LogPosition, LogRotated, LogTruncated, TailLogResponse,
    tail_log_request::Start as WireStart, tail_log_response::Event as WireEvent,
};
use tokio::time::{Instant, sleep};
use tokio_stream::Stream;
use tonic::Status;

use super::{blocking, task::beat};
use crate::refused::{Refused, bad_request};

pub(super) async fn tail(
    logs: Arc<Logs>,
    file: String,
    start: Option<WireStart>,
    heartbeat: Duration,
) -> Result<impl Stream<Item = Result<TailLogResponse, Refused>>, Refused> {
    let start = start_of(start)?;
    let (follower, first) = blocking(move || logs.follow(&file, start)).await??;
    Ok(responses(follower, first, heartbeat))
}

fn responses(
    mut follower: Follower,
    mut event: Option<Event>,
    heartbeat: Duration,
) -> impl Stream<Item = Result<TailLogResponse, Refused>> {
    async_stream::try_stream! {
        let mut last = Instant::now();
        loop {
            let news = match event.take() {
                Some(event) => Some(wire(event)),
                None if last.elapsed() >= heartbeat => Some(WireEvent::Heartbeat(beat())),
                None => None,
            };
            match news {
                Some(event) => {
                    yield TailLogResponse { position: Some(position(follower.position())), event: Some(event) };
                    last = Instant::now();
                }
                None => sleep(POLL.min(heartbeat)).await,
            }
            let polled;
            (follower, polled) = blocking(move || {
                let polled = follower.poll();
                (follower, polled)
            })
            .await?;
            event = polled?;
        }
    }
}

fn start_of(wire: Option<WireStart>) -> Result<Start, Status> {
    /// In bytes; the server's own are shorter.
    const LONGEST_ID: usize = 128;
    match wire {
        None => Ok(Start::End),
        Some(WireStart::Offset(offset)) => Ok(Start::Offset(offset)),
        Some(WireStart::LastLines(lines)) => Ok(Start::LastLines(lines)),
        Some(WireStart::Edge(edge)) => match LogEdge::try_from(edge) {
            Ok(LogEdge::Start) => Ok(Start::Beginning),
            Ok(LogEdge::End) => Ok(Start::End),
            _ => Err(bad_request("edge", format!("edge {edge} is neither start nor end"))),
        },
        Some(WireStart::Position(LogPosition { file_id, .. })) if file_id.len() > LONGEST_ID => {
            let message =
                format!("file_id has {} bytes; no file_id of this server has that length", file_id.len());
            Err(bad_request("position.file_id", message))
        }
        Some(WireStart::Position(LogPosition { file_id, offset, check })) => {
            Ok(Start::Position(Position { file: FileId(file_id), offset, check }))
        }
    }
}

fn position(Position { file, offset, check }: Position) -> LogPosition {
    LogPosition { file_id: file.0, offset, check }
}

fn wire(event: Event) -> WireEvent {
    match event {
        Event::Opened { size } => WireEvent::Opened(LogOpened { size }),
        Event::Chunk(data) => WireEvent::Chunk(LogChunk { data: data.into() }),
        Event::Rotated { rest_missing } => WireEvent::Rotated(LogRotated { rest_missing }),
        Event::Truncated => WireEvent::Truncated(LogTruncated {}),
    }
}

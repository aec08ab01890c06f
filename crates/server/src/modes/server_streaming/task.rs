//! A task's progress: the latest wins.
//!
//! Copy: what is in the channel is the task as it is, so there is no queue that a
//! slow reader could fill. The call ends with the task, or with UNAVAILABLE when
//! nobody works on it any more, and never merely stops.
//! Leave: `watch`, where a reader needs each step and not only the last one: that
//! is `feed.rs`.

use std::time::{Duration, SystemTime};

use domain::tasks::Task;
use shared_proto::fourmodes::v1::{Heartbeat, WatchTaskResponse, watch_task_response::Event};
use stack::shutting_down;
use tokio::{sync::watch, time::timeout};
use tokio_stream::Stream;

use crate::{modes::task, refused::Refused};

pub(super) fn pushes(
    mut task: watch::Receiver<Task>,
    heartbeat: Duration,
) -> impl Stream<Item = Result<WatchTaskResponse, Refused>> {
    async_stream::try_stream! {
        task.mark_changed();
        let mut ended = false;
        while !ended {
            let event = match timeout(heartbeat, task.changed()).await {
                Ok(Ok(())) => {
                    let task = task.borrow_and_update().clone();
                    ended = task.state.is_end();
                    Event::Task(task::wire(task))
                }
                // Nobody works on it any more, and it has not ended.
                Ok(Err(_)) => Err(shutting_down())?,
                Err(_) => Event::Heartbeat(beat()),
            };
            yield WatchTaskResponse { event: Some(event) };
        }
    }
}

pub(super) fn beat() -> Heartbeat {
    Heartbeat { time: Some(SystemTime::now().into()) }
}

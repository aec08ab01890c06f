//! A task, watched until it has ended.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use indicatif::{ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use shared_proto::fourmodes::v1::{
    CountPrimes, SubmitTaskRequest, WatchTaskRequest,
    server_streaming_service_client::ServerStreamingServiceClient, submit_task_request::Work,
    watch_task_response::Event,
};
use timeline::words::counted;
use tonic::Code;
use uuid::Uuid;

use super::next;
use crate::modes::{task::Task, tour::Step};
use crate::{failure::Failure, session::Session};

#[derive(Debug, Default, Serialize)]
pub(crate) struct Watched {
    #[serde(flatten)]
    task: Task,
    /// Responses that had news.
    updates: u64,
    heartbeats: u64,
    reconnects: u64,
}

pub(crate) async fn task(session: &Session, id: Uuid, report: &mut Watched) -> Result<(), Failure> {
    show_progress(session);
    let mut calls = 0;
    let watched = session.resuming(async || {
        report.reconnects = calls;
        calls += 1;
        watch(session, id, report).await
    });
    watched.await?;
    match report.task.has_ended {
        true => Ok(()),
        false => Err(Failure::answer("the stream ended before the task did")),
    }
}

async fn watch(session: &Session, id: Uuid, report: &mut Watched) -> Result<(), Failure> {
    let mut client = ServerStreamingServiceClient::new(session.channel());
    let request = session.request(WatchTaskRequest { id: id.to_string() });
    let mut pushes = client.watch_task(request).await?.into_inner();
    while let Some(push) = next(&mut pushes).await? {
        session.progressed();
        match push.event {
            Some(Event::Task(task)) => {
                report.task = Task::of(Some(task))?;
                report.updates += 1;
                session.progress().set_length(report.task.total);
                session.progress().set_position(report.task.done);
            }
            Some(Event::Heartbeat(_)) => report.heartbeats += 1,
            None => return Err(Failure::answer("a response without news or heartbeat")),
        }
    }
    Ok(())
}

fn show_progress(session: &Session) {
    if io::stderr().is_terminal() {
        session.progress().set_draw_target(ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent} %, {eta}") {
            session.progress().set_style(style);
        }
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.updates == 0 {
            return Ok(());
        }
        write!(f, "{}\n    {}", self.task, counted(self.updates, "update"))?;
        write!(f, ", {}", counted(self.heartbeats, "heartbeat"))?;
        write!(f, ", {}", counted(self.reconnects, "reconnect"))
    }
}

pub(super) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "Long work is two calls: a unary one that submits it and ends at once, and a stream that follows it. \
         When this one breaks, the work goes on, and so does whoever asks again.",
    );
    let work = Work::CountPrimes(CountPrimes { below: 20_000_000 });
    let request = SubmitTaskRequest { request_id: Uuid::new_v4().to_string(), work: Some(work) };
    let submitted =
        session.unary_at_home(request, async |mut client, request| client.submit_task(request).await).await;
    let submitted = match submitted {
        Err(failure) if failure.is_status(Code::Unimplemented) => {
            session.note("This server takes no tasks, as it does not serve the unary mode.");
            return Ok(());
        }
        submitted => Task::of(submitted?.task)?,
    };
    let id = Uuid::try_parse(&submitted.id).map_err(|_| Failure::answer("a task whose id is no UUID"))?;
    let mut report = Watched::default();
    task(session, id, &mut report).await?;
    steps.push(Step::new(
        "task",
        format!("a task {} after {}", report.task.state, counted(report.updates, "update")),
    ));
    Ok(())
}

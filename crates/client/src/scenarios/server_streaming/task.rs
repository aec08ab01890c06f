//! A task, watched until it has ended.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use clap::Args;
use indicatif::{ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use shared_proto::{
    fourmodes::v1::{
        WatchTaskRequest, server_streaming_service_client::ServerStreamingServiceClient,
        watch_task_response::Event,
    },
    limits::MONITORING_HEARTBEAT,
};
use timeline::words::counted;
use uuid::Uuid;

use crate::{
    failure::Failure, scenario::Scenario, scenarios::task::Task as State, session::Session, values::uuid,
};

/// Watch a task until it ends
#[derive(Debug, Args)]
pub(crate) struct Task {
    /// Id that `unary submit` printed
    #[arg(value_parser = uuid)]
    pub(crate) id: Uuid,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) task: State,
    /// Responses that had news.
    pub(crate) updates: u64,
    heartbeats: u64,
    reconnects: u64,
}

impl Scenario for Task {
    type Report = Report;

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        session.goes_on_elsewhere();
        show_progress(session);
        let mut calls = 0;
        let watched = session.resuming(async || {
            report.reconnects = calls;
            calls += 1;
            self.watch(session, report).await
        });
        watched.await?;
        match report.task.has_ended {
            true => Ok(()),
            false => Err(Failure::answer("the stream ended before the task did")),
        }
    }
}

impl Task {
    async fn watch(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        let mut client = ServerStreamingServiceClient::new(session.channel());
        let request = WatchTaskRequest { id: self.id.to_string() };
        let request = session.request(request, Some(MONITORING_HEARTBEAT));
        let mut pushes = client.watch_task(request).await?.into_inner();
        while let Some(push) = pushes.message().await? {
            session.progressed();
            match push.event {
                Some(Event::Task(task)) => {
                    report.task = State::of(Some(task))?;
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
}

fn show_progress(session: &Session) {
    if io::stderr().is_terminal() {
        session.progress().set_draw_target(ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent} %, {eta}") {
            session.progress().set_style(style);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.updates == 0 {
            return Ok(());
        }
        write!(f, "{}\n    {}", self.task, counted(self.updates, "update"))?;
        write!(f, ", {}", counted(self.heartbeats, "heartbeat"))?;
        write!(f, ", {}", counted(self.reconnects, "reconnect"))
    }
}

//! A command: a call that changes something, and is made again without fear when
//! nobody knows what became of it.

use std::fmt;

use clap::{Args, Subcommand};
use serde::Serialize;
use shared_proto::fourmodes::v1::{ComputeChecksum, CountPrimes, SubmitTaskRequest, submit_task_request};
use timeline::words::printable;
use uuid::Uuid;

use crate::{failure::Failure, scenario::Scenario, scenarios::task::Task, session::Session, values::uuid};

/// Start a task on the server; it continues after the call
#[derive(Debug, Args)]
pub(crate) struct Submit {
    #[command(subcommand)]
    pub(crate) work: Work,
    /// Id of the submission. The same id makes only one task: repeat it if you do not know whether
    /// a submission succeeded [default: a new UUID]
    #[arg(long, value_name = "UUID", value_parser = uuid, global = true)]
    pub(crate) request_id: Option<Uuid>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Work {
    /// Count the prime numbers below a bound
    Primes {
        /// Upper bound, at most 100000000000
        #[arg(long, value_name = "N", allow_negative_numbers = true)]
        below: u64,
    },
    /// Compute the BLAKE3 checksum of an uploaded file
    Checksum {
        /// Resource name of the upload
        #[arg(long, value_name = "NAME")]
        resource: String,
    },
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// There from the beginning: it is what a submission whose answer is lost
    /// can be made again with.
    #[serde(skip_serializing_if = "String::is_empty")]
    request_id: String,
    #[serde(flatten)]
    pub(crate) task: Option<Task>,
    /// Whether the server may have made a task without having said so.
    #[serde(skip)]
    uncertain: bool,
}

impl Scenario for Submit {
    type Report = Report;

    async fn run(&self, session: &Session, report: &mut Report) -> Result<(), Failure> {
        session.goes_on_elsewhere();
        report.request_id = self.request_id.unwrap_or_else(|| session.key_at_home()).to_string();
        let request =
            SubmitTaskRequest { request_id: report.request_id.clone(), work: Some(self.work.clone().into()) };
        report.uncertain = true;
        // Another server that does not know the id would make another task.
        let server = session.home_of(&report.request_id);
        let submitted = session
            .unary_at(server, request, async |mut client, request| client.submit_task(request).await)
            .await;
        report.uncertain = submitted.as_ref().is_err_and(Failure::is_lost_connection);
        report.task = Some(Task::of(submitted?.task)?);
        Ok(())
    }
}

impl From<Work> for submit_task_request::Work {
    fn from(work: Work) -> Self {
        match work {
            Work::Primes { below } => Self::CountPrimes(CountPrimes { below }),
            Work::Checksum { resource } => Self::ComputeChecksum(ComputeChecksum { resource }),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            Some(task) => write!(
                f,
                "{task}\n    request_id {}\n    next       fourmodes server-streaming task {}",
                self.request_id,
                printable(&task.id)
            ),
            None if self.uncertain => write!(
                f,
                "the server may or may not have the task; submit it again with --request-id {}",
                self.request_id
            ),
            None => Ok(()),
        }
    }
}

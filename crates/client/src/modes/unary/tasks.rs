//! Commands: calls that change something, and are made again without fear when
//! nobody knows what became of them.

use std::fmt;

use serde::Serialize;
use shared_proto::fourmodes::v1::{
    CancelTaskRequest, ComputeChecksum, CountPrimes, GetTaskRequest, SubmitTaskRequest, submit_task_request,
};
use tonic::Code;
use uuid::Uuid;

use crate::modes::{
    task::Task,
    tour::{Step, expect_code},
};
use crate::{cli::Work, failure::Failure, session::Session};

#[derive(Debug, Default, Serialize)]
pub(crate) struct Submission {
    /// There from the beginning: it is what a submission whose answer is lost
    /// can be made again with.
    #[serde(skip_serializing_if = "String::is_empty")]
    request_id: String,
    #[serde(flatten)]
    task: Option<Task>,
    /// Whether the server may have made a task without having said so.
    #[serde(skip)]
    uncertain: bool,
}

pub(crate) async fn submit(
    session: &Session,
    request: Uuid,
    work: &Work,
    report: &mut Submission,
) -> Result<(), Failure> {
    report.request_id = request.to_string();
    let work = match work {
        Work::Primes { below } => submit_task_request::Work::CountPrimes(CountPrimes { below: *below }),
        Work::Checksum { resource } => {
            submit_task_request::Work::ComputeChecksum(ComputeChecksum { resource: resource.clone() })
        }
    };
    let request = SubmitTaskRequest { request_id: request.to_string(), work: Some(work) };
    report.uncertain = true;
    // At home: no other server knows the id.
    let submitted =
        session.unary_at_home(request, async |mut client, request| client.submit_task(request).await).await;
    report.uncertain = submitted.as_ref().is_err_and(Failure::is_lost_connection);
    report.task = Some(Task::of(submitted?.task)?);
    Ok(())
}

pub(crate) async fn task(session: &Session, id: Uuid, report: &mut Task) -> Result<(), Failure> {
    let request = GetTaskRequest { id: id.to_string() };
    let response = session.unary(request, async |mut client, request| client.get_task(request).await).await?;
    *report = Task::of(response.task)?;
    Ok(())
}

pub(crate) async fn cancel(session: &Session, id: Uuid, report: &mut Task) -> Result<(), Failure> {
    let request = CancelTaskRequest { id: id.to_string() };
    let response =
        session.unary(request, async |mut client, request| client.cancel_task(request).await).await?;
    *report = Task::of(response.task)?;
    Ok(())
}

impl fmt::Display for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            Some(task) => write!(f, "{task}\n    request_id {}", self.request_id),
            None if self.uncertain => write!(
                f,
                "the server may have the task or not; submit it again with --request-id {}",
                self.request_id
            ),
            None => Ok(()),
        }
    }
}

pub(crate) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "A command changes something, so a client that hears no answer must not simply ask again: it might \
         do it twice. This one carries a request_id. The same id again makes no second task, it is answered \
         with the first one.",
    );
    let request = Uuid::new_v4();
    let (mut first, mut again) = (Submission::default(), Submission::default());
    submit(session, request, &Work::Primes { below: 1_000_000 }, &mut first).await?;
    submit(session, request, &Work::Primes { below: 1_000_000 }, &mut again).await?;
    let [first, again] = [first, again].map(|submission| submission.task.unwrap_or_default().id);
    if first != again {
        return Err(Failure::answer(format!("one request_id made the tasks {first} and {again}")));
    }
    steps.push(Step::new("submit", "one request_id, submitted twice, made one task"));

    session.note("The same id with other parameters can only be a mistake.");
    let mut other = Submission::default();
    let reused = submit(session, request, &Work::Primes { below: 10 }, &mut other).await;
    steps.push(expect_code("submit", reused, Code::InvalidArgument, "the same request_id for other work")?);
    Ok(())
}

//! What the server says of a task, for the scenarios of several modes.

use std::fmt;

use indicatif::HumanCount;
use serde::Serialize;
use shared_proto::fourmodes::v1::{self as pb, ComputeChecksum, CountPrimes, TaskState, task};
use timeline::words::printable;
use uuid::Uuid;

use crate::failure::Failure;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Task {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    work: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) state: &'static str,
    pub(crate) done: u64,
    pub(crate) total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    primes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<TaskError>,
    #[serde(skip)]
    pub(crate) has_ended: bool,
}

#[derive(Debug, Serialize)]
struct TaskError {
    code: &'static str,
    message: String,
}

impl Task {
    pub(crate) fn uuid(&self) -> Result<Uuid, Failure> {
        Uuid::try_parse(&self.id).map_err(|_| Failure::answer("a task whose id is no UUID"))
    }

    pub(crate) fn of(wire: Option<pb::Task>) -> Result<Self, Failure> {
        let wire = wire.ok_or_else(|| Failure::answer("a response without a task"))?;
        let mut task = Self { done: wire.done, total: wire.total, ..Self::default() };
        (task.state, task.has_ended) = match wire.state() {
            TaskState::Pending => ("PENDING", false),
            TaskState::Running => ("RUNNING", false),
            TaskState::Succeeded => ("SUCCEEDED", true),
            TaskState::Failed => ("FAILED", true),
            TaskState::Cancelled => ("CANCELLED", true),
            TaskState::Unspecified => return Err(Failure::answer("a task without a state")),
        };
        task.id = wire.id;
        task.work = match wire.work {
            Some(task::Work::CountPrimes(CountPrimes { below })) => {
                format!("primes below {}", HumanCount(below))
            }
            Some(task::Work::ComputeChecksum(ComputeChecksum { resource })) => {
                format!("checksum of {resource}")
            }
            None => return Err(Failure::answer("a task without its work")),
        };
        match wire.result {
            Some(task::Result::Primes(primes)) => task.primes = Some(primes),
            Some(task::Result::Checksum(checksum)) => task.checksum = Some(checksum),
            Some(task::Result::Error(error)) => {
                let code = grpc_wire::code_name(error.code.into());
                task.error = Some(TaskError { code, message: error.message });
            }
            None => {}
        }
        Ok(task)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.id.is_empty() {
            return Ok(());
        }
        write!(f, "task {} is {}: {}", printable(&self.id), self.state, printable(&self.work))?;
        match (self.primes, &self.checksum, &self.error) {
            (Some(primes), ..) => write!(f, ": {}", HumanCount(primes)),
            (_, Some(checksum), _) => write!(f, ": {}", printable(checksum)),
            (.., Some(error)) => write!(f, ": {}: {}", error.code, printable(&error.message)),
            // Nobody knows what a total of 0 is a part of.
            _ if self.total > 0 => write!(f, ", {:.1} % done", self.done as f64 / self.total as f64 * 100.0),
            _ => Ok(()),
        }
    }
}

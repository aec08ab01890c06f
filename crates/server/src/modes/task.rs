//! Tasks on the wire, for the modes that have to do with them.

use domain::tasks::{Outcome, State, Task, Work};
use shared_proto::fourmodes::v1::{self as pb, submit_task_request, task};
use tonic::Status;
use uuid::Uuid;

use crate::refused::{Refused, bad_request};

/// The id of a task or of a request. The nil UUID is what a client sends that
/// has forgotten to choose one.
pub(super) fn uuid(field: &str, text: &str) -> Result<Uuid, Status> {
    /// With hyphens: there are other forms, and one is enough.
    const LENGTH: usize = 36;
    let parsed = Uuid::try_parse(text).ok().filter(|uuid| text.len() == LENGTH && !uuid.is_nil());
    parsed.ok_or_else(|| {
        let form = "a UUID such as 7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42";
        bad_request(
            field,
            match text.len() {
                0 => format!("{field} must not be empty; it is {form}"),
                1..=LENGTH => format!("{field} {text:?} is not {form}"),
                length => format!("{field} has {length} bytes; it is {form}"),
            },
        )
    })
}

pub(super) fn work(wire: Option<submit_task_request::Work>) -> Result<Work, Status> {
    use submit_task_request::Work as Wire;
    match wire {
        Some(Wire::CountPrimes(pb::CountPrimes { below })) => Ok(Work::CountPrimes { below }),
        Some(Wire::ComputeChecksum(pb::ComputeChecksum { resource })) => {
            Ok(Work::ComputeChecksum { resource })
        }
        None => Err(bad_request("work", "a task needs work: count_primes or compute_checksum".to_owned())),
    }
}

pub(super) fn wire(task: Task) -> pb::Task {
    let (state, result) = match task.state {
        State::Pending => (pb::TaskState::Pending, None),
        State::Running => (pb::TaskState::Running, None),
        State::Succeeded(Outcome::Primes(primes)) => {
            (pb::TaskState::Succeeded, Some(task::Result::Primes(primes)))
        }
        State::Succeeded(Outcome::Checksum(checksum)) => {
            let checksum = blake3::Hash::from_bytes(checksum).to_hex().to_string();
            (pb::TaskState::Succeeded, Some(task::Result::Checksum(checksum)))
        }
        State::Failed(fault) => {
            let status = Status::from(Refused::from(fault));
            let error = pb::TaskError { code: status.code().into(), message: status.message().to_owned() };
            (pb::TaskState::Failed, Some(task::Result::Error(error)))
        }
        State::Cancelled => (pb::TaskState::Cancelled, None),
    };
    pb::Task {
        id: task.id.to_string(),
        work: Some(match task.work {
            Work::CountPrimes { below } => task::Work::CountPrimes(pb::CountPrimes { below }),
            Work::ComputeChecksum { resource } => {
                task::Work::ComputeChecksum(pb::ComputeChecksum { resource })
            }
        }),
        state: state.into(),
        done: task.done,
        total: task.total,
        create_time: Some(task.created.into()),
        update_time: Some(task.updated.into()),
        result,
    }
}

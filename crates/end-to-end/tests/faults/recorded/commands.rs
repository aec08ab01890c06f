//! A client that gives commands.

use std::{collections::BTreeMap, time::Instant};

use shared_proto::fourmodes::v1::{
    CancelTaskRequest, CountPrimes, GetTaskRequest, SubmitTaskRequest, Task, TaskState,
    submit_task_request::Work, unary_service_client::UnaryServiceClient,
};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};
use uuid::Uuid;

use super::{COMMANDS, Client, HASTE, Record, no_answer};
use crate::history::{Answer, Fate};

impl Client {
    /// Submits tasks until they are acknowledged, looks at them, and cancels some, each at
    /// another server.
    pub(super) async fn command(mut self) -> Record {
        let mut record = Record::default();
        let mut n = 0;
        while !self.stops() {
            let (request, begun) = (Uuid::new_v4(), Instant::now());
            // Some do not end before they are cancelled.
            let is_long = n % 4 == 0;
            let below = if is_long { 50_000_000 } else { 1_000 + n };
            let id = self.insist(request, &mut record, Call::Submit(below)).await;
            self.insist(request, &mut record, Call::Submit(below)).await;
            self.insist(request, &mut record, Call::Get(id.clone())).await;
            if is_long {
                self.insist(request, &mut record, Call::Cancel(id.clone())).await;
            }
            for _ in 0..self.servers.len() {
                self.insist(request, &mut record, Call::Get(id.clone())).await;
            }
            self.has_worked(begun);
            n += 1;
            sleep(COMMANDS).await;
        }
        // Each of them once more.
        let tasks: BTreeMap<_, _> = record
            .answers
            .iter()
            .filter_map(|answer| answer.task.as_ref().map(|(id, _)| (answer.request, id.clone())))
            .collect();
        for (request, id) in tasks {
            self.insist(Uuid::from_u128(request), &mut record, Call::Get(id)).await;
        }
        record
    }

    /// Says the same, each time at another server, until there is an answer: the task's id.
    async fn insist(&mut self, request: Uuid, record: &mut Record, call: Call) -> String {
        loop {
            let begun = Instant::now();
            let answered =
                timeout(HASTE, self.call(request, &call)).await.unwrap_or_else(|late| Err(no_answer(late)));
            let mut answer = Answer { request: request.as_u128(), begun, ended: Instant::now(), task: None };
            match answered {
                Ok(task) => {
                    self.at = (self.at + 1) % self.servers.len();
                    let id = task.id.clone();
                    answer.task = Some((task.id.clone(), fate(task)));
                    record.answers.push(answer);
                    return id;
                }
                Err(status) if status.code() == Code::NotFound => {
                    record.answers.push(answer);
                    return String::new();
                }
                // It was cancelled too late.
                Err(status) if status.code() == Code::FailedPrecondition => return String::new(),
                Err(status) => self.failed(&status).await,
            }
        }
    }

    async fn call(&self, request: Uuid, call: &Call) -> Result<Task, Status> {
        let mut client = UnaryServiceClient::new(self.channel());
        let task = match call.clone() {
            Call::Submit(below) => {
                let work = Some(Work::CountPrimes(CountPrimes { below }));
                let submit = SubmitTaskRequest { request_id: request.to_string(), work };
                client.submit_task(submit).await?.into_inner().task
            }
            Call::Get(id) => client.get_task(GetTaskRequest { id }).await?.into_inner().task,
            Call::Cancel(id) => client.cancel_task(CancelTaskRequest { id }).await?.into_inner().task,
        };
        Ok(task.expect("an answer without a task"))
    }
}

#[derive(Clone)]
enum Call {
    /// Counts the primes below this.
    Submit(u64),
    Get(String),
    Cancel(String),
}

fn fate(task: Task) -> Fate {
    match task.state() {
        TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled => {
            Fate::Ended(format!("{:?} {:?}", task.state(), task.result))
        }
        TaskState::Unspecified | TaskState::Pending | TaskState::Running => Fate::Open,
    }
}

//! Unary: one request, one response.

use timeline::words::counted;
use tonic::Code;

use super::step::{Step, expect_code, run};
use crate::{
    failure::Failure,
    scenarios::{
        task::Task as State,
        unary::{
            cancel::Cancel,
            files::Files,
            multiply::Multiply,
            status::Status,
            submit::{Submit, Work},
            task::Task,
        },
    },
    session::Session,
};

pub(super) async fn demonstrate(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "UNARY: one request, one response. The client half-closes right after its only message. The server \
         answers with headers, one message, and trailers with the status.",
    );
    let product = run(session, &Multiply { a: 6, b: 7 }).await?;
    steps.push(Step::new("multiply", product.to_string()));

    session.note(
        "An error is an answer too: a status without a message, here with details for programs. The \
         connection stays open.",
    );
    let overflow = run(session, &Multiply { a: i64::MAX, b: 2 }).await;
    steps.push(expect_code("multiply", overflow, Code::OutOfRange, "an overflow")?);

    session.note("The server reports its modes and its call counts.");
    let server = run(session, &Status {}).await?;
    let served = server.modes.iter().filter(|mode| mode.served).count();
    steps.push(Step::new("status", format!("the server serves {served} of 4 modes")));

    session.note("Long lists arrive in pages, one call for each page.");
    let files = run(session, &Files { delete: None }).await?.files.len();
    steps.push(Step::new("files", format!("the server has {}", counted(files as u64, "file"))));
    commands(session, steps).await
}

async fn commands(session: &Session, steps: &mut Vec<Step>) -> Result<(), Failure> {
    session.note(
        "A command changes something. A client without an answer must not simply repeat it, because it might \
         then happen twice. This command carries a request_id. For the same id, the server makes no second \
         task and answers with the first one.",
    );
    let request_id = Some(session.key_at_home());
    let submit = |below| Submit { work: Work::Primes { below }, request_id };
    let first = submitted(session, &submit(1_000_000)).await?.id;
    let again = submitted(session, &submit(1_000_000)).await?.id;
    if first != again {
        return Err(Failure::answer(format!("one request_id made the tasks {first} and {again}")));
    }
    steps.push(Step::new("submit", "one request_id, submitted twice, made one task"));

    session.note("The server rejects the same id with other parameters.");
    let reused = run(session, &submit(10)).await;
    steps.push(expect_code("submit", reused, Code::InvalidArgument, "the same request_id for other work")?);

    session.note("The work continues after the call. Further calls query or cancel it.");
    let long = Submit { work: Work::Primes { below: 100_000_000_000 }, request_id: None };
    let id = submitted(session, &long).await?.uuid()?;
    let asked = run(session, &Task { id }).await?;
    steps.push(Step::new("task", format!("the task is {}", asked.state)));
    let cancelled = run(session, &Cancel { id }).await?;
    steps.push(Step::new("cancel", format!("cancelled, the task is {}", cancelled.state)));
    Ok(())
}

async fn submitted(session: &Session, submit: &Submit) -> Result<State, Failure> {
    let task = run(session, submit).await?.task;
    task.ok_or_else(|| Failure::answer("a response without a task"))
}

//! How many instances of the server answer, by connection and by call.

use std::{collections::BTreeSet, rc::Rc};

use http::HeaderMap;
use shared_proto::fourmodes::v1 as pb;
use timeline::words::counted;
use tokio::task::JoinSet;

use crate::{
    Group,
    check::Check,
    outcome::{Checked, Outcome},
    path::{Path, UNARY, seen},
    remedies, script,
    wire::{Wire, within},
    wire_error::WireError,
};

pub(crate) const CHECKS: [Check; 2] = [
    Check::new(Group::Balance, "connections", |path| Box::pin(connections(path))),
    Check::new(Group::Balance, "calls", |path| Box::pin(calls(path))),
];

const CONNECTIONS: usize = 8;
const CALLS: usize = 16;

async fn instance(wire: &Wire) -> Result<String, WireError> {
    let request = pb::UnaryRequest { script: Some(script::steps([])), ..pb::UnaryRequest::default() };
    let answer = wire.unary::<pb::UnaryResponse>(UNARY, HeaderMap::new(), &request).await?;
    Ok(seen(answer.message.observation)?.instance_id)
}

/// Returns the instances behind several connections, and the errors of the connections
/// that failed.
async fn over_connections(path: &Path) -> (BTreeSet<String>, Vec<WireError>) {
    let (mut instances, mut lost, mut asked) = (BTreeSet::new(), Vec::new(), JoinSet::new());
    for _ in 0..CONNECTIONS {
        let path = path.clone();
        asked.spawn_local(async move { within(path.answer(), instance(&path.open().await?)).await });
    }
    for answer in asked.join_all().await {
        match answer {
            Ok(instance) => drop(instances.insert(instance)),
            Err(error) => lost.push(error),
        }
    }
    (instances, lost)
}

/// Every connection has to reach a live instance.
async fn connections(path: &Path) -> Checked {
    let (instances, lost) = over_connections(path).await;
    let figure = format!("{} over {CONNECTIONS} connections", counted(instances.len() as u64, "instance"));
    match lost.first() {
        None => Ok(Outcome::pass(figure)),
        Some(first) => Ok(Outcome::fail(
            format!("{figure}, {} failed: {first}", lost.len()),
            "one instance does not answer, but is still in the pool",
            remedies::INSTANCES,
        )),
    }
}

/// A gRPC client keeps one connection for a long time. Checks whether the calls on it
/// are balanced too.
async fn calls(path: &Path) -> Checked {
    let wire = Rc::new(path.open().await?);
    let mut asked = JoinSet::new();
    for number in 0..CALLS {
        let wire = wire.clone();
        asked.spawn_local(async move { (number, instance(&wire).await) });
    }
    let mut answered = asked.join_all().await;
    answered.sort_by_key(|(number, _)| *number);
    let answered = answered.into_iter().map(|(_, answer)| answer).collect::<Result<Vec<_>, _>>()?;
    let here: BTreeSet<_> = answered.iter().collect();
    let figure = format!("{} over 1 connection", counted(here.len() as u64, "instance"));
    if here.len() > 1 {
        let changes = answered.windows(2).filter(|pair| pair[0] != pair[1]).count();
        return Ok(Outcome::pass(format!(
            "{figure}: calls are balanced (L7); {} of {} went to another instance than the call before",
            changes,
            CALLS - 1
        )));
    }
    let (everywhere, _) = over_connections(path).await;
    match everywhere.len() {
        0 | 1 => Ok(Outcome::pass(format!("{figure}, and no other seen"))),
        several => Ok(Outcome::warn(
            format!("{figure}, {several} over {CONNECTIONS}"),
            "connections are balanced, not calls (L4): all calls of a client stick to one instance",
            remedies::BALANCE,
        )),
    }
}

//! Which checks run when, and what came of them.

use std::{
    fmt, io,
    rc::Rc,
    time::{Duration, Instant},
};

use timeline::Failed;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet, LocalSet},
    time::timeout,
};

use crate::{
    Group, Output, Request, balance,
    check::{Check, Kind},
    connect, control, extras, flow, life, metadata, modes,
    outcome::{Outcome, Verdict},
    path::{Dialect, Path},
    remedies, render,
    report::{Ended, Renderer, Summary},
    standard, status,
};

/// How many checks may measure at the same time.
const SIDE_BY_SIDE: usize = 6;

/// Why it could not be looked at everything.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// stdout takes no more.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// A check was cut short.
    #[error("the work was cut short: {0}")]
    CutShort(#[from] JoinError),
}

/// A run of the checks.
pub struct Run {
    request: Request,
    renderer: Box<dyn Renderer>,
    /// By verdict, in their order.
    counts: [u64; 4],
    begun: Instant,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Run {
    /// Begins now, and shows itself on stdout.
    pub fn new(request: Request, output: Output) -> Self {
        let renderer = render::for_output(output, &request.server);
        Self { request, renderer, counts: [0; 4], begun: Instant::now() }
    }

    /// Looks at the path, and tells of each check as it ends. What was found out by
    /// then counts when this is dropped before its end.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    pub async fn look(&mut self) -> Result<(), Error> {
        let path = Path::new(&self.request);
        let checks = after_connect().into_iter().filter(|check| self.is_wanted(check.group)).collect();
        match self.connect(&path).await? {
            Some(stuck) => self.skip(checks, stuck),
            // One thread for all, so that a check need not be one that can move.
            None => LocalSet::new().run_until(self.all(checks, Rc::new(path))).await,
        }
    }

    fn is_wanted(&self, group: Group) -> bool {
        self.request.only.is_empty() || self.request.only.contains(&group)
    }

    /// One after the other, as each needs the one before. Returns the one that
    /// leaves nothing to look at. They are run even when other groups are wanted,
    /// and told when they fail.
    async fn connect(&mut self, path: &Path) -> Result<Option<&'static str>, Error> {
        let mut stuck = None;
        for check in connect::CHECKS {
            let begun = Instant::now();
            let outcome = match stuck {
                Some(name) => Outcome::skip(nothing_after(name)),
                None => outcome(&check, path).await,
            };
            if outcome.verdict == Verdict::Fail && stuck.is_none() && path.known.get().is_none() {
                stuck = Some(check.name);
            }
            if self.is_wanted(check.group) || outcome.verdict == Verdict::Fail {
                let (group, name, time) = (check.group, check.name, begun.elapsed());
                self.tell(&Ended { group, name, time, outcome })?;
            }
        }
        Ok(stuck)
    }

    fn skip(&mut self, checks: Vec<Check>, stuck: &str) -> Result<(), Error> {
        for Check { group, name, .. } in checks {
            let outcome = Outcome::skip(nothing_after(stuck));
            self.tell(&Ended { group, name, time: Duration::ZERO, outcome })?;
        }
        Ok(())
    }

    /// First those that measure times, several at a time, then those that take
    /// all there is, one by one; those that mostly wait run beside them.
    async fn all(&mut self, checks: Vec<Check>, path: Rc<Path>) -> Result<(), Error> {
        let of = |kind| checks.iter().copied().filter(move |check| check.kind == kind);
        let places = Rc::new(Semaphore::new(SIDE_BY_SIDE));
        let mut long = JoinSet::new();
        let start = |set: &mut JoinSet<Ended>, check: Check, places: Option<Rc<Semaphore>>| {
            let path = path.clone();
            set.spawn_local(async move {
                // Nobody closes it.
                let _place = match &places {
                    Some(places) => places.acquire().await.ok(),
                    None => None,
                };
                let begun = Instant::now();
                let outcome = outcome(&check, &path).await;
                Ended { group: check.group, name: check.name, time: begun.elapsed(), outcome }
            });
        };
        of(Kind::Long).for_each(|check| start(&mut long, check, None));
        let mut light = JoinSet::new();
        of(Kind::Light).for_each(|check| start(&mut light, check, Some(places.clone())));
        self.drain(&mut light, &mut long).await?;
        for check in of(Kind::Heavy) {
            start(&mut light, check, None);
            self.drain(&mut light, &mut long).await?;
        }
        let mut nothing = JoinSet::new();
        self.drain(&mut long, &mut nothing).await
    }

    /// Tells of each as it ends, until `all` have.
    async fn drain(&mut self, all: &mut JoinSet<Ended>, beside: &mut JoinSet<Ended>) -> Result<(), Error> {
        while !all.is_empty() {
            let ended = tokio::select! {
                Some(ended) = all.join_next() => ended,
                Some(ended) = beside.join_next() => ended,
            };
            self.tell(&ended?)?;
        }
        Ok(())
    }

    fn tell(&mut self, ended: &Ended) -> Result<(), Error> {
        self.counts[ended.outcome.verdict as usize] += 1;
        Ok(self.renderer.ended(ended)?)
    }

    /// Tells of the whole, and why it was not looked at everything. Whether nothing
    /// failed.
    ///
    /// # Errors
    ///
    /// When that cannot be told.
    pub fn finish(mut self, failed: Option<Failed>) -> io::Result<bool> {
        let summary = Summary { counts: self.counts, time: self.begun.elapsed(), failed };
        self.renderer.finish(&summary)?;
        Ok(summary.is_ok())
    }
}

/// All checks but those that each need the one before.
fn after_connect() -> Vec<Check> {
    let groups = [
        &modes::CHECKS[..],
        &status::CHECKS,
        &metadata::CHECKS,
        &control::CHECKS,
        &flow::CHECKS,
        &life::CHECKS,
        &balance::CHECKS,
        &extras::CHECKS,
    ];
    groups.concat()
}

/// Makes a check. Always comes to an end.
async fn outcome(check: &Check, path: &Path) -> Outcome {
    let ask = match path.dialect() {
        _ if check.is_anywhere => Some(check.ask),
        Some(Dialect::Probe) => Some(check.ask),
        Some(Dialect::Standard) => standard::ask(check),
        _ => None,
    };
    let Some(ask) = ask else { return path.without_probe() };
    let time = check.time + path.idle.filter(|_| check.is_idle).unwrap_or_default();
    let late = |_| {
        Ok(Outcome::fail(
            format!("not done in {}", humantime::format_duration(time)),
            "something on the path swallows what is sent, or is very slow",
            remedies::BUFFERING,
        ))
    };
    timeout(time, ask(path)).await.unwrap_or_else(late).unwrap_or_else(|failed| failed)
}

fn nothing_after(name: &str) -> String {
    format!("nothing can be found out before connect/{name} passes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_in_the_standard_way_is_a_check() {
        let checks = [&connect::CHECKS[..], &after_connect()].concat();
        for (group, name, _) in standard::ASKED {
            assert!(checks.iter().any(|check| check.group == group && check.name == name), "{name}");
        }
    }
}

//! Schedules the checks and collects their outcomes.

use std::{
    fmt, io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use timeline::Failed;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet, LocalSet},
    time::timeout,
};

use crate::{
    Group, Output, Request, balance, bare,
    check::{Check, Kind},
    connect, control,
    evidence::Progress,
    extras, flow, life, metadata, modes,
    outcome::{Checked, Outcome, Size, Verdict, rate},
    path::{Dialect, Path},
    render,
    report::{Ended, Renderer, Summary},
    rules, standard, status,
    wire_error::WireError,
};

/// How many checks may run at once.
const SIDE_BY_SIDE: usize = 6;

/// Why the checks could not all run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Writing to stdout failed.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// A check's task was aborted or panicked.
    #[error("the work was cut short: {0}")]
    CutShort(#[from] JoinError),
}

/// A run of the checks.
pub struct Run {
    request: Request,
    renderer: Box<dyn Renderer>,
    /// The number of checks by verdict, in the order of the verdicts.
    counts: [u64; 4],
    begun: Instant,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Run {
    /// Starts a run that writes to stdout.
    pub fn new(request: Request, output: Output) -> Self {
        let renderer = render::for_output(output, &request.server);
        Self { request, renderer, counts: [0; 4], begun: Instant::now() }
    }

    /// Runs the checks and reports each as it ends. Checks that have ended still count
    /// when this future is dropped early.
    /// # Errors
    ///
    /// When a report cannot be written.
    pub async fn look(&mut self) -> Result<(), Error> {
        let path = Path::new(&self.request);
        let checks = after_connect().into_iter().filter(|check| self.is_wanted(check.group)).collect();
        match self.connect(&path).await? {
            Some(stuck) => self.skip(checks, stuck),
            // One thread for all checks, so that they need not be `Send`.
            None => LocalSet::new().run_until(self.all(checks, Rc::new(path))).await,
        }
    }

    fn is_wanted(&self, group: Group) -> bool {
        self.request.only.is_empty() || self.request.only.contains(&group)
    }

    /// Runs the checks of the connection one after the other, because each needs the
    /// one before it. They run even when only other groups are wanted, and are then
    /// reported only if they fail. Returns the check whose failure makes all others
    /// pointless.
    async fn connect(&mut self, path: &Path) -> Result<Option<&'static str>, Error> {
        let mut stuck = None;
        for check in connect::CHECKS {
            let ended = match stuck {
                Some(name) => after(check, name),
                None => look(check, path).await,
            };
            let has_failed = ended.outcome.verdict == Verdict::Fail;
            if has_failed && stuck.is_none() && path.known.get().is_none() {
                stuck = Some(check.name);
            }
            if self.is_wanted(check.group) || has_failed {
                self.tell(&ended)?;
            }
        }
        Ok(stuck)
    }

    fn skip(&mut self, checks: Vec<Check>, stuck: &'static str) -> Result<(), Error> {
        checks.into_iter().try_for_each(|check| self.tell(&after(check, stuck)))
    }

    /// Runs the checks that measure times first, several at once, and then the checks
    /// that use all of the path, one by one. Checks that mostly wait run beside them.
    /// The checks that fill buffers on the way come last.
    async fn all(&mut self, checks: Vec<Check>, path: Rc<Path>) -> Result<(), Error> {
        /// From this round trip on, latency rather than bandwidth determines how long a
        /// check takes.
        const FAR: Duration = Duration::from_millis(50);
        let of = |kind| checks.iter().copied().filter(move |check| check.kind == kind);
        let pace = path.pace();
        let (light_places, heavy_places) = match pace {
            pace if pace.is_narrow() => (1, 1),
            pace if pace.round_trip > FAR => (2 * SIDE_BY_SIDE, SIDE_BY_SIDE / 2),
            _ => (SIDE_BY_SIDE, 1),
        };
        let start = |set: &mut JoinSet<Ended>, check: Check, places: Option<Arc<Semaphore>>| {
            let path = path.clone();
            set.spawn_local(async move {
                // The semaphore is never closed.
                let _place = match &places {
                    Some(places) => places.acquire().await.ok(),
                    None => None,
                };
                look(check, &path).await
            });
        };
        let (mut long, mut nothing) = (JoinSet::new(), JoinSet::new());
        of(Kind::Long).for_each(|check| start(&mut long, check, None));
        let places =
            [(Kind::Light, light_places), (Kind::Heavy, heavy_places), (Kind::Filling, heavy_places)];
        for (kind, places) in places {
            if kind == Kind::Filling || kind == Kind::Heavy && pace.is_narrow() {
                // Otherwise the checks that wait would queue behind these.
                self.drain(&mut long, &mut nothing).await?;
            }
            let (mut set, places) = (JoinSet::new(), Arc::new(Semaphore::new(places)));
            of(kind).for_each(|check| start(&mut set, check, Some(places.clone())));
            self.drain(&mut set, &mut long).await?;
        }
        self.drain(&mut long, &mut nothing).await
    }

    /// Reports each check as it ends, until all of `all` have ended.
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

    /// Reports the summary, and why not all checks could run. Returns whether nothing
    /// failed.
    ///
    /// # Errors
    ///
    /// When the summary cannot be written.
    pub fn finish(mut self, failed: Option<Failed>) -> io::Result<bool> {
        let summary = Summary { counts: self.counts, time: self.begun.elapsed(), failed };
        self.renderer.finish(&summary)?;
        Ok(summary.is_ok())
    }
}

/// All checks but those of the connection.
fn after_connect() -> Vec<Check> {
    let groups = [
        &modes::CHECKS[..],
        &status::CHECKS,
        &metadata::CHECKS,
        &control::CHECKS,
        &rules::CHECKS,
        &flow::CHECKS,
        &life::CHECKS,
        &balance::CHECKS,
        &extras::CHECKS,
    ];
    groups.concat()
}

/// The result of a check that was not run.
fn after(check: Check, stuck: &'static str) -> Ended {
    let Check { group, name, .. } = check;
    let outcome = Outcome::skip(format!("not run: connect/{stuck} failed"));
    Ended { group, name, time: Duration::ZERO, outcome, evidence: Value::Null }
}

async fn look(check: Check, path: &Path) -> Ended {
    let (begun, path) = (Instant::now(), path.for_one());
    let mut outcome = outcome(&check, &path).await;
    outcome.remedy = path.products.settings_for(&outcome.remedy);
    let (group, name, time) = (check.group, check.name, begun.elapsed());
    Ended { group, name, time, outcome, evidence: path.evidence.to_json() }
}

/// Runs a check. It always ends.
async fn outcome(check: &Check, path: &Path) -> Outcome {
    let ask = match path.dialect() {
        _ if check.is_anywhere => Some(check.ask),
        Some(Dialect::Probe) => Some(check.ask),
        Some(Dialect::Standard) => check.among(&standard::ASKED),
        Some(Dialect::Other) => check.among(&bare::ASKED),
        None => None,
    };
    let Some(ask) = ask else { return path.without_probe() };
    // Go's ReverseProxy with `FlushInterval: -1` sends one head in thirty before it knows that
    // nothing follows, and a rate limit refuses some calls. `status/codes` and `life/1200-calls`
    // make many calls and report that; the other checks try again. So do the checks that measure
    // times, because this machine may have been busy.
    let mut tried = 0;
    loop {
        let asked = as_long_as_something_passes(check, path, ask(path));
        let outcome = asked.await.unwrap_or_else(|failed| failed);
        if tried >= outcome.again {
            return outcome;
        }
        tokio::time::sleep(Duration::from_millis(10 << (2 * tried))).await;
        tried += 1;
    }
}

/// Gives a check its time plus some round trips of the path. It ends sooner if nothing
/// passes any more.
async fn as_long_as_something_passes(
    check: &Check,
    path: &Path,
    asked: impl Future<Output = Checked>,
) -> Checked {
    const LOOK: Duration = Duration::from_millis(100);
    const SILENCE: Duration = Duration::from_secs(6);
    let idle = path.idle.filter(|_| check.is_idle).unwrap_or_default();
    let time = path.pace().within(check.time + idle, 30);
    let silence = match check.kind {
        // This check waits on purpose.
        Kind::Long if !check.is_idle => time,
        _ => path.pace().within(SILENCE + idle, 10),
    };
    let (begun, mut asked) = (Instant::now(), pin!(asked));
    let (mut progress, mut last) = (Progress::default(), begun);
    loop {
        if let Ok(checked) = timeout(LOOK, &mut asked).await {
            return checked;
        }
        let now = path.evidence.progress();
        if now != progress {
            (progress, last) = (now, Instant::now());
        }
        if last.elapsed() >= silence {
            return Err(WireError::silent(silence, now).into());
        }
        if begun.elapsed() >= time {
            let (bytes, time) = (now.sent + now.received, begun.elapsed());
            let figure = format!("{} in {}", Size(bytes), humantime::format_duration(check.time + idle));
            return Ok(Outcome::skip(format!(
                "the path is too slow for it: {figure}, {}",
                rate(bytes, time)
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_in_the_standard_way_is_a_check() {
        let checks = [&connect::CHECKS[..], &after_connect()].concat();
        for (group, name, _) in standard::ASKED.iter().chain(&bare::ASKED) {
            assert!(checks.iter().any(|check| check.group == *group && check.name == *name), "{name}");
        }
    }
}

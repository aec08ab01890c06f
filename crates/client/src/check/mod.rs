//! `client check`: does this path carry all four modes?
//!
//! Each group of checks is a file, each check a short function that makes calls
//! (`wire`) over the path (`path`), most of them to a service that does what a
//! script says and tells what it saw (`script`). What came of it is an `outcome`,
//! which a renderer shows.

mod balance;
mod connect;
mod control;
mod extras;
mod flow;
mod life;
mod metadata;
mod modes;
mod outcome;
mod path;
mod remedies;
mod render;
mod script;
mod standard;
mod status;
mod wire;

use std::{
    pin::Pin,
    rc::Rc,
    sync::OnceLock,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use tokio::{
    sync::Semaphore,
    task::{JoinSet, LocalSet},
};

use self::{
    outcome::{Checked, Outcome, Verdict},
    path::{Dialect, Path},
    render::Renderer,
};
use crate::{
    config::{self, Config},
    failure::Failure,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Names, TCP, TLS, HTTP/2, and whether a call is answered
    Connect,
    /// Whether each mode is what it says
    Modes,
    /// Codes, messages, details and trailers
    Status,
    /// What of the metadata arrives, in both directions
    Metadata,
    /// Deadlines, cancels and resets
    Control,
    /// Large messages, many streams, slow readers, compression
    Flow,
    /// Silence, PINGs, and many calls on one connection
    Life,
    /// How many instances answer
    Balance,
    /// Health, reflection, gRPC-Web, HTTP/1.1
    Extras,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Modes => "modes",
            Self::Status => "status",
            Self::Metadata => "metadata",
            Self::Control => "control",
            Self::Flow => "flow",
            Self::Life => "life",
            Self::Balance => "balance",
            Self::Extras => "extras",
        }
    }
}

type Run = for<'a> fn(&'a Path) -> Pin<Box<dyn Future<Output = Checked> + 'a>>;

/// A question to the path.
#[derive(Clone, Copy)]
struct Check {
    group: Group,
    name: &'static str,
    run: Run,
    /// The same question to `grpc.testing.TestService`.
    standard: Option<Run>,
    /// Whether it needs neither of these services.
    is_anywhere: bool,
    kind: Kind,
    /// What it may take, whatever the path does.
    time: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Measures times, or is over at once: several run side by side.
    Light,
    /// Takes what the machine and the path can do: runs alone.
    Heavy,
    /// Mostly waits, beside all others.
    Long,
}

impl Check {
    const fn new(group: Group, name: &'static str, run: Run) -> Self {
        let time = Duration::from_secs(20);
        Self { group, name, run, standard: None, is_anywhere: false, kind: Kind::Light, time }
    }

    /// Needs no service that helps.
    const fn anywhere(self) -> Self {
        Self { is_anywhere: true, ..self }
    }

    const fn standard(self, run: Run) -> Self {
        Self { standard: Some(run), ..self }
    }

    const fn heavy(self) -> Self {
        Self { kind: Kind::Heavy, time: Duration::from_secs(30), ..self }
    }

    const fn long(self) -> Self {
        Self { kind: Kind::Long, time: Duration::from_secs(20), ..self }
    }

    /// Always comes to an end.
    async fn outcome(&self, path: &Path) -> Outcome {
        let run = match (path.dialect(), self.standard) {
            _ if self.is_anywhere => self.run,
            (Some(Dialect::Probe), _) => self.run,
            (Some(Dialect::Standard), Some(standard)) => standard,
            _ => return path.without_probe(),
        };
        let waits = [life::IDLE, life::LASTING].contains(&self.name);
        let time = self.time + path.idle.filter(|_| waits).unwrap_or_default();
        let ended = tokio::time::timeout(time, run(path)).await;
        let late = |_| {
            Ok(Outcome::fail(
                format!("not done in {}", humantime::format_duration(time)),
                "something on the path swallows what is sent, or is very slow",
                remedies::BUFFERING,
            ))
        };
        ended.unwrap_or_else(late).unwrap_or_else(|failed| failed)
    }
}

/// A check that has ended.
struct Ended {
    group: Group,
    name: &'static str,
    time: Duration,
    outcome: Outcome,
}

/// How many checks may measure at the same time.
const SIDE_BY_SIDE: usize = 6;

/// Looks at the path, but not longer than until `stop`. Whether nothing failed.
///
/// # Errors
///
/// What `stop` says, or that stdout takes no more.
pub(crate) async fn run(
    config: &Config,
    wanted: &config::Check,
    stop: impl Future<Output = Failure>,
) -> Result<bool, Failure> {
    // One at least, and no other one for this.
    let server = config.servers.first().cloned().unwrap_or_default();
    let mut run = Running {
        renderer: render::for_output(config, &server),
        counts: [0; 4],
        begun: Instant::now(),
        only: &wanted.only,
    };
    let path = Path {
        server,
        connector: config.connector.clone(),
        idle: wanted.idle,
        standard: wanted.standard,
        known: OnceLock::new(),
    };
    let ended = tokio::select! {
        biased;
        failure = stop => Err(failure),
        ended = run.look(path) => ended,
    };
    run.finish(ended)
}

struct Running<'a> {
    renderer: Box<dyn Renderer>,
    /// By verdict, in their order.
    counts: [u64; 4],
    begun: Instant,
    only: &'a [Group],
}

impl Running<'_> {
    fn is_wanted(&self, group: Group) -> bool {
        self.only.is_empty() || self.only.contains(&group)
    }

    async fn look(&mut self, path: Path) -> Result<(), Failure> {
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
        let checks = groups.concat().into_iter().filter(|check| self.is_wanted(check.group)).collect();
        match self.connect(&path).await? {
            Some(stuck) => self.skip(checks, stuck),
            // One thread for all, so that a check need not be one that can move.
            None => LocalSet::new().run_until(self.all(checks, Rc::new(path))).await,
        }
    }

    /// One after the other, as each needs the one before. Returns the one that
    /// leaves nothing to look at. They are run even when other groups are wanted,
    /// and told when they fail.
    async fn connect(&mut self, path: &Path) -> Result<Option<&'static str>, Failure> {
        let mut stuck = None;
        for check in connect::CHECKS {
            let begun = Instant::now();
            let outcome = match stuck {
                Some(name) => Outcome::skip(nothing_after(name)),
                None => check.outcome(path).await,
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

    fn skip(&mut self, checks: Vec<Check>, stuck: &str) -> Result<(), Failure> {
        for Check { group, name, .. } in checks {
            let outcome = Outcome::skip(nothing_after(stuck));
            self.tell(&Ended { group, name, time: Duration::ZERO, outcome })?;
        }
        Ok(())
    }

    /// First those that measure times, several at a time, then those that take
    /// all there is, one by one; those that mostly wait run beside them.
    async fn all(&mut self, checks: Vec<Check>, path: Rc<Path>) -> Result<(), Failure> {
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
                let outcome = check.outcome(&path).await;
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
    async fn drain(&mut self, all: &mut JoinSet<Ended>, beside: &mut JoinSet<Ended>) -> Result<(), Failure> {
        while !all.is_empty() {
            let ended = tokio::select! {
                Some(ended) = all.join_next() => ended,
                Some(ended) = beside.join_next() => ended,
            };
            self.tell(&ended.map_err(|error| Failure::cut_short(&error))?)?;
        }
        Ok(())
    }

    fn tell(&mut self, ended: &Ended) -> Result<(), Failure> {
        self.counts[ended.outcome.verdict as usize] += 1;
        self.renderer.ended(ended).map_err(|error| Failure::unwritten(&error))
    }

    /// What was found out by then counts, however it ended.
    fn finish(mut self, ended: Result<(), Failure>) -> Result<bool, Failure> {
        let summary = Summary { counts: self.counts, time: self.begun.elapsed(), failure: ended.err() };
        let told = self.renderer.finish(&summary).map_err(|error| Failure::unwritten(&error));
        let ok = summary.is_ok();
        match summary.failure {
            Some(failure) => Err(failure),
            None => told.map(|()| ok),
        }
    }
}

fn nothing_after(name: &str) -> String {
    format!("nothing can be found out before connect/{name} passes")
}

/// All of a run.
struct Summary {
    counts: [u64; 4],
    time: Duration,
    /// Why it was not looked at everything.
    failure: Option<Failure>,
}

impl Summary {
    fn is_ok(&self) -> bool {
        self.count(Verdict::Fail) == 0 && self.failure.is_none()
    }

    fn count(&self, verdict: Verdict) -> u64 {
        self.counts[verdict as usize]
    }
}

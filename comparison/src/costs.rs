//! What an operation costs a server: time in the program and in the kernel, sleeps, and system
//! calls. Linux counts the first three. strace counts the last, if it is installed.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    call::{self, Done, block_on},
    measure::{under_way, while_it_works},
    progress::Progress,
    settings::Settings,
    target::{Target, of_threads},
    work::{Contestant, Work, name},
};

/// Our server, tonic without what ours has around it, and the floor.
const CONTESTANTS: [Contestant; 3] = [Contestant::Ours, Contestant::BareTonic, Contestant::Tcp];

/// The averages for one operation.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) work: Work,
    pub(crate) contestant: Contestant,
    /// CPU time in the program, in microseconds.
    pub(crate) program: f64,
    /// CPU time in the kernel, in microseconds.
    pub(crate) kernel: f64,
    /// How often a thread went to sleep.
    pub(crate) sleeps: f64,
    /// System calls by name; empty without strace.
    pub(crate) system_calls: BTreeMap<String, f64>,
}

pub(crate) fn measure(settings: &Settings, progress: &Progress) -> anyhow::Result<Vec<Cost>> {
    if !cfg!(target_os = "linux") {
        return Ok(Vec::new());
    }
    let by_all = |work: &Work| CONTESTANTS[..2].iter().all(|it| work.contestants().contains(it));
    let works = Work::value_variants().iter().copied().filter(by_all);
    let pairs: Vec<_> = works
        .flat_map(|work| CONTESTANTS.map(|contestant| (work, contestant)))
        .filter(|(work, contestant)| work.contestants().contains(contestant))
        .collect();
    progress.begin("costs", pairs.len());
    let one = |(work, contestant)| {
        progress.step(format!("{}, {contestant}", name(work)));
        cost(work, contestant, settings).with_context(|| format!("{}, {contestant}", name(work)))
    };
    pairs.into_iter().map(one).collect()
}

fn cost(work: Work, contestant: Contestant, settings: &Settings) -> anyhow::Result<Cost> {
    let target = Target::pinned(contestant, settings)?;
    let done = Done::new()?;
    let working = call::go_on(contestant, target.address, work, done.clone());
    let (before, after, operations) = block_on(while_it_works(working, async {
        under_way(&done, settings.each).await?;
        let (before, count) = (Used::by(target.id())?, done.count());
        sleep(settings.each * 2).await;
        Ok((before, Used::by(target.id())?, done.count() - count))
    }))?;
    let each = |total: f64| total / operations.max(1) as f64;
    let time = |of: fn(&Used) -> Duration| each((of(&after) - of(&before)).as_secs_f64() * 1e6);
    Ok(Cost {
        work,
        contestant,
        program: time(|used| used.program),
        kernel: time(|used| used.kernel),
        sleeps: each((after.sleeps - before.sleeps) as f64),
        system_calls: system_calls(work, contestant, settings)?,
    })
}

/// What a process has used since its start.
struct Used {
    program: Duration,
    kernel: Duration,
    sleeps: u64,
}

impl Used {
    fn by(id: u32) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name of the program, in brackets, may have spaces.
        let (_, fields) = stat.rsplit_once(')').context("no name in /proc/…/stat")?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        // A hundredth of a second each, on every architecture.
        let time = |at: usize| -> anyhow::Result<_> {
            let ticks: u64 = fields.get(at).context("too few fields in /proc/…/stat")?.parse()?;
            Ok(Duration::from_millis(ticks * 10))
        };
        let mut sleeps = 0;
        for status in of_threads(id, "status")? {
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sleeps += line.context("no voluntary_ctxt_switches in /proc/…/status")?.trim().parse::<u64>()?;
        }
        Ok(Self { program: time(11)?, kernel: time(12)?, sleeps })
    }
}

/// By a server that strace follows from before the first operation until its end.
fn system_calls(
    work: Work,
    contestant: Contestant,
    settings: &Settings,
) -> anyhow::Result<BTreeMap<String, f64>> {
    let target = Target::pinned(contestant, settings)?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-U", "calls,name", "-p", &target.id().to_string()]);
    let mut strace = match strace.stderr(Stdio::piped()).spawn() {
        Ok(strace) => strace,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).context("strace cannot be started"),
    };
    let mut said = BufReader::new(strace.stderr.take().context("no stderr")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    if !line.contains("attached") {
        said.read_to_string(&mut line)?;
        bail!("strace said {line:?}");
    }
    let done = Done::new()?;
    let working = call::go_on(contestant, target.address, work, done.clone());
    block_on(while_it_works(working, async {
        under_way(&done, settings.each).await?;
        sleep(settings.each).await;
        Ok(())
    }))?;
    let operations = done.count().max(1) as f64;
    drop(target);
    let mut table = String::new();
    said.read_to_string(&mut table)?;
    strace.wait()?;
    let row = |line: &str| {
        let (calls, name) = line.trim().split_once(char::is_whitespace)?;
        Some((name.trim().to_owned(), calls.parse::<f64>().ok()? / operations))
    };
    Ok(table.lines().filter_map(row).filter(|(name, _)| name != "total").collect())
}

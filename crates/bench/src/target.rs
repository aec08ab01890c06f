//! A server process: started, asked for its CPU time, and ended with the run.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;

pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Target {
    /// Starts it on the core that is the caller's: children inherit that.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let what = format!("{}", command.get_program().display());
        let env = std::env::vars().filter(|(name, _)| name.starts_with("FOURMODES_"));
        for (name, _) in env {
            command.env_remove(name);
        }
        command.env("RUST_LOG", "warn").stdout(Stdio::piped());
        let process = command.spawn();
        let mut process = process.with_context(|| {
            format!("{what} cannot be started; build it with cargo build --release --workspace")
        })?;
        let stdout = process.stdout.take().context("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.with_context(|| format!("{what} said {line:?} instead of its address"));
        // From here on it is ended with this.
        let mut target = Self { address: ([127, 0, 0, 1], 0).into(), process };
        target.address = address?.parse()?;
        Ok(target)
    }

    /// Of all its threads since their start.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        cpu_time(self.process.id()).context("the server's CPU time cannot be read")
    }
}

/// To the nanosecond: the clock ticks that other places have are a hundredth of
/// a second, and what is compared differs by less.
#[cfg(target_os = "linux")]
fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let mut all = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has just ended has no figures any more.
        let Ok(figures) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        let on_a_core = figures.split(' ').next().context("no figures")?;
        all += Duration::from_nanos(on_a_core.parse()?);
    }
    Ok(all)
}

#[cfg(not(target_os = "linux"))]
fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
    let pid = Pid::from_u32(pid);
    let mut system = System::new()?;
    system.refresh_processes_specifics(
        ProcessesToUpdate::Some(&[pid]),
        true,
        ProcessRefreshKind::nothing().with_cpu(),
    );
    let process = system.process(pid).context("the server is gone")?;
    Ok(Duration::from_millis(process.accumulated_cpu_time()))
}

impl Drop for Target {
    fn drop(&mut self) {
        // Nothing to save: its state is thrown away.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps this thread, and what it starts, on one core; where the platform can't,
/// nothing happens.
pub(crate) fn stay_on_core(core: usize) {
    #[cfg(target_os = "linux")]
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() > core) || core == 0 {
        let mut cores = rustix::thread::CpuSet::new();
        cores.set(core);
        let _ = rustix::thread::sched_setaffinity(None, &cores);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = core;
}

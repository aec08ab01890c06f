//! A server process: started, asked for its CPU time, and ended with the run.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

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

    /// Of all its threads since its start.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let pid = Pid::from_u32(self.process.id());
        let mut system = System::new()?;
        let cpu = ProcessRefreshKind::nothing().with_cpu();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, cpu);
        let process = system.process(pid).context("the server is gone")?;
        Ok(Duration::from_millis(process.accumulated_cpu_time()))
    }
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

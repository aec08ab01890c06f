//! A server process: started, asked for what it takes, and ended with the run.

use std::{
    env::current_exe,
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::{
    cores,
    settings::Settings,
    work::{Contestant, name},
};

pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    process: Child,
}

/// What cargo builds with this program is in the same directory.
pub(crate) fn beside_this(name: &str) -> anyhow::Result<PathBuf> {
    Ok(current_exe().context("where this program is")?.with_file_name(name))
}

impl Target {
    /// Starts a contestant, on the core of the servers unless nothing is pinned; ours keeps nothing.
    pub(crate) fn pinned(contestant: Contestant, settings: &Settings) -> anyhow::Result<Self> {
        let command = match contestant {
            Contestant::Ours => ours(&settings.server, OsStr::new(":memory:")),
            program if program == Contestant::BareTonic || program.is_optional() => {
                Command::new(beside_this(&name(program))?)
            }
            other => {
                let mut command = Command::new(current_exe().context("where this program is")?);
                command.args(["serve", &name(other)]);
                command
            }
        };
        if settings.unpinned {
            return Self::start(command);
        }
        cores::of_servers();
        let target = Self::start(command);
        cores::of_clients();
        target
    }

    /// Starts ours, which keeps its state in `data` and takes the upload.
    pub(crate) fn ours_in(data: &OsStr, settings: &Settings) -> anyhow::Result<Self> {
        let mut command = ours(&settings.server, data);
        command.args(["--max-upload", &settings.upload.to_string()]);
        Self::start(command)
    }

    /// Starts it on the cores that are the caller's: children inherit them.
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let what = format!("{}", command.get_program().display());
        command.env("RUST_LOG", "warn").stdout(Stdio::piped());
        let process = without_options(&mut command).spawn();
        let mut process = process.with_context(|| format!("{what} cannot be started"))?;
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

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Of all its threads since their start.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        #[cfg(target_os = "linux")]
        {
            exact_cpu_time(self.process.id()).context("the server's CPU time cannot be read")
        }
        #[cfg(not(target_os = "linux"))]
        {
            let cpu = ProcessRefreshKind::nothing().with_cpu();
            self.look(cpu, |process| Duration::from_millis(process.accumulated_cpu_time()))
        }
    }

    /// Resident, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        self.look(ProcessRefreshKind::nothing().with_memory(), Process::memory)
    }

    fn look<T>(&self, at: ProcessRefreshKind, what: impl FnOnce(&Process) -> T) -> anyhow::Result<T> {
        let pid = Pid::from_u32(self.process.id());
        let mut system = System::new()?;
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, at);
        system.process(pid).map(what).context("the server is gone")
    }
}

/// To the nanosecond: the clock ticks that other places have are a hundredth of
/// a second, and what is compared differs by less.
#[cfg(target_os = "linux")]
fn exact_cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let mut all = Duration::ZERO;
    for figures in of_threads(pid, "schedstat")? {
        let on_a_core = figures.split(' ').next().context("no figures")?;
        all += Duration::from_nanos(on_a_core.parse()?);
    }
    Ok(all)
}

/// What `/proc` has of each thread in a file.
pub(crate) fn of_threads(pid: u32, file: &str) -> std::io::Result<Vec<String>> {
    let mut figures = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has just ended has no figures any more.
        figures.extend(std::fs::read_to_string(thread?.path().join(file)));
    }
    Ok(figures)
}

impl Drop for Target {
    fn drop(&mut self) {
        // Nothing to save: its state is thrown away.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ours(server: &Path, data: &OsStr) -> Command {
    let mut command = Command::new(server);
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data).arg("all");
    command
}

/// What is set for a user's own server and client is not for these.
pub(crate) fn without_options(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FOURMODES_") {
            command.env_remove(name);
        }
    }
    command
}

//! What the server and the client do alike, whatever they serve: logs, signals,
//! durable names of files, numbers of bytes, CPU time, command lines, and which
//! characters people can see.

mod command_line;
mod seen;

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _},
    path::Path,
    time::Duration,
};

use bytesize::ByteSize;
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt};

pub use self::{
    command_line::{Describe, Shell, readable},
    seen::{can_be_seen, is_unseen},
};

/// These say something about each frame at `debug`, and so are heard at that
/// level only when `RUST_LOG` names them.
const TALKATIVE: [&str; 3] = ["h2", "hyper_util", "tower"];

/// Makes the names in a directory durable: a file that was created in it, or
/// renamed into it, is there after a crash.
///
/// # Errors
///
/// When the directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    // Elsewhere a directory is no file, and a rename is durable by itself.
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// [`sync_directory`], for the directory that a file is in.
///
/// # Errors
///
/// As above.
pub fn sync_directory_of(file: &Path) -> io::Result<()> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_directory(directory.unwrap_or(Path::new(".")))
}

/// Reads a number of bytes as people write it: `512`, `64KiB`, `4MiB`, `1GiB`.
///
/// # Errors
///
/// When it is not one.
pub fn bytes(text: &str) -> Result<u64, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|_| "write a number of bytes, or one with a unit, such as 256KiB or 1MiB".to_owned())?;
    Ok(size.as_u64())
}

/// Reads a duration as people write it, `100ms` or `2h`, that is more than nothing.
///
/// # Errors
///
/// When it is not one.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text).map_err(|error| error.to_string())? {
        Duration::ZERO => Err("it must be more than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// Reads a number that is not zero.
///
/// # Errors
///
/// When it is not one.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it has to be 1 at least".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// A rename that replaces nothing, whoever else creates the file in this moment.
///
/// # Errors
///
/// `AlreadyExists` when there is a file of the new name.
pub fn rename_if_free(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Not every file system has links.
        Err(_) => fs::rename(from, to),
    }
}

/// Logs to stderr, at `level` unless `RUST_LOG` says otherwise, in colour on a
/// terminal unless `NO_COLOR` is set.
pub fn log_to_stderr(level: LevelFilter) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = EnvFilter::builder().with_default_directive(level.into()).parse_lossy(&wanted);
    let quiet = TALKATIVE.iter().filter(|target| !wanted.contains(**target));
    let filter = quiet
        .filter_map(|target| format!("{target}=info").parse().ok())
        .fold(filter, EnvFilter::add_directive);
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    fmt()
        .compact()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && !no_color)
        .with_target(false)
        // It would report a log that cannot be written to the same place, and panic.
        .log_internal_errors(false)
        .init();
}

/// The CPU time that this process has taken since it was started, on all cores
/// together. None where the platform does not tell.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    return rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).try_into().ok();
    #[cfg(not(unix))]
    None
}

/// SIGINT and SIGTERM; elsewhere Ctrl-C. Once installed, they no longer end the
/// process by themselves.
#[derive(Debug)]
pub struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// # Errors
    ///
    /// When the handlers cannot be installed.
    #[cfg(unix)]
    pub fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Completes with the next signal.
    #[cfg(unix)]
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// # Errors
    ///
    /// None here.
    #[cfg(not(unix))]
    pub fn install() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Completes with the next Ctrl-C.
    #[cfg(not(unix))]
    pub async fn next(&mut self) {
        // Without a handler there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

//! Shared by the server and the client: logs, signals, durable file names, byte sizes,
//! CPU time, command lines, and which characters are visible.

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

/// These crates log every frame at `debug`, so that level applies to them only when
/// `RUST_LOG` names them.
const TALKATIVE: [&str; 3] = ["h2", "hyper_util", "tower"];

/// Makes the names in a directory durable: a file that was created in it or renamed
/// into it is still there after a crash.
///
/// # Errors
///
/// When the directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    // On other systems a directory cannot be opened as a file, and a rename is durable
    // by itself.
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Calls [`sync_directory`] for the directory of a file.
///
/// # Errors
///
/// Those of [`sync_directory`].
pub fn sync_directory_of(file: &Path) -> io::Result<()> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_directory(directory.unwrap_or(Path::new(".")))
}

/// Parses a number of bytes as people write it: `512`, `64KiB`, `4MiB`, `1GiB`.
///
/// # Errors
///
/// When it is not a number of bytes.
pub fn bytes(text: &str) -> Result<u64, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|_| "write a number of bytes, or one with a unit, such as 256KiB or 1MiB".to_owned())?;
    Ok(size.as_u64())
}

/// Parses a duration as people write it, such as `100ms` or `2h`. It has to be longer
/// than zero.
///
/// # Errors
///
/// When it is not such a duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text).map_err(|error| error.to_string())? {
        Duration::ZERO => Err("it must be more than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// Parses a number that is not zero.
///
/// # Errors
///
/// When it is not such a number.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it has to be 1 at least".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// Renames a file without replacing another one, even if another process creates that
/// at the same moment.
///
/// # Errors
///
/// `AlreadyExists` when a file has the new name.
pub fn rename_if_free(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Not every file system supports hard links.
        Err(_) => fs::rename(from, to),
    }
}

/// Logs to stderr. `RUST_LOG` overrides `level`. The log is coloured on a terminal
/// unless `NO_COLOR` is set.
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
        // It would report a failed write to the same place, and panic.
        .log_internal_errors(false)
        .init();
}

/// The CPU time that this process has used since its start, on all cores. `None` where
/// the platform does not report it.
#[must_use]
pub fn cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    return rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).try_into().ok();
    #[cfg(not(unix))]
    None
}

/// SIGINT and SIGTERM, or Ctrl-C on other systems. Once installed, these signals no
/// longer end the process.
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
        // Without a handler no signal can arrive.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

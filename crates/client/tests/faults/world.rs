//! Processes: a server that is killed and started, and clients.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// For what takes far less on any machine.
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |value| value.parse().expect(variable))
}

/// Waits for a condition that other processes bring about.
pub(crate) fn eventually(mut condition: impl FnMut() -> bool, what: &str) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "nothing happens: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a server may take to end, by its `--grace`.
const GRACE: Duration = Duration::from_secs(10);

/// A binary of this workspace.
fn binary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_fourmodes")).with_file_name(name);
    assert!(path.exists(), "{} is not built: `cargo build --workspace` does it", path.display());
    path
}

/// The server, on one address and one data directory over all its lives.
pub(crate) struct Server {
    pub(crate) address: Address,
    directory: TempDir,
    child: Child,
}

#[derive(Clone)]
pub(crate) struct Address(String);

impl Server {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (child, address) = launch("127.0.0.1:0", directory.path());
        Self { address: Address(address), directory, child }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the server to end, and says how long that took.
    pub(crate) fn stop(&mut self) -> Duration {
        let asked = Instant::now();
        signal("TERM", &self.child);
        let status = self.child.wait().unwrap();
        let took = asked.elapsed();
        assert!(status.success() && took < GRACE, "{status} after {took:?}");
        took
    }

    /// Stops the process where it is, until it is killed.
    pub(crate) fn hang(&self) {
        signal("STOP", &self.child);
    }

    pub(crate) fn restart(&mut self) {
        (self.child, _) = launch(&self.address.0, self.directory.path());
    }
}

impl Address {
    /// Where there are several, any of which will do.
    pub(crate) fn any_of(servers: &[Server]) -> Self {
        let addresses: Vec<_> = servers.iter().map(|server| server.address.0.as_str()).collect();
        Self(addresses.join(","))
    }

    /// A client that calls this server, whose arguments have no spaces in them.
    pub(crate) fn client(&self, arguments: &str) -> Command {
        let mut command = Command::new(binary("fourmodes"));
        command.args(["--output", "json"]).args(arguments.split_whitespace()).env_clear();
        command.env("FOURMODES_SERVER", format!("http://{}", self.0));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The result of a client that runs to its end.
    pub(crate) fn result(&self, arguments: &str, file: Option<&Path>) -> Value {
        let last = self.lines(&format!("--quiet {arguments}"), file).pop();
        last.unwrap_or_else(|| panic!("{arguments}: no result"))
    }

    /// All that such a client says, the result at last.
    pub(crate) fn lines(&self, arguments: &str, file: Option<&Path>) -> Vec<Value> {
        let ended = self.client(arguments).args(file).stdin(Stdio::null()).output().unwrap();
        let stdout = String::from_utf8(ended.stdout).unwrap();
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(name: &str, child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
}

fn launch(address: &str, directory: &Path) -> (Child, String) {
    let mut command = Command::new(binary("fourmodes-server"));
    let grace = format!("{}s", GRACE.as_secs());
    command.args(["--listen", address, "--grace", &grace, "all", "--data-dir"]).arg(directory).env_clear();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening on http://");
    (child, address.unwrap_or_else(|| panic!("first line {line:?}")).to_owned())
}

/// A client that goes on for as long as it is let, and what it has said.
pub(crate) struct Client<T> {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What has become of the lines of its output.
    seen: Arc<Mutex<T>>,
    reader: Option<std::thread::JoinHandle<Option<Value>>>,
}

impl<T: Default + Send + 'static> Client<T> {
    /// `see` takes each line that is no result.
    pub(crate) fn start(mut command: Command, see: impl Fn(&mut T, Value) + Send + 'static) -> Self {
        let mut child = command.spawn().unwrap();
        let seen = Arc::new(Mutex::new(T::default()));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn({
            let seen = seen.clone();
            move || {
                let mut result = None;
                for line in lines {
                    let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
                    match line["type"] == "result" {
                        true => result = Some(line),
                        false => see(&mut seen.lock().unwrap(), line),
                    }
                }
                result
            }
        });
        Self { stdin: child.stdin.take(), child, seen, reader: Some(reader) }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, T> {
        self.seen.lock().unwrap()
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("standard input was taken before")
    }

    pub(crate) fn interrupt(&self) {
        signal("INT", &self.child);
    }

    /// The result, and all that was seen.
    pub(crate) fn ended(mut self) -> (Value, T) {
        self.stdin = None;
        let result = self.reader.take().unwrap().join().unwrap();
        self.child.wait().unwrap();
        let seen = std::mem::take(&mut *self.seen());
        (result.expect("no result"), seen)
    }
}

impl<T> Drop for Client<T> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes lines from a thread of its own, until it is told to stop.
pub(crate) struct Typist {
    stop: Arc<std::sync::atomic::AtomicBool>,
    typing: Option<std::thread::JoinHandle<u64>>,
}

impl Typist {
    pub(crate) fn start(mut stdin: ChildStdin, line: impl Fn(u64) -> String + Send + 'static) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let typing = std::thread::spawn(move || {
            let mut typed = 0;
            while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
                writeln!(stdin, "{}", line(typed)).expect("the client does not read");
                typed += 1;
                // So that there is something under way at any moment, and not too much.
                std::thread::sleep(Duration::from_millis(4));
            }
            typed
        });
        Self { stop, typing: Some(typing) }
    }

    /// How many lines were written in all; the input has ended with the last.
    pub(crate) fn stop(mut self) -> u64 {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        self.typing.take().unwrap().join().unwrap()
    }
}

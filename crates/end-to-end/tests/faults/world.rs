//! Processes: a server that is killed and started, and clients.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::ChildStdin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use test_support::{Program, Running, ServerProgram, Signal};

pub(crate) fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |value| value.parse().expect(variable))
}

/// What a server may take to end, by its `--grace`.
const GRACE: Duration = Duration::from_secs(10);

/// The server, on one address and one data directory over all its lives.
pub(crate) struct Server {
    pub(crate) address: Address,
    _directory: TempDir,
    program: ServerProgram,
}

#[derive(Clone)]
pub(crate) struct Address {
    servers: String,
    /// Whether a client may fail, since no server was there.
    pub(crate) may_fail: bool,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// With its state in a database, if there is an address of one.
    pub(crate) fn start_with(store: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = Program::new(env!("CARGO_BIN_EXE_end-to-end-server")).arg("all").arg("--grace");
        let program = program.arg(format!("{}s", GRACE.as_secs())).arg("--data-dir").arg(directory.path());
        let program = program.env("FOURMODES_LISTEN", "127.0.0.1:0").env("RUST_LOG", "off");
        let program = store.into_iter().fold(program, |program, store| program.env("FOURMODES_STORE", store));
        let program = program.serve();
        let address = Address { servers: program.address.to_string(), may_fail: true };
        Self { address, _directory: directory, program }
    }

    pub(crate) fn socket(&self) -> SocketAddr {
        self.program.address
    }

    pub(crate) fn kill(&mut self) {
        self.program.kill();
    }

    /// Asks the server to end, and says how long that took.
    pub(crate) fn stop(&mut self) -> Duration {
        let asked = Instant::now();
        self.program.signal(Signal::TERM);
        let code = self.program.wait();
        let took = asked.elapsed();
        assert!(code == Some(0) && took < GRACE, "{code:?} after {took:?}");
        took
    }

    /// Stops the process where it is, until it is killed or goes on.
    pub(crate) fn hang(&self) {
        self.program.signal(Signal::STOP);
    }

    /// Lets a process that hangs go on.
    pub(crate) fn go_on(&self) {
        self.program.signal(Signal::CONT);
    }

    /// Waits until it has ended by itself, and gives its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.program.wait()
    }

    pub(crate) fn restart(&mut self) {
        self.program.restart();
    }
}

impl Address {
    /// Where there are several, any of which will do.
    pub(crate) fn any_of(servers: &[Server]) -> Self {
        let addresses: Vec<_> = servers.iter().map(|server| server.address.servers.as_str()).collect();
        Self { servers: addresses.join(","), may_fail: true }
    }

    /// No client may fail, for there is always a server.
    pub(crate) fn where_none_fails(self) -> Self {
        Self { may_fail: false, ..self }
    }

    pub(crate) fn count(&self) -> usize {
        self.servers.split(',').count()
    }

    /// A client that calls this server, whose arguments have no spaces in them.
    pub(crate) fn client(&self, arguments: &str) -> Program {
        let program = Program::new(env!("CARGO_BIN_EXE_end-to-end-client")).args("--output json");
        program.args(arguments).env("FOURMODES_SERVER", format!("http://{}", self.servers))
    }

    /// The result of a client that runs to its end.
    pub(crate) fn result(&self, arguments: &str, file: Option<&Path>) -> Value {
        let last = self.lines(&format!("--quiet {arguments}"), file).pop();
        last.unwrap_or_else(|| panic!("{arguments}: no result"))
    }

    /// All that such a client says, the result at last.
    pub(crate) fn lines(&self, arguments: &str, file: Option<&Path>) -> Vec<Value> {
        file.into_iter().fold(self.client(arguments), Program::arg).run().json()
    }
}

/// A client that goes on for as long as it is let, and what it has said.
pub(crate) struct Client<T> {
    running: Running,
    /// What has become of the lines of its output.
    seen: Arc<Mutex<T>>,
    reader: std::thread::JoinHandle<Option<Value>>,
}

impl<T: Default + Send + 'static> Client<T> {
    /// `see` takes each line that is no result.
    pub(crate) fn start(program: Program, see: impl Fn(&mut T, Value) + Send + 'static) -> Self {
        let mut running = program.spawn();
        let seen = Arc::new(Mutex::new(T::default()));
        let lines = BufReader::new(running.child.stdout.take().unwrap()).lines();
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
        Self { running, seen, reader }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, T> {
        self.seen.lock().unwrap()
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.running.child.stdin.take().expect("standard input was taken before")
    }

    pub(crate) fn interrupt(&self) {
        self.running.signal(Signal::INT);
    }

    /// The result, and all that was seen.
    pub(crate) fn ended(mut self) -> (Value, T) {
        self.running.half_close();
        let result = self.reader.join().unwrap();
        self.running.wait();
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        (result.expect("no result"), seen)
    }
}

/// Writes lines from a thread of its own, until it is told to stop.
pub(crate) struct Typist {
    stop: Arc<AtomicBool>,
    typed: Arc<AtomicU64>,
    typing: std::thread::JoinHandle<()>,
}

impl Typist {
    /// A pause after each line, so that there is something under way at any moment, and not
    /// too much.
    pub(crate) fn start(
        mut stdin: ChildStdin,
        pause: Duration,
        line: impl Fn(u64) -> String + Send + 'static,
    ) -> Self {
        let (stop, typed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let typing = std::thread::spawn({
            let (stop, typed) = (stop.clone(), typed.clone());
            move || {
                // A client that has ended says why by itself.
                while !stop.load(SeqCst) && writeln!(stdin, "{}", line(typed.load(SeqCst))).is_ok() {
                    typed.fetch_add(1, SeqCst);
                    std::thread::sleep(pause);
                }
            }
        });
        Self { stop, typed, typing }
    }

    /// How many lines were written so far.
    pub(crate) fn typed(&self) -> u64 {
        self.typed.load(SeqCst)
    }

    /// How many lines were written in all; the input has ended with the last.
    pub(crate) fn stop(self) -> u64 {
        self.stop.store(true, SeqCst);
        self.typing.join().unwrap();
        self.typed.load(SeqCst)
    }
}

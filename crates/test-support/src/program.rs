//! Programs: a server that a test may kill, a client that runs to its end.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError},
    },
};

#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{LONG, eventually};

/// What a process needs of the environment of the tests. All else would change
/// what it does.
const ENVIRONMENT: [&str; 8] =
    ["PATH", "HOME", "TMPDIR", "SystemRoot", "USERPROFILE", "LOCALAPPDATA", "TEMP", "TMP"];

/// A program to start.
pub struct Program {
    command: Command,
    stdin: Vec<u8>,
}

impl Program {
    /// Of a path, which cargo knows: `env!("CARGO_BIN_EXE_…")`.
    pub fn new(path: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(path);
        let needed = ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.env_clear().envs(needed).env("NO_COLOR", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, stdin: Vec::new() }
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes a variable out of its environment.
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Where it runs.
    pub fn current_dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Arguments without spaces in them.
    pub fn args(mut self, arguments: &str) -> Self {
        self.command.args(arguments.split_whitespace());
        self
    }

    /// What it reads, where it runs to its end.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Where its output goes instead of to the test.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// Runs in a name space where `script` may mount a file system and then has
    /// to `exec "$@"`. Linux alone has them; where a user may not make one, the
    /// program ends with an error.
    pub fn isolated(self, script: &str) -> Self {
        let mut isolated = Self::new("unshare").args("--user --map-root-user --mount sh -c").arg(script);
        isolated.command.arg("sh").arg(self.command.get_program()).args(self.command.get_args());
        isolated.command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        isolated
    }

    /// The directory is a disk of its own and of a size such as `24m`, for this
    /// program alone.
    pub fn on_disk(self, size: &str, directory: &Path) -> Self {
        self.env("TEST_DISK", directory)
            .isolated(&format!(r#"mount -t tmpfs -o size={size} tmpfs "$TEST_DISK" && exec "$@""#))
    }

    /// Starts it.
    pub fn spawn(mut self) -> Running {
        Running { child: self.command.spawn().unwrap() }
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Ended {
        let input = std::mem::take(&mut self.stdin);
        let mut running = self.spawn();
        let mut stdin = running.child.stdin.take().unwrap();
        // Fails when the program does not want it, which is for the test to judge.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let ended = running.wait();
        writer.join().unwrap();
        ended
    }

    /// Starts a server: it listens when this returns.
    #[track_caller]
    pub fn serve(self) -> ServerProgram {
        self.try_serve().unwrap_or_else(|why| panic!("{why}"))
    }

    /// [`serve`](Self::serve), or what a server said that did not start.
    pub fn try_serve(mut self) -> Result<ServerProgram, String> {
        self.command.stdin(Stdio::null());
        ServerProgram::start(self.command)
    }
}

/// A program that runs. It is killed when this is dropped.
pub struct Running {
    /// The process.
    pub child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Writes a line to its input.
    pub fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Ends its input.
    pub fn half_close(&mut self) {
        self.child.stdin = None;
    }

    /// The lines of stdout, as they come.
    pub fn lines(&mut self) -> Lines {
        Lines::of(self.child.stdout.take().unwrap())
    }

    /// Those of stderr.
    pub fn warnings(&mut self) -> Lines {
        Lines::of(self.child.stderr.take().unwrap())
    }

    /// Sends a signal.
    #[cfg(unix)]
    pub fn signal(&self, signal: Signal) {
        let process = self.child.id().try_into().unwrap();
        kill_process(Pid::from_raw(process).unwrap(), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait(&mut self) -> Ended {
        let read = |pipe: Option<Box<dyn std::io::Read + Send>>| {
            let (sender, text) = mpsc::channel();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    pipe.read_to_end(&mut bytes).unwrap();
                }
                sender.send(String::from_utf8(bytes).unwrap()).unwrap();
            });
            text
        };
        let stdout = read(self.child.stdout.take().map(|pipe| Box::new(pipe) as _));
        let stderr = read(self.child.stderr.take().map(|pipe| Box::new(pipe) as _));
        let mut status = None;
        eventually(
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
            "the program does not end",
        );
        Ended {
            code: status.unwrap().code(),
            stdout: stdout.recv_timeout(LONG).unwrap(),
            stderr: stderr.recv_timeout(LONG).unwrap(),
        }
    }
}

/// A server that is a program. It is killed when this is dropped.
pub struct ServerProgram {
    /// Where it listens.
    pub address: SocketAddr,
    /// As a client is given it.
    pub url: String,
    running: Running,
    command: Command,
    /// All that went to stdout.
    stdout: Arc<Mutex<String>>,
    /// All that went to stderr.
    log: Arc<Mutex<String>>,
}

impl ServerProgram {
    fn start(mut command: Command) -> Result<Self, String> {
        let mut running = Running { child: command.spawn().unwrap() };
        let (_, log) = lines(running.child.stderr.take().unwrap());
        let (first, stdout) = lines(running.child.stdout.take().unwrap());
        let line = first.recv_timeout(LONG);
        // Without a line it ends by itself, and may say why after the end of stdout.
        let ends = line == Err(RecvTimeoutError::Disconnected);
        let line = line.unwrap_or_default();
        let Some(url) = line.strip_prefix("listening on ") else {
            if !ends {
                running.child.kill().unwrap();
            }
            eventually(|| Arc::strong_count(&log) == 1, "stderr does not end");
            return Err(format!("first line {line:?}; log:\n{}", log.lock().unwrap()));
        };
        let address = url.rsplit_once("://").unwrap().1.parse().unwrap();
        Ok(Self { address, url: url.to_owned(), running, command, stdout, log })
    }

    /// Kills it and starts the program again, at the same address.
    pub fn restart(&mut self) {
        self.restart_at(&self.address.to_string());
    }

    /// Kills it and starts the program again at an address, unless its arguments
    /// name one.
    pub fn restart_at(&mut self, address: &str) {
        self.kill();
        self.command.env("FOURMODES_LISTEN", address);
        let command = std::mem::replace(&mut self.command, Command::new(""));
        *self = Self::start(command).unwrap_or_else(|why| panic!("{why}"));
    }

    /// Kills it, and comes back when it is gone.
    pub fn kill(&mut self) {
        self.running.child.kill().unwrap();
        self.running.child.wait().unwrap();
    }

    /// Kills it, and gives all that went to stdout.
    pub fn killed(mut self) -> String {
        self.kill();
        self.ended().1
    }

    /// The exit code, and all that went to stdout, once it has ended by itself.
    #[track_caller]
    pub fn ended(mut self) -> (Option<i32>, String) {
        let code = self.wait();
        // The thread that reads has the only other handle, until the end.
        eventually(|| Arc::strong_count(&self.stdout) == 1, "stdout does not end");
        (code, std::mem::take(&mut *self.stdout.lock().unwrap()))
    }

    /// Waits until it has ended by itself, and gives its exit code.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        self.running.wait().code
    }

    /// Sends a signal.
    #[cfg(unix)]
    pub fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.running.child.id()
    }

    /// Where a test sees a directory of a server that is on a disk of its own: by
    /// way of the process that alone has it.
    pub fn seen(&self, directory: &Path) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.id())).join(directory.strip_prefix("/").unwrap())
    }

    /// Whether a line of the log has all of this in it, in quotes or not.
    pub fn logged(&self, texts: &[&str]) -> bool {
        let log = self.log().replace('"', "");
        log.lines().any(|line| texts.iter().all(|text| line.contains(text)))
    }

    /// All that went to stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

/// The first line, and all of them so far.
fn lines(pipe: impl std::io::Read + Send + 'static) -> (mpsc::Receiver<String>, Arc<Mutex<String>>) {
    let (sender, first) = mpsc::sync_channel(1);
    let all = Arc::<Mutex<String>>::default();
    std::thread::spawn({
        let all = all.clone();
        move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                all.lock().unwrap().extend([&line, "\n"]);
                let _ = sender.try_send(line);
            }
        }
    });
    (first, all)
}

/// The lines of a pipe.
pub struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn of(pipe: impl std::io::Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                if line.map(|line| sender.send(line)).is_err() {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// All that are still to come, up to the end.
    #[track_caller]
    pub fn rest(&self) -> String {
        let mut rest = String::new();
        loop {
            match self.0.recv_timeout(LONG) {
                Ok(line) => rest.extend([&line, "\n"]),
                Err(mpsc::RecvTimeoutError::Disconnected) => return rest,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("there is no end of it: {rest}"),
            }
        }
    }

    /// The next one with this in it.
    #[track_caller]
    pub fn until(&self, what: &str) -> String {
        loop {
            let line = self.0.recv_timeout(LONG).unwrap_or_else(|_| panic!("no line with {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }
}

/// What a program left.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// All that went to stdout and that nobody took before.
    pub stdout: String,
    /// All that went to stderr and that nobody took before.
    pub stderr: String,
}

impl Ended {
    /// Asserts that it ended with 0 and warned of nothing.
    #[track_caller]
    pub fn ok(self) -> Self {
        // Of which tests are.
        let warned = self.stderr.lines().any(|line| !line.starts_with("warning: debug build"));
        assert_eq!((self.code, warned), (Some(0), false), "{}\n{}", self.stderr, self.stdout);
        self
    }

    /// Asserts on the exit code and on what stderr says, and that nothing
    /// panicked.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The lines of `--output json`.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The last of them.
    #[track_caller]
    pub fn result(&self) -> Value {
        let last = self.json().pop().unwrap_or_else(|| panic!("no result: {self:?}"));
        assert_eq!(last["type"], "result");
        last
    }
}

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;
use server::config::Config;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
};

/// For what takes far less on any machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A server in this process, until it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) runtime: Runtime,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind(config.listen)).unwrap();
        Self::on(listener, config, runtime)
    }

    fn on(listener: TcpListener, config: Config, runtime: Runtime) -> Self {
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        runtime.spawn(server::serve(listener, config, std::future::pending()));
        Self { url, runtime }
    }

    /// A client that calls this server.
    pub(crate) fn client(&self, arguments: &str) -> Client {
        client(arguments).env("FOURMODES_SERVER", &self.url)
    }

    /// What `status` says of a mode.
    pub(crate) fn status(&self, mode: &str) -> Value {
        let status = self.client("unary status --output json -q").run().result();
        let modes = status["value"]["modes"].as_array().unwrap().clone();
        modes.into_iter().find(|status| status["mode"] == mode).unwrap()
    }

    /// Waits until the server holds no call of a mode any more.
    pub(crate) fn has_let_go_of(&self, mode: &str) {
        eventually(|| self.status(mode)["calls_open"] == 0, "the server holds a call that is over");
    }
}

/// An address at which nothing listens until a server starts there.
pub(crate) struct Reserved {
    pub(crate) address: SocketAddr,
    socket: TcpSocket,
    runtime: Runtime,
}

impl Reserved {
    pub(crate) fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { address: socket.local_addr().unwrap(), socket, runtime }
    }

    pub(crate) fn start(self) -> Server {
        let entered = self.runtime.enter();
        let listener = self.socket.listen(64).unwrap();
        drop(entered);
        Server::on(listener, Config::default(), self.runtime)
    }
}

/// A peer that is no gRPC server: takes connections and hands them over.
pub(crate) fn listener() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nothing listens and nothing can, while the sockets live: it
/// is one end of a connection.
pub(crate) fn deaf_address() -> (SocketAddr, [std::net::TcpStream; 2]) {
    let (listener, address) = listener();
    let near = std::net::TcpStream::connect(address).unwrap();
    let far = listener.accept().unwrap().0;
    (near.local_addr().unwrap(), [near, far])
}

pub(crate) struct Client {
    command: Command,
    stdin: Vec<u8>,
}

/// A client whose arguments have no spaces in them.
pub(crate) fn client(arguments: &str) -> Client {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fourmodes"));
    command.args(arguments.split_whitespace()).env_clear().env("NO_COLOR", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Client { command, stdin: Vec::new() }
}

impl Client {
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn current_dir(mut self, directory: &std::path::Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Arguments without spaces in them.
    pub(crate) fn args(mut self, arguments: &str) -> Self {
        self.command.args(arguments.split_whitespace());
        self
    }

    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    pub(crate) fn spawn(mut self) -> Running {
        Running(self.command.spawn().unwrap())
    }

    pub(crate) fn run(mut self) -> Ended {
        let input = std::mem::take(&mut self.stdin);
        let mut running = self.spawn();
        let mut stdin = running.0.stdin.take().unwrap();
        // Fails when the client does not want it, which is for the test to judge.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let ended = running.wait();
        writer.join().unwrap();
        ended
    }
}

/// A client that is killed when it is dropped.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn half_close(&mut self) {
        self.0.stdin = None;
    }

    /// The lines of stdout, as they come.
    pub(crate) fn lines(&mut self) -> Lines {
        Lines::of(self.0.stdout.take().unwrap())
    }

    /// Likewise those of stderr.
    pub(crate) fn warnings(&mut self) -> Lines {
        Lines::of(self.0.stderr.take().unwrap())
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let killed = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    pub(crate) fn wait(&mut self) -> Ended {
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
        let stdout = read(self.0.stdout.take().map(|pipe| Box::new(pipe) as _));
        let stderr = read(self.0.stderr.take().map(|pipe| Box::new(pipe) as _));
        let code = wait(&mut self.0);
        Ended { code, stdout: stdout.recv_timeout(LONG).unwrap(), stderr: stderr.recv_timeout(LONG).unwrap() }
    }
}

fn wait(child: &mut Child) -> Option<i32> {
    let mut status = None;
    eventually(
        || {
            status = child.try_wait().unwrap();
            status.is_some()
        },
        "the client does not end",
    );
    status.unwrap().code()
}

/// Waits for a condition that another process brings about.
pub(crate) fn eventually(mut condition: impl FnMut() -> bool, otherwise: &str) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "{otherwise}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn of(pipe: impl std::io::Read + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(std::io::BufReader::new(pipe)) {
                if line.map(|line| sender.send(line)).is_err() {
                    return;
                }
            }
        });
        Self(lines)
    }

    pub(crate) fn until(&self, what: &str) -> String {
        loop {
            let line = self.0.recv_timeout(LONG).unwrap_or_else(|_| panic!("no line with {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        self
    }

    /// Asserts on the exit status and on what stderr says, and that nothing
    /// panicked.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// The lines of `--output json`.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        let last = self.json().pop().unwrap_or_else(|| panic!("no result: {self:?}"));
        assert_eq!(last["type"], "result");
        last
    }
}

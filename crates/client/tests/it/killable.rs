//! A server in a process of its own, which a test may kill, at an address that
//! stays the same.

use std::{
    io::{self, BufRead as _, BufReader},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use server::config::{Config, Data, TlsFiles};

use crate::support::{Client, LONG, client};

const DATA: &str = "FOURMODES_TEST_DATA";
const LOGS: &str = "FOURMODES_TEST_LOGS";
const CERTS: &str = "FOURMODES_TEST_CERTS";
const ADDRESS: &str = "serving at ";

/// The other process: this test binary, running this test alone.
#[test]
#[ignore = "serves until it is killed"]
fn a_server_that_others_kill() {
    let (Some(data), Some(logs)) = (std::env::var_os(DATA), std::env::var_os(LOGS)) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let data = Data::Directory(PathBuf::from(data));
        let tls = std::env::var_os(CERTS).map(PathBuf::from).map(|certs| TlsFiles {
            certificate: certs.join("server.pem"),
            key: certs.join("server-key.pem"),
            client_ca: None,
        });
        let config = Config { data, log_root: Some(PathBuf::from(logs)), tls, ..Config::default() };
        let listener = tokio::net::TcpListener::bind(config.listen).await.unwrap();
        println!("{ADDRESS}{}", listener.local_addr().unwrap());
        server::serve(listener, config, std::future::pending()).await.unwrap();
    });
}

/// Where the server is; nowhere while it is dead.
type Place = Arc<(Mutex<Option<SocketAddr>>, Condvar)>;

pub(crate) struct Killable {
    home: Home,
    /// What clients connect to: it passes everything on.
    front: SocketAddr,
    place: Place,
    process: Mutex<Child>,
}

/// What outlives the process.
struct Home {
    data: PathBuf,
    logs: PathBuf,
    certs: Option<PathBuf>,
}

impl Killable {
    pub(crate) fn start(data: impl Into<PathBuf>, logs: impl Into<PathBuf>) -> Self {
        Self::with(Home { data: data.into(), logs: logs.into(), certs: None })
    }

    /// Over TLS, with the certificate that is in a directory.
    pub(crate) fn with_tls(data: impl Into<PathBuf>, certs: impl Into<PathBuf>) -> Self {
        let data = data.into();
        Self::with(Home { logs: data.clone(), data, certs: Some(certs.into()) })
    }

    fn with(home: Home) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = listener.local_addr().unwrap();
        let place = Place::default();
        let process = Mutex::new(spawn(&home, &place));
        thread::spawn({
            let place = place.clone();
            move || {
                for client in listener.incoming().map_while(Result::ok) {
                    let place = place.clone();
                    thread::spawn(move || pass_on(&client, &place));
                }
            }
        });
        Self { home, front, place, process }
    }

    pub(crate) fn client(&self, arguments: &str) -> Client {
        let scheme = if self.home.certs.is_some() { "https" } else { "http" };
        client(arguments).env("FOURMODES_SERVER", &format!("{scheme}://{}", self.front))
    }

    /// Kills the server in the midst of whatever it does, and starts it again.
    pub(crate) fn restart(&self) {
        let mut process = self.process.lock().unwrap();
        *self.place.0.lock().unwrap() = None;
        process.kill().unwrap();
        process.wait().unwrap();
        *process = spawn(&self.home, &self.place);
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = process.kill();
        let _ = process.wait();
    }
}

fn spawn(Home { data, logs, certs }: &Home, place: &Place) -> Child {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killable::a_server_that_others_kill", "--ignored", "--nocapture"])
        .env(DATA, data)
        .env(LOGS, logs)
        .envs(certs.iter().map(|certs| (CERTS, certs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let address = lines.map(Result::unwrap).find_map(|line| Some(line.split_once(ADDRESS)?.1.to_owned()));
    *place.0.lock().unwrap() = Some(address.expect("the server did not start").parse().unwrap());
    place.1.notify_all();
    process
}

/// A client that comes while the server is dead waits for the next one.
fn pass_on(client: &TcpStream, (place, is_back): &(Mutex<Option<SocketAddr>>, Condvar)) {
    // A copy: who holds the lock holds up the kill.
    let place = *is_back.wait_timeout_while(place.lock().unwrap(), LONG, |place| place.is_none()).unwrap().0;
    let server = place.map(TcpStream::connect);
    if let Some(Ok(server)) = server {
        thread::scope(|scope| {
            scope.spawn(|| copy(client, &server));
            copy(&server, client);
        });
    }
}

/// Until one side ends: then both do.
fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

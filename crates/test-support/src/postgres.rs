//! A PostgreSQL of the tests' own, on a socket in a directory that goes with it.

use std::{
    fs::{self, Permissions},
    io,
    net::{Shutdown, SocketAddr},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        net::UnixStream,
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
};

use tokio_postgres::NoTls;

use crate::{Certs, listener, until};

/// It ends when this is dropped, and when the process of the test ends in any way.
pub struct Postgres {
    directory: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// Runs until its input ends.
    _shell: Child,
}

/// Removes the directory as well.
const UNTIL_THE_INPUT_ENDS: &str = r#"
    "$@" <&- & cat >/dev/null
    kill -INT $!
    wait
    here=$PWD && cd / && rm -rf "$here"
"#;

impl Postgres {
    /// One for all tests of a binary, each of which has databases of its own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        let shared = tokio::task::spawn_blocking(|| SHARED.get_or_init(|| Self::start(&["fsync=off"]))).await;
        let shared = shared.unwrap();
        shared.listens().await;
        shared
    }

    /// With settings such as `fsync=off`.
    pub fn start(settings: &[&str]) -> Self {
        Self::run_in(initialised(), PORT, settings)
    }

    /// One that has TLS, with the certificate of a server, and its address.
    pub fn start_with_tls(certs: &Certs) -> (Self, SocketAddr) {
        let directory = initialised();
        for (from, to) in [("server.pem", "server.crt"), ("server-key.pem", "server.key")] {
            let to = directory.join("data").join(to);
            fs::copy(certs.path(from), &to).unwrap();
            fs::set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
            belongs_to_postgres(&to);
        }
        // PostgreSQL takes no port 0, and has no TLS on its socket.
        let address = listener().1;
        (
            Self::run_in(directory, address.port(), &["ssl=on", "fsync=off", "listen_addresses=127.0.0.1"]),
            address,
        )
    }

    /// A standby that follows this one from now on.
    pub fn standby(&self, settings: &[&str]) -> Self {
        let directory = directory();
        let mut backup = command("pg_basebackup", &directory);
        backup.args(["--username=test", "--no-sync", "--checkpoint=fast", "--write-recovery-conf"]);
        succeeds(backup.arg("--pgdata").arg(directory.join("data")).arg("--host").arg(&self.directory));
        Self::run_in(directory, PORT, settings)
    }

    fn run_in(directory: PathBuf, port: u16, settings: &[&str]) -> Self {
        let mut shell = command("sh", &directory);
        shell.args(["-c", UNTIL_THE_INPUT_ENDS, "sh"]).arg(program("postgres")).stdin(Stdio::piped());
        shell.env("PGPORT", port.to_string());
        let socket = format!("unix_socket_directories={}", directory.display());
        for setting in [&socket, "listen_addresses="].into_iter().chain(settings.iter().copied()) {
            shell.args(["-c", setting]);
        }
        let log = fs::File::create(directory.join("log")).unwrap();
        shell.stdout(log.try_clone().unwrap()).stderr(log);
        Self { directory, port, databases: AtomicU32::new(0), _shell: shell.spawn().unwrap() }
    }

    /// Ends at once, as in a crash, and waits until none of it is left.
    pub fn crash(&self) {
        succeeds(command("pg_ctl", &self.directory).args(["stop", "--mode=immediate"]));
    }

    /// Makes a primary of a standby.
    pub async fn promote(&self) {
        self.run("postgres", "SELECT pg_promote(false)").await.unwrap();
    }

    /// Follows this primary instead of another one.
    pub async fn follow(&self, primary: &Self) {
        let directory = primary.directory.display();
        let at = format!("ALTER SYSTEM SET primary_conninfo = 'host={directory} user=test'");
        self.run("postgres", &at).await.unwrap();
        self.run("postgres", "SELECT pg_reload_conf()").await.unwrap();
    }

    /// How much of the log of its primary a standby has.
    pub async fn received(&self) -> i64 {
        let received =
            "SELECT (greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0')::bigint";
        let (client, connection) = tokio_postgres::connect(&self.url("postgres"), NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let received = client.query_one(received, &[]).await.unwrap().get(0);
        connection.abort();
        received
    }

    /// Waits until it answers.
    pub async fn listens(&self) {
        until(async || self.run("postgres", "SELECT").await.is_ok()).await;
    }

    /// The address of a new database that has nothing.
    pub async fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Relaxed));
        self.run("postgres", &format!("CREATE DATABASE {name}")).await.unwrap();
        self.url(&name)
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        Self::url_of(&[self], database)
    }

    /// The address of a database that several of them have.
    pub fn url_of(all: &[&Self], database: &str) -> String {
        let hosts = all
            .iter()
            .map(|one| format!("{}:{}", one.directory.to_string_lossy().replace('/', "%2F"), one.port));
        format!("postgres://test@{}/{database}", hosts.collect::<Vec<_>>().join(","))
    }

    /// An address of TCP that leads to its socket, until the process of the test ends.
    pub fn tcp(&self) -> SocketAddr {
        let (listener, address) = listener();
        let socket = self.directory.join(format!(".s.PGSQL.{}", self.port));
        thread::spawn(move || {
            for client in listener.incoming() {
                // Nobody there: the client's connection ends.
                let (client, Ok(server)) = (client.unwrap(), UnixStream::connect(&socket)) else { continue };
                client.set_nodelay(true).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
                let (mut from, mut to) = (server, client);
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        });
        address
    }

    /// Whether nothing is under way on the connections with this `application_name`. Cuts
    /// those that commit nothing then.
    pub async fn leaves_only_idle_writers(&self, application: &str) -> bool {
        let leaves = format!(
            "DO $$ BEGIN
                PERFORM FROM pg_stat_activity WHERE application_name = '{application}' AND state <> 'idle';
                IF FOUND THEN RAISE 'busy'; END IF;
                PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = '{application}' AND query <> 'COMMIT';
            END $$"
        );
        self.run("postgres", &leaves).await.is_ok()
    }

    /// Runs a statement in a database.
    pub async fn run(&self, database: &str, statement: &str) -> Result<(), tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        let connection = tokio::spawn(connection);
        let done = client.batch_execute(statement).await;
        connection.abort();
        done
    }
}

fn directory() -> PathBuf {
    let directory = tempfile::tempdir().unwrap().keep();
    belongs_to_postgres(&directory);
    directory
}

fn initialised() -> PathBuf {
    let directory = directory();
    let mut initdb = command("initdb", &directory);
    initdb.args(["--no-sync", "--auth=trust", "--username=test", "--encoding=UTF8", "--no-locale"]);
    succeeds(&mut initdb);
    directory
}

fn belongs_to_postgres(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn succeeds(command: &mut Command) {
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ended.stderr));
}

const NOBODY: u32 = 65534;

/// Of a socket in a directory of its own, so all may have the same.
const PORT: u16 = 5432;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// PostgreSQL refuses to run as root.
fn command(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(program(name));
    command.env("PGDATA", directory.join("data")).env("LC_ALL", "C").current_dir(directory);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Debian has them where no PATH leads.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = debian.map(|version| version.path().join("bin"));
    let found = std::env::split_paths(&path).chain(debian).map(|directory| directory.join(name));
    found.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("{name} of PostgreSQL 15 or later is missing; install it: apt-get install postgresql")
    })
}

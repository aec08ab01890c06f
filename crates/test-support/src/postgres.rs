//! A PostgreSQL of the tests' own, on a socket in a directory that goes with it.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use tokio_postgres::NoTls;

use crate::until;

/// Ends when this is dropped, and when the process of the test ends in any way.
pub struct Postgres {
    directory: PathBuf,
    databases: AtomicU32,
    /// Runs until its input ends.
    _shell: Child,
}

/// Removes the directory as well.
const UNTIL_THE_INPUT_ENDS: &str = r#"
    "$@" <&- & cat >/dev/null
    kill -INT $!
    wait
    cd / && rm -rf "$PGDATA"
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
        let directory = tempfile::tempdir().unwrap().keep();
        if is_root() {
            chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let made = command("initdb", &directory)
            .args(["--no-sync", "--auth=trust", "--username=test", "--encoding=UTF8", "--no-locale"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut shell = command("sh", &directory);
        shell.args(["-c", UNTIL_THE_INPUT_ENDS, "sh"]).arg(program("postgres")).stdin(Stdio::piped());
        let socket = format!("unix_socket_directories={}", directory.display());
        for setting in [&socket, "listen_addresses="].into_iter().chain(settings.iter().copied()) {
            shell.args(["-c", setting]);
        }
        let log = fs::File::create(directory.join("log")).unwrap();
        shell.stdout(log.try_clone().unwrap()).stderr(log);
        Self { directory, databases: AtomicU32::new(0), _shell: shell.spawn().unwrap() }
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
        let directory = self.directory.to_string_lossy().replace('/', "%2F");
        format!("postgres://test@{directory}/{database}")
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

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// PostgreSQL refuses to run as root.
fn command(name: &str, directory: &Path) -> Command {
    let mut command = Command::new(program(name));
    command.env("PGDATA", directory).env("LC_ALL", "C").current_dir(directory);
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

//! Work that is done again and again, each time by a client of its own: tasks,
//! readings, uploads and downloads. A client that fails, since the server was away before
//! its first call, is followed by the same command again: that is the promise.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::JoinHandle,
};

use serde_json::Value;
use tempfile::TempDir;
use test_support::eventually;

use crate::{Worker, world::Address};

/// A thread that runs errands one after the other.
pub(crate) struct Runner<T> {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    running: JoinHandle<Vec<T>>,
}

impl<T: Send + 'static> Runner<T> {
    /// What an errand comes back with is what was acknowledged.
    pub(crate) fn start(mut errand: impl FnMut(u64) -> T + Send + 'static) -> Self {
        let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let running = std::thread::spawn({
            let (done, stop) = (done.clone(), stop.clone());
            move || {
                let mut acknowledged = Vec::new();
                while !stop.load(SeqCst) {
                    acknowledged.push(errand(acknowledged.len() as u64));
                    done.fetch_add(1, SeqCst);
                }
                acknowledged
            }
        });
        Self { done, stop, running }
    }

    pub(crate) fn progress(&self) -> u64 {
        self.done.load(SeqCst)
    }

    pub(crate) fn stop(self) -> Vec<T> {
        self.stop.store(true, SeqCst);
        self.running.join().expect("an errand failed")
    }
}

/// Says the same until it is done, and gives the value of the result.
fn insist(address: &Address, arguments: &str, file: Option<&Path>) -> Value {
    let mut value = None;
    eventually(
        || {
            let result = address.result(arguments, file);
            value = (result["ok"] == true).then(|| result["value"].clone());
            assert!(value.is_some() || address.may_fail, "{arguments}: {result}");
            // What the server refuses is no matter of trying again.
            let error = &result["error"];
            let is_lost = error["sources"].as_array().is_some_and(|sources| !sources.is_empty());
            let code = error["code"].as_str().unwrap_or("UNAVAILABLE");
            assert!(is_lost || ["UNAVAILABLE", "DEADLINE_EXCEEDED"].contains(&code), "{arguments}: {result}");
            value.is_some()
        },
        arguments,
    );
    value.unwrap()
}

pub(crate) fn workers(address: &Address) -> Vec<Box<dyn Worker>> {
    let [tasks, watched, readings, uploads] = [(); 4].map(|()| address.clone());
    let [delivered, uploaded] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    vec![
        Box::new(Tasks(Runner::start(move |n| submit(&tasks, n)))),
        Box::new(Watched(Runner::start(move |_| watch(&watched)))),
        Box::new(Readings(Runner::start(move |n| deliver(&readings, &delivered, n)))),
        Box::new(Downloads(Runner::start(download(address.clone())))),
        Box::new(Uploads(Runner::start(move |n| upload(&uploads, &uploaded, n)))),
    ]
}

/// A submitted task and how many primes it has to find.
struct Task {
    id: String,
    primes: u64,
}

struct Tasks(Runner<Task>);

fn submit(address: &Address, n: u64) -> Task {
    let below = 1_000 + n;
    let request = uuid::Uuid::new_v4();
    // Time enough on any machine.
    let arguments = format!("unary submit primes --below {below} --request-id {request} --deadline 30s");
    let id = insist(address, &arguments, None)["id"].as_str().unwrap().to_owned();
    // Whoever does not know what became of it, says it again.
    assert_eq!(insist(address, &arguments, None)["id"], id.as_str(), "one id made two tasks");
    let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    Task { id, primes: (2..below).filter(is_prime).count() as u64 }
}

impl Worker for Tasks {
    fn name(&self) -> String {
        "tasks".to_owned()
    }

    fn progress(&self) -> u64 {
        self.0.progress()
    }

    fn check(self: Box<Self>, address: &Address) {
        for Task { id, primes } in self.0.stop() {
            let watched = insist(address, &format!("server-streaming task {id}"), None);
            assert_eq!(
                (&watched["state"], &watched["primes"]),
                (&"SUCCEEDED".into(), &primes.into()),
                "{watched}"
            );
        }
    }
}

/// Tasks whose end is waited for, so that there is one to take up again.
struct Watched(Runner<()>);

fn watch(address: &Address) {
    const BELOW: u64 = 300_000;
    const PRIMES: u64 = 25_997;
    let request = uuid::Uuid::new_v4();
    let submit = format!("unary submit primes --below {BELOW} --request-id {request} --deadline 30s");
    let id = insist(address, &submit, None)["id"].as_str().unwrap().to_owned();
    let ended = insist(address, &format!("server-streaming task {id}"), None);
    assert_eq!((&ended["state"], &ended["primes"]), (&"SUCCEEDED".into(), &PRIMES.into()), "{ended}");
}

impl Worker for Watched {
    fn name(&self) -> String {
        "tasks that are watched".to_owned()
    }

    fn progress(&self) -> u64 {
        self.0.progress()
    }

    fn check(self: Box<Self>, _: &Address) {
        self.0.stop();
    }
}

const DEVICES: [&str; 3] = ["attic", "cellar", "kitchen"];
const ROWS: u64 = 2_000;

struct Readings(Runner<()>);

fn table(files: &TempDir, n: u64, rows: u64) -> std::path::PathBuf {
    let mut table = "device,time,value\n".to_owned();
    for row in 0..rows {
        let device = DEVICES[(row % 3) as usize];
        // Another file each time, or it would be the same one again.
        table.push_str(&format!("{device},{},{n}\n", 1_700_000_000 + row));
    }
    let path = files.path().join(format!("readings-{n}.csv"));
    std::fs::write(&path, table).unwrap();
    path
}

fn deliver(address: &Address, files: &TempDir, n: u64) {
    let path = table(files, n, ROWS);
    let value = insist(address, "client-streaming readings", Some(&path));
    let counted = value["count"].as_u64().unwrap() + value["repeated_count"].as_u64().unwrap();
    assert!(counted >= ROWS, "{value}");
}

impl Worker for Readings {
    fn name(&self) -> String {
        "readings".to_owned()
    }

    fn progress(&self) -> u64 {
        self.0.progress()
    }

    fn check(self: Box<Self>, address: &Address) {
        let delivered = self.0.stop().len() as u64;
        // One more of each device, whose answer tells what the server has.
        let files = tempfile::tempdir().unwrap();
        let path = table(&files, u64::MAX, 3);
        let value = insist(address, "client-streaming readings", Some(&path));
        let total: u64 =
            value["devices"].as_array().unwrap().iter().map(|d| d["count"].as_u64().unwrap()).sum();
        assert_eq!(total, delivered * ROWS + 3, "each reading counts once: {value}");
    }
}

/// The name of the file that [`Downloads`] has.
const DOWNLOADED: &str = "downloaded";

struct Uploads(Runner<(String, Vec<u8>)>);

fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

fn upload(address: &Address, files: &TempDir, n: u64) -> (String, Vec<u8>) {
    let content = random_bytes(n, 3 << 20);
    let name = format!("file-{n}");
    let path = files.path().join(&name);
    std::fs::write(&path, &content).unwrap();
    let value = insist(address, "client-streaming upload", Some(&path));
    assert_eq!(value["size"], content.len(), "{value}");
    (name, content)
}

impl Worker for Uploads {
    fn name(&self) -> String {
        "uploads".to_owned()
    }

    fn progress(&self) -> u64 {
        self.0.progress()
    }

    fn check(self: Box<Self>, address: &Address) {
        let uploaded: BTreeMap<_, _> = self.0.stop().into_iter().collect();
        let listed = insist(address, "unary files", None);
        let listed = listed["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap());
        let listed: Vec<_> = listed.filter(|name| *name != DOWNLOADED).collect();
        assert!(uploaded.keys().eq(listed.iter().copied()), "{listed:?}");
        let here = tempfile::tempdir().unwrap();
        for (name, content) in uploaded {
            let path = here.path().join(&name);
            let arguments = format!("server-streaming download {name} -o");
            insist(address, &arguments, Some(&path));
            assert!(
                std::fs::read(&path).unwrap() == content,
                "{name} has other bytes than what was uploaded"
            );
        }
    }
}

/// The same file over and over, compared each time.
struct Downloads(Runner<()>);

fn download(address: Address) -> impl FnMut(u64) {
    let files = tempfile::tempdir().unwrap();
    let content = random_bytes(u64::MAX, 4 << 20);
    let original = files.path().join(DOWNLOADED);
    std::fs::write(&original, &content).unwrap();
    insist(&address, "client-streaming upload", Some(&original));
    move |n| {
        let copy = files.path().join(n.to_string());
        insist(&address, &format!("server-streaming download {DOWNLOADED} -o"), Some(&copy));
        assert!(std::fs::read(&copy).unwrap() == content, "download {n} has other bytes");
        std::fs::remove_file(copy).unwrap();
    }
}

impl Worker for Downloads {
    fn name(&self) -> String {
        "downloads".to_owned()
    }

    fn progress(&self) -> u64 {
        self.0.progress()
    }

    fn check(self: Box<Self>, _: &Address) {
        self.0.stop();
    }
}

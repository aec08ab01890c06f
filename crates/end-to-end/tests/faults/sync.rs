//! Two files that two clients keep in step, with a line added to one of them
//! after the other.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use test_support::eventually;

use crate::{
    Worker,
    errands::Runner,
    world::{Address, Client},
};

struct Sync {
    lines: Runner<String>,
    clients: [Client<()>; 2],
    files: [PathBuf; 2],
    _directory: TempDir,
}

pub(crate) fn workers(address: &Address) -> Vec<Box<dyn Worker>> {
    let directory = tempfile::tempdir().unwrap();
    let files = ["ana.txt", "ben.txt"].map(|name| directory.path().join(name));
    fs::write(&files[0], "").unwrap();
    let clients = files.clone().map(|file| {
        let keeps = address.client("--quiet bidi-streaming sync --document faults").arg(&file);
        Client::start(keeps, |(), _| {})
    });
    eventually(|| files[1].exists(), "the second file is not written");
    let lines = Runner::start({
        let files = files.clone();
        move |n| {
            let (mine, others) = (&files[(n % 2) as usize], &files[(n % 2 + 1) as usize % 2]);
            let line = format!("line {n}\n");
            add(mine, &line);
            eventually(|| has(others, &line), "a line does not arrive");
            line
        }
    });
    vec![Box::new(Sync { lines, clients, files, _directory: directory })]
}

/// Adds a line as an editor does that appends. Should the client put a new file
/// in the place of the one that is open here, the line is taken from this one.
fn add(file: &Path, line: &str) {
    let mut open = fs::File::options().append(true).open(file).unwrap();
    open.write_all(line.as_bytes()).unwrap();
}

fn has(file: &Path, line: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.contains(line))
}

impl Worker for Sync {
    fn name(&self) -> String {
        "sync".to_owned()
    }

    fn progress(&self) -> u64 {
        self.lines.progress()
    }

    fn check(self: Box<Self>, address: &Address) {
        let lines = self.lines.stop();
        let [one, other] = &self.files;
        eventually(|| fs::read(one).unwrap() == fs::read(other).unwrap(), "the files are not equal");
        self.clients.iter().for_each(Client::interrupt);
        for (client, file) in self.clients.into_iter().zip(&self.files) {
            client.ended();
            // The files can be equal before the server has answered for the last line.
            let keeps = "bidi-streaming sync --document faults --once";
            let result = address.result(keeps, Some(file));
            assert_eq!(result["value"]["in_step"], true, "{result}");
        }
        let text = fs::read_to_string(one).unwrap();
        for line in &lines {
            assert_eq!(text.matches(line.as_str()).count(), 1, "{line} in\n{text}");
        }
        assert_eq!(text.lines().count(), lines.len(), "{text}");
        assert_eq!(fs::read_to_string(other).unwrap(), text);
    }
}

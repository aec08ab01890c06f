//! `sync`: files that are edited apart end up the same.

#[cfg(target_os = "linux")]
mod full_disk;
mod scripted;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;
use test_support::{BlockingServer as Server, Program, Running, eventually};

use crate::client;

/// A client that keeps a file in step with the document `notes`.
fn keeps(url: &str, file: &Path) -> Program {
    client("bidi-streaming sync --document notes --output json --reconnect 30s")
        .arg(file)
        .env("FOURMODES_SERVER", url)
}

fn once(url: &str, file: &Path) -> Value {
    keeps(url, file).arg("--once").run().ok().result()["value"].clone()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

fn eventually_has(file: &Path, texts: &[&str]) {
    eventually(
        || texts.iter().all(|text| read(file).contains(text)),
        &format!("{} never has {texts:?}", file.display()),
    );
}

struct Files {
    directory: TempDir,
    ana: PathBuf,
    ben: PathBuf,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| {
            fs::create_dir(directory.path().join(name)).unwrap();
            directory.path().join(name).join("notes.txt")
        };
        Self { ana: place("ana"), ben: place("ben"), directory }
    }

    fn become_equal(&self) {
        eventually(|| read(&self.ana) == read(&self.ben), "the files stay different");
    }
}

#[test]
fn a_file_reaches_another_one_byte_for_byte() {
    let (server, files) = (Server::start(), Files::new());
    let text = "one\r\ntwo\ttwo\nünï 👩\u{200d}🔬 no end";
    fs::write(&files.ana, text).unwrap();
    let sent = once(&server.url, &files.ana);
    assert_eq!((&sent["document"], &sent["in_step"]), (&"notes".into(), &true.into()));
    assert_eq!((&sent["bytes"], &sent["edits_sent"]), (&text.len().into(), &1.into()));
    let received = once(&server.url, &files.ben);
    assert_eq!((&received["edits_received"], &received["edits_sent"]), (&1.into(), &0.into()));
    assert_eq!(received["heads"], sent["heads"]);
    assert_eq!(fs::read(&files.ben).unwrap(), text.as_bytes());
    // Nothing happens where nothing was edited.
    assert_eq!(once(&server.url, &files.ana)["edits_sent"], 0);
}

#[test]
fn edits_that_were_made_apart_come_together() {
    let (server, files) = (Server::start(), Files::new());
    fs::write(&files.ana, "1\n2\n3\n4\n").unwrap();
    once(&server.url, &files.ana);
    once(&server.url, &files.ben);
    fs::write(&files.ana, "1 ana\n2\n3\n4\n").unwrap();
    fs::write(&files.ben, "1\n2\n4 ben\n").unwrap();
    once(&server.url, &files.ana);
    once(&server.url, &files.ben);
    once(&server.url, &files.ana);
    assert_eq!(read(&files.ana), "1 ana\n2\n4 ben\n");
    assert_eq!(read(&files.ben), read(&files.ana));
}

#[test]
fn files_without_a_common_history_are_both_kept() {
    let (server, files) = (Server::start(), Files::new());
    fs::write(&files.ana, "ana's\n").unwrap();
    fs::write(&files.ben, "ben's\n").unwrap();
    once(&server.url, &files.ana);
    once(&server.url, &files.ben);
    once(&server.url, &files.ana);
    let both = read(&files.ana);
    assert!(both == "ana's\nben's\n" || both == "ben's\nana's\n", "{both:?}");
    assert_eq!(read(&files.ben), both);
    // The same file at a third place is the same text, not another one.
    let third = files.directory.path().join("third.txt");
    fs::write(&third, "ana's\n").unwrap();
    once(&server.url, &third);
    assert_eq!(read(&third), both);
}

#[test]
fn what_an_editor_saves_reaches_the_others_while_they_edit() {
    let (server, files) = (Server::start(), Files::new());
    let _ana = keeps(&server.url, &files.ana).spawn();
    let _ben = keeps(&server.url, &files.ben).spawn();
    eventually(|| files.ana.exists() && files.ben.exists(), "the files are not written");
    // In place.
    fs::write(&files.ana, "in place\n").unwrap();
    eventually_has(&files.ben, &["in place"]);
    // By another file that takes its place.
    let new = files.ben.with_file_name("new");
    fs::write(&new, "in place\nby rename\n").unwrap();
    fs::rename(&new, &files.ben).unwrap();
    eventually_has(&files.ana, &["in place\nby rename\n"]);
    // By way of a backup.
    fs::rename(&files.ana, files.ana.with_file_name("notes.txt~")).unwrap();
    fs::write(&files.ana, "in place\nby rename\nby backup\n").unwrap();
    eventually_has(&files.ben, &["by backup"]);
    files.become_equal();
}

#[test]
fn what_is_no_text_is_not_synced_and_the_last_text_stays() {
    for bad in [b"\0binary".to_vec(), b"\xff\xfe".to_vec(), vec![b'x'; (1 << 20) + 1]] {
        let (server, files) = (Server::start(), Files::new());
        fs::write(&files.ana, "good\n").unwrap();
        once(&server.url, &files.ana);
        once(&server.url, &files.ben);
        let mut ana = keeps(&server.url, &files.ana).spawn();
        fs::write(&files.ana, &bad).unwrap();
        ana.warnings().until("is not synced");
        // What others do goes on, and does not touch the file.
        fs::write(&files.ben, "good\nben\n").unwrap();
        once(&server.url, &files.ben);
        assert_eq!(fs::read(&files.ana).unwrap(), bad);
        fs::write(&files.ana, "good again\n").unwrap();
        eventually_has(&files.ana, &["good again", "ben"]);
        eventually(
            || {
                once(&server.url, &files.ben);
                read(&files.ben) == "good again\nben\n"
            },
            "what is text again is not synced",
        );
    }
}

#[test]
fn whoever_wants_it_once_is_told_what_is_no_text() {
    let (server, files) = (Server::start(), Files::new());
    fs::write(&files.ben, "text").unwrap();
    once(&server.url, &files.ben);
    // Longer than any memory.
    fs::File::create(&files.ana).unwrap().set_len(1 << 40).unwrap();
    for file in [&files.ana, &files.ben] {
        keeps(&server.url, file).arg("--once").run().failed(3, &["more than 1048576 bytes"]);
        fs::File::create(&files.ben).unwrap().set_len(1 << 40).unwrap();
    }
    assert_eq!(fs::metadata(&files.ben).unwrap().len(), 1 << 40);
}

#[test]
fn texts_that_are_too_long_together_are_said_and_can_be_shortened() {
    let (server, files) = (Server::start(), Files::new());
    // Of few characters, by which time and memory count.
    let long = |crowd: &str| format!("{}\n", crowd.repeat(50)).repeat(2_700);
    fs::write(&files.ana, "").unwrap();
    once(&server.url, &files.ana);
    once(&server.url, &files.ben);
    fs::write(&files.ana, long("🦀")).unwrap();
    fs::write(&files.ben, long("🐧")).unwrap();
    once(&server.url, &files.ana);
    keeps(&server.url, &files.ben).arg("--once").run().failed(3, &["more than 1048576 bytes"]);
    // Nothing of it is lost, and both are there to choose from.
    let both = read(&files.ben);
    assert!(both.contains(&long("🦀")) && both.contains(&long("🐧")));
    fs::write(&files.ben, long("🦀")).unwrap();
    once(&server.url, &files.ben);
    once(&server.url, &files.ana);
    assert_eq!(read(&files.ana), long("🦀"));
}

#[test]
fn a_deleted_file_ends_the_client_and_not_the_text() {
    let (server, files) = (Server::start(), Files::new());
    fs::write(&files.ana, "text\n").unwrap();
    let mut ana = keeps(&server.url, &files.ana).spawn();
    eventually(|| once(&server.url, &files.ben)["bytes"] == 5, "the text does not arrive");
    fs::remove_file(&files.ana).unwrap();
    ana.wait().failed(3, &["it was deleted", "the document keeps its text"]);
    once(&server.url, &files.ana);
    assert_eq!(read(&files.ana), "text\n");
}

#[test]
fn what_is_there_after_a_deletion_is_another_file() {
    let (server, files) = (Server::start(), Files::new());
    fs::write(&files.ana, "text\n").unwrap();
    let mut ana = keeps(&server.url, &files.ana).spawn();
    eventually(|| once(&server.url, &files.ben)["bytes"] == 5, "the text does not arrive");
    fs::remove_file(&files.ana).unwrap();
    ana.wait().failed(3, &["it was deleted"]);
    // It is put beside the text, and is no edit that removes all of it.
    fs::write(&files.ana, "new\n").unwrap();
    once(&server.url, &files.ana);
    let both = read(&files.ana);
    assert!(both == "text\nnew\n" || both == "new\ntext\n", "{both:?}");
}

#[cfg(unix)]
#[test]
fn a_file_keeps_its_link_and_its_mode() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let (server, files) = (Server::start(), Files::new());
    fs::write(&files.ana, "one\n").unwrap();
    once(&server.url, &files.ana);
    fs::set_permissions(&files.ana, fs::Permissions::from_mode(0o606)).unwrap();
    let link = files.directory.path().join("link");
    symlink("ana/notes.txt", &link).unwrap();
    once(&server.url, &files.ben);
    fs::write(&files.ben, "two\n").unwrap();
    once(&server.url, &files.ben);
    assert_eq!(once(&server.url, &link)["edits_received"], 1);
    assert_eq!((read(&files.ana).as_str(), link.is_symlink()), ("two\n", true));
    assert_eq!(fs::metadata(&files.ana).unwrap().permissions().mode() & 0o777, 0o606);
}

#[test]
fn what_is_written_to_a_file_that_was_opened_before_it_was_replaced_arrives() {
    let (server, files) = (Server::start(), Files::new());
    fs::write(&files.ana, "one\n").unwrap();
    let _clients = [keeps(&server.url, &files.ana).spawn(), keeps(&server.url, &files.ben).spawn()];
    eventually_has(&files.ben, &["one\n"]);
    let mut open = fs::File::options().append(true).open(&files.ana).unwrap();
    fs::write(&files.ben, "ben\none\n").unwrap();
    eventually_has(&files.ana, &["ben\n"]);
    writeln!(open, "late").unwrap();
    eventually_has(&files.ben, &["ben\none\nlate\n"]);
    files.become_equal();
}

#[test]
fn lines_that_are_appended_while_others_write_are_there_once() {
    let (server, files) = (Server::start(), Files::new());
    let clients = [keeps(&server.url, &files.ana).spawn(), keeps(&server.url, &files.ben).spawn()];
    eventually(|| files.ana.exists() && files.ben.exists(), "the files are not written");
    let append = |file: &Path, who: &str| {
        for n in 0..200 {
            let mut open = fs::File::options().append(true).open(file).unwrap();
            // Between these two the client may put another file in the place.
            std::thread::yield_now();
            writeln!(open, "{who} {n}").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| append(&files.ana, "ana"));
        scope.spawn(|| append(&files.ben, "ben"));
    });
    let all = |text: &str| {
        ["ana", "ben"].iter().all(|who| (0..200).all(|n| text.matches(&format!("{who} {n}\n")).count() == 1))
    };
    eventually(|| all(&read(&files.ana)) && all(&read(&files.ben)), "a line is missing or there twice");
    files.become_equal();
    drop(clients);
    assert_eq!(read(&files.ana).lines().count(), 400);
}

#[test]
fn a_file_has_one_client() {
    let (server, files) = (Server::start(), Files::new());
    let _ana = keeps(&server.url, &files.ana).spawn();
    eventually(|| files.ana.exists(), "the file is not written");
    keeps(&server.url, &files.ana).run().failed(3, &["another client keeps it in step already"]);
}

#[test]
fn files_are_equal_after_the_server_was_killed_while_both_were_edited() {
    let files = Files::new();
    let data = files.directory.path().join("data");
    let mut server = crate::server("all --data-dir").arg(&data).serve();
    let url = server.url.clone();
    fs::write(&files.ana, "of both\n").unwrap();
    let _clients: [Running; 2] = [keeps(&url, &files.ana).spawn(), keeps(&url, &files.ben).spawn()];
    // Both are there: who has no connection yet when the server dies is told so.
    eventually_has(&files.ben, &["of both\n"]);
    for round in 0..4 {
        // One edit before the kill, one after it.
        let add = |file: &Path, line: &str| {
            let mut file = fs::File::options().append(true).open(file).unwrap();
            writeln!(file, "{line}").unwrap();
        };
        add(&files.ana, &format!("ana {round}"));
        server.kill();
        add(&files.ben, &format!("ben {round}"));
        server.restart();
        let both = [format!("ana {round}\n"), format!("ben {round}\n")];
        let both = [both[0].as_str(), both[1].as_str()];
        eventually_has(&files.ana, &both);
        eventually_has(&files.ben, &both);
        files.become_equal();
    }
    let text = read(&files.ana);
    for who in ["ana", "ben"] {
        for round in 0..4 {
            assert_eq!(text.matches(&format!("{who} {round}\n")).count(), 1, "{text}");
        }
    }
}

//! A client whose disk is full.

use std::fs;

use super::{Files, once, read};
use test_support::BlockingServer as Server;

use crate::Called as _;

/// The client's directory is a disk of its own. Each line of stdin is one more
/// step, after which stdout has how the client ended and the file.
const STEPS: &str = r#"
mount -t tmpfs -o size=128k tmpfs "$TEST_DISK" && cd "$TEST_DISK" || exit
step() { read -r _; "$@" 2>&1; echo "ended with $?: $(cat notes.txt)"; }
step "$@"
read -r _; cat /dev/zero >filler 2>/dev/null; echo full
step "$@"
read -r _; printf 'good\nmine\n' >notes.txt; echo edited
step "$@"
echo $(ls -A)
rm filler
step "$@"
"#;

#[test]
fn a_full_disk_ends_the_client_and_loses_nothing() {
    let (server, files) = (Server::start(), Files::new());
    let directory = files.ana.parent().unwrap();
    fs::write(&files.ben, "good\n").unwrap();
    once(&server.url, &files.ben);
    let steps = server.client("bidi-streaming sync notes.txt --document notes --once --quiet");
    let mut steps = steps.env("TEST_DISK", directory).isolated(STEPS).spawn();
    let said = steps.lines();

    steps.say("sync");
    said.until("ended with 0: good");
    steps.say("fill");
    said.until("full");
    // An edit of others: the file keeps the text that it has.
    fs::write(&files.ben, format!("good\n{}", "others\n".repeat(1 << 13))).unwrap();
    once(&server.url, &files.ben);
    steps.say("sync");
    said.until("No space left on device");
    said.until("ended with 1: good");
    // One of this side: it stays in the file, and is not sent.
    steps.say("edit");
    said.until("edited");
    steps.say("sync");
    said.until("No space left on device");
    said.until("ended with 1: good");
    said.until("mine");
    assert_eq!(said.until(".sync"), ".notes.txt.lock .notes.txt.sync filler notes.txt");
    once(&server.url, &files.ben);
    assert!(!read(&files.ben).contains("mine"));
    // With room again all of it comes together.
    steps.say("sync");
    said.until("ended with 0: good");
    once(&server.url, &files.ben);
    assert!(read(&files.ben).contains("others\n") && read(&files.ben).contains("mine\n"));
}

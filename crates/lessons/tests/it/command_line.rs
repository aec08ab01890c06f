use std::process::{Command, Output, Stdio};

use lessons::LESSONS;

fn lessons(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lessons")).args(arguments).output().unwrap()
}

#[test]
fn without_a_name_all_are_listed() {
    let listed = lessons(&[]);
    assert!(listed.status.success());
    let listed = String::from_utf8(listed.stdout).unwrap();
    for lesson in LESSONS {
        assert!(
            listed.lines().any(|line| line.contains(lesson.name) && line.ends_with(lesson.line)),
            "{listed}"
        );
    }
}

#[test]
fn an_unknown_name_is_wrong_usage_and_told_which_there_are() {
    let refused = lessons(&["eof-is-a-commit"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stdout.is_empty());
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(LESSONS.iter().all(|lesson| told.contains(lesson.name)), "{told}");
}

#[test]
fn a_lesson_shows_both_halves_and_says_what_to_do() {
    let taught = lessons(&["eof-is-not-commit"]);
    assert!(taught.status.success());
    let taught = String::from_utf8(taught.stdout).unwrap();
    let halves = ["broken\n", "cancel ─", "\n✗ ", "fixed\n", "cancel ─", "\n✓ "];
    let texts = ["\nwhy ", "\nrecognise ", "\ndo ", "\nelsewhere "];
    let mut rest = taught.as_str();
    for part in halves.into_iter().chain(texts) {
        let (_, after) =
            rest.split_once(part).unwrap_or_else(|| panic!("no {part:?} in its place: {taught}"));
        rest = after;
    }
    assert!(!taught.contains('\x1b'), "colours where there is no terminal: {taught}");
}

#[test]
fn a_reader_that_has_enough_is_no_failure_to_speak_of() {
    let mut lessons = Command::new(env!("CARGO_BIN_EXE_lessons"));
    lessons.arg("eof-is-not-commit").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut lessons = lessons.spawn().unwrap();
    drop(lessons.stdout.take());
    let output = lessons.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

//! The build script of both programs, for `--version`: the version of the package,
//! and the commit where git knows the directory.

#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::{path::Path, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=../shared-process/version.rs");
    let version = env!("CARGO_PKG_VERSION");
    let version = commit().map_or(version.to_owned(), |commit| format!("{version} ({commit})"));
    println!("cargo::rustc-env=VERSION_AND_COMMIT={version}");
}

fn commit() -> Option<String> {
    let questions = ["--show-prefix", "--git-path", "HEAD", "--git-path", "logs/HEAD", "--short", "HEAD"];
    let answers = Command::new("git").arg("rev-parse").args(questions).output().ok()?;
    let answers = String::from_utf8(answers.stdout).ok()?;
    // Without a commit there are fewer.
    let [directory, head, moves, commit] = answers.lines().collect::<Vec<_>>().try_into().ok()?;
    // A copy of the sources may lie in the repository of something else.
    if directory != concat!("crates/", env!("CARGO_PKG_NAME"), "/") {
        return None;
    }
    // Git adds a line to the second one whenever HEAD moves, also with its branch.
    // Cargo would run this script each time for a file that does not exist.
    for path in [head, moves].into_iter().filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    Some(commit.to_owned())
}

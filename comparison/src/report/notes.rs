//! Notes on a goal, such as why it is not reached. They are in `notes.md`, below a
//! heading with the goal's key. A placeholder such as `{unary64-h2}` is replaced by the
//! measured figure.

use std::{collections::BTreeMap, fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, bail};

use super::model::Report;

/// The notes by the key of their goal.
pub(super) type Notes = BTreeMap<String, String>;

pub(super) fn read(file: &Path, report: &Report) -> anyhow::Result<Notes> {
    match fs::read_to_string(file) {
        Ok(text) => parse(&text, report).with_context(|| format!("{} cannot be used", file.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Notes::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// The text before the first heading is for the authors of the notes, and is skipped.
fn parse(text: &str, report: &Report) -> anyhow::Result<Notes> {
    let sections = format!("\n{text}");
    let mut notes = Notes::new();
    for section in sections.split("\n## ").skip(1) {
        let (key, note) = section.split_once('\n').unwrap_or((section, ""));
        let key = key.trim();
        goal(report, key)?;
        if notes.insert(key.to_owned(), filled(note.trim(), report)?).is_some() {
            bail!("{key} has two notes");
        }
    }
    Ok(notes)
}

fn filled(note: &str, report: &Report) -> anyhow::Result<String> {
    let (mut filled, mut rest) = (String::new(), note);
    while let Some((before, after)) = rest.split_once('{') {
        let (key, after) = after.split_once('}').with_context(|| format!("no }} after {{{after}"))?;
        filled += before;
        filled += &goal(report, key)?;
        rest = after;
    }
    Ok(filled + rest)
}

/// The measured figure of a goal.
fn goal(report: &Report, key: &str) -> anyhow::Result<String> {
    let Some(goal) = report.goals.iter().find(|goal| goal.key == key) else {
        let keys: Vec<_> = report.goals.iter().map(|goal| goal.key.as_str()).collect();
        bail!("there is no goal {key:?}; there are {}", keys.join(", "));
    };
    Ok(goal.measured())
}

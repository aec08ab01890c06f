//! The report: what was measured, and the page and pictures made of it.

mod goal;
mod goals;
mod markdown;
mod model;
mod notes;
mod number;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

pub(crate) use self::model::Rate;
pub use self::model::Report;

impl Report {
    /// Writes `performance.md` into a directory, its pictures and the figures
    /// into `performance` below it.
    ///
    /// # Errors
    ///
    /// When that cannot be written, or when the notes are about something else.
    pub fn write(&self, directory: &Path) -> anyhow::Result<Written> {
        let beside = directory.join("performance");
        fs::create_dir_all(&beside).with_context(|| format!("no directory {}", beside.display()))?;
        let notes = notes::read(&beside.join("notes.md"), self)?;
        let pictures = svg::figures(self).into_iter();
        let pictures = pictures.map(|(name, figure)| Ok((svg::path(name), figure.svg()?)));
        let mut files = pictures.collect::<anyhow::Result<Vec<_>>>()?;
        files.push(("performance/comparison.json".into(), serde_json::to_string_pretty(self)? + "\n"));
        files.push(("performance.md".into(), markdown::page(self, &notes)));
        let write = |(name, content): (String, String)| {
            let file = directory.join(name);
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
            Ok(file)
        };
        let unexplained = self.goals.iter().filter(|goal| goal.holds == Some(false));
        let unexplained = unexplained.map(|goal| goal.key.clone()).filter(|key| !notes.contains_key(key));
        Ok(Written {
            unexplained: unexplained.collect(),
            files: files.into_iter().map(write).collect::<anyhow::Result<_>>()?,
        })
    }
}

/// What [`Report::write`] has done.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// All that was written.
    pub files: Vec<PathBuf>,
    /// Goals that are not reached, and no note says why.
    pub unexplained: Vec<String>,
}

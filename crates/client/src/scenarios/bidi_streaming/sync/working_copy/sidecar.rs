//! What is beside a file: the document as it was when the two were last in
//! step, so that what happens to the file while nobody looks is an edit of it.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use shared_document::{Document, Head};
use shared_process::sync_directory_of;

use super::{beside, replace};
use crate::failure::Failure;

#[derive(Debug)]
pub(super) struct Sidecar {
    path: PathBuf,
    /// The name of the document.
    document: String,
}

/// What a sidecar says.
pub(super) struct Known {
    pub(super) document: Document,
    /// The heads at which the document has the text of the file. Two when the
    /// file was about to be written, none when it has no history.
    pub(super) file: Vec<Vec<Head>>,
    /// What the server has on its disk.
    pub(super) durable: Vec<Head>,
}

/// The first line, before the document.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    document: String,
    file: Vec<Vec<String>>,
    durable: Vec<String>,
}

impl Sidecar {
    pub(super) fn of(file: &Path, document: &str) -> Self {
        Self { path: beside(file, "sync"), document: document.to_owned() }
    }

    /// Nothing when there is none.
    pub(super) fn load(&self) -> Result<Option<Known>, Failure> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|error| Failure::input(&self.path, error))?,
        };
        let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (header, document) = bytes.split_at(line);
        let header: Header = serde_json::from_slice(header).map_err(|error| self.refused(error))?;
        if header.version != 1 {
            return Err(self.refused(format!("it is of version {}, not 1", header.version)));
        }
        if header.document != self.document {
            return Err(self.refused(format!("the file is in step with document {:?}", header.document)));
        }
        let document = Document::load(document.get(1..).unwrap_or_default());
        let document = document.map_err(|error| self.refused(error))?;
        let heads = |heads: &Vec<String>| {
            let heads = heads.iter().map(|head| head.parse());
            heads.collect::<Result<Vec<Head>, _>>().map_err(|error| self.refused(error))
        };
        let file = header.file.iter().map(heads).collect::<Result<_, _>>()?;
        Ok(Some(Known { document, file, durable: heads(&header.durable)? }))
    }

    pub(super) fn refused(&self, reason: impl std::fmt::Display) -> Failure {
        let advice = "move it away to start again; the text of the file is kept beside the document's";
        Failure::input(&self.path, format!("{reason}; {advice}"))
    }

    pub(super) fn save<'a>(
        &self,
        document: &Document,
        file: impl Iterator<Item = &'a [Head]>,
        durable: &[Head],
    ) -> Result<(), Failure> {
        let shown = |heads: &[Head]| heads.iter().map(ToString::to_string).collect();
        let header = Header {
            version: 1,
            document: self.document.clone(),
            file: file.map(shown).collect(),
            durable: shown(durable),
        };
        let new = self.path.with_extension("sync-new");
        let saved = replace::written(&new, true, |written| {
            serde_json::to_writer(&mut *written, &header)?;
            written.write_all(b"\n")?;
            written.write_all(&document.save())
        });
        let saved = saved.and_then(|()| fs::rename(&new, &self.path));
        let saved = saved.and_then(|()| sync_directory_of(&self.path));
        saved.map_err(|error| Failure::output(&self.path.display().to_string(), &error))
    }
}

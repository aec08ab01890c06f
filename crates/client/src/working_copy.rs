//! A text file that is kept in step with a document, and its sidecar: the
//! document as it was when this was last done, so that what happens to the file
//! while nobody looks is an edit of it.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use shared_document::{Document, Head, NoDocument, TEXT_BYTES};
use shared_process::sync_directory_of;

use crate::failure::Failure;

/// A file that is missing this many times in a row was deleted: some editors
/// remove a file before they write it again.
const MISSING: u32 = 5;
/// A file that was written more lately may be written again without another
/// time: its content is read again.
const RECENT: Duration = Duration::from_secs(2);

/// What is in the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// What was there before.
    Same,
    /// Something else, perhaps not all of it.
    Unsettled,
    Edited(String),
    /// Nothing that a document takes.
    Bad(String),
    Gone,
}

#[derive(Debug)]
pub(crate) struct WorkingCopy {
    file: PathBuf,
    document: String,
    /// The text that the file has, and the heads at which the document has it.
    /// `None` when the file has no history.
    has: Option<(String, Vec<Head>)>,
    /// Whether there was no file to begin with: then it is written.
    absent: bool,
    /// Length and time at which the file was last found to be the same.
    same: Option<(u64, SystemTime)>,
    /// What was read once.
    unsettled: Option<Vec<u8>>,
    missing: u32,
    /// No other client has this file as long as this is open.
    _lock: File,
}

/// The first line of a sidecar, before the document.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    document: String,
    /// The heads at which the document has the text of the file. Two when the
    /// file was about to be written, none when it has no history.
    file: Vec<Vec<String>>,
    /// What the server has on its disk.
    durable: Vec<String>,
}

impl WorkingCopy {
    /// With the document as it was, and what the server has of it.
    pub(crate) fn open(file: &Path, name: &str) -> Result<(Self, Document, Vec<Head>), Failure> {
        let fails = |error: io::Error| Failure::input(file, error);
        // A link stays one: what it leads to is written.
        let file = match fs::canonicalize(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => file.to_owned(),
            canonical => canonical.map_err(fails)?,
        };
        let lock = File::options().create(true).append(true).open(beside(&file, "lock"));
        let lock = lock.map_err(|error| Failure::input(&beside(&file, "lock"), error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::input(&file, "another client keeps it in step already"));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::input(&file, error)),
        }
        let mut copy = Self {
            absent: !file.try_exists().map_err(|error| Failure::input(&file, error))?,
            file,
            document: name.to_owned(),
            has: None,
            same: None,
            unsettled: None,
            missing: 0,
            _lock: lock,
        };
        let (document, durable) = copy.load()?;
        Ok((copy, document, durable))
    }

    fn load(&mut self) -> Result<(Document, Vec<Head>), Failure> {
        let sidecar = beside(&self.file, "sync");
        let refused = |reason: String| {
            let advice = "move it away to begin anew; the text of the file is kept next to the document's";
            Failure::input(&sidecar, format!("{reason}; {advice}"))
        };
        let genesis = || Document::genesis().map_err(|error| refused(error.to_string()));
        let bytes = match fs::read(&sidecar) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let genesis = genesis()?;
                if self.absent {
                    self.has = Some((String::new(), genesis.heads()));
                }
                return Ok((genesis, Vec::new()));
            }
            Err(error) => return Err(Failure::input(&sidecar, error)),
        };
        let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (head, document) = bytes.split_at(line);
        let head: Header = serde_json::from_slice(head).map_err(|error| refused(error.to_string()))?;
        if head.version != 1 {
            return Err(refused(format!("it is of version {}, not 1", head.version)));
        }
        if head.document != self.document {
            return Err(refused(format!("the file is in step with document {:?}", head.document)));
        }
        let document = Document::load(document.get(1..).unwrap_or_default());
        let document = document.map_err(|error| refused(error.to_string()))?;
        let hashes =
            |heads: &[String]| heads.iter().map(|head| head.parse()).collect::<Result<Vec<Head>, _>>();
        let files: Result<Vec<_>, _> = head.file.iter().map(|heads| hashes(heads)).collect();
        let files = files.map_err(|error| refused(error.to_string()))?;
        let durable = hashes(&head.durable).map_err(|error| refused(error.to_string()))?;
        if self.absent {
            self.has = Some((String::new(), genesis()?.heads()));
            return Ok((document, durable));
        }
        let text = fs::read(&self.file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if let Some(heads) = document.closest(files.iter().map(Vec::as_slice), &text) {
            let text = document.text_at(heads).map_err(|error| refused(error.to_string()))?;
            self.has = Some((text, heads.to_vec()));
        }
        Ok((document, durable))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.file
    }

    /// Whether the file has a text of which no history is known.
    pub(crate) fn is_foreign(&self) -> bool {
        self.has.is_none()
    }

    pub(crate) fn has(&self) -> &[Head] {
        self.has.as_ref().map(|(_, heads)| heads.as_slice()).unwrap_or_default()
    }

    pub(crate) fn is_at(&self, heads: &[Head]) -> bool {
        !self.absent && self.has() == heads
    }

    pub(crate) fn look(&mut self) -> Look {
        let metadata = match fs::metadata(&self.file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.absent => return Look::Same,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.missing += 1;
                return if self.missing < MISSING { Look::Unsettled } else { Look::Gone };
            }
            Err(error) => return Look::Bad(error.to_string()),
        };
        (self.missing, self.absent) = (0, false);
        if self.same.is_some() && self.same == stamp(&metadata) {
            return Look::Same;
        }
        let bytes = match content(&self.file, &metadata) {
            Ok(bytes) => bytes,
            Err(error) => return Look::Bad(error),
        };
        if self.has.as_ref().is_some_and(|(text, _)| text.as_bytes() == bytes) {
            (self.same, self.unsettled) = (stamp(&metadata), None);
            return Look::Same;
        }
        if self.unsettled.as_ref() != Some(&bytes) {
            self.unsettled = Some(bytes);
            return Look::Unsettled;
        }
        match String::from_utf8(bytes) {
            Ok(text) if text.contains('\0') => Look::Bad("it has a NUL byte, so it is no text".to_owned()),
            Ok(text) => Look::Edited(text),
            Err(error) => Look::Bad(format!("it is not UTF-8: {}", error.utf8_error())),
        }
    }

    /// Makes what is in the file an edit of the document.
    pub(crate) fn take(&mut self, document: &mut Document, text: String) -> Result<(), NoDocument> {
        let heads = match &self.has {
            Some((_, heads)) => document.edit(heads, &text)?,
            None if text.is_empty() => Document::genesis()?.heads(),
            None if document.text()? == text => document.heads(),
            None => document.import(&text)?,
        };
        (self.has, self.unsettled) = (Some((text, heads)), None);
        Ok(())
    }

    /// Writes a text of the document to the file. False when somebody else has
    /// written it in the meantime: that is an edit, and has to be taken first.
    pub(crate) fn write(
        &mut self,
        text: String,
        heads: Vec<Head>,
        document: &Document,
        durable: &[Head],
    ) -> Result<bool, Failure> {
        let fails = |error: io::Error| Failure::output(&self.file.display().to_string(), &error);
        let had = self.has.as_ref().map(|(text, _)| text.as_str()).unwrap_or_default();
        if self.absent || had != text {
            let new = beside(&self.file, "new");
            let mut written = File::create(&new).map_err(fails)?;
            written.write_all(text.as_bytes()).map_err(fails)?;
            let before = fs::metadata(&self.file);
            if let Ok(metadata) = &before {
                written.set_permissions(metadata.permissions()).map_err(fails)?;
            }
            written.sync_all().map_err(fails)?;
            self.save_with(document, durable, Some(&heads))?;
            let now = fs::metadata(&self.file).map_err(|error| error.to_string());
            let unchanged = match now.and_then(|metadata| content(&self.file, &metadata)) {
                Ok(bytes) => !self.absent && bytes == had.as_bytes(),
                Err(_) => self.absent && before.is_err(),
            };
            if !unchanged {
                fs::remove_file(&new).map_err(fails)?;
                return Ok(false);
            }
            fs::rename(&new, &self.file).and_then(|()| sync_directory_of(&self.file)).map_err(fails)?;
        }
        (self.has, self.same, self.absent) = (Some((text, heads)), None, false);
        self.save(document, durable)?;
        Ok(true)
    }

    pub(crate) fn save(&self, document: &Document, durable: &[Head]) -> Result<(), Failure> {
        self.save_with(document, durable, None)
    }

    fn save_with(
        &self,
        document: &Document,
        durable: &[Head],
        about_to: Option<&[Head]>,
    ) -> Result<(), Failure> {
        let shown = |heads: &[Head]| heads.iter().map(ToString::to_string).collect::<Vec<_>>();
        let head = Header {
            version: 1,
            document: self.document.clone(),
            file: self.has.iter().map(|(_, heads)| heads.as_slice()).chain(about_to).map(shown).collect(),
            durable: shown(durable),
        };
        let (sidecar, new) = (beside(&self.file, "sync"), beside(&self.file, "sync-new"));
        let write = || {
            let mut written = File::create(&new)?;
            serde_json::to_writer(&mut written, &head)?;
            written.write_all(b"\n")?;
            written.write_all(&document.save())?;
            written.sync_all()?;
            fs::rename(&new, &sidecar)?;
            sync_directory_of(&sidecar)
        };
        write().map_err(|error| Failure::output(&sidecar.display().to_string(), &error))
    }

    /// After a deletion: a file that is there later is another one. What the
    /// server does not have yet stays in the sidecar.
    pub(crate) fn forget(&mut self, document: &Document, durable: &[Head]) -> Result<(), Failure> {
        self.has = None;
        self.save(document, durable)
    }
}

/// `notes.txt` -> `.notes.txt.sync`.
fn beside(file: &Path, what: &str) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{what}"))
}

fn content(file: &Path, metadata: &Metadata) -> Result<Vec<u8>, String> {
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(TEXT_BYTES as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() > TEXT_BYTES => Err(format!("it has more than {TEXT_BYTES} bytes")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

/// Nothing for a file that was written lately.
fn stamp(metadata: &Metadata) -> Option<(u64, SystemTime)> {
    let written = metadata.modified().ok()?;
    let settled = written.elapsed().is_ok_and(|age| age > RECENT);
    settled.then_some((metadata.len(), written))
}

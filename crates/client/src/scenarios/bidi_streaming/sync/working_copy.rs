//! A text file that is kept in sync with a document.
//!
//! An edit of the file is saved in the sidecar before it is sent, and a change of
//! others is saved there before it is written to the file.

mod replace;
mod sidecar;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fs::{self, File, Metadata, TryLockError},
    io::{self, Seek as _},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use shared_document::{Document, Head, NoDocument};
use shared_process::sync_directory_of;

use self::{
    replace::content,
    sidecar::{Known, Sidecar},
};
use crate::failure::Failure;

/// How often to look at the file.
pub(super) const LOOK: Duration = Duration::from_millis(200);
/// Content that has not changed for this long is taken: no program is in the middle of
/// writing it.
const SETTLED: Duration = Duration::from_millis(150);
/// The same for content that is shorter than before. It is longer, because most
/// programs that save in place first truncate the file.
const SHORTER_SETTLED: Duration = Duration::from_secs(2);
/// A file that has been missing for this long was deleted. Some editors remove a file
/// before they write it again.
const MISSING: Duration = Duration::from_secs(1);
/// A file that changed less than this ago may change again without a new timestamp, so
/// its content is read again.
const RECENT: Duration = Duration::from_secs(2);
/// How many replaced files are still watched.
const REPLACED: usize = 8;

/// The state of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The same content as before.
    Same,
    /// New content that may still be incomplete.
    Unsettled,
    Edited(String),
    /// Content that a document does not accept.
    Bad(String),
    Gone,
}

#[derive(Debug)]
pub(super) struct WorkingCopy {
    file: PathBuf,
    sidecar: Sidecar,
    /// The text of the file, and the heads at which the document has that text. `None`
    /// when the file has no history.
    has: Option<(String, Vec<Head>)>,
    /// Whether the file did not exist at the start. It is then written.
    absent: bool,
    /// The stamp of the file when it was last found unchanged.
    same: Option<Stamp>,
    settling: Settling,
    missing: Option<Instant>,
    /// The most recently replaced files, oldest first.
    replaced: VecDeque<Replaced>,
    /// Keeps other clients from using this file.
    _lock: File,
}

/// The file's identity, length and times. Any program can set the modification time
/// back, but not the change time.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    file: u64,
    length: u64,
    written: SystemTime,
    changed: SystemTime,
}

/// A file that was replaced. A program that has it open may still write to it.
#[derive(Debug)]
struct Replaced {
    file: File,
    text: String,
    heads: Vec<Head>,
    same: Option<Stamp>,
    settling: Settling,
}

/// The content last read, and since when it has been the same.
#[derive(Debug, Default)]
struct Settling(Option<(Vec<u8>, Instant)>);

impl WorkingCopy {
    /// Opens the file. Also returns the document as it was saved, and the heads that
    /// the server has of it.
    pub(super) fn open(file: &Path, name: &str) -> Result<(Self, Document, Vec<Head>), Failure> {
        let file = resolved(file).map_err(|error| Failure::input(file, error))?;
        let lock =
            File::options().read(true).write(true).create(true).truncate(false).open(beside(&file, "lock"));
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
            sidecar: Sidecar::of(&file, name),
            file,
            has: None,
            same: None,
            settling: Settling::default(),
            missing: None,
            replaced: VecDeque::new(),
            _lock: lock,
        };
        let (document, durable) = copy.load()?;
        Ok((copy, document, durable))
    }

    fn load(&mut self) -> Result<(Document, Vec<Head>), Failure> {
        let refused = |error: NoDocument| self.sidecar.refused(error);
        let genesis = Document::genesis().map_err(refused)?;
        let known = self.sidecar.load()?;
        let Known { document, file, durable } = known.unwrap_or_else(|| Known {
            document: genesis.clone(),
            file: Vec::new(),
            durable: Vec::new(),
        });
        let texts = file.iter().map(|heads| document.text_at(heads)).collect::<Result<Vec<_>, _>>();
        self.cleared(&texts.map_err(refused)?)?;
        if self.absent {
            self.has = Some((String::new(), genesis.heads()));
            return Ok((document, durable));
        }
        // Content that is not text cannot be matched to a known text.
        let text = content(&self.file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        if let Some(heads) = document.closest(file.iter().map(Vec::as_slice), &text) {
            self.has = Some((document.text_at(heads).map_err(refused)?, heads.to_vec()));
        }
        Ok((document, durable))
    }

    /// Removes what an interrupted exchange left, if it is only a text that the
    /// document has.
    fn cleared(&self, texts: &[String]) -> Result<(), Failure> {
        for left in ["old", "aside"].map(|what| beside(&self.file, what)) {
            match left.try_exists() {
                Ok(false) => continue,
                Ok(true) => {}
                Err(error) => return Err(Failure::input(&left, error)),
            }
            if !content(&left).is_ok_and(|bytes| texts.iter().any(|text| text.as_bytes() == bytes)) {
                let advice = "it was saved just as an earlier run was ended, and is not in the document; \
                     put what you need of it into the file, and move it away";
                return Err(Failure::input(&left, advice));
            }
            fs::remove_file(&left).map_err(|error| Failure::input(&left, error))?;
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.file
    }

    /// Whether the file has a text without a known history.
    pub(super) fn is_foreign(&self) -> bool {
        self.has.is_none()
    }

    pub(super) fn has(&self) -> &[Head] {
        self.has.as_ref().map(|(_, heads)| heads.as_slice()).unwrap_or_default()
    }

    pub(super) fn is_at(&self, heads: &[Head]) -> bool {
        !self.absent && self.has() == heads
    }

    pub(super) fn look(&mut self, now: Instant) -> Look {
        let metadata = match fs::symlink_metadata(&self.file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.absent => return Look::Same,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let since = *self.missing.get_or_insert(now);
                return if now - since < MISSING { Look::Unsettled } else { Look::Gone };
            }
            Err(error) => return Look::Bad(error.to_string()),
        };
        (self.missing, self.absent) = (None, false);
        if self.same.is_some() && self.same == stamp(&metadata) {
            return Look::Same;
        }
        let bytes = match content(&self.file) {
            Ok(bytes) => bytes,
            Err(error) => return Look::Bad(error),
        };
        if self.has.as_ref().is_some_and(|(text, _)| text.as_bytes() == bytes) {
            (self.same, self.settling) = (stamp(&metadata), Settling::default());
            return Look::Same;
        }
        let had = self.has.as_ref().map_or(0, |(text, _)| text.len());
        if !self.settling.is_settled(&bytes, had, now) {
            return Look::Unsettled;
        }
        text_of(bytes).map_or_else(Look::Bad, Look::Edited)
    }

    /// Turns the content of the file into an edit of the document.
    pub(super) fn take(&mut self, document: &mut Document, text: String) -> Result<(), NoDocument> {
        let heads = match &self.has {
            Some((_, heads)) => document.edit(heads, &text)?,
            None if text.is_empty() => Document::genesis()?.heads(),
            None if document.text()? == text => document.heads(),
            None => document.import(&text)?,
        };
        (self.has, self.settling) = (Some((text, heads)), Settling::default());
        Ok(())
    }

    /// Turns later writes to replaced files into edits of the texts that these files
    /// had. Returns whether there were any.
    pub(super) fn take_late(&mut self, document: &mut Document, now: Instant) -> Result<bool, NoDocument> {
        let mut any = false;
        for replaced in &mut self.replaced {
            if let Some(text) = replaced.look(now) {
                replaced.heads = document.edit(&replaced.heads, &text)?;
                (replaced.text, any) = (text, true);
            }
        }
        Ok(any)
    }

    /// Writes a text of the document to the file. Returns false when another program
    /// has written the file in the meantime: that is an edit, and has to be taken
    /// first.
    pub(super) fn write(
        &mut self,
        text: String,
        heads: Vec<Head>,
        document: &Document,
        durable: &[Head],
    ) -> Result<bool, Failure> {
        let fails = |error: io::Error| Failure::output(&self.file.display().to_string(), &error);
        let (had, at) = self.has.clone().unwrap_or_default();
        if self.absent || had != text {
            replace::prepare(&self.file, &text).map_err(fails)?;
            let saved = self.save_with(document, durable, Some(&heads));
            saved.inspect_err(|_| replace::withdraw(&self.file))?;
            if self.absent {
                if !replace::create(&self.file).map_err(fails)? {
                    return Ok(false);
                }
            } else {
                match replace::exchange(&self.file, &had, &text).map_err(fails)? {
                    Some(file) => self.replaced.push_back(Replaced::new(file, had, at)),
                    None => return Ok(false),
                }
                while self.replaced.len() > REPLACED {
                    self.replaced.pop_front();
                }
            }
            sync_directory_of(&self.file).map_err(fails)?;
        }
        (self.has, self.same, self.absent) = (Some((text, heads)), None, false);
        self.save(document, durable)?;
        Ok(true)
    }

    pub(super) fn save(&self, document: &Document, durable: &[Head]) -> Result<(), Failure> {
        self.save_with(document, durable, None)
    }

    fn save_with(
        &self,
        document: &Document,
        durable: &[Head],
        about_to: Option<&[Head]>,
    ) -> Result<(), Failure> {
        let file = self.has.iter().map(|(_, heads)| heads.as_slice()).chain(about_to);
        self.sidecar.save(document, file, durable)
    }

    /// Forgets the file's history after a deletion: a file that appears later is
    /// another one. Changes that the server lacks stay in the sidecar.
    pub(super) fn forget(&mut self, document: &Document, durable: &[Head]) -> Result<(), Failure> {
        self.has = None;
        self.save(document, durable)
    }
}

impl Replaced {
    fn new(file: File, text: String, heads: Vec<Head>) -> Self {
        Self { file, text, heads, same: None, settling: Settling::default() }
    }

    /// Returns what has been written to the file since.
    fn look(&mut self, now: Instant) -> Option<String> {
        let metadata = self.file.metadata().ok()?;
        if has_a_name(&metadata) || self.same.is_some() && self.same == stamp(&metadata) {
            return None;
        }
        self.file.rewind().ok()?;
        let bytes = replace::read(&self.file).ok()?;
        if bytes == self.text.as_bytes() {
            (self.same, self.settling) = (stamp(&metadata), Settling::default());
            return None;
        }
        self.settling.is_settled(&bytes, self.text.len(), now).then(|| text_of(bytes).ok()).flatten()
    }
}

impl Settling {
    /// `had` is the length of the content before.
    fn is_settled(&mut self, bytes: &[u8], had: usize, now: Instant) -> bool {
        let settled = if bytes.len() < had { SHORTER_SETTLED } else { SETTLED };
        match &self.0 {
            Some((seen, since)) if seen == bytes => now - *since >= settled,
            _ => {
                self.0 = Some((bytes.to_vec(), now));
                false
            }
        }
    }
}

/// Whether the file still has a name. If so, it is another file, such as a backup.
fn has_a_name(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(metadata) > 0;
    // Other systems do not report the number of links.
    #[cfg(not(unix))]
    return metadata.is_symlink();
}

/// Follows a symbolic link, so that its target is written, even if the target does not
/// exist yet.
fn resolved(file: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(file), fs::read_link(file)) {
        (Err(error), Ok(target)) if error.kind() == io::ErrorKind::NotFound => {
            resolved(&file.parent().unwrap_or(Path::new("")).join(target))
        }
        (Err(error), Err(_)) if error.kind() == io::ErrorKind::NotFound => Ok(file.to_owned()),
        (canonical, _) => canonical,
    }
}

/// `notes.txt` -> `.notes.txt.sync`.
fn beside(file: &Path, what: &str) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{what}"))
}

fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    match String::from_utf8(bytes) {
        Ok(text) if text.contains('\0') => Err("it has a NUL byte, so it is no text".to_owned()),
        Ok(text) => Ok(text),
        Err(error) => Err(format!("it is not UTF-8: {}", error.utf8_error())),
    }
}

/// `None` for a file that changed a moment ago.
fn stamp(metadata: &Metadata) -> Option<Stamp> {
    let written = metadata.modified().ok()?;
    #[cfg(unix)]
    let (file, changed) = {
        use std::os::unix::fs::MetadataExt as _;
        let since_1970 =
            Duration::new(metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
        (metadata.ino(), SystemTime::UNIX_EPOCH + since_1970)
    };
    #[cfg(not(unix))]
    let (file, changed) = (0, written);
    let settled = [written, changed].iter().all(|time| time.elapsed().is_ok_and(|age| age > RECENT));
    settled.then_some(Stamp { file, length: metadata.len(), written, changed })
}

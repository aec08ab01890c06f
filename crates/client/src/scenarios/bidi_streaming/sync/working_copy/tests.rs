use std::{cell::RefCell, collections::VecDeque, io::Write as _};

use tempfile::TempDir;

use super::*;

type Moment = Box<dyn FnOnce() -> io::Result<()>>;

thread_local! {
    /// What happens just before the next times that files change places.
    static MOMENTS: RefCell<VecDeque<Moment>> = RefCell::default();
}

pub(super) fn swaps() -> io::Result<()> {
    let moment = MOMENTS.with_borrow_mut(VecDeque::pop_front);
    moment.map_or(Ok(()), |happens| happens())
}

fn meanwhile(happens: impl FnOnce() -> io::Result<()> + 'static) {
    MOMENTS.with_borrow_mut(|moments| moments.push_back(Box::new(happens)));
}

/// A file, and the client that keeps it in step.
struct Kept {
    copy: WorkingCopy,
    document: Document,
    now: Instant,
    directory: TempDir,
}

impl Kept {
    /// With a text in the file that the document has.
    fn with(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("notes.txt"), text).unwrap();
        let mut kept = Self::open(directory);
        assert_eq!(kept.settled(), Look::Edited(text.to_owned()));
        kept.copy.take(&mut kept.document, text.to_owned()).unwrap();
        kept.copy.save(&kept.document, &[]).unwrap();
        kept
    }

    fn open(directory: TempDir) -> Self {
        let (copy, document, _) = WorkingCopy::open(&directory.path().join("notes.txt"), "notes").unwrap();
        Self { copy, document, now: Instant::now(), directory }
    }

    /// As after the end of this client, however that came.
    fn reopened(self) -> Self {
        let Self { copy, directory, .. } = self;
        drop(copy);
        Self::open(directory)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("notes.txt")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    /// What another client has made of the text.
    fn others(&mut self, text: &str) {
        let heads = self.document.heads();
        self.document.edit(&heads, text).unwrap();
    }

    fn write(&mut self) -> Result<bool, Failure> {
        let (text, heads) = (self.document.text().unwrap(), self.document.heads());
        self.copy.write(text, heads, &self.document, &[])
    }

    /// What a look says when nothing changes any more.
    fn settled(&mut self) -> Look {
        self.copy.look(self.now);
        self.now += MISSING.max(SHORTER_SETTLED);
        self.copy.look(self.now)
    }

    /// Does what the client does, until file and document are the same.
    fn in_step(&mut self) -> String {
        for _ in 0..5 {
            self.copy.take_late(&mut self.document, self.now).unwrap();
            match self.settled() {
                Look::Edited(text) => self.copy.take(&mut self.document, text).unwrap(),
                Look::Same => {}
                other => panic!("{other:?}"),
            }
            self.copy.take_late(&mut self.document, self.now).unwrap();
            if self.write().unwrap() {
                assert_eq!(self.text(), self.document.text().unwrap());
            }
        }
        self.left_overs(&[]);
        self.text()
    }

    /// What is beside the file, apart from what should be.
    fn left_overs(&self, expected: &[&str]) {
        let names = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| !["notes.txt", ".notes.txt.sync", ".notes.txt.lock"].contains(&name.as_str()));
        names.sort();
        assert_eq!(names, expected);
    }
}

/// As most editors do.
fn saved_anew(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("editor");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

#[test]
fn what_is_saved_in_the_moment_of_the_exchange_is_not_lost() {
    let no_exchange = || Err(io::ErrorKind::Unsupported.into());
    let in_place: fn(&Path, &str) -> io::Result<()> = |path, text| fs::write(path, text);
    for save in [saved_anew, in_place] {
        for outcome in [|| Ok(()), no_exchange] {
            let mut kept = Kept::with("one\n");
            kept.others("one\nothers\n");
            let path = kept.path();
            meanwhile(move || save(&path, "mine\none\n").and_then(|()| outcome()));
            assert!(!kept.write().unwrap());
            assert_eq!(kept.text(), "mine\none\n");
            kept.left_overs(&[]);
            assert_eq!(kept.in_step(), "mine\none\nothers\n");
        }
    }
}

#[test]
fn what_is_saved_last_counts_however_fast_it_was() {
    let mut kept = Kept::with("one\n");
    kept.others("one\nothers\n");
    for text in ["a\none\n", "b\none\n", "c\none\n", "d\none\n"] {
        let path = kept.path();
        meanwhile(move || saved_anew(&path, text));
    }
    assert!(!kept.write().unwrap());
    assert_eq!(kept.text(), "d\none\n");
    assert_eq!(kept.in_step(), "d\none\nothers\n");
}

#[test]
fn what_no_document_takes_is_not_replaced() {
    for bad in [b"\0".to_vec(), b"\xff".to_vec(), vec![b'x'; 1 << 21]] {
        let mut kept = Kept::with("one\n");
        kept.others("two\n");
        let (path, content) = (kept.path(), bad.clone());
        meanwhile(move || fs::write(path, content));
        assert!(!kept.write().unwrap());
        assert_eq!(fs::read(kept.path()).unwrap(), bad);
        assert!(matches!(kept.settled(), Look::Bad(_)));
        kept.left_overs(&[]);
        fs::write(kept.path(), "one more\n").unwrap();
        kept.in_step();
    }
}

#[test]
fn a_file_that_is_removed_in_the_moment_of_the_exchange_is_gone() {
    let mut kept = Kept::with("one\n");
    kept.others("two\n");
    let path = kept.path();
    meanwhile(move || fs::remove_file(path));
    assert!(!kept.write().unwrap());
    assert_eq!(kept.settled(), Look::Gone);
    kept.left_overs(&[]);
    // Also when it was saved once more before.
    let mut kept = Kept::with("one\n");
    kept.others("two\n");
    let (path, again) = (kept.path(), kept.path());
    meanwhile(move || saved_anew(&path, "mine\n"));
    meanwhile(move || fs::remove_file(again));
    assert!(!kept.write().unwrap());
    assert_eq!(kept.settled(), Look::Gone);
    kept.left_overs(&[]);
}

#[test]
fn a_file_that_appears_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let mut kept = Kept::open(directory);
    kept.others("others\n");
    fs::write(kept.path(), "mine\n").unwrap();
    assert!(!kept.write().unwrap());
    assert_eq!(kept.text(), "mine\n");
    let both = kept.in_step();
    assert!(both.contains("mine\n") && both.contains("others\n"), "{both:?}");
}

#[test]
fn what_is_written_to_a_replaced_file_is_an_edit_as_well() {
    let mut kept = Kept::with("one\n");
    let mut open: Vec<_> = Vec::new();
    for n in 0..3 {
        open.push(File::options().append(true).open(kept.path()).unwrap());
        kept.others(&format!("others {n}\none\n"));
        assert!(kept.write().unwrap());
    }
    for (n, file) in open.iter_mut().enumerate() {
        writeln!(file, "late {n}").unwrap();
    }
    let text = kept.in_step();
    for n in 0..3 {
        assert_eq!(text.matches(&format!("late {n}\n")).count(), 1, "{text}");
    }
    // A second time, and not the first one again.
    writeln!(open[0], "later").unwrap();
    let text = kept.in_step();
    assert_eq!((text.matches("late 0\n").count(), text.matches("later\n").count()), (1, 1), "{text}");
    assert!(!kept.copy.take_late(&mut kept.document, kept.now).unwrap());
}

#[test]
fn a_backup_is_not_the_file() {
    let mut kept = Kept::with("one\n");
    fs::hard_link(kept.path(), kept.directory.path().join("backup")).unwrap();
    kept.others("two\n");
    assert!(kept.write().unwrap());
    fs::write(kept.directory.path().join("backup"), "of yesterday\n").unwrap();
    for _ in 0..3 {
        kept.now += SETTLED;
        assert!(!kept.copy.take_late(&mut kept.document, kept.now).unwrap());
    }
}

#[test]
fn only_the_last_replaced_files_are_kept_open() {
    let mut kept = Kept::with("one\n");
    for n in 0..3 * REPLACED {
        kept.others(&n.to_string());
        assert!(kept.write().unwrap());
    }
    assert_eq!(kept.copy.replaced.len(), REPLACED);
}

#[test]
fn whenever_the_client_ends_the_file_is_known() {
    // Before the exchange, and after it.
    for exchanged in [false, true] {
        let mut kept = Kept::with("one\n");
        kept.others("two\n");
        let (path, old) = (kept.path(), beside(&kept.path(), "old"));
        let beside_path = beside(&path, "end");
        meanwhile(move || {
            if exchanged {
                fs::rename(&path, &beside_path)?;
                fs::rename(&old, &path)?;
                fs::rename(&beside_path, &old)?;
            }
            Err(io::Error::other("the end"))
        });
        assert!(kept.write().is_err());
        let mut kept = kept.reopened();
        kept.left_overs(&[]);
        assert_eq!(kept.text(), if exchanged { "two\n" } else { "one\n" });
        assert_eq!(kept.settled(), Look::Same, "it is no edit");
        assert_eq!(kept.in_step(), "two\n");
    }
}

#[test]
fn what_an_exchange_left_that_was_cut_short_is_not_thrown_away() {
    for what in ["old", "aside"] {
        let kept = Kept::with("one\n");
        let path = kept.path();
        fs::write(beside(&path, what), "saved by an editor").unwrap();
        let Kept { copy, directory: _directory, .. } = kept;
        drop(copy);
        let refused = WorkingCopy::open(&path, "notes").unwrap_err().message().to_owned();
        assert!(refused.contains("is not in the document"), "{refused}");
        // What the document has is not needed.
        fs::write(beside(&path, what), "one\n").unwrap();
        WorkingCopy::open(&path, "notes").unwrap();
        assert!(!beside(&path, what).exists());
    }
}

#[test]
fn a_text_is_taken_when_it_has_settled() {
    let mut kept = Kept::with("one\n");
    let begun = kept.now;
    fs::write(kept.path(), "").unwrap();
    assert_eq!(kept.copy.look(begun), Look::Unsettled);
    assert_eq!(kept.copy.look(begun), Look::Unsettled, "two looks in one moment are one");
    fs::write(kept.path(), "two\n").unwrap();
    assert_eq!(kept.copy.look(begun + SETTLED), Look::Unsettled);
    assert_eq!(kept.copy.look(begun + 2 * SETTLED), Look::Edited("two\n".to_owned()));
}

#[test]
fn a_save_in_place_that_takes_its_time_is_one_edit() {
    let mut kept = Kept::with("one\ntwo\n");
    let mut file = File::create(kept.path()).unwrap();
    for line in ["", "one\n", "three\n"] {
        file.write_all(line.as_bytes()).unwrap();
        for _ in 0..3 {
            kept.now += SETTLED;
            let look = kept.copy.look(kept.now);
            assert!(line == "three\n" || look == Look::Unsettled, "{look:?} after {line:?}");
        }
    }
    assert_eq!(kept.copy.look(kept.now), Look::Edited("one\nthree\n".to_owned()));
    // What is shorter in the end is taken as well.
    fs::write(kept.path(), "").unwrap();
    assert_eq!(kept.settled(), Look::Edited(String::new()));
}

#[test]
fn a_file_that_is_away_for_a_moment_is_not_gone() {
    let mut kept = Kept::with("one\n");
    let begun = kept.now;
    let aside = kept.directory.path().join("aside");
    fs::rename(kept.path(), &aside).unwrap();
    for _ in 0..100 {
        assert_eq!(kept.copy.look(begun), Look::Unsettled);
    }
    fs::rename(&aside, kept.path()).unwrap();
    assert_eq!(kept.copy.look(begun + MISSING), Look::Same);
    fs::rename(kept.path(), &aside).unwrap();
    assert_eq!(kept.copy.look(begun + MISSING), Look::Unsettled);
    assert_eq!(kept.copy.look(begun + 2 * MISSING), Look::Gone);
}

#[test]
fn an_edit_of_the_same_length_in_the_same_moment_is_seen() {
    let mut kept = Kept::with("one\n");
    let written = fs::metadata(kept.path()).unwrap().modified().unwrap();
    assert_eq!(kept.copy.look(kept.now), Look::Same);
    fs::write(kept.path(), "two\n").unwrap();
    File::options().write(true).open(kept.path()).unwrap().set_modified(written).unwrap();
    assert_eq!(kept.settled(), Look::Edited("two\n".to_owned()));
}

#[test]
fn what_could_not_be_written_is_not_there() {
    let mut kept = Kept::with("one\n");
    let before = fs::read(beside(&kept.path(), "sync")).unwrap();
    kept.others("two\n");
    for blocked in ["new", "sync-new"] {
        let blocked = beside(&kept.path(), blocked);
        fs::create_dir(&blocked).unwrap();
        let failed = kept.write().unwrap_err().message().to_owned();
        assert!(failed.contains("cannot be written"), "{failed}");
        fs::remove_dir(&blocked).unwrap();
        kept.left_overs(&[]);
        assert_eq!(
            (kept.text().as_str(), fs::read(beside(&kept.path(), "sync")).unwrap()),
            ("one\n", before.clone())
        );
    }
    assert_eq!(kept.in_step(), "two\n");
}

#[cfg(unix)]
mod on_unix {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn a_file_keeps_what_belongs_to_it() {
        let mut kept = Kept::with("one\n");
        let path = kept.path();
        let is_root = fs::metadata(&path).unwrap().uid() == 0;
        if is_root {
            chown(&path, Some(1234), Some(5678)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let attribute = rustix::fs::setxattr(&path, "user.note", b"kept", rustix::fs::XattrFlags::empty());
        let before = fs::metadata(&path).unwrap();
        kept.others("two\n");
        assert!(kept.write().unwrap());
        let after = fs::metadata(&path).unwrap();
        assert_ne!(after.ino(), before.ino());
        let of = |file: &Metadata| (file.uid(), file.gid(), file.mode());
        assert_eq!(of(&after), of(&before));
        if attribute.is_ok() {
            let mut value = [0; 9];
            let length = rustix::fs::getxattr(&path, "user.note", value.as_mut_slice()).unwrap();
            assert_eq!(&value[..length], b"kept");
        }
        // The history is nobody else's business either.
        assert_eq!(fs::metadata(beside(&path, "sync")).unwrap().mode() & 0o077, 0);
    }

    #[test]
    fn a_link_stays_one_and_what_it_leads_to_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        fs::create_dir(&real).unwrap();
        let [link, second] = ["notes.txt", "second"].map(|name| directory.path().join(name));
        symlink("second", &link).unwrap();
        symlink("real/notes.txt", &second).unwrap();
        for text in ["first", "another"] {
            let (mut copy, mut document, _) = WorkingCopy::open(&link, "notes").unwrap();
            document.edit(&document.heads(), text).unwrap();
            copy.look(Instant::now());
            let (heads, text) = (document.heads(), text.to_owned());
            assert!(copy.write(text.clone(), heads, &document, &[]).unwrap());
            assert_eq!(fs::read_to_string(real.join("notes.txt")).unwrap(), text);
            assert!(link.is_symlink() && second.is_symlink());
            assert!(real.join(".notes.txt.sync").exists());
        }
        // One that takes the place of the file is not followed, nor replaced.
        let kept = Kept::with("one\n");
        let (path, other) = (kept.path(), kept.directory.path().join("other"));
        fs::write(&other, "one\n").unwrap();
        for late in [false, true] {
            let mut kept = Kept::with("one\n");
            kept.others("two\n");
            let (path, other) = (kept.path(), other.clone());
            let linked = move || fs::remove_file(&path).and_then(|()| symlink(&other, &path));
            if late {
                meanwhile(linked);
                assert!(!kept.write().unwrap());
            } else {
                linked().unwrap();
            }
            assert!(matches!(kept.settled(), Look::Bad(_)));
            assert!(kept.path().is_symlink());
        }
        assert_eq!((fs::read_to_string(other).unwrap(), path.is_symlink()), ("one\n".into(), false));
    }
}

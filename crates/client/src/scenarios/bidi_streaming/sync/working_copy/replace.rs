//! Replaces a file without losing what another program saves at the same moment: the
//! old and the new file are swapped, and then the old one is inspected.
//!
//! `.notes.txt.new` exists beside `notes.txt` while the new text is written, and then
//! `.notes.txt.old`, the other side of the swap.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
};

use shared_document::TEXT_BYTES;
use shared_process::rename_if_free;

use super::beside;

/// Content that a document may take, or why it may not.
pub(super) type Content = Result<Vec<u8>, String>;

pub(super) fn content(path: &Path) -> Content {
    // Does not follow a link: its target is another file.
    let metadata = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    read(&File::open(path).map_err(|error| error.to_string())?)
}

/// Reads from the current position of the file.
pub(super) fn read(file: &File) -> Content {
    let mut bytes = Vec::new();
    match file.take(TEXT_BYTES as u64 + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() > TEXT_BYTES => Err(format!("it has more than {TEXT_BYTES} bytes")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes a text durably beside a file, with the metadata of the file.
pub(super) fn prepare(file: &Path, text: &str) -> io::Result<()> {
    let old = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        old => Some(old?),
    };
    written(&beside(file, "new"), old.is_some(), |new| {
        if let Some(old) = &old {
            dress(new, old)?;
        }
        new.write_all(text.as_bytes())
    })
}

/// Removes the file that [`prepare`] wrote.
pub(super) fn withdraw(file: &Path) {
    // If that fails, the next one replaces it.
    let _ = fs::remove_file(beside(file, "new"));
}

/// Puts the file that [`prepare`] wrote in place, where no file was. Returns false when
/// there is one now.
pub(super) fn create(file: &Path) -> io::Result<bool> {
    let new = beside(file, "new");
    match rename_if_free(&new, file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&new).map(|()| false),
        created => created.map(|()| true),
    }
}

/// Replaces a file that had the text `had` with the file that [`prepare`] wrote, which
/// has `text`. Returns the old file, or `None` when another program has saved or
/// removed the file in the meantime: its change then stands.
pub(super) fn exchange(file: &Path, had: &str, text: &str) -> io::Result<Option<File>> {
    let old = beside(file, "old");
    fs::rename(beside(file, "new"), &old)?;
    let (mut expected, mut put): (Content, Content) = (Ok(had.into()), Ok(text.into()));
    let mut is_ours = true;
    loop {
        match swap(&old, file) {
            Ok(()) => {}
            Err(error) => {
                let removed = error.kind() == io::ErrorKind::NotFound;
                if removed || is_ours {
                    fs::remove_file(&old)?;
                }
                return if removed { Ok(None) } else { Err(error) };
            }
        }
        let (was, found) = (File::open(&old), content(&old));
        if found == expected {
            fs::remove_file(&old)?;
            return if is_ours { was.map(Some) } else { Ok(None) };
        }
        // Another program was faster. The text that it saved goes back into place, and
        // the next swap returns the text just put there, or a still later one.
        (expected, put, is_ours) = (put, found, false);
    }
}

fn swap(one: &Path, other: &Path) -> io::Result<()> {
    match system::swap(one, other) {
        // Not every system and file system supports this.
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
            swap_by_link(one, other)
        }
        swapped => swapped,
    }
}

/// This detects a program that writes to the file, but not one that puts another file
/// in its place between these lines.
fn swap_by_link(one: &Path, other: &Path) -> io::Result<()> {
    let aside = beside(other, "aside");
    fs::hard_link(other, &aside).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::copy(other, &aside).map(drop),
    })?;
    fs::rename(one, other)?;
    fs::rename(aside, one)
}

/// Writes a file that is complete and durable, or absent. A private file is readable by
/// the user only.
pub(super) fn written(
    path: &Path,
    private: bool,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    // A file that an earlier run left there is incomplete.
    let _ = fs::remove_file(path);
    let mut file = options.open(path)?;
    write(&mut file).and_then(|()| file.sync_all()).inspect_err(|_| drop(fs::remove_file(path)))
}

/// Copies the metadata of the old file to the new one, as far as the system permits.
#[cfg(unix)]
fn dress(new: &File, old: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
    let owner = |file: &File| file.metadata().map(|of| (of.uid(), of.gid(), of.mode()));
    let ((user, group, mut mode), (our_user, our_group, _)) = (owner(old)?, owner(new)?);
    if user != our_user {
        // Only root is permitted to do this.
        let _ = fchown(new, Some(user), None);
    }
    if group != our_group && fchown(new, None, Some(group)).is_err() {
        // The old group's permissions must not go to another group.
        mode &= !0o070;
    }
    system::copy_attributes(new, old);
    new.set_permissions(fs::Permissions::from_mode(mode & 0o777))
}

#[cfg(not(unix))]
fn dress(new: &File, old: &File) -> io::Result<()> {
    new.set_permissions(old.metadata()?.permissions())
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
mod system {
    use std::{ffi::CStr, fs::File, io, path::Path};

    use rustix::fs::{CWD, RenameFlags, XattrFlags, fgetxattr, flistxattr, fsetxattr, renameat_with};

    pub(super) fn swap(one: &Path, other: &Path) -> io::Result<()> {
        #[cfg(test)]
        super::super::tests::swaps()?;
        Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }

    /// Access control lists are extended attributes as well.
    pub(super) fn copy_attributes(new: &File, old: &File) {
        /// The limits of Linux for the list and for a value.
        const LONGEST: usize = 1 << 16;
        let (mut names, mut value) = (vec![0; LONGEST], vec![0; LONGEST]);
        let length = flistxattr(old, names.as_mut_slice()).unwrap_or(0);
        for name in names[..length].split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            if let Ok(length) = fgetxattr(old, name, value.as_mut_slice()) {
                // Some attributes only the system may set.
                let _ = fsetxattr(new, name, &value[..length], XattrFlags::empty());
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
mod system {
    use std::{io, path::Path};

    pub(super) fn swap(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(unix)]
    pub(super) fn copy_attributes(_: &std::fs::File, _: &std::fs::File) {}
}

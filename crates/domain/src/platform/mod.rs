//! What the domain needs of the machine: files, and threads that wait for them.
//!
//! With the feature `simulation` the machine exists only in one test, which decides
//! when its power fails. Everything that goes through this module then follows from one
//! seed.

use std::{io, path::Path};

#[cfg(not(feature = "simulation"))]
mod real;
#[cfg(feature = "simulation")]
pub mod simulated;

#[cfg(not(feature = "simulation"))]
pub use real::*;
#[cfg(feature = "simulation")]
pub use simulated::*;

/// Creates a directory and its missing parents, and makes all of them durable.
///
/// # Errors
///
/// When one of them cannot be created or made durable.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    let made = match (create_dir(path), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            create_dir_all(parent).and_then(|()| create_dir(path))
        }
        (made, _) => made,
    };
    match made {
        Err(error) if !metadata(path).is_ok_and(|found| found.is_dir()) => Err(error),
        // Syncs an existing directory too: a process that created it may have died
        // before its sync.
        _ => match sync_directory_of(path) {
            // A directory that may not be read cannot be synced. It belongs to another
            // user.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        },
    }
}

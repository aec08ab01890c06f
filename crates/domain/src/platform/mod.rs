//! What the state needs of the machine: files, and threads that wait for them.
//!
//! With the feature `simulation` it is a machine that exists in one test only,
//! whose power fails when the test says so: all that goes by way of here then
//! follows from one seed.

use std::{io, path::Path};

#[cfg(not(feature = "simulation"))]
mod real;
#[cfg(feature = "simulation")]
pub mod simulated;

#[cfg(not(feature = "simulation"))]
pub use real::*;
#[cfg(feature = "simulation")]
pub use simulated::*;

/// Makes a directory, and those above it that are missing. All of them are there
/// after a crash.
///
/// # Errors
///
/// When one of them cannot be made, or not be made durable.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    let made = match (create_dir(path), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            create_dir_all(parent).and_then(|()| create_dir(path))
        }
        (made, _) => made,
    };
    match made {
        Err(error) if !metadata(path).is_ok_and(|found| found.is_dir()) => Err(error),
        // Also of one that was there: whoever made it may have died before this.
        _ => match sync_directory_of(path) {
            // What may not be read cannot be synced. It belongs to somebody else.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        },
    }
}

//! How many files may be open for calls at a time: what a process can have open is
//! little, and a connection that is accepted needs some of it too.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for the files of all calls.
#[derive(Debug, Clone)]
pub struct OpenFiles {
    places: Arc<Semaphore>,
    most: usize,
}

/// Kept for as long as the file is open.
pub type Place = OwnedSemaphorePermit;

#[allow(missing_docs, reason = "the message says it")]
#[derive(Debug, thiserror::Error)]
#[error("{most} files are open for calls, which is the maximum; try again later")]
pub struct TooManyOpenFiles {
    pub most: usize,
}

impl OpenFiles {
    /// With so many places.
    pub fn new(most: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), most }
    }

    /// A place for a file.
    ///
    /// # Errors
    ///
    /// When none is left. Nobody waits for one: a log may be followed for ever.
    pub fn place(&self) -> Result<Place, TooManyOpenFiles> {
        self.places.clone().try_acquire_owned().map_err(|_| TooManyOpenFiles { most: self.most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_file_is_closed() {
        let files = OpenFiles::new(2);
        let (first, _second) = (files.place().unwrap(), files.place().unwrap());
        assert_eq!(files.place().unwrap_err().most, 2);
        drop(first);
        assert!(files.place().is_ok());
    }
}

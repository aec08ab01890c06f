//! The machine that the program runs on.

pub use std::fs::{File, create_dir, metadata, read_dir, remove_file, rename};
use std::{fs::TryLockError, io, path::Path, thread, time::SystemTime};

pub use shared_process::{sync_directory, sync_directory_of};
use tokio::{
    sync::{Semaphore, mpsc::UnboundedReceiver},
    task::JoinError,
};

/// The time of day.
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Runs what waits for a disk outside of the threads that serve calls.
///
/// # Errors
///
/// When it panics.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    // Each of these threads takes memory, and no disk is faster with more of them.
    static THREADS: Semaphore = Semaphore::const_new(64);
    // In a task: a caller that waits for its peer would keep a turn that it does not use.
    let task = tokio::spawn(async {
        let thread = THREADS.acquire().await;
        let work = move || {
            let _thread = thread;
            work()
        };
        tokio::task::spawn_blocking(work).await
    });
    task.await?
}

/// A thread that takes what is queued, up to `most` at a time, until nobody can
/// queue anything any more.
pub fn worker<T: Send + 'static>(
    name: &str,
    most: usize,
    mut queue: UnboundedReceiver<T>,
    mut work: impl FnMut(Vec<T>) + Send + 'static,
) -> io::Result<()> {
    let run = move || {
        loop {
            let mut batch = Vec::new();
            if queue.blocking_recv_many(&mut batch, most) == 0 {
                return;
            }
            work(batch);
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Has it as long as it exists.
pub type Lock = File;

/// `None` when another process has it.
pub fn lock(path: &Path) -> io::Result<Option<Lock>> {
    let lock = File::options().create(true).append(true).open(path)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_caller_that_does_not_go_on_holds_up_no_other() {
        let mut left: Vec<_> = (0..200).map(|_| Box::pin(blocking(|| ()))).collect();
        for caller in &mut left {
            tokio::select! {
                biased;
                _ = caller => {}
                () = std::future::ready(()) => {}
            }
        }
        let other = tokio::time::timeout(Duration::from_secs(30), blocking(|| 7)).await;
        assert_eq!(other.unwrap().unwrap(), 7);
    }
}

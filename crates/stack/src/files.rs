//! Reloads files that change while the server runs.
//!
//! New content never ends calls or connections that have begun, and invalid content
//! never takes effect.

use std::{path::Path, time::Duration};

use anyhow::Context as _;

/// How often to look at the files.
const INTERVAL: Duration = Duration::from_millis(500);

/// Takes new content of files, without end. The content has to stay the same for an
/// interval, because a file may be half-written. Invalid content changes nothing.
pub(crate) async fn follow<C: PartialEq + Send + 'static>(
    what: &str,
    mut current: C,
    read: impl Fn() -> anyhow::Result<C> + Clone + Send + 'static,
    mut take: impl FnMut(&C) -> anyhow::Result<()>,
) {
    let mut seen = None;
    let mut complaint = String::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let content = tokio::task::spawn_blocking(read.clone()).await.context("reading was cut short");
        let unusable = match content.flatten() {
            Ok(new) if new == current => {
                seen = None;
                complaint.clear();
                continue;
            }
            Ok(new) if seen.as_ref() != Some(&new) => {
                seen = Some(new);
                continue;
            }
            Ok(new) => match take(&new) {
                Ok(()) => {
                    tracing::info!("the {what} changed; the new ones are in use");
                    (current, seen) = (new, None);
                    complaint.clear();
                    continue;
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        let unusable = format!("{unusable:#}");
        if unusable != complaint {
            tracing::warn!("the new {what} are invalid and ignored: {unusable}");
            complaint = unusable;
        }
    }
}

pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_new_is_taken_once_when_it_has_stayed_and_can_be_used() {
        // The content at each look. At the end there is nothing new.
        const LOOKS: [Option<&str>; 14] = [
            Some("old"),
            Some("ne"),
            Some("new"),
            Some("new"),
            Some("new"),
            Some("bad"),
            Some("bad"),
            Some("bad"),
            None,
            Some("new"),
            Some("ne"),
            Some("new"),
            Some("newer"),
            Some("newer"),
        ];
        let looks = Arc::<AtomicUsize>::default();
        let read = {
            let looks = looks.clone();
            move || LOOKS[looks.fetch_add(1, SeqCst).min(LOOKS.len() - 1)].context("cannot read")
        };
        let taken = Mutex::new(Vec::new());
        let take = |content: &&'static str| {
            anyhow::ensure!(*content != "bad", "unusable");
            taken.lock().unwrap().push(*content);
            Ok(())
        };
        let following = tokio::time::timeout(INTERVAL * 20, follow("files", "old", read, take));
        assert!(following.await.is_err());
        assert_eq!(*taken.lock().unwrap(), ["new", "newer"]);
        assert!(looks.load(SeqCst) > LOOKS.len());
    }
}

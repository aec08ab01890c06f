//! Files whose new content is taken while the server runs.

use std::{path::Path, time::Duration};

use anyhow::Context as _;

/// How often they are looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// Takes what is new in files, without end. What is there has to stay the same
/// for an interval: it may be half-written. What cannot be used changes nothing.
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
                    tracing::info!("the {what} have changed, and the new ones are in use");
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
            tracing::warn!("the new {what} cannot be used, the old ones stay: {unusable}");
            complaint = unusable;
        }
    }
}

pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

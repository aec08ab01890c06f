//! Names of servers: every address that a name has is a server.
//!
//! A name is looked up again when a server has failed, and now and then. While it cannot
//! be, the addresses that were found last remain.

use std::{io, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout_at};
use transport::{CallError, Connect, ConnectError, Place};

use super::network::Network;
use crate::{config::Target, failure::Failure};

/// A name is not looked up more often, whatever fails.
const PAUSE: Duration = Duration::from_secs(1);

/// So many of its addresses are used.
const MOST: usize = 100;

impl Network {
    /// Finds the servers of this run. A name that has none yet is no failure when there
    /// are others.
    pub(super) async fn look_up_first(&self) -> Result<(), Failure> {
        let mut failed = None;
        for (list, target) in self.targets.iter().enumerate() {
            failed = self.look_up(list, target).await.err().or(failed);
        }
        failed.filter(|_| self.is_empty()).map_or(Ok(()), Err)
    }

    /// Keeps the servers of names up to date, and never completes.
    pub(super) async fn look_up_again(self: Arc<Self>) {
        loop {
            let last = Instant::now();
            let _ = timeout_at(last + self.lookup.every, self.failed.notified()).await;
            sleep_until(last + PAUSE.min(self.lookup.every)).await;
            for (list, target) in self.targets.iter().enumerate().filter(|(_, target)| target.is_name) {
                if let Err(failure) = self.look_up(list, target).await {
                    tracing::debug!("{target}: {}", failure.message());
                }
            }
        }
    }

    async fn look_up(&self, list: usize, target: &Target) -> Result<(), Failure> {
        let uri = &target.uri;
        if !target.is_name {
            self.set(list, vec![Place { uri: uri.clone(), authority: None }], None);
            return Ok(());
        }
        let found = (self.lookup.find)(uri.clone()).await.and_then(|found| match found.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            false => Ok(found),
        });
        let found = found.map_err(|error| CallError::from(ConnectError::new(Connect::NoSuchHost, error)))?;
        let scheme = uri.scheme_str().unwrap_or("http");
        let places = found.into_iter().take(MOST).filter_map(|address| {
            let uri = format!("{scheme}://{address}/").parse().ok()?;
            Some(Place { uri, authority: target.uri.authority().cloned() })
        });
        self.set(list, places.collect(), None);
        Ok(())
    }
}

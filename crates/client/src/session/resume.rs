//! Streams that go on where they were, after each loss of the connection.
//!
//! The pauses have full jitter, and what cannot get better, such as a certificate
//! of an unknown CA, is never tried again.

use std::{collections::HashSet, sync::atomic::Ordering::Relaxed, time::Instant};

use timeline::Stage;
use tonic::Code;
use transport::Channel;

use super::{Session, loss::Loss, network::lock};
use crate::failure::Failure;

impl Session {
    /// Makes a call that knows how to go on where it was, again after each
    /// loss of the connection, until it ends in another way.
    ///
    /// Until something has come of it, any server will do; then it stays with the
    /// one that it has begun with, and those that share the state of that one. Gives up
    /// when nothing has come of it for as long as the user said, and at once when no server
    /// has answered at all yet: then it is not one that went away, but none, unless the user
    /// waits for it.
    /// What a proxy says in its place is no answer of a server. NOT_FOUND means that
    /// no server has it.
    pub(crate) async fn resuming<T>(
        &self,
        call: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let is_worth_it = || self.waits || self.network.timeline.stage() == Stage::UnderWay;
        self.again(call, || self.begun.load(Relaxed), is_worth_it).await
    }

    /// Likewise a call that may be made again although nothing has come back: it
    /// is answered at its end alone, and takes effect once however often it is
    /// made to the same server.
    pub(crate) async fn repeating<T>(
        &self,
        call: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.again(call, || true, || true).await
    }

    fn move_to(&self, server: usize, channel: Channel) {
        let mut channels = lock(&self.channels);
        (channels.home, channels.streams) = (server, channel);
    }

    async fn again<T>(
        &self,
        mut call: impl AsyncFnMut() -> Result<T, Failure>,
        is_at_home: impl Fn() -> bool,
        is_worth_it: impl Fn() -> bool,
    ) -> Result<T, Failure> {
        let mut loss: Option<Loss> = None;
        // At which servers there is not what the call is about.
        let mut missing = HashSet::new();
        loop {
            let ended = call().await;
            let home = lock(&self.channels).home;
            let mut failure = match ended {
                Err(failure) if failure.may_be_tried_again() => {
                    if !is_at_home() || self.network.shares(home) {
                        self.eject(home, &failure);
                    }
                    failure
                }
                // Another server may have it.
                Err(failure) if failure.is_status(Code::NotFound) && !is_at_home() => {
                    missing.insert(home);
                    let next = lock(&self.network.servers).numbers().find(|it| !missing.contains(it));
                    let Some(next) = next else { return Err(failure) };
                    match self.network.connect_to(next, "client").await {
                        Ok(channel) => {
                            self.move_to(next, channel);
                            continue;
                        }
                        Err(error) if self.network.is_final(&error, false) => return Err(error),
                        Err(error) => error,
                    }
                }
                ended => return ended,
            };
            loop {
                if self.progressed.swap(false, Relaxed) {
                    loss = None;
                }
                let loss = loss.get_or_insert_with(Loss::new);
                if loss.since.elapsed() >= self.patience {
                    return Err(failure);
                }
                let at_home = is_at_home();
                let stays = at_home && !self.network.shares(home);
                if stays || !lock(&self.network.servers).has_one(Instant::now()) {
                    if !is_worth_it() {
                        return Err(failure);
                    }
                    loss.pause(&failure, &self.network.timeline).await;
                }
                let reached = match at_home {
                    true => self.network.connect_to_state_of(home, |_| None).await,
                    false => self.network.connect_to_next(|_| None).await,
                };
                match reached {
                    Ok((server, channel)) => {
                        self.move_to(server, channel);
                        break;
                    }
                    Err(error) if self.network.is_final(&error, stays) => return Err(error),
                    Err(error) => failure = error,
                }
            }
        }
    }
}

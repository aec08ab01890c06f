//! What a scenario has at hand: the channel, the timeline and the time left.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::Uri;
use indicatif::ProgressBar;
use shared_proto::fourmodes::v1::unary_service_client::UnaryServiceClient;
use tonic::{Request, Response, Status, transport::Channel};

use crate::{
    config::{Config, TlsFiles, UNARY_DEADLINE},
    connect::connect,
    failure::{Failure, Stage},
    timeline::{Timeline, tap::Tap},
};

pub(crate) struct Session {
    server: Uri,
    tls: TlsFiles,
    channel: Mutex<Channel>,
    timeline: Timeline,
    deadline: Option<Instant>,
    /// How long to try to come back.
    patience: Duration,
    /// Whether a call has got further since this was last asked.
    progressed: AtomicBool,
}

impl Session {
    pub(crate) async fn open(config: &Config, timeline: &Timeline) -> Result<Self, Failure> {
        let deadline = config.deadline.map(|deadline| Instant::now() + deadline);
        let channel = connect(&config.server, &config.tls).await?;
        timeline.connected(&config.server);
        Ok(Self {
            server: config.server.clone(),
            tls: config.tls.clone(),
            channel: Mutex::new(channel),
            timeline: timeline.clone(),
            deadline,
            patience: config.reconnect,
            progressed: AtomicBool::new(false),
        })
    }

    /// Makes a call that knows how to go on where it was, again after each
    /// loss of the connection, until it ends in another way.
    ///
    /// Gives up when nothing has come of it for as long as the user said, and
    /// at once when the server has not answered at all yet: then it is not one
    /// that went away, but none.
    pub(crate) async fn resuming<T>(
        &self,
        call: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.again(call, || self.timeline.stage() == Stage::UnderWay).await
    }

    /// Likewise a call that may be made again although nothing has come back: it
    /// is answered at its end alone, and takes effect once however often it is
    /// made.
    pub(crate) async fn repeating<T>(
        &self,
        call: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.again(call, || true).await
    }

    /// Makes a unary call, again when the connection is lost before the answer
    /// is there, within the time that is left. Whoever uses this knows that the
    /// call may be repeated: it changes nothing, or its message has an id that
    /// makes it take effect once.
    ///
    /// As gRFC A6 has it: five attempts at most, and each says how many there
    /// were before. Also when the server has not answered at all yet, as the
    /// first call of a run may be the one that it died in.
    pub(crate) async fn unary<M: Clone, T>(
        &self,
        message: M,
        call: impl AsyncFn(UnaryServiceClient<Tap>, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        const MOST_ATTEMPTS: u32 = 5;
        let mut before = 0;
        let attempt = async || {
            let mut request = self.unary_request(message.clone());
            if before > 0 {
                request.metadata_mut().insert("grpc-previous-rpc-attempts", before.into());
            }
            before += 1;
            match call(UnaryServiceClient::new(self.channel()), request).await {
                Ok(response) => Ok(Ok(response.into_inner())),
                Err(status) if before == MOST_ATTEMPTS => Ok(Err(status.into())),
                Err(status) => Err(status.into()),
            }
        };
        self.again(attempt, || true).await?
    }

    async fn again<T>(
        &self,
        mut call: impl AsyncFnMut() -> Result<T, Failure>,
        is_worth_it: impl Fn() -> bool,
    ) -> Result<T, Failure> {
        let mut lost: Option<(Instant, u32)> = None;
        loop {
            let mut failure = match call().await {
                Err(failure) if failure.is_lost_connection() => failure,
                ended => return ended,
            };
            loop {
                if self.progressed.swap(false, Relaxed) {
                    lost = None;
                }
                let (since, attempts) = lost.get_or_insert((Instant::now(), 0));
                if since.elapsed() >= self.patience || !is_worth_it() {
                    return Err(failure);
                }
                *attempts += 1;
                let pause = full_jitter(*attempts).max(failure.retry_after.unwrap_or_default());
                self.timeline.reconnecting(*attempts, pause, &failure.message);
                tokio::time::sleep(pause).await;
                match connect(&self.server, &self.tls).await {
                    Ok(channel) => {
                        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = channel;
                        self.timeline.connected(&self.server);
                        break;
                    }
                    Err(lost) => failure = lost,
                }
            }
        }
    }

    /// Says that a call got further: the patience with the next loss is new.
    pub(crate) fn progressed(&self) {
        self.progressed.store(true, Relaxed);
    }

    /// The channel, for the generated clients. What passes is shown.
    pub(crate) fn channel(&self) -> Tap {
        self.channel_of("client")
    }

    /// Likewise for a demonstration with several clients, under a name.
    pub(crate) fn channel_of(&self, client: &str) -> Tap {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Tap::new(channel, self.timeline.clone(), client)
    }

    /// Tells the server how much time is left: it stops working when nobody
    /// waits any more.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        request
    }

    /// A unary call always has a deadline.
    pub(crate) fn unary_request<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        if self.deadline.is_none() {
            request.set_timeout(UNARY_DEADLINE);
        }
        request
    }

    /// Explains what comes next.
    pub(crate) fn note(&self, text: &str) {
        self.timeline.note(text);
    }

    /// Tells a line of what the user asked for, where that comes bit by bit.
    pub(crate) fn line(&self, text: &str) {
        self.timeline.line(text);
    }

    /// A bar for long work, drawn on stderr when that is a terminal.
    pub(crate) fn progress(&self) -> &ProgressBar {
        self.timeline.progress()
    }
}

/// A pause before an attempt, from 1: any length up to a bound that doubles. Of
/// a thousand clients that lost the same server no two come back together.
fn full_jitter(attempt: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);
    let bound = FIRST.saturating_mul(1 << (attempt - 1).min(10)).min(LONGEST);
    bound.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let longest = |attempt| (0..1_000).map(|_| full_jitter(attempt)).max().unwrap_or_default();
        assert!(longest(1) <= Duration::from_millis(100) && longest(1) > Duration::from_millis(80));
        assert!(longest(3) <= Duration::from_millis(400) && longest(3) > Duration::from_millis(320));
        assert!(longest(u32::MAX) <= Duration::from_secs(2) && longest(99) > Duration::from_millis(1_600));
        let distinct: std::collections::HashSet<_> = (0..100).map(|_| full_jitter(5)).collect();
        assert!(distinct.len() > 90);
    }
}

//! What a scenario has at hand: the channels, the timeline and the time left.
//!
//! The network finds a server and connects to it. Over that a unary call is made
//! again, and a stream goes on, each by rules of its own.
//!
//! Once a stream was opened, unary calls have a connection of their own: they never
//! wait behind a stream that nobody reads.

mod learnt;
mod loss;
mod names;
mod network;
mod resume;
#[cfg(test)]
mod tests;
mod unary;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use indicatif::ProgressBar;
use shared_proto::limits::MONITORING_HEARTBEAT;
use timeline::Timeline;
use tokio_util::task::AbortOnDropHandle;
use tonic::Request;
use transport::{Channel, Mode, Silence, retry::Throttle};

use self::{
    learnt::Heard,
    loss::Loss,
    network::{Network, lock},
};
use crate::{
    config::{Config, UNARY_DEADLINE},
    failure::Failure,
};

/// A channel whose calls are on the timeline.
pub(crate) type Tap = timeline::Tap<Heard>;

pub(crate) struct Session {
    network: Arc<Network>,
    /// Looks names up again, if there are any.
    _names: Option<AbortOnDropHandle<()>>,
    channels: Mutex<Channels>,
    throttle: Mutex<Throttle>,
    /// How long to try to come back.
    patience: Duration,
    /// How long a stream without heartbeats may stand still.
    standstill: Duration,
    /// Whether to wait for a server that has not answered yet.
    waits: bool,
    /// How often a unary call is made.
    max_attempts: u32,
    /// Whether a call has got further since this was last asked.
    progressed: AtomicBool,
    /// Whether a server has something of this run.
    begun: AtomicBool,
    is_bare: bool,
}

struct Channels {
    /// The server that keeps what this run has begun.
    home: usize,
    /// To there, for everything but unary calls.
    streams: Channel,
    /// Whether anything has passed there. Until then a unary call may as well.
    streamed: bool,
}

impl Session {
    pub(crate) async fn open(config: &Config, timeline: &Timeline) -> Result<Self, Failure> {
        let network = Arc::new(Network::new(config, timeline));
        let mut loss = Loss::new();
        let (home, streams) = loop {
            let connected = async {
                network.look_up_first().await?;
                network.connect_to_next(|_| None).await
            };
            match connected.await {
                Ok(found) => break found,
                // The deadline ends all of it by itself.
                Err(failure)
                    if config.wait_for_ready
                        && !network.is_final(&failure, false)
                        && (network.deadline.is_some() || loss.since.elapsed() < config.reconnect) =>
                {
                    loss.pause(&failure, timeline).await;
                }
                Err(failure) => return Err(failure),
            }
        };
        // The first call goes where the connection is.
        lock(&network.servers).return_turn(home);
        network.set_unary(home, Some(streams.clone()));
        let names = config.servers.iter().any(|target| target.is_name);
        let names = names.then(|| AbortOnDropHandle::new(tokio::spawn(network.clone().look_up_again())));
        Ok(Self {
            _names: names,
            network,
            channels: Mutex::new(Channels { home, streams, streamed: false }),
            throttle: Mutex::default(),
            patience: config.reconnect,
            standstill: config.standstill,
            waits: config.wait_for_ready,
            max_attempts: config.max_attempts,
            progressed: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            is_bare: config.is_bare(),
        })
    }

    /// Says that a call got further: the patience with the next loss is new.
    pub(crate) fn progressed(&self) {
        self.progressed.store(true, Relaxed);
        self.begun.store(true, Relaxed);
    }

    /// What this run is about is shared by the servers that have the same state: logs
    /// and measurements of a machine are not.
    pub(crate) fn goes_on_elsewhere(&self) {
        self.network.goes_on_elsewhere.store(true, Relaxed);
    }

    /// The channel for streams, for the generated clients. What passes is shown.
    pub(crate) fn channel(&self) -> Tap {
        let mut channels = lock(&self.channels);
        let home = channels.home;
        if !std::mem::replace(&mut channels.streamed, true) {
            self.network.set_unary(home, None);
        }
        self.tap(channels.streams.clone(), home, "client")
    }

    /// A connection of its own, for a demonstration with several clients, under
    /// a name.
    pub(crate) async fn channel_of(&self, client: &str) -> Result<Tap, Failure> {
        let home = lock(&self.channels).home;
        let channel = self.network.connect_to(home, client).await?;
        Ok(self.tap(channel, home, client))
    }

    fn tap(&self, channel: Channel, number: usize, client: &str) -> Tap {
        let servers = lock(&self.network.servers);
        let place = servers.place(number).filter(|_| servers.count() > 1);
        let server = place.map(|place| place.uri.clone());
        let metadata = self.network.connector.metadata.faults().clone();
        let channel = Heard { channel, server: number, network: self.network.clone() };
        Tap::new(channel, self.network.timeline.clone(), metadata, client, server)
    }

    /// A request of a stream. Tells the server how much time is left: it stops
    /// working when nobody waits any more.
    ///
    /// A stream that stands still is as lost as its connection, which something in
    /// between may keep open for a server that is gone. A server that promises a
    /// heartbeat says something at once, and then at least so often.
    pub(crate) fn request<T>(&self, message: T, heartbeat: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(left) = self.network.left() {
            request.set_timeout(left);
        }
        request.extensions_mut().insert(match heartbeat {
            Some(heartbeat) => Silence { head: 3 * MONITORING_HEARTBEAT, frame: 3 * heartbeat },
            None => Silence { head: self.standstill, frame: self.standstill },
        });
        request
    }

    /// A unary call always has a deadline.
    fn unary_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.left_for_unary());
        request.extensions_mut().insert(Mode::Unary);
        request
    }

    fn left_for_unary(&self) -> Duration {
        self.network.left().unwrap_or(UNARY_DEADLINE)
    }

    /// Explains what comes next.
    pub(crate) fn note(&self, text: &str) {
        self.network.timeline.note(text);
    }

    /// Tells a line of what the user asked for, where that comes bit by bit.
    pub(crate) fn line(&self, text: &str) {
        self.network.timeline.line(text);
    }

    /// As [`Config::is_bare`].
    pub(crate) fn is_bare(&self) -> bool {
        self.is_bare
    }

    /// A bar for long work, drawn on stderr when that is a terminal.
    pub(crate) fn progress(&self) -> &ProgressBar {
        self.network.timeline.progress()
    }
}

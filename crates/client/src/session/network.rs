//! The servers: which there are, whose turn it is, and a connection to it.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::HeaderMap;
use shared_proto::STATE_HEADER;
use timeline::Timeline;
use tokio::{sync::Notify, time::timeout};
use transport::{CallError, Channel, Connector, Place, Servers, serves};

use super::learnt::Listening;
use crate::{
    config::{Config, Lookup, Target},
    failure::Failure,
    show,
};

/// The servers, and what it takes to connect to them.
pub(super) struct Network {
    /// By the lists that name them: the first ones are the `targets`.
    pub(super) servers: Mutex<Servers<Known>>,
    pub(super) targets: Vec<Target>,
    pub(super) lookup: Lookup,
    /// Notified when a server has failed: the addresses of a name may be others.
    pub(super) failed: Notify,
    pub(super) connector: Connector,
    pub(super) timeline: Timeline,
    pub(super) deadline: Option<Instant>,
    frames: bool,
    /// Whether this run is about something that servers share.
    pub(super) goes_on_elsewhere: AtomicBool,
    /// For the servers that other servers name.
    pub(super) listening: Listening,
}

/// What is known of a server, besides where it is and whether it fails.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What the last connection or the first answer on it took: no less than a round
    /// trip.
    round_trip: Duration,
    /// Which state it shares with others.
    state: Option<String>,
    /// Which state it must share, since a server with this state named it.
    wanted: Option<String>,
    /// For unary calls: a stream that nobody reads holds up all that is on its
    /// connection.
    pub(super) unary: Option<Channel>,
}

/// Who is as good as others is not waited for any longer than this.
const SOON: Duration = Duration::from_secs(1);

/// Nor is the last one that is not left out: others may be back by then.
const LATE: Duration = Duration::from_secs(5);

/// So many round trips an answer may take.
const SOME: u32 = 3;

impl Network {
    pub(super) fn new(config: &Config, timeline: &Timeline) -> Self {
        Self {
            servers: Mutex::default(),
            targets: config.servers.clone(),
            lookup: config.lookup,
            failed: Notify::new(),
            connector: config.connector.clone(),
            timeline: timeline.clone(),
            deadline: config.deadline.map(|deadline| Instant::now() + deadline),
            frames: config.frames && !config.quiet,
            goes_on_elsewhere: AtomicBool::new(false),
            listening: Listening::default(),
        }
    }

    /// Replaces the servers of one list. Those that have gone get no new calls. With
    /// `wanted`, those of the list get no call before they say that they share this state.
    pub(super) fn set(&self, list: usize, places: Vec<Place>, wanted: Option<&str>) {
        let mut servers = lock(&self.servers);
        for gone in servers.set(list, places) {
            if let Some(known) = servers.known_mut(gone) {
                known.unary = None;
            }
        }
        servers.of_list(list).for_each(|known| known.wanted = wanted.map(str::to_owned));
    }

    /// The connection for unary calls to a server, if there is one.
    pub(super) fn unary(&self, server: usize) -> Option<Channel> {
        lock(&self.servers).known(server).and_then(|known| known.unary.clone())
    }

    /// Keeps a connection for unary calls, or lets go of it.
    pub(super) fn set_unary(&self, server: usize, channel: Option<Channel>) {
        if let Some(known) = lock(&self.servers).known_mut(server) {
            known.unary = channel;
        }
    }

    pub(super) fn set_state(&self, server: usize, state: Option<String>) {
        if let Some(known) = lock(&self.servers).known_mut(server) {
            known.state = state;
        }
    }

    pub(super) fn state(&self, server: usize) -> Option<String> {
        lock(&self.servers).known(server).and_then(|known| known.state.clone())
    }

    fn wanted(&self, server: usize) -> Option<String> {
        lock(&self.servers).known(server).and_then(|known| known.wanted.clone())
    }

    fn round_trip(&self, server: usize) -> Duration {
        lock(&self.servers).known(server).map_or(Duration::ZERO, |known| known.round_trip)
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.servers).count() == 0
    }

    /// Whether a server has not gone.
    pub(super) fn has(&self, server: usize) -> bool {
        lock(&self.servers).numbers().any(|number| number == server)
    }

    fn is_alone(&self) -> bool {
        lock(&self.servers).count() == 1
    }

    pub(super) fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether there is no point in connecting once more. What is wrong with one
    /// of several servers says nothing about the others.
    pub(super) fn is_final(&self, failure: &Failure, at_home: bool) -> bool {
        (at_home || self.is_alone()) && !failure.may_be_tried_again()
    }

    /// How long to wait for one server where there are others: so that there is
    /// time left for those. No server can answer in less than a round trip.
    fn soon(&self, server: usize) -> Duration {
        const SOONEST: Duration = Duration::from_millis(50);
        let most = match lock(&self.servers).has_another(server, Instant::now()) {
            true => SOON,
            false => LATE,
        };
        let soon = self.left().map_or(most, |left| (left / 2).clamp(SOONEST, most));
        let soon = soon.max(SOME * self.round_trip(server));
        Duration::from_millis(soon.as_millis() as u64)
    }

    /// Connects to the server whose turn it is, or to the next one that can be
    /// reached, unless there is a connection.
    pub(super) async fn connect_to_next(
        &self,
        existing: impl Fn(usize) -> Option<Channel>,
    ) -> Result<(usize, Channel), Failure> {
        let mut tries = lock(&self.servers).count();
        loop {
            let server = lock(&self.servers).choose(Instant::now()).ok_or_else(no_server)?;
            if let Some(channel) = existing(server) {
                return Ok((server, channel));
            }
            let failure = match self.connect_to(server, "client").await {
                Ok(channel) => return Ok((server, channel)),
                Err(failure) => failure,
            };
            self.eject(server, &failure);
            tries = tries.saturating_sub(1);
            if tries == 0 || !lock(&self.servers).has_one(Instant::now()) {
                return Err(failure);
            }
        }
    }

    /// Connects to one server. Where there are others it has to say soon that it
    /// serves.
    pub(super) async fn connect_to(&self, server: usize, client: &str) -> Result<Channel, Failure> {
        let Place { uri, authority } = lock(&self.servers).place(server).cloned().ok_or_else(no_server)?;
        let mut connector = Connector { authority, ..self.connector.clone() };
        if self.frames {
            connector.onlookers = Some(show::taps(&self.timeline, client, &uri, 0, true).onlookers());
        }
        let connected = connector.connect(&uri);
        let wanted = self.wanted(server);
        let channel = match self.is_alone() && wanted.is_none() {
            true => connected.await?,
            false => {
                let channel = self.measured(server, connected).await?;
                // There may be no time to ask before the call.
                let round_trip = self.round_trip(server);
                if wanted.is_some() || self.left().is_none_or(|left| left > SOME * round_trip) {
                    let headers = self.measured(server, serves(&channel)).await?;
                    let state = state_in(headers.as_ref());
                    if wanted.is_some() && state != wanted {
                        return Err(Failure::answer(
                            "the server does not share the state of the server that named it",
                        ));
                    }
                    self.set_state(server, state);
                }
                channel
            }
        };
        if !self.frames {
            self.timeline.connected(client, &uri);
        }
        Ok(channel)
    }

    /// Whether other servers may have what this one has.
    pub(super) fn shares(&self, server: usize) -> bool {
        self.goes_on_elsewhere.load(Relaxed) && self.state(server).is_some()
    }

    /// Connects to a server, or to another one that has the same state.
    pub(super) async fn connect_to_state_of(
        &self,
        server: usize,
        existing: impl Fn(usize) -> Option<Channel>,
    ) -> Result<(usize, Channel), Failure> {
        let state = self.state(server);
        if !self.shares(server) {
            let channel = match existing(server) {
                Some(channel) => channel,
                None => self.connect_to(server, "client").await?,
            };
            return Ok((server, channel));
        }
        let (mut last, count) = (None, lock(&self.servers).count());
        for _ in 0..count {
            match self.connect_to_next(&existing).await {
                Ok((found, channel)) if self.state(found) == state => return Ok((found, channel)),
                Ok(_) => {}
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::answer("no server is left that has the same state")))
    }

    /// Waits for what takes a round trip to a server, or a few.
    async fn measured<T>(
        &self,
        server: usize,
        answer: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, Failure> {
        let (soon, begun) = (self.soon(server), Instant::now());
        let answer = timeout(soon, answer).await.map_err(|_| Failure::not_ready(soon))??;
        if let Some(known) = lock(&self.servers).known_mut(server) {
            known.round_trip = begun.elapsed();
        }
        Ok(answer)
    }

    /// Completes when a server that has a call does not even say how it is, and
    /// there are others that can take it. What it says does not matter: one that
    /// goes away answers the calls that it has.
    pub(super) async fn hangs(&self, server: usize, channel: Channel) -> Failure {
        if self.is_alone() {
            return std::future::pending().await;
        }
        let soon = self.soon(server);
        loop {
            tokio::time::sleep(soon / 2).await;
            if timeout(soon / 2, serves(&channel)).await.is_err() {
                return Failure::hangs(soon);
            }
        }
    }

    /// Where there is no other server nobody is interested.
    pub(super) fn eject(&self, server: usize, failure: &Failure) {
        let mut servers = lock(&self.servers);
        let time = servers.eject(server, failure.retry_after(), Instant::now());
        if servers.count() > 1
            && let Some(place) = servers.place(server)
        {
            self.timeline.ejected(&place.uri, time, failure.message());
        }
        self.failed.notify_one();
    }
}

/// Which state an answer is of.
pub(super) fn state_in(headers: &HeaderMap) -> Option<String> {
    headers.get(STATE_HEADER).and_then(|state| state.to_str().ok()).map(str::to_owned)
}

fn no_server() -> Failure {
    Failure::answer("there is no server")
}

pub(super) fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

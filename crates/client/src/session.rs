//! What a scenario has at hand: the channels, the timeline and the time left.

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::ProgressBar;
use shared_proto::fourmodes::v1::unary_service_client::UnaryServiceClient;
use timeline::{Stage, Timeline};
use tokio::time::timeout;
use tonic::{Request, Response, Status, TimeoutExpired};
use transport::{
    CallError, Channel, Connector, Servers,
    retry::{Backoff, Pushback, Throttle},
    serves,
};

use crate::{
    config::{Config, UNARY_DEADLINE},
    failure::Failure,
};

/// A channel whose calls are on the timeline.
pub(crate) type Tap = timeline::Tap<Channel>;

pub(crate) struct Session {
    network: Network,
    channels: Mutex<Channels>,
    throttle: Mutex<Throttle>,
    /// How long to try to come back.
    patience: Duration,
    /// How often a unary call is made.
    max_attempts: u32,
    /// Whether a call has got further since this was last asked.
    progressed: AtomicBool,
    /// Whether a server has something of this run.
    begun: AtomicBool,
}

/// The servers, and what it takes to connect to them.
struct Network {
    servers: Mutex<Servers>,
    connector: Connector,
    timeline: Timeline,
    deadline: Option<Instant>,
}

struct Channels {
    /// The server that keeps what this run has begun.
    home: usize,
    /// To there, for everything but unary calls.
    streams: Channel,
    /// Whether anything has passed there. Until then a unary call may as well.
    streamed: bool,
    /// By server, for unary calls: a stream that nobody reads holds up all that
    /// is on its connection.
    unary: Vec<Option<Channel>>,
}

/// Where a unary call may be made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Anywhere,
    AtHome,
}

impl Session {
    pub(crate) async fn open(config: &Config, timeline: &Timeline) -> Result<Self, Failure> {
        let network = Network {
            servers: Mutex::new(Servers::new(&config.servers)),
            connector: config.connector.clone(),
            timeline: timeline.clone(),
            deadline: config.deadline.map(|deadline| Instant::now() + deadline),
        };
        let mut loss = Loss::new();
        let (home, streams) = loop {
            match network.connect_to_next(|_| None).await {
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
        let mut unary = vec![None; config.servers.len()];
        unary[home] = Some(streams.clone());
        Ok(Self {
            network,
            channels: Mutex::new(Channels { home, streams, streamed: false, unary }),
            throttle: Mutex::default(),
            patience: config.reconnect,
            max_attempts: config.max_attempts,
            progressed: AtomicBool::new(false),
            begun: AtomicBool::new(false),
        })
    }

    /// Makes a call that knows how to go on where it was, again after each
    /// loss of the connection, until it ends in another way.
    ///
    /// Until something has come of it, any server will do; then it stays with the
    /// one that it has begun with. Gives up when nothing has come of it for as
    /// long as the user said, and at once when no server has answered at all yet:
    /// then it is not one that went away, but none.
    pub(crate) async fn resuming<T>(
        &self,
        call: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let is_worth_it = || self.network.timeline.stage() == Stage::UnderWay;
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

    async fn again<T>(
        &self,
        mut call: impl AsyncFnMut() -> Result<T, Failure>,
        is_at_home: impl Fn() -> bool,
        is_worth_it: impl Fn() -> bool,
    ) -> Result<T, Failure> {
        let mut loss: Option<Loss> = None;
        loop {
            let mut failure = match call().await {
                Err(failure) if failure.may_be_tried_again() => failure,
                ended => return ended,
            };
            let home = lock(&self.channels).home;
            if !is_at_home() {
                self.eject(home, &failure);
            }
            loop {
                if self.progressed.swap(false, Relaxed) {
                    loss = None;
                }
                let loss = loss.get_or_insert_with(Loss::new);
                if loss.since.elapsed() >= self.patience {
                    return Err(failure);
                }
                let at_home = is_at_home();
                if at_home || !lock(&self.network.servers).has_one(Instant::now()) {
                    if !is_worth_it() {
                        return Err(failure);
                    }
                    loss.pause(&failure, &self.network.timeline).await;
                }
                let reached = match at_home {
                    true => self.network.connect_to(home, "client").await.map(|channel| (home, channel)),
                    false => self.network.connect_to_next(|_| None).await,
                };
                match reached {
                    Ok((server, channel)) => {
                        let mut channels = lock(&self.channels);
                        (channels.home, channels.streams) = (server, channel);
                        break;
                    }
                    Err(error) if self.network.is_final(&error, at_home) => return Err(error),
                    Err(error) => failure = error,
                }
            }
        }
    }

    /// Makes a unary call, again when the connection is lost before the answer
    /// is there, within the time that is left; if there are several servers, by
    /// another one. Whoever uses this knows that the call changes nothing, or
    /// means the same to each of them.
    ///
    /// As gRFC A6 has it: so many attempts at most, not against the server's
    /// will, none when an answer has begun, and each says how many there were
    /// before. Also when the server has not answered at all yet, as the first
    /// call of a run may be the one that it died in.
    pub(crate) async fn unary<M: Clone, T>(
        &self,
        message: M,
        call: impl AsyncFn(UnaryServiceClient<Tap>, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        self.attempts(Where::Anywhere, message, call).await
    }

    /// Likewise a call that may be repeated at one server alone: that one knows
    /// the id that makes the call take effect once, or the page that comes next.
    pub(crate) async fn unary_at_home<M: Clone, T>(
        &self,
        message: M,
        call: impl AsyncFn(UnaryServiceClient<Tap>, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let answered = self.attempts(Where::AtHome, message, call).await;
        self.begun.fetch_or(answered.is_ok(), Relaxed);
        answered
    }

    async fn attempts<M: Clone, T>(
        &self,
        place: Where,
        message: M,
        call: impl AsyncFn(UnaryServiceClient<Tap>, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let mut made = 0;
        let mut loss: Option<Loss> = None;
        loop {
            let failure = match self.unary_channel(place).await {
                Err(failure) if self.network.is_final(&failure, place == Where::AtHome) => {
                    return Err(failure);
                }
                // Nothing was sent: that is no attempt.
                Err(failure) => failure,
                Ok((server, channel)) => {
                    let hangs = self.network.hangs(server, channel.clone(), place);
                    let tap = self.tap(channel, server, "client");
                    let answer = tap.answer();
                    let mut request = self.unary_request(message.clone());
                    if made > 0 {
                        request.metadata_mut().insert("grpc-previous-rpc-attempts", made.into());
                    }
                    made += 1;
                    let calling = async {
                        // tonic keeps the deadline until an answer begins, no longer.
                        let answered = call(UnaryServiceClient::new(tap), request);
                        match timeout(self.left_for_unary(), answered).await {
                            Ok(answer) => answer.map_err(Failure::from),
                            Err(_) => Err(CallError::broken(&TimeoutExpired(())).into()),
                        }
                    };
                    let answered = tokio::select! {
                        biased;
                        answered = calling => answered,
                        failure = hangs => Err(failure),
                    };
                    let failure = match answered {
                        Ok(response) => {
                            lock(&self.network.servers).worked(server);
                            lock(&self.throttle).succeeded();
                            return Ok(response.into_inner());
                        }
                        Err(failure) => failure,
                    };
                    let another = self.another_after(server, &failure);
                    if !another || answer.has_begun() || made >= self.max_attempts {
                        return Err(failure);
                    }
                    failure
                }
            };
            let loss = loss.get_or_insert_with(Loss::new);
            if loss.since.elapsed() >= self.patience {
                return Err(failure);
            }
            let elsewhere = place == Where::Anywhere && lock(&self.network.servers).has_one(Instant::now());
            if !elsewhere || failure.pushback().is_some() {
                loss.pause(&failure, &self.network.timeline).await;
            }
        }
    }

    /// What a failed attempt means for its server and for others: whether there
    /// may be another one.
    fn another_after(&self, server: usize, failure: &Failure) -> bool {
        let lost = failure.is_lost_connection();
        let mut throttle = lock(&self.throttle);
        if lost || failure.pushback() == Some(Pushback::Never) {
            throttle.failed();
        }
        let another = failure.may_be_tried_again() && throttle.allows_another();
        drop(throttle);
        match lost || failure.is_made_here() {
            true => self.eject(server, failure),
            false => lock(&self.network.servers).worked(server),
        }
        another
    }

    /// Leaves a server out for a while, and lets go of its connection: before
    /// the next one it has to say that it serves.
    fn eject(&self, server: usize, failure: &Failure) {
        lock(&self.channels).unary[server] = None;
        self.network.eject(server, failure);
    }

    async fn unary_channel(&self, place: Where) -> Result<(usize, Channel), Failure> {
        let existing = |server: usize| lock(&self.channels).unary[server].clone();
        let (server, channel) = match place {
            Where::Anywhere => self.network.connect_to_next(existing).await?,
            Where::AtHome => {
                let home = lock(&self.channels).home;
                match existing(home) {
                    Some(channel) => (home, channel),
                    None => (home, self.network.connect_to(home, "client").await?),
                }
            }
        };
        lock(&self.channels).unary[server] = Some(channel.clone());
        Ok((server, channel))
    }

    /// Says that a call got further: the patience with the next loss is new.
    pub(crate) fn progressed(&self) {
        self.progressed.store(true, Relaxed);
        self.begun.store(true, Relaxed);
    }

    /// The channel for streams, for the generated clients. What passes is shown.
    pub(crate) fn channel(&self) -> Tap {
        let mut channels = lock(&self.channels);
        let home = channels.home;
        if !std::mem::replace(&mut channels.streamed, true) {
            channels.unary[home] = None;
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

    fn tap(&self, channel: Channel, server: usize, client: &str) -> Tap {
        let servers = lock(&self.network.servers);
        let server = (servers.count() > 1).then(|| servers.uri(server).clone());
        let metadata = self.network.connector.metadata.faults().clone();
        Tap::new(channel, self.network.timeline.clone(), metadata, client, server)
    }

    /// Tells the server how much time is left: it stops working when nobody
    /// waits any more.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(left) = self.network.left() {
            request.set_timeout(left);
        }
        request
    }

    /// A unary call always has a deadline.
    pub(crate) fn unary_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.left_for_unary());
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

    /// A bar for long work, drawn on stderr when that is a terminal.
    pub(crate) fn progress(&self) -> &ProgressBar {
        self.network.timeline.progress()
    }
}

/// Since when there is no connection.
struct Loss {
    since: Instant,
    attempts: u32,
    backoff: Backoff,
}

impl Loss {
    fn new() -> Self {
        Self { since: Instant::now(), attempts: 0, backoff: Backoff::default() }
    }

    /// Waits before the next attempt, and says so.
    async fn pause(&mut self, failure: &Failure, timeline: &Timeline) {
        self.attempts += 1;
        let pause = self.backoff.pause(failure.pushback(), failure.retry_after());
        timeline.reconnecting(self.attempts, pause, failure.message());
        tokio::time::sleep(pause).await;
    }
}

/// Who is as good as others is not waited for any longer than this.
const SOON: Duration = Duration::from_secs(1);

/// Nor is the last one that is not left out: others may be back by then.
const LATE: Duration = Duration::from_secs(5);

impl Network {
    fn is_alone(&self) -> bool {
        lock(&self.servers).count() == 1
    }

    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether there is no point in connecting once more. What is wrong with one
    /// of several servers says nothing about the others.
    fn is_final(&self, failure: &Failure, at_home: bool) -> bool {
        (at_home || self.is_alone()) && !failure.may_be_tried_again()
    }

    /// How long to wait for one server where there are others: so that there is
    /// time left for those.
    fn soon(&self, server: usize) -> Duration {
        const SOONEST: Duration = Duration::from_millis(50);
        let most = match lock(&self.servers).has_another(server, Instant::now()) {
            true => SOON,
            false => LATE,
        };
        let soon = self.left().map_or(most, |left| (left / 2).clamp(SOONEST, most));
        Duration::from_millis(soon.as_millis() as u64)
    }

    /// Connects to the server whose turn it is, or to the next one that can be
    /// reached, unless there is a connection.
    async fn connect_to_next(
        &self,
        existing: impl Fn(usize) -> Option<Channel>,
    ) -> Result<(usize, Channel), Failure> {
        let mut tries = lock(&self.servers).count();
        loop {
            let server = lock(&self.servers).choose(Instant::now());
            if let Some(channel) = existing(server) {
                return Ok((server, channel));
            }
            let failure = match self.connect_to(server, "client").await {
                Ok(channel) => return Ok((server, channel)),
                Err(failure) => failure,
            };
            self.eject(server, &failure);
            tries -= 1;
            if tries == 0 || !lock(&self.servers).has_one(Instant::now()) {
                return Err(failure);
            }
        }
    }

    /// Connects to one server. Where there are others it has to say soon that it
    /// serves.
    async fn connect_to(&self, server: usize, client: &str) -> Result<Channel, Failure> {
        let uri = lock(&self.servers).uri(server).clone();
        let connected = self.connector.connect(&uri);
        let channel = match self.is_alone() {
            true => connected.await?,
            false => {
                let ready = async {
                    let channel = connected.await?;
                    serves(&channel).await?;
                    Ok(channel)
                };
                let soon = self.soon(server);
                timeout(soon, ready).await.unwrap_or_else(|_| Err(Failure::not_ready(soon)))?
            }
        };
        self.timeline.connected(client, &uri);
        Ok(channel)
    }

    /// Completes when a server that has a call does not even say how it is, and
    /// there are others that can take it. What it says does not matter: one that
    /// goes away answers the calls that it has.
    async fn hangs(&self, server: usize, channel: Channel, place: Where) -> Failure {
        if place == Where::AtHome || self.is_alone() {
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
    fn eject(&self, server: usize, failure: &Failure) {
        let mut servers = lock(&self.servers);
        let time = servers.eject(server, failure.retry_after(), Instant::now());
        if servers.count() > 1 {
            self.timeline.ejected(servers.uri(server), time, failure.message());
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Unary calls, made again when a server is lost.
//!
//! A call that changes something and has no id is never made again, nor one whose
//! answer has begun, nor one that the server does not want again. A command goes to
//! one server only, as the others do not know its id. What one server has is looked
//! for at each of them.
//!
//! A server that hangs costs no call its deadline where there are others: while a
//! call waits, its server is asked for its health, and without an answer another
//! server takes the call.

use std::{collections::VecDeque, sync::atomic::Ordering::Relaxed, time::Instant};

use shared_proto::fourmodes::v1::unary_service_client::UnaryServiceClient;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, TimeoutExpired};
use transport::{CallError, Channel, retry::Pushback};
use uuid::Uuid;

use super::{Session, Tap, loss::Loss, network::lock};
use crate::failure::Failure;

/// Where a unary call may be made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Anywhere,
    At(usize),
    /// For now: others are asked as well.
    AtFirst(usize),
}

impl Session {
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
        let home = lock(&self.channels).home;
        self.unary_at(home, message, call).await
    }

    /// Likewise at a certain server.
    pub(crate) async fn unary_at<M: Clone, T>(
        &self,
        server: usize,
        message: M,
        call: impl AsyncFn(UnaryServiceClient<Tap>, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let answered = self.attempts(Where::At(server), message, call).await;
        self.begun.fetch_or(answered.is_ok(), Relaxed);
        answered
    }

    /// Likewise about something that one of the servers has. Each is asked until one
    /// knows it, so NOT_FOUND means that none does. One that cannot be reached is asked
    /// again at the end: it may be the one.
    pub(crate) async fn unary_where_it_is<M: Clone, T>(
        &self,
        message: M,
        call: impl AsyncFn(UnaryServiceClient<Tap>, Request<M>) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let home = lock(&self.channels).home;
        let mut servers: Vec<_> = lock(&self.network.servers).numbers().collect();
        // First where the connection is.
        servers.sort_by_key(|server| (*server < home, *server));
        let mut places: VecDeque<_> = match servers[..] {
            [_] => [Where::At(home)].into(),
            _ => servers.into_iter().map(Where::AtFirst).collect(),
        };
        let mut missing = None;
        while let Some(place) = places.pop_front() {
            match (self.attempts(place, message.clone(), &call).await, place) {
                (Err(failure), _) if failure.is_status(Code::NotFound) => missing = Some(failure),
                (Err(failure), Where::AtFirst(server))
                    if failure.may_be_tried_again() || failure.is_made_here() =>
                {
                    places.push_back(Where::At(server));
                }
                (answered, _) => return answered,
            }
        }
        Err(missing.unwrap_or_else(|| Failure::answer("there is no server")))
    }

    /// The server for a key that the user may give again: the same one for the same
    /// servers, in any order. Where servers share their state, any of them knows it.
    pub(crate) fn home_of(&self, key: &str) -> usize {
        let home = lock(&self.channels).home;
        if self.network.shares(home) {
            return home;
        }
        let servers = lock(&self.network.servers);
        let rank = |server: &usize| {
            let uri = servers.place(*server).map(|place| place.uri.to_string()).unwrap_or_default();
            *blake3::hash(format!("{key} {uri}").as_bytes()).as_bytes()
        };
        servers.numbers().max_by_key(rank).unwrap_or(home)
    }

    /// A new key for the server that is reached.
    pub(crate) fn key_at_home(&self) -> Uuid {
        let home = lock(&self.channels).home;
        loop {
            let key = Uuid::new_v4();
            // A home that has gone is the server of no key.
            if self.home_of(&key.to_string()) == home || !self.network.has(home) {
                return key;
            }
        }
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
                Err(failure) if self.network.is_final(&failure, !self.may_be_elsewhere(place)) => {
                    return Err(failure);
                }
                // Nothing was sent: that is no attempt.
                Err(failure) => failure,
                Ok((server, channel)) => {
                    let tap = self.tap(channel.clone(), server, "client");
                    let answer = tap.answer();
                    let mut request = self.unary_request(message.clone());
                    if made > 0 {
                        request.metadata_mut().insert("grpc-previous-rpc-attempts", made.into());
                    }
                    made += 1;
                    let calling = call(UnaryServiceClient::new(tap), request);
                    let failure = match self.attempt(place, server, channel, calling).await {
                        Ok(response) => return Ok(response.into_inner()),
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
            if matches!(place, Where::AtFirst(_)) || loss.since.elapsed() >= self.patience {
                return Err(failure);
            }
            let elsewhere =
                self.may_be_elsewhere(place) && lock(&self.network.servers).has_one(Instant::now());
            if !elsewhere || failure.pushback().is_some() {
                loss.pause(&failure, &self.network.timeline).await;
            }
        }
    }

    fn may_be_elsewhere(&self, place: Where) -> bool {
        match place {
            Where::Anywhere => true,
            Where::At(server) => self.network.shares(server),
            Where::AtFirst(_) => false,
        }
    }

    /// Until it is answered, its time is over, or its server hangs while another
    /// one could take it.
    async fn attempt<T>(
        &self,
        place: Where,
        server: usize,
        channel: Channel,
        calling: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Response<T>, Failure> {
        let hangs = async {
            match place {
                Where::AtFirst(_) => self.network.hangs(server, channel).await,
                place if self.may_be_elsewhere(place) => self.network.hangs(server, channel).await,
                _ => std::future::pending().await,
            }
        };
        let response = tokio::select! {
            biased;
            // tonic keeps the deadline until an answer begins, no longer.
            answered = timeout(self.left_for_unary(), calling) => match answered {
                Ok(answer) => answer?,
                Err(_) => return Err(CallError::broken(&TimeoutExpired(())).into()),
            },
            failure = hangs => return Err(failure),
        };
        lock(&self.network.servers).worked(server);
        lock(&self.throttle).succeeded();
        Ok(response)
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
    pub(super) fn eject(&self, server: usize, failure: &Failure) {
        self.network.set_unary(server, None);
        self.network.eject(server, failure);
    }

    async fn unary_channel(&self, place: Where) -> Result<(usize, Channel), Failure> {
        let existing = |server: usize| self.network.unary(server);
        let (server, channel) = match place {
            Where::Anywhere => self.network.connect_to_next(existing).await?,
            Where::At(server) => self.network.connect_to_state_of(server, existing).await?,
            Where::AtFirst(server) => match existing(server) {
                Some(channel) => (server, channel),
                None => (server, self.network.connect_to(server, "client").await?),
            },
        };
        self.network.set_unary(server, Some(channel.clone()));
        Ok((server, channel))
    }
}

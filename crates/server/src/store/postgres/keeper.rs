//! Keeps this server among the living, finds out who is not, and carries the word
//! that a stream has more from server to server.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use domain::peers::Living;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_postgres::Row;

use super::{
    Shared,
    connect::{Failed, Link},
    number, text_of,
};
use crate::listed::Listed;

/// How often a server says that it is alive, and looks at the streams that somebody
/// waits for.
const BEAT: Duration = Duration::from_millis(500);
/// After so long without a beat a server may be declared dead.
pub(super) const LEASE: Duration = Duration::from_secs(3);
/// In bytes: PostgreSQL carries no more in a notification.
const LONGEST_NEWS: usize = 7000;

pub(super) struct Keeper {
    shared: Arc<Shared>,
    link: Option<Link>,
    /// Since when each beat has come through.
    since: Instant,
    alone: bool,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, link: None, since: Instant::now(), alone: false }
    }

    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let kept = tokio::select! {
                _ = beats.tick() => timeout(LEASE, self.beat()).await,
                () = shared.told.notified() => timeout(LEASE, self.tell()).await,
            };
            match kept.unwrap_or(Err(Failed::Silent)) {
                Ok(()) => {}
                Err(failed) => {
                    tracing::warn!("this server cannot say that it is alive: {failed}");
                    self.link = None;
                }
            }
        }
    }

    async fn link(&mut self) -> Result<&Link, Failed> {
        if self.link.as_ref().is_none_or(|link| link.client.is_closed()) {
            let shared = self.shared.clone();
            // A beat waits for no standby.
            let link = self.shared.address.connect("SET synchronous_commit = off", move |news| {
                if let Some((last, stream)) = news.payload().split_once(' ')
                    && let Ok(last) = last.parse()
                {
                    shared.heard(stream, last);
                }
            });
            let link = link.await?;
            link.client.batch_execute("LISTEN fourmodes").await?;
            self.since = Instant::now();
            self.link = Some(link);
        }
        self.link.as_ref().ok_or(Failed::Silent)
    }

    async fn beat(&mut self) -> Result<(), Failed> {
        let shared = self.shared.clone();
        let link = self.link().await?;
        let (url, calls, draining) = match shared.own.listed() {
            Some(own) => (Some(own.url), i64::try_from(own.open_calls).unwrap_or(i64::MAX), own.draining),
            None => (None, 0, false),
        };
        let lease = LEASE.as_secs_f64();
        link.client.execute(LIVE, &[&shared.server, &lease, &url, &calls, &draining]).await?;
        shared.heartbeats.inc();
        let rows = link.client.query(LIVING, &[]).await?;
        let living = living(&rows);
        if !living.servers.contains(&shared.server.unsigned_abs()) {
            shared.dead.cancel();
        }
        let others = others(&rows, shared.server);
        shared.others.send_if_modified(|known| {
            // How many calls are open is no news.
            let differs = !known.iter().map(place).eq(others.iter().map(place));
            *known = others;
            differs
        });
        let alone = living.servers.len() < 2;
        let expired = rows.iter().any(|row| row.get::<_, Option<bool>>(1).unwrap_or_default());
        shared.living.send_if_modified(|known| {
            let differs = *known != living;
            known.clone_from(&living);
            differs
        });
        let watched: Vec<Vec<u8>> = {
            let watched = shared.watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.keys().map(|name| name.as_bytes().to_vec()).collect()
        };
        if !watched.is_empty() {
            let lasts = "SELECT name, last FROM stream WHERE name = ANY ($1)";
            for row in link.client.query(lasts, &[&watched]).await? {
                shared.heard(&text_of(&row, 0)?, number(&row, 1));
            }
        }
        self.alone = alone;
        // After a failure of the database the others need time to come back, too.
        if expired && self.since.elapsed() > LEASE {
            let link = self.link().await?;
            for row in link.client.query(BURY, &[]).await? {
                shared.buried.inc();
                tracing::warn!(
                    "server {} was not heard of for {LEASE:?}, and is declared dead",
                    number(&row, 0)
                );
            }
        }
        Ok(())
    }

    /// Tells the other servers which streams have more. In a transaction of its own:
    /// those that notify wait for each other.
    async fn tell(&mut self) -> Result<(), Failed> {
        let news = std::mem::take(&mut *self.shared.news.lock().unwrap_or_else(PoisonError::into_inner));
        if self.alone {
            return Ok(());
        }
        let news = payloads(news);
        let notify = "SELECT pg_notify('fourmodes', news) FROM unnest($1::text[]) AS news";
        self.link().await?.client.query(notify, &[&news]).await?;
        Ok(())
    }
}

/// A name that is too long for a notification, or has what no text may have, is found
/// by the next beat.
fn payloads(news: BTreeMap<String, u64>) -> Vec<String> {
    let fit = news.into_iter().filter(|(name, _)| name.len() < LONGEST_NEWS && !name.contains('\0'));
    fit.map(|(name, last)| format!("{last} {name}")).collect()
}

const LIVE: &str = "
    UPDATE lease
    SET expires = clock_timestamp() + make_interval(secs => $2), url = $3, calls = $4, draining = $5
    WHERE server = $1";

/// A server of each row, and whether its lease is over; the highest number of all; what the
/// server says of itself.
pub(super) const LIVING: &str = "
    SELECT id, expires < clock_timestamp(), known, url, calls, draining
    FROM (SELECT max(id) AS known FROM server) AS every
    LEFT JOIN (server JOIN lease ON server = id) ON alive
    ORDER BY id";

pub(super) fn living(rows: &[Row]) -> Living {
    let servers = rows.iter().filter(|row| row.get::<_, Option<i64>>(0).is_some());
    Living {
        servers: servers.map(|row| number(row, 0)).collect(),
        known: rows.first().map_or(0, |row| number(row, 2)),
    }
}

/// Those that clients can call.
fn others(rows: &[Row], own: i64) -> Vec<Listed> {
    let others = rows.iter().filter(|row| {
        row.get::<_, Option<i64>>(0) != Some(own) && row.get::<_, Option<bool>>(1) == Some(false)
    });
    let listed = others.filter_map(|row| {
        Some(Listed { url: row.get::<_, Option<_>>(3)?, open_calls: number(row, 4), draining: row.get(5) })
    });
    listed.collect()
}

fn place(server: &Listed) -> (&str, bool) {
    (&server.url, server.draining)
}

/// A server that is committing is not dead.
pub(super) const BURY: &str = "
    UPDATE server SET alive = false
    WHERE id IN (
        SELECT id FROM server JOIN lease ON server = id
        WHERE alive AND expires < clock_timestamp()
        FOR UPDATE OF server SKIP LOCKED
    )
    RETURNING id";

//! A store that several servers share: a database of PostgreSQL.
//!
//! Commits go by one [`lane`]. Reads have a connection of their own, and are of the
//! primary: each sees what was acknowledged before it. A [`keeper`] says that this
//! server is alive, and hears of what the others have appended.

mod connect;
mod keeper;
mod lane;
mod schema;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use domain::{
    peers::{Living, Peers},
    store::{Answer, Extent, READ_BYTES, Record, Store, StoreError, Watched, Write, Written, follow, kind},
};
use stack::prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{
    sync::{Mutex as Turn, Notify, mpsc, oneshot, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_postgres::{Row, Statement, types::ToSql};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

pub(super) use self::schema::OpenError;
use self::{
    connect::{Address, Failed, Link},
    keeper::{Keeper, LIVING},
    lane::{GROUP_TIME, Job, Lane},
};
use crate::listed::{Listed, Own};

/// Before the next attempt of a read.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Postgres {
    shared: Arc<Shared>,
    identity: String,
    /// `None` when the store was closed.
    jobs: Mutex<Option<mpsc::UnboundedSender<Job>>>,
}

struct Shared {
    address: Address,
    /// The number of this server, of this start of it.
    server: i64,
    reader: Turn<Option<Arc<Reader>>>,
    watched: Mutex<Watched>,
    /// What the other servers do not know yet.
    news: Mutex<BTreeMap<String, u64>>,
    told: Notify,
    works: watch::Sender<bool>,
    heartbeats: Counter,
    /// Servers that this one has declared dead.
    buried: Counter,
    living: watch::Sender<Living>,
    /// This server and the others, as clients learn of them.
    own: Arc<Own>,
    others: watch::Sender<Vec<Listed>>,
    /// Cancelled when another server has declared this one dead.
    dead: CancellationToken,
    /// Cancelled when the lane has ended.
    gone: CancellationToken,
}

struct Reader {
    link: Link,
    statements: Vec<Statement>,
}

/// As [`READS`] has them.
#[derive(Clone, Copy)]
enum Of {
    Records,
    Extent,
    Streams,
    Value,
    Keys,
}

const READS: [&str; 5] = [
    // In one statement: between two of them records could go.
    "SELECT stream.first, forgotten.last, record.sequence, record.bytes
        FROM (SELECT 1) AS one
        LEFT JOIN stream ON stream.name = $1
        LEFT JOIN forgotten ON forgotten.kind = $2
        LEFT JOIN LATERAL (
            SELECT sequence, bytes, sum(octet_length(bytes)) OVER (ORDER BY sequence) AS total
            FROM (
                SELECT sequence, bytes FROM record
                WHERE record.stream = stream.number AND sequence >= $3 ORDER BY sequence LIMIT $4
            ) AS page
        ) AS record ON record.total <= $5 OR record.sequence = $3
        ORDER BY record.sequence",
    "SELECT stream.first, stream.last, stream.bytes, forgotten.last
        FROM (SELECT 1) AS one
        LEFT JOIN stream ON stream.name = $1
        LEFT JOIN forgotten ON forgotten.kind = $2",
    "SELECT name, first, last, bytes FROM stream
        WHERE name >= $1 AND name < $2 AND name > $3 ORDER BY name LIMIT $4",
    "SELECT value FROM key WHERE name = $1",
    "SELECT name, value FROM key WHERE name >= $1 AND name < $2 AND name > $3 ORDER BY name LIMIT $4",
];

type Param = Box<dyn ToSql + Sync + Send>;

impl Postgres {
    /// Makes the tables unless they are there, and becomes one of the servers.
    pub(super) async fn open(url: &str, own: Arc<Own>) -> Result<Self, OpenError> {
        let address = Address::parse(url)?;
        let link = schema::prepare(&address).await?;
        let server = schema::register(&link).await?;
        let identity = link.client.query_one("SELECT identity::text FROM meta", &[]).await;
        let identity = identity.map_err(Failed::Database)?.get(0);
        let living = keeper::living(&link.client.query(LIVING, &[]).await.map_err(Failed::Database)?);
        let shared = Arc::new(Shared {
            address,
            server,
            reader: Turn::default(),
            watched: Mutex::default(),
            news: Mutex::default(),
            told: Notify::new(),
            works: watch::Sender::new(true),
            heartbeats: Counter::default(),
            buried: Counter::default(),
            living: watch::Sender::new(living),
            own,
            others: watch::Sender::default(),
            dead: CancellationToken::new(),
            gone: CancellationToken::new(),
        });
        let (jobs, queue) = mpsc::unbounded_channel();
        tokio::spawn(Lane::new(shared.clone()).run(queue));
        let keeper = Keeper::new(shared.clone()).run();
        tokio::spawn(shared.gone.clone().run_until_cancelled_owned(keeper));
        Ok(Self { shared, identity, jobs: Mutex::new(Some(jobs)) })
    }

    /// The same for all servers that share it.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// The servers that share it.
    pub(super) fn peers(&self) -> Peers {
        Peers::sharing(self.shared.server.unsigned_abs(), self.shared.living.subscribe())
    }

    pub(super) fn measure(&self, metrics: &mut Registry) {
        let Shared { heartbeats, buried, .. } = &*self.shared;
        metrics.register("store_heartbeats", "Renewals of this server's lease", heartbeats.clone());
        metrics.register("store_declared_dead", "Servers that this one declared dead", buried.clone());
    }

    /// The others that share it, as clients learn of them.
    pub(super) fn others(&self) -> watch::Receiver<Vec<Listed>> {
        self.shared.others.subscribe()
    }

    /// Whether commits can be made, and from then on.
    pub(super) fn works(&self) -> watch::Receiver<bool> {
        self.shared.works.subscribe()
    }

    /// Cancelled when another server has declared this one dead.
    pub(super) fn dead(&self) -> CancellationToken {
        self.shared.dead.clone()
    }

    /// Makes what was asked for before, and tells the other servers that this one has
    /// gone.
    pub(super) async fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.gone.cancelled().await;
    }

    fn read_with<T: Send + 'static>(
        &self,
        of: Of,
        params: Vec<Param>,
        answer: impl FnOnce(Vec<Row>) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<T> {
        let shared = self.shared.clone();
        Box::pin(async move {
            // The connection waits until an answer is taken, and all other reads with it: a task
            // takes it, also for a caller that waits for its peer.
            let read = tokio::spawn(async move { shared.read(of, &params).await });
            let read = AbortOnDropHandle::new(read).await;
            let rows = read.map_err(|ended| StoreError::Broken(ended.to_string()))?.map_err(|failed| {
                tracing::error!("a read failed: {failed}");
                StoreError::from(failed)
            })?;
            answer(rows)
        })
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("server", &self.shared.server).finish_non_exhaustive()
    }
}

impl Shared {
    async fn read(&self, of: Of, params: &[Param]) -> Result<Vec<Row>, Failed> {
        let deadline = Instant::now() + GROUP_TIME;
        let params: Vec<_> = params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect();
        loop {
            let attempt = async {
                let reader = self.reader().await?;
                let read = reader.link.client.query(&reader.statements[of as usize], &params).await;
                Ok(read?)
            };
            let failed = match timeout_at(deadline, attempt).await {
                Ok(Ok(rows)) => return Ok(rows),
                Ok(Err(failed)) => failed,
                Err(_) => Failed::Silent,
            };
            // Also when it is silent: then the next read has another connection.
            *self.reader.lock().await = None;
            if Instant::now() >= deadline || !failed.may_pass() {
                return Err(failed);
            }
            sleep(PAUSE).await;
        }
    }

    async fn reader(&self) -> Result<Arc<Reader>, Failed> {
        let mut reader = self.reader.lock().await;
        if let Some(reader) = reader.as_ref().filter(|reader| !reader.link.client.is_closed()) {
            return Ok(reader.clone());
        }
        let link = self.address.connect("SET default_transaction_read_only = on", |_| ()).await?;
        let mut statements = Vec::with_capacity(READS.len());
        for read in READS {
            statements.push(link.client.prepare(read).await?);
        }
        Ok(reader.insert(Arc::new(Reader { link, statements })).clone())
    }

    fn works(&self, works: bool) {
        self.works.send_if_modified(|known| std::mem::replace(known, works) != works);
    }

    /// Wakes who waits here, and has the other servers woken.
    fn wake(&self, appended: BTreeMap<String, u64>) {
        if appended.is_empty() {
            return;
        }
        for (stream, last) in &appended {
            self.heard(stream, *last);
        }
        self.news.lock().unwrap_or_else(PoisonError::into_inner).extend(appended);
        self.told.notify_one();
    }

    fn heard(&self, stream: &str, last: u64) {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = watched.get(stream) {
            watched.send_if_modified(|known| std::mem::replace(known, last.max(*known)) < last);
        }
    }
}

impl Store for Postgres {
    fn commit(&self, writes: Vec<Write>) -> Answer<Vec<Written>> {
        let (answer, done) = oneshot::channel();
        // Sent now and not when the answer is awaited: the order is that of the calls.
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = jobs.as_ref().is_some_and(|jobs| jobs.send(Job { writes, answer }).is_ok());
        Box::pin(async move {
            let gone = || StoreError::Broken("it is closed".to_owned());
            if !sent {
                return Err(gone());
            }
            done.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn read(&self, stream: &str, from: u64, most: usize) -> Answer<Vec<Record>> {
        let params: Vec<Param> =
            vec![name(stream), name(kind(stream)), int(from), int(most as u64), int(READ_BYTES as u64)];
        self.read_with(Of::Records, params, move |rows| {
            let mut records = Vec::with_capacity(rows.len());
            for row in rows {
                let first = row.get::<_, Option<i64>>(0).is_some().then(|| number(&row, 0));
                let extent = Extent { first: first.unwrap_or(number(&row, 1) + 1), last: 0, bytes: 0 };
                extent.reaches(from)?;
                if row.get::<_, Option<i64>>(2).is_some() {
                    records.push(Record { sequence: number(&row, 2), bytes: bytes_of(&row, 3) });
                }
            }
            Ok(records)
        })
    }

    fn extent(&self, stream: &str) -> Answer<Extent> {
        self.read_with(Of::Extent, vec![name(stream), name(kind(stream))], |rows| {
            let Some(row) = rows.first() else { return Ok(Extent::empty_after(0)) };
            Ok(match row.get::<_, Option<i64>>(0) {
                Some(_) => Extent { first: number(row, 0), last: number(row, 1), bytes: number(row, 2) },
                None => Extent::empty_after(number(row, 3)),
            })
        })
    }

    fn streams(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Extent)>> {
        self.read_with(Of::Streams, listing(prefix, after, most), |rows| {
            let listed = rows.iter().map(|row| {
                let extent = Extent { first: number(row, 1), last: number(row, 2), bytes: number(row, 3) };
                Ok((text_of(row, 0)?, extent))
            });
            listed.collect()
        })
    }

    fn watch(&self, stream: &str) -> watch::Receiver<u64> {
        follow(&mut self.shared.watched.lock().unwrap_or_else(PoisonError::into_inner), stream)
    }

    fn get(&self, key: &str) -> Answer<Option<Bytes>> {
        self.read_with(Of::Value, vec![name(key)], |rows| Ok(rows.first().map(|row| bytes_of(row, 0))))
    }

    fn list(&self, prefix: &str, after: &str, most: usize) -> Answer<Vec<(String, Bytes)>> {
        self.read_with(Of::Keys, listing(prefix, after, most), |rows| {
            rows.iter().map(|row| Ok((text_of(row, 0)?, bytes_of(row, 1)))).collect()
        })
    }
}

fn listing(prefix: &str, after: &str, most: usize) -> Vec<Param> {
    // No character begins with this byte.
    let mut end = [prefix.as_bytes(), &[0xff]].concat();
    if let Some((last, _)) = prefix.as_bytes().split_last() {
        end.truncate(prefix.len());
        end[prefix.len() - 1] = last + 1;
    }
    vec![name(prefix), Box::new(end), name(after), int(most as u64)]
}

fn name(name: &str) -> Param {
    Box::new(name.as_bytes().to_vec())
}

fn int(number: u64) -> Param {
    Box::new(i64::try_from(number).unwrap_or(i64::MAX))
}

/// 0 where there is none.
fn number(row: &Row, column: usize) -> u64 {
    let number = row.get::<_, Option<i64>>(column).unwrap_or_default();
    number.try_into().unwrap_or_default()
}

fn bytes_of(row: &Row, column: usize) -> Bytes {
    Bytes::copy_from_slice(row.get(column))
}

fn text_of(row: &Row, column: usize) -> Result<String, StoreError> {
    String::from_utf8(row.get(column)).map_err(|error| StoreError::Damaged(format!("a name: {error}")))
}

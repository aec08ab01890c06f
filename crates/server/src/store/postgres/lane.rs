//! The one lane on which a server commits: groups of commits, one after the other,
//! each a transaction in two flights of statements.
//!
//! The first flight has the fence, locks every name that the group is about, and
//! reads its rows. The second one writes what became of them. No more than two round
//! trips pass while the locks are held.
//!
//! When the end of a transaction is not known, the lane connects anew. That raises
//! the epoch of this server, so what comes late on the old connection meets the
//! fence, and the count of groups tells whether the last one was made.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use domain::store::{Extent, Id, StoreError, Write, Written};
use tokio::{
    join,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_postgres::{Error, Row, Statement, types::ToSql};

use super::{
    super::rows::{Needs, Rows, Stream},
    Shared, bytes_of,
    connect::{Failed, Link},
    number,
    schema::LOCKS,
    text_of,
};

/// Commits of a group, at most.
const GROUP: usize = 4096;
/// In bytes, unless a single commit has more.
const GROUP_BYTES: usize = 8 << 20;
/// Until a group has its answer.
pub(super) const GROUP_TIME: Duration = Duration::from_secs(5);
/// Before the next attempt to connect.
const PAUSE: Duration = Duration::from_millis(100);
/// While nothing can be committed, before the next attempt.
const PROBE: Duration = Duration::from_secs(1);
/// Locks that the names share, so that no group needs more of them than PostgreSQL has.
const BUCKETS: u32 = 1024;
/// Numbers for streams, taken at a time.
const NUMBERS: u64 = 1024;

pub(super) struct Job {
    pub(super) writes: Vec<Write>,
    pub(super) answer: oneshot::Sender<Result<Vec<Written>, StoreError>>,
}

type Results = Vec<Result<Vec<Written>, StoreError>>;

pub(super) struct Lane {
    shared: Arc<Shared>,
    session: Option<Session>,
    /// The groups that were made, by the count of the database.
    groups: i64,
    /// A group whose end is not known yet, and its count.
    doubt: Option<(i64, Group)>,
    /// Why nothing could be committed the last time.
    broken: Option<StoreError>,
}

struct Group {
    results: Results,
    appended: BTreeMap<String, u64>,
}

struct Session {
    link: Link,
    statements: Vec<Statement>,
    epoch: i64,
    numbers: std::ops::Range<u64>,
}

/// As [`STATEMENTS`] has them.
#[derive(Clone, Copy)]
enum Of {
    Fence,
    Lock,
    Streams,
    Forgotten,
    Keys,
    Ids,
    Trims,
    Remove,
    Drop,
    Unset,
    SaveStreams,
    SaveForgotten,
    SaveKeys,
    Add,
}

const STATEMENTS: [&str; 14] = [
    "UPDATE server SET grp = grp + 1 WHERE id = $1 AND epoch = $2 AND alive",
    "SELECT count(pg_advisory_xact_lock($1, bucket)) FROM unnest($2::integer[]) AS bucket",
    "SELECT name, number, first, last, bytes FROM stream WHERE name = ANY ($1)",
    "SELECT kind, last FROM forgotten WHERE kind = ANY ($1)",
    "SELECT name, value FROM key WHERE name = ANY ($1)",
    // A limit or an offset makes each lookup a query of its own, which has all of its key. A
    // join that was planned while the table was empty may read a whole stream for each id.
    "SELECT stream.number, record.id, record.sequence
        FROM unnest($1::bytea[], $2::bytea[]) AS wanted (name, id)
        CROSS JOIN LATERAL (SELECT number FROM stream WHERE name = wanted.name LIMIT 1) AS stream
        CROSS JOIN LATERAL (
            SELECT id, sequence FROM record WHERE stream = stream.number AND id = wanted.id LIMIT 1
        ) AS record",
    "SELECT stream.number, record.sequence, record.id, octet_length(record.bytes)::bigint
        FROM unnest($1::bytea[], $2::bigint[]) AS wanted (name, before)
        CROSS JOIN LATERAL (SELECT number FROM stream WHERE name = wanted.name LIMIT 1) AS stream
        CROSS JOIN LATERAL (
            SELECT sequence, id, bytes FROM record
            WHERE stream = stream.number AND sequence < wanted.before OFFSET 0
        ) AS record",
    "DELETE FROM record USING unnest($1::bigint[], $2::bigint[]) AS old (stream, before)
        WHERE record.stream = old.stream AND record.sequence < old.before",
    "DELETE FROM stream WHERE number = ANY ($1)",
    "DELETE FROM key WHERE name = ANY ($1)",
    "INSERT INTO stream SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[])
        ON CONFLICT (number) DO UPDATE SET first = excluded.first, last = excluded.last, bytes = excluded.bytes",
    "INSERT INTO forgotten SELECT * FROM unnest($1::bytea[], $2::bigint[])
        ON CONFLICT (kind) DO UPDATE SET last = greatest(forgotten.last, excluded.last)",
    "INSERT INTO key SELECT * FROM unnest($1::bytea[], $2::bytea[])
        ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    "INSERT INTO record SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[])",
];

impl Lane {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, session: None, groups: 0, doubt: None, broken: None }
    }

    /// Makes commits until nobody has the store any more.
    pub(super) async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        loop {
            if let Some(broken) = self.broken.clone() {
                // Later commits must not be made before the one that failed is asked for again, so
                // those that wait fail, and those of callers that have not heard of it yet.
                let refused = async {
                    while let Some(job) = jobs.recv().await {
                        let _ = job.answer.send(Err(broken.clone()));
                    }
                };
                if timeout(PROBE, refused).await.is_ok() {
                    break;
                }
                // Somebody has to find out that it works again.
                self.make(&[]).await;
                continue;
            }
            let Some(first) = jobs.recv().await else { break };
            let mut bytes = 0;
            let mut group = vec![first];
            while let Some(last) = group.last().filter(|_| group.len() < GROUP) {
                bytes += size(&last.writes);
                if bytes > GROUP_BYTES {
                    break;
                }
                let Ok(next) = jobs.try_recv() else { break };
                group.push(next);
            }
            let (writes, answers): (Vec<_>, Vec<_>) =
                group.into_iter().map(|job| (job.writes, job.answer)).unzip();
            for (answer, result) in answers.into_iter().zip(self.make(&writes).await) {
                // Nobody waits any more for some of them; they are made all the same.
                let _ = answer.send(result);
            }
        }
        self.leave().await;
    }

    async fn make(&mut self, writes: &[Vec<Write>]) -> Results {
        self.doubt = None;
        let deadline = Instant::now() + GROUP_TIME;
        let mut last = None;
        loop {
            let failed = match timeout_at(deadline, self.attempt(writes)).await {
                Ok(Ok(Group { results, appended })) => {
                    self.broken = None;
                    self.shared.works(true);
                    self.shared.wake(appended);
                    return results;
                }
                Ok(Err(failed)) if failed.may_pass() => {
                    tracing::warn!("commits are tried again: {failed}");
                    self.session = None;
                    last = Some(failed);
                    sleep(PAUSE).await;
                    continue;
                }
                Ok(Err(failed)) => failed,
                Err(_) => last.unwrap_or(Failed::Silent),
            };
            self.session = None;
            tracing::error!("commits failed: {failed}");
            if matches!(failed, Failed::Dead) {
                self.shared.dead.cancel();
            }
            let error = StoreError::from(failed);
            if error != StoreError::Full {
                self.broken = Some(error.clone());
                self.shared.works(false);
            }
            return vec![Err(error); writes.len()];
        }
    }

    async fn attempt(&mut self, writes: &[Vec<Write>]) -> Result<Group, Failed> {
        if self.session.is_none() {
            let (session, groups) = Session::open(&self.shared).await?;
            (self.session, self.groups) = (Some(session), groups);
        }
        if let Some((count, group)) = self.doubt.take()
            && count == self.groups
        {
            return Ok(group);
        }
        let Some(session) = &mut self.session else { return Err(Failed::Silent) };
        let needs = Needs::of(writes);
        session.take_numbers(needs.appends).await?;
        let mut rows = session.load(self.shared.server, &needs).await?;
        let results = writes.iter().map(|writes| rows.commit(writes)).collect();
        session.numbers = rows.numbers.clone();
        let appended = std::mem::take(&mut rows.changed.appended);
        self.groups += 1;
        self.doubt = Some((self.groups, Group { results, appended }));
        session.save(&rows).await?;
        if session.link.was_warned() {
            return Err(Failed::Warned);
        }
        self.doubt.take().map(|(_, group)| group).ok_or(Failed::Silent)
    }

    /// The others need not wait for the end of the lease.
    async fn leave(mut self) {
        let left = async {
            if self.session.is_none() {
                self.session = Some(Session::open(&self.shared).await?.0);
            }
            let Some(session) = &self.session else { return Ok(()) };
            let leave = "UPDATE server SET alive = false WHERE id = $1";
            session.link.client.execute(leave, &[&self.shared.server]).await?;
            Ok::<_, Failed>(())
        };
        if let Ok(Err(error)) = timeout(Duration::from_secs(1), left).await {
            tracing::warn!("the other servers learn late that this one has gone: {error}");
        }
        self.shared.gone.cancel();
    }
}

fn size(writes: &[Write]) -> usize {
    let sizes = writes.iter().map(|write| match write {
        Write::Append { record: value, .. } | Write::Put { value, .. } => value.len(),
        Write::Trim { .. } | Write::Forget { .. } | Write::Delete { .. } => 0,
    });
    sizes.sum()
}

impl Session {
    /// With the count of groups that were made. What is on its way on an earlier
    /// connection is waited for, or is not made any more.
    async fn open(shared: &Shared) -> Result<(Self, i64), Failed> {
        let settings = "SET synchronous_commit = on; SET idle_in_transaction_session_timeout = '1s'";
        let link = shared.address.connect(settings, |_| ()).await?;
        let mut statements = Vec::with_capacity(STATEMENTS.len());
        for statement in STATEMENTS {
            statements.push(link.client.prepare(statement).await?);
        }
        let next = "UPDATE server SET epoch = epoch + 1 WHERE id = $1 AND alive RETURNING epoch, grp";
        let row = link.client.query_opt(next, &[&shared.server]).await?.ok_or(Failed::Dead)?;
        if link.was_warned() {
            return Err(Failed::Warned);
        }
        Ok((Self { link, statements, epoch: row.get(0), numbers: 0..0 }, row.get(1)))
    }

    async fn query(&self, of: Of, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        self.link.client.query(&self.statements[of as usize], params).await
    }

    /// [`query`](Self::query) with a list that is not empty.
    async fn about<T>(&self, of: Of, list: &[T], params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        if list.is_empty() { Ok(Vec::new()) } else { self.query(of, params).await }
    }

    async fn take_numbers(&mut self, wanted: u64) -> Result<(), Error> {
        if self.numbers.end - self.numbers.start >= wanted {
            return Ok(());
        }
        let more = wanted.max(NUMBERS);
        let take = "UPDATE meta SET streams = streams + $1 RETURNING streams";
        let taken = number(&self.link.client.query_one(take, &[&signed(more)]).await?, 0);
        self.numbers = taken - more..taken;
        Ok(())
    }

    /// The first flight.
    async fn load(&self, server: i64, needs: &Needs<'_>) -> Result<Rows, Failed> {
        let buckets: BTreeSet<i32> =
            needs.streams.iter().chain(&needs.keys).map(|name| bucket(name)).collect();
        let buckets: Vec<i32> = buckets.into_iter().collect();
        let list = |names: &BTreeSet<&'_ str>| -> Vec<Vec<u8>> {
            names.iter().map(|name| name.as_bytes().to_vec()).collect()
        };
        let (streams, kinds, keys) = (list(&needs.streams), list(&needs.kinds()), list(&needs.keys));
        let (of_ids, ids): (Vec<&[u8]>, Vec<&[u8]>) =
            needs.ids.iter().map(|(name, id)| (name.as_bytes(), &id[..])).unzip();
        let (of_trims, trims): (Vec<&[u8]>, Vec<i64>) =
            needs.trims.iter().map(|(name, before)| (name.as_bytes(), signed(*before))).unzip();
        let (begun, fence, locked, streams, kinds, keys, ids, trims) = join!(
            biased;
            async { self.link.client.batch_execute("BEGIN").await },
            async { self.link.client.execute(&self.statements[Of::Fence as usize], &[&server, &self.epoch]).await },
            async { self.about(Of::Lock, &buckets, &[&LOCKS, &buckets]).await },
            async { self.about(Of::Streams, &streams, &[&streams]).await },
            async { self.about(Of::Forgotten, &kinds, &[&kinds]).await },
            async { self.about(Of::Keys, &keys, &[&keys]).await },
            async { self.about(Of::Ids, &ids, &[&of_ids, &ids]).await },
            async { self.about(Of::Trims, &trims, &[&of_trims, &trims]).await },
        );
        begun?;
        if fence? == 0 {
            return Err(Failed::Dead);
        }
        locked?;
        let mut rows = Rows { numbers: self.numbers.clone(), ..Rows::default() };
        for row in streams? {
            let extent = Extent { first: number(&row, 2), last: number(&row, 3), bytes: number(&row, 4) };
            rows.streams.insert(text_of(&row, 0)?, Stream { number: number(&row, 1), extent });
        }
        for row in kinds? {
            rows.forgotten.insert(text_of(&row, 0)?, number(&row, 1));
        }
        for row in keys? {
            rows.keys.insert(text_of(&row, 0)?, bytes_of(&row, 1));
        }
        for row in ids? {
            rows.ids.extend(id_of(&row, 1).map(|id| ((number(&row, 0), id), number(&row, 2))));
        }
        for row in trims? {
            rows.records.insert((number(&row, 0), number(&row, 1)), (id_of(&row, 2), number(&row, 3)));
        }
        Ok(rows)
    }

    /// The second flight. What is removed goes before what may take its place.
    async fn save(&self, rows: &Rows) -> Result<(), Error> {
        let changed = &rows.changed;
        let mut removed = BTreeMap::new();
        for ((stream, sequence), _) in &changed.removed {
            let before = removed.entry(signed(*stream)).or_default();
            *before = signed(sequence + 1).max(*before);
        }
        let (of_removed, removed): (Vec<i64>, Vec<i64>) = removed.into_iter().unzip();
        let gone: Vec<i64> = changed.gone.iter().copied().map(signed).collect();
        let unset: Vec<&[u8]> = changed
            .keys
            .iter()
            .filter(|name| !rows.keys.contains_key(*name))
            .map(|name| name.as_bytes())
            .collect();
        let streams: Vec<(&str, &Stream)> = changed
            .streams
            .iter()
            .filter_map(|name| Some((name.as_str(), rows.streams.get(name)?)))
            .collect();
        let names: Vec<&[u8]> = streams.iter().map(|(name, _)| name.as_bytes()).collect();
        let each = |of: fn(&Stream) -> u64| streams.iter().map(|(_, stream)| signed(of(stream))).collect();
        let (numbers, firsts, lasts, bytes): (Vec<i64>, Vec<i64>, Vec<i64>, Vec<i64>) = (
            each(|stream| stream.number),
            each(|stream| stream.extent.first),
            each(|stream| stream.extent.last),
            each(|stream| stream.extent.bytes),
        );
        let (kinds, forgotten): (Vec<&[u8]>, Vec<i64>) = changed
            .kinds
            .iter()
            .filter_map(|kind| Some((kind.as_bytes(), signed(*rows.forgotten.get(kind)?))))
            .unzip();
        let (keys, values): (Vec<&[u8]>, Vec<&[u8]>) = changed
            .keys
            .iter()
            .filter_map(|name| Some((name.as_bytes(), rows.keys.get(name)?.as_ref())))
            .unzip();
        let (mut places, mut sequences) = (Vec::new(), Vec::new());
        let (mut ids, mut records) = (Vec::<Option<&[u8]>>::new(), Vec::<&[u8]>::new());
        for ((stream, sequence), (id, record)) in &changed.added {
            places.push(signed(*stream));
            sequences.push(signed(*sequence));
            ids.push(id.as_ref().map(|id| &id[..]));
            records.push(record);
        }
        let saved = join!(
            biased;
            async { self.about(Of::Remove, &removed, &[&of_removed, &removed]).await },
            async { self.about(Of::Drop, &gone, &[&gone]).await },
            async { self.about(Of::Unset, &unset, &[&unset]).await },
            async { self.about(Of::SaveStreams, &streams, &[&numbers, &names, &firsts, &lasts, &bytes]).await },
            async { self.about(Of::SaveForgotten, &kinds, &[&kinds, &forgotten]).await },
            async { self.about(Of::SaveKeys, &keys, &[&keys, &values]).await },
            async { self.about(Of::Add, &records, &[&places, &sequences, &ids, &records]).await },
            async { self.link.client.batch_execute("COMMIT").await },
        );
        let (removed, gone, unset, streams, kinds, keys, added, committed) = saved;
        for saved in [removed, gone, unset, streams, kinds, keys, added] {
            saved?;
        }
        committed
    }
}

/// Every server of every version has to give the same answer: by FNV-1a.
fn bucket(name: &str) -> i32 {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash % BUCKETS).cast_signed()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn id_of(row: &Row, column: usize) -> Option<Id> {
    row.get::<_, Option<&[u8]>>(column)?.try_into().ok()
}

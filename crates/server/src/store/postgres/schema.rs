//! The tables, and who uses them.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use super::{
    connect::{Address, AddressError, Failed, Link, SCHEMA},
    keeper::LEASE,
};

/// Of the tables.
const FORMAT: i32 = 1;
/// In the numbers of PostgreSQL.
const OLDEST: i32 = 150_000;
/// The first of the two numbers of every advisory lock.
pub(super) const LOCKS: i32 = 0x464d;

/// Names are bytes: they are in the order of their bytes, whatever the locale of the
/// database. Rows that change often leave room on their pages for their next version.
const TABLES: &str = "
    CREATE TABLE meta (
        format integer NOT NULL,
        -- By which clients know that servers have the same state.
        identity uuid NOT NULL DEFAULT gen_random_uuid(),
        -- So many numbers of streams were given away.
        streams bigint NOT NULL DEFAULT 0
    );
    CREATE TABLE server (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        -- Counts the connections that may commit. An older one may not.
        epoch bigint NOT NULL DEFAULT 0,
        -- Counts the groups of commits.
        grp bigint NOT NULL DEFAULT 0,
        alive boolean NOT NULL DEFAULT true
    ) WITH (fillfactor = 50);
    -- Apart from its server: whoever says it is alive must not wait for a commit.
    CREATE TABLE lease (
        server bigint PRIMARY KEY,
        expires timestamptz NOT NULL
    ) WITH (fillfactor = 50);
    CREATE TABLE stream (
        number bigint PRIMARY KEY,
        name bytea NOT NULL UNIQUE,
        first bigint NOT NULL,
        last bigint NOT NULL,
        bytes bigint NOT NULL
    ) WITH (fillfactor = 50);
    CREATE TABLE record (
        stream bigint NOT NULL,
        sequence bigint NOT NULL,
        id bytea,
        bytes bytea NOT NULL,
        PRIMARY KEY (stream, sequence)
    );
    CREATE UNIQUE INDEX record_id ON record (stream, id) WHERE id IS NOT NULL;
    CREATE TABLE forgotten (kind bytea PRIMARY KEY, last bigint NOT NULL);
    CREATE TABLE key (name bytea PRIMARY KEY, value bytea NOT NULL) WITH (fillfactor = 70);
";

/// What servers say of themselves came later, and an older version does without.
const SAYINGS: &str = "
    ALTER TABLE lease
        ADD COLUMN url text,
        ADD COLUMN calls bigint NOT NULL DEFAULT 0,
        ADD COLUMN draining boolean NOT NULL DEFAULT false;
";

#[derive(Debug, thiserror::Error)]
pub(in super::super) enum OpenError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("PostgreSQL cannot be used: {0}; see --store")]
    Unreachable(Failed),
    #[error(
        "PostgreSQL is not trusted: {0}; set SSL_CERT_FILE to the file of its CA, or add ?sslmode=disable to --store"
    )]
    Untrusted(Failed),
    #[error("PostgreSQL {0} is too old; the server needs version 15 or later")]
    TooOld(String),
    #[error("PostgreSQL refuses: {0}; the user in --store needs this: GRANT CREATE ON DATABASE … TO …")]
    NoRight(Failed),
    #[error("the tables in PostgreSQL have format {0}, and this version of the server knows only {FORMAT}")]
    Newer(i32),
}

impl From<Failed> for OpenError {
    fn from(failed: Failed) -> Self {
        match failed.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::NoRight(failed),
            None if failed.is_distrust() => Self::Untrusted(failed),
            _ => Self::Unreachable(failed),
        }
    }
}

/// A server that starts waits so long for a database that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes the tables, unless they are there.
pub(super) async fn prepare(address: &Address) -> Result<Link, OpenError> {
    let deadline = Instant::now() + PATIENCE;
    let link = loop {
        match address.connect("", |_| ()).await {
            Err(Failed::Silent) if Instant::now() < deadline => {
                tracing::warn!("PostgreSQL does not answer yet; trying again");
            }
            connected => break connected?,
        }
    };
    let made = async {
        let client = &link.client;
        let version = client.query_one("SHOW server_version", &[]).await?.get(0);
        let number = client.query_one("SELECT current_setting('server_version_num')::integer", &[]).await?;
        if number.get::<_, i32>(0) < OLDEST {
            return Ok(Some(OpenError::TooOld(version)));
        }
        // Whoever else does the same waits until the commit.
        client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCKS}, -1)")).await?;
        let there = |what: &'static str| async move {
            Ok::<_, tokio_postgres::Error>(client.query_one(what, &[&SCHEMA]).await?.get::<_, bool>(0))
        };
        if !there("SELECT to_regnamespace($1::text) IS NOT NULL").await? {
            client.batch_execute(&format!("CREATE SCHEMA {SCHEMA}")).await?;
        }
        if there("SELECT to_regclass($1::text || '.meta') IS NULL").await? {
            client.batch_execute(TABLES).await?;
            client.execute("INSERT INTO meta (format) VALUES ($1)", &[&FORMAT]).await?;
        }
        let format = client.query_one("SELECT format FROM meta", &[]).await?.get(0);
        if format == FORMAT
            && there(
                "SELECT NOT EXISTS (
                    SELECT FROM pg_attribute
                    WHERE attrelid = to_regclass($1::text || '.lease') AND attname = 'url'
                )",
            )
            .await?
        {
            client.batch_execute(SAYINGS).await?;
        }
        client.batch_execute("COMMIT").await?;
        Ok(Some(OpenError::Newer(format)).filter(|_| format != FORMAT))
    };
    match made.await {
        Ok(None) => Ok(link),
        Ok(Some(error)) => Err(error),
        Err(error) => Err(Failed::Database(error).into()),
    }
}

/// Takes a number that no server had before. Numbers are taken one after the other: who
/// sees one has seen those below it.
pub(super) async fn register(link: &Link) -> Result<i64, OpenError> {
    let registered = async {
        let client = &link.client;
        client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCKS}, -1)")).await?;
        let server = client.query_one("INSERT INTO server DEFAULT VALUES RETURNING id", &[]).await?.get(0);
        let lease = "INSERT INTO lease VALUES ($1, clock_timestamp() + make_interval(secs => $2))";
        client.execute(lease, &[&server, &LEASE.as_secs_f64()]).await?;
        client.batch_execute("COMMIT").await?;
        Ok(server)
    };
    registered.await.map_err(|error| Failed::Database(error).into())
}

//! Connections to the database.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use domain::store::StoreError;
use tokio::{task::JoinHandle, time::timeout};
use tokio_postgres::{
    AsyncMessage, Client, Config, Error, Notification, config::TargetSessionAttrs, error::SqlState,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// Where all tables are.
pub(super) const SCHEMA: &str = "fourmodes";
/// Until a connection is of use.
const CONNECT: Duration = Duration::from_secs(2);

/// How to reach the database.
#[derive(Clone)]
pub(super) struct Address {
    config: Config,
    tls: MakeRustlsConnect,
}

#[derive(Debug, thiserror::Error)]
pub(in super::super) enum AddressError {
    #[error("--store is not the address of a PostgreSQL database, such as postgres://user@host/name: {0}")]
    Unreadable(#[source] Error),
    #[error("TLS for --store cannot be set up: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

impl Address {
    pub(super) fn parse(url: &str) -> Result<Self, AddressError> {
        let mut config: Config = url.parse().map_err(AddressError::Unreadable)?;
        // A standby has nothing to offer: every read goes to the primary.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite).connect_timeout(CONNECT);
        config.tcp_user_timeout(2 * CONNECT).keepalives_idle(CONNECT).keepalives_interval(CONNECT);
        config.keepalives_retries(2);
        if config.get_application_name().is_none() {
            config.application_name("fourmodes-server");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config, tls: MakeRustlsConnect::new(tls) })
    }

    /// Connects, and sets the session up by `settings`. Hands on what is notified.
    pub(super) async fn connect(
        &self,
        settings: &str,
        notified: impl Fn(Notification) + Send + 'static,
    ) -> Result<Link, Failed> {
        let connected = async {
            let (client, mut connection) = self.config.connect(self.tls.clone()).await?;
            let warned = Arc::new(AtomicBool::new(false));
            let warning = warned.clone();
            // Ends with the client, or with an error that the client gets as well.
            let driver = tokio::spawn(async move {
                while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                    match message {
                        AsyncMessage::Notification(notification) => notified(notification),
                        AsyncMessage::Notice(notice) if notice.code() == &SqlState::WARNING => {
                            tracing::warn!("PostgreSQL warns: {notice}");
                            warning.store(true, Relaxed);
                        }
                        _ => {}
                    }
                }
            });
            let link = Link { client, driver, warned };
            // Lookups are by index, also in a table that was empty when it was analyzed. Then
            // a query without one looks so expensive that the JIT would compile it for a second.
            let search = format!(
                "SET search_path = {SCHEMA}; SET default_transaction_isolation = 'read committed'; \
                 SET jit = off; SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                 SET plan_cache_mode = force_generic_plan; {settings}"
            );
            link.client.batch_execute(&search).await?;
            Ok(link)
        };
        timeout(CONNECT, connected).await.unwrap_or(Err(Failed::Silent))
    }
}

/// A connection. Dropped, it is cut, whatever is under way.
pub(super) struct Link {
    pub(super) client: Client,
    driver: JoinHandle<()>,
    /// PostgreSQL gave up waiting for a standby: the commit is on the primary alone.
    warned: Arc<AtomicBool>,
}

impl Link {
    pub(super) fn was_warned(&self) -> bool {
        self.warned.load(Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum Failed {
    #[error("{}", said(.0))]
    Database(#[from] Error),
    #[error("PostgreSQL does not answer")]
    Silent,
    #[error("PostgreSQL gave up waiting for a standby")]
    Warned,
    #[error("another server has declared this one dead, since it was not heard of; start it again")]
    Dead,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failed {
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) => error.code(),
            _ => None,
        }
    }

    /// Whether TLS does not trust the certificate of the database.
    pub(super) fn is_distrust(&self) -> bool {
        let Self::Database(error) = self else { return false };
        let source =
            std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
        let reason = source.and_then(std::io::Error::get_ref).and_then(|reason| reason.downcast_ref());
        matches!(reason, Some(tokio_rustls::rustls::Error::InvalidCertificate(_)))
    }

    /// Whether it may work at the next attempt: with another connection, or another
    /// primary.
    pub(super) fn may_pass(&self) -> bool {
        const FULL: &SqlState = &SqlState::DISK_FULL;
        match self.code() {
            // The classes of lost connections, transactions that were cut, resources,
            // and a database that goes down or has become a standby.
            Some(code) => code != FULL && ["08", "25", "40", "53", "57"].contains(&&code.code()[..2]),
            None => !matches!(self, Self::Dead | Self::Store(_)),
        }
    }
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        if let Failed::Store(error) = failed {
            return error;
        }
        match failed.code() {
            Some(&SqlState::DISK_FULL) => Self::Full,
            Some(&(SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED)) => {
                Self::Damaged(failed.to_string())
            }
            _ => Self::Broken(failed.to_string()),
        }
    }
}

/// With what the database has to say, which the error itself leaves to its source.
fn said(error: &Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(said), _) => said.to_string(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

//! The entry point: builds a server and runs it.

use std::{io, sync::Arc};

use anyhow::{Context as _, ensure};
use prometheus_client::registry::Registry;
use prost_reflect::DescriptorPool;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{
    server::NamedService,
    service::RoutesBuilder,
    transport::server::{Connected, TcpIncoming},
};
use tonic_health::pb::health_server::{self, HealthServer};
use tonic_reflection::pb::{v1, v1alpha};

use crate::{
    accept::Guard,
    activity::Activity,
    bounds::Budget,
    health::Health,
    layers::{self, HttpService, Watcher},
    methods::{Access, Methods, Rule, Rules},
    metrics::Metrics,
    open_files,
    reflection::Reflection,
    scrape,
    serve::Served,
    settings::{Limits, Settings},
    tls::Tls,
    turns::Unanswered,
    workers::Workers,
};

/// The descriptors of the services that every stack has, and of error details.
const OWN: [&[u8]; 4] = [
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    v1::FILE_DESCRIPTOR_SET,
    v1alpha::FILE_DESCRIPTOR_SET,
    tonic_types::pb::FILE_DESCRIPTOR_SET,
];

/// The services that every stack has.
const OWN_SERVICES: [&str; 3] = [
    health_server::SERVICE_NAME,
    v1::server_reflection_server::SERVICE_NAME,
    v1alpha::server_reflection_server::SERVICE_NAME,
];

/// Maximum size of a health request, in bytes. Everyone may send one, and a watch keeps the name.
const HEALTH_REQUEST: u32 = 1 << 10;

/// A server under construction: add services, then serve.
pub struct Stack {
    settings: Settings,
    pool: DescriptorPool,
    rules: Rules,
    routes: RoutesBuilder,
    health: Health,
    /// The services that reflection shows.
    shown: Vec<&'static str>,
    tls: Option<Tls>,
    activity: Arc<Activity>,
    registry: Registry,
    metrics: Arc<Metrics>,
    /// The listener for metrics.
    scraped: Option<TcpListener>,
    draining: CancellationToken,
    alongside: JoinSet<()>,
    watcher: Option<Watcher>,
}

impl Stack {
    /// Reads the files, and opens the listener for metrics. The descriptor sets must cover all
    /// services that are added later: they give each method's mode, and reflection shows them.
    ///
    /// # Errors
    ///
    /// When a file, a descriptor set or a limit is invalid, or the metrics' address cannot be
    /// opened.
    pub async fn open(settings: Settings, descriptors: &[&'static [u8]]) -> anyhow::Result<Self> {
        ensure!(
            settings.limits.headers <= Limits::HEADERS,
            "headers may have at most {} bytes",
            Limits::HEADERS
        );
        open_files::provide(&settings);
        let tls = settings.tls.as_ref().map(Tls::load).transpose().context("TLS cannot be used")?;
        let mut pool = DescriptorPool::new();
        for descriptors in descriptors.iter().copied().chain(OWN) {
            pool.decode_file_descriptor_set(descriptors).context("the descriptors are damaged")?;
        }
        let mut rules = Rules::default();
        // A health watch is silent as long as all is well.
        let max_message = Some(HEALTH_REQUEST);
        let rule = Rule { access: Access::Everyone, quiet: true, max_message, ..Rule::default() };
        rules.add("/grpc.health.", rule);
        let access = if settings.open_reflection { Access::Everyone } else { Access::Token };
        rules.add("/grpc.reflection.", Rule { access, quiet: true, ..Rule::default() });
        let (mut registry, metrics) = (Registry::default(), Metrics::default());
        metrics.register(&mut registry, settings.name, &settings.limits);
        let health = Health::default();
        let own = registry.sub_registry_with_prefix(settings.name);
        own.register("serving", "1 while health is SERVING, else 0", health.gauge());
        if let Some(tls) = &tls {
            let help = "When the certificate for TLS expires, in seconds since 1970";
            own.register("certificate_expires_timestamp_seconds", help, tls.expires());
        }
        let scraped = match settings.metrics {
            Some(address) => {
                let listening = TcpListener::bind(address).await;
                let listener = listening.with_context(|| format!("metrics: cannot listen on {address}"))?;
                tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
                Some(listener)
            }
            None => None,
        };
        Ok(Self {
            settings,
            pool,
            rules,
            routes: RoutesBuilder::default(),
            health,
            shown: Vec::new(),
            tls,
            activity: Arc::default(),
            registry,
            metrics: Arc::new(metrics),
            scraped,
            draining: CancellationToken::new(),
            alongside: JoinSet::new(),
            watcher: None,
        })
    }

    /// Applies a rule to calls whose path begins with `prefix`, such as `/grpc.testing.`. The
    /// longest prefix wins, and a later rule replaces an earlier one for the same prefix.
    pub fn rule(&mut self, prefix: &str, rule: Rule) {
        self.rules.add(prefix, rule);
    }

    /// Adds a service. Health and reflection know it.
    pub fn add_service<S: HttpService + NamedService + Sync>(&mut self, service: S) {
        self.health.add(S::NAME);
        self.add_tool(service);
    }

    /// Adds an auxiliary service, such as one for measurements: reflection knows it, health does
    /// not.
    pub fn add_tool<S: HttpService + NamedService + Sync>(&mut self, service: S) {
        self.shown.push(S::NAME);
        self.add_hidden(service);
    }

    /// Adds a placeholder for a service that is not served: neither health nor reflection knows it.
    pub fn add_hidden<S: HttpService + NamedService + Sync>(&mut self, service: S) {
        self.routes.add_service(service);
    }

    /// The registry behind `/metrics`, for metrics of the services. The names of its metrics begin
    /// with [`Settings::name`].
    pub fn metrics(&mut self) -> &mut Registry {
        self.registry.sub_registry_with_prefix(self.settings.name)
    }

    /// Reports the health of something that the services need, such as a store.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Counts of calls and messages, by mode.
    pub fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }

    /// Cancelled when shutdown begins: for work that outlives its call. Cancelling it does not shut
    /// down the server.
    pub fn draining(&self) -> CancellationToken {
        self.draining.child_token()
    }

    /// Reports the traffic of calls to `watcher`, such as for a page that shows them.
    pub fn watch(&mut self, watcher: Watcher) {
        self.watcher = Some(watcher);
    }

    /// Starts work other than gRPC, such as another protocol on its own port. It must end by itself
    /// after [`draining`](Self::draining): shutdown waits for it as for an open call.
    pub fn alongside(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.alongside.spawn(work);
    }

    /// Serves on `listener`, with [`Settings::workers`] threads, until `shutdown` completes and
    /// every call has ended or the grace period is over.
    ///
    /// Dropping the future stops accepting. Calls that are open after the grace period live until
    /// the runtime is dropped.
    ///
    /// # Errors
    ///
    /// When the descriptor sets lack a service that was added, or the listener fails. An error on a
    /// connection ends only that connection.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
        let workers = self.settings.workers;
        if workers == 1 {
            return self.serve_connections(connections, shutdown).await;
        }
        let (served, life) = self.put_together()?;
        let connected = served.clone();
        let serve = move |connections| {
            let connected = connected.clone();
            async move {
                connected.serve(connections).await;
                Ok(())
            }
        };
        let workers = Workers::start(workers, serve).context("cannot start the workers")?;
        let serving = workers.serve(served.admit(connections), life.draining.clone());
        life.until(serving, shutdown).await
    }

    /// [`serve`](Self::serve), on connections of any kind, in this task's runtime.
    ///
    /// # Errors
    ///
    /// Those of [`serve`](Self::serve).
    pub async fn serve_connections<C>(
        self,
        connections: impl Stream<Item = io::Result<C>>,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()>
    where
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let (served, life) = self.put_together()?;
        let connections = served.admit(connections);
        let serving = async {
            served.serve(connections).await;
            Ok(())
        };
        life.until(serving, shutdown).await
    }

    fn put_together(self) -> anyhow::Result<(Served<impl HttpService>, Life)> {
        let Self {
            settings,
            pool,
            rules,
            mut routes,
            health,
            shown,
            tls,
            activity,
            registry,
            metrics,
            scraped,
            draining,
            alongside,
            watcher,
        } = self;
        for name in &shown {
            // Its calls would have no mode, and so neither a deadline nor a maximum
            // age.
            let known = pool.get_service_by_name(name);
            known.with_context(|| format!("the descriptor sets have no service {name}"))?;
        }
        routes.add_service(HealthServer::new(health.clone()));
        let listed = shown.into_iter().chain(OWN_SERVICES).collect();
        let reflection = Reflection::new(pool.clone(), listed);
        routes.add_service(reflection.v1());
        routes.add_service(reflection.v1alpha());
        let of_methods = scraped.is_some().then_some(&*metrics);
        let methods = Methods::new(&pool, rules, activity, of_methods);
        let routes = routes.routes().prepare();
        let service = layers::stack(&settings, methods, &metrics, watcher, draining.clone(), routes);
        let Limits { first_byte, handshake, idle, keepalive_timeout, .. } = settings.limits;
        let tls_acceptor = tls.as_ref().map(Tls::acceptor);
        let guard = Guard {
            first_byte,
            handshake,
            idle,
            keepalive_timeout,
            tls: tls_acceptor,
            metrics,
            unanswered: Unanswered::default(),
        };
        let scraped = scraped.map(|listener| Scraped { listener, registry, guard: guard.clone() });
        let limits = settings.limits;
        let served = Served {
            limits,
            guard,
            service,
            draining: draining.clone(),
            budget: Arc::new(Budget::new(limits.buffered)),
            farewell: limits.age,
        };
        Ok((served, Life { settings, health, tls, scraped, draining, alongside }))
    }
}

/// Work beside the calls, from the first connection to the last.
struct Life {
    settings: Settings,
    health: Health,
    tls: Option<Tls>,
    scraped: Option<Scraped>,
    draining: CancellationToken,
    alongside: JoinSet<()>,
}

struct Scraped {
    listener: TcpListener,
    registry: Registry,
    guard: Guard,
}

impl Life {
    async fn until(
        self,
        serving: impl Future<Output = anyhow::Result<()>>,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let Self { settings, health, tls, scraped, draining, mut alongside } = self;
        let serving = async {
            let served = serving.await;
            while alongside.join_next().await.is_some() {}
            served
        };
        let shutdown = async {
            shutdown.await;
            tracing::info!(grace = ?settings.grace, "shutting down: streams end, unary calls finish");
            // First, so that clients that watch the health learn of it before their
            // streams end.
            health.stop();
            draining.cancel();
            tokio::time::sleep(settings.grace).await;
        };
        let certificates = async {
            if let Some(tls) = tls {
                tls.follow_files().await;
            }
        };
        let tokens = async {
            if let Some(tokens) = settings.tokens.clone() {
                tokens.follow_file().await;
            }
        };
        let metrics = async {
            if let Some(Scraped { listener, registry, guard }) = scraped {
                scrape::answer(listener, registry, &guard).await;
            }
        };
        let beside = async { tokio::join!(certificates, tokens, metrics, std::future::pending()) };
        tokio::select! {
            ((), (), (), ()) = beside => Ok(()),
            served = serving => {
                tracing::info!("stopped: every call has ended");
                served
            }
            () = shutdown => {
                tracing::warn!("the grace period is over: cutting open calls");
                Ok(())
            }
        }
    }
}

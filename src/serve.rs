//! From a configuration to a gateway that serves, and back: start, banner, stop.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use shards::net::Listener;
use shards::{Remote, lock};

use crate::admin::{AdminError, AdminPages, Observed, Running, SeaweedFs};
use crate::bridge::{
    Bridge, BridgeConfig, BridgeThread, PeerHealth, Placement, Security, SecurityError,
};
use crate::catalog::broker_config::BrokerConfigs;
use crate::catalog::group_config::{GroupBounds, GroupConfigs};
use crate::catalog::keeper::{CatalogKeeper, Change};
use crate::catalog::topic_config::TopicConfig;
use crate::catalog::{Catalog, CatalogLog, Topic};
use crate::config::{Admin, Config, Flush, HostPort, Pin, Routing, Store as StoreKind, shard_port};
use crate::connections::{ConnectionCounts, Connections};
use crate::gateway::{Broker, Facts, Gateway, Shard};
use crate::group::coordinator::{self, Coordinator};
use crate::group::import;
use crate::metrics::seaweedfs::StoreMetrics;
use crate::partition::State;
use crate::partition::owner::{CleanerLimits, Found, Limits, Partitions};
use crate::store::local::{DataDir, OpenError, Options, Report};
use crate::store::{Log, PartitionId, Store, seaweedmq};
use crate::wire::Uuid;

/// Requests and replies that one shard's mailbox holds.
const MAILBOX_CAPACITY: usize = 4096;
/// Threads of one shard for reads from disk and the like.
const BLOCKING_THREADS: usize = 4;
/// The same where they wait for other machines.
const WAITING_THREADS: usize = 16;

/// For those that others make in SeaweedMQ.
const LOOK_FOR_TOPICS_EVERY: Duration = Duration::from_secs(5);

/// A gateway that stops does not wait for a SeaweedFS that is gone at so many looks in a row.
const GONE_LOOKS: u32 = 8;
const GONE_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Preflight(#[from] shards::PreflightError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot start from the data folder {dir}: {source}")]
    Recover { dir: PathBuf, source: io::Error },
    #[error("cannot resolve the address {address} to listen on: {source}")]
    Resolve {
        address: HostPort,
        source: io::Error,
    },
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error("cannot start the thread that speaks with SeaweedFS: {0}")]
    Bridge(io::Error),
    #[error("cannot start from the topics in SeaweedFS (masters: {masters}): {source}")]
    SeaweedMq { masters: String, source: io::Error },
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Start(#[from] shards::StartError),
    #[error(transparent)]
    Run(#[from] shards::RuntimeError),
    #[error("cannot block signals: {0}")]
    Signals(io::Error),
}

/// Serves until a signal ends it.
pub fn run(config: Config) -> Result<(), ServeError> {
    let began = Instant::now();
    shards::keep_freed_memory();
    shards::block_signals().map_err(ServeError::Signals)?;
    shards::preflight()?;
    let listen = resolve(&config.listen)?;
    let home = Home::open(&config)?;
    let observed = Observed::new(&config);
    if let Home::SeaweedMq {
        bridge, metrics, ..
    } = &home
    {
        observed.is_in(SeaweedFs {
            bridge: bridge.clone(),
            store: metrics.clone(),
        });
    }
    // Before what may take long, so that a start that does can be watched.
    let admin = match &config.admin {
        Admin::Off => None,
        Admin::At(address) => Some(AdminPages::start(address, observed.clone())?),
    };
    let start = home.recover(&config)?;
    let report = start.report;
    let shared = Shared::new(&config, listen, observed.clone(), start, home.bridge());
    let shared = Arc::new(shared);
    let init_shared = shared.clone();
    let runtime = shards::start(options(&config), move |shard| {
        run_shard(shard, init_shared.clone())
    })?;
    if let Some(remote) = shared.remote.get().cloned() {
        let observer = runtime.observer();
        observed.runs(Running { observer, remote });
    }
    let admin = admin.as_ref().map(AdminPages::address);
    say_ready(&config, &shared, admin, &report, began.elapsed());
    runtime.wait()?;
    if let Home::Local(data) = &home
        && shared.clean.load(Ordering::Acquire)
        && let Err(error) = data.mark_clean()
    {
        tracing::warn!(%error, "cannot mark the data folder as clean; the next start will check it");
    }
    tracing::info!("stopped");
    Ok(())
}

fn options(config: &Config) -> shards::Options {
    shards::Options {
        shards: NonZeroUsize::new(config.shards),
        pin: match config.pin {
            Pin::Auto => shards::Pin::Auto,
            Pin::On => shards::Pin::On,
            Pin::Off => shards::Pin::Off,
        },
        name: "tidegate",
        mailbox_capacity: MAILBOX_CAPACITY,
        blocking_threads: match config.store {
            StoreKind::Local => BLOCKING_THREADS,
            StoreKind::SeaweedMq => WAITING_THREADS,
        },
        stop_timeout: config.shutdown_timeout,
        signals: true,
        ..shards::Options::default()
    }
}

fn resolve(listen: &[HostPort]) -> Result<Vec<SocketAddr>, ServeError> {
    let mut all = Vec::new();
    for address in listen {
        let found = address.socket_addrs();
        all.extend(found.map_err(|source| ServeError::Resolve {
            address: address.clone(),
            source,
        })?);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Where everything durable is.
enum Home {
    Local(DataDir),
    SeaweedMq {
        bridge: Bridge,
        metrics: Arc<StoreMetrics>,
        /// Ends with this.
        _thread: BridgeThread,
    },
}

/// What is stored, on its way to the shards.
struct Start {
    cluster_id: String,
    catalog: Arc<Catalog>,
    log: CatalogLog,
    seeds: Vec<Seed>,
    report: Report,
}

/// What one shard begins with.
struct Seed {
    store: Store,
    found: Found,
}

impl Home {
    fn open(config: &Config) -> Result<Self, ServeError> {
        match config.store {
            StoreKind::Local => {
                let data = DataDir::open(&config.data_dir, config.cluster_id.as_deref())?;
                Ok(Home::Local(data))
            }
            StoreKind::SeaweedMq => {
                let bridge = bridge_config(config)?;
                let (thread, bridge) = Bridge::start(bridge).map_err(ServeError::Bridge)?;
                Ok(Home::SeaweedMq {
                    bridge,
                    metrics: Arc::default(),
                    _thread: thread,
                })
            }
        }
    }

    fn bridge(&self) -> Option<Bridge> {
        match self {
            Home::Local(_) => None,
            Home::SeaweedMq { bridge, .. } => Some(bridge.clone()),
        }
    }

    fn recover(&self, config: &Config) -> Result<Start, ServeError> {
        match self {
            Home::Local(data) => {
                let failed = |source| ServeError::Recover {
                    dir: config.data_dir.clone(),
                    source,
                };
                recover_local(config, data).map_err(failed)
            }
            Home::SeaweedMq {
                bridge, metrics, ..
            } => {
                let failed = |source| ServeError::SeaweedMq {
                    masters: masters(config),
                    source,
                };
                recover_seaweedmq(config, bridge, metrics).map_err(failed)
            }
        }
    }
}

/// How SeaweedFS is reached.
pub(crate) fn bridge_config(config: &Config) -> Result<BridgeConfig, SecurityError> {
    let security = match &config.seaweedfs_security {
        Some(path) => Security::load(path)?,
        None => Security::default(),
    };
    Ok(BridgeConfig {
        security,
        filer_group: config.seaweedfs_filer_group.clone().unwrap_or_default(),
        ..BridgeConfig::new(config.seaweedfs_masters.clone())
    })
}

fn masters(config: &Config) -> String {
    let all: Vec<_> = config
        .seaweedfs_masters
        .iter()
        .map(ToString::to_string)
        .collect();
    all.join(",")
}

fn recover_local(config: &Config, data: &DataDir) -> io::Result<Start> {
    let log = CatalogLog::open(&data.catalog_path(), new_catalog(config))?;
    let ids: Vec<_> = log.catalog().partitions().collect();
    let options = Options {
        shards: config.shards,
        durable: config.flush == Flush::Durable,
        rolling: TopicConfig::from(config).rolling(),
    };
    let (partitions, stores, report) = data.recover::<State>(&ids, &options)?;
    if !report.clean && report.partitions > 0 {
        tracing::info!(
            partitions = report.partitions,
            scanned_bytes = report.scanned_bytes,
            journal_batches = report.journal_batches,
            restored_batches = report.restored_batches,
            truncated_bytes = report.truncated_bytes,
            "the last run did not stop cleanly: checked all partitions"
        );
    }
    let partitions = partitions.into_iter().map(|p| p.map_log(Log::Local));
    let found = Found {
        partitions: partitions.collect(),
        ..Found::default()
    };
    let stores = stores.into_iter().map(Store::Local);
    Ok(Start::new(
        data.cluster_id().to_owned(),
        log,
        stores,
        found,
        report,
    ))
}

fn recover_seaweedmq(
    config: &Config,
    bridge: &Bridge,
    metrics: &Arc<StoreMetrics>,
) -> io::Result<Start> {
    let new_id = match &config.cluster_id {
        Some(id) => id.clone(),
        None => Uuid::random().map_err(io::Error::other)?.to_string(),
    };
    let opened = seaweedmq::open(
        bridge.clone(),
        volumes(config),
        metrics.clone(),
        config.shards,
        &new_id,
    )?;
    let cluster_id = opened.cluster_id.clone();
    let (file, lines, rest) = opened.split();
    let mut log = CatalogLog::in_seaweedmq(file, &lines, new_catalog(config))?;
    let removed = log.take_removed();
    log.adopt_others(config.max_partitions)?;
    let catalog = log.catalog().clone();
    let is_own = |id: &PartitionId| catalog.by_id(&id.topic).is_some_and(|t| !t.is_brokers());
    let ids: Vec<_> = catalog.partitions().filter(is_own).collect();
    let rolling = TopicConfig::from(config).rolling();
    let (found, stores) = rest.recover::<State>(&ids, removed, rolling)?;
    // Whoever takes a partition over begins a new leader epoch, as after an unclean start.
    let report = Report {
        partitions: found.partitions.len(),
        ..Report::default()
    };
    let stores = stores.into_iter().map(Store::SeaweedMq);
    Ok(Start::new(cluster_id, log, stores, found.into(), report))
}

/// Where SeaweedFS is to put the chunks of topics.
pub(crate) fn volumes(config: &Config) -> Placement {
    let replication = config.seaweedfs_replication.clone();
    Placement {
        path: String::new(),
        collection: config.seaweedfs_collection.clone().unwrap_or_default(),
        replication: replication.map_or_else(String::new, |replication| replication.0),
        disk_type: config.seaweedfs_disk_type.clone().unwrap_or_default(),
        fsync: config.seaweedfs_fsync,
    }
}

/// The catalog of a broker on which nothing was done yet.
fn new_catalog(config: &Config) -> Catalog {
    let broker = BrokerConfigs::new(config.broker_id, TopicConfig::from(config));
    let groups = GroupConfigs::new(GroupBounds::from(config));
    Catalog::new(broker, []).with_groups(groups)
}

impl Start {
    /// One store for each shard.
    fn new(
        cluster_id: String,
        log: CatalogLog,
        stores: impl Iterator<Item = Store>,
        found: Found,
        report: Report,
    ) -> Self {
        let seed = |store| Seed {
            store,
            found: Found::default(),
        };
        let mut seeds: Vec<_> = stores.map(seed).collect();
        for partition in found.partitions {
            let owner = Topic::owner(partition.id, seeds.len());
            seeds[owner].found.partitions.push(partition);
        }
        for id in found.unreadable {
            let owner = Topic::owner(id, seeds.len());
            seeds[owner].found.unreadable.push(id);
        }
        for id in found.away {
            let owner = Topic::owner(id, seeds.len());
            seeds[owner].found.away.push(id);
        }
        Start {
            cluster_id,
            catalog: log.catalog().clone(),
            log,
            seeds,
            report,
        }
    }
}

/// What the shards share while they start and stop.
struct Shared {
    config: Config,
    cluster_id: String,
    listen: Vec<SocketAddr>,
    catalog: Arc<Catalog>,
    /// For shard 0.
    log: Mutex<Option<CatalogLog>>,
    seeds: Mutex<Vec<Option<Seed>>>,
    was_clean: bool,
    counts: Arc<ConnectionCounts>,
    observed: Arc<Observed>,
    /// To SeaweedFS, if topics are there.
    bridge: Option<Bridge>,
    /// To all shards, once one of them runs.
    remote: OnceLock<Remote<Gateway>>,
    bound: Mutex<Vec<SocketAddr>>,
    /// Of the shards, by index, where each has one.
    own_ports: Mutex<Vec<Option<u16>>>,
    /// Shards that still answer clients.
    serving: AtomicUsize,
    /// Every shard that has stopped left nothing to repair.
    clean: AtomicBool,
}

impl Shared {
    fn new(
        config: &Config,
        listen: Vec<SocketAddr>,
        observed: Arc<Observed>,
        start: Start,
        bridge: Option<Bridge>,
    ) -> Self {
        Shared {
            config: config.clone(),
            cluster_id: start.cluster_id,
            listen,
            catalog: start.catalog,
            log: Mutex::new(Some(start.log)),
            seeds: Mutex::new(start.seeds.into_iter().map(Some).collect()),
            was_clean: start.report.clean,
            counts: ConnectionCounts::new(config),
            observed,
            bridge,
            remote: OnceLock::new(),
            bound: Mutex::default(),
            own_ports: Mutex::new(vec![None; config.shards]),
            serving: AtomicUsize::new(config.shards),
            clean: AtomicBool::new(true),
        }
    }
}

/// One shard's life.
async fn run_shard(shard: Shard, shared: Arc<Shared>) -> Result<(), String> {
    let bind = |address: &SocketAddr| {
        Listener::bind(&shard, *address)
            .map_err(|error| format!("cannot listen on {address}: {error}"))
    };
    let mut listeners = shared
        .listen
        .iter()
        .map(bind)
        .collect::<Result<Vec<_>, _>>()?;
    let bound: Vec<_> = listeners.iter().map(Listener::local_addr).collect();
    *lock(&shared.bound) = bound.clone();
    if shared.config.routing == Routing::PerCore {
        listeners.extend(own_listeners(&shard, &shared)?);
    }
    let brokers = brokers(&shared, &bound).await?;
    let gateway = make_gateway(&shard, &shared, brokers)?;
    shard.serve(gateway.clone());
    shared.remote.get_or_init(|| shard.remote());
    gateway.coordinator().start();
    if shard.index() == 0
        && let Some(bridge) = shared.bridge.clone()
    {
        shard.spawn(import::at_first_start(gateway.clone(), bridge));
        shard.spawn(adopt_others(gateway.clone()));
    }
    let connections = Connections::new(gateway.clone(), shared.counts.clone());
    connections.sweep();
    for listener in listeners {
        connections.accept_from(listener);
    }
    shard.ready();
    shard.stopping().await;
    if shard.index() == 0
        && let Some(bridge) = shared.bridge.clone()
    {
        shard.spawn(give_up_if_gone(bridge));
    }
    stop(&shared, &gateway, &connections).await;
    Ok(())
}

/// Looks from time to time for topics that others make in SeaweedMQ, and delete.
async fn adopt_others(gateway: Rc<Gateway>) {
    loop {
        shards::sleep(LOOK_FOR_TOPICS_EVERY).await;
        let _ = gateway.change_catalog(Change::AdoptOthers).await;
    }
}

/// Listens on the shard's own port, which is the same on all addresses, and tells the others.
fn own_listeners(shard: &Shard, shared: &Shared) -> Result<Vec<Listener>, String> {
    let mut port = None;
    let mut listeners = Vec::with_capacity(shared.listen.len());
    for address in &shared.listen {
        let own = port.or_else(|| shard_port(address.port(), shard.index()));
        let own = own.ok_or_else(|| {
            format!("--routing per-core: no port is left for each shard behind that of {address}")
        })?;
        let own = SocketAddr::new(address.ip(), own);
        let listener = Listener::bind_own(shard, own).map_err(|error| {
            format!("cannot listen on {own}, a shard's own address (--routing per-core): {error}")
        })?;
        port = Some(listener.local_addr().port());
        listeners.push(listener);
    }
    lock(&shared.own_ports)[shard.index()] = port;
    Ok(listeners)
}

/// What clients are told to connect to. Waits until all shards listen.
async fn brokers(shared: &Shared, bound: &[SocketAddr]) -> Result<Vec<Broker>, String> {
    let config = &shared.config;
    if config.routing == Routing::Shared {
        let port = bound.first().map_or(0, SocketAddr::port);
        return Ok(vec![Broker {
            id: config.broker_id,
            address: config.advertise.with_port(port),
        }]);
    }
    let ports: Vec<u16> = loop {
        let ports: Option<_> = lock(&shared.own_ports).iter().copied().collect();
        match ports {
            Some(ports) => break ports,
            None => shards::sleep(Duration::from_millis(1)).await,
        }
    };
    let broker = |(shard, port)| {
        let address = config.advertise.of_shard(shard, port);
        let id = config.broker_id + shard as i32;
        address.map(|address| Broker { id, address })
    };
    let brokers = ports.into_iter().enumerate().map(broker);
    brokers.collect::<Option<_>>().ok_or_else(|| {
        "--routing per-core: no port is left for each shard behind the one advertised".to_owned()
    })
}

fn make_gateway(
    shard: &Shard,
    shared: &Shared,
    brokers: Vec<Broker>,
) -> Result<Rc<Gateway>, String> {
    let seed = lock(&shared.seeds)
        .get_mut(shard.index())
        .and_then(Option::take);
    let seed = seed.ok_or("the shard has no part of the store")?;
    let config = &shared.config;
    let metrics = &shared.observed.shards[shard.index()];
    let limits = Limits {
        tail_bytes: config.tail_memory,
        uncommitted_bytes: config.max_uncommitted_bytes,
        checkpoint_interval: config.checkpoint_interval,
        retention_check_interval: config.log_retention_check_interval,
        answer_bytes: config.answer_memory,
        cleaner: config.log_cleaner_enable.then(|| CleanerLimits {
            backoff: config.log_cleaner_backoff,
            memory_bytes: config.log_cleaner_dedupe_buffer_size / config.shards,
            bytes_per_second: config
                .log_cleaner_io_max_bytes_per_second
                .map(|bytes| bytes / config.shards as u64),
        }),
        producer_id_expiration_ms: config.producer_id_expiration.as_millis() as i64,
    };
    let partitions = Partitions::new(
        shard.clone(),
        limits,
        metrics.clone(),
        seed.store,
        shared.catalog.clone(),
        seed.found,
        shared.was_clean,
    );
    partitions.start();
    let keeper = match shard.index() {
        0 => lock(&shared.log).take().map(|log| {
            let most = config.max_partitions;
            CatalogKeeper::new(shard.clone(), partitions.clone(), log, most)
        }),
        _ => None,
    };
    if let Some(keeper) = &keeper {
        keeper.start();
    }
    let options = coordinator::Options::from(config);
    let coordinator = Coordinator::new(
        shard.clone(),
        metrics.clone(),
        options,
        shared.catalog.clone(),
    );
    let facts = Facts {
        config: config.clone(),
        cluster_id: shared.cluster_id.clone(),
        brokers,
    };
    Ok(Gateway::new(
        shard.clone(),
        Arc::new(facts),
        metrics.clone(),
        shared.catalog.clone(),
        partitions,
        coordinator,
        keeper,
    ))
}

/// Ends what waits for SeaweedFS while a gateway stops, if nobody answers there. What was acknowledged is
/// there, whatever the last checkpoint says.
async fn give_up_if_gone(bridge: Bridge) {
    let mut gone = 0;
    loop {
        shards::sleep(GONE_PAUSE).await;
        let Ok(peers) = bridge.peers().await else {
            return;
        };
        let lacking = PeerHealth::lacking(&peers);
        gone = lacking.map_or(0, |_| gone + 1);
        if let Some(role) = lacking
            && gone >= GONE_LOOKS
        {
            tracing::warn!(
                "no {role} of SeaweedFS answers: stopping without it; the next start reads more"
            );
            return bridge.stop();
        }
    }
}

/// Answers what was asked, then makes everything durable. Shards need each other for both, so none
/// begins the second before all have ended the first.
async fn stop(shared: &Shared, gateway: &Gateway, connections: &Connections) {
    let patience = shared.config.shutdown_timeout / 2;
    gateway.partitions().finish_fetches();
    gateway.coordinator().stop();
    connections.drain(patience).await;
    shared.serving.fetch_sub(1, Ordering::AcqRel);
    while shared.serving.load(Ordering::Acquire) > 0 {
        shards::sleep(Duration::from_millis(1)).await;
    }
    if !gateway.partitions().stop().await {
        shared.clean.store(false, Ordering::Release);
    }
}

/// Says on standard output what serves where, and what to try.
fn say_ready(
    config: &Config,
    shared: &Shared,
    admin: Option<SocketAddr>,
    report: &Report,
    took: Duration,
) {
    let bound = lock(&shared.bound).clone();
    let addresses: Vec<_> = bound.iter().map(SocketAddr::to_string).collect();
    let first = bound.first().map_or_else(String::new, |a| {
        config.advertise.with_port(a.port()).to_string()
    });
    tracing::info!(
        listen = addresses.join(","),
        advertised = first,
        admin = admin.map(tracing::field::display),
        shards = config.shards,
        partitions = report.partitions,
        took_ms = took.as_millis() as u64,
        "serving"
    );
    let admin = admin.map_or_else(|| "off".to_owned(), |a| format!("http://{a}"));
    let store = match config.store {
        StoreKind::Local => {
            let dir = config.data_dir.display();
            format!("local, in {dir} (flush: {:?})", config.flush)
        }
        StoreKind::SeaweedMq => format!("seaweedmq, by the masters {}", masters(config)),
    };
    let banner = format!(
        "Tidegate {} serves Kafka clients on {}\n  \
           store   {}\n  \
           shards  {}\n  \
           admin   {admin}\n  \
           try     echo hello | kcat -b {first} -t greetings -P && kcat -b {first} -t greetings -C -e\n",
        env!("CARGO_PKG_VERSION"),
        addresses.join(", "),
        store,
        config.shards,
    );
    let mut out = io::stdout().lock();
    // Nobody may be reading; the log says the same.
    let _ = out.write_all(banner.as_bytes()).and_then(|()| out.flush());
}

//! Starting and stopping a gateway: everything is opened in the order in which it is needed, and whatever cannot
//! be opened stops the start with one line that says what and where.

pub mod database;
mod http;
mod locks;
mod sandbox;
mod warnings;

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use providers::Protocol;
use providers::address;
use providers::sandbox::Sandbox;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, Side};
use crate::app::{App, RefundTurns};
use crate::cli;
use crate::clock::Clock;
use crate::config::Config;
use crate::demo::{self, Demo, SandboxSide};
use crate::directory::addresses::{Addresses, NotPublic};
use crate::directory::{Directory, DirectoryError};
use crate::domain::id::{self, InstallationPrefix, NoRandomness};
use crate::domain::{AllOwners, Timestamp};
use crate::guard::{Forbidden, Guard, Lookup, System};
use crate::incidents::recent::Recent;
use crate::jobs;
use crate::progress::Board;
use crate::progress::Unwritten;
use crate::restored::witness::CompareError;
use crate::restored::{Hold, Restored};
use crate::routing::budget::Budget;
use crate::routing::health::board::Settings;
use crate::routing::health::redis::Place;
use crate::routing::health::watch::Watch;
use crate::routing::pace::Paces;
use crate::routing::queue::Queue;
use crate::store::{OpenError, Store};
use crate::telemetry;
use crate::traces::{self, Traces};
use crate::vault::{CANARY_FACT, Vault, VaultError};
use crate::webhooks::client::{Client, NoClient};

use self::http::{Door, Face, listen};
pub use self::locks::{Locks, lock, lock_for_restore, restore_marker};
pub use self::sandbox::{faces, keep_book, stand_alone, start_sandbox};

/// The data folder's mode, and the bits that it must not have.
const PRIVATE: u32 = 0o700;
const OTHERS: u32 = 0o077;
/// Of a folder that is everybody's.
const STICKY: u32 = 0o1000;

/// Why a gateway did not start. One line each.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file or folder cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A restore has begun to exchange the database, and has not ended.
    #[error(
        "{}: a restore was interrupted, and this is not the whole database: run `interlock restore FILE` again",
        .0.display()
    )]
    HalfRestored(PathBuf),
    /// What was written last is not in the database.
    #[error(transparent)]
    Witness(#[from] CompareError),
    /// Another process has the embedded database.
    #[error("{}: another interlock runs on this folder", .0.display())]
    Locked(PathBuf),
    /// The database.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The database, after it was opened.
    #[error("database: {0}")]
    Query(#[from] sea_orm::DbErr),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The key for stored credentials.
    #[error("{0}")]
    Vault(#[from] VaultError),
    /// The configured key for stored credentials.
    #[error("credentials.key: {0}")]
    VaultKey(VaultError),
    /// No key for stored credentials, and none may be made.
    #[error(
        "credentials.key: give a key for stored credentials (64 hexadecimal digits, in credentials.key or \
         credentials.key_file): every gateway on this database needs the same one"
    )]
    NoVaultKey,
    /// The key is not the one that stored credentials were sealed with.
    #[error(
        "credentials.key: this is not the key that the stored credentials were sealed with: give that one (every gateway \
         on this database needs it); nothing was changed"
    )]
    OtherVaultKey,
    /// The key that stored credentials were sealed with is not there any more.
    #[error(
        "{}: the key for stored credentials is gone, and credentials sealed with it are in the database: put it back \
         (a backup of the database does not hold it); without it every account has to be given its credentials anew",
        .0.display()
    )]
    LostVaultKey(PathBuf),
    /// The address of the shared health; it is not repeated, since it may hold a password.
    #[error("redis.url: the address {0}")]
    Redis(&'static str),
    /// The sandbox.
    #[error("sandbox: {0}")]
    Sandbox(String),
    /// The demo merchant.
    #[error("demo merchant: {0}")]
    Demo(String),
    /// An address for accounts that cannot be one.
    #[error(transparent)]
    Addresses(#[from] NotPublic),
    /// Webhooks cannot be sent.
    #[error(transparent)]
    Webhooks(#[from] NoClient),
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] traces::NoTraces),
    /// A receiver of alerts that nothing may be sent to; its address is not repeated, since it is as good as a password.
    #[error("alerts.receivers: the address of receiver {number} {problem}")]
    Receiver {
        /// Which, from 1.
        number: u32,
        /// Why.
        problem: Forbidden,
    },
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// Metrics or logs.
    #[error("{0}")]
    Telemetry(String),
}

impl StartError {
    pub(crate) fn file(path: &Path, problem: impl ToString) -> Self {
        Self::File { path: path.to_owned(), problem: problem.to_string() }
    }
}

/// How much longer than its time for draining a stop may take: closing the database, and keeping the sandbox's book.
const STOP_GRACE: Duration = Duration::from_secs(4);

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    /// Its parts.
    pub app: Arc<App>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where administration answers, if it has an address of its own.
    pub admin: Option<SocketAddr>,
    /// The sandbox inside, if there is one.
    pub sandbox: Option<Sandbox>,
    /// The demo merchant, with a sandbox.
    pub demo: Option<Demo>,
    doors: Vec<Door>,
    jobs: TaskTracker,
    /// Keeps the locks: nobody else may open the embedded database before this gateway has closed it.
    locks: JoinHandle<()>,
}

/// Starts a gateway.
///
/// # Errors
/// [`StartError`]; nothing serves then.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let metrics = telemetry::metrics().map_err(StartError::Telemetry)?;
    jobs::gauges::register();
    api::admission::register();
    let folder = config.data.dir.clone();
    make_folder(&folder)?;
    let locks = lock(&config)?;
    let (listener, address) = listen(&config.server.listen)?;
    let admin = match config.server.admin.as_str() {
        "" => None,
        admin => Some(listen(admin)?),
    };
    let found = vault(&config)?;
    let shared_health = shared_health(&config)?;
    // The sandbox's keys take the longest on the very first start; the database is opened meanwhile.
    let (sandbox, store) = tokio::join!(sandbox::of(&config, &folder), database::open(&config));
    let (sandbox, side) = sandbox?;
    let store = store?;
    let vault = known_vault(&config, found, &store).await?;
    let addresses = addresses(&config, side.as_ref())?;
    let app = Arc::new(assemble(config, store, vault, addresses, address).await?);
    check_receivers(&app)?;
    if let Some(sandbox) = &sandbox {
        sandbox::take_along(&app, sandbox).await;
    }
    jobs::housekeeping::compare_clocks(&app).await?;
    let demo = match &side {
        Some(side) => Some(demo::set_up(&app, side, &folder).await?),
        None => None,
    };
    for warning in warnings::of(&app, address, side.is_some()) {
        tracing::warn!("{warning}");
    }
    let face = Face::new(&app, metrics);
    let mut doors = Vec::new();
    let public = if admin.is_some() { Side::Public } else { Side::Whole };
    doors.push(face.open(listener, &app.config.server.listen, public)?);
    let admin = match admin {
        Some((listener, address)) => {
            doors.push(face.open(listener, &app.config.server.admin, Side::Whole)?);
            Some(address)
        }
        None => None,
    };
    let jobs = TaskTracker::new();
    jobs.spawn(jobs::resolver::run(Arc::clone(&app)));
    jobs.spawn(jobs::webhook::run(Arc::clone(&app)));
    jobs.spawn(jobs::housekeeping::run(Arc::clone(&app)));
    jobs.spawn(jobs::health::run(Arc::clone(&app)));
    jobs.spawn(jobs::gauges::run(Arc::clone(&app)));
    jobs.spawn(jobs::queue::run(Arc::clone(&app)));
    jobs.spawn(jobs::incidents::run(Arc::clone(&app)));
    jobs.spawn(jobs::alerts::run(Arc::clone(&app)));
    jobs.spawn(jobs::ledger::run(Arc::clone(&app)));
    jobs.spawn(jobs::work_list::run(Arc::clone(&app)));
    jobs.spawn(jobs::keys::run(Arc::clone(&app)));
    jobs.spawn(jobs::restored::run(Arc::clone(&app)));
    match cli::socket::open(&app) {
        Ok(Some(serving)) => drop(jobs.spawn(serving)),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "no control socket: commands beside this gateway do not work"),
    }
    if let Some(place) = shared_health {
        jobs.spawn(jobs::health::share(Arc::clone(&app), place));
    }
    let locks = tokio::spawn(locks::keep(locks, app.store.clone()));
    jobs.close();
    Ok(Running { app, address, admin, sandbox, demo, doors, jobs, locks })
}

async fn assemble(
    config: Config,
    store: Store,
    vault: Vault,
    addresses: Addresses,
    address: SocketAddr,
) -> Result<App, StartError> {
    let public_url = match address::read(&config.server.public_url) {
        Ok(url) => address::kept(&config.server.public_url, &url).trim_end_matches('/').to_owned(),
        // Configuration has checked it: there is none.
        Err(_) => format!("http://{address}"),
    };
    // Configuration has checked it.
    let configured = InstallationPrefix::parse(&config.payments.order_prefix).ok_or(NoRandomness)?;
    let hold = Hold::new(configured);
    hold.set(Restored::read(&store).await?.as_ref());
    let clock = Clock::new();
    let gateway = id::number()?;
    let traces = traces(&config, address, gateway)?;
    let directory = Directory::open(store.clone(), vault, traces.clone(), addresses).await?;
    Ok(App {
        webhooks: webhooks(&config)?,
        health: health(&config, gateway, &directory, clock.now()),
        directory,
        paces: Paces::default(),
        budget: Budget::new(gateway),
        unwritten: Unwritten::default(),
        hold,
        queue: Queue::default(),
        incidents: Recent::default(),
        jobs: Board::default(),
        clock,
        store,
        traces,
        public_url,
        tasks: TaskTracker::new(),
        runtime: tokio::runtime::Handle::current(),
        refund_turns: RefundTurns::default(),
        leaving: CancellationToken::new(),
        draining: CancellationToken::new(),
        config,
    })
}

fn traces(config: &Config, address: SocketAddr, gateway: u32) -> Result<Traces, StartError> {
    let config = &config.traces;
    if config.otlp_url.is_empty() {
        return Ok(Traces::off());
    }
    let settings = traces::Settings {
        otlp_url: config.otlp_url.clone(),
        percent: config.percent,
        queue: config.queue,
        interval: Duration::from_millis(config.interval_ms),
        timeout: Duration::from_millis(config.timeout_ms),
        gateway: format!("{address}-{gateway:08x}"),
    };
    Ok(Traces::open(&settings, tokio::runtime::Handle::current())?)
}

fn health(config: &Config, gateway: u32, directory: &Directory, now: Timestamp) -> Watch {
    let pace = |protocol: &Protocol| (protocol.name, protocol.capabilities.probe_every_ms);
    let settings = Settings {
        gateway,
        probe_every_ms: providers::PROTOCOLS.iter().map(pace).collect(),
        // Until the first exchange this gateway is alone.
        shared: false,
        probes_at_once: config.health.probes_at_once,
    };
    Watch::new(settings, directory.for_health(), config.health.breakers, now)
}

/// Where health is shared, if it is.
fn shared_health(config: &Config) -> Result<Option<Place>, StartError> {
    if config.redis.url.is_empty() {
        return Ok(None);
    }
    config.redis.url.parse().map(Some).map_err(StartError::Redis)
}

/// Where accounts may be, the sandbox's faces among them.
fn addresses(config: &Config, side: Option<&SandboxSide>) -> Result<Addresses, StartError> {
    let lookup: Arc<dyn Lookup> = Arc::new(System);
    let addresses = Addresses::new(&config.providers, &lookup)?;
    if let Some(side) = side {
        addresses.sandbox_runs(&side.faces);
    }
    Ok(addresses)
}

fn webhooks(config: &Config) -> Result<Client, NoClient> {
    let config = &config.webhooks;
    let guard = Guard::new(config.allow_networks.clone(), config.allow_http);
    let (timeout, connect) =
        (Duration::from_millis(config.timeout_ms), Duration::from_millis(config.connect_timeout_ms));
    Client::new(guard, Arc::new(System), timeout, connect)
}

/// Receivers of alerts go through the guard of webhooks; the operator is told now, not at the first outage.
fn check_receivers(app: &App) -> Result<(), StartError> {
    for (receiver, number) in app.config.alerts.receivers.iter().zip(1_u32..) {
        app.webhooks.guard().check(&receiver.url).map_err(|problem| StartError::Receiver { number, problem })?;
    }
    Ok(())
}

/// Opens the database alone, for commands that need no gateway. The embedded one must not be in use.
///
/// # Errors
/// [`StartError`].
pub async fn open_store(config: &Config) -> Result<Store, StartError> {
    let folder = &config.data.dir;
    make_folder(folder)?;
    if config.database_file().is_some() {
        // Checked, not kept: these commands are over before anybody else can start.
        lock(config)?;
    }
    database::open(config).await
}

impl Running {
    /// Stops in order: no new payments, answers in flight, calls in flight, jobs, database. Whatever hangs, it is over
    /// five seconds after the time for draining at the latest.
    pub async fn stop(self) {
        let config = &self.app.config.server;
        let most = Duration::from_secs(config.drain_notice_s.saturating_add(config.drain_s)).saturating_add(STOP_GRACE);
        if tokio::time::timeout(most, self.stop_in_order()).await.is_err() {
            tracing::error!("something does not stop: left as it is; the next start goes on from the rows");
        }
    }

    async fn stop_in_order(self) {
        // Whoever balances the load needs a moment to hear of it; nobody is refused meanwhile.
        self.app.leaving.cancel();
        tokio::time::sleep(Duration::from_secs(self.app.config.server.drain_notice_s)).await;
        self.app.draining.cancel();
        let until = tokio::time::Instant::now() + Duration::from_secs(self.app.config.server.drain_s);
        join_all(self.doors.iter().map(|door| door.handle.stop(true))).await;
        join_all(self.doors.into_iter().map(|door| door.served)).await;
        self.app.tasks.close();
        let ended = async { tokio::join!(self.app.tasks.wait(), self.jobs.wait()) };
        if tokio::time::timeout_at(until, ended).await.is_err() {
            tracing::warn!("stopped before all calls had ended; the next start goes on with them");
        }
        self.app.traces.stop().await;
        if let Some(sandbox) = self.sandbox {
            match sandbox.book_json() {
                Ok(book) => keep_book(&self.app.config.data.dir, &book),
                Err(error) => tracing::error!(%error, "the sandbox's book is lost"),
            }
            sandbox.stop().await;
        }
        if let Err(error) = self.app.store.clone().close().await {
            tracing::error!(%error, "the database did not close");
        }
        self.locks.abort();
        let _ = self.locks.await;
    }

    /// Ends when the HTTP server does, which nobody has asked for.
    pub async fn failed(&mut self) {
        let _ = select_all(self.doors.iter_mut().map(|door| &mut door.served)).await;
    }
}

/// Makes the folder for data, unless it is there, for nobody but its owner: what lies in it opens everything.
///
/// # Errors
/// [`StartError::File`].
pub fn make_folder(folder: &Path) -> Result<(), StartError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(PRIVATE).create(folder);
    made.map_err(|e| match folder.is_file() {
        true => StartError::file(folder, "the folder for data is a file"),
        false => StartError::file(folder, format!("the folder for data cannot be made: {e}")),
    })?;
    narrow(folder);
    Ok(())
}

/// A folder that was there may be open to others. One that is everybody's, as `/tmp` is, stays so.
fn narrow(folder: &Path) {
    let Ok(mode) = std::fs::metadata(folder).map(|found| found.permissions().mode()) else { return };
    if mode & OTHERS == 0 {
        return;
    }
    let (shown, before) = (folder.display(), format!("{:o}", mode & 0o7777));
    if mode & STICKY != 0 {
        tracing::warn!(folder = %shown, mode = before, "the folder for data is everybody's: give it one of its own");
        return;
    }
    match std::fs::set_permissions(folder, std::fs::Permissions::from_mode(PRIVATE)) {
        Ok(()) => tracing::warn!(folder = %shown, before, "the folder for data was open to others: it is 700 now"),
        Err(error) => {
            tracing::warn!(folder = %shown, mode = before, %error, "the folder for data is open to others, and stays so");
        }
    }
}

/// The key for stored credentials, as configured or kept in the data folder where that is enough; `None`: there is none
/// yet, and one may be made.
fn vault(config: &Config) -> Result<Option<Vault>, StartError> {
    if !config.credentials.key.is_empty() {
        return Vault::new(&config.credentials.key).map(Some).map_err(StartError::VaultKey);
    }
    let configured = !config.credentials.key_file.as_os_str().is_empty();
    let path = if configured { config.credentials.key_file.clone() } else { kept_key(config) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Vault::new(&text).map(Some).map_err(|e| StartError::file(&path, e)),
        Err(e) if configured || e.kind() != std::io::ErrorKind::NotFound => Err(StartError::file(&path, e)),
        // Several gateways share a PostgreSQL; a key that one of them makes would lock out the others.
        Err(_) if !config.is_embedded() && config.sandbox.listen == "off" => Err(StartError::NoVaultKey),
        Err(_) => Ok(None),
    }
}

fn kept_key(config: &Config) -> PathBuf {
    config.data.dir.join("credentials.key")
}

/// The key must be the one that credentials were sealed with: with another one every account would be left out, and every
/// payment refused. A new one is made only where nothing is sealed.
async fn known_vault(config: &Config, found: Option<Vault>, store: &Store) -> Result<Vault, StartError> {
    let canary = store.installation_fact(CANARY_FACT).await?;
    let sealed = store.accounts(AllOwners).await?;
    let vault = match found {
        Some(vault) => vault,
        None if canary.is_some() || !sealed.is_empty() => return Err(StartError::LostVaultKey(kept_key(config))),
        None => {
            let key = Vault::new_key()?;
            demo::write_secret(&kept_key(config), key.as_bytes())?;
            Vault::new(&key)?
        }
    };
    let is_known = match &canary {
        Some(canary) => vault.knows(canary),
        // From before there was one.
        None => sealed.is_empty() || sealed.iter().any(|row| vault.open(&row.id, &row.credentials).is_ok()),
    };
    // Of two gateways that start at once with different keys, one is refused.
    if !is_known || !vault.knows(&store.installation(CANARY_FACT, &vault.canary()?).await?) {
        return Err(StartError::OtherVaultKey);
    }
    Ok(vault)
}

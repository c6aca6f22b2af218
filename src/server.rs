//! Starting and stopping a gateway: everything is opened in the order in which it is needed, and
//! whatever cannot be opened stops the start with one line that says what and where.

pub mod demo;
mod greeting;
mod http;
#[cfg(feature = "sandbox")]
mod inside;
#[cfg(not(feature = "sandbox"))]
#[path = "server/not_inside.rs"]
mod inside;
pub mod sandbox_side;
mod warnings;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use providers::Protocol;
use providers::address;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, Side};
use crate::app::{App, Turns};
use crate::cli;
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::Directory;
use crate::directory::addresses::Addresses;
use crate::domain::Timestamp;
use crate::domain::id::{self, InstallationPrefix, NoRandomness};
use crate::guard::{Guard, Lookup, System};
use crate::incidents::status_cache::Recent;
use crate::installation::folder::make_folder;
use crate::installation::sealing_key::{known_vault, vault};
use crate::installation::{database, locks};
use crate::jobs;
use crate::progress::Progress;
use crate::progress::Unwritten;
use crate::restored::{Hold, Restored};
use crate::routing::budget::Budget;
use crate::routing::health::monitor::HealthMonitor;
use crate::routing::health::redis::Place;
use crate::routing::health::registry::Settings;
use crate::routing::limiter::Limiters;
use crate::routing::queue::Queue;
use crate::store::Store;
use crate::telemetry;
use crate::traces::{self, Traces};
use crate::vault::Vault;
use crate::webhooks::client::{Client, NoClient};

use self::demo::Demo;
pub use self::greeting::greeting;
use self::http::{Door, Shared, listen};
pub use self::inside::Sandbox;
#[cfg(feature = "sandbox")]
pub use self::inside::{keep_book, stand_alone, start_sandbox};
use self::sandbox_side::SandboxSide;
pub use crate::installation::StartError;

/// How much longer than its time for draining a stop may take: closing the database, and keeping
/// the sandbox's book.
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
    /// Keeps the locks: nobody else may open the embedded database before this gateway has closed
    /// it.
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
    let locks = locks::lock(&config)?;
    let (listener, address) = listen(&config.server.listen)?;
    let admin = match config.server.admin.as_str() {
        "" => None,
        admin => Some(listen(admin)?),
    };
    let found = vault(&config)?;
    let shared_health = shared_health(&config)?;

    // The sandbox's keys take the longest on the very first start; the database is opened
    // meanwhile.
    let (sandbox, store) = tokio::join!(sandbox(&config, &folder), database::open(&config));
    let (sandbox, side) = sandbox?;
    let store = store?;
    let vault = known_vault(&config, found, &store).await?;
    let addresses = addresses(&config, side.as_ref())?;
    let app = Arc::new(assemble(config, store, vault, addresses, address).await?);
    check_receivers(&app)?;
    if let Some(sandbox) = &sandbox {
        inside::take_along(&app, sandbox).await;
    }
    jobs::housekeeping::compare_clocks(&app).await?;

    let demo = match &side {
        Some(side) => Some(demo::set_up(&app, side, &folder).await?),
        None => None,
    };
    for warning in warnings::of(&app, address, side.is_some()) {
        tracing::warn!("{warning}");
    }
    let face = Shared::new(&app, metrics);
    let mut doors = Vec::new();

    let public = if admin.is_some() {
        Side::Public
    } else {
        Side::Whole
    };

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
        Err(error) => {
            tracing::warn!(%error, "no control socket: commands beside this gateway do not work")
        }
    }

    if let Some(place) = shared_health {
        jobs.spawn(jobs::health::share(Arc::clone(&app), place));
    }
    let locks = tokio::spawn(locks::keep(locks, app.store.clone()));
    jobs.close();

    Ok(Running {
        app,
        address,
        admin,
        sandbox,
        demo,
        doors,
        jobs,
        locks,
    })
}

/// Starts the sandbox, or looks up one that runs elsewhere.
async fn sandbox(
    config: &Config,
    folder: &Path,
) -> Result<(Option<Sandbox>, Option<SandboxSide>), StartError> {
    match config.sandbox.listen.as_str() {
        "off" => Ok((None, None)),
        url if url.starts_with("http://") => Ok((None, Some(sandbox_side::look_up(url).await?))),
        address => {
            let (sandbox, side) = inside::start(address, folder).await?;
            Ok((Some(sandbox), Some(side)))
        }
    }
}

async fn assemble(
    config: Config,
    store: Store,
    vault: Vault,
    addresses: Addresses,
    address: SocketAddr,
) -> Result<App, StartError> {
    let public_url = match address::read(&config.server.public_url) {
        Ok(url) => address::kept(&config.server.public_url, &url)
            .trim_end_matches('/')
            .to_owned(),
        // Configuration has checked it: there is none.
        Err(_) => format!("http://{address}"),
    };

    // Configuration has checked it.
    let configured =
        InstallationPrefix::parse(&config.payments.order_prefix).ok_or(NoRandomness)?;
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
        limiters: Limiters::default(),
        budget: Budget::new(gateway),
        unwritten: Unwritten::default(),
        hold,
        queue: Queue::default(),
        incidents: Recent::default(),
        jobs: Progress::default(),
        clock,
        store,
        traces,
        public_url,
        tasks: TaskTracker::new(),
        runtime: tokio::runtime::Handle::current(),
        refund_turns: Turns::default(),
        settings_turns: Turns::default(),
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
        interval: config.interval,
        timeout: config.timeout,
        gateway: format!("{address}-{gateway:08x}"),
    };
    Ok(Traces::open(&settings, tokio::runtime::Handle::current())?)
}

fn health(config: &Config, gateway: u32, directory: &Directory, now: Timestamp) -> HealthMonitor {
    let pace = |protocol: &Protocol| (protocol.name, protocol.capabilities.probe_every_ms);
    let settings = Settings {
        gateway,
        probe_every_ms: providers::PROTOCOLS.iter().map(pace).collect(),
        // Until the first exchange this gateway is alone.
        shared: false,
        probes_at_once: config.health.probes_at_once,
    };
    HealthMonitor::new(
        settings,
        directory.for_health(),
        config.health.breakers,
        now,
    )
}

/// Where health is shared, if it is.
fn shared_health(config: &Config) -> Result<Option<Place>, StartError> {
    if config.redis.url.is_empty() {
        return Ok(None);
    }
    config
        .redis
        .url
        .parse()
        .map(Some)
        .map_err(StartError::Redis)
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
    let (timeout, connect) = (config.timeout, config.connect_timeout);
    Client::new(guard, Arc::new(System), timeout, connect)
}

/// Receivers of alerts go through the guard of webhooks; the operator is told now, not at the first
/// outage.
fn check_receivers(app: &App) -> Result<(), StartError> {
    for (receiver, number) in app.config.alerts.receivers.iter().zip(1_u32..) {
        app.webhooks
            .guard()
            .check(&receiver.url)
            .map_err(|problem| StartError::Receiver { number, problem })?;
    }
    Ok(())
}

impl Running {
    /// Stops in order: no new payments, answers in flight, calls in flight, jobs, database.
    /// Whatever hangs, it is over five seconds after the time for draining at the latest.
    pub async fn stop(self) {
        let config = &self.app.config.server;
        let most = (config.drain_notice + config.drain).saturating_add(STOP_GRACE);
        if tokio::time::timeout(most, self.stop_in_order())
            .await
            .is_err()
        {
            tracing::error!(
                "something does not stop: left as it is; the next start goes on from the rows"
            );
        }
    }

    async fn stop_in_order(self) {
        tracing::info!("stopping: what is under way is finished");
        // Whoever balances the load needs a moment to hear of it; nobody is refused meanwhile.
        self.app.leaving.cancel();
        tokio::time::sleep(self.app.config.server.drain_notice).await;
        self.app.draining.cancel();
        let until = tokio::time::Instant::now() + self.app.config.server.drain;
        join_all(self.doors.iter().map(|door| door.handle.stop(true))).await;
        join_all(self.doors.into_iter().map(|door| door.served)).await;
        self.app.tasks.close();
        let ended = async { tokio::join!(self.app.tasks.wait(), self.jobs.wait()) };
        if tokio::time::timeout_at(until, ended).await.is_err() {
            tracing::warn!("stopped before all calls had ended; the next start goes on with them");
        }
        self.app.traces.stop().await;
        if let Some(sandbox) = self.sandbox {
            inside::stop(sandbox, &self.app.config.data.dir).await;
        }
        if let Err(error) = self.app.store.clone().close().await {
            tracing::error!(%error, "the database did not close");
        }
        self.locks.abort();

        let _ = self.locks.await;
        tracing::info!("stopped");
    }

    /// Ends when the HTTP server does, which nobody has asked for.
    pub async fn failed(&mut self) {
        let _ = select_all(self.doors.iter_mut().map(|door| &mut door.served)).await;
    }
}

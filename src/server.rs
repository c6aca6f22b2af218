//! Starting and stopping a gateway: everything is opened in the order in which it is needed, and whatever cannot
//! be opened stops the start with one line that says what and where.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::{HttpServer, web};
use providers::Protocol;
use providers::sandbox::keys::Keys;
use providers::sandbox::{Options, Sandbox};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::api::admission::Admission;
use crate::app::{App, RefundTurns};
use crate::clock::Clock;
use crate::config::Config;
use crate::demo::{self, Demo, SandboxSide};
use crate::directory::{Directory, DirectoryError};
use crate::domain::Timestamp;
use crate::domain::id::{self, InstallationPrefix, NoRandomness};
use crate::incidents::recent::Recent;
use crate::jobs;
use crate::routing::budget::Budget;
use crate::routing::health::board::Settings;
use crate::routing::health::redis::Place;
use crate::routing::health::watch::Watch;
use crate::routing::pace::Paces;
use crate::routing::queue::Queue;
use crate::store::{OpenError, Store};
use crate::telemetry;
use crate::traces::{self, Traces};
use crate::vault::{Vault, VaultError};
use crate::webhooks::client::{Client, NoClient};
use crate::webhooks::guard::{Forbidden, Guard, System};

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
    /// The address of the shared health; it is not repeated, since it may hold a password.
    #[error("redis.url: the address {0}")]
    Redis(&'static str),
    /// The sandbox.
    #[error("sandbox: {0}")]
    Sandbox(String),
    /// The demo merchant.
    #[error("demo merchant: {0}")]
    Demo(String),
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

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    /// Its parts.
    pub app: Arc<App>,
    /// Where it listens.
    pub address: SocketAddr,
    /// The sandbox inside, if there is one.
    pub sandbox: Option<Sandbox>,
    /// The demo merchant, with a sandbox.
    pub demo: Option<Demo>,
    http: actix_web::dev::ServerHandle,
    served: JoinHandle<std::io::Result<()>>,
    jobs: TaskTracker,
    /// Held as long as the process lives: nobody else may open the embedded database.
    _lock: File,
}

/// Starts a gateway.
///
/// # Errors
/// [`StartError`]; nothing serves then.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let metrics = telemetry::metrics().map_err(StartError::Telemetry)?;
    jobs::gauges::register();
    let folder = config.data.dir.clone();
    make_folder(&folder)?;
    let lock = lock(&folder)?;
    let listener = TcpListener::bind(&config.server.listen)
        .map_err(|source| StartError::Listen { address: config.server.listen.clone(), source })?;
    let address =
        listener.local_addr().map_err(|source| StartError::Listen { address: config.server.listen.clone(), source })?;
    let vault = vault(&config)?;
    let shared_health = shared_health(&config)?;
    // The sandbox's keys take the longest on the very first start; the database is opened meanwhile.
    let url = config.database_url();
    let (sandbox, store) = tokio::join!(sandbox(&config, &folder), Store::open(&url, config.database.connections));
    let (sandbox, side) = sandbox?;
    let store = store?;
    let app = Arc::new(assemble(config, store, vault, address).await?);
    check_receivers(&app)?;
    jobs::housekeeping::compare_clocks(&app).await;
    let demo = match &side {
        Some(side) => Some(demo::set_up(&app, side, &folder).await?),
        None => None,
    };
    let (http, served) = serve(&app, listener, metrics)?;
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
    if let Some(place) = shared_health {
        jobs.spawn(jobs::health::share(Arc::clone(&app), place));
    }
    jobs.close();
    Ok(Running { app, address, sandbox, demo, http, served, jobs, _lock: lock })
}

async fn assemble(config: Config, store: Store, vault: Vault, address: SocketAddr) -> Result<App, StartError> {
    let public_url = match config.server.public_url.trim_end_matches('/') {
        "" => format!("http://{address}"),
        url => url.to_owned(),
    };
    // Configuration has checked it.
    let prefix = InstallationPrefix::parse(&config.payments.order_prefix).ok_or(NoRandomness)?;
    let clock = Clock::new();
    let gateway = id::number()?;
    let traces = traces(&config, address, gateway)?;
    Ok(App {
        directory: Directory::open(store.clone(), vault, traces.clone()).await?,
        webhooks: webhooks(&config)?,
        health: health(&config, gateway, clock.now()),
        paces: Paces::default(),
        budget: Budget::new(gateway),
        queue: Queue::default(),
        incidents: Recent::default(),
        clock,
        store,
        traces,
        prefix,
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

fn health(config: &Config, gateway: u32, now: Timestamp) -> Watch {
    let pace = |protocol: &Protocol| (protocol.name, protocol.capabilities.probe_every_ms);
    let settings = Settings {
        gateway,
        probe_every_ms: providers::PROTOCOLS.iter().map(pace).collect(),
        // Until the first exchange this gateway is alone.
        shared: false,
    };
    Watch::new(settings, config.health.breakers, now)
}

/// Where health is shared, if it is.
fn shared_health(config: &Config) -> Result<Option<Place>, StartError> {
    if config.redis.url.is_empty() {
        return Ok(None);
    }
    config.redis.url.parse().map(Some).map_err(StartError::Redis)
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
    if config.is_embedded() {
        // Checked, not kept: these commands are over before anybody else can start.
        lock(folder)?;
    }
    Ok(Store::open(&config.database_url(), config.database.connections).await?)
}

type Served = (actix_web::dev::ServerHandle, JoinHandle<std::io::Result<()>>);

fn serve(
    app: &Arc<App>,
    listener: TcpListener,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
) -> Result<Served, StartError> {
    let shared = web::Data::from(Arc::clone(app));
    let metrics = web::Data::new(metrics);
    let admission = web::Data::new(Admission::new(&app.config.admission));
    let pages = web::Data::new(api::status::Pages::default());
    let mut server = HttpServer::new(move || {
        actix_web::App::new()
            .app_data(shared.clone())
            .app_data(metrics.clone())
            .app_data(admission.clone())
            .app_data(pages.clone())
            .wrap(from_fn(api::request::identify))
            .configure(api::routes)
    })
    .disable_signals()
    .shutdown_timeout(app.config.server.drain_s);
    if app.config.server.workers > 0 {
        server = server.workers(app.config.server.workers);
    }
    let address = app.config.server.listen.clone();
    let server = server.listen(listener).map_err(|source| StartError::Listen { address, source })?.run();
    let handle = server.handle();
    Ok((handle, tokio::spawn(server)))
}

impl Running {
    /// Stops in order: no new payments, answers in flight, calls in flight, jobs, database.
    pub async fn stop(self) {
        // Whoever balances the load needs a moment to hear of it; nobody is refused meanwhile.
        self.app.leaving.cancel();
        tokio::time::sleep(Duration::from_secs(self.app.config.server.drain_notice_s)).await;
        self.app.draining.cancel();
        self.http.stop(true).await;
        let _ = self.served.await;
        self.app.tasks.close();
        let patience = Duration::from_secs(self.app.config.server.drain_s);
        if tokio::time::timeout(patience, async { tokio::join!(self.app.tasks.wait(), self.jobs.wait()) })
            .await
            .is_err()
        {
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
    }

    /// Ends when the HTTP server does, which nobody has asked for.
    pub async fn failed(&mut self) {
        let _ = (&mut self.served).await;
    }
}

/// Makes the folder for data, unless it is there.
///
/// # Errors
/// [`StartError::File`].
pub fn make_folder(folder: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(folder).map_err(|e| match folder.is_file() {
        true => StartError::file(folder, "the folder for data is a file"),
        false => StartError::file(folder, format!("the folder for data cannot be made: {e}")),
    })
}

fn lock(folder: &Path) -> Result<File, StartError> {
    let path = folder.join("lock");
    let file =
        File::options().create(true).write(true).truncate(false).open(&path).map_err(|e| StartError::file(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(StartError::Locked(folder.to_owned())),
    }
}

/// The key for stored credentials: configured, or kept in the data folder where that is enough.
fn vault(config: &Config) -> Result<Vault, StartError> {
    if !config.credentials.key.is_empty() {
        return Vault::new(&config.credentials.key).map_err(StartError::VaultKey);
    }
    let configured = !config.credentials.key_file.as_os_str().is_empty();
    let path = if configured { config.credentials.key_file.clone() } else { config.data.dir.join("credentials.key") };
    match std::fs::read_to_string(&path) {
        Ok(text) => Vault::new(&text).map_err(|e| StartError::file(&path, e)),
        Err(e) if configured || e.kind() != std::io::ErrorKind::NotFound => Err(StartError::file(&path, e)),
        // Several gateways share a PostgreSQL; a key that one of them makes would lock out the others.
        Err(_) if !config.is_embedded() && config.sandbox.listen == "off" => Err(StartError::NoVaultKey),
        Err(_) => {
            let key = Vault::new_key()?;
            demo::write_secret(&path, key.as_bytes())?;
            Ok(Vault::new(&key)?)
        }
    }
}

/// Starts the sandbox, or looks up one that runs elsewhere.
async fn sandbox(config: &Config, folder: &Path) -> Result<(Option<Sandbox>, Option<SandboxSide>), StartError> {
    match config.sandbox.listen.as_str() {
        "off" => Ok((None, None)),
        url if url.starts_with("http://") => Ok((None, Some(look_up(url).await?))),
        address => {
            let sandbox = start_sandbox(address, folder).await?;
            let side = SandboxSide {
                control_url: format!("http://{}", sandbox.control()),
                faces: members(sandbox.face_urls()),
                credentials: members(sandbox.credentials()),
            };
            Ok((Some(sandbox), Some(side)))
        }
    }
}

/// Starts a sandbox with its control at `address` and its faces at the following ports, with the keys and the book
/// that lie in `folder`.
///
/// # Errors
/// [`StartError`].
pub async fn start_sandbox(address: &str, folder: &Path) -> Result<Sandbox, StartError> {
    let control: SocketAddr = address
        .parse()
        .map_err(|_| StartError::Sandbox(format!("{address:?} is neither off, an http address, nor address:port")))?;
    let keys = sandbox_keys(folder).await?;
    let book = std::fs::read(folder.join("sandbox-book.json")).ok();
    let book = book.and_then(|text| serde_json::from_slice(&text).ok());
    let faces = providers::PROTOCOLS
        .iter()
        .zip(1_u16..)
        .map(|(protocol, place)| {
            let port = if control.port() == 0 { 0 } else { control.port().saturating_add(place) };
            (protocol.name, SocketAddr::new(control.ip(), port))
        })
        .collect();
    Sandbox::start(Options { control, faces, keys, book }).await.map_err(|e| StartError::Sandbox(e.to_string()))
}

async fn sandbox_keys(folder: &Path) -> Result<Keys, StartError> {
    let path = folder.join("sandbox-keys.json");
    let known: Option<Keys> = match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).map_err(|e| StartError::file(&path, e))?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(StartError::file(&path, e)),
    };
    let before = known.clone();
    let keys = tokio::task::spawn_blocking(move || known.unwrap_or_default().completed())
        .await
        .map_err(|e| StartError::Sandbox(e.to_string()))?
        .map_err(|e| StartError::Sandbox(e.to_string()))?;
    if before.as_ref() != Some(&keys) {
        let text = serde_json::to_vec(&keys).map_err(|e| StartError::file(&path, e))?;
        demo::write_secret(&path, &text)?;
    }
    Ok(keys)
}

/// Keeps the sandbox's book for the next start: a demo that is restarted still knows its orders.
pub fn keep_book(folder: &Path, book: &Value) {
    let path = folder.join("sandbox-book.json");
    let kept = serde_json::to_vec(book)
        .map_err(|e| StartError::file(&path, e))
        .and_then(|text| demo::write_secret(&path, &text));
    if let Err(error) = kept {
        tracing::error!(%error, "the sandbox's book is lost");
    }
}

async fn look_up(url: &str) -> Result<SandboxSide, StartError> {
    let url = url.trim_end_matches('/');
    let client = providers::http::Client::new(url).map_err(|e| StartError::Sandbox(e.to_string()))?;
    let get = async |path: &str| -> Result<serde_json::Map<String, Value>, StartError> {
        let request = providers::http::Request {
            method: http::Method::GET,
            target: path.to_owned(),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
            timeout: Duration::from_secs(5),
        };
        let answer =
            client.send(request).await.map_err(|_| StartError::Sandbox(format!("no sandbox answers at {url}")))?;
        serde_json::from_slice(&answer.body).map_err(|_| StartError::Sandbox(format!("{url}{path} is no sandbox")))
    };
    Ok(SandboxSide {
        control_url: url.to_owned(),
        faces: get("/faces").await?,
        credentials: get("/credentials").await?,
    })
}

fn members(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => serde_json::Map::new(),
    }
}

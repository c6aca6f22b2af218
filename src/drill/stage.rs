//! The stage of a drill: a sandbox, gateways as processes of their own, the proxies between them, and one time for all
//! that a controller moves. Starts, kills, stops and continues; judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use providers::http::plain_client_builder;
use providers::sandbox::keys::Keys;
use providers::sandbox::{Options, Sandbox};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::process::Child;
use tokio::sync::Mutex;

use super::disk::{self, SmallDisk};
use super::door::{self, Knock, Reply};
use super::error::Broken;
use super::proxy::{self, Mood, Proxy};
#[cfg(feature = "testing")]
use crate::broken;
use crate::kill::DIES_WITH_PARENT;
use crate::server::demo::Demo;
use crate::store::Store;
use crate::store::audit::Looker;
use crate::store::trouble::{self, OwnDatabase};

/// Every gateway on a database needs the same one. It seals nothing but the sandbox's credentials.
pub const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// How long gateways wait for calls in flight when they are told to stop, and how much longer that may take.
const DRAIN_S: u64 = 5;
const STOPS_WITHIN: Duration = Duration::from_secs(5);
/// How long a gateway may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a run takes place.
#[derive(Debug)]
pub struct Ground {
    /// For everything that the run leaves behind.
    pub folder: PathBuf,
    /// A PostgreSQL database of this run's own; none: the embedded one.
    pub postgres: Option<OwnDatabase>,
    /// A Redis, and a database in it that no other run uses at the same time.
    pub redis: Option<String>,
    /// The small disk that the database lies on, if it does.
    pub disk: Option<SmallDisk>,
    /// The library through which gateways see the machine's clock, when that is to be set.
    pub faketime: Option<PathBuf>,
}

/// What is done to the database itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseTrouble {
    /// It ends all sessions, and takes no new ones.
    Restart,
    /// It takes no writes.
    ReadOnly,
}

/// One gateway.
#[derive(Debug)]
struct Gateway {
    address: SocketAddr,
    folder: PathBuf,
    child: Mutex<Option<Child>>,
    /// Keeps the port for a gateway that was killed and comes back.
    _port: TcpSocket,
}

impl Gateway {
    fn door(&self) -> PathBuf {
        self.folder.join("door")
    }

    /// Says how wrong its machine's clock is.
    fn wrong_clock(&self) -> PathBuf {
        self.folder.join("clock")
    }
}

/// The stage.
#[derive(Debug)]
pub struct Stage {
    /// The sandbox's control.
    pub control: String,
    /// Between providers and gateways; merchants come this way, too.
    pub front: Proxy,
    /// Between gateways and their PostgreSQL.
    pub database: Option<Proxy>,
    /// Between gateways and Redis.
    pub redis: Option<Proxy>,
    /// Between gateways and each provider.
    pub providers: BTreeMap<&'static str, Proxy>,
    sandbox: Sandbox,
    gateways: Vec<Gateway>,
    ground: Ground,
    env: Vec<(String, String)>,
    ahead_s: Mutex<u64>,
    /// Gateways that stand still: they would not answer.
    stopped: Mutex<BTreeSet<usize>>,
    /// One trouble of the database at a time, and one gateway that stands still: the end of one would end the other.
    at_database: Mutex<()>,
    at_freezing: Mutex<()>,
    http: reqwest::Client,
}

fn in_vain(what: &str) -> impl FnOnce(std::io::Error) -> Broken {
    let what = what.to_owned();
    move |error| Broken(format!("{what}: {error}"))
}

impl Stage {
    /// Builds it, with everything running.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn build(
        ground: Ground,
        keys: Keys,
        gateways: usize,
        env: Vec<(String, String)>,
    ) -> Result<Self, Broken> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let faces = providers::PROTOCOLS.iter().map(|p| (p.name, any)).collect();
        let sandbox = Sandbox::start(Options { control: any, faces, keys, book: None, log: usize::MAX })
            .await
            .map_err(|e| Broken(format!("sandbox: {e}")))?;
        let (mut before, mut advertised) = (BTreeMap::new(), Vec::new());
        for (name, face) in sandbox.faces() {
            let proxy = Proxy::start_before(*face).await.map_err(in_vain("proxy"))?;
            advertised.push((*name, proxy.address));
            before.insert(name.as_str(), proxy);
        }
        sandbox.advertise(advertised);
        let front = Proxy::start().await.map_err(in_vain("front"))?;
        let database = proxied(ground.postgres.as_ref().map(OwnDatabase::url)).await?;
        let redis = proxied(ground.redis.as_deref()).await?;
        let mut all = Vec::new();
        for number in 0..gateways {
            let folder = ground.folder.join(format!("gateway-{number}"));
            std::fs::create_dir_all(&folder).map_err(in_vain("folder"))?;
            let port = proxy::bind(any).map_err(in_vain("port"))?;
            let address = port.local_addr().map_err(in_vain("port"))?;
            all.push(Gateway { address, folder, child: Mutex::new(None), _port: port });
        }
        front.lead_to(all.iter().map(|gateway| gateway.address).collect());
        // A connection that was kept may be closed by the other side just as it is used again.
        let http = plain_client_builder().pool_max_idle_per_host(0).timeout(PATIENCE).build();
        let stage = Self {
            control: format!("http://{}", sandbox.control()),
            front,
            database,
            redis,
            providers: before,
            sandbox,
            gateways: all,
            ground,
            env,
            ahead_s: Mutex::new(0),
            stopped: Mutex::default(),
            at_database: Mutex::default(),
            at_freezing: Mutex::default(),
            http: http.map_err(|e| Broken(e.to_string()))?,
        };
        for number in 0..gateways {
            stage.set_clock(number, 0)?;
            stage.start(number).await?;
        }
        Ok(stage)
    }

    fn settings(&self, gateway: &Gateway, ahead_s: u64) -> Vec<(String, String)> {
        let front = format!("http://{}", self.front.address);
        let door = gateway.door().display().to_string();
        let mut all: Vec<(String, String)> = [
            ("INTERLOCK__SERVER__PUBLIC_URL", front.as_str()),
            ("INTERLOCK__SERVER__WORKERS", "1"),
            ("INTERLOCK__SERVER__DRAIN_S", &DRAIN_S.to_string()),
            ("INTERLOCK__CREDENTIALS__KEY", KEY),
            ("INTERLOCK__DATABASE__CONNECTIONS", "4"),
            ("INTERLOCK__RESOLVER__INTERVAL_MS", "50"),
            ("INTERLOCK__WEBHOOKS__INTERVAL_MS", "50"),
            ("INTERLOCK__WEBHOOKS__ALLOW_HTTP", "true"),
            ("INTERLOCK__WEBHOOKS__ALLOW_NETWORKS", "127.0.0.0/8"),
            ("INTERLOCK__PROVIDERS__ALLOW_NETWORKS", "127.0.0.0/8"),
            ("INTERLOCK__WEBHOOKS__TIMEOUT_MS", "700"),
            // Networks stay real; nobody needs a minute to find out that a sandbox on this machine says nothing.
            ("INTERLOCK__PAYMENTS__OFFER_TIMEOUT_MS", "400"),
            ("INTERLOCK__PAYMENTS__CHARGE_TIMEOUT_MS", "500"),
            ("INTERLOCK__PAYMENTS__QUERY_TIMEOUT_MS", "400"),
            ("INTERLOCK__PAYMENTS__REVERSE_TIMEOUT_MS", "500"),
            ("INTERLOCK__PAYMENTS__REFUND_TIMEOUT_MS", "500"),
            ("INTERLOCK__PAYMENTS__CALL_GRACE_MS", "300"),
            ("INTERLOCK__PAYMENTS__ANSWER_WITHIN_MS", "5000"),
            (door::VARIABLE, door.as_str()),
            (DIES_WITH_PARENT, "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        all.push(("INTERLOCK_CLOCK_AHEAD_S".to_owned(), ahead_s.to_string()));
        if let Some(library) = &self.ground.faketime {
            let (library, file) = (library.display().to_string(), gateway.wrong_clock().display().to_string());
            let faked = [
                ("LD_PRELOAD", library.as_str()),
                ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
                ("FAKETIME_NO_CACHE", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
            ];
            all.extend(faked.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        if let (Some(url), Some(proxy)) = (&self.ground.redis, &self.redis) {
            all.push(("INTERLOCK__REDIS__URL".to_owned(), through(url, proxy)));
        }
        #[cfg(feature = "testing")]
        all.extend(std::env::var(broken::VARIABLE).ok().map(|rule| (broken::VARIABLE.to_owned(), rule)));
        all.extend(self.env.iter().cloned());
        all
    }

    fn database_url(&self, gateway: &Gateway) -> String {
        match (&self.ground.postgres, &self.database) {
            (Some(own), Some(proxy)) => through(own.url(), proxy),
            (Some(own), None) => own.url().to_owned(),
            (None, _) => {
                let folder = self.ground.disk.as_ref().map_or(&gateway.folder, |disk| &disk.folder);
                format!("sqlite://{}", folder.join("interlock.db").display())
            }
        }
    }

    /// Starts a gateway that does not run, and waits until it serves.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn start(&self, number: usize) -> Result<(), Broken> {
        let Some(gateway) = self.gateways.get(number) else { return Ok(()) };
        let mut child = gateway.child.lock().await;
        if child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            return Ok(());
        }
        let ahead_s = *self.ahead_s.lock().await;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(gateway.folder.join("log"));
        let program = std::env::current_exe().map_err(in_vain("the program"))?;
        let mut command = disk::program(&program, self.ground.disk.as_ref());
        command
            .args(["serve", "--listen", &gateway.address.to_string(), "--sandbox", &self.control])
            .args(["--database", &self.database_url(gateway), "--data"])
            .arg(&gateway.folder)
            .env_clear()
            .envs(self.settings(gateway, ahead_s))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_err(in_vain("log"))?)
            .kill_on_drop(true);
        *child = Some(command.spawn().map_err(in_vain("a gateway"))?);
        drop(child);
        self.until_ready(number).await
    }

    async fn until_ready(&self, number: usize) -> Result<(), Broken> {
        let Some(gateway) = self.gateways.get(number) else { return Ok(()) };
        let began = std::time::Instant::now();
        let url = format!("http://{}/healthz", gateway.address);
        loop {
            if self.http.get(&url).timeout(Duration::from_millis(500)).send().await.is_ok() {
                // Time went on while it started.
                let ahead_s = *self.ahead_s.lock().await;
                let _ = door::knock(&gateway.door(), &Knock::Ahead(ahead_s)).await;
                return Ok(());
            }
            let dead = match gateway.child.lock().await.as_mut() {
                Some(child) => !matches!(child.try_wait(), Ok(None)),
                None => true,
            };
            // One that was killed while it started is started again by whoever looks after it.
            if dead {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(Broken(format!("gateway {number} does not start: {}", tail(&gateway.folder.join("log")))));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether a gateway has died.
    pub async fn is_dead(&self, number: usize) -> bool {
        let Some(gateway) = self.gateways.get(number) else { return false };
        match gateway.child.lock().await.as_mut() {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => true,
        }
    }

    /// Sends a signal to a gateway.
    pub async fn signal(&self, number: usize, signal: Signal) {
        let Some(gateway) = self.gateways.get(number) else { return };
        let id = gateway.child.lock().await.as_ref().and_then(Child::id);
        if let Some(pid) = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Arms a kill point.
    pub async fn arm(&self, number: usize, point: &str) {
        if let Some(gateway) = self.gateways.get(number) {
            let _ = door::knock(&gateway.door(), &Knock::Arm(point.to_owned())).await;
        }
    }

    /// Moves all clocks by so many seconds.
    pub async fn advance(&self, seconds: u64) {
        if seconds == 0 {
            return;
        }
        let _ = self.tell("POST", "/clock", Some(json!({"advance_s": seconds}))).await;
        let mut ahead_s = self.ahead_s.lock().await;
        *ahead_s += seconds;
        let stopped = self.stopped.lock().await.clone();
        for (number, gateway) in self.gateways.iter().enumerate() {
            if !stopped.contains(&number) {
                let _ = door::knock(&gateway.door(), &Knock::Ahead(*ahead_s)).await;
            }
        }
    }

    /// Stops a gateway for so many milliseconds, while a minute goes by for everybody else; then it goes on.
    pub async fn freeze(&self, number: usize, during: Duration) {
        let _alone = self.at_freezing.lock().await;
        self.stopped.lock().await.insert(number);
        self.signal(number, Signal::STOP).await;
        self.advance(60).await;
        tokio::time::sleep(during).await;
        self.thaw(number).await;
    }

    async fn thaw(&self, number: usize) {
        self.signal(number, Signal::CONT).await;
        self.stopped.lock().await.remove(&number);
        let ahead_s = *self.ahead_s.lock().await;
        if let Some(gateway) = self.gateways.get(number) {
            let _ = door::knock(&gateway.door(), &Knock::Ahead(ahead_s)).await;
        }
    }

    /// What a gateway waits for.
    pub async fn due(&self, number: usize) -> Option<Reply> {
        let gateway = self.gateways.get(number)?;
        door::knock(&gateway.door(), &Knock::Due).await.ok()
    }

    /// How many gateways there are.
    #[must_use]
    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }

    /// Asks the sandbox's control.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn tell(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, Broken> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).map_err(|e| Broken(e.to_string()))?;
        let is_put = method == reqwest::Method::PUT;
        let mut request = self.http.request(method, format!("{}{path}", self.control));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.map_err(|e| Broken(format!("sandbox: {e}")))?;
        let status = answer.status();
        let text = answer.bytes().await.map_err(|e| Broken(format!("sandbox: {e}")))?;
        // What cannot be paid is an answer like others; a fault that is not taken would never strike.
        if is_put && !status.is_success() {
            return Err(Broken(format!("sandbox: {path}: {}", String::from_utf8_lossy(&text))));
        }
        Ok(serde_json::from_slice(&text).unwrap_or(Value::Null))
    }

    /// The demo merchant.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn demo(&self) -> Result<Demo, Broken> {
        let gateway = self.gateways.first().ok_or_else(|| Broken("no gateway".to_owned()))?;
        let text = std::fs::read(gateway.folder.join("demo.json")).map_err(in_vain("demo.json"))?;
        serde_json::from_slice(&text).map_err(|e| Broken(format!("demo.json: {e}")))
    }

    /// Stops all gateways as an operator would, and says which of them did not stop well.
    pub async fn stop_gateways(&self) -> Vec<String> {
        let mut trouble = Vec::new();
        for (number, gateway) in self.gateways.iter().enumerate() {
            let began = std::time::Instant::now();
            self.signal(number, Signal::TERM).await;
            let Some(mut child) = gateway.child.lock().await.take() else { continue };
            match tokio::time::timeout(PATIENCE, child.wait()).await {
                Ok(Ok(status)) if status.success() => {
                    if began.elapsed() > Duration::from_secs(DRAIN_S) + STOPS_WITHIN {
                        trouble.push(format!("gateway {number} took {} ms to stop", began.elapsed().as_millis()));
                    }
                }
                Ok(Ok(status)) => trouble.push(format!("gateway {number} stopped with {status}")),
                Ok(Err(error)) => trouble.push(format!("gateway {number}: {error}")),
                Err(_) => trouble.push(format!("gateway {number} does not stop")),
            }
        }
        trouble
    }

    /// A look into the database while the gateways work; nothing when it cannot be had.
    pub async fn looker(&self) -> Option<Looker> {
        let gateway = self.gateways.first()?;
        Looker::open(&self.direct_url(gateway)).await.ok()
    }

    /// The way to the database that nobody cuts.
    fn direct_url(&self, gateway: &Gateway) -> String {
        self.ground.postgres.as_ref().map_or_else(|| self.database_url(gateway), |own| own.url().to_owned())
    }

    /// Where a gateway listens.
    #[must_use]
    pub fn address(&self, number: usize) -> Option<SocketAddr> {
        self.gateways.get(number).map(|gateway| gateway.address)
    }

    /// Where a provider is called by gateways.
    #[must_use]
    pub fn face(&self, provider: &str) -> Option<SocketAddr> {
        self.providers.get(provider).map(|proxy| proxy.address)
    }

    /// Whoever holds the embedded database's lock; ends and refuses sessions; takes no writes.
    pub async fn trouble_database(&self, trouble: DatabaseTrouble, during: Duration) {
        let Some(gateway) = self.gateways.first() else { return };
        let _alone = self.at_database.lock().await;
        let done = match (&self.ground.postgres, trouble) {
            (Some(own), DatabaseTrouble::Restart) => own.restart(during).await.map_err(|e| e.to_string()),
            (Some(own), DatabaseTrouble::ReadOnly) => own.read_only(during).await.map_err(|e| e.to_string()),
            (None, DatabaseTrouble::Restart) => {
                self.signal(0, Signal::KILL).await;
                Ok(())
            }
            (None, DatabaseTrouble::ReadOnly) => {
                trouble::hold_lock(&self.database_url(gateway), during).await.map_err(|e| e.to_string())
            }
        };
        if let Err(error) = done {
            tracing::warn!(error, ?trouble, "the database was spared");
        }
    }

    /// The disk of the database has room for so many bytes, for so long.
    pub async fn fill_disk(&self, left: u64, during: Duration) {
        let Some(disk) = &self.ground.disk else { return };
        let _alone = self.at_database.lock().await;
        if let Err(error) = disk.fill(left) {
            tracing::warn!(%error, "the disk was spared");
        }
        self.limit_files(Some(left)).await;
        tokio::time::sleep(during).await;
        disk.free();
        self.limit_files(None).await;
    }

    async fn limit_files(&self, bytes: Option<u64>) {
        if self.ground.disk.as_ref().is_some_and(|disk| disk.is_limit) {
            for gateway in &self.gateways {
                disk::limit(gateway.child.lock().await.as_ref().and_then(Child::id), bytes);
            }
        }
    }

    /// Where each gateway listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.gateways.iter().map(|gateway| gateway.address).collect()
    }

    /// The clock of one gateway is wrong by so many seconds.
    pub async fn skew(&self, number: usize, seconds: i64) {
        if let Some(gateway) = self.gateways.get(number) {
            let _ = door::knock(&gateway.door(), &Knock::Skew(seconds)).await;
        }
    }

    /// Sets the clock of a gateway's machine, in seconds ahead of the right time.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn set_clock(&self, number: usize, ahead_s: i64) -> Result<(), Broken> {
        let Some(gateway) = self.gateways.get(number) else { return Ok(()) };
        // Whole or not at all: it is read all the time.
        let (file, new) = (gateway.wrong_clock(), gateway.folder.join("clock.new"));
        std::fs::write(&new, format!("{ahead_s:+}\n")).map_err(in_vain("clock"))?;
        std::fs::rename(&new, &file).map_err(in_vain("clock"))
    }

    /// How a gateway's jobs get on.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn jobs(&self, number: usize) -> Result<Vec<(String, u64)>, Broken> {
        let Some(gateway) = self.gateways.get(number) else { return Ok(Vec::new()) };
        let reply = door::knock(&gateway.door(), &Knock::Jobs).await.map_err(in_vain("a gateway's jobs"))?;
        Ok(reply.overdue_ms)
    }

    /// Ways are open, clocks are right, and the database is as it should be.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn mend(&self) -> Result<(), Broken> {
        let ways = [&self.database, &self.redis].into_iter().flatten().chain(self.providers.values());
        for proxy in ways.chain([&self.front]) {
            proxy.set(Mood::Open);
        }
        if let Some(disk) = &self.ground.disk {
            disk.free();
        }
        self.limit_files(None).await;
        if let Some(own) = &self.ground.postgres {
            own.mend().await.map_err(|e| Broken(e.to_string()))?;
        }
        for number in 0..self.gateways.len() {
            // One that was stopped, when the trouble was over before it went on.
            self.thaw(number).await;
            self.skew(number, 0).await;
        }
        Ok(())
    }

    /// The database, for who audits it once the gateways have stopped, or makes another merchant beside them.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn store(&self) -> Result<Store, Broken> {
        let gateway = self.gateways.first().ok_or_else(|| Broken("no gateway".to_owned()))?;
        Store::open(&self.direct_url(gateway), 2, PATIENCE).await.map_err(|e| Broken(e.to_string()))
    }

    /// Everything that the gateways have logged.
    #[must_use]
    pub fn logs(&self) -> Vec<String> {
        self.gateways.iter().map(|g| std::fs::read_to_string(g.folder.join("log")).unwrap_or_default()).collect()
    }

    /// Ends it.
    pub async fn strike(self) {
        self.sandbox.stop().await;
        if let Some(own) = self.ground.postgres
            && let Err(error) = own.remove().await
        {
            tracing::warn!(%error, "a drill's database was left behind");
        }
    }
}

/// A proxy before the server of this address.
async fn proxied(url: Option<&str>) -> Result<Option<Proxy>, Broken> {
    let Some(url) = url else { return Ok(None) };
    let parsed = url::Url::parse(url).map_err(|e| Broken(format!("an address: {e}")))?;
    let default = if parsed.scheme().starts_with("redis") { 6_379 } else { 5_432 };
    let host = parsed.host_str().unwrap_or("127.0.0.1").to_owned();
    let target = tokio::net::lookup_host((host.as_str(), parsed.port().unwrap_or(default)))
        .await
        .map_err(in_vain("an address"))?
        .next()
        .ok_or_else(|| Broken(format!("{host} has no address")))?;
    Proxy::start_before(target).await.map(Some).map_err(in_vain("proxy"))
}

/// The same address through a proxy.
fn through(url: &str, proxy: &Proxy) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) => {
            let _ = parsed.set_ip_host(proxy.address.ip());
            let _ = parsed.set_port(Some(proxy.address.port()));
            parsed.to_string()
        }
        Err(_) => url.to_owned(),
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

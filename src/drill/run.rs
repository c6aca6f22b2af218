//! One run of a drill: trouble, then everything is mended, then all must come to rest, then the auditor. A controller
//! moves the time of all parts together.
#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for what it has not")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use providers::http::plain_client_builder;
use providers::sandbox::keys::Keys;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use super::audit::{self, Evidence};
use super::disk::SmallDisk;
use super::error::Broken;
use super::forger::{Forgeries, forge};
use super::leftovers::{difference, keep, planted};
use super::lies::Liar;
use super::merchant::{Log, Shop, Shopper};
use super::neighbour::Neighbour;
use super::outcome::Outcome;
use super::prober::{Probed, probe};
use super::proxy::Mood;
use super::receiver::{Boxes, Manners};
use super::rest::{REST_WITHIN_S, STEP_S, come_to_rest};
use super::returns;
use super::scenario::{Blow, Plan};
use super::stage::{DatabaseTrouble, Ground, KEY, Stage};
use super::trace::trace;
use super::wanted::Wanted;
use crate::domain::{Aggregate, Timestamp};
use crate::kill::KILLED_AT;
use crate::server::demo::Demo;
use crate::store::Store;
use crate::store::trouble::OwnDatabase;

/// What all runs share.
#[derive(Debug)]
pub struct Tools {
    pub wanted: Wanted,
    pub keys: Keys,
    pub webhooks: SocketAddr,
    pub boxes: Boxes,
}

/// An order's time is over so long after it was made, and UnionPay's last.
const ORDERS_END_S: u64 = 1_200;
/// So many forgeries once everything rests.
const FORGERIES_AT_REST: u32 = 12;
/// Between two times that somebody pays what nobody was shown.
const LEAKS_EVERY: Duration = Duration::from_millis(250);
/// The embedded database's lock is held so many times as long as another database would stall: a long stall outlasts the
/// five seconds that gateways wait for it.
const OUTLASTS: u64 = 12;
/// Room on a small disk.
const DISK_MIB: u32 = 24;

/// Carries one run out.
///
/// # Errors
/// [`Broken`].
pub async fn run(tools: &Tools, plan: Plan) -> Result<Outcome, Broken> {
    let (wanted, seed) = (&tools.wanted, plan.seed);
    let folder = tempfile::Builder::new().prefix("interlock-drill-").tempdir()?;
    let disk = match plan.small_disk {
        true => Some(small_disk(folder.path(), wanted.postgres.as_deref()).await?),
        false => None,
    };
    let postgres = match &wanted.postgres {
        Some(url) => {
            let name = format!("drill_{}_{seed}", crate::domain::id::token().unwrap_or_default().to_lowercase());
            let place = disk.as_ref().map(|disk| disk.folder.as_path());
            Some(OwnDatabase::make(url, name, place).await.map_err(|e| Broken(e.to_string()))?)
        }
        None => None,
    };
    let redis = wanted.redis.as_deref().map(|url| own_redis(url, seed)).transpose()?;
    let faketime = if plan.sets.is_empty() { None } else { Some(super::clock_set::library()?) };
    let ground = Ground { folder: folder.path().to_owned(), postgres, redis: redis.clone(), disk, faketime };
    let stage = Arc::new(Stage::build(ground, tools.keys.clone(), plan.gateways, wanted.env.clone()).await?);
    let liar = redis.clone().map(Liar::new);
    let run = Run { tools, plan, stage: Arc::clone(&stage), redis, liar, name: format!("seed-{seed}") };
    run.flush().await;
    let mut outcome = run.carry_out().await?;
    if !outcome.violations.is_empty() {
        keep(wanted, folder.path(), seed, &mut outcome);
    }
    if let Some(stage) = Arc::into_inner(stage) {
        stage.strike().await;
    }
    Ok(outcome)
}

/// A small disk for the run's database. PostgreSQL's server must get there, and own it.
async fn small_disk(folder: &Path, postgres: Option<&str>) -> Result<SmallDisk, Broken> {
    use std::os::unix::fs::PermissionsExt as _;

    let Some(url) = postgres else { return SmallDisk::mount_or_limit(&folder.join("disk"), DISK_MIB) };
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711))?;
    let data = OwnDatabase::data_folder(url).await.map_err(|e| Broken(e.to_string()))?;
    // An empty PostgreSQL database takes 8 MiB.
    SmallDisk::mount(&folder.join("disk"), DISK_MIB + 24, Some(&data))
}

/// A database in the Redis that runs at the same time do not use: seeds that follow each other get different ones.
fn own_redis(url: &str, seed: u64) -> Result<String, Broken> {
    let mut own = url::Url::parse(url).map_err(|e| Broken(format!("--redis: {e}")))?;
    if matches!(own.path(), "" | "/") {
        own.set_path(&(seed % 15 + 1).to_string());
    }
    Ok(own.into())
}

struct Run<'a> {
    tools: &'a Tools,
    plan: Plan,
    stage: Arc<Stage>,
    redis: Option<String>,
    liar: Option<Liar>,
    name: String,
}

impl Run<'_> {
    async fn carry_out(self) -> Result<Outcome, Broken> {
        let demo = self.stage.demo()?;
        let http = plain_client_builder().pool_max_idle_per_host(0).build();
        let shop = Shop {
            gateway: format!("http://{}", self.stage.front.address),
            api_key: demo.api_key.clone(),
            sandbox: self.stage.control.clone(),
            http: http.map_err(|e| Broken(e.to_string()))?,
            log: Log::default(),
        };
        let webhook_secret = self.subscribe(&shop).await?;
        self.order_routes(&shop, &demo).await?;
        let neighbour = self.neighbour(&shop).await?;
        let (over, kills) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(0)));
        let mut keepers = self.keepers(&over, &kills);
        let doubles = self.watch(&over, &mut keepers).await?;
        let (enough, mut probers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let probed = self.probe(&enough, &shop, &mut probers);
        let (mut forgeries, too_slow) = match self.plan.storm {
            Some(storm) => (Forgeries::default(), super::storm::storm(&self.stage, &shop, &self.plan, storm).await?),
            None if !self.plan.sets.is_empty() => {
                (Forgeries::default(), super::clock_set::set_clocks(&self.stage, &shop, &self.plan).await?)
            }
            None => (self.trouble(&shop, &demo, neighbour.as_ref()).await?, Vec::new()),
        };
        self.mend().await?;
        // They make payments, and with them nothing comes to rest.
        enough.store(true, Ordering::Relaxed);
        probers.join_all().await;
        if let Some(neighbour) = &neighbour {
            neighbour.give_in().await?;
        }
        let not_back = returns::not_back(&self.plan, &self.stage, &shop).await;
        self.pay_too_late().await?;
        let mended_at = Some(self.sandbox_time().await?);
        let mut trouble = Vec::new();
        let rested_after_s = match come_to_rest(&self.stage).await {
            Ok(seconds) => seconds,
            Err(what) => {
                trouble.push(what);
                REST_WITHIN_S
            }
        };
        over.store(true, Ordering::Relaxed);
        keepers.join_all().await;
        let changed_by_forgeries = self.forge_at_rest(&shop, &demo, &mut forgeries).await?;
        let books = self.stage.tell("GET", "/books", None).await?;
        let calls = self.stage.tell("GET", "/calls", None).await?;
        let log = self.stage.tell("GET", "/notifications", None).await?;
        if let Some(database) = self.stage.database.as_ref().filter(|_| self.plan.silent_stop) {
            database.hold(Mood::Silent, 20).await;
        }
        trouble.extend(self.stage.stop_gateways().await);
        let store = self.stage.store().await?;
        let seen_double = doubles.lock().await.iter().cloned().collect();
        let evidence = self.evidence(&store, &shop, &books, &log, trouble, &[demo.api_key, webhook_secret]).await;
        let _ = store.close().await;
        let evidence = evidence.map_err(|e| Broken(format!("the auditor cannot read the database: {e}")))?;
        let point = self.point(&evidence.logs);
        let probed = probed.lock().await.clone();
        let evidence = Evidence { probed, calls, too_slow, seen_double, forgeries, mended_at, point, ..evidence };
        let evidence = Evidence { changed_by_forgeries, not_back, ..evidence };
        let kills = *kills.lock().await;
        Ok(outcome(&evidence, rested_after_s, kills))
    }

    /// Where the gateway was to die, if that is what the run is about, and whether it did.
    fn point(&self, logs: &[String]) -> Option<(String, bool)> {
        let armed = |(_, blow): &(u64, Blow)| if let Blow::Arm(_, point) = blow { Some(point.clone()) } else { None };
        let only = self.plan.scenario == "crash-everywhere";
        let point = self.plan.blows.iter().find_map(armed).filter(|_| only)?;
        let last = format!("{KILLED_AT}{}", point.split(':').next().unwrap_or_default());
        let is_hit = logs.iter().flat_map(|log| log.lines()).any(|line| line == last);
        Some((point, is_hit))
    }

    /// In milliseconds since 1970.
    async fn sandbox_time(&self) -> Result<Timestamp, Broken> {
        let clock = self.stage.tell("GET", "/clock", None).await?;
        let now = clock["now"].as_str().and_then(|now| now.parse::<chrono::DateTime<chrono::Utc>>().ok());
        now.map(|now| Timestamp(now.timestamp_millis())).ok_or_else(|| Broken("the sandbox has no time".to_owned()))
    }

    /// The merchant wants to be told.
    async fn subscribe(&self, shop: &Shop) -> Result<String, Broken> {
        self.tools.boxes.behave(&self.name, self.plan.manners);
        let url = format!("http://{}/{}", self.tools.webhooks, self.name);
        let body = json!({"url": url}).to_string();
        let asking = shop.http.post(format!("{}/v1/webhook_endpoints", shop.gateway)).bearer_auth(&shop.api_key);
        let answer = asking.body(body).send().await.map_err(|e| Broken(e.to_string()))?;
        let text = answer.text().await.map_err(|e| Broken(e.to_string()))?;
        let made: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        made["secret"].as_str().map(str::to_owned).ok_or_else(|| Broken(format!("no webhook endpoint: {text}")))
    }

    /// Alipay first, WeChat Pay second, UnionPay third: faults know whom they hit. Without switchover offers have Alipay
    /// alone; whose code is read is not for us to say.
    async fn order_routes(&self, shop: &Shop, demo: &Demo) -> Result<(), Broken> {
        let accounts: Vec<Value> = demo.accounts.iter().map(|account| json!({"id": account.id})).collect();
        let mut rules = vec![json!({"strategy": "priority", "accounts": accounts})];
        if !self.plan.switchover {
            let first: Vec<Value> = accounts.into_iter().take(1).collect();
            rules.insert(0, json!({"match": {"flow": "qr"}, "strategy": "priority", "accounts": first}));
        }
        let body = json!({"rules": rules}).to_string();
        let asking = shop.http.put(format!("{}/v1/routing", shop.gateway)).bearer_auth(&shop.api_key).body(body);
        let answer = asking.send().await.map_err(|e| Broken(e.to_string()))?;
        let is_done = answer.status().is_success();
        is_done.then_some(()).ok_or_else(|| Broken(format!("routing: {}", answer.status())))
    }

    /// Whoever starts gateways that have died.
    fn keepers(&self, over: &Arc<AtomicBool>, kills: &Arc<Mutex<u32>>) -> JoinSet<()> {
        let mut keepers = JoinSet::new();
        for number in 0..self.stage.gateways() {
            let (stage, over, kills) = (Arc::clone(&self.stage), Arc::clone(over), Arc::clone(kills));
            keepers.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    if stage.is_dead(number).await {
                        *kills.lock().await += 1;
                        let _ = stage.start(number).await;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
        keepers
    }

    /// Whoever looks all the time for a payment with two live or two kept attempts.
    async fn watch(
        &self,
        over: &Arc<AtomicBool>,
        keepers: &mut JoinSet<()>,
    ) -> Result<Arc<Mutex<BTreeSet<String>>>, Broken> {
        let looker = self.stage.looker().await.ok_or_else(|| Broken("nobody can look into the database".to_owned()))?;
        let (over, seen) = (Arc::clone(over), Arc::new(Mutex::new(BTreeSet::new())));
        let doubles = Arc::clone(&seen);
        keepers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                if let Ok(found) = looker.doubles().await {
                    seen.lock().await.extend(found);
                }
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        });
        Ok(doubles)
    }

    /// Whoever pays at each gateway all the time.
    fn probe(&self, over: &Arc<AtomicBool>, shop: &Shop, keepers: &mut JoinSet<()>) -> Arc<Mutex<Vec<Probed>>> {
        let all = Arc::new(Mutex::new(Vec::new()));
        if self.plan.probes {
            for address in self.stage.addresses() {
                let (all, over, key) = (Arc::clone(&all), Arc::clone(over), shop.api_key.clone());
                keepers.spawn(async move {
                    let probed = probe(address, &key, &over).await;
                    all.lock().await.push(probed);
                });
            }
        }
        all
    }

    /// The hostile merchant, where there is one. What it is told goes to a box of its own, which takes nothing until all is
    /// mended.
    async fn neighbour(&self, shop: &Shop) -> Result<Option<Neighbour>, Broken> {
        if !self.plan.neighbour {
            return Ok(None);
        }
        let name = self.hanging();
        self.tools.boxes.behave(&name, Manners::Hang);
        Neighbour::move_in(&self.stage, shop, &format!("http://{}/{name}", self.tools.webhooks)).await.map(Some)
    }

    fn hanging(&self) -> String {
        format!("{}-hangs", self.name)
    }

    async fn trouble(&self, shop: &Shop, demo: &Demo, neighbour: Option<&Neighbour>) -> Result<Forgeries, Broken> {
        let asked = [("/refunds", &self.plan.refund_ends), ("/payments", &self.plan.payment_ends)];
        for (path, bodies) in asked.into_iter().chain([("/faults", &self.plan.faults)]) {
            for body in bodies {
                self.stage.tell("PUT", path, Some(body.clone())).await?;
            }
        }
        let places = Arc::new(Semaphore::new(self.plan.at_once));
        let mut shoppers = JoinSet::new();
        for number in 0..self.plan.payments {
            let (places, shop) = (Arc::clone(&places), shop.clone());
            let (seed, habits) = (self.plan.seed, self.plan.habits);
            let share = u64::try_from(number).unwrap_or(0) * self.plan.spread_ms;
            let comes = Duration::from_millis(share / u64::try_from(self.plan.payments).unwrap_or(1).max(1));
            shoppers.spawn(async move {
                tokio::time::sleep(comes).await;
                let _place = places.acquire_owned().await;
                Shopper::new(shop, number, seed, habits).run().await;
            });
        }
        let shopping = async { while shoppers.join_next().await.is_some() {} };
        let mut forgeries = Forgeries::default();
        let now = self.sandbox_time().await?;
        let forged = forge(shop, demo, now, self.plan.forgeries, self.plan.seed, |believed| {
            forgeries.answered += 1;
            forgeries.believed.extend(believed);
        });
        let hostile = async {
            match neighbour {
                Some(neighbour) => neighbour.be_hostile().await,
                None => std::future::pending().await,
            }
        };
        let beside = async { tokio::join!(self.hurry(), self.leak_again_and_again(), forged, hostile) };
        tokio::select! {
            _ = async { tokio::join!(shopping, self.blows()) } => {}
            _ = beside => {}
            () = tokio::time::sleep(Duration::from_secs(self.plan.lasts_s)) => {}
        }
        self.leak(self.plan.leaks, 0).await?;
        Ok(forgeries)
    }

    async fn blows(&self) {
        let began = Instant::now();
        let struck = self.plan.blows.iter().map(|(at, blow)| async move {
            tokio::time::sleep(Duration::from_millis(*at).saturating_sub(began.elapsed())).await;
            self.strike(blow).await;
        });
        futures_util::future::join_all(struck).await;
    }

    async fn strike(&self, blow: &Blow) {
        let stage = &self.stage;
        match blow {
            Blow::Kill(gateway) => stage.signal(*gateway, Signal::KILL).await,
            Blow::Arm(gateway, point) => stage.arm(*gateway, point).await,
            Blow::Freeze(gateway, ms) => stage.freeze(*gateway, Duration::from_millis(*ms)).await,
            Blow::Redis(mood, ms) => {
                if let Some(proxy) = &stage.redis {
                    proxy.hold(*mood, *ms).await;
                }
            }
            Blow::Flush => self.flush().await,
            Blow::Lie(lie) => {
                let told = match &self.liar {
                    Some(liar) => liar.tell(*lie).await,
                    None => Ok(()),
                };
                if let Err(error) = told {
                    tracing::warn!(%error, ?lie, "Redis did not lie");
                }
            }
            Blow::Database(mood, ms) => match &stage.database {
                Some(proxy) => proxy.hold(*mood, *ms).await,
                // A stall may last longer than gateways wait for a lock: then changes fail.
                None => {
                    let ms = if *mood == Mood::Stalled { ms * OUTLASTS } else { *ms };
                    stage.trouble_database(DatabaseTrouble::ReadOnly, Duration::from_millis(ms)).await;
                }
            },
            Blow::Restart(ms) => stage.trouble_database(DatabaseTrouble::Restart, Duration::from_millis(*ms)).await,
            Blow::ReadOnly(ms) => stage.trouble_database(DatabaseTrouble::ReadOnly, Duration::from_millis(*ms)).await,
            Blow::Skew(gateway, seconds) => stage.skew(*gateway, *seconds).await,
            Blow::Callbacks(mood, ms) => stage.front.hold(*mood, *ms).await,
            Blow::Provider(provider, mood, ms) => {
                if let Some(proxy) = stage.providers.get(provider) {
                    proxy.hold(*mood, *ms).await;
                }
            }
            Blow::DiskFull(left, ms) => stage.fill_disk(*left, Duration::from_millis(*ms)).await,
            Blow::Leap(seconds) => stage.advance(*seconds).await,
            Blow::Mend => drop(stage.tell("DELETE", "/faults", None).await),
        }
    }

    async fn flush(&self) {
        let Some(url) = &self.redis else { return };
        let flushing = async {
            let client = redis::Client::open(url.as_str())?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd("FLUSHDB").query_async::<()>(&mut connection).await
        };
        if let Err(error) = flushing.await {
            tracing::warn!(%error, "Redis could not be emptied");
        }
    }

    /// Time goes by faster than it does.
    async fn hurry(&self) {
        let mut rng = Rng::with_seed(self.plan.seed ^ 0x5EED);
        loop {
            tokio::time::sleep(Duration::from_millis(150)).await;
            self.stage.advance(rng.u64(..=self.plan.hurry_s)).await;
        }
    }

    /// Somebody pays what nobody was shown, while it is still being sent, too: then the provider tells of money before it
    /// has answered.
    async fn leak_again_and_again(&self) {
        for round in 1.. {
            tokio::time::sleep(LEAKS_EVERY).await;
            if self.plan.leaks > 0 {
                let _ = self.leak(self.plan.leaks / 16, round).await;
            }
        }
    }

    /// Of a thousand orders so many are paid, whoever knows of them.
    async fn leak(&self, permille: u32, round: u64) -> Result<(), Broken> {
        let mut rng = Rng::with_seed(self.plan.seed ^ 0x1EA7 ^ (round << 32));
        let books = self.stage.tell("GET", "/books", None).await?;
        for order in books["orders"].as_array().into_iter().flatten() {
            if rng.u32(..1_000) < permille {
                let body = json!({"order_no": order["order_no"], "result": "paid"});
                let _ = self.stage.tell("POST", "/pay", Some(body)).await;
            }
        }
        Ok(())
    }

    async fn mend(&self) -> Result<(), Broken> {
        self.stage.tell("DELETE", "/faults", None).await?;
        for protocol in providers::PROTOCOLS {
            let done = json!({"provider": protocol.name.as_str(), "result": "done"});
            self.stage.tell("PUT", "/refunds", Some(done)).await?;
        }
        for name in [&self.name, &self.hanging()] {
            self.tools.boxes.behave(name, Manners::Good);
        }
        self.stage.mend().await
    }

    /// Once the time of orders is over, some are paid all the same: there is a provider that takes that money, tells nobody,
    /// and gives it back days later.
    async fn pay_too_late(&self) -> Result<(), Broken> {
        if self.plan.too_late == 0 {
            return Ok(());
        }
        for _ in 0..ORDERS_END_S / STEP_S {
            self.stage.advance(STEP_S).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut rng = Rng::with_seed(self.plan.seed ^ 0x1A7E);
        let books = self.stage.tell("GET", "/books?provider=unionpay", None).await?;
        for order in books["orders"].as_array().into_iter().flatten() {
            if rng.u32(..1_000) < self.plan.too_late {
                let body = json!({"order_no": order["order_no"], "result": "late"});
                let _ = self.stage.tell("POST", "/pay", Some(body)).await;
            }
        }
        Ok(())
    }

    /// Forgeries come in while nothing else happens; says what of the rows is another after them.
    async fn forge_at_rest(
        &self,
        shop: &Shop,
        demo: &Demo,
        forgeries: &mut Forgeries,
    ) -> Result<Option<String>, Broken> {
        let store = self.stage.store().await?;
        let unreadable = |e: sea_orm::DbErr| Broken(format!("the auditor cannot read the database: {e}"));
        let before = store.all_rows().await.map_err(unreadable)?;
        let mut left = FORGERIES_AT_REST;
        let done = Arc::new(tokio::sync::Notify::new());
        let told = Arc::clone(&done);
        let now = self.sandbox_time().await?;
        let forged = forge(shop, demo, now, 50, !self.plan.seed, |believed| {
            forgeries.answered += 1;
            forgeries.believed.extend(believed);
            left = left.saturating_sub(1);
            if left == 0 {
                told.notify_one();
            }
        });
        tokio::select! {
            () = forged => {}
            () = done.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => {
                return Ok(Some(format!("{left} of {FORGERIES_AT_REST} forgeries were not answered")));
            }
        }
        let after = store.all_rows().await.map_err(unreadable)?;
        let _ = store.close().await;
        let differing = before.iter().zip(&after).filter(|(one, other)| one != other);
        let changed: Vec<String> =
            differing.map(|((name, one), (_, other))| format!("{name}: {}", difference(one, other))).collect();
        Ok((!changed.is_empty()).then(|| changed.join("; ")))
    }

    async fn evidence(
        &self,
        store: &Store,
        shop: &Shop,
        books: &Value,
        log: &Value,
        trouble: Vec<String>,
        secrets: &[String],
    ) -> Result<Evidence, sea_orm::DbErr> {
        let payments: Vec<Aggregate> = store.all_payments().await?;
        let shopped = shop.log.all();
        let codes = shopped.values().filter_map(|shopped| shopped.auth_code.clone());
        let secrets = secrets.iter().cloned().chain(planted(&self.tools.keys)).chain(codes);
        let named = |body: &Value| body["provider"].as_str().unwrap_or_default().to_owned();
        let lying = self.plan.faults.iter().filter(|fault| fault["kind"] == "other_amount");
        Ok(Evidence {
            liars: lying.map(named).collect(),
            refusing: self.plan.refund_ends.iter().map(named).collect(),
            orders: books["orders"].as_array().cloned().unwrap_or_default(),
            sent: log["sent"].as_u64().unwrap_or_default(),
            notifications: log["data"].as_array().cloned().unwrap_or_default(),
            payments,
            told: store.all_told().await?,
            taken: store.all_notifications().await?,
            for_a_person: store.all_for_a_person().await?,
            keys: store.all_keys().await?,
            secrets: secrets.chain([KEY.to_owned()]).collect(),
            shopped,
            received: [&self.name, &self.hanging()].into_iter().flat_map(|name| self.tools.boxes.empty(name)).collect(),
            logs: self.stage.logs(),
            ledger: store.check_ledger(None, 20).await?.deviations,
            trouble,
            ..Evidence::default()
        })
    }
}

/// What the auditor makes of it.
fn outcome(evidence: &Evidence, rested_after_s: u64, kills: u32) -> Outcome {
    let (violations, figures) = audit::audit(evidence);
    // One about a payment tells more than one about the run.
    let about_one = violations.iter().find(|v| evidence.payments.iter().any(|p| p.payment.id == v.subject));
    let trace = about_one.or(violations.first()).map(|v| trace(v, evidence));
    let all = || evidence.shopped.values().flat_map(|shopped| &shopped.answers);
    let mut answers = BTreeMap::new();
    all().for_each(|answer| *answers.entry(answer.status).or_insert(0) += 1);
    let refused = all().find(|answer| matches!(answer.status, 400..=404 | 422));
    let mut for_a_person = BTreeMap::new();
    evidence.for_a_person.iter().for_each(|o| *for_a_person.entry(o.kind.clone()).or_insert(0) += 1);
    Outcome {
        violations,
        figures,
        waits_ms: evidence.shopped.values().map(|s| s.took_ms).collect(),
        rested_after_s,
        kills,
        answers,
        refused: refused.map(|answer| String::from_utf8_lossy(&answer.body).into_owned()),
        trace,
        point: evidence.point.clone(),
        for_a_person,
    }
}

//! One run of a drill: trouble, then everything is mended, then all must come to rest, then the
//! auditor. A controller moves the time of all parts together.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

mod evidence;
mod players;
mod tools;
mod trouble;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use providers::http::plain_client_builder;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use self::tools::Run;
pub use self::tools::Tools;
use super::attacker::Forgeries;
use super::audit::{self, Evidence};
use super::cluster::{Ground, Stage};
use super::disk::SmallDisk;
use super::error::Error;
use super::leftovers::keep;
use super::lies::Liar;
use super::merchant::{Log, Shop};
use super::outcome::Outcome;
use super::proxy::LinkState;
use super::quiesce::{REST_WITHIN_S, come_to_rest};
use super::returns;
use super::scenario::Plan;
use super::trace::trace;
use crate::server::demo::Demo;
use crate::store::trouble::OwnDatabase;

/// Room on a small disk.
const DISK_MIB: u32 = 24;

/// Carries one run out.
///
/// # Errors
/// [`Error`].
pub async fn run(tools: &Tools, plan: Plan) -> Result<Outcome, Error> {
    let (wanted, seed) = (&tools.wanted, plan.seed);
    let folder = tempfile::Builder::new()
        .prefix("interlock-drill-")
        .tempdir()?;
    let disk = match plan.small_disk {
        true => Some(small_disk(folder.path(), wanted.postgres.as_deref()).await?),
        false => None,
    };

    let postgres = match &wanted.postgres {
        Some(url) => {
            let name = format!(
                "drill_{}_{seed}",
                crate::domain::id::token()
                    .unwrap_or_default()
                    .to_lowercase()
            );
            let place = disk.as_ref().map(|disk| disk.folder.as_path());
            Some(
                OwnDatabase::make(url, name, place)
                    .await
                    .map_err(|e| Error(e.to_string()))?,
            )
        }
        None => None,
    };

    let redis = wanted
        .redis
        .as_deref()
        .map(|url| own_redis(url, seed))
        .transpose()?;
    let faketime = if plan.sets.is_empty() {
        None
    } else {
        Some(super::clock_set::library()?)
    };

    let ground = Ground {
        folder: folder.path().to_owned(),
        postgres,
        redis: redis.clone(),
        disk,
        faketime,
    };
    let stage = Arc::new(
        Stage::build(
            ground,
            tools.keys.clone(),
            plan.gateways,
            wanted.env.clone(),
        )
        .await?,
    );

    let liar = redis.clone().map(Liar::new);
    let run = Run {
        tools,
        plan,
        stage: Arc::clone(&stage),
        redis,
        liar,
        name: format!("seed-{seed}"),
    };

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
async fn small_disk(folder: &Path, postgres: Option<&str>) -> Result<SmallDisk, Error> {
    use std::os::unix::fs::PermissionsExt as _;

    let Some(url) = postgres else {
        return SmallDisk::mount_or_limit(&folder.join("disk"), DISK_MIB);
    };
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711))?;
    let data = OwnDatabase::data_folder(url)
        .await
        .map_err(|e| Error(e.to_string()))?;
    // An empty PostgreSQL database takes 8 MiB.
    SmallDisk::mount(&folder.join("disk"), DISK_MIB + 24, Some(&data))
}

/// A database in the Redis that runs at the same time do not use: seeds that follow each other get
/// different ones.
fn own_redis(url: &str, seed: u64) -> Result<String, Error> {
    let mut own = url::Url::parse(url).map_err(|e| Error(format!("--redis: {e}")))?;
    if matches!(own.path(), "" | "/") {
        own.set_path(&(seed % 15 + 1).to_string());
    }
    Ok(own.into())
}

impl Run<'_> {
    async fn carry_out(self) -> Result<Outcome, Error> {
        let demo = self.stage.demo()?;
        let http = plain_client_builder().pool_max_idle_per_host(0).build();
        let shop = Shop {
            gateway: format!("http://{}", self.stage.front.address),
            api_key: demo.api_key.clone(),
            sandbox: self.stage.control.clone(),
            http: http.map_err(|e| Error(e.to_string()))?,
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
            Some(storm) => (
                Forgeries::default(),
                super::storm::storm(&self.stage, &shop, &self.plan, storm).await?,
            ),
            None if !self.plan.sets.is_empty() => (
                Forgeries::default(),
                super::clock_set::set_clocks(&self.stage, &shop, &self.plan).await?,
            ),
            None => (
                self.trouble(&shop, &demo, neighbour.as_ref()).await?,
                Vec::new(),
            ),
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

        if let Some(database) = self
            .stage
            .database
            .as_ref()
            .filter(|_| self.plan.silent_stop)
        {
            database.hold(LinkState::Silent, 20).await;
        }
        trouble.extend(self.stage.stop_gateways().await);
        let store = self.stage.store().await?;
        let seen_double = doubles.lock().await.iter().cloned().collect();
        let evidence = self
            .evidence(
                &store,
                &shop,
                &books,
                &log,
                trouble,
                &[demo.api_key, webhook_secret],
            )
            .await;

        let _ = store.close().await;
        let evidence =
            evidence.map_err(|e| Error(format!("the auditor cannot read the database: {e}")))?;
        let point = self.point(&evidence.logs);
        let probed = probed.lock().await.clone();
        let evidence = Evidence {
            probed,
            calls,
            too_slow,
            seen_double,
            forgeries,
            mended_at,
            point,
            ..evidence
        };

        let evidence = Evidence {
            changed_by_forgeries,
            not_back,
            ..evidence
        };
        let kills = *kills.lock().await;

        Ok(outcome(&evidence, rested_after_s, kills))
    }

    /// The merchant wants to be told.
    async fn subscribe(&self, shop: &Shop) -> Result<String, Error> {
        self.tools.boxes.behave(&self.name, self.plan.manners);
        let url = format!("http://{}/{}", self.tools.webhooks, self.name);
        let body = json!({"url": url}).to_string();
        let asking = shop
            .http
            .post(format!("{}/v1/webhook_endpoints", shop.gateway))
            .bearer_auth(&shop.api_key);
        let answer = asking
            .body(body)
            .send()
            .await
            .map_err(|e| Error(e.to_string()))?;

        let text = answer.text().await.map_err(|e| Error(e.to_string()))?;
        let made: Value = serde_json::from_str(&text).unwrap_or(Value::Null);

        made["secret"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Error(format!("no webhook endpoint: {text}")))
    }

    /// Alipay first, WeChat Pay second, UnionPay third: faults know whom they hit. Without
    /// switchover offers have Alipay alone; whose code is read is not for us to say.
    async fn order_routes(&self, shop: &Shop, demo: &Demo) -> Result<(), Error> {
        let accounts: Vec<Value> = demo
            .accounts
            .iter()
            .map(|account| json!({"id": account.id}))
            .collect();
        let mut rules = vec![json!({"strategy": "priority", "accounts": accounts})];

        if !self.plan.switchover {
            let first: Vec<Value> = accounts.into_iter().take(1).collect();
            rules.insert(
                0,
                json!({"match": {"flow": "qr"}, "strategy": "priority", "accounts": first}),
            );
        }

        let body = json!({"rules": rules}).to_string();
        let asking = shop
            .http
            .put(format!("{}/v1/routing", shop.gateway))
            .bearer_auth(&shop.api_key)
            .body(body);

        let answer = asking.send().await.map_err(|e| Error(e.to_string()))?;
        let is_done = answer.status().is_success();
        is_done
            .then_some(())
            .ok_or_else(|| Error(format!("routing: {}", answer.status())))
    }
}

/// What the auditor makes of it.
fn outcome(evidence: &Evidence, rested_after_s: u64, kills: u32) -> Outcome {
    let (violations, figures) = audit::audit(evidence);
    // One about a payment tells more than one about the run.
    let about_one = violations
        .iter()
        .find(|v| evidence.payments.iter().any(|p| p.payment.id == v.subject));
    let trace = about_one.or(violations.first()).map(|v| trace(v, evidence));
    let all = || {
        evidence
            .shopped
            .values()
            .flat_map(|shopped| &shopped.answers)
    };

    let mut answers = BTreeMap::new();
    all().for_each(|answer| *answers.entry(answer.status).or_insert(0) += 1);
    let refused = all().find(|answer| matches!(answer.status, 400..=404 | 422));
    let mut for_a_person = BTreeMap::new();

    evidence
        .for_a_person
        .iter()
        .for_each(|o| *for_a_person.entry(o.kind.clone()).or_insert(0) += 1);

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

//! Trouble under load, end to end: a provider dies, all of them do, Redis does, gateways are
//! restarted; and nobody's payment fails for it. How fast it goes is printed, not judged: figures
//! belong into benchmarks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::load::{Load, Made, percentile, print_by_second};
use crate::helpers::process::Process;
use crate::helpers::redis::Redis;
use crate::helpers::{
    Client, Control, Ground, PATIENCE, TestApp, database, name_installation, order,
};

/// Every gateway on a database needs the same one.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Two gateways as processes of their own: on one PostgreSQL, or each on its SQLite, at the same
/// providers and the same Redis.
struct Pair {
    ground: Ground,
    control: Control,
    folders: [TempDir; 2],
    databases: [String; 2],
    env: Vec<(&'static str, String)>,
}

impl Pair {
    async fn new(redis: Option<&str>) -> Self {
        let ground = Ground::new().await;
        let control = Control::new(&ground.sandbox);
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let databases = if ground.database.starts_with("postgres") {
            [ground.database.clone(), ground.database.clone()]
        } else {
            [
                database(folders[0].path()).await,
                database(folders[1].path()).await,
            ]
        };

        for database in &databases {
            name_installation(database, "pair").await;
        }
        let mut env = vec![
            ("INTERLOCK__CREDENTIALS__KEY", KEY.to_owned()),
            ("INTERLOCK__SERVER__DRAIN_NOTICE_S", "1".to_owned()),
        ];
        env.extend(redis.map(|url| ("INTERLOCK__REDIS__URL", url.to_owned())));

        Self {
            ground,
            control,
            folders,
            databases,
            env,
        }
    }

    /// Starts one of them. The second one of a database comes after the first: that one makes the
    /// demo merchant.
    async fn start(&self, which: usize) -> Process {
        Process::with(
            self.folders[which].path(),
            &self.databases[which],
            &self.control.url,
            &self.env,
        )
        .await
    }

    fn is_shared(&self) -> bool {
        self.databases[0] == self.databases[1]
    }
}

/// The accounts in this order at a gateway whose merchant they are.
async fn route(gateway: &Process, providers: &[&str]) {
    let account = |provider: &&str| {
        gateway
            .demo
            .accounts
            .iter()
            .find(|account| account.provider == **provider)
            .map(|account| account.id.clone())
            .unwrap()
    };
    let accounts: Vec<String> = providers.iter().map(account).collect();
    let named: Vec<&str> = accounts.iter().map(String::as_str).collect();
    gateway.client.route(&named).await.expect(200);
}

fn assert_all_served(made: &[Made]) {
    let failed: Vec<&Made> = made.iter().filter(|made| !made.is_served()).collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed, the first: {:#?}",
        failed.len(),
        made.len(),
        failed.first()
    );
}

fn seconds_from_env(name: &str, usual: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

/// The provider that comes first dies at 50 payments a second, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_dies_under_load_and_no_offer_fails() {
    let redis = Redis::start().await;
    let pair = Pair::new(Some(&redis.url())).await;
    let gateways = [pair.start(0).await, pair.start(1).await];
    for gateway in &gateways {
        route(gateway, &["alipay", "wechatpay", "unionpay"]).await;
    }
    let clients = gateways.each_ref().map(|gateway| gateway.client.clone());
    let load = Load::start(50, Duration::from_secs(36), move |number| {
        clients[number % 2].clone()
    });

    let at = |second| {
        let age = load.age();
        tokio::time::sleep(Duration::from_secs(second).saturating_sub(age))
    };
    at(5).await;
    pair.control
        .fault(json!({"provider": "alipay", "kind": "timeout_before"}))
        .await;
    at(12).await;
    pair.control.mend().await;
    let made = load.end().await;
    println!("50 payments a second over two gateways; alipay answers nothing from 5 s to 12 s");
    print_by_second(&made);

    println!(
        "p50 {:?}, p99 {:?}",
        percentile(&made, 50),
        percentile(&made, 99)
    );

    assert_all_served(&made);
    assert!(
        made.iter().all(|made| made.status == 201),
        "none had to wait: another provider works"
    );

    // It is used before, not during, and again after.
    let part = |from: u64, until: u64| {
        let of: Vec<&Made> = made
            .iter()
            .filter(|made| (from..until).contains(&made.at.as_secs()))
            .collect();
        let alipay = of.iter().filter(|made| made.by() == "alipay").count();
        (alipay, of.len())
    };
    let tried_dead = made
        .iter()
        .filter(|made| (9..12).contains(&made.at.as_secs()));
    let tried_dead = tried_dead
        .filter(|made| made.body["attempts"][0]["provider"] == "alipay")
        .count();

    println!(
        "alipay: {:?} before, {:?} at its end, {:?} after; dead route tried first {tried_dead} \
        times in its last 3 s",
        part(0, 5),
        part(9, 12),
        part(30, 36)
    );

    assert_eq!(part(9, 12).0, 0);
    let (again, all) = part(30, 36);
    assert!(part(0, 5).0 * 10 > part(0, 5).1 * 9, "it comes first");
    assert!(again > 0, "it came back, for {again} of {all}");

    for gateway in gateways {
        gateway.terminate().await;
    }
    drop(pair.ground);
}

/// Redis is killed, emptied, stopped for five seconds, and hands over to a replica; payments do not
/// notice.
#[tokio::test(flavor = "multi_thread")]
async fn redis_in_trouble_costs_no_payment() {
    let mut primary = Redis::start().await;
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &primary.port.to_string()]).await;
    let sentinel = Redis::sentinel_of(&primary).await;
    let began = Instant::now();

    while !format!(
        "{:?}",
        sentinel.ask(&["SENTINEL", "REPLICAS", "mymaster"]).await
    )
    .contains("slave")
    {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "the sentinel finds no replica"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let app = TestApp::with(&[(
        "redis.url",
        &format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port),
    )])
    .await;
    let client = app.client.clone();
    let load = Load::start(40, Duration::from_secs(20), move |_| client.clone());
    let at = |second| {
        let age = load.age();
        tokio::time::sleep(Duration::from_secs(second).saturating_sub(age))
    };
    at(4).await;
    primary.ask(&["FLUSHALL"]).await.unwrap();
    at(6).await;

    // Stopped for five seconds: the sentinel makes the replica the primary meanwhile.
    primary.signal(Signal::STOP);
    at(11).await;
    primary.signal(Signal::CONT);
    at(13).await;
    primary.kill().await;
    replica.ask(&["FLUSHALL"]).await.ok();
    at(16).await;
    primary.restart().await;
    let made = load.end().await;
    print_by_second(&made);
    let (calm, trouble): (Vec<Made>, Vec<Made>) =
        made.iter().cloned().partition(|made| made.at.as_secs() < 4);

    let figures = |made: &[Made]| {
        format!(
            "p50 {:?}, p99 {:?}",
            percentile(made, 50),
            percentile(made, 99)
        )
    };

    println!(
        "calm: {}; in trouble: {}",
        figures(&calm),
        figures(&trouble)
    );

    assert_all_served(&made);
    app.stop().await;
}

/// Who balances the load: asks each gateway whether it is ready, and sends payments to those that
/// are.
struct Balancer {
    ready: Arc<Mutex<HashMap<usize, Client>>>,
    asking: HashMap<usize, tokio::task::JoinHandle<()>>,
}

impl Balancer {
    fn new() -> Self {
        Self {
            ready: Arc::default(),
            asking: HashMap::new(),
        }
    }

    /// Asks this gateway every 100 ms from now on.
    fn watch(&mut self, which: usize, client: Client) {
        let ready = Arc::clone(&self.ready);
        let asking = tokio::spawn(async move {
            loop {
                let is_ready = client
                    .try_send(reqwest::Method::GET, "/readyz", None, None)
                    .await;
                let is_ready = is_ready.is_ok_and(|answer| answer.status == 200);
                match is_ready {
                    true => drop(ready.lock().insert(which, client.clone())),
                    false => drop(ready.lock().remove(&which)),
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });

        if let Some(before) = self.asking.insert(which, asking) {
            before.abort();
        }
    }

    async fn until_ready(&self, which: usize) {
        let began = Instant::now();
        while !self.ready.lock().contains_key(&which) {
            assert!(began.elapsed() < PATIENCE, "gateway {which} is never ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn pick(&self) -> impl Fn(usize) -> Client + Send + 'static {
        let ready = Arc::clone(&self.ready);
        move |number| {
            let ready = ready.lock();
            let mut clients: Vec<(&usize, &Client)> = ready.iter().collect();
            clients.sort_by_key(|(which, _)| **which);
            clients[number % clients.len()].1.clone()
        }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.asking
            .values()
            .for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request_and_loses_no_payment() {
    let pair = Pair::new(None).await;
    let mut balancer = Balancer::new();
    let first = pair.start(0).await;
    let second = pair.start(1).await;
    let numbers = [0, 1];

    for (which, gateway) in numbers.iter().zip([&first, &second]) {
        balancer.watch(*which, gateway.client.clone());
        balancer.until_ready(*which).await;
    }
    let load = Load::start(30, Duration::from_secs(16), balancer.pick());
    let mut gateways = vec![first, second];

    for which in numbers {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let old = gateways.remove(0);
        old.terminate().await;
        let new = pair.start(which).await;
        balancer.watch(which, new.client.clone());
        balancer.until_ready(which).await;
        gateways.push(new);
    }

    let made = load.end().await;
    print_by_second(&made);
    println!(
        "{} payments; p50 {:?}, p99 {:?}",
        made.len(),
        percentile(&made, 50),
        percentile(&made, 99)
    );

    assert_all_served(&made);
    // None is lost: each is there, offered, and can be paid.
    for (number, one) in made.iter().enumerate() {
        let of = |gateway: &Process| gateway.client.clone();
        let mut found = Value::Null;
        for client in gateways.iter().map(of) {
            let answer = client.get(&format!("/v1/payments/{}", one.id())).await;
            if answer.status == 200 {
                found = answer.json();
            }
            if pair.is_shared() || found != Value::Null {
                break;
            }
        }
        assert_eq!(found["status"], "requires_action", "{found:#}");
        if number % 20 == 0 {
            pair.control.pay(&found).await;
        }
    }

    for gateway in gateways {
        gateway.terminate().await;
    }
}

/// All providers are down under load, for ten seconds or as many as `INTERLOCK_TEST_OUTAGE_S` says.
#[tokio::test(flavor = "multi_thread")]
async fn all_routes_are_down_under_load_and_each_payment_waits_and_goes_on_by_itself() {
    let outage = seconds_from_env("INTERLOCK_TEST_OUTAGE_S", 10);
    let app = TestApp::start().await;
    let paid = app.paid().await;
    let paid_id = paid["id"].as_str().unwrap().to_owned();
    let shown = app.client.pay(&order()).await.expect(201);
    let client = app.client.clone();
    let load = Load::start(10, Duration::from_secs(outage + 4), move |_| client.clone());
    tokio::time::sleep(Duration::from_secs(2).saturating_sub(load.age())).await;

    for protocol in providers::PROTOCOLS {
        for call in ["create", "query"] {
            let fault =
                json!({"provider": protocol.name.as_str(), "call": call, "kind": "http_500"});
            app.control.fault(fault).await;
        }
    }

    // Reads, notifications and refunds answer all the while.
    let mut estimates: Vec<(Duration, u64)> = Vec::new();
    let mut slowest = Duration::ZERO;
    let mut rounds = 0;

    while load.age() < Duration::from_secs(outage + 2) {
        let asked = Instant::now();
        app.client.payment(&paid_id).await;
        slowest = slowest.max(asked.elapsed());
        if rounds == 5 {
            app.control.pay(&shown).await;
            app.client
                .until_status(shown["id"].as_str().unwrap(), "succeeded")
                .await;
            app.client.refund(&paid_id, 1).await.expect(201);
        }
        rounds += 1;
        let waiting = load
            .so_far()
            .await
            .into_iter()
            .rev()
            .find(|made| made.status == 202);
        if let Some(made) = waiting {
            let queue = app.client.payment(made.id()).await["queue"].clone();
            if let Some(estimate) = queue["estimated_wait_seconds"].as_u64() {
                estimates.push((load.age(), estimate));
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }

    app.control.mend().await;
    let returned = Instant::now();
    let made = load.end().await;
    print_by_second(&made);
    for (age, estimate) in estimates
        .iter()
        .step_by(estimates.len().div_ceil(20).max(1))
    {
        println!(
            "{:>4} s  one that waits is told {estimate} s; it will be {} s",
            age.as_secs(),
            (outage + 2).saturating_sub(age.as_secs())
        );
    }

    println!("slowest read meanwhile {slowest:?}");
    assert_all_served(&made);
    assert!(rounds > 5 && !estimates.is_empty());
    assert!(
        made.iter().filter(|made| made.status == 202).count() > 20,
        "they waited"
    );

    let mut waited = Vec::new();
    for one in made.iter().filter(|made| made.status == 202) {
        let payment = app.client.payment(one.id()).await;
        let payment = match payment["status"].as_str() {
            Some("created") => {
                // A whole outage's worth of payments goes on gently.
                let began = Instant::now();
                loop {
                    let payment = app.client.payment(one.id()).await;
                    if payment["status"] != "created" {
                        break payment;
                    }
                    assert!(began.elapsed() < 3 * PATIENCE, "still waiting: {payment:#}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Some(_) | None => payment,
        };
        waited.push(returned.elapsed());
        assert!(
            matches!(payment["status"].as_str(), Some("requires_action")),
            "{payment:#}"
        );
    }

    println!(
        "{} waited; all had gone on {:?} after the return",
        waited.len(),
        waited.last().unwrap()
    );

    app.stop().await;
}

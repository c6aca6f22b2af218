//! Two versions side by side on one PostgreSQL, as in a rolling restart: the program of the version
//! before makes the tables and its first payments, goes on while the new one migrates them and
//! beside it, and is told to stop; the new one goes on with what it has left. The same request
//! comes to either, and so do notifications. In test mode and with real money: the two versions do
//! not name the keys of test requests alike.

mod deals;
mod end;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use interlock::api::auth::digest;
use interlock::domain::key;
use interlock::drill::control_socket;
use interlock::drill::proxy::Proxy;
use interlock::drill::receiver::Receiver;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::deals::{Deal, Till};
use crate::helpers::facts::Facts;
use crate::helpers::postgres::Postgres;
use crate::helpers::process::{Process, interlock, program};
use crate::helpers::{Client, Control, connect, fresh, order, sandbox};

/// Names the program of the version before.
const PROGRAM: &str = "INTERLOCK_TEST_EARLIER";
/// Every gateway on a database needs the same one.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// Deals of each kind, at each gateway first, for each till.
const ROUNDS: usize = 2;
/// Payers at the same time.
const AT_ONCE: usize = 12;
/// Who pays while the tables change.
const LANES: usize = 4;
/// For so long once the new gateway serves.
const BOTH: Duration = Duration::from_secs(1);
/// The receivers' boxes.
const OWNERS: [&str; 2] = ["test", "live"];

/// The program of the version before. A run that has none shows nothing.
fn earlier() -> PathBuf {
    let path = std::env::var_os(PROGRAM).map(PathBuf::from);
    path.filter(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "{PROGRAM} names no program: tests/run builds that of the version before, and says \
                why if it cannot"
        )
    })
}

/// What both gateways stand on.
struct Ground {
    database: String,
    control: Control,
    /// Where providers and nobody else reach the gateways: in turn.
    front: Proxy,
    folder: TempDir,
}

impl Ground {
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    async fn start(&self, name: &str, mut command: tokio::process::Command) -> Process {
        let folder = self.folder(name);
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--sandbox",
                &self.control.url,
            ])
            .args(["--database", &self.database, "--data"])
            .arg(&folder)
            .env("INTERLOCK__CREDENTIALS__KEY", KEY)
            .env(
                "INTERLOCK__SERVER__PUBLIC_URL",
                format!("http://{}", self.front.address),
            )
            // How busy the machine is decides no test.
            .env("INTERLOCK__ADMISSION__MAX_COMMIT_WAIT_MS", "20000")
            .env("INTERLOCK__PAYMENTS__CALL_GRACE_MS", "20000")
            .env(control_socket::VARIABLE, folder.join("door"));

        let mut gateway = Process::launch(command, &folder).await;
        gateway.client = client(
            &format!("http://{}", gateway.address),
            &gateway.demo.api_key,
        );

        gateway
    }
}

/// The version before ends connections after five seconds, perhaps as a request comes over one:
/// none is used again.
fn client(base: &str, key: &str) -> Client {
    let http = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(30))
        .build();
    Client {
        http: http.unwrap(),
        ..Client::new(base, key)
    }
}

/// Another merchant, with a key for real money and accounts at the sandbox, made by the version
/// before as it makes them.
async fn live_key(ground: &Ground, before: &Process) -> String {
    let facts = Facts(connect(&ground.database).await);
    let secret = key::secret(true).unwrap();

    for sql in [
        "INSERT INTO merchants (id, name, created_at) VALUES ('mer_live', 'live', 1)".to_owned(),
        format!(
            "INSERT INTO api_keys (id, merchant_id, digest, scopes, livemode, created_at) VALUES \
            ('key_live', 'mer_live', '{}', 'pay refund finance admin', TRUE, 1)",
            digest(&secret)
        ),
    ] {
        facts.execute(&sql).await.unwrap();
    }

    facts.0.close().await.unwrap();
    let client = client(&before.client.base, &secret);
    let (_, credentials) = ground
        .control
        .call(reqwest::Method::GET, "/credentials", None)
        .await;

    for (provider, face) in &before.demo.faces {
        let mut settings = credentials[provider].clone();
        settings["base_url"] = face.clone();
        let body = json!({"provider": provider, "name": "live", "credentials": settings});
        client
            .post("/v1/accounts", &fresh("key"), &body)
            .await
            .expect(201);
    }

    secret
}

/// The till pays all the time while the new gateway comes up; whoever has to wait for a migration
/// is served all the same.
async fn pays_meanwhile(till: &Client, over: &AtomicBool) -> Vec<Value> {
    let lanes = (0..LANES).map(|_| async {
        let mut made = Vec::new();
        while !over.load(Ordering::Relaxed) {
            made.push(till.pay(&order()).await.expect(201));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        made
    });
    futures_util::future::join_all(lanes).await.concat()
}

/// Lines of this level in a gateway's log.
fn logged(folder: &Path, level: &str) -> Vec<String> {
    let log = std::fs::read_to_string(folder.join("stderr.log")).unwrap();
    let sign = format!("\"level\":\"{level}\"");
    log.lines()
        .filter(|line| line.contains(&sign) || !line.starts_with('{'))
        .map(str::to_owned)
        .collect()
}

/// Lines of a gateway's log that name this.
fn naming(folder: &Path, name: &str) -> Vec<String> {
    let log = std::fs::read_to_string(folder.join("stderr.log")).unwrap();
    log.lines()
        .filter(|line| line.contains(name))
        .map(str::to_owned)
        .collect()
}

/// How many notifications a gateway has taken.
async fn taken(gateway: &Process) -> u64 {
    let text = String::from_utf8(gateway.client.get("/metrics").await.bytes).unwrap();
    let counters = text
        .lines()
        .filter(|line| line.starts_with("interlock_notifications_total"));
    counters
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_the_version_before_works_beside_this_one_for_a_rolling_restart() {
    if crate::helpers::on_postgres() {
        side_by_side().await;
    } else {
        println!("skipped on SQLite: its folder is locked, so a second gateway cannot start on it");
    }
}

async fn side_by_side() {
    let (postgres, sandbox) = (Postgres::start(&[]).await, sandbox().await);
    let ground = Ground {
        database: postgres.url.clone(),
        control: Control::new(&sandbox),
        front: Proxy::start().await.unwrap(),
        folder: TempDir::new().unwrap(),
    };
    let receiver = Receiver::start().unwrap();

    let before = ground.start("before", program(earlier())).await;
    ground.front.lead_to(vec![before.address]);
    let [test, live] = OWNERS;
    let keys = [
        (test, before.demo.api_key.clone()),
        (live, live_key(&ground, &before).await),
    ];
    let mut deals = Vec::new();
    let mut early = Vec::new();
    for (name, key) in &keys {
        let client = client(&before.client.base, key);
        let url = format!("http://{}/{name}", receiver.address);
        client
            .post("/v1/webhook_endpoints", &fresh("key"), &json!({"url": url}))
            .await
            .expect(201);
        early.push(deals::begin(&client, &ground.control, &mut deals).await);
    }

    let (over, meanwhile) = (
        AtomicBool::new(false),
        client(&before.client.base, &keys[1].1),
    );
    let coming = async {
        let after = ground.start("after", interlock()).await;
        ground.front.lead_to(vec![before.address, after.address]);
        tokio::time::sleep(BOTH).await;
        over.store(true, Ordering::Relaxed);
        after
    };
    let (made, after) = tokio::join!(pays_meanwhile(&meanwhile, &over), coming);
    println!(
        "{} payments at the gateway before while the new one came up",
        made.len()
    );
    for (number, payment) in made.iter().enumerate() {
        let is_paid = number % 8 > 0;
        if is_paid {
            ground.control.pay(payment).await;
        }
        deals.push(Deal::of(
            payment,
            if is_paid { "succeeded" } else { "expired" },
            0,
        ));
    }

    let tills: Vec<Till> = keys
        .iter()
        .map(|(name, key)| Till {
            is_live: *name == live,
            before: client(&before.client.base, key),
            after: client(&after.client.base, key),
            control: ground.control.clone(),
        })
        .collect();
    for (till, early) in tills.iter().zip(early) {
        deals::go_on(till, early, &mut deals).await;
    }
    for round in 0..ROUNDS {
        let all = tills.iter().flat_map(|till| till.deals(round));
        deals.extend(
            stream::iter(all)
                .buffer_unordered(AT_ONCE)
                .collect::<Vec<_>>()
                .await,
        );
    }
    let (there, here) = (taken(&before).await, taken(&after).await);
    println!("{there} notifications at the gateway before, {here} at the new one");
    assert!(there > 0 && here > 0, "notifications came to both");

    // It ends while its charges are open and others are made; the new one goes on with them.
    let mut left = Vec::new();
    for till in &tills {
        left.push(deals::begin(&till.before, &ground.control, &mut deals).await);
    }
    let (stopping, made) = tokio::join!(
        before.terminate(),
        futures_util::future::join_all(
            tills
                .iter()
                .flat_map(|till| (0..4).map(|_| till.paid_after()))
        )
    );
    let () = stopping;
    ground.front.lead_to(vec![after.address]);
    deals.extend(made);
    for (till, left) in tills.iter().zip(left) {
        deals::go_on_alone(till, left, &mut deals).await;
    }
    let told = end::told_so_far(&ground, &receiver).await;
    end::comes_to_rest(&ground.folder("after").join("door"), &ground.control).await;

    for (name, gateway) in [
        ("before", "of the version before"),
        ("after", "of this version"),
    ] {
        let folder = ground.folder(name);
        let (warnings, errors) = (logged(&folder, "WARN"), logged(&folder, "ERROR"));
        println!(
            "the gateway {gateway} has logged {} warnings",
            warnings.len()
        );
        warnings
            .iter()
            .take(20)
            .for_each(|line| println!("  {line}"));
        assert!(
            errors.is_empty(),
            "the gateway {gateway} has logged {errors:#?}"
        );
    }
    end::audit(&ground, &tills, &deals, (told, receiver), after).await;
    sandbox.stop().await;
}

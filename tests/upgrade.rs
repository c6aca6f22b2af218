//! Databases that earlier versions have made are kept as SQL, with payments in every state, and the
//! sandbox's book beside them: each is upgraded, and goes on. One is added whenever the tables
//! change; none is ever made anew.
//!
//! `tests/kept/NAME`: `sqlite.sql` and `postgres.sql`, the sandbox's `keys.json`, and for each
//! database its book and the `demo.json` of its gateway.

use std::path::{Path, PathBuf};

use providers::sandbox::keys::Keys;
use providers::sandbox::{LOG, Options, Sandbox};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::process::{Process, interlock};
use crate::helpers::{Control, connect, database, fresh, install_crypto, order};

/// What the kept credentials are sealed with.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// The kept offers have long expired by then.
const LATER_S: i64 = 3 * 3_600;

fn kept(name: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/kept")
        .join(name)
        .join(file)
}

fn read(name: &str, file: &str) -> Vec<u8> {
    std::fs::read(kept(name, file)).unwrap()
}

/// A sandbox that knows the orders of the kept database.
async fn sandbox(name: &str, kind: &str) -> Sandbox {
    install_crypto();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let faces = providers::PROTOCOLS.iter().map(|p| (p.name, any)).collect();
    let keys: Keys = serde_json::from_slice(&read(name, "keys.json")).unwrap();
    let book = Some(serde_json::from_slice(&read(name, &format!("{kind}-book.json"))).unwrap());
    Sandbox::start(Options {
        control: any,
        faces,
        keys,
        book,
        log: LOG,
    })
    .await
    .unwrap()
}

/// Fills a fresh database with a kept one.
async fn fill(folder: &Path, name: &str) -> (String, &'static str) {
    let url = database(folder).await;
    let kind = if url.starts_with("sqlite") {
        "sqlite"
    } else {
        "postgres"
    };

    let sql = String::from_utf8(read(name, &format!("{kind}.sql"))).unwrap();
    let made = if kind == "sqlite" {
        format!("{url}?mode=rwc")
    } else {
        url.clone()
    };

    let db = connect(&made).await;
    db.execute_unprepared(&sql).await.unwrap();
    db.close().await.unwrap();
    std::fs::copy(
        kept(name, &format!("{kind}-demo.json")),
        folder.join("demo.json"),
    )
    .unwrap();

    (url, kind)
}

async fn of_order(gateway: &Process, order_id: &str) -> Value {
    let list = gateway
        .client
        .get(&format!("/v1/payments?order_id={order_id}"))
        .await
        .expect(200);
    list["data"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_database_that_is_kept_is_upgraded_and_goes_on() {
    upgraded("m08").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_with_modes_keys_and_told_money_is_upgraded_and_goes_on() {
    upgraded("m13").await;
}

async fn upgraded(name: &str) {
    let folder = TempDir::new().unwrap();
    let (url, kind) = fill(folder.path(), name).await;
    let sandbox = sandbox(name, kind).await;
    let control = Control::new(&sandbox);
    control.advance(LATER_S).await;
    let env = [
        ("INTERLOCK__CREDENTIALS__KEY", KEY.to_owned()),
        ("INTERLOCK_CLOCK_AHEAD_S", LATER_S.to_string()),
    ];
    let gateway = Process::with(folder.path(), &url, &control.url, &env).await;
    let client = &gateway.client;

    for (order_id, status) in [
        ("kept-1", "succeeded"),
        ("kept-2", "succeeded"),
        ("kept-3", "succeeded"),
    ] {
        assert_eq!(
            of_order(&gateway, order_id).await["status"],
            status,
            "{order_id}"
        );
    }
    let one = of_order(&gateway, "kept-1").await;
    assert_eq!(
        (&one["amount_refunded"], &one["description"]),
        (&json!(100), &json!("茶 1"))
    );
    assert_eq!(one["metadata"], json!({"n": "1"}));

    // What was unfinished is finished.
    for (order_id, status) in [
        ("kept-4", "canceled"),
        ("kept-5", "expired"),
        ("kept-6", "expired"),
        ("kept-b", "failed"),
    ] {
        let id = of_order(&gateway, order_id).await["id"]
            .as_str()
            .unwrap()
            .to_owned();
        client.until_status(&id, status).await;
    }

    // Keys, order numbers and refund numbers mean what they meant.
    let body = json!({"amount": 10001, "currency": "CNY", "order_id": "kept-1",
        "description": "茶 1", "flow": "qr",
        "expires_in": 7200, "metadata": {"n": "1"}});
    client
        .post("/v1/payments", &fresh("key"), &body)
        .await
        .problem(409, "order_id_in_use", Some("order_id"));
    let mut other = body.clone();
    other["amount"] = 10.into();
    client.post("/v1/payments", "kept-1", &other).await.problem(
        422,
        "idempotency_key_reused",
        Some("Idempotency-Key"),
    );
    let refund = json!({"amount": 5, "merchant_refund_no": "kept-rf-1"});
    let path = format!("/v1/payments/{}/refunds", one["id"].as_str().unwrap());
    assert_eq!(
        client
            .post(&path, &fresh("key"), &refund)
            .await
            .status
            .as_u16(),
        409
    );

    // What was paid then can be refunded now, and new payments are as ever.
    let two = of_order(&gateway, "kept-2").await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    client.refund(&two, 10_002).await.expect(201);
    client.until(&two, |p| p["amount_refunded"] == 10_002).await;
    let new = client.pay(&order()).await.expect(201);
    control.pay(&new).await;
    client
        .until_status(new["id"].as_str().unwrap(), "succeeded")
        .await;
    let kept: i64 = control
        .orders()
        .await
        .iter()
        .map(|o| o["captured"].as_i64().unwrap() - o["refunded"].as_i64().unwrap())
        .sum();
    assert_eq!(
        kept,
        10_001 - 100 + 10_003 + 8_888,
        "the provider's book agrees"
    );

    gateway.terminate().await;
    let mut doctor = interlock();
    doctor
        .args(["doctor", "--ledger", "--database", &url, "--data"])
        .arg(folder.path());
    let said = doctor.output().await.unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stdout)
    );
    sandbox.stop().await;
}

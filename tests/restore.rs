//! Going back in time while the world does not: a backup beside a running gateway, payments after it, and the backup back in
//! its place. What the providers' books say then is compared with the rows, to the fen.

mod files;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use interlock::api::auth::Scope;
use interlock::domain::id::{self, Kind};
use interlock::domain::{AllOwners, Owner};
use interlock::store::{AccountRow, Store};
use interlock::vault::Vault;
use providers::sandbox::Sandbox;
use reqwest::Method;
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::front::Front;
use crate::helpers::process::{Process, interlock, logged};
use crate::helpers::{
    Client, Control, PATIENCE, barcode, charging_providers, connect, database, fresh, order, sandbox,
};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const PREFIX: &str = "SHOP";

/// A folder, a sandbox, and a gateway on them with live accounts at it.
struct Shop {
    folder: TempDir,
    url: String,
    sandbox: Sandbox,
    control: Control,
    /// Where providers send notifications, whichever gateway is there.
    front: Front,
}

impl Shop {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}", folder.path().join("interlock.db").display());
        let sandbox = sandbox().await;
        let control = Control::new(&sandbox);
        Self { folder, url, sandbox, control, front: Front::start().await }
    }

    async fn open(&self) -> Process {
        let env = [
            ("INTERLOCK__CREDENTIALS__KEY", KEY.to_owned()),
            ("INTERLOCK__PAYMENTS__ORDER_PREFIX", PREFIX.to_owned()),
            ("INTERLOCK__SERVER__PUBLIC_URL", self.front.url.clone()),
        ];
        let gateway = Process::with(self.folder.path(), &self.url, &self.control.url, &env).await;
        self.front.lead_to(gateway.address);
        gateway
    }

    /// Runs a command, and returns whether it went well and all that it said.
    async fn command(&self, args: &[&str]) -> (bool, String) {
        command(self.folder.path(), &self.url, &self.control.url, args).await
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

async fn command(folder: &Path, url: &str, sandbox: &str, args: &[&str]) -> (bool, String) {
    let mut command = interlock();
    command.args(args).args(["--database", url, "--data"]).arg(folder);
    command.env("INTERLOCK__CREDENTIALS__KEY", KEY).env("INTERLOCK__PAYMENTS__ORDER_PREFIX", PREFIX);
    command.env("INTERLOCK__SANDBOX__LISTEN", sandbox);
    let said = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    println!("$ interlock {}\n{text}", args.join(" "));
    (said.status.success(), text)
}

/// Gives the demo merchant live accounts at the same sandbox, and a live key. No gateway runs meanwhile.
async fn live_key(url: &str, merchant: &str) -> String {
    let store = Store::open(url, 1, PATIENCE).await.unwrap();
    let (vault, owner) = (Vault::new(KEY).unwrap(), Owner::of(merchant, true));
    for row in store.accounts(AllOwners).await.unwrap() {
        let plain = vault.open(&row.id, &row.credentials).unwrap();
        let id = id::new(Kind::Account).unwrap();
        let credentials = vault.seal(&id, &plain).unwrap();
        assert!(store.add_account(&AccountRow { id, owner: owner.clone(), credentials, ..row }).await.unwrap());
    }
    let key = interlock::directory::issue::new_key(&store, &owner, &[Scope::Pay, Scope::Refund, Scope::Finance])
        .await
        .unwrap();
    store.close().await.unwrap();
    key
}

fn id_of(payment: &Value) -> &str {
    payment["id"].as_str().unwrap()
}

fn order_no(payment: &Value) -> String {
    payment["attempts"][0]["provider_order_no"].as_str().unwrap().to_owned()
}

/// A qr payment at this provider.
async fn offer(client: &Client, provider: &str) -> Value {
    let mut body = order();
    body["providers"] = json!([provider]);
    client.pay(&body).await.expect(201)
}

async fn paid(client: &Client, control: &Control, provider: &str) -> Value {
    let payment = offer(client, provider).await;
    control.pay(&payment).await;
    client.until_status(id_of(&payment), "succeeded").await
}

async fn ask_back(client: &Client, payment: &str, number: &str, fen: i64) -> Value {
    let body = json!({"amount": fen, "merchant_refund_no": number, "reason": "returned"});
    client.post(&format!("/v1/payments/{payment}/refunds"), &fresh("key"), &body).await.expect(201)
}

/// Asks for a refund under a number, and waits until it is carried out.
async fn give_back(client: &Client, payment: &str, number: &str, fen: i64) {
    let refund = ask_back(client, payment, number, fen).await;
    let path = format!("/v1/refunds/{}", id_of(&refund));
    let began = std::time::Instant::now();
    loop {
        let refund = client.get(&path).await.expect(200);
        if refund["status"] == "succeeded" {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "still not given back: {refund:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A number that a statement finds in a database's file, as `n`.
async fn rows(file: &str, sql: &str) -> i64 {
    let db = connect(&format!("sqlite://{file}")).await;
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap().unwrap();
    db.close().await.unwrap();
    row.try_get("", "n").unwrap()
}

/// What the rows say of each order: its number, what came in and what went back or is to.
async fn in_rows(url: &str) -> Vec<(String, i64, i64)> {
    let db = connect(url).await;
    let sql = "SELECT a.provider_order_no AS no, COALESCE(a.captured, 0) AS captured, \
               (SELECT COALESCE(SUM(r.amount), 0) FROM refunds r \
                WHERE r.attempt_id = a.id AND r.status IN ('succeeded', 'pending')) AS refunded FROM attempts a";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
    db.close().await.unwrap();
    let read = |row: &sea_orm::QueryResult| {
        let fen = |name| row.try_get::<i64>("", name).unwrap();
        (row.try_get("", "no").unwrap(), fen("captured"), fen("refunded"))
    };
    rows.iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_nothing_is_taken_or_given_back_twice_and_every_fen_is_explained() {
    let shop = Shop::new().await;
    let gateway = shop.open().await;
    let merchant = gateway.demo.merchant.clone();
    gateway.terminate().await;
    let key = live_key(&shop.url, &merchant).await;
    let gateway = shop.open().await;
    let client = Client::new(&gateway.demo.base_url, &key);
    let providers: Vec<&str> = providers::PROTOCOLS.iter().map(|protocol| protocol.name.as_str()).collect();

    // Before: paid ones, one of them refunded in part, and codes that nobody has paid yet.
    let (mut before, mut open) = (Vec::new(), Vec::new());
    for provider in &providers {
        let payment = paid(&client, &shop.control, provider).await;
        give_back(&client, id_of(&payment), &format!("early-{provider}"), 100).await;
        before.push(payment);
        open.push(offer(&client, provider).await);
    }

    let backup = shop.file("backup.db");
    let (done, said) = shop.command(&["backup", &backup]).await;
    assert!(done && said.contains("6 payments") && said.contains("key for stored credentials"), "{said}");
    assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    let (done, said) = shop.command(&["backup", &backup]).await;
    assert!(!done && said.contains("never written over another"), "{said}");

    // After: fifty payments, codes from before that are paid now, and money that is given back.
    for payment in &open {
        shop.control.pay(payment).await;
        client.until_status(id_of(payment), "succeeded").await;
    }
    let (mut lost, mut lost_codes) = (Vec::new(), Vec::new());
    for number in 0..50 {
        let provider = providers[number % providers.len()];
        let payment = match number % 5 {
            0 | 1 => paid(&client, &shop.control, provider).await,
            2 => {
                let charging = charging_providers();
                let payment = client.pay(&barcode(charging[number % charging.len()], 0)).await.expect(201);
                client.until_status(id_of(&payment), "succeeded").await
            }
            _ => {
                let payment = offer(&client, provider).await;
                lost_codes.push(payment.clone());
                payment
            }
        };
        if number % 10 == 0 {
            give_back(&client, id_of(&payment), &fresh("rf"), 1_000).await;
        }
        lost.push(order_no(&payment));
    }
    for (payment, provider) in before.iter().zip(&providers) {
        give_back(&client, id_of(payment), &format!("lost-{provider}"), 30).await;
    }

    let (done, said) = shop.command(&["restore", &backup]).await;
    assert!(!done && said.contains("a gateway runs on this folder: stop it first"), "{said}");
    gateway.terminate().await;
    let (done, said) = shop.command(&["restore", &shop.file("nothing.db")]).await;
    assert!(!done && said.contains("there is no such file"), "{said}");
    let (done, said) = shop.command(&["restore", &backup]).await;
    assert!(done && said.contains("is back: 6 payments") && said.contains("What was there is kept as"), "{said}");

    // Held: live payments and refunds wait, everything else goes on.
    let gateway = shop.open().await;
    let client = Client::new(&gateway.demo.base_url, &key);
    let held = client.pay(&order()).await.problem(503, "restored", None);
    assert_eq!(held["retryable"], true);
    let refund = json!({"amount": 30, "merchant_refund_no": "lost-alipay"});
    let path = format!("/v1/payments/{}/refunds", id_of(&before[0]));
    client.post(&path, &fresh("key"), &refund).await.problem(503, "restored", None);
    let test = gateway.client.pay(&order()).await.expect(201);
    let new_prefix = order_no(&test)[..PREFIX.len() + 2].to_owned();
    assert!(new_prefix.starts_with(PREFIX) && order_no(&test).len() == PREFIX.len() + 24, "{new_prefix}");
    assert_eq!(client.get("/readyz").await.status.as_u16(), 200);
    let (done, said) = shop.command(&["restore", "--go"]).await;
    assert!(!done && said.contains("interlock doctor --restored"), "{said}");

    // What payers of codes from before have done meanwhile is found out without anybody's word.
    for payment in &open {
        client.until_status(id_of(payment), "succeeded").await;
    }
    let (done, said) = shop.command(&["doctor", "--restored"]).await;
    assert!(done && said.contains("live attempts and refunds are open"), "{said}");
    let (done, said) = shop.command(&["restore", "--go"]).await;
    assert!(done, "{said}");
    let began = std::time::Instant::now();
    let first = loop {
        let answer = client.pay(&order()).await;
        if answer.status.as_u16() == 201 {
            break answer.json();
        }
        answer.problem(503, "restored", None);
        assert!(began.elapsed() < PATIENCE, "live payments do not go on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(order_no(&first).starts_with(&new_prefix));

    // A merchant that asks once more for a refund that is lost gets no second one: the provider is told the same number.
    for (payment, provider) in before.iter().zip(&providers) {
        let number = format!("lost-{provider}");
        match *provider {
            // It knows refunds by their time as well, and denies this one: it stays pending.
            "unionpay" => drop(ask_back(&client, id_of(payment), &number, 30).await),
            _ => give_back(&client, id_of(payment), &number, 30).await,
        }
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    // A payer pays a code that nobody remembers: a person hears of it.
    shop.control.pay(&lost_codes[0]).await;
    let unexplained = format!("order {}", order_no(&lost_codes[0]));
    let began = std::time::Instant::now();
    loop {
        let (_, list) = (0, client.get("/v1/operations").await.expect(200));
        if list["data"].as_array().unwrap().iter().any(|op| op.to_string().contains(&unexplained)) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "nobody hears of it: {list:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let ours = in_rows(&shop.url).await;
    let (mut astray, mut paid_astray) = (Vec::new(), 0);
    for order in shop.control.orders().await {
        let number = order["order_no"].as_str().unwrap().to_owned();
        let fen = |name: &str| order[name].as_i64().unwrap();
        match ours.iter().find(|(ours, ..)| *ours == number) {
            Some((_, captured, refunded)) => {
                assert_eq!((*captured, *refunded), (fen("captured"), fen("refunded")), "{order}");
            }
            None => {
                paid_astray += i64::from(fen("captured") > 0);
                astray.push(number);
            }
        }
    }
    // Of what no row knows, every number is one of before the restore, and one of those fifty.
    assert!(astray.iter().all(|no| no.len() == PREFIX.len() + 22 && lost.contains(no)), "{astray:?}");
    println!("{} orders are in rows; {} are in none, {paid_astray} of them paid", ours.len(), astray.len());

    gateway.terminate().await;
    let (done, said) = shop.command(&["doctor", "--ledger"]).await;
    assert!(done, "{said}");
    shop.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_takes_no_file_that_is_not_whole_and_changes_nothing_then() {
    let shop = Shop::new().await;
    let gateway = shop.open().await;
    let payment = gateway.client.pay(&order()).await.expect(201);
    let backup = shop.file("backup.db");
    assert!(shop.command(&["backup", &backup]).await.0);
    gateway.terminate().await;

    let whole = std::fs::read(&backup).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8_192].fill(0xAA);
    let cut = &whole[..whole.len() / 2];
    for (name, bytes) in
        [("damaged.db", damaged.as_slice()), ("cut.db", cut), ("text.db", b"no database"), ("empty.db", b"")]
    {
        std::fs::write(shop.folder.path().join(name), bytes).unwrap();
        let (done, said) = shop.command(&["restore", &shop.file(name)]).await;
        assert!(!done && said.contains(name) && said.lines().count() == 1, "{said}");
    }
    let newer = shop.file("newer.db");
    std::fs::write(&newer, &whole).unwrap();
    let db = connect(&format!("sqlite://{newer}")).await;
    db.execute_unprepared("INSERT INTO seaql_migrations VALUES ('m20991231_000001_to_come', 0)").await.unwrap();
    db.close().await.unwrap();
    let (done, said) = shop.command(&["restore", &newer]).await;
    assert!(!done && said.contains("a newer version has made it"), "{said}");
    let (done, said) = shop.command(&["restore", &shop.file("interlock.db")]).await;
    assert!(!done && said.contains("this is the database itself"), "{said}");
    let (done, said) = shop.command(&["restore", "--go"]).await;
    assert!(!done && said.contains("nothing is held"), "{said}");

    // A restore that was interrupted in the middle of it: nothing starts until it was done again.
    std::fs::write(shop.folder.path().join("interlock.db.restoring"), b"").unwrap();
    let (done, said) = shop.command(&["serve", "--listen", "127.0.0.1:0"]).await;
    assert!(!done && said.contains("a restore was interrupted"), "{said}");
    std::fs::remove_file(shop.folder.path().join("interlock.db")).unwrap();
    assert!(shop.command(&["restore", &backup]).await.0);
    let gateway = shop.open().await;
    assert_eq!(gateway.client.payment(id_of(&payment)).await["status"], "requires_action");
    gateway.terminate().await;
    shop.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_is_copied_by_its_own_tools_and_counts_as_brought_back_when_told() {
    let folder = TempDir::new().unwrap();
    let url = database(folder.path()).await;
    if url.starts_with("sqlite") {
        println!("about PostgreSQL alone");
        return;
    }
    let (done, said) = command(folder.path(), &url, "off", &["backup", "/nowhere/file"]).await;
    assert!(!done && said.contains("pg_dump") && said.contains("nothing was copied"), "{said}");
    let (done, said) = command(folder.path(), &url, "off", &["restore", "/nowhere/file"]).await;
    assert!(!done && said.contains("pg_restore"), "{said}");
    let (done, said) = command(folder.path(), &url, "off", &["restore"]).await;
    assert!(done && said.contains("counts as brought back"), "{said}");

    let sandbox = sandbox().await;
    let control = Control::new(&sandbox);
    let env = [("INTERLOCK__CREDENTIALS__KEY", KEY.to_owned())];
    let gateway = Process::with(folder.path(), &url, &control.url, &env).await;
    let merchant = gateway.demo.merchant.clone();
    gateway.terminate().await;
    let key = live_key(&url, &merchant).await;
    let gateway = Process::with(folder.path(), &url, &control.url, &env).await;
    let client = Client::new(&gateway.demo.base_url, &key);
    client.pay(&order()).await.problem(503, "restored", None);
    assert!(command(folder.path(), &url, &control.url, &["doctor", "--restored"]).await.0);
    assert!(command(folder.path(), &url, &control.url, &["restore", "--go"]).await.0);
    let began = std::time::Instant::now();
    while client.pay(&order()).await.status.as_u16() != 201 {
        assert!(began.elapsed() < PATIENCE, "live payments do not go on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let metrics = gateway.client.send(Method::GET, "/metrics", None, None).await;
    assert!(String::from_utf8_lossy(&metrics.bytes).contains("interlock_restored_hold 0"));
    gateway.terminate().await;
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_taken_away_beneath_a_gateway_is_not_written_any_more() {
    for what in ["deleted", "log deleted", "exchanged"] {
        let shop = Shop::new().await;
        let gateway = shop.open().await;
        let payment = gateway.client.pay(&order()).await.expect(201);
        let backup = shop.file("backup.db");
        assert!(shop.command(&["backup", &backup]).await.0);

        let file = shop.file("interlock.db");
        match what {
            "deleted" => {
                for ending in ["", "-wal", "-shm"] {
                    std::fs::remove_file(format!("{file}{ending}")).unwrap();
                }
            }
            "log deleted" => std::fs::remove_file(format!("{file}-wal")).unwrap(),
            _ => std::fs::rename(&backup, &file).unwrap(),
        }
        for _ in 0..3 {
            let answer = gateway.client.pay(&order()).await;
            assert_eq!(answer.status.as_u16(), 503, "{what}: {}", String::from_utf8_lossy(&answer.bytes));
        }
        let began = std::time::Instant::now();
        loop {
            let ready = gateway.client.get("/readyz").await;
            if ready.status.as_u16() == 503 {
                println!("{what}: {}", String::from_utf8_lossy(&ready.bytes));
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: it says that it is ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        logged(shop.folder.path(), "beneath this gateway").await;
        if what == "log deleted" {
            // What was written before is still known to the connections, and goes into the file when they close.
            gateway.terminate().await;
            let gateway = shop.open().await;
            assert_eq!(gateway.client.payment(id_of(&payment)).await["status"], "requires_action");
            gateway.terminate().await;
        } else {
            gateway.terminate().await;
        }
        shop.sandbox.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_one_process_s_wherever_its_data_folder_is_and_each_restore_keeps_what_was_there() {
    let shop = Shop::new().await;
    let gateway = shop.open().await;
    gateway.client.pay(&order()).await.expect(201);
    let (first, second) = (shop.file("one.db"), shop.file("two.db"));
    assert!(shop.command(&["backup", &first]).await.0);
    gateway.client.pay(&order()).await.expect(201);
    assert!(shop.command(&["backup", &second]).await.0);
    gateway.client.pay(&order()).await.expect(201);

    let elsewhere = TempDir::new().unwrap();
    for args in [["restore", first.as_str()].as_slice(), &["serve", "--listen", "127.0.0.1:0"]] {
        let (done, said) = command(elsewhere.path(), &shop.url, "off", args).await;
        assert!(!done && (said.contains("a gateway runs") || said.contains("another interlock runs")), "{said}");
    }
    gateway.terminate().await;

    // What an interrupted one has left is not read into the next.
    std::fs::write(shop.file("interlock.db.next"), b"half").unwrap();
    std::fs::write(shop.file("interlock.db.next-journal"), vec![0xD9; 4_096]).unwrap();
    for backup in [&first, &second, &first] {
        let (done, said) = shop.command(&["restore", backup]).await;
        assert!(done, "{said}");
    }
    let names = std::fs::read_dir(shop.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut kept: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    kept.retain(|name| name.contains(".before-") || name.contains(".next") || name.contains(".part"));
    assert_eq!(kept.len(), 3, "three databases were there, each is one file: {kept:?}");
    let mut payments = Vec::new();
    for name in &kept {
        let whole = interlock::store::copy::examine(&shop.folder.path().join(name), "restored").await.unwrap();
        payments.push(whole.payments);
    }
    payments.sort_unstable();
    assert_eq!(payments, [1, 2, 3]);
    shop.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_was_under_way_in_a_backup_is_not_sent_while_live_payments_are_held() {
    let shop = Shop::new().await;
    let gateway = shop.open().await;
    let merchant = gateway.demo.merchant.clone();
    gateway.terminate().await;
    let key = live_key(&shop.url, &merchant).await;
    let gateway = shop.open().await;
    let client = Client::new(&gateway.demo.base_url, &key);
    let mut payments = Vec::new();
    for provider in ["alipay", "unionpay"] {
        payments.push(paid(&client, &shop.control, provider).await);
    }
    // Two for each: the second waits for its turn, and was never sent when the backup is made.
    shop.control.fault(json!({"provider": "alipay", "call": "refund", "kind": "http_500", "probability": 1})).await;
    shop.control.fault(json!({"provider": "unionpay", "call": "refund", "kind": "http_500", "probability": 1})).await;
    for payment in &payments {
        for number in ["first", "second"] {
            ask_back(&client, id_of(payment), &format!("{number}-{}", id_of(payment)), 10).await;
        }
    }
    let backup = shop.file("backup.db");
    assert!(shop.command(&["backup", &backup]).await.0);
    shop.control.mend().await;
    for payment in &payments {
        client.until(id_of(payment), |p| p["amount_refunded"] == 20).await;
    }
    gateway.terminate().await;
    assert!(shop.command(&["restore", &backup]).await.0);

    let calls = async || {
        let (_, calls) = shop.control.call(Method::GET, "/calls", None).await;
        ["alipay", "unionpay"].map(|provider| calls[provider]["refund"].clone())
    };
    let before = calls().await;
    assert!(before.iter().all(Value::is_u64), "{before:?}");
    let gateway = shop.open().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(calls().await, before, "nothing is sent while it is held");
    assert!(shop.command(&["doctor", "--restored"]).await.0);
    assert!(shop.command(&["restore", "--go"]).await.0);
    tokio::time::sleep(Duration::from_secs(15)).await;
    for order in shop.control.orders().await {
        assert_eq!(order["refunded"], 20, "nothing is given back twice: {order}");
    }
    gateway.terminate().await;
    shop.sandbox.stop().await;
}

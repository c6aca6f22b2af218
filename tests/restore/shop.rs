//! A shop that has a backup: its folder, its gateway and the sandbox, what it asks of them, and
//! what its rows say.

use std::path::Path;
use std::time::Duration;

use interlock::api::auth::Scope;
use interlock::domain::id::AccountId;
use interlock::domain::{AllOwners, Owner};
use interlock::store::{AccountRow, Store};
use interlock::vault::Vault;
use providers::sandbox::Sandbox;
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::front::Front;
use crate::helpers::process::{Process, interlock};
use crate::helpers::{Client, Control, PATIENCE, connect, fresh, order, sandbox};

pub(super) const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub(super) const PREFIX: &str = "SHOP";

/// A folder, a sandbox, and a gateway on them with live accounts at it.
pub(super) struct Shop {
    pub(super) folder: TempDir,
    pub(super) url: String,
    pub(super) sandbox: Sandbox,
    pub(super) control: Control,
    /// Where providers send notifications, whichever gateway is there.
    front: Front,
}

impl Shop {
    pub(super) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{}", folder.path().join("interlock.db").display());
        let sandbox = sandbox().await;
        let control = Control::new(&sandbox);
        Self {
            folder,
            url,
            sandbox,
            control,
            front: Front::start().await,
        }
    }

    pub(super) async fn open(&self) -> Process {
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
    pub(super) async fn command(&self, args: &[&str]) -> (bool, String) {
        command(self.folder.path(), &self.url, &self.control.url, args).await
    }

    /// What a gateway says that does not start.
    pub(super) async fn refused(&self) -> String {
        let (done, said) = self.command(&["serve", "--listen", "127.0.0.1:0"]).await;
        assert!(!done, "it ends as if all were well: {said}");
        said
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

pub(super) async fn command(
    folder: &Path,
    url: &str,
    sandbox: &str,
    args: &[&str],
) -> (bool, String) {
    let mut command = interlock();
    command
        .args(args)
        .args(["--database", url, "--data"])
        .arg(folder);
    command
        .env("INTERLOCK__CREDENTIALS__KEY", KEY)
        .env("INTERLOCK__PAYMENTS__ORDER_PREFIX", PREFIX);
    command.env("INTERLOCK__SANDBOX__LISTEN", sandbox);

    let said = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("it ends")
        .unwrap();
    let text =
        String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
    println!("$ interlock {}\n{text}", args.join(" "));

    (said.status.success(), text)
}

/// Gives the demo merchant live accounts at the same sandbox, and a live key. No gateway runs
/// meanwhile.
pub(super) async fn live_key(url: &str, merchant: &str) -> String {
    let store = Store::open(url, 1, PATIENCE).await.unwrap();
    let (vault, owner) = (
        Vault::new(KEY).unwrap(),
        Owner::of(merchant.parse().unwrap(), true),
    );

    for row in store.accounts(AllOwners).await.unwrap() {
        let plain = vault.open(&row.id, &row.credentials).unwrap();
        let id = AccountId::new().unwrap();
        let credentials = vault.seal(&id, &plain).unwrap();
        assert!(
            store
                .add_account(&AccountRow {
                    id,
                    owner: owner.clone(),
                    credentials,
                    ..row
                })
                .await
                .unwrap()
        );
    }

    let key = interlock::directory::issue::new_key(
        &store,
        &owner,
        &[Scope::Pay, Scope::Refund, Scope::Finance],
    )
    .await
    .unwrap();

    store.close().await.unwrap();
    key
}

pub(super) fn id_of(payment: &Value) -> &str {
    payment["id"].as_str().unwrap()
}

pub(super) fn order_no(payment: &Value) -> String {
    payment["attempts"][0]["provider_order_no"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A qr payment at this provider.
pub(super) async fn offer(client: &Client, provider: &str) -> Value {
    let mut body = order();
    body["providers"] = json!([provider]);
    client.pay(&body).await.expect(201)
}

pub(super) async fn paid(client: &Client, control: &Control, provider: &str) -> Value {
    let payment = offer(client, provider).await;
    control.pay(&payment).await;
    client.until_status(id_of(&payment), "succeeded").await
}

pub(super) async fn ask_back(client: &Client, payment: &str, number: &str, fen: i64) -> Value {
    let body = json!({"amount": fen, "merchant_refund_no": number, "reason": "returned"});
    client
        .post(
            &format!("/v1/payments/{payment}/refunds"),
            &fresh("key"),
            &body,
        )
        .await
        .expect(201)
}

/// Asks for a refund under a number, and waits until it is carried out.
pub(super) async fn give_back(client: &Client, payment: &str, number: &str, fen: i64) {
    let refund = ask_back(client, payment, number, fen).await;
    let path = format!("/v1/refunds/{}", id_of(&refund));
    let began = std::time::Instant::now();
    loop {
        let refund = client.get(&path).await.expect(200);
        if refund["status"] == "succeeded" {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "still not given back: {refund:#}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A number that a statement finds in a database's file, as `n`.
pub(super) async fn rows(file: &str, sql: &str) -> i64 {
    let db = connect(&format!("sqlite://{file}")).await;
    let row = db
        .query_one_raw(Statement::from_string(db.get_database_backend(), sql))
        .await
        .unwrap()
        .unwrap();
    db.close().await.unwrap();
    row.try_get("", "n").unwrap()
}

/// What the rows say of each order: its number, what came in and what went back or is to.
pub(super) async fn in_rows(url: &str) -> Vec<(String, i64, i64)> {
    let db = connect(url).await;
    let sql = "SELECT a.provider_order_no AS no, COALESCE(a.captured, 0) AS captured, (SELECT \
               COALESCE(SUM(r.amount), 0) FROM refunds r WHERE r.attempt_id = a.id AND r.status IN \
               ('succeeded', 'pending')) AS refunded FROM attempts a";
    let rows = db
        .query_all_raw(Statement::from_string(db.get_database_backend(), sql))
        .await
        .unwrap();
    db.close().await.unwrap();

    let read = |row: &sea_orm::QueryResult| {
        let fen = |name| row.try_get::<i64>("", name).unwrap();
        (
            row.try_get("", "no").unwrap(),
            fen("captured"),
            fen("refunded"),
        )
    };

    rows.iter().map(read).collect()
}

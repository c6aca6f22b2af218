//! A hostile merchant beside the one that a drill looks at, and another one who is in it with him,
//! so that they can agree: accounts that believe a wrong key of their provider, accounts at an
//! address that answers nothing, floods of payments and of bad requests, receivers that hang. They
//! give in at the end, so that all can come to rest: they then have the right keys and the right
//! address.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::Stage;
use super::error::Error;
use super::merchant::Shop;
use crate::directory::issue;
use crate::domain::Owner;
use crate::domain::id;
use crate::store::Store;

/// Accounts with a wrong key, and accounts at an address that answers nothing.
const WRONG_KEYS: u64 = 4;
const DEAF: u64 = 2;
/// Receivers of its webhooks.
const RECEIVERS: usize = 8;
/// Payments at once, again and again after a pause, and bad requests beside them.
const BURST: usize = 16;
const BURSTS_EVERY: Duration = Duration::from_millis(700);
const BAD_REQUESTS_EVERY: Duration = Duration::from_millis(10);
/// No request of its takes longer.
const PATIENCE: Duration = Duration::from_secs(6);

/// The hostile merchants.
#[derive(Debug)]
pub(super) struct Neighbour {
    gateway: String,
    http: reqwest::Client,
    /// One of each of them.
    keys: [String; 2],
    /// Their accounts: whose, which, and how each would work.
    accounts: Vec<(usize, String, Value)>,
    /// Somebody takes connections there and says nothing.
    silence: tokio::task::JoinHandle<()>,
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.silence.abort();
    }
}

fn failed(what: &str) -> impl FnOnce(reqwest::Error) -> Error {
    let what = what.to_owned();
    move |error| Error(format!("the neighbour: {what}: {error}"))
}

/// Makes both of them, with a key each.
async fn merchants(store: &Store) -> Result<[String; 2], Error> {
    let mut keys = [String::new(), String::new()];
    for (key, name) in keys
        .iter_mut()
        .zip(["neighbour", "friend of the neighbour"])
    {
        let failed = |e: &dyn std::fmt::Display| Error(format!("{name}: {e}"));
        let merchant = issue::merchant(store, name).await.map_err(|e| failed(&e))?;
        *key = issue::full_key(store, &Owner::of(merchant, false))
            .await
            .map_err(|e| failed(&e))?;
    }
    Ok(keys)
}

impl Neighbour {
    /// Makes it, with everything that it needs to be a nuisance. Its receivers hang at `hangs`.
    pub(super) async fn move_in(stage: &Stage, shop: &Shop, hangs: &str) -> Result<Self, Error> {
        let store = stage.store().await?;
        let made = merchants(&store).await;
        let _ = store.close().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let silent = listener.local_addr()?;
        let silence = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                held.push(connection);
            }
        });

        let mut neighbour = Self {
            gateway: shop.gateway.clone(),
            http: shop.http.clone(),
            keys: made?,
            accounts: Vec::new(),
            silence,
        };
        let face = stage
            .face("alipay")
            .ok_or_else(|| Error("no alipay".to_owned()))?;

        // A wrong key would be refused: nobody is there to be asked when they are entered.
        let away = json!({"provider": "alipay", "call": "query", "kind": "reset"});
        let away = stage.tell("PUT", "/faults", Some(away)).await?;

        neighbour
            .open_accounts(
                &stage.tell("GET", "/credentials", None).await?,
                face,
                silent,
            )
            .await?;

        stage
            .tell("DELETE", &format!("/faults?id={}", away["id"]), None)
            .await?;
        for who in [0, 1].into_iter().cycle().take(RECEIVERS) {
            neighbour
                .ask(who, "POST", "/v1/webhook_endpoints", &json!({"url": hangs}))
                .await?;
        }

        Ok(neighbour)
    }

    async fn open_accounts(
        &mut self,
        keys: &Value,
        face: SocketAddr,
        silent: SocketAddr,
    ) -> Result<(), Error> {
        for (number, who) in (0..WRONG_KEYS + DEAF).zip([0, 1].into_iter().cycle()) {
            let mut right = keys["alipay"].clone();
            // The sandbox looks at the application alone; two accounts of one merchant are not the
            // same.
            right["seller_id"] = format!("20880000000{number:05}").into();
            right["base_url"] = format!("http://{face}").into();
            let mut wrong = right.clone();
            if number < WRONG_KEYS {
                wrong["alipay_public_key"] = keys["wechatpay"]["public_key"].clone();
            } else {
                wrong["base_url"] = format!("http://{silent}").into();
            }
            let body = json!({"provider": "alipay", "name": format!("dead {number}"),
                "credentials": wrong});
            let made = self.ask(who, "POST", "/v1/accounts", &body).await?;
            let id = made["id"]
                .as_str()
                .ok_or_else(|| Error(format!("the neighbour: no account: {made}")))?;
            self.accounts.push((who, id.to_owned(), right));
        }

        Ok(())
    }

    async fn ask(
        &self,
        who: usize,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value, Error> {
        let method =
            reqwest::Method::from_bytes(method.as_bytes()).map_err(|e| Error(e.to_string()))?;
        let asking = self
            .http
            .request(method, format!("{}{path}", self.gateway))
            .bearer_auth(&self.keys[who]);
        let key = id::token().unwrap_or_default();
        let asking = asking
            .header("Idempotency-Key", key)
            .timeout(PATIENCE)
            .body(body.to_string());

        let text = asking
            .send()
            .await
            .map_err(failed(path))?
            .text()
            .await
            .map_err(failed(path))?;

        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Does what it can, until somebody stops it.
    pub(super) async fn be_hostile(&self) {
        tokio::join!(self.flood(), self.babble());
    }

    async fn flood(&self) {
        loop {
            let burst = (0..BURST).map(|number| async move {
                let who = number % self.keys.len();
                let order_id = id::token().unwrap_or_default();
                let body = json!({
                    "amount": 1, "currency": "CNY", "order_id": order_id, "description": "nothing",
                    "flow": "qr",
                });
                // What it does not want any more makes an event that eight receivers are to hear
                // of.
                if let Ok(made) = self.ask(who, "POST", "/v1/payments", &body).await
                    && let Some(id) = made["id"].as_str()
                {
                    let _ = self
                        .ask(
                            who,
                            "POST",
                            &format!("/v1/payments/{id}/cancel"),
                            &json!({}),
                        )
                        .await;
                }
            });
            futures_util::future::join_all(burst).await;
            tokio::time::sleep(BURSTS_EVERY).await;
        }
    }

    async fn babble(&self) {
        let wrong = [
            json!({"amount": -1}),
            json!([]),
            json!({"amount": 1, "flow": "qr", "nonsense": [[[[]]]]}),
        ];
        for body in wrong.iter().cycle() {
            let _ = self.ask(0, "POST", "/v1/payments", body).await;
            tokio::time::sleep(BAD_REQUESTS_EVERY).await;
        }
    }

    /// Its accounts work from now on.
    pub(super) async fn give_in(&self) -> Result<(), Error> {
        for (who, id, right) in &self.accounts {
            self.ask(
                *who,
                "PATCH",
                &format!("/v1/accounts/{id}"),
                &json!({"credentials": right}),
            )
            .await?;
        }
        Ok(())
    }
}

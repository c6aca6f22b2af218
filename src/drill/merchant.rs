//! The merchant of a drill, and the payers of its payments. Each payment has a shopper that asks,
//! retries, changes its mind and refunds as the plan's habits say; every answer is written down.
//! Believes nothing it is not told.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::Xoshiro256PlusPlus as Rng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::scenario::Habits;

/// An answer to a request for a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Under which key.
    pub key: String,
    /// HTTP status.
    pub status: u16,
    /// Whether it was marked as the answer of an earlier request.
    pub replayed: bool,
    /// Byte for byte.
    pub body: Vec<u8>,
}

impl Answer {
    /// Read as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// What the merchant has written down of one payment.
#[derive(Debug, Clone, Default)]
pub struct Shopped {
    /// Its id, once a request was accepted.
    pub payment: Option<String>,
    /// The amount that was asked for, in fen.
    pub amount: i64,
    /// Answers to requests that make it.
    pub answers: Vec<Answer>,
    /// The answer to the same order under another key.
    pub other_key: Option<Answer>,
    /// The answer to another body under the same key.
    pub other_body: Option<Answer>,
    /// Answers to requests for refunds, and to the same requests once more.
    pub refund_answers: Vec<Answer>,
    /// What was read off a payer's phone: nobody else may read it anywhere.
    pub auth_code: Option<String>,
    /// Every status that it was told in any answer.
    pub statuses: Vec<String>,
    /// Refunds that were accepted, by the merchant's number: their amounts.
    pub refunds: BTreeMap<String, i64>,
    /// Whether its payer went to pay.
    pub payer_paid: bool,
    /// Whether its payer could pay: did not decline, and nobody canceled.
    pub payable: bool,
    /// Whether it came to its end: nobody was cut off in the middle when the trouble was over.
    pub is_done: bool,
    /// How long the first answer took.
    pub took_ms: u64,
}

/// The log of all shoppers.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<BTreeMap<usize, Shopped>>>);

impl Log {
    pub(super) fn note(&self, number: usize, work: impl FnOnce(&mut Shopped)) {
        work(self.0.lock().entry(number).or_default());
    }

    /// All of it, by the shopper's number.
    #[must_use]
    pub fn all(&self) -> BTreeMap<usize, Shopped> {
        self.0.lock().clone()
    }
}

/// Where a shopper shops.
#[derive(Debug, Clone)]
pub struct Shop {
    /// The gateways, through whoever balances the load.
    pub gateway: String,
    /// The merchant's key.
    pub api_key: String,
    /// The sandbox's control.
    pub sandbox: String,
    /// For all of it.
    pub http: reqwest::Client,
    /// What is written down.
    pub log: Log,
}

/// One payment, from its request to its refunds.
pub struct Shopper {
    shop: Shop,
    number: usize,
    rng: Rng,
    habits: Habits,
    order_id: String,
}

impl std::fmt::Debug for Shopper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shopper")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often a request is repeated before the shopper gives up.
const TRIES: u32 = 40;

impl Shopper {
    /// A shopper whose every draw follows from the seed.
    #[must_use]
    pub fn new(shop: Shop, number: usize, seed: u64, habits: Habits) -> Self {
        let mixed = seed
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(u64::try_from(number).unwrap_or(0));
        let order_id = format!("drill-{seed}-{number}");
        Self {
            shop,
            number,
            rng: Rng::seed_from_u64(mixed),
            habits,
            order_id,
        }
    }

    fn does(&mut self, permille: u32) -> bool {
        self.rng.random_range(0..1_000) < permille
    }

    /// Goes through it.
    pub async fn run(self) {
        let (log, number) = (self.shop.log.clone(), self.number);
        self.shop_and_pay().await;
        log.note(number, |s| s.is_done = true);
    }

    async fn shop_and_pay(mut self) {
        let body = self.request();
        let key = format!("key-{}", self.order_id);
        let twice = self.does(self.habits.twice);
        let canceled = self.does(self.habits.cancel);
        let is_charge = body.get("flow").and_then(Value::as_str) == Some("barcode");
        let declines = is_charge
            && body["auth_code"]
                .as_str()
                .is_some_and(|code| code.ends_with(['8', '9']));
        let auth_code = body["auth_code"].as_str().map(str::to_owned);

        self.shop.log.note(self.number, |s| {
            s.payable = !canceled && !declines;
            s.auth_code = auth_code;
            s.amount = body["amount"].as_i64().unwrap_or(0);
        });

        let began = std::time::Instant::now();
        let payment = if twice {
            let (one, _) = tokio::join!(self.make(&key, &body), self.make(&key, &body));
            one
        } else {
            self.make(&key, &body).await
        };

        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shop.log.note(self.number, |s| s.took_ms = took_ms);
        let Some(payment) = payment else { return };
        let Some(id) = payment.get("id").and_then(Value::as_str).map(str::to_owned) else {
            return;
        };
        if self.does(self.habits.strange) {
            self.ask_strangely(&key, &body, &id).await;
        }
        if canceled && self.does(500) {
            self.cancel(&id).await;
        }

        if is_charge {
            self.confirm(&body).await
        } else {
            self.pay_offer(&id, payment).await
        }

        if canceled {
            self.cancel(&id).await;
        }

        // Before other refunds: so it is never the last part, of which Alipay tells nobody.
        if self.does(self.habits.by_hand) {
            self.refund_by_hand(&id).await;
        }
        if self.does(self.habits.refund) {
            self.refund(&id).await;
        }

        self.read(&id).await;
    }

    /// Somebody gives a part of it back in the provider's console. UnionPay tells nobody of that,
    /// and the others only where the order has an address for it.
    async fn refund_by_hand(&mut self, id: &str) {
        let Some(payment) = self.read(id).await else {
            return;
        };
        let attempts = payment["attempts"].as_array().into_iter().flatten();
        let Some(kept) = attempts.into_iter().find(|a| a["disposition"] == "kept") else {
            return;
        };
        if kept["provider"] == "unionpay" || payment["flow"] != "qr" {
            return;
        }
        let body =
            json!({"order_no": kept["provider_order_no"], "amount": self.rng.random_range(1..90)})
                .to_string();

        let _ = self
            .shop
            .http
            .post(format!("{}/refunds", self.shop.sandbox))
            .body(body)
            .send()
            .await;
    }

    fn request(&mut self) -> Value {
        let mut body = json!({
            "amount": 100 + self.rng.random_range(0..9_900), "currency": "CNY", "order_id": self.order_id,
            "description": "Drilled tea", "flow": "qr",
            "metadata": {"drill": self.number.to_string()},
        });

        if self.does(self.habits.barcode) {
            // 7 has to confirm, 8 has no money, 9 is too old; all others pay at once.
            let mood = *b"0123567889".choose(&mut self.rng).unwrap_or(&b'0');
            let number = u64::try_from(self.number).unwrap_or(0);
            let code = match self.rng.random_range(0..3) {
                0 => format!(
                    "28{:015}{}",
                    number + self.rng.random_range(0..1_000_000) * 1_000_000,
                    char::from(mood)
                ),
                1 => format!(
                    "13{:015}{}",
                    number + self.rng.random_range(0..1_000_000) * 1_000_000,
                    char::from(mood)
                ),
                _ => format!(
                    "62{:016}{}",
                    number + self.rng.random_range(0..1_000_000) * 1_000_000,
                    char::from(mood)
                ),
            };
            body["flow"] = "barcode".into();
            body["auth_code"] = code.into();
            body["wait"] = 1.into();
        }

        body
    }

    /// Asks until there is an answer that stands, with the same key.
    async fn make(&self, key: &str, body: &Value) -> Option<Value> {
        for n in 0..TRIES {
            let answer = self.post("/v1/payments", Some(key), body).await;
            if let Some(answer) = answer {
                let payment = answer.json();
                self.told(&payment);
                let status = answer.status;
                let stands = matches!(status, 200 | 201)
                    || (status == 202 && n + 1 == TRIES)
                    || matches!(status, 400 | 401 | 403 | 404 | 422);
                let accepted = matches!(status, 200..=202);
                self.shop.log.note(self.number, |s| {
                    s.answers.push(answer);
                    if accepted {
                        s.payment = payment
                            .get("id")
                            .and_then(Value::as_str)
                            .map(str::to_owned)
                            .or(s.payment.take());
                    }
                });
                if stands {
                    return accepted.then_some(payment);
                }
                // Parked, or a charge in doubt: it goes on by itself; a shopper looks again a few
                // times.
                if status == 202 && n >= 3 {
                    return Some(payment);
                }
            }
            tokio::time::sleep(Duration::from_millis(20 + u64::from(n) * 15)).await;
        }

        None
    }

    /// The same order under another key, another body under the same key: neither makes a second
    /// payment.
    async fn ask_strangely(&mut self, key: &str, body: &Value, id: &str) {
        let other_key = format!("other-{}", self.order_id);
        if let Some(answer) = self.post("/v1/payments", Some(&other_key), body).await {
            let made = answer.json();
            if matches!(answer.status, 200..=202)
                && made.get("id").and_then(Value::as_str) != Some(id)
            {
                // Only once the first has ended without money may its number be used again.
                self.told(&made);
            }
            self.shop
                .log
                .note(self.number, |s| s.other_key = Some(answer));
        }

        let mut other = body.clone();
        other["amount"] = 1.into();
        let answer = self.post("/v1/payments", Some(key), &other).await;
        self.shop.log.note(self.number, |s| s.other_body = answer);
    }

    async fn pay_offer(&mut self, id: &str, payment: Value) {
        let mut code = qr(&payment);
        if code.is_none() {
            code = self.until_shown(id).await;
        }
        let Some(mut code) = code else { return };

        if self.does(self.habits.other_offer) {
            let body = json!({"flow": "qr"});
            let key = format!("offer-{}", self.order_id);
            if let Some(answer) = self
                .post(&format!("/v1/payments/{id}/offers"), Some(&key), &body)
                .await
            {
                let shown = answer.json();
                self.told(&shown);
                if self.does(self.habits.both) {
                    self.pay(&json!({"code": code, "result": "paid"})).await;
                }
                code = qr(&shown).unwrap_or(code);
            }
        }

        if self.does(self.habits.never_pays) {
            self.shop.log.note(self.number, |s| s.payable = false);
            return;
        }
        if self.does(self.habits.late) {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(50..400))).await;
        }
        self.pay(&json!({"code": code, "result": "paid"})).await;

        if self.does(self.habits.twice) {
            self.pay(&json!({"code": code, "result": "paid"})).await;
        }
    }

    async fn confirm(&mut self, body: &Value) {
        let Some(code) = body["auth_code"]
            .as_str()
            .filter(|code| code.ends_with('7'))
        else {
            return;
        };
        let result = if self.does(800) { "paid" } else { "declined" };
        if result == "declined" {
            self.shop.log.note(self.number, |s| s.payable = false);
        }
        self.pay(&json!({"code": code, "result": result})).await;
    }

    async fn until_shown(&self, id: &str) -> Option<String> {
        for _ in 0..TRIES {
            if let Some(payment) = self.read(id).await {
                if let Some(code) = qr(&payment) {
                    return Some(code);
                }
                let ended = ["succeeded", "failed", "canceled", "expired"];
                if payment["status"]
                    .as_str()
                    .is_some_and(|status| ended.contains(&status))
                {
                    return None;
                }
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
        }

        None
    }

    async fn pay(&self, body: &Value) {
        let sent = self
            .shop
            .http
            .post(format!("{}/pay", self.shop.sandbox))
            .body(body.to_string())
            .send()
            .await;
        if sent.is_ok_and(|answer| answer.status().is_success()) {
            self.shop.log.note(self.number, |s| s.payer_paid = true);
        }
    }

    async fn cancel(&mut self, id: &str) {
        self.shop.log.note(self.number, |s| s.payable = false);
        if let Some(answer) = self
            .post(&format!("/v1/payments/{id}/cancel"), None, &json!({}))
            .await
        {
            self.told(&answer.json());
        }
    }

    /// Some refunds at once; together they may be more than there is.
    async fn refund(&mut self, id: &str) {
        for _ in 0..TRIES / 2 {
            match self.read(id).await {
                Some(payment) if payment["status"] == "succeeded" => break,
                Some(_) | None => tokio::time::sleep(Duration::from_millis(60)).await,
            }
        }

        let (parts, amount) = (self.rng.random_range(1..4), self.rng.random_range(1..6_000));
        let mut asking = Vec::new();

        for part in 0..parts {
            let number = format!("rf-{}-{part}", self.order_id);
            let body = json!({"amount": amount, "merchant_refund_no": number, "reason": "drilled"});
            asking.push((number, body));
        }

        let this = &*self;
        let asked = asking.iter().map(|(number, body)| async move {
            let path = format!("/v1/payments/{id}/refunds");
            for n in 0..6_u64 {
                match this.post(&path, Some(&format!("key-{number}")), body).await {
                    Some(answer) if matches!(answer.status, 200..=202) => {
                        let again = this.post(&path, Some(&format!("key-{number}")), body).await;
                        this.shop.log.note(this.number, |s| {
                            s.refunds.insert(number.clone(), amount);
                            s.refund_answers.push(answer);
                            s.refund_answers.extend(again);
                        });
                        return;
                    }
                    Some(answer) if matches!(answer.status, 404 | 422) => return,
                    Some(_) | None => tokio::time::sleep(Duration::from_millis(50 * (n + 1))).await,
                }
            }
        });

        futures_util::future::join_all(asked).await;
    }

    async fn read(&self, id: &str) -> Option<Value> {
        let url = format!("{}/v1/payments/{id}", self.shop.gateway);
        let asking = self
            .shop
            .http
            .get(url)
            .bearer_auth(&self.shop.api_key)
            .timeout(PATIENCE)
            .send();
        let answer = asking.await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        let payment = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
        self.told(&payment);
        Some(payment)
    }

    fn told(&self, payment: &Value) {
        if payment["object"] == "payment"
            && let Some(status) = payment["status"].as_str()
        {
            self.shop.log.note(self.number, |s| {
                // A second payment of the same order is another one, with an end of its own.
                if s.payment.as_deref().is_none_or(|id| payment["id"] == id) {
                    s.statuses.push(status.to_owned());
                }
            });
        }
    }

    async fn post(&self, path: &str, key: Option<&str>, body: &Value) -> Option<Answer> {
        let url = format!("{}{path}", self.shop.gateway);
        let mut request = self
            .shop
            .http
            .post(url)
            .bearer_auth(&self.shop.api_key)
            .timeout(PATIENCE);

        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let answer = request.body(body.to_string()).send().await.ok()?;
        let status = answer.status().as_u16();
        let replayed = answer.headers().get("idempotency-replayed").is_some();
        let body = answer.bytes().await.ok()?.to_vec();

        Some(Answer {
            key: key.unwrap_or_default().to_owned(),
            status,
            replayed,
            body,
        })
    }
}

fn qr(payment: &Value) -> Option<String> {
    payment["next_action"]["qr"].as_str().map(str::to_owned)
}

//! Somebody who is neither the merchant nor a provider, and sends what he has made himself:
//! notifications about orders that exist, requests under keys that do not. What he is answered is
//! written down; nothing of it may be believed.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus as Rng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::merchant::Shop;
use crate::domain::Timestamp;
use crate::server::demo::Demo;

/// Something that was sent, and believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// What it was.
    pub what: &'static str,
    /// What was answered.
    pub answer: String,
}

/// How many were sent, and those that were believed.
#[derive(Debug, Clone, Default)]
pub struct Forgeries {
    /// Answered.
    pub answered: u64,
    /// What should not be.
    pub believed: Vec<Believed>,
}

/// Sends so many a second, dated `now`, until it is dropped; `note` is told of each answer.
pub async fn forge(
    shop: &Shop,
    demo: &Demo,
    now: Timestamp,
    a_second: u32,
    seed: u64,
    mut note: impl FnMut(Option<Believed>),
) {
    let mut rng = Rng::seed_from_u64(seed ^ 0xF0_46E0);
    let pause = Duration::from_secs(1)
        .checked_div(a_second)
        .unwrap_or(Duration::MAX);

    loop {
        tokio::time::sleep(pause).await;
        let (what, sent) = if rng.random_bool(0.5) {
            (
                "a notification",
                notification(shop, demo, now, &mut rng).await,
            )
        } else {
            ("a request", request(shop, &mut rng).await)
        };
        if let Some((is_believed, answer)) = sent {
            note(is_believed.then_some(Believed { what, answer }));
        }
    }
}

/// A notification that somebody has paid, with a signature of somebody's.
async fn notification(
    shop: &Shop,
    demo: &Demo,
    now: Timestamp,
    rng: &mut Rng,
) -> Option<(bool, String)> {
    let books = shop
        .http
        .get(format!("{}/books", shop.sandbox))
        .send()
        .await
        .ok()?
        .bytes()
        .await
        .ok()?;
    let books: Value = serde_json::from_slice(&books).ok()?;
    let orders = books["orders"].as_array()?;
    let order = orders.choose(rng)?;

    let account = demo
        .accounts
        .iter()
        .find(|account| order["provider"] == account.provider.as_str())?;
    let signature = "QUFB".repeat(86);
    let time = now
        .utc()
        .with_timezone(&chrono::FixedOffset::east_opt(8 * 3_600)?)
        .format("%Y-%m-%d %H:%M:%S")
        .to_string();

    let seconds = (now.0 / 1_000).to_string();
    let (number, amount) = (order["order_no"].as_str()?, order["amount"].as_i64()?);
    let asking = shop
        .http
        .post(format!("{}/notifications/{}", shop.gateway, account.id));
    let asking = match account.provider.as_str() {
        "alipay" => form(
            asking,
            &[
                ("notify_time", &time),
                ("notify_type", "trade_status_sync"),
                ("trade_status", "TRADE_SUCCESS"),
                ("out_trade_no", number),
                ("trade_no", "2026010122001400000000000000"),
                ("total_amount", "0.01"),
                ("sign_type", "RSA2"),
                ("sign", &signature),
            ],
        ),
        "wechatpay" => asking
            .header("Wechatpay-Timestamp", &seconds)
            .header("Wechatpay-Nonce", "forged")
            .header(
                "Wechatpay-Serial",
                "PUB_KEY_ID_0114232134912410000000000000",
            )
            .header("Wechatpay-Signature", &signature)
            .body(
                json!({"id": "forged", "event_type": "TRANSACTION.SUCCESS",
                    "resource_type": "encrypt-resource",
                    "resource": {"algorithm": "AEAD_AES_256_GCM", "ciphertext": signature,
                        "nonce": "forged000000",
                        "associated_data": "transaction"}})
                .to_string(),
            ),
        _ => form(
            asking,
            &[
                ("version", "5.1.0"),
                ("signMethod", "01"),
                ("txnType", "01"),
                ("respCode", "00"),
                ("orderId", number),
                ("txnAmt", &amount.to_string()),
                ("signature", &signature),
            ],
        ),
    };

    let answer = asking.send().await.ok()?;
    let status = answer.status();
    let body = String::from_utf8_lossy(&answer.bytes().await.ok()?).into_owned();

    // Alipay is acknowledged by a word, the others by the status.
    let is_believed =
        status.is_success() && (account.provider.as_str() != "alipay" || body == "success");
    Some((
        is_believed,
        format!("{}: {status} {body}", account.provider),
    ))
}

fn form(asking: reqwest::RequestBuilder, members: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(members)
        .finish();
    asking
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body)
}

/// A request of somebody who has no key, or has made one up.
async fn request(shop: &Shop, rng: &mut Rng) -> Option<(bool, String)> {
    let paths = [
        "/v1/payments",
        "/v1/webhook_endpoints",
        "/v1/accounts",
        "/v1/routing",
    ];
    let path = paths.choose(rng)?;
    let body = json!({"amount": 1, "currency": "CNY", "order_id": "forged", "description": "forged",
        "flow": "qr",
        "url": "http://127.0.0.1:1/"});

    let mut asking = shop
        .http
        .post(format!("{}{path}", shop.gateway))
        .header("Idempotency-Key", "forged");
    if rng.random_bool(0.5) {
        asking = asking.bearer_auth(format!("sk_test_{}", "0".repeat(32)));
    }
    let answer = asking.body(body.to_string()).send().await.ok()?;

    Some((
        answer.status().is_success(),
        format!("{path}: {}", answer.status()),
    ))
}

//! Somebody who pays at one gateway all the time, and asks whether it is ready: for how long it
//! takes no payments, and whether it knows that.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use providers::http::plain_client_builder;
use serde_json::json;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// A try takes no longer.
const PATIENCE: Duration = Duration::from_secs(12);
/// A job of which no step has ended for so many seconds stands still. The rarest one is a minute
/// apart.
const STANDS_STILL_S: f64 = 90.0;
/// How a gateway's metrics tell of it.
const JOB_AGE: &str = "interlock_job_last_end_age_seconds{";

/// What was seen at one gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probed {
    /// Where it listens.
    pub gateway: String,
    /// The longest time between two payments that were taken.
    pub longest_ms: u64,
    /// The longest time in which none was taken and it said that it was ready.
    pub falsely_ready_ms: u64,
    /// Jobs that stood still in the end.
    pub stopped: Vec<String>,
}

/// Pays until it is over.
pub async fn probe(gateway: SocketAddr, key: &str, over: &AtomicBool) -> Probed {
    let client = plain_client_builder()
        .pool_max_idle_per_host(0)
        .timeout(PATIENCE)
        .build();
    let mut probed = Probed {
        gateway: gateway.to_string(),
        ..Probed::default()
    };
    let Ok(client) = client else { return probed };
    let (mut taken, mut ready_since) = (Instant::now(), None);
    let mut number = 0_u64;

    while !over.load(Ordering::Relaxed) {
        number += 1;
        if pays(&client, gateway, key, number).await {
            probed.longest_ms = probed.longest_ms.max(ms(taken.elapsed()));
            (taken, ready_since) = (Instant::now(), None);
        } else if is_ready(&client, gateway).await {
            let since = *ready_since.get_or_insert_with(Instant::now);
            probed.falsely_ready_ms = probed.falsely_ready_ms.max(ms(since.elapsed()));
        } else {
            ready_since = None;
        }
        tokio::time::sleep(PAUSE).await;
    }

    probed.longest_ms = probed.longest_ms.max(ms(taken.elapsed()));
    probed.stopped = stopped(&client, gateway).await;
    probed
}

async fn pays(client: &reqwest::Client, gateway: SocketAddr, key: &str, number: u64) -> bool {
    let name = format!("probe-{}-{number}", gateway.port());
    let body = json!({"amount": 1, "currency": "CNY", "order_id": name, "description": "a probe",
        "flow": "qr",
        "expires_in": 300});
    let asking = client
        .post(format!("http://{gateway}/v1/payments"))
        .bearer_auth(key)
        .header("Idempotency-Key", &name);
    asking
        .body(body.to_string())
        .send()
        .await
        .is_ok_and(|answer| answer.status().is_success())
}

async fn is_ready(client: &reqwest::Client, gateway: SocketAddr) -> bool {
    let asking = client.get(format!("http://{gateway}/readyz")).send().await;
    asking.is_ok_and(|answer| answer.status().is_success())
}

/// Jobs whose last step ended long ago, as its metrics tell.
async fn stopped(client: &reqwest::Client, gateway: SocketAddr) -> Vec<String> {
    let Ok(answer) = client.get(format!("http://{gateway}/metrics")).send().await else {
        return Vec::new();
    };
    let text = answer.text().await.unwrap_or_default();
    let ages = text.lines().filter(|line| line.starts_with(JOB_AGE));
    let is_old = |line: &&str| {
        line.rsplit(' ')
            .next()
            .and_then(|age| age.parse().ok())
            .is_some_and(|age: f64| age > STANDS_STILL_S)
    };
    ages.filter(is_old).map(str::to_owned).collect()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

//! What tests share: a gateway with its sandbox on free ports, in this process or as the real
//! binary, on the database that `INTERLOCK_TEST_DATABASE` names (`sqlite`, or `postgres` with
//! `INTERLOCK_TEST_POSTGRES`). Every test starts its own and ends it.

#![allow(dead_code, reason = "each test file uses some of it")]

mod app;
mod client;
pub mod contract;
mod control;
mod databases;
pub mod facts;
pub mod front;
pub mod guarded;
pub mod load;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod rows;
pub mod wire;

pub use app::{Ground, TestApp};
pub use client::{Answer, Client};
pub use control::Control;
pub use databases::{connect, database, name_installation, on_postgres};

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use providers::sandbox::keys::Keys;
use providers::sandbox::{LOG, Options, Sandbox};
use serde_json::{Value, json};

/// How long a test waits for something that has to happen by itself.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a test waits between two steps of the clock, and how often. Ever longer: on a busy
/// machine, what is under way has to get done before its time is over.
pub fn pauses() -> impl Iterator<Item = Duration> {
    (0..120).map(|step| Duration::from_millis(60 + 4 * step))
}

/// A name that no other test uses.
pub fn fresh(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(
        "{prefix}-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A good request for a payment, with an order number of its own.
pub fn order() -> Value {
    json!({"amount": 8888, "currency": "CNY", "order_id": fresh("order"),
        "description": "Two cups of tea", "flow": "qr"})
}

/// The providers that make charges.
pub fn charging_providers() -> Vec<&'static str> {
    let charging = providers::PROTOCOLS
        .iter()
        .filter(|p| p.capabilities.charge.is_some());
    charging.map(|p| p.name.as_str()).collect()
}

/// A good request for a charge over a code of this provider. Its last digit is the payer's mood: 0
/// to 6 pays at once, 7 has to confirm, 8 has no money, 9 shows an old code.
pub fn barcode(provider: &str, mood: u8) -> Value {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let code = match provider {
        "alipay" => format!("28{number:015}{mood}"),
        "wechatpay" => format!("13{number:015}{mood}"),
        "unionpay" => format!("62{number:016}{mood}"),
        other => panic!("{other} has no codes"),
    };
    let mut body = order();
    body["flow"] = "barcode".into();
    body["auth_code"] = code.into();
    body
}

pub fn install_crypto() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// A sandbox of this test's own, on free ports. Its keys are the same for the whole process: making
/// them is slow.
pub async fn sandbox() -> Sandbox {
    install_crypto();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let faces = providers::PROTOCOLS.iter().map(|p| (p.name, any)).collect();
    Sandbox::start(Options {
        control: any,
        faces,
        keys: keys(),
        book: None,
        log: LOG,
    })
    .await
    .unwrap()
}

/// The sandbox's own keys, for answers that it would not give.
pub fn keys() -> Keys {
    static KEYS: std::sync::OnceLock<Keys> = std::sync::OnceLock::new();
    KEYS.get_or_init(kept_keys).clone()
}

/// Those that the file named by `INTERLOCK_TEST_KEYS` keeps for all processes of a run, or new
/// ones.
fn kept_keys() -> Keys {
    let Some(path) = std::env::var_os("INTERLOCK_TEST_KEYS").map(std::path::PathBuf::from) else {
        return Keys::generate().unwrap();
    };
    let kept = std::fs::read(&path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok());
    kept.unwrap_or_else(|| {
        let keys = Keys::generate().unwrap();
        // Whole or not at all: others read it meanwhile.
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
        std::io::Write::write_all(&mut file, &serde_json::to_vec(&keys).unwrap()).unwrap();
        file.persist(&path).unwrap();
        keys
    })
}

/// The attempts' `(provider, status)`, in order.
pub fn attempts(payment: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    payment["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (text(&a["provider"]), text(&a["status"])))
        .collect()
}

/// How many attempts are alive.
pub fn live(payment: &Value) -> usize {
    let alive = [
        "sending",
        "unknown",
        "awaiting_payer",
        "closing",
        "reversing",
    ];
    attempts(payment)
        .iter()
        .filter(|(_, status)| alive.contains(&status.as_str()))
        .count()
}

//! The sections of the configuration and their keys, as `config/default.toml` describes them. What
//! may hold a password keeps it to itself.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::alerts::Alerts;
use super::durations::{list_of_seconds, milliseconds, seconds};
use super::list::list;
use super::providers::Providers;

/// Everything that is configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Config {
    pub server: Server,
    pub data: Data,
    pub database: Database,
    pub redis: Redis,
    pub health: Health,
    pub admission: Admission,
    pub sandbox: Sandbox,
    pub credentials: Credentials,
    pub providers: Providers,
    pub payments: Payments,
    pub resolver: Resolver,
    pub ledger: Ledger,
    pub webhooks: Webhooks,
    pub traces: Traces,
    pub alerts: Alerts,
    pub log: Log,
}

/// Section `server`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Server {
    pub listen: String,
    pub admin: String,
    pub public_url: String,
    #[serde(rename = "drain_s", deserialize_with = "seconds")]
    pub drain: Duration,
    #[serde(rename = "drain_notice_s", deserialize_with = "seconds")]
    pub drain_notice: Duration,
    pub max_body_bytes: usize,
    #[serde(rename = "body_timeout_s", deserialize_with = "seconds")]
    pub body_timeout: Duration,
    #[serde(rename = "keep_alive_s", deserialize_with = "seconds")]
    pub keep_alive: Duration,
    pub max_idle_connections: usize,
    pub max_connections: usize,
    pub workers: usize,
}

/// Section `data`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Data {
    pub dir: PathBuf,
}

/// Section `database`. Its `Debug` keeps the address to itself.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Database {
    pub url: String,
    pub connections: u32,
    #[serde(rename = "timeout_ms", deserialize_with = "milliseconds")]
    pub timeout: Duration,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// Section `redis`. Its `Debug` keeps the address to itself, for it may hold a password.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Redis {
    pub url: String,
    #[serde(rename = "timeout_ms", deserialize_with = "milliseconds")]
    pub timeout: Duration,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Section `health`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Health {
    pub breakers: bool,
    #[serde(rename = "interval_ms", deserialize_with = "milliseconds")]
    pub interval: Duration,
    #[serde(rename = "probe_timeout_ms", deserialize_with = "milliseconds")]
    pub probe_timeout: Duration,
    /// How many of them may be under way at the same time.
    pub probes_at_once: usize,
}

/// Section `admission`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Admission {
    pub payments_per_s: u32,
    pub payments_burst: u32,
    pub requests_per_s: u32,
    pub requests_burst: u32,
    pub strangers_per_s: u32,
    pub strangers_burst: u32,
    pub max_in_progress: usize,
    #[serde(rename = "max_commit_wait_ms", deserialize_with = "milliseconds")]
    pub max_commit_wait: Duration,
}

/// Section `sandbox`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Sandbox {
    pub listen: String,
}

/// Section `credentials`. Its `Debug` keeps the key to itself.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Credentials {
    pub key: String,
    pub key_file: PathBuf,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("key_file", &self.key_file)
            .finish_non_exhaustive()
    }
}

/// Section `payments`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Payments {
    pub order_prefix: String,
    pub max_amount_fen: i64,
    pub max_routes: usize,
    pub max_parked: u64,
    #[serde(rename = "answer_within_ms", deserialize_with = "milliseconds")]
    pub answer_within: Duration,
    #[serde(rename = "offer_timeout_ms", deserialize_with = "milliseconds")]
    pub offer_timeout: Duration,
    #[serde(rename = "charge_timeout_ms", deserialize_with = "milliseconds")]
    pub charge_timeout: Duration,
    #[serde(rename = "query_timeout_ms", deserialize_with = "milliseconds")]
    pub query_timeout: Duration,
    #[serde(rename = "reverse_timeout_ms", deserialize_with = "milliseconds")]
    pub reverse_timeout: Duration,
    #[serde(rename = "refund_timeout_ms", deserialize_with = "milliseconds")]
    pub refund_timeout: Duration,
    #[serde(rename = "call_grace_ms", deserialize_with = "milliseconds")]
    pub call_grace: Duration,
    #[serde(rename = "account_set_aside_s", deserialize_with = "seconds")]
    pub account_set_aside: Duration,
}

/// Section `resolver`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Resolver {
    #[serde(rename = "interval_ms", deserialize_with = "milliseconds")]
    pub interval: Duration,
    pub batch: usize,
    #[serde(rename = "lease_s", deserialize_with = "seconds")]
    pub lease: Duration,
}

/// Section `ledger`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Ledger {
    #[serde(rename = "interval_ms", deserialize_with = "milliseconds")]
    pub interval: Duration,
    pub block_entries: u64,
}

/// Section `webhooks`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Webhooks {
    #[serde(rename = "interval_ms", deserialize_with = "milliseconds")]
    pub interval: Duration,
    pub batch: u64,
    pub concurrency: usize,
    pub per_receiver: usize,
    #[serde(rename = "timeout_ms", deserialize_with = "milliseconds")]
    pub timeout: Duration,
    #[serde(rename = "connect_timeout_ms", deserialize_with = "milliseconds")]
    pub connect_timeout: Duration,
    #[serde(rename = "failing_pace_ms", deserialize_with = "milliseconds")]
    pub failing_pace: Duration,
    #[serde(rename = "ladder_s", deserialize_with = "list_of_seconds")]
    pub ladder: Vec<Duration>,
    #[serde(rename = "alert_after_s", deserialize_with = "seconds")]
    pub alert_after: Duration,
    pub log_days: i64,
    pub allow_http: bool,
    #[serde(deserialize_with = "list")]
    pub allow_networks: Vec<IpNet>,
}

/// Section `traces`. Its `Debug` keeps the address to itself.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Traces {
    pub otlp_url: String,
    pub percent: u8,
    pub queue: usize,
    #[serde(rename = "interval_ms", deserialize_with = "milliseconds")]
    pub interval: Duration,
    #[serde(rename = "timeout_ms", deserialize_with = "milliseconds")]
    pub timeout: Duration,
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traces")
            .field("percent", &self.percent)
            .finish_non_exhaustive()
    }
}

/// Section `log`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Log {
    pub level: String,
}

//! The sections of the configuration and their keys, as `config/default.toml` describes them. What
//! may hold a password keeps it to itself.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::alerts::Alerts;
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
    pub drain_s: u64,
    pub drain_notice_s: u64,
    pub max_body_bytes: usize,
    pub body_timeout_s: u64,
    pub keep_alive_s: u64,
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
    pub timeout_ms: u64,
}

impl Database {
    /// How long one use of a connection may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
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
    pub timeout_ms: u64,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis")
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

/// Section `health`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Health {
    pub breakers: bool,
    pub interval_ms: u64,
    pub probe_timeout_ms: u64,
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
    pub max_commit_wait_ms: u64,
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
    pub answer_within_ms: u64,
    pub offer_timeout_ms: i64,
    pub charge_timeout_ms: i64,
    pub query_timeout_ms: i64,
    pub reverse_timeout_ms: i64,
    pub refund_timeout_ms: i64,
    pub call_grace_ms: i64,
    pub account_set_aside_s: i64,
}

/// Section `resolver`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Resolver {
    pub interval_ms: i64,
    pub batch: usize,
    pub lease_s: i64,
}

/// Section `ledger`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Ledger {
    pub interval_ms: i64,
    pub block_entries: u64,
}

/// Section `webhooks`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Webhooks {
    pub interval_ms: i64,
    pub batch: u64,
    pub concurrency: usize,
    pub per_receiver: usize,
    pub timeout_ms: u64,
    pub connect_timeout_ms: u64,
    pub failing_pace_ms: i64,
    #[serde(deserialize_with = "list")]
    pub ladder_s: Vec<i64>,
    pub alert_after_s: i64,
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
    pub interval_ms: u64,
    pub timeout_ms: u64,
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

//! What can be configured: `config/default.toml` says what each key means. A wrong value stops the program with
//! one line that names the key and where it was given.

mod alerts;
mod providers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::providers::address;
use config::Source as _;
use ipnet::IpNet;
use serde::Deserialize;

pub use alerts::{Alerts, Language, Receiver, Robot};
pub use providers::{ListedAddress, Providers};

use crate::{embedded, redact};

/// No call, pause or grace of [`Config::check_numbers`] that is given in milliseconds is longer.
const DAY_MS: i64 = 86_400_000;
/// The defaults, part of the program.
const DEFAULTS: &str = include_str!("../config/default.toml");

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
        f.debug_struct("Database").field("connections", &self.connections).finish_non_exhaustive()
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
        f.debug_struct("Redis").field("timeout_ms", &self.timeout_ms).finish_non_exhaustive()
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
        f.debug_struct("Credentials").field("key_file", &self.key_file).finish_non_exhaustive()
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

/// A list: an array in a file; in the environment and in flags a text with commas.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Item {
        Number(i64),
        Text(String),
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Array(Vec<Item>),
        Text(String),
    }
    let texts: Vec<String> = match Given::deserialize(deserializer)? {
        Given::Text(text) => text.split(',').map(|item| item.trim().to_owned()).filter(|i| !i.is_empty()).collect(),
        Given::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Item::Number(number) => number.to_string(),
                Item::Text(text) => text,
            })
            .collect(),
    };
    texts.iter().map(|text| text.parse().map_err(|e| serde::de::Error::custom(format!("{text:?}: {e}")))).collect()
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
        f.debug_struct("Traces").field("percent", &self.percent).finish_non_exhaustive()
    }
}

/// Section `log`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Log {
    pub level: String,
}

/// What is wrong with the configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or a variable that cannot be read, or a wrong type.
    #[error("configuration: {}", one_line(&.0.to_string()))]
    Read(#[from] config::ConfigError),
    /// A key that does not exist.
    #[error("configuration: there is no key {key} (given in {origin})")]
    Unknown {
        /// `section.key`.
        key: String,
        /// Which file, or the environment.
        origin: String,
    },
    /// A value that cannot be.
    #[error("configuration: {key} = {value:?}, given {origin}: {problem}")]
    Value {
        /// `section.key`.
        key: &'static str,
        /// What was given.
        value: String,
        /// Where.
        origin: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A value that cannot be.
struct Wrong {
    key: &'static str,
    value: String,
    problem: &'static str,
}

/// An address that is wrong, without what may be a password in it.
fn shown(address: &str) -> String {
    if address.contains('@') { redact::address(address) } else { address.to_owned() }
}

type Table = config::Map<String, config::Value>;

/// A key that nobody reads is a mistake: what it was meant to change would silently stay as it is.
fn refuse_unknown(known: &Table, given: &Table, section: &str, origin: &str) -> Result<(), ConfigError> {
    for (name, value) in given {
        // The environment gives `section.key`, files give tables.
        let (first, rest) = name.split_once('.').map_or((name.as_str(), None), |(first, rest)| (first, Some(rest)));
        let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        let unknown = || ConfigError::Unknown { key: key.clone(), origin: origin.to_owned() };
        let place = known.get(first).ok_or_else(unknown)?;
        let below = place.clone().into_table().unwrap_or_default();
        if let Some(rest) = rest {
            let inner = Table::from_iter([(rest.to_owned(), value.clone())]);
            refuse_unknown(&below, &inner, first, origin)?;
        } else if let Ok(inner) = value.clone().into_table() {
            refuse_unknown(&below, &inner, &key, origin)?;
        }
    }
    Ok(())
}

/// Where a value was given. The defaults are right, so what comes from nowhere comes from a flag.
fn origin(given: &config::Value, key: &str) -> String {
    let value = key.split('.').try_fold(given.clone(), |at, name| at.into_table().ok()?.get(name).cloned());
    value.and_then(|v| v.origin().map(|origin| format!("in {origin}"))).unwrap_or_else(|| "by a flag".to_owned())
}

/// Errors in TOML come with a drawing of the place, over several lines.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.contains('|')).collect();
    lines.join(" ")
}

impl Config {
    /// Reads defaults, the file, the environment, and `flags` (`section.key` and value), each stronger than the last.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key.
    pub fn load(file: Option<&Path>, flags: &[(&str, String)]) -> Result<Self, ConfigError> {
        let defaults = config::File::from_str(DEFAULTS, config::FileFormat::Toml);
        let known = defaults.collect()?;
        let mut sources = config::Config::builder().add_source(defaults);
        if let Some(path) = file {
            let file = config::File::from(path).format(config::FileFormat::Toml);
            refuse_unknown(&known, &file.collect()?, "", &path.display().to_string())?;
            sources = sources.add_source(file);
        }
        // Values stay texts until the type of their key is known: `007` is a good prefix of order numbers.
        let environment = config::Environment::with_prefix("INTERLOCK").prefix_separator("__").separator("__");
        refuse_unknown(&known, &environment.collect()?, "", "the environment")?;
        sources = sources.add_source(environment);
        for (key, value) in flags {
            sources = sources.set_override(*key, value.clone())?;
        }
        let sources = sources.build()?;
        let given = sources.cache.clone();
        let config: Self = sources.try_deserialize()?;
        match config.check() {
            Ok(()) => Ok(config),
            Err(Wrong { key, value, problem }) => {
                Err(ConfigError::Value { key, value, origin: origin(&given, key), problem })
            }
        }
    }

    /// Whether the embedded database is used.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.database.url.is_empty()
    }

    /// The database's address.
    #[must_use]
    pub fn database_url(&self) -> String {
        if self.is_embedded() { embedded::url(&self.data.dir.join("interlock.db")) } else { self.database.url.clone() }
    }

    /// The file of the embedded database; `None`: it is a PostgreSQL.
    #[must_use]
    pub fn database_file(&self) -> Option<PathBuf> {
        embedded::file(&self.database_url())
    }

    /// What has an upper end, too: beyond it a runtime gives up, or nothing would ever happen.
    fn check_ranges(&self) -> Result<(), Wrong> {
        let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let ranges = [
            ("server.workers", number(self.server.workers), 0..=512, "must be from 0 to 512"),
            ("server.keep_alive_s", self.server.keep_alive_s, 1..=86_400, "must be from 1 to 86400"),
            ("server.drain_s", self.server.drain_s, 0..=86_400, "must be from 0 to 86400"),
            ("server.drain_notice_s", self.server.drain_notice_s, 0..=86_400, "must be from 0 to 86400"),
            ("database.timeout_ms", self.database.timeout_ms, 1_000..=600_000, "must be from 1000 to 600000"),
            ("database.connections", u64::from(self.database.connections), 1..=10_000, "must be from 1 to 10000"),
        ];
        for (key, value, range, problem) in ranges {
            if !range.contains(&value) {
                return Err(Wrong { key, value: value.to_string(), problem });
            }
        }
        Ok(())
    }

    /// What must be more than 0.
    fn check_numbers(&self) -> Result<(), Wrong> {
        let p = &self.payments;
        let positive = [
            ("payments.max_amount_fen", p.max_amount_fen),
            ("payments.offer_timeout_ms", p.offer_timeout_ms),
            ("payments.query_timeout_ms", p.query_timeout_ms),
            ("payments.refund_timeout_ms", p.refund_timeout_ms),
            ("payments.call_grace_ms", p.call_grace_ms),
            ("payments.account_set_aside_s", p.account_set_aside_s),
            ("resolver.interval_ms", self.resolver.interval_ms),
            ("resolver.lease_s", self.resolver.lease_s),
            ("ledger.interval_ms", self.ledger.interval_ms),
            ("webhooks.interval_ms", self.webhooks.interval_ms),
            ("webhooks.alert_after_s", self.webhooks.alert_after_s),
            ("webhooks.log_days", self.webhooks.log_days),
        ];
        for (key, value) in positive {
            if value <= 0 {
                return Err(Wrong { key, value: value.to_string(), problem: "must be more than 0" });
            }
            if key.ends_with("_ms") && value > DAY_MS {
                return Err(Wrong { key, value: value.to_string(), problem: "must be at most 86400000" });
            }
        }
        let small = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let counts = [
            ("payments.max_routes", p.max_routes),
            ("resolver.batch", self.resolver.batch),
            ("server.max_body_bytes", self.server.max_body_bytes),
            ("admission.payments_per_s", small(self.admission.payments_per_s)),
            ("admission.payments_burst", small(self.admission.payments_burst)),
            ("admission.requests_per_s", small(self.admission.requests_per_s)),
            ("admission.requests_burst", small(self.admission.requests_burst)),
            ("admission.strangers_per_s", small(self.admission.strangers_per_s)),
            ("admission.strangers_burst", small(self.admission.strangers_burst)),
            ("server.max_idle_connections", self.server.max_idle_connections),
            ("server.max_connections", self.server.max_connections),
            ("payments.max_parked", usize::try_from(p.max_parked).unwrap_or(0)),
            ("admission.max_in_progress", self.admission.max_in_progress),
            ("admission.max_commit_wait_ms", usize::try_from(self.admission.max_commit_wait_ms).unwrap_or(0)),
            ("webhooks.concurrency", self.webhooks.concurrency),
            ("webhooks.per_receiver", self.webhooks.per_receiver),
            ("webhooks.batch", usize::try_from(self.webhooks.batch).unwrap_or(0)),
            ("webhooks.timeout_ms", usize::try_from(self.webhooks.timeout_ms).unwrap_or(0)),
            ("webhooks.connect_timeout_ms", usize::try_from(self.webhooks.connect_timeout_ms).unwrap_or(0)),
            ("traces.queue", self.traces.queue),
            ("traces.interval_ms", usize::try_from(self.traces.interval_ms).unwrap_or(0)),
            ("traces.timeout_ms", usize::try_from(self.traces.timeout_ms).unwrap_or(0)),
        ];
        for (key, value) in counts {
            if value == 0 {
                return Err(Wrong { key, value: value.to_string(), problem: "must be more than 0" });
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Wrong> {
        self.check_numbers()?;
        self.check_ranges()?;
        let p = &self.payments;
        let ladder = &self.webhooks.ladder_s;
        if ladder.is_empty() || ladder.iter().any(|s| *s <= 0) {
            let value = format!("{ladder:?}");
            return Err(Wrong { key: "webhooks.ladder_s", value, problem: "needs pauses, each more than 0 seconds" });
        }
        if !(100..=10_000).contains(&p.answer_within_ms) {
            let value = p.answer_within_ms.to_string();
            let problem = "must be from 100 to 10000: checkouts are answered within 10 seconds";
            return Err(Wrong { key: "payments.answer_within_ms", value, problem });
        }
        if crate::domain::id::InstallationPrefix::parse(&p.order_prefix).is_none() {
            let value = p.order_prefix.clone();
            return Err(Wrong { key: "payments.order_prefix", value, problem: "must be 1 to 8 letters or digits" });
        }
        // Each entry is two parameters of one statement, of which SQLite takes 32766.
        if !(1..=10_000).contains(&self.ledger.block_entries) {
            let value = self.ledger.block_entries.to_string();
            return Err(Wrong { key: "ledger.block_entries", value, problem: "must be from 1 to 10000" });
        }
        if self.traces.percent > 100 {
            let value = self.traces.percent.to_string();
            return Err(Wrong { key: "traces.percent", value, problem: "must be from 0 to 100" });
        }
        let url = &self.traces.otlp_url;
        if !(url.is_empty() || address::read(url).is_ok()) {
            let problem = "must be an http or https address without a user";
            return Err(Wrong { key: "traces.otlp_url", value: shown(url), problem });
        }
        self.alerts.check()?;
        let url = &self.server.public_url;
        let is_place = address::read(url).is_ok_and(|url| url.query().is_none());
        if !(url.is_empty() || is_place) {
            let problem = "must be an http or https address without a user and a query";
            return Err(Wrong { key: "server.public_url", value: shown(url), problem });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_complete_and_flags_are_strongest() {
        let config = Config::load(None, &[("server.listen", "127.0.0.1:9".to_owned())]).unwrap();
        assert_eq!(config.server.listen, "127.0.0.1:9");
        assert!(config.database_url().starts_with("sqlite://"));
        let span_s: i64 = config.webhooks.ladder_s.iter().sum();
        assert!(config.webhooks.ladder_s.len() >= 9 && span_s >= 3 * 86_400, "ten tries over three days");
    }

    #[test]
    fn a_flag_holds_a_list_with_commas() {
        let flags = [
            ("webhooks.ladder_s", "5, 300".to_owned()),
            ("webhooks.allow_networks", "10.1.0.0/16,fd12::/16".to_owned()),
        ];
        let config = Config::load(None, &flags).unwrap();
        assert_eq!(config.webhooks.ladder_s, [5, 300]);
        assert_eq!(config.webhooks.allow_networks.len(), 2);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        for (key, value) in [
            ("payments.max_routes", "0"),
            ("payments.answer_within_ms", "soon"),
            ("payments.order_prefix", "much too long"),
            ("payments.call_grace_ms", "9223372036854775807"),
            ("server.workers", "100000"),
            ("server.keep_alive_s", "9223372036854775807"),
            ("server.drain_s", "9223372036854775807"),
            ("database.connections", "0"),
            ("server.public_url", "example.com"),
            ("server.public_url", "https://me@example.com"),
            ("server.public_url", "https://example.com/?a"),
            ("server.public_url", "https://example.com/#a"),
            ("traces.otlp_url", "http://me:secret@collector:4318"),
            ("payments.nonsense", "1"),
            ("traces.otlp_url", "collector:4318"),
            ("traces.percent", "101"),
            ("traces.queue", "0"),
            ("ledger.interval_ms", "0"),
            ("ledger.block_entries", "10001"),
            ("webhooks.ladder_s", ""),
            ("webhooks.ladder_s", "5,soon"),
            ("webhooks.allow_networks", "10.0.0.0/8, everything"),
            ("alerts.receivers", "slack"),
            ("alerts.close_after_ms", "0"),
            ("alerts.parked_most_s", "1"),
        ] {
            let error = Config::load(None, &[(key, value.to_owned())]).unwrap_err().to_string();
            let name = key.split('.').next_back().unwrap();
            assert!(error.contains(name), "{key}: {error}");
        }
    }
}

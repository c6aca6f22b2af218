//! What can be configured: `config/default.toml` says what each key means. A wrong value stops the
//! program with one line that names the key and where it was given.

mod alerts;
mod check;
mod durations;
mod error;
mod list;
mod providers;
mod sections;

use std::path::{Path, PathBuf};

use config::Source as _;

pub use alerts::{Alerts, Language, Receiver, Robot};
pub use error::ConfigError;
use error::Wrong;
pub use providers::{ListedAddress, Providers};
pub use sections::{
    Admission, Config, Credentials, Data, Database, Health, Ledger, Log, Payments, Redis, Resolver,
    Sandbox, Server, Traces, Webhooks,
};

use crate::embedded;

/// The defaults, part of the program.
const DEFAULTS: &str = include_str!("../config/default.toml");

type Table = config::Map<String, config::Value>;

/// A key that nobody reads is a mistake: what it was meant to change would silently stay as it is.
fn refuse_unknown(
    known: &Table,
    given: &Table,
    section: &str,
    origin: &str,
) -> Result<(), ConfigError> {
    for (name, value) in given {
        // The environment gives `section.key`, files give tables.
        let (first, rest) = name
            .split_once('.')
            .map_or((name.as_str(), None), |(first, rest)| (first, Some(rest)));
        let key = if section.is_empty() {
            name.clone()
        } else {
            format!("{section}.{name}")
        };
        let unknown = || ConfigError::Unknown {
            key: key.clone(),
            origin: origin.to_owned(),
        };
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
    let value = key.split('.').try_fold(given.clone(), |at, name| {
        at.into_table().ok()?.get(name).cloned()
    });
    value
        .and_then(|v| v.origin().map(|origin| format!("in {origin}")))
        .unwrap_or_else(|| "by a flag".to_owned())
}

impl Config {
    /// Reads defaults, the file, the environment, and `flags` (`section.key` and value), each
    /// stronger than the last.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key.
    pub fn load(file: Option<&Path>, flags: &[(&str, String)]) -> Result<Self, ConfigError> {
        let defaults = config::File::from_str(DEFAULTS, config::FileFormat::Toml);
        let known = defaults.collect()?;
        let mut sources = config::Config::builder().add_source(defaults);

        if let Some(path) = file {
            // Read by name first: what reads it next does not say which file it was.
            std::fs::read(path).map_err(|problem| ConfigError::File {
                path: path.to_owned(),
                problem,
            })?;
            let file = config::File::from(path).format(config::FileFormat::Toml);
            refuse_unknown(&known, &file.collect()?, "", &path.display().to_string())?;
            sources = sources.add_source(file);
        }

        // Values stay texts until the type of their key is known: `007` is a good prefix of order
        // numbers.
        let environment = config::Environment::with_prefix("INTERLOCK")
            .prefix_separator("__")
            .separator("__");

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
            Err(Wrong {
                key,
                value,
                problem,
            }) => Err(ConfigError::Value {
                key,
                value,
                origin: origin(&given, key),
                problem,
            }),
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
        if self.is_embedded() {
            embedded::url(&self.data.dir.join("interlock.db"))
        } else {
            self.database.url.clone()
        }
    }

    /// The file of the embedded database; `None`: it is a PostgreSQL.
    #[must_use]
    pub fn database_file(&self) -> Option<PathBuf> {
        embedded::file(&self.database_url())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_defaults_are_complete_and_flags_are_strongest() {
        let config = Config::load(None, &[("server.listen", "127.0.0.1:9".to_owned())]).unwrap();
        assert_eq!(config.server.listen, "127.0.0.1:9");
        assert!(config.database_url().starts_with("sqlite://"));
        let span: Duration = config.webhooks.ladder.iter().sum();
        assert!(
            config.webhooks.ladder.len() >= 9 && span >= Duration::from_hours(72),
            "ten tries over three days"
        );
    }

    #[test]
    fn a_flag_holds_a_list_with_commas() {
        let flags = [
            ("webhooks.ladder_s", "5, 300".to_owned()),
            (
                "webhooks.allow_networks",
                "10.1.0.0/16,fd12::/16".to_owned(),
            ),
        ];
        let config = Config::load(None, &flags).unwrap();
        assert_eq!(config.webhooks.ladder, [5, 300].map(Duration::from_secs));
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
            let error = Config::load(None, &[(key, value.to_owned())])
                .unwrap_err()
                .to_string();
            let name = key.split('.').next_back().unwrap();
            assert!(error.contains(name), "{key}: {error}");
        }
    }
}

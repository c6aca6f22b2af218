//! `interlock doctor`: whether everything that a gateway needs is there, and how to mend what is
//! not. It only looks: it makes no table, no key and no row, and may run beside a gateway. Secrets
//! are never printed.

pub mod ledger;
pub mod restored;

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;

use providers::outcome::{FailureKind, QueryOutcome};
use providers::provider::Provider;

use crate::clock::Clock;
use crate::config::Config;
use crate::directory::addresses::{Addresses, NotPublic};
use crate::domain::AllOwners;
use crate::domain::id::InstallationPrefix;
use crate::embedded;
use crate::guard::{Lookup, System};
use crate::installation::locks;
use crate::routing::health::redis::{Place, Shared};
use crate::routing::proof;
use crate::server::sandbox_side;
use crate::store::{AccountRow, Durability, Store, Tables, copy};
use crate::vault::Vault;

/// Connections that looking takes.
const CONNECTIONS: u32 = 2;
/// A skew beyond this is worth mending.
const ALARMING_SKEW_MS: i64 = 30_000;
/// A skew beyond this, and a gateway is not ready.
const MAX_SKEW_MS: i64 = 120_000;

/// What a look at one thing has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// It is as it has to be.
    Good(String),
    /// It works, and is not how production should be.
    Doubtful(String, String),
    /// It does not work, and how to mend it.
    Bad(String, String),
}

/// What was found, on its way to whoever asked.
struct Sheet<'a> {
    out: &'a mut dyn Write,
    bad: usize,
}

impl Sheet<'_> {
    fn note(&mut self, what: &str, finding: Finding) -> io::Result<()> {
        let (sign, said, mend) = match finding {
            Finding::Good(said) => ("ok  ", said, None),
            Finding::Doubtful(said, mend) => ("note", said, Some(mend)),
            Finding::Bad(said, mend) => {
                self.bad = self.bad.saturating_add(1);
                ("BAD ", said, Some(mend))
            }
        };
        writeln!(self.out, "{sign}  {what}: {}", one_line(&said))?;
        match mend {
            Some(mend) => writeln!(self.out, "      -> {}", one_line(&mend)),
            None => Ok(()),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn bad(said: impl Display, mend: impl Display) -> Finding {
    Finding::Bad(said.to_string(), mend.to_string())
}

/// Looks at everything, and says what it finds on `out`. Returns how many things are bad.
///
/// # Errors
/// What is found cannot be written.
pub async fn run(config: &Config, out: &mut dyn Write) -> io::Result<usize> {
    let mut sheet = Sheet { out, bad: 0 };
    configuration(config, &mut sheet)?;
    let vault = match vault(config) {
        Ok(vault) => {
            sheet.note(
                "credentials",
                Finding::Good("the key for stored credentials can be read".to_owned()),
            )?;
            Some(vault)
        }
        Err(finding) => {
            sheet.note("credentials", finding)?;
            None
        }
    };

    redis(config, &mut sheet).await?;
    if let Some(file) = config.database_file().filter(|file| file.is_file())
        && let Err(error) = copy::check_pages(&file).await
    {
        let mend = match error.is_damage() {
            true => "keep the file, and bring a backup back with `interlock restore FILE`",
            false => {
                "its pages could not be read: look who may read it and what has it open, and try \
                again"
            }
        };
        sheet.note(
            "database",
            bad(format!("{}: {error}", file.display()), mend),
        )?;
        return Ok(sheet.bad);
    }

    let store = match Store::look(&config.database_url(), CONNECTIONS).await {
        Ok(store) => store,
        Err(error) => {
            let mend = "start the database, check database.url and what may connect; a new one is \
                        made by `interlock migrate`";
            sheet.note("database", bad(error, mend))?;
            return Ok(sheet.bad);
        }
    };

    if database(&store, &mut sheet).await? {
        clock(&store, &mut sheet).await?;
        accounts(config, &store, vault.as_ref(), &mut sheet).await?;
    }

    // It only read; nothing is lost if it does not close.
    let _ = store.close().await;
    Ok(sheet.bad)
}

fn configuration(config: &Config, sheet: &mut Sheet<'_>) -> io::Result<()> {
    sheet.note(
        "configuration",
        Finding::Good("every key can be read".to_owned()),
    )?;
    let database = config.database_file().map(|file| embedded::itself(&file));

    if let Some(Err(error)) = database.map(|file| locks::is_whole(&file)) {
        let finding = bad(format!("{error}: no gateway starts"), "do that");
        sheet.note("database", finding)?;
    }

    let url = &config.server.public_url;
    if config.sandbox.listen == "off" && !url.starts_with("https://") {
        let said = format!(
            "server.public_url = {url:?} is no https address; providers send notifications there"
        );
        let mend = "set server.public_url to the public https address of this installation";
        sheet.note("configuration", Finding::Doubtful(said, mend.to_owned()))?;
    }

    if config.sandbox.listen != "off" {
        let said = "the sandbox is on: payments are not real".to_owned();
        let mend = "in production: `--sandbox off`, or sandbox.listen = \"off\"";
        sheet.note("configuration", Finding::Doubtful(said, mend.to_owned()))?;
    }

    Ok(())
}

/// The key for stored credentials, read and never made.
fn vault(config: &Config) -> Result<Vault, Finding> {
    let right = "give the 64 hexadecimal digits that the stored credentials were sealed with";
    if !config.credentials.key.is_empty() {
        return Vault::new(&config.credentials.key)
            .map_err(|e| bad(format!("credentials.key: {e}"), right));
    }
    let configured = !config.credentials.key_file.as_os_str().is_empty();
    let path = if configured {
        config.credentials.key_file.clone()
    } else {
        config.data.dir.join("credentials.key")
    };

    let shown = path.display();
    match std::fs::read_to_string(&path) {
        Ok(text) => Vault::new(&text).map_err(|e| bad(format!("{shown}: {e}"), right)),
        Err(error) => {
            let mend = "put it back, or set credentials.key or credentials.key_file; the very \
                        first start makes one";
            Err(bad(format!("{shown}: {error}"), mend))
        }
    }
}

async fn redis(config: &Config, sheet: &mut Sheet<'_>) -> io::Result<()> {
    if config.redis.url.is_empty() {
        let said = "none: each gateway goes by the health that it has seen itself".to_owned();
        let mend = "several gateways learn of outages faster together: set redis.url";
        return sheet.note("redis", Finding::Doubtful(said, mend.to_owned()));
    }

    let place: Result<Place, &str> = config.redis.url.parse();
    let finding = match place {
        Err(problem) => bad(
            format!("redis.url: the address {problem}"),
            "write it as config/default.toml says",
        ),
        Ok(place) => match Shared::new(place, "doctor", config.redis.timeout)
            .ping()
            .await
        {
            Ok(()) => Finding::Good("it answers".to_owned()),
            Err(error) => {
                let mend = "start it, check redis.url, its password and what may connect; payments \
                            go on without it";
                bad(error, mend)
            }
        },
    };

    sheet.note("redis", finding)
}

/// Returns whether there are tables to read.
async fn database(store: &Store, sheet: &mut Sheet<'_>) -> io::Result<bool> {
    let migrate = "run `interlock migrate` while no older gateway runs";
    let has_tables = match store.tables().await {
        Ok(Tables::Own) => {
            sheet.note(
                "database",
                Finding::Good("it answers, and its tables are up to date".to_owned()),
            )?;
            true
        }
        Ok(Tables::Older(missing)) => {
            sheet.note(
                "database",
                bad(format!("its tables lack {}", missing.join(", ")), migrate),
            )?;
            false
        }
        Ok(Tables::Newer(name)) => {
            let said =
                format!("a newer version has made its tables: this one does not know {name}");
            let mend = "start that version again, or bring back a backup from before it";
            sheet.note("database", bad(said, mend))?;
            false
        }
        Err(error) => {
            sheet.note(
                "database",
                bad(
                    format!("it has no tables that can be read: {error}"),
                    migrate,
                ),
            )?;
            false
        }
    };

    match store.durability().await {
        Ok(Some(durability)) => {
            for finding in durable(&durability) {
                sheet.note("database", finding)?;
            }
        }
        Ok(None) => {
            let said = "SQLite: one gateway, one disk".to_owned();
            let mend = "back it up; where a lost disk must lose nothing: PostgreSQL with a \
                        synchronous standby";
            sheet.note("database", Finding::Doubtful(said, mend.to_owned()))?;
        }
        Err(error) => {
            let mend = "let this user read pg_stat_replication (role pg_monitor)";
            sheet.note(
                "database",
                bad(
                    format!("how it keeps what it commits cannot be read: {error}"),
                    mend,
                ),
            )?;
        }
    }

    Ok(has_tables)
}

/// Whether a commit outlives the machine that made it: a payment that was sent and is forgotten is
/// charged in vain.
fn durable(found: &Durability) -> Vec<Finding> {
    let mut findings = Vec::new();
    if found.is_standby {
        findings.push(bad(
            "this is a standby: it takes no writes",
            "point database.url at the primary",
        ));
    } else if found.is_read_only {
        findings.push(bad(
            "its sessions are read-only: it takes no writes, and so no payments",
            "point database.url at the primary, or take default_transaction_read_only away",
        ));
    }

    if !found.fsync {
        let mend = "set fsync = on in postgresql.conf";
        findings.push(bad(
            "fsync is off: a power cut loses committed payments",
            mend,
        ));
    }

    let commit = found.synchronous_commit.as_str();
    if !matches!(commit, "on" | "remote_apply") {
        let said =
            format!("synchronous_commit is {commit}: a commit is answered before it is safe");
        findings.push(bad(
            said,
            "set synchronous_commit = on for this user and database",
        ));
    }

    let synchronous = found
        .standbys
        .iter()
        .filter(|s| matches!(s.as_str(), "sync" | "quorum"))
        .count();

    findings.push(match (found.standbys.len(), synchronous) {
        (0, _) => Finding::Doubtful(
            "no standby: what a lost disk had is lost".to_owned(),
            "add a standby and name it in synchronous_standby_names".to_owned(),
        ),
        (all, 0) => bad(
            format!(
                "{all} standbys, none of them synchronous: a failover forgets payments that \
                     were sent"
            ),
            "name one in synchronous_standby_names",
        ),
        (all, synchronous) => Finding::Good(format!(
            "{synchronous} of {all} standbys are \
                                                     synchronous"
        )),
    });

    findings
}

async fn clock(store: &Store, sheet: &mut Sheet<'_>) -> io::Result<()> {
    let mend = "synchronise this machine and the database's with NTP";
    let finding = match store.time().await {
        Ok((database, round_trip)) => match Clock::new().follow(database, round_trip) {
            skew if skew.abs() > MAX_SKEW_MS => bad(
                format!("{skew} ms from the database's: gateways are not ready"),
                mend,
            ),
            skew if skew.abs() > ALARMING_SKEW_MS => {
                Finding::Doubtful(format!("{skew} ms from the database's"), mend.to_owned())
            }
            skew => Finding::Good(format!("{skew} ms from the database's")),
        },
        Err(error) => bad(error, "see the database"),
    };
    sheet.note("clock", finding)
}

/// Opens every account that takes payments, and asks its provider, signed, about an order that does
/// not exist.
async fn accounts(
    config: &Config,
    store: &Store,
    vault: Option<&Vault>,
    sheet: &mut Sheet<'_>,
) -> io::Result<()> {
    let rows = match store.accounts(AllOwners).await {
        Ok(rows) => rows,
        Err(error) => return sheet.note("accounts", bad(error, "run `interlock migrate`")),
    };
    if rows.is_empty() {
        let mend = "make a merchant and a key (`interlock merchant`, `interlock key`), then POST \
                    /v1/accounts";
        return sheet.note(
            "accounts",
            Finding::Doubtful("there are none".to_owned(), mend.to_owned()),
        );
    }

    let Some(vault) = vault else {
        return sheet.note(
            "accounts",
            bad(
                "their credentials cannot be opened",
                "mend the key for credentials first",
            ),
        );
    };

    let addresses = match addresses(config).await {
        Ok(addresses) => addresses,
        Err(error) => {
            return sheet.note(
                "configuration",
                bad(error, "see providers.addresses in config/default.toml"),
            );
        }
    };

    for row in rows {
        let what = format!("account {} ({}, {})", row.id, row.provider, row.name);
        let finding = if row.disabled {
            Finding::Good("disabled; not asked".to_owned())
        } else {
            account(config, &addresses, &row, vault).await
        };
        sheet.note(&what, finding)?;
    }

    Ok(())
}

/// Where accounts may be, with the sandbox that a gateway of this configuration would run or use.
async fn addresses(config: &Config) -> Result<Addresses, NotPublic> {
    let lookup: Arc<dyn Lookup> = Arc::new(System);
    let addresses = Addresses::new(&config.providers, &lookup)?;
    if let Some(faces) = sandbox_side::faces(config).await {
        addresses.sandbox_runs(&faces);
    }
    Ok(addresses)
}

/// How to mend credentials.
const AGAIN: &str = "give its credentials anew: PATCH /v1/accounts/{id}";

/// An account's provider, as a gateway would call it.
fn provider(
    addresses: &Addresses,
    row: &AccountRow,
    vault: &Vault,
) -> Result<Arc<dyn Provider>, Finding> {
    let plain = match vault.open(&row.id, &row.credentials) {
        Ok(plain) => plain,
        Err(error) => {
            return Err(bad(
                error,
                "give the key that they were sealed with, or the credentials anew",
            ));
        }
    };

    let Some(protocol) = providers::protocol(&row.provider) else {
        return Err(bad(
            "this version does not know its provider",
            "run a version that does",
        ));
    };
    let Ok(mut settings) = serde_json::from_slice(&plain) else {
        return Err(bad("its credentials cannot be read", AGAIN));
    };

    let way = match addresses.way(protocol, row.owner.is_live(), &mut settings) {
        Ok(way) => way,
        Err(wrong) => {
            let mend = "change credentials.base_url by PATCH /v1/accounts/{id}, or add the address \
                        to providers.addresses";
            return Err(bad(
                format!("barred: nothing is sent for it. Its address {wrong}"),
                mend,
            ));
        }
    };

    // The field alone: what stands in it is a secret.
    (protocol.open)(settings.into(), &way).map_err(|error| {
        bad(
            format!("its credentials do not open: {}", error.field),
            AGAIN,
        )
    })
}

async fn account(
    config: &Config,
    addresses: &Addresses,
    row: &AccountRow,
    vault: &Vault,
) -> Finding {
    let provider = match provider(addresses, row, vault) {
        Ok(provider) => provider,
        Err(finding) => return finding,
    };
    let Some(prefix) = InstallationPrefix::parse(&config.payments.order_prefix) else {
        return bad(
            "payments.order_prefix is none",
            "give one of letters and digits",
        );
    };

    let timeout = config.payments.query_timeout;
    let question = proof::ask(
        provider.as_ref(),
        &prefix,
        Clock::new().now().utc(),
        timeout,
    );

    match tokio::time::timeout(timeout.saturating_mul(2), question).await {
        Ok(None) => bad("no random number can be had", "look at this machine"),
        Ok(Some(QueryOutcome::Unknown(failure))) => {
            let mend = match failure.kind {
                FailureKind::Network => {
                    "check DNS, the firewall and this machine's way to the provider"
                }
                FailureKind::Timeout | FailureKind::ServerError | FailureKind::RateLimited => {
                    "the provider is in trouble, or far away: try again, look at its status page"
                }
                FailureKind::Incompatible => {
                    "the answer's signature does not hold: compare the provider's public key"
                }
                FailureKind::Account | FailureKind::Request | FailureKind::Declined => AGAIN,
            };
            bad(
                format!(
                    "its provider was asked, and nothing is known: {}",
                    failure.code
                ),
                mend,
            )
        }
        Ok(Some(
            QueryOutcome::NotFound
            | QueryOutcome::Payable
            | QueryOutcome::Paid(_)
            | QueryOutcome::Closed
            | QueryOutcome::Reversed,
        )) => Finding::Good("its provider answers, and the answer's signature holds".to_owned()),
        Err(_) => bad(
            "its provider does not answer",
            "check this machine's way to the provider",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(found: &Durability) -> Vec<&'static str> {
        let sign = |finding: &Finding| match finding {
            Finding::Good(_) => "ok",
            Finding::Doubtful(..) => "note",
            Finding::Bad(..) => "bad",
        };
        durable(found).iter().map(sign).collect()
    }

    #[test]
    fn a_standby_has_to_be_synchronous() {
        let sound = Durability {
            fsync: true,
            synchronous_commit: "on".to_owned(),
            is_read_only: false,
            is_standby: false,
            standbys: vec!["sync".to_owned(), "async".to_owned()],
        };

        assert_eq!(signs(&sound), ["ok"]);
        assert_eq!(
            signs(&Durability {
                standbys: vec!["quorum".to_owned()],
                ..sound.clone()
            }),
            ["ok"]
        );

        assert_eq!(
            signs(&Durability {
                standbys: vec!["async".to_owned()],
                ..sound.clone()
            }),
            ["bad"]
        );

        assert_eq!(
            signs(&Durability {
                standbys: Vec::new(),
                ..sound.clone()
            }),
            ["note"]
        );

        assert_eq!(
            signs(&Durability {
                synchronous_commit: "local".to_owned(),
                ..sound.clone()
            }),
            ["bad", "ok"]
        );

        assert_eq!(
            signs(&Durability {
                is_read_only: true,
                ..sound.clone()
            }),
            ["bad", "ok"]
        );

        assert_eq!(
            signs(&Durability {
                fsync: false,
                is_standby: true,
                ..sound
            }),
            ["bad", "bad", "ok"]
        );
    }
}

//! Everything that is stored, and every SQL statement. SQLite for one process, PostgreSQL for many;
//! the same tables and the same statements.
//!
//! What belongs to a payment is written by one task ([`writer`]) as a [`change::Change`], by
//! compare-and-set of the payment's version. Nothing else writes those tables, except that a
//! resolver takes a lease ([`payment::lease`]).

#[cfg(feature = "testing")]
pub mod audit;
mod beside;
mod bulk;
pub mod change;
mod connection;
mod convert;
pub mod copy;
pub mod counters;
pub mod directory;
mod doubts;
mod error;
mod ids;
mod incident;
mod installation;
mod ledger;
mod lists;
mod payment;
mod plan;
mod preflight;
mod review;
mod seat;
mod sent;
mod tables;
#[cfg(feature = "testing")]
pub mod trouble;
mod webhook;
mod writer;

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use migrations::{Migrator, MigratorTrait as _};
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, DbErr,
    SqlxSqliteConnector, Statement,
};

pub use bulk::{Batch, Batches, Bulk, BulkTransaction, Life};
pub use change::{Change, CommitError};
pub use directory::accounts::{AccountRow, NewAccount, RoutingRow};
pub use directory::keys::{KeyFilter, KeyRow};
pub use error::Error;
pub use incident::alerts::{About, AlertRow, AlertTry};
pub use incident::figures::Figures;
pub use incident::incidents::{EntryRow, IncidentChange, IncidentFilter, IncidentRow};
pub use ledger::check::{Deviation, LedgerReport};
pub use ledger::entries::{Block, LedgerFilter, Moved, Sealed};
pub use payment::backlog::{Backlog, Waiting};
pub use payment::find::PaymentFilter;
pub use payment::idempotency::StoredKey;
pub use payment::lease::{DuePayment, Lane, LeftAhead};
pub use payment::usage::UsageRow;
pub use plan::{Plan, Read, Sort, Sorted};
pub use preflight::Durability;
pub use review::operations::{OperationFilter, OperationRow};
pub use sent::{Sent, sent_by};
pub use tables::Tables;
pub use webhook::deliveries::{DeliveryFilter, EventFilter, Failing, Receiver};
pub use webhook::delivery_rows::{DeliveryAttempt, DeliveryRow, EventRow};
pub use webhook::endpoints::{EndpointRow, NotifySecretRow, SealedSecrets};

use connection::{CONNECT_TIMEOUT, Db};

use crate::domain::{Owner, Timestamp};
use crate::mutate;
use crate::{embedded, redact};

/// Any number that no other program uses for its advisory lock: "Interloc" in ASCII.
const MIGRATION_LOCK: i64 = 0x496e_7465_726c_6f63;
/// How long a migration tries to get its locks beside gateways that are at work, and the pause
/// between two times.
const LOCKED_OUT_FOR: Duration = Duration::from_secs(60);
const LOCKED_OUT_PAUSE: Duration = Duration::from_millis(100);

/// How long gateways of two versions may be at work in one database.
const ROLLING_RESTART_S: i64 = 86_400;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address names no database that we know.
    #[error("database address {0}: it must begin with sqlite: or postgres:")]
    Scheme(String),
    /// It is not there, but its log is.
    #[error(transparent)]
    LogAlone(#[from] embedded::LogAlone),
    /// It is a backup that nobody has restored: it knows nothing of what has happened since.
    #[error(
        "{}: this is a backup, made {made_at}, that was put here by hand: move it elsewhere and \
        bring it back with `interlock restore FILE`, so that what has happened since is asked \
        about",
        file.display()
    )]
    Copy {
        /// Where it lies.
        file: PathBuf,
        /// When it was made, RFC 3339.
        made_at: String,
    },
    /// It does not open.
    #[error("database {url}: {problem}")]
    Connect {
        /// Which one, without its password.
        url: String,
        /// What it said.
        problem: String,
    },
    /// A later version has made its tables.
    #[error(
        "database {url}: a newer version has made its tables, and this one does not know {name}: \
        start that version again, or bring back a backup from before it"
    )]
    Newer {
        /// Which one, without its password.
        url: String,
        /// The migration that this version does not have.
        name: String,
    },
    /// Its tables cannot be brought up to date.
    #[error("database {url}: migrations failed: {source}")]
    Migrate {
        /// Which one, without its password.
        url: String,
        /// What it said.
        source: Error,
    },
}

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
    writer: writer::Writer,
    /// When the tables were last brought up to date, if somebody had used them before and others
    /// may use them now.
    upgraded_at: Option<Timestamp>,
}

impl Store {
    /// Opens the database at `url` and brings its tables up to date. No use of a connection takes
    /// longer than `patience`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(url: &str, connections: u32, patience: Duration) -> Result<Self, OpenError> {
        prepare(url).await?;
        let store = Self::connect(url, connections, patience).await?;
        let upgraded_at = store.find_upgrade().await;
        let failed = |source| OpenError::Migrate {
            url: without_password(url),
            source,
        };
        Ok(Self {
            upgraded_at: upgraded_at.map_err(failed)?,
            ..store
        })
    }

    async fn connect(url: &str, connections: u32, patience: Duration) -> Result<Self, OpenError> {
        let fail = |e: DbErr| OpenError::Connect {
            url: without_password(url),
            problem: redact::message(&e.to_string(), url),
        };
        let db = Db::open(url, connections, patience).await.map_err(fail)?;
        let writer = writer::Writer::start(db.clone());
        Ok(Self {
            db,
            writer,
            upgraded_at: None,
        })
    }

    /// Writes a change through group commit.
    ///
    /// # Errors
    /// [`CommitError`]; nothing was written then, except perhaps after `Unavailable`.
    pub async fn commit(&self, change: Change) -> Result<(), CommitError> {
        let payment_id = change.after.payment.id.clone();
        if let Some(broken) = change.broken {
            metrics::counter!("interlock_broken_invariants_total", "which" => <&str>::from(broken))
                .increment(1);
            tracing::error!(%payment_id, %broken, "a payment came out as it cannot be");
            let is_refused = !broken.is_a_fact();
            mutate!(let is_refused = is_refused
                && !(<&str>::from(broken) == "two_live" && crate::mutated!(NoUniqueLiveAttempt)));
            if is_refused {
                return Err(CommitError::Broken(broken));
            }
        }

        let news: Vec<&'static str> = change.events.iter().map(|event| event.kind).collect();
        let (mode, facts) = (change.after.payment.owner.mode, change.facts.clone());
        self.writer.write(change).await?;
        counters::count(mode, &facts);
        for event in news {
            tracing::info!(%payment_id, event, "committed");
        }
        Ok(())
    }

    /// How long even that owner has waited for a commit who waits least.
    #[must_use]
    pub fn commit_wait(&self) -> Duration {
        self.writer.waited()
    }

    /// How long this owner's oldest change has waited for its commit, or how long one of his would
    /// have to.
    #[must_use]
    pub fn commit_wait_of(&self, owner: &Owner) -> Duration {
        self.writer.waited_by(owner)
    }

    /// For how long nothing could be written; `None` while all is well.
    #[must_use]
    pub fn commits_failing(&self) -> Option<Duration> {
        self.writer.failing()
    }

    /// Whether parts of the embedded database's file turned out to be damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.db.is_damaged()
    }

    /// Another gateway has the embedded database: this one writes nothing any more, and says that
    /// it is not ready.
    pub fn give_up(&self) {
        tracing::error!(
            "another gateway has the database: nothing is written any more; stop this one"
        );
        self.db.lose();
    }

    /// The database's own clock, and how long asking took.
    ///
    /// # Errors
    /// The database's.
    pub async fn time(&self) -> Result<(Timestamp, Duration), Error> {
        let sql = match self.db.backend() {
            DbBackend::Postgres => {
                "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS ms"
            }
            DbBackend::Sqlite | DbBackend::MySql | _ => {
                "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) AS ms"
            }
        };
        let asked = Instant::now();
        let row = self
            .db
            .query_one_raw(Statement::from_string(self.db.backend(), sql))
            .await?;
        let row = row.ok_or_else(|| Error::Missing("the time".to_owned()))?;
        Ok((Timestamp(row.try_get("", "ms")?), asked.elapsed()))
    }

    /// Closes all connections; SQLite writes its log back.
    ///
    /// # Errors
    /// The database's.
    pub async fn close(self) -> Result<(), Error> {
        Ok(self.db.close().await?)
    }

    /// Whether a gateway of the version before may be at work beside this one: a rolling restart is
    /// over within a day.
    #[must_use]
    pub fn has_older_gateways(&self, now: Timestamp) -> bool {
        self.upgraded_at
            .is_some_and(|at| now < at.plus_s(ROLLING_RESTART_S))
    }

    /// An embedded database has one gateway, and one that was made by this version has none before.
    async fn find_upgrade(&self) -> Result<Option<Timestamp>, Error> {
        if !self.is_postgres() {
            return Ok(None);
        }
        let sql = "SELECT MAX(applied_at) * 1000 AS newest, (SELECT MIN(created_at) FROM \
                   merchants) AS first FROM seaql_migrations";
        let row = self
            .db
            .query_one_raw(Statement::from_string(self.db.backend(), sql))
            .await?;
        let row = row.ok_or_else(|| Error::Missing("migrations".to_owned()))?;
        let (newest, first): (i64, Option<i64>) =
            (row.try_get("", "newest")?, row.try_get("", "first")?);
        Ok(first
            .filter(|first| *first < newest)
            .map(|_| Timestamp(newest)))
    }

    fn is_postgres(&self) -> bool {
        self.db.backend() == DbBackend::Postgres
    }
}

/// Its owner's alone.
const PRIVATE: u32 = 0o600;

/// Brings the tables up to date, over connections of its own: a migration may take its time.
async fn prepare(url: &str) -> Result<(), OpenError> {
    let mut made = None;
    if let Some(file) = embedded::file(url) {
        is_file(&file, url)?;
        embedded::is_there(&file)?;
        // Before it is opened: a log beside it is that of the database whose place it has taken,
        // and would be read into it.
        if let Some(made_at) = copy::marked(&file).await {
            return Err(OpenError::Copy { file, made_at });
        }
        // SQLite would make one that others can read, and gives its log the same mode. Why there
        // can be none, it says itself.
        let file = embedded::itself(&file);
        if File::options()
            .create_new(true)
            .write(true)
            .mode(PRIVATE)
            .open(&file)
            .is_ok()
        {
            made = Some(file);
        }
    }

    let db = match connect(url, 2).await {
        Ok(db) => db,
        Err(error) => {
            // An empty one would look like a database.
            made.into_iter()
                .for_each(|file| drop(std::fs::remove_file(file)));
            return Err(error);
        }
    };

    let failed = |source: DbErr| OpenError::Migrate {
        url: without_password(url),
        source: source.into(),
    };
    if let Err(error) = migrate(&db).await {
        return Err(match tables::of(&db).await {
            Ok(Tables::Newer(name)) => OpenError::Newer {
                url: without_password(url),
                name,
            },
            Ok(Tables::Own | Tables::Older(_)) | Err(_) => failed(error),
        });
    }
    mutate!(NoUniqueLiveAttempt => db
        .execute_unprepared("DROP INDEX IF EXISTS attempts_one_live")
        .await
        .map_err(failed)?);

    db.close().await.map_err(failed)
}

/// Whoever opens a pipe waits for somebody who writes into it.
fn is_file(path: &Path, url: &str) -> Result<(), OpenError> {
    match path.metadata() {
        Ok(found) if !found.is_file() => Err(OpenError::Connect {
            url: without_password(url),
            problem: "this is not a file".to_owned(),
        }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Plain connections, for whoever needs no gateway.
async fn connect(url: &str, connections: u32) -> Result<DatabaseConnection, OpenError> {
    let fail = |source: DbErr| OpenError::Connect {
        url: without_password(url),
        problem: redact::message(&source.to_string(), url),
    };
    let mut options = ConnectOptions::new(url);

    options
        .max_connections(connections)
        .connect_timeout(CONNECT_TIMEOUT)
        .acquire_timeout(CONNECT_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging(false);

    if url.starts_with("sqlite:") {
        options.map_sqlx_sqlite_opts(|o| {
            o.create_if_missing(true)
                .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
                .synchronous(sqlx::sqlite::SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(CONNECT_TIMEOUT)
        });
        return SqlxSqliteConnector::connect(options).await.map_err(fail);
    }

    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        reach(url).await.map_err(|problem| OpenError::Connect {
            url: without_password(url),
            problem: redact::message(&problem, url),
        })?;
        return Database::connect(options).await.map_err(fail);
    }

    Err(OpenError::Scheme(without_password(url)))
}

/// Connects once, to hear what is wrong: a pool tries until its time is over, and says no more than
/// that.
async fn reach(url: &str) -> Result<(), String> {
    use sqlx::Connection as _;
    let connecting = sqlx::PgConnection::connect(url);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection.close().await.map_err(|e| e.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "no answer within {} seconds",
            CONNECT_TIMEOUT.as_secs()
        )),
    }
}

/// Brings the tables up to date. Migrations take no lock of their own: two gateways that start
/// together would both run them.
async fn migrate(db: &DatabaseConnection) -> Result<(), DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Migrator::up(db, None).await;
    }
    use sea_orm::TransactionTrait as _;

    // The lock lives as long as this transaction, whatever becomes of the process.
    let lock = db.begin().await?;
    lock.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        .await?;
    let began = Instant::now();

    while let Err(error) = Migrator::up(db, None).await {
        if !is_about_locks(&error) || began.elapsed() > LOCKED_OUT_FOR {
            return Err(error);
        }
        tokio::time::sleep(LOCKED_OUT_PAUSE).await;
    }

    lock.commit().await
}

/// A migration did not get its locks: 55P03, or 40P01 where somebody else had one and waited for
/// another. What it had done is undone.
fn is_about_locks(error: &DbErr) -> bool {
    let text = error.to_string();
    ["lock timeout", "deadlock detected"]
        .iter()
        .any(|sign| text.contains(sign))
}

/// A database address that may be shown.
fn without_password(url: &str) -> String {
    crate::redact::address(url)
}

//! Everything that is stored, and every SQL statement. SQLite for one process, PostgreSQL for many; the same
//! tables and the same statements.
//!
//! What belongs to a payment is written by one task ([`writer`]) as a [`change::Change`], by compare-and-set of
//! the payment's version. Nothing else writes those tables, except that a resolver takes a lease ([`due`]).

mod alerts;
#[cfg(feature = "drill")]
pub mod audit;
mod backlog;
pub mod change;
mod deliveries;
mod delivery_log;
mod delivery_rows;
mod directory;
mod doubts;
mod due;
mod entity;
mod idempotency;
mod inbox;
mod incident_figures;
mod incidents;
mod inspect;
mod ledger;
mod ledger_check;
mod operations;
mod payments;
mod rows;
pub mod tally;
#[cfg(feature = "drill")]
pub mod trouble;
mod usage;
mod webhooks;
mod writer;

use std::time::{Duration, Instant};

use migrations::{Migrator, MigratorTrait as _};
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, DbErr, SqliteTransactionMode,
    SqlxSqliteConnector, Statement, TransactionOptions,
};

pub use alerts::{AlertRow, AlertTry};
pub use backlog::{Backlog, Waiting};
pub use change::{Change, CommitError};
pub use deliveries::{DeliveryFilter, EventFilter, Failing, Receiver};
pub use delivery_rows::{DeliveryRow, EventRow, TryRow};
pub use directory::{AccountRow, KeyRow, NewAccount, RoutingRow};
pub use idempotency::StoredKey;
pub use incident_figures::{Figures, Whose};
pub use incidents::{EntryRow, IncidentChange, IncidentFilter, IncidentRow};
pub use inspect::Durability;
pub use ledger::{Block, LedgerFilter, Moved, Sealed};
pub use ledger_check::{Deviation, LedgerReport};
pub use operations::{OperationFilter, OperationRow};
pub use payments::PaymentFilter;
pub use usage::UsageRow;
pub use webhooks::{EndpointRow, NotifySecretRow, SealedSecrets};

use crate::domain::Timestamp;

/// Any number that no other program uses for its advisory lock: "Interloc" in ASCII.
const MIGRATION_LOCK: i64 = 0x496e_7465_726c_6f63;

/// A database that does not answer for so long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address names no database that we know.
    #[error("database address {0:?}: it must begin with sqlite: or postgres:")]
    Scheme(String),
    /// It does not open.
    #[error("database {url}: {problem}")]
    Connect {
        /// Which one, without its password.
        url: String,
        /// What it said.
        problem: String,
    },
    /// Its tables cannot be brought up to date.
    #[error("database {url}: migrations failed: {source}")]
    Migrate {
        /// Which one, without its password.
        url: String,
        /// What it said.
        source: DbErr,
    },
}

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    db: DatabaseConnection,
    writer: writer::Writer,
}

impl Store {
    /// Opens the database at `url` and brings its tables up to date.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(url: &str, connections: u32) -> Result<Self, OpenError> {
        let shown = without_password(url);
        let db = connect(url, connections).await?;
        migrate(&db).await.map_err(|source| OpenError::Migrate { url: shown, source })?;
        #[cfg(feature = "broken")]
        if crate::broken::breaks(crate::broken::Rule::NoUniqueLiveAttempt) {
            let dropped = db.execute_unprepared("DROP INDEX IF EXISTS attempts_one_live").await;
            dropped.map_err(|source| OpenError::Migrate { url: without_password(url), source })?;
        }
        let writer = writer::Writer::start(db.clone());
        Ok(Self { db, writer })
    }

    /// Writes a change through group commit.
    ///
    /// # Errors
    /// [`CommitError`]; nothing was written then, except perhaps after `Unavailable`.
    pub async fn commit(&self, change: Change) -> Result<(), CommitError> {
        let payment_id = change.after.payment.id.clone();
        let news: Vec<&'static str> = change.events.iter().map(|event| event.kind).collect();
        let facts = change.facts.clone();
        self.writer.write(change).await?;
        tally::count(&facts);
        for event in news {
            tracing::info!(payment_id, event, "committed");
        }
        Ok(())
    }

    /// How long the oldest change has waited for its commit.
    #[must_use]
    pub fn commit_wait(&self) -> Duration {
        self.writer.waited()
    }

    /// The database's own clock, and how long asking took.
    ///
    /// # Errors
    /// The database's.
    pub async fn time(&self) -> Result<(Timestamp, Duration), DbErr> {
        let sql = match self.db.get_database_backend() {
            DbBackend::Postgres => "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS ms",
            DbBackend::Sqlite | DbBackend::MySql | _ => {
                "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) AS ms"
            }
        };
        let asked = Instant::now();
        let row = self.db.query_one_raw(Statement::from_string(self.db.get_database_backend(), sql)).await?;
        let row = row.ok_or_else(|| DbErr::RecordNotFound("the time".to_owned()))?;
        Ok((Timestamp(row.try_get("", "ms")?), asked.elapsed()))
    }

    /// Closes all connections; SQLite writes its log back.
    ///
    /// # Errors
    /// The database's.
    pub async fn close(self) -> Result<(), DbErr> {
        self.db.close().await
    }

    fn is_postgres(&self) -> bool {
        self.db.get_database_backend() == DbBackend::Postgres
    }
}

/// Begins as a writing transaction: a deferred one that turns into one fails at once on SQLite, whatever the busy
/// timeout.
fn immediate() -> TransactionOptions {
    TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() }
}

async fn connect(url: &str, connections: u32) -> Result<DatabaseConnection, OpenError> {
    let fail = |source: DbErr| OpenError::Connect { url: without_password(url), problem: source.to_string() };
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .connect_timeout(CONNECT_TIMEOUT)
        .acquire_timeout(CONNECT_TIMEOUT)
        // With either of them the pool of sqlx 0.9.0 keeps a task that counts idle connections, and a count that two
        // threads have just brought below zero makes it spin for ever, on a thread that serves payments
        // (transact-rs/sqlx#3645). A connection that has died is found out when it is taken.
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging(false);
    if url.starts_with("sqlite:") {
        options.map_sqlx_sqlite_opts(|o| {
            o.create_if_missing(true)
                .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
                .synchronous(sqlx::sqlite::SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(Duration::from_secs(5))
                .statement_cache_capacity(512)
        });
        return SqlxSqliteConnector::connect(options).await.map_err(fail);
    }
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        reach(url).await.map_err(|problem| OpenError::Connect { url: without_password(url), problem })?;
        options.map_sqlx_postgres_opts(|o| o.statement_cache_capacity(512));
        return Database::connect(options).await.map_err(fail);
    }
    Err(OpenError::Scheme(without_password(url)))
}

/// Connects once, to hear what is wrong: a pool tries until its time is over, and says no more than that.
async fn reach(url: &str) -> Result<(), String> {
    use sqlx::Connection as _;
    let connecting = sqlx::PgConnection::connect(url);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => connection.close().await.map_err(|e| e.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} seconds", CONNECT_TIMEOUT.as_secs())),
    }
}

/// Brings the tables up to date. Migrations take no lock of their own: two gateways that start together would
/// both run them.
async fn migrate(db: &DatabaseConnection) -> Result<(), DbErr> {
    if db.get_database_backend() != DbBackend::Postgres {
        return Migrator::up(db, None).await;
    }
    use sea_orm::TransactionTrait as _;
    // The lock lives as long as this transaction, whatever becomes of the process.
    let lock = db.begin().await?;
    lock.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")).await?;
    Migrator::up(db, None).await?;
    lock.commit().await
}

/// A database address that may be shown: `postgres://user:***@host/name`. Options may hold a password, too.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => format!("{user}@{}", host.split('?').next().unwrap_or_default()),
        None => rest.split('?').next().unwrap_or_default().to_owned(),
    };
    let Some((user, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    let name = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{name}:***@{host}")
}

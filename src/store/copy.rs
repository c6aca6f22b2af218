//! Files of the embedded database: a copy of one that is in use, and whether a file is a whole one.
//! Each takes a connection of its own, and no payment waits for it.

use std::path::Path;

use migrations::{Migrator, MigratorTrait as _};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};

use crate::domain::Timestamp;

/// The fact about the installation that says of a database that it is a copy, made at that time.
const MARK: &str = "copy";

/// Why a file is no database of ours that could be used.
#[derive(Debug, thiserror::Error)]
pub enum NotWhole {
    /// The database library's word.
    #[error("{0}")]
    Unreadable(#[from] sqlx::Error),
    /// It is damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Something else has made it.
    #[error("it is no database of Interlock")]
    Foreign,
    /// A version made it that this one does not know.
    #[error("a newer version has made it: this one does not know {0}")]
    Newer(String),
}

impl NotWhole {
    /// Whether the file itself is damaged, by the word of SQLite (SQLITE_CORRUPT, SQLITE_NOTADB).
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Unreadable(sqlx::Error::Database(said)) => said
                .code()
                .and_then(|code| code.parse::<u32>().ok())
                .is_some_and(|code| matches!(code & 0xff, 11 | 26)),
            Self::Unreadable(_) | Self::Foreign | Self::Newer(_) => false,
        }
    }
}

/// A whole database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// How many payments are in it.
    pub payments: i64,
    /// When the last thing happened that is in it, if anything has.
    pub last_event: Option<Timestamp>,
    /// A fact about the installation, by the name that was asked for.
    pub fact: Option<String>,
}

/// Copies the database `from`, as it is at one moment, into `to`, an empty file. Whoever writes
/// meanwhile does not wait, and is not in it.
///
/// # Errors
/// The database's; `to` is worth nothing then.
pub async fn copy(from: &Path, to: &Path) -> Result<(), sqlx::Error> {
    let mut connection = SqliteConnectOptions::new()
        .filename(from)
        .disable_statement_logging()
        .connect()
        .await?;
    let copied = sqlx::query("VACUUM INTO ?")
        .bind(to.to_string_lossy())
        .execute(&mut connection)
        .await;
    connection.close().await?;
    copied.map(drop)
}

/// Writes into a copy that nobody else has open that it is one, made at this time (RFC 3339).
///
/// # Errors
/// The database's.
pub async fn mark(copy: &Path, made_at: &str) -> Result<(), sqlx::Error> {
    let marking = "INSERT INTO installation (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO \
                   UPDATE SET value = ?2";
    let mut connection = SqliteConnectOptions::new()
        .filename(copy)
        .disable_statement_logging()
        .connect()
        .await?;
    let marked = sqlx::query(marking)
        .bind(MARK)
        .bind(made_at)
        .execute(&mut connection)
        .await;
    connection.close().await?;
    marked.map(drop)
}

/// Takes the mark from a copy that nobody else has open, which is a copy no more.
///
/// # Errors
/// The database's.
pub async fn unmark(copy: &Path) -> Result<(), sqlx::Error> {
    let mut connection = SqliteConnectOptions::new()
        .filename(copy)
        .disable_statement_logging()
        .connect()
        .await?;
    let unmarking = sqlx::query("DELETE FROM installation WHERE name = ?").bind(MARK);
    let unmarked = unmarking.execute(&mut connection).await;
    connection.close().await?;
    unmarked.map(drop)
}

/// When a file was made as a copy, if it is one. What lies beside it is not read: it may be the log
/// of another database.
pub async fn marked(file: &Path) -> Option<String> {
    let mut connection = as_it_lies(file).connect().await.ok()?;
    let asking = sqlx::query("SELECT value FROM installation WHERE name = ?").bind(MARK);
    let said = asking.fetch_optional(&mut connection).await;
    let _ = connection.close().await;
    said.ok()??.try_get(0).ok()
}

/// The file alone, without its log, and without a trace of having been read.
fn as_it_lies(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .immutable(true)
        .disable_statement_logging()
}

/// Writes what lies beside a database, in its log, into the file itself: nothing lies beside it
/// afterwards. Nobody else may have it open.
///
/// # Errors
/// The database's; what lies beside it belongs to it then.
pub async fn fold(file: &Path) -> Result<(), sqlx::Error> {
    let mut connection = SqliteConnectOptions::new()
        .filename(file)
        .disable_statement_logging()
        .connect()
        .await?;
    let folded = sqlx::query("PRAGMA journal_mode = DELETE")
        .fetch_one(&mut connection)
        .await;
    let mode = folded.and_then(|row| row.try_get::<String, _>(0));
    connection.close().await?;

    match mode?.as_str() {
        "delete" => Ok(()),
        mode => Err(sqlx::Error::Protocol(format!(
            "its log cannot be written back: {mode}"
        ))),
    }
}

/// Looks at every page of a database that others may be using: whether it is what SQLite has
/// written.
///
/// # Errors
/// [`NotWhole`].
pub async fn check_pages(file: &Path) -> Result<(), NotWhole> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .disable_statement_logging();
    let mut connection = options.pragma("query_only", "on").connect().await?;
    let said = sqlx::query("PRAGMA quick_check(1)")
        .fetch_one(&mut connection)
        .await;
    connection.close().await?;
    match said?.try_get::<String, _>(0)?.as_str() {
        "ok" => Ok(()),
        said => Err(NotWhole::Damaged(said.to_owned())),
    }
}

/// Looks at every page of a file that nobody writes.
///
/// # Errors
/// [`NotWhole`].
pub async fn examine(file: &Path, fact: &str) -> Result<Whole, NotWhole> {
    let mut connection = as_it_lies(file).connect().await?;
    let found = examine_open(&mut connection, fact).await;
    connection.close().await?;
    found
}

async fn examine_open(connection: &mut SqliteConnection, fact: &str) -> Result<Whole, NotWhole> {
    let said: String = sqlx::query("PRAGMA integrity_check(1)")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    if said != "ok" {
        return Err(NotWhole::Damaged(said));
    }

    let tables = "SELECT COUNT(*) FROM sqlite_schema WHERE name IN ('seaql_migrations', \
                  'payments', 'installation')";
    if sqlx::query(tables)
        .fetch_one(&mut *connection)
        .await?
        .try_get::<i64, _>(0)?
        < 3
    {
        return Err(NotWhole::Foreign);
    }
    let known: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    let there = sqlx::query("SELECT version FROM seaql_migrations")
        .fetch_all(&mut *connection)
        .await?;
    for row in there {
        let name: String = row.try_get(0)?;
        if !known.contains(&name) {
            return Err(NotWhole::Newer(name));
        }
    }

    let payments = sqlx::query("SELECT COUNT(*) FROM payments")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let last: Option<i64> = sqlx::query("SELECT MAX(created_at) FROM events")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let facts = sqlx::query("SELECT value FROM installation WHERE name = ?").bind(fact);
    let fact = facts
        .fetch_optional(&mut *connection)
        .await?
        .map(|row| row.try_get(0))
        .transpose()?;
    Ok(Whole {
        payments,
        last_event: last.map(Timestamp),
        fact,
    })
}

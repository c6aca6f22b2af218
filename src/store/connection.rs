//! The ways to the database, and the only manner in which they are used: nothing waits for an
//! answer without an end, and a connection that may not be what it seems is never used again.
//!
//! Connections fail without saying so. A server that has gone leaves a socket that takes bytes and
//! answers nothing; a session that began read-only stays so after the server is mended; SQLite ends
//! a transaction by itself when the disk is full, its driver goes on counting it, and every later
//! "commit" would end a savepoint of a transaction that never ends. So each use has a limit, each
//! doubtful error retires all connections that exist at that moment, and SQLite itself has to tell
//! that it commits whatever is said to be committed.

mod errors;
mod pool;
mod trust;
mod tx;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sea_orm::{
    ConnectOptions, ConnectionTrait, DbBackend, DbErr, ExecResult, IsolationLevel, QueryResult,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _,
};

use self::errors::no_answer;
pub(super) use self::errors::{is_about_values, is_no_answer};
pub(super) use self::pool::CONNECT_TIMEOUT;
use self::pool::{Pool, Role};
pub(super) use self::tx::Tx;
use super::seat::Seat;
use crate::embedded;

/// Closing takes no longer; what is not closed then ends with the process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The database, as everything in `store` uses it.
#[derive(Debug, Clone)]
pub(super) struct Db {
    backend: DbBackend,
    read: Arc<Pool>,
    /// On SQLite the one connection that writes; on PostgreSQL the same as `read`.
    write: Arc<Pool>,
}

impl Db {
    /// Opens the database at `url`. No use of a connection takes longer than `patience`.
    pub(super) async fn open(
        url: &str,
        connections: u32,
        patience: Duration,
    ) -> Result<Self, DbErr> {
        let options = |connections: u32| {
            let mut options = ConnectOptions::new(url);
            options.max_connections(connections);
            options
        };

        if url.starts_with("sqlite:") {
            // The writing one first: it makes the file.
            let seat = embedded::file(url).map(|file| Arc::new(Seat::new(embedded::itself(&file))));
            let write = Pool::open(options(1), patience, Role::SqliteWriter, seat.clone()).await?;
            let readers = connections.saturating_sub(1).max(1);
            let read = Pool::open(options(readers), patience, Role::SqliteReader, seat).await?;
            return Ok(Self {
                backend: DbBackend::Sqlite,
                read,
                write,
            });
        }

        let all = Pool::open(options(connections), patience, Role::Postgres, None).await?;
        Ok(Self {
            backend: DbBackend::Postgres,
            read: Arc::clone(&all),
            write: all,
        })
    }

    /// Which kind of database it is.
    pub(super) const fn backend(&self) -> DbBackend {
        self.backend
    }

    /// Whether SQLite has found its file damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.write
            .seat
            .as_ref()
            .is_some_and(|seat| seat.is_damaged())
    }

    /// The embedded database's file is not this gateway's any more.
    pub(super) fn lose(&self) {
        self.write.seat.iter().for_each(|seat| seat.lose());
    }

    /// Begins a transaction that writes.
    pub(super) async fn write(&self) -> Result<Tx, DbErr> {
        // One that only turns into a writing one fails at once on SQLite, whatever the busy
        // timeout.
        let mode = Some(SqliteTransactionMode::Immediate);
        self.begin(
            &self.write,
            TransactionOptions {
                sqlite_transaction_mode: mode,
                ..Default::default()
            },
        )
        .await
    }

    /// Begins a transaction whose statements all see what the first one saw. SQLite knows no other.
    pub(super) async fn snapshot(&self) -> Result<Tx, DbErr> {
        let isolation_level =
            (self.backend == DbBackend::Postgres).then_some(IsolationLevel::RepeatableRead);
        self.begin(
            &self.read,
            TransactionOptions {
                isolation_level,
                ..Default::default()
            },
        )
        .await
    }

    async fn begin(&self, pool: &Arc<Pool>, options: TransactionOptions) -> Result<Tx, DbErr> {
        let connection = pool.current();
        let inner = pool.using(connection.begin_with_options(options)).await?;
        let witness = options.sqlite_transaction_mode.is_some();
        if let Some(seat) = pool.seat.as_ref().filter(|_| witness) {
            seat.is_whole()?;
            seat.has_its_log()?;
        }
        Ok(Tx {
            inner,
            pool: Arc::clone(pool),
            has_failed: AtomicBool::new(false),
            witness,
        })
    }

    /// Closes all connections that can be closed; SQLite writes its log back.
    pub(super) async fn close(&self) -> Result<(), DbErr> {
        let closing = async {
            // What writes the log back is the last one.
            self.read.current().close().await?;
            self.write.current().close().await
        };
        tokio::time::timeout(CLOSE_TIMEOUT, closing)
            .await
            .unwrap_or_else(|_| Err(no_answer(CLOSE_TIMEOUT)))
    }

    fn pool_for(&self, sql: &str) -> &Pool {
        let reads = ["SELECT", "WITH", "PRAGMA", "EXPLAIN"];
        if reads.iter().any(|word| sql.trim_start().starts_with(word)) {
            &self.read
        } else {
            &self.write
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Db {
    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    async fn execute_raw(&self, stmt: Statement) -> Result<ExecResult, DbErr> {
        let pool = &self.write;
        let (connection, before) = (pool.current(), pool.committed());
        let done = pool.using(connection.execute_raw(stmt)).await?;
        if done.rows_affected() > 0 {
            pool.witnessed(before)?;
        }
        Ok(done)
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let connection = self.write.current();
        self.write.using(connection.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, stmt: Statement) -> Result<Option<QueryResult>, DbErr> {
        super::sent::note(&stmt);
        // It may be over before the statement is: SQLite commits when that is done.
        let pool = self.pool_for(&stmt.sql);
        let connection = pool.current();
        pool.using(connection.query_one_raw(stmt)).await
    }

    async fn query_all_raw(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        super::sent::note(&stmt);
        let pool = self.pool_for(&stmt.sql);
        let (connection, before) = (pool.current(), pool.committed());
        let found = pool.using(connection.query_all_raw(stmt)).await?;
        if !found.is_empty() {
            pool.witnessed(before)?;
        }
        Ok(found)
    }
}

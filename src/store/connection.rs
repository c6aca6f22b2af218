//! The ways to the database, and the only manner in which they are used: nothing waits for an answer without an end, and
//! a connection that may not be what it seems is never used again.
//!
//! Connections fail without saying so. A server that has gone leaves a socket that takes bytes and answers nothing; a
//! session that began read-only stays so after the server is mended; SQLite ends a transaction by itself when the disk is
//! full, its driver goes on counting it, and every later "commit" would end a savepoint of a transaction that never ends.
//! So each use has a limit, each doubtful error retires all connections that exist at that moment, and SQLite itself has
//! to tell that it commits whatever is said to be committed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sea_orm::{
    ConnAcquireErr, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend,
    DbErr, ExecResult, IsolationLevel, QueryResult, RuntimeErr, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait as _,
};
use sqlx::pool::PoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor as _};
use tokio::sync::watch;

use super::seat::Seat;
#[cfg(feature = "testing")]
use crate::broken::{Rule, breaks};
use crate::embedded;

/// A database that gives no connection for so long is not there.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that has been idle for so long is asked whether it is still there before it is used.
const DOUBTED_AFTER_IDLE: Duration = Duration::from_secs(1);
/// It has so long to answer that.
const PING_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Once a connection is doubted, those that are waited for as well get this part of the time.
const LESS_PATIENT: u32 = 4;
/// Closing takes no longer; what is not closed then ends with the process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// What SQLite's log shrinks to when it begins anew.
const LOG_BYTES: &str = "67108864";
/// Statements that a connection keeps prepared.
const STATEMENT_CACHE: usize = 512;

/// Which connections may still be used: those that were made after the last doubt.
#[derive(Debug)]
struct Trust {
    began: Instant,
    /// Milliseconds after `began`.
    since_ms: AtomicU64,
    /// Counts the doubts, for whoever waits for an answer over a connection that is doubted meanwhile.
    lost: watch::Sender<u64>,
}

impl Trust {
    fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), since_ms: AtomicU64::new(0), lost: watch::Sender::new(0) })
    }

    /// No connection that exists now is used again.
    fn lose(&self) {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since_ms.fetch_max(now_ms.saturating_add(1), Ordering::Relaxed);
        self.lost.send_modify(|doubts| *doubts = doubts.wrapping_add(1));
    }

    /// Ends when the next doubt is so long ago that an answer would have come, were there one.
    async fn is_lost_for(&self, patience: Duration) {
        let mut lost = self.lost.subscribe();
        // The sender lives as long as we do.
        let _ = lost.changed().await;
        tokio::time::sleep(patience / LESS_PATIENT).await;
    }

    fn holds(&self, age: Duration) -> bool {
        let made_ms = self.began.elapsed().saturating_sub(age).as_millis();
        made_ms >= u128::from(self.since_ms.load(Ordering::Relaxed))
    }
}

/// How often SQLite has said that it commits, on connections that write.
type Commits = Arc<AtomicU64>;

/// A pool of connections, and what is known of them.
#[derive(Debug)]
struct Pool {
    options: ConnectOptions,
    current: RwLock<DatabaseConnection>,
    trust: Arc<Trust>,
    /// Of SQLite's writing connection.
    commits: Option<Commits>,
    /// SQLite's file.
    seat: Option<Arc<Seat>>,
    patience: Duration,
}

impl Pool {
    async fn open(
        mut options: ConnectOptions,
        patience: Duration,
        role: Role,
        seat: Option<Arc<Seat>>,
    ) -> Result<Arc<Self>, DbErr> {
        let trust = Trust::new();
        let commits = (role == Role::SqliteWriter).then(Commits::default);
        options
            .connect_timeout(CONNECT_TIMEOUT)
            .acquire_timeout(CONNECT_TIMEOUT)
            .test_before_acquire(false)
            // With either of them the pool of sqlx 0.9.0 keeps a task that counts idle connections, and a count that two
            // threads have just brought below zero makes it spin for ever, on a thread that serves payments
            // (transact-rs/sqlx#3645). A connection that has died is found out when it is taken.
            .idle_timeout(None)
            .max_lifetime(None)
            .sqlx_logging(false);
        match role {
            Role::Postgres => {
                let (trust, session) = (Arc::clone(&trust), session_settings(patience));
                options.map_sqlx_postgres_opts(|o| o.statement_cache_capacity(STATEMENT_CACHE));
                options.map_sqlx_postgres_pool_opts(move |pool| {
                    let session = session.clone();
                    kept_clean(pool, &trust).after_connect(move |connection, _| {
                        let session = session.clone();
                        Box::pin(async move { connection.execute(AssertSqlSafe(session)).await.map(drop) })
                    })
                });
            }
            Role::SqliteWriter | Role::SqliteReader => {
                let (trust, commits, seat) = (Arc::clone(&trust), commits.clone(), seat.clone());
                options.map_sqlx_sqlite_opts(move |o| {
                    let o = o
                        .create_if_missing(true)
                        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal)
                        .synchronous(sqlx::sqlite::SqliteSynchronous::Full)
                        .foreign_keys(true)
                        .busy_timeout(CONNECT_TIMEOUT)
                        .statement_cache_capacity(STATEMENT_CACHE)
                        // After a long reader the log is as large as it once was, for ever.
                        .pragma("journal_size_limit", LOG_BYTES);
                    // A statement that went the wrong way says so instead of writing beside the one that writes.
                    if role == Role::SqliteReader { o.pragma("query_only", "on") } else { o }
                });
                options.map_sqlx_sqlite_pool_opts(move |pool| {
                    let (commits, seat) = (commits.clone(), seat.clone());
                    kept_clean(pool, &trust).after_connect(move |connection, _| {
                        let (commits, seat) = (commits.clone(), seat.clone());
                        Box::pin(async move {
                            if let Some(commits) = commits {
                                if let Some(seat) = seat {
                                    seat.opened();
                                }
                                let mut handle = connection.lock_handle().await?;
                                handle.set_commit_hook(move || {
                                    commits.fetch_add(1, Ordering::SeqCst);
                                    true
                                });
                            }
                            Ok(())
                        })
                    })
                });
            }
        }
        let current = RwLock::new(Database::connect(options.clone()).await?);
        options.connect_lazy(true);
        Ok(Arc::new(Self { options, current, trust, commits, seat, patience }))
    }

    fn current(&self) -> DatabaseConnection {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One use of a connection. What it comes to after an error is not known, unless the error says so.
    async fn using<T>(&self, using: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        self.seat.as_ref().map_or(Ok(()), |seat| seat.is_there())?;
        #[cfg(feature = "testing")]
        if breaks(Rule::WaitWithoutEnd) {
            return using.await;
        }
        let limited = tokio::time::timeout(self.patience, using);
        let error = tokio::select! {
            biased;
            ended = limited => match ended {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => no_answer(self.patience),
            },
            // Connections fall silent together: what was found out over one of them need not be found out over each. Those
            // that were made since are not doubted for it.
            () = self.trust.is_lost_for(self.patience) => return Err(no_answer(self.patience / LESS_PATIENT)),
        };
        if let Some(seat) = self.seat.as_ref().filter(|_| is_damage(&error)) {
            seat.damage(&error);
        }
        if is_doubtful(&error) {
            tracing::warn!(%error, "the connections to the database are made anew");
            metrics::counter!("interlock_database_distrusted_total").increment(1);
            self.trust.lose();
        }
        if matches!(error, DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)) {
            self.replace().await;
        }
        Err(error)
    }

    /// A pool that gives no connection may have lost them: on their way back to it they are asked whether they are still
    /// there, without a limit. It is left to itself; its connections end with it.
    async fn replace(&self) {
        if let Ok(next) = Database::connect(self.options.clone()).await {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
        }
    }

    fn committed(&self) -> u64 {
        self.commits.as_ref().map_or(0, |commits| commits.load(Ordering::SeqCst))
    }

    /// Something was written, and SQLite has to have said that it commits.
    fn witnessed(&self, before: u64) -> Result<(), DbErr> {
        #[cfg(feature = "testing")]
        if breaks(Rule::TrustEveryConnection) {
            return Ok(());
        }
        // What was written into a file that nobody will open again is not written.
        self.seat.as_ref().map_or(Ok(()), |seat| seat.is_there())?;
        if self.commits.is_none() || self.committed() != before {
            return Ok(());
        }
        tracing::error!("the embedded database has committed nothing although it said so");
        self.trust.lose();
        Err(DbErr::Custom("what was written was not committed".to_owned()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Postgres,
    SqliteWriter,
    SqliteReader,
}

/// What the server is to do by itself when it hears nothing of us, or takes too long. Of the settings that it knows.
fn session_settings(patience: Duration) -> String {
    let ms = patience.as_millis();
    format!(
        "SELECT set_config(known.name, wanted.value, false) FROM (VALUES \
         ('statement_timeout', '{ms}'), ('idle_in_transaction_session_timeout', '{}'), \
         ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'), \
         ('tcp_user_timeout', '25000')) AS wanted (name, value) JOIN pg_settings AS known USING (name)",
        ms.saturating_mul(2)
    )
}

/// Hands out no connection that is doubted, was left inside a transaction, or does not answer.
fn kept_clean<DB: sqlx::Database>(options: PoolOptions<DB>, trust: &Arc<Trust>) -> PoolOptions<DB> {
    let (before, after) = (Arc::clone(trust), Arc::clone(trust));
    options
        .before_acquire(move |connection, meta| {
            let trust = Arc::clone(&before);
            Box::pin(async move {
                #[cfg(feature = "testing")]
                if breaks(Rule::TrustEveryConnection) || breaks(Rule::WaitWithoutEnd) {
                    return Ok(true);
                }
                if !trust.holds(meta.age) || connection.is_in_transaction() {
                    return Ok(false);
                }
                if meta.idle_for < DOUBTED_AFTER_IDLE {
                    return Ok(true);
                }
                let answers = matches!(tokio::time::timeout(PING_TIMEOUT, connection.ping()).await, Ok(Ok(())));
                if !answers {
                    trust.lose();
                }
                Ok(answers)
            })
        })
        .after_release(move |connection, meta| {
            let keeps = after.holds(meta.age) && !connection.is_in_transaction();
            #[cfg(feature = "testing")]
            let keeps = keeps || breaks(Rule::TrustEveryConnection) || breaks(Rule::WaitWithoutEnd);
            Box::pin(async move { Ok(keeps) })
        })
}

const NO_ANSWER: &str = "the database has not answered within";

fn no_answer(patience: Duration) -> DbErr {
    DbErr::Conn(RuntimeErr::Internal(format!("{NO_ANSWER} {} s", patience.as_secs())))
}

/// Whether the database was waited for in vain: asking again at once would wait as long.
pub(super) fn is_no_answer(error: &DbErr) -> bool {
    if let DbErr::Conn(RuntimeErr::Internal(text)) = error {
        return text.starts_with(NO_ANSWER);
    }
    matches!(error, DbErr::ConnectionAcquire(_))
}

/// Whether what was to be written is refused, or cannot be read back, whenever it is tried: it is no sign of trouble.
pub(super) fn is_about_values(error: &DbErr) -> bool {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else { return false };
    let RuntimeErr::SqlxError(inner) = inner else { return false };
    let sqlx::Error::Database(said) = &**inner else {
        // What cannot be read back is one merchant's row, and nobody else's trouble.
        return matches!(**inner, sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. });
    };
    let code = said.code().unwrap_or_default();
    match said.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
        // TOOBIG, CONSTRAINT and MISMATCH.
        Some(_) => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18..=20)),
        // Data exceptions and constraints.
        None => code.starts_with("22") || code.starts_with("23"),
    }
}

/// Whether connections on which this happened may be other than they seem.
fn is_doubtful(error: &DbErr) -> bool {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else { return false };
    let RuntimeErr::SqlxError(inner) = inner else { return true };
    let sqlx::Error::Database(said) = &**inner else {
        return !matches!(
            **inner,
            sqlx::Error::RowNotFound
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Encode(_)
                | sqlx::Error::Decode(_)
                | sqlx::Error::TypeNotFound { .. }
        );
    };
    let code = said.code().unwrap_or_default();
    match said.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
        // BUSY, LOCKED and CONSTRAINT leave everything as it was. Others may have ended a transaction.
        Some(_) => code.parse::<u32>().map_or(true, |code| !matches!(code & 0xff, 5 | 6 | 19)),
        // Read-only, no connection, shut down, trouble of the system, a defect of the server.
        None => code == "25006" || ["08", "57P", "58", "XX"].iter().any(|class| code.starts_with(class)),
    }
}

/// SQLITE_CORRUPT or SQLITE_NOTADB: the file is not what SQLite has written.
fn is_damage(error: &DbErr) -> bool {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else { return false };
    let RuntimeErr::SqlxError(inner) = inner else { return false };
    let sqlx::Error::Database(said) = &**inner else { return false };
    let code = said.try_downcast_ref::<sqlx::sqlite::SqliteError>().and_then(|_| said.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 11 | 26))
}

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
    pub(super) async fn open(url: &str, connections: u32, patience: Duration) -> Result<Self, DbErr> {
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
            return Ok(Self { backend: DbBackend::Sqlite, read, write });
        }
        let all = Pool::open(options(connections), patience, Role::Postgres, None).await?;
        Ok(Self { backend: DbBackend::Postgres, read: Arc::clone(&all), write: all })
    }

    /// Which kind of database it is.
    pub(super) const fn backend(&self) -> DbBackend {
        self.backend
    }

    /// Whether SQLite has found its file damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.write.seat.as_ref().is_some_and(|seat| seat.is_damaged())
    }

    /// The embedded database's file is not this gateway's any more.
    pub(super) fn lose(&self) {
        self.write.seat.iter().for_each(|seat| seat.lose());
    }

    /// Begins a transaction that writes.
    pub(super) async fn write(&self) -> Result<Tx, DbErr> {
        // One that only turns into a writing one fails at once on SQLite, whatever the busy timeout.
        let mode = Some(SqliteTransactionMode::Immediate);
        self.begin(&self.write, TransactionOptions { sqlite_transaction_mode: mode, ..Default::default() }).await
    }

    /// Begins a transaction whose statements all see what the first one saw. SQLite knows no other.
    pub(super) async fn snapshot(&self) -> Result<Tx, DbErr> {
        let isolation_level = (self.backend == DbBackend::Postgres).then_some(IsolationLevel::RepeatableRead);
        self.begin(&self.read, TransactionOptions { isolation_level, ..Default::default() }).await
    }

    async fn begin(&self, pool: &Arc<Pool>, options: TransactionOptions) -> Result<Tx, DbErr> {
        let connection = pool.current();
        let inner = pool.using(connection.begin_with_options(options)).await?;
        let witness = options.sqlite_transaction_mode.is_some();
        if let Some(seat) = pool.seat.as_ref().filter(|_| witness) {
            seat.has_its_log()?;
        }
        Ok(Tx { inner, pool: Arc::clone(pool), has_failed: AtomicBool::new(false), witness })
    }

    /// Closes all connections that can be closed; SQLite writes its log back.
    pub(super) async fn close(&self) -> Result<(), DbErr> {
        let closing = async {
            // What writes the log back is the last one.
            self.read.current().close().await?;
            self.write.current().close().await
        };
        tokio::time::timeout(CLOSE_TIMEOUT, closing).await.unwrap_or_else(|_| Err(no_answer(CLOSE_TIMEOUT)))
    }

    fn pool_for(&self, sql: &str) -> &Pool {
        let reads = ["SELECT", "WITH", "PRAGMA", "EXPLAIN"];
        if reads.iter().any(|word| sql.trim_start().starts_with(word)) { &self.read } else { &self.write }
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

/// A transaction. Once something in it has failed, nothing in it is done any more: PostgreSQL would answer a commit with
/// a rollback and no error, and SQLite may have ended it, so that what follows would be committed piece by piece.
pub(super) struct Tx {
    inner: DatabaseTransaction,
    pool: Arc<Pool>,
    has_failed: AtomicBool,
    /// Whether it writes: then SQLite has to tell that it commits.
    witness: bool,
}

impl Tx {
    async fn using<T>(&self, using: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
        self.is_whole()?;
        let done = self.pool.using(using).await;
        if done.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        done
    }

    fn is_whole(&self) -> Result<(), DbErr> {
        match self.has_failed.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(DbErr::Custom("a statement of this transaction has failed before".to_owned())),
        }
    }

    /// Makes everything in it durable, or says that nobody knows.
    pub(super) async fn commit(self) -> Result<(), DbErr> {
        self.is_whole()?;
        let before = self.pool.committed();
        self.pool.using(self.inner.commit()).await?;
        if self.witness { self.pool.witnessed(before) } else { Ok(()) }
    }

    /// Takes everything in it back.
    pub(super) async fn rollback(self) -> Result<(), DbErr> {
        self.pool.using(self.inner.rollback()).await
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for Tx {
    fn get_database_backend(&self) -> DbBackend {
        self.inner.get_database_backend()
    }

    async fn execute_raw(&self, stmt: Statement) -> Result<ExecResult, DbErr> {
        self.using(self.inner.execute_raw(stmt)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.using(self.inner.execute_unprepared(sql)).await
    }

    async fn query_one_raw(&self, stmt: Statement) -> Result<Option<QueryResult>, DbErr> {
        super::sent::note(&stmt);
        self.using(self.inner.query_one_raw(stmt)).await
    }

    async fn query_all_raw(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        super::sent::note(&stmt);
        self.using(self.inner.query_all_raw(stmt)).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use sea_orm::{ConnectOptions, DbErr};

    use super::{Pool, Role, is_no_answer};

    const PATIENCE: Duration = Duration::from_secs(8);

    #[tokio::test]
    async fn who_waits_over_a_connection_that_is_doubted_waits_no_longer_than_an_answer_takes() {
        let folder = tempfile::TempDir::new().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("a.db").display());
        let pool = Pool::open(ConnectOptions::new(url), PATIENCE, Role::SqliteWriter, None).await.unwrap();
        let silent = std::future::pending::<Result<(), DbErr>>;
        let began = Instant::now();
        let doubted = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            pool.trust.lose();
        };
        let (waited, slow, ()) = tokio::join!(
            pool.using(silent()),
            // It takes its time, and is answered.
            pool.using(async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                Ok(7)
            }),
            doubted
        );
        assert!(is_no_answer(&waited.unwrap_err()));
        assert_eq!(slow.unwrap(), 7);
        let took = began.elapsed();
        assert!(took >= PATIENCE / 4 && took < PATIENCE / 2, "{took:?}");

        // Nobody who has begun since is doubted with them.
        let later = tokio::time::timeout(PATIENCE / 2, pool.using(silent())).await;
        assert!(later.is_err(), "it has its whole time");
    }
}

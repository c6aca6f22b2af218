//! A pool of connections of one kind, each use of which has a limit; what is doubted is made anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use sea_orm::{ConnAcquireErr, ConnectOptions, Database, DatabaseConnection, DbErr};
use sqlx::{AssertSqlSafe, Executor as _};

use super::errors::{is_damage, is_doubtful, no_answer};
use super::trust::{LESS_PATIENT, Trust, kept_clean};
use crate::mutate;
use crate::store::seat::Seat;

/// A database that gives no connection for so long is not there.
pub(in crate::store) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What SQLite's log shrinks to when it begins anew.
const LOG_BYTES: &str = "67108864";
/// Statements that a connection keeps prepared.
const STATEMENT_CACHE: usize = 512;

/// How often SQLite has said that it commits, on connections that write.
type Commits = Arc<AtomicU64>;

/// A pool of connections, and what is known of them.
#[derive(Debug)]
pub(super) struct Pool {
    options: ConnectOptions,
    current: RwLock<DatabaseConnection>,
    trust: Arc<Trust>,
    /// Of SQLite's writing connection.
    commits: Option<Commits>,
    /// SQLite's file.
    pub(super) seat: Option<Arc<Seat>>,
    patience: Duration,
}

impl Pool {
    pub(super) async fn open(
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
            // With either of them the pool of sqlx 0.9.0 keeps a task that counts idle connections,
            // and a count that two threads have just brought below zero makes it spin for ever, on
            // a thread that serves payments (transact-rs/sqlx#3645). A connection that has died is
            // found out when it is taken.
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
                        Box::pin(async move {
                            connection.execute(AssertSqlSafe(session)).await.map(drop)
                        })
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
                    // A statement that went the wrong way says so instead of writing beside the one
                    // that writes.
                    if role == Role::SqliteReader {
                        o.pragma("query_only", "on")
                    } else {
                        o
                    }
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
        Ok(Arc::new(Self {
            options,
            current,
            trust,
            commits,
            seat,
            patience,
        }))
    }

    pub(super) fn current(&self) -> DatabaseConnection {
        self.current.read().clone()
    }

    /// One use of a connection. What it comes to after an error is not known, unless the error says
    /// so.
    pub(super) async fn using<T>(
        &self,
        using: impl Future<Output = Result<T, DbErr>>,
    ) -> Result<T, DbErr> {
        self.seat.as_ref().map_or(Ok(()), |seat| seat.is_there())?;
        mutate!(WaitWithoutEnd => return using.await);
        let limited = tokio::time::timeout(self.patience, using);
        let error = tokio::select! {
            biased;
            ended = limited => match ended {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => no_answer(self.patience),
            },
            // Connections fall silent together: what was found out over one of them need not be
            // found out over each. Those that were made since are not doubted for it.
            () = self.trust.is_lost_for(self.patience) => {
                return Err(no_answer(self.patience / LESS_PATIENT));
            }
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

    /// A pool that gives no connection may have lost them: on their way back to it they are asked
    /// whether they are still there, without a limit. It is left to itself; its connections end
    /// with it.
    async fn replace(&self) {
        if let Ok(next) = Database::connect(self.options.clone()).await {
            *self.current.write() = next;
        }
    }

    pub(super) fn committed(&self) -> u64 {
        self.commits
            .as_ref()
            .map_or(0, |commits| commits.load(Ordering::SeqCst))
    }

    /// Something was written, and SQLite has to have said that it commits.
    pub(super) fn witnessed(&self, before: u64) -> Result<(), DbErr> {
        mutate!(TrustEveryConnection => return Ok(()));
        // What was written into a file that nobody will open again is not written.
        self.seat.as_ref().map_or(Ok(()), |seat| seat.is_there())?;
        if self.commits.is_none() || self.committed() != before {
            return Ok(());
        }
        tracing::error!("the embedded database has committed nothing although it said so");
        self.trust.lose();
        Err(DbErr::Custom(
            "what was written was not committed".to_owned(),
        ))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Postgres,
    SqliteWriter,
    SqliteReader,
}

/// What the server is to do by itself when it hears nothing of us, or takes too long. Of the
/// settings that it knows.
fn session_settings(patience: Duration) -> String {
    let ms = patience.as_millis();
    format!(
        "SELECT set_config(known.name, wanted.value, false) FROM (VALUES ('statement_timeout', \
        '{ms}'), ('idle_in_transaction_session_timeout', '{}'), ('tcp_keepalives_idle', '10'), \
        ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'), ('tcp_user_timeout', \
        '25000')) AS wanted (name, value) JOIN pg_settings AS known USING (name)",
        ms.saturating_mul(2)
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use sea_orm::{ConnectOptions, DbErr};

    use super::super::is_no_answer;
    use super::{Pool, Role};

    const PATIENCE: Duration = Duration::from_secs(8);

    #[tokio::test]
    async fn who_waits_over_a_connection_that_is_doubted_waits_no_longer_than_an_answer_takes() {
        let folder = tempfile::TempDir::new().unwrap();
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("a.db").display());
        let pool = Pool::open(ConnectOptions::new(url), PATIENCE, Role::SqliteWriter, None)
            .await
            .unwrap();
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

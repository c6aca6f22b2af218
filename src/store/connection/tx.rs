//! A transaction, of which nothing is done any more once something in it has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement,
};

use super::pool::Pool;
use crate::store::sent;

/// A transaction. Once something in it has failed, nothing in it is done any more: PostgreSQL would
/// answer a commit with a rollback and no error, and SQLite may have ended it, so that what follows
/// would be committed piece by piece.
pub(in crate::store) struct Tx {
    pub(super) inner: DatabaseTransaction,
    pub(super) pool: Arc<Pool>,
    pub(super) has_failed: AtomicBool,
    /// Whether it writes: then SQLite has to tell that it commits.
    pub(super) witness: bool,
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
            true => Err(DbErr::Custom(
                "a statement of this transaction has failed before".to_owned(),
            )),
        }
    }

    /// Makes everything in it durable, or says that nobody knows.
    pub(in crate::store) async fn commit(self) -> Result<(), DbErr> {
        self.is_whole()?;
        let before = self.pool.committed();
        self.pool.using(self.inner.commit()).await?;
        if self.witness {
            self.pool.witnessed(before)
        } else {
            Ok(())
        }
    }

    /// Takes everything in it back.
    pub(in crate::store) async fn rollback(self) -> Result<(), DbErr> {
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
        sent::note(&stmt);
        self.using(self.inner.query_one_raw(stmt)).await
    }

    async fn query_all_raw(&self, stmt: Statement) -> Result<Vec<QueryResult>, DbErr> {
        sent::note(&stmt);
        self.using(self.inner.query_all_raw(stmt)).await
    }
}

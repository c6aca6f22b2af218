//! Looking at a database without touching it: whether its tables are those of this version, and
//! whether what it commits is safe. Makes no file, no table and no row.

use std::time::Duration;

use sea_orm::{ConnectionTrait as _, Statement};

use super::Error;
use super::tables::{self, Tables};
use super::{OpenError, Store, connect, is_file, without_password};
use crate::embedded;

/// Whoever checks everything waits longer than a payment does.
const LOOKING: Duration = Duration::from_secs(900);

/// How a PostgreSQL keeps what it commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durability {
    /// It waits for the disk.
    pub fsync: bool,
    /// For whom a commit waits.
    pub synchronous_commit: String,
    /// New sessions may not write.
    pub is_read_only: bool,
    /// It follows another one.
    pub is_standby: bool,
    /// The kind of each standby that follows it: `sync`, `quorum`, `potential`, `async`.
    pub standbys: Vec<String>,
}

impl Store {
    /// Opens the database at `url` to look at it: nothing is made and no table is changed.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn look(url: &str, connections: u32) -> Result<Self, OpenError> {
        if let Some(file) = embedded::file(url) {
            is_file(&file, url)?;
            if !embedded::is_there(&file)? {
                let problem = "there is no such file".to_owned();
                return Err(OpenError::Connect {
                    url: without_password(url),
                    problem,
                });
            }
        }

        connect(url, 1)
            .await?
            .close()
            .await
            .map_err(|e| OpenError::Connect {
                url: without_password(url),
                problem: e.to_string(),
            })?;

        Self::connect(url, connections, LOOKING).await
    }

    /// Whether the tables are those of this version.
    ///
    /// # Errors
    /// The database's, also when no migration was ever run.
    pub async fn tables(&self) -> Result<Tables, Error> {
        tables::of(&self.db).await
    }

    /// How many standbys a commit is safe on before it is answered; `None` for SQLite.
    ///
    /// # Errors
    /// The database's.
    pub async fn synchronous_standbys(&self) -> Result<Option<u64>, Error> {
        if !self.is_postgres() {
            return Ok(None);
        }
        // Whoever may not see that counts none, and has never counted one.
        let sql = "SELECT COUNT(*) AS count FROM pg_stat_replication WHERE sync_state IN ('sync', \
                   'quorum')";
        let row = self
            .db
            .query_one_raw(Statement::from_string(self.db.backend(), sql))
            .await?;
        let count: i64 = row
            .ok_or_else(|| Error::Missing("standbys".to_owned()))?
            .try_get("", "count")?;
        Ok(Some(u64::try_from(count).unwrap_or(0)))
    }

    /// How the database keeps what it commits; `None` for SQLite, which is always made to wait for
    /// its disk.
    ///
    /// # Errors
    /// The database's.
    pub async fn durability(&self) -> Result<Option<Durability>, Error> {
        if !self.is_postgres() {
            return Ok(None);
        }
        let backend = self.db.backend();
        let sql = "SELECT current_setting('fsync') = 'on' AS fsync, \
                   current_setting('synchronous_commit') AS synchronous_commit, \
                   pg_is_in_recovery() AS is_standby, \
                   current_setting('default_transaction_read_only') = 'on' AS is_read_only";
        let row = self
            .db
            .query_one_raw(Statement::from_string(backend, sql))
            .await?;
        let row = row.ok_or_else(|| Error::Missing("settings".to_owned()))?;
        let sql = "SELECT coalesce(sync_state, 'unknown') AS kind FROM pg_stat_replication";

        let standbys = self
            .db
            .query_all_raw(Statement::from_string(backend, sql))
            .await?;

        Ok(Some(Durability {
            fsync: row.try_get("", "fsync")?,
            synchronous_commit: row.try_get("", "synchronous_commit")?,
            is_read_only: row.try_get("", "is_read_only")?,
            is_standby: row.try_get("", "is_standby")?,
            standbys: standbys
                .iter()
                .map(|row| row.try_get("", "kind"))
                .collect::<Result<_, _>>()?,
        }))
    }
}

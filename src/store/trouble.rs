//! A database that belongs to one run of a drill: made in a PostgreSQL, restarted and made
//! read-only as often as the drill wants, and removed with everything in it. The embedded one can
//! be locked by somebody else. Only in builds for drills.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DbBackend, SqliteTransactionMode,
    Statement, TransactionOptions, TransactionTrait as _,
};

use super::Error;
use super::{OpenError, connect};

/// A PostgreSQL database of one run.
#[derive(Debug)]
pub struct OwnDatabase {
    /// Elsewhere on the same server: what is done to the database must not end this one.
    server: DatabaseConnection,
    name: String,
    url: String,
    /// Whether it lies in a tablespace of its own, which has its name.
    has_space: bool,
}

impl OwnDatabase {
    /// Makes it on the server at `url`, whose user may make databases; in a folder of its own, if
    /// one is given.
    ///
    /// # Errors
    /// The database's; an address that names no database.
    pub async fn make(url: &str, name: String, folder: Option<&Path>) -> Result<Self, Error> {
        let mut own = url::Url::parse(url).map_err(|e| Error::Other(e.to_string()))?;
        own.set_path(&name);
        let server = Database::connect(url).await?;
        let mut space = String::new();

        if let Some(folder) = folder {
            let place = folder.display();
            server
                .execute_unprepared(&format!("CREATE TABLESPACE {name} LOCATION '{place}'"))
                .await?;
            space = format!(" TABLESPACE {name}");
        }

        server
            .execute_unprepared(&format!("CREATE DATABASE {name}{space}"))
            .await?;
        Ok(Self {
            server,
            name,
            url: own.into(),
            has_space: folder.is_some(),
        })
    }

    /// Where the server at `url` keeps its data: who owns that may have a tablespace elsewhere.
    ///
    /// # Errors
    /// The database's.
    pub async fn data_folder(url: &str) -> Result<PathBuf, Error> {
        let server = Database::connect(url).await?;
        let statement = Statement::from_string(
            DbBackend::Postgres,
            "SELECT current_setting('data_directory') AS place",
        );
        let row = server.query_one_raw(statement).await?;
        let place: String = row
            .ok_or_else(|| Error::Missing("data_directory".to_owned()))?
            .try_get("", "place")?;
        server.close().await?;
        Ok(place.into())
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends all sessions, and takes no new ones for so long.
    ///
    /// # Errors
    /// The database's.
    pub async fn restart(&self, down: Duration) -> Result<(), Error> {
        self.alter("WITH ALLOW_CONNECTIONS false").await?;
        self.end_sessions().await?;
        tokio::time::sleep(down).await;
        self.alter("WITH ALLOW_CONNECTIONS true").await
    }

    /// Takes no writes for so long. Sessions end before and after, as they do when a primary
    /// becomes a standby.
    ///
    /// # Errors
    /// The database's.
    pub async fn read_only(&self, during: Duration) -> Result<(), Error> {
        self.alter("SET default_transaction_read_only = on").await?;
        self.end_sessions().await?;
        tokio::time::sleep(during).await;
        self.alter("RESET default_transaction_read_only").await?;
        self.end_sessions().await
    }

    /// Whatever was done to it is over.
    ///
    /// # Errors
    /// The database's.
    pub async fn mend(&self) -> Result<(), Error> {
        self.alter("WITH ALLOW_CONNECTIONS true").await?;
        self.alter("RESET default_transaction_read_only").await?;
        // Sessions that began meanwhile would go on without writing.
        self.end_sessions().await
    }

    /// Removes it with everything in it.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove(self) -> Result<(), Error> {
        self.server
            .execute_unprepared(&format!("DROP DATABASE {} WITH (FORCE)", self.name))
            .await?;
        if self.has_space {
            self.server
                .execute_unprepared(&format!("DROP TABLESPACE {}", self.name))
                .await?;
        }
        Ok(self.server.close().await?)
    }

    async fn alter(&self, how: &str) -> Result<(), Error> {
        Ok(self
            .server
            .execute_unprepared(&format!("ALTER DATABASE {} {how}", self.name))
            .await
            .map(drop)?)
    }

    async fn end_sessions(&self) -> Result<(), Error> {
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        );
        Ok(self.server.execute_unprepared(&sql).await.map(drop)?)
    }
}

/// Keeps everybody else from writing to the embedded database at `url` for so long.
///
/// # Errors
/// What is wrong with it, or somebody else holds its lock.
pub async fn hold_lock(url: &str, during: Duration) -> Result<(), OpenError> {
    let db = connect(url, 1).await?;
    let mode = Some(SqliteTransactionMode::Immediate);
    let immediate = TransactionOptions {
        sqlite_transaction_mode: mode,
        ..Default::default()
    };
    if let Ok(held) = db.begin_with_options(immediate).await {
        tokio::time::sleep(during).await;
        let _ = held.rollback().await;
    }
    let _ = db.close().await;
    Ok(())
}

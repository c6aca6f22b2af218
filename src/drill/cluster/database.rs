//! The database of a stage: the ways to it, and what is done to it and to its disk.

use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Child;

use super::parts::{Gateway, PATIENCE, Stage};
use super::ways::through;
use crate::drill::disk;
use crate::drill::error::Error;
use crate::store::Store;
use crate::store::audit::Looker;
use crate::store::trouble;

/// What is done to the database itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseTrouble {
    /// It ends all sessions, and takes no new ones.
    Restart,
    /// It takes no writes.
    ReadOnly,
}

impl Stage {
    pub(super) fn database_url(&self, gateway: &Gateway) -> String {
        match (&self.ground.postgres, &self.database) {
            (Some(own), Some(proxy)) => through(own.url(), proxy),
            (Some(own), None) => own.url().to_owned(),
            (None, _) => {
                let folder = self
                    .ground
                    .disk
                    .as_ref()
                    .map_or(&gateway.folder, |disk| &disk.folder);
                format!("sqlite://{}", folder.join("interlock.db").display())
            }
        }
    }

    /// The way to the database that nobody cuts.
    fn direct_url(&self, gateway: &Gateway) -> String {
        self.ground
            .postgres
            .as_ref()
            .map_or_else(|| self.database_url(gateway), |own| own.url().to_owned())
    }

    /// A look into the database while the gateways work; nothing when it cannot be had.
    pub async fn looker(&self) -> Option<Looker> {
        let gateway = self.gateways.first()?;
        Looker::open(&self.direct_url(gateway)).await.ok()
    }

    /// The database, for who audits it once the gateways have stopped, or makes another merchant
    /// beside them.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn store(&self) -> Result<Store, Error> {
        let gateway = self
            .gateways
            .first()
            .ok_or_else(|| Error("no gateway".to_owned()))?;
        Store::open(&self.direct_url(gateway), 2, PATIENCE)
            .await
            .map_err(|e| Error(e.to_string()))
    }

    /// Whoever holds the embedded database's lock; ends and refuses sessions; takes no writes.
    pub async fn trouble_database(&self, trouble: DatabaseTrouble, during: Duration) {
        let Some(gateway) = self.gateways.first() else {
            return;
        };
        let _alone = self.at_database.lock().await;
        let done = match (&self.ground.postgres, trouble) {
            (Some(own), DatabaseTrouble::Restart) => {
                own.restart(during).await.map_err(|e| e.to_string())
            }
            (Some(own), DatabaseTrouble::ReadOnly) => {
                own.read_only(during).await.map_err(|e| e.to_string())
            }
            (None, DatabaseTrouble::Restart) => {
                self.signal(0, Signal::KILL).await;
                Ok(())
            }
            (None, DatabaseTrouble::ReadOnly) => {
                trouble::hold_lock(&self.database_url(gateway), during)
                    .await
                    .map_err(|e| e.to_string())
            }
        };

        if let Err(error) = done {
            tracing::warn!(error, ?trouble, "the database was spared");
        }
    }

    /// The disk of the database has room for so many bytes, for so long.
    pub async fn fill_disk(&self, left: u64, during: Duration) {
        let Some(disk) = &self.ground.disk else {
            return;
        };
        let _alone = self.at_database.lock().await;
        if let Err(error) = disk.fill(left) {
            tracing::warn!(%error, "the disk was spared");
        }
        self.limit_files(Some(left)).await;
        tokio::time::sleep(during).await;
        disk.free();
        self.limit_files(None).await;
    }

    pub(super) async fn limit_files(&self, bytes: Option<u64>) {
        if self.ground.disk.as_ref().is_some_and(|disk| disk.is_limit) {
            for gateway in &self.gateways {
                disk::limit(
                    gateway.child.lock().await.as_ref().and_then(Child::id),
                    bytes,
                );
            }
        }
    }
}

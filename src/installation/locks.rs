//! What keeps a second gateway off the data folder and the embedded database: a locked file beside
//! each.

use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::StartError;
use crate::config::Config;
use crate::embedded;
use crate::store::Store;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// After so many looks in a row at which another one had it: a command takes it for a moment.
const LOST_AFTER: u32 = 3;

/// What a process has for itself as long as it keeps this.
#[derive(Debug)]
pub struct Locks {
    folder: Lock,
    /// Of the embedded database.
    database: Option<Lock>,
}

#[derive(Debug)]
struct Lock {
    path: PathBuf,
    /// What it keeps others off.
    what: PathBuf,
    file: File,
}

/// Takes the data folder and the embedded database, wherever that lies, for this process.
///
/// # Errors
/// [`StartError::Locked`] when another one has them; [`StartError::HalfRestored`],
/// [`StartError::Damaged`] and [`StartError::HardLinked`] when the database cannot be relied on.
pub fn lock(config: &Config) -> Result<Locks, StartError> {
    let locks = lock_for_restore(config)?;
    if let Some(file) = config.database_file().map(|file| embedded::itself(&file)) {
        is_whole(&file)?;
    }
    Ok(locks)
}

/// Whether a gateway may start on this database, as far as what lies there tells.
///
/// # Errors
/// [`StartError::HalfRestored`], [`StartError::Damaged`], [`StartError::HardLinked`].
pub fn is_whole(database: &Path) -> Result<(), StartError> {
    let restoring = restore_marker(database);
    if restoring.symlink_metadata().is_ok() {
        return Err(StartError::HalfRestored(restoring));
    }
    let damaged = embedded::damage_marker(database);
    if damaged.symlink_metadata().is_ok() {
        return Err(StartError::Damaged(database.to_owned(), damaged));
    }
    match database.metadata() {
        Ok(found) if found.is_file() && found.nlink() > 1 => {
            Err(StartError::HardLinked(database.to_owned()))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What lies beside the database while a restore exchanges it: where the old one goes.
#[must_use]
pub fn restore_marker(database: &Path) -> PathBuf {
    embedded::with(database, ".restoring")
}

/// The same, whatever state the database is in.
///
/// # Errors
/// [`StartError::Locked`].
pub fn lock_for_restore(config: &Config) -> Result<Locks, StartError> {
    let folder = Lock::take(config.data.dir.join("lock"), config.data.dir.clone())?;
    let database = match config.database_file().map(|file| embedded::itself(&file)) {
        // Where there is no folder there is no database: opening it says that better.
        Some(file) if file.parent().is_some_and(Path::is_dir) => {
            Some(Lock::take(embedded::with(&file, ".lock"), file)?)
        }
        Some(_) | None => None,
    };
    Ok(Locks { folder, database })
}

impl Lock {
    fn take(path: PathBuf, what: PathBuf) -> Result<Self, StartError> {
        // Opening a pipe would wait for whoever reads from it.
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(StartError::File {
                path,
                problem: "is no file; remove it".to_owned(),
            });
        }
        let file = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| StartError::file(&path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, what, file }),
            Err(TryLockError::WouldBlock) => Err(StartError::Locked(what)),
            Err(TryLockError::Error(error)) => Err(StartError::file(&path, error)),
        }
    }

    /// Takes it again if somebody has deleted its file: the next gateway would make another one,
    /// and lock that.
    fn take_again(&mut self) -> Result<(), StartError> {
        if is_at(&self.file, &self.path) {
            return Ok(());
        }
        let again = Self::take(self.path.clone(), self.what.clone())?;
        tracing::warn!(file = %self.path.display(), "the lock of this gateway was deleted, and is \
                                                     taken again");
        *self = again;
        Ok(())
    }
}

/// Whether this is the file that lies there. Where nobody can tell, it is.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        (Ok(_), Err(error)) => error.kind() != std::io::ErrorKind::NotFound,
        (Err(_), _) => true,
    }
}

/// Keeps the locks until it is ended. Where the database's was lost to another gateway, this one
/// writes nothing any more.
pub async fn keep(mut locks: Locks, store: Store) {
    let (mut missed, mut said) = (0_u32, false);
    while missed < LOST_AFTER {
        tokio::time::sleep(LOOK_EVERY).await;
        let folder = locks.folder.take_again();
        let database = locks.database.as_mut().map_or(Ok(()), Lock::take_again);
        missed = if matches!(database, Err(StartError::Locked(_))) {
            missed.saturating_add(1)
        } else {
            0
        };

        let wrong = folder.and(database).err();
        if let Some(error) = wrong.as_ref().filter(|_| !said) {
            tracing::error!(%error, "the lock of this gateway was deleted, and cannot be taken \
                                     again");
        }
        said = wrong.is_some();
    }
    store.give_up();
    // What is still open is closed under the lock of the folder.
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_whose_file_was_deleted_is_taken_again_unless_somebody_else_was_faster() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db.lock");
        let take = || Lock::take(path.clone(), PathBuf::from("a.db"));
        let mut lock = take().unwrap();
        assert!(matches!(take(), Err(StartError::Locked(_))), "it is held");
        lock.take_again().unwrap();

        std::fs::remove_file(&path).unwrap();
        lock.take_again().unwrap();
        assert!(
            matches!(take(), Err(StartError::Locked(_))),
            "it is held again"
        );

        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(take(), Err(StartError::File { .. })), "no file");
        std::fs::remove_dir(&path).unwrap();
        let other = take().unwrap();
        assert!(matches!(lock.take_again(), Err(StartError::Locked(_))));
        drop(other);
        lock.take_again().unwrap();
    }
}

//! Whether the embedded database's file is still the one that was opened. SQLite goes on writing
//! into a file that somebody has deleted, moved away or put another one in the place of, and says
//! that all is well; the next start knows nothing of it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use sea_orm::DbErr;

use crate::embedded::{LOG_HEAD, damage_marker, with};

/// Device and number of a file.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    path.metadata().ok().map(|found| (found.dev(), found.ino()))
}

/// A database's file and its log, as they were opened.
#[derive(Debug)]
pub(super) struct Seat {
    file: PathBuf,
    log: PathBuf,
    opened: Mutex<(Option<Identity>, Option<Identity>)>,
    /// How long the log was when it was last looked at.
    log_length: AtomicU64,
    is_lost: AtomicBool,
    is_damaged: AtomicBool,
}

impl Seat {
    pub(super) fn new(file: PathBuf) -> Self {
        Self {
            log: with(&file, "-wal"),
            file,
            opened: Mutex::default(),
            log_length: AtomicU64::new(0),
            is_lost: AtomicBool::new(false),
            is_damaged: AtomicBool::new(false),
        }
    }

    /// The connection that writes was made. Its file is the one that was there before, or the first
    /// one.
    pub(super) fn opened(&self) {
        let mut opened = self.opened.lock();
        opened.0 = opened.0.or_else(|| identity(&self.file));
        opened.1 = identity(&self.log);
    }

    /// For every use of a connection.
    ///
    /// # Errors
    /// The file is not there any more, and will not be until somebody has looked.
    pub(super) fn is_there(&self) -> Result<(), DbErr> {
        let opened = self.opened.lock().0;
        let is_other = opened.is_some_and(|opened| identity(&self.file) != Some(opened));
        self.lose_if(
            is_other,
            "the database's file was deleted, moved or exchanged beneath this gateway: nothing is \
            written any more; stop it, put the file back, start it again",
        )
    }

    /// For a connection that writes and is held: its log cannot have gone by itself.
    ///
    /// # Errors
    /// It has.
    pub(super) fn has_its_log(&self) -> Result<(), DbErr> {
        let now = identity(&self.log);
        let mut opened = self.opened.lock();
        // It is made by the first one who writes.
        let log = *opened.1.get_or_insert_with(|| now.unwrap_or_default());
        drop(opened);
        // SQLite begins it anew from its beginning, and makes it no shorter than it keeps it.
        let length = self.log.metadata().map_or(0, |found| found.len());
        let was_emptied =
            self.log_length.swap(length, Ordering::Relaxed) >= LOG_HEAD && length < LOG_HEAD;
        self.lose_if(
            now != Some(log) || was_emptied,
            "the log of the database's file (its -wal) was deleted, emptied or exchanged beneath this \
            gateway: nothing is written any more; stop it with SIGTERM, which writes back what it \
            still knows (a kill would lose that), and start it again",
        )
    }

    /// SQLite has found pages that are none. Others can still be read, but whatever is written may
    /// rest on what is not there any more: nothing is, and no gateway starts on the file, until
    /// somebody has looked.
    pub(super) fn damage(&self, error: &DbErr) {
        if !self.is_damaged.swap(true, Ordering::Relaxed) {
            if let Err(error) = std::fs::write(damage_marker(&self.file), error.to_string()) {
                tracing::error!(%error, "that the database is damaged could not be noted beside it");
            }
            tracing::error!(
                file = %self.file.display(), %error,
                "the database's file is damaged: stop this gateway, keep the file, and bring a \
                backup back with `interlock restore FILE`"
            );
        }
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::Relaxed)
    }

    /// For every transaction that writes.
    ///
    /// # Errors
    /// The file is damaged.
    pub(super) fn is_whole(&self) -> Result<(), DbErr> {
        match self.is_damaged() {
            false => Ok(()),
            true => Err(DbErr::Custom(
                "the database's file is damaged: nothing is written into it".to_owned(),
            )),
        }
    }

    /// Another gateway may write into the file.
    pub(super) fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    fn lose_if(&self, is_other: bool, told: &str) -> Result<(), DbErr> {
        if is_other && !self.is_lost.swap(true, Ordering::Relaxed) {
            tracing::error!(file = %self.file.display(), "{told}");
        }
        match self.is_lost.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(DbErr::Custom(
                "the database's file is not this gateway's any more".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_place_of_another_is_not_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        std::fs::write(&file, "one").unwrap();
        let seat = Seat::new(file.clone());
        assert!(seat.is_there().is_ok(), "nothing was opened yet");
        seat.opened();
        std::fs::write(with(&file, "-wal"), "log").unwrap();
        assert!(seat.is_there().is_ok() && seat.has_its_log().is_ok());
        seat.opened();
        assert!(seat.has_its_log().is_ok());

        std::fs::write(folder.path().join("b.db"), "two").unwrap();
        std::fs::rename(folder.path().join("b.db"), &file).unwrap();
        assert!(seat.is_there().is_err());
        seat.opened();
        std::fs::remove_file(&file).unwrap();
        assert!(
            seat.is_there().is_err() && seat.has_its_log().is_err(),
            "it stays lost"
        );

        let emptied = Seat::new(folder.path().join("e.db"));
        std::fs::write(folder.path().join("e.db"), "four").unwrap();
        std::fs::write(folder.path().join("e.db-wal"), [7; 64]).unwrap();
        emptied.opened();
        assert!(emptied.has_its_log().is_ok());
        std::fs::write(folder.path().join("e.db-wal"), [7; 48]).unwrap();
        assert!(emptied.has_its_log().is_ok(), "it was begun anew");
        std::fs::write(folder.path().join("e.db-wal"), "").unwrap();
        assert!(emptied.is_there().is_ok() && emptied.has_its_log().is_err());

        let seat = Seat::new(folder.path().join("c.db"));
        std::fs::write(folder.path().join("c.db"), "three").unwrap();
        std::fs::write(folder.path().join("c.db-wal"), "log").unwrap();
        seat.opened();
        std::fs::remove_file(folder.path().join("c.db-wal")).unwrap();
        assert!(seat.is_there().is_ok() && seat.has_its_log().is_err());
    }
}

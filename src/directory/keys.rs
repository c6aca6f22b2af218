//! API keys in memory: all that are in use, so that a key that is not among them costs the database
//! nothing. Whether they are still right is asked of the database by [`super::Directory`]; here is
//! only what was read, and when.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::domain::Timestamp;
use crate::store::KeyRow;

/// What was read of keys is believed for so long: a key that is revoked works nowhere a second
/// later, also on a gateway that hears nothing from the database any more.
pub(super) const BELIEVED: Duration = Duration::from_millis(900);
/// Between two questions for the sake of a key that is not known, at least this long, however many
/// ask: whoever asks in between waits for the next answer.
pub(super) const APART: Duration = Duration::from_millis(100);
/// A use is noted only when the one noted before is so much older: the memory of busy keys stays
/// where it is.
const WORTH_NOTING_MS: i64 = 1_000;

/// A key that is in use.
#[derive(Debug)]
pub struct Key {
    /// Its row as it was read.
    pub row: KeyRow,
    used_ms: AtomicI64,
    written_ms: AtomicI64,
}

impl Key {
    fn of(row: KeyRow) -> Self {
        let at = row.last_used_at.map_or(0, |at| at.0);
        Self {
            row,
            used_ms: AtomicI64::new(at),
            written_ms: AtomicI64::new(at),
        }
    }

    /// It is being used.
    pub fn use_at(&self, now: Timestamp) {
        if now.0.saturating_sub(self.used_ms.load(Ordering::Relaxed)) >= WORTH_NOTING_MS {
            self.used_ms.fetch_max(now.0, Ordering::Relaxed);
        }
    }

    /// When it was last used, as far as this gateway knows.
    #[must_use]
    pub fn last_used(&self) -> Option<Timestamp> {
        Some(Timestamp(self.used_ms.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }

    /// Its last use, if that is not written down yet.
    fn unwritten(&self) -> Option<Timestamp> {
        let used = self.used_ms.load(Ordering::Relaxed);
        (used > self.written_ms.load(Ordering::Relaxed)).then_some(Timestamp(used))
    }

    fn is_same(&self, row: &KeyRow) -> bool {
        self.row.digest == row.digest && self.row.scopes == row.scopes && self.row.name == row.name
    }
}

/// Those that are in use.
#[derive(Debug, Default)]
pub(super) struct Keys {
    by_digest: RwLock<Arc<HashMap<String, Arc<Key>>>>,
    /// Those that were revoked, until their last use is written down: somebody will want to know.
    gone: Mutex<Vec<Arc<Key>>>,
    /// When the last question to the database began whose answer is what stands here.
    confirmed: RwLock<Option<Instant>>,
}

impl Keys {
    fn now(&self) -> Arc<HashMap<String, Arc<Key>>> {
        Arc::clone(&self.by_digest.read())
    }

    pub(super) fn get(&self, digest: &str) -> Option<Arc<Key>> {
        self.now().get(digest).cloned()
    }

    /// When a key was last used, as far as this gateway knows; also of one that was just revoked.
    pub(super) fn last_used(&self, id: &str) -> Option<Timestamp> {
        let gone = self.gone.lock();
        self.now()
            .values()
            .chain(gone.iter())
            .find(|key| key.row.id == id)?
            .last_used()
    }

    pub(super) fn len(&self) -> usize {
        self.now().len()
    }

    /// Replaces all of them; what is known of their use goes on.
    pub(super) fn replace(&self, rows: Vec<KeyRow>) {
        let before = self.now();
        let next = rows.into_iter().map(|row| {
            let known = before.get(&row.digest).filter(|known| known.is_same(&row));
            (
                row.digest.clone(),
                known.cloned().unwrap_or_else(|| Arc::new(Key::of(row))),
            )
        });
        let next: HashMap<String, Arc<Key>> = next.collect();

        let is_kept = |key: &Arc<Key>| {
            next.get(&key.row.digest)
                .is_some_and(|kept| Arc::ptr_eq(kept, key))
        };
        let gone = before
            .values()
            .filter(|key| !is_kept(key) && key.unwritten().is_some())
            .cloned();
        self.gone.lock().extend(gone);
        *self.by_digest.write() = Arc::new(next);
    }

    /// What stands here was true at `at`.
    pub(super) fn confirm(&self, at: Instant) {
        let mut confirmed = self.confirmed.write();
        *confirmed = (*confirmed).max(Some(at));
    }

    pub(super) fn confirmed(&self) -> Option<Instant> {
        *self.confirmed.read()
    }

    /// Keys that were used since that was last written down.
    pub(super) fn used(&self) -> Vec<(String, Timestamp)> {
        let gone = self.gone.lock();
        let news = |key: &Arc<Key>| Some((key.row.id.clone(), key.unwritten()?));
        self.now()
            .values()
            .chain(gone.iter())
            .filter_map(news)
            .collect()
    }

    pub(super) fn written(&self, used: &[(String, Timestamp)]) {
        let used: HashMap<&str, i64> = used.iter().map(|(id, at)| (id.as_str(), at.0)).collect();
        let mut gone = self.gone.lock();
        for key in self.now().values().chain(gone.iter()) {
            if let Some(at) = used.get(key.row.id.as_str()) {
                key.written_ms.fetch_max(*at, Ordering::Relaxed);
            }
        }
        gone.retain(|key| key.unwritten().is_some());
    }
}

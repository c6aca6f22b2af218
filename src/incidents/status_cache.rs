//! What this gateway remembers of incidents, so that the public page asks no database: the last
//! days' history, what lasts, and whether the database answers. Filled by a job; never the truth
//! about an incident.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::store::IncidentRow;

/// What is remembered.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The database does not answer, or takes no commits.
    pub database_away: bool,
    /// Incidents that last, and those of the last days, newest first.
    pub incidents: Vec<IncidentRow>,
}

/// What this gateway remembers.
#[derive(Debug, Default)]
pub struct Recent {
    seen: RwLock<Arc<Seen>>,
}

impl Recent {
    /// What is remembered now.
    #[must_use]
    pub fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen.read())
    }

    /// The incidents were read just now.
    pub fn learn(&self, incidents: Vec<IncidentRow>) {
        self.set(Seen {
            database_away: false,
            incidents,
        });
    }

    /// The database cannot be used. What was known stays.
    pub fn database_is_away(&self) {
        let known = self.seen();
        if !known.database_away {
            self.set(Seen {
                database_away: true,
                ..Seen::clone(&known)
            });
        }
    }

    fn set(&self, seen: Seen) {
        *self.seen.write() = Arc::new(seen);
    }
}

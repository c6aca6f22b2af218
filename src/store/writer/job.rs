//! A change that waits to be written, and what whoever waits for it is told.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::domain::Owner;
use crate::store::change::{Change, CommitError};

pub(super) type Verdict = Result<(), CommitError>;

pub(super) struct Job {
    pub(super) change: Change,
    pub(super) since: Instant,
    pub(super) done: oneshot::Sender<Verdict>,
}

impl Job {
    pub(super) const fn owner(&self) -> &Owner {
        &self.change.after.payment.owner
    }
}

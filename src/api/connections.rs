//! How many connections are open. Clients and balancers keep theirs for longer than a minute;
//! beyond so many, each answer ends its connection, so that those that wait for nothing never take
//! the room of those that pay.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts them.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    kept: usize,
}

/// One that is open, until it is dropped.
#[derive(Debug)]
pub struct Open(Arc<Connections>);

impl Connections {
    /// Of more than `kept`, none is kept after its answer.
    #[must_use]
    pub fn new(kept: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            kept,
        })
    }

    /// One more.
    #[must_use]
    pub fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(self))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether there are more than are kept.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.count() > self.kept
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

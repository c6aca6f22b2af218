//! Why work on a payment stopped.

use crate::domain::Illegal;
use crate::domain::id::NoRandomness;
use crate::store::{self, CommitError};

/// Why work on a payment stopped. Its rows are as they were; the resolver goes on from them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error(transparent)]
    Database(#[from] store::Error),
    /// Writing failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A decision that the state does not allow: a defect, or a race that the next reading ends.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// No ids can be made.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// A provider was asked, and what it knows is not known.
    #[error("the provider does not say: {0}")]
    ProviderUnclear(String),
    /// A row names something that is not there.
    #[error("{0} is gone")]
    Missing(String),
}

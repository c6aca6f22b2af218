//! What is done with payments: one file, one verb. Every provider call on the path of money is made here.
//!
//! A payment is read, decided about by a pure function, and written by compare-and-set; when somebody else was
//! first, it is read and decided about again. No transaction is open while a provider is called.

pub mod aside;
mod attempt_outcome;
#[cfg(feature = "testing")]
mod broken;
pub mod by_hand;
pub mod capture;
pub mod close;
pub mod decide;
pub mod events;
pub mod failure;
pub mod give_back;
mod judge;
mod notified;
pub mod notify;
pub mod pay;
pub mod plan;
pub mod queue;
pub mod refund;
mod refund_outcome;
mod renumber;
pub mod resolve;
pub mod reverse;
pub mod schedule;
pub mod unwritten;
pub mod view;
pub mod work_list;

use sea_orm::DbErr;

use crate::domain::Illegal;
use crate::domain::id::NoRandomness;
use crate::store::CommitError;

/// Why work on a payment stopped. Its rows are as they were; the resolver goes on from them.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Reading failed.
    #[error(transparent)]
    Database(#[from] DbErr),
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
    Unanswered(String),
    /// A row names something that is not there.
    #[error("{0} is gone")]
    Gone(String),
}

/// How often a decision is taken again when somebody else changed the payment first. Each time somebody has got
/// on; so many at once on one payment are refunds of its many parts.
pub(crate) const DECISIONS: usize = 64;

//! Why a database is not filled.

use std::io;

use crate::domain::Illegal;
use crate::domain::id::NoRandomness;
use crate::store::{self, OpenError};

/// Why a database is not filled.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database, after it was opened.
    #[error("database: {0}")]
    Database(#[from] store::Error),
    /// Nobody reads what is said.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// It holds something else.
    #[error("this database {0}: nothing was changed; give --database another one")]
    Refused(String),
    /// A life cannot go on like that.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// No event gets an id.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// An amount that there is not.
    #[error("an amount: {0}")]
    Money(#[from] providers::money::MoneyError),
    /// The plan cannot be read or written.
    #[error("the plan: {0}")]
    Plan(#[from] serde_json::Error),
    /// There is nobody to pay.
    #[error("a payment needs a merchant and an attempt")]
    Nobody,
    /// What makes lives has ended.
    #[error("the lives were not made to their end")]
    Stopped,
}

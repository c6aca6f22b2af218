//! Why a command did nothing.

use std::path::PathBuf;

use crate::directory::issue::IssueError;
use crate::installation::StartError;
use crate::store;

/// What an operator does about it.
pub(super) const NO_DATABASE: &str = "there is no database; --data says where it is, and \
                                      `interlock serve` or `interlock migrate` makes one";
/// Why a command did nothing. One line for whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What is wrong with what was asked, or what went wrong.
    #[error("{0}")]
    Said(String),
    /// The database cannot be opened.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The database, after it was opened.
    #[error("database: {0}")]
    Query(#[from] store::Error),
    /// A gateway has the database, and cannot be asked.
    #[error("{}: another interlock runs on this folder, and cannot be asked: {problem}",
        folder.display())]
    Unreachable {
        /// Its data folder.
        folder: PathBuf,
        /// Why.
        problem: String,
    },
}

impl Failure {
    pub(super) fn said(text: impl Into<String>) -> Self {
        Self::Said(text.into())
    }
}

impl From<IssueError> for Failure {
    fn from(error: IssueError) -> Self {
        StartError::from(error).into()
    }
}

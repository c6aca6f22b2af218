//! Why the database did not do what it was asked. Which library speaks to it, nobody outside of
//! this folder knows.

use sea_orm::DbErr;

use super::connection::is_no_answer;

/// Why the database did not do what it was asked. Of a write it is not known whether it was done:
/// the rows decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It gives no connection, or no answer.
    #[error("{0}")]
    Unavailable(String),
    /// A row holds what this version cannot read.
    #[error("{table} {id}: column {column} holds what this version cannot read")]
    Unreadable {
        /// The table.
        table: String,
        /// The row's id.
        id: String,
        /// The column.
        column: String,
    },
    /// A row that has to be there is not.
    #[error("{0} is not there")]
    Missing(String),
    /// Anything else: it refuses the statement, or what came back is not what was asked for.
    #[error("{0}")]
    Other(String),
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let text = error.to_string();
        if matches!(error, DbErr::Conn(_)) || is_no_answer(&error) {
            Self::Unavailable(text)
        } else {
            Self::Other(text)
        }
    }
}

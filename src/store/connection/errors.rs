//! What an error says of the database: whether it was waited for in vain, is damaged, or may be
//! other than it seems.

use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr};

const NO_ANSWER: &str = "the database has not answered within";

pub(super) fn no_answer(patience: Duration) -> DbErr {
    DbErr::Conn(RuntimeErr::Internal(format!(
        "{NO_ANSWER} {} s",
        patience.as_secs()
    )))
}

/// Whether the database was waited for in vain: asking again at once would wait as long.
pub(in crate::store) fn is_no_answer(error: &DbErr) -> bool {
    if let DbErr::Conn(RuntimeErr::Internal(text)) = error {
        return text.starts_with(NO_ANSWER);
    }
    matches!(error, DbErr::ConnectionAcquire(_))
}

/// Whether what was to be written is refused, or cannot be read back, whenever it is tried: it is
/// no sign of trouble.
pub(in crate::store) fn is_about_values(error: &DbErr) -> bool {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else {
        return false;
    };
    let RuntimeErr::SqlxError(inner) = inner else {
        return false;
    };
    let sqlx::Error::Database(said) = &**inner else {
        // What cannot be read back is one merchant's row, and nobody else's trouble.
        return matches!(
            **inner,
            sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }
        );
    };

    let code = said.code().unwrap_or_default();
    match said.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
        // TOOBIG, CONSTRAINT and MISMATCH.
        Some(_) => code
            .parse::<u32>()
            .is_ok_and(|code| matches!(code & 0xff, 18..=20)),
        // Data exceptions and constraints.
        None => code.starts_with("22") || code.starts_with("23"),
    }
}

/// Whether connections on which this happened may be other than they seem.
pub(super) fn is_doubtful(error: &DbErr) -> bool {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else {
        return false;
    };
    let RuntimeErr::SqlxError(inner) = inner else {
        return true;
    };
    let sqlx::Error::Database(said) = &**inner else {
        return !matches!(
            **inner,
            sqlx::Error::RowNotFound
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Encode(_)
                | sqlx::Error::Decode(_)
                | sqlx::Error::TypeNotFound { .. }
        );
    };

    let code = said.code().unwrap_or_default();
    match said.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
        // BUSY, LOCKED and CONSTRAINT leave everything as it was. Others may have ended a
        // transaction.
        Some(_) => code
            .parse::<u32>()
            .map_or(true, |code| !matches!(code & 0xff, 5 | 6 | 19)),
        // Read-only, no connection, shut down, trouble of the system, a defect of the server.
        None => {
            code == "25006"
                || ["08", "57P", "58", "XX"]
                    .iter()
                    .any(|class| code.starts_with(class))
        }
    }
}

/// SQLITE_CORRUPT or SQLITE_NOTADB: the file is not what SQLite has written.
pub(super) fn is_damage(error: &DbErr) -> bool {
    let (DbErr::Conn(inner) | DbErr::Exec(inner) | DbErr::Query(inner)) = error else {
        return false;
    };
    let RuntimeErr::SqlxError(inner) = inner else {
        return false;
    };
    let sqlx::Error::Database(said) = &**inner else {
        return false;
    };
    let code = said
        .try_downcast_ref::<sqlx::sqlite::SqliteError>()
        .and_then(|_| said.code()?.parse::<u32>().ok());
    code.is_some_and(|code| matches!(code & 0xff, 11 | 26))
}

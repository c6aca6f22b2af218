//! Which statements a piece of work sends to the database: for whoever asks how that will answer
//! them. The statements are those themselves, with their values; nothing is written twice.

use std::cell::RefCell;

use sea_orm::Statement;

tokio::task_local! {
    static SENT: RefCell<Vec<Statement>>;
}

/// A statement as it was sent.
#[derive(Debug, Clone)]
pub struct Sent(pub(super) Statement);

impl Sent {
    /// Its text.
    #[must_use]
    pub fn sql(&self) -> &str {
        &self.0.sql
    }
}

/// Takes down a statement, if somebody wants to know.
pub(super) fn note(statement: &Statement) {
    let _ = SENT.try_with(|sent| sent.borrow_mut().push(statement.clone()));
}

/// Does some work, and says what it has asked the database meanwhile. What other tasks do for it is
/// not seen.
pub async fn sent_by<T>(work: impl Future<Output = T>) -> (T, Vec<Sent>) {
    let noted = async {
        let done = work.await;
        (
            done,
            SENT.with(RefCell::take).into_iter().map(Sent).collect(),
        )
    };
    SENT.scope(RefCell::default(), noted).await
}

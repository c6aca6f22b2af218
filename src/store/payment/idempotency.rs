//! Idempotency keys: which request made what, and what it was answered. Truth lives here, never in
//! a cache.
//!
//! A key belongs to an owner. The table's primary key has no mode, since a gateway of the version
//! before, which may work beside this one for the length of a rolling restart, claims keys by it.
//! So the mode is part of the stored operation: `test:payments` in test mode, `payments` for real
//! money, as it always was. The migration has renamed the rows of test payments. What can still lie
//! under the plain name in test mode was written by such a gateway meanwhile; it is found as well
//! (`key_is`), and on PostgreSQL a trigger refuses to claim a test key beside it, so that a request
//! repeated to either gateway finds its payment. For real money both versions use one name and one
//! primary key: never two payments. The other way round, a test key claimed here is unknown to the
//! gateway before; what it makes of it meets the order number's guard. A live key that such a
//! gateway has given to a test payment is refused as used for another request.

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, QueryFilter as _};

use crate::domain::id::PaymentId;
use crate::domain::{Aggregate, Timestamp};
use crate::store::Error;
use crate::store::Store;
use crate::store::beside::key_is;
use crate::store::change::{Key, KeyScope, StoredAnswer};
use crate::store::payment::entity::{idempotency_key as table, payment};
use crate::store::payment::find as payments;

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key and its request.
    pub key: Key,
    /// The payment that the request is about.
    pub payment_id: PaymentId,
    /// The answer, once there is one.
    pub answer: Option<StoredAnswer>,
}

impl Store {
    /// What is stored under a key, if it was ever claimed.
    ///
    /// # Errors
    /// The database's.
    pub async fn key(&self, scope: &KeyScope) -> Result<Option<StoredKey>, Error> {
        find(&self.db, scope).await
    }

    /// What is stored under a key, and its payment as it was at the same moment: a payment that
    /// nobody works on any more is then never seen without the answer that was written together
    /// with that.
    ///
    /// # Errors
    /// The database's.
    pub async fn key_with_payment(
        &self,
        scope: &KeyScope,
    ) -> Result<Option<(StoredKey, Aggregate)>, Error> {
        let snapshot = self.db.snapshot().await?;
        let Some(stored) = find(&snapshot, scope).await? else {
            return Ok(None);
        };
        let found = payments::find(
            &snapshot,
            payment::Entity::find_by_id(stored.payment_id.clone()),
        )
        .await?
        .pop();
        snapshot.commit().await?;
        let gone = || Error::Missing(format!("payment {}", stored.payment_id));
        let aggregate = found.ok_or_else(gone)?;
        Ok(Some((stored, aggregate)))
    }

    /// Stores the answer of a key whose payment has already been written, and returns the one that
    /// stands: the first one stays.
    ///
    /// # Errors
    /// The database's.
    pub async fn answer_key(
        &self,
        scope: &KeyScope,
        answer: StoredAnswer,
    ) -> Result<StoredAnswer, Error> {
        let stored = table::Entity::update_many()
            .col_expr(
                table::Column::AnswerStatus,
                Expr::value(i32::from(answer.status)),
            )
            .col_expr(table::Column::AnswerBody, Expr::value(answer.body.clone()))
            .col_expr(
                table::Column::AnsweredState,
                Expr::value(answer.state.clone()),
            )
            .col_expr(
                table::Column::AnsweredAttempt,
                Expr::value(answer.attempt_id.clone()),
            )
            .filter(key_is(scope))
            .filter(table::Column::AnswerStatus.is_null())
            .exec(&self.db)
            .await?;

        if stored.rows_affected > 0 {
            return Ok(answer);
        }
        let first = find(&self.db, scope)
            .await?
            .and_then(|stored| stored.answer);

        Ok(first.unwrap_or(answer))
    }
}

async fn find(db: &impl ConnectionTrait, scope: &KeyScope) -> Result<Option<StoredKey>, Error> {
    let row = table::Entity::find().filter(key_is(scope)).one(db).await?;

    Ok(row.map(|m| StoredKey {
        answer: match (m.answer_status, m.answer_body, m.answered_state) {
            (Some(status), Some(body), Some(state)) => {
                u16::try_from(status).ok().map(|status| StoredAnswer {
                    status,
                    body,
                    state,
                    attempt_id: m.answered_attempt,
                })
            }
            (None, _, _) | (_, None, _) | (_, _, None) => None,
        },
        key: Key {
            scope: scope.clone(),
            fingerprint: m.fingerprint,
            resource_id: m.resource_id,
            created_at: Timestamp(m.created_at),
        },
        payment_id: m.payment_id,
    }))
}

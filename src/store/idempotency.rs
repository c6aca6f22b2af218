//! Idempotency keys: which request made what, and what it was answered. Truth lives here, never in a cache.

use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _,
};

use super::change::{Key, KeyScope, StoredAnswer};
use super::entity::{idempotency_key as table, payment};
use super::{Store, payments};
use crate::domain::{Aggregate, Timestamp};

/// What is stored under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key and its request.
    pub key: Key,
    /// The payment that the request is about.
    pub payment_id: String,
    /// The answer, once there is one.
    pub answer: Option<StoredAnswer>,
}

impl Store {
    /// What is stored under a key, if it was ever claimed.
    ///
    /// # Errors
    /// The database's.
    pub async fn key(&self, scope: &KeyScope) -> Result<Option<StoredKey>, DbErr> {
        find(&self.db, scope).await
    }

    /// What is stored under a key, and its payment as it was at the same moment: a payment that nobody works on any
    /// more is then never seen without the answer that was written together with that.
    ///
    /// # Errors
    /// The database's.
    pub async fn key_with_payment(&self, scope: &KeyScope) -> Result<Option<(StoredKey, Aggregate)>, DbErr> {
        let snapshot = self.snapshot().await?;
        let Some(stored) = find(&snapshot, scope).await? else { return Ok(None) };
        let found = payments::find(&snapshot, payment::Entity::find_by_id(&stored.payment_id)).await?.pop();
        snapshot.commit().await?;
        let gone = || DbErr::RecordNotFound(format!("payment {}", stored.payment_id));
        let aggregate = found.ok_or_else(gone)?;
        Ok(Some((stored, aggregate)))
    }

    /// Stores the answer of a key whose payment has already been written, and returns the one that stands: the first one
    /// stays.
    ///
    /// # Errors
    /// The database's.
    pub async fn answer_key(&self, scope: &KeyScope, answer: StoredAnswer) -> Result<StoredAnswer, DbErr> {
        let stored = table::Entity::update_many()
            .col_expr(table::Column::AnswerStatus, Expr::value(i32::from(answer.status)))
            .col_expr(table::Column::AnswerBody, Expr::value(answer.body.clone()))
            .col_expr(table::Column::AnsweredState, Expr::value(answer.state.clone()))
            .col_expr(table::Column::AnsweredAttempt, Expr::value(answer.attempt_id.clone()))
            .filter(key_is(scope))
            .filter(table::Column::AnswerStatus.is_null())
            .exec(&self.db)
            .await?;
        if stored.rows_affected > 0 {
            return Ok(answer);
        }
        let first = find(&self.db, scope).await?.and_then(|stored| stored.answer);
        Ok(first.unwrap_or(answer))
    }
}

async fn find(db: &impl ConnectionTrait, scope: &KeyScope) -> Result<Option<StoredKey>, DbErr> {
    let row = table::Entity::find().filter(key_is(scope)).one(db).await?;
    Ok(row.map(|m| StoredKey {
        answer: match (m.answer_status, m.answer_body, m.answered_state) {
            (Some(status), Some(body), Some(state)) => u16::try_from(status).ok().map(|status| StoredAnswer {
                status,
                body,
                state,
                attempt_id: m.answered_attempt,
            }),
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

/// A filter for one key.
pub(super) fn key_is(scope: &KeyScope) -> Condition {
    Condition::all()
        .add(table::Column::MerchantId.eq(&scope.merchant_id))
        .add(table::Column::Operation.eq(&scope.operation))
        .add(table::Column::Key.eq(&scope.key))
}

/// A key's row.
pub(super) fn row(key: &Key, payment_id: &str, answer: Option<&StoredAnswer>) -> table::ActiveModel {
    table::Model {
        merchant_id: key.scope.merchant_id.clone(),
        operation: key.scope.operation.clone(),
        key: key.scope.key.clone(),
        fingerprint: key.fingerprint.clone(),
        payment_id: payment_id.to_owned(),
        resource_id: key.resource_id.clone(),
        created_at: key.created_at.0,
        answer_status: answer.map(|a| i32::from(a.status)),
        answer_body: answer.map(|a| a.body.clone()),
        answered_state: answer.map(|a| a.state.clone()),
        answered_attempt: answer.and_then(|a| a.attempt_id.clone()),
    }
    .into_active_model()
    .reset_all()
}

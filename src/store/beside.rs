//! What is written beside a payment's own rows, in the same transaction: keys, notifications, the
//! work list, the ledger.

use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, DbErr, EntityTrait as _,
    IntoActiveModel as _, QueryFilter as _,
};

use super::change::{
    Change, DecisionStep, Inbox, Key, KeyScope, Resolution, ReviewItem, StoredAnswer,
};
use super::connection::Tx;
use crate::domain::Mode;
use crate::domain::id::PaymentId;
use crate::domain::ledger::Entry;
use crate::store::ledger::entity::ledger_entry;
use crate::store::payment::entity::{idempotency_key, notification, payment};
use crate::store::review::entity::{operation, operation_step};

/// A filter for one key.
pub(super) fn key_is(scope: &KeyScope) -> Condition {
    let named = Condition::all()
        .add(idempotency_key::Column::MerchantId.eq(&scope.owner.merchant))
        .add(idempotency_key::Column::Key.eq(&scope.key));
    let name = stored_operation(scope);

    match scope.owner.mode {
        Mode::Live => named.add(idempotency_key::Column::Operation.eq(name)),
        Mode::Test => {
            let of_test_payment = Query::select()
                .expr(Expr::val(1))
                .from(payment::Entity)
                .and_where(
                    Expr::col((payment::Entity, payment::Column::Id))
                        .equals((idempotency_key::Entity, idempotency_key::Column::PaymentId)),
                )
                .and_where(Expr::col((payment::Entity, payment::Column::Livemode)).eq(false))
                .to_owned();
            named
                .add(idempotency_key::Column::Operation.is_in([name.as_str(), &scope.endpoint]))
                .add(
                    idempotency_key::Column::Operation
                        .eq(name)
                        .or(Expr::exists(of_test_payment)),
                )
        }
    }
}

/// The operation as a key of this owner is stored under it.
fn stored_operation(scope: &KeyScope) -> String {
    match scope.owner.mode {
        Mode::Live => scope.endpoint.clone(),
        Mode::Test => format!("test:{}", scope.endpoint),
    }
}

/// A key's row.
pub(super) fn key_row(
    key: &Key,
    payment_id: &PaymentId,
    answer: Option<&StoredAnswer>,
) -> idempotency_key::ActiveModel {
    idempotency_key::Model {
        merchant_id: key.scope.owner.merchant.clone(),
        operation: stored_operation(&key.scope),
        key: key.scope.key.clone(),
        fingerprint: key.fingerprint.clone(),
        payment_id: payment_id.clone(),
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

pub(super) fn notification_row(
    inbox: &Inbox,
    payment_id: Option<&PaymentId>,
) -> notification::ActiveModel {
    notification::Model {
        account_id: inbox.account_id.clone(),
        notification_id: inbox.notification_id.clone(),
        verdict: inbox.verdict.to_owned(),
        payment_id: payment_id.cloned(),
        body: inbox.body.clone(),
        received_at: inbox.received_at.0,
    }
    .into_active_model()
    .reset_all()
}

pub(super) fn operation_row(entry: &ReviewItem) -> operation::ActiveModel {
    operation::Model {
        id: entry.id.clone(),
        merchant_id: entry.owner.merchant.clone(),
        livemode: entry.owner.is_live(),
        kind: entry.kind.to_string(),
        subject_id: entry.subject_id.clone(),
        detail: entry.detail.clone(),
        created_at: entry.created_at.0,
        resolved_at: None,
        proposal_id: None,
        resolution: None,
    }
    .into_active_model()
    .reset_all()
}

pub(super) fn entry_row(entry: &Entry) -> ledger_entry::ActiveModel {
    let t = &entry.transfer;

    ledger_entry::Model {
        payment_id: entry.payment_id.clone(),
        seq: entry.seq,
        merchant_id: entry.owner.merchant.clone(),
        livemode: entry.owner.is_live(),
        cause: t.cause.to_string(),
        attempt_id: t.attempt_id.clone(),
        refund_id: t.refund_id.clone(),
        account_id: t.account_id.clone(),
        debit: t.debit.to_string(),
        credit: t.credit.to_string(),
        amount: t.amount.minor(),
        currency: t.amount.currency().to_string(),
        at: entry.at.0,
        previous: entry.previous.clone(),
        hash: entry.hash.clone(),
        block: None,
    }
    .into_active_model()
    .reset_all()
}

/// Books what changes move, in their own transaction. Without money there is no statement.
pub(super) async fn insert_entries(tx: &Tx, won: &[&Change]) -> Result<(), DbErr> {
    let rows: Vec<_> = won
        .iter()
        .flat_map(|change| &change.entries)
        .map(entry_row)
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    ledger_entry::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

pub(super) fn step_row(step: &DecisionStep) -> operation_step::ActiveModel {
    operation_step::Model {
        id: step.id.clone(),
        operation_id: step.operation_id.clone(),
        kind: step.kind.to_string(),
        action: step.action.to_string(),
        evidence: step.evidence.clone(),
        note: step.note.clone(),
        key_name: step.key_name.clone(),
        at: step.at.0,
    }
    .into_active_model()
    .reset_all()
}

/// Ends an entry in the transaction of what it decides. `false` when it has ended, or another
/// proposal stands there.
pub(super) async fn end_operation(tx: &Tx, resolution: &Resolution) -> Result<bool, DbErr> {
    use operation::Column as C;

    let done = operation::Entity::update_many()
        .col_expr(C::ResolvedAt, Expr::value(resolution.step.at.0))
        .col_expr(
            C::Resolution,
            Expr::value(resolution.step.action.to_string()),
        )
        .filter(C::Id.eq(&resolution.step.operation_id))
        .filter(C::ResolvedAt.is_null())
        .filter(C::ProposalId.eq(&resolution.proposal_id))
        .exec(tx)
        .await?;

    if done.rows_affected == 0 {
        return Ok(false);
    }
    operation_step::Entity::insert(step_row(&resolution.step))
        .exec_without_returning(tx)
        .await?;

    Ok(true)
}

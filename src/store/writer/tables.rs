//! One batch in one transaction: which of its changes win, and the rows of those that do, with one
//! statement per table.

use sea_orm::sea_query::{Expr, ExprTrait as _, IntoColumnRef as _, OnConflict, SimpleExpr};
use sea_orm::{
    ActiveModelTrait, ColumnTrait as _, DbErr, EntityTrait, IntoActiveModel as _, Iterable,
    PrimaryKeyToColumn as _, QueryFilter as _,
};

use super::job::Verdict;
use crate::domain::id::PaymentId;
use crate::store::beside;
use crate::store::change::{Change, CommitError, KeyWrite};
use crate::store::connection::{Db, Tx};
use crate::store::payment::entity::{idempotency_key, notification, payment};
use crate::store::payment::rows;
use crate::store::review::entity::operation;
use crate::store::webhook::entity::event;

/// Says inside that an entry of the work list has changed meanwhile.
pub(super) const OVERTAKEN: &str = "operation overtaken";

pub(super) async fn try_write(db: &Db, changes: &[&Change]) -> Result<Vec<Verdict>, DbErr> {
    let tx = db.write().await?;
    let mut verdicts: Vec<Verdict> = vec![Ok(()); changes.len()];
    claim_keys(&tx, changes, &mut verdicts).await?;
    claim_inbox(&tx, changes, &mut verdicts).await?;
    insert_payments(&tx, changes, &mut verdicts).await?;
    update_payments(&tx, changes, &mut verdicts).await?;
    give_back_claims(&tx, changes, &verdicts).await?;
    let won: Vec<&Change> = changes
        .iter()
        .zip(&verdicts)
        .filter(|(_, v)| v.is_ok())
        .map(|(c, _)| *c)
        .collect();

    write_children(&tx, &won).await?;
    end_operations(&tx, &won).await?;
    tx.commit().await?;
    Ok(verdicts)
}

/// Marks every candidate that `won` does not name as lost.
fn judge<'a, K: PartialEq>(
    verdicts: &mut [Verdict],
    candidates: impl Iterator<Item = (usize, K)> + 'a,
    won: &[K],
    lost: &CommitError,
) {
    for (index, key) in candidates {
        if !won.contains(&key)
            && let Some(verdict) = verdicts.get_mut(index)
        {
            *verdict = Err(lost.clone());
        }
    }
}

async fn claim_keys(tx: &Tx, changes: &[&Change], verdicts: &mut [Verdict]) -> Result<(), DbErr> {
    let mut rows = Vec::new();
    let mut claims = Vec::new();

    for (index, change) in changes.iter().enumerate() {
        if let Some(KeyWrite::Claim(key)) = &change.key {
            claims.push((index, key.resource_id.clone()));
            rows.push(beside::key_row(key, &change.after.payment.id, None));
        }
    }

    if rows.is_empty() {
        return Ok(());
    }
    let won: Vec<String> = idempotency_key::Entity::insert_many(rows)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_with_returning(tx)
        .await?
        .into_iter()
        .map(|row| row.resource_id)
        .collect();

    judge(verdicts, claims.into_iter(), &won, &CommitError::KeyTaken);
    Ok(())
}

async fn claim_inbox(tx: &Tx, changes: &[&Change], verdicts: &mut [Verdict]) -> Result<(), DbErr> {
    let mut rows = Vec::new();
    let mut claims = Vec::new();

    for (index, (change, verdict)) in changes.iter().zip(verdicts.iter()).enumerate() {
        if let Some(inbox) = change.inbox.as_ref().filter(|_| verdict.is_ok()) {
            claims.push((index, change.after.payment.id.clone()));
            rows.push(beside::notification_row(
                inbox,
                Some(&change.after.payment.id),
            ));
        }
    }

    if rows.is_empty() {
        return Ok(());
    }
    let won: Vec<PaymentId> = notification::Entity::insert_many(rows)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_with_returning(tx)
        .await?
        .into_iter()
        .filter_map(|row| row.payment_id)
        .collect();

    judge(
        verdicts,
        claims.into_iter(),
        &won,
        &CommitError::NotificationStored,
    );

    Ok(())
}

/// Those changes that have not lost yet, new ones or not.
fn still_in<'a>(
    changes: &[&'a Change],
    verdicts: &[Verdict],
    new: bool,
) -> Vec<(usize, &'a Change)> {
    changes
        .iter()
        .enumerate()
        .zip(verdicts)
        .filter(|((_, change), verdict)| verdict.is_ok() && change.is_new == new)
        .map(|((index, change), _)| (index, *change))
        .collect()
}

async fn insert_payments(
    tx: &Tx,
    changes: &[&Change],
    verdicts: &mut [Verdict],
) -> Result<(), DbErr> {
    let candidates = still_in(changes, verdicts, true);
    if candidates.is_empty() {
        return Ok(());
    }
    let won: Vec<PaymentId> = payment::Entity::insert_many(
        candidates
            .iter()
            .map(|(_, change)| rows::payment_row(&change.after, change.at)),
    )
    .on_conflict(OnConflict::new().do_nothing().to_owned())
    .exec_with_returning(tx)
    .await?
    .into_iter()
    .map(|row| row.id)
    .collect();

    let ids = candidates
        .into_iter()
        .map(|(index, change)| (index, change.after.payment.id.clone()));
    judge(verdicts, ids, &won, &CommitError::OrderTaken);

    Ok(())
}

/// The compare-and-set of the whole batch: a row is set only where the stored version is the one
/// that was read.
async fn update_payments(
    tx: &Tx,
    changes: &[&Change],
    verdicts: &mut [Verdict],
) -> Result<(), DbErr> {
    let candidates = still_in(changes, verdicts, false);
    if candidates.is_empty() {
        return Ok(());
    }
    let stored: SimpleExpr =
        Expr::col((payment::Entity, payment::Column::Version).into_column_ref());
    let written: SimpleExpr = Expr::col(("excluded", payment::Column::Version).into_column_ref());
    let won: Vec<PaymentId> = payment::Entity::insert_many(
        candidates
            .iter()
            .map(|(_, change)| rows::payment_row(&change.after, change.at)),
    )
    .on_conflict(
        OnConflict::column(payment::Column::Id)
            .update_columns(payment::Column::iter().filter(|c| !matches!(c, payment::Column::Id)))
            .action_and_where(stored.eq(written.sub(1)))
            .to_owned(),
    )
    .exec_with_returning(tx)
    .await?
    .into_iter()
    .map(|row| row.id)
    .collect();

    let ids = candidates
        .into_iter()
        .map(|(index, change)| (index, change.after.payment.id.clone()));
    judge(verdicts, ids, &won, &CommitError::VersionConflict);

    Ok(())
}

/// A change that lost keeps neither its key nor its place in the inbox: it will be tried again.
/// What it did not get belongs to somebody else, and stays.
async fn give_back_claims(tx: &Tx, changes: &[&Change], verdicts: &[Verdict]) -> Result<(), DbErr> {
    for (change, verdict) in changes.iter().zip(verdicts) {
        let has_inbox = match verdict {
            Err(CommitError::VersionConflict | CommitError::OrderTaken) => true,
            Err(CommitError::NotificationStored) => false,
            // Without its key a change claims nothing else.
            Ok(())
            | Err(
                CommitError::KeyTaken
                | CommitError::Refused(_)
                | CommitError::Broken(_)
                | CommitError::ReviewItemChanged
                | CommitError::Unavailable(_),
            ) => continue,
        };
        if let Some(KeyWrite::Claim(key)) = &change.key {
            idempotency_key::Entity::delete_many()
                .filter(beside::key_is(&key.scope))
                .filter(idempotency_key::Column::ResourceId.eq(&key.resource_id))
                .exec(tx)
                .await?;
        }
        if let Some(inbox) = change.inbox.as_ref().filter(|_| has_inbox) {
            notification::Entity::delete_by_id((
                inbox.account_id.clone(),
                inbox.notification_id.clone(),
            ))
            .exec(tx)
            .await?;
        }
    }

    Ok(())
}

/// Rows below the payment. Nobody else can write them: their payment's version was just won.
async fn write_children(tx: &Tx, won: &[&Change]) -> Result<(), DbErr> {
    // Older attempts first: the one that dies must have left its place before the new one takes it.
    let mut attempts: Vec<_> = won.iter().flat_map(|change| &change.attempts).collect();
    attempts.sort_by(|a, b| (&a.payment_id, a.seq).cmp(&(&b.payment_id, b.seq)));
    upsert(tx, attempts.into_iter().map(rows::attempt_row).collect()).await?;
    let refunds = won
        .iter()
        .flat_map(|change| &change.refunds)
        .map(rows::refund_row)
        .collect();
    upsert(tx, refunds).await?;
    beside::insert_entries(tx, won).await?;
    insert_events(tx, won).await?;
    insert_operations(tx, won).await?;
    answer_keys(tx, won).await
}

/// Inserts rows, or overwrites the ones that are there.
async fn upsert<A>(tx: &Tx, rows: Vec<A>) -> Result<(), DbErr>
where
    A: ActiveModelTrait + Send,
    <A::Entity as EntityTrait>::Column: Iterable,
{
    if rows.is_empty() {
        return Ok(());
    }
    type Column<A> = <<A as ActiveModelTrait>::Entity as EntityTrait>::Column;
    let keys: Vec<Column<A>> = <<A::Entity as EntityTrait>::PrimaryKey as Iterable>::iter()
        .map(|k| k.into_column())
        .collect();
    let names: Vec<String> = keys.iter().map(|k| format!("{k:?}")).collect();
    let others = Column::<A>::iter().filter(|c| !names.contains(&format!("{c:?}")));
    A::Entity::insert_many(rows)
        .on_conflict(OnConflict::columns(keys).update_columns(others).to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// The events that a change tells of, as they are stored.
pub(in crate::store) fn event_rows(change: &Change) -> impl Iterator<Item = event::Model> + '_ {
    let payment = &change.after.payment;
    change.events.iter().map(|e| event::Model {
        id: e.id.clone(),
        merchant_id: payment.owner.merchant.clone(),
        payment_id: payment.id.clone(),
        version: payment.version,
        r#type: e.kind.to_owned(),
        data: e.data.clone(),
        created_at: e.created_at.0,
        livemode: payment.owner.is_live(),
        // Whom it is told to is found out later: a payment's commit reads no endpoints.
        fan_out_at: Some(e.created_at.0),
    })
}

async fn insert_events(tx: &Tx, won: &[&Change]) -> Result<(), DbErr> {
    let rows = won
        .iter()
        .flat_map(|change| event_rows(change))
        .map(|row| row.into_active_model().reset_all());
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    event::Entity::insert_many(rows)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

async fn insert_operations(tx: &Tx, won: &[&Change]) -> Result<(), DbErr> {
    let rows: Vec<_> = won
        .iter()
        .flat_map(|change| &change.operations)
        .map(beside::operation_row)
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    operation::Entity::insert_many(rows)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// Entries of the work list that end with a change. One that has changed meanwhile takes the change
/// back with it, and with that the whole transaction; its neighbours are then written without it.
async fn end_operations(tx: &Tx, won: &[&Change]) -> Result<(), DbErr> {
    for resolution in won.iter().filter_map(|change| change.resolution.as_ref()) {
        if !beside::end_operation(tx, resolution).await? {
            return Err(DbErr::Custom(OVERTAKEN.to_owned()));
        }
    }
    Ok(())
}

async fn answer_keys(tx: &Tx, won: &[&Change]) -> Result<(), DbErr> {
    use idempotency_key::Column as C;

    let rows: Vec<_> = won
        .iter()
        .filter_map(|change| match &change.key {
            Some(KeyWrite::Answer(key, answer)) => {
                Some(beside::key_row(key, &change.after.payment.id, Some(answer)))
            }
            Some(KeyWrite::Claim(_)) | None => None,
        })
        .collect();

    if rows.is_empty() {
        return Ok(());
    }
    let unanswered = Expr::col((idempotency_key::Entity, C::AnswerStatus)).is_null();

    idempotency_key::Entity::insert_many(rows)
        .on_conflict(
            OnConflict::columns([C::MerchantId, C::Operation, C::Key])
                .update_columns([
                    C::AnswerStatus,
                    C::AnswerBody,
                    C::AnsweredState,
                    C::AnsweredAttempt,
                ])
                .action_and_where(unanswered)
                .to_owned(),
        )
        .exec_without_returning(tx)
        .await?;

    Ok(())
}

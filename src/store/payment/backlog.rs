//! What waits: payments for a route, attempts for certainty. Counted for the queue, for metrics and
//! for alerts.

use providers::order::Flow;
use providers::provider::ProviderName;
use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use crate::domain::id::{MerchantId, PaymentId};
use crate::domain::operation::ReviewKind;
use crate::domain::payment::WaitQueue;
use crate::domain::{Aggregate, AllOwners, Mode, Owner, Timestamp};
use crate::store::Error;
use crate::store::Store;
use crate::store::convert::word;
use crate::store::payment::entity::{attempt, payment};
use crate::store::payment::find::find;
use crate::store::review::entity::operation;

/// Attempts whose end nobody knows, written as in the index `attempts_in_doubt`, order and all.
pub(in crate::store) const IN_DOUBT: &str =
    "status IN ('unknown', 'closing', 'reversing', 'abandoned', 'superseded')";
/// Those among them that may have taken money without anybody's doing: charges.
pub(in crate::store) const CHARGED: &str = "status IN ('unknown', 'reversing')";

/// How many wait, and since when the first of them does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// How many.
    pub count: u64,
    /// Since when the oldest one waits.
    pub oldest: Option<Timestamp>,
}

/// What waits in a mode, whoever's it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Payments that wait for a route.
    pub parked: Waiting,
    /// Attempts that may have taken money, or may still be paid beyond their time, by provider:
    /// charges since they were begun, offers since their deadline.
    pub in_doubt: Vec<(ProviderName, Waiting)>,
}

impl Backlog {
    /// What is in doubt, over all providers.
    #[must_use]
    pub fn all_in_doubt(&self) -> Waiting {
        let all = self.in_doubt.iter().map(|(_, waiting)| waiting);
        Waiting {
            count: all.clone().map(|w| w.count).sum(),
            oldest: all.filter_map(|w| w.oldest).min(),
        }
    }
}

impl Store {
    /// What waits in a mode, whoever's it is. An offer is in doubt when its deadline was before
    /// `overdue`.
    ///
    /// # Errors
    /// The database's.
    pub async fn backlog(&self, mode: Mode, overdue: Timestamp) -> Result<Backlog, Error> {
        let parked: Option<(i64, Option<i64>)> = payment::Entity::find()
            .select_only()
            .column_as(Expr::cust("COUNT(*)"), "count")
            .column_as(payment::Column::ParkedAt.min(), "oldest")
            .filter(payment::Column::ParkedAt.is_not_null())
            .filter(payment::Column::Livemode.eq(mode.is_live()))
            .into_tuple()
            .one(&self.db)
            .await?;
        let since = format!("MIN(CASE WHEN {CHARGED} THEN started_at ELSE offer_deadline END)");

        let rows: Vec<(String, i64, Option<i64>)> = attempt::Entity::find()
            .select_only()
            .column(attempt::Column::Provider)
            .column_as(Expr::cust("COUNT(*)"), "count")
            .column_as(Expr::cust(since), "oldest")
            .filter(Expr::cust(IN_DOUBT))
            .filter(Expr::cust(CHARGED).or(attempt::Column::OfferDeadline.lt(overdue.0)))
            .filter(of_mode(mode))
            .group_by(attempt::Column::Provider)
            .into_tuple()
            .all(&self.db)
            .await?;

        let in_doubt = rows.into_iter().map(|(provider, count, oldest)| {
            word("attempt", "backlog", "provider", &provider)
                .map(|name| (name, waiting(count, oldest)))
        });
        let (count, oldest) = parked.unwrap_or_default();

        Ok(Backlog {
            parked: waiting(count, oldest),
            in_doubt: in_doubt.collect::<Result<_, _>>()?,
        })
    }

    /// Where payments wait, and how many: each owner's, for each flow.
    ///
    /// # Errors
    /// The database's.
    pub async fn lines(&self, _: AllOwners) -> Result<Vec<(WaitQueue, u64)>, Error> {
        let rows: Vec<(MerchantId, bool, String, i64)> = payment::Entity::find()
            .select_only()
            .columns([
                payment::Column::MerchantId,
                payment::Column::Livemode,
                payment::Column::Flow,
            ])
            .column_as(Expr::cust("COUNT(*)"), "count")
            .filter(payment::Column::ParkedAt.is_not_null())
            .group_by(payment::Column::MerchantId)
            .group_by(payment::Column::Livemode)
            .group_by(payment::Column::Flow)
            .into_tuple()
            .all(&self.db)
            .await?;

        let line = |(merchant, livemode, flow, count): (MerchantId, bool, String, i64)| {
            let flow = word("payment", "lines", "flow", &flow)?;
            Ok((
                WaitQueue {
                    owner: Owner::of(merchant, livemode),
                    flow,
                },
                u64::try_from(count).unwrap_or(0),
            ))
        };

        rows.into_iter().map(line).collect()
    }

    /// The payments of a line that wait longest, and that nobody works on.
    ///
    /// # Errors
    /// The database's.
    pub async fn head_of_line(
        &self,
        line: &WaitQueue,
        now: Timestamp,
        limit: u64,
    ) -> Result<Vec<Aggregate>, Error> {
        let query = payment::Entity::find()
            .filter(payment::Column::MerchantId.eq(&line.owner.merchant))
            .filter(payment::Column::Livemode.eq(line.owner.is_live()))
            .filter(payment::Column::Flow.eq(line.flow.to_string()))
            .filter(payment::Column::ParkedAt.is_not_null())
            .filter(free(now))
            .order_by_asc(payment::Column::ParkedAt)
            .limit(limit);
        let snapshot = self.db.snapshot().await?;
        let found = find(&snapshot, query).await?;
        snapshot.commit().await?;
        Ok(found)
    }

    /// Leases these payments, as far as they still wait and nobody works on them, and makes them
    /// due. Returns which.
    ///
    /// # Errors
    /// The database's.
    pub async fn claim_parked(
        &self,
        ids: &[PaymentId],
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Vec<PaymentId>, Error> {
        let rows = payment::Entity::update_many()
            .col_expr(payment::Column::LeaseUntil, Expr::value(lease_until.0))
            .col_expr(payment::Column::ResumeAt, Expr::value(now.0))
            .filter(payment::Column::Id.is_in(ids))
            .filter(payment::Column::ParkedAt.is_not_null())
            .filter(free(now))
            .exec_with_returning(&self.db)
            .await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// What waits in a mode for a person's decision about money: entries of the work list that are
    /// not about a receiver of webhooks, nor about an account that its provider refuses, of which
    /// people are told otherwise.
    ///
    /// # Errors
    /// The database's.
    pub async fn work_list(&self, mode: Mode) -> Result<Waiting, Error> {
        let found: Option<(i64, Option<i64>)> = operation::Entity::find()
            .select_only()
            .column_as(Expr::cust("COUNT(*)"), "count")
            .column_as(operation::Column::CreatedAt.min(), "oldest")
            .filter(operation::Column::ResolvedAt.is_null())
            .filter(operation::Column::Livemode.eq(mode.is_live()))
            .filter(operation::Column::Kind.is_not_in([
                <&str>::from(ReviewKind::WebhookFailing),
                ReviewKind::AccountRefused.into(),
                ReviewKind::AccountBarred.into(),
                ReviewKind::AccountFlowRefused.into(),
            ]))
            .into_tuple()
            .one(&self.db)
            .await?;
        let (count, oldest) = found.unwrap_or_default();

        Ok(waiting(count, oldest))
    }

    /// How many of an owner's payments wait for the same flow longer than one that is parked since
    /// `parked_at`.
    ///
    /// # Errors
    /// The database's.
    pub async fn parked_before(
        &self,
        owner: &Owner,
        flow: Flow,
        parked_at: Timestamp,
    ) -> Result<u64, Error> {
        Ok(payment::Entity::find()
            .filter(payment::Column::MerchantId.eq(&owner.merchant))
            .filter(payment::Column::Livemode.eq(owner.is_live()))
            .filter(payment::Column::Flow.eq(flow.to_string()))
            .filter(payment::Column::ParkedAt.lt(parked_at.0))
            .count(&self.db)
            .await?)
    }

    /// Since when those of a line wait that have joined it between two moments, the first of them
    /// included, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn parked_among(
        &self,
        owner: &Owner,
        flow: Flow,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Timestamp>, Error> {
        let found: Vec<i64> = payment::Entity::find()
            .select_only()
            .column(payment::Column::ParkedAt)
            .filter(payment::Column::MerchantId.eq(&owner.merchant))
            .filter(payment::Column::Livemode.eq(owner.is_live()))
            .filter(payment::Column::Flow.eq(flow.to_string()))
            .filter(payment::Column::ParkedAt.gte(from.0))
            .filter(payment::Column::ParkedAt.lt(until.0))
            .order_by_asc(payment::Column::ParkedAt)
            .into_tuple()
            .all(&self.db)
            .await?;
        Ok(found.into_iter().map(Timestamp).collect())
    }
}

/// Attempts whose payment is of this mode. Asked of few: those that an index has found already.
pub(in crate::store) fn of_mode(mode: Mode) -> SimpleExpr {
    let payment = Query::select()
        .expr(Expr::val(1))
        .from(payment::Entity)
        .and_where(
            Expr::col((payment::Entity, payment::Column::Id))
                .equals((attempt::Entity, attempt::Column::PaymentId)),
        )
        .and_where(Expr::col((payment::Entity, payment::Column::Livemode)).eq(mode.is_live()))
        .to_owned();
    Expr::exists(payment)
}

/// Nobody has a lease on it.
fn free(now: Timestamp) -> Condition {
    Condition::any()
        .add(payment::Column::LeaseUntil.is_null())
        .add(payment::Column::LeaseUntil.lte(now.0))
}

fn waiting(count: i64, oldest: Option<i64>) -> Waiting {
    Waiting {
        count: u64::try_from(count).unwrap_or(0),
        oldest: oldest.map(Timestamp),
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;
    use crate::domain::attempt::State;

    /// Whoever adds a state has to say whether attempts in it are in doubt.
    #[test]
    fn every_state_is_in_doubt_or_is_not() {
        for state in State::iter() {
            let (in_doubt, charged) = match state {
                State::Unknown | State::Reversing => (true, true),
                State::Closing | State::Abandoned | State::Superseded => (true, false),
                State::Sending
                | State::AwaitingPayer
                | State::Captured
                | State::Dead
                | State::Reversed => (false, false),
            };
            let named = |list: &str| list.contains(&format!("'{state}'"));
            assert_eq!(
                (named(IN_DOUBT), named(CHARGED)),
                (in_doubt, charged),
                "{state}"
            );
        }
    }
}

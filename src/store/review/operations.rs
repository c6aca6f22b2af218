//! The work list's rows: what stands on it, what people have said about it, and how it ended. An
//! entry ends once: by compare-and-set, also where the end moves money.

use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, Condition, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use crate::domain::id::{AccountId, AttemptId, RefundId, ReviewId};
use crate::domain::operation::BY_ITSELF;
use crate::domain::operation::ReviewKind;
use crate::domain::{Aggregate, AllOwners, Owner, Timestamp};
use crate::store::Error;
use crate::store::Store;
use crate::store::beside::{end_operation, step_row};
use crate::store::change::{DecisionStep, Resolution};
use crate::store::convert::word;
use crate::store::directory::entity::account;
use crate::store::lists::{is, newest, older_than};
use crate::store::payment::entity::{attempt, refund};
use crate::store::review::entity::{operation, operation_step as step};

/// An entry of the work list as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// `op_…`.
    pub id: ReviewId,
    /// Whose.
    pub owner: Owner,
    /// Which trouble.
    pub kind: String,
    /// The payment, attempt, refund, account or other thing that it is about.
    pub subject_id: String,
    /// What a person should know.
    pub detail: String,
    /// When it was seen.
    pub created_at: Timestamp,
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// What ended it: an action, or `by_itself`.
    pub resolution: Option<String>,
    /// The step that waits for a second person.
    pub proposal_id: Option<String>,
}

/// Which entries a list shows.
#[derive(Debug, Clone, Default)]
pub struct OperationFilter {
    /// Only this trouble.
    pub kind: Option<String>,
    /// Only those that have ended, or have not.
    pub resolved: Option<bool>,
    /// Only those older than this one.
    pub starting_after: Option<OperationRow>,
    /// At most so many.
    pub limit: u64,
}

impl OperationRow {
    /// Which trouble, if this version knows it.
    #[must_use]
    pub fn review_kind(&self) -> Option<ReviewKind> {
        self.kind.parse().ok()
    }
}

impl From<operation::Model> for OperationRow {
    fn from(m: operation::Model) -> Self {
        Self {
            id: m.id,
            owner: Owner::of(m.merchant_id, m.livemode),
            kind: m.kind,
            subject_id: m.subject_id,
            detail: m.detail,
            created_at: Timestamp(m.created_at),
            resolved_at: m.resolved_at.map(Timestamp),
            resolution: m.resolution,
            proposal_id: m.proposal_id,
        }
    }
}

/// The entry's row.
pub(in crate::store) fn row(entry: &OperationRow) -> operation::ActiveModel {
    operation::Model {
        id: entry.id.clone(),
        merchant_id: entry.owner.merchant.clone(),
        livemode: entry.owner.is_live(),
        kind: entry.kind.clone(),
        subject_id: entry.subject_id.clone(),
        detail: entry.detail.clone(),
        created_at: entry.created_at.0,
        resolved_at: entry.resolved_at.map(|t| t.0),
        resolution: entry.resolution.clone(),
        proposal_id: entry.proposal_id.clone(),
    }
    .into_active_model()
    .reset_all()
}

impl Store {
    /// An owner's work list, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn operations(
        &self,
        owner: &Owner,
        filter: &OperationFilter,
    ) -> Result<Vec<OperationRow>, Error> {
        use operation::Column as C;

        let mut query = operation::Entity::find()
            .filter(C::MerchantId.eq(&owner.merchant))
            .filter(C::Livemode.eq(owner.is_live()));
        if let Some(kind) = &filter.kind {
            query = query.filter(is(self.db.backend(), C::Kind, kind.as_str()));
        }
        if let Some(last) = &filter.starting_after {
            query = query.filter(older_than(
                [C::CreatedAt, C::Id],
                [last.created_at.0.into(), last.id.clone().into()],
            ));
        }

        let page = |state: Option<SimpleExpr>| {
            let query = query.clone().filter(Condition::all().add_option(state));
            query
                .order_by_desc(C::CreatedAt)
                .order_by_desc(C::Id)
                .limit(filter.limit)
                .all(&self.db)
        };

        let rows = match filter.resolved {
            Some(true) => page(Some(C::ResolvedAt.is_not_null())).await?,
            Some(false) => page(Some(C::ResolvedAt.is_null())).await?,
            None if filter.kind.is_none() => page(None).await?,
            // Those of a kind that have ended are in one index, and the others in another.
            None => {
                let waiting = page(Some(C::ResolvedAt.is_null())).await?;
                let ended = page(Some(C::ResolvedAt.is_not_null())).await?;
                newest(waiting, ended, filter.limit, |row| {
                    (row.created_at, row.id.clone())
                })
            }
        };

        Ok(rows.into_iter().map(OperationRow::from).collect())
    }

    /// An owner's entry.
    ///
    /// # Errors
    /// The database's.
    pub async fn operation_of(
        &self,
        owner: &Owner,
        id: &ReviewId,
    ) -> Result<Option<OperationRow>, Error> {
        let found = operation::Entity::find_by_id(id.clone())
            .filter(operation::Column::MerchantId.eq(&owner.merchant))
            .filter(operation::Column::Livemode.eq(owner.is_live()));
        Ok(found.one(&self.db).await?.map(OperationRow::from))
    }

    /// Entries that have not ended, by id, those behind `after`: for the worker that closes them.
    ///
    /// # Errors
    /// The database's.
    pub async fn unresolved_operations(
        &self,
        _: AllOwners,
        after: Option<&ReviewId>,
        limit: u64,
    ) -> Result<Vec<OperationRow>, Error> {
        let behind = after.map(|after| operation::Column::Id.gt(after));
        let rows = operation::Entity::find()
            .filter(operation::Column::ResolvedAt.is_null())
            .filter(Condition::all().add_option(behind))
            .order_by_asc(operation::Column::Id)
            .limit(limit)
            .all(&self.db)
            .await?;
        Ok(rows.into_iter().map(OperationRow::from).collect())
    }

    /// What was said on an entry, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn operation_steps(
        &self,
        operation_id: &ReviewId,
    ) -> Result<Vec<DecisionStep>, Error> {
        let rows = step::Entity::find()
            .filter(step::Column::OperationId.eq(operation_id))
            .order_by_asc(step::Column::At)
            .order_by_desc(step::Column::Kind)
            .order_by_asc(step::Column::Id)
            .all(&self.db)
            .await?;

        rows.into_iter()
            .map(|m| {
                Ok(DecisionStep {
                    kind: word("step", &m.id, "kind", &m.kind)?,
                    action: word("step", &m.id, "action", &m.action)?,
                    id: m.id,
                    operation_id: m.operation_id,
                    evidence: m.evidence,
                    note: m.note,
                    key_name: m.key_name,
                    at: Timestamp(m.at),
                })
            })
            .collect()
    }

    /// The payment that an entry is about, through its attempt or refund if it names one. An entry
    /// whose subject belongs to somebody else, were there one, is about nothing.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment_of_subject(
        &self,
        entry: &OperationRow,
    ) -> Result<Option<Aggregate>, Error> {
        let subject_id = entry.subject_id.as_str();
        let payment_id = if let Ok(id) = subject_id.parse::<AttemptId>() {
            attempt::Entity::find_by_id(id)
                .one(&self.db)
                .await?
                .map(|row| row.payment_id)
        } else if let Ok(id) = subject_id.parse::<RefundId>() {
            refund::Entity::find_by_id(id)
                .one(&self.db)
                .await?
                .map(|row| row.payment_id)
        } else {
            subject_id.parse().ok()
        };

        match payment_id {
            Some(id) => self.payment_of(&entry.owner, &id).await,
            None => Ok(None),
        }
    }

    /// Puts a proposal on an entry, in place of the one that `before` saw there. `false` when the
    /// entry has changed since.
    ///
    /// # Errors
    /// The database's.
    pub async fn propose(
        &self,
        before: &OperationRow,
        proposal: &DecisionStep,
    ) -> Result<bool, Error> {
        use operation::Column as C;

        let tx = self.db.write().await?;
        let stands = match &before.proposal_id {
            Some(id) => C::ProposalId.eq(id),
            None => C::ProposalId.is_null(),
        };
        let done = operation::Entity::update_many()
            .col_expr(C::ProposalId, Expr::value(proposal.id.clone()))
            .filter(C::Id.eq(&before.id))
            .filter(C::ResolvedAt.is_null())
            .filter(stands)
            .exec(&tx)
            .await?;

        if done.rows_affected == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        step::Entity::insert(step_row(proposal))
            .exec_without_returning(&tx)
            .await?;
        tx.commit().await?;

        Ok(true)
    }

    /// Ends an entry as two persons have decided, where no payment changes with it; `account_ok`
    /// lets that account take payments again. `false` when the entry has changed since.
    ///
    /// # Errors
    /// The database's.
    pub async fn resolve_alone(
        &self,
        resolution: &Resolution,
        account_ok: Option<&AccountId>,
    ) -> Result<bool, Error> {
        let tx = self.db.write().await?;
        if !end_operation(&tx, resolution).await? {
            tx.rollback().await?;
            return Ok(false);
        }
        if let Some(account_id) = account_ok {
            account::Entity::update_many()
                .col_expr(account::Column::SetAsideUntil, Expr::value(None::<i64>))
                .col_expr(account::Column::SetAsideReason, Expr::value(None::<String>))
                .filter(account::Column::Id.eq(account_id))
                .exec(&tx)
                .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Ends an entry whose cause has gone. Nothing happens to one that has ended.
    ///
    /// # Errors
    /// The database's.
    pub async fn ended_by_itself(&self, id: &ReviewId, now: Timestamp) -> Result<(), Error> {
        operation::Entity::update_many()
            .col_expr(operation::Column::ResolvedAt, Expr::value(now.0))
            .col_expr(operation::Column::Resolution, Expr::value(BY_ITSELF))
            .filter(operation::Column::Id.eq(id))
            .filter(operation::Column::ResolvedAt.is_null())
            .exec(&self.db)
            .await?;
        Ok(())
    }
}

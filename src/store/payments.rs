//! Reading payments. Every read for a merchant names the owner, that of a cursor's row too: there is no way to forget
//! whose it is. What reads anybody's says so.

use std::collections::HashMap;

use sea_orm::sea_query::Query;
use sea_orm::{
    ColumnTrait as _, Condition, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _, Select,
};

use super::Store;
use super::connection::Tx;
use super::entity::{attempt, payment, refund};
use crate::domain::{Aggregate, AllOwners, Owner, Refund, Timestamp, payment::State};

/// Which payments a list shows, newest first.
#[derive(Debug, Clone, Default)]
pub struct PaymentFilter {
    /// The merchant's own number.
    pub order_id: Option<String>,
    /// Their state.
    pub status: Option<State>,
    /// The provider's number of a transaction.
    pub provider_transaction_id: Option<String>,
    /// Created then or later.
    pub created_from: Option<Timestamp>,
    /// Only those older than this payment.
    pub starting_after: Option<String>,
    /// At most so many.
    pub limit: u64,
}

impl Store {
    /// A payment with all that belongs to it: for workers.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment(&self, _: AllOwners, id: &str) -> Result<Option<Aggregate>, DbErr> {
        self.find(payment::Entity::find_by_id(id)).await.map(|mut found| found.pop())
    }

    /// An owner's payment.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment_of(&self, owner: &Owner, id: &str) -> Result<Option<Aggregate>, DbErr> {
        self.find(payments_of(owner).filter(payment::Column::Id.eq(id))).await.map(|mut found| found.pop())
    }

    /// Live payments of which an attempt or a refund is not over for certain, whoever's they are, in the order of their ids.
    ///
    /// # Errors
    /// The database's.
    pub async fn unsettled(&self, _: AllOwners, after: Option<&str>, limit: u64) -> Result<Vec<Aggregate>, DbErr> {
        let over = ["captured", "dead", "reversed"];
        let attempts = Query::select()
            .column(attempt::Column::PaymentId)
            .from(attempt::Entity)
            .and_where(attempt::Column::Status.is_not_in(over))
            .to_owned();
        let refunds = Query::select()
            .column(refund::Column::PaymentId)
            .from(refund::Entity)
            .and_where(refund::Column::Status.eq("pending"))
            .to_owned();
        let mut query = payment::Entity::find()
            .filter(payment::Column::Livemode.eq(true))
            .filter(
                Condition::any()
                    .add(payment::Column::Id.in_subquery(attempts))
                    .add(payment::Column::Id.in_subquery(refunds)),
            )
            .order_by_asc(payment::Column::Id)
            .limit(limit);
        if let Some(after) = after {
            query = query.filter(payment::Column::Id.gt(after));
        }
        self.find(query).await
    }

    /// The payment that holds an owner's order number, if one does.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment_holding_order(&self, owner: &Owner, order_id: &str) -> Result<Option<Aggregate>, DbErr> {
        let holding = [State::Created, State::RequiresAction, State::Processing, State::Succeeded];
        let query = payments_of(owner)
            .filter(payment::Column::OrderId.eq(order_id))
            .filter(payment::Column::Status.is_in(holding.map(|s| s.to_string())));
        self.find(query).await.map(|mut found| found.pop())
    }

    /// The payment of the attempt that has this number at a provider, and the attempt's id: for what providers tell, which
    /// is then held against the account that it came to.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment_of_order_no(
        &self,
        all: AllOwners,
        order_no: &str,
    ) -> Result<Option<(Aggregate, String)>, DbErr> {
        let row = attempt::Entity::find().filter(attempt::Column::ProviderOrderNo.eq(order_no)).one(&self.db).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(self.payment(all, &row.payment_id).await?.map(|aggregate| (aggregate, row.id)))
    }

    /// An owner's payments, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn payments(&self, owner: &Owner, filter: &PaymentFilter) -> Result<Vec<Aggregate>, DbErr> {
        let mut query = payments_of(owner);
        if let Some(order_id) = &filter.order_id {
            query = query.filter(payment::Column::OrderId.eq(order_id));
        }
        if let Some(status) = filter.status {
            query = query.filter(payment::Column::Status.eq(status.to_string()));
        }
        if let Some(from) = filter.created_from {
            query = query.filter(payment::Column::CreatedAt.gte(from.0));
        }
        if let Some(transaction) = &filter.provider_transaction_id {
            let ids: Vec<String> = attempt::Entity::find()
                .select_only()
                .column(attempt::Column::PaymentId)
                .filter(attempt::Column::ProviderTransactionId.eq(transaction))
                .into_tuple()
                .all(&self.db)
                .await?;
            query = query.filter(payment::Column::Id.is_in(ids));
        }
        if let Some(after) = &filter.starting_after {
            let last = payments_of(owner).filter(payment::Column::Id.eq(after)).one(&self.db).await?;
            let Some(last) = last else { return Ok(Vec::new()) };
            let older = Condition::any().add(payment::Column::CreatedAt.lt(last.created_at)).add(
                Condition::all()
                    .add(payment::Column::CreatedAt.eq(last.created_at))
                    .add(payment::Column::Id.lt(last.id)),
            );
            query = query.filter(older);
        }
        let query =
            query.order_by_desc(payment::Column::CreatedAt).order_by_desc(payment::Column::Id).limit(filter.limit);
        self.find(query).await
    }

    /// An owner's refund.
    ///
    /// # Errors
    /// The database's.
    pub async fn refund_of(&self, owner: &Owner, id: &str) -> Result<Option<Refund>, DbErr> {
        let row = refunds_of(owner).filter(refund::Column::Id.eq(id)).one(&self.db).await?;
        row.map(Refund::try_from).transpose()
    }

    /// An owner's refund by the merchant's own number.
    ///
    /// # Errors
    /// The database's.
    pub async fn refund_by_merchant_no(&self, owner: &Owner, no: &str) -> Result<Option<Refund>, DbErr> {
        let row = refunds_of(owner).filter(refund::Column::MerchantRefundNo.eq(no)).one(&self.db).await?;
        row.map(Refund::try_from).transpose()
    }

    /// An owner's refunds, newest first, of one payment or of all.
    ///
    /// # Errors
    /// The database's.
    pub async fn refunds(
        &self,
        owner: &Owner,
        payment_id: Option<&str>,
        starting_after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Refund>, DbErr> {
        let mut query = refunds_of(owner);
        if let Some(payment_id) = payment_id {
            query = query.filter(refund::Column::PaymentId.eq(payment_id));
        }
        if let Some(after) = starting_after {
            let last = refunds_of(owner).filter(refund::Column::Id.eq(after)).one(&self.db).await?;
            let Some(last) = last else { return Ok(Vec::new()) };
            let older = Condition::any().add(refund::Column::CreatedAt.lt(last.created_at)).add(
                Condition::all().add(refund::Column::CreatedAt.eq(last.created_at)).add(refund::Column::Id.lt(last.id)),
            );
            query = query.filter(older);
        }
        let rows = query
            .order_by_desc(refund::Column::CreatedAt)
            .order_by_desc(refund::Column::Id)
            .limit(limit)
            .all(&self.db)
            .await?;
        rows.into_iter().map(Refund::try_from).collect()
    }

    async fn find(&self, query: Select<payment::Entity>) -> Result<Vec<Aggregate>, DbErr> {
        let snapshot = self.db.snapshot().await?;
        let found = find(&snapshot, query).await?;
        snapshot.commit().await?;
        Ok(found)
    }
}

fn payments_of(owner: &Owner) -> Select<payment::Entity> {
    let of_merchant = payment::Entity::find().filter(payment::Column::MerchantId.eq(&owner.merchant));
    #[cfg(feature = "broken")]
    if crate::broken::breaks(crate::broken::Rule::MerchantWithoutMode) {
        return of_merchant;
    }
    of_merchant.filter(payment::Column::Livemode.eq(owner.is_live()))
}

fn refunds_of(owner: &Owner) -> Select<refund::Entity> {
    refund::Entity::find()
        .filter(refund::Column::MerchantId.eq(&owner.merchant))
        .filter(refund::Column::Livemode.eq(owner.is_live()))
}

/// Payments with their attempts and refunds, all as they were at one moment: by themselves, three statements would
/// show an attempt that was captured between them beside a payment that still waits for its payer.
pub(super) async fn find(snapshot: &Tx, query: Select<payment::Entity>) -> Result<Vec<Aggregate>, DbErr> {
    let rows = query.all(snapshot).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    let mut attempts: HashMap<String, Vec<_>> = HashMap::new();
    let found = attempt::Entity::find()
        .filter(attempt::Column::PaymentId.is_in(ids.clone()))
        .order_by_asc(attempt::Column::Seq)
        .all(snapshot)
        .await?;
    for row in found {
        attempts.entry(row.payment_id.clone()).or_default().push(row.try_into()?);
    }
    let mut refunds: HashMap<String, Vec<_>> = HashMap::new();
    let found = refund::Entity::find()
        .filter(refund::Column::PaymentId.is_in(ids))
        .order_by_asc(refund::Column::CreatedAt)
        .order_by_asc(refund::Column::Id)
        .all(snapshot)
        .await?;
    for row in found {
        refunds.entry(row.payment_id.clone()).or_default().push(row.try_into()?);
    }
    rows.into_iter()
        .map(|row| {
            Ok(Aggregate {
                attempts: attempts.remove(&row.id).unwrap_or_default(),
                refunds: refunds.remove(&row.id).unwrap_or_default(),
                payment: row.try_into()?,
            })
        })
        .collect()
}

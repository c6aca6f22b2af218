//! Reading payments. Every read of a merchant names the merchant: there is no way to forget whose it is.

use std::collections::HashMap;

use sea_orm::{
    ColumnTrait as _, Condition, DatabaseTransaction, DbErr, EntityTrait as _, IsolationLevel, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select, TransactionOptions, TransactionTrait as _,
};

use super::Store;
use super::entity::{attempt, payment, refund};
use crate::domain::{Aggregate, Refund, Timestamp, payment::State};

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
    /// A payment with all that belongs to it, whoever's it is: for workers.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment(&self, id: &str) -> Result<Option<Aggregate>, DbErr> {
        self.find(payment::Entity::find_by_id(id)).await.map(|mut found| found.pop())
    }

    /// A merchant's payment.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment_of(&self, merchant_id: &str, id: &str) -> Result<Option<Aggregate>, DbErr> {
        Ok(self.payment(id).await?.filter(|a| a.payment.merchant_id == merchant_id))
    }

    /// The payment that holds a merchant's order number, if one does.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment_holding_order(&self, merchant_id: &str, order_id: &str) -> Result<Option<Aggregate>, DbErr> {
        let holding = [State::Created, State::RequiresAction, State::Processing, State::Succeeded];
        let query = payment::Entity::find()
            .filter(payment::Column::MerchantId.eq(merchant_id))
            .filter(payment::Column::OrderId.eq(order_id))
            .filter(payment::Column::Status.is_in(holding.map(|s| s.to_string())));
        self.find(query).await.map(|mut found| found.pop())
    }

    /// The payment of the attempt that has this number at a provider, and the attempt's id.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment_of_order_no(&self, order_no: &str) -> Result<Option<(Aggregate, String)>, DbErr> {
        let row = attempt::Entity::find().filter(attempt::Column::ProviderOrderNo.eq(order_no)).one(&self.db).await?;
        let Some(row) = row else { return Ok(None) };
        Ok(self.payment(&row.payment_id).await?.map(|aggregate| (aggregate, row.id)))
    }

    /// A merchant's payments, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn payments(&self, merchant_id: &str, filter: &PaymentFilter) -> Result<Vec<Aggregate>, DbErr> {
        let mut query = payment::Entity::find().filter(payment::Column::MerchantId.eq(merchant_id));
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
            let Some(last) = payment::Entity::find_by_id(after).one(&self.db).await? else { return Ok(Vec::new()) };
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

    /// A merchant's refund.
    ///
    /// # Errors
    /// The database's.
    pub async fn refund_of(&self, merchant_id: &str, id: &str) -> Result<Option<Refund>, DbErr> {
        let row =
            refund::Entity::find_by_id(id).filter(refund::Column::MerchantId.eq(merchant_id)).one(&self.db).await?;
        row.map(Refund::try_from).transpose()
    }

    /// A merchant's refund by the merchant's own number.
    ///
    /// # Errors
    /// The database's.
    pub async fn refund_by_merchant_no(&self, merchant_id: &str, no: &str) -> Result<Option<Refund>, DbErr> {
        let row = refund::Entity::find()
            .filter(refund::Column::MerchantId.eq(merchant_id))
            .filter(refund::Column::MerchantRefundNo.eq(no))
            .one(&self.db)
            .await?;
        row.map(Refund::try_from).transpose()
    }

    /// A merchant's refunds, newest first, of one payment or of all.
    ///
    /// # Errors
    /// The database's.
    pub async fn refunds(
        &self,
        merchant_id: &str,
        payment_id: Option<&str>,
        starting_after: Option<&str>,
        limit: u64,
    ) -> Result<Vec<Refund>, DbErr> {
        let mut query = refund::Entity::find().filter(refund::Column::MerchantId.eq(merchant_id));
        if let Some(payment_id) = payment_id {
            query = query.filter(refund::Column::PaymentId.eq(payment_id));
        }
        if let Some(after) = starting_after {
            let Some(last) = refund::Entity::find_by_id(after).one(&self.db).await? else { return Ok(Vec::new()) };
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
        let snapshot = self.snapshot().await?;
        let found = find(&snapshot, query).await?;
        snapshot.commit().await?;
        Ok(found)
    }

    /// A transaction whose statements all see what the first one saw. SQLite knows no other.
    pub(super) async fn snapshot(&self) -> Result<DatabaseTransaction, DbErr> {
        let isolation_level = self.is_postgres().then_some(IsolationLevel::RepeatableRead);
        self.db.begin_with_options(TransactionOptions { isolation_level, ..Default::default() }).await
    }
}

/// Payments with their attempts and refunds, all as they were at one moment: by themselves, three statements would
/// show an attempt that was captured between them beside a payment that still waits for its payer.
pub(super) async fn find(
    snapshot: &DatabaseTransaction,
    query: Select<payment::Entity>,
) -> Result<Vec<Aggregate>, DbErr> {
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

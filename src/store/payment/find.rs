//! Reading payments. Every read for a merchant names the owner, that of a cursor's row too: there
//! is no way to forget whose it is. What reads anybody's says so.

use std::collections::HashMap;

use sea_orm::sea_query::{Expr, Query};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait as _, EntityTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Select,
};

use crate::domain::id::{AttemptId, PaymentId, RefundId};
use crate::domain::{Aggregate, AllOwners, Owner, Refund, Timestamp, payment::State};
use crate::mutate;
use crate::store::Error;
use crate::store::Store;
use crate::store::connection::Tx;
use crate::store::lists::{FREE, HOLDING, beside, is, newest, older_than};
use crate::store::payment::entity::{attempt, payment, refund};

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
    pub starting_after: Option<PaymentId>,
    /// At most so many.
    pub limit: u64,
}

impl Store {
    /// A payment with all that belongs to it: for workers.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment(&self, _: AllOwners, id: &PaymentId) -> Result<Option<Aggregate>, Error> {
        self.find(payment::Entity::find_by_id(id.clone()))
            .await
            .map(|mut found| found.pop())
    }

    /// An owner's payment.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment_of(
        &self,
        owner: &Owner,
        id: &PaymentId,
    ) -> Result<Option<Aggregate>, Error> {
        self.find(payments_of(owner).filter(payment::Column::Id.eq(id)))
            .await
            .map(|mut found| found.pop())
    }

    /// Whether there is any payment, whoever's it is.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_payments(&self, _: AllOwners) -> Result<bool, Error> {
        let first = payment::Entity::find()
            .select_only()
            .column(payment::Column::Id)
            .limit(1);
        Ok(first.into_tuple::<String>().one(&self.db).await?.is_some())
    }

    /// Live payments of which an attempt or a refund is not over for certain, whoever's they are,
    /// in the order of their ids.
    ///
    /// # Errors
    /// The database's.
    pub async fn unsettled(
        &self,
        _: AllOwners,
        after: Option<&PaymentId>,
        limit: u64,
    ) -> Result<Vec<Aggregate>, Error> {
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
    pub async fn payment_holding_order(
        &self,
        owner: &Owner,
        order_id: &str,
    ) -> Result<Option<Aggregate>, Error> {
        let query = payments_of(owner)
            .filter(payment::Column::OrderId.eq(order_id))
            .filter(Expr::cust(HOLDING));
        self.find(query).await.map(|mut found| found.pop())
    }

    /// The payment of the attempt that has this number at a provider, and the attempt's id: for
    /// what providers tell, which is then held against the account that it came to.
    ///
    /// # Errors
    /// The database's.
    pub async fn payment_of_order_no(
        &self,
        all: AllOwners,
        order_no: &str,
    ) -> Result<Option<(Aggregate, AttemptId)>, Error> {
        let row = attempt::Entity::find()
            .filter(attempt::Column::ProviderOrderNo.eq(order_no))
            .one(&self.db)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(self
            .payment(all, &row.payment_id)
            .await?
            .map(|aggregate| (aggregate, row.id)))
    }

    /// An owner's payments, newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn payments(
        &self,
        owner: &Owner,
        filter: &PaymentFilter,
    ) -> Result<Vec<Aggregate>, Error> {
        let snapshot = self.db.snapshot().await?;
        let rows = listed(&snapshot, owner, filter).await?;
        let found = whole(&snapshot, rows).await?;
        snapshot.commit().await?;
        Ok(found)
    }

    /// An owner's refund.
    ///
    /// # Errors
    /// The database's.
    pub async fn refund_of(&self, owner: &Owner, id: &RefundId) -> Result<Option<Refund>, Error> {
        let row = refunds_of(owner)
            .filter(refund::Column::Id.eq(id))
            .one(&self.db)
            .await?;
        row.map(Refund::try_from).transpose()
    }

    /// An owner's refund by the merchant's own number.
    ///
    /// # Errors
    /// The database's.
    pub async fn refund_by_merchant_no(
        &self,
        owner: &Owner,
        no: &str,
    ) -> Result<Option<Refund>, Error> {
        let row = refunds_of(owner)
            .filter(refund::Column::MerchantRefundNo.eq(no))
            .one(&self.db)
            .await?;
        row.map(Refund::try_from).transpose()
    }

    /// An owner's refunds, newest first: of the payment that a text names, or of all.
    ///
    /// # Errors
    /// The database's.
    pub async fn refunds(
        &self,
        owner: &Owner,
        payment_id: Option<&str>,
        starting_after: Option<&RefundId>,
        limit: u64,
    ) -> Result<Vec<Refund>, Error> {
        use refund::Column as C;

        // A payment has few, and one owner.
        let mut query = match payment_id {
            Some(payment_id) => refund::Entity::find()
                .filter(C::PaymentId.eq(payment_id))
                .filter(beside("merchant_id", owner.merchant.as_str()))
                .filter(C::Livemode.eq(owner.is_live())),
            None => refunds_of(owner),
        };

        if let Some(after) = starting_after {
            let last = refunds_of(owner)
                .filter(C::Id.eq(after))
                .one(&self.db)
                .await?;
            let Some(last) = last else {
                return Ok(Vec::new());
            };
            query = query.filter(older_than(
                [C::CreatedAt, C::Id],
                [last.created_at.into(), last.id.into()],
            ));
        }

        let rows = query
            .order_by_desc(refund::Column::CreatedAt)
            .order_by_desc(refund::Column::Id)
            .limit(limit)
            .all(&self.db)
            .await?;

        rows.into_iter().map(Refund::try_from).collect()
    }

    async fn find(&self, query: Select<payment::Entity>) -> Result<Vec<Aggregate>, Error> {
        let snapshot = self.db.snapshot().await?;
        let found = find(&snapshot, query).await?;
        snapshot.commit().await?;
        Ok(found)
    }
}

fn payments_of(owner: &Owner) -> Select<payment::Entity> {
    let of_merchant =
        payment::Entity::find().filter(payment::Column::MerchantId.eq(&owner.merchant));
    mutate!(MerchantWithoutMode => return of_merchant);
    of_merchant.filter(payment::Column::Livemode.eq(owner.is_live()))
}

fn refunds_of(owner: &Owner) -> Select<refund::Entity> {
    refund::Entity::find()
        .filter(refund::Column::MerchantId.eq(&owner.merchant))
        .filter(refund::Column::Livemode.eq(owner.is_live()))
}

/// A page of an owner's list. A payment has a transaction's number or an order's, or is one of many
/// in a state: what names fewest chooses the index.
async fn listed(
    snapshot: &Tx,
    owner: &Owner,
    filter: &PaymentFilter,
) -> Result<Vec<payment::Model>, Error> {
    use payment::Column as C;
    let mut asked = Condition::all();
    if let Some(from) = filter.created_from {
        asked = asked.add(C::CreatedAt.gte(from.0));
    }
    if let Some(after) = &filter.starting_after {
        let last = payments_of(owner)
            .filter(C::Id.eq(after))
            .one(snapshot)
            .await?;
        let Some(last) = last else {
            return Ok(Vec::new());
        };
        asked = asked.add(older_than(
            [C::CreatedAt, C::Id],
            [last.created_at.into(), last.id.into()],
        ));
    }
    let page = |query: Select<payment::Entity>| {
        let query = query
            .filter(asked.clone())
            .order_by_desc(C::CreatedAt)
            .order_by_desc(C::Id);
        query.limit(filter.limit).all(snapshot)
    };

    let status = filter
        .status
        .map(|status| beside("status", status.to_string()));
    if let Some(transaction) = &filter.provider_transaction_id {
        let named = payments_of_transaction(snapshot, transaction).await?;
        let mut query = payment::Entity::find()
            .filter(C::Id.is_in(named))
            .filter(beside("merchant_id", owner.merchant.as_str()))
            .filter(C::Livemode.eq(owner.is_live()))
            .filter(Condition::all().add_option(status));
        if let Some(order_id) = &filter.order_id {
            query = query.filter(C::OrderId.eq(order_id));
        }
        return Ok(page(query).await?);
    }
    if let Some(order_id) = &filter.order_id {
        let of_order = |which: &'static str| {
            let query = payments_of(owner)
                .filter(C::OrderId.eq(order_id))
                .filter(Expr::cust(which));
            page(query.filter(Condition::all().add_option(status.clone())))
        };
        let (holding, free) = (of_order(HOLDING).await?, of_order(FREE).await?);
        return Ok(newest(holding, free, filter.limit, |row| {
            (row.created_at, row.id.clone())
        }));
    }
    let on = snapshot.get_database_backend();
    match filter.status {
        Some(status) => {
            Ok(page(payments_of(owner).filter(is(on, C::Status, status.to_string()))).await?)
        }
        None => Ok(page(payments_of(owner)).await?),
    }
}

/// The payments, whoever's they are, of which an attempt has this number at its provider.
async fn payments_of_transaction(
    snapshot: &Tx,
    transaction: &str,
) -> Result<Vec<PaymentId>, Error> {
    Ok(attempt::Entity::find()
        .select_only()
        .column(attempt::Column::PaymentId)
        .filter(attempt::Column::ProviderTransactionId.eq(transaction))
        .into_tuple()
        .all(snapshot)
        .await?)
}

/// Payments with their attempts and refunds, all as they were at one moment: by themselves, three
/// statements would show an attempt that was captured between them beside a payment that still
/// waits for its payer.
pub(in crate::store) async fn find(
    snapshot: &Tx,
    query: Select<payment::Entity>,
) -> Result<Vec<Aggregate>, Error> {
    whole(snapshot, query.all(snapshot).await?).await
}

async fn whole(snapshot: &Tx, rows: Vec<payment::Model>) -> Result<Vec<Aggregate>, Error> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<PaymentId> = rows.iter().map(|row| row.id.clone()).collect();
    let mut attempts: HashMap<PaymentId, Vec<_>> = HashMap::new();
    let found = attempt::Entity::find()
        .filter(attempt::Column::PaymentId.is_in(ids.clone()))
        .order_by_asc(attempt::Column::Seq)
        .all(snapshot)
        .await?;

    for row in found {
        attempts
            .entry(row.payment_id.clone())
            .or_default()
            .push(row.try_into()?);
    }

    let mut refunds: HashMap<PaymentId, Vec<_>> = HashMap::new();
    let found = refund::Entity::find()
        .filter(refund::Column::PaymentId.is_in(ids))
        .order_by_asc(refund::Column::CreatedAt)
        .order_by_asc(refund::Column::Id)
        .all(snapshot)
        .await?;

    for row in found {
        refunds
            .entry(row.payment_id.clone())
            .or_default()
            .push(row.try_into()?);
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

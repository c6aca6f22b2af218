//! What the auditor of a drill reads: everything, of all merchants, as it stands in the rows. Only
//! in builds for drills.

use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};

use super::Error;
use super::Store;
use crate::domain::id::{EventId, PaymentId};
use crate::domain::{Aggregate, Timestamp};
use crate::store::ledger::entity::ledger_entry;
use crate::store::payment::entity::{attempt, idempotency_key, notification, payment};
use crate::store::review::entity::operation;
use crate::store::webhook::entity::{delivery, event};

/// An event, and whether everybody who has to know does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// `evt_…`
    pub id: EventId,
    /// Of which payment.
    pub payment_id: PaymentId,
    /// Its place among the payment's.
    pub version: i64,
    /// `payment.succeeded`
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// The states of its deliveries; none: it was not even fanned out.
    pub deliveries: Vec<String>,
}

/// Something that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForAPerson {
    /// Which trouble.
    pub kind: String,
    /// The payment, attempt, refund or account.
    pub subject_id: String,
    /// Since when.
    pub since: Timestamp,
}

/// Looks into a database that gateways are using, and changes nothing.
#[derive(Debug)]
pub struct Looker(sea_orm::DatabaseConnection);

impl Looker {
    /// Opens the database at `url` beside its gateways.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn open(url: &str) -> Result<Self, super::OpenError> {
        super::connect(url, 1).await.map(Self)
    }

    /// Payments that have two live or two kept attempts at this moment.
    ///
    /// # Errors
    /// The database's.
    pub async fn doubles(&self) -> Result<Vec<PaymentId>, Error> {
        use sea_orm::QuerySelect as _;
        use sea_orm::sea_query::Expr;

        let mut all = Vec::new();
        let live = "status IN ('sending', 'unknown', 'awaiting_payer', 'closing', 'reversing')";

        for what in [live, "disposition = 'kept'"] {
            let found: Vec<PaymentId> = attempt::Entity::find()
                .select_only()
                .column(attempt::Column::PaymentId)
                .filter(Expr::cust(what))
                .group_by(attempt::Column::PaymentId)
                .having(Expr::cust("COUNT(*) > 1"))
                .into_tuple()
                .all(&self.0)
                .await?;
            all.extend(found);
        }

        Ok(all)
    }

    /// Whether somebody was told of this payment's success, and whether what it moved is sealed.
    ///
    /// # Errors
    /// The database's.
    pub async fn told_and_sealed(&self, payment_id: &PaymentId) -> Result<(bool, bool), Error> {
        use sea_orm::PaginatorTrait as _;
        let told = delivery::Entity::find()
            .filter(delivery::Column::PaymentId.eq(payment_id))
            .filter(delivery::Column::Status.eq("delivered"))
            .count(&self.0)
            .await?;
        let of_it =
            || ledger_entry::Entity::find().filter(ledger_entry::Column::PaymentId.eq(payment_id));
        let entries = of_it().count(&self.0).await?;
        let open = of_it()
            .filter(ledger_entry::Column::Block.is_null())
            .count(&self.0)
            .await?;
        // The offer was told of first.
        Ok((told >= 2, entries > 0 && open == 0))
    }

    /// Orders whose number begins like this and whose payment has not succeeded.
    ///
    /// # Errors
    /// The database's.
    pub async fn unpaid(&self, orders: &str) -> Result<Vec<String>, Error> {
        use sea_orm::QuerySelect as _;
        Ok(payment::Entity::find()
            .select_only()
            .column(payment::Column::OrderId)
            .filter(payment::Column::OrderId.starts_with(orders))
            .filter(payment::Column::Status.ne("succeeded"))
            .into_tuple()
            .all(&self.0)
            .await?)
    }
}

impl Store {
    /// Every payment, oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn all_payments(&self) -> Result<Vec<Aggregate>, Error> {
        let snapshot = self.db.snapshot().await?;
        let query = payment::Entity::find()
            .order_by_asc(payment::Column::CreatedAt)
            .order_by_asc(payment::Column::Id);
        let found = crate::store::payment::find::find(&snapshot, query).await?;
        snapshot.commit().await?;
        Ok(found)
    }

    /// Every event, in the order of its payment.
    ///
    /// # Errors
    /// The database's.
    pub async fn all_told(&self) -> Result<Vec<Told>, Error> {
        let events = event::Entity::find()
            .order_by_asc(event::Column::PaymentId)
            .order_by_asc(event::Column::Version)
            .order_by_asc(event::Column::Id)
            .all(&self.db)
            .await?;
        let deliveries = delivery::Entity::find().all(&self.db).await?;
        let of = |id: &EventId| {
            deliveries
                .iter()
                .filter(|d| d.event_id == *id)
                .map(|d| d.status.clone())
                .collect()
        };

        let told = |e: event::Model| Told {
            deliveries: of(&e.id),
            id: e.id,
            payment_id: e.payment_id,
            version: e.version,
            kind: e.r#type,
            at: Timestamp(e.created_at),
        };

        Ok(events.into_iter().map(told).collect())
    }

    /// Notifications that were taken: the provider's id, and the body as it came in.
    ///
    /// # Errors
    /// The database's.
    pub async fn all_notifications(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let rows = notification::Entity::find().all(&self.db).await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.notification_id, row.body))
            .collect())
    }

    /// All that waits for a person.
    ///
    /// # Errors
    /// The database's.
    pub async fn all_for_a_person(&self) -> Result<Vec<ForAPerson>, Error> {
        let rows = operation::Entity::find()
            .filter(operation::Column::ResolvedAt.is_null())
            .all(&self.db)
            .await?;
        let one = |row: operation::Model| ForAPerson {
            kind: row.kind,
            subject_id: row.subject_id,
            since: Timestamp(row.created_at),
        };
        Ok(rows.into_iter().map(one).collect())
    }

    /// Idempotency keys by merchant's key: the payment that each stands for.
    ///
    /// # Errors
    /// The database's.
    pub async fn all_keys(&self) -> Result<Vec<(String, PaymentId)>, Error> {
        let rows = idempotency_key::Entity::find().all(&self.db).await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.key, row.payment_id))
            .collect())
    }

    /// Everything that a message from outside could change, as text, table by table: for comparing.
    ///
    /// # Errors
    /// The database's.
    pub async fn all_rows(&self) -> Result<Vec<(&'static str, String)>, Error> {
        let payments = self.all_payments().await?;
        Ok(vec![
            ("payments", format!("{payments:?}")),
            ("events", format!("{:?}", self.all_told().await?)),
            (
                "notifications",
                format!("{:?}", self.all_notifications().await?),
            ),
            (
                "operations",
                format!("{:?}", self.all_for_a_person().await?),
            ),
            ("idempotency_keys", format!("{:?}", self.all_keys().await?)),
        ])
    }

    /// When the next webhook is due, if any is.
    ///
    /// # Errors
    /// The database's.
    pub async fn next_delivery(&self) -> Result<Option<Timestamp>, Error> {
        use sea_orm::QuerySelect as _;

        let at = |found: Option<Option<i64>>| found.flatten().map(Timestamp);
        let delivery: Option<Option<i64>> = delivery::Entity::find()
            .select_only()
            .column_as(delivery::Column::NextTryAt.min(), "at")
            .filter(delivery::Column::NextTryAt.is_not_null())
            .into_tuple()
            .one(&self.db)
            .await?;

        let event: Option<Option<i64>> = event::Entity::find()
            .select_only()
            .column_as(event::Column::FanOutAt.min(), "at")
            .filter(event::Column::FanOutAt.is_not_null())
            .into_tuple()
            .one(&self.db)
            .await?;

        Ok(at(delivery).into_iter().chain(at(event)).min())
    }
}

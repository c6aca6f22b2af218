//! The row is the job: payments whose time has come are claimed here, by one worker each.

use providers::ProviderName;
use sea_orm::sea_query::{Expr, ExprTrait as _, LockBehavior, LockType, Query, SimpleExpr};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, FromQueryResult, QueryFilter as _,
    QueryOrder as _, QuerySelect as _, Statement,
};
use strum::IntoEnumIterator as _;

use crate::domain::id::{MerchantId, PaymentId};
use crate::domain::{AllOwners, Owner, Timestamp, Urgency};
use crate::store::Error;
use crate::store::Store;
use crate::store::payment::entity::payment as table;
use crate::store::payment::rows::number;

/// Whom the work for a payment will ask: it shares places with all that asks the same one. `None`:
/// nobody knows yet.
pub type Lane = Option<ProviderName>;

/// A payment that is due, and that nobody works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuePayment {
    /// Which.
    pub id: PaymentId,
    /// Whose it is.
    pub owner: Owner,
    /// Who will be asked.
    pub lane: Lane,
    /// How urgent it is.
    pub urgency: Urgency,
}

/// A payment whose due time was written at a time that has not come yet.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct LeftAhead {
    /// Which.
    pub id: PaymentId,
    /// At which time it was written.
    pub scheduled_at: i64,
}

impl Store {
    /// What is due, of each lane and each urgency up to `each`, the longest waiting first. Nothing
    /// is claimed by that.
    ///
    /// # Errors
    /// The database's.
    pub async fn due(
        &self,
        now: Timestamp,
        lanes: &[Lane],
        each: u64,
    ) -> Result<Vec<DuePayment>, Error> {
        let classes = lanes
            .iter()
            .flat_map(|lane| Urgency::iter().map(move |urgency| (*lane, urgency)));
        let walk = |lane, urgency, mark| {
            let due = due_in(lane, urgency, mark);
            format!("{due} ORDER BY next_check_at LIMIT {mark}2")
        };
        self.find_due(now, each, classes.collect(), walk).await
    }

    /// Up to `limit` of what is due of one lane and urgency, of each owner the longest waiting
    /// before the second of anybody: one who has thousands does not hide the others. Reads all that
    /// is due there.
    ///
    /// # Errors
    /// The database's.
    pub async fn due_in_turn(
        &self,
        now: Timestamp,
        lane: Lane,
        urgency: Urgency,
        limit: u64,
    ) -> Result<Vec<DuePayment>, Error> {
        let walk = |lane, urgency, mark| {
            format!(
                "SELECT id, merchant_id, livemode, due_provider, urgency FROM (SELECT *, \
                ROW_NUMBER() OVER (PARTITION BY merchant_id, livemode ORDER BY next_check_at) AS \
                turn FROM ({}) AS due) AS ranked WHERE turn <= {mark}2 ORDER BY turn, \
                next_check_at LIMIT {mark}2",
                due_in(lane, urgency, mark),
            )
        };
        self.find_due(now, limit, vec![(lane, urgency)], walk).await
    }

    /// One statement of a walk for each class. Only classes and names of providers are written into
    /// it: there are few such texts.
    async fn find_due(
        &self,
        now: Timestamp,
        each: u64,
        classes: Vec<(Lane, Urgency)>,
        walk: impl Fn(Lane, Urgency, char) -> String,
    ) -> Result<Vec<DuePayment>, Error> {
        #[derive(FromQueryResult)]
        struct Row {
            id: PaymentId,
            merchant_id: MerchantId,
            livemode: bool,
            due_provider: String,
            urgency: i16,
        }
        let mark = if self.is_postgres() { '$' } else { '?' };
        let walks = classes.into_iter().map(|(lane, urgency)| {
            let found = walk(lane, urgency, mark);
            format!("SELECT id, merchant_id, livemode, due_provider, urgency FROM ({found}) AS one")
        });
        let sql = walks.collect::<Vec<_>>().join(" UNION ALL ");
        let each = i64::try_from(each).unwrap_or(i64::MAX);

        let statement =
            Statement::from_sql_and_values(self.db.backend(), sql, [now.0.into(), each.into()]);
        let found = Row::find_by_statement(statement).all(&self.db).await?;
        Ok(found
            .into_iter()
            .map(|row| DuePayment {
                id: row.id,
                owner: Owner::of(row.merchant_id, row.livemode),
                lane: row.due_provider.parse().ok(),
                urgency: Urgency::from_repr(row.urgency).unwrap_or(Urgency::DEFAULT),
            })
            .collect())
    }

    /// Leases those of these payments until `lease_until` that are due and free: nobody else gets
    /// them meanwhile. Returns which. The lease is an arrangement between workers; what keeps money
    /// right is the version.
    ///
    /// # Errors
    /// The database's.
    pub async fn claim(
        &self,
        ids: Vec<PaymentId>,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Vec<PaymentId>, Error> {
        if ids.is_empty() {
            return Ok(ids);
        }
        let mut due = Query::select();
        due.column(table::Column::Id)
            .from(table::Entity)
            .cond_where(table::Column::Id.is_in(ids))
            .cond_where(table::Column::NextCheckAt.lte(now.0))
            .cond_where(free(now));
        let rows = self.lease(due, lease_until).await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// The rule `resolve_oldest_first`: takes up to `limit` payments that are due, oldest first,
    /// whoever is asked.
    ///
    /// # Errors
    /// The database's.
    #[cfg(feature = "testing")]
    pub async fn claim_oldest(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u64,
    ) -> Result<Vec<(PaymentId, Owner)>, Error> {
        let mut due = Query::select();
        due.column(table::Column::Id)
            .from(table::Entity)
            .cond_where(table::Column::NextCheckAt.lte(now.0))
            .cond_where(free(now))
            .order_by(table::Column::NextCheckAt, sea_orm::Order::Asc)
            .limit(limit);
        let rows = self.lease(due, lease_until).await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.id, Owner::of(row.merchant_id, row.livemode)))
            .collect())
    }

    async fn lease(
        &self,
        mut due: sea_orm::sea_query::SelectStatement,
        lease_until: Timestamp,
    ) -> Result<Vec<table::Model>, Error> {
        if self.is_postgres() {
            due.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
        }
        Ok(table::Entity::update_many()
            .col_expr(table::Column::LeaseUntil, Expr::value(lease_until.0))
            .filter(table::Column::Id.in_subquery(due))
            .exec_with_returning(&self.db)
            .await?)
    }

    /// Payments that wait for something, and whose rows were written at a time after `then`, which
    /// is ahead: all time was set back since. Up to `limit` of them.
    ///
    /// # Errors
    /// The database's.
    pub async fn left_ahead(&self, then: Timestamp, limit: u64) -> Result<Vec<LeftAhead>, Error> {
        Ok(table::Entity::find()
            .select_only()
            .columns([table::Column::Id, table::Column::ScheduledAt])
            .filter(table::Column::NextCheckAt.is_not_null())
            .filter(table::Column::ScheduledAt.gt(then.0))
            .limit(limit)
            .into_model()
            .all(&self.db)
            .await?)
    }

    /// Takes back by how far all time was set back what waits for its next try: deliveries of
    /// webhooks, messages of alerts. At worst one comes a little early.
    ///
    /// # Errors
    /// The database's.
    pub async fn bring_back_tries(&self, now: Timestamp, by_ms: i64) -> Result<(), Error> {
        use crate::store::incident::entity::alert;
        use crate::store::webhook::entity::delivery;

        let back = |column: SimpleExpr| {
            let earlier = column.clone().sub(by_ms);
            Expr::case(earlier.clone().gt(now.0), earlier).finally(now.0)
        };
        delivery::Entity::update_many()
            .col_expr(
                delivery::Column::NextTryAt,
                back(Expr::col(delivery::Column::NextTryAt)).into(),
            )
            .filter(delivery::Column::NextTryAt.gt(now.0))
            .exec(&self.db)
            .await?;

        alert::Entity::update_many()
            .col_expr(
                alert::Column::NextTryAt,
                back(Expr::col(alert::Column::NextTryAt)).into(),
            )
            .filter(alert::Column::NextTryAt.gt(now.0))
            .exec(&self.db)
            .await?;

        Ok(())
    }

    /// Every attempt that is to be asked about some time is asked about now: after a restore nobody
    /// knows what has become of it meanwhile.
    ///
    /// # Errors
    /// The database's.
    pub async fn ask_about_all(&self, _: AllOwners, now: Timestamp) -> Result<(), Error> {
        use crate::store::payment::entity::attempt;

        attempt::Entity::update_many()
            .col_expr(attempt::Column::NextCheckAt, Expr::value(now.0))
            .filter(attempt::Column::NextCheckAt.gt(now.0))
            .exec(&self.db)
            .await?;

        let asked = Query::select()
            .column(attempt::Column::PaymentId)
            .from(attempt::Entity)
            .and_where(attempt::Column::NextCheckAt.is_not_null())
            .to_owned();

        table::Entity::update_many()
            .col_expr(table::Column::NextCheckAt, Expr::value(now.0))
            .filter(table::Column::NextCheckAt.gt(now.0))
            .filter(table::Column::Id.in_subquery(asked))
            .exec(&self.db)
            .await?;

        Ok(())
    }

    /// When the next payment is due, if any is.
    ///
    /// # Errors
    /// The database's.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, Error> {
        let at: Option<Option<i64>> = table::Entity::find()
            .select_only()
            .column(table::Column::NextCheckAt)
            .filter(table::Column::NextCheckAt.is_not_null())
            .order_by_asc(table::Column::NextCheckAt)
            .limit(1)
            .into_tuple()
            .one(&self.db)
            .await?;
        Ok(at.flatten().map(Timestamp))
    }
}

fn free(now: Timestamp) -> Condition {
    Condition::any()
        .add(table::Column::LeaseUntil.is_null())
        .add(table::Column::LeaseUntil.lte(now.0))
}

/// What is due in a class: a short walk through the index `payments_urgent`.
fn due_in(lane: Lane, urgency: Urgency, mark: char) -> String {
    let (name, urgency) = (lane.map_or("", ProviderName::as_str), number(urgency));
    format!(
        "SELECT id, merchant_id, livemode, due_provider, urgency, next_check_at FROM payments \
         WHERE due_provider = '{name}' AND urgency = {urgency} AND next_check_at <= {mark}1 \
         AND (lease_until IS NULL OR lease_until <= {mark}1)"
    )
}

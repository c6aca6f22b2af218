//! The row is the job: payments whose time has come are claimed here, by one worker each.

use sea_orm::sea_query::{Expr, LockBehavior, LockType, Query};
use sea_orm::{ColumnTrait as _, Condition, DbErr, EntityTrait as _, QueryFilter as _};

use super::Store;
use super::entity::payment as table;
use crate::domain::Timestamp;

impl Store {
    /// Takes up to `limit` payments that are due, oldest first, and leases them until `lease_until`: nobody else
    /// gets them meanwhile. The lease is an arrangement between workers; what keeps money right is the version.
    ///
    /// # Errors
    /// The database's.
    pub async fn claim_due(&self, now: Timestamp, lease_until: Timestamp, limit: u64) -> Result<Vec<String>, DbErr> {
        let free = Condition::any().add(table::Column::LeaseUntil.is_null()).add(table::Column::LeaseUntil.lte(now.0));
        let mut due = Query::select();
        due.column(table::Column::Id)
            .from(table::Entity)
            .cond_where(table::Column::NextCheckAt.lte(now.0))
            .cond_where(free)
            .order_by(table::Column::NextCheckAt, sea_orm::Order::Asc)
            .limit(limit);
        if self.is_postgres() {
            due.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
        }
        let rows = table::Entity::update_many()
            .col_expr(table::Column::LeaseUntil, Expr::value(lease_until.0))
            .filter(table::Column::Id.in_subquery(due))
            .exec_with_returning(&self.db)
            .await?;
        Ok(rows.into_iter().map(|row| row.id).collect())
    }

    /// When the next payment is due, if any is.
    ///
    /// # Errors
    /// The database's.
    pub async fn next_due(&self) -> Result<Option<Timestamp>, DbErr> {
        use sea_orm::{QueryOrder as _, QuerySelect as _};
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

//! What is in doubt, by its age, and what needs a person, by kind: counted for metrics, in the
//! shape that metrics have. Reads only; which attempts are in doubt is said in `backlog`.

use providers::provider::ProviderName;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use super::Error;
use super::Store;
use crate::domain::{Mode, Timestamp};
use crate::store::convert::word;
use crate::store::payment::backlog::{CHARGED, IN_DOUBT, of_mode};
use crate::store::payment::entity::attempt;
use crate::store::review::entity::operation;

impl Store {
    /// How many attempts of each provider in a mode are in doubt for longer than each of these
    /// ages, in seconds: charges since they were begun, offers since their deadline. An offer is in
    /// doubt when its deadline was before `overdue`.
    ///
    /// # Errors
    /// The database's.
    pub async fn doubts_by_age(
        &self,
        mode: Mode,
        overdue: Timestamp,
        now: Timestamp,
        ages_s: [i64; 4],
    ) -> Result<Vec<(ProviderName, [u64; 4])>, Error> {
        let since = format!("CASE WHEN {CHARGED} THEN started_at ELSE offer_deadline END");
        let older = |age_s: i64| {
            let before = now.plus_s(-age_s).0;
            Expr::cust(format!(
                "SUM(CASE WHEN {since} < {before} THEN 1 ELSE 0 END)"
            ))
        };

        let [a, b, c, d] = ages_s.map(older);
        let rows: Vec<(String, i64, i64, i64, i64)> = attempt::Entity::find()
            .select_only()
            .column(attempt::Column::Provider)
            .column_as(a, "a")
            .column_as(b, "b")
            .column_as(c, "c")
            .column_as(d, "d")
            .filter(Expr::cust(IN_DOUBT))
            .filter(Expr::cust(CHARGED).or(attempt::Column::OfferDeadline.lt(overdue.0)))
            .filter(of_mode(mode))
            .group_by(attempt::Column::Provider)
            .into_tuple()
            .all(&self.db)
            .await?;

        let counted = rows.into_iter().map(|(provider, a, b, c, d)| {
            let counts = [a, b, c, d].map(|count| u64::try_from(count).unwrap_or(0));
            word("attempt", "doubts", "provider", &provider).map(|name| (name, counts))
        });

        counted.collect()
    }

    /// How many entries of the work list are open in a mode, by kind.
    ///
    /// # Errors
    /// The database's.
    pub async fn open_operations(&self, mode: Mode) -> Result<Vec<(String, u64)>, Error> {
        let rows: Vec<(String, i64)> = operation::Entity::find()
            .select_only()
            .column(operation::Column::Kind)
            .column_as(Expr::cust("COUNT(*)"), "count")
            .filter(operation::Column::ResolvedAt.is_null())
            .filter(operation::Column::Livemode.eq(mode.is_live()))
            .group_by(operation::Column::Kind)
            .into_tuple()
            .all(&self.db)
            .await?;
        Ok(rows
            .into_iter()
            .map(|(kind, count)| (kind, u64::try_from(count).unwrap_or(0)))
            .collect())
    }
}

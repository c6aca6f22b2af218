//! How much of a business day accounts have used: sums over their attempts.

use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QuerySelect as _};

use crate::domain::Timestamp;
use crate::domain::attempt::State;
use crate::domain::id::AccountId;
use crate::store::Error;
use crate::store::Store;
use crate::store::payment::entity::attempt;

/// Attempts that are alive, written as in the index `attempts_one_live`, order and all: with
/// parameters, or in another order, SQLite would not see that the index holds all of them.
const LIVE: &str = "status IN ('sending', 'unknown', 'awaiting_payer', 'closing', 'reversing')";

/// A part of an account's day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Whose.
    pub account_id: AccountId,
    /// Whether its attempts were begun only just now.
    pub is_new: bool,
    /// Whether they have taken their money; they are alive otherwise.
    pub is_captured: bool,
    /// Their sum, in fen.
    pub amount: i64,
    /// How many.
    pub count: i64,
}

impl Store {
    /// What the attempts of these accounts have taken since `day_start`, and what those that are
    /// alive may still take, those begun at `new_from` or later apart.
    ///
    /// # Errors
    /// The database's.
    pub async fn usage(
        &self,
        account_ids: &[AccountId],
        day_start: Timestamp,
        new_from: Timestamp,
    ) -> Result<Vec<UsageRow>, Error> {
        let live = Expr::cust(LIVE);
        let captured = attempt::Column::Status
            .eq(State::Captured.to_string())
            .and(attempt::Column::PaidAt.gte(day_start.0));
        let is_new = format!("CASE WHEN started_at >= {} THEN 1 ELSE 0 END", new_from.0);
        let snapshot = self.db.snapshot().await?;
        let mut all = Vec::new();

        for (is_captured, which, amount) in [
            (false, live, attempt::Column::Amount),
            (true, captured, attempt::Column::Captured),
        ] {
            let rows: Vec<(AccountId, i32, i64, i64)> = attempt::Entity::find()
                .select_only()
                .column(attempt::Column::AccountId)
                .column_as(Expr::cust(is_new.clone()), "is_new")
                .column_as(Expr::col(amount).sum().cast_as("BIGINT"), "amount")
                .column_as(Expr::cust("COUNT(*)"), "count")
                .filter(attempt::Column::AccountId.is_in(account_ids))
                .filter(which)
                .group_by(attempt::Column::AccountId)
                .group_by(Expr::cust(is_new.clone()))
                .into_tuple()
                .all(&snapshot)
                .await?;
            all.extend(
                rows.into_iter()
                    .map(|(account_id, is_new, amount, count)| UsageRow {
                        account_id,
                        is_new: is_new == 1,
                        is_captured,
                        amount,
                        count,
                    }),
            );
        }

        snapshot.commit().await?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn the_states_that_are_alive_are_those_of_the_domain() {
        let named = |state: &State| LIVE.contains(&format!("'{state}'"));
        assert!(State::iter().all(|state| named(&state) == state.is_live()));
    }
}

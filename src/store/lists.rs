//! What lists have in common. Every page of every list is read off one index, in order, and ends
//! with its last row: none is found by looking through what an owner has. SQLite plans without
//! knowing what rows there are, and takes the index of which it can name most columns; PostgreSQL
//! weighs by what is usual, and is wrong about what is rare. So what must not choose an index is
//! written so that it cannot, and what a partial index asks for stands in the text as it stands
//! there.

use std::cmp::Reverse;

use sea_orm::sea_query::{Expr, ExprTrait as _, IntoColumnRef, Query, SimpleExpr};
use sea_orm::{DbBackend, Value};

/// The payments that hold their order number: those in the index `payments_order`.
pub(super) const HOLDING: &str =
    "status IN ('created', 'requires_action', 'processing', 'succeeded')";
/// The others, in the index `payments_order_ended`.
pub(super) const FREE: &str = "status IN ('failed', 'canceled', 'expired')";

/// The same as `column = value`, where an index is to be read by it however many rows have that
/// value: PostgreSQL plans for a value that it does not know. One that it knows most rows to have
/// it looks for among all of them, newest first, and does not find it there after a day on which
/// none had it. SQLite, which knows no values, is told.
pub(super) fn is<C: IntoColumnRef>(
    on: DbBackend,
    column: C,
    value: impl Into<Value>,
) -> SimpleExpr {
    let value = Expr::val(value.into());
    if on != DbBackend::Postgres {
        return Expr::col(column).eq(value);
    }
    let unknown = Query::select().expr(value).to_owned();
    Expr::col(column).eq(Expr::SubQuery(None, Box::new(unknown.into())))
}

/// The same as `column = value`, and no index is read by it. PostgreSQL takes every other row for
/// one of those, and goes on reading in the order of an index that others have chosen.
pub(super) fn beside(column: &'static str, value: impl Into<Value>) -> SimpleExpr {
    unseen(Expr::col(column).eq(value.into()))
}

/// The same as `column IN (values)`, likewise.
pub(super) fn beside_one_of(column: &'static str, values: &[String]) -> SimpleExpr {
    unseen(Expr::col(column).is_in(values))
}

fn unseen(what: SimpleExpr) -> SimpleExpr {
    Expr::case(what, Expr::cust("TRUE"))
        .finally(Expr::cust("FALSE"))
        .into()
}

/// What comes after a row in an order that ends with the oldest: one comparison of all that it is
/// ordered by, since from "older, or as old and …" neither database knows where in an index to
/// begin.
pub(super) fn older_than<C: IntoColumnRef, const N: usize>(
    columns: [C; N],
    last: [Value; N],
) -> SimpleExpr {
    let columns = Expr::tuple(columns.map(Expr::col));
    columns.lt(Expr::tuple(last.map(Expr::val)))
}

/// What comes after a row in an order that ends with the newest.
pub(super) fn newer_than<C: IntoColumnRef, const N: usize>(
    columns: [C; N],
    last: [Value; N],
) -> SimpleExpr {
    let columns = Expr::tuple(columns.map(Expr::col));
    columns.gt(Expr::tuple(last.map(Expr::val)))
}

/// The newest `limit` rows of two lists that have no row in common.
pub(super) fn newest<T, K: Ord>(
    mut rows: Vec<T>,
    others: Vec<T>,
    limit: u64,
    order: impl Fn(&T) -> K,
) -> Vec<T> {
    rows.extend(others);
    rows.sort_by_key(|row| Reverse(order(row)));
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    rows
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn two_lists_are_one_with_the_newest_first() {
        let merged = newest(
            vec![(9, "a"), (4, "b")],
            vec![(9, "c"), (5, "d"), (1, "e")],
            4,
            |row| *row,
        );
        assert_eq!(merged, [(9, "c"), (9, "a"), (5, "d"), (4, "b")]);
    }
}

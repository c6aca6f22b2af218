//! What columns of any table are read with. A row that cannot be read is an error that names the
//! column, never a guess.

use providers::money::{Currency, Money};

use super::Error;

pub(super) fn bad(table: &str, id: &str, column: &str) -> Error {
    Error::Unreadable {
        table: table.to_owned(),
        id: id.to_owned(),
        column: column.to_owned(),
    }
}

pub(super) fn word<T: std::str::FromStr>(
    table: &str,
    id: &str,
    column: &str,
    text: &str,
) -> Result<T, Error> {
    text.parse().map_err(|_| bad(table, id, column))
}

pub(super) fn money(table: &str, id: &str, fen: i64, currency: &str) -> Result<Money, Error> {
    match word(table, id, "currency", currency)? {
        Currency::Cny => Money::fen(fen).map_err(|_| bad(table, id, "amount")),
    }
}

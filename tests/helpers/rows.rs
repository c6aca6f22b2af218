//! What the database holds, read past the gateway's code: to prove that nothing was written, or how
//! often.

use sea_orm::{DatabaseConnection, FromQueryResult as _, JsonValue, Statement};
use serde_json::Value;

/// Everything that a request about money may write.
pub const MONEY: [&str; 4] = ["payments", "attempts", "refunds", "idempotency_keys"];
/// What a notification may change.
pub const PAYMENTS: [&str; 3] = ["payments", "attempts", "refunds"];

/// All rows of these tables, each table's in an order of their own.
pub async fn of(db: &DatabaseConnection, tables: &[&str]) -> Vec<(String, Vec<String>)> {
    let mut all = Vec::new();
    for table in tables {
        let mut rows: Vec<String> = select(db, &format!("SELECT * FROM {table}"))
            .await
            .iter()
            .map(Value::to_string)
            .collect();
        rows.sort();
        all.push(((*table).to_owned(), rows));
    }
    all
}

/// How many rows each of these tables has.
pub async fn counts(db: &DatabaseConnection, tables: &[&str]) -> Vec<(String, usize)> {
    of(db, tables)
        .await
        .into_iter()
        .map(|(table, rows)| (table, rows.len()))
        .collect()
}

/// The rows of a query.
pub async fn select(db: &DatabaseConnection, sql: &str) -> Vec<Value> {
    JsonValue::find_by_statement(Statement::from_string(db.get_database_backend(), sql))
        .all(db)
        .await
        .unwrap()
}

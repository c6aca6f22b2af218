//! What is true, whatever the API says: the gateway's rows read past its code, and the money in the
//! sandbox's book.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DbErr, FromQueryResult as _, JsonValue, Statement,
};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::TestApp;

/// A connection of its own to the gateway's database.
#[derive(Debug, Clone)]
pub struct Facts(pub DatabaseConnection);

impl Facts {
    pub async fn of(app: &TestApp) -> Self {
        Self(app.db().await)
    }

    pub async fn rows(&self, sql: &str) -> Vec<Value> {
        let statement = Statement::from_string(self.0.get_database_backend(), sql);
        JsonValue::find_by_statement(statement)
            .all(&self.0)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// How many rows `from` names: `attempts WHERE status = 'dead'`.
    pub async fn count(&self, from: &str) -> i64 {
        let statement = Statement::from_string(
            self.0.get_database_backend(),
            format!("SELECT COUNT(*) AS n FROM {from}"),
        );
        self.0
            .query_one_raw(statement)
            .await
            .unwrap()
            .unwrap()
            .try_get("", "n")
            .unwrap()
    }

    pub async fn execute(&self, sql: &str) -> Result<u64, DbErr> {
        self.0
            .execute_unprepared(sql)
            .await
            .map(|done| done.rows_affected())
    }

    /// What the merchant is told about a payment, in order.
    pub async fn told(&self, payment_id: &str) -> Vec<String> {
        let sql = format!(
            "SELECT type AS t FROM events WHERE payment_id = '{payment_id}' ORDER BY version, id"
        );
        self.rows(&sql)
            .await
            .iter()
            .map(|row| row["t"].as_str().unwrap().to_owned())
            .collect()
    }
}

const LIVE: &str = "status IN ('sending', 'unknown', 'awaiting_payer', 'closing', 'reversing')";

/// Looks at the database all the time while a test runs.
pub struct Watch {
    stop: oneshot::Sender<()>,
    looks: JoinHandle<()>,
}

impl Watch {
    /// Begins to look for a payment with two live or two kept attempts.
    pub async fn start(app: &TestApp) -> Self {
        let facts = Facts::of(app).await;
        let (stop, mut stopped) = oneshot::channel();
        let looks = tokio::spawn(async move {
            loop {
                for what in [LIVE, "disposition = 'kept'"] {
                    let sql = format!(
                        "SELECT payment_id, COUNT(*) AS n FROM attempts WHERE {what} GROUP BY \
                        payment_id HAVING COUNT(*) > 1"
                    );
                    assert_eq!(
                        facts.rows(&sql).await,
                        Vec::<Value>::new(),
                        "two attempts with {what}"
                    );
                }
                let pause = tokio::time::timeout(Duration::from_millis(5), &mut stopped);
                if pause.await.is_ok() {
                    facts.0.close().await.unwrap();
                    return;
                }
            }
        });

        Self { stop, looks }
    }

    /// Ends, and fails the test if it ever saw one.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.looks.await.unwrap();
    }
}

/// A member of an order in the sandbox's book, or null when the provider does not know the order.
pub async fn in_book(app: &TestApp, order_no: &str, member: &str) -> Value {
    let orders = app.control.orders().await;
    orders
        .iter()
        .find(|o| o["order_no"] == order_no)
        .map_or(Value::Null, |o| o[member].clone())
}

/// Fen that payers are without, by the sandbox's book.
pub async fn taken_fen(app: &TestApp) -> i64 {
    let fen = |order: &Value, member: &str| order[member].as_i64().unwrap();
    app.control
        .orders()
        .await
        .iter()
        .map(|o| fen(o, "captured") - fen(o, "refunded"))
        .sum()
}

//! From the schema before, in which refunds, the work list, routing and keys knew no mode, and
//! beside a gateway that still writes so.

use std::time::Duration;

use interlock::store::Store;
use migrations::{Migrator, MigratorTrait as _};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, TransactionTrait as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::facts::Facts;
use crate::helpers::{PATIENCE, connect, database};

/// Migrations of the version before.
const BEFORE: u32 = 8;

/// A payment as the version before has stored it.
fn payment(id: &str, merchant: &str, livemode: bool) -> String {
    format!(
        "INSERT INTO payments (id, merchant_id, order_id, amount, currency, description, flow, \
        providers, status, metadata, livemode, round, version, created_at, expires_at) VALUES \
        ('{id}', '{merchant}', 'order-{id}', 1, 'CNY', 'tea', 'qr', '', 'succeeded', '{{}}', \
        {livemode}, 0, 1, 1, 2)"
    )
}

fn attempt(id: &str, payment: &str, account: &str) -> String {
    format!(
        "INSERT INTO attempts (id, payment_id, seq, round, account_id, provider, flow, status, \
        provider_order_no, amount, currency, reason, started_at, call_deadline, offer_deadline, \
        questions, reversal_in_doubt, \"returning\") VALUES ('{id}', '{payment}', 1, 0, \
        '{account}', 'alipay', 'qr', 'dead', 'no-{id}', 1, 'CNY', '{{}}', 1, 1, 1, 0, FALSE, FALSE)"
    )
}

/// A refund as the version before writes it.
fn refund(id: &str, payment: &str, attempt: &str, merchant: &str) -> String {
    format!(
        "INSERT INTO refunds (id, payment_id, attempt_id, merchant_id, merchant_refund_no, \
        provider_refund_no, earlier_nos, amount, currency, status, automatic, needs_funds, \
        created_at, in_doubt, questions) VALUES ('{id}', '{payment}', '{attempt}', '{merchant}', \
        'rf-{id}', 'no-{id}', '', 1, 'CNY', 'failed', FALSE, FALSE, 1, FALSE, 0)"
    )
}

fn operation(id: &str, merchant: &str, subject: &str) -> String {
    format!(
        "INSERT INTO operations (id, merchant_id, kind, subject_id, detail, created_at) VALUES \
        ('{id}', '{merchant}', 'unresolved', '{subject}', '', 1)"
    )
}

fn routing(merchant: &str, version: i32) -> String {
    format!(
        "INSERT INTO routing (merchant_id, version, rules, changed_by, changed_at) VALUES \
        ('{merchant}', {version}, '{{\"rules\": []}}', 'earlier', {version})"
    )
}

fn key(operation: &str, key: &str, payment: &str) -> String {
    format!(
        "INSERT INTO idempotency_keys (merchant_id, operation, key, fingerprint, payment_id, \
        resource_id, created_at) VALUES ('mer_both', '{operation}', '{key}', 'f', '{payment}', \
        '{payment}', 1)"
    )
}

fn account(id: &str, merchant: &str, livemode: bool) -> String {
    let credentials = "CAST('' AS BLOB)";
    format!(
        "INSERT INTO accounts (id, merchant_id, provider, identity, name, disabled, fee_bps, \
        credentials, livemode, created_at) VALUES ('{id}', '{merchant}', 'alipay', \
        'identity-{id}', 'one', FALSE, 60, {credentials}, {livemode}, 1)"
    )
}

async fn run(facts: &Facts, statements: &[String]) {
    let is_postgres = facts.0.get_database_backend() == DbBackend::Postgres;
    for sql in statements {
        let sql = if is_postgres {
            sql.replace("CAST('' AS BLOB)", "''::bytea")
        } else {
            sql.clone()
        };
        facts
            .execute(&sql)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
}

/// A database of the version before, with a merchant in both modes, one in test alone, and one in
/// live alone.
async fn from_before() -> (Facts, DatabaseConnection, TempDir) {
    let folder = TempDir::new().unwrap();
    let mut url = database(folder.path()).await;
    if url.starts_with("sqlite:") {
        url.push_str("?mode=rwc");
    }
    let db = connect(&url).await;
    Migrator::up(&db, Some(BEFORE)).await.unwrap();
    let facts = Facts(db.clone());
    let mut rows = Vec::new();

    for merchant in ["mer_both", "mer_test", "mer_live"] {
        rows.push(format!(
            "INSERT INTO merchants (id, name, created_at) VALUES ('{merchant}', '{merchant}', 1)"
        ));
    }

    // One is live by an account, one by a key.
    rows.extend([
        account("acct_t", "mer_both", false),
        account("acct_l", "mer_both", true),
    ]);

    rows.push(account("acct_2", "mer_test", false));
    rows.push(
        "INSERT INTO api_keys (id, merchant_id, digest, scopes, livemode, created_at) VALUES \
        ('key_1', 'mer_live', 'd', 'admin', TRUE, 1)"
            .to_owned(),
    );

    for (mode, livemode) in [("t", false), ("l", true)] {
        let (pay, att) = (format!("pay_{mode}"), format!("att_{mode}"));
        rows.push(payment(&pay, "mer_both", livemode));
        rows.push(attempt(&att, &pay, &format!("acct_{mode}")));
        rows.push(refund(&format!("re_{mode}"), &pay, &att, "mer_both"));
        rows.push(key("payments", &format!("key-{mode}"), &pay));
        for (n, subject) in [pay, att, format!("re_{mode}"), format!("acct_{mode}")]
            .iter()
            .enumerate()
        {
            rows.push(operation(&format!("op_{mode}{n}"), "mer_both", subject));
        }
    }

    rows.extend([
        operation("op_both", "mer_both", "mer_both"),
        operation("op_test", "mer_test", "mer_test"),
    ]);
    for merchant in ["mer_both", "mer_test", "mer_live"] {
        rows.extend([routing(merchant, 1), routing(merchant, 2)]);
    }
    run(&facts, &rows).await;

    (facts, db, folder)
}

/// Rows as `column column …`, in order.
async fn read(facts: &Facts, sql: &str) -> Vec<String> {
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        // SQLite has no truth values.
        Value::Bool(is) => u8::from(*is).to_string(),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    let rows = facts.rows(sql).await;
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            row["line"]
                .as_str()
                .map_or_else(|| shown(&row["line"]), str::to_owned)
        })
        .collect();

    lines.sort();
    lines
}

const LIVE: &str = "CASE WHEN livemode THEN ' live' ELSE ' test' END";

async fn modes(facts: &Facts, table: &str, name: &str) -> Vec<String> {
    read(
        facts,
        &format!("SELECT {name} || {LIVE} AS line FROM {table}"),
    )
    .await
}

#[tokio::test]
async fn rows_from_before_get_the_mode_of_what_they_are_about() {
    let (facts, db, _folder) = from_before().await;
    Migrator::up(&db, None).await.unwrap();

    assert_eq!(
        modes(&facts, "refunds", "id").await,
        ["re_l live", "re_t test"]
    );
    let operations = modes(&facts, "operations", "id").await;
    let expected = [
        "op_both live",
        "op_l0 live",
        "op_l1 live",
        "op_l2 live",
        "op_l3 live",
        "op_t0 test",
        "op_t1 test",
        "op_t2 test",
        "op_t3 test",
        "op_test test",
    ];
    assert_eq!(operations, expected);
    // Who is somebody in both modes goes on in each with what was there.
    let routings = modes(
        &facts,
        "routing",
        "merchant_id || ' ' || CAST(version AS TEXT)",
    )
    .await;
    let expected = [
        "mer_both 1 live",
        "mer_both 1 test",
        "mer_both 2 live",
        "mer_both 2 test",
        "mer_live 1 live",
        "mer_live 2 live",
        "mer_test 1 test",
        "mer_test 2 test",
    ];
    assert_eq!(routings, expected);
    let newest = "SELECT CAST(version AS TEXT) AS line FROM routing WHERE seq IN (SELECT MAX(seq) \
                  FROM routing GROUP BY merchant_id, livemode)";
    assert_eq!(
        read(&facts, newest).await,
        ["2", "2", "2", "2"],
        "the newest version is the one that was written last"
    );
    let keys = read(
        &facts,
        "SELECT operation || ' ' || key AS line FROM idempotency_keys",
    )
    .await;
    assert_eq!(keys, ["payments key-l", "test:payments key-t"]);

    // And back, for who has to: what came after it goes first.
    let after = Migrator::migrations()
        .iter()
        .rev()
        .position(|migration| migration.name().ends_with("_owners"));
    Migrator::down(&db, Some(u32::try_from(after.unwrap()).unwrap() + 1))
        .await
        .unwrap();
    assert_eq!(
        facts.count("routing WHERE merchant_id = 'mer_both'").await,
        2
    );
    assert_eq!(
        facts
            .count("idempotency_keys WHERE operation = 'payments'")
            .await,
        2
    );
    Migrator::up(&db, None).await.unwrap();
    assert_eq!(
        modes(
            &facts,
            "routing",
            "merchant_id || ' ' || CAST(version AS TEXT)"
        )
        .await,
        expected
    );
    facts.0.close().await.unwrap();
}

#[tokio::test]
async fn an_order_a_refund_number_and_a_routing_version_are_unique_in_an_owner() {
    let (facts, db, _folder) = from_before().await;
    Migrator::up(&db, None).await.unwrap();
    let twin = |sql: &str, livemode: bool| {
        let (columns, values) = sql.split_once(") VALUES (").unwrap();
        format!(
            "{columns}, livemode) VALUES ({}, {livemode})",
            values.strip_suffix(')').unwrap()
        )
    };

    let order = |id: &str, livemode| {
        payment(id, "mer_both", livemode).replace(&format!("order-{id}"), "order-pay_t")
    };
    facts.execute(&order("pay_2", true)).await.unwrap();
    assert!(
        facts.execute(&order("pay_3", false)).await.is_err(),
        "test mode has this order already"
    );

    let number = |id: &str, mode: &str| {
        refund(
            id,
            &format!("pay_{mode}"),
            &format!("att_{mode}"),
            "mer_both",
        )
        .replace(&format!("rf-{id}"), "rf-re_t")
    };

    facts
        .execute(&twin(&number("re_2", "l"), true))
        .await
        .unwrap();
    assert!(
        facts
            .execute(&twin(&number("re_3", "t"), false))
            .await
            .is_err(),
        "test mode has this number already"
    );

    facts
        .execute(&twin(&routing("mer_both", 3), true))
        .await
        .unwrap();
    facts
        .execute(&twin(&routing("mer_both", 3), false))
        .await
        .unwrap();

    assert!(
        facts
            .execute(&twin(&routing("mer_both", 3), false))
            .await
            .is_err(),
        "version 3 is there"
    );

    facts.0.close().await.unwrap();
}

/// Readers take tables in any order: one that has what the migration wants, and wants what it has,
/// is not its end.
#[tokio::test]
async fn a_migration_and_somebody_who_reads_beside_it_do_not_wait_for_each_other() {
    let folder = TempDir::new().unwrap();
    let url = database(folder.path()).await;

    if !url.starts_with("postgres") {
        println!("skipped on SQLite: its folder is locked, so nobody reads beside a migration");
        return;
    }
    let db = connect(&url).await;
    Migrator::up(&db, Some(BEFORE)).await.unwrap();
    let reading = db.begin().await.unwrap();

    reading
        .execute_unprepared("SELECT * FROM routing")
        .await
        .unwrap();
    let opening = tokio::spawn(async move { Store::open(&url, 2, PATIENCE).await });
    tokio::time::sleep(Duration::from_millis(400)).await;
    for table in ["refunds", "payments", "operations"] {
        reading
            .execute_unprepared(&format!("SELECT * FROM {table}"))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }

    reading.commit().await.unwrap();
    opening.await.unwrap().unwrap().close().await.unwrap();
    db.close().await.unwrap();
}

/// On PostgreSQL a gateway of the version before may still be at work: it writes as above, without
/// the mode.
#[tokio::test]
async fn what_a_gateway_of_the_version_before_writes_beside_this_one_gets_its_mode() {
    let (facts, db, _folder) = from_before().await;
    Migrator::up(&db, None).await.unwrap();
    if db.get_database_backend() != DbBackend::Postgres {
        // One process has this file: the one that has migrated it.
        return;
    }
    run(
        &facts,
        &[
            refund("re_t2", "pay_t", "att_t", "mer_both"),
            refund("re_l2", "pay_l", "att_l", "mer_both"),
            operation("op_t9", "mer_both", "re_t2"),
            operation("op_l9", "mer_both", "re_l2"),
            operation("op_m9", "mer_test", "unknown"),
            routing("mer_both", 3),
            routing("mer_test", 3),
            key("payments", "key-old", "pay_t"),
        ],
    )
    .await;
    let of = |table: &str, which: &str| format!("{table} WHERE {which}");
    assert_eq!(
        modes(&facts, &of("refunds", "id LIKE 're__2'"), "id").await,
        ["re_l2 live", "re_t2 test"]
    );
    let operations = modes(&facts, &of("operations", "id LIKE 'op__9'"), "id").await;
    assert_eq!(operations, ["op_l9 live", "op_m9 test", "op_t9 test"]);
    assert_eq!(
        modes(&facts, &of("routing", "version = 3"), "merchant_id").await,
        ["mer_both live", "mer_test test"]
    );

    // A test key that it has claimed is not claimed once more here; one of real money has one name
    // in both.
    let claim = |name: &str| key("test:payments", name, "pay_t");
    assert_eq!(facts.execute(&claim("key-old")).await.unwrap(), 0);
    assert_eq!(facts.execute(&claim("key-new")).await.unwrap(), 1);
    assert_eq!(
        facts.execute(&claim("key-l")).await.unwrap(),
        1,
        "a live payment's key is no test payment's"
    );
    assert!(
        facts
            .execute(&key("payments", "key-l", "pay_l"))
            .await
            .is_err()
    );
    assert_eq!(
        json!(facts.count("idempotency_keys WHERE key = 'key-old'").await),
        json!(1)
    );
    facts.0.close().await.unwrap();
}

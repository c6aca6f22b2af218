//! The ledger: whatever happens to money, its entries balance, follow each other, and agree with
//! the rows; and whatever is done to them past the code, `doctor --ledger` finds it.

mod api;
mod cost;
mod found;
mod sealed;

use interlock::jobs;
use interlock::store::LedgerReport;
use serde_json::{Value, json};

use crate::helpers::facts::{Facts, taken_fen};
use crate::helpers::{TestApp, order};
use crate::switchover::late_money::{pay_order, until_given_back, with_an_abandoned_order};

/// A gateway whose ledger is sealed when a test says so.
async fn unsealed() -> TestApp {
    TestApp::with(&[("ledger.interval_ms", "86400000")]).await
}

/// What verifying says.
async fn verdict(app: &TestApp) -> LedgerReport {
    app.app().store.check_ledger(None, 20).await.unwrap()
}

/// Verifies that all of it agrees, and that it says what the providers' books say.
pub async fn agrees(app: &TestApp) -> LedgerReport {
    let report = verdict(app).await;
    assert_eq!(report.deviations, [], "{report:#?}");
    let (debits, credits) = report
        .totals
        .values()
        .fold((0, 0), |(d, c), (debit, credit)| (d + debit, c + credit));
    assert_eq!(debits, credits);
    report
}

/// What a ledger account holds, as it grows.
pub fn holds(report: &LedgerReport, account: &str) -> i128 {
    let found = report
        .totals
        .iter()
        .find(|(name, _)| name.to_string() == account);
    found.map_or(0, |(account, (debit, credit))| {
        if account.grows_by_debit() {
            debit - credit
        } else {
            credit - debit
        }
    })
}

/// The causes of a payment's entries, in order.
async fn causes(facts: &Facts, payment: &Value) -> Vec<String> {
    let id = payment["id"].as_str().unwrap();
    let sql = format!("SELECT cause FROM ledger_entries WHERE payment_id = '{id}' ORDER BY seq");
    facts
        .rows(&sql)
        .await
        .iter()
        .map(|row| row["cause"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn captures_and_refunds_are_booked_as_they_happen() {
    let app = TestApp::start().await;
    let facts = Facts::of(&app).await;
    app.client.route(&[&app.wechatpay]).await.expect(200);
    let (kept, parted, failed, astray) = (
        app.paid().await,
        app.paid().await,
        app.paid().await,
        app.paid().await,
    );
    let unpaid = app.client.pay(&order()).await.expect(201);
    let id = |payment: &Value| payment["id"].as_str().unwrap().to_owned();
    let refunded = async |payment: &Value, end: Option<&str>, status: &str| {
        if let Some(end) = end {
            let ends = json!({"provider": "wechatpay", "result": end});
            app.control
                .call(reqwest::Method::PUT, "/refunds", Some(ends))
                .await;
        }
        app.client.refund(&id(payment), 1000).await.expect(201);
        for pause in crate::helpers::pauses() {
            let now = app.client.payment(&id(payment)).await;
            if now["refunds"][0]["status"] == status {
                return;
            }
            app.advance(61).await;
            tokio::time::sleep(pause).await;
        }
        panic!("not {status}: {:#}", app.client.payment(&id(payment)).await);
    };
    refunded(&parted, None, "succeeded").await;
    refunded(&failed, Some("closed"), "failed").await;
    refunded(&astray, Some("abnormal"), "abnormal").await;

    assert_eq!(causes(&facts, &kept).await, ["captured"]);
    assert_eq!(
        causes(&facts, &parted).await,
        ["captured", "refund_pending", "refund_succeeded"]
    );
    assert_eq!(
        causes(&facts, &failed).await,
        ["captured", "refund_pending", "refund_failed"]
    );
    assert_eq!(
        causes(&facts, &astray).await,
        ["captured", "refund_pending", "refund_abnormal"]
    );
    assert_eq!(causes(&facts, &unpaid).await, Vec::<String>::new());
    let report = agrees(&app).await;
    assert_eq!(
        holds(&report, "at_provider") + holds(&report, "astray"),
        4 * 8888 - 1000
    );
    assert_eq!(
        (holds(&report, "astray"), holds(&report, "refund_pending")),
        (1000, 1000)
    );
    assert_eq!(holds(&report, "kept"), 4 * 8888 - 2000);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_came_twice_stands_in_suspense_until_it_has_gone_back() {
    let app = TestApp::start().await;
    let facts = Facts::of(&app).await;
    let payment = with_an_abandoned_order(&app, ["alipay", "wechatpay"], "garbled").await;
    let id = payment["id"].as_str().unwrap();
    app.control.pay(&payment).await;
    app.client.until_status(id, "succeeded").await;
    let order_no = payment["attempts"][0]["provider_order_no"]
        .as_str()
        .unwrap();
    pay_order(&app, order_no).await;
    until_given_back(&app, id).await;

    assert_eq!(
        causes(&facts, &payment).await,
        ["captured", "captured", "refund_succeeded"]
    );

    let sides = facts
        .rows("SELECT debit, credit FROM ledger_entries ORDER BY seq")
        .await;
    let sides: Vec<String> = sides
        .iter()
        .map(|row| format!("{} {}", row["debit"], row["credit"]))
        .collect();
    let expected = [
        "\"at_provider\" \"kept\"",
        "\"at_provider\" \"refund_due\"",
        "\"refund_due\" \"at_provider\"",
    ];

    assert_eq!(sides, expected);
    let report = agrees(&app).await;

    assert_eq!(
        holds(&report, "at_provider"),
        i128::from(taken_fen(&app).await)
    );
    assert_eq!(
        (holds(&report, "kept"), holds(&report, "refund_due")),
        (8888, 0)
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_from_before_the_ledger_is_opened_once() {
    let app = unsealed().await;
    let facts = Facts::of(&app).await;
    let paid = app.paid().await;

    app.client
        .refund(paid["id"].as_str().unwrap(), 888)
        .await
        .expect(201);
    app.client
        .until(paid["id"].as_str().unwrap(), |p| {
            p["amount_refunded"] == 888
        })
        .await;

    // As a database that this version finds: the rows are there, and nothing of the ledger is.
    // Whoever has read them before writes nothing over that.
    for sql in [
        "DELETE FROM ledger_entries",
        "DELETE FROM ledger_blocks",
        "DELETE FROM installation WHERE name = 'ledger_opened'",
        "UPDATE payments SET ledger_entries = NULL, ledger_hash = NULL, version = version + 1",
    ] {
        facts.execute(sql).await.unwrap();
    }

    let before = verdict(&app).await;
    assert_eq!(
        (before.deviation_count, before.not_opened),
        (0, 1),
        "{before:#?}"
    );

    jobs::ledger::step(app.app()).await.unwrap();
    let opened = agrees(&app).await;

    assert_eq!(
        (opened.not_opened, opened.unsealed, holds(&opened, "kept")),
        (0, 0, 8000)
    );

    let all = causes(&facts, &paid).await;
    assert!(
        all.iter().all(|cause| cause == "opening") && !all.is_empty(),
        "{all:?}"
    );

    // What is not in it from then on was not written by this version.
    facts.execute("DELETE FROM ledger_entries").await.unwrap();
    facts
        .execute(
            "UPDATE payments SET ledger_entries = NULL, ledger_hash = NULL, version = version + 1",
        )
        .await
        .unwrap();

    jobs::ledger::step(app.app()).await.unwrap();
    let found = verdict(&app).await;

    assert!(
        found
            .deviations
            .iter()
            .any(|d| d.what.contains("not in the ledger")),
        "{found:#?}"
    );

    app.stop().await;
}

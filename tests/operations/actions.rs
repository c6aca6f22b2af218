//! Each action, carried out by two persons against a real provider's face: what it does to the
//! payment, to the money, and to the ledger.

use std::time::Duration;

use serde_json::{Value, json};

use super::{PAST_DEADLINES_S, decide, held, only, possible, raise, say, two_persons};
use crate::helpers::facts::{Facts, in_book};
use crate::helpers::{TestApp, order};
use crate::ledger::{agrees, holds};
use crate::switchover::late_money::{pay_order, until_given_back, with_an_abandoned_order};

fn id(payment: &Value) -> &str {
    payment["id"].as_str().unwrap()
}

fn order_no(payment: &Value, attempt: usize) -> &str {
    payment["attempts"][attempt]["provider_order_no"]
        .as_str()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn held_money_is_kept_when_two_persons_say_so() {
    let app = TestApp::start().await;
    let (payment, entry) = held(&app).await;
    let persons = two_persons(&app).await;
    assert_eq!(possible(&entry), ["keep", "refund", "returned"]);
    assert_eq!(entry["payment"]["id"], payment["id"]);
    assert_eq!(
        (&entry["money"]["asked"], &entry["money"]["captured"]),
        (&json!(8887), &json!(8888))
    );
    assert_eq!(holds(&agrees(&app).await, "held"), 8888);

    decide(&persons, &entry, "keep").await;
    let kept = app.client.payment(id(&payment)).await;

    assert_eq!(
        (&kept["status"], &kept["amount_captured"]),
        (&json!("succeeded"), &json!(8888)),
        "{kept:#}"
    );

    assert_eq!(kept["attempts"][0]["disposition"], "kept");
    let told = Facts::of(&app).await.told(id(&payment)).await;

    assert_eq!(
        told.iter().filter(|t| *t == "payment.succeeded").count(),
        1,
        "{told:?}"
    );

    app.client.refund(id(&payment), 8888).await.expect(201);
    app.client
        .until(id(&payment), |p| p["amount_refunded"] == 8888)
        .await;
    let report = agrees(&app).await;

    assert_eq!(
        (
            holds(&report, "held"),
            holds(&report, "kept"),
            holds(&report, "at_provider")
        ),
        (0, 0, 0)
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_money_goes_back_when_two_persons_say_so() {
    let app = TestApp::start().await;
    let (payment, entry) = held(&app).await;
    decide(&two_persons(&app).await, &entry, "refund").await;
    until_given_back(&app, id(&payment)).await;
    let after = app.client.until_status(id(&payment), "expired").await;

    assert_eq!(
        (&after["amount_captured"], &after["refunds"][0]["automatic"]),
        (&json!(0), &json!(true)),
        "{after:#}"
    );

    assert_eq!(in_book(&app, order_no(&payment, 0), "refunded").await, 8888);
    let report = agrees(&app).await;

    assert_eq!(
        (
            holds(&report, "held"),
            holds(&report, "refund_due"),
            holds(&report, "at_provider")
        ),
        (0, 0, 0)
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_money_that_its_provider_has_returned_is_booked_so_and_nothing_is_sent() {
    let app = TestApp::start().await;
    let (payment, entry) = held(&app).await;
    decide(&two_persons(&app).await, &entry, "returned").await;
    let after = app.client.until_status(id(&payment), "expired").await;
    assert_eq!(after["attempts"][0]["disposition"], "returned_by_provider");
    app.advance(3_600).await;
    assert_eq!(app.client.payment(id(&payment)).await["refunds"], json!([]));
    let report = agrees(&app).await;
    assert_eq!(
        (holds(&report, "held"), holds(&report, "at_provider")),
        (0, 0)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_its_provider_was_to_return_is_adopted_by_its_expired_payment() {
    let app = TestApp::start().await;
    app.client.route(&[&app.unionpay]).await.expect(200);
    let payment = app.client.pay(&order()).await.expect(201);
    app.advance(901).await;
    let late = json!({"order_no": order_no(&payment, 0), "result": "late"});

    assert_eq!(
        app.control
            .call(reqwest::Method::POST, "/pay", Some(late))
            .await
            .0,
        200
    );

    app.advance(PAST_DEADLINES_S).await;
    app.client.until_status(id(&payment), "expired").await;
    let entry = only(&app.client, "capture_returning").await;
    assert_eq!(possible(&entry), ["returned", "keep"]);

    say(&app.client, &entry, "refund").await.problem(
        422,
        "action_not_for_this_kind",
        Some("action"),
    );

    decide(&two_persons(&app).await, &entry, "keep").await;
    let kept = app.client.payment(id(&payment)).await;

    assert_eq!(
        (&kept["status"], &kept["amount_captured"]),
        (&json!("succeeded"), &json!(8888)),
        "{kept:#}"
    );

    let told = Facts::of(&app).await.told(id(&payment)).await;
    assert_eq!(told.last().unwrap(), "payment.succeeded");
    assert_eq!(holds(&agrees(&app).await, "kept"), 8888);
    app.stop().await;
}

/// Money that came too late, and whose automatic refund has failed at WeChat Pay under all its
/// numbers.
async fn failed_refund(app: &TestApp) -> (Value, Value) {
    let payment = with_an_abandoned_order(app, ["wechatpay", "alipay"], "garbled").await;
    app.control.pay(&payment).await;
    app.client.until_status(id(&payment), "succeeded").await;
    let ends = json!({"provider": "wechatpay", "result": "closed"});
    app.control
        .call(reqwest::Method::PUT, "/refunds", Some(ends))
        .await;
    pay_order(app, order_no(&payment, 0)).await;

    for pause in crate::helpers::pauses() {
        if app.client.payment(id(&payment)).await["refunds"][0]["status"] == "failed" {
            return (payment, only(&app.client, "automatic_refund_failed").await);
        }
        app.advance(61).await;
        tokio::time::sleep(pause).await;
    }

    panic!(
        "it does not fail: {:#}",
        app.client.payment(id(&payment)).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_automatic_refund_that_failed_is_tried_once_more_under_another_number() {
    let app = TestApp::start().await;
    let (payment, entry) = failed_refund(&app).await;
    // The payment has its money: this would be kept beside it.
    assert_eq!(possible(&entry), ["retry", "refunded"]);

    say(&app.client, &entry, "keep")
        .await
        .problem(409, "action_not_possible", Some("action"));
    let ends = json!({"provider": "wechatpay", "result": "done"});
    app.control
        .call(reqwest::Method::PUT, "/refunds", Some(ends))
        .await;
    decide(&two_persons(&app).await, &entry, "retry").await;

    for pause in crate::helpers::pauses() {
        if app.client.payment(id(&payment)).await["attempts"][0]["disposition"] == "refunded" {
            break;
        }
        app.advance(61).await;
        tokio::time::sleep(pause).await;
    }

    let after = app.client.payment(id(&payment)).await;
    let statuses: Vec<&str> = after["refunds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["status"].as_str().unwrap())
        .collect();

    assert_eq!(statuses, ["failed", "succeeded"], "{after:#}");
    assert_eq!(in_book(&app, order_no(&payment, 0), "refunded").await, 8888);
    assert_eq!(holds(&agrees(&app).await, "refund_due"), 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_a_person_has_given_back_at_the_provider_is_booked_as_gone() {
    let app = TestApp::start().await;
    let (payment, entry) = failed_refund(&app).await;
    assert_eq!(holds(&agrees(&app).await, "refund_due"), 8888);
    decide(&two_persons(&app).await, &entry, "refunded").await;
    let after = app.client.payment(id(&payment)).await;
    assert_eq!(after["attempts"][0]["disposition"], "refunded");
    let report = agrees(&app).await;
    assert_eq!(
        (holds(&report, "refund_due"), holds(&report, "at_provider")),
        (0, 8888)
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_went_astray_ends_as_its_providers_console_says() {
    let app = TestApp::start().await;
    app.client.route(&[&app.wechatpay]).await.expect(200);
    let persons = two_persons(&app).await;
    let ends = json!({"provider": "wechatpay", "result": "abnormal"});
    app.control
        .call(reqwest::Method::PUT, "/refunds", Some(ends))
        .await;
    for (action, status, kept) in [
        ("refunded", "succeeded", 7888),
        ("not_refunded", "failed", 7888 + 8888),
    ] {
        let paid = app.paid().await;
        app.client.refund(id(&paid), 1000).await.expect(201);
        for pause in crate::helpers::pauses() {
            if app.client.payment(id(&paid)).await["refunds"][0]["status"] == "abnormal" {
                break;
            }
            app.advance(61).await;
            tokio::time::sleep(pause).await;
        }
        let entry = only(&app.client, "refund_abnormal").await;
        assert_eq!(holds(&agrees(&app).await, "astray"), 1000);
        decide(&persons, &entry, action).await;
        assert_eq!(
            app.client.payment(id(&paid)).await["refunds"][0]["status"],
            status
        );
        let told = Facts::of(&app).await.told(id(&paid)).await;
        assert_eq!(told.last().unwrap(), &format!("refund.{status}"));
        let report = agrees(&app).await;
        assert_eq!(
            (holds(&report, "astray"), holds(&report, "kept")),
            (0, kept)
        );
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_again_asks_the_provider_again() {
    let app = TestApp::start().await;
    app.client.route(&[&app.wechatpay]).await.expect(200);
    let payment = app.client.pay(&order()).await.expect(201);
    let facts = Facts::of(&app).await;

    // Nobody hears of its payment, and nobody asks any more.
    app.control
        .fault(json!({"provider": "wechatpay", "kind": "drop"}))
        .await;
    facts
        .execute("UPDATE attempts SET questions = 30, next_check_at = NULL")
        .await
        .unwrap();

    facts
        .execute(
            "UPDATE payments SET next_check_at = NULL, resume_at = NULL, version = version + 1",
        )
        .await
        .unwrap();

    app.control.pay(&payment).await;
    raise(
        &app,
        "unresolved",
        payment["attempts"][0]["id"].as_str().unwrap(),
    )
    .await;

    let entry = only(&app.client, "unresolved").await;
    assert_eq!(
        (possible(&entry), &entry["money"]["questions"]),
        (vec!["ask_again"], &json!(30))
    );

    decide(&two_persons(&app).await, &entry, "ask_again").await;
    app.client.until_status(id(&payment), "succeeded").await;
    agrees(&app).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_was_stuck_and_a_refund_without_funds_go_on_when_they_are_asked_about_again()
{
    let app = TestApp::start().await;
    app.client.route(&[&app.wechatpay]).await.expect(200);
    let persons = two_persons(&app).await;
    let paid = app.paid().await;
    let ends = json!({"provider": "wechatpay", "result": "no_funds"});
    app.control
        .call(reqwest::Method::PUT, "/refunds", Some(ends))
        .await;
    app.client.refund(id(&paid), 1000).await.expect(201);
    let entry = only(&app.client, "refund_needs_funds").await;
    app.control
        .call(
            reqwest::Method::PUT,
            "/refunds",
            Some(json!({"provider": "wechatpay", "result": "done"})),
        )
        .await;
    decide(&persons, &entry, "ask_again").await;
    for pause in crate::helpers::pauses() {
        if app.client.payment(id(&paid)).await["amount_refunded"] == 1000 {
            break;
        }
        app.advance(61).await;
        tokio::time::sleep(pause).await;
    }
    assert_eq!(app.client.payment(id(&paid)).await["amount_refunded"], 1000);

    // Leased for long by a worker that is gone, and due: stuck, until its lease is taken away.
    let payment = app.client.pay(&order()).await.expect(201);
    let facts = Facts::of(&app).await;
    let lease = app.app().clock.now().plus_s(86_400).0;
    let stuck = format!(
        "UPDATE payments SET lease_until = {lease}, next_check_at = 1, resume_at = 1, version = \
        version + 1 WHERE id = '{}'",
        id(&payment)
    );
    facts.execute(&stuck).await.unwrap();
    raise(&app, "payment_stuck", id(&payment)).await;
    let entry = only(&app.client, "payment_stuck").await;
    decide(&persons, &entry, "ask_again").await;
    let began = std::time::Instant::now();
    while facts.count("payments WHERE next_check_at = 1").await > 0 {
        assert!(
            began.elapsed() < crate::helpers::PATIENCE,
            "nobody takes it"
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_set_aside_takes_payments_again() {
    let app = TestApp::start().await;
    app.client
        .route(&[&app.alipay, &app.wechatpay])
        .await
        .expect(200);
    let until = app.app().clock.now().plus_s(86_400);
    app.app()
        .store
        .set_account_aside(&app.alipay, Some(until), "FROZEN")
        .await
        .unwrap();
    app.app().directory.changed().await.unwrap();
    raise(&app, "account_refused", &app.alipay).await;
    assert_eq!(
        app.client.pay(&order()).await.expect(201)["provider"],
        "wechatpay"
    );
    let entry = only(&app.client, "account_refused").await;
    decide(&two_persons(&app).await, &entry, "account_ok").await;
    assert_eq!(
        app.client.pay(&order()).await.expect(201)["provider"],
        "alipay"
    );

    raise(&app, "notification_mismatch", "n-1").await;
    let entry = only(&app.client, "notification_mismatch").await;
    assert_eq!(
        (possible(&entry), &entry["payment"]),
        (vec!["acknowledge"], &Value::Null)
    );
    decide(&two_persons(&app).await, &entry, "acknowledge").await;
    app.stop().await;
}

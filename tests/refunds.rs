//! Refunds: however many are asked for at once, no more goes back than was taken; and whatever a
//! provider says of one, the merchant is told the truth of it.

mod after_a_no;
mod console;

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::facts::Facts;
use crate::helpers::{TestApp, fresh, pauses};

fn id(payment: &Value) -> &str {
    payment["id"].as_str().unwrap()
}

/// Asks for this many fen, under a key and a number of its own; again when the gateway has too much
/// to do.
async fn refund(app: &TestApp, payment: &str, fen: i64) -> (u16, Value) {
    let body = json!({"amount": fen, "merchant_refund_no": fresh("rf")});
    let (path, key) = (format!("/v1/payments/{payment}/refunds"), fresh("key"));
    loop {
        let answer = app.client.post(&path, &key, &body).await;
        match answer.status.as_u16() {
            // Its first request may still be on its way through the queue, or was never read to its
            // end.
            408 | 503 | 409 => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            status => return (status, answer.json()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_refunds_at_once_give_back_what_was_taken_and_no_more() {
    for (provider, step) in [("alipay", 37), ("wechatpay", 0)] {
        let fen = |n: i64| 500 + n * step % 900;
        let app = TestApp::start().await;
        app.client
            .route(&[&app.account(provider)])
            .await
            .expect(200);
        let payment = app.paid().await;
        let answers = join_all((0..1000).map(|n| refund(&app, id(&payment), fen(n)))).await;
        let mut promised = 0;
        let mut statuses = std::collections::BTreeMap::new();
        for (status, body) in &answers {
            *statuses.entry(*status).or_insert(0) += 1;
            match status {
                200 | 201 => promised += body["amount"].as_i64().unwrap(),
                422 => assert_eq!(body["code"], "refund_too_large"),
                other => panic!("{other}: {body}"),
            }
        }
        println!("{provider}: {statuses:?}, {promised} fen promised");
        // Whatever was left when the last one came was too little for some.
        assert!((7490..=8888).contains(&promised), "{promised}");
        let facts = Facts::of(&app).await;
        let stored = facts.rows("SELECT amount FROM refunds").await;
        assert_eq!(
            stored
                .iter()
                .map(|row| row["amount"].as_i64().unwrap())
                .sum::<i64>(),
            promised
        );
        let (open, began) = (
            "refunds WHERE status = 'pending'",
            std::time::Instant::now(),
        );
        while facts.count(open).await > 0 {
            assert!(
                began.elapsed() < 3 * crate::helpers::PATIENCE,
                "they do not end"
            );
            app.advance(61).await;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        app.advance(3_600).await;
        assert_eq!(
            app.control.orders().await[0]["refunded"],
            promised,
            "{provider}: all of that, and no more"
        );
        app.stop().await;
    }
}

/// A paid payment over this provider, and a refund of 5000 fen whose provider ends the next ones
/// like this.
async fn refund_that_ends(
    app: &TestApp,
    provider: &str,
    result: &str,
    count: u32,
) -> (Value, Value) {
    app.client
        .route(&[&app.account(provider)])
        .await
        .expect(200);
    let payment = app.paid().await;
    let body = json!({"provider": provider, "result": result, "count": count});
    let (status, said) = app.control.call(Method::PUT, "/refunds", Some(body)).await;
    assert_eq!(status, 200, "{said}");
    let refund = app.client.refund(id(&payment), 5000).await.expect(201);
    (payment, refund)
}

/// Moves the time on until the refund is as wanted.
async fn in_time(app: &TestApp, refund: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/v1/refunds/{}", id(refund));
    for pause in pauses() {
        let now = app.client.get(&path).await.expect(200);
        if wanted(&now) {
            return now;
        }
        app.advance(65).await;
        tokio::time::sleep(pause).await;
    }
    panic!(
        "still not as wanted: {:#}",
        app.client.get(&path).await.json()
    );
}

/// The same for a payment.
async fn until(app: &TestApp, payment: &Value, wanted: impl AsyncFn(&Value) -> bool) -> Value {
    for pause in pauses() {
        let now = app.client.payment(id(payment)).await;
        if wanted(&now).await {
            return now;
        }
        app.advance(65).await;
        tokio::time::sleep(pause).await;
    }
    panic!(
        "it does not come to that: {:#}",
        app.client.payment(id(payment)).await
    )
}

async fn numbers_in_the_books(app: &TestApp) -> Vec<(String, String)> {
    let orders = app.control.orders().await;
    let refunds = orders[0]["refunds"].as_array().unwrap().iter();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    refunds
        .map(|r| (text(&r["refund_no"]), text(&r["status"])))
        .collect()
}

async fn told(app: &TestApp, payment: &Value) -> Vec<String> {
    let told = Facts::of(app).await.told(id(payment)).await;
    told.into_iter()
        .filter(|kind| kind.starts_with("refund."))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_its_provider_closed_goes_on_under_another_number_where_that_is_allowed() {
    for provider in ["wechatpay", "unionpay"] {
        let app = TestApp::start().await;
        let (payment, refund) = refund_that_ends(&app, provider, "closed", 1).await;
        let done = in_time(&app, &refund, |r| r["status"] == "succeeded").await;
        assert_ne!(
            done["provider_refund_no"], refund["provider_refund_no"],
            "{provider}"
        );
        assert_eq!(
            (&done["id"], &done["failure"]),
            (&refund["id"], &json!(null))
        );
        let mut numbers = numbers_in_the_books(&app).await;
        numbers.sort_by(|a, b| a.1.cmp(&b.1));
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let expected = [
            (text(&refund["provider_refund_no"]), "closed".to_owned()),
            (text(&done["provider_refund_no"]), "done".to_owned()),
        ];
        assert_eq!(numbers, expected, "{provider}");
        assert_eq!(app.control.orders().await[0]["refunded"], 5000);
        assert_eq!(
            told(&app, &payment).await,
            ["refund.succeeded"],
            "{provider}"
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_is_closed_again_and_again_has_failed_and_its_money_can_be_refunded() {
    for provider in ["wechatpay", "unionpay"] {
        let app = TestApp::start().await;
        let (payment, refund) = refund_that_ends(&app, provider, "closed", 3).await;
        let failed = in_time(&app, &refund, |r| r["status"] == "failed").await;
        assert!(failed["failure"]["code"].is_string(), "{failed:#}");
        let numbers = numbers_in_the_books(&app).await;
        assert_eq!(numbers.len(), 3, "{provider}: {failed:#} {numbers:?}");
        assert_eq!(told(&app, &payment).await, ["refund.failed"]);
        let rest = app.client.refund(id(&payment), 8888).await.expect(201);
        in_time(&app, &rest, |r| r["status"] == "succeeded").await;
        assert_eq!(app.control.orders().await[0]["refunded"], 8888);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_alipay_a_refund_keeps_its_number_whatever_happens() {
    for (result, count) in [("closed", 1), ("closed", 2), ("no_funds", 1)] {
        let app = TestApp::start().await;
        let (payment, refund) = refund_that_ends(&app, "alipay", result, count).await;
        let done = in_time(&app, &refund, |r| r["status"] == "succeeded").await;
        assert_eq!(
            done["provider_refund_no"], refund["provider_refund_no"],
            "{result}"
        );
        let expected = [(
            done["provider_refund_no"].as_str().unwrap().to_owned(),
            "done".to_owned(),
        )];
        assert_eq!(numbers_in_the_books(&app).await, expected, "{result}");
        assert_eq!(told(&app, &payment).await, ["refund.succeeded"], "{result}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_for_which_the_merchant_lacks_the_money_says_so_and_goes_on_after_topping_up() {
    for provider in ["alipay", "wechatpay"] {
        let app = TestApp::start().await;
        let (payment, refund) = refund_that_ends(&app, provider, "no_funds", 1_000).await;
        let waiting = in_time(&app, &refund, |r| r["needs_funds"] == true).await;
        assert_eq!(
            (&waiting["status"], told(&app, &payment).await.len()),
            (&json!("pending"), 0),
            "{waiting:#}"
        );
        for _ in 0..5 {
            app.advance(700).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // While it is being sent once more, nobody knows what it will be told.
        let waiting = in_time(&app, &refund, |r| r["needs_funds"] == true).await;
        assert_eq!(waiting["status"], "pending");
        let topped_up = json!({"provider": provider, "result": "done"});
        assert_eq!(
            app.control
                .call(Method::PUT, "/refunds", Some(topped_up))
                .await
                .0,
            200
        );
        let done = in_time(&app, &refund, |r| r["status"] == "succeeded").await;
        assert_eq!(
            (&done["needs_funds"], &done["provider_refund_no"]),
            (&json!(false), &refund["provider_refund_no"])
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_does_not_reach_its_payer_is_abnormal_and_stands_on_the_work_list() {
    let app = TestApp::start().await;
    let (payment, refund) = refund_that_ends(&app, "wechatpay", "abnormal", 1).await;
    let astray = in_time(&app, &refund, |r| r["status"] == "abnormal").await;
    assert_eq!(astray["provider_refund_no"], refund["provider_refund_no"]);
    assert!(astray["failure"]["code"].is_string(), "{astray:#}");
    assert_eq!(told(&app, &payment).await, ["refund.abnormal"]);
    assert_eq!(
        Facts::of(&app)
            .await
            .count("operations WHERE kind = 'refund_abnormal'")
            .await,
        1
    );

    // Its money has left the merchant: it is not there to be refunded again.
    app.client
        .refund(id(&payment), 3889)
        .await
        .problem(422, "refund_too_large", Some("amount"));

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_refunds_that_are_made_by_themselves_are_nobody_elses() {
    let app = TestApp::start().await;
    let payment = app.paid().await;
    let number = format!("auto-{}", payment["attempts"][0]["id"].as_str().unwrap());
    let body = json!({"amount": 1, "merchant_refund_no": number});
    let answer = app
        .client
        .post(
            &format!("/v1/payments/{}/refunds", id(&payment)),
            &fresh("key"),
            &body,
        )
        .await;
    answer.problem(422, "invalid_parameter", Some("merchant_refund_no"));
    assert_eq!(Facts::of(&app).await.count("refunds").await, 0);
    app.stop().await;
}

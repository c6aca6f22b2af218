//! Refunds that must not be: too much, twice, at once, of nothing.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{money, post, unchanged};
use crate::helpers::{TestApp, fresh, order, rows};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_refund_is_refused_and_leaves_no_row() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let paid = app.paid().await;
    let id = paid["id"].as_str().unwrap();
    let path = format!("/v1/payments/{id}/refunds");
    let open = app.client.pay(&order()).await.expect(201);
    let before = money(&db).await;
    let good = || json!({"amount": 100, "merchant_refund_no": fresh("rf"), "reason": "returned"});
    let cases: Vec<(&str, Value, &str, &str)> = vec![
        ("amount", json!(0), "invalid_parameter", "amount"),
        ("amount", json!(-1), "invalid_parameter", "amount"),
        ("amount", json!(1.5), "invalid_parameter", "amount"),
        ("amount", json!("1"), "invalid_parameter", "amount"),
        ("amount", json!(null), "invalid_parameter", "amount"),
        ("amount", json!(8_889), "refund_too_large", "amount"),
        ("amount", json!(i64::MAX), "refund_too_large", "amount"),
        (
            "merchant_refund_no",
            json!(""),
            "invalid_parameter",
            "merchant_refund_no",
        ),
        (
            "merchant_refund_no",
            json!("x".repeat(65)),
            "invalid_parameter",
            "merchant_refund_no",
        ),
        (
            "merchant_refund_no",
            json!("x\u{0}"),
            "invalid_parameter",
            "merchant_refund_no",
        ),
        (
            "merchant_refund_no",
            json!(1),
            "invalid_parameter",
            "merchant_refund_no",
        ),
        ("reason", json!(""), "invalid_parameter", "reason"),
        (
            "reason",
            json!("x".repeat(81)),
            "invalid_parameter",
            "reason",
        ),
        ("reason", json!("x\u{0}y"), "invalid_parameter", "reason"),
        ("reason", json!(7), "invalid_parameter", "reason"),
        ("currency", json!("CNY"), "invalid_parameter", "currency"),
    ];
    for (member, value, code, param) in cases {
        eprintln!("{member} = {value}");
        let mut body = good();
        body[member] = value;
        post(&app.client, &path, body.to_string())
            .await
            .problem(422, code, Some(param));
    }
    post(
        &app.client,
        &path,
        r#"{"amount":1,"amount":2,"merchant_refund_no":"x"}"#,
    )
    .await
    .problem(400, "invalid_body", Some("amount"));
    let unpaid = post(
        &app.client,
        &format!("/v1/payments/{}/refunds", open["id"].as_str().unwrap()),
        good().to_string(),
    )
    .await;
    unpaid.problem(409, "payment_not_refundable", None);
    post(
        &app.client,
        "/v1/payments/pay_nonsense/refunds",
        good().to_string(),
    )
    .await
    .problem(404, "not_found", None);
    unchanged(&before, &money(&db).await, "a wrong refund");

    let (key, body) = (fresh("key"), good());
    let first = app.client.post(&path, &key, &body).await;
    let made = first.expect(201);
    let before = money(&db).await;
    let replayed = app.client.post(&path, &key, &body).await;
    replayed.expect(201);
    assert_eq!(
        (
            &replayed.bytes,
            replayed.headers["idempotency-replayed"].to_str().unwrap()
        ),
        (&first.bytes, "true")
    );
    let mut other_amount = body.clone();
    other_amount["amount"] = json!(101);
    app.client.post(&path, &key, &other_amount).await.problem(
        422,
        "idempotency_key_reused",
        Some("Idempotency-Key"),
    );
    for body in [&body, &other_amount] {
        let taken = app.client.post(&path, &fresh("key"), body).await;
        let problem = taken.problem(409, "merchant_refund_no_in_use", Some("merchant_refund_no"));
        assert_eq!(problem["resource"], made["id"], "{problem}");
    }
    // The number is taken on every other payment, too.
    let other = app.paid().await;
    let elsewhere = format!("/v1/payments/{}/refunds", other["id"].as_str().unwrap());
    let before = {
        drop(before);
        money(&db).await
    };
    let taken = app.client.post(&elsewhere, &fresh("key"), &body).await;
    taken.problem(409, "merchant_refund_no_in_use", Some("merchant_refund_no"));
    app.client
        .refund(id, 8_789)
        .await
        .problem(422, "refund_too_large", Some("amount"));
    unchanged(
        &before,
        &money(&db).await,
        "a second refund under one number, or over what is left,",
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_that_come_at_once_never_give_back_more_than_came_in() {
    for provider in ["alipay", "wechatpay"] {
        let app = TestApp::start().await;
        let db = app.db().await;
        let account = if provider == "alipay" {
            &app.alipay
        } else {
            &app.wechatpay
        };
        app.client.route(&[account]).await.expect(200);
        let paid = app.paid().await;
        let id = paid["id"].as_str().unwrap();
        // 8888 fen are there: eight of these fit.
        let answers = join_all((0..32).map(|_| app.client.refund(id, 1_000))).await;
        let made = answers.iter().filter(|a| a.status == 201).count();
        for answer in answers.iter().filter(|a| a.status != 201) {
            answer.problem(422, "refund_too_large", Some("amount"));
        }
        assert_eq!(made, 8);
        assert_eq!(
            rows::counts(&db, &["refunds"]).await,
            [("refunds".to_owned(), 8)]
        );
        // Two for all that is left: one of them gets it.
        let last = join_all([app.client.refund(id, 888), app.client.refund(id, 888)]).await;
        let mut statuses: Vec<u16> = last.iter().map(|a| a.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 422]);
        let mut refunded = 0;
        for _ in 0..200 {
            refunded = app.client.payment(id).await["amount_refunded"]
                .as_i64()
                .unwrap();
            if refunded == 8_888 {
                break;
            }
            app.advance(10).await;
            interlock::jobs::resolver::step(app.app()).await.unwrap();
        }
        assert_eq!(refunded, 8_888, "{}", app.client.payment(id).await);
        let book = &app.control.orders().await[0];
        assert_eq!(
            (&book["captured"], &book["refunded"]),
            (&json!(8_888), &json!(8_888)),
            "{provider}"
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_refund_sent_many_times_at_once_is_one_refund() {
    let app = TestApp::start().await;
    let paid = app.paid().await;
    let path = format!("/v1/payments/{}/refunds", paid["id"].as_str().unwrap());
    let (key, body) = (
        fresh("key"),
        json!({"amount": 5_000, "merchant_refund_no": fresh("rf")}),
    );
    let answers = join_all((0..16).map(|_| app.client.post(&path, &key, &body))).await;

    for answer in &answers {
        match answer.status.as_u16() {
            201 | 200 => assert_eq!(answer.json()["amount"], 5_000),
            _ => drop(answer.problem(409, "request_in_progress", None)),
        }
    }

    // The same number under other keys: one more refund would give back more than the merchant has
    // asked for.
    let body = json!({"amount": 100, "merchant_refund_no": fresh("rf")});
    let keys: Vec<String> = (0..16).map(|_| fresh("key")).collect();
    let answers = join_all(keys.iter().map(|key| app.client.post(&path, key, &body))).await;
    assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 1);

    for answer in answers.iter().filter(|a| a.status != 201) {
        answer.problem(409, "merchant_refund_no_in_use", Some("merchant_refund_no"));
    }
    assert_eq!(
        rows::counts(&app.db().await, &["refunds"]).await,
        [("refunds".to_owned(), 2)]
    );

    app.stop().await;
}

//! The dry run: it tells what the next payment will meet, and changes nothing.

use serde_json::{Value, json};

use super::{change, post, rule, rules};
use crate::helpers::{TestApp, attempts, order, rows};

async fn preview(app: &TestApp, body: Value) -> Value {
    post(&app.client, "/v1/routing/preview", &body)
        .await
        .expect(200)
}

fn accounts(preview: &Value) -> Vec<(&str, Option<u64>, Option<&str>)> {
    let all = preview["accounts"].as_array().unwrap();
    all.iter()
        .map(|a| {
            (
                a["provider"].as_str().unwrap(),
                a["position"].as_u64(),
                a["skipped"].as_str(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_shows_the_order_that_the_next_payment_gets_and_changes_nothing() {
    let app = TestApp::start().await;
    let all = [
        app.alipay.as_str(),
        app.wechatpay.as_str(),
        app.unionpay.as_str(),
    ];

    let asked = json!({"amount": 8888, "flow": "qr"});
    let bare = preview(&app, asked.clone()).await;

    assert_eq!(
        (&bare["rule"], &bare["strategy"], &bare["version"]),
        (&Value::Null, &json!("oldest_first"), &json!(0))
    );

    rules(
        &app,
        json!([
            rule(json!({"flow": "barcode"}), "priority", &all),
            rule(json!({}), "round_robin", &all)
        ]),
    )
    .await;

    let db = app.db().await;
    for _ in 0..4 {
        let written = rows::counts(&db, &rows::MONEY).await;
        let seen = preview(&app, asked.clone()).await;
        assert_eq!(
            seen["accounts"],
            preview(&app, asked.clone()).await["accounts"],
            "no turn is taken"
        );
        assert_eq!(rows::counts(&db, &rows::MONEY).await, written);
        assert_eq!(
            (&seen["rule"], &seen["strategy"], &seen["result"]),
            (&json!(1), &json!("round_robin"), &json!("routed"))
        );
        let first = &seen["accounts"][0];
        assert_eq!(
            (&first["position"], &first["gate"]),
            (&json!(1), &json!("closed"))
        );
        assert!(
            first["score"].as_f64().is_some_and(|score| score > 0.9),
            "{first}"
        );
        let payment = app.client.pay(&order()).await.expect(201);
        assert_eq!(
            payment["account"], first["account"],
            "the very order that the payment got"
        );
        assert_eq!(attempts(&payment).len(), 1);
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_tells_of_each_account_why_it_would_not_be_asked() {
    let app = TestApp::start().await;
    let (alipay, wechatpay, unionpay) = (
        app.alipay.as_str(),
        app.wechatpay.as_str(),
        app.unionpay.as_str(),
    );

    let night = json!({"hours": {"from": "22:00", "to": "06:00", "weekdays": ["fri"]}});
    rules(
        &app,
        json!([
            rule(night, "priority", &[wechatpay, unionpay]),
            rule(
                json!({"metadata": {"kind": "vip"}}),
                "priority",
                &[unionpay, wechatpay]
            ),
            rule(json!({}), "priority", &[alipay, wechatpay]),
        ]),
    )
    .await;

    change(
        &app,
        unionpay,
        json!({"limits": {"payment": {"max": 100_000}}}),
    )
    .await
    .expect(200);

    change(
        &app,
        wechatpay,
        json!({"maintenance": [{"from": "03:00", "to": "04:00"}]}),
    )
    .await
    .expect(200);

    // 2026-01-02 is a Friday.
    for (asked, rule, result, expected) in [
        (
            json!({"amount": 8888, "flow": "qr", "at": "2026-01-02T23:00:00+08:00"}),
            0,
            "routed",
            vec![
                ("wechatpay", Some(1), None),
                ("unionpay", Some(2), None),
                ("alipay", None, Some("not_in_rule")),
            ],
        ),
        (
            json!({"amount": 8888, "flow": "qr", "at": "2026-01-02T19:30:00Z"}),
            0,
            "routed",
            vec![
                ("unionpay", Some(1), None),
                ("wechatpay", None, Some("in_maintenance")),
                ("alipay", None, Some("not_in_rule")),
            ],
        ),
        (
            json!({"amount": 200_000, "flow": "qr", "metadata": {"kind": "vip"},
                "at": "2026-01-02T12:00:00+08:00"}),
            1,
            "routed",
            vec![
                ("wechatpay", Some(1), None),
                ("unionpay", None, Some("amount_out_of_limits")),
                ("alipay", None, Some("not_in_rule")),
            ],
        ),
        (
            json!({"amount": 8888, "flow": "qr", "providers": ["unionpay"],
                "at": "2026-01-02T12:00:00+08:00"}),
            2,
            "not_served",
            vec![
                ("alipay", None, Some("not_asked_for")),
                ("wechatpay", None, Some("not_asked_for")),
                ("unionpay", None, Some("not_in_rule")),
            ],
        ),
        (
            json!({"amount": 8888, "flow": "qr", "providers": ["wechatpay"],
                "at": "2026-01-02T03:00:00+08:00"}),
            2,
            "not_able",
            vec![
                ("alipay", None, Some("not_asked_for")),
                ("wechatpay", None, Some("in_maintenance")),
                ("unionpay", None, Some("not_in_rule")),
            ],
        ),
    ] {
        let seen = preview(&app, asked.clone()).await;
        assert_eq!(
            (&seen["rule"], &seen["result"]),
            (&json!(rule), &json!(result)),
            "{asked}: {seen:#}"
        );
        assert_eq!(accounts(&seen), expected, "{asked}");
    }

    app.stop().await;
}

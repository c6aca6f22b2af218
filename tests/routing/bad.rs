//! What cannot be routed by is refused with the path of its member, and nothing changes.

use serde_json::{Value, json};

use super::{change, post, put, rule, rules};
use crate::helpers::{TestApp, rows};

fn weighted(weights: &[Value], accounts: &[&str]) -> Value {
    let one = |(id, weight): (&&str, &Value)| {
        if weight.is_null() {
            json!({ "id": id })
        } else {
            json!({"id": id, "weight": weight})
        }
    };
    let accounts: Vec<Value> = accounts.iter().zip(weights).map(one).collect();
    json!({"rules": [{"strategy": "weighted", "accounts": accounts}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_cannot_be_are_named_by_their_path_and_change_nothing() {
    let app = TestApp::start().await;
    let both = [app.alipay.as_str(), app.wechatpay.as_str()];
    rules(&app, json!([rule(json!({}), "priority", &both)])).await;
    let stranger = app
        .other_merchant(&[interlock::api::auth::Scope::Admin])
        .await;
    let matching = |wanted: Value| {
        json!({"rules": [rule(json!({"flow": "qr"}), "priority", &both),
        rule(wanted, "priority", &both)]})
    };
    let window = |from: &str, to: &str| json!({"provider": "alipay", "from": from, "to": to});
    let windows = |windows: Vec<Value>| json!({"rules": [], "maintenance": windows});
    let long = "x".repeat(501);
    let many: serde_json::Map<String, Value> =
        (0..11).map(|n| (format!("m{n}"), json!("x"))).collect();
    let db = app.db().await;
    let before = rows::of(&db, &["routing"]).await;

    for (body, param) in [
        (
            json!({"rules": [rule(json!({}), "cheapest", &both)]}),
            "rules[0].strategy",
        ),
        (
            json!({"rules": [rule(json!({}), "Priority", &both)]}),
            "rules[0].strategy",
        ),
        (
            json!({"rules": [rule(json!({}), "priority", &["acct_0000000000000000000000"])]}),
            "rules[0].accounts[0].id",
        ),
        (
            weighted(&[json!(1), json!(-1)], &both),
            "rules[0].accounts[1].weight",
        ),
        (
            weighted(&[json!(0), json!(1)], &both),
            "rules[0].accounts[0].weight",
        ),
        (
            weighted(&[json!(1), json!(10_001)], &both),
            "rules[0].accounts[1].weight",
        ),
        (
            weighted(&[json!(1), json!(i64::MAX)], &both),
            "rules[0].accounts[1].weight",
        ),
        (
            weighted(&[json!(1), json!(u64::MAX)], &both),
            "rules[0].accounts[1].weight",
        ),
        (
            weighted(&[json!(1), json!(0.5)], &both),
            "rules[0].accounts[1].weight",
        ),
        (
            weighted(&[json!(1), json!("2")], &both),
            "rules[0].accounts[1].weight",
        ),
        (
            weighted(&[json!(1), Value::Null], &both),
            "rules[0].accounts[1].weight",
        ),
        (
            json!({"rules": [{"strategy": "adaptive",
                "accounts": [{"id": both[0], "weight": 1}]}]}),
            "rules[0].accounts[0].weight",
        ),
        (
            matching(json!({"amount": {"min": 2, "max": 1}})),
            "rules[1].match.amount.max",
        ),
        (
            matching(json!({"amount": {"min": -1}})),
            "rules[1].match.amount.min",
        ),
        (
            matching(json!({"amount": {"max": -1}})),
            "rules[1].match.amount.max",
        ),
        (
            matching(json!({"amount": {"max": 1.5}})),
            "rules[1].match.amount.max",
        ),
        (
            matching(json!({"amount": {"least": 1}})),
            "rules[1].match.amount.least",
        ),
        (matching(json!({"amount": 5})), "rules[1].match.amount"),
        (
            matching(json!({"hours": {"from": "22:00"}})),
            "rules[1].match.hours.to",
        ),
        (
            matching(json!({"hours": {"from": "25:00", "to": "06:00"}})),
            "rules[1].match.hours.from",
        ),
        (
            matching(json!({"hours": {"from": "22:00", "to": "6:00"}})),
            "rules[1].match.hours.to",
        ),
        (
            matching(json!({"hours": {"from": "22:00", "to": 6}})),
            "rules[1].match.hours.to",
        ),
        (
            matching(json!({"hours": {"from": "22:00", "to": "22:00"}})),
            "rules[1].match.hours.to",
        ),
        (
            matching(json!({"hours": {"from": "24:00", "to": "06:00"}})),
            "rules[1].match.hours.from",
        ),
        (
            matching(
                json!({"hours": {"from": "22:00", "to": "06:00", "weekdays": ["mon", "holiday"]}}),
            ),
            "rules[1].match.hours.weekdays[1]",
        ),
        (
            matching(
                json!({"hours": {"from": "22:00", "to": "06:00", "weekdays": ["mon", "mon"]}}),
            ),
            "rules[1].match.hours.weekdays[1]",
        ),
        (
            matching(json!({"hours": {"from": "22:00", "to": "06:00", "zone": "UTC"}})),
            "rules[1].match.hours.zone",
        ),
        (
            matching(json!({"metadata": {"shop": 7}})),
            "rules[1].match.metadata.shop",
        ),
        (
            matching(json!({"metadata": {"shop": long}})),
            "rules[1].match.metadata.shop",
        ),
        (
            matching(json!({"metadata": {"shop": "a\u{0}"}})),
            "rules[1].match.metadata.shop",
        ),
        (
            matching(json!({ "metadata": many })),
            "rules[1].match.metadata",
        ),
        (
            matching(json!({"metadata": ["shop"]})),
            "rules[1].match.metadata",
        ),
        (
            matching(json!({"weather": "rain"})),
            "rules[1].match.weather",
        ),
        (
            windows(vec![window("02:00", "03:00"), window("02:30", "04:00")]),
            "maintenance[1].from",
        ),
        (
            windows(vec![
                window("2026-01-01T00:00:00+08:00", "2026-01-03T00:00:00+08:00"),
                window("2026-01-02T23:59:59+08:00", "2026-01-04T00:00:00+08:00"),
            ]),
            "maintenance[1].from",
        ),
        (
            windows(vec![window(
                "2026-01-03T00:00:00+08:00",
                "2026-01-01T00:00:00+08:00",
            )]),
            "maintenance[0].to",
        ),
        (
            windows(vec![window("02:00", "2026-01-01T00:00:00+08:00")]),
            "maintenance[0].to",
        ),
        (
            windows(vec![window("yesterday", "02:00")]),
            "maintenance[0].from",
        ),
        (
            windows(vec![window("2026-01-01T00:00:00", "02:00")]),
            "maintenance[0].from",
        ),
        (windows(vec![window("00:00", "24:00")]), "maintenance[0]"),
        (
            windows(vec![
                json!({"provider": "paypal", "from": "02:00", "to": "03:00"}),
            ]),
            "maintenance[0].provider",
        ),
        (
            windows(
                (0..51)
                    .map(|n| {
                        window(
                            &format!("0{}:{:02}", n / 25, n % 25 * 2),
                            &format!("0{}:{:02}", n / 25, n % 25 * 2 + 1),
                        )
                    })
                    .collect(),
            ),
            "maintenance",
        ),
        (json!({"rules": [], "force": "yes"}), "force"),
    ] {
        eprintln!("{param}");
        put(&app.client, "/v1/routing", &body)
            .await
            .problem(422, "invalid_parameter", Some(param));
    }

    // Somebody else's account is none.
    let foreign = json!({"rules": [rule(json!({}), "priority", &both)]});
    put(&stranger, "/v1/routing", &foreign).await.problem(
        422,
        "invalid_parameter",
        Some("rules[0].accounts[0].id"),
    );

    for (body, param) in [("{", "body"), (r#"{"rules": [], "rules": []}"#, "rules")] {
        let answer = app
            .client
            .send(reqwest::Method::PUT, "/v1/routing", None, Some(body.into()))
            .await;
        answer.problem(400, "invalid_body", Some(param));
    }

    assert_eq!(rows::of(&db, &["routing"]).await, before);
    // Windows of two providers, and of two sorts, may lie over each other.
    let mut fine = windows(vec![
        window("02:00", "03:00"),
        window("2026-01-01T00:00:00+08:00", "2026-01-03T00:00:00+08:00"),
    ]);

    fine["maintenance"]
        .as_array_mut()
        .unwrap()
        .push(json!({"provider": "unionpay", "from": "02:00", "to": "03:00"}));
    put(&app.client, "/v1/routing", &fine).await.expect(200);

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_windows_and_previews_that_cannot_be_are_named_and_change_nothing() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let before = rows::of(&db, &["accounts"]).await;
    let window = |from: &str, to: &str| json!({"from": from, "to": to});

    for (body, param) in [
        (
            json!({"limits": {"payment": {"min": 2, "max": 1}}}),
            "limits.payment.max",
        ),
        (
            json!({"limits": {"payment": {"min": -1}}}),
            "limits.payment.min",
        ),
        (
            json!({"limits": {"payment": {"max": "1"}}}),
            "limits.payment.max",
        ),
        (
            json!({"limits": {"day": {"amount": 0}}}),
            "limits.day.amount",
        ),
        (
            json!({"limits": {"day": {"count": -1}}}),
            "limits.day.count",
        ),
        (
            json!({"limits": {"day": {"refunds": 1}}}),
            "limits.day.refunds",
        ),
        (json!({"limits": {"week": {"count": 1}}}), "limits.week"),
        (json!({"limits": 5}), "limits"),
        (json!({"maintenance": {}}), "maintenance"),
        (
            json!({"maintenance": [window("02:00", "02:00")]}),
            "maintenance[0].to",
        ),
        (
            json!({"maintenance": [window("02:00", "03:00"), window("23:00", "02:01")]}),
            "maintenance[1].from",
        ),
        (
            json!({"maintenance": [window("02:00", "x")]}),
            "maintenance[0].to",
        ),
        (
            json!({"maintenance": [{"from": "02:00"}]}),
            "maintenance[0].to",
        ),
        (
            json!({"maintenance": [window("00:00", "13:00"), window("13:00", "24:00")]}),
            "maintenance[1]",
        ),
        (
            json!({"status": "disabled", "limits": {"day": {"count": 0}}}),
            "limits.day.count",
        ),
    ] {
        eprintln!("{param}");
        change(&app, &app.alipay, body)
            .await
            .problem(422, "invalid_parameter", Some(param));
    }

    assert_eq!(rows::of(&db, &["accounts"]).await, before);
    for (body, param) in [
        (json!({"flow": "qr"}), "amount"),
        (json!({"flow": "qr", "amount": 0}), "amount"),
        (json!({"flow": "qr", "amount": -1}), "amount"),
        (json!({"flow": "cash", "amount": 1}), "flow"),
        (
            json!({"flow": "qr", "amount": 1, "providers": ["paypal"]}),
            "providers[0]",
        ),
        (json!({"flow": "qr", "amount": 1, "at": "now"}), "at"),
        (
            json!({"flow": "qr", "amount": 1, "metadata": []}),
            "metadata",
        ),
        (
            json!({"flow": "qr", "amount": 1, "order_id": "x"}),
            "order_id",
        ),
    ] {
        post(&app.client, "/v1/routing/preview", &body)
            .await
            .problem(422, "invalid_parameter", Some(param));
    }

    app.stop().await;
}

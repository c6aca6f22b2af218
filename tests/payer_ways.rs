//! What providers do beside the plain way, from the wire to what merchants are told: coupons,
//! probes, keys that nobody has told of, "call again", refunds that must not follow too soon,
//! successes that are none of the plain ones, and the end of UnionPay's day.

use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::facts::Facts;
use crate::helpers::{TestApp, attempts, barcode, order, pauses};

async fn payments_end(app: &TestApp, provider: &str, result: &str) {
    let body = json!({"provider": provider, "result": result, "count": 1});
    let (status, said) = app.control.call(Method::PUT, "/payments", Some(body)).await;
    assert_eq!(status, 200, "{said}");
}

/// A payment over this provider whose payer pays, in either way.
async fn paid(app: &TestApp, provider: &str, flow: &str, step_s: i64) -> Value {
    app.client
        .route(&[&app.account(provider)])
        .await
        .expect(200);
    let body = if flow == "qr" {
        order()
    } else {
        barcode(provider, 0)
    };
    let payment = app.client.pay(&body).await.json();
    if flow == "qr" {
        app.control.pay(&payment).await;
    }
    until(app, &payment, step_s, |p| p["status"] == "succeeded").await
}

/// Moves the time on until the payment is as wanted.
async fn until(
    app: &TestApp,
    payment: &Value,
    step_s: i64,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let id = payment["id"].as_str().unwrap();
    for pause in pauses() {
        let payment = app.client.payment(id).await;
        if wanted(&payment) {
            return payment;
        }
        app.advance(step_s).await;
        tokio::time::sleep(pause).await;
    }
    panic!("still not as wanted: {:#}", app.client.payment(id).await);
}

async fn gives_all_back(app: &TestApp, paid: &Value) {
    let id = paid["id"].as_str().unwrap();
    for fen in [888, 8_000] {
        app.client.refund(id, fen).await.expect(201);
    }
    let back = until(app, paid, 11, |p| p["amount_refunded"] == 8_888).await;

    assert!(
        back["refunds"]
            .as_array()
            .unwrap()
            .iter()
            .all(|r| r["status"] == "succeeded"),
        "{back:#}"
    );

    let books = app.control.orders().await;
    assert_eq!(
        (&books[0]["captured"], &books[0]["refunded"]),
        (&json!(8888), &json!(8888))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_with_a_coupon_has_paid_the_whole_of_it_and_all_of_it_goes_back() {
    for (provider, flow) in [
        ("alipay", "qr"),
        ("alipay", "barcode"),
        ("wechatpay", "qr"),
        ("wechatpay", "barcode"),
    ] {
        let app = TestApp::start().await;
        payments_end(&app, provider, "coupon").await;
        let paid = paid(&app, provider, flow, 1).await;
        assert_eq!(
            (&paid["amount_captured"], &paid["payer_amount"]),
            (&json!(8888), &json!(6666)),
            "{provider} {flow}"
        );
        assert_eq!(app.control.orders().await[0]["coupon"], 2222);
        gives_all_back(&app, &paid).await;
        let facts = Facts::of(&app).await;
        assert_eq!(
            facts.count("operations").await,
            0,
            "{provider} {flow}: nobody has to look"
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_looks_whether_signatures_are_checked_is_refused_and_harms_nothing() {
    let app = TestApp::start().await;
    app.control
        .fault(json!({"provider": "wechatpay", "kind": "probe"}))
        .await;
    let paid = paid(&app, "wechatpay", "qr", 1).await;

    assert_eq!(
        (
            paid["attempts"].as_array().unwrap().len(),
            &paid["amount_captured"]
        ),
        (1, &json!(8888))
    );

    let told = app.control.notifications().await;
    let answers: Vec<(u64, bool)> = told
        .iter()
        .map(|t| {
            (
                t["answer"]["status"].as_u64().unwrap(),
                t["answer"]["acknowledged"].as_bool().unwrap(),
            )
        })
        .collect();

    assert_eq!(
        answers,
        [(401, false), (401, false), (204, true)],
        "{told:?}"
    );

    let metrics = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();
    for verdict in ["probe", "unknown_key", "accepted"] {
        let wanted = format!("provider=\"wechatpay\",verdict=\"{verdict}\"}} 1");
        assert!(metrics.contains(&wanted), "{verdict}");
    }
    let facts = Facts::of(&app).await;

    assert_eq!(facts.count("operations").await, 0);
    let account = app
        .client
        .get(&format!("/v1/accounts/{}", app.wechatpay))
        .await;

    assert!(
        account.status != 200 || account.json()["set_aside"].is_null(),
        "{}",
        account.json()
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_signs_that_nobody_has_told_of_is_believed_neither_as_an_offer_nor_as_money() {
    for provider in ["wechatpay", "unionpay"] {
        let app = TestApp::start().await;
        app.client
            .route(&[&app.account(provider), &app.alipay])
            .await
            .expect(200);
        app.control
            .fault(json!({"provider": provider, "kind": "unknown_key", "call": "create"}))
            .await;
        let payment = app.client.pay(&order()).await.expect(201);
        let went = [
            (provider.to_owned(), "abandoned".to_owned()),
            ("alipay".to_owned(), "awaiting_payer".to_owned()),
        ];
        assert_eq!(attempts(&payment), went, "{payment:#}");
        app.control.mend().await;

        // Told and asked under such a key it has not been paid; under the right one it has.
        app.client
            .route(&[&app.account(provider)])
            .await
            .expect(200);
        let payment = app.client.pay(&order()).await.expect(201);
        for call in ["query", "notification"] {
            app.control
                .fault(json!({"provider": provider, "kind": "unknown_key", "call": call}))
                .await;
        }
        app.control.pay(&payment).await;
        for _ in 0..8 {
            app.advance(20).await;
            tokio::time::sleep(std::time::Duration::from_millis(80)).await;
            let now = app.client.payment(payment["id"].as_str().unwrap()).await;
            assert_eq!(now["status"], "requires_action", "{provider}");
        }
        app.control.mend().await;
        let paid = until(&app, &payment, 20, |p| p["status"] == "succeeded").await;
        assert_eq!(paid["amount_captured"], 8888);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_whose_provider_says_call_again_has_not_failed_until_it_is_reversed() {
    for provider in ["alipay", "wechatpay", "unionpay"] {
        let app = TestApp::start().await;
        app.control
            .fault(json!({"provider": provider, "kind": "again", "call": "reverse"}))
            .await;
        let mut body = barcode(provider, 7);
        body["wait"] = 0.into();
        let payment = app.client.pay(&body).await.json();
        let reversals = async || {
            let (_, calls) = app.control.call(Method::GET, "/calls", None).await;
            calls[provider]["reverse"].as_u64().unwrap_or(0)
        };
        for pause in pauses() {
            let now = app.client.payment(payment["id"].as_str().unwrap()).await;
            assert_eq!(now["status"], "processing", "{provider}: {now:#}");
            if reversals().await >= 3 {
                break;
            }
            app.advance(4).await;
            tokio::time::sleep(pause).await;
        }
        assert!(reversals().await >= 3, "{provider}: it is called again");
        app.control.mend().await;
        let failed = until(&app, &payment, 7, |p| p["status"] == "failed").await;
        assert_eq!(failed["amount_captured"], 0);
        assert_eq!(app.control.orders().await[0]["captured"], 0, "{provider}");
        let facts = Facts::of(&app).await;
        assert_eq!(
            facts.told(payment["id"].as_str().unwrap()).await,
            ["payment.failed"],
            "{provider}"
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_of_one_trade_keep_the_distance_that_alipay_wants() {
    let app = TestApp::start().await;
    let paid = paid(&app, "alipay", "qr", 1).await;
    app.control
        .fault(json!({"provider": "alipay", "kind": "spaced"}))
        .await;
    let id = paid["id"].as_str().unwrap();
    for fen in [100, 200, 300] {
        app.client.refund(id, fen).await.expect(201);
    }
    app.client.until(id, |p| p["amount_refunded"] == 600).await;
    let (_, calls) = app.control.call(Method::GET, "/calls", None).await;
    assert_eq!(calls["alipay"]["refund"], 3, "none came too soon");
    assert_eq!(app.control.orders().await[0]["refunded"], 600);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_comes_too_soon_all_the_same_is_sent_again_and_done_once() {
    let app = TestApp::start().await;
    let paid = paid(&app, "alipay", "qr", 1).await;
    app.control
        .fault(json!({"provider": "alipay", "kind": "spaced"}))
        .await;

    // Somebody has given back a part in the provider's console a moment ago.
    let number = &paid["attempts"][0]["provider_order_no"];
    let by_hand = json!({"order_no": number, "amount": 88});

    assert_eq!(
        app.control
            .call(Method::POST, "/refunds", Some(by_hand))
            .await
            .0,
        200
    );

    app.client
        .refund(paid["id"].as_str().unwrap(), 800)
        .await
        .expect(201);
    let back = until(&app, &paid, 11, |p| {
        p["refunds"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["amount"] == 800 && r["status"] == "succeeded")
    })
    .await;

    assert!(back["amount_refunded"].as_i64().unwrap() >= 800, "{back:#}");
    assert_eq!(app.control.orders().await[0]["refunded"], 888, "each once");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_with_a_defect_and_one_that_is_not_settled_are_money() {
    for result in ["defect", "unsettled", "unsettled_for_good"] {
        for flow in ["qr", "barcode"] {
            let app = TestApp::start().await;
            payments_end(&app, "unionpay", result).await;
            let paid = paid(&app, "unionpay", flow, 20).await;
            assert_eq!(paid["amount_captured"], 8888, "{result} {flow}");
            assert_eq!(
                paid["attempts"][0]["disposition"], "kept",
                "{result} {flow}"
            );
            // Only success is told, and the others are asked about.
            let expected = usize::from(result == "defect");
            let told = app.control.told(expected).await.len();
            assert_eq!(told, expected, "{result} {flow}");
            gives_all_back(&app, &paid).await;
            app.stop().await;
        }
    }
}

/// Whole seconds from a time to the next one that is this late in Beijing.
fn until_beijing(now: DateTime<Utc>, hour: u32, minute: u32) -> i64 {
    let local = now + TimeDelta::hours(8);
    let today = i64::from(local.num_seconds_from_midnight());
    (i64::from(hour * 3_600 + minute * 60) - today).rem_euclid(86_400)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_who_has_not_confirmed_when_unionpays_day_ends_is_reversed_before() {
    let app = TestApp::start().await;
    app.client.route(&[&app.unionpay]).await.expect(200);
    app.advance(until_beijing(app.app().clock.now().utc(), 22, 58))
        .await;
    let mut body = barcode("unionpay", 7);
    body["wait"] = 0.into();
    let payment = app.client.pay(&body).await.json();
    let failed = until(&app, &payment, 3, |p| p["status"] == "failed").await;

    assert_eq!(failed["amount_captured"], 0, "{failed:#}");
    let books = app.control.orders().await;
    let ended: DateTime<Utc> = books[0]["ended_at"]
        .as_str()
        .expect("it was reversed")
        .parse()
        .unwrap();

    let local = ended + TimeDelta::hours(8);
    assert_eq!(
        (local.hour(), &books[0]["captured"]),
        (22, &json!(0)),
        "while UnionPay still reverses: {local}"
    );

    // It cannot be paid any more, and after the hour nothing is left to undo.
    let code = body["auth_code"].as_str().unwrap();
    assert_eq!(app.control.pay_as(code, "paid").await.0, 409);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_not_asked_for_what_it_never_does() {
    let app = TestApp::start().await;
    for (provider, kind, call) in [
        ("wechatpay", "gbk", Value::Null),
        ("wechatpay", "gb18030", json!("notification")),
        ("alipay", "probe", Value::Null),
        ("unionpay", "probe", Value::Null),
        ("alipay", "unknown_key", Value::Null),
        ("wechatpay", "spaced", Value::Null),
        ("alipay", "again", json!("query")),
    ] {
        let body = json!({"provider": provider, "kind": kind, "call": call});
        let (status, said) = app
            .control
            .call(Method::PUT, "/faults", Some(body.clone()))
            .await;
        assert_eq!(status, 422, "{body}: {said}");
    }

    for (provider, result) in [
        ("unionpay", "coupon"),
        ("alipay", "defect"),
        ("wechatpay", "unsettled"),
        ("visa", "plain"),
    ] {
        let body = json!({"provider": provider, "result": result});
        assert_eq!(
            app.control
                .call(Method::PUT, "/payments", Some(body.clone()))
                .await
                .0,
            422,
            "{body}"
        );
    }

    app.stop().await;
}

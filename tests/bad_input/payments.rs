//! Members of a payment: each that is wrong is named, and what is just within the limits is taken.

use serde_json::{Value, json};

use super::{money, post, unchanged, with};
use crate::helpers::{TestApp, fresh, order};

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_member_of_a_payment_is_named_and_leaves_no_row() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let many: Value = (0..51)
        .map(|n| (format!("m{n}"), json!(n)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let long_url = format!("https://shop.example/{}", "x".repeat(2_048));
    let cases: Vec<(&str, Value, &str)> = vec![
        ("amount", json!(0), "amount"),
        ("amount", json!(-1), "amount"),
        ("amount", json!(1.5), "amount"),
        ("amount", json!(100.0), "amount"),
        ("amount", json!("100"), "amount"),
        ("amount", json!(null), "amount"),
        ("amount", json!(true), "amount"),
        ("amount", json!([100]), "amount"),
        ("amount", json!(10_000_000_001_i64), "amount"),
        ("amount", json!(i64::MIN), "amount"),
        ("amount", json!(u64::MAX), "amount"),
        ("currency", json!("USD"), "currency"),
        ("currency", json!("cny"), "currency"),
        ("currency", json!(""), "currency"),
        ("currency", json!(156), "currency"),
        ("order_id", json!(""), "order_id"),
        ("order_id", json!("x".repeat(65)), "order_id"),
        ("order_id", json!(" x"), "order_id"),
        ("order_id", json!("x\u{0}"), "order_id"),
        ("order_id", json!("x\ty"), "order_id"),
        ("order_id", json!(7), "order_id"),
        ("description", json!(""), "description"),
        ("description", json!("茶".repeat(128)), "description"),
        ("description", json!("pay \u{202e}txt"), "description"),
        ("description", json!("a\u{200b}b"), "description"),
        ("description", json!("\u{feff}Tea"), "description"),
        ("description", json!("a\u{2060}b"), "description"),
        ("description", json!("a\u{200d}b"), "description"),
        ("description", json!("\u{1f469}\u{200d}"), "description"),
        ("order_id", json!("x\u{2066}y"), "order_id"),
        ("description", json!("a\u{0}b"), "description"),
        ("description", json!("a\nb"), "description"),
        ("description", json!("a\u{85}b"), "description"),
        ("description", json!({"text": "a"}), "description"),
        ("flow", json!("cash"), "flow"),
        ("flow", json!("QR"), "flow"),
        ("flow", json!(""), "flow"),
        ("flow", json!(null), "flow"),
        ("providers", json!(["paypal"]), "providers[0]"),
        ("providers", json!(["alipay", "Alipay"]), "providers[1]"),
        ("providers", json!(["alipay", "alipay"]), "providers[1]"),
        ("providers", json!([7]), "providers[0]"),
        ("providers", json!("alipay"), "providers"),
        ("expires_in", json!(299), "expires_in"),
        ("expires_in", json!(7_201), "expires_in"),
        ("expires_in", json!(-900), "expires_in"),
        ("expires_in", json!(900.5), "expires_in"),
        ("expires_in", json!("900"), "expires_in"),
        ("payer", json!({"client_ip": "here"}), "payer.client_ip"),
        ("payer", json!({"client_ip": "1.2.3"}), "payer.client_ip"),
        (
            "payer",
            json!({"client_ip": "1.2.3.4\u{0}"}),
            "payer.client_ip",
        ),
        ("payer", json!({"client_ip": 1}), "payer.client_ip"),
        ("payer", json!({"name": "me"}), "payer.name"),
        ("payer", json!("me"), "payer"),
        ("return_url", json!("shop.example/thanks"), "return_url"),
        ("return_url", json!("javascript:alert(1)"), "return_url"),
        ("return_url", json!("ftp://shop.example"), "return_url"),
        ("return_url", json!("http://"), "return_url"),
        (
            "return_url",
            json!("https://shop.example/a b"),
            "return_url",
        ),
        (
            "return_url",
            json!("https://shop.example/\u{0}"),
            "return_url",
        ),
        ("return_url", json!(long_url), "return_url"),
        ("notify_url", json!("shop.example"), "notify_url"),
        ("notify_url", json!(7), "notify_url"),
        ("metadata", many, "metadata"),
        ("metadata", json!({"a": "x".repeat(8_192)}), "metadata"),
        ("metadata", json!({"a\u{0}": 1}), "metadata"),
        ("metadata", json!({"a": [{"b": "x\u{0}"}]}), "metadata"),
        ("metadata", json!(["a"]), "metadata"),
        ("metadata", json!("a"), "metadata"),
        ("amout", json!(1), "amout"),
    ];

    let before = money(&db).await;
    for (member, value, param) in cases {
        let shown: String = value.to_string().chars().take(60).collect();
        let answer = post(&app.client, "/v1/payments", with(member, value).to_string()).await;
        let problem = answer.problem(422, "invalid_parameter", Some(param));
        assert_eq!(problem["retryable"], false, "{member} = {shown}");
        unchanged(&before, &money(&db).await, &format!("{member} = {shown}"));
    }

    for member in ["amount", "currency", "order_id", "description", "flow"] {
        let mut body = order();
        body.as_object_mut().unwrap().remove(member);
        post(&app.client, "/v1/payments", body.to_string())
            .await
            .problem(422, "invalid_parameter", Some(member));
    }

    let unserved = post(
        &app.client,
        "/v1/payments",
        with("flow", json!("h5")).to_string(),
    )
    .await;

    unserved.problem(422, "flow_not_available", Some("flow"));
    unchanged(
        &before,
        &money(&db).await,
        "a missing member, or a flow that nobody serves,",
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_just_within_the_limits_is_taken_and_comes_back_as_it_was_sent() {
    let app = TestApp::start().await;
    let order_id = format!("{:x<64}", fresh("o"));
    let metadata = json!({"茶": "乌龙 \"🍵\" \\u0000 \u{7f}",
        "n": [1, -2.5, null, true, {"deep": {"er": "\u{1}"}}]});
    let body = json!({
        "amount": 1, "currency": "CNY", "order_id": order_id, "description": "茶".repeat(127),
        "flow": "qr",
        "providers": ["wechatpay", "alipay"], "expires_in": 7_200,
        "payer": {"client_ip": "2001:db8::1"},
        "return_url": "https://shop.example/thanks?a=b&c=d",
        "notify_url": "https://shop.example/hook",
        "metadata": metadata,
    });

    let payment = app.client.pay(&body).await.expect(201);
    let read = app.client.payment(payment["id"].as_str().unwrap()).await;
    assert_eq!(read, payment, "reading gives what making gave");

    for member in [
        "amount",
        "currency",
        "order_id",
        "description",
        "flow",
        "metadata",
    ] {
        assert_eq!(read[member], body[member], "{member}");
    }

    // The largest amount that any of the merchant's providers takes.
    app.client
        .pay(&with("amount", json!(10_000_000_000_i64)))
        .await
        .expect(201);

    app.stop().await;
}

/// What a product is called is no reason to refuse it, anywhere: each provider is given what it
/// takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_products_name_is_payable_everywhere() {
    let app = TestApp::start().await;
    let mut paid = Vec::new();

    for name in [
        "M&M's",
        "Pro/256GB",
        "a=b",
        "Tea 🍵",
        "👩\u{200d}👩\u{200d}👧 茶",
        "茶".repeat(127).as_str(),
        "🍵".repeat(127).as_str(),
    ] {
        for provider in ["alipay", "wechatpay", "unionpay"] {
            let mut offer = with("description", json!(name));
            offer["providers"] = json!([provider]);
            let payment = app.client.pay(&offer).await.expect(201);
            assert_eq!(
                (&payment["provider"], &payment["description"]),
                (&json!(provider), &json!(name))
            );
            app.control.pay(&payment).await;
            let mut charge = crate::helpers::barcode(provider, 0);
            charge["description"] = json!(name);
            let charged = app.client.pay(&charge).await.expect(201);
            for made in [payment, charged] {
                let id = made["id"].as_str().unwrap();
                app.client.until_status(id, "succeeded").await;
                let refund = json!({"amount": 1, "merchant_refund_no": fresh("r"),
                    "reason": "茶🍵".repeat(40)});
                post(
                    &app.client,
                    &format!("/v1/payments/{id}/refunds"),
                    refund.to_string(),
                )
                .await
                .expect(201);
                paid.push(id.to_owned());
            }
        }
    }

    // Some providers take their time to give money back.
    app.advance(120).await;
    for id in &paid {
        app.client.until(id, |p| p["amount_refunded"] == 1).await;
    }
    assert_eq!(paid.len(), 7 * 3 * 2);

    app.stop().await;
}

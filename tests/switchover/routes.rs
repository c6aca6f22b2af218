//! Who is asked first: the merchant's rule, with effect on the very next payment, and accounts that
//! their provider refuses.

use reqwest::Method;
use serde_json::{Value, json};

use super::settings;
use super::{ORDERS, Order, account, pairs};
use crate::helpers::facts::Facts;
use crate::helpers::{TestApp, attempts, order};

/// Sends settings or a status to an account.
async fn change(app: &TestApp, account: &str, body: Value) -> Value {
    let path = format!("/v1/accounts/{account}");
    app.client
        .send(
            Method::PATCH,
            &path,
            None,
            Some(body.to_string().into_bytes()),
        )
        .await
        .expect(200)
}

async fn shown(app: &TestApp, account: &str) -> Value {
    let list = app.client.get("/v1/accounts").await.expect(200);
    list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|a| a["id"] == account)
        .cloned()
        .unwrap()
}

/// The same account with another private key, which is a good one and not the registered one.
async fn with_a_wrong_key(app: &TestApp, provider: &str) -> Value {
    let (own, foreign) = match provider {
        "alipay" => (
            "app_private_key",
            settings(app, "wechatpay").await["private_key"].clone(),
        ),
        _ => (
            "private_key",
            settings(app, "alipay").await["app_private_key"].clone(),
        ),
    };
    let mut settings = settings(app, provider).await;
    settings[own] = foreign;
    settings
}

async fn put_rules(app: &TestApp, rules: Value) -> Value {
    let body = json!({ "rules": rules }).to_string().into_bytes();
    app.client
        .send(Method::PUT, "/v1/routing", None, Some(body))
        .await
        .expect(200)
}

async fn served_by(app: &TestApp, body: &Value) -> String {
    let payment = app.client.pay(body).await.expect(201);
    let tried = attempts(&payment);
    assert_eq!(tried.len(), 1, "the first one is able: {payment}");
    tried[0].0.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_the_order_changes_who_is_asked_first_on_the_very_next_payment() {
    let app = TestApp::start().await;
    assert_eq!(
        served_by(&app, &order()).await,
        "alipay",
        "without a rule the oldest account is first"
    );
    for round in 0..6 {
        let order_of_providers = Order::set(&app, ORDERS[(round + 1) % 2]).await;
        assert_eq!(served_by(&app, &order()).await, order_of_providers.names[0]);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rule_that_matches_the_flow_decides_and_its_reason_is_told() {
    let app = TestApp::start().await;
    let rule = |flow: Option<&str>, accounts: &[&str]| {
        let accounts: Vec<Value> = accounts.iter().map(|id| json!({"id": id})).collect();
        let matches = flow.map_or(json!({}), |flow| json!({ "flow": flow }));
        json!({"match": matches, "strategy": "priority", "accounts": accounts})
    };

    let (alipay, wechatpay) = (app.alipay.as_str(), app.wechatpay.as_str());
    put_rules(
        &app,
        json!([
            rule(Some("barcode"), &[alipay]),
            rule(Some("qr"), &[wechatpay, alipay]),
            rule(None, &[alipay])
        ]),
    )
    .await;

    let payment = app.client.pay(&order()).await.expect(201);
    assert_eq!(payment["provider"], "wechatpay");
    let reason = &payment["attempts"][0]["reason"];

    assert_eq!(
        (&reason["candidates"], &reason["routing_version"]),
        (&json!([wechatpay, alipay]), &json!(1))
    );

    put_rules(
        &app,
        json!([rule(Some("barcode"), &[wechatpay]), rule(None, &[alipay])]),
    )
    .await;

    assert_eq!(
        served_by(&app, &order()).await,
        "alipay",
        "a rule for another flow does not matter"
    );

    put_rules(&app, json!([rule(Some("barcode"), &[wechatpay])])).await;
    assert_eq!(
        served_by(&app, &order()).await,
        "alipay",
        "no rule matches: oldest first"
    );

    let mut only_wechatpay = order();
    only_wechatpay["providers"] = json!(["wechatpay"]);
    assert_eq!(
        served_by(&app, &only_wechatpay).await,
        "wechatpay",
        "the request's own choice counts"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_a_rule_does_not_name_is_never_asked() {
    for [named, left_out] in ORDERS {
        let app = TestApp::start().await;
        app.client.route(&[account(&app, named)]).await.expect(200);
        assert_eq!(served_by(&app, &order()).await, named);
        app.control
            .fault(json!({"provider": named, "kind": "refuse"}))
            .await;
        let parked = app.client.pay(&order()).await.expect(202);
        assert_eq!(attempts(&parked), pairs([(named, "dead")]));
        let orders = app.control.orders().await;
        assert!(
            orders.iter().all(|o| o["provider"] != left_out),
            "{orders:?}"
        );
        app.stop().await;
    }
}

/// Enters credentials while nobody can tell whether they are right.
async fn enter_unseen(app: &TestApp, provider: &str, account: &str, credentials: Value) -> Value {
    app.control
        .fault(json!({"provider": provider, "call": "query", "kind": "reset"}))
        .await;
    let shown = change(app, account, json!({ "credentials": credentials })).await;
    app.control.mend().await;
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_its_provider_refuses_is_set_aside_until_it_is_let_in_again() {
    for names in ORDERS {
        let app = TestApp::start().await;
        let Order {
            names: [first, second],
            accounts: [account, _],
        } = Order::set(&app, names).await;
        let good = settings(&app, first).await;
        let wrong = with_a_wrong_key(&app, first).await;
        assert_eq!(
            enter_unseen(&app, first, &account, wrong).await["status"],
            "active"
        );

        let payment = app.client.pay(&order()).await.expect(201);
        assert_eq!(
            attempts(&payment),
            pairs([(first, "dead"), (second, "awaiting_payer")])
        );
        let refused = &payment["attempts"][0];
        assert_eq!(
            (
                refused["outcome"].as_str(),
                refused["failure"]["kind"].as_str()
            ),
            (Some("refused_account"), Some("account"))
        );
        let aside = shown(&app, &account).await;
        assert_eq!(aside["status"], "set_aside");
        assert_eq!(aside["set_aside_reason"], refused["failure"]["code"]);
        assert!(aside["set_aside_until"].is_string());
        let raised =
            format!("operations WHERE kind = 'account_refused' AND subject_id = '{account}'");
        assert_eq!(Facts::of(&app).await.count(&raised).await, 1);

        let next = app.client.pay(&order()).await.expect(201);
        assert_eq!(
            attempts(&next),
            pairs([(second, "awaiting_payer")]),
            "it is not asked meanwhile"
        );
        assert_eq!(
            next["attempts"][0]["reason"]["skipped"],
            json!([{"account": account, "why": "set_aside"}])
        );

        let mended = change(
            &app,
            &account,
            json!({"credentials": good, "status": "active"}),
        )
        .await;
        assert_eq!(
            (mended["status"].as_str(), &mended["set_aside_reason"]),
            (Some("active"), &Value::Null)
        );
        assert_eq!(served_by(&app, &order()).await, first);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_set_aside_is_tried_again_after_its_time() {
    let app = TestApp::start().await;
    let Order {
        accounts: [account, _],
        ..
    } = Order::set(&app, ORDERS[0]).await;
    let good = settings(&app, "alipay").await;

    enter_unseen(
        &app,
        "alipay",
        &account,
        with_a_wrong_key(&app, "alipay").await,
    )
    .await;

    app.client.pay(&order()).await.expect(201);
    change(&app, &account, json!({ "credentials": good })).await;
    assert_eq!(
        shown(&app, &account).await["status"],
        "set_aside",
        "new keys alone do not let it in"
    );

    app.advance(601).await;
    assert_eq!(shown(&app, &account).await["status"], "active");
    assert_eq!(served_by(&app, &order()).await, "alipay");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_account_of_a_provider_that_refused_the_first_is_not_tried_for_the_same_payment() {
    let app = TestApp::start().await;
    let mut foreign = settings(&app, "alipay").await;
    foreign["app_id"] = "2021999999999999".into();
    let body = json!({"provider": "alipay", "name": "second", "credentials": foreign})
        .to_string()
        .into_bytes();
    app.control
        .fault(json!({"provider": "alipay", "call": "query", "kind": "reset"}))
        .await;
    let second = app
        .client
        .send(Method::POST, "/v1/accounts", None, Some(body))
        .await
        .expect(201);
    app.control.mend().await;
    let second = second["id"].as_str().unwrap();
    app.client
        .route(&[&app.alipay, second, &app.wechatpay])
        .await
        .expect(200);
    enter_unseen(
        &app,
        "alipay",
        &app.alipay,
        with_a_wrong_key(&app, "alipay").await,
    )
    .await;

    let payment = app.client.pay(&order()).await.expect(201);
    assert_eq!(
        attempts(&payment),
        pairs([("alipay", "dead"), ("wechatpay", "awaiting_payer")])
    );
    let skipped = payment["attempts"][1]["reason"]["skipped"]
        .as_array()
        .unwrap();
    assert!(
        skipped.contains(&json!({"account": second, "why": "provider_refused_account"})),
        "{skipped:?}"
    );
    assert_eq!(shown(&app, second).await["status"], "active");
    app.stop().await;
}

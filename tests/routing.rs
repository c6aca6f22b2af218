//! Rules that merchants set: which payments they match, how they order accounts, and what a payment
//! says of it.

mod bad;
mod instances;
mod limits;
mod preview;
mod versions;

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{Answer, Client, TestApp, attempts, order};

async fn put(client: &Client, path: &str, body: &Value) -> Answer {
    client
        .send(Method::PUT, path, None, Some(body.to_string().into_bytes()))
        .await
}

async fn post(client: &Client, path: &str, body: &Value) -> Answer {
    client
        .send(
            Method::POST,
            path,
            None,
            Some(body.to_string().into_bytes()),
        )
        .await
}

async fn rules(app: &TestApp, rules: Value) -> Value {
    put(&app.client, "/v1/routing", &json!({ "rules": rules }))
        .await
        .expect(200)
}

/// Changes an account.
async fn change(app: &TestApp, account: &str, body: Value) -> Answer {
    let path = format!("/v1/accounts/{account}");
    app.client
        .send(
            Method::PATCH,
            &path,
            None,
            Some(body.to_string().into_bytes()),
        )
        .await
}

fn rule(wanted: Value, strategy: &str, accounts: &[&str]) -> Value {
    let accounts: Vec<Value> = accounts.iter().map(|id| json!({ "id": id })).collect();
    json!({"match": wanted, "strategy": strategy, "accounts": accounts})
}

/// Who serves a payment like this at the first try.
async fn served_by(app: &TestApp, body: &Value) -> String {
    let payment = app.client.pay(body).await.expect(201);
    assert_eq!(
        attempts(&payment).len(),
        1,
        "the first one is able: {payment}"
    );
    payment["provider"].as_str().unwrap().to_owned()
}

/// A time of day in Beijing, so many minutes from the gateway's now.
fn time_of_day(app: &TestApp, minutes: i64) -> String {
    let at = app
        .app()
        .clock
        .now()
        .plus_s(minutes * 60)
        .in_beijing()
        .minute;
    format!("{:02}:{:02}", at / 60, at % 60)
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_match_amount_hours_and_metadata_and_the_first_one_decides() {
    let app = TestApp::start().await;
    let (alipay, wechatpay, unionpay) = (
        app.alipay.as_str(),
        app.wechatpay.as_str(),
        app.unionpay.as_str(),
    );

    let now = json!({"hours": {"from": time_of_day(&app, -60), "to": time_of_day(&app, 60)}});
    let later = json!({"hours": {"from": time_of_day(&app, 60), "to": time_of_day(&app, -60)}});

    rules(
        &app,
        json!([
            rule(json!({"metadata": {"shop": "7"}}), "priority", &[unionpay]),
            rule(
                json!({"amount": {"min": 5_000, "max": 6_000}}),
                "priority",
                &[wechatpay]
            ),
            rule(later, "priority", &[unionpay]),
            rule(now, "priority", &[alipay]),
            rule(json!({}), "priority", &[unionpay]),
        ]),
    )
    .await;

    let with = |amount: i64, metadata: Value| {
        let mut body = order();
        (body["amount"], body["metadata"]) = (amount.into(), metadata);
        body
    };

    for (body, provider, rule) in [
        (with(5_500, json!({"shop": "7"})), "unionpay", 0),
        (with(5_500, json!({"shop": "8"})), "wechatpay", 1),
        (with(5_000, json!({})), "wechatpay", 1),
        (with(6_000, json!({})), "wechatpay", 1),
        (with(4_999, json!({})), "alipay", 3),
        (with(6_001, json!({"shop": 7})), "alipay", 3),
    ] {
        let payment = app.client.pay(&body).await.expect(201);
        assert_eq!(
            (payment["provider"].as_str(), attempts(&payment).len()),
            (Some(provider), 1),
            "{body}"
        );
        assert_eq!(payment["attempts"][0]["reason"]["rule"], rule);
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_strategy_orders_the_accounts_of_real_payments() {
    let app = TestApp::start().await;
    let all = [
        app.alipay.as_str(),
        app.wechatpay.as_str(),
        app.unionpay.as_str(),
    ];
    rules(&app, json!([rule(json!({}), "round_robin", &all)])).await;
    let mut round = Vec::new();
    for _ in 0..6 {
        round.push(served_by(&app, &order()).await);
    }
    assert_eq!(
        round,
        [
            "alipay",
            "wechatpay",
            "unionpay",
            "alipay",
            "wechatpay",
            "unionpay"
        ]
    );

    for (account, fee) in [(all[0], 60), (all[1], 55), (all[2], 38)] {
        change(&app, account, json!({ "fee_bps": fee }))
            .await
            .expect(200);
    }
    rules(&app, json!([rule(json!({}), "lowest_fee", &all)])).await;
    assert_eq!(served_by(&app, &order()).await, "unionpay");
    change(&app, all[2], json!({"fee_bps": 100}))
        .await
        .expect(200);
    assert_eq!(
        served_by(&app, &order()).await,
        "wechatpay",
        "a new fee counts at once"
    );
    rules(&app, json!([rule(json!({}), "adaptive", &all)])).await;
    // Of nearly equal health: chance decides.
    assert!(
        ["alipay", "wechatpay", "unionpay"].contains(&served_by(&app, &order()).await.as_str())
    );
    rules(&app, json!([rule(json!({}), "least_in_flight", &all)])).await;
    let payment = app.client.pay(&order()).await.expect(201);
    assert_eq!(
        payment["attempts"][0]["reason"]["candidates"],
        json!(all),
        "of equal load and score as listed"
    );

    let weight = |id: &str, weight: i64| json!({"id": id, "weight": weight});
    let weighted = json!({"strategy": "weighted",
        "accounts": [weight(all[0], 6), weight(all[1], 3), weight(all[2], 1)]});
    rules(&app, json!([weighted])).await;
    let mut shares: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..120 {
        *shares.entry(served_by(&app, &order()).await).or_default() += 1;
    }
    // Some five deviations around 72 and 36; the odds against it are beyond a million to one.
    assert!(
        (45..=99).contains(&shares["alipay"]) && (12..=62).contains(&shares["wechatpay"]),
        "{shares:?}"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strategy_decides_who_is_next_when_the_first_one_fails() {
    let app = TestApp::start().await;
    let all = [
        app.alipay.as_str(),
        app.wechatpay.as_str(),
        app.unionpay.as_str(),
    ];

    for (account, fee) in [(all[0], 60), (all[1], 55), (all[2], 38)] {
        change(&app, account, json!({ "fee_bps": fee }))
            .await
            .expect(200);
    }

    rules(&app, json!([rule(json!({}), "lowest_fee", &all)])).await;
    app.control
        .fault(json!({"provider": "unionpay", "kind": "refuse"}))
        .await;
    let payment = app.client.pay(&order()).await.expect(201);
    let tried: Vec<String> = attempts(&payment)
        .into_iter()
        .map(|(provider, _)| provider)
        .collect();

    assert_eq!(tried, ["unionpay", "wechatpay"]);
    let second = &payment["attempts"][1]["reason"];
    assert_eq!(second["candidates"], json!([all[1], all[0]]));
    assert_eq!(
        second["skipped"],
        json!([{"account": all[2], "why": "tried_already"}])
    );
    assert_eq!(
        (&second["strategy"], &second["rule"]),
        (&json!("lowest_fee"), &json!(0))
    );
    assert_eq!(second["scores"].as_array().unwrap().len(), 2);

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_from_before_is_read_and_routing_that_cannot_be_read_leaves_the_last_one_in_force()
{
    let app = TestApp::start().await;
    let db = app.db().await;
    let facts = crate::helpers::facts::Facts(db);
    let stored = |version: i32, rules: Value| {
        format!(
            "INSERT INTO routing (merchant_id, livemode, version, rules, changed_by, changed_at) \
            VALUES ('{}', FALSE, {version}, '{rules}', 'earlier', 1)",
            app.merchant
        )
    };

    let before = json!({"rules": [{"match": {"flow": "qr"}, "strategy": "priority",
        "accounts": [{"id": app.wechatpay}, {"id": app.alipay}]}], "version": 1});
    facts.execute(&stored(1, before)).await.unwrap();
    app.app().directory.changed().await.unwrap();
    assert_eq!(served_by(&app, &order()).await, "wechatpay");

    let later = json!({"rules": [{"strategy": "by_moonlight", "accounts": [{"id": app.unionpay}]}],
        "version": 2});
    facts.execute(&stored(2, later)).await.unwrap();
    app.app().directory.changed().await.unwrap();
    assert_eq!(served_by(&app, &order()).await, "wechatpay");

    facts.0.close().await.unwrap();
    app.stop().await;
}

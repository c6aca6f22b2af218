//! Two gateways on one PostgreSQL: what is changed at one holds at the other within a second.

use std::time::{Duration, Instant};

use interlock::config::Config;
use interlock::server::{self, Running};
use serde_json::json;
use tempfile::TempDir;

use super::limits::until_used;
use super::{change, post, rule, rules};
use crate::helpers::{Client, PATIENCE, TestApp, order};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A second gateway beside `app`, and a client of the same merchant there.
async fn beside(app: &TestApp, folder: &TempDir) -> (Running, Client) {
    let flags = [
        ("server.listen", "127.0.0.1:0".to_owned()),
        ("server.workers", "1".to_owned()),
        ("data.dir", folder.path().display().to_string()),
        ("database.url", app.database.clone()),
        ("database.connections", "4".to_owned()),
        ("sandbox.listen", app.control.url.clone()),
        ("resolver.interval_ms", "50".to_owned()),
        ("credentials.key", KEY.to_owned()),
    ];
    let other = server::start(Config::load(None, &flags).unwrap())
        .await
        .unwrap();
    let client = Client::new(&format!("http://{}", other.address), &app.client.key);
    (other, client)
}

/// `None` on SQLite: its folder is locked, so a second gateway cannot start on it.
async fn two() -> Option<(TestApp, TempDir, Running, Client)> {
    let app = TestApp::with(&[("credentials.key", KEY)]).await;
    if !app.database.starts_with("postgres") {
        println!("skipped on SQLite: its folder is locked, so a second gateway cannot start on it");
        app.stop().await;
        return None;
    }
    let folder = TempDir::new().unwrap();
    let (other, client) = beside(&app, &folder).await;
    Some((app, folder, other, client))
}

async fn provider_at(client: &Client) -> String {
    client.pay(&order()).await.expect(201)["provider"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Waits until a gateway's next payment goes to this provider; returns how long it took.
async fn until_served_by(client: &Client, provider: &str) -> Duration {
    let began = Instant::now();
    while provider_at(client).await != provider {
        assert!(began.elapsed() < PATIENCE, "{provider} never served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_routing_holds_on_all_gateways_within_a_second() {
    let Some((app, _folder, other, there)) = two().await else {
        return;
    };
    let all = [
        app.alipay.as_str(),
        app.wechatpay.as_str(),
        app.unionpay.as_str(),
    ];

    for (account, provider) in [
        (all[1], "wechatpay"),
        (all[2], "unionpay"),
        (all[0], "alipay"),
    ] {
        rules(&app, json!([rule(json!({}), "priority", &[account])])).await;
        assert_eq!(provider_at(&app.client).await, provider);
        println!(
            "{provider} served at the other gateway after {:?}",
            until_served_by(&there, provider).await
        );
    }

    // Changed there, rolled back here, and both know.
    let seen = there.get("/v1/routing/versions").await.expect(200);
    assert_eq!(seen["data"].as_array().unwrap().len(), 3);

    let body = json!({"rules": [rule(json!({}), "priority", &[all[1]])], "version": 3});
    super::put(&there, "/v1/routing", &body).await.expect(200);
    super::put(&app.client, "/v1/routing", &body).await.problem(
        409,
        "version_conflict",
        Some("version"),
    );

    assert_eq!(
        post(&app.client, "/v1/routing/rollback", &json!({"version": 2}))
            .await
            .expect(200)["version"],
        5
    );

    until_served_by(&there, "unionpay").await;
    // The last account of a flow is protected by what was done elsewhere, too.
    rules(&app, json!([])).await;
    change(&app, all[0], json!({"status": "disabled"}))
        .await
        .expect(200);
    change(&app, all[1], json!({"status": "disabled"}))
        .await
        .expect(200);
    let path = format!("/v1/accounts/{}", all[2]);
    let body = json!({"status": "disabled"}).to_string().into_bytes();
    let refused = there
        .send(reqwest::Method::PATCH, &path, None, Some(body))
        .await;
    refused.problem(422, "flow_without_route", Some("status"));
    other.stop().await;

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_share_a_limit_of_the_day() {
    let Some((app, _folder, other, there)) = two().await else {
        return;
    };
    rules(
        &app,
        json!([rule(json!({}), "priority", &[&app.alipay, &app.wechatpay])]),
    )
    .await;

    change(&app, &app.alipay, json!({"limits": {"day": {"count": 4}}}))
        .await
        .expect(200);
    for _ in 0..2 {
        assert_eq!(provider_at(&app.client).await, "alipay");
    }
    until_used(
        &there,
        &app.alipay,
        json!({"amount": 2 * 8_888, "count": 2}),
    )
    .await;

    for _ in 0..2 {
        assert_eq!(provider_at(&there).await, "alipay");
    }
    assert_eq!(
        provider_at(&there).await,
        "wechatpay",
        "two here and two there"
    );

    until_used(
        &app.client,
        &app.alipay,
        json!({"amount": 4 * 8_888, "count": 4}),
    )
    .await;

    assert_eq!(provider_at(&app.client).await, "wechatpay");
    // Old ones and new ones are told apart by their age; none is counted twice, or forgotten.
    let began = Instant::now();

    while began.elapsed() < Duration::from_millis(3_500) {
        for client in [&app.client, &there] {
            let used = super::limits::account(client, &app.alipay).await["used_today"].clone();
            assert_eq!(used, json!({"amount": 4 * 8_888, "count": 4}));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    other.stop().await;
    app.stop().await;
}

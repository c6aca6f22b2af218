//! Accounts and routing: wrong credentials, wrong rules.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::post;
use crate::helpers::{TestApp, rows};

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_named_and_never_repeated() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let before = rows::of(&db, &["accounts"]).await;
    let credentials = app.sandbox().credentials();
    let secret = "MIISECRETsecretSECRETsecret0123456789";
    let new = |provider: &str, credentials: Value| json!({"provider": provider, "name": "second", "credentials": credentials});
    let mut cases = vec![
        (
            json!({"provider": "paypal", "name": "x", "credentials": {}}),
            "provider",
        ),
        (
            json!({"provider": "alipay", "name": "", "credentials": credentials["alipay"]}),
            "name",
        ),
        (
            json!({"provider": "alipay", "name": "a\u{0}", "credentials": credentials["alipay"]}),
            "name",
        ),
        (
            json!({"provider": "alipay", "name": "x", "fee_bps": 10_001,
                "credentials": other(&credentials, "alipay")}),
            "fee_bps",
        ),
        (
            json!({"provider": "alipay", "name": "x", "fee_bps": -1,
                "credentials": other(&credentials, "alipay")}),
            "fee_bps",
        ),
        (
            json!({"provider": "alipay", "name": "x", "fee_bps": secret,
                "credentials": credentials["alipay"]}),
            "fee_bps",
        ),
        (
            json!({"provider": "alipay", "name": "x", "credentials": secret}),
            "credentials",
        ),
        (
            json!({"provider": "alipay", "name": "x", "credentials": [secret]}),
            "credentials",
        ),
        (json!({"provider": "alipay", "name": "x"}), "credentials"),
        (
            json!({"provider": "alipay", "name": {"private_key": secret}, "credentials": {}}),
            "name",
        ),
    ];
    let members = [
        (
            "alipay",
            vec![
                "app_id",
                "seller_id",
                "app_private_key",
                "alipay_public_key",
                "base_url",
            ],
        ),
        (
            "wechatpay",
            vec![
                "mchid",
                "appid",
                "serial",
                "private_key",
                "public_key_id",
                "public_key",
                "apiv3_key",
                "base_url",
            ],
        ),
    ];
    for (provider, members) in &members {
        for member in members {
            for wrong in [json!(secret), json!({"pem": secret}), json!(7), json!("")] {
                // A text of that kind is a good one for these.
                if wrong == json!(secret) && ["mchid", "appid", "serial"].contains(member) {
                    continue;
                }
                let mut wrongly = credentials[provider].clone();
                wrongly[*member] = wrong;
                cases.push((
                    new(provider, wrongly),
                    Box::leak(format!("credentials.{member}").into_boxed_str()),
                ));
            }
        }
    }
    for (body, param) in cases {
        let answer = post(&app.client, "/v1/accounts", body.to_string()).await;
        let problem = answer.problem(422, "invalid_parameter", Some(param));
        assert!(
            !problem.to_string().contains("SECRET"),
            "a secret came back: {problem}"
        );
    }
    for provider in ["alipay", "wechatpay"] {
        let twice = post(
            &app.client,
            "/v1/accounts",
            new(provider, credentials[provider].clone()).to_string(),
        )
        .await;
        let problem = twice.problem(409, "account_exists", Some("credentials"));
        assert!(!problem.to_string().contains("PRIVATE KEY"), "{problem}");
    }
    assert_eq!(rows::of(&db, &["accounts"]).await, before);

    let patch = async |account: &str, body: Value| {
        app.client
            .send(
                Method::PATCH,
                &format!("/v1/accounts/{account}"),
                None,
                Some(body.to_string().into_bytes()),
            )
            .await
    };
    for (account, provider) in [(&app.alipay, "alipay"), (&app.wechatpay, "wechatpay")] {
        let foreign = json!({"credentials": other(&credentials, provider)});
        let problem =
            patch(account, foreign)
                .await
                .problem(422, "invalid_parameter", Some("credentials"));
        assert!(!problem.to_string().contains("PRIVATE KEY"), "{problem}");
    }
    for (body, param) in [
        (json!({"name": ""}), "name"),
        (json!({"fee_bps": 10_001}), "fee_bps"),
        (json!({"status": "gone"}), "status"),
        (json!({"provider": "alipay"}), "provider"),
        (
            json!({"credentials": {"app_id": secret}}),
            "credentials.app_private_key",
        ),
        (json!({"credentials": secret}), "credentials"),
    ] {
        let problem = patch(&app.alipay, body)
            .await
            .problem(422, "invalid_parameter", Some(param));
        assert!(!problem.to_string().contains("SECRET"), "{problem}");
    }
    patch("acct_nonsense", json!({"name": "x"}))
        .await
        .problem(404, "not_found", None);
    assert_eq!(rows::of(&db, &["accounts"]).await, before);
    let shown = app.client.get("/v1/accounts").await.expect(200);
    assert!(!shown.to_string().contains("KEY-----"), "{shown}");
    app.stop().await;
}

/// The sandbox's credentials of a provider, but of somebody else there.
fn other(credentials: &Value, provider: &str) -> Value {
    let mut other = credentials[provider].clone();
    let (member, value) = if provider == "alipay" {
        ("app_id", "2021999999999999")
    } else {
        ("mchid", "1999999999")
    };
    other[member] = json!(value);
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_routing_is_named_and_changes_nothing() {
    let app = TestApp::start().await;
    let (alipay, wechatpay) = (app.alipay.as_str(), app.wechatpay.as_str());
    let put = async |body: Value| {
        app.client
            .send(
                Method::PUT,
                "/v1/routing",
                None,
                Some(body.to_string().into_bytes()),
            )
            .await
    };

    let rule = |accounts: Value| json!({"rules": [{"strategy": "priority", "accounts": accounts}]});
    put(rule(json!([{"id": alipay}, {"id": wechatpay}])))
        .await
        .expect(200);
    let before = app.client.get("/v1/routing").await.expect(200);
    assert_eq!(before["version"], 1);

    let many: Vec<Value> = (0..51)
        .map(|_| json!({"strategy": "priority", "accounts": [{"id": alipay}]}))
        .collect();
    for (body, param) in [
        (
            json!({"rules": [{"strategy": "random", "accounts": [{"id": alipay}]}]}),
            "rules[0].strategy",
        ),
        (
            json!({"rules": [{"accounts": [{"id": alipay}]}]}),
            "rules[0].strategy",
        ),
        (
            rule(json!([{"id": "acct_nonsense"}])),
            "rules[0].accounts[0].id",
        ),
        (
            rule(json!([{"id": "acct_\u{0}"}])),
            "rules[0].accounts[0].id",
        ),
        (
            rule(json!([{"id": alipay}, {"id": wechatpay}, {"id": alipay}])),
            "rules[0].accounts[2].id",
        ),
        (rule(json!([])), "rules[0].accounts"),
        (
            rule(json!([{"id": alipay, "weight": 1}])),
            "rules[0].accounts[0].weight",
        ),
        (rule(json!([{}])), "rules[0].accounts[0].id"),
        (rule(json!([alipay])), "rules[0].accounts[0]"),
        (
            json!({"rules": [{"match": {"flow": "cash"}, "strategy": "priority",
                "accounts": [{"id": alipay}]}]}),
            "rules[0].match.flow",
        ),
        (
            json!({"rules": [{"match": {"hour": 1}, "strategy": "priority",
                "accounts": [{"id": alipay}]}]}),
            "rules[0].match.hour",
        ),
        (json!({"rules": many}), "rules"),
        (json!({"rules": {}}), "rules"),
        (json!({}), "rules"),
        (json!({"rules": [], "version": -1}), "version"),
        (json!({"rules": [], "version": "1"}), "version"),
        (
            json!({"rules": [], "version": 3_000_000_000_i64}),
            "version",
        ),
        (json!({"rules": [], "more": 1}), "more"),
    ] {
        eprintln!("{param}");
        put(body)
            .await
            .problem(422, "invalid_parameter", Some(param));
    }

    put(json!({"rules": [], "version": 2}))
        .await
        .problem(409, "version_conflict", Some("version"));
    assert_eq!(app.client.get("/v1/routing").await.expect(200), before);

    // Of two who have both seen version 1, one is told that the other was first.
    let both = [
        json!({"rules": [], "version": 1}),
        json!({"rules": [], "version": 1}),
    ];
    let answers = join_all(both.map(&put)).await;
    let mut statuses: Vec<u16> = answers.iter().map(|a| a.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);

    assert_eq!(
        app.client.get("/v1/routing").await.expect(200),
        json!({"rules": [], "version": 2})
    );

    app.stop().await;
}

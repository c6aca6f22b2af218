//! Every change of routing is kept with who made it and when, and can be taken back; none cuts a
//! flow off by mistake.

use interlock::api::auth::{Scope, digest};
use reqwest::Method;
use serde_json::{Value, json};

use super::{change, post, put, rule, rules, served_by};
use crate::helpers::{Client, TestApp, order};

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_shown_with_who_and_when_and_can_be_taken_up_again() {
    let app = TestApp::start().await;
    let key = interlock::directory::issue::new_key(&app.app().store, &app.owner(), &[Scope::Admin])
        .await
        .unwrap();
    let colleague = Client::new(&app.client.base, &key);
    let first = json!([rule(json!({"flow": "qr"}), "priority", &[&app.wechatpay])]);
    rules(&app, first.clone()).await;
    let window = json!({"provider": "alipay", "from": "2026-01-01T00:00:00+08:00",
        "to": "2026-01-02T00:00:00+08:00"});
    let second = json!({"rules": [rule(json!({}), "priority", &[&app.unionpay])],
        "maintenance": [window], "version": 1});
    put(&colleague, "/v1/routing", &second).await.expect(200);
    assert_eq!(served_by(&app, &order()).await, "unionpay");
    assert_eq!(
        app.client.get("/v1/routing").await.expect(200)["maintenance"],
        json!([window])
    );

    let back = post(&app.client, "/v1/routing/rollback", &json!({"version": 1}))
        .await
        .expect(200);
    assert_eq!((&back["version"], &back["rules"]), (&json!(3), &first));
    assert_eq!(back.get("maintenance"), None, "version 1 had no windows");
    assert_eq!(app.client.get("/v1/routing").await.expect(200), back);
    assert_eq!(served_by(&app, &order()).await, "wechatpay");

    let list = app.client.get("/v1/routing/versions").await.expect(200);
    let data = list["data"].as_array().unwrap();
    let name = |key: &str| digest(key).chars().take(12).collect::<String>();
    let seen: Vec<_> = data
        .iter()
        .map(|v| {
            (
                v["version"].as_i64().unwrap(),
                v["changed_by"].as_str().unwrap(),
            )
        })
        .collect();
    let (own, other) = (name(&app.client.key), name(&key));
    assert_eq!(
        seen,
        [(3, own.as_str()), (2, other.as_str()), (1, own.as_str())],
        "newest first"
    );
    assert!(
        data.iter()
            .all(|v| v["changed_at"].as_str().unwrap().ends_with("+08:00")),
        "{data:?}"
    );
    let restored: Vec<&Value> = data.iter().map(|v| &v["restored_from"]).collect();
    assert_eq!(restored, [&json!(1), &Value::Null, &Value::Null]);
    let page = app
        .client
        .get("/v1/routing/versions?limit=1&starting_after=3")
        .await
        .expect(200);
    assert_eq!(
        (&page["has_more"], &page["data"][0]),
        (&json!(true), &data[1])
    );
    assert_eq!(
        app.client.get("/v1/routing/versions/2").await.expect(200),
        data[1]
    );
    for nothing in ["0", "4", "99999999999", "x"] {
        app.client
            .get(&format!("/v1/routing/versions/{nothing}"))
            .await
            .problem(404, "not_found", None);
    }
    for (body, param) in [
        (json!({"version": 4}), "version"),
        (json!({"version": 0}), "version"),
        (json!({}), "version"),
    ] {
        post(&app.client, "/v1/routing/rollback", &body)
            .await
            .problem(422, "invalid_parameter", Some(param));
    }
    let stranger = app.other_merchant(&[Scope::Admin]).await;
    stranger
        .get("/v1/routing/versions/2")
        .await
        .problem(404, "not_found", None);
    post(&stranger, "/v1/routing/rollback", &json!({"version": 2}))
        .await
        .problem(422, "invalid_parameter", Some("version"));
    assert_eq!(
        stranger.get("/v1/routing/versions").await.expect(200)["data"],
        json!([])
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_leaves_a_flow_without_a_route_is_refused_unless_it_is_forced() {
    let app = TestApp::start().await;
    let (alipay, wechatpay, unionpay) = (
        app.alipay.as_str(),
        app.wechatpay.as_str(),
        app.unionpay.as_str(),
    );
    rules(
        &app,
        json!([
            rule(json!({"flow": "barcode"}), "priority", &[alipay]),
            rule(json!({}), "priority", &[wechatpay])
        ]),
    )
    .await;
    let refused = change(&app, alipay, json!({"status": "disabled"})).await;
    let problem = refused.problem(422, "flow_without_route", Some("status"));
    assert!(
        problem["detail"].as_str().unwrap().contains(r#""barcode""#),
        "{problem}"
    );
    change(&app, unionpay, json!({"status": "disabled"}))
        .await
        .expect(200);
    assert_eq!(served_by(&app, &order()).await, "wechatpay");

    let before = app.client.get("/v1/routing").await.expect(200);
    let to_nowhere = json!({"rules": [rule(json!({"flow": "qr", "amount": {"min": 100}}),
        "priority", &[unionpay])]});
    let problem = put(&app.client, "/v1/routing", &to_nowhere).await.problem(
        422,
        "flow_without_route",
        Some("rules"),
    );
    assert!(
        problem["detail"].as_str().unwrap().contains(r#""qr""#),
        "{problem}"
    );
    assert_eq!(
        app.client.get("/v1/routing").await.expect(200),
        before,
        "nothing has changed"
    );
    let mut forced = to_nowhere.clone();
    forced["force"] = true.into();
    assert_eq!(
        put(&app.client, "/v1/routing", &forced).await.expect(200)["version"],
        2
    );
    app.client
        .pay(&order())
        .await
        .problem(422, "flow_not_available", Some("flow"));
    // What has no route already cannot lose it.
    put(&app.client, "/v1/routing", &to_nowhere)
        .await
        .expect(200);
    rules(&app, json!([])).await;
    assert_eq!(served_by(&app, &order()).await, "alipay");
    let back = post(&app.client, "/v1/routing/rollback", &json!({"version": 2})).await;
    back.problem(422, "flow_without_route", Some("version"));
    post(
        &app.client,
        "/v1/routing/rollback",
        &json!({"version": 2, "force": true}),
    )
    .await
    .expect(200);

    rules(&app, json!([])).await;
    change(&app, alipay, json!({"status": "disabled"}))
        .await
        .expect(200);
    change(&app, wechatpay, json!({"status": "disabled"}))
        .await
        .problem(422, "flow_without_route", Some("status"));
    change(
        &app,
        wechatpay,
        json!({"status": "disabled", "force": true}),
    )
    .await
    .expect(200);
    app.client
        .pay(&order())
        .await
        .problem(422, "flow_not_available", Some("flow"));
    change(&app, wechatpay, json!({"status": "active"}))
        .await
        .expect(200);
    assert_eq!(served_by(&app, &order()).await, "wechatpay");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_change_routing_cannot_take_a_version_up_again_either() {
    let app = TestApp::start().await;
    rules(&app, json!([])).await;
    let key = |scopes: Vec<Scope>| {
        let (store, owner) = (app.app().store.clone(), app.owner());
        async move {
            interlock::directory::issue::new_key(&store, &owner, &scopes)
                .await
                .unwrap()
        }
    };

    let payer = Client::new(
        &app.client.base,
        &key(vec![Scope::Pay, Scope::Finance, Scope::Refund]).await,
    );
    let refunder = Client::new(&app.client.base, &key(vec![Scope::Refund]).await);
    post(&payer, "/v1/routing/rollback", &json!({"version": 1}))
        .await
        .problem(403, "forbidden", None);

    post(
        &payer,
        "/v1/routing/preview",
        &json!({"amount": 1, "flow": "qr"}),
    )
    .await
    .expect(200);

    post(
        &refunder,
        "/v1/routing/preview",
        &json!({"amount": 1, "flow": "qr"}),
    )
    .await
    .problem(403, "forbidden", None);

    for path in ["/v1/routing/versions", "/v1/routing/versions/1"] {
        payer.get(path).await.expect(200);
        refunder.get(path).await.problem(403, "forbidden", None);
    }
    for (method, path, allow) in [
        (Method::POST, "/v1/routing/versions", "GET"),
        (Method::DELETE, "/v1/routing/versions/1", "GET"),
        (Method::GET, "/v1/routing/rollback", "POST"),
        (Method::GET, "/v1/routing/preview", "POST"),
    ] {
        let answer = app.client.send(method, path, None, None).await;
        answer.problem(405, "method_not_allowed", None);
        assert_eq!(answer.headers["allow"], allow);
    }

    app.stop().await;
}

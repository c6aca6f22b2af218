//! Callers who may not: strangers, and keys that are missing, wrong, revoked or without the scope.

use interlock::api::auth::Scope;
use reqwest::Method;
use sea_orm::ConnectionTrait as _;
use serde_json::json;

use super::{money, unchanged, with};
use crate::helpers::{Answer, Client, TestApp, fresh, order};

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_merchant_is_not_there() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let paid = app.paid().await;
    let id = paid["id"].as_str().unwrap();
    let refund = app.client.refund(id, 1).await.expect(201);
    let refund = refund["id"].as_str().unwrap();
    let open = app.client.pay(&order()).await.expect(201);
    let open = open["id"].as_str().unwrap();
    let stranger = app
        .other_merchant(&[Scope::Pay, Scope::Refund, Scope::Finance, Scope::Admin])
        .await;
    let before = money(&db).await;

    for path in [
        format!("/v1/payments/{id}"),
        format!("/v1/refunds/{refund}"),
        "/v1/payments/pay_nonsense".to_owned(),
    ] {
        stranger.get(&path).await.problem(404, "not_found", None);
    }
    stranger.refund(id, 1).await.problem(404, "not_found", None);
    for payment in [id, open] {
        let offer = json!({"flow": "qr"});
        stranger
            .post(
                &format!("/v1/payments/{payment}/offers"),
                &fresh("key"),
                &offer,
            )
            .await
            .problem(404, "not_found", None);
        let cancel = stranger
            .send(
                Method::POST,
                &format!("/v1/payments/{payment}/cancel"),
                None,
                None,
            )
            .await;
        cancel.problem(404, "not_found", None);
    }
    let renamed = json!({"name": "mine now"}).to_string().into_bytes();
    let patch = stranger
        .send(
            Method::PATCH,
            &format!("/v1/accounts/{}", app.alipay),
            None,
            Some(renamed),
        )
        .await;
    patch.problem(404, "not_found", None);
    stranger.route(&[&app.alipay]).await.problem(
        422,
        "invalid_parameter",
        Some("rules[0].accounts[0].id"),
    );
    for list in ["payments", "refunds"] {
        let answer = stranger.get(&format!("/v1/{list}")).await.expect(200);
        assert_eq!(
            answer,
            json!({"object": "list", "data": [], "has_more": false})
        );
    }
    assert_eq!(
        stranger.get("/v1/accounts").await.expect(200)["data"],
        json!([])
    );
    stranger
        .get(&format!("/v1/refunds?payment={id}"))
        .await
        .expect(200)["data"]
        .as_array()
        .unwrap()
        .is_empty()
        .then_some(())
        .unwrap();
    stranger
        .get(&format!("/v1/payments?starting_after={id}"))
        .await
        .problem(422, "invalid_parameter", Some("starting_after"));
    stranger
        .get(&format!("/v1/refunds?starting_after={refund}"))
        .await
        .problem(422, "invalid_parameter", Some("starting_after"));
    unchanged(&before, &money(&db).await, "a stranger");
    assert_eq!(
        app.client.payment(open).await["status"],
        "requires_action",
        "nobody canceled it"
    );
    // Numbers and keys are each merchant's own: the same order_id under the same key is another
    // payment. A merchant without an account is told so, and not that the number is in use.
    let body = with("order_id", paid["order_id"].clone());
    stranger
        .pay(&body)
        .await
        .problem(422, "flow_not_available", Some("flow"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_key_nothing_is_answered_and_without_its_scope_nothing_is_done() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let paid = app.paid().await;
    let refunds = format!("/v1/payments/{}/refunds", paid["id"].as_str().unwrap());
    let before = money(&db).await;
    let calls = [
        (Method::POST, "/v1/payments", order().to_string()),
        (
            Method::POST,
            refunds.as_str(),
            json!({"amount": 1, "merchant_refund_no": "x"}).to_string(),
        ),
        (Method::GET, "/v1/payments", String::new()),
        (Method::GET, "/v1/refunds", String::new()),
        (Method::GET, "/v1/accounts", String::new()),
        (Method::PUT, "/v1/routing", json!({"rules": []}).to_string()),
    ];
    let key = app.client.key.clone();
    let wrong = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer sk_test_nonsense",
        &format!("Basic {key}"),
        &key,
        &format!("Bearer {key}x"),
    ];
    for (method, path, body) in &calls {
        for authorization in wrong {
            let request = app
                .client
                .http
                .request(method.clone(), format!("{}{path}", app.client.base));
            let request = request
                .header("Authorization", authorization)
                .header("Idempotency-Key", fresh("key"));
            let response = request.body(body.clone()).send().await.unwrap();
            assert_eq!(
                response.headers()["www-authenticate"],
                "Bearer",
                "{method} {path} {authorization}"
            );
            let answer = Answer {
                status: response.status(),
                headers: response.headers().clone(),
                bytes: response.bytes().await.unwrap().to_vec(),
            };
            answer.problem(401, "unauthorized", Some("Authorization"));
        }
    }
    // Each of these keys has all scopes but those that would do.
    let lacking = [
        (
            vec![Scope::Refund, Scope::Finance, Scope::Admin],
            Method::POST,
            "/v1/payments",
            order().to_string(),
        ),
        (
            vec![Scope::Pay, Scope::Finance, Scope::Admin],
            Method::POST,
            refunds.as_str(),
            calls[1].2.clone(),
        ),
        (
            vec![Scope::Refund, Scope::Admin],
            Method::GET,
            "/v1/payments",
            String::new(),
        ),
        (
            vec![Scope::Pay, Scope::Admin],
            Method::GET,
            "/v1/refunds",
            String::new(),
        ),
        (
            vec![Scope::Refund],
            Method::GET,
            "/v1/accounts",
            String::new(),
        ),
        (
            vec![Scope::Pay, Scope::Refund, Scope::Finance],
            Method::POST,
            "/v1/accounts",
            "{}".to_owned(),
        ),
        (
            vec![Scope::Pay, Scope::Refund, Scope::Finance],
            Method::PUT,
            "/v1/routing",
            json!({"rules": []}).to_string(),
        ),
    ];
    for (scopes, method, path, body) in lacking {
        let store = &app.app().store;
        let key = interlock::directory::issue::new_key(store, &app.owner(), &scopes)
            .await
            .unwrap();
        let client = Client::new(&app.client.base, &key);
        client
            .send(method, path, Some(&fresh("key")), Some(body.into_bytes()))
            .await
            .problem(403, "forbidden", None);
    }
    unchanged(&before, &money(&db).await, "a caller who may not");

    let key = interlock::directory::issue::new_key(&app.app().store, &app.owner(), &[Scope::Pay])
        .await
        .unwrap();
    let client = Client::new(&app.client.base, &key);
    client.get("/v1/payments").await.expect(200);
    let digest = interlock::api::auth::digest(&key);
    db.execute_unprepared(&format!(
        "UPDATE api_keys SET revoked_at = 1 WHERE digest = '{digest}'"
    ))
    .await
    .unwrap();
    app.app().directory.changed().await.unwrap();
    client
        .get("/v1/payments")
        .await
        .problem(401, "unauthorized", Some("Authorization"));
    app.stop().await;
}

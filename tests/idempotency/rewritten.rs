//! A retry that was written down anew is the same request: another order of members, other blanks,
//! escapes, numbers and paths. What the version before has stored is compared as that version did.

use interlock::api::auth::{Scope, hex};
use interlock::domain::Owner;
use reqwest::Method;
use sea_orm::ConnectionTrait as _;
use sha2::{Digest as _, Sha256};
use strum::IntoEnumIterator as _;

use crate::helpers::facts::Facts;
use crate::helpers::{Answer, Client, TestApp, fresh, order, rows};

async fn post(client: &Client, path: &str, key: &str, body: &str) -> Answer {
    client
        .send(
            Method::POST,
            path,
            Some(key),
            Some(body.as_bytes().to_vec()),
        )
        .await
}

#[track_caller]
fn same(first: &Answer, again: &Answer) {
    assert_eq!(again.expect(first.status.as_u16()), first.json());
    assert_eq!(again.headers["idempotency-replayed"], "true");
}

#[track_caller]
fn another(answer: &Answer) {
    answer.problem(422, "idempotency_key_reused", Some("Idempotency-Key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_serialised_again_is_the_same_request() {
    let app = TestApp::start().await;
    let (key, number) = (fresh("key"), fresh("order"));
    let body = format!(
        r#"{{"amount":8888,"currency":"CNY","order_id":"{number}","description":"茶 & Tea/1","flow":"qr","metadata":{{"a":1.5,"b":[1,{{"c":null,"d":"x"}}]}}}}"#
    );
    let first = post(&app.client, "/v1/payments", &key, &body).await;
    first.expect(201);
    let rewritten = format!(
        "{{\n  \"metadata\": {{\"b\": [1.0, {{\"d\": \"\\u0078\", \"c\": null}}], \"a\": 15e-1}},\n  \"flow\": \"qr\",\n  \
         \"description\": \"\\u8336 & Tea\\/1\", \"order_id\": \"{number}\", \"currency\": \"CNY\", \"amount\": 8888\n}}\n"
    );
    same(
        &first,
        &post(&app.client, "/v1/payments", &key, &rewritten).await,
    );
    for (from, to) in [
        ("8888", "8889"),
        ("Tea/1", "Tea/2"),
        ("1.5", "1.50000001"),
        (r#""x""#, r#""X""#),
        (r#"[1,"#, r#"[1,2,"#),
        (r#","metadata""#, r#","expires_in":900,"metadata""#),
    ] {
        assert!(body.contains(from), "{from}");
        another(&post(&app.client, "/v1/payments", &key, &body.replace(from, to)).await);
    }

    let payment = first.json()["id"].as_str().unwrap().to_owned();
    let escaped = payment.replace('_', "%5F");
    let (path, written) = (
        format!("/v1/payments/{payment}/offers"),
        format!("/v1/payments/{escaped}/offers"),
    );
    let (key, body) = (
        fresh("key"),
        r#"{"flow":"qr","providers":["alipay","wechatpay"]}"#,
    );
    let offer = post(&app.client, &path, &key, body).await;
    offer.expect(201);
    let again = r#"{ "providers" : [ "alipay", "wechatpay" ], "flow" : "qr" }"#;
    same(&offer, &post(&app.client, &written, &key, again).await);
    another(
        &post(
            &app.client,
            &path,
            &key,
            r#"{"flow":"qr","providers":["wechatpay","alipay"]}"#,
        )
        .await,
    );

    let paid = app.paid().await;
    let path = format!("/v1/payments/{}/refunds", paid["id"].as_str().unwrap());
    let (key, number) = (fresh("key"), fresh("rf"));
    let refund = post(
        &app.client,
        &path,
        &key,
        &format!(r#"{{"amount":100,"merchant_refund_no":"{number}"}}"#),
    )
    .await;
    let made = refund.expect(201)["id"].clone();
    let again = post(
        &app.client,
        &path,
        &key,
        &format!(r#"{{"merchant_refund_no":"{number}", "amount":100}}"#),
    )
    .await;
    assert_eq!(again.json()["id"], made, "{}", again.json());
    another(
        &post(
            &app.client,
            &path,
            &key,
            &format!(r#"{{"amount":101,"merchant_refund_no":"{number}"}}"#),
        )
        .await,
    );

    let facts = Facts::of(&app).await;
    assert_eq!(
        (facts.count("payments").await, facts.count("refunds").await),
        (2, 1)
    );
    app.stop().await;
}

/// What the version before stores: over method, path and bytes, each with its length before it.
fn as_before(path: &str, body: &str) -> String {
    let mut hash = Sha256::new();
    for part in ["POST", path, body] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_what_the_version_before_has_stored_is_the_same_request() {
    let app = TestApp::start().await;
    app.accounts_for(&Owner::of(app.merchant.clone(), true))
        .await;
    let live = app.live(&Scope::iter().collect::<Vec<_>>()).await;
    let db = app.db().await;

    for client in [&app.client, &live] {
        let (key, body) = (fresh("key"), order().to_string());
        let first = post(client, "/v1/payments", &key, &body).await;
        first.expect(201);
        let fingerprint = as_before("/v1/payments", &body);
        let sql = format!(
            "UPDATE idempotency_keys SET fingerprint = '{fingerprint}' WHERE key = '{key}'"
        );
        assert_eq!(
            db.execute_unprepared(&sql).await.unwrap().rows_affected(),
            1
        );
        same(&first, &post(client, "/v1/payments", &key, &body).await);
        another(&post(client, "/v1/payments", &key, &order().to_string()).await);
    }

    assert_eq!(Facts::of(&app).await.count("payments").await, 2);
    app.stop().await;
}

/// For a day after an upgrade a gateway of the version before may be at work in the same database,
/// and knows the keys of real money by what it stores itself. An embedded database has one gateway.
#[tokio::test(flavor = "multi_thread")]
async fn while_an_older_gateway_may_be_at_work_it_knows_a_request_for_real_money() {
    let app = TestApp::start().await;
    app.accounts_for(&Owner::of(app.merchant.clone(), true))
        .await;
    let is_embedded = app.database.starts_with("sqlite");
    let stored = async |app: &TestApp| {
        let live = app.live(&Scope::iter().collect::<Vec<_>>()).await;
        let mut all = Vec::new();
        for client in [&app.client, &live] {
            let (key, body) = (fresh("key"), order().to_string());
            let first = post(client, "/v1/payments", &key, &body).await;
            first.expect(201);
            same(&first, &post(client, "/v1/payments", &key, &body).await);
            let sql = format!("SELECT fingerprint FROM idempotency_keys WHERE key = '{key}'");
            let stored = rows::select(&app.db().await, &sql).await[0]["fingerprint"]
                .as_str()
                .unwrap()
                .to_owned();
            all.push(stored == as_before("/v1/payments", &body));
            assert!(
                all.last() == Some(&true) || stored.starts_with("2:"),
                "{stored}"
            );
        }
        all
    };
    assert_eq!(stored(&app).await, [false, false], "nobody was here before");

    let migrated = async |app: &TestApp, ago_s: i64| {
        let now = app.app().clock.now().0 / 1_000;
        let sql = format!(
            "UPDATE merchants SET created_at = 1; UPDATE seaql_migrations SET applied_at = {}",
            now - ago_s
        );
        app.db().await.execute_unprepared(&sql).await.unwrap();
    };
    migrated(&app, 60).await;
    let app = TestApp::on(app.leave().await, &[]).await;
    assert_eq!(
        stored(&app).await,
        [false, !is_embedded],
        "upgraded a minute ago"
    );

    migrated(&app, 86_400).await;
    let app = TestApp::on(app.leave().await, &[]).await;
    assert_eq!(stored(&app).await, [false, false], "upgraded a day ago");
    app.stop().await;
}

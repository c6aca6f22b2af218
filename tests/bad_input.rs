//! What nobody should send, and somebody will: each is refused with a problem that names the
//! member, and leaves no row behind.

mod bodies;
mod callers;
mod lists;
mod payments;
mod refunds;
mod settings;

use reqwest::Method;
use sea_orm::DatabaseConnection;
use serde_json::{Value, json};

use crate::helpers::{Answer, Client, TestApp, fresh, order, rows};

/// A member of a good order, set to something else.
fn with(member: &str, value: Value) -> Value {
    let mut body = order();
    body[member] = value;
    body
}

async fn post(client: &Client, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    client
        .send(Method::POST, path, Some(&fresh("key")), Some(body.into()))
        .await
}

/// Sends with these headers only, `Authorization` apart.
async fn send(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&str, &[u8])],
    body: String,
) -> Answer {
    let mut request = client
        .http
        .request(method, format!("{}{path}", client.base))
        .bearer_auth(&client.key)
        .body(body);

    for (name, value) in headers {
        request = request.header(
            *name,
            reqwest::header::HeaderValue::from_bytes(value).unwrap(),
        );
    }

    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());

    Answer {
        status,
        headers,
        bytes: response.bytes().await.unwrap().to_vec(),
    }
}

/// Asserts that the tables of money hold as many rows as `before`.
#[track_caller]
fn unchanged(before: &[(String, usize)], after: &[(String, usize)], what: &str) {
    assert_eq!(before, after, "{what} left a row");
}

async fn money(db: &DatabaseConnection) -> Vec<(String, usize)> {
    rows::counts(db, &rows::MONEY).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_needed_once_visible_and_of_255_characters_at_most() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let paid = app.paid().await;
    let id = paid["id"].as_str().unwrap();
    let refund = json!({"amount": 1, "merchant_refund_no": fresh("rf")});
    let before = money(&db).await;
    let name = Some("Idempotency-Key");
    let long = "k".repeat(256);

    let calls = [
        ("/v1/payments".to_owned(), order()),
        (format!("/v1/payments/{id}/refunds"), refund),
        (format!("/v1/payments/{id}/offers"), json!({"flow": "qr"})),
    ];

    for (path, body) in &calls {
        let send = async |headers: &[(&str, &[u8])]| {
            send(&app.client, Method::POST, path, headers, body.to_string()).await
        };
        send(&[])
            .await
            .problem(400, "idempotency_key_missing", name);
        let bad: [&[u8]; 8] = [
            b"",
            b"\"\"",
            b"\"half",
            b"a b",
            b"\"a b\"",
            "schlüssel".as_bytes(),
            b"\xff",
            long.as_bytes(),
        ];
        for key in bad {
            eprintln!("{}", String::from_utf8_lossy(key));
            send(&[("Idempotency-Key", key)])
                .await
                .problem(400, "idempotency_key_invalid", name);
        }
        let twice: [(&str, &[u8]); 2] = [("Idempotency-Key", b"a"), ("Idempotency-Key", b"a")];
        send(&twice)
            .await
            .problem(400, "idempotency_key_invalid", name);
    }

    unchanged(&before, &money(&db).await, "a key that is none");
    app.client
        .post("/v1/payments", &"k".repeat(255), &order())
        .await
        .expect(201);

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quoted_and_a_bare_key_mean_the_same() {
    let app = TestApp::start().await;
    let (key, body) = (fresh("key"), order());
    let first = app
        .client
        .post("/v1/payments", &format!("\"{key}\""), &body)
        .await;
    let again = app.client.post("/v1/payments", &key, &body).await;
    first.expect(201);
    again.expect(201);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert!(!first.headers.contains_key("idempotency-replayed"));
    assert_eq!(again.bytes, first.bytes);

    assert_eq!(
        rows::select(&app.db().await, "SELECT id FROM payments")
            .await
            .len(),
        1
    );

    // The same key with another body is another request, whichever way it is written.
    let other = app
        .client
        .post("/v1/payments", &format!("\"{key}\""), &order())
        .await;

    other.problem(422, "idempotency_key_reused", Some("Idempotency-Key"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_and_a_wrong_method_are_problems_too() {
    let app = TestApp::start().await;
    for path in [
        "/",
        "/v1",
        "/v1/payments/",
        "/v2/payments",
        "/v1/payment",
        "/v1/payments/pay_x/refund",
        "/notifications",
    ] {
        app.client.get(path).await.problem(404, "not_found", None);
    }

    for (method, path, allow) in [
        (Method::DELETE, "/v1/payments", "GET, POST"),
        (Method::PUT, "/v1/payments/pay_x", "GET"),
        (Method::GET, "/v1/payments/pay_x/refunds", "POST"),
        (Method::GET, "/v1/payments/pay_x/cancel", "POST"),
        (Method::GET, "/v1/payments/pay_x/offers", "POST"),
        (Method::POST, "/v1/refunds", "GET"),
        (Method::DELETE, "/v1/refunds/re_x", "GET"),
        (Method::DELETE, "/v1/accounts", "GET, POST"),
        (Method::DELETE, "/v1/accounts/acct_x", "PATCH"),
        (Method::POST, "/v1/routing", "GET, PUT"),
        (Method::POST, "/healthz", "GET, HEAD"),
    ] {
        eprintln!("{method} {path}");
        let answer = app.client.send(method, path, None, None).await;
        answer.problem(405, "method_not_allowed", None);
        assert_eq!(answer.headers["allow"], allow);
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_comes_back_and_one_that_is_none_is_replaced() {
    let app = TestApp::start().await;
    let ask = async |id: &[u8]| {
        send(
            &app.client,
            Method::GET,
            "/v1/payments/pay_x",
            &[("X-Request-Id", id)],
            String::new(),
        )
        .await
    };

    let answer = ask(b"checkout-7.2_a").await;
    assert_eq!(answer.headers["x-request-id"], "checkout-7.2_a");
    assert_eq!(
        answer.problem(404, "not_found", None)["request_id"],
        "checkout-7.2_a"
    );

    for bad in [
        b"".as_slice(),
        b"a b",
        b"a\"b",
        b"\xff\xfe",
        "x".repeat(129).as_bytes(),
    ] {
        let answer = ask(bad).await;
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert!(id.starts_with("req_") && id.len() == 26, "{id}");
        assert_eq!(
            answer.problem(404, "not_found", None)["request_id"],
            id.as_str()
        );
    }

    let first = app.client.get("/healthz").await.headers["x-request-id"].clone();
    assert_ne!(
        first,
        app.client.get("/healthz").await.headers["x-request-id"],
        "each request has its own"
    );

    app.stop().await;
}

//! What nobody should send, and somebody will: each is refused with a problem that names the member, and leaves no
//! row behind.

mod lists;
mod refunds;
mod settings;

use std::time::Duration;

use futures_util::future::join_all;
use interlock::api::auth::Scope;
use reqwest::Method;
use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::helpers::{Answer, Client, TestApp, fresh, order, rows, wire};

/// A member of a good order, set to something else.
fn with(member: &str, value: Value) -> Value {
    let mut body = order();
    body[member] = value;
    body
}

async fn post(client: &Client, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    client.send(Method::POST, path, Some(&fresh("key")), Some(body.into())).await
}

/// Sends with these headers only, `Authorization` apart.
async fn send(client: &Client, method: Method, path: &str, headers: &[(&str, &[u8])], body: String) -> Answer {
    let mut request = client.http.request(method, format!("{}{path}", client.base)).bearer_auth(&client.key).body(body);
    for (name, value) in headers {
        request = request.header(*name, reqwest::header::HeaderValue::from_bytes(value).unwrap());
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, bytes: response.bytes().await.unwrap().to_vec() }
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
async fn every_wrong_member_of_a_payment_is_named_and_leaves_no_row() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let many: Value = (0..51).map(|n| (format!("m{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
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
        ("payer", json!({"client_ip": "1.2.3.4\u{0}"}), "payer.client_ip"),
        ("payer", json!({"client_ip": 1}), "payer.client_ip"),
        ("payer", json!({"name": "me"}), "payer.name"),
        ("payer", json!("me"), "payer"),
        ("return_url", json!("shop.example/thanks"), "return_url"),
        ("return_url", json!("javascript:alert(1)"), "return_url"),
        ("return_url", json!("ftp://shop.example"), "return_url"),
        ("return_url", json!("http://"), "return_url"),
        ("return_url", json!("https://shop.example/a b"), "return_url"),
        ("return_url", json!("https://shop.example/\u{0}"), "return_url"),
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
        post(&app.client, "/v1/payments", body.to_string()).await.problem(422, "invalid_parameter", Some(member));
    }
    let unserved = post(&app.client, "/v1/payments", with("flow", json!("h5")).to_string()).await;
    unserved.problem(422, "flow_not_available", Some("flow"));
    unchanged(&before, &money(&db).await, "a missing member, or a flow that nobody serves,");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_just_within_the_limits_is_taken_and_comes_back_as_it_was_sent() {
    let app = TestApp::start().await;
    let order_id = format!("{:x<64}", fresh("o"));
    let metadata = json!({"茶": "乌龙 \"🍵\" \\u0000 \u{7f}", "n": [1, -2.5, null, true, {"deep": {"er": "\u{1}"}}]});
    let body = json!({
        "amount": 1, "currency": "CNY", "order_id": order_id, "description": "茶".repeat(127), "flow": "qr",
        "providers": ["wechatpay", "alipay"], "expires_in": 7_200, "payer": {"client_ip": "2001:db8::1"},
        "return_url": "https://shop.example/thanks?a=b&c=d", "notify_url": "https://shop.example/hook",
        "metadata": metadata,
    });
    let payment = app.client.pay(&body).await.expect(201);
    let read = app.client.payment(payment["id"].as_str().unwrap()).await;
    assert_eq!(read, payment, "reading gives what making gave");
    for member in ["amount", "currency", "order_id", "description", "flow", "metadata"] {
        assert_eq!(read[member], body[member], "{member}");
    }
    // The largest amount that any of the merchant's providers takes.
    app.client.pay(&with("amount", json!(10_000_000_000_i64))).await.expect(201);
    app.stop().await;
}

/// What a product is called is no reason to refuse it, anywhere: each provider is given what it takes.
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
            assert_eq!((&payment["provider"], &payment["description"]), (&json!(provider), &json!(name)));
            app.control.pay(&payment).await;
            let mut charge = crate::helpers::barcode(provider, 0);
            charge["description"] = json!(name);
            let charged = app.client.pay(&charge).await.expect(201);
            for made in [payment, charged] {
                let id = made["id"].as_str().unwrap();
                app.client.until_status(id, "succeeded").await;
                let refund = json!({"amount": 1, "merchant_refund_no": fresh("r"), "reason": "茶🍵".repeat(40)});
                post(&app.client, &format!("/v1/payments/{id}/refunds"), refund.to_string()).await.expect(201);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_strict_json_is_refused_and_leaves_no_row() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let before = money(&db).await;
    let good = order().to_string();
    let inside = |more: &str| format!("{},{more}}}", good.strip_suffix('}').unwrap()).into_bytes();
    let nested = |depth: usize| inside(&format!(r#""metadata":{}1{}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth)));
    let mut not_utf8 = inside(r#""metadata":{"a":"?"}"#);
    let place = not_utf8.iter().position(|b| *b == b'?').unwrap();
    not_utf8[place] = 0xff;
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("nothing", vec![], 400, "body"),
        ("half of it", good.as_bytes()[..40].to_vec(), 400, "body"),
        ("two of them", format!("{good}{good}").into_bytes(), 400, "body"),
        ("a form", b"amount=1&currency=CNY".to_vec(), 400, "body"),
        ("a comment", format!("{good} // tea").into_bytes(), 400, "body"),
        ("a comma too many", inside("").to_vec(), 400, "body"),
        ("a number beyond all numbers", inside(r#""metadata":{"a":1e999}"#), 400, "body"),
        ("not a number", inside(r#""metadata":{"a":NaN}"#), 400, "body"),
        ("bytes that are no text", not_utf8, 400, "body"),
        ("a lone surrogate", inside(r#""metadata":{"a":"\ud83c"}"#), 400, "body"),
        ("surrogates in the wrong order", inside(r#""metadata":{"a":"\udf75\ud83c"}"#), 400, "body"),
        ("a raw control character", inside("\"metadata\":{\"a\":\"\u{1}\"}"), 400, "body"),
        ("200 levels", nested(200), 400, "body"),
        ("200 open brackets", vec![b'['; 200], 400, "body"),
        ("60,000 open brackets", vec![b'['; 60_000], 400, "body"),
        ("a member twice", inside(r#""amount":1"#), 400, "amount"),
        ("a member twice, once escaped", inside(r#""\u0061mount":1"#), 400, "amount"),
        ("a nested member twice", inside(r#""metadata":{"a":{"b":1,"b":2}}"#), 400, "metadata.a.b"),
        ("a member twice in a list", inside(r#""metadata":{"a":[{},{"b":1,"b":2}]}"#), 400, "metadata.a[1].b"),
        ("an integer beyond 64 bits", inside(r#""metadata":{"a":12345678901234567890123}"#), 422, "metadata.a"),
        ("more digits than are kept", inside(r#""metadata":{"b":[{"c":0.12345678901234567890}]}"#), 422, "metadata.b"),
        (
            "JSON inside of JSON",
            inside(r#""metadata":{"a":[{"$serde_json::private::RawValue":"[[1]]"}]}"#),
            422,
            "metadata.a[0].$serde_json::private::RawValue",
        ),
        (
            "the same, escaped",
            inside(r#""metadata":{"a":{"$serde_json::private::RawValue":"1"}}"#),
            422,
            "metadata.a.$serde_json::private::RawValue",
        ),
        ("an array", b"[]".to_vec(), 422, "body"),
        ("a text", b"\"pay\"".to_vec(), 422, "body"),
        ("null", b"null".to_vec(), 422, "body"),
    ];
    for (what, body, status, param) in cases {
        let code = if status == 400 { "invalid_body" } else { "invalid_parameter" };
        eprintln!("{what}");
        post(&app.client, "/v1/payments", body).await.problem(status, code, Some(param));
        unchanged(&before, &money(&db).await, what);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_with_and_without_a_length() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let before = money(&db).await;
    let good = order().to_string();
    let padded = |length: usize| format!("{good}{}", " ".repeat(length - good.len()));
    post(&app.client, "/v1/payments", padded(65_537)).await.problem(413, "body_too_large", Some("body"));

    let bearer = format!("Bearer {}", app.client.key);
    let head = wire::head(
        "POST",
        "/v1/payments",
        &[("Authorization", &bearer), ("Idempotency-Key", "chunked"), ("Transfer-Encoding", "chunked")],
    );
    let mut chunked = format!("{head}\r\n");
    for _ in 0..17 {
        chunked.push_str(&format!("1000\r\n{}\r\n", " ".repeat(0x1000)));
    }
    let answer = wire::exchange(&app.client.base, format!("{chunked}0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains(r#""param":"body""#), "{answer}");
    // A length that was promised and not kept: the connection ends in the middle of the body.
    let half = format!(
        "{}Content-Length: 500\r\n\r\n{good}",
        wire::head("POST", "/v1/payments", &[("Authorization", &bearer), ("Idempotency-Key", "half")])
    );
    let mut stream = wire::connect(&app.client.base).await;
    stream.write_all(half.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = wire::read(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(r#""code":"invalid_body""#), "{answer}");
    unchanged(&before, &money(&db).await, "a body that is too long or broke off");
    // Blanks behind a body are no fault, and exactly the limit is within it.
    post(&app.client, "/v1/payments", padded(65_536)).await.expect(201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_drips_ends_with_408() {
    let app = TestApp::with(&[("server.body_timeout_s", "1")]).await;
    let db = app.db().await;
    let before = money(&db).await;
    let bearer = format!("Bearer {}", app.client.key);
    let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", "drip"), ("Content-Length", "5000")];
    let (mut answers, mut body) = wire::connect(&app.client.base).await.into_split();
    body.write_all(format!("{}\r\n", wire::head("POST", "/v1/payments", &headers)).as_bytes()).await.unwrap();
    let drip = tokio::spawn(async move {
        // Ten bytes a second would take minutes; it ends when nobody listens any more.
        while body.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut answer = String::new();
    let read = tokio::io::AsyncReadExt::read_to_string(&mut answers, &mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(15), read).await.expect("an answer, whatever the client does");
    drip.abort();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains(r#""code":"body_timeout""#) && answer.contains(r#""param":"body""#), "{answer}");
    unchanged(&before, &money(&db).await, "a body that dripped");
    app.stop().await;
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
        let send =
            async |headers: &[(&str, &[u8])]| send(&app.client, Method::POST, path, headers, body.to_string()).await;
        send(&[]).await.problem(400, "idempotency_key_missing", name);
        let bad: [&[u8]; 8] =
            [b"", b"\"\"", b"\"half", b"a b", b"\"a b\"", "schlüssel".as_bytes(), b"\xff", long.as_bytes()];
        for key in bad {
            eprintln!("{}", String::from_utf8_lossy(key));
            send(&[("Idempotency-Key", key)]).await.problem(400, "idempotency_key_invalid", name);
        }
        let twice: [(&str, &[u8]); 2] = [("Idempotency-Key", b"a"), ("Idempotency-Key", b"a")];
        send(&twice).await.problem(400, "idempotency_key_invalid", name);
    }
    unchanged(&before, &money(&db).await, "a key that is none");
    app.client.post("/v1/payments", &"k".repeat(255), &order()).await.expect(201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quoted_and_a_bare_key_mean_the_same() {
    let app = TestApp::start().await;
    let (key, body) = (fresh("key"), order());
    let first = app.client.post("/v1/payments", &format!("\"{key}\""), &body).await;
    let again = app.client.post("/v1/payments", &key, &body).await;
    first.expect(201);
    again.expect(201);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert!(!first.headers.contains_key("idempotency-replayed"));
    assert_eq!(again.bytes, first.bytes);
    assert_eq!(rows::select(&app.db().await, "SELECT id FROM payments").await.len(), 1);
    // The same key with another body is another request, whichever way it is written.
    let other = app.client.post("/v1/payments", &format!("\"{key}\""), &order()).await;
    other.problem(422, "idempotency_key_reused", Some("Idempotency-Key"));
    app.stop().await;
}

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
    let stranger = app.other_merchant(&[Scope::Pay, Scope::Refund, Scope::Finance, Scope::Admin]).await;
    let before = money(&db).await;

    for path in [format!("/v1/payments/{id}"), format!("/v1/refunds/{refund}"), "/v1/payments/pay_nonsense".to_owned()]
    {
        stranger.get(&path).await.problem(404, "not_found", None);
    }
    stranger.refund(id, 1).await.problem(404, "not_found", None);
    for payment in [id, open] {
        let offer = json!({"flow": "qr"});
        stranger.post(&format!("/v1/payments/{payment}/offers"), &fresh("key"), &offer).await.problem(
            404,
            "not_found",
            None,
        );
        let cancel = stranger.send(Method::POST, &format!("/v1/payments/{payment}/cancel"), None, None).await;
        cancel.problem(404, "not_found", None);
    }
    let renamed = json!({"name": "mine now"}).to_string().into_bytes();
    let patch = stranger.send(Method::PATCH, &format!("/v1/accounts/{}", app.alipay), None, Some(renamed)).await;
    patch.problem(404, "not_found", None);
    stranger.route(&[&app.alipay]).await.problem(422, "invalid_parameter", Some("rules[0].accounts[0].id"));
    for list in ["payments", "refunds"] {
        let answer = stranger.get(&format!("/v1/{list}")).await.expect(200);
        assert_eq!(answer, json!({"object": "list", "data": [], "has_more": false}));
    }
    assert_eq!(stranger.get("/v1/accounts").await.expect(200)["data"], json!([]));
    stranger.get(&format!("/v1/refunds?payment={id}")).await.expect(200)["data"]
        .as_array()
        .unwrap()
        .is_empty()
        .then_some(())
        .unwrap();
    stranger.get(&format!("/v1/payments?starting_after={id}")).await.problem(
        422,
        "invalid_parameter",
        Some("starting_after"),
    );
    stranger.get(&format!("/v1/refunds?starting_after={refund}")).await.problem(
        422,
        "invalid_parameter",
        Some("starting_after"),
    );
    unchanged(&before, &money(&db).await, "a stranger");
    assert_eq!(app.client.payment(open).await["status"], "requires_action", "nobody canceled it");
    // Numbers and keys are each merchant's own: the same order_id under the same key is another payment. A merchant
    // without an account is told so, and not that the number is in use.
    let body = with("order_id", paid["order_id"].clone());
    stranger.pay(&body).await.problem(422, "flow_not_available", Some("flow"));
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
        (Method::POST, refunds.as_str(), json!({"amount": 1, "merchant_refund_no": "x"}).to_string()),
        (Method::GET, "/v1/payments", String::new()),
        (Method::GET, "/v1/refunds", String::new()),
        (Method::GET, "/v1/accounts", String::new()),
        (Method::PUT, "/v1/routing", json!({"rules": []}).to_string()),
    ];
    let key = app.client.key.clone();
    let wrong =
        ["", "Bearer", "Bearer ", "Bearer sk_test_nonsense", &format!("Basic {key}"), &key, &format!("Bearer {key}x")];
    for (method, path, body) in &calls {
        for authorization in wrong {
            let request = app.client.http.request(method.clone(), format!("{}{path}", app.client.base));
            let request = request.header("Authorization", authorization).header("Idempotency-Key", fresh("key"));
            let response = request.body(body.clone()).send().await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], "Bearer", "{method} {path} {authorization}");
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
        (vec![Scope::Refund, Scope::Finance, Scope::Admin], Method::POST, "/v1/payments", order().to_string()),
        (vec![Scope::Pay, Scope::Finance, Scope::Admin], Method::POST, refunds.as_str(), calls[1].2.clone()),
        (vec![Scope::Refund, Scope::Admin], Method::GET, "/v1/payments", String::new()),
        (vec![Scope::Pay, Scope::Admin], Method::GET, "/v1/refunds", String::new()),
        (vec![Scope::Refund], Method::GET, "/v1/accounts", String::new()),
        (vec![Scope::Pay, Scope::Refund, Scope::Finance], Method::POST, "/v1/accounts", "{}".to_owned()),
        (vec![Scope::Pay, Scope::Refund, Scope::Finance], Method::PUT, "/v1/routing", json!({"rules": []}).to_string()),
    ];
    for (scopes, method, path, body) in lacking {
        let store = &app.app().store;
        let key = interlock::directory::issue::new_key(store, &app.owner(), &scopes).await.unwrap();
        let client = Client::new(&app.client.base, &key);
        client.send(method, path, Some(&fresh("key")), Some(body.into_bytes())).await.problem(403, "forbidden", None);
    }
    unchanged(&before, &money(&db).await, "a caller who may not");

    let key = interlock::directory::issue::new_key(&app.app().store, &app.owner(), &[Scope::Pay]).await.unwrap();
    let client = Client::new(&app.client.base, &key);
    client.get("/v1/payments").await.expect(200);
    let digest = interlock::api::auth::digest(&key);
    db.execute_unprepared(&format!("UPDATE api_keys SET revoked_at = 1 WHERE digest = '{digest}'")).await.unwrap();
    app.app().directory.changed().await.unwrap();
    client.get("/v1/payments").await.problem(401, "unauthorized", Some("Authorization"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_path_and_a_wrong_method_are_problems_too() {
    let app = TestApp::start().await;
    for path in
        ["/", "/v1", "/v1/payments/", "/v2/payments", "/v1/payment", "/v1/payments/pay_x/refund", "/notifications"]
    {
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
        send(&app.client, Method::GET, "/v1/payments/pay_x", &[("X-Request-Id", id)], String::new()).await
    };
    let answer = ask(b"checkout-7.2_a").await;
    assert_eq!(answer.headers["x-request-id"], "checkout-7.2_a");
    assert_eq!(answer.problem(404, "not_found", None)["request_id"], "checkout-7.2_a");
    for bad in [b"".as_slice(), b"a b", b"a\"b", b"\xff\xfe", "x".repeat(129).as_bytes()] {
        let answer = ask(bad).await;
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert!(id.starts_with("req_") && id.len() == 26, "{id}");
        assert_eq!(answer.problem(404, "not_found", None)["request_id"], id.as_str());
    }
    let first = app.client.get("/healthz").await.headers["x-request-id"].clone();
    assert_ne!(first, app.client.get("/healthz").await.headers["x-request-id"], "each request has its own");
    app.stop().await;
}

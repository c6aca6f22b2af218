//! The face against requests that real SDKs sent, and in the forms that they expect.

use chrono::DateTime;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use providers::sandbox::simulator::{Alteration, Request, Response, SimulatorContext};
use providers::signing::{Signer, Verifier};
use providers::wechatpay::sign::{Merchant, ResourceKey, Seal};
use serde_json::{Value, json};

use crate::bench::Bench;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/wechatpay.json")).unwrap()
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap()
}

fn request_of(recorded: &Value) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert(
        "authorization",
        HeaderValue::from_str(text(recorded, "authorization")).unwrap(),
    );
    if let Some(serial) = recorded["wechatpay_serial"].as_str() {
        headers.insert("wechatpay-serial", HeaderValue::from_str(serial).unwrap());
    }
    Request {
        method: text(recorded, "method").parse().unwrap(),
        target: text(recorded, "target").to_owned(),
        headers,
        body: text(recorded, "body").to_owned().into(),
    }
}

fn handle(bench: &Bench, request: &Request, at: i64) -> Response {
    let now = DateTime::from_timestamp(at, 0).unwrap();
    bench.face.handle(
        request,
        &SimulatorContext {
            book: &bench.book,
            now,
            alteration: Alteration::None,
            spaces_refunds: false,
        },
    )
}

#[tokio::test]
async fn every_recorded_request_is_understood_and_answered_with_the_key_that_it_names() {
    let vectors = vectors();
    let keys = &vectors["keys"];

    for recorded in vectors["requests"].as_array().unwrap() {
        let bench = Bench::start().await;
        let (id, at) = (
            text(recorded, "id"),
            text(&recorded["auth"], "timestamp").parse::<i64>().unwrap(),
        );
        let request = request_of(recorded);
        let call = bench
            .face
            .call_of(&request, &bench.book)
            .map(|c| c.to_string());
        let answer = handle(&bench, &request, at);
        let expected = match call.as_deref() {
            Some("create") => StatusCode::OK,
            Some("close") => StatusCode::NO_CONTENT,
            _ => StatusCode::NOT_FOUND,
        };
        assert_eq!(answer.status, expected, "{id}: {:?}", answer.body);
        let (serial, key) = match recorded["wechatpay_serial"].as_str() {
            Some(serial) if serial.starts_with("PUB_KEY_ID_") => (serial, "wechatpay_pubkey_pem"),
            Some(_) | None => (text(keys, "platform_serial"), "platform_public_key_pem"),
        };
        let key = Verifier::from_text(text(keys, key)).unwrap();
        let now = DateTime::from_timestamp(at, 0).unwrap();
        Seal::of(&answer.headers)
            .unwrap()
            .check(&answer.body, now, serial, &key)
            .unwrap();
    }
}

#[tokio::test]
async fn a_recorded_request_with_one_byte_changed_is_unauthorized_and_the_answer_unsigned() {
    let bench = Bench::start().await;
    let vectors = vectors();
    let recorded = &vectors["requests"][0];
    let at = text(&recorded["auth"], "timestamp").parse::<i64>().unwrap();
    let genuine = request_of(recorded);
    let mut spoilt = vec![Request {
        target: format!("{}?a=b", genuine.target),
        ..genuine.clone()
    }];

    spoilt.push(Request {
        body: [&genuine.body[..], b"\n"].concat().into(),
        ..genuine.clone()
    });
    spoilt.push(Request {
        method: Method::PUT,
        ..genuine.clone()
    });

    for header in [
        "",
        "Bearer x",
        "WECHATPAY2-SHA256-RSA2048 mchid=\"1900000109\"",
        "WECHATPAY2-SM2-WITH-SM3 x",
    ] {
        let mut request = genuine.clone();
        request
            .headers
            .insert("authorization", HeaderValue::from_static(header));
        spoilt.push(request);
    }

    for request in &spoilt {
        let answer = handle(&bench, request, at);
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(!Seal::is_there(&answer.headers));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["code"], "SIGN_ERROR");
    }

    assert_eq!(
        handle(&bench, &genuine, at + 301).status,
        StatusCode::UNAUTHORIZED
    );
    assert!(bench.book.lock().orders().is_empty());

    assert_eq!(handle(&bench, &genuine, at + 300).status, StatusCode::OK);
}

/// Sends what our adapter never would.
fn send(bench: &Bench, method: &str, target: &str, body: &str) -> (StatusCode, Value) {
    let credentials = &bench.credentials;
    let signer = Signer::from_text(text(credentials, "private_key")).unwrap();
    let merchant = Merchant {
        mchid: text(credentials, "mchid"),
        serial: text(credentials, "serial"),
        signer: &signer,
    };

    let at = bench.now().timestamp();
    let authorization = merchant.authorization(method, target, at, "nonce", body.as_bytes());
    let mut headers = HeaderMap::new();

    headers.insert(
        "authorization",
        HeaderValue::try_from(authorization).unwrap(),
    );
    let body = body.to_owned().into();
    let request = Request {
        method: method.parse().unwrap(),
        target: target.to_owned(),
        headers,
        body,
    };

    let answer = handle(bench, &request, at);
    (
        answer.status,
        serde_json::from_slice(&answer.body).unwrap_or_default(),
    )
}

#[tokio::test]
async fn the_face_is_strict_about_members() {
    let bench = Bench::start().await;
    let good = json!({
        "appid": bench.credentials["appid"], "mchid": bench.credentials["mchid"],
        "description": "x",
        "out_trade_no": "IL20260105000001", "notify_url": "https://example.com/n",
        "amount": {"total": 100},
    });
    for (member, value, field) in [
        ("surprise", json!(1), "/surprise"),
        ("description", Value::Null, "/description"),
        ("description", json!("\u{1F600}"), ""),
        ("amount", json!({"total": 0}), "/amount/total"),
        ("amount", json!({"total": 1.5}), "/amount/total"),
        (
            "amount",
            json!({"total": 1, "currency": "USD"}),
            "/amount/currency",
        ),
        ("amount", json!({"total": 1, "fee": 1}), "/amount/fee"),
        ("amount", json!(1), "/amount"),
        ("out_trade_no", json!("IL 0001"), "/out_trade_no"),
        ("attach", json!("a".repeat(129)), "/attach"),
        ("time_expire", json!("20260105100000"), "/time_expire"),
        ("notify_url", json!("ftp://example.com"), "/notify_url"),
    ] {
        let mut body = good.clone();
        body[member] = value;
        let (status, answer) = send(
            &bench,
            "POST",
            "/v3/pay/transactions/native",
            &body.to_string(),
        );
        assert_eq!(
            (status, &answer["code"]),
            (StatusCode::BAD_REQUEST, &json!("PARAM_ERROR")),
            "{body}"
        );
        assert_eq!(answer["detail"]["field"], field, "{body}");
    }
    for member in [
        "appid",
        "mchid",
        "description",
        "out_trade_no",
        "notify_url",
        "amount",
    ] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(member);
        let (_, answer) = send(
            &bench,
            "POST",
            "/v3/pay/transactions/native",
            &body.to_string(),
        );
        assert_eq!(answer["detail"]["field"], format!("/{member}"));
    }
    assert!(bench.book.lock().orders().is_empty());
    assert_eq!(
        send(
            &bench,
            "POST",
            "/v3/pay/transactions/native",
            &good.to_string()
        )
        .0,
        StatusCode::OK
    );

    let close = "/v3/pay/transactions/out-trade-no/IL20260105000001/close";
    let (status, answer) = send(&bench, "POST", close, r#"{"mch_id":"1900000109"}"#);
    assert_eq!(
        (status, &answer["detail"]["location"]),
        (StatusCode::BAD_REQUEST, &json!("uri_template"))
    );
    let (status, _) = send(
        &bench,
        "GET",
        "/v3/pay/transactions/out-trade-no/IL20260105000001",
        "",
    );
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, answer) = send(
        &bench,
        "GET",
        "/v3/pay/transactions/out-trade-no/IL20260105000001?mchid=1",
        "",
    );
    assert_eq!(
        (status, &answer["code"]),
        (StatusCode::NOT_FOUND, &json!("ORDER_NOT_EXIST"))
    );
}

#[tokio::test]
async fn an_unpaid_and_a_paid_order_look_as_in_real_dumps() {
    let bench = Bench::start().await;
    bench
        .adapter()
        .create(&bench.order("IL20260105000001"), &bench.call())
        .await;
    let by_number = "/v3/pay/transactions/out-trade-no/IL20260105000001?mchid=1900000109";
    let (_, unpaid) = send(&bench, "GET", by_number, "");

    assert_eq!(
        unpaid,
        json!({
            "amount": {"payer_currency": "CNY", "total": 100}, "appid": "wxd678efh567hg6787",
            "mchid": "1900000109",
            "out_trade_no": "IL20260105000001", "promotion_detail": [],
            "scene_info": {"device_id": ""},
            "trade_state": "NOTPAY", "trade_state_desc": "订单未支付",
        })
    );

    bench.pay("IL20260105000001");
    let (_, paid) = send(&bench, "GET", by_number, "");
    let id = text(&paid, "transaction_id").to_owned();

    assert_eq!(
        paid,
        json!({
            "amount": {"currency": "CNY", "payer_currency": "CNY", "payer_total": 100,
                "total": 100},
            "appid": "wxd678efh567hg6787", "attach": "pay_0123456789abcdef", "bank_type": "OTHERS",
            "mchid": "1900000109", "out_trade_no": "IL20260105000001",
            "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"}, "promotion_detail": [],
            "success_time": "2026-01-05T10:00:00+08:00", "trade_state": "SUCCESS",
            "trade_state_desc": "支付成功",
            "trade_type": "NATIVE", "transaction_id": id,
        })
    );

    let (_, by_id) = send(
        &bench,
        "GET",
        &format!("/v3/pay/transactions/id/{id}?mchid=1900000109"),
        "",
    );

    assert_eq!(by_id, paid);
    let by_transaction = json!({
        "transaction_id": id, "out_refund_no": "R|1@*",
        "amount": {"refund": 1, "total": 100, "currency": "CNY"},
    });
    let (status, _) = send(
        &bench,
        "POST",
        "/v3/refund/domestic/refunds",
        &by_transaction.to_string(),
    );

    assert_eq!(status, StatusCode::OK);
    let (status, refund) = send(&bench, "GET", "/v3/refund/domestic/refunds/R%7C1@%2A", "");

    assert_eq!(
        (status, &refund["status"]),
        (StatusCode::OK, &json!("PROCESSING"))
    );

    assert_eq!(
        send(&bench, "GET", by_number, "").1["trade_state"],
        "REFUND"
    );
}

#[tokio::test]
async fn new_keys_open_an_account_and_carry_a_certificate() {
    let bench = Bench::with(
        &(providers::sandbox::simulated("wechatpay")
            .unwrap()
            .make_keys)()
        .unwrap(),
    )
    .await;

    bench
        .adapter()
        .create(&bench.order("IL20260105000001"), &bench.call())
        .await;
    assert_eq!(bench.book.lock().orders().len(), 1);

    let (status, list) = send(&bench, "GET", "/v3/certificates", "");
    assert_eq!(status, StatusCode::OK);
    let sealed = &list["data"][0]["encrypt_certificate"];
    let key = ResourceKey::new(text(&bench.credentials, "apiv3_key")).unwrap();
    let opened = key
        .open(
            text(sealed, "nonce"),
            text(sealed, "associated_data"),
            text(sealed, "ciphertext"),
        )
        .unwrap();

    assert_eq!(
        opened,
        text(&bench.credentials, "platform_certificate").as_bytes()
    );
}

//! What the gateway itself says, what networks do to it, and what the adapter makes of both.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use providers::order::Call;
use providers::outcome::{CreateOutcome, FailureKind, QueryOutcome, Refusal};
use providers::provider::Provider;
use providers::sandbox::book::SharedBook;
use providers::sandbox::simulator::{Alteration, Request, SimulatorContext};
use providers::signing::Signer;
use serde_json::Value;

use crate::shop::{Mode, Shop, account, face, form, keys, signed_text};

/// The outcomes of all six calls, as `{:?}` up to the failure's code.
async fn outcomes(shop: &Shop, alipay: &dyn Provider, call: &Call) -> [String; 6] {
    let refund = shop.refund("R1", 1);

    [
        format!("{:?}", alipay.create(&shop.order(), call).await.outcome),
        format!("{:?}", alipay.query(&shop.reference(), call).await.outcome),
        format!("{:?}", alipay.close(&shop.reference(), call).await.outcome),
        format!(
            "{:?}",
            alipay.reverse(&shop.reference(), call).await.outcome
        ),
        format!("{:?}", alipay.refund(&refund, call).await.outcome),
        format!("{:?}", alipay.query_refund(&refund, call).await.outcome),
    ]
    .map(|debug| match debug.split_once(", message") {
        Some((start, _)) => start.replace("Failure { kind: ", "").replace(", code:", ""),
        None => debug,
    })
}

fn all(create: &str, query: &str, end: &str, refund: &str, failure: &str) -> [String; 6] {
    [create, query, end, end, refund, query].map(|outcome| format!("{outcome}{failure}"))
}

#[tokio::test]
async fn an_unknown_application_is_refused_without_a_signature_and_believed() {
    let shop = Shop::open().await;
    let alipay = account(&shop.base_url, |settings| {
        settings["app_id"] = "2021000000000009".into()
    });
    let expected = all(
        "Refused(Account, ",
        "Unknown(",
        "Unknown(",
        "RetryLater(",
        "Account \"isv.invalid-app-id\"",
    );
    assert_eq!(
        outcomes(&shop, alipay.as_ref(), &shop.call()).await,
        expected
    );
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_the_account_is_to_blame() {
    let shop = Shop::open().await;
    let other = (providers::sandbox::simulated("alipay").unwrap().make_keys)().unwrap();
    let alipay = account(&shop.base_url, |settings| {
        settings["app_private_key"] = other["app_private_key"].clone()
    });
    let expected = all(
        "Refused(Account, ",
        "Unknown(",
        "Unknown(",
        "RetryLater(",
        "Account \"isv.invalid-signature\"",
    );

    assert_eq!(
        outcomes(&shop, alipay.as_ref(), &shop.call()).await,
        expected
    );
}

#[tokio::test]
async fn a_seller_that_the_application_does_not_belong_to_is_refused_before_anything_is_shown() {
    let shop = Shop::open().await;
    let alipay = account(&shop.base_url, |settings| {
        settings["seller_id"] = "2088000000000009".into()
    });
    match alipay.create(&shop.order(), &shop.call()).await.outcome {
        CreateOutcome::Refused(Refusal::Account, failure) => {
            assert_eq!(failure.code, "ACQ.INVALID_RECEIVE_ACCOUNT")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn unsigned_and_wrongly_signed_answers_are_unknown_whatever_they_say() {
    let shop = Shop::open().await;
    shop.create().await;
    shop.pay();
    shop.mode(Mode::Simulator(Alteration::Unsigned));
    let expected = all(
        "Unknown(",
        "Unknown(",
        "Unknown(",
        "Unknown(",
        "Incompatible \"unsigned\"",
    );

    assert_eq!(
        outcomes(&shop, shop.alipay.as_ref(), &shop.call()).await,
        expected
    );

    shop.mode(Mode::Simulator(Alteration::BadSignature));
    let expected = all(
        "Unknown(",
        "Unknown(",
        "Unknown(",
        "Unknown(",
        "Incompatible \"wrongly_signed\"",
    );

    assert_eq!(
        outcomes(&shop, shop.alipay.as_ref(), &shop.call()).await,
        expected
    );
}

#[tokio::test]
async fn a_full_gateway_did_nothing() {
    let shop = Shop::open().await;
    shop.create().await;
    shop.mode(Mode::RateLimited);
    let expected = all(
        "Refused(Provider, ",
        "Unknown(",
        "Retry(",
        "RetryLater(",
        "RateLimited \"isv.app-call-limited\"",
    );
    assert_eq!(
        outcomes(&shop, shop.alipay.as_ref(), &shop.call()).await,
        expected
    );
}

#[tokio::test]
async fn a_broken_gateway_a_lost_answer_and_no_answer_are_unknown() {
    let shop = Shop::open().await;
    shop.mode(Mode::Http500);
    let expected = all(
        "Unknown(",
        "Unknown(",
        "Unknown(",
        "Unknown(",
        "ServerError \"http_500\"",
    );

    assert_eq!(
        outcomes(&shop, shop.alipay.as_ref(), &shop.call()).await,
        expected
    );

    shop.mode(Mode::HangUp);
    let expected = all(
        "Unknown(",
        "Unknown(",
        "Unknown(",
        "Unknown(",
        "Network \"connection_lost\"",
    );

    assert_eq!(
        outcomes(&shop, shop.alipay.as_ref(), &shop.call()).await,
        expected
    );
    assert_eq!(
        shop.book().lock().orders().len(),
        1,
        "the order whose answer was lost was made"
    );

    shop.mode(Mode::Silence);
    let call = Call {
        timeout: Duration::from_millis(50),
        ..shop.call()
    };
    let expected = all(
        "Unknown(",
        "Unknown(",
        "Unknown(",
        "Unknown(",
        "Timeout \"timeout\"",
    );

    assert_eq!(outcomes(&shop, shop.alipay.as_ref(), &call).await, expected);
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent() {
    let shop = Shop::open().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();

    let alipay = account(&format!("http://127.0.0.1:{port}"), |_| {});
    let expected = all(
        "NotSent(",
        "Unknown(",
        "Retry(",
        "RetryLater(",
        "Network \"connect\"",
    );

    assert_eq!(
        outcomes(&shop, alipay.as_ref(), &shop.call()).await,
        expected
    );
}

#[tokio::test]
async fn answers_that_are_no_answers_are_unknown() {
    let server = wiremock::MockServer::start().await;
    let shop = Shop::open().await;
    let alipay = account(&server.uri(), |_| {});
    let node = r#"{"code":"10000","out_trade_no":"il00000000000001"}"#;

    for (body, code) in [
        (String::new(), "garbled"),
        ("success".to_owned(), "garbled"),
        ("<html>".to_owned(), "garbled"),
        ("{}".to_owned(), "no_node"),
        (
            format!(r#"{{"alipay_trade_query_response":{node},"sign":"x"}}"#),
            "wrongly_signed",
        ),
        (
            format!(r#"{{"alipay_trade_cancel_response":{node},"sign":"x"}}"#),
            "no_node",
        ),
        (
            format!(
                r#"{{"alipay_trade_query_response":{node},"alipay_trade_query_response":{node}}}"#
            ),
            "garbled",
        ),
        (
            format!(r#"{{"alipay_trade_query_response":{node},"error_response":{node}}}"#),
            "two_nodes",
        ),
        (
            r#"{"alipay_trade_query_response":"encrypted","sign":"x"}"#.to_owned(),
            "garbled",
        ),
        (
            r#"{"error_response":{"code":"40004","sub_code":"ACQ.TRADE_NOT_EXIST"},"sign":""}"#
                .to_owned(),
            "unsigned",
        ),
    ] {
        server.reset().await;
        let answer = wiremock::ResponseTemplate::new(200)
            .set_body_raw(body.clone(), "text/html;charset=utf-8");
        wiremock::Mock::given(wiremock::matchers::any())
            .respond_with(answer)
            .mount(&server)
            .await;
        match alipay.query(&shop.reference(), &shop.call()).await.outcome {
            QueryOutcome::Unknown(failure) => {
                assert_eq!(
                    (failure.code.as_str(), failure.kind),
                    (code, FailureKind::Incompatible),
                    "{body}"
                );
            }
            other => panic!("{body}: {other:?}"),
        }
    }
}

/// A signed query with these changes; an empty value removes.
fn request(changes: &[(&str, &str)], resign: bool) -> Request {
    let mut fields = BTreeMap::new();
    let query = [
        ("app_id", keys()["app_id"].as_str().unwrap()),
        ("method", "alipay.trade.query"),
        ("charset", "utf-8"),
        ("sign_type", "RSA2"),
        ("timestamp", "2026-03-01 10:00:00"),
        ("version", "1.0"),
        ("biz_content", r#"{"out_trade_no":"A1"}"#),
    ];

    let mut set = |(name, value): &(&str, &str)| {
        if value.is_empty() {
            fields.remove(*name)
        } else {
            fields.insert((*name).to_owned(), (*value).to_owned())
        };
    };

    query.iter().for_each(&mut set);
    if resign {
        changes.iter().for_each(&mut set);
    }
    let key = Signer::from_text(keys()["app_private_key"].as_str().unwrap()).unwrap();
    let sign = key.sign(signed_text(&fields).as_bytes());
    fields.insert("sign".to_owned(), sign);
    for (name, value) in changes {
        if value.is_empty() {
            fields.remove(*name)
        } else {
            fields.insert((*name).to_owned(), (*value).to_owned())
        };
    }

    let target = format!("/gateway.do?{}", form(&fields));
    Request {
        method: Method::GET,
        target,
        headers: HeaderMap::new(),
        body: Bytes::new(),
    }
}

fn said(request: &Request) -> (String, Value, bool) {
    let shop_face = face();
    let now = chrono::DateTime::parse_from_rfc3339("2026-03-01T02:00:00Z")
        .unwrap()
        .to_utc();
    let context = SimulatorContext {
        book: &SharedBook::default(),
        now,
        alteration: Alteration::None,
        spaces_refunds: false,
    };

    let response = shop_face.handle(request, &context);
    assert_eq!(response.status, 200);
    assert_eq!(response.headers["content-type"], "text/html;charset=utf-8");

    let body: serde_json::Map<String, Value> = serde_json::from_slice(&response.body).unwrap();
    let signed = body.contains_key("sign");
    let (name, node) = body.into_iter().find(|(name, _)| name != "sign").unwrap();
    (name, node, signed)
}

#[test]
fn the_gateway_checks_in_its_order_and_signs_all_but_one_refusal() {
    for (change, resign, code, sub_code) in [
        (("app_id", ""), false, "40001", "isv.missing-app-id"),
        (("app_id", "2021999"), false, "40002", "isv.invalid-app-id"),
        (("method", ""), false, "40001", "isv.missing-method"),
        (("sign", ""), false, "40001", "isv.missing-signature"),
        (
            ("sign_type", ""),
            false,
            "40001",
            "isv.missing-signature-type",
        ),
        (("timestamp", ""), false, "40001", "isv.missing-timestamp"),
        (("version", ""), false, "40001", "isv.missing-version"),
        (("charset", ""), false, "40002", "isv.invalid-charset"),
        (("charset", "big5"), false, "40002", "isv.invalid-charset"),
        (("format", "xml"), false, "40002", "isv.invalid-format"),
        (
            ("sign_type", "RSA"),
            false,
            "40002",
            "isv.invalid-signature-type",
        ),
        (
            ("timestamp", "now"),
            false,
            "40002",
            "isv.invalid-timestamp",
        ),
        (
            ("biz_content", "{}"),
            false,
            "40002",
            "isv.invalid-signature",
        ),
        (
            ("method", "alipay.trade.page.pay"),
            true,
            "40002",
            "isv.invalid-method",
        ),
        (("biz_content", "{"), true, "40002", "isv.illegal-json"),
        (("biz_content", ""), true, "40002", "isv.illegal-json"),
        (
            ("biz_content", "{}"),
            true,
            "40004",
            "ACQ.INVALID_PARAMETER",
        ),
        (("format", "json"), true, "40004", "ACQ.TRADE_NOT_EXIST"),
    ] {
        let (_, node, signed) = said(&request(&[change], resign));
        assert_eq!(
            (node["code"].as_str(), node["sub_code"].as_str()),
            (Some(code), Some(sub_code)),
            "{change:?}"
        );
        assert_eq!(signed, sub_code != "isv.invalid-app-id", "{change:?}");
    }
}

#[test]
fn a_refused_signature_shows_what_was_verified_and_a_strange_method_has_no_node_of_its_own() {
    let (name, node, _) = said(&request(&[("biz_content", "{}")], false));
    assert_eq!(name, "alipay_trade_query_response");
    assert!(
        node["sub_msg"]
            .as_str()
            .unwrap()
            .contains("&amp;biz_content={}&amp;charset=utf-8&amp;"),
        "{node}"
    );
    let (name, node, _) = said(&request(&[("method", "\"},\"x")], true));
    assert_eq!(
        (name.as_str(), node["sub_code"].as_str()),
        ("error_response", Some("isv.invalid-method"))
    );
}

#[test]
fn a_post_body_and_an_absolute_target_are_read_too_and_a_name_in_both_places_is_refused() {
    let get = request(&[], true);
    let (path, query) = get.target.split_once('?').unwrap();
    let posted = Request {
        method: Method::POST,
        target: format!("http://127.0.0.2{path}"),
        headers: HeaderMap::new(),
        body: Bytes::from(query.to_owned()),
    };
    assert_eq!(said(&posted).1["sub_code"], "ACQ.TRADE_NOT_EXIST");
    let twice = Request {
        target: get.target.clone(),
        ..posted
    };
    assert_eq!(said(&twice).1["sub_code"], "isv.invalid-parameter");
}

//! What an answer is worth by its signature: with a wrong one or with none it proves nothing, one
//! kind of "no" apart.

use bytes::Bytes;
use http::HeaderValue;
use serde_json::json;

use super::{
    Bench, NOW, name_created, name_ended, name_queried, name_refund_queried, order, refund,
    transaction,
};
use crate::http::HttpAnswer;
use crate::outcome::FailureKind;
use crate::wechatpay::outcome::{Reply, charged, closed, created, queried, refund_queried};
use crate::wechatpay::sign::answer_message;

#[test]
fn an_unsigned_no_is_believed_only_when_it_is_a_sign_error() {
    let bench = Bench::new();
    let created_from = |answer: &HttpAnswer| name_created(&created(bench.verify(answer)));
    let no = |status, code: &str| {
        bench.unsigned(status, &json!({"code": code, "message": "m"}).to_string())
    };

    assert_eq!(
        created_from(&no(401, "SIGN_ERROR")),
        "refused by account account"
    );

    for (status, code, expected) in [
        (400, "SIGN_ERROR", "unknown incompatible"),
        (401, "NO_AUTH", "unknown incompatible"),
        (400, "PARAM_ERROR", "unknown incompatible"),
        (403, "NO_AUTH", "unknown incompatible"),
        (429, "FREQUENCY_LIMITED", "unknown rate_limited"),
        (500, "SYSTEM_ERROR", "unknown server_error"),
    ] {
        assert_eq!(created_from(&no(status, code)), expected, "{status} {code}");
    }

    let not_found = bench.verify(&no(404, "ORDER_NOT_EXIST"));
    assert_eq!(
        name_queried(&queried(&bench.account, &order(), not_found)),
        "unknown incompatible"
    );

    let paid = bench.verify(&no(400, "ORDER_PAID"));
    assert_eq!(name_ended(&closed(paid)), "unknown incompatible");
    let no_refund = bench.verify(&no(404, "RESOURCE_NOT_EXISTS"));

    assert_eq!(
        name_refund_queried(&refund_queried(&refund(), no_refund)),
        "unknown incompatible"
    );
}

/// Two clocks that differ are alike for all accounts: another route is taken, and none is set
/// aside.
#[test]
fn a_sign_error_about_the_time_is_not_the_accounts() {
    let bench = Bench::new();

    for (message, expected) in [
        (
            "Http头Authorization中的timestamp与发起请求的时间不得超过5分钟",
            "refused by provider request",
        ),
        ("Authorization不合法", "refused by account account"),
        ("错误的签名，导致验签失败", "refused by account account"),
        ("商户证书序列号有误", "refused by account account"),
    ] {
        let answer = bench.unsigned(
            401,
            &json!({"code": "SIGN_ERROR", "message": message}).to_string(),
        );
        assert_eq!(
            name_created(&created(bench.verify(&answer))),
            expected,
            "{message}"
        );
        assert_eq!(
            name_created(&charged(
                &bench.account,
                "IL00000001",
                bench.verify(&answer)
            )),
            expected,
            "{message}"
        );
    }
}

/// The code can be read, and is signed: words in another charset, halves of characters and nothing
/// at all decide nothing.
#[test]
fn words_that_cannot_be_read_take_nothing_from_the_code() {
    let bench = Bench::new();

    for message in [
        &b"\"\xd5\xcb\xbb\xa7\""[..],
        b"\"\xff\"",
        br#""\ud83d""#,
        b"null",
        b"7",
    ] {
        let body = [br#"{"code":"NO_AUTH","message":"#, message, b"}"].concat();
        let mut answer = bench.signed(403, "");
        let signature = bench
            .theirs
            .sign(&answer_message(&NOW.to_string(), "n", &body));
        answer.headers.insert(
            "wechatpay-signature",
            HeaderValue::try_from(signature).unwrap(),
        );
        answer.body = Bytes::from(body);
        let outcome = name_created(&created(bench.verify(&answer)));
        assert_eq!(
            outcome,
            "refused by account account",
            "{}",
            message.escape_ascii()
        );
    }
}

#[test]
fn a_wrong_signature_makes_any_answer_unknown() {
    let bench = Bench::new();
    let body = r#"{"code":"PARAM_ERROR","message":"m","code_url":"weixin://x"}"#;

    for status in [200, 204, 400, 401, 404] {
        let set = |name: &'static str, value: &'static str| {
            let mut answer = bench.signed(status, body);
            answer.headers.insert(name, HeaderValue::from_static(value));
            answer
        };
        let mut without_nonce = bench.signed(status, body);
        without_nonce.headers.remove("wechatpay-nonce");
        let mut tampered = bench.signed(status, body);
        tampered.body =
            Bytes::from_static(br#"{"code":"NO_AUTH","message":"m","code_url":"weixin://y"}"#);
        let spoilt = [
            set("wechatpay-signature", "AAAA"),
            set("wechatpay-signature", "WECHATPAY/SIGNTEST/AAAA"),
            set("wechatpay-serial", "PUB_KEY_ID_0"),
            set("wechatpay-timestamp", "1767578100"),
            set("wechatpay-timestamp", "yesterday"),
            set("wechatpay-signature-type", "WECHATPAY2-SM2-WITH-SM3"),
            without_nonce,
            tampered,
        ];
        for answer in spoilt {
            let headers = answer.headers.clone();
            let Reply::Doubt(failure) = bench.verify(&answer) else {
                panic!("{status} {headers:?}")
            };
            assert_eq!(
                failure.kind,
                FailureKind::Incompatible,
                "{status} {headers:?}"
            );
        }
    }
}

#[test]
fn a_success_without_a_signature_is_unknown() {
    let bench = Bench::new();
    let offer =
        bench.verify(&bench.unsigned(200, r#"{"code_url":"weixin://wxpay/bizpayurl?pr=x"}"#));
    assert_eq!(name_created(&created(offer)), "unknown incompatible");
    assert_eq!(
        name_ended(&closed(bench.verify(&bench.unsigned(204, "")))),
        "unknown incompatible"
    );
    let paid = bench.verify(&bench.unsigned(200, &transaction("SUCCESS")));
    assert_eq!(
        name_queried(&queried(&bench.account, &order(), paid)),
        "unknown incompatible"
    );
}

#[test]
fn proxies_and_redirects_are_unknown() {
    let bench = Bench::new();
    for (status, expected) in [
        (301, "unknown incompatible"),
        (307, "unknown incompatible"),
        (404, "unknown incompatible"),
        (429, "unknown rate_limited"),
        (502, "unknown server_error"),
        (503, "unknown server_error"),
        (504, "unknown server_error"),
    ] {
        let reply = bench.verify(&bench.unsigned(status, "<html>"));
        assert_eq!(name_created(&created(reply)), expected, "{status}");
    }
}

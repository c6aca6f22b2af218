//! Messages in other charsets than UTF-8: answers and notifications are in the one that the request
//! named.

use aws_lc_rs::digest::{SHA256, digest};
use encoding_rs::{Encoding, GB18030, GBK};
use providers::notification::Notice;
use providers::outcome::{CreateOutcome, QueryOutcome, RefundOutcome, RefundQueryOutcome};
use providers::sandbox::payer::{Holding, Wish};
use serde_json::json;

use crate::bench::{Bench, QR};

const TEXT: &str = "联通乗丂茶";

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// Over the sorted fields as bytes.
fn signature(bench: &Bench, fields: &[(&str, Vec<u8>)]) -> String {
    let mut fields: Vec<_> = fields
        .iter()
        .filter(|(name, value)| *name != "signature" && !value.is_empty())
        .collect();
    fields.sort();
    let text: Vec<Vec<u8>> = fields
        .iter()
        .map(|(name, value)| [name.as_bytes(), b"=", value].concat())
        .collect();
    let key = sha256(bench.settings["secure_key"].as_str().unwrap().as_bytes());
    sha256(&[text.join(&b'&').as_slice(), b"&", key.as_bytes()].concat())
}

/// A shop that signs with the shared key and asks for a code, in this charset. Gives the answer's
/// fields.
async fn apply(bench: &Bench, named: &str, encoding: &'static Encoding) -> Vec<(String, Vec<u8>)> {
    let time = (bench.sandbox.clock().now() + chrono::TimeDelta::hours(8))
        .format("%Y%m%d%H%M%S")
        .to_string();
    let notify_url = bench.qr().notify_url;
    let fields = [
        ("version", "5.1.0"),
        ("encoding", named),
        ("signMethod", "11"),
        ("txnType", "01"),
        ("txnSubType", "07"),
        ("bizType", "000000"),
        ("accessType", "0"),
        ("merId", bench.settings["mer_id"].as_str().unwrap()),
        ("orderId", QR),
        ("txnTime", &time),
        ("channelType", "08"),
        ("txnAmt", "1000"),
        ("currencyCode", "156"),
        ("backUrl", &notify_url),
        ("reqReserved", TEXT),
    ];

    let mut fields: Vec<(&str, Vec<u8>)> = fields
        .into_iter()
        .map(|(name, value)| (name, encoding.encode(value).0.into_owned()))
        .collect();
    let signature_of = signature(bench, &fields);
    fields.push(("signature", signature_of.into_bytes()));
    let half = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
    let body: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", half(value)))
        .collect();

    let url = format!(
        "{}/gateway/api/backTransReq.do",
        bench.settings["base_url"].as_str().unwrap()
    );
    let http = providers::http::plain_client_builder().build().unwrap();
    let asking = http
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.join("&"));
    let answer = asking.send().await.unwrap();

    assert_eq!(
        answer.headers()["content-type"],
        format!("text/html;charset={}", encoding_name(named))
    );

    fields_of(&answer.bytes().await.unwrap())
}

fn encoding_name(named: &str) -> &str {
    if named == "gb2312" { "GBK" } else { named }
}

fn fields_of(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let pair = |pair: &[u8]| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap();
        (
            String::from_utf8(pair[..at].to_vec()).unwrap(),
            pair[at + 1..].to_vec(),
        )
    };
    body.split(|byte| *byte == b'&').map(pair).collect()
}

#[tokio::test]
async fn a_shop_that_names_a_charset_is_answered_in_it() {
    for (named, encoding) in [("GBK", GBK), ("gb2312", GBK), ("GB18030", GB18030)] {
        let bench = Bench::start().await;
        let answer = apply(&bench, named, encoding).await;
        let field = |name: &str| answer.iter().find(|(n, _)| n == name).unwrap().1.clone();
        let borrowed: Vec<(&str, Vec<u8>)> = answer
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        assert_eq!(
            field("signature"),
            signature(&bench, &borrowed).into_bytes(),
            "{named}"
        );
        assert_eq!(field("encoding"), named.as_bytes(), "echoed as it was sent");
        assert_eq!(field("reqReserved"), encoding.encode(TEXT).0.into_owned());
        assert_eq!(
            field("respMsg"),
            encoding.encode("成功[0000000]").0.into_owned()
        );
        let book = bench.sandbox.book().lock();
        assert_eq!(
            book.by_order_no(QR).unwrap().passback.as_deref(),
            Some(TEXT)
        );
    }

    let bench = Bench::start().await;
    let answer = apply(&bench, "UTF-8", encoding_rs::UTF_8).await;

    assert!(
        answer
            .iter()
            .any(|(name, value)| name == "reqReserved" && value == TEXT.as_bytes())
    );
}

#[tokio::test]
async fn answers_and_notifications_in_a_charset_that_nobody_asked_for_mean_the_same() {
    let http = providers::http::plain_client_builder().build().unwrap();

    for kind in ["gbk", "gb18030"] {
        let mut bench = Bench::start().await;
        for call in [None, Some("notification")] {
            let fault = json!({"provider": "unionpay", "kind": kind, "call": call});
            let url = format!("http://{}/faults", bench.sandbox.control());
            let answer = http.put(url).body(fault.to_string()).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
        let order = bench.qr();
        let made = bench.adapter.create(&order, &bench.call()).await.outcome;
        assert!(matches!(made, CreateOutcome::Accepted(_)), "{made:?}");
        bench
            .sandbox
            .pay(&Holding::OrderNo(QR.to_owned()), Wish::Paid)
            .unwrap();
        assert!(matches!(bench.told().await,
                Notice::Ask { order_no, says_done: true, .. } if order_no == QR));
        let QueryOutcome::Paid(capture) = bench.query(&order).await else {
            panic!("it was paid")
        };
        assert_eq!(capture.payment_id, Some(order.payment_id.clone()));
        let refund = bench.refund_of(&order, "IL20260701RF000001", 400);
        assert!(matches!(
            bench.refund(&refund).await,
            RefundOutcome::Accepted
        ));
        bench.pass(chrono::TimeDelta::seconds(3));
        assert!(matches!(
            bench.told().await,
            Notice::Ask {
                refund_no: Some(_),
                says_done: true,
                ..
            }
        ));
        assert!(matches!(
            bench.query_refund(&refund).await,
            RefundQueryOutcome::Done
        ));
        let again = bench.adapter.create(&order, &bench.call()).await.outcome;
        let CreateOutcome::Unknown(failure) = again else {
            panic!("{again:?}")
        };
        assert_eq!(failure.message, "重复交易[2010002]", "in words for people");
    }
}

//! Requests, answers and notifications in other charsets than UTF-8: what a request names, or what
//! somebody asks the sandbox for. Signatures are over the bytes as they travel.

use bytes::Bytes;
use encoding_rs::GBK;
use http::{HeaderMap, Method};
use providers::notification::{Notice, RawNotification};
use providers::outcome::{CreateOutcome, QueryOutcome, RefundOutcome, RefundQueryOutcome};
use providers::sandbox::charset::Charset;
use providers::sandbox::simulator::{self, Alteration, Request, Response, SimulatorContext};
use providers::signing::{Signer, Verifier};

use crate::shop::{Mode, NUMBER, Shop, keys};

/// The second byte of 乗 is a backslash, that of 丂 an @; 联通 in GBK is UTF-8 of something else as
/// well.
const TEXT: &str = "联通乗丂茶";

/// A request of a shop that speaks GBK: signed over the bytes of `signed_in`, sent in those of
/// `charset`.
fn precreate(charset: &str, signed_in: fn(&str) -> Vec<u8>) -> Request {
    let biz_content =
        format!(r#"{{"out_trade_no":"{NUMBER}","subject":"{TEXT}","total_amount":"88.88"}}"#);
    let mut fields = vec![
        ("app_id", keys()["app_id"].as_str().unwrap()),
        ("biz_content", biz_content.as_str()),
        ("charset", charset),
        ("method", "alipay.trade.precreate"),
        ("notify_url", "http://127.0.0.1:9/n"),
        ("sign_type", "RSA2"),
        ("timestamp", "2026-03-01 10:00:00"),
        ("version", "1.0"),
    ];

    let text: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let key = Signer::from_text(keys()["app_private_key"].as_str().unwrap()).unwrap();
    let sign = key.sign(&signed_in(&text.join("&")));
    fields.push(("sign", &sign));
    let half =
        |text: &str| form_urlencoded::byte_serialize(&GBK.encode(text).0).collect::<String>();

    let pairs: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", half(value)))
        .collect();

    // The name of the charset is in the query, the text that it is about in the body.
    let (body, query): (Vec<String>, Vec<String>) = pairs
        .into_iter()
        .partition(|pair| pair.starts_with("biz_content"));
    let (target, body) = (
        format!("/gateway.do?{}", query.join("&")),
        Bytes::from(body.join("&")),
    );

    Request {
        method: Method::POST,
        target,
        headers: HeaderMap::new(),
        body,
    }
}

fn gbk(text: &str) -> Vec<u8> {
    GBK.encode(text).0.into_owned()
}

/// The node of an answer and whether its signature holds over its bytes.
fn node(response: &Response) -> (String, bool) {
    let at = |wanted: &[u8]| {
        response
            .body
            .windows(wanted.len())
            .position(|bytes| bytes == wanted)
            .unwrap()
    };
    let end = at(b",\"sign\":\"");
    let node = &response.body[at(b"_response\":") + 11..end];
    let sign = std::str::from_utf8(&response.body[end + 9..response.body.len() - 2]).unwrap();
    let key = Verifier::from_text(shop_key()).unwrap();
    (
        GBK.decode(node).0.into_owned(),
        key.verify(node, sign).is_ok(),
    )
}

fn shop_key() -> &'static str {
    static KEY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    KEY.get_or_init(|| {
        crate::shop::face().credentials()["alipay_public_key"]
            .as_str()
            .unwrap()
            .to_owned()
    })
}

#[tokio::test]
async fn a_shop_that_speaks_gbk_is_answered_and_told_in_gbk() {
    for charset in ["GBK", "gbk", "gb2312"] {
        let shop = Shop::open().await;
        let context = SimulatorContext {
            book: shop.book(),
            now: shop.now(),
            alteration: Alteration::None,
            spaces_refunds: false,
        };
        let answer = shop.face().handle(&precreate(charset, gbk), &context);
        assert_eq!(answer.headers["content-type"], "text/html;charset=GBK");
        let (said, holds) = node(&answer);
        assert!(holds && said.contains("10000"), "{said}");
        assert_eq!(
            shop.book().lock().order(&shop.key()).unwrap().description,
            TEXT
        );

        // What is signed in other bytes than it travels in is refused, in GBK, with what the
        // gateway has read.
        let refusal = shop.face().handle(
            &precreate(charset, |text| text.as_bytes().to_vec()),
            &context,
        );
        let (said, holds) = node(&refusal);
        assert!(
            holds && said.contains("isv.invalid-signature") && said.contains(TEXT),
            "{said}"
        );

        shop.pay();
        let order = shop.book().lock().order(&shop.key()).unwrap().clone();
        let event = shop.book().lock().take_events().pop().unwrap();
        let notice = simulator::Notice {
            event: &event,
            order: &order,
            id: "0123",
            now: shop.now(),
            alteration: Alteration::None,
        };
        let told = shop.face().notification(&notice).unwrap();
        let body = String::from_utf8(told.body.to_vec()).unwrap();
        assert!(
            body.contains("charset=GBK") && body.contains("subject=%C1%AA%CD%A8"),
            "{body}"
        );
        let raw = RawNotification {
            headers: told.headers,
            body: told.body,
        };
        let read = shop
            .alipay
            .notification(&raw, shop.now())
            .unwrap()
            .into_inner();
        assert!(
            matches!(read.notice, Notice::Paid { capture, .. } if capture.amount.minor() == 8888)
        );
    }
    let shop = Shop::open().await;
    let context = SimulatorContext {
        book: shop.book(),
        now: shop.now(),
        alteration: Alteration::None,
        spaces_refunds: false,
    };
    for charset in ["gb18030", "latin1"] {
        let (said, _) = node(&shop.face().handle(&precreate(charset, gbk), &context));
        assert!(said.contains("isv.invalid-charset"), "{said}");
    }
}

#[tokio::test]
async fn answers_in_a_charset_that_nobody_asked_for_mean_the_same() {
    for charset in [Charset::Gbk, Charset::Gb18030] {
        let shop = Shop::open().await;
        shop.mode(Mode::Simulator(Alteration::Charset(charset)));
        shop.create().await;
        shop.pay();
        let query = shop
            .alipay
            .query(&shop.reference(), &shop.call())
            .await
            .outcome;
        assert!(matches!(query, QueryOutcome::Paid(capture) if capture.amount.minor() == 8888));
        let refund = shop.refund("R1", 888);
        assert!(matches!(
            shop.alipay.refund(&refund, &shop.call()).await.outcome,
            RefundOutcome::Done
        ));
        let query = shop
            .alipay
            .query_refund(&refund, &shop.call())
            .await
            .outcome;
        assert!(matches!(query, RefundQueryOutcome::Done), "{query:?}");
        match shop
            .alipay
            .create(&shop.order(), &shop.call())
            .await
            .outcome
        {
            CreateOutcome::Unknown(failure) => {
                assert_eq!(failure.message, "交易已被支付", "in words for people")
            }
            other => panic!("{other:?}"),
        }
    }
}

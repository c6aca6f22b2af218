//! Forms that our own adapter does not send and the gateway takes: parts of `multipart/form-data`,
//! as the official samples for curl send them, and a life "until the end of today".

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use providers::sandbox::simulator::{Alteration, Request, SimulatorContext};
use providers::signing::Signer;
use serde_json::Value;

use crate::shop::{NUMBER, Shop, keys};

/// A precreate whose common parameters are in the query and whose `biz_content` is a part, beside a
/// file that nobody signed.
fn multipart(biz_content: &str, quoted: bool) -> Request {
    let common = [
        ("app_id", keys()["app_id"].as_str().unwrap()),
        ("charset", "utf-8"),
        ("method", "alipay.trade.precreate"),
        ("sign_type", "RSA2"),
        ("timestamp", "2026-03-01 10:00:00"),
        ("version", "1.0"),
    ];

    let mut signed: Vec<String> = common
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    signed.insert(1, format!("biz_content={biz_content}"));
    let key = Signer::from_text(keys()["app_private_key"].as_str().unwrap()).unwrap();
    let sign = key.sign(signed.join("&").as_bytes());
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(common)
        .append_pair("sign", &sign)
        .finish();

    let body = format!(
        "--X-1\r\nContent-Disposition: form-data; name=\"biz_content\"\r\nContent-Type: \
        application/json\r\n\r\n{biz_content}\r\n--X-1\r\nContent-Disposition: form-data; \
        name=\"picture\"; filename=\"a.png\"\r\n\r\n\u{1}\r\n--X-1--\r\n"
    );
    let boundary = if quoted { "\"X-1\"" } else { "X-1" };
    let content_type =
        HeaderValue::from_str(&format!("multipart/form-data; boundary={boundary}")).unwrap();

    Request {
        method: Method::POST,
        target: format!("/gateway.do?{query}"),
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
        body: Bytes::from(body),
    }
}

fn said(shop: &Shop, request: &Request) -> Value {
    let context = SimulatorContext {
        book: shop.book(),
        now: shop.now(),
        alteration: Alteration::None,
        spaces_refunds: false,
    };
    let body: Value = serde_json::from_slice(&shop.face().handle(request, &context).body).unwrap();
    body["alipay_trade_precreate_response"].clone()
}

#[tokio::test]
async fn parameters_come_in_parts_as_well() {
    for quoted in [false, true] {
        let shop = Shop::open().await;
        let content = format!(
            r#"{{"out_trade_no":"{NUMBER}","subject":"茶%41+\r\n","total_amount":"88.88"}}"#
        );
        assert_eq!(said(&shop, &multipart(&content, quoted))["code"], "10000");
        let order = shop.book().lock().order(&shop.key()).unwrap().clone();
        assert_eq!(
            order.description, "茶%41+\r\n",
            "nothing is decoded in a part"
        );
        let mut spoilt = multipart(&content, quoted);
        let body = String::from_utf8(spoilt.body.to_vec()).unwrap();
        spoilt.body = body.replace("88.88", "88.89").into();
        assert_eq!(said(&shop, &spoilt)["sub_code"], "isv.invalid-signature");
    }
}

#[tokio::test]
async fn a_trade_lives_until_midnight_in_beijing_if_that_is_asked_for() {
    let shop = Shop::open().await;
    let content = |express: &str| {
        format!(
            r#"{{"out_trade_no":"{NUMBER}","subject":"茶","total_amount":"88.88","timeout_express":"{express}"}}"#
        )
    };

    for wrong in ["2c", "c", "1.5h", "0m"] {
        assert_eq!(
            said(&shop, &multipart(&content(wrong), false))["sub_code"],
            "ACQ.INVALID_PARAMETER",
            "{wrong}"
        );
    }

    assert_eq!(
        said(&shop, &multipart(&content("1c"), false))["code"],
        "10000"
    );

    let order = shop.book().lock().order(&shop.key()).unwrap().clone();
    assert_eq!(order.expires_at.to_rfc3339(), "2026-03-01T16:00:00+00:00");
}

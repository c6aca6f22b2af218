//! Providers that speak GBK or GB18030 although they were asked in UTF-8: merchants are told the
//! same.

use bytes::Bytes;
use providers::sandbox::charset::Charset;
use providers::sandbox::simulator::{Alteration, Outgoing};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::pen::Pen;
use super::{NO_JOBS, counted, post};
use crate::helpers::{TestApp, barcode, order, pauses};

#[tokio::test(flavor = "multi_thread")]
async fn a_life_in_another_charset_is_a_life_like_any_other() {
    for (provider, charset) in [
        ("alipay", "gbk"),
        ("alipay", "gb18030"),
        ("unionpay", "gbk"),
        ("unionpay", "gb18030"),
    ] {
        let app = TestApp::start().await;
        app.client
            .route(&[&app.account(provider)])
            .await
            .expect(200);
        for call in [None, Some("notification")] {
            app.control
                .fault(json!({"provider": provider, "kind": charset, "call": call}))
                .await;
        }
        let accepted = counted(&app, provider, "accepted").await;
        let mut body = order();
        body["description"] = "联通乗丂「龙井」𠀀🍵{}\"|".into();
        let payment = app.client.pay(&body).await.expect(201);
        app.control.pay(&payment).await;
        let id = payment["id"].as_str().unwrap();
        let paid = app.client.until_status(id, "succeeded").await;
        assert_eq!(
            (
                &paid["amount_captured"],
                &paid["attempts"].as_array().unwrap().len()
            ),
            (&json!(8888), &1)
        );
        let told = app.control.told(1).await;
        assert_eq!(
            (told.len(), &told[0]["fault"]),
            (1, &json!(charset)),
            "{told:?}"
        );
        assert_eq!(told[0]["answer"]["acknowledged"], true);
        assert_eq!(
            counted(&app, provider, "accepted").await,
            accepted + 1,
            "{provider} {charset}"
        );

        let refund = json!({"amount": 888, "merchant_refund_no": "rf-gbk", "reason": "乗坏了𠀀"});
        app.client
            .post(&format!("/v1/payments/{id}/refunds"), "refund", &refund)
            .await
            .expect(201);
        for pause in pauses() {
            if app.client.payment(id).await["amount_refunded"] == 888 {
                break;
            }
            app.advance(11).await;
            tokio::time::sleep(pause).await;
        }
        assert_eq!(
            app.client.payment(id).await["amount_refunded"],
            888,
            "{provider} {charset}"
        );
        assert_eq!(app.control.orders().await[0]["refunded"], 888);

        // A "no" is read in any charset, and takes nothing.
        let declined = app.client.pay(&barcode(provider, 8)).await.expect(201);
        let id = declined["id"].as_str().unwrap();
        for pause in pauses() {
            if app.client.payment(id).await["status"] == "failed" {
                break;
            }
            app.advance(20).await;
            tokio::time::sleep(pause).await;
        }
        let failed = app.client.payment(id).await;
        assert_eq!(
            (&failed["status"], &failed["amount_captured"]),
            (&json!("failed"), &json!(0)),
            "{failed:#}"
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_cannot_be_decoded_decides_nothing() {
    for (provider, member) in [("alipay", "subject"), ("unionpay", "payCardIssueName")] {
        for charset in [Charset::Gbk, Charset::Gb18030] {
            let app = TestApp::with(if provider == "alipay" { &NO_JOBS } else { &[] }).await;
            app.client
                .route(&[&app.account(provider)])
                .await
                .expect(200);
            app.control
                .fault(json!({"provider": provider, "kind": "drop"}))
                .await;
            let payment = app.client.pay(&order()).await.expect(201);
            app.control.pay(&payment).await;
            let number = payment["attempts"][0]["provider_order_no"]
                .as_str()
                .unwrap();
            let paid = app
                .sandbox()
                .book()
                .lock()
                .by_order_no(number)
                .unwrap()
                .clone();
            let pen = Pen::new(&app, provider);
            let genuine = pen.paid(&paid, 1, Alteration::Charset(charset));
            // Neither GBK nor GB18030 nor UTF-8.
            let spoilt = pen.rewritten(&genuine, member, &[0xC1, 0xAA, 0xFF, 0x80, 0x81]);
            let answer = post(
                &app,
                &app.account(provider),
                &spoilt.headers,
                spoilt.body.clone(),
            )
            .await;
            assert_eq!(
                answer.status.as_u16(),
                200,
                "{}",
                String::from_utf8_lossy(&answer.bytes)
            );
            let paid = app
                .client
                .until_status(payment["id"].as_str().unwrap(), "succeeded")
                .await;
            assert_eq!(paid["amount_captured"], 8888, "{provider}");
            let refused = counted(&app, provider, "bad_signature").await;
            // Another byte than was signed is not believed, whatever it would decode to.
            let body = String::from_utf8(spoilt.body.to_vec())
                .unwrap()
                .replace("%C1%AA%FF%80%81", "%C1%AA%FF%80%82");
            post(&app, &app.account(provider), &spoilt.headers, body).await;
            assert_eq!(
                counted(&app, provider, "bad_signature").await,
                refused + 1,
                "{provider}"
            );
            app.stop().await;
        }
    }
}

impl Pen {
    /// A form with other bytes for one member, signed as the provider would.
    fn rewritten(&self, outgoing: &Outgoing, member: &str, bytes: &[u8]) -> Outgoing {
        let decoded = |half: &str| {
            percent_encoding::percent_decode_str(&half.replace('+', " ")).collect::<Vec<u8>>()
        };
        let body = std::str::from_utf8(&outgoing.body).unwrap();
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = body
            .split('&')
            .map(|pair| {
                pair.split_once('=')
                    .map(|(name, value)| (decoded(name), decoded(value)))
                    .unwrap()
            })
            .filter(|(name, _)| name != b"sign" && name != b"signature")
            .collect();

        fields
            .iter_mut()
            .find(|(name, _)| name == member.as_bytes())
            .unwrap()
            .1 = bytes.to_vec();

        fields.sort();
        let signed = fields
            .iter()
            .filter(|(name, value)| name != b"sign_type" && !value.is_empty());
        let text: Vec<Vec<u8>> = signed
            .map(|(name, value)| [name, b"=".as_slice(), value].concat())
            .collect();
        let text = text.join(&b'&');

        fields.push(match self.provider {
            "alipay" => (
                b"sign".to_vec(),
                self.signer("alipay_private_key").sign(&text).into_bytes(),
            ),
            _ => {
                let hex: String = Sha256::digest(&text)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                let signature = self.signer("platform_private_key").sign(hex.as_bytes());
                (b"signature".to_vec(), signature.into_bytes())
            }
        });

        let half = |bytes: &[u8]| form_urlencoded::byte_serialize(bytes).collect::<String>();
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", half(name), half(value)))
            .collect();

        Outgoing {
            body: Bytes::from(pairs.join("&")),
            ..outgoing.clone()
        }
    }
}

//! A provider that is wrong twice: it calls an order closed that can still be paid, and then tells
//! of another amount than was paid.

use serde_json::{Value, json};

use crate::helpers::facts::{Facts, in_book};
use crate::helpers::{TestApp, order};

#[tokio::test(flavor = "multi_thread")]
async fn money_on_an_order_that_counted_as_closed_is_found_although_another_amount_is_told() {
    for provider in ["alipay", "wechatpay"] {
        let app = TestApp::start().await;
        app.client
            .route(&[&app.account(provider)])
            .await
            .expect(200);
        let payment = app.client.pay(&order()).await.expect(201);
        let id = payment["id"].as_str().unwrap();
        // Alipay has a trade once its code was scanned.
        app.control
            .pay_as(payment["next_action"]["qr"].as_str().unwrap(), "declined")
            .await;
        app.control
            .fault(json!({"provider": provider, "call": "query", "kind": "says_closed"}))
            .await;
        app.client
            .post(&format!("/v1/payments/{id}/cancel"), "unused", &json!({}))
            .await;
        app.client.until_status(id, "canceled").await;
        app.control.mend().await;
        app.control
            .fault(json!({"provider": provider, "kind": "misstate"}))
            .await;
        let number = payment["attempts"][0]["provider_order_no"]
            .as_str()
            .unwrap();
        let (status, said) = app.control.pay_order(number).await;
        assert_eq!(status, 200, "{said}");
        let given_back = |p: &Value| p["attempts"][0]["disposition"] == "refunded";
        for pause in crate::helpers::pauses() {
            if given_back(&app.client.payment(id).await) {
                break;
            }
            app.advance(65).await;
            tokio::time::sleep(pause).await;
        }
        let seen = app.client.payment(id).await;
        assert!(
            given_back(&seen) && seen["status"] == "canceled",
            "{seen:#}"
        );
        assert_eq!(in_book(&app, number, "refunded").await, 8888, "{provider}");
        let facts = Facts::of(&app).await;
        assert_eq!(
            facts
                .count("notifications WHERE verdict = 'other_amount'")
                .await,
            1
        );
        // WeChat Pay tells of the refund as well, as wrongly, and when it likes.
        let expected = if provider == "alipay" { 1 } else { 2 };
        let mut heard = 0;
        for pause in crate::helpers::pauses() {
            heard = facts
                .count("operations WHERE kind = 'notification_mismatch'")
                .await;
            if heard >= expected {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        assert_eq!(heard, expected, "{provider}: a person hears of it");
        app.stop().await;
    }
}

//! Providers that say two things at once about one call, or leave out what they usually say: a code
//! that sounds like a "no" beside a detail that says that nobody knows. The payer may have paid, so
//! nothing is told until somebody knows.

use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer};

use super::{id, in_the_books, in_time, until_status};
use crate::helpers::facts::{Facts, in_book};
use crate::helpers::{TestApp, barcode, charging_providers, order};
use crate::switchover::{live_at, signed};

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_whose_provider_does_not_decide_is_told_only_once_it_is_known() {
    for provider in charging_providers() {
        let app = TestApp::start().await;
        app.control
            .fault(json!({"provider": provider, "call": "create", "kind": "undecided"}))
            .await;
        // A notification would tell before anybody asks.
        app.control
            .fault(json!({"provider": provider, "kind": "drop"}))
            .await;
        let mut body = barcode(provider, 0);
        body["wait"] = 0.into();
        let answered = app.client.pay(&body).await.expect(202);
        assert_eq!(answered["status"], "processing", "{provider}: {answered:#}");
        assert_eq!(
            in_the_books(&app, &answered).await["captured"],
            8888,
            "{provider}: it was paid"
        );
        // Asked, it does not decide either; then it does.
        app.control
            .fault(json!({"provider": provider, "call": "query", "kind": "undecided"}))
            .await;
        app.advance(3).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(
            app.client.payment(id(&answered)).await["status"],
            "processing",
            "{provider}"
        );
        app.control.mend().await;
        until_status(&app, id(&answered), "succeeded").await;
        let told = Facts::of(&app).await.told(id(&answered)).await;
        assert_eq!(told, ["payment.succeeded"], "{provider}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_whose_provider_does_not_decide_is_made_once() {
    for provider in charging_providers() {
        for call in ["refund", "query_refund"] {
            let app = TestApp::start().await;
            app.client
                .route(&[&app.account(provider)])
                .await
                .expect(200);
            let paid = app.client.pay(&barcode(provider, 0)).await.expect(201);
            app.control
                .fault(json!({"provider": provider, "call": call, "kind": "undecided"}))
                .await;
            app.client.refund(id(&paid), 888).await.expect(201);
            app.advance(15).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            app.control.mend().await;
            in_time(&app, id(&paid), |p| p["amount_refunded"] == 888).await;
            let number = paid["attempts"][0]["provider_order_no"].as_str().unwrap();
            assert_eq!(
                in_book(&app, number, "refunded").await,
                888,
                "{provider}: {call}"
            );
            let told = Facts::of(&app).await.told(id(&paid)).await;
            assert!(
                !told.contains(&"refund.failed".to_owned()),
                "{provider}: {call}: {told:?}"
            );
            app.stop().await;
        }
    }
}

/// WeChat Pay's third version of charges is given to an account for itself; without it, its address
/// is not there.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_never_given_charges_refuses_them_at_once_and_goes_on_with_its_codes() {
    let app = TestApp::start().await;
    let account = app.account("wechatpay");
    app.client.route(&[&account]).await.expect(200);
    let server = MockServer::start().await;
    let no = json!({"code": "RESOURCE_NOT_EXISTS", "message": "?"});
    Mock::given(any())
        .respond_with(signed(&app, "wechatpay", 404, &no))
        .mount(&server)
        .await;
    let faces = app.sandbox().face_urls()["wechatpay"]
        .as_str()
        .unwrap()
        .to_owned();
    live_at(&app, "wechatpay", &account, &server.uri()).await;

    let mut body = barcode("wechatpay", 0);
    body["wait"] = 0.into();
    let failed = app.client.pay(&body).await.expect(201);
    assert_eq!(
        (&failed["status"], &failed["attempts"][0]["outcome"]),
        (&json!("failed"), &json!("refused_route"))
    );
    let facts = Facts::of(&app).await;
    let raised = facts
        .rows("SELECT kind, subject_id, detail FROM operations")
        .await;
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!(
        (&raised[0]["kind"], &raised[0]["subject_id"]),
        (&json!("account_flow_refused"), &json!(account))
    );
    assert!(
        raised[0]["detail"].as_str().unwrap().contains("RESOURCE"),
        "{raised:?}"
    );
    // Another such payment is no other trouble.
    app.client.pay(&barcode("wechatpay", 0)).await.expect(201);
    assert_eq!(facts.count("operations").await, 1);

    live_at(&app, "wechatpay", &account, &faces).await;
    let shown: Value = app.client.pay(&order()).await.expect(201);
    assert_eq!(
        shown["provider"], "wechatpay",
        "its codes are served as before"
    );
    app.stop().await;
}

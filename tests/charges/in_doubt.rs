//! A charge whose answer does not come, or is a lie, or says "no" to us: it stays where it is.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{id, in_the_books, in_time, until_status};
use crate::helpers::facts::{Facts, Watch};
use crate::helpers::{TestApp, attempts, barcode, charging_providers, fresh, live};
use crate::switchover::settings;

/// Sends one charge with the provider's creating call broken like this.
async fn charge(app: &TestApp, provider: &str, kind: &str, mood: u8) -> Value {
    app.control
        .fault(json!({"provider": provider, "call": "create", "kind": kind}))
        .await;
    let mut body = barcode(provider, mood);
    body["wait"] = 0.into();
    let answered = app.client.pay(&body).await;
    assert!(
        [201, 202].contains(&answered.status.as_u16()),
        "{answered:?}"
    );
    answered.json()
}

/// Every provider with every way of failing, each with a gateway of its own: a lost answer is
/// waited for in real time.
async fn everywhere<F: Future<Output = ()>>(
    kinds: &[&'static str],
    check: impl Fn(&'static str, &'static str) -> F,
) {
    for kind in kinds {
        join_all(
            charging_providers()
                .into_iter()
                .map(|provider| check(provider, kind)),
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_taken_by_a_call_whose_answer_was_lost_is_found_and_the_charge_was_sent_once() {
    everywhere(&["timeout_after"], is_found).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_taken_by_a_call_without_a_readable_answer_is_found_and_the_charge_was_sent_once() {
    everywhere(&["garbled", "unsigned", "bad_signature"], is_found).await;
}

async fn is_found(provider: &'static str, kind: &'static str) {
    let app = TestApp::with(&[("payments.call_grace_ms", "1000")]).await;
    let watch = Watch::start(&app).await;
    let payment = charge(&app, provider, kind, 0).await;

    // Some providers tell of the money sooner than anybody asks.
    assert!(
        ["processing", "succeeded"].contains(&payment["status"].as_str().unwrap()),
        "{kind}: {payment:#}"
    );

    app.control.mend().await;
    let paid = until_status(&app, id(&payment), "succeeded").await;

    assert_eq!(
        attempts(&paid),
        [(provider.to_owned(), "captured".to_owned())],
        "{kind}"
    );

    let orders = app.control.orders().await;
    assert_eq!(
        (orders.len(), &orders[0]["captured"]),
        (1, &json!(8888)),
        "{kind}: {orders:#?}"
    );

    assert_eq!(orders[0]["refunded"], 0);
    let told = Facts::of(&app).await.told(id(&payment)).await;
    assert_eq!(told, ["payment.succeeded"], "{kind}");

    watch.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_never_arrived_has_failed_once_its_reversal_is_confirmed() {
    everywhere(&["timeout_before", "reset", "http_500"], has_failed).await;
}

async fn has_failed(provider: &'static str, kind: &'static str) {
    let app = TestApp::with(&[("payments.call_grace_ms", "1000")]).await;
    let watch = Watch::start(&app).await;
    let payment = charge(&app, provider, kind, 0).await;
    assert_eq!(payment["status"], "processing", "{kind}: {payment:#}");

    app.control.mend().await;
    let failed = until_status(&app, id(&payment), "failed").await;

    assert_eq!(
        (live(&failed), &failed["amount_captured"]),
        (0, &json!(0)),
        "{kind}: {failed:#}"
    );

    let order = in_the_books(&app, &failed).await;
    assert!(
        order.is_null() || order["captured"] == 0,
        "{kind}: {order:#}"
    );

    let told = Facts::of(&app).await.told(id(&payment)).await;
    assert_eq!(told, ["payment.failed"], "{kind}");
    watch.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_comes_while_a_charge_is_being_reversed_goes_back_and_nobody_is_told_that_it_was_paid()
 {
    for provider in charging_providers() {
        let app = TestApp::start().await;
        app.control
            .fault(json!({"provider": provider, "call": "reverse", "kind": "http_500"}))
            .await;
        let mut body = barcode(provider, 7);
        body["wait"] = 0.into();
        let waiting = app.client.pay(&body).await.expect(202);
        in_time(&app, id(&waiting), |p| {
            p["attempts"][0]["status"] == "reversing"
        })
        .await;
        let (status, said) = app
            .control
            .pay_as(body["auth_code"].as_str().unwrap(), "paid")
            .await;
        if status != 200 {
            // Its provider has closed the dialog by now.
            assert_eq!(status, 409, "{said}");
        }
        for _ in 0..3 {
            app.advance(10).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let payment = app.client.payment(id(&waiting)).await;
            assert_eq!(payment["attempts"][0]["status"], "reversing", "{payment:#}");
        }
        app.control.mend().await;
        let failed = until_status(&app, id(&waiting), "failed").await;
        let order = in_the_books(&app, &failed).await;
        assert_eq!(order["captured"], order["refunded"], "{order:#}");
        let told = Facts::of(&app).await.told(id(&waiting)).await;
        assert_eq!(told, ["payment.failed"]);
        app.stop().await;
    }
}

/// Another account of the demo merchant's at this provider, at an address that refuses connections.
async fn account_where_nobody_lives(app: &TestApp, provider: &str) -> String {
    let mut settings = settings(app, provider).await;
    let identity = ["seller_id", "mchid", "mer_id"]
        .into_iter()
        .find(|m| settings[*m].is_string())
        .unwrap();
    let number = settings[identity].as_str().unwrap();
    let other = format!(
        "{}{}",
        &number[..number.len() - 1],
        if number.ends_with('7') { '8' } else { '7' }
    );

    settings[identity] = other.into();
    settings["base_url"] = "http://127.0.0.1:1".into();
    let body = json!({"provider": provider, "name": "Another", "credentials": settings})
        .to_string()
        .into_bytes();
    let made = app
        .client
        .send(Method::POST, "/v1/accounts", None, Some(body))
        .await
        .expect(201);

    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_was_provably_not_taken_up_goes_to_another_account_of_its_provider_and_to_nobody_else()
 {
    for provider in charging_providers() {
        let app = TestApp::start().await;
        let only = charge(&app, provider, "rate_limited", 0).await;
        // "Busy" from some of them says nothing about a charge: then it is asked about, and goes
        // nowhere either.
        let expected = match only["attempts"][0]["outcome"].as_str().unwrap() {
            "refused_provider" => "failed",
            _ => "processing",
        };
        assert_eq!(
            (&only["status"], only["attempts"].as_array().unwrap().len()),
            (&json!(expected), 1),
            "{only:#}"
        );
        app.control.mend().await;

        let (dead, able) = (
            account_where_nobody_lives(&app, provider).await,
            app.account(provider),
        );
        let others = app
            .accounts
            .iter()
            .filter(|(name, _)| name != provider)
            .map(|(_, id)| id.as_str());
        let route: Vec<&str> = [dead.as_str()]
            .into_iter()
            .chain(others)
            .chain([able.as_str()])
            .collect();
        app.client.route(&route).await.expect(200);
        let answered = app.client.pay(&barcode(provider, 0)).await.expect(201);
        let paid = app.client.until_status(id(&answered), "succeeded").await;
        let (dead_too, captured) = ("dead".to_owned(), "captured".to_owned());
        assert_eq!(
            attempts(&paid),
            [
                (provider.to_owned(), dead_too),
                (provider.to_owned(), captured)
            ],
            "{paid:#}"
        );
        assert_eq!(
            (&paid["attempts"][0]["outcome"], &paid["account"]),
            (&json!("not_sent"), &json!(able))
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_was_used_charges_nobody_again() {
    for provider in charging_providers() {
        let app = TestApp::start().await;
        let mut body = barcode(provider, 0);
        app.client.pay(&body).await.expect(201);
        body["order_id"] = fresh("order").into();
        body["wait"] = 0.into();
        let again = app.client.pay(&body).await.json();
        let failed = until_status(&app, id(&again), "failed").await;
        assert_eq!(live(&failed), 0, "{failed:#}");
        let taken: i64 = app
            .control
            .orders()
            .await
            .iter()
            .map(|o| o["captured"].as_i64().unwrap())
            .sum();
        assert_eq!(taken, 8888);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_account_at_the_codes_provider_nothing_is_written() {
    let app = TestApp::start().await;
    for provider in charging_providers() {
        let path = format!("/v1/accounts/{}", app.account(provider));
        let body = json!({"status": "disabled", "force": true})
            .to_string()
            .into_bytes();
        app.client
            .send(Method::PATCH, &path, None, Some(body))
            .await
            .expect(200);
        app.client.pay(&barcode(provider, 0)).await.problem(
            422,
            "flow_not_available",
            Some("flow"),
        );
    }

    assert_eq!(Facts::of(&app).await.count("payments").await, 0);
    app.stop().await;
}

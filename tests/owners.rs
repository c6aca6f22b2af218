//! A merchant's test mode and its live mode are as strange to each other as two merchants are:
//! whatever a key of one names of the other is not there, and whatever both name alike is two
//! things.

mod calls;
mod matrix;
mod migration;

use std::time::{Duration, Instant};

use interlock::api::auth::Scope;
use interlock::domain::Owner;
use reqwest::Method;
use serde_json::{Value, json};
use strum::IntoEnumIterator as _;

use crate::helpers::facts::{Facts, in_book};
use crate::helpers::{Answer, Client, PATIENCE, TestApp, fresh, order};

/// A gateway whose demo merchant takes real money, too: the sandbox's, in this book. With its live
/// key.
async fn with_live_accounts() -> (TestApp, Client) {
    let app = TestApp::start().await;
    app.accounts_for(&Owner::of(app.merchant.clone(), true))
        .await;
    let live = app.live(&Scope::iter().collect::<Vec<_>>()).await;
    (app, live)
}

async fn paid(app: &TestApp, client: &Client, body: &Value) -> Value {
    let payment = client.pay(body).await.expect(201);
    app.control.pay(&payment).await;
    client
        .until_status(payment["id"].as_str().unwrap(), "succeeded")
        .await
}

async fn refund(client: &Client, payment: &str, number: &str, key: &str) -> Answer {
    let body = json!({"amount": 1, "merchant_refund_no": number});
    client
        .post(&format!("/v1/payments/{payment}/refunds"), key, &body)
        .await
}

fn id(thing: &Value) -> &str {
    thing["id"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_one_order_and_one_refund_number_are_two_things_in_two_modes() {
    let (app, live) = with_live_accounts().await;
    let (key, body) = (fresh("key"), order());
    let mut made = Vec::new();
    for client in [&app.client, &live] {
        let payment = client.post("/v1/payments", &key, &body).await.expect(201);
        let again = client.post("/v1/payments", &key, &body).await;
        assert_eq!(again.headers["idempotency-replayed"], "true");
        assert_eq!(
            id(&again.expect(201)),
            id(&payment),
            "the same key again is the same payment"
        );
        app.control.pay(&payment).await;
        made.push(client.until_status(id(&payment), "succeeded").await);
    }
    let [test, real] = made.as_slice() else {
        panic!("two payments")
    };
    assert_ne!(id(test), id(real));
    assert_eq!(
        (&test["livemode"], &real["livemode"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(test["order_id"], real["order_id"]);

    let (number, key) = (fresh("rf"), fresh("key"));
    let mut refunds = Vec::new();
    for (client, payment) in [(&app.client, test), (&live, real)] {
        let refunded = refund(client, id(payment), &number, &key).await.expect(201);
        assert_eq!(
            id(&refund(client, id(payment), &number, &key).await.expect(201)),
            id(&refunded)
        );
        refund(client, id(payment), &number, &fresh("key"))
            .await
            .problem(409, "merchant_refund_no_in_use", Some("merchant_refund_no"));
        refunds.push(refunded);
    }
    assert_ne!(id(&refunds[0]), id(&refunds[1]));
    let facts = Facts::of(&app).await;
    let stored = facts
        .rows("SELECT operation FROM idempotency_keys ORDER BY operation")
        .await;
    let operations: Vec<&str> = stored
        .iter()
        .map(|row| row["operation"].as_str().unwrap())
        .collect();
    let expected = [
        "payments".to_owned(),
        format!("refunds/{}", id(real)),
        "test:payments".to_owned(),
        format!("test:refunds/{}", id(test)),
    ];
    assert_eq!(operations, expected);
    app.stop().await;
}

/// The attack: a key of one mode reads, lists, cancels and refunds a payment of the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_one_mode_can_do_nothing_to_a_payment_of_the_other() {
    let (app, live) = with_live_accounts().await;
    for (owner, stranger) in [(&app.client, &live), (&live, &app.client)] {
        let paid = paid(&app, owner, &order()).await;
        let open = owner.pay(&order()).await.expect(201);
        for payment in [&paid, &open] {
            let path = format!("/v1/payments/{}", id(payment));
            stranger.get(&path).await.problem(404, "not_found", None);
            stranger
                .post(&format!("{path}/cancel"), &fresh("key"), &json!({}))
                .await
                .problem(404, "not_found", None);
            stranger
                .refund(id(payment), 1)
                .await
                .problem(404, "not_found", None);
            let offer = json!({"flow": "qr"});
            stranger
                .post(&format!("{path}/offers"), &fresh("key"), &offer)
                .await
                .problem(404, "not_found", None);
            let by_order = format!(
                "/v1/payments?order_id={}",
                payment["order_id"].as_str().unwrap()
            );
            assert_eq!(stranger.get(&by_order).await.expect(200)["data"], json!([]));
        }
        let listed = stranger.get("/v1/payments?limit=100").await.expect(200);
        let seen: Vec<&Value> = listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| &p["id"])
            .collect();
        assert!(
            !seen.contains(&&paid["id"]) && !seen.contains(&&open["id"]),
            "{seen:?}"
        );
        assert_eq!(owner.payment(id(&paid)).await, paid, "it is as it was");
        assert_eq!(owner.payment(id(&open)).await["status"], "requires_action");
        let number = paid["attempts"][0]["provider_order_no"].as_str().unwrap();
        assert_eq!(
            in_book(&app, number, "refunded").await,
            json!(0),
            "the provider has given nothing back"
        );
        owner.refund(id(&paid), 1).await.expect(201);
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routing_that_is_set_in_one_mode_leaves_the_other_alone() {
    let (app, live) = with_live_accounts().await;
    let accounts = live.get("/v1/accounts").await.expect(200)["data"].clone();
    let of = |provider: &str| {
        let found = accounts
            .as_array()
            .unwrap()
            .iter()
            .find(|a| a["provider"] == provider)
            .unwrap();
        found["id"].as_str().unwrap().to_owned()
    };

    live.route(&[&of("wechatpay")]).await.expect(200);
    live.route(&[&of("unionpay")]).await.expect(200);
    assert_eq!(
        app.client.get("/v1/routing").await.expect(200)["version"],
        0
    );

    app.client.route(&[&app.wechatpay]).await.expect(200);
    assert_eq!(
        app.client.get("/v1/routing").await.expect(200)["version"],
        1
    );
    assert_eq!(live.get("/v1/routing").await.expect(200)["version"], 2);

    for (client, provider, mode) in [
        (&app.client, "wechatpay", "test"),
        (&live, "unionpay", "live"),
    ] {
        let payment = client.pay(&order()).await.expect(201);
        assert_eq!(payment["provider"], provider, "{mode}: {payment:#}");
    }

    // An account of the other mode is nobody's.
    app.client.route(&[&of("unionpay")]).await.problem(
        422,
        "invalid_parameter",
        Some("rules[0].accounts[0].id"),
    );

    app.client
        .get("/v1/routing/versions/2")
        .await
        .problem(404, "not_found", None);
    let rollback = json!({"version": 2}).to_string().into_bytes();
    let back = app
        .client
        .send(Method::POST, "/v1/routing/rollback", None, Some(rollback))
        .await;
    back.problem(422, "invalid_parameter", Some("version"));
    let path = format!("/v1/accounts/{}", of("unionpay"));
    let off = json!({"status": "disabled", "force": true})
        .to_string()
        .into_bytes();

    app.client
        .send(Method::PATCH, &path, None, Some(off))
        .await
        .problem(404, "not_found", None);

    app.stop().await;
}

/// Trouble of tests is nobody's news once there is a live account.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_public_speaks_of_live_and_of_test_only_while_there_is_no_live_account() {
    let app = TestApp::start().await;
    let spoken = async |mode: &str| {
        let began = Instant::now();
        let series = |of: &str| {
            format!(
                "interlock_spoken_mode{{mode=\"{of}\"}} {}",
                u8::from(of == mode)
            )
        };
        loop {
            let text = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();
            if text.contains(&series("test")) && text.contains(&series("live")) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{mode} is never spoken of");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };

    let ways = async || {
        let page = app.client.get("/status.json").await.expect(200);
        let of = page["ways"]
            .as_array()
            .unwrap()
            .iter()
            .map(|way| way["provider"].as_str().unwrap().to_owned());
        let mut of: Vec<String> = of.collect();
        of.dedup();
        of
    };

    spoken("test").await;
    assert_eq!(ways().await, ["alipay", "wechatpay", "unionpay"]);
    // A live account at one provider: the page is about that one. Pages are kept for a second.
    let live = app
        .accounts_for(&Owner::of(app.merchant.clone(), true))
        .await;
    let facts = Facts::of(&app).await;

    for id in &live {
        let sql = format!("DELETE FROM accounts WHERE id = '{id}' AND provider <> 'alipay'");
        facts.execute(&sql).await.unwrap();
    }
    app.app().directory.changed().await.unwrap();
    spoken("live").await;
    let began = Instant::now();

    while ways().await != ["alipay"] {
        assert!(began.elapsed() < PATIENCE, "{:?}", ways().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    app.stop().await;
}

//! Charges: the payer's code is read off a phone, and the call itself takes the money. One is never
//! sent elsewhere; what became of it is asked for, and undone when nobody knows in time.

mod in_doubt;
mod undecided;

use serde_json::{Value, json};

use crate::helpers::facts::{Facts, Watch};
use crate::helpers::{TestApp, barcode, charging_providers, fresh, live};

fn id(payment: &Value) -> &str {
    payment["id"].as_str().unwrap()
}

/// The sandbox's order behind a payment's only attempt, or null.
async fn in_the_books(app: &TestApp, payment: &Value) -> Value {
    let orders = app.control.orders().await;
    let order_no = &payment["attempts"][0]["provider_order_no"];
    orders
        .into_iter()
        .find(|order| order["order_no"] == *order_no)
        .unwrap_or_default()
}

/// Moves the time on, a little at a time, until the payment is as wanted.
async fn in_time(app: &TestApp, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for pause in crate::helpers::pauses() {
        let payment = app.client.payment(id).await;
        assert!(
            live(&payment) <= 1 && payment["attempts"].as_array().unwrap().len() == 1,
            "{payment:#}"
        );
        if wanted(&payment) {
            return payment;
        }
        app.advance(3).await;
        tokio::time::sleep(pause).await;
    }
    panic!("still not as wanted: {:#}", app.client.payment(id).await);
}

async fn until_status(app: &TestApp, id: &str, status: &str) -> Value {
    in_time(app, id, |p| p["status"] == status).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_who_pays_at_once_has_paid_when_the_answer_comes_and_gets_every_fen_back_once() {
    for provider in charging_providers() {
        let app = TestApp::start().await;
        let watch = Watch::start(&app).await;
        let (key, body) = (fresh("key"), barcode(provider, 0));
        let answer = app.client.post("/v1/payments", &key, &body).await;
        let paid = answer.expect(201);
        assert_eq!(
            (&paid["status"], &paid["amount_captured"]),
            (&json!("succeeded"), &json!(8888)),
            "{paid:#}"
        );
        assert_eq!(
            (&paid["provider"], &paid["flow"]),
            (&json!(provider), &json!("barcode"))
        );
        assert_eq!(paid["next_action"], json!({"type": "none"}));
        assert!(
            paid["provider_transaction_id"].is_string() && paid["paid_at"].is_string(),
            "{paid:#}"
        );
        let again = app.client.post("/v1/payments", &key, &body).await;
        assert_eq!((again.status.as_u16(), &again.bytes), (201, &answer.bytes));
        assert_eq!(again.headers["idempotency-replayed"], "true");

        app.client.refund(id(&paid), 888).await.expect(201);
        app.client.refund(id(&paid), 8000).await.expect(201);
        in_time(&app, id(&paid), |p| p["amount_refunded"] == 8888).await;
        app.client
            .refund(id(&paid), 1)
            .await
            .problem(422, "refund_too_large", Some("amount"));
        assert_eq!(in_the_books(&app, &paid).await["refunded"], 8888);
        let told = Facts::of(&app).await.told(id(&paid)).await;
        assert_eq!(
            told.iter().filter(|t| *t == "payment.succeeded").count(),
            1,
            "{told:?}"
        );
        watch.stop().await;
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_without_money_or_with_an_old_code_is_declined_and_nothing_is_left_to_pay() {
    for provider in charging_providers() {
        for mood in [8, 9] {
            let app = TestApp::start().await;
            let mut body = barcode(provider, mood);
            body["wait"] = 0.into();
            let answered = app.client.pay(&body).await.json();
            let failed = until_status(&app, id(&answered), "failed").await;
            assert_eq!(
                (&failed["failure"]["kind"], live(&failed)),
                (&json!("declined"), 0),
                "{failed:#}"
            );
            assert_eq!(failed["amount_captured"], 0);
            let order = in_the_books(&app, &failed).await;
            assert!(order.is_null() || order["captured"] == 0, "{order:#}");
            let code = body["auth_code"].as_str().unwrap();
            let (status, said) = app.control.pay_as(code, "paid").await;
            assert!([404, 409].contains(&status), "it can still be paid: {said}");
            assert_eq!(
                Facts::of(&app)
                    .await
                    .told(id(&failed))
                    .await
                    .last()
                    .unwrap(),
                "payment.failed"
            );
            app.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_who_confirms_in_time_has_paid() {
    for provider in charging_providers() {
        let app = TestApp::start().await;
        let mut body = barcode(provider, 7);
        body["wait"] = 0.into();
        let waiting = app.client.pay(&body).await.expect(202);
        assert_eq!(waiting["status"], "processing");
        app.advance(8).await;
        assert_eq!(
            app.client.payment(id(&waiting)).await["status"],
            "processing"
        );
        let (status, said) = app
            .control
            .pay_as(body["auth_code"].as_str().unwrap(), "paid")
            .await;
        assert_eq!(status, 200, "{said}");
        let paid = until_status(&app, id(&waiting), "succeeded").await;
        assert_eq!(paid["amount_captured"], 8888);
        let told = Facts::of(&app).await.told(id(&waiting)).await;
        assert_eq!(told, ["payment.succeeded"]);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_that_waits_is_answered_as_soon_as_the_payer_has_confirmed() {
    for provider in charging_providers() {
        let app = TestApp::start().await;
        let (key, mut body) = (fresh("key"), barcode(provider, 7));
        body["wait"] = 30.into();
        let code = body["auth_code"].as_str().unwrap().to_owned();
        let payer = async {
            while app.control.pay_as(&code, "paid").await.0 != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            for _ in 0..6 {
                app.advance(6).await;
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
        };
        let (answer, ()) = tokio::join!(app.client.post("/v1/payments", &key, &body), payer);
        assert_eq!(answer.expect(201)["status"], "succeeded");
        let again = app.client.post("/v1/payments", &key, &body).await;
        assert_eq!((again.status, &again.bytes), (answer.status, &answer.bytes));
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_who_never_confirms_or_says_no_cannot_pay_any_more_when_the_payment_has_failed() {
    for provider in charging_providers() {
        for says_no in [false, true] {
            let app = TestApp::start().await;
            let mut body = barcode(provider, 7);
            body["wait"] = 0.into();
            let waiting = app.client.pay(&body).await.expect(202);
            let code = body["auth_code"].as_str().unwrap();
            if says_no {
                assert_eq!(app.control.pay_as(code, "declined").await.0, 200);
            }
            let failed = until_status(&app, id(&waiting), "failed").await;
            assert_eq!(
                (live(&failed), &failed["failure"]["kind"]),
                (0, &json!("declined")),
                "{failed:#}"
            );
            let (status, said) = app.control.pay_as(code, "paid").await;
            assert_eq!(status, 409, "{said}");
            let order = in_the_books(&app, &failed).await;
            assert_eq!(order["captured"], 0, "{order:#}");
            let told = Facts::of(&app).await.told(id(&waiting)).await;
            assert_eq!(told, ["payment.failed"]);
            app.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_waits_is_canceled_by_reversing_it() {
    for provider in charging_providers() {
        let app = TestApp::start().await;
        let mut body = barcode(provider, 7);
        body["wait"] = 0.into();
        let waiting = app.client.pay(&body).await.expect(202);
        let path = format!("/v1/payments/{}/cancel", id(&waiting));
        let answer = app.client.post(&path, &fresh("key"), &json!({})).await;
        assert!([200, 202].contains(&answer.status.as_u16()), "{answer:?}");
        let canceled = until_status(&app, id(&waiting), "canceled").await;
        assert_eq!(live(&canceled), 0);
        assert_eq!(
            app.control
                .pay_as(body["auth_code"].as_str().unwrap(), "paid")
                .await
                .0,
            409
        );
        let other = json!({"flow": "qr"});
        let offers = format!("/v1/payments/{}/offers", id(&waiting));
        app.client
            .post(&offers, &fresh("key"), &other)
            .await
            .problem(409, "payment_not_open", None);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_requests_with_one_key_charge_once() {
    for provider in charging_providers() {
        let app = TestApp::start().await;
        let (key, body) = (fresh("key"), barcode(provider, 0));
        let all = (0..64).map(|_| app.client.post("/v1/payments", &key, &body));
        let answers = futures_util::future::join_all(all).await;
        let mut first = app.client.post("/v1/payments", &key, &body).await;
        while first.status == 409 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            first = app.client.post("/v1/payments", &key, &body).await;
        }
        let paid = first.expect(201);
        for answer in answers {
            match answer.status.as_u16() {
                201 => assert_eq!(answer.bytes, first.bytes),
                409 => assert_eq!(answer.json()["resource"], paid["id"], "{answer:?}"),
                202 => assert_eq!(answer.json()["id"], paid["id"]),
                // It was turned away and may ask again: it has charged nobody.
                503 => assert_eq!(answer.json()["retryable"], true, "{answer:?}"),
                _ => panic!("{answer:?}"),
            }
        }
        assert_eq!(app.control.orders().await.len(), 1);
        assert_eq!(paid["attempts"].as_array().unwrap().len(), 1);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_payers_code_is_in_no_row() {
    let app = TestApp::start().await;
    for provider in charging_providers() {
        let body = barcode(provider, 0);
        app.client.pay(&body).await.expect(201);
        let facts = Facts::of(&app).await;
        for table in [
            "payments",
            "attempts",
            "events",
            "idempotency_keys",
            "notifications",
            "operations",
        ] {
            let rows = serde_json::to_string(&facts.rows(&format!("SELECT * FROM {table}")).await)
                .unwrap();
            assert!(
                !rows.contains(body["auth_code"].as_str().unwrap()),
                "{table}: {rows}"
            );
        }
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_charge_is_named() {
    let app = TestApp::start().await;
    let provider = charging_providers()[0];
    let with = |member: &str, value: Value| {
        let mut body = barcode(provider, 0);
        body[member] = value;
        body
    };

    for (member, value, param) in [
        ("auth_code", json!(null), "auth_code"),
        ("auth_code", json!(""), "auth_code"),
        ("auth_code", json!("4711"), "auth_code"),
        ("auth_code", json!("99".repeat(9)), "auth_code"),
        ("auth_code", json!(281234567890123456_i64), "auth_code"),
        ("flow", json!("qr"), "auth_code"),
        ("wait", json!(31), "wait"),
        ("wait", json!(-1), "wait"),
        ("wait", json!(1.5), "wait"),
        ("store", json!({}), "store.id"),
        ("store", json!({"id": ""}), "store.id"),
        ("store", json!({"id": "a b"}), "store.id"),
        ("store", json!({"id": "s1", "name": ""}), "store.name"),
        (
            "store",
            json!({"id": "s1", "terminal_id": "x".repeat(33)}),
            "store.terminal_id",
        ),
        ("store", json!({"id": "s1", "till": "1"}), "store.till"),
        ("providers", json!([charging_providers()[1]]), "auth_code"),
    ] {
        let shown = value.to_string();
        let answer = app.client.pay(&with(member, value)).await;
        let problem = answer.problem(422, "invalid_parameter", Some(param));
        assert_eq!(problem["retryable"], false, "{member} = {shown}");
    }

    let mut offer = crate::helpers::order();
    offer["wait"] = 5.into();
    app.client
        .pay(&offer)
        .await
        .problem(422, "invalid_parameter", Some("wait"));
    let shown = app.client.pay(&crate::helpers::order()).await.expect(201);
    let offers = format!("/v1/payments/{}/offers", id(&shown));

    let answer = app
        .client
        .post(&offers, &fresh("key"), &json!({"flow": "barcode"}))
        .await;
    answer.problem(422, "invalid_parameter", Some("flow"));
    assert_eq!(Facts::of(&app).await.count("payments").await, 1);

    let good = with(
        "store",
        json!({"id": "shop_1", "name": "茶馆", "terminal_id": "till-1"}),
    );
    assert_eq!(
        app.client.pay(&good).await.expect(201)["status"],
        "succeeded"
    );

    app.stop().await;
}

//! What accounts are asked to take: limits of each payment and of the day, and maintenance windows.

use std::time::Instant;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{change, put, rule, rules, served_by, time_of_day};
use crate::helpers::{PATIENCE, TestApp, attempts, barcode, fresh, order};

pub async fn account(client: &crate::helpers::Client, account: &str) -> Value {
    let list = client.get("/v1/accounts").await.expect(200);
    list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|a| a["id"] == account)
        .cloned()
        .unwrap()
}

/// Waits until an account has used so much of its day.
#[track_caller]
pub fn until_used<'a>(
    client: &'a crate::helpers::Client,
    id: &'a str,
    used: Value,
) -> impl Future<Output = ()> + 'a {
    let at = std::panic::Location::caller();
    async move {
        let began = Instant::now();
        loop {
            let now = account(client, id).await["used_today"].clone();
            if now == used {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{at}: still {now}, not {used}");
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
    }
}

fn of(amount: i64) -> Value {
    let mut body = order();
    body["amount"] = amount.into();
    body
}

async fn alipay_first(app: &TestApp) {
    rules(
        app,
        json!([rule(json!({}), "priority", &[&app.alipay, &app.wechatpay])]),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_beyond_an_accounts_limits_goes_to_the_next_one() {
    let app = TestApp::start().await;
    alipay_first(&app).await;
    let limits = json!({"payment": {"min": 100, "max": 5_000}});
    let shown = change(&app, &app.alipay, json!({ "limits": limits }))
        .await
        .expect(200);

    assert_eq!(
        (&shown["limits"], &shown["used_today"]),
        (&limits, &Value::Null)
    );

    for (amount, provider) in [
        (99, "wechatpay"),
        (100, "alipay"),
        (5_000, "alipay"),
        (5_001, "wechatpay"),
    ] {
        assert_eq!(served_by(&app, &of(amount)).await, provider, "{amount}");
    }

    change(&app, &app.wechatpay, json!({ "limits": limits }))
        .await
        .expect(200);
    app.client
        .pay(&of(5_001))
        .await
        .problem(422, "flow_not_available", Some("flow"));
    change(&app, &app.alipay, json!({"name": "still limited"}))
        .await
        .expect(200);

    assert_eq!(
        account(&app.client, &app.alipay).await["limits"],
        limits,
        "what is absent stays"
    );

    change(&app, &app.alipay, json!({"limits": {}}))
        .await
        .expect(200);
    assert_eq!(served_by(&app, &of(5_001)).await, "alipay");

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_captured_and_what_is_attempted_counts_against_the_day_and_a_new_day_begins_at_midnight()
 {
    let app = TestApp::start().await;
    alipay_first(&app).await;
    let day = json!({"limits": {"day": {"amount": 1_000, "count": 3}}});
    let shown = change(&app, &app.alipay, day).await.expect(200);
    assert_eq!(shown["used_today"], json!({"amount": 0, "count": 0}));

    let first = app.client.pay(&of(400)).await.expect(201);
    assert_eq!(first["provider"], "alipay");
    app.control.pay(&first).await;
    app.client
        .until_status(first["id"].as_str().unwrap(), "succeeded")
        .await;
    assert_eq!(
        served_by(&app, &of(400)).await,
        "alipay",
        "an offer that waits for its payer"
    );

    until_used(&app.client, &app.alipay, json!({"amount": 800, "count": 2})).await;
    assert_eq!(
        served_by(&app, &of(201)).await,
        "wechatpay",
        "one fen too much"
    );

    assert_eq!(served_by(&app, &of(200)).await, "alipay");
    let over = app.client.pay(&of(1)).await.expect(201);
    assert_eq!(over["provider"], "wechatpay", "one payment too many");

    let skipped = &over["attempts"][0]["reason"]["skipped"];
    assert_eq!(
        skipped,
        &json!([{"account": app.alipay, "why": "day_limit_reached"}])
    );

    // A refund does not give the place back; the end of an offer does.
    app.client.refund(first["id"].as_str().unwrap(), 400).await;
    app.advance(1_100).await;
    let same_day = app.app().clock.now().in_beijing().day
        == app.app().clock.now().plus_s(-1_200).in_beijing().day;
    if same_day {
        until_used(&app.client, &app.alipay, json!({"amount": 400, "count": 1})).await;
    }
    app.advance(86_400).await;
    until_used(&app.client, &app.alipay, json!({"amount": 0, "count": 0})).await;
    assert_eq!(served_by(&app, &of(1_000)).await, "alipay", "a whole day");
    assert_eq!(served_by(&app, &of(1)).await, "wechatpay");

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_that_come_together_do_not_exceed_a_limit_of_the_day() {
    let app = TestApp::start().await;
    alipay_first(&app).await;
    change(&app, &app.alipay, json!({"limits": {"day": {"count": 5}}}))
        .await
        .expect(200);
    let paid =
        join_all((0..40).map(|_| async { app.client.pay(&order()).await.expect(201) })).await;
    let by = |provider: &str| paid.iter().filter(|p| p["provider"] == provider).count();

    assert_eq!((by("alipay"), by("wechatpay")), (5, 35));
    until_used(
        &app.client,
        &app.alipay,
        json!({"amount": 5 * 8_888, "count": 5}),
    )
    .await;

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_starts_again_knows_what_is_used() {
    let app = TestApp::start().await;
    alipay_first(&app).await;
    change(&app, &app.alipay, json!({"limits": {"day": {"count": 2}}}))
        .await
        .expect(200);
    for _ in 0..2 {
        assert_eq!(served_by(&app, &order()).await, "alipay");
    }
    let app = TestApp::on(app.leave().await, &[]).await;

    until_used(
        &app.client,
        &app.alipay,
        json!({"amount": 2 * 8_888, "count": 2}),
    )
    .await;

    assert_eq!(served_by(&app, &order()).await, "wechatpay");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_are_at_their_limits_or_in_maintenance_offers_park_and_charges_say_so() {
    let app = TestApp::start().await;
    let only = [app.alipay.as_str()];
    rules(&app, json!([rule(json!({}), "priority", &only)])).await;
    let window = json!({"from": time_of_day(&app, -60), "to": time_of_day(&app, 60)});
    change(&app, &app.alipay, json!({ "maintenance": [window] }))
        .await
        .expect(200);
    let parked = app.client.pay(&order()).await.expect(202);

    assert_eq!(
        (&parked["status"], attempts(&parked).len()),
        (&json!("created"), 0)
    );
    assert!(parked["queue"].is_object());

    let failed = app.client.pay(&barcode("alipay", 0)).await.expect(201);
    assert_eq!(
        (&failed["status"], &failed["failure"]["code"]),
        (&json!("failed"), &json!("no_route"))
    );
    assert!(
        failed["failure"]["message"]
            .as_str()
            .unwrap()
            .starts_with("None of the accounts"),
        "{failed}"
    );

    assert!(app.control.orders().await.is_empty(), "nobody was asked");
    // That an order has a payment is said all the same: "failed" would have the till take its money
    // once more.
    let mut again = barcode("alipay", 0);
    again["order_id"] = parked["order_id"].clone();
    let key = fresh("key");
    let taken = app.client.post("/v1/payments", &key, &again).await;

    assert_eq!(
        taken.problem(409, "order_id_in_use", Some("order_id"))["resource"],
        parked["id"]
    );

    // The window is taken away: the offer goes on by itself.
    change(&app, &app.alipay, json!({"maintenance": []}))
        .await
        .expect(200);
    app.advance(31).await;
    app.client
        .until_status(parked["id"].as_str().unwrap(), "requires_action")
        .await;

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_in_maintenance_is_passed_over_with_all_its_accounts() {
    let app = TestApp::start().await;
    let now = app.app().clock.now();
    let once = |from: i64, to: i64| {
        json!({"provider": "alipay", "from": now.plus_s(from).rfc3339(),
        "to": now.plus_s(to).rfc3339()})
    };
    let all = [app.alipay.as_str(), app.wechatpay.as_str()];
    let routing = json!({"rules": [rule(json!({}), "priority", &all)],
        "maintenance": [once(-600, 600), once(900, 1_200)]});
    put(&app.client, "/v1/routing", &routing).await.expect(200);
    let payment = app.client.pay(&order()).await.expect(201);

    assert_eq!(payment["provider"], "wechatpay");
    let skipped = &payment["attempts"][0]["reason"]["skipped"];

    assert_eq!(
        skipped,
        &json!([{"account": app.alipay, "why": "in_maintenance"}])
    );

    app.advance(660).await;
    assert_eq!(served_by(&app, &order()).await, "alipay");
    app.advance(300).await;
    assert_eq!(served_by(&app, &order()).await, "wechatpay");

    app.stop().await;
}

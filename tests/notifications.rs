//! What comes to `/notifications/…`: genuine news is booked once however often it comes, everything
//! else is counted and changes nothing, and each is answered in its provider's own way.

mod charsets;
pub(crate) mod disputed;
mod flood;
mod forgeries;
mod misstated;
mod pen;
mod two_words;

use bytes::Bytes;
use futures_util::future::join_all;
use http::HeaderMap;
use providers::ProviderName;
use providers::money::Money;
use providers::sandbox::book::Order;
use providers::sandbox::simulator::{Alteration, Outgoing};
use sea_orm::DatabaseConnection;
use serde_json::{Value, json};

use self::pen::Pen;
use crate::helpers::{Answer, TestApp, order, rows};

const PROVIDERS: [&str; 2] = ["alipay", "wechatpay"];
/// The jobs sleep: whatever changes here is a notification's work.
const NO_JOBS: [(&str, &str); 2] = [
    ("resolver.interval_ms", "3600000"),
    ("webhooks.interval_ms", "3600000"),
];

/// How a provider is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Do not send it again.
    Stop,
    /// Not believed.
    Refuse,
}

#[track_caller]
fn is_told(provider: &str, answer: &Answer, told: Told) {
    let body = String::from_utf8_lossy(&answer.bytes);
    let shown = format!("{provider}: {} {body}", answer.status);

    match (provider, told) {
        ("alipay", Told::Stop) => assert_eq!(
            (answer.status.as_u16(), &*body),
            (200, "success"),
            "{shown}"
        ),
        ("alipay", Told::Refuse) => assert_eq!(body, "fail", "{shown}"),
        (_, Told::Stop) => assert!([200, 204].contains(&answer.status.as_u16()), "{shown}"),
        (_, Told::Refuse) => {
            assert!(
                answer.status.is_client_error() || answer.status.is_server_error(),
                "{shown}"
            );
            assert_eq!(answer.json()["code"], "FAIL", "{shown}");
        }
    }
}

async fn post(app: &TestApp, account: &str, headers: &HeaderMap, body: impl Into<Bytes>) -> Answer {
    let url = format!("{}/notifications/{account}", app.client.base);
    let body: Bytes = body.into();
    let response = app
        .client
        .http
        .post(url)
        .headers(headers.clone())
        .body(body)
        .send()
        .await
        .unwrap();

    let (status, headers) = (response.status(), response.headers().clone());
    Answer {
        status,
        headers,
        bytes: response.bytes().await.unwrap().to_vec(),
    }
}

/// How often notifications were counted so.
async fn counted(app: &TestApp, provider: &str, verdict: &str) -> u64 {
    let text = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();
    let (provider, verdict) = (
        format!("provider=\"{provider}\""),
        format!("verdict=\"{verdict}\""),
    );
    text.lines()
        .filter(|l| {
            l.starts_with("interlock_notifications_total{")
                && l.contains(&provider)
                && l.contains(&verdict)
        })
        .filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn account<'a>(app: &'a TestApp, provider: &str) -> &'a str {
    if provider == "alipay" {
        &app.alipay
    } else {
        &app.wechatpay
    }
}

/// A payment at this provider that its payer has paid, and of which the gateway has not heard.
async fn unheard(app: &TestApp, provider: &str) -> (Value, Order) {
    app.client
        .route(&[account(app, provider)])
        .await
        .expect(200);
    app.control
        .fault(json!({"provider": provider, "kind": "drop"}))
        .await;
    let payment = app.client.pay(&order()).await.expect(201);
    app.control.pay(&payment).await;
    let order_no = payment["attempts"][0]["provider_order_no"]
        .as_str()
        .unwrap();

    let order = app
        .sandbox()
        .book()
        .lock()
        .by_order_no(order_no)
        .unwrap()
        .clone();

    (payment, order)
}

async fn events(db: &DatabaseConnection, payment: &Value, kind: &str) -> usize {
    let id = payment["id"].as_str().unwrap();
    rows::select(
        db,
        &format!("SELECT id FROM events WHERE payment_id = '{id}' AND type = '{kind}'"),
    )
    .await
    .len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_genuine_notification_that_does_not_match_stands_on_the_work_list() {
    let app = TestApp::with(&NO_JOBS).await;
    let db = app.db().await;
    let (_, order) = unheard(&app, "wechatpay").await;
    let mut dearer = order.clone();
    dearer.amount = Money::fen(1).unwrap();
    let told = Pen::new(&app, "wechatpay").paid(&dearer, 1, Alteration::None);

    for _ in 0..2 {
        is_told(
            "wechatpay",
            &post(&app, &app.wechatpay, &told.headers, told.body.clone()).await,
            Told::Stop,
        );
    }

    let list = rows::select(&db, "SELECT kind, detail FROM operations").await;
    assert_eq!(list.len(), 1, "the same trouble once: {list:?}");
    assert!(
        list[0]["kind"] == "notification_mismatch"
            && list[0]["detail"].as_str().unwrap().contains("other_amount"),
        "{list:?}"
    );

    assert_eq!(
        rows::select(&db, "SELECT verdict FROM notifications").await,
        [json!({"verdict": "other_amount"})]
    );

    // What is forged is counted, and kept nowhere: anybody could fill the database with it.
    let forged = Pen::new(&app, "wechatpay").paid(&order, 2, Alteration::BadSignature);
    post(&app, &app.wechatpay, &forged.headers, forged.body.clone()).await;
    assert_eq!(
        rows::counts(&db, &["operations", "notifications"])
            .await
            .iter()
            .map(|(_, n)| *n)
            .collect::<Vec<_>>(),
        [1, 1]
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_notification_at_all_is_refused_and_counted() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let everything = [
        "payments",
        "attempts",
        "refunds",
        "notifications",
        "operations",
        "events",
    ];
    let before = rows::of(&db, &everything).await;
    for provider in PROVIDERS {
        let account = account(&app, provider);
        for path in [account.to_owned(), format!("{account}/refund")] {
            let count = counted(&app, provider, "method_not_allowed").await;
            let answer = app.client.get(&format!("/notifications/{path}")).await;
            answer.problem(405, "method_not_allowed", None);
            assert_eq!(answer.headers["allow"], "POST");
            assert!(counted(&app, provider, "method_not_allowed").await > count);

            let count = counted(&app, provider, "body_too_large").await;
            let answer = post(&app, &path, &HeaderMap::new(), vec![b'x'; 65_537]).await;
            answer.problem(413, "body_too_large", Some("body"));
            assert!(counted(&app, provider, "body_too_large").await > count);
        }
    }
    let count = counted(&app, "none", "unknown_account").await;
    post(&app, "acct_nobody", &HeaderMap::new(), "x")
        .await
        .problem(404, "not_found", None);
    assert!(counted(&app, "none", "unknown_account").await > count);
    post(&app, "acct_nobody", &HeaderMap::new(), vec![b'x'; 65_537])
        .await
        .problem(404, "not_found", None);
    assert_eq!(rows::of(&db, &everything).await, before);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_becomes_of_its_notification_a_payment_succeeds_once() {
    for provider in PROVIDERS {
        let app = TestApp::with(&NO_JOBS).await;
        let db = app.db().await;
        app.client
            .route(&[account(&app, provider)])
            .await
            .expect(200);
        // Every two notifications of a payment are this far apart at the most; WeChat Pay's must
        // not be 5 minutes off.
        let retry_s = if provider == "alipay" { 240 } else { 15 };
        for (kind, passes_s) in [
            ("drop", retry_s),
            ("delay", 2),
            ("duplicate", 0),
            ("reorder", 6),
            ("forge", 0),
        ] {
            let payment = app.client.pay(&order()).await.expect(201);
            let id = payment["id"].as_str().unwrap();
            app.control
                .fault(json!({"provider": provider, "kind": kind}))
                .await;
            app.control.pay(&payment).await;
            if kind == "drop" {
                let lost = if provider == "alipay" { 4 } else { 1 };
                struck(&app, kind, lost).await;
                assert_eq!(
                    app.client.payment(id).await["status"],
                    "requires_action",
                    "{provider}: nobody has told"
                );
                app.control.mend().await;
            }
            // A moment passes at the provider, again and again until its notification has come
            // through.
            let mut paid = app.client.payment(id).await;
            for _ in 0..200 {
                if paid["status"] == "succeeded" {
                    break;
                }
                if passes_s > 0 {
                    app.control.advance(passes_s.min(20)).await;
                }
                tokio::time::sleep(std::time::Duration::from_millis(25)).await;
                paid = app.client.payment(id).await;
            }
            struck(&app, kind, if kind == "duplicate" { 2 } else { 1 }).await;
            app.control.mend().await;
            assert_eq!(
                (&paid["status"], &paid["amount_captured"]),
                (&json!("succeeded"), &json!(8888)),
                "{provider} {kind}"
            );
            assert_eq!(
                paid["attempts"].as_array().unwrap().len(),
                1,
                "{provider} {kind}: {paid}"
            );
            assert_eq!(
                events(&db, &payment, "payment.succeeded").await,
                1,
                "{provider} {kind}"
            );
            assert_eq!(
                events(&db, &payment, "payment.late_captured").await,
                0,
                "{provider} {kind}"
            );
        }
        let orders = app.control.orders().await;
        assert!(
            orders
                .iter()
                .all(|o| o["captured"] == 8888 && o["refunded"] == 0),
            "{orders:?}"
        );
        app.stop().await;
    }
}

/// Waits until this fault has been seen so often.
async fn struck(app: &TestApp, kind: &str, times: usize) {
    for _ in 0..400 {
        let log = app.control.notifications().await;
        if log.iter().filter(|sent| sent["fault"] == kind).count() >= times {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!(
        "{kind} has not struck {times} times: {:?}",
        app.control.notifications().await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_news_many_times_at_once_is_booked_once() {
    for provider in PROVIDERS {
        let app = TestApp::with(&NO_JOBS).await;
        let db = app.db().await;
        let (payment, order) = unheard(&app, provider).await;
        let account = account(&app, provider);
        let pen = Pen::new(&app, provider);
        let same = pen.paid(&order, 1, Alteration::None);
        let answers =
            join_all((0..32).map(|_| post(&app, account, &same.headers, same.body.clone()))).await;
        for answer in &answers {
            is_told(provider, answer, Told::Stop);
        }
        assert_eq!(
            rows::counts(&db, &["notifications"]).await[0].1,
            1,
            "{provider}: the inbox keeps it once"
        );
        // The same money under ids of their own, as a provider whose own memory failed would send
        // it.
        let others: Vec<Outgoing> = (2..18)
            .map(|id| pen.paid(&order, id, Alteration::None))
            .collect();
        let answers = join_all(
            others
                .iter()
                .map(|o| post(&app, account, &o.headers, o.body.clone())),
        )
        .await;
        for answer in &answers {
            is_told(provider, answer, Told::Stop);
        }
        let paid = app.client.payment(payment["id"].as_str().unwrap()).await;
        assert_eq!(
            (&paid["status"], &paid["amount_captured"]),
            (&json!("succeeded"), &json!(8888)),
            "{provider}"
        );
        assert_eq!(
            events(&db, &payment, "payment.succeeded").await,
            1,
            "{provider}"
        );
        assert_eq!(
            rows::counts(&db, &["events"]).await[0].1,
            2,
            "{provider}: it was offered, and it succeeded"
        );
        let name: ProviderName = provider.parse().unwrap();
        assert_eq!(paid["provider"], name.as_str());
        app.stop().await;
    }
}

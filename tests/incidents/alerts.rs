//! Each trouble is told to all four chats, once, and so is its end; a gateway that is well tells
//! nobody anything.

use std::sync::Arc;

use interlock::domain::incident::{Cause, Change, Phase, Subject};
use interlock::domain::webhook::State;
use interlock::routing::health::{RouteId, Verdict};
use interlock::store::{About, AlertTry, IncidentRow};
use providers::order::Flow;
use serde_json::json;

use super::{
    Chat, IN_DOUBT, NO_BREAKERS, PARKED, ROBOTS, WEBHOOKS, break_alipay, break_all, nothing, pay,
    wait,
};
use crate::helpers::facts::Facts;
use crate::helpers::redis::Redis;
use crate::helpers::{TestApp, barcode, order};

/// Waits until the gateway has looked so often.
async fn looks(app: &TestApp, count: usize) {
    for _ in 0..count {
        let seen = app.app().incidents.seen();
        wait("it looks", async || {
            !Arc::ptr_eq(&seen, &app.app().incidents.seen())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_told_of_and_so_is_its_return() {
    let chat = Chat::start().await;
    let app = chat.gateway(&[]).await;
    let met = break_alipay(&app).await.len();
    chat.until(1, nothing).await;
    app.control.mend().await;

    // What comes back is tried by payments.
    chat.until(2, async || drop(pay(&app).await)).await;
    chat.heard_beginning_and_end(
        "支付宝 · 扫码支付：不可用",
        "Alipay · Scan a QR code: out of order",
    )
    .await;

    let heard = chat.heard("slack").await;
    assert!(
        heard[0]
            .1
            .contains("new payments go to other routes at once"),
        "{}",
        heard[0].1
    );

    // Each of them was taken by somebody else, and each is counted once.
    let figures = format!("payments affected: {met}, switched: {met}, no money in doubt");
    assert!(heard[1].1.contains(&figures), "{figures}: {}", heard[1].1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_outcomes_that_age_are_told_of_until_they_are_known() {
    let chat = Chat::start().await;
    let app = chat.gateway(&[NO_BREAKERS, IN_DOUBT[0], IN_DOUBT[1]]).await;
    app.control
        .fault(json!({"provider": "alipay", "kind": "http_500"}))
        .await;
    let mut charge = barcode("alipay", 0);
    charge["wait"] = json!(0);
    let charge = app.client.pay(&charge).await.expect(202);
    chat.until(1, nothing).await;
    app.control.mend().await;

    // Its ladder is the provider's; nobody waits for it here.
    chat.until(2, async || app.advance(10).await).await;
    chat.heard_beginning_and_end(
        "支付宝：有交易结果长时间未知",
        "Alipay: outcomes unknown for long",
    )
    .await;

    let heard = chat.heard("feishu").await;
    assert!(
        heard[0].1.contains("in doubt: 1, CNY 88.88"),
        "{}",
        heard[0].1
    );

    assert!(
        heard[1].1.contains("payments affected: 1") && heard[1].1.contains("no money in doubt"),
        "{}",
        heard[1].1
    );

    let ended = app.client.payment(charge["id"].as_str().unwrap()).await;
    assert!(
        ["failed", "succeeded"].contains(&ended["status"].as_str().unwrap()),
        "{ended:#}"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_come_late_are_told_of_until_they_are_taken() {
    let chat = Chat::start().await;
    let app = chat.gateway(&WEBHOOKS).await;
    chat.hook_answers(500);
    let mut body = order();
    body["notify_url"] = chat.hook().into();
    app.client.pay(&body).await.expect(201);
    chat.until(1, nothing).await;
    chat.hook_answers(200);
    chat.until(2, nothing).await;
    chat.heard_beginning_and_end(
        "商户通知：通知送达延迟",
        "Webhooks: merchants are told late",
    )
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_that_wait_for_a_route_are_told_of_until_they_go_on() {
    let chat = Chat::start().await;
    let app = chat.gateway(&[NO_BREAKERS, PARKED[0], PARKED[1]]).await;
    break_all(&app).await;
    let parked = app.client.pay(&order()).await.expect(202);
    chat.until(1, nothing).await;
    app.control.mend().await;
    app.client
        .until_status(parked["id"].as_str().unwrap(), "requires_action")
        .await;
    chat.until(2, nothing).await;
    chat.heard_beginning_and_end("等待中的支付", "Waiting payments: no route is able")
        .await;
    let heard = chat.heard("slack").await;

    assert!(
        heard[1]
            .1
            .contains("payments affected: 1, switched: 1, waited: 1"),
        "{}",
        heard[1].1
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_gone_is_told_of_until_it_is_back() {
    let mut redis = Redis::start().await;
    let chat = Chat::start().await;
    let url = redis.url();
    let app = chat
        .gateway(&[("redis.url", &url), ("redis.timeout_ms", "10000")])
        .await;

    wait("health is shared", async || {
        app.app().health.board().is_shared()
    })
    .await;
    redis.kill().await;
    chat.until(1, nothing).await;
    assert_eq!(
        pay(&app).await["status"],
        "requires_action",
        "no payment waits for it"
    );

    redis.restart().await;
    chat.until(2, nothing).await;
    chat.heard_beginning_and_end("Redis", "Redis: shared health is away")
        .await;

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_its_provider_refuses_is_told_of() {
    let chat = Chat::start().await;
    let app = chat.gateway(&[]).await;
    // As a payment does whose provider says so.
    let until = app.app().clock.now().plus_s(600);

    app.app()
        .store
        .set_account_aside(&app.wechatpay, Some(until), "NO_AUTH")
        .await
        .unwrap();

    app.app().directory.changed().await.unwrap();
    chat.until(1, nothing).await;
    let heard = chat.heard("wecom").await;

    assert!(
        heard[0].0.contains("账户被渠道拒绝") && heard[0].0.contains(&*app.wechatpay),
        "{heard:?}"
    );

    // Let in again, it is well once it has served somebody.
    app.app()
        .store
        .set_account_aside(&app.wechatpay, None, "")
        .await
        .unwrap();

    app.app().directory.changed().await.unwrap();
    app.client.route(&[&app.wechatpay]).await.expect(200);
    assert_eq!(pay(&app).await["provider"], "wechatpay");

    chat.until(2, nothing).await;
    chat.heard_beginning_and_end("微信支付", "WeChat Pay").await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_about_all_merchants_is_told_before_and_apart_from_what_is_about_one() {
    let app = TestApp::start().await;
    let (store, now) = (&app.app().store, app.app().clock.now());
    let alipay = providers::PROTOCOLS[0].name;
    let own = Subject::Account(alipay, app.alipay.clone());
    let everybodys = Subject::Provider(alipay, Flow::Qr);

    for (id, subject, cause) in [
        ("inc_own", own, Cause::AccountRefused),
        ("inc_all", everybodys, Cause::ProviderDown),
    ] {
        let incident = IncidentRow {
            id: id.to_owned(),
            subject,
            cause,
            severity: cause.severity(),
            first_severity: cause.severity(),
            phase: Phase::Ongoing,
            detail: json!({}),
            beats: 0,
            version: 1,
            reminders: 0,
            reminded_at: now,
            began_at: now,
            opened_at: now,
            raised_at: None,
            closed_at: None,
        };
        assert!(store.open_incident(&incident).await.unwrap());
        store
            .tell(id, &[Change::Opened], &["chat"], now)
            .await
            .unwrap();
    }

    let next = async |about| {
        let lease = now.plus_s(60);
        let row = store
            .claim_alert("chat", about, now, lease)
            .await
            .unwrap()?;
        let done = AlertTry {
            status: State::Delivered,
            next_try_at: None,
            end: "delivered",
            answer: None,
        };
        store.record_alert(&row, &done, now).await.unwrap();
        Some(row.incident_id)
    };
    assert_eq!(next(About::All).await.as_deref(), Some("inc_all"));
    assert_eq!(next(About::All).await, None);
    assert_eq!(next(About::Anybody).await.as_deref(), Some("inc_own"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_well_tells_nobody_anything() {
    let redis = Redis::start().await;
    let chat = Chat::start().await;
    let url = redis.url();
    let app = chat
        .gateway(&[("redis.url", &url), ("redis.timeout_ms", "10000")])
        .await;
    let facts = Facts::of(&app).await;
    app.paid().await;
    let mut declined = barcode("wechatpay", 8);
    declined["wait"] = json!(5);
    app.client.pay(&declined).await;

    // It looks at all this for longer than trouble has to hold.
    looks(&app, 10).await;
    assert!(
        facts.count("incident_norms").await > 0,
        "it learns what is usual"
    );
    assert_eq!(facts.count("incidents").await, 0);
    assert_eq!(facts.count("alerts").await, 0);

    for robot in ROBOTS {
        assert_eq!(chat.heard(robot).await, []);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_that_refuses_is_tried_again_and_the_others_do_not_wait_for_it() {
    let chat = Chat::start().await;
    let app = chat.gateway(&[NO_BREAKERS, PARKED[0], PARKED[1]]).await;
    chat.refuse("feishu", 2);
    chat.refuse("wecom", 1);
    break_all(&app).await;
    app.client.pay(&order()).await.expect(202);
    let facts = Facts::of(&app).await;

    wait("all have taken it", async || {
        facts.count("alerts WHERE status = 'delivered'").await == 4
    })
    .await;
    for (robot, tries) in [("wecom", 2), ("dingtalk", 1), ("feishu", 3), ("slack", 1)] {
        assert_eq!(chat.heard(robot).await.len(), tries, "{robot}");
        let sql = format!(
            "alerts WHERE receiver LIKE '{robot}-%' AND tries = {tries} AND last_end = 'delivered'"
        );
        assert_eq!(facts.count(&sql).await, 1, "{robot}");
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_dingtalk_and_feishu_are_signed_and_nothing_secret_is_logged() {
    let chat = Chat::start().await;
    let app = chat.gateway(&[NO_BREAKERS, PARKED[0], PARKED[1]]).await;
    break_all(&app).await;
    app.client.pay(&order()).await.expect(202);
    chat.until(1, nothing).await;
    let ding = chat.requests("dingtalk").await.remove(0);
    let query: Vec<String> = ding
        .url
        .query_pairs()
        .map(|(name, _)| name.into_owned())
        .collect();

    assert_eq!(query, ["access_token", "timestamp", "sign"]);
    let feishu: serde_json::Value =
        serde_json::from_slice(&chat.requests("feishu").await[0].body).unwrap();

    assert!(
        feishu["timestamp"].is_string() && feishu["sign"].as_str().unwrap().len() == 44,
        "{feishu:#}"
    );

    let stored = Facts::of(&app).await.rows("SELECT * FROM alerts").await;
    let stored = serde_json::to_string(&stored).unwrap();

    assert!(
        !stored.contains("SEC1") && !stored.contains("access_token"),
        "{stored}"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_lasts_people_are_reminded() {
    let chat = Chat::start().await;
    let app = chat
        .gateway(&[
            NO_BREAKERS,
            PARKED[0],
            PARKED[1],
            ("alerts.remind_after_s", "3600"),
        ])
        .await;

    break_all(&app).await;
    let mut body = order();
    body["expires_in"] = json!(7200);
    app.client.pay(&body).await.expect(202);
    chat.until(1, nothing).await;
    app.advance(3_700).await;
    chat.until(2, nothing).await;
    let heard = chat.heard("dingtalk").await;

    assert!(heard[1].0.contains("仍未恢复"), "{heard:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_is_no_outage() {
    let chat = Chat::start().await;
    let flags = [
        NO_BREAKERS,
        ("alerts.parked_least_s", "60"),
        ("alerts.parked_most_s", "60"),
    ];

    let app = chat.gateway(&flags).await;
    let facts = Facts::of(&app).await;
    break_all(&app).await;
    let parked = app.client.pay(&order()).await.expect(202);
    looks(&app, 2).await;

    // By its row it has waited for minutes.
    app.advance(300).await;
    looks(&app, 10).await;
    assert_eq!(
        facts.count("payments WHERE parked_at IS NOT NULL").await,
        1,
        "{parked:#}"
    );

    assert_eq!(facts.count("incidents").await, 0);
    app.stop().await;
}

/// Calls that end so, one after the other, as payments would make them.
fn calls(app: &TestApp, verdicts: &[Verdict]) {
    let provider = "alipay".parse().unwrap();
    let route = RouteId {
        account_id: app.alipay.clone(),
        provider,
        flow: Flow::Qr,
    };
    for verdict in verdicts {
        let ticket = app.app().health.begin(&route);
        app.app().health.end(ticket, *verdict);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_far_more_often_than_usual_is_told_of_and_told_again_when_it_is_out()
{
    use Verdict::{Good, ProviderFailed};

    let chat = Chat::start().await;
    let receivers = format!("{} severity=page", chat.receivers());
    let app = chat
        .gateway(&[
            ("alerts.receivers", &receivers),
            ("alerts.failing_after_ms", "300"),
        ])
        .await;

    let heard = async |robot: &str, count: usize| chat.heard(robot).await.len() == count;
    calls(&app, &[Good; 500]);
    wait("it is noticed", async || {
        // Too few in a row for its breaker.
        calls(&app, &[ProviderFailed, ProviderFailed, Good, Good, Good]);
        heard("wecom", 1).await && heard("dingtalk", 1).await && heard("feishu", 1).await
    })
    .await;

    assert_eq!(super::gate(&app, "alipay"), "closed");
    assert!(
        chat.heard("feishu").await[0]
            .0
            .contains("fails far more often than usual")
    );

    assert!(heard("slack", 0).await, "nobody is woken for it");
    calls(&app, &[ProviderFailed; 20]);
    wait("those who sleep are woken", async || {
        heard("slack", 1).await && heard("feishu", 2).await
    })
    .await;
    let titles = [
        chat.heard("feishu").await[1].0.clone(),
        chat.heard("slack").await[0].0.clone(),
    ];

    assert!(
        titles
            .iter()
            .all(|title| title.contains("[worse]") && title.contains("out of order")),
        "{titles:?}"
    );

    wait("its end is told", async || {
        pay(&app).await;
        calls(&app, &[Good; 5]);
        heard("slack", 2).await
            && heard("wecom", 3).await
            && heard("dingtalk", 3).await
            && heard("feishu", 3).await
    })
    .await;

    assert_eq!(Facts::of(&app).await.count("incidents").await, 1);
    app.stop().await;
}

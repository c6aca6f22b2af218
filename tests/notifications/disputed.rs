//! A notification says that money moved, and answers to questions do not: they are of before, or
//! one of the two is wrong. Nothing ends until both say the same, or a person has decided.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use interlock::payments::notify;
use providers::Provider;
use providers::memory::{Memory, Scripted};
use providers::notification::RawNotification;
use providers::outcome::{Failure, FailureKind, QueryOutcome, RefundOutcome, RefundQueryOutcome};
use providers::provider::Ending;
use providers::sandbox::simulator::Alteration;
use serde_json::{Value, json};

use super::pen::Pen;
use super::{Told, is_told, post, unheard};
use crate::helpers::facts::{Facts, in_book};
use crate::helpers::{PATIENCE, TestApp, fresh, order};

fn id(payment: &Value) -> &str {
    payment["id"].as_str().unwrap()
}

/// So often an attempt is asked about before a person is.
const QUESTIONS: usize = 10;

/// A code that another one has replaced is asked about; its provider says that it is closed, which
/// is wrong; the payer pays it, and its notification is taken, before that answer is written down.
/// Returns the payment once nothing more is due.
pub(crate) async fn paid_while_an_answer_is_on_its_way(first: &str, second: &str) -> Value {
    let app = TestApp::start().await;
    let (mut body, other_way) = (order(), json!({"flow": "qr", "providers": [second]}));
    body["providers"] = json!([first]);
    let payment = app.client.pay(&body).await.expect(201);
    // Alipay has a trade once its code was scanned.
    app.control
        .pay_as(payment["next_action"]["qr"].as_str().unwrap(), "declined")
        .await;
    let (asked, was_asked) = channel();
    let (told, was_told) = channel::<()>();
    let held_up = parking_lot::Mutex::new(Some((asked, was_told)));
    fail::cfg_callback("resolve_after_query", move || {
        if let Some((asked, was_told)) = held_up.lock().take() {
            asked.send(()).unwrap();
            was_told.recv_timeout(PATIENCE).unwrap();
        }
    })
    .unwrap();
    app.control
        .fault(json!({"provider": first, "call": "query", "kind": "says_closed"}))
        .await;
    let offers = format!("/v1/payments/{}/offers", id(&payment));
    let shown = app
        .client
        .post(&offers, &fresh("key"), &other_way)
        .await
        .expect(201);
    tokio::task::spawn_blocking(move || was_asked.recv_timeout(PATIENCE).unwrap())
        .await
        .unwrap();

    app.control.mend().await;
    let number = payment["attempts"][0]["provider_order_no"]
        .as_str()
        .unwrap();
    let (status, said) = app.control.pay_order(number).await;
    assert_eq!(status, 200, "{said}");
    let facts = Facts::of(&app).await;
    for pause in crate::helpers::pauses() {
        if facts.count("notifications").await == 1 {
            break;
        }
        tokio::time::sleep(pause).await;
    }
    told.send(()).unwrap();
    app.control.pay(&shown).await;
    let is_over = |p: &Value| p["attempts"][0]["status"] == "captured";
    for _ in 0..10 {
        app.advance(5).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if is_over(&app.client.payment(id(&payment)).await) {
            break;
        }
    }
    let seen = app.client.payment(id(&payment)).await;
    if is_over(&seen) {
        app.client
            .until(id(&payment), |p| p["amount_captured"] == 8888)
            .await;
        assert_ne!(in_book(&app, number, "captured").await, 0, "{first}");
    }
    app.stop().await;
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_told_while_an_answer_of_before_is_on_its_way_is_found() {
    for [first, second] in [["wechatpay", "alipay"], ["alipay", "wechatpay"]] {
        let seen = paid_while_an_answer_is_on_its_way(first, second).await;
        assert_eq!(seen["attempts"][0]["status"], "captured", "{seen:#}");
    }
}

/// A provider that says what it is told to, in the place of Alipay.
async fn stand_in(app: &TestApp) -> Arc<Memory> {
    app.client.route(&[&app.alipay]).await.expect(200);
    let provider = Arc::new(Memory::new("alipay".parse().unwrap(), Ending::Close));
    let stand_in: Arc<dyn Provider> = provider.clone();
    app.app().directory.stand_in(&app.alipay, &stand_in);
    provider
}

async fn tell(app: &TestApp, raw: RawNotification) {
    let account = app.app().directory.account(&app.alipay).unwrap();
    let (acknowledgement, is_believed) = notify::receive(app.app(), &account, raw).await;
    assert!(
        is_believed && acknowledgement.status.is_success(),
        "{acknowledgement:?}"
    );
}

/// A code that its provider had said was closed, and that is paid all the same.
async fn paid_when_dead(app: &TestApp, provider: &Memory, denials: usize) -> Value {
    let payment = app.client.pay(&order()).await.expect(201);
    let number = payment["attempts"][0]["provider_order_no"]
        .as_str()
        .unwrap();

    for _ in 0..=denials {
        provider.script_query(Scripted {
            done: false,
            answer: Some(QueryOutcome::Closed),
        });
    }

    app.client
        .post(
            &format!("/v1/payments/{}/cancel", id(&payment)),
            "unused",
            &json!({}),
        )
        .await;

    app.client.until_status(id(&payment), "canceled").await;
    provider.pay(number, app.app().clock.now().utc()).unwrap();
    tell(app, provider.paid_notification(number).unwrap()).await;
    payment
}

async fn until(app: &TestApp, payment: &Value, wanted: impl AsyncFn(&Value) -> bool) -> Value {
    for pause in crate::helpers::pauses() {
        let seen = app.client.payment(id(payment)).await;
        if wanted(&seen).await {
            return seen;
        }
        app.advance(300).await;
        tokio::time::sleep(pause).await;
    }
    panic!(
        "it does not come to that: {:#}",
        app.client.payment(id(payment)).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_was_told_is_asked_about_until_it_is_confirmed_although_answers_deny_it() {
    let app = TestApp::start().await;
    let provider = stand_in(&app).await;
    let payment = paid_when_dead(&app, &provider, 3).await;
    let seen = until(&app, &payment, async |p| {
        p["attempts"][0]["disposition"] == "refunded"
    })
    .await;
    assert_eq!(seen["status"], "canceled");
    assert_eq!(
        Facts::of(&app).await.count("operations").await,
        0,
        "nobody has to look at it"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_was_told_and_is_never_confirmed_is_for_a_person_and_found_when_he_asks() {
    let app = TestApp::start().await;
    let provider = stand_in(&app).await;
    // An answer that comes when its time is over is none: more may be asked than is counted.
    let payment = paid_when_dead(&app, &provider, 3 * QUESTIONS).await;
    let facts = Facts::of(&app).await;
    let open = "operations WHERE kind = 'money_unconfirmed' AND resolved_at IS NULL";
    until(&app, &payment, async |_| facts.count(open).await == 1).await;
    let seen = app.client.payment(id(&payment)).await;

    assert_eq!(seen["attempts"][0]["status"], "dead");
    // It comes once more, and by then the provider knows.
    provider.unscript_queries();
    let number = payment["attempts"][0]["provider_order_no"]
        .as_str()
        .unwrap();
    facts.execute("DELETE FROM notifications").await.unwrap();
    tell(&app, provider.paid_notification(number).unwrap()).await;
    until(&app, &payment, async |p| {
        p["attempts"][0]["disposition"] == "refunded"
    })
    .await;
    until(&app, &payment, async |_| facts.count(open).await == 0).await;

    app.stop().await;
}

fn ended() -> Failure {
    Failure::new(FailureKind::Request, "closed", "it was ended")
}

/// A refund that its provider has not ended yet, and whose end it has told: it was carried out.
async fn refund_told_done(
    app: &TestApp,
    provider: &Memory,
    sent: RefundOutcome,
    answers: &[RefundQueryOutcome],
) -> Value {
    let payment = app.client.pay(&order()).await.expect(201);
    let number = payment["attempts"][0]["provider_order_no"]
        .as_str()
        .unwrap();
    provider.pay(number, app.app().clock.now().utc()).unwrap();
    tell(app, provider.paid_notification(number).unwrap()).await;
    provider.script_refund(Scripted {
        done: true,
        answer: Some(sent),
    });

    for answer in answers {
        provider.script_query_refund(Scripted {
            done: false,
            answer: Some(answer.clone()),
        });
    }

    app.client.refund(id(&payment), 888).await.expect(201);
    let seen = app.client.payment(id(&payment)).await;
    let facts = Facts::of(app).await;
    let no =
        facts.rows("SELECT provider_refund_no FROM refunds").await[0]["provider_refund_no"].clone();

    tell(
        app,
        provider.refund_notification(number, no.as_str().unwrap()),
    )
    .await;

    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_was_told_to_be_done_neither_fails_nor_is_made_again_while_answers_deny_it() {
    let app = TestApp::start().await;
    let provider = stand_in(&app).await;
    let answers = [
        RefundQueryOutcome::Rejected(ended()),
        RefundQueryOutcome::NotFound,
        RefundQueryOutcome::Rejected(ended()),
    ];

    let payment = refund_told_done(&app, &provider, RefundOutcome::Accepted, &answers).await;
    until(&app, &payment, async |p| p["amount_refunded"] == 888).await;
    let facts = Facts::of(&app).await;

    assert!(
        !facts
            .told(id(&payment))
            .await
            .contains(&"refund.failed".to_owned())
    );

    let sent = provider
        .calls()
        .iter()
        .filter(|(call, _)| *call == "refund")
        .count();

    assert_eq!(sent, 1, "{:?}", provider.calls());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_counts_as_failed_and_is_told_to_be_done_is_asked_about_until_it_is() {
    let app = TestApp::start().await;
    let provider = stand_in(&app).await;
    let answers = [
        RefundQueryOutcome::Rejected(ended()),
        RefundQueryOutcome::Rejected(ended()),
    ];
    let payment =
        refund_told_done(&app, &provider, RefundOutcome::Rejected(ended()), &answers).await;

    assert_eq!(payment["refunds"][0]["status"], "failed");
    until(&app, &payment, async |p| p["amount_refunded"] == 888).await;
    let facts = Facts::of(&app).await;

    assert_eq!(
        facts
            .count("operations WHERE kind = 'refund_done_after_failed'")
            .await,
        1,
        "a person hears of it"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_goes_back_under_a_number_that_is_not_told_is_asked_about_and_looked_for() {
    let app = TestApp::start().await;
    let (payment, order) = unheard(&app, "alipay").await;
    let pen = Pen::new(&app, "alipay");
    let account = app.alipay.clone();
    let told = async |id: u32, fee: Option<&str>| {
        let paid = pen.paid(&order, id, Alteration::None);
        let back = pen.edited(
            &pen.edited(&paid, "refund_fee", fee),
            "gmt_refund",
            Some("2026-07-01 12:00:00.000"),
        );
        let answer = post(&app, &account, &back.headers, back.body.clone()).await;
        is_told("alipay", &answer, Told::Stop);
    };
    let facts = Facts::of(&app).await;
    let open = "operations WHERE kind = 'console_refund_unconfirmed' AND resolved_at IS NULL";

    // What goes back has come in: so the order is asked about, whose own notification was lost.
    told(1, Some("20.00")).await;
    app.client.until_status(id(&payment), "succeeded").await;
    assert_eq!(
        facts.count(open).await,
        1,
        "nobody here has given 20 yuan back"
    );
    app.client.refund(id(&payment), 2_000).await.expect(201);
    app.client
        .until(id(&payment), |p| p["amount_refunded"] == 2_000)
        .await;
    facts
        .execute("UPDATE operations SET resolved_at = 1")
        .await
        .unwrap();

    // That is the sum of what is booked.
    told(2, Some("20.00")).await;
    assert_eq!(facts.count(open).await, 0);
    // More than that, and nothing on its way that could be it.
    told(3, Some("25.00")).await;
    assert_eq!(facts.count(open).await, 1);
    let detail = facts
        .rows("SELECT detail FROM operations WHERE resolved_at IS NULL")
        .await[0]["detail"]
        .clone();
    assert!(
        detail.as_str().unwrap().contains("25.00") && detail.as_str().unwrap().contains("2000 fen"),
        "{detail}"
    );
    // One that counts as failed, and would be the rest: it is asked about. One that would not is
    // left alone.
    for (fen, sum, entries) in [(300, "23.00", 0), (400, "99.00", 1)] {
        facts
            .execute("UPDATE operations SET resolved_at = 1")
            .await
            .unwrap();
        app.control
            .fault(
                json!({"provider": "alipay", "call": "refund", "kind": "timeout_before",
                "latency_ms": 10}),
            )
            .await;
        // Refunds of one order are some seconds apart.
        app.advance(5).await;
        let refund = app.client.refund(id(&payment), fen).await.json();
        let no = refund["id"].as_str().unwrap();
        let failed = "status = 'failed', next_check_at = NULL, failure = NULL";
        facts
            .execute(&format!("UPDATE refunds SET {failed} WHERE id = '{no}'"))
            .await
            .unwrap();
        facts
            .execute("UPDATE payments SET version = version + 1")
            .await
            .unwrap();
        told(u32::try_from(fen).unwrap(), Some(sum)).await;
        assert_eq!(facts.count(open).await, entries, "{fen} fen of {sum}");
        let asked =
            format!("refunds WHERE id = '{no}' AND told_done AND next_check_at IS NOT NULL");
        assert_eq!(facts.count(&asked).await, 1 - entries, "{fen} fen of {sum}");
        app.control.mend().await;
    }
    app.stop().await;
}

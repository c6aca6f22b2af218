//! Refunds whose provider says no and does it all the same, or says no while it does: what a
//! provider says last about money counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use interlock::domain::AllOwners;
use interlock::domain::refund::Event;
use interlock::store::{Change, CommitError};
use providers::Provider;
use providers::memory::{Memory, Scripted};
use providers::outcome::{Failure, FailureKind, RefundOutcome, RefundQueryOutcome};
use providers::provider::Ending;
use serde_json::{Value, json};

use super::{id, told, until};
use crate::helpers::facts::{Facts, in_book};
use crate::helpers::{PATIENCE, TestApp};

/// A provider that does as it is told, in the place of Alipay.
async fn stand_in(app: &TestApp) -> Arc<Memory> {
    let provider = Arc::new(Memory::new("alipay".parse().unwrap(), Ending::Close));
    let stand_in: Arc<dyn Provider> = provider.clone();
    app.app().directory.stand_in(&app.alipay, &stand_in);
    provider
}

async fn paid_at(app: &TestApp, provider: &Memory) -> Value {
    let payment = app.client.pay(&crate::helpers::order()).await.expect(201);
    let number = payment["attempts"][0]["provider_order_no"]
        .as_str()
        .unwrap();
    provider.pay(number, app.app().clock.now().utc()).unwrap();
    until(app, &payment, async |p| p["status"] == "succeeded").await
}

fn too_much() -> Failure {
    Failure::new(FailureKind::Request, "too_much", "more than what is left")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_is_not_found_after_a_no_may_still_be_the_one_that_was_counted() {
    let app = TestApp::start().await;
    let provider = stand_in(&app).await;
    let payment = paid_at(&app, &provider).await;
    let lost = Failure::new(FailureKind::Timeout, "timeout", "no answer");

    provider.script_refund(Scripted {
        done: true,
        answer: Some(RefundOutcome::Unknown(lost)),
    });

    // Not found as yet, so it is sent again; that is refused because the first one counts; and it
    // is still not found.
    provider.script_refund(Scripted {
        done: false,
        answer: Some(RefundOutcome::Rejected(too_much())),
    });

    for _ in 0..3 {
        provider.script_query_refund(Scripted {
            done: false,
            answer: Some(RefundQueryOutcome::NotFound),
        });
    }

    let refund = app.client.refund(id(&payment), 5000).await.expect(201);
    until(&app, &payment, async |p| p["amount_refunded"] == 5000).await;
    assert_eq!(
        told(&app, &payment).await,
        ["refund.succeeded"],
        "{refund:#}"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_had_failed_and_was_carried_out_all_the_same_is_booked_and_looked_at() {
    let app = TestApp::start().await;
    let provider = stand_in(&app).await;
    let payment = paid_at(&app, &provider).await;

    provider.script_refund(Scripted {
        done: true,
        answer: Some(RefundOutcome::Rejected(too_much())),
    });
    let refund = app.client.refund(id(&payment), 5000).await.expect(201);
    assert_eq!(refund["status"], "failed");

    let facts = Facts::of(&app).await;
    facts
        .execute("UPDATE refunds SET next_check_at = 1")
        .await
        .unwrap();
    facts
        .execute("UPDATE payments SET next_check_at = 1, version = version + 1")
        .await
        .unwrap();
    let seen = until(&app, &payment, async |p| p["amount_refunded"] == 5000).await;

    assert_eq!(seen["refunds"][0]["status"], "succeeded");
    assert_eq!(
        told(&app, &payment).await,
        ["refund.failed", "refund.succeeded"]
    );
    assert_eq!(
        facts
            .count("operations WHERE kind = 'refund_done_after_failed'")
            .await,
        1
    );

    app.client
        .refund(id(&payment), 3889)
        .await
        .problem(422, "refund_too_large", Some("amount"));
    assert_eq!(
        app.app()
            .store
            .check_ledger(None, 5)
            .await
            .unwrap()
            .deviations,
        []
    );

    app.stop().await;
}

/// A refund whose provider gives the money back and is slow to say so; meanwhile somebody else
/// writes down this.
async fn done_although(app: &TestApp, said: Event) -> Value {
    let payment = app.paid().await;
    let slow = json!({"provider": "alipay", "call": "refund", "kind": "slow", "latency_ms": 3000});
    app.control.fault(slow).await;
    let (client, of) = (app.client.clone(), id(&payment).to_owned());
    let asked = tokio::spawn(async move { client.refund(&of, 5000).await });
    let began = Instant::now();
    let number = payment["attempts"][0]["provider_order_no"]
        .as_str()
        .unwrap();

    while in_book(app, number, "refunded").await != 5000 {
        assert!(began.elapsed() < PATIENCE, "the money does not go back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    loop {
        let before = app
            .app()
            .store
            .payment(AllOwners, &id(&payment).parse().unwrap())
            .await
            .unwrap()
            .unwrap();
        let mut after = before.clone();
        after.refunds[0].apply(said).unwrap();
        after.refunds[0].next_check_at = None;
        match app
            .app()
            .store
            .commit(Change::update(&before, after, app.app().clock.now()))
            .await
        {
            Ok(()) => break,
            Err(moved) => assert!(matches!(moved, CommitError::VersionConflict), "{moved}"),
        }
    }

    asked.await.unwrap().expect(201);
    until(app, &payment, async |p| p["amount_refunded"] == 5000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_money_went_back_counts_whatever_was_said_while_it_was_on_its_way() {
    let app = TestApp::start().await;
    app.client.route(&[&app.alipay]).await.expect(200);
    let facts = Facts::of(&app).await;
    let looked_at = "operations WHERE kind = 'refund_done_after_failed'";

    for (said, for_a_person) in [(Event::MarkAbnormal, 0), (Event::Refuse, 1)] {
        let payment = done_although(&app, said).await;
        assert_eq!(payment["refunds"][0]["status"], "succeeded", "{said:?}");
        assert_eq!(told(&app, &payment).await, ["refund.succeeded"], "{said:?}");
        assert_eq!(facts.count(looked_at).await, for_a_person, "{said:?}");
    }

    assert_eq!(
        app.app()
            .store
            .check_ledger(None, 5)
            .await
            .unwrap()
            .deviations,
        []
    );

    app.stop().await;
}

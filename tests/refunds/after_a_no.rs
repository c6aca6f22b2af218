//! Refunds whose provider says no and does it all the same, or says no while it does: what a provider says last about money
//! counts.

use std::sync::Arc;

use providers::Provider;
use providers::memory::{Memory, Scripted};
use providers::outcome::{Failure, FailureKind, RefundQueried, Refunded};
use providers::provider::Ending;
use serde_json::Value;

use super::{id, told, until};
use crate::helpers::TestApp;
use crate::helpers::facts::Facts;

/// A provider that does as it is told, in the place of Alipay.
async fn stand_in(app: &TestApp) -> Arc<Memory> {
    let provider = Arc::new(Memory::new("alipay".parse().unwrap(), Ending::Close));
    let stand_in: Arc<dyn Provider> = provider.clone();
    app.app().directory.stand_in(&app.alipay, &stand_in);
    provider
}

async fn paid_at(app: &TestApp, provider: &Memory) -> Value {
    let payment = app.client.pay(&crate::helpers::order()).await.expect(201);
    let number = payment["attempts"][0]["provider_order_no"].as_str().unwrap();
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
    provider.script_refund(Scripted { done: true, answer: Some(Refunded::Unknown(lost)) });
    // Not found as yet, so it is sent again; that is refused because the first one counts; and it is still not found.
    provider.script_refund(Scripted { done: false, answer: Some(Refunded::TerminalNo(too_much())) });
    for _ in 0..3 {
        provider.script_query_refund(Scripted { done: false, answer: Some(RefundQueried::NotFound) });
    }
    let refund = app.client.refund(id(&payment), 5000).await.expect(201);
    until(&app, &payment, async |p| p["amount_refunded"] == 5000).await;
    assert_eq!(told(&app, &payment).await, ["refund.succeeded"], "{refund:#}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_had_failed_and_was_carried_out_all_the_same_is_booked_and_looked_at() {
    let app = TestApp::start().await;
    let provider = stand_in(&app).await;
    let payment = paid_at(&app, &provider).await;
    provider.script_refund(Scripted { done: true, answer: Some(Refunded::TerminalNo(too_much())) });
    let refund = app.client.refund(id(&payment), 5000).await.expect(201);
    assert_eq!(refund["status"], "failed");
    let facts = Facts::of(&app).await;
    facts.execute("UPDATE refunds SET next_check_at = 1").await.unwrap();
    facts.execute("UPDATE payments SET next_check_at = 1, version = version + 1").await.unwrap();
    let seen = until(&app, &payment, async |p| p["amount_refunded"] == 5000).await;
    assert_eq!(seen["refunds"][0]["status"], "succeeded");
    assert_eq!(told(&app, &payment).await, ["refund.failed", "refund.succeeded"]);
    assert_eq!(facts.count("operations WHERE kind = 'refund_done_after_failed'").await, 1);
    app.client.refund(id(&payment), 3889).await.problem(422, "refund_too_large", Some("amount"));
    assert_eq!(app.app().store.check_ledger(None, 5).await.unwrap().deviations, []);
    app.stop().await;
}

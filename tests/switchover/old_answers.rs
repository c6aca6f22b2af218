//! Answers that are written down long after they were given: they say nothing about what came in
//! between.

use std::sync::Arc;
use std::time::Duration;

use providers::Provider;
use providers::memory::Memory;
use providers::provider::Ending;

use super::id;
use crate::helpers::facts::Facts;
use crate::helpers::{TestApp, attempts, order};

/// Past the deadline of a payment's code, and the time after it.
const PAST_EVERY_DEADLINE: Duration = Duration::from_secs(1_200);

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_was_not_found_before_its_deadline_is_asked_about_once_more_by_a_worker_that_was_held_up()
 {
    let app = TestApp::start().await;
    let provider = Arc::new(Memory::new(
        "alipay".parse().unwrap(),
        Ending::CloseOnceTradeExists,
    ));
    let stand_in: Arc<dyn Provider> = provider.clone();
    app.app().directory.stand_in(&app.alipay, &stand_in);
    let payment = app.client.pay(&order()).await.expect(201);
    let order_no = payment["attempts"][0]["provider_order_no"]
        .as_str()
        .unwrap()
        .to_owned();

    // Nobody has opened the code yet, and so the provider does not know of it. Then the payer pays;
    // and the worker that has this answer stands still until every deadline is past. No
    // notification comes.
    let (clock, payer) = (app.app().clock.clone(), Arc::clone(&provider));
    let held_up = std::sync::Once::new();
    fail::cfg_callback("resolve_after_query", move || {
        held_up.call_once(|| {
            payer.pay(&order_no, clock.now().utc()).unwrap();
            clock.jump(PAST_EVERY_DEADLINE);
        });
    })
    .unwrap();
    let path = format!("/v1/payments/{}/cancel", id(&payment));
    app.client
        .post(&path, "cancel", &serde_json::json!({}))
        .await;

    let paid = app.client.until_status(id(&payment), "succeeded").await;
    assert_eq!(
        attempts(&paid),
        [("alipay".to_owned(), "captured".to_owned())]
    );
    let told = Facts::of(&app).await.told(id(&payment)).await;
    assert!(!told.contains(&"payment.canceled".to_owned()), "{told:?}");
    app.stop().await;
}

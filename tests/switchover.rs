//! When one provider fails, the other one serves the payment: for every way of failing, in both
//! orders, and never with two codes that a payer could have seen.

mod ended_money;
pub mod late_money;
#[cfg(feature = "testing")]
mod old_answers;
mod one_call;
mod parked;
mod routes;
mod strange_answers;

pub use strange_answers::{live_at, settings, signed};

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::helpers::facts::{Facts, Watch, in_book, taken_fen};
use crate::helpers::{TestApp, attempts, order};

/// Past the life of an offer and the margin after it: 900 s and 120 s.
const PAST_DEADLINES_S: i64 = 1_025;

/// The two providers in an order, and their accounts in the same order.
struct Order {
    names: [&'static str; 2],
    accounts: [String; 2],
}

const ORDERS: [[&str; 2]; 2] = [["alipay", "wechatpay"], ["wechatpay", "alipay"]];

/// Every provider with every other one behind it.
fn pairs_of_providers() -> Vec<[&'static str; 2]> {
    let names = || providers::PROTOCOLS.iter().map(|p| p.name.as_str());
    names()
        .flat_map(|first| {
            names()
                .filter(move |second| *second != first)
                .map(move |second| [first, second])
        })
        .collect()
}

impl Order {
    /// Has the merchant's payments go to these providers, in this order.
    async fn set(app: &TestApp, names: [&'static str; 2]) -> Self {
        let accounts = names.map(|name| account(app, name).to_owned());
        app.client
            .route(&accounts.each_ref().map(String::as_str))
            .await
            .expect(200);
        Self { names, accounts }
    }
}

fn account<'a>(app: &'a TestApp, provider: &str) -> &'a str {
    app.accounts
        .iter()
        .find(|(name, _)| name == provider)
        .map(|(_, id)| id.as_str())
        .unwrap()
}

fn id(payment: &Value) -> &str {
    payment["id"].as_str().unwrap()
}

fn order_no(payment: &Value, attempt: usize) -> &str {
    payment["attempts"][attempt]["provider_order_no"]
        .as_str()
        .unwrap()
}

/// `[(provider, status), …]` as [`attempts`] gives it.
fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

/// How the first provider fails, and what its attempt has to say of it.
#[derive(Clone, Copy)]
struct Failing {
    fault: &'static str,
    latency_ms: Option<u64>,
    outcome: &'static str,
    kind: &'static str,
    /// Whether the provider has made the order all the same.
    made: bool,
}

impl Failing {
    const fn new(
        fault: &'static str,
        outcome: &'static str,
        kind: &'static str,
        made: bool,
    ) -> Self {
        Self {
            fault,
            latency_ms: None,
            outcome,
            kind,
            made,
        }
    }

    /// What is provably without an order is dead at once; everything else is watched.
    fn status(self) -> &'static str {
        if self.outcome == "unknown" {
            "abandoned"
        } else {
            "dead"
        }
    }

    /// UnionPay has no word for "too often" but "busy".
    fn kind_at(self, provider: &str) -> &'static str {
        if (provider, self.kind) == ("unionpay", "rate_limited") {
            "server_error"
        } else {
            self.kind
        }
    }

    async fn at(self, app: &TestApp, provider: &str) {
        let mut fault = json!({"provider": provider, "kind": self.fault});
        if let Some(ms) = self.latency_ms {
            fault["latency_ms"] = ms.into();
        }
        app.control.fault(fault).await;
    }
}

/// From each provider to each other one, each with a gateway of its own.
async fn in_all_orders(failing: Failing) {
    join_all(
        pairs_of_providers()
            .into_iter()
            .map(|names| moves_on(failing, names)),
    )
    .await;
}

async fn moves_on(failing: Failing, names: [&'static str; 2]) {
    let app = TestApp::start().await;
    let [first, second] = Order::set(&app, names).await.names;
    failing.at(&app, first).await;
    let watch = Watch::start(&app).await;
    let facts = Facts::of(&app).await;

    let began = Instant::now();
    let payment = app.client.pay(&order()).await.expect(201);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    shows_both_attempts(&payment, failing, [first, second]);
    assert_eq!(
        facts.count("attempts WHERE next_action IS NOT NULL").await,
        1,
        "one code was ever given out"
    );
    assert_eq!(
        in_book(&app, order_no(&payment, 0), "order_no")
            .await
            .is_string(),
        failing.made
    );

    app.control.pay(&payment).await;
    let paid = app.client.until_status(id(&payment), "succeeded").await;
    assert_eq!(
        (paid["provider"].clone(), paid["amount_captured"].clone()),
        (json!(second), json!(8888))
    );
    assert_eq!(
        attempts(&paid),
        pairs([(first, failing.status()), (second, "captured")])
    );

    app.control.mend().await;
    app.advance(PAST_DEADLINES_S).await;
    let ended = app
        .client
        .until(id(&payment), |p| p["attempts"][0]["status"] == "dead")
        .await;
    assert_eq!(
        attempts(&ended),
        pairs([(first, "dead"), (second, "captured")])
    );
    was_ended_by_asking(&app, &facts, failing, first, &ended).await;
    assert_eq!(
        taken_fen(&app).await,
        8888,
        "{:?}",
        app.control.orders().await
    );
    assert_eq!(
        facts.told(id(&payment)).await,
        ["payment.requires_action", "payment.succeeded"]
    );
    watch.stop().await;
    app.stop().await;
}

fn shows_both_attempts(payment: &Value, failing: Failing, [first, second]: [&str; 2]) {
    assert_eq!(payment["status"], "requires_action");
    assert_eq!(payment["provider"], second);
    assert_eq!(payment["next_action"]["type"], "display_qr");

    let shown = payment["next_action"]["qr"].as_str().unwrap();
    assert_eq!(
        shown.starts_with("https://qr.alipay.com/"),
        second == "alipay",
        "{shown}"
    );

    assert_eq!(
        attempts(payment),
        pairs([(first, failing.status()), (second, "awaiting_payer")])
    );

    let [failed, good] = [&payment["attempts"][0], &payment["attempts"][1]];
    assert_eq!(
        (
            failed["outcome"].as_str(),
            failed["failure"]["kind"].as_str()
        ),
        (Some(failing.outcome), Some(failing.kind_at(first)))
    );

    assert_eq!(
        (good["outcome"].as_str(), good["failure"].as_object()),
        (Some("accepted"), None)
    );
}

/// What may have become an order was asked about, and closed where the provider still had it;
/// nobody can pay it.
async fn was_ended_by_asking(
    app: &TestApp,
    facts: &Facts,
    failing: Failing,
    first: &str,
    payment: &Value,
) {
    let no = order_no(payment, 0);
    let asked = facts
        .count(&format!(
            "attempts WHERE provider_order_no = '{no}' AND questions > 0"
        ))
        .await;

    assert_eq!(asked == 1, failing.status() == "abandoned");
    let state = in_book(app, no, "state").await;

    match (failing.made, first) {
        (true, "wechatpay") => assert_eq!(state, "closed"),
        // No trade to close: the code has expired unscanned.
        (true, "alipay") => assert_eq!(state, "shown"),
        // Nothing closes it: its time is over.
        (true, _) => assert_eq!(state, "payable"),
        (false, _) => assert_eq!(state, Value::Null),
    }

    let (status, refusal) = app.control.pay_order(no).await;
    assert!(status == 404 || status == 409, "{status} {refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_refuses_connections_is_left_at_once() {
    in_all_orders(Failing::new("refuse", "not_sent", "network", false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_answers_http_500_is_left_and_its_attempt_watched() {
    in_all_orders(Failing::new("http_500", "unknown", "server_error", false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_limits_the_rate_is_left_at_once() {
    in_all_orders(Failing::new(
        "rate_limited",
        "refused_provider",
        "rate_limited",
        false,
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_never_answers_is_left_after_its_time() {
    in_all_orders(Failing::new("timeout_before", "unknown", "timeout", false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_answer_was_lost_is_left_watched_and_ended() {
    in_all_orders(Failing::new("timeout_after", "unknown", "timeout", true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_answer_cannot_be_read_is_left_watched_and_ended() {
    in_all_orders(Failing::new("garbled", "unknown", "incompatible", true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_answer_is_wrongly_signed_is_left_watched_and_ended() {
    in_all_orders(Failing::new(
        "bad_signature",
        "unknown",
        "incompatible",
        true,
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_answer_is_not_signed_is_left_watched_and_ended() {
    in_all_orders(Failing::new("unsigned", "unknown", "incompatible", true)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_resets_connections_is_left_and_its_attempt_watched() {
    in_all_orders(Failing::new("reset", "unknown", "network", false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_is_not_waited_for() {
    let slow = Failing::new("slow", "unknown", "timeout", true);
    in_all_orders(Failing {
        latency_ms: Some(6_000),
        ..slow
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_drips_is_not_waited_for() {
    let drip = Failing::new("drip", "unknown", "timeout", true);
    in_all_orders(Failing {
        latency_ms: Some(6_000),
        ..drip
    })
    .await;
}

/// The order was made, its answer was lost, and then no question about it and no close gets through
/// either: the payment is served all the same, and the order is ended once its provider answers
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn trouble_with_the_later_calls_keeps_nobody_waiting_and_the_old_order_ends() {
    let kinds = [
        "refuse",
        "reset",
        "timeout_before",
        "timeout_after",
        "http_500",
        "rate_limited",
        "garbled",
        "unsigned",
    ];

    for kind in kinds.into_iter().chain(["bad_signature", "slow", "drip"]) {
        join_all(
            pairs_of_providers()
                .into_iter()
                .map(|names| keeps_nobody_waiting(kind, names)),
        )
        .await;
    }
}

async fn keeps_nobody_waiting(kind: &str, names: [&'static str; 2]) {
    let app = TestApp::with(&[("payments.query_timeout_ms", "700")]).await;
    let [first, second] = Order::set(&app, names).await.names;
    app.control
        .fault(json!({"provider": first, "call": "create", "kind": "garbled"}))
        .await;
    let watch = Watch::start(&app).await;
    let payment = app.client.pay(&order()).await.expect(201);
    app.control.mend().await;
    app.control
        .fault(json!({"provider": first, "kind": kind}))
        .await;
    assert_eq!(payment["provider"], second, "{kind}");

    app.control.pay(&payment).await;
    app.client.until_status(id(&payment), "succeeded").await;
    app.advance(PAST_DEADLINES_S).await;
    let facts = Facts::of(&app).await;
    let asked = format!(
        "attempts WHERE provider_order_no = '{}' AND questions > 0",
        order_no(&payment, 0)
    );
    let began = Instant::now();

    while facts.count(&asked).await == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{kind}: {first} was not asked"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    app.control.mend().await;
    app.advance(120).await;
    let ended = app
        .client
        .until(id(&payment), |p| p["attempts"][0]["status"] == "dead")
        .await;

    assert_eq!(
        attempts(&ended),
        pairs([(first, "dead"), (second, "captured")]),
        "{kind}"
    );

    assert_eq!(taken_fen(&app).await, 8888, "{kind}");
    watch.stop().await;
    app.stop().await;
}

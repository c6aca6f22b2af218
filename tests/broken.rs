//! Teeth: for every rule that can be broken, a short script that ends well while the rule holds and
//! badly once it is broken. What is good and bad is read off the sandbox's book and the rows. A
//! rule is broken for a whole process: no other test may run in it meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use interlock::testing::mutation::{self, Mutation};
use providers::memory::{Memory, Scripted};
use providers::money::Money;
use providers::outcome::{Capture, QueryOutcome};
use providers::provider::{Ending, Provider};
use serde_json::{Value, json};
use strum::IntoEnumIterator as _;

use crate::helpers::facts::Facts;
use crate::helpers::postgres::Postgres;
use crate::helpers::redis::Redis;
use crate::helpers::{PATIENCE, TestApp, barcode, fresh, order};
use crate::notifications::disputed::paid_while_an_answer_is_on_its_way;

/// What went wrong, in the script's words.
type Verdict = Result<(), String>;

/// A script with every rule in force, and once more with this one broken.
async fn is_noticed(rule: Mutation, script: impl AsyncFn() -> Verdict) {
    let is_alone = std::env::var_os("NEXTEST").is_some()
        || std::env::args().any(|arg| arg == "--test-threads=1");
    assert!(
        is_alone,
        "a rule is broken for the whole process: run it by nextest, or with --test-threads=1"
    );
    mutation::set(None);
    assert_eq!(script().await, Ok(()), "every rule holds");
    mutation::set(Some(rule));
    let verdict = script().await;
    mutation::set(None);
    println!(
        "{rule}: {}",
        verdict.expect_err("the broken rule goes unnoticed")
    );
}

fn require(is_right: bool, wrong: impl FnOnce() -> String) -> Verdict {
    if is_right { Ok(()) } else { Err(wrong()) }
}

/// The sandbox's orders for which payers are out of money.
async fn paid_orders(app: &TestApp) -> Vec<Value> {
    let left =
        |order: &Value| order["captured"].as_i64().unwrap() > order["refunded"].as_i64().unwrap();
    app.control
        .orders()
        .await
        .into_iter()
        .filter(left)
        .collect()
}

/// Every order that was paid has its attempt: otherwise nobody will ever look for its money.
async fn every_fen_is_in_the_rows(app: &TestApp) -> Verdict {
    let facts = Facts::of(app).await;
    for order in paid_orders(app).await {
        let number = order["order_no"].as_str().unwrap();
        let rows = facts
            .count(&format!("attempts WHERE provider_order_no = '{number}'"))
            .await;
        require(rows == 1, || {
            format!(
                "{} fen came in on {number}, and no row knows of it",
                order["captured"]
            )
        })?;
    }
    Ok(())
}

/// Waits until the calls that are on their way have ended, and were written down.
async fn nothing_is_sent(app: &TestApp) {
    let (facts, began) = (Facts::of(app).await, Instant::now());
    while facts.count("attempts WHERE status = 'sending'").await > 0 {
        assert!(began.elapsed() < PATIENCE, "a call does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A point at which the next worker dies, and only that one.
fn dies_at(point: &'static str) {
    fail::cfg(point, "1*panic(it dies here)").unwrap();
}

#[test]
fn every_rule_has_a_script() {
    let scripted = [
        Mutation::SendBeforeCommit,
        Mutation::NewNumberOnRepeat,
        Mutation::SwitchOnUnknownCharge,
        Mutation::NoAmountCheck,
        Mutation::AcknowledgeBeforeCommit,
        Mutation::NoUniqueLiveAttempt,
        Mutation::KeyAfterCall,
        Mutation::MerchantWithoutMode,
        Mutation::BelieveTheLastWord,
    ];

    let all: HashSet<Mutation> = scripted
        .into_iter()
        .chain(drilled().map(|(rule, ..)| rule))
        .collect();

    assert_eq!(Mutation::iter().collect::<HashSet<_>>(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_is_sent_before_its_row_is_written_is_lost_in_a_crash() {
    is_noticed(Mutation::SendBeforeCommit, async || {
        let app = TestApp::start().await;
        dies_at("pay_after_call");
        let mut body = barcode("alipay", 0);
        body["wait"] = 0.into();
        app.client.pay(&body).await;
        let verdict = require(paid_orders(&app).await.len() == 1, || {
            "the payer was not charged".to_owned()
        });
        let verdict = match verdict {
            Ok(()) => every_fen_is_in_the_rows(&app).await,
            wrong => wrong,
        };
        app.stop().await;
        verdict
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_that_is_sent_again_under_a_new_number_loses_what_the_first_one_took() {
    is_noticed(Mutation::NewNumberOnRepeat, async || {
        let app = TestApp::start().await;
        app.control
            .fault(json!({"provider": "alipay", "call": "create", "kind": "garbled"}))
            .await;
        // A notification that comes before the answer would say under which number the money is.
        app.control
            .fault(json!({"provider": "alipay", "kind": "drop"}))
            .await;
        let mut body = barcode("alipay", 0);
        body["wait"] = 0.into();
        app.client.pay(&body).await;
        nothing_is_sent(&app).await;
        let verdict = every_fen_is_in_the_rows(&app).await;
        app.stop().await;
        verdict
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_in_doubt_that_goes_elsewhere_is_told_to_have_failed_while_its_payer_has_paid() {
    is_noticed(Mutation::SwitchOnUnknownCharge, async || {
        let app = TestApp::start().await;
        app.control
            .fault(json!({"provider": "alipay", "call": "create", "kind": "garbled"}))
            .await;
        // A notification that comes before the answer would say under which number the money is.
        app.control
            .fault(json!({"provider": "alipay", "kind": "drop"}))
            .await;
        let mut body = barcode("alipay", 0);
        body["wait"] = 0.into();
        let payment = app.client.pay(&body).await.json();
        let told = Facts::of(&app)
            .await
            .told(payment["id"].as_str().unwrap())
            .await;
        let failed = told.iter().any(|kind| kind == "payment.failed");
        let paid = paid_orders(&app).await.len();
        app.stop().await;
        require(!(failed && paid == 1), || {
            format!("the merchant was told {told:?}, and the payer has paid")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_of_one_fen_passes_for_the_whole_amount_if_nobody_compares() {
    is_noticed(Mutation::NoAmountCheck, async || {
        let app = TestApp::start().await;
        let provider = Arc::new(Memory::new("alipay".parse().unwrap(), Ending::Close));
        let stand_in: Arc<dyn Provider> = provider.clone();
        app.app().directory.stand_in(&app.alipay, &stand_in);
        let payment = app.client.pay(&order()).await.expect(201);
        let one_fen = Capture {
            transaction_id: "T1".to_owned(),
            amount: Money::fen(1).unwrap(),
            payer_amount: None,
            payer: None,
            paid_at: None,
            payment_id: None,
            foreign_account: None,
            returns_by_itself: false,
        };
        provider.script_query(Scripted {
            done: true,
            answer: Some(QueryOutcome::Paid(one_fen)),
        });
        app.advance(31).await;
        let id = payment["id"].as_str().unwrap();
        let asked = app
            .client
            .until(id, |p| p["attempts"][0]["status"] == "captured")
            .await;
        app.stop().await;
        require(asked["status"] != "succeeded", || {
            format!("paid with {} of 8888 fen", asked["amount_captured"])
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_that_is_acknowledged_before_it_is_stored_is_lost_in_a_crash() {
    is_noticed(Mutation::AcknowledgeBeforeCommit, async || {
        // Nobody asks by himself: what is known of the money comes from the notification.
        let app = TestApp::with(&[("resolver.interval_ms", "3600000")]).await;
        app.client.route(&[&app.alipay]).await.expect(200);
        let payment = app.client.pay(&order()).await.expect(201);
        dies_at("notify_before_commit");
        app.control.pay(&payment).await;
        let began = Instant::now();
        let first = loop {
            if let Some(first) = app.control.notifications().await.into_iter().next() {
                break first;
            }
            assert!(began.elapsed() < PATIENCE, "no notification");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let acknowledged = first["answer"]["body"] == "success";
        let rows = Facts::of(&app).await.count("notifications").await;
        app.stop().await;
        require(!acknowledged || rows == 1, || {
            format!("acknowledged, and {rows} rows know of it")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_codes_are_alive_if_nobody_minds_a_second_live_attempt() {
    is_noticed(Mutation::NoUniqueLiveAttempt, async || {
        let app = TestApp::start().await;
        let payment = app.client.pay(&order()).await.expect(201);
        let path = format!("/v1/payments/{}/offers", payment["id"].as_str().unwrap());
        app.client
            .post(&path, &fresh("key"), &json!({"flow": "qr"}))
            .await;
        let live = Facts::of(&app)
            .await
            .count("attempts WHERE status = 'awaiting_payer'")
            .await;
        app.stop().await;
        require(live <= 1, || {
            format!("{live} attempts wait for the same payer")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_charges_twice_if_it_is_claimed_after_the_call() {
    is_noticed(Mutation::KeyAfterCall, async || {
        let app = TestApp::start().await;
        let slow =
            json!({"provider": "alipay", "call": "create", "kind": "slow", "latency_ms": 1500});
        app.control.fault(slow).await;
        let key = fresh("key");
        let first = {
            let (client, key) = (app.client.clone(), key.clone());
            tokio::spawn(async move {
                client
                    .post("/v1/payments", &key, &barcode("alipay", 0))
                    .await
            })
        };
        let began = Instant::now();
        while paid_orders(&app).await.is_empty() {
            assert!(
                began.elapsed() < PATIENCE,
                "the first charge does not arrive"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // While that answer is on its way, the till asks again: a new code was scanned, under the
        // same key.
        app.client
            .post("/v1/payments", &key, &barcode("alipay", 0))
            .await;
        first.await.unwrap();
        let kept = Facts::of(&app)
            .await
            .count("attempts WHERE disposition = 'kept'")
            .await;
        let paid = paid_orders(&app).await.len();
        app.stop().await;
        require((kept, paid) == (1, 1), || {
            format!("{paid} orders paid and {kept} kept under one key")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_key_gives_back_what_a_test_payment_took_if_the_mode_is_forgotten() {
    is_noticed(Mutation::MerchantWithoutMode, async || {
        let app = TestApp::start().await;
        app.accounts_for(&interlock::domain::Owner::of(app.merchant.clone(), true))
            .await;
        let live = app.live(&[interlock::api::auth::Scope::Refund]).await;
        let paid = app.paid().await;
        live.refund(paid["id"].as_str().unwrap(), 8888).await;
        let refunded: i64 = app
            .control
            .orders()
            .await
            .iter()
            .map(|order| order["refunded"].as_i64().unwrap())
            .sum();
        app.stop().await;
        require(refunded == 0, || {
            format!("a key of another mode has given back {refunded} fen")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_was_told_is_lost_if_an_answer_of_before_counts() {
    is_noticed(Mutation::BelieveTheLastWord, async || {
        let seen = paid_while_an_answer_is_on_its_way("wechatpay", "alipay").await;
        let status = &seen["attempts"][0]["status"];
        require(status == "captured", || format!("paid, told, and {status}"))
    })
    .await;
}

/// Which of the auditor's rules are about a broken one. What any other finds may be a consequence,
/// and is no proof.
fn signs(rule: Mutation) -> &'static [&'static str] {
    match rule {
        Mutation::SendBeforeCommit => &["durable_before_sent", "accepted_is_kept", "sent_once"],
        Mutation::NewNumberOnRepeat => &["durable_before_sent", "sent_once"],
        Mutation::SwitchOnUnknownCharge => &[
            "no_money_kept_beside",
            "books_agree",
            "told_one_end",
            "one_payment_an_order",
        ],
        Mutation::NoAmountCheck => &["books_agree", "kept_is_there"],
        Mutation::AcknowledgeBeforeCommit => &["acknowledged_is_recorded"],
        Mutation::NoUniqueLiveAttempt => &["never_two_alive", "ended_is_dead"],
        Mutation::KeyAfterCall => &[
            "one_payment_a_key",
            "one_payment_an_order",
            "same_key_same_bytes",
            "another_body_is_refused",
            "sent_once",
        ],
        // The shoppers of a drill have one key: whose things it may touch is found out by the
        // script above, and by `owners`.
        Mutation::MerchantWithoutMode => &[],
        Mutation::TrustEveryConnection => &[
            "accepted_is_kept",
            "durable_before_sent",
            "acknowledged_is_recorded",
        ],
        Mutation::WaitWithoutEnd => &["served_again", "comes_to_rest", "every_loop_goes_on"],
        Mutation::SleepByTheWallClock => &["jobs_go_on"],
        Mutation::ResolveOldestFirst => &["asked_at_their_own_times", "known_in_time"],
        Mutation::OneMerchantTrips => &["good_merchant_served"],
        Mutation::BelieveRedis => &["back_in_time"],
        Mutation::BelieveTheLastWord => &["books_agree", "no_money_kept_beside"],
    }
}

/// Rules that need a scenario of their own: which one, how many payments, and whether it takes a
/// PostgreSQL.
fn drilled() -> [(Mutation, &'static str, &'static str, bool); 7] {
    [
        (Mutation::TrustEveryConnection, "disk-full", "30", false),
        (Mutation::WaitWithoutEnd, "silence", "10", true),
        (Mutation::SleepByTheWallClock, "clock-set", "2", false),
        (Mutation::ResolveOldestFirst, "storm", "1500", false),
        (Mutation::OneMerchantTrips, "bad-neighbour", "100", false),
        (Mutation::BelieveRedis, "redis-lies", "12", false),
        (Mutation::BelieveTheLastWord, "late-money", "60", false),
    ]
}

/// Gateways in which a rule is broken may never come to rest, and the drill waits for that for a
/// while.
const UNTIL_GIVEN_UP: Duration = Duration::from_secs(900);

/// What the auditor says of a rule that is broken in the gateways, of the first seed up to 200 in
/// which it is about that rule.
async fn first_sign(rule: Mutation, begin: u64) -> Result<Value, Vec<Value>> {
    let own = drilled().into_iter().find(|(drilled, ..)| *drilled == rule);
    let (scenario, payments) = own.map_or(("swarm", "12"), |(_, scenario, payments, _)| {
        (scenario, payments)
    });
    let server = match own {
        Some((.., true)) => Some(Postgres::start(&[]).await),
        Some((.., false)) | None => None,
    };

    let lying = if scenario == "redis-lies" {
        Some(Redis::start().await)
    } else {
        None
    };
    let redis = lying.as_ref().map(Redis::url);
    let postgres = server.as_ref().map(|server| server.url.as_str());

    // A scenario that is about the rule must not need many seeds.
    let last_seed = if own.is_some() { 6 } else { 200 };
    let (mut from, mut beside) = (begin, Vec::new());

    while from <= last_seed {
        let (name, seeds) = (rule.to_string(), format!("{from}..{last_seed}"));
        let mut args = vec![
            "--scenario",
            scenario,
            "--seeds",
            &seeds,
            "--payments",
            payments,
            "--first",
        ];
        if own.is_some() {
            // What is about time or shares is not seen on a machine that is short of them.
            args.extend(["--jobs", "1"]);
        }
        if let Some(redis) = &redis {
            args.extend(["--redis", redis.as_str()]);
        }
        let drilled = crate::drill::drill_on(
            postgres,
            &args,
            &[(mutation::VARIABLE, &name)],
            UNTIL_GIVEN_UP,
        )
        .await;
        let violations = drilled.line["violations"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let is_about =
            |violation: &&Value| signs(rule).iter().any(|sign| violation["rule"] == *sign);
        if let Some(sign) = violations.iter().find(is_about) {
            return Ok(sign.clone());
        }
        let Some(last) = violations
            .iter()
            .filter_map(|violation| violation["seed"].as_u64())
            .max()
        else {
            break;
        };
        from = last + 1;
        beside.extend(violations);
    }

    Err(beside)
}

async fn is_found(rule: Mutation, begin: u64) {
    let sign = first_sign(rule, begin)
        .await
        .expect("nobody has noticed that it was broken");
    println!(
        "{rule}: seed {}, {}: {}",
        sign["seed"], sign["rule"], sign["found"]
    );
}

/// The same by the drill: a rule is broken in the gateways that it starts, and what it says tells.
/// It begins shortly before a seed that has drawn what shows it; those before were drilled often
/// enough.
macro_rules! found_by_a_swarm {
    ($($test:ident: $rule:ident from $begin:literal,)*) => {
        const FOUND_BY_A_SWARM: &[Mutation] = &[$(Mutation::$rule),*];
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                is_found(Mutation::$rule, $begin).await;
            }
        )*
    };
}

found_by_a_swarm! {
    a_swarm_finds_a_charge_sent_before_its_row: SendBeforeCommit from 70,
    a_swarm_finds_a_new_number_on_a_repeat: NewNumberOnRepeat from 62,
    a_swarm_finds_a_charge_in_doubt_given_up: SwitchOnUnknownCharge from 115,
    a_swarm_finds_an_amount_that_is_not_compared: NoAmountCheck from 148,
    a_swarm_finds_an_acknowledgement_before_the_commit: AcknowledgeBeforeCommit from 24,
    a_swarm_finds_a_second_live_attempt: NoUniqueLiveAttempt from 36,
    a_swarm_finds_a_key_claimed_after_the_call: KeyAfterCall from 110,
}

#[test]
fn every_rule_that_a_drill_can_see_broken_is_found_by_one() {
    let has_its_own = |rule: &Mutation| drilled().iter().any(|(drilled, ..)| drilled == rule);
    let rest: HashSet<Mutation> = Mutation::iter()
        .filter(|rule| !signs(*rule).is_empty() && !has_its_own(rule))
        .collect();
    assert_eq!(rest, FOUND_BY_A_SWARM.iter().copied().collect());
}

/// Rules that only a scenario of their own finds, one by one: each takes its minutes.
mod by_its_own_scenario {
    use std::time::Duration;

    use super::{Mutation, is_found, is_noticed, require};

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "takes its scenario's minutes"]
    async fn charges_in_doubt_wait_behind_expired_codes_of_a_dead_provider_if_what_is_oldest_comes_first()
     {
        is_noticed(Mutation::ResolveOldestFirst, async || {
            let decided = crate::urgency::charges_beside_expired_codes(250, 4).await;
            require(decided < Duration::from_secs(9), || {
                format!("the charges were decided after {decided:?}")
            })
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "takes its scenario's minutes"]
    async fn a_connection_that_is_trusted_whatever_has_happened_on_it() {
        is_found(Mutation::TrustEveryConnection, 1).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "takes its scenario's minutes"]
    async fn a_database_that_is_waited_for_without_an_end() {
        is_found(Mutation::WaitWithoutEnd, 1).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "takes its scenario's minutes"]
    async fn a_job_that_sleeps_by_the_wall_clock() {
        is_found(Mutation::SleepByTheWallClock, 1).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "takes its scenario's minutes"]
    async fn what_is_oldest_before_what_is_urgent() {
        is_found(Mutation::ResolveOldestFirst, 1).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "takes its scenario's minutes"]
    async fn a_provider_taken_out_by_one_merchant() {
        is_found(Mutation::OneMerchantTrips, 1).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "takes its scenario's minutes"]
    async fn a_redis_that_is_believed() {
        is_found(Mutation::BelieveRedis, 1).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "takes its scenario's minutes"]
    async fn an_answer_that_is_believed_although_the_money_was_told() {
        is_found(Mutation::BelieveTheLastWord, 1).await;
    }
}

//! What booking costs on the path of a payment: the same changes with and without money, side by
//! side in one run. Prints and asserts nothing about time: `cargo nextest run --run-ignored only
//! what_booking_costs --no-capture`.

use std::time::{Duration, Instant};

use interlock::domain::Aggregate;
use interlock::domain::attempt::{Disposition, Event, State};
use interlock::store::Change;
use providers::money::Money;

use crate::database::{Bench, NOW};

const PAYMENTS: u32 = 2_000;
const AT_ONCE: usize = 64;
const ROUNDS: usize = 6;

/// A payment's life as the store sees it: made, shown, paid. Returns how long all of them took, and
/// the last commit alone.
async fn lives(bench: &Bench, books: bool) -> (Duration, Duration) {
    let payments: Vec<Aggregate> = (0..PAYMENTS).map(|_| bench.payment()).collect();
    let began = Instant::now();
    let made = each(bench, payments, Change::create).await;
    let shown = each(bench, made, |before| {
        let mut after = before.clone();
        after.attempts[0].apply(Event::Shown).unwrap();
        Change::update(&before, after, NOW)
    })
    .await;

    let paying = Instant::now();
    let paid = each(bench, shown, |before| {
        let mut after = before.clone();
        after
            .payment
            .apply(interlock::domain::payment::Event::Captured)
            .unwrap();
        let attempt = &mut after.attempts[0];
        attempt.apply(Event::Capture).unwrap();
        attempt.disposition = Some(Disposition::Kept);
        // The same columns are written; without an amount nothing is booked.
        attempt.captured = books.then(|| Money::fen(8888).unwrap());
        Change::update(&before, after, NOW)
    })
    .await;

    assert!(
        paid.iter()
            .all(|payment| payment.attempts[0].status == State::Captured)
    );

    (began.elapsed(), paying.elapsed())
}

async fn each(
    bench: &Bench,
    all: Vec<Aggregate>,
    change: impl Fn(Aggregate) -> Change,
) -> Vec<Aggregate> {
    use futures_util::StreamExt as _;
    let commits = all.into_iter().map(|aggregate| {
        let change = change(aggregate);
        let after = change.after().clone();
        let store = bench.store.clone();
        async move {
            store.commit(change).await.unwrap();
            after
        }
    });
    futures_util::stream::iter(commits)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of half a minute"]
async fn what_booking_costs() {
    let bench = Bench::new().await;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    lives(&bench, true).await;
    for _ in 0..ROUNDS {
        without.push(lives(&bench, false).await);
        with.push(lives(&bench, true).await);
    }
    let median = |mut all: Vec<Duration>| {
        all.sort();
        all[all.len() / 2]
    };

    for (what, pick) in [("a whole life", 0), ("the commit that captures", 1)] {
        let of = |all: &[(Duration, Duration)]| {
            median(
                all.iter()
                    .map(|(life, last)| if pick == 0 { *life } else { *last })
                    .collect(),
            )
        };
        let (with, without) = (of(&with), of(&without));
        let each = |all: Duration| (all / PAYMENTS).as_micros();
        println!(
            "{what}: {} us without booking, {} us with it: {:.2} times as long",
            each(without),
            each(with),
            with.as_secs_f64() / without.as_secs_f64()
        );
    }

    bench.close().await;
}

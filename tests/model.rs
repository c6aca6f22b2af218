//! Attempts, closing and late money as a state machine of proptest's: the gateway's own code, on
//! the real database, driven through interleavings of workers, crashes, payers and providers that
//! chance picks, against a small model of the world.
//!
//! `INTERLOCK_MODEL_CASES` says how many cases each test plays, `INTERLOCK_MODEL_SEED` from which
//! seed. The suite always plays the same ones.

mod ground;
mod rules;
mod seat;
mod shop;
mod stand_in;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

use self::ground::{ground, runtime};
use self::shop::{Fate, How, Mood};
use self::world::World;

const CASES: u32 = 100;
const MOVES: std::ops::Range<usize> = 10..70;

/// How a case begins.
#[derive(Debug, Clone)]
pub struct Start {
    pub is_charge: bool,
    /// Which of the providers is asked first.
    pub first: usize,
    pub mood: Mood,
    /// Whether what providers tell comes in at the end, when it has not before; or never.
    pub hears: bool,
}

/// What happens next. Numbers name one of those that are there at that moment.
#[derive(Debug, Clone)]
pub enum Move {
    Go(usize, Fate),
    Crash(usize, bool),
    Arrives(usize),
    Pays(usize, How),
    Opens(usize),
    Notify(usize),
    Resolve,
    Cancel,
    AnotherOffer,
    Wait(u64),
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Answered),
        3 => Just(Fate::AnswerLost),
        2 => Just(Fate::Wanders),
        1 => Just(Fate::NotSent),
        2 => Just(Fate::Refused),
        1 => Just(Fate::Declined),
    ]
}

fn moves(is_charge: bool) -> BoxedStrategy<Move> {
    let which = 0..8_usize;
    let how = prop_oneof![9 => Just(How::Plainly), 2 => Just(How::ShortOfAFen),
        2 => Just(How::AllTheSame)];
    let seconds = prop_oneof![
        4 => Just(1_u64), 3 => Just(6), 3 => Just(16), 3 => Just(31), 3 => Just(61), 2 => Just(130),
        1 => Just(301), 1 => Just(500),
    ];

    prop_oneof![
        20 => (which.clone(), fates()).prop_map(|(which, fate)| Move::Go(which, fate)),
        2 => (which.clone(), any::<bool>()).prop_map(|(which, sent)| Move::Crash(which, sent)),
        2 => which.clone().prop_map(Move::Arrives),
        3 => (which.clone(), how).prop_map(|(which, how)| Move::Pays(which, how)),
        1 => which.clone().prop_map(Move::Opens),
        3 => which.prop_map(Move::Notify),
        6 => Just(Move::Resolve),
        1 => Just(Move::Cancel),
        (if is_charge { 0 } else { 2 }) => Just(Move::AnotherOffer),
        4 => seconds.prop_map(Move::Wait),
    ]
    .boxed()
}

/// What is known without looking: how the case began, and whether the merchant has asked to cancel.
#[derive(Debug, Clone)]
pub struct Wishes {
    start: Start,
    canceled: bool,
}

/// Cases of charges, or of offers.
struct Case<const IS_CHARGE: bool>;

impl<const IS_CHARGE: bool> ReferenceStateMachine for Case<IS_CHARGE> {
    type State = Wishes;
    type Transition = Move;

    fn init_state() -> BoxedStrategy<Wishes> {
        let mood = prop_oneof![Just(Mood::Pays), Just(Mood::Confirms)];
        (0..3_usize, mood, any::<bool>())
            .prop_map(|(first, mood, hears)| Start {
                is_charge: IS_CHARGE,
                first,
                mood,
                hears,
            })
            .prop_map(|start| Wishes {
                start,
                canceled: false,
            })
            .boxed()
    }

    fn transitions(_: &Wishes) -> BoxedStrategy<Move> {
        moves(IS_CHARGE)
    }

    fn apply(mut wishes: Wishes, next: &Move) -> Wishes {
        wishes.canceled |= matches!(next, Move::Cancel);
        wishes
    }

    fn preconditions(wishes: &Wishes, next: &Move) -> bool {
        // Canceling once more changes nothing.
        !(wishes.canceled && matches!(next, Move::Cancel))
    }
}

impl<const IS_CHARGE: bool> StateMachineTest for Case<IS_CHARGE> {
    type SystemUnderTest = World;
    type Reference = Self;

    fn init_test(wishes: &Wishes) -> World {
        let ground = ground();
        runtime().block_on(World::new(ground, wishes.start.clone()))
    }

    fn apply(mut world: World, _: &Wishes, next: Move) -> World {
        watched(&mut world, async |world| match next {
            Move::Go(which, fate) => world.go(which, fate).await,
            Move::Crash(which, sent) => world.crash(which, sent).await,
            Move::Arrives(which) => world.one_arrives(which).await,
            Move::Pays(which, how) => world.payer_pays(which, how).await,
            Move::Opens(which) => world.payer_opens(which),
            Move::Notify(which) => world.notify(which).await,
            Move::Resolve => world.resolve().await,
            Move::Cancel => world.cancel().await,
            Move::AnotherOffer => world.another_offer().await,
            Move::Wait(seconds) => world.wait(seconds),
        });
        world
    }

    fn teardown(mut world: World, _: Wishes) {
        watched(&mut world, async |world| world.settle().await);
        ENDS.lock().extend(world.ends());
        runtime().block_on(world.leave());
    }
}

/// How many cases were begun, and which was the first that broke a rule.
static PLAYED: AtomicU32 = AtomicU32::new(0);
static BROKEN_IN: AtomicU32 = AtomicU32::new(0);
/// What happened in the case that failed last.
static STORY: Mutex<String> = Mutex::new(String::new());

/// What payments, attempts and money have come to, for whoever wonders what the cases reach.
static ENDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn ends() -> String {
    let mut counts = BTreeMap::new();
    for end in ENDS.lock().drain(..) {
        *counts.entry(end).or_insert(0_u32) += 1;
    }
    counts
        .into_iter()
        .map(|(end, count)| format!("{end} {count}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Does something in a world; if it breaks a rule, its story is kept.
fn watched(world: &mut World, what: impl AsyncFnOnce(&mut World)) {
    let done = catch_unwind(AssertUnwindSafe(|| runtime().block_on(what(world))));
    if let Err(panic) = done {
        let _ = BROKEN_IN.compare_exchange(
            0,
            PLAYED.load(Ordering::Relaxed),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        *STORY.lock() = world.story();
        runtime().block_on(world.forget());
        resume_unwind(panic);
    }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

fn play<const IS_CHARGE: bool>() {
    let seed = variable("INTERLOCK_MODEL_SEED").unwrap_or(1);
    let config = Config {
        cases: variable("INTERLOCK_MODEL_CASES").unwrap_or(CASES),
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 300,
        failure_persistence: None,
        ..Config::default()
    };

    ground();
    let began = Instant::now();
    PLAYED.store(0, Ordering::Relaxed);

    // Every case on the way to the smallest one would print its own panic.
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = TestRunner::new(config.clone()).run(
        &Case::<IS_CHARGE>::sequential_strategy(MOVES),
        |(wishes, moves, seen)| {
            PLAYED.fetch_add(1, Ordering::Relaxed);
            Case::<IS_CHARGE>::test_sequential(config.clone(), wishes, moves, seen);
            Ok(())
        },
    );

    std::panic::set_hook(loud);
    let (played, broken_in) = (
        PLAYED.load(Ordering::Relaxed),
        BROKEN_IN.load(Ordering::Relaxed),
    );

    println!(
        "{played} cases from seed {seed} in {} s: {}",
        began.elapsed().as_secs(),
        ends()
    );

    if let Err(error) = found {
        panic!(
            "case {broken_in} breaks a rule. The smallest one like it: {error}\n{}",
            STORY.lock()
        );
    }
}

/// A whole gateway is opened and driven on the thread of the test, without optimisation: two
/// megabytes are too few.
fn on_a_deep_stack(play: fn()) {
    let playing = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(play)
        .unwrap();
    if let Err(broken) = playing.join() {
        resume_unwind(broken);
    }
}

#[test]
fn offers_are_paid_once_whatever_workers_payers_and_providers_do() {
    on_a_deep_stack(play::<false>);
}

#[test]
fn charges_are_made_once_whatever_workers_payers_and_providers_do() {
    on_a_deep_stack(play::<true>);
}

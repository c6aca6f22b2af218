//! What goes wrong in a drill: scenarios, each with a page of explanation, and the plan that a
//! scenario draws from a seed. Everything in a plan follows from the seed; what meets what is up to
//! the machine. Pure.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

mod bad_neighbour;
mod clock_set;
mod disk_full;
mod late_money;
mod odd_ways;
mod plan;
mod redis_lies;
mod silence;
mod storm;

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;
use rand::seq::IndexedRandom as _;
use serde_json::json;

pub use self::plan::{Blow, Habits, Plan, Scenario, Set, Storm};
use self::plan::{down, fault, names};
use super::proxy::LinkState;
use super::receiver::Manners;
use crate::testing::kill;

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "swarm",
        about: "Everything at once, drawn anew from every seed: some of the faults of every \
                provider and of notifications, with strengths between hardly and always; gateways \
                killed at any moment and at named points, stopped and continued, with clocks that \
                are ten minutes off; ways to Redis, database, providers and callbacks cut or \
                stalled, a Redis that has lost everything, a database that restarts or takes no \
                writes; answers to questions that lag behind, or say closed or another amount; \
                shoppers who come all at once, retry with the same key, with another key and with \
                another body, change their minds, pay twice, late, with coupons, or what they were \
                never shown; refunds that race, fail, lack funds, or follow too soon; providers \
                that answer in GBK, change keys, send probes, say \"call again\" or \"a success \
                with a defect\"; receivers of webhooks that are down, slow or redirect.",
        payments: 50,
        needs_redis: false,
        draw: swarm,
    },
    Scenario {
        name: "double-eleven",
        about: "The busiest night: four of five calls to one provider end without an answer, \
                notifications come 15 seconds late, and every payer submits twice. Then the \
                provider recovers. Counts how many payments whose payer would pay succeeded; \
                `--no-switchover` shows the same night without moving payments to another \
                provider.",
        payments: 200,
        needs_redis: false,
        draw: double_eleven,
    },
    Scenario {
        name: "lost-answers",
        about: "Calls do what they should, and their answers are lost, garbled, unsigned or \
                wrongly signed, at all providers and on all calls; connections to providers are \
                cut, or what is sent on them arrives when nobody waits for it any more. Nothing \
                may be believed, done twice, or declared failed.",
        payments: 60,
        needs_redis: false,
        draw: lost_answers,
    },
    Scenario {
        name: "late-money",
        about: "Money that comes when nobody waits for it: on an offer that was replaced, canceled \
                or has expired, on one that was never shown, on two at once; and notifications \
                that are dropped, late, doubled and overtake each other. Each fen ends kept once, \
                or given back once.",
        payments: 60,
        needs_redis: false,
        draw: late_money::draw,
    },
    Scenario {
        name: "crash-everywhere",
        about: "kill -9 at every named point of the path, each at its first, second and third \
                occasion; one point a run, in the order of the list, whatever the seed. The next \
                gateway finishes what was half done, with clients that come back and with some \
                that do not.",
        payments: 50,
        needs_redis: false,
        draw: crash_everywhere,
    },
    Scenario {
        name: "database-trouble",
        about: "The database's connections are cut again and again, before, inside and after \
                commits, and stall for a while; it is restarted, and for a while it cannot be \
                written to. (The embedded one has no connections to cut: there somebody else holds \
                its lock, and a restart kills the gateway.)",
        payments: 60,
        needs_redis: false,
        draw: database_trouble,
    },
    Scenario {
        name: "disk-full",
        about: "The disk of the database is full for a moment, again and again, sometimes with a \
                little room left. Whatever was answered with 201 or 202 has its row, and once \
                there is room again payments are taken again.",
        payments: 60,
        needs_redis: false,
        draw: disk_full::draw,
    },
    Scenario {
        name: "silence",
        about: "Connections to the database, to Redis, to providers and from them fall silent for \
                ever, at each kind of statement, before it is heard and after: nothing is closed, \
                and new ones work. On each gateway payments are taken again within 15 seconds, \
                every loop goes on, and SIGTERM ends it although all connections to its database \
                are silent.",
        payments: 60,
        needs_redis: false,
        draw: silence::draw,
    },
    Scenario {
        name: "redis-gone",
        about: "Redis is cut off, stalled, and emptied, while a provider dies and comes back. \
                Payments must not notice.",
        payments: 60,
        needs_redis: true,
        draw: redis_gone,
    },
    Scenario {
        name: "all-down",
        about: "No provider can be reached for a while. Offers wait and go on by themselves, or \
                expire and say so; charges fail at once and take nothing.",
        payments: 60,
        needs_redis: false,
        draw: all_down,
    },
    Scenario {
        name: "flapping",
        about: "One provider is up for three seconds and down for three, again and again.",
        payments: 120,
        needs_redis: false,
        draw: flapping,
    },
    Scenario {
        name: "forged",
        about: "Somebody forges notifications with other amounts before the real ones, and sends \
                the real ones again; somebody else sends notifications and requests of his own \
                making to the gateway all the time. Nothing that is forged is believed, or changes \
                a row.",
        payments: 60,
        needs_redis: false,
        draw: forged,
    },
    clock_set::SCENARIO,
    storm::SCENARIO,
    Scenario {
        name: "redis-lies",
        about: "Redis is there and lies, while a provider dies and is mended: each of its keys is \
                lost, swapped, of another type, put back from an old copy, frozen, or holds what \
                another installation or a program to come has written, with counters and times \
                that cannot be. The provider is back on every gateway 30 seconds after it was \
                mended, whatever Redis says.",
        payments: 60,
        needs_redis: true,
        draw: redis_lies::draw,
    },
    Scenario {
        name: "bad-neighbour",
        about: "Two hostile merchants beside the one whose payers pay: accounts that believe a \
                wrong key of their provider, accounts at an address that answers nothing, floods \
                of payments and of bad requests, receivers that hang. No provider is in trouble. \
                Each seed is run twice, without the neighbour and beside it, with a hundred \
                payments at least: of those whose payer would pay, at most one percentage point \
                fewer succeed beside it.",
        payments: 100,
        needs_redis: false,
        draw: bad_neighbour::draw,
    },
];

/// The scenario of this name.
#[must_use]
pub fn named(name: &str) -> Option<Scenario> {
    SCENARIOS
        .iter()
        .copied()
        .find(|scenario| scenario.name == name)
}

/// Kinds of faults of calls that may strike with any strength.
const CALLS: &[&str] = &[
    "reset",
    "timeout_before",
    "timeout_after",
    "http_500",
    "rate_limited",
    "garbled",
    "unsigned",
    "bad_signature",
    "undecided",
    "slow",
    "drip",
    "behind",
    "says_closed",
];
const NOTIFICATIONS: &[&str] = &["drop", "delay", "duplicate", "reorder", "forge", "misstate"];

const WAYS_TO_A_DATABASE: &[LinkState] = &[
    LinkState::Cut,
    LinkState::CutBeforeCommit,
    LinkState::Stalled,
    LinkState::CutAfterCommit,
];

/// How wrong a gateway's clock gets.
const SKEW_S: i64 = 600;

fn point(rng: &mut Rng) -> String {
    let name = kill::POINTS
        .get(rng.random_range(0..kill::POINTS.len()))
        .copied()
        .unwrap_or_default();
    format!("{name}:{}", rng.random_range(1..6))
}

fn swarm(plan: &mut Plan, rng: &mut Rng) {
    let most = |rng: &mut Rng, permille: u32| {
        if rng.random_bool(0.5) {
            rng.random_range(0..=permille)
        } else {
            0
        }
    };
    plan.habits = Habits {
        twice: most(rng, 500),
        strange: most(rng, 300),
        cancel: most(rng, 300),
        refund: most(rng, 500),
        by_hand: most(rng, 200),
        barcode: rng.random_range(0..600),
        other_offer: most(rng, 400),
        both: most(rng, 800),
        never_pays: most(rng, 300),
        late: most(rng, 600),
    };

    // Now and then ten times as many come at once.
    plan.at_once = if rng.random_range(0..6) == 0 {
        plan.payments
    } else {
        rng.random_range(2..16)
    };

    plan.forgeries = most(rng, 20);
    plan.hurry_s = *[1, 3, 10, 30].choose(rng).unwrap_or(&3);
    plan.leaks = most(rng, 300);
    plan.too_late = most(rng, 500);
    plan.manners = if rng.random_bool(0.5) {
        Manners::Bad(rng.random_range(0..700))
    } else {
        Manners::Good
    };

    for provider in names() {
        troubles(plan, provider, rng);
    }
    match rng.random_range(0..8) {
        0 | 1 => {
            let one = names().nth(rng.random_range(0..3)).unwrap_or("alipay");
            plan.blows.push(down(
                one,
                rng.random_range(0..1_500),
                rng.random_range(300..2_500),
            ));
        }
        2 => {
            let (at, ms) = (rng.random_range(0..1_500), rng.random_range(300..2_500));
            plan.blows.extend(names().map(|name| down(name, at, ms)));
        }
        3 => flap(plan, 2),
        _ => {}
    }

    for _ in 0..rng.random_range(0..5) {
        let (at, gateway) = (
            rng.random_range(0..2_500),
            rng.random_range(0..plan.gateways.max(1)),
        );
        let ms = rng.random_range(20..600);
        let mood = if rng.random_bool(0.5) {
            LinkState::Cut
        } else {
            LinkState::Stalled
        };
        let way = *WAYS_TO_A_DATABASE.choose(rng).unwrap_or(&LinkState::Cut);
        let blow = match rng.random_range(0..12) {
            0 | 1 => Blow::Kill(gateway),
            2..=4 => Blow::Arm(gateway, point(rng)),
            5 => Blow::Freeze(gateway, ms),
            // One that is killed and has kept nothing.
            6 if rng.random_range(0..3) == 0 => {
                plan.blows.push((at + ms, Blow::Flush));
                Blow::Redis(LinkState::Cut, ms)
            }
            6 => Blow::Redis(mood, ms),
            7 => Blow::Database(way, ms),
            8 => Blow::Restart(ms),
            9 => Blow::ReadOnly(ms),
            10 => Blow::Skew(
                gateway,
                if rng.random_bool(0.5) {
                    SKEW_S
                } else {
                    -SKEW_S
                },
            ),
            _ => Blow::Callbacks(mood, ms),
        };
        plan.blows.push((at, blow));
    }

    if rng.random_range(0..4) == 0 {
        plan.blows.push((
            rng.random_range(0..2_500),
            Blow::Leap(rng.random_range(60..240)),
        ));
    }

    for provider in names() {
        for _ in 0..rng.random_range(0_u32..6).saturating_sub(3) {
            let mood = if rng.random_bool(0.5) {
                LinkState::Cut
            } else {
                LinkState::Stalled
            };
            plan.blows.push((
                rng.random_range(0..2_500),
                Blow::Provider(provider, mood, rng.random_range(5..700)),
            ));
        }
    }
}

/// What goes wrong at one provider.
fn troubles(plan: &mut Plan, provider: &str, rng: &mut Rng) {
    for _ in 0..rng.random_range(0..4) {
        let kind = CALLS.choose(rng).copied().unwrap_or("reset");
        let mut body = fault(
            provider,
            kind,
            rng.random_range(10..600),
            rng.random_range(0..1_000_000),
        );
        if rng.random_bool(0.5) && !matches!(kind, "behind" | "says_closed") {
            let calls = [
                "create",
                "query",
                "refund",
                "close",
                "reverse",
                "query_refund",
            ];
            body["call"] = (*calls.choose(rng).unwrap_or(&"create")).into();
        }
        plan.faults.push(body);
    }

    if rng.random_range(0..8) == 0 {
        plan.faults.push(fault(
            provider,
            "other_amount",
            rng.random_range(10..200),
            rng.random_range(0..1_000_000),
        ));
    }

    for _ in 0..rng.random_range(0..3) {
        let kind = NOTIFICATIONS.choose(rng).copied().unwrap_or("drop");
        plan.faults.push(fault(
            provider,
            kind,
            rng.random_range(10..800),
            rng.random_range(0..1_000_000),
        ));
    }

    odd_ways::draw(plan, provider, rng);
    if rng.random_range(0..4) == 0 {
        let result = *["closed", "abnormal", "no_funds"]
            .choose(rng)
            .unwrap_or(&"no_funds");
        plan.refund_ends
            .push(json!({"provider": provider, "result": result, "count": rng.random_range(1..4)}));
    }
}

fn double_eleven(plan: &mut Plan, rng: &mut Rng) {
    plan.habits = Habits {
        twice: 1_000,
        ..Habits::default()
    };
    plan.at_once = 24;
    plan.hurry_s = 1;
    plan.spread_ms = 3_000;
    // Whoever looks at a phone without a code for some seconds has gone by then.
    plan.blows.push((8_000, Blow::Mend));
    plan.faults.push(fault(
        "alipay",
        "timeout_after",
        800,
        rng.random_range(0..1_000_000),
    ));
    plan.faults
        .extend(names().map(|name| fault(name, "delay", 1_000, 1)));
}

fn lost_answers(plan: &mut Plan, rng: &mut Rng) {
    for provider in names() {
        for kind in ["timeout_after", "garbled", "unsigned", "bad_signature"] {
            plan.faults.push(fault(
                provider,
                kind,
                rng.random_range(50..200),
                rng.random_range(0..1_000_000),
            ));
        }
    }

    plan.spread_ms = 1_500;
    for n in 0..9 {
        let provider = names().nth(n % 3).unwrap_or("alipay");
        let mood = if rng.random_bool(0.5) {
            LinkState::Cut
        } else {
            LinkState::Stalled
        };
        let at = 150 * u64::try_from(n).unwrap_or(0) + rng.random_range(0..150);
        plan.blows
            .push((at, Blow::Provider(provider, mood, rng.random_range(5..700))));
    }
}

fn crash_everywhere(plan: &mut Plan, rng: &mut Rng) {
    // Seeds count through the points, three occasions each.
    let at = usize::try_from(plan.seed.saturating_sub(1)).unwrap_or(0);
    let name = kill::POINTS
        .get((at / 3) % kill::POINTS.len())
        .copied()
        .unwrap_or_default();

    plan.habits = Habits {
        twice: 200,
        cancel: 500,
        refund: 600,
        barcode: 500,
        other_offer: 600,
        both: 900,
        late: 300,
        ..Habits::default()
    };

    plan.leaks = 300;
    plan.hurry_s = 10;
    plan.blows
        .push((0, Blow::Arm(0, format!("{name}:{}", at % 3 + 1))));
    for provider in names() {
        plan.faults.push(fault(
            provider,
            "timeout_after",
            250,
            rng.random_range(0..1_000_000),
        ));
    }

    // Most go on over the next route at once, where offers can be closed that nobody has opened.
    let busy = |call: &str| {
        json!({"provider": "alipay", "kind": "rate_limited", "call": call,
        "probability": 0.6})
    };

    plan.faults.extend(["create", "close"].map(busy));
}

fn database_trouble(plan: &mut Plan, rng: &mut Rng) {
    for n in 0..12 {
        let way = WAYS_TO_A_DATABASE
            .get(n % WAYS_TO_A_DATABASE.len())
            .copied()
            .unwrap_or(LinkState::Cut);
        let at = 100 + u64::try_from(n).unwrap_or(0) * 200 + rng.random_range(0..150);
        plan.blows
            .push((at, Blow::Database(way, rng.random_range(5..120))));
    }
    plan.blows.push((
        rng.random_range(300..900),
        Blow::Restart(rng.random_range(20..400)),
    ));
    plan.blows.push((
        rng.random_range(1_200..2_000),
        Blow::ReadOnly(rng.random_range(100..600)),
    ));
    plan.spread_ms = 2_000;
}

fn redis_gone(plan: &mut Plan, rng: &mut Rng) {
    plan.blows.push(down("alipay", 200, 2_300));
    for (at, blow) in [
        (300, Blow::Redis(LinkState::Cut, 400)),
        (900, Blow::Flush),
        (1_200, Blow::Redis(LinkState::Stalled, 900)),
        (2_200, Blow::Flush),
    ] {
        plan.blows.push((at + rng.random_range(0..50), blow));
    }
}

fn all_down(plan: &mut Plan, rng: &mut Rng) {
    let (at, ms) = (rng.random_range(100..300), rng.random_range(1_200..2_300));
    plan.blows.extend(names().map(|name| down(name, at, ms)));
}

fn flapping(plan: &mut Plan, _: &mut Rng) {
    flap(plan, 3);
    plan.spread_ms = 18_000;
}

/// Three seconds up, three down.
fn flap(plan: &mut Plan, times: u64) {
    plan.blows
        .extend((0..times).map(|n| down("alipay", 1_000 + n * 6_000, 3_000)));
}

fn forged(plan: &mut Plan, rng: &mut Rng) {
    for provider in names() {
        plan.faults.push(fault(
            provider,
            "forge",
            700,
            rng.random_range(0..1_000_000),
        ));
        plan.faults.push(fault(
            provider,
            "misstate",
            200,
            rng.random_range(0..1_000_000),
        ));
        plan.faults.push(fault(
            provider,
            "duplicate",
            300,
            rng.random_range(0..1_000_000),
        ));
    }
    plan.forgeries = 100;
    plan.spread_ms = 2_000;
}

#[cfg(test)]
mod tests;

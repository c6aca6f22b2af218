//! What a plan holds, and what scenarios draw it with.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::fmt;

use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus as Rng;
use serde_json::{Value, json};

use crate::drill::lies::Lie;
use crate::drill::proxy::LinkState;
use crate::drill::receiver::Manners;

/// What shoppers and payers do, each so many times of a thousand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Habits {
    /// Ask, and pay, twice.
    pub twice: u32,
    /// Ask under another key, and under the same key for something else.
    pub strange: u32,
    /// Cancel, before or after they have paid.
    pub cancel: u32,
    /// Give money back, in parts that race.
    pub refund: u32,
    /// Are given some money back by somebody in the provider's console.
    pub by_hand: u32,
    /// Have their own code read.
    pub barcode: u32,
    /// Want another code, after the first was shown.
    pub other_offer: u32,
    /// Pay both of them.
    pub both: u32,
    /// Never pay.
    pub never_pays: u32,
    /// Pay late.
    pub late: u32,
}

/// A blow: something that happens to the installation itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL.
    Kill(usize),
    /// SIGKILL when the n-th worker comes to a point.
    Arm(usize, String),
    /// SIGSTOP for so many milliseconds of real time, while a minute goes by on all clocks.
    Freeze(usize, u64),
    /// The clock of one gateway is wrong by so many seconds, until everything is mended.
    Skew(usize, i64),
    /// The way to Redis.
    Redis(LinkState, u64),
    /// Redis forgets everything.
    Flush,
    /// Redis says what is not so.
    Lie(Lie),
    /// The way to the database. The embedded one has none: somebody else holds its lock for so
    /// long, or for much longer when it stalls.
    Database(LinkState, u64),
    /// The database ends all sessions and takes no new ones for so many milliseconds; gateways on
    /// the embedded one are killed instead.
    Restart(u64),
    /// Nothing can be written for so many milliseconds; sessions end before and after.
    ReadOnly(u64),
    /// The way of providers to us.
    Callbacks(LinkState, u64),
    /// The way to a provider. What is held arrives when the way is open again, even if nobody waits
    /// for it any more.
    Provider(&'static str, LinkState, u64),
    /// The disk of the database has room for so many bytes, for so many milliseconds.
    DiskFull(u64, u64),
    /// All clocks leap by so many seconds.
    Leap(u64),
    /// All faults are mended.
    Mend,
}

/// What happens in one run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Of which scenario.
    pub scenario: &'static str,
    /// Everything follows from it.
    pub seed: u64,
    /// Payments.
    pub payments: usize,
    /// Shoppers at the same time.
    pub at_once: usize,
    /// They come over so many milliseconds of real time.
    pub spread_ms: u64,
    /// How often a second somebody sends what is forged.
    pub forgeries: u32,
    /// What they do.
    pub habits: Habits,
    /// How webhooks are received.
    pub manners: Manners,
    /// From the beginning: bodies of `PUT /faults`.
    pub faults: Vec<Value>,
    /// How refunds end: bodies of `PUT /refunds`.
    pub refund_ends: Vec<Value>,
    /// How payments end: bodies of `PUT /payments`.
    pub payment_ends: Vec<Value>,
    /// When, in milliseconds of real time from the beginning, and what.
    pub blows: Vec<(u64, Blow)>,
    /// Of a thousand orders that a provider has and nobody was shown, so many are paid by somebody
    /// all the same.
    pub leaks: u32,
    /// Of a thousand orders whose time is over, so many are paid where that is possible: their
    /// provider gives it back.
    pub too_late: u32,
    /// All clocks move on by up to so many seconds, several times a second.
    pub hurry_s: u64,
    /// The machines' clocks are set so, one time after the other; a payment is paid after each.
    pub sets: Vec<Set>,
    /// A storm instead of shoppers.
    pub storm: Option<Storm>,
    /// Whether several gateways are wanted.
    pub gateways: usize,
    /// Whether a payment may go to another provider.
    pub switchover: bool,
    /// Whether the database lies on a small disk of its own.
    pub small_disk: bool,
    /// Whether somebody pays at each gateway all the time, to see for how long that is not
    /// possible.
    pub probes: bool,
    /// Whether the ways to the database are silent when the gateways are told to stop.
    pub silent_stop: bool,
    /// Trouble lasts no longer than so many seconds of real time.
    pub lasts_s: u64,
    /// A provider that has to be back on every gateway within 30 s after everything but Redis was
    /// mended.
    pub returns: Option<&'static str>,
    /// Whether a hostile merchant is there as well.
    pub neighbour: bool,
}

/// A scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about, in a paragraph.
    pub about: &'static str,
    /// Payments, unless somebody says otherwise.
    pub payments: usize,
    /// Whether it is about a Redis.
    pub needs_redis: bool,
    pub(super) draw: fn(&mut Plan, &mut Rng),
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The clock of machines is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// Of so many gateways, the first ones.
    pub gateways: usize,
    /// So many seconds ahead of the right time.
    pub to_s: i64,
    /// Not at once, but bit by bit.
    pub slewed: bool,
}

/// Payments come as fast as they can be made, and are paid at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storm {
    /// So many of them are charges.
    pub charges: usize,
    /// So many codes beside them were never paid and expire all at once, at a provider that answers
    /// no question.
    pub expired: usize,
}

impl Scenario {
    /// The plan that follows from a seed.
    #[must_use]
    pub fn plan(self, seed: u64, payments: usize, gateways: usize, switchover: bool) -> Plan {
        let mut rng = Rng::seed_from_u64(seed);
        let mut plan = Plan {
            scenario: self.name,
            seed,
            payments,
            at_once: 8,
            spread_ms: 0,
            forgeries: 0,
            habits: Habits {
                barcode: 250,
                refund: 200,
                ..Habits::default()
            },
            manners: Manners::Good,
            faults: Vec::new(),
            refund_ends: Vec::new(),
            payment_ends: Vec::new(),
            blows: Vec::new(),
            leaks: 0,
            too_late: 0,
            hurry_s: 3,
            sets: Vec::new(),
            storm: None,
            gateways,
            switchover,
            small_disk: false,
            probes: false,
            silent_stop: false,
            lasts_s: 25,
            returns: None,
            neighbour: false,
        };

        (self.draw)(&mut plan, &mut rng);
        plan.blows.sort_by_key(|(at, _)| *at);
        plan
    }
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    providers::PROTOCOLS
        .iter()
        .map(|protocol| protocol.name.as_str())
}

/// The body of `PUT /faults`, striking so many times of a thousand.
pub(super) fn fault(provider: &str, kind: &str, permille: u32, seed: u64) -> Value {
    let probability: Value = if permille >= 1_000 {
        1.into()
    } else {
        serde_json::from_str(&format!("0.{permille:03}")).unwrap_or(Value::Null)
    };
    let mut body =
        json!({"provider": provider, "kind": kind, "probability": probability, "seed": seed});
    if matches!(kind, "slow" | "drip") {
        body["latency_ms"] = 120.into();
    }

    if kind == "says_closed" {
        // Meanwhile its payer may have paid.
        body["latency_ms"] = (seed % 600).into();
    }
    if kind == "paid_meanwhile" {
        // Longer than a notification takes, and not as long as an answer is waited for.
        body["latency_ms"] = (150 + seed % 150).into();
    }
    if kind == "behind" {
        body["latency_ms"] = (5_000 + seed % 120_000).into();
    }
    if matches!(kind, "delay" | "reorder") {
        body["latency_ms"] = 15_000.into();
    }

    body
}

/// From then on nobody listens at this provider, for so many milliseconds.
pub(super) fn down(provider: &'static str, at: u64, ms: u64) -> (u64, Blow) {
    (at, Blow::Provider(provider, LinkState::Refusing, ms))
}

//! Who plays: `adaptive` by the gateway's own code, and three simple strategies to compare it with,
//! as they are found in the field. All of them know a technical failure from a payer's "no".
#![expect(clippy::float_arithmetic, reason = "statistics; no money moves here")]

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use providers::order::Flow;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng as _, RngExt as _};

use super::world::{PROVIDERS, ROUTES, rng};
use crate::domain::Mode;
use crate::routing::health::adaptive::{BreakerRank, Candidate, Weights, order, standing};
use crate::routing::health::registry::{HealthRegistry, Probe, Settings, Ticket};
use crate::routing::health::{BreakerState, RouteId, RouteView, Verdict};

/// Times on the board's clock begin here.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// Whoever chooses routes.
pub trait Player {
    /// Which route a payment tries next, of those that it has not tried.
    fn choose(&mut self, tried: [bool; ROUTES], now_ms: i64) -> Option<usize>;
    /// A call begins.
    fn begin(&mut self, route: usize, now_ms: i64) -> Option<Ticket>;
    /// A call has ended.
    fn end(&mut self, route: usize, ticket: Option<Ticket>, answered: bool, now_ms: i64);
    /// A tenth of a second has gone by. Returns probes to make, and their routes.
    fn tick(&mut self, now_ms: i64) -> Vec<(usize, Probe)>;
    /// A probe came back.
    fn probed(&mut self, probe: &Probe, answered: bool, now_ms: i64);
    /// How often breakers have opened.
    fn trips(&self) -> u32;
    /// Failures in a row that open the breaker of this route, and the time until a call is
    /// suspected.
    fn bound(&self, route: usize, now_ms: i64) -> Option<(u32, i64)>;
}

/// Always the first.
#[derive(Debug)]
pub struct Priority;

/// Those that keep no board have nothing to say about it.
macro_rules! without_board {
    () => {
        fn begin(&mut self, _: usize, _: i64) -> Option<Ticket> {
            None
        }
        fn tick(&mut self, _: i64) -> Vec<(usize, Probe)> {
            Vec::new()
        }
        fn probed(&mut self, _: &Probe, _: bool, _: i64) {}
        fn trips(&self) -> u32 {
            0
        }
        fn bound(&self, _: usize, _: i64) -> Option<(u32, i64)> {
            None
        }
    };
}

impl Player for Priority {
    fn choose(&mut self, tried: [bool; ROUTES], _: i64) -> Option<usize> {
        tried.iter().position(|tried| !tried)
    }
    fn end(&mut self, _: usize, _: Option<Ticket>, _: bool, _: i64) {}
    without_board!();
}

/// The highest exponentially weighted success rate; a route that is not used is slowly believed in
/// again.
#[derive(Debug)]
pub struct Ewma {
    rates: [(f64, i64); ROUTES],
}

impl Ewma {
    /// What one outcome weighs.
    const WEIGHT: f64 = 0.05;
    /// How fast an unused route is believed in again.
    const BACK_S: f64 = 60.0;

    pub const fn new() -> Self {
        Self {
            rates: [(1.0, 0); ROUTES],
        }
    }
}

impl Player for Ewma {
    fn choose(&mut self, tried: [bool; ROUTES], now_ms: i64) -> Option<usize> {
        let rates = self.rates.iter().map(|(rate, at)| {
            let unused_s = u32::try_from(now_ms - at).map_or(0.0, f64::from) / 1_000.0;
            1.0 - (1.0 - rate) * (-unused_s / Self::BACK_S).exp()
        });
        highest(rates, tried)
    }
    fn end(&mut self, route: usize, _: Option<Ticket>, answered: bool, now_ms: i64) {
        if let Some((rate, at)) = self.rates.get_mut(route) {
            *rate += (if answered { 1.0 } else { 0.0 } - *rate) * Self::WEIGHT;
            *at = now_ms;
        }
    }
    without_board!();
}

/// The highest success rate of the last 125 outcomes; one payment in twenty tries any route.
#[derive(Debug)]
pub struct Window {
    outcomes: [VecDeque<bool>; ROUTES],
    rng: Xoshiro256PlusPlus,
}

impl Window {
    const OUTCOMES: usize = 125;
    const EXPLORE: f64 = 0.05;

    pub fn new(seed: u64) -> Self {
        Self {
            outcomes: Default::default(),
            rng: rng(seed, 0, 5),
        }
    }
}

impl Player for Window {
    fn choose(&mut self, tried: [bool; ROUTES], _: i64) -> Option<usize> {
        let left: Vec<usize> = tried
            .iter()
            .enumerate()
            .filter(|(_, tried)| !**tried)
            .map(|(at, _)| at)
            .collect();

        if self.rng.random_bool(Self::EXPLORE) {
            let any = usize::try_from(self.rng.next_u32())
                .unwrap_or(0)
                .checked_rem(left.len())?;
            return left.get(any).copied();
        }

        let rates = self.outcomes.iter().map(|outcomes| {
            let good = u32::try_from(outcomes.iter().filter(|good| **good).count()).unwrap_or(0);
            let all = u32::try_from(outcomes.len()).unwrap_or(0);
            if all == 0 {
                1.0
            } else {
                f64::from(good) / f64::from(all)
            }
        });

        highest(rates, tried)
    }
    fn end(&mut self, route: usize, _: Option<Ticket>, answered: bool, _: i64) {
        if let Some(outcomes) = self.outcomes.get_mut(route) {
            outcomes.push_back(answered);
            if outcomes.len() > Self::OUTCOMES {
                outcomes.pop_front();
            }
        }
    }
    without_board!();
}

fn highest(rates: impl Iterator<Item = f64>, tried: [bool; ROUTES]) -> Option<usize> {
    let left = rates
        .enumerate()
        .zip(tried)
        .filter(|(_, tried)| !tried)
        .map(|(rate, _)| rate);
    // Of equal ones the first.
    let by_rate = |a: &(usize, f64), b: &(usize, f64)| {
        a.1.partial_cmp(&b.1)
            .unwrap_or(Ordering::Equal)
            .then(b.0.cmp(&a.0))
    };
    left.max_by(by_rate).map(|(route, _)| route)
}

/// The gateway's own.
#[derive(Debug)]
pub struct Adaptive {
    board: HealthRegistry,
    ids: Vec<RouteId>,
    fees: [u32; ROUTES],
    weights: Weights,
    rng: Xoshiro256PlusPlus,
    gates: Vec<BreakerState>,
    trips: u32,
}

impl Adaptive {
    pub fn new(seed: u64, fees: [u32; ROUTES]) -> Self {
        let id = |(name, _): &(&str, u32)| {
            let provider = name.parse().ok()?;
            Some(RouteId {
                account_id: format!("acct_{name}").parse().ok()?,
                provider,
                flow: Flow::Qr,
            })
        };
        let ids: Vec<RouteId> = PROVIDERS.iter().filter_map(id).collect();

        // The one that does not like to be asked often.
        let slow = ids
            .iter()
            .filter(|id| id.provider.as_str() == "unionpay")
            .map(|id| (id.provider, 5_000))
            .collect();
        let settings = Settings {
            probe_every_ms: slow,
            ..Settings::default()
        };
        let gates = vec![BreakerState::Closed; ids.len()];
        let board = HealthRegistry::new(settings, Arc::default(), EPOCH_MS);

        Self {
            board,
            ids,
            fees,
            weights: Weights::default(),
            rng: rng(seed, 0, 6),
            gates,
            trips: 0,
        }
    }

    fn views(&mut self, tried: [bool; ROUTES], now_ms: i64) -> Vec<(usize, Candidate)> {
        let (board, rng) = (&self.board, &mut self.rng);
        let left = self
            .ids
            .iter()
            .zip(self.fees)
            .zip(tried)
            .enumerate()
            .filter(|(_, (_, tried))| !tried);

        left.map(|(at, ((id, fee_ppm), _))| {
            (
                at,
                Candidate {
                    view: board.admit(id, EPOCH_MS + now_ms, rng),
                    fee_ppm,
                },
            )
        })
        .collect()
    }

    fn watch(&mut self, now_ms: i64) {
        for (id, before) in self.ids.iter().zip(&mut self.gates) {
            let RouteView { gate, .. } = self.board.snapshot(id, EPOCH_MS + now_ms);
            self.trips += u32::from(gate == BreakerState::Open && *before != BreakerState::Open);
            *before = gate;
        }
    }
}

impl Player for Adaptive {
    fn choose(&mut self, tried: [bool; ROUTES], now_ms: i64) -> Option<usize> {
        let views = self.views(tried, now_ms);
        let candidates: Vec<Candidate> = views.iter().map(|(_, candidate)| *candidate).collect();
        let first = order(&candidates, self.weights).first().copied()?;
        views.get(first).map(|(route, _)| *route)
    }

    fn begin(&mut self, route: usize, now_ms: i64) -> Option<Ticket> {
        self.ids
            .get(route)
            .map(|id| self.board.begin(id, EPOCH_MS + now_ms))
    }

    fn end(&mut self, _: usize, ticket: Option<Ticket>, answered: bool, now_ms: i64) {
        let verdict = if answered {
            Verdict::Good
        } else {
            Verdict::ProviderFailed
        };
        if let Some(ticket) = ticket {
            self.board.end(ticket, verdict, EPOCH_MS + now_ms);
        }
        self.watch(now_ms);
    }

    fn tick(&mut self, now_ms: i64) -> Vec<(usize, Probe)> {
        self.board.tick(EPOCH_MS + now_ms);
        self.watch(now_ms);
        let probes = self.board.probes_due(EPOCH_MS + now_ms).into_iter();
        probes
            .filter_map(|probe| Some((self.ids.iter().position(|id| *id == probe.route)?, probe)))
            .collect()
    }

    fn probed(&mut self, probe: &Probe, answered: bool, now_ms: i64) {
        let verdict = if answered {
            Verdict::Good
        } else {
            Verdict::ProviderFailed
        };
        self.board.probed(probe, verdict, EPOCH_MS + now_ms);
    }

    fn trips(&self) -> u32 {
        self.trips
    }

    fn bound(&self, route: usize, now_ms: i64) -> Option<(u32, i64)> {
        let id = self.ids.get(route)?;
        let vital = self.board.peek_provider(id.provider, id.flow, Mode::Test)?;
        Some((
            vital.trip_after(),
            self.board.suspicion_ms(id, EPOCH_MS + now_ms),
        ))
    }
}

/// One route after the other, as far as their breakers let them: so that all of them have traffic.
#[derive(Debug)]
pub struct SpreadOut {
    adaptive: Adaptive,
    next: usize,
}

impl SpreadOut {
    pub const fn new(adaptive: Adaptive) -> Self {
        Self { adaptive, next: 0 }
    }
}

impl Player for SpreadOut {
    fn choose(&mut self, tried: [bool; ROUTES], now_ms: i64) -> Option<usize> {
        self.next += 1;
        let views = self.adaptive.views(tried, now_ms);
        let able = views
            .iter()
            .filter(|(_, candidate)| standing(&candidate.view) == BreakerRank::Able);
        able.min_by_key(|(route, _)| (route + self.next) % ROUTES)
            .map(|(route, _)| *route)
    }
    fn begin(&mut self, route: usize, now_ms: i64) -> Option<Ticket> {
        self.adaptive.begin(route, now_ms)
    }
    fn end(&mut self, route: usize, ticket: Option<Ticket>, answered: bool, now_ms: i64) {
        self.adaptive.end(route, ticket, answered, now_ms);
    }
    fn tick(&mut self, now_ms: i64) -> Vec<(usize, Probe)> {
        self.adaptive.tick(now_ms)
    }
    fn probed(&mut self, probe: &Probe, answered: bool, now_ms: i64) {
        self.adaptive.probed(probe, answered, now_ms);
    }
    fn trips(&self) -> u32 {
        self.adaptive.trips()
    }
    fn bound(&self, route: usize, now_ms: i64) -> Option<(u32, i64)> {
        self.adaptive.bound(route, now_ms)
    }
}

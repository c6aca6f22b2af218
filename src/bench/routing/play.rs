//! One world, one rate, one player: payments arrive, calls begin and end, in virtual time.
#![expect(clippy::float_arithmetic, reason = "statistics; no money moves here")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::mean::mean;
use super::strategies::Player;
use super::world::{ROUTES, TIMEOUT_MS, World};
use crate::routing::health::registry::{Probe, Ticket};

/// How often the gateway looks after its board.
const TICK_MS: i64 = 100;

/// What a payment did.
#[derive(Debug, Clone, Copy)]
pub struct Paid {
    pub at_ms: i64,
    /// The route that it tried first; none when none was let in.
    pub first: Option<usize>,
    /// Whether the first call was answered.
    pub answered: bool,
    /// Whether any of its calls was.
    pub served: bool,
}

/// What was played.
#[derive(Debug, Default)]
pub struct Played {
    pub payments: Vec<Paid>,
    /// Calls to each of the world's troubles, in their order, for as long as it lasted.
    pub calls: Vec<u32>,
    /// At the beginning of each outage: failures in a row that open the breaker, and seconds until
    /// suspicion.
    bounds: Vec<(u32, f64)>,
    pub trips: u32,
}

impl Played {
    /// How many calls an outage may cost: `k + rate × (suspicion time + 0.2 s)`, on average.
    pub fn mean_bound(&self, rate: u32) -> Option<f64> {
        let bounds: Vec<f64> = self
            .bounds
            .iter()
            .map(|(k, seconds)| f64::from(*k) + f64::from(rate) * (seconds + 0.2))
            .collect();
        mean(&bounds)
    }
}

#[derive(Debug)]
enum Event {
    Arrives,
    Ends(Call),
    Probed(Probe, bool),
    TroubleBegins(usize),
    Tick,
}

#[derive(Debug)]
struct Call {
    payment: usize,
    route: usize,
    tried: [bool; ROUTES],
    ticket: Option<Ticket>,
    answered: bool,
}

/// Plays it.
pub fn play(world: &World, rate: u32, player: &mut dyn Player) -> Played {
    let played = Played {
        calls: vec![0; world.troubles.len()],
        ..Played::default()
    };
    let mut game = Game {
        world,
        player,
        played,
        queue: BinaryHeap::new(),
        events: Vec::new(),
        free: Vec::new(),
        order: 0,
        now: 0,
    };

    let mut arrivals = world.arrivals(rate);
    if let Some(first) = arrivals.next() {
        game.at(first, Event::Arrives);
    }
    for (number, trouble) in world.troubles.iter().enumerate() {
        if trouble.is_outage() {
            game.at(trouble.from_ms, Event::TroubleBegins(number));
        }
    }

    game.at(0, Event::Tick);
    while let Some(event) = game.next() {
        match event {
            Event::Arrives => {
                game.arrives();
                if let Some(next) = arrivals.next() {
                    game.at(next, Event::Arrives);
                }
            }
            Event::Ends(call) => game.ends(call),
            Event::Probed(probe, answered) => game.player.probed(&probe, answered, game.now),
            Event::TroubleBegins(number) => game.trouble_begins(number),
            Event::Tick => game.tick(),
        }
    }

    game.played.trips = game.player.trips();
    game.played
}

struct Game<'a> {
    world: &'a World,
    player: &'a mut dyn Player,
    played: Played,
    /// When, in which order, and where the event lies.
    queue: BinaryHeap<Reverse<(i64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    order: u64,
    now: i64,
}

impl Game<'_> {
    fn at(&mut self, at_ms: i64, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        if let Some(slot) = self.events.get_mut(place) {
            *slot = Some(event);
        }
        self.order += 1;
        self.queue.push(Reverse((at_ms, self.order, place)));
    }

    fn next(&mut self) -> Option<Event> {
        let Reverse((at_ms, _, place)) = self.queue.pop()?;
        self.now = at_ms;
        self.free.push(place);
        self.events.get_mut(place)?.take()
    }

    fn arrives(&mut self) {
        let payment = self.played.payments.len();
        self.played.payments.push(Paid {
            at_ms: self.now,
            first: None,
            answered: false,
            served: false,
        });
        let first = self.try_next(payment, [false; ROUTES]);
        if let Some(paid) = self.played.payments.get_mut(payment) {
            paid.first = first;
        }
    }

    fn try_next(&mut self, payment: usize, mut tried: [bool; ROUTES]) -> Option<usize> {
        let route = self.player.choose(tried, self.now)?;
        if let Some(tried) = tried.get_mut(route) {
            *tried = true;
        }
        let here = self.world.troubles.iter().zip(&mut self.played.calls);
        for (_, calls) in
            here.filter(|(t, _)| t.route == route && (t.from_ms..t.until_ms).contains(&self.now))
        {
            *calls += 1;
        }
        let ticket = self.player.begin(route, self.now);
        let fate = self
            .world
            .fate(u64::try_from(payment).unwrap_or(0), route, self.now);

        let call = Call {
            payment,
            route,
            tried,
            ticket,
            answered: fate.answered,
        };

        self.at(self.now + fate.after_ms, Event::Ends(call));
        Some(route)
    }

    fn ends(&mut self, call: Call) {
        self.player
            .end(call.route, call.ticket, call.answered, self.now);
        if let Some(paid) = self.played.payments.get_mut(call.payment) {
            paid.served |= call.answered;
            paid.answered |=
                call.answered && call.tried.iter().filter(|tried| **tried).count() == 1;
        }
        // An offer that was never shown goes elsewhere in the same request.
        if !call.answered {
            self.try_next(call.payment, call.tried);
        }
    }

    fn trouble_begins(&mut self, number: usize) {
        let Some(trouble) = self.world.troubles.get(number) else {
            return;
        };
        if let Some((k, suspicion_ms)) = self.player.bound(trouble.route, self.now) {
            let seconds = i32::try_from(suspicion_ms).map_or(0.0, f64::from) / 1_000.0;
            self.played.bounds.push((k, seconds));
        }
    }

    fn tick(&mut self) {
        for (route, probe) in self.player.tick(self.now) {
            // As any call, but that nobody can decline it. Its luck is that of no payment.
            let number = u64::MAX - u64::try_from(self.now).unwrap_or(0);
            let fate = self.world.fate(number, route, self.now);
            let answered = fate.answered && fate.after_ms < TIMEOUT_MS;
            self.at(self.now + fate.after_ms, Event::Probed(probe, answered));
        }
        if self.now < self.world.length_ms {
            self.at(self.now + TICK_MS, Event::Tick);
        }
    }
}

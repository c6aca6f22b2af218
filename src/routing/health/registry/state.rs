//! What stands behind the board's lock.

mod exchange;
mod probing;
mod standings;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use providers::order::Flow;
use providers::provider::ProviderName;
use rand::{Rng, RngExt as _};

use super::types::{Removal, Settings, Ticket};
use crate::domain::Mode;
use crate::mutate;
use crate::routing::health::accounts::{self, Accounts, Known, Snapshot};
use crate::routing::health::breaker::BreakerConfig;
use crate::routing::health::delta::{Delta, MerchantHash};
use crate::routing::health::key::{HealthKey, Whole};
use crate::routing::health::local::{Limits, LocalHealth};
use crate::routing::health::record::HealthRecord;
use crate::routing::health::{BreakerState, RouteId, RouteView, Verdict};
use crate::routing::share::Shares;

/// A gap this long is none of our time: the process stood still, or the clock was set.
const GAP_MS: i64 = 1_000;
/// A call is suspected after this where there is no history …
const SUSPECT_UNKNOWN_MS: i64 = 3_000;
/// … and never before this: a lost packet is sent again in less.
const SUSPECT_LEAST_MS: i64 = 400;
/// The same for being late, which only means that others are tried first.
const LATE_LEAST_MS: i64 = 150;
/// So much history says when a call is late.
const HISTORY: u32 = 50;
/// With less history the thousandth is not known: half as long again is waited.
const LONG_HISTORY: u32 = 1_000;
/// A route with more outcomes a second than this, one in two minutes, knows by itself how it is.
const KNOWN_RATE: f64 = 0.008;
/// A call that never ended was forgotten by whoever made it.
const LOST_MS: i64 = 120_000;
/// Subjects that others have stored and this gateway does not know: so many are taken over.
const SUBJECTS: usize = 100_000;

#[derive(Debug)]
pub(super) struct RegistryState {
    settings: Settings,
    seen_ms: i64,
    /// Its own clock: time that this process was awake for.
    own: i64,
    accounts: Arc<Accounts>,
    /// The accounts as they were when routes were last compared with them.
    compared: Option<Arc<Snapshot>>,
    routes: HashMap<Arc<RouteId>, Route>,
    providers: HashMap<Arc<Whole>, LocalHealth>,
    next_call: u64,
    next_flush: u32,
    /// Rights to probe that were had by a write.
    won: Vec<HealthKey>,
    /// What has left and is still stored.
    removed: Vec<Removal>,
    probing: Probing,
}

/// Probes under way, and how providers that are out were asked.
#[derive(Debug)]
struct Probing {
    places: Shares<MerchantHash>,
    /// Counts the turns of each provider.
    turns: HashMap<Arc<Whole>, u32>,
}

#[derive(Debug)]
struct Route {
    tracked: LocalHealth,
    merchant: MerchantHash,
    credentials: u32,
    is_answered: bool,
    whole: Arc<Whole>,
    /// In the order in which they began.
    calls: BTreeMap<u64, Call>,
    /// Calls up to this one were looked at.
    judged: u64,
    probed: i64,
}

#[derive(Debug)]
struct Call {
    began: i64,
    /// Counted as a failure of the route, and of the provider.
    suspected: (bool, bool),
    /// A trial of the route, and of the provider.
    trial: (bool, bool),
}

impl RegistryState {
    pub(super) fn new(settings: Settings, accounts: Arc<Accounts>, now_ms: i64) -> Self {
        let probing = Probing {
            places: Shares::new(settings.probes_at_once.max(1)),
            turns: HashMap::new(),
        };

        Self {
            settings,
            accounts,
            compared: None,
            removed: Vec::new(),
            probing,
            seen_ms: now_ms,
            own: 0,
            routes: HashMap::new(),
            providers: HashMap::new(),
            next_call: 1,
            next_flush: 1,
            won: Vec::new(),
        }
    }

    pub(super) fn advance(&mut self, now_ms: i64) {
        let gone = now_ms.saturating_sub(self.seen_ms);
        self.seen_ms = now_ms;
        if (1..=GAP_MS).contains(&gone) {
            self.own += gone;
        }
    }

    pub(super) const fn set_shared(&mut self, shared: bool) {
        self.settings.shared = shared;
    }

    fn manner(&self, provider: ProviderName, flow: Flow) -> BreakerConfig {
        let usual = BreakerConfig::default();
        let probe_every_ms = self
            .settings
            .probe_every_ms
            .get(&provider)
            .copied()
            .unwrap_or(usual.probe_every_ms);
        BreakerConfig {
            probe_every_ms,
            charges: flow.is_charge(),
        }
    }

    /// Puts a route on the board. False: its account takes no payments any more, and nothing is
    /// kept of it.
    fn know(&mut self, id: &RouteId) -> bool {
        if self.routes.contains_key(id) {
            return true;
        }
        let Some(known) = self.account(id) else {
            return false;
        };
        let (manner, now_ms) = (self.manner(id.provider, id.flow), self.seen_ms);
        let whole = Whole {
            provider: id.provider,
            flow: id.flow,
            mode: known.mode,
            address: known.address,
        };

        let whole = self
            .providers
            .get_key_value(&whole)
            .map_or_else(|| Arc::new(whole), |(known, _)| Arc::clone(known));
        self.providers
            .entry(Arc::clone(&whole))
            .or_insert_with(|| LocalHealth::new(manner, now_ms));
        let route = Route {
            tracked: LocalHealth::new(manner, now_ms),
            merchant: known.merchant,
            credentials: known.credentials,
            is_answered: false,
            whole,
            calls: BTreeMap::new(),
            judged: 0,
            probed: 0,
        };

        self.routes.insert(Arc::new(id.clone()), route);
        true
    }

    /// What is known of a route's account. While nobody has said anything of accounts, each is a
    /// merchant's only one.
    fn account(&self, id: &RouteId) -> Option<Known> {
        let Some(snapshot) = self.accounts.snapshot() else {
            let merchant = accounts::merchant(&id.account_id);
            let (mode, address) = (Mode::Test, "".into());
            return Some(Known {
                merchant,
                provider: id.provider,
                mode,
                address,
                credentials: 0,
            });
        };
        snapshot
            .get(&id.account_id)
            .filter(|known| known.provider == id.provider)
            .cloned()
    }

    /// Lets go of routes whose accounts are disabled, gone, or have other credentials now, and of
    /// providers that no route leads to any more: what is left of them here and in the store could
    /// only be wrong.
    fn compare(&mut self) {
        let snapshot = self.accounts.snapshot();
        let is_same = match (&snapshot, &self.compared) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };

        if is_same {
            return;
        }
        self.compared = snapshot;
        let Some(snapshot) = &self.compared else {
            return;
        };
        let stays = |id: &RouteId, route: &Route| {
            snapshot.get(&id.account_id).is_some_and(|known| {
                known.mode == route.whole.mode
                    && known.address == route.whole.address
                    && known.merchant == route.merchant
                    && known.credentials == route.credentials
            })
        };

        let gone: Vec<Arc<RouteId>> = self
            .routes
            .iter()
            .filter(|(id, route)| !stays(id, route))
            .map(|(id, _)| Arc::clone(id))
            .collect();

        for id in gone {
            if let Some(route) = self.routes.remove(&id) {
                // Trials of the provider that are on their way over it will never come back to the
                // board.
                if let Some(provider) = self.providers.get_mut(&route.whole) {
                    route
                        .calls
                        .values()
                        .filter(|call| call.trial.1)
                        .for_each(|_| provider.end_trial());
                }
                self.removed.push(Removal {
                    subject: HealthKey::Route(RouteId::clone(&id)),
                    version: route.tracked.version(),
                });
            }
        }

        let is_called = |whole: &Whole| snapshot.calls(whole.provider, whole.mode, &whole.address);
        let left: Vec<Arc<Whole>> = self
            .providers
            .keys()
            .filter(|whole| !is_called(whole))
            .map(Arc::clone)
            .collect();

        for whole in left {
            if let Some(tracked) = self.providers.remove(&whole) {
                self.removed.push(Removal {
                    subject: HealthKey::Provider(Whole::clone(&whole)),
                    version: tracked.version(),
                });
            }
            self.probing.turns.remove(&whole);
        }

        // What was never stored need not be removed.
        self.removed.retain(|removal| removal.version > 0);
    }

    /// What has left the board since the last time, to be removed from the store.
    pub(super) fn take_removals(&mut self) -> Vec<Removal> {
        std::mem::take(&mut self.removed)
    }

    pub(super) fn begin(&mut self, id: &RouteId) -> Ticket {
        // A call with other credentials than before is no call over the route that was.
        self.compare();
        self.know(id);
        let call = self.next_call;
        self.next_call += 1;
        let id = self
            .routes
            .get_key_value(id)
            .map_or_else(|| Arc::new(id.clone()), |(id, _)| Arc::clone(id));

        if let Some((route, provider)) = pair(&mut self.routes, &mut self.providers, &id) {
            let gate = provider.view().breaker().gate_for(route.merchant);
            let trial = (
                route
                    .tracked
                    .begin(BreakerState::Trial == route.tracked.view().gate()),
                provider.begin(BreakerState::Trial == gate),
            );
            route.calls.insert(
                call,
                Call {
                    began: self.own,
                    suspected: (false, false),
                    trial,
                },
            );
        }

        Ticket { route: id, call }
    }

    pub(super) fn end(&mut self, ticket: &Ticket, verdict: Verdict) {
        let (own, now_ms) = (self.own, self.seen_ms);
        let Some((route, provider)) = pair(&mut self.routes, &mut self.providers, &ticket.route)
        else {
            return;
        };
        let Some(call) = route.calls.remove(&ticket.call) else {
            return;
        };
        if call.trial.0 {
            route.tracked.end_trial();
        }
        if call.trial.1 {
            provider.end_trial();
        }
        let took = u32::try_from(own - call.began).unwrap_or(0);
        let merchant = route.merchant;
        route.is_answered |= verdict == Verdict::Good;

        let (of_route, of_provider) = match verdict {
            Verdict::Good => (End::Good, End::Good),
            Verdict::ProviderFailed => (End::Failed, End::Failed),
            Verdict::Unbelievable if route.was_ever_answered() => (End::Failed, End::Failed),
            Verdict::Unbelievable => (End::Failed, End::Nothing),
            Verdict::AccountFailed => (End::Failed, End::Good),
            Verdict::Nothing => (End::Nothing, End::Nothing),
        };
        let latency = (verdict == Verdict::Good).then_some(took);

        for (tracked, end, suspected) in [
            (&mut route.tracked, of_route, call.suspected.0),
            (provider, of_provider, call.suspected.1),
        ] {
            let mut delta = Delta::default();
            match end {
                End::Good => delta.good(merchant, suspected),
                End::Failed if suspected => continue,
                End::Failed => delta.failed(merchant),
                End::Nothing if suspected => delta.retracted = 1,
                End::Nothing => continue,
            }
            if let Some(ms) = latency {
                delta.latencies.add(ms);
            }
            tracked.learn(&delta, own, now_ms);
        }
    }

    pub(super) fn signed_here(&mut self, id: &RouteId) {
        self.know(id);
        let (own, now_ms) = (self.own, self.seen_ms);
        if let Some(route) = self.routes.get_mut(id) {
            route.tracked.learn(
                &Delta {
                    silent: true,
                    ..Delta::default()
                },
                own,
                now_ms,
            );
        }
    }

    pub(super) fn admit(&mut self, id: &RouteId, rng: &mut impl Rng) -> RouteView {
        let mut view = self.snapshot(id);
        let own = self.own;
        let Some((route, provider)) = pair(&mut self.routes, &mut self.providers, id) else {
            return view;
        };
        let (one, other) = (route.tracked.view(), provider.view());
        let drawn = speaks(one, other).score().draw(rng);
        view.sampled_success = if view.sampled_success > 0.0 {
            drawn
        } else {
            0.0
        };
        let whole = other.breaker().gate_for(route.merchant);

        let share = one.share().min(if whole == BreakerState::Closed {
            1.0
        } else {
            other.share()
        });
        let gates = [(one.gate(), &mut route.tracked), (whole, provider)];
        let trials = gates
            .into_iter()
            .filter(|(gate, _)| *gate == BreakerState::Trial)
            .map(|(_, tracked)| tracked);

        view.is_admitted = match view.gate {
            BreakerState::Closed => true,
            BreakerState::Ramping => rng.random::<f64>() < share,
            BreakerState::Trial => trials.into_iter().all(|tracked| tracked.try_trial(own)),
            BreakerState::Open => false,
        };

        view
    }

    pub(super) fn snapshot(&mut self, id: &RouteId) -> RouteView {
        self.know(id);
        let (own, now_ms) = (self.own, self.seen_ms);
        let Some((route, provider)) = pair(&mut self.routes, &mut self.providers, id) else {
            return RouteView::unknown();
        };
        route.tracked.tick(now_ms);
        provider.tick(now_ms);
        route.suspect(provider, own, now_ms);
        let limits = limits(route, provider);
        let (one, other) = (route.tracked.view(), provider.view());
        let whole = other.breaker().gate_for(route.merchant);

        let (worse_gate, gate) = if severity(one.gate()) >= severity(whole) {
            (one, one.gate())
        } else {
            (other, whole)
        };
        let success = speaks(one, other).score().mean();

        // Too many calls that are late at once: others first, until answers come or the breaker
        // opens.
        let late = route.late(limits, own, one.trip_after());
        RouteView {
            gate,
            is_admitted: matches!(gate, BreakerState::Closed | BreakerState::Ramping),
            since_ms: worse_gate.breaker().since_ms(),
            sampled_success: if late { 0.0 } else { success },
            success,
            p95_ms: limits.p95,
            p99_ms: limits.p99,
            in_flight: u32::try_from(route.calls.len()).unwrap_or(u32::MAX),
        }
    }

    pub(super) const fn is_shared(&self) -> bool {
        self.settings.shared
    }

    pub(super) fn suspicion_ms(&mut self, id: &RouteId) -> i64 {
        self.know(id);
        pair(&mut self.routes, &mut self.providers, id)
            .map_or(SUSPECT_UNKNOWN_MS, |(route, provider)| {
                suspect_after(limits(route, provider))
            })
    }

    pub(super) fn tick(&mut self) {
        self.compare();
        let (own, now_ms) = (self.own, self.seen_ms);
        for provider in self.providers.values_mut() {
            provider.tick(now_ms);
            provider.refresh();
        }
        for route in self.routes.values_mut() {
            let Some(provider) = self.providers.get_mut(&route.whole) else {
                continue;
            };
            route.tracked.tick(now_ms);
            route.tracked.refresh();
            route.suspect(provider, own, now_ms);
            route.drop_lost(provider, own);
        }
    }
}

/// The end of a call, to one subject.
#[derive(Debug, Clone, Copy)]
enum End {
    Good,
    Failed,
    Nothing,
}

impl Route {
    /// Whether this gateway has ever believed an answer over its account, with the credentials that
    /// it has now. What others have stored does not say with which.
    fn was_ever_answered(&self) -> bool {
        mutate!(OneMerchantTrips => return true);
        self.is_answered
    }

    /// Counts calls as failed that take suspiciously long.
    fn suspect(&mut self, provider: &mut LocalHealth, own: i64, now_ms: i64) {
        let after = suspect_after(limits(self, provider));
        let speaks = self.was_ever_answered();
        for (call, state) in self
            .calls
            .range_mut((Bound::Excluded(self.judged), Bound::Unbounded))
        {
            if own - state.began <= after {
                return;
            }
            self.judged = *call;
            // What is out already is not put out by what began before.
            let whole = provider.view().breaker().gate_for(self.merchant);
            // Nor by a merchant whose answers nobody has believed yet: it ends with a verdict of
            // its own.
            state.suspected = (
                self.tracked.view().gate() != BreakerState::Open,
                whole != BreakerState::Open && speaks,
            );

            let mut delta = Delta::default();
            delta.failed(self.merchant);
            for (tracked, counted) in [
                (&mut self.tracked, state.suspected.0),
                (&mut *provider, state.suspected.1),
            ] {
                if counted {
                    tracked.learn(&delta, own, now_ms);
                }
            }
        }
    }

    /// Whether so many calls are late, or have failed, that it looks like the beginning of an
    /// outage.
    fn late(&self, limits: Limits, own: i64, trip_after: u32) -> bool {
        let Some(p95) = limits.p95.filter(|_| limits.calls >= HISTORY) else {
            return false;
        };
        let after = i64::from(p95).max(LATE_LEAST_MS);
        let unjudged = self
            .calls
            .range((Bound::Excluded(self.judged), Bound::Unbounded));
        // Two late ones weigh as much as a failure.
        let most = usize::try_from(trip_after.saturating_mul(2)).unwrap_or(usize::MAX);
        let late = unjudged
            .take(most)
            .take_while(|(_, call)| own - call.began > after)
            .count();
        let run = usize::try_from(self.tracked.view().run()).unwrap_or(usize::MAX);
        late.saturating_add(run.saturating_mul(2)) >= most
    }

    fn drop_lost(&mut self, provider: &mut LocalHealth, own: i64) {
        while let Some(oldest) = self
            .calls
            .first_entry()
            .filter(|entry| own - entry.get().began > LOST_MS)
        {
            let call = oldest.remove();
            if call.trial.0 {
                self.tracked.end_trial();
            }
            if call.trial.1 {
                provider.end_trial();
            }
        }
    }
}

fn pair<'a>(
    routes: &'a mut HashMap<Arc<RouteId>, Route>,
    providers: &'a mut HashMap<Arc<Whole>, LocalHealth>,
    id: &RouteId,
) -> Option<(&'a mut Route, &'a mut LocalHealth)> {
    let route = routes.get_mut(id)?;
    let provider = providers.get_mut(&route.whole)?;
    Some((route, provider))
}

/// The route's own, or those of its provider while it has too few calls to tell.
fn limits(route: &Route, provider: &LocalHealth) -> Limits {
    let own = route.tracked.limits();
    if own.calls < LONG_HISTORY && provider.limits().calls > own.calls {
        provider.limits()
    } else {
        own
    }
}

fn suspect_after(limits: Limits) -> i64 {
    let Some(p999) = limits
        .p999
        .filter(|_| limits.calls >= HISTORY)
        .map(i64::from)
    else {
        return SUSPECT_UNKNOWN_MS;
    };
    let patience = if limits.calls < LONG_HISTORY {
        p999 + p999 / 2
    } else {
        p999
    };
    patience.max(SUSPECT_LEAST_MS)
}

const fn severity(gate: BreakerState) -> u8 {
    match gate {
        BreakerState::Closed => 0,
        BreakerState::Ramping => 1,
        BreakerState::Trial => 2,
        BreakerState::Open => 3,
    }
}

/// Whose score is believed: the worse one's. But where several merchants call a provider, what one
/// of them makes of it speaks for the others only as long as they know nothing themselves.
fn speaks<'a>(route: &'a HealthRecord, provider: &'a HealthRecord) -> &'a HealthRecord {
    let knows_better = provider.is_shared() && route.score().rate() > KNOWN_RATE;
    if knows_better || route.score().mean() <= provider.score().mean() {
        route
    } else {
        provider
    }
}

//! What stands behind the board's lock.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use providers::order::Flow;
use providers::provider::ProviderName;
use rand::{Rng, RngExt as _};
use sha2::{Digest as _, Sha256};

use super::{Change, Probe, Settings, Standing, Ticket};
use crate::routing::health::breaker::Manner;
use crate::routing::health::delta::{AccountHash, Delta};
use crate::routing::health::subject::Subject;
use crate::routing::health::tracked::{Limits, Tracked};
use crate::routing::health::vital::Vital;
use crate::routing::health::{Gate, RouteId, RouteView, Verdict};

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
/// A call that never ended was forgotten by whoever made it.
const LOST_MS: i64 = 120_000;
/// Subjects that others have stored and this gateway does not know: so many are taken over.
const SUBJECTS: usize = 100_000;

#[derive(Debug)]
pub(super) struct Inner {
    settings: Settings,
    seen_ms: i64,
    /// Its own clock: time that this process was awake for.
    own: i64,
    routes: HashMap<Arc<RouteId>, Route>,
    providers: HashMap<(ProviderName, Flow), Tracked>,
    next_call: u64,
    next_flush: u32,
    /// Rights to probe that were had by a write.
    won: Vec<Subject>,
}

#[derive(Debug)]
struct Route {
    tracked: Tracked,
    account: AccountHash,
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

impl Inner {
    pub(super) fn new(settings: Settings, now_ms: i64) -> Self {
        Self {
            settings,
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

    fn manner(&self, provider: ProviderName, flow: Flow) -> Manner {
        let usual = Manner::default();
        let probe_every_ms = self.settings.probe_every_ms.get(&provider).copied().unwrap_or(usual.probe_every_ms);
        Manner { probe_every_ms, charges: flow.takes_money() }
    }

    fn know(&mut self, id: &RouteId) {
        if self.routes.contains_key(id) {
            return;
        }
        let (manner, now_ms) = (self.manner(id.provider, id.flow), self.seen_ms);
        let route = Route {
            tracked: Tracked::new(manner, now_ms),
            account: hash(&id.account_id),
            calls: BTreeMap::new(),
            judged: 0,
            probed: 0,
        };
        self.routes.insert(Arc::new(id.clone()), route);
        self.providers.entry((id.provider, id.flow)).or_insert_with(|| Tracked::new(manner, now_ms));
    }

    pub(super) fn begin(&mut self, id: &RouteId) -> Ticket {
        self.know(id);
        let call = self.next_call;
        self.next_call += 1;
        let id = self.routes.get_key_value(id).map_or_else(|| Arc::new(id.clone()), |(id, _)| Arc::clone(id));
        if let Some((route, provider)) = pair(&mut self.routes, &mut self.providers, &id) {
            let trial = (route.tracked.begin(), provider.begin());
            route.calls.insert(call, Call { began: self.own, suspected: (false, false), trial });
        }
        Ticket { route: id, call }
    }

    pub(super) fn end(&mut self, ticket: &Ticket, verdict: Verdict) {
        let (own, now_ms) = (self.own, self.seen_ms);
        let Some((route, provider)) = pair(&mut self.routes, &mut self.providers, &ticket.route) else { return };
        let Some(call) = route.calls.remove(&ticket.call) else { return };
        if call.trial.0 {
            route.tracked.end_trial();
        }
        if call.trial.1 {
            provider.end_trial();
        }
        let took = u32::try_from(own - call.began).unwrap_or(0);
        let account = route.account;
        let (of_route, of_provider) = match verdict {
            Verdict::Good => (End::Good, End::Good),
            Verdict::ProviderFailed => (End::Failed, End::Failed),
            Verdict::AccountFailed => (End::Failed, End::Good),
            Verdict::Nothing => (End::Nothing, End::Nothing),
        };
        let latency = (verdict == Verdict::Good).then_some(took);
        for (tracked, end, suspected) in
            [(&mut route.tracked, of_route, call.suspected.0), (provider, of_provider, call.suspected.1)]
        {
            let mut delta = Delta::default();
            match end {
                End::Good => delta.good(account, suspected),
                End::Failed if suspected => continue,
                End::Failed => delta.failed(account),
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
            route.tracked.learn(&Delta { silent: true, ..Delta::default() }, own, now_ms);
        }
    }

    pub(super) fn look(&mut self, id: &RouteId, rng: &mut impl Rng) -> RouteView {
        let mut view = self.peek(id);
        let own = self.own;
        let Some((route, provider)) = pair(&mut self.routes, &mut self.providers, id) else { return view };
        let (one, other) = (route.tracked.view(), provider.view());
        let drawn = worse(one, other).score().draw(rng);
        view.theta = if view.theta > 0.0 { drawn } else { 0.0 };
        let share = one.share().min(other.share());
        let trials = [&mut route.tracked, provider].into_iter().filter(|tracked| tracked.view().gate() == Gate::Trial);
        view.lets_in = match view.gate {
            Gate::Closed => true,
            Gate::Ramping => rng.random::<f64>() < share,
            Gate::Trial => trials.into_iter().all(|tracked| tracked.try_trial(own)),
            Gate::Open => false,
        };
        view
    }

    pub(super) fn peek(&mut self, id: &RouteId) -> RouteView {
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
        let worse_gate = if severity(one.gate()) >= severity(other.gate()) { one } else { other };
        let gate = worse_gate.gate();
        let success = worse(one, other).score().mean();
        // Too many calls that are late at once: others first, until answers come or the breaker opens.
        let late = route.late(limits, own, one.trip_after());
        RouteView {
            gate,
            lets_in: matches!(gate, Gate::Closed | Gate::Ramping),
            since_ms: worse_gate.breaker().since_ms(),
            theta: if late { 0.0 } else { success },
            success,
            p95_ms: limits.p95,
            p99_ms: limits.p99,
            in_flight: u32::try_from(route.calls.len()).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn provider(&self, provider: ProviderName, flow: Flow) -> Option<Vital> {
        self.providers.get(&(provider, flow)).map(|tracked| tracked.view().clone())
    }

    pub(super) const fn is_shared(&self) -> bool {
        self.settings.shared
    }

    pub(super) fn standings(&self) -> Vec<Standing> {
        let routes = self.routes.iter().filter(|(_, route)| route.tracked.view().gate() != Gate::Closed);
        let routes = routes.map(|(id, route)| standing(Subject::Route(RouteId::clone(id)), route.tracked.view()));
        let providers = self.providers.iter().map(|(key, p)| standing(Subject::Provider(key.0, key.1), p.view()));
        providers.chain(routes).collect()
    }

    pub(super) fn standing(&self, subject: &Subject) -> Option<Standing> {
        let tracked = match subject {
            Subject::Provider(provider, flow) => self.providers.get(&(*provider, *flow)),
            Subject::Route(id) => self.routes.get(id).map(|route| &route.tracked),
        };
        tracked.map(|tracked| standing(subject.clone(), tracked.view()))
    }

    pub(super) fn suspicion_ms(&mut self, id: &RouteId) -> i64 {
        self.know(id);
        pair(&mut self.routes, &mut self.providers, id)
            .map_or(SUSPECT_UNKNOWN_MS, |(route, provider)| suspect_after(limits(route, provider)))
    }

    pub(super) fn tick(&mut self) {
        let (own, now_ms) = (self.own, self.seen_ms);
        for provider in self.providers.values_mut() {
            provider.tick(now_ms);
            provider.refresh();
        }
        for (id, route) in &mut self.routes {
            let Some(provider) = self.providers.get_mut(&(id.provider, id.flow)) else { continue };
            route.tracked.tick(now_ms);
            route.tracked.refresh();
            route.suspect(provider, own, now_ms);
            route.drop_lost(provider, own);
        }
    }

    pub(super) fn probes_due(&mut self, ours: impl Fn(&RouteId) -> bool) -> Vec<Probe> {
        let (own, now_ms, shared) = (self.own, self.seen_ms, self.settings.shared);
        let mut turns = std::mem::take(&mut self.won);
        for (key, provider) in &mut self.providers {
            provider.tick(now_ms);
            // Who has no account to ask over leaves it to others.
            let can_ask = || self.routes.keys().any(|id| (id.provider, id.flow) == *key && ours(id));
            if provider.view().probe_due() && can_ask() {
                provider.claim(own, now_ms);
                // One question is enough for both.
                let routes = self.routes.iter_mut().filter(|(id, _)| (id.provider, id.flow) == *key);
                routes.filter(|(_, r)| r.tracked.view().probe_due()).for_each(|(_, r)| r.tracked.claim(own, now_ms));
                if !shared {
                    turns.push(Subject::Provider(key.0, key.1));
                }
            }
        }
        for (id, route) in &mut self.routes {
            route.tracked.tick(now_ms);
            let provider = self.providers.get(&(id.provider, id.flow)).map(|p| p.view().gate());
            // While its whole provider is out, a route is asked about when it is its turn to ask about that.
            if route.tracked.view().probe_due() && provider != Some(Gate::Open) && ours(id) {
                route.tracked.claim(own, now_ms);
                if !shared {
                    turns.push(Subject::Route(RouteId::clone(id)));
                }
            }
        }
        turns.into_iter().filter_map(|subject| self.probe(subject, &ours)).collect()
    }

    /// Over which account this probe goes: one that is out, and was not asked for the longest time.
    fn probe(&mut self, subject: Subject, ours: impl Fn(&RouteId) -> bool) -> Option<Probe> {
        let own = self.own;
        let id = match &subject {
            Subject::Route(id) => id.clone(),
            Subject::Provider(provider, flow) => {
                let candidates = self.routes.iter().filter(|(id, _)| (id.provider, id.flow) == (*provider, *flow));
                let candidates = candidates.filter(|(id, _)| ours(id));
                let turn = |route: &Route| {
                    let vital = route.tracked.view();
                    (vital.gate() != Gate::Open, !vital.score().is_doubtful(), route.probed)
                };
                let (id, _) = candidates.min_by_key(|(id, route)| (turn(route), Arc::clone(id)))?;
                RouteId::clone(id)
            }
        };
        let route = self.routes.get_mut(&id)?;
        route.probed = own;
        Some(Probe { subject, route: id })
    }

    pub(super) fn probed(&mut self, id: &RouteId, verdict: Verdict) {
        self.know(id);
        let (own, now_ms) = (self.own, self.seen_ms);
        let Some((route, provider)) = pair(&mut self.routes, &mut self.providers, id) else { return };
        let (of_route, of_provider) = match verdict {
            Verdict::Good => (true, true),
            Verdict::ProviderFailed => (false, false),
            Verdict::AccountFailed => (false, true),
            Verdict::Nothing => return,
        };
        // There are no calls over such a route: the probes are its calls.
        let unheard = route.tracked.view().is_unheard();
        let account = route.account;
        for (tracked, good) in [(&mut route.tracked, of_route), (provider, of_provider)] {
            let mut delta = Delta::default();
            match tracked.view().gate() {
                Gate::Open => delta.probed(good),
                Gate::Closed | Gate::Ramping | Gate::Trial if !unheard => continue,
                Gate::Closed | Gate::Ramping | Gate::Trial if good => delta.good(account, false),
                Gate::Closed | Gate::Ramping | Gate::Trial => delta.failed(account),
            }
            tracked.learn(&delta, own, now_ms);
        }
    }

    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        let gateway = self.settings.gateway;
        let mut changes = Vec::new();
        let routes = self.routes.iter_mut().map(|(id, route)| (Subject::Route(RouteId::clone(id)), &mut route.tracked));
        let providers = self.providers.iter_mut().map(|(key, tracked)| (Subject::Provider(key.0, key.1), tracked));
        for (subject, tracked) in routes.chain(providers) {
            if let Some(vital) = tracked.take_change(gateway, self.next_flush) {
                self.next_flush += 1;
                changes.push(Change { subject, version: tracked.version(), vital });
            }
        }
        changes
    }

    pub(super) fn versions(&self) -> Vec<(Subject, u64)> {
        let routes = self.routes.iter().map(|(id, route)| (Subject::Route(RouteId::clone(id)), &route.tracked));
        let providers = self.providers.iter().map(|(key, tracked)| (Subject::Provider(key.0, key.1), tracked));
        routes.chain(providers).map(|(subject, tracked)| (subject, tracked.version())).collect()
    }

    pub(super) fn adopt(&mut self, subject: &Subject, vital: Vital, version: u64) -> bool {
        let full = self.routes.len() + self.providers.len() >= SUBJECTS;
        if !vital.is_sane() {
            return false;
        }
        let tracked = match subject {
            Subject::Route(id) if full && !self.routes.contains_key(id) => return false,
            Subject::Route(id) => {
                self.know(id);
                self.routes.get_mut(id).map(|route| &mut route.tracked)
            }
            Subject::Provider(provider, flow) => {
                let (manner, now_ms) = (self.manner(*provider, *flow), self.seen_ms);
                Some(self.providers.entry((*provider, *flow)).or_insert_with(|| Tracked::new(manner, now_ms)))
            }
        };
        let Some(tracked) = tracked else { return false };
        if tracked.adopt(vital, version, self.settings.gateway, self.own, self.seen_ms) {
            self.won.push(subject.clone());
        }
        true
    }

    pub(super) fn reseed(&mut self) {
        self.won.clear();
        self.routes.values_mut().for_each(|route| route.tracked.reseed());
        self.providers.values_mut().for_each(Tracked::reseed);
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
    /// Counts calls as failed that take suspiciously long.
    fn suspect(&mut self, provider: &mut Tracked, own: i64, now_ms: i64) {
        let after = suspect_after(limits(self, provider));
        for (call, state) in self.calls.range_mut((Bound::Excluded(self.judged), Bound::Unbounded)) {
            if own - state.began <= after {
                return;
            }
            self.judged = *call;
            // What is out already is not put out by what began before.
            let counts = |tracked: &Tracked| tracked.view().gate() != Gate::Open;
            state.suspected = (counts(&self.tracked), counts(provider));
            let mut delta = Delta::default();
            delta.failed(self.account);
            for (tracked, counted) in [(&mut self.tracked, state.suspected.0), (&mut *provider, state.suspected.1)] {
                if counted {
                    tracked.learn(&delta, own, now_ms);
                }
            }
        }
    }

    /// Whether so many calls are late, or have failed, that it looks like the beginning of an outage.
    fn late(&self, limits: Limits, own: i64, trip_after: u32) -> bool {
        let Some(p95) = limits.p95.filter(|_| limits.calls >= HISTORY) else { return false };
        let after = i64::from(p95).max(LATE_LEAST_MS);
        let unjudged = self.calls.range((Bound::Excluded(self.judged), Bound::Unbounded));
        // Two late ones weigh as much as a failure.
        let most = usize::try_from(trip_after.saturating_mul(2)).unwrap_or(usize::MAX);
        let late = unjudged.take(most).take_while(|(_, call)| own - call.began > after).count();
        let run = usize::try_from(self.tracked.view().run()).unwrap_or(usize::MAX);
        late.saturating_add(run.saturating_mul(2)) >= most
    }

    fn drop_lost(&mut self, provider: &mut Tracked, own: i64) {
        while let Some(oldest) = self.calls.first_entry().filter(|entry| own - entry.get().began > LOST_MS) {
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
    providers: &'a mut HashMap<(ProviderName, Flow), Tracked>,
    id: &RouteId,
) -> Option<(&'a mut Route, &'a mut Tracked)> {
    routes.get_mut(id).zip(providers.get_mut(&(id.provider, id.flow)))
}

/// The route's own, or those of its provider while it has too few calls to tell.
fn limits(route: &Route, provider: &Tracked) -> Limits {
    let own = route.tracked.limits();
    if own.calls < LONG_HISTORY && provider.limits().calls > own.calls { provider.limits() } else { own }
}

fn suspect_after(limits: Limits) -> i64 {
    let Some(p999) = limits.p999.filter(|_| limits.calls >= HISTORY).map(i64::from) else { return SUSPECT_UNKNOWN_MS };
    let patience = if limits.calls < LONG_HISTORY { p999 + p999 / 2 } else { p999 };
    patience.max(SUSPECT_LEAST_MS)
}

fn standing(subject: Subject, vital: &Vital) -> Standing {
    Standing {
        subject,
        gate: vital.gate(),
        since_ms: vital.breaker().since_ms(),
        answering: vital.gate() == Gate::Open && vital.breaker().progress() > 0,
        heard: vital.score().rate() > 0.0,
        failing: vital.score().failing_permille(),
        usually_failing: vital.score().usually_failing_permille(),
    }
}

const fn severity(gate: Gate) -> u8 {
    match gate {
        Gate::Closed => 0,
        Gate::Ramping => 1,
        Gate::Trial => 2,
        Gate::Open => 3,
    }
}

fn worse<'a>(one: &'a Vital, other: &'a Vital) -> &'a Vital {
    if one.score().mean() <= other.score().mean() { one } else { other }
}

/// The same on every gateway.
fn hash(account_id: &str) -> AccountHash {
    let digest = Sha256::digest(account_id.as_bytes());
    digest.iter().take(4).fold(0, |hash, byte| (hash << 8) | AccountHash::from(*byte))
}

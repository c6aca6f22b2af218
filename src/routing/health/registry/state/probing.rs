//! Who is asked whether it is back, by whom, and over which account.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{RegistryState, Route, pair};
use crate::routing::health::delta::{Delta, MerchantHash};
use crate::routing::health::key::{HealthKey, Whole};
use crate::routing::health::registry::types::Probe;
use crate::routing::health::{BreakerState, RouteId, Verdict};

impl RegistryState {
    pub(in crate::routing::health::registry) fn probes_due(&mut self) -> Vec<Probe> {
        self.compare();
        let mut turns = std::mem::take(&mut self.won);
        turns.extend(self.providers_due());
        turns.extend(self.routes_due());
        let mut seen = HashSet::new();
        turns.retain(|subject| seen.insert(subject.clone()));
        turns
            .into_iter()
            .filter_map(|subject| self.probe(subject))
            .collect()
    }

    /// Providers that this gateway has to ask now.
    fn providers_due(&mut self) -> Vec<HealthKey> {
        let (own, now_ms, shared) = (self.own, self.seen_ms, self.settings.shared);
        let mut turns = Vec::new();

        for (whole, provider) in &mut self.providers {
            provider.tick(now_ms);
            let is_overdue = provider.is_overdue(own);
            if !is_overdue && !provider.view().probe_due() {
                continue;
            }
            // Whoever has no account on the board to ask over leaves the turn to others.
            if !self.routes.values().any(|route| route.whole == *whole) {
                continue;
            }
            provider.claim(own, now_ms);
            // One question is enough for both.
            let routes = self
                .routes
                .values_mut()
                .filter(|route| route.whole == *whole);
            let of = provider.view().breaker().of();
            let routes = routes.filter(|route| of.is_none_or(|of| of == route.merchant));
            routes
                .filter(|r| r.tracked.view().probe_due())
                .for_each(|r| r.tracked.claim(own, now_ms));
            if is_overdue || !shared {
                turns.push(HealthKey::Provider(Whole::clone(whole)));
            }
        }

        turns
    }

    /// Routes that this gateway has to ask about now. While its whole provider is out, a route is
    /// asked about when it is its turn to ask about that.
    fn routes_due(&mut self) -> Vec<HealthKey> {
        let (own, now_ms, shared) = (self.own, self.seen_ms, self.settings.shared);
        let mut turns = Vec::new();

        for (id, route) in &mut self.routes {
            route.tracked.tick(now_ms);
            let provider = self.providers.get(&route.whole);
            if provider
                .is_some_and(|p| p.view().breaker().gate_for(route.merchant) == BreakerState::Open)
            {
                continue;
            }
            let is_overdue = route.tracked.is_overdue(own);
            if !is_overdue && !route.tracked.view().probe_due() {
                continue;
            }
            route.tracked.claim(own, now_ms);
            if is_overdue || !shared {
                turns.push(HealthKey::Route(RouteId::clone(id)));
            }
        }

        turns
    }

    /// Over which account this probe goes, if there is a place for it.
    fn probe(&mut self, subject: HealthKey) -> Option<Probe> {
        let own = self.own;
        // A turn that cannot be used is over all the same: taken again at once and without an end,
        // it would be written to the store so often that nothing of the others' gets there.
        match &subject {
            HealthKey::Route(id) => self.routes.get_mut(id).map(|route| route.tracked.asks(own)),
            HealthKey::Provider(whole) => self
                .providers
                .get_mut(whole)
                .map(|provider| provider.asks(own)),
        };

        let id = match &subject {
            HealthKey::Route(id) => id.clone(),
            HealthKey::Provider(whole) => self.asked_over(whole)?,
        };
        if matches!(subject, HealthKey::Route(_)) && self.is_out_with_its_provider(&id) {
            return None;
        }
        let route = self.routes.get_mut(&id)?;
        if !self.probing.places.take(&route.merchant) {
            return None;
        }
        route.probed = own;

        Some(Probe {
            subject,
            route: id,
            merchant: route.merchant,
            credentials: route.credentials,
        })
    }

    fn is_out_with_its_provider(&self, id: &RouteId) -> bool {
        let route = self.routes.get(id);
        let provider = route.and_then(|route| Some((route, self.providers.get(&route.whole)?)));
        provider.is_some_and(|(route, p)| {
            p.view().breaker().gate_for(route.merchant) == BreakerState::Open
        })
    }

    /// Which account asks whether a provider is back. The one that was answered last, above all one
    /// of another merchant than that whose failures it is out for; and as long as that one is not
    /// answered, every other time the one that was not asked for the longest, by merchants in turn:
    /// the best may have died of its own meanwhile, and one merchant with a thousand dead accounts
    /// must not have all turns.
    fn asked_over(&mut self, whole: &Whole) -> Option<RouteId> {
        let (key, provider) = self.providers.get_key_value(whole)?;
        let (of, answers) = (
            provider.view().breaker().of(),
            provider.view().breaker().progress() > 0,
        );
        let turn = self.probing.turns.entry(Arc::clone(key)).or_default();
        *turn = turn.wrapping_add(1);
        let over_the_best = answers || !turn.is_multiple_of(2);

        let ways = self
            .routes
            .iter()
            .filter(|(_, route)| *route.whole == *whole);
        if over_the_best {
            let rank = |id: &Arc<RouteId>, route: &Route| {
                let worked_ago_ms = route.tracked.view().worked_ago_ms();
                (
                    Some(route.merchant) == of,
                    worked_ago_ms.is_none(),
                    worked_ago_ms,
                    route.probed,
                    Arc::clone(id),
                )
            };
            return ways
                .min_by_key(|(id, route)| rank(id, route))
                .map(|(id, _)| RouteId::clone(id));
        }

        let mut asked: HashMap<MerchantHash, i64> = HashMap::new();
        for (_, route) in ways.clone() {
            let last = asked.entry(route.merchant).or_insert(route.probed);
            *last = route.probed.max(*last);
        }
        let rank = |id: &Arc<RouteId>, route: &Route| {
            (
                asked.get(&route.merchant).copied(),
                route.probed,
                Arc::clone(id),
            )
        };

        ways.min_by_key(|(id, route)| rank(id, route))
            .map(|(id, _)| RouteId::clone(id))
    }

    pub(in crate::routing::health::registry) fn probed(&mut self, probe: &Probe, verdict: Verdict) {
        self.probing.places.give_back(&probe.merchant);
        let (own, now_ms) = (self.own, self.seen_ms);
        let Some((route, provider)) = pair(&mut self.routes, &mut self.providers, &probe.route)
        else {
            return;
        };
        if route.credentials != probe.credentials {
            return;
        }
        route.is_answered |= verdict == Verdict::Good;

        let (of_route, of_provider) = match verdict {
            Verdict::Good => (true, Some(true)),
            Verdict::ProviderFailed => (false, Some(false)),
            Verdict::Unbelievable => (false, route.was_ever_answered().then_some(false)),
            Verdict::AccountFailed => (false, Some(true)),
            Verdict::Nothing => return,
        };

        // There are no calls over such a route: the probes are its calls.
        let unheard = route.tracked.view().is_unheard();
        let merchant = route.merchant;

        for (tracked, good) in [
            (&mut route.tracked, Some(of_route)),
            (provider, of_provider),
        ] {
            let Some(good) = good else { continue };
            let mut delta = Delta::default();
            match tracked.view().gate() {
                BreakerState::Open => delta.probed(merchant, good),
                // Nothing new, but that it was this account that was answered.
                BreakerState::Closed | BreakerState::Ramping | BreakerState::Trial
                    if !unheard && good =>
                {
                    delta.answers(merchant)
                }
                BreakerState::Closed | BreakerState::Ramping | BreakerState::Trial if !unheard => {
                    continue;
                }
                BreakerState::Closed | BreakerState::Ramping | BreakerState::Trial if good => {
                    delta.good(merchant, false)
                }
                BreakerState::Closed | BreakerState::Ramping | BreakerState::Trial => {
                    delta.failed(merchant)
                }
            }
            tracked.learn(&delta, own, now_ms);
        }
    }
}

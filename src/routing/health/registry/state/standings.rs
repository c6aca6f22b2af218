//! How subjects are, for people and for who watches over them.

use std::collections::HashMap;
use std::sync::Arc;

use providers::order::Flow;
use providers::provider::ProviderName;

use super::{KNOWN_RATE, RegistryState, Route};
use crate::domain::Mode;
use crate::routing::health::delta::MerchantHash;
use crate::routing::health::key::{HealthKey, Whole};
use crate::routing::health::local::LocalHealth;
use crate::routing::health::record::HealthRecord;
use crate::routing::health::registry::types::HealthStatus;
use crate::routing::health::{BreakerState, RouteId};

impl RegistryState {
    /// A provider's flow at the address where most merchants call it.
    fn main(
        &self,
        provider: ProviderName,
        flow: Flow,
        mode: Mode,
    ) -> Option<(&Arc<Whole>, &LocalHealth)> {
        let address = match self.accounts.snapshot() {
            Some(snapshot) => Arc::clone(snapshot.main_address(provider, mode)?),
            None => "".into(),
        };
        self.providers.get_key_value(&Whole {
            provider,
            flow,
            mode,
            address,
        })
    }

    pub(in crate::routing::health::registry) fn provider(
        &self,
        provider: ProviderName,
        flow: Flow,
        mode: Mode,
    ) -> Option<HealthRecord> {
        self.main(provider, flow, mode)
            .map(|(_, tracked)| tracked.view().clone())
    }

    pub(in crate::routing::health::registry) fn whole(
        &self,
        provider: ProviderName,
        flow: Flow,
        mode: Mode,
    ) -> Option<HealthStatus> {
        self.main(provider, flow, mode)
            .map(|(whole, tracked)| of_whole(whole, tracked))
    }

    pub(in crate::routing::health::registry) fn standings(&self, mode: Mode) -> Vec<HealthStatus> {
        let snapshot = self.accounts.snapshot();
        let is_main = |whole: &Whole| {
            let main = snapshot
                .as_ref()
                .map(|snapshot| snapshot.main_address(whole.provider, mode));
            whole.mode == mode && main.is_none_or(|main| main == Some(&whole.address))
        };

        let routes = self
            .routes
            .iter()
            .filter(|(_, route)| route.whole.mode == mode);
        let routes =
            routes.filter(|(_, route)| route.tracked.view().gate() != BreakerState::Closed);
        let routes = routes.map(|(id, route)| self.of_route(id, route));
        let votes = self.votes(mode);
        let providers = self
            .providers
            .iter()
            .filter(|(whole, _)| is_main(whole))
            .map(|(whole, tracked)| {
                let standing = of_whole(whole, tracked);
                // Where several merchants call, the middle one of them says how it is, and none who
                // fails a lot by itself.
                let middle = votes
                    .get(whole)
                    .filter(|_| tracked.view().is_shared())
                    .and_then(middle);
                HealthStatus {
                    failing: middle.unwrap_or(standing.failing).min(standing.failing),
                    ..standing
                }
            });

        providers.chain(routes).collect()
    }

    /// Of a thousand calls so many are believed to fail over the best route of each merchant that
    /// has called lately.
    fn votes(&self, mode: Mode) -> HashMap<Arc<Whole>, HashMap<MerchantHash, i64>> {
        let mut votes: HashMap<Arc<Whole>, HashMap<MerchantHash, i64>> = HashMap::new();
        for route in self
            .routes
            .values()
            .filter(|route| route.whole.mode == mode)
        {
            let score = route.tracked.view().score();
            if score.rate() > KNOWN_RATE {
                let failing = score.failing_permille();
                let vote = votes
                    .entry(Arc::clone(&route.whole))
                    .or_default()
                    .entry(route.merchant)
                    .or_insert(failing);
                *vote = failing.min(*vote);
            }
        }

        votes
    }

    pub(in crate::routing::health::registry) fn standing(
        &self,
        subject: &HealthKey,
    ) -> Option<HealthStatus> {
        match subject {
            HealthKey::Provider(whole) => self
                .providers
                .get(whole)
                .map(|tracked| of_whole(whole, tracked)),
            HealthKey::Route(id) => self.routes.get(id).map(|route| self.of_route(id, route)),
        }
    }

    fn of_route(&self, id: &RouteId, route: &Route) -> HealthStatus {
        let whole = self
            .providers
            .get(&route.whole)
            .map(|provider| provider.view().breaker().gate_for(route.merchant));
        let standing = standing(HealthKey::Route(id.clone()), route.tracked.view());
        HealthStatus {
            with_provider: whole
                .is_some_and(|gate| matches!(gate, BreakerState::Open | BreakerState::Trial)),
            ..standing
        }
    }
}

/// The lower one of the two in the middle.
fn middle(votes: &HashMap<MerchantHash, i64>) -> Option<i64> {
    let mut sorted: Vec<i64> = votes.values().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

fn of_whole(whole: &Whole, tracked: &LocalHealth) -> HealthStatus {
    standing(HealthKey::Provider(whole.clone()), tracked.view())
}

fn standing(subject: HealthKey, vital: &HealthRecord) -> HealthStatus {
    HealthStatus {
        subject,
        gate: vital.gate(),
        since_ms: vital.breaker().since_ms(),
        answering: vital.gate() == BreakerState::Open && vital.breaker().progress() > 0,
        has_recent_calls: vital.score().rate() > 0.0,
        failing: vital.score().failing_permille(),
        usually_failing: vital.score().usually_failing_permille(),
        with_provider: false,
    }
}

//! What is exchanged with other gateways by way of the store, of which nothing is believed that
//! cannot be.

use std::sync::Arc;

use super::{RegistryState, SUBJECTS};
use crate::routing::health::RouteId;
use crate::routing::health::key::{HealthKey, Whole};
use crate::routing::health::local::LocalHealth;
use crate::routing::health::record::HealthRecord;
use crate::routing::health::registry::types::{Adopted, Change};

impl RegistryState {
    pub(in crate::routing::health::registry) fn take_changes(&mut self) -> Vec<Change> {
        let gateway = self.settings.gateway;
        let mut changes = Vec::new();
        let routes = self
            .routes
            .iter_mut()
            .map(|(id, route)| (HealthKey::Route(RouteId::clone(id)), &mut route.tracked));
        let providers = self
            .providers
            .iter_mut()
            .map(|(key, tracked)| (HealthKey::Provider(Whole::clone(key)), tracked));

        for (subject, tracked) in routes.chain(providers) {
            if let Some(vital) = tracked.take_change(gateway, self.next_flush) {
                self.next_flush += 1;
                changes.push(Change {
                    subject,
                    version: tracked.version(),
                    vital,
                });
            }
        }

        changes
    }

    pub(in crate::routing::health::registry) fn versions(&self) -> Vec<(HealthKey, u64)> {
        let routes = self
            .routes
            .iter()
            .map(|(id, route)| (HealthKey::Route(RouteId::clone(id)), &route.tracked));
        let providers = self
            .providers
            .iter()
            .map(|(key, tracked)| (HealthKey::Provider(Whole::clone(key)), tracked));
        routes
            .chain(providers)
            .map(|(subject, tracked)| (subject, tracked.version()))
            .collect()
    }

    pub(in crate::routing::health::registry) fn adopt(
        &mut self,
        subject: &HealthKey,
        vital: HealthRecord,
        version: u64,
    ) -> Adopted {
        let (gateway, own, now_ms, next_flush) = (
            self.settings.gateway,
            self.own,
            self.seen_ms,
            self.next_flush,
        );
        let manner = match subject {
            HealthKey::Route(RouteId { provider, flow, .. })
            | HealthKey::Provider(Whole { provider, flow, .. }) => self.manner(*provider, *flow),
        };
        let full = self.routes.len() + self.providers.len() >= SUBJECTS;
        let Some(tracked) = self.tracked(subject, full) else {
            return Adopted::NotOurs;
        };

        // A flush of ours that we never made is somebody's invention.
        let invented = vital
            .flush_of(gateway)
            .is_some_and(|flush| flush >= next_flush);
        if invented || !vital.is_sane(manner, now_ms) {
            tracked.keep_view_over(version);
            return Adopted::Refused;
        }
        if tracked.adopt(vital, version, gateway, own, now_ms) {
            self.won.push(subject.clone());
        }

        Adopted::Taken
    }

    #[cfg(feature = "testing")]
    pub(in crate::routing::health::registry) fn believe(
        &mut self,
        subject: &HealthKey,
        vital: HealthRecord,
        version: u64,
    ) {
        let (gateway, own, now_ms) = (self.settings.gateway, self.own, self.seen_ms);
        let won = self
            .tracked(subject, false)
            .is_some_and(|t| t.adopt(vital, version, gateway, own, now_ms));
        if won {
            self.won.push(subject.clone());
        }
    }

    /// What is kept of a subject; a route that nobody has used here yet is put on the board, a
    /// provider that no account here leads to is not.
    fn tracked(&mut self, subject: &HealthKey, full: bool) -> Option<&mut LocalHealth> {
        match subject {
            HealthKey::Route(id) => {
                if (full && !self.routes.contains_key(id)) || !self.know(id) {
                    return None;
                }
                self.routes.get_mut(id).map(|route| &mut route.tracked)
            }
            HealthKey::Provider(whole) => {
                let is_new = !self.providers.contains_key(whole);
                if is_new && !full && self.leads_to(whole) {
                    let tracked =
                        LocalHealth::new(self.manner(whole.provider, whole.flow), self.seen_ms);
                    self.providers.insert(Arc::new(whole.clone()), tracked);
                }
                self.providers.get_mut(whole)
            }
        }
    }

    /// Whether an account calls this provider at this address; whichever, as long as nobody has
    /// said anything of accounts.
    fn leads_to(&self, whole: &Whole) -> bool {
        self.accounts
            .snapshot()
            .is_none_or(|snapshot| snapshot.calls(whole.provider, whole.mode, &whole.address))
    }

    /// What the store has of a subject cannot even be read.
    pub(in crate::routing::health::registry) fn refuse(
        &mut self,
        subject: &HealthKey,
        version: u64,
    ) -> Adopted {
        match self.tracked(subject, true) {
            Some(tracked) => {
                tracked.keep_view_over(version);
                Adopted::Refused
            }
            None => Adopted::NotOurs,
        }
    }

    /// The store has nothing of this subject, although something was written.
    pub(in crate::routing::health::registry) fn forgotten(&mut self, subject: &HealthKey) {
        if let Some(tracked) = self.tracked(subject, true) {
            tracked.reseed();
        }
    }

    /// An exchange went well. Returns in how many of them in a row the store was silent about
    /// something written.
    pub(in crate::routing::health::registry) fn exchanged(&mut self) -> u32 {
        let routes = self.routes.values_mut().map(|route| &mut route.tracked);
        routes
            .chain(self.providers.values_mut())
            .map(LocalHealth::exchanged)
            .max()
            .unwrap_or(0)
    }

    pub(in crate::routing::health::registry) fn reseed(&mut self) {
        self.won.clear();
        self.routes
            .values_mut()
            .for_each(|route| route.tracked.reseed());
        self.providers.values_mut().for_each(LocalHealth::reseed);
    }
}

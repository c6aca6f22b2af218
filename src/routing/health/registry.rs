//! What one gateway keeps of the health of all routes: it is told of every call, decides at once by
//! what it knows, and exchanges what it has learned with the other gateways when its owner says so.
//! No I/O; the time is handed in and should be that of a clock that is not set: a leap of it counts
//! as no time at all.
//!
//! Whoever owns it calls [`HealthRegistry::tick`] at least every 200 ms.

mod state;
mod types;

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use providers::order::Flow;
use providers::provider::ProviderName;
use rand::Rng;

use self::state::RegistryState;
pub use self::types::{Adopted, Change, HealthStatus, Probe, Removal, Settings, Ticket};
use super::accounts::Accounts;
use super::key::HealthKey;
use super::record::HealthRecord;
use super::{RouteId, RouteView, Verdict};
use crate::domain::Mode;

/// The health of all routes, as this gateway knows it.
#[derive(Debug)]
pub struct HealthRegistry {
    inner: Mutex<RegistryState>,
}

impl HealthRegistry {
    /// An empty one.
    #[must_use]
    pub fn new(settings: Settings, accounts: Arc<Accounts>, now_ms: i64) -> Self {
        Self {
            inner: Mutex::new(RegistryState::new(settings, accounts, now_ms)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, RegistryState> {
        self.inner.lock()
    }

    /// A call is about to be made.
    pub fn begin(&self, route: &RouteId, now_ms: i64) -> Ticket {
        let mut inner = self.inner();
        inner.advance(now_ms);
        inner.begin(route)
    }

    /// A call has ended.
    #[expect(clippy::needless_pass_by_value, reason = "a call ends once")]
    pub fn end(&self, ticket: Ticket, verdict: Verdict, now_ms: i64) {
        let mut inner = self.inner();
        inner.advance(now_ms);
        inner.end(&ticket, verdict);
    }

    /// A payment took the route without a call: its offer was signed here. Such routes are probed
    /// while closed too.
    pub fn signed_here(&self, route: &RouteId, now_ms: i64) {
        let mut inner = self.inner();
        inner.advance(now_ms);
        inner.signed_here(route);
    }

    /// How a route is, for a payment that may take it: draws, and hands out trials.
    pub fn admit(&self, route: &RouteId, now_ms: i64, rng: &mut impl Rng) -> RouteView {
        let mut inner = self.inner();
        inner.advance(now_ms);
        inner.admit(route, rng)
    }

    /// How a route is, for people: nothing is drawn, `sampled_success` is what is believed.
    #[must_use]
    pub fn snapshot(&self, route: &RouteId, now_ms: i64) -> RouteView {
        let mut inner = self.inner();
        inner.advance(now_ms);
        inner.snapshot(route)
    }

    /// How a provider's flow is over all accounts in a mode, for people: at the address where most
    /// merchants call it.
    #[must_use]
    pub fn peek_provider(
        &self,
        provider: ProviderName,
        flow: Flow,
        mode: Mode,
    ) -> Option<HealthRecord> {
        self.inner().provider(provider, flow, mode)
    }

    /// The same for who watches.
    #[must_use]
    pub fn whole(&self, provider: ProviderName, flow: Flow, mode: Mode) -> Option<HealthStatus> {
        self.inner().whole(provider, flow, mode)
    }

    /// How all providers' flows are in a mode, each where most merchants call it, and those
    /// accounts' routes that do not take all payments, for who watches.
    #[must_use]
    pub fn standings(&self, mode: Mode) -> Vec<HealthStatus> {
        self.inner().standings(mode)
    }

    /// How one subject is, if anything is known of it.
    #[must_use]
    pub fn standing(&self, subject: &HealthKey) -> Option<HealthStatus> {
        self.inner().standing(subject)
    }

    /// After so long a call over this route is suspected to have failed, in milliseconds.
    #[must_use]
    pub fn suspicion_ms(&self, route: &RouteId, now_ms: i64) -> i64 {
        let mut inner = self.inner();
        inner.advance(now_ms);
        inner.suspicion_ms(route)
    }

    /// What time brings. At least every 200 ms.
    pub fn tick(&self, now_ms: i64) {
        let mut inner = self.inner();
        inner.advance(now_ms);
        inner.tick();
    }

    /// Probes that this gateway has to make now, and nobody else. They may take as long as they
    /// need; each ends in [`HealthRegistry::probed`].
    #[must_use]
    pub fn probes_due(&self, now_ms: i64) -> Vec<Probe> {
        let mut inner = self.inner();
        inner.advance(now_ms);
        inner.probes_due()
    }

    /// A probe came back.
    pub fn probed(&self, probe: &Probe, verdict: Verdict, now_ms: i64) {
        let mut inner = self.inner();
        inner.advance(now_ms);
        inner.probed(probe, verdict);
    }

    /// Whether there are others to agree with: false while the store is away.
    pub fn set_shared(&self, shared: bool) {
        self.inner().set_shared(shared);
    }

    /// Whether the last exchange with the others went well.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.inner().is_shared()
    }

    /// What has to be written for the others. What becomes of it is told by
    /// [`HealthRegistry::adopt`] alone: with the state that was written, or the one that was there
    /// instead, or the one that is found at the next reading.
    #[must_use]
    pub fn take_changes(&self) -> Vec<Change> {
        self.inner().take_changes()
    }

    /// Which versions this gateway knows.
    #[must_use]
    pub fn versions(&self) -> Vec<(HealthKey, u64)> {
        self.inner().versions()
    }

    /// What has left the board since the last time, and is still stored.
    #[must_use]
    pub fn take_removals(&self) -> Vec<Removal> {
        self.inner().take_removals()
    }

    /// Takes over what is stored of a subject, if a gateway can have written it.
    pub fn adopt(
        &self,
        subject: &HealthKey,
        vital: HealthRecord,
        version: u64,
        now_ms: i64,
    ) -> Adopted {
        let mut inner = self.inner();
        inner.advance(now_ms);
        inner.adopt(subject, vital, version)
    }

    /// Takes over what is stored, whatever it is.
    #[cfg(feature = "testing")]
    pub fn believe(&self, subject: &HealthKey, vital: HealthRecord, version: u64, now_ms: i64) {
        let mut inner = self.inner();
        inner.advance(now_ms);
        inner.believe(subject, vital, version);
    }

    /// What is stored of a subject cannot even be read: what is known here is written over it.
    pub fn refuse(&self, subject: &HealthKey, version: u64) -> Adopted {
        self.inner().refuse(subject, version)
    }

    /// The store has nothing of this subject: it is written anew.
    pub fn forgotten(&self, subject: &HealthKey) {
        self.inner().forgotten(subject);
    }

    /// An exchange went well, and all that it brought was adopted. Returns in how many of them in a
    /// row the store has said nothing at all about something that was written to it.
    pub fn exchanged(&self) -> u32 {
        self.inner().exchanged()
    }

    /// The store was found empty: everything is written anew.
    pub fn reseed(&self) {
        self.inner().reseed();
    }
}

#[cfg(test)]
mod tests;

//! One subject as one gateway has it: what all gateways last agreed on, what this one has learned
//! since, and the sum of both, which it decides by. Nothing learned is lost or counted twice,
//! whatever becomes of a write on its way.

use super::breaker::BreakerConfig;
use super::delta::Delta;
use super::record::HealthRecord;
use crate::mutate;

/// With more writes whose fate is not known, the last two are looked at as one.
const SENT: usize = 4;
/// What was learned apart from the others for longer than this is newer than what they have stored.
const APART_MS: i64 = 10_000;
/// A right to probe that was asked for and neither given nor taken by somebody else for so long is
/// as good as had.
const CLAIM_MS: i64 = 3_000;
/// A trial that nobody began is offered again after this.
const GRANT_MS: i64 = 500;

/// One subject.
#[derive(Debug)]
pub struct LocalHealth {
    base: HealthRecord,
    version: u64,
    sent: Vec<(u32, Delta)>,
    pending: Delta,
    /// Since when there is something pending, on the board's clock.
    pending_since: Option<i64>,
    /// To be written even without news.
    unwritten: bool,
    view: HealthRecord,
    limits: Limits,
    stale_limits: bool,
    trial: Trial,
    /// When the right to probe was asked for that is still open.
    claimed: Option<i64>,
    /// When somebody has asked last, as far as is known; while nobody has to, when somebody last
    /// had to.
    asked: Option<i64>,
    /// How many exchanges in a row have shown neither what was written nor what somebody else wrote
    /// instead.
    missed: u32,
}

/// By when calls are over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// 95 of 100.
    pub p95: Option<u32>,
    /// 99 of 100.
    pub p99: Option<u32>,
    /// 999 of 1,000.
    pub p999: Option<u32>,
    /// Calls that say so.
    pub calls: u32,
}

/// Who may be the trial.
#[derive(Debug, Default)]
struct Trial {
    calls: u32,
    granted: Option<i64>,
}

impl LocalHealth {
    pub(super) fn new(manner: BreakerConfig, now_ms: i64) -> Self {
        let vital = HealthRecord::new(manner, now_ms);

        Self {
            base: vital.clone(),
            version: 0,
            sent: Vec::new(),
            pending: Delta::default(),
            pending_since: None,
            unwritten: false,
            view: vital,
            limits: Limits::default(),
            stale_limits: false,
            trial: Trial::default(),
            claimed: None,
            asked: None,
            missed: 0,
        }
    }

    pub(super) const fn view(&self) -> &HealthRecord {
        &self.view
    }

    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn tick(&mut self, now_ms: i64) {
        self.view.tick(now_ms);
    }

    /// Reads the limits anew when calls came in: too much work for every call.
    pub(super) fn refresh(&mut self) {
        if self.stale_limits {
            self.stale_limits = false;
            self.limits = Limits::of(&self.view);
        }
    }

    /// Something was learned: it counts here at once.
    pub(super) fn learn(&mut self, delta: &Delta, own: i64, now_ms: i64) {
        self.view.apply(delta, now_ms);
        self.stale_limits |= !delta.latencies.is_empty();
        if self.limits.calls < 200 {
            self.refresh();
        }
        self.pending = std::mem::take(&mut self.pending).then(delta);
        self.pending_since.get_or_insert(own);
    }

    /// Asks for the right to probe; alone, that is to have it.
    pub(super) fn claim(&mut self, own: i64, now_ms: i64) {
        self.claimed.get_or_insert(own);
        self.learn(
            &Delta {
                claim: true,
                ..Delta::default()
            },
            own,
            now_ms,
        );
    }

    /// Whether this gateway has to ask, whatever the others say: it has asked for the right and
    /// heard nothing, or somebody has to ask, and for two pauses nobody is known to have done so.
    /// What the store says may be a lie, or whoever has the right may be dead.
    pub(super) fn is_overdue(&mut self, own: i64) -> bool {
        mutate!(BelieveRedis => return false);
        if !self.view.wants_probes() {
            (self.asked, self.claimed) = (None, None);
            return false;
        }
        let asked = *self.asked.get_or_insert(own);
        let pause = i64::from(self.view.manner().probe_every_ms);
        let is_unconfirmed = self
            .claimed
            .is_some_and(|at| own.saturating_sub(at) >= CLAIM_MS);
        is_unconfirmed || own.saturating_sub(asked) >= pause.saturating_mul(2)
    }

    /// This gateway asks now.
    pub(super) fn asks(&mut self, own: i64) {
        (self.asked, self.claimed) = (Some(own), None);
    }

    /// Whether this payment may be the trial. Taken back by itself when the payment goes elsewhere.
    pub(super) fn try_trial(&mut self, own: i64) -> bool {
        let free = self.trial.calls == 0
            && self
                .trial
                .granted
                .is_none_or(|at| own.saturating_sub(at) >= GRANT_MS);
        if free {
            self.trial.granted = Some(own);
        }
        free
    }

    /// A call begins, and may be a trial, which it returns.
    pub(super) fn begin(&mut self, is_trial: bool) -> bool {
        self.trial.calls += u32::from(is_trial);
        is_trial
    }

    /// A trial is over.
    pub(super) const fn end_trial(&mut self) {
        self.trial.calls = self.trial.calls.saturating_sub(1);
        self.trial.granted = None;
    }

    /// The next state to write, if there is news; `flush` numbers it.
    pub(super) fn take_change(&mut self, gateway: u32, flush: u32) -> Option<HealthRecord> {
        // What was sent and is not found in the store was lost on its way, or lost against another
        // write.
        if self.pending.is_empty() && self.sent.is_empty() && !self.unwritten {
            return None;
        }

        let mut delta = std::mem::take(&mut self.pending);
        self.unwritten = false;
        if self.sent.len() >= SENT
            && let Some((_, last)) = self.sent.pop()
        {
            delta = last.then(&delta);
        }
        self.sent.push((flush, delta));
        let mut vital = self.view.clone();
        vital.flushed(gateway, flush);

        Some(vital)
    }

    /// Takes over what is stored. Returns whether a right to probe was had by it.
    pub(super) fn adopt(
        &mut self,
        vital: HealthRecord,
        version: u64,
        gateway: u32,
        own: i64,
        now_ms: i64,
    ) -> bool {
        let mut won = false;
        self.missed = 0;
        self.sent.retain(|(flush, delta)| {
            let is_in = vital.includes(gateway, *flush);
            won |= is_in && delta.claim;
            !is_in
        });

        if self.sent.is_empty() && self.pending.is_empty() {
            self.pending_since = None;
        }
        if won {
            self.claimed = None;
        }
        let apart = self
            .pending_since
            .is_some_and(|since| own.saturating_sub(since) > APART_MS);

        if apart || version < self.version {
            // The store was away, or has lost what it had: this view is the newer one.
            self.version = version;
            self.keep_view();
            return won;
        }

        if vital.probed_at() != self.base.probed_at() {
            // Somebody has asked, and was answered or not.
            self.asked = Some(own);
        }
        self.base = vital;
        self.version = version;
        self.view = self.base.clone();
        self.view.tick(now_ms);
        let free = self.view.probe_due();

        if !free {
            // Somebody else asks already, or nobody has to.
            self.claimed = None;
        }
        for delta in self
            .sent
            .iter_mut()
            .map(|(_, delta)| delta)
            .chain([&mut self.pending])
        {
            delta.claim &= free;
            self.view.apply(delta, now_ms);
        }
        self.stale_limits = true;

        won
    }

    /// The store has forgotten it.
    pub(super) fn reseed(&mut self) {
        self.keep_view_over(0);
    }

    /// What the store has under this version cannot be: this view is to be written over it.
    pub(super) fn keep_view_over(&mut self, version: u64) {
        (self.version, self.missed) = (version, 0);
        self.keep_view();
    }

    /// An exchange has gone well. Returns in how many of them in a row the store has kept silent
    /// about what was written.
    pub(super) const fn exchanged(&mut self) -> u32 {
        self.missed = if self.sent.is_empty() {
            0
        } else {
            self.missed.saturating_add(1)
        };
        self.missed
    }

    fn keep_view(&mut self) {
        self.base = self.view.clone();
        self.sent.clear();
        self.pending = Delta::default();
        self.pending_since = None;
        self.unwritten = true;
    }
}

impl Limits {
    fn of(vital: &HealthRecord) -> Self {
        let latencies = vital.latencies();
        Self {
            p95: latencies.quantile(0.95),
            p99: latencies.quantile(0.99),
            p999: latencies.quantile(0.999),
            calls: whole(latencies.weight()),
        }
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "some thousands"
)]
const fn whole(weight: f64) -> u32 {
    weight.clamp(0.0, 1e6) as u32
}

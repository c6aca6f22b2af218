//! The board, and the time it lives in: a clock that nobody sets. It begins at the machine's time
//! and follows the shared store's, so that gateways mean the same by a moment; it never goes by the
//! wall clock after that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Instant;

use providers::outcome::{
    ADDRESS_NOT_ALLOWED, CreateOutcome, Failure, FailureKind, NO_ROOM, QueryOutcome, Refusal,
};

use super::accounts::Accounts;
use super::registry::{HealthRegistry, Probe, Settings, Ticket};
use super::{RouteId, RouteView, Verdict};
use crate::domain::Timestamp;

/// From one exchange to the next the time is corrected by this much at the most, after the first
/// one.
const CORRECTION_MS: i64 = 10;

/// A store's clock that is further off than this is wrong, or somebody's invention.
const FOLLOWED_MS: i64 = 300_000;

/// The health of all routes, as this gateway knows it, now.
#[derive(Debug)]
pub struct HealthMonitor {
    board: HealthRegistry,
    began: Instant,
    base_ms: AtomicI64,
    follows: AtomicBool,
    /// Whether health is kept at all.
    breakers: bool,
}

impl HealthMonitor {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(
        settings: Settings,
        accounts: Arc<Accounts>,
        breakers: bool,
        now: Timestamp,
    ) -> Self {
        Self {
            board: HealthRegistry::new(settings, accounts, now.0),
            began: Instant::now(),
            base_ms: AtomicI64::new(now.0),
            follows: AtomicBool::new(false),
            breakers,
        }
    }

    /// The board, for who exchanges what it knows.
    #[must_use]
    pub const fn board(&self) -> &HealthRegistry {
        &self.board
    }

    /// Milliseconds since 1970, on a clock that nobody sets.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        let gone = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.base_ms.load(Ordering::Relaxed).saturating_add(gone)
    }

    /// The shared store's clock showed this just now. One that is hours off is not followed: it
    /// would be told to people. Returns whether it was.
    pub fn follow(&self, store_ms: i64) -> bool {
        let behind = store_ms.saturating_sub(self.now_ms());
        if behind.saturating_abs() > FOLLOWED_MS {
            return false;
        }
        let first = !self.follows.swap(true, Ordering::Relaxed);
        let step = if first {
            behind
        } else {
            behind.clamp(-CORRECTION_MS, CORRECTION_MS)
        };
        self.base_ms.fetch_add(step, Ordering::Relaxed);
        true
    }

    /// A call is about to be made.
    pub fn begin(&self, route: &RouteId) -> Option<Ticket> {
        self.breakers
            .then(|| self.board.begin(route, self.now_ms()))
    }

    /// A call has ended.
    pub fn end(&self, ticket: Option<Ticket>, verdict: Verdict) {
        if let Some(ticket) = ticket {
            self.board.end(ticket, verdict, self.now_ms());
        }
    }

    /// How a route is, for a payment that may take it.
    #[must_use]
    pub fn admit(&self, route: &RouteId) -> RouteView {
        if !self.breakers {
            return RouteView::unknown();
        }
        self.board.admit(route, self.now_ms(), &mut rand::rng())
    }

    /// How a route is, for people.
    #[must_use]
    pub fn snapshot(&self, route: &RouteId) -> RouteView {
        if !self.breakers {
            return RouteView::unknown();
        }
        self.board.snapshot(route, self.now_ms())
    }

    /// What time brings.
    pub fn tick(&self) {
        self.board.tick(self.now_ms());
    }

    /// Probes that this gateway has to make now.
    #[must_use]
    pub fn probes_due(&self) -> Vec<Probe> {
        self.board.probes_due(self.now_ms())
    }

    /// A probe came back.
    pub fn probed(&self, probe: &Probe, verdict: Verdict) {
        self.board.probed(probe, verdict, self.now_ms());
    }
}

/// What the end of a creating call says of its route. A payer's "no", and one to this order or to
/// our parameters, show that the provider works.
#[must_use]
pub fn verdict(outcome: &CreateOutcome) -> Verdict {
    match outcome {
        CreateOutcome::Accepted(_)
        | CreateOutcome::Captured(_)
        | CreateOutcome::Waiting
        | CreateOutcome::Declined(_)
        | CreateOutcome::Refused(Refusal::Route | Refusal::Request, _) => Verdict::Good,
        CreateOutcome::NotSent(failure) | CreateOutcome::Unknown(failure)
            if is_own_trouble(failure) =>
        {
            Verdict::Nothing
        }
        CreateOutcome::NotSent(_) | CreateOutcome::Refused(Refusal::Provider, _) => {
            Verdict::ProviderFailed
        }
        CreateOutcome::Unknown(failure) => failed(failure.kind),
        CreateOutcome::Refused(Refusal::Account, _) => Verdict::AccountFailed,
    }
}

/// What a failure that leaves everything open says of its route. It may still be a verified word
/// about the payer's code or about our request: somebody is alive who said so.
const fn failed(kind: FailureKind) -> Verdict {
    match kind {
        FailureKind::Request | FailureKind::Declined => Verdict::Good,
        FailureKind::Account => Verdict::AccountFailed,
        FailureKind::Incompatible => Verdict::Unbelievable,
        FailureKind::RateLimited
        | FailureKind::Network
        | FailureKind::Timeout
        | FailureKind::ServerError => Verdict::ProviderFailed,
    }
}

/// This machine could not even begin, or was not allowed to.
fn is_own_trouble(failure: &Failure) -> bool {
    [NO_ROOM, ADDRESS_NOT_ALLOWED].contains(&failure.code.as_str())
}

/// What the answer to a question about an order that does not exist says of its route. "You ask too
/// often" is an answer of somebody who is alive.
#[must_use]
pub fn probe_verdict(outcome: &QueryOutcome) -> Verdict {
    match outcome {
        QueryOutcome::NotFound
        | QueryOutcome::Payable
        | QueryOutcome::Paid(_)
        | QueryOutcome::Closed
        | QueryOutcome::Reversed => Verdict::Good,
        QueryOutcome::Unknown(failure) if is_own_trouble(failure) => Verdict::Nothing,
        QueryOutcome::Unknown(Failure {
            kind: FailureKind::RateLimited,
            ..
        }) => Verdict::Good,
        QueryOutcome::Unknown(failure) => failed(failure.kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_could_not_begin_tells_of_nobody() {
        let failure = |kind, code: &str| Failure::new(kind, code, "");

        for (failure, expected) in [
            (failure(FailureKind::Network, NO_ROOM), Verdict::Nothing),
            (
                failure(FailureKind::Network, "connect"),
                Verdict::ProviderFailed,
            ),
            (
                failure(FailureKind::Timeout, "timeout"),
                Verdict::ProviderFailed,
            ),
            (
                failure(FailureKind::Account, ADDRESS_NOT_ALLOWED),
                Verdict::Nothing,
            ),
        ] {
            assert_eq!(
                verdict(&CreateOutcome::NotSent(failure.clone())),
                expected,
                "{failure:?}"
            );
            assert_eq!(
                verdict(&CreateOutcome::Unknown(failure.clone())),
                expected,
                "{failure:?}"
            );
            assert_eq!(
                probe_verdict(&QueryOutcome::Unknown(failure.clone())),
                expected,
                "{failure:?}"
            );
        }
    }

    #[test]
    fn a_word_about_a_code_or_a_request_is_the_word_of_somebody_who_is_alive() {
        for (kind, expected) in [
            (FailureKind::Declined, Verdict::Good),
            (FailureKind::Request, Verdict::Good),
            (FailureKind::Incompatible, Verdict::Unbelievable),
            (FailureKind::ServerError, Verdict::ProviderFailed),
            (FailureKind::RateLimited, Verdict::ProviderFailed),
        ] {
            assert_eq!(
                verdict(&CreateOutcome::Unknown(Failure::new(kind, "", ""))),
                expected,
                "{kind:?}"
            );
        }
        let too_often = Failure::new(FailureKind::RateLimited, "", "");
        assert_eq!(
            probe_verdict(&QueryOutcome::Unknown(too_often)),
            Verdict::Good
        );
    }
}

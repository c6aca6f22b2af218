//! What an audit has found so far: rules that are broken, and what is counted.

use super::evidence::Evidence;
use super::figures::Figures;
use crate::domain::payment::State;

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule: `kept_once`, `books_agree`, …
    pub rule: &'static str,
    /// The payment, or what else it is about.
    pub subject: String,
    /// What was found.
    pub found: String,
}

#[derive(Debug, Default)]
pub(super) struct Findings {
    violations: Vec<Violation>,
    pub(super) figures: Figures,
}

impl Findings {
    pub(super) fn add(&mut self, rule: &'static str, subject: &str, found: String) {
        self.violations.push(Violation {
            rule,
            subject: subject.to_owned(),
            found,
        });
    }

    pub(super) fn require(
        &mut self,
        holds: bool,
        rule: &'static str,
        subject: &str,
        found: impl FnOnce() -> String,
    ) {
        if !holds {
            self.add(rule, subject, found());
        }
    }

    pub(super) fn done(mut self, e: &Evidence) -> (Vec<Violation>, Figures) {
        for shopped in e.shopped.values() {
            let row = shopped
                .payment
                .as_ref()
                .and_then(|id| e.payments.iter().find(|p| p.payment.id == *id));
            let succeeded = row.is_some_and(|p| p.payment.status == State::Succeeded);
            self.figures.payments += u64::from(shopped.payment.is_some());
            self.figures.succeeded += u64::from(shopped.payable && succeeded);
            self.figures.cut_off += u64::from(shopped.payable && !shopped.is_done && !succeeded);
        }
        // Whoever would have paid and was turned away counts, too.
        self.figures.payable =
            u64::try_from(e.shopped.values().filter(|s| s.payable).count()).unwrap_or(0);
        self.figures.forged = e.forgeries.answered;
        (self.violations, self.figures)
    }
}

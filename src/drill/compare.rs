//! A run beside a hostile merchant means something only against the same run without it: same seed,
//! same plan, its own gateways and database. What the good merchant lacks more than that one, the
//! neighbour has taken.

use super::audit::{Figures, Violation};
use super::error::Error;
use super::outcome::{Outcome, percent};
use super::run::{Tools, run};
use super::scenario::Plan;

/// How many of the good merchant's payments succeeded whose payer would have paid, and was not cut
/// off before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    pub succeeded: u64,
    pub payable: u64,
}

impl From<Figures> for Share {
    fn from(figures: Figures) -> Self {
        Self {
            succeeded: figures.succeeded,
            payable: figures.payable.saturating_sub(figures.cut_off),
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { succeeded, payable } = self;
        write!(
            f,
            "{succeeded} of {payable} ({})",
            percent(*succeeded, *payable)
        )
    }
}

/// The good merchant, once without the neighbour and once beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    pub alone: Share,
    pub beside: Share,
}

impl Compared {
    /// What both runs of a further seed came to, too.
    pub fn add(&mut self, other: Self) {
        for (sum, one) in [
            (&mut self.alone, other.alone),
            (&mut self.beside, other.beside),
        ] {
            sum.succeeded += one.succeeded;
            sum.payable += one.payable;
        }
    }

    /// At most a percentage point is lost beside the neighbour, counted without rounding; and the
    /// run shows something: where less than half of the payers came through it in its time, they
    /// were kept waiting.
    fn verdict(&self) -> Option<Violation> {
        let Self { alone, beside } = self;
        // alone - beside > 1/100, both over what was payable.
        let (of_alone, of_beside) = (
            alone.succeeded * beside.payable,
            beside.succeeded * alone.payable,
        );
        let is_served = of_alone.saturating_sub(of_beside) * 100 <= alone.payable * beside.payable;
        let is_shown = alone.payable > 0 && beside.payable * 2 >= alone.payable;
        (!is_served || !is_shown).then(|| Violation {
            rule: "good_merchant_served",
            subject: "run".to_owned(),
            found: format!(
                "of payable payments succeeded {alone} without the neighbour, {beside} beside it"
            ),
        })
    }
}

/// Carries a plan out; with a neighbour also once without it, before, and compares.
///
/// # Errors
/// [`Error`].
pub async fn carry_out(tools: &Tools, plan: Plan) -> Result<(Outcome, Option<Compared>), Error> {
    if !plan.neighbour {
        return Ok((run(tools, plan).await?, None));
    }
    let alone = run(
        tools,
        Plan {
            neighbour: false,
            ..plan.clone()
        },
    )
    .await?;
    let mut outcome = run(tools, plan).await?;

    let compared = Compared {
        alone: alone.figures.into(),
        beside: outcome.figures.into(),
    };
    let own = std::mem::replace(&mut outcome.violations, alone.violations);
    outcome.violations.extend(own);
    outcome.violations.extend(compared.verdict());
    outcome.trace = alone.trace.or(outcome.trace);
    Ok((outcome, Some(compared)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(alone: u64, beside: u64) -> Compared {
        let of = |succeeded| Share {
            succeeded,
            payable: 100,
        };
        Compared {
            alone: of(alone),
            beside: of(beside),
        }
    }

    #[test]
    fn a_neighbour_may_cost_a_percentage_point_and_no_more() {
        for (alone, beside) in [(100, 100), (100, 99), (90, 89), (90, 100), (0, 0)] {
            assert_eq!(
                compared(alone, beside).verdict(),
                None,
                "{alone} and {beside}"
            );
        }
        let found = compared(100, 98).verdict().unwrap();
        assert_eq!(found.rule, "good_merchant_served");
        assert_eq!(
            found.found,
            "of payable payments succeeded 100 of 100 (100.00 %) without the neighbour, 98 of 100 \
            (98.00 %) beside it"
        );
    }

    #[test]
    fn shares_are_compared_although_not_as_many_would_have_paid() {
        let alone = Share {
            succeeded: 200,
            payable: 200,
        };
        let of = |succeeded, payable| Compared {
            alone,
            beside: Share { succeeded, payable },
        };
        assert_eq!(of(198, 200).verdict(), None);
        assert!(of(197, 200).verdict().is_some());
        assert_eq!(of(99, 100).verdict(), None);
        assert!(of(98, 100).verdict().is_some());
        assert!(of(99, 99).verdict().is_some(), "most were kept waiting");
    }
}

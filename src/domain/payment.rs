//! A payment: what the merchant asked for, once. Its states, and the payment together with its
//! attempts and refunds.

use providers::money::{Currency, Money};
use providers::order::{Flow, Shop};
use providers::outcome::Failure;
use providers::provider::ProviderName;
use strum::IntoEnumIterator as _;

use super::id::{AttemptId, PaymentId, RefundId};
use super::ledger::Head;
use super::{Attempt, Illegal, Owner, Refund, Timestamp, attempt, refund};

/// Where a payment stands.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::EnumIter,
    strum::IntoStaticStr,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = PaymentStatus)]
pub enum State {
    /// No offer yet: one is being made, or no route is able and the payment is parked.
    Created,
    /// The payer has to act.
    RequiresAction,
    /// The outcome is being found out.
    Processing,
    /// Money captured and kept.
    Succeeded,
    /// Ended without money, and nothing shown can be paid any more.
    Failed,
    /// Canceled by the merchant, and nothing shown can be paid any more.
    Canceled,
    /// Its time ran out, and nothing shown can be paid any more.
    Expired,
}

/// What can happen to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Event {
    /// An offer was committed and may be given out.
    OfferShown,
    /// The offer is gone; another one is to be made.
    OfferGone,
    /// The outcome has to be found out before anything else.
    Doubt,
    /// Money was captured, and is kept.
    Captured,
    /// Nobody can pay it any more: refused or declined.
    Fail,
    /// Nobody can pay it any more: the merchant canceled.
    Cancel,
    /// Nobody can pay it any more: its time ran out.
    Expire,
    /// Two persons decided to keep money that came after a final "no".
    Adopt,
}

impl State {
    /// The next state.
    ///
    /// # Errors
    /// [`Illegal`] when the event cannot happen here.
    pub fn on(self, event: Event) -> Result<Self, Illegal> {
        use Event as E;
        use State as S;

        match (self, event) {
            (S::Created | S::RequiresAction | S::Processing, E::OfferShown) => {
                Ok(S::RequiresAction)
            }
            (S::Created | S::RequiresAction | S::Processing, E::OfferGone) => Ok(S::Created),
            (S::Created | S::RequiresAction | S::Processing, E::Doubt) => Ok(S::Processing),
            (S::Created | S::RequiresAction | S::Processing, E::Captured) => Ok(S::Succeeded),
            (S::Created | S::RequiresAction | S::Processing, E::Fail) => Ok(S::Failed),
            (S::Created | S::RequiresAction | S::Processing, E::Cancel) => Ok(S::Canceled),
            (S::Created | S::RequiresAction | S::Processing, E::Expire) => Ok(S::Expired),
            (S::Failed | S::Canceled | S::Expired, E::Adopt) => Ok(S::Succeeded),
            (S::Created | S::RequiresAction | S::Processing | S::Succeeded, E::Adopt)
            | (
                S::Succeeded | S::Failed | S::Canceled | S::Expired,
                E::OfferShown
                | E::OfferGone
                | E::Doubt
                | E::Captured
                | E::Fail
                | E::Cancel
                | E::Expire,
            ) => Err(Illegal {
                machine: "payment",
                state: self.to_string(),
                event: event.to_string(),
            }),
        }
    }

    /// Whether money may still be taken for it.
    #[must_use]
    pub fn is_open(self) -> bool {
        match self {
            Self::Created | Self::RequiresAction | Self::Processing => true,
            Self::Succeeded | Self::Failed | Self::Canceled | Self::Expired => false,
        }
    }
}

/// A payment as it is stored. Amounts are fen.
#[derive(Debug, Clone, PartialEq)]
pub struct Payment {
    /// `pay_…`.
    pub id: PaymentId,
    /// Whose it is.
    pub owner: Owner,
    /// The merchant's own number; unique among payments that have not ended without money.
    pub order_id: String,
    /// What to collect.
    pub amount: Money,
    /// Shown to the payer.
    pub description: String,
    /// How the payer pays, as first asked for.
    pub flow: Flow,
    /// The providers it may go to; empty means any.
    pub providers: Vec<ProviderName>,
    /// Where it stands.
    pub status: State,
    /// Why it ended without money.
    pub failure: Option<Failure>,
    /// Where the checkout wants the payer back.
    pub return_url: Option<String>,
    /// Where this payment's webhooks go.
    pub notify_url: Option<String>,
    /// The payer's address, as the checkout told it.
    pub client_ip: Option<String>,
    /// Where it is paid, as the checkout told it.
    pub store: Option<Shop>,
    /// The merchant's own members; kept and returned as they are.
    pub metadata: serde_json::Value,
    /// Which time the routes are being gone through.
    pub round: i32,
    /// Grows with every change: the compare-and-set of everything that belongs to the payment, and
    /// its fencing number.
    pub version: i64,
    /// When the payment itself goes on: the next round of routes, or its expiry.
    pub resume_at: Option<Timestamp>,
    /// Since when no route is able to take it. Its place among those that wait, until it gets an
    /// offer or ends.
    pub parked_at: Option<Timestamp>,
    /// Until then one worker has it.
    pub lease_until: Option<Timestamp>,
    /// When the merchant asked to cancel it.
    pub cancel_requested_at: Option<Timestamp>,
    /// When the kept money was captured.
    pub paid_at: Option<Timestamp>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// From then on no new offer is made, and the last one is being ended.
    pub expires_at: Timestamp,
    /// The end of its chain of ledger entries; `None` for one that was there before the ledger,
    /// until it is opened.
    pub ledger: Option<Head>,
}

impl Payment {
    /// Changes the state.
    ///
    /// # Errors
    /// [`Illegal`].
    pub fn apply(&mut self, event: Event) -> Result<(), Illegal> {
        self.status = self.status.on(event)?;
        if self.status != State::Created {
            self.parked_at = None;
        }
        Ok(())
    }

    /// Its currency.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.amount.currency()
    }
}

/// The code of a charge that had nowhere to go.
pub const NO_ROUTE: &str = "no_route";

/// Payments of one owner that wait for the same flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WaitQueue {
    /// Whose.
    pub owner: Owner,
    /// How their payers pay.
    pub flow: Flow,
}

/// A payment with everything that belongs to it. It changes as one: whoever writes any of it
/// compares and sets `payment.version`.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The payment.
    pub payment: Payment,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Its refunds, oldest first.
    pub refunds: Vec<Refund>,
}

/// What is true of every payment, whatever happens to it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumIter,
    strum::IntoStaticStr,
    thiserror::Error,
)]
#[strum(serialize_all = "snake_case")]
pub enum BrokenInvariant {
    /// More than one attempt is alive.
    TwoLive,
    /// The money of more than one attempt is kept.
    TwoKept,
    /// Money is kept of an attempt that has brought none.
    KeptWithoutCapture,
    /// More has gone back of an attempt than it has brought.
    RefundsOverCapture,
}

impl BrokenInvariant {
    /// Whether it is what somebody has done at a provider, and not what we have decided: money that
    /// is gone is booked, whatever it adds up to.
    #[must_use]
    pub const fn is_a_fact(self) -> bool {
        match self {
            Self::RefundsOverCapture => true,
            Self::TwoLive | Self::TwoKept | Self::KeptWithoutCapture => false,
        }
    }
}

impl Aggregate {
    /// What cannot be true of it, if anything.
    #[must_use]
    pub fn broken(&self) -> Option<BrokenInvariant> {
        BrokenInvariant::iter().find(|which| self.breaks_invariant(*which))
    }

    /// What cannot be true of it and was not so before either: what is broken already keeps nobody
    /// from going on with the rest.
    #[must_use]
    pub fn broken_since(&self, before: Option<&Self>) -> Option<BrokenInvariant> {
        BrokenInvariant::iter().find(|which| {
            self.breaks_invariant(*which) && !before.is_some_and(|b| b.breaks_invariant(*which))
        })
    }

    fn breaks_invariant(&self, which: BrokenInvariant) -> bool {
        let is_kept = |a: &&Attempt| a.disposition == Some(attempt::Disposition::Kept);
        match which {
            BrokenInvariant::TwoLive => {
                self.attempts.iter().filter(|a| a.status.is_live()).count() > 1
            }
            BrokenInvariant::TwoKept => self.attempts.iter().filter(is_kept).count() > 1,
            BrokenInvariant::KeptWithoutCapture => {
                self.kept().is_some_and(|a| a.captured.is_none())
            }
            // What is promised may be more: a refund by hand in the provider's console comes
            // before one of ours that is under way, and that one meets a "no".
            BrokenInvariant::RefundsOverCapture => self.attempts.iter().any(|attempt| {
                let is_done = |r: &Refund| r.status == refund::State::Succeeded;
                let captured = attempt.captured.map_or(0, Money::minor);
                self.claimed_fen(&attempt.id, is_done) > captured
            }),
        }
    }

    /// The line that it stands in while no route is able.
    #[must_use]
    pub fn line(&self) -> WaitQueue {
        WaitQueue {
            owner: self.payment.owner.clone(),
            flow: self.payment.flow,
        }
    }

    /// The attempt that is alive: at most one, and the database sees to that too.
    #[must_use]
    pub fn live(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|a| a.status.is_live())
    }

    /// The attempt whose money is kept.
    #[must_use]
    pub fn kept(&self) -> Option<&Attempt> {
        self.attempts
            .iter()
            .find(|a| a.disposition == Some(attempt::Disposition::Kept))
    }

    /// An attempt by its id.
    #[must_use]
    pub fn attempt(&self, id: &AttemptId) -> Option<&Attempt> {
        self.attempts.iter().find(|a| a.id == *id)
    }

    /// The attempt that has this id, or that a refund with this id gives back from.
    #[must_use]
    pub fn attempt_of(&self, subject_id: &str) -> Option<&Attempt> {
        match self.refunds.iter().find(|r| r.id == subject_id) {
            Some(refund) => self.attempt(&refund.attempt_id),
            None => self.attempts.iter().find(|a| a.id == subject_id),
        }
    }

    /// An attempt by its id, to change it.
    pub fn attempt_mut(&mut self, id: &AttemptId) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|a| a.id == *id)
    }

    /// A refund by its id, to change it.
    pub fn refund_mut(&mut self, id: &RefundId) -> Option<&mut Refund> {
        self.refunds.iter_mut().find(|r| r.id == *id)
    }

    /// Whether some offer that a payer may have seen could still be paid.
    #[must_use]
    pub fn may_still_be_paid(&self) -> bool {
        self.attempts
            .iter()
            .any(|a| a.status.may_be_paid_by_a_payer())
    }

    /// Fen that came in on the kept attempt.
    #[must_use]
    pub fn captured_fen(&self) -> i64 {
        self.kept().and_then(|a| a.captured).map_or(0, Money::minor)
    }

    /// Fen of the kept attempt that have gone back to the payer.
    #[must_use]
    pub fn refunded_fen(&self) -> i64 {
        let Some(kept) = self.kept() else { return 0 };
        self.refunds
            .iter()
            .filter(|r| r.attempt_id == kept.id && r.status == refund::State::Succeeded)
            .map(|r| r.amount.minor())
            .sum()
    }

    /// Fen of an attempt that are promised to refunds which have not failed, or may not have.
    #[must_use]
    pub fn claimed_by_refunds_fen(&self, attempt_id: &AttemptId) -> i64 {
        self.claimed_fen(attempt_id, |_| true)
    }

    fn claimed_fen(&self, attempt_id: &AttemptId, counts: impl Fn(&Refund) -> bool) -> i64 {
        let of_attempt = self
            .refunds
            .iter()
            .filter(|r| r.attempt_id == *attempt_id && counts(r));
        let claimed = of_attempt.filter(|r| r.status != refund::State::Failed || r.told_done);
        claimed.map(|r| r.amount.minor()).sum()
    }

    /// Whether the money of a refund that has failed is not promised to another one by now.
    #[must_use]
    pub fn still_fits(&self, failed: &Refund) -> bool {
        let captured = self
            .attempt(&failed.attempt_id)
            .and_then(|a| a.captured)
            .map_or(0, Money::minor);
        let others = self.claimed_fen(&failed.attempt_id, |other| other.id != failed.id);
        others.saturating_add(failed.amount.minor()) <= captured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_true_of_a_payment_is_found_by_its_name() {
        use crate::domain::attempt::{Disposition, State as AttemptState};
        use crate::domain::ledger::tests::{attempt, capture, payment, refund};

        let with = |change: &dyn Fn(&mut Aggregate)| {
            let mut aggregate = payment();
            attempt(&mut aggregate);
            attempt(&mut aggregate);
            capture(&mut aggregate, 0, 8888, Disposition::Kept);
            refund(&mut aggregate, "att_1", 8888, false);
            aggregate.refunds[0].status = refund::State::Succeeded;
            change(&mut aggregate);
            (aggregate.broken(), aggregate.broken_since(Some(&aggregate)))
        };
        assert_eq!(with(&|_| {}), (None, None));
        // Somebody was faster in the provider's console, and one that failed has given nothing
        // back.
        for status in [
            refund::State::Pending,
            refund::State::Abnormal,
            refund::State::Failed,
        ] {
            let promised = with(&|a| {
                refund(a, "att_1", 8888, true);
                (a.refunds[1].status, a.refunds[1].told_done) = (status, true);
            });
            assert_eq!(promised, (None, None), "{status}");
        }

        let broken = [
            with(&|a| {
                a.attempts[0].status = AttemptState::Sending;
                a.attempts[1].status = AttemptState::AwaitingPayer;
            }),
            with(&|a| capture(a, 1, 8888, Disposition::Kept)),
            with(&|a| a.attempts[0].captured = None),
            with(&|a| {
                refund(a, "att_1", 1, false);
                a.refunds[1].status = refund::State::Succeeded;
            }),
        ];
        // What was so before keeps nobody from going on.
        let all: Vec<_> = BrokenInvariant::iter().map(|b| (Some(b), None)).collect();
        assert_eq!(broken.as_slice(), all.as_slice());
    }

    #[test]
    fn the_table_of_payment_states() {
        let mut table = String::new();
        for state in State::iter() {
            for event in Event::iter() {
                let next = state
                    .on(event)
                    .map_or_else(|_| "-".to_owned(), |s| s.to_string());
                table.push_str(&format!(
                    "{:16} {:12} {next}\n",
                    state.to_string(),
                    event.to_string()
                ));
            }
        }
        insta::assert_snapshot!(table);
    }
}

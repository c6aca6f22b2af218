//! An attempt: one try to get a payment done over one route. Its states, and what becomes of money
//! it captured.

use providers::money::Money;
use providers::order::Flow;
use providers::outcome::{CreateOutcome, Failure, NextAction, Refusal};
use providers::provider::ProviderName;

use super::id::{AccountId, AttemptId, OrderNo, PaymentId};
use super::{Illegal, Timestamp};

/// How a creating call ended, without what came with it. The names are stored and shown; rows with
/// a new one cannot be read by the version before.
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
)]
#[strum(serialize_all = "snake_case")]
pub enum CallOutcome {
    /// The payer has something to act on.
    Accepted,
    /// The money is there.
    Captured,
    /// The payer is being asked.
    Waiting,
    /// It never left.
    NotSent,
    /// The provider takes nothing at the moment.
    RefusedProvider,
    /// The provider refuses the account.
    RefusedAccount,
    /// The route refuses this very payment.
    RefusedRoute,
    /// Nobody would take it.
    RefusedRequest,
    /// The payer, or the payer's bank, has said no.
    Declined,
    /// Nobody knows.
    Unknown,
}

impl From<&CreateOutcome> for CallOutcome {
    fn from(outcome: &CreateOutcome) -> Self {
        match outcome {
            CreateOutcome::Accepted(_) => Self::Accepted,
            CreateOutcome::Captured(_) => Self::Captured,
            CreateOutcome::Waiting => Self::Waiting,
            CreateOutcome::NotSent(_) => Self::NotSent,
            CreateOutcome::Refused(Refusal::Provider, _) => Self::RefusedProvider,
            CreateOutcome::Refused(Refusal::Account, _) => Self::RefusedAccount,
            CreateOutcome::Refused(Refusal::Route, _) => Self::RefusedRoute,
            CreateOutcome::Refused(Refusal::Request, _) => Self::RefusedRequest,
            CreateOutcome::Declined(_) => Self::Declined,
            CreateOutcome::Unknown(_) => Self::Unknown,
        }
    }
}

/// Where an attempt stands.
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
#[schema(as = AttemptStatus)]
pub enum State {
    /// Planned and durable; its call may be on the way.
    Sending,
    /// An offer that a payer may have seen.
    AwaitingPayer,
    /// A charge whose call ended without an answer.
    Unknown,
    /// An offer that was never shown; it is ended in the background and still watched for money.
    Abandoned,
    /// A shown offer that is being ended.
    Closing,
    /// A shown offer that another one replaced; watched until it is provably dead.
    Superseded,
    /// A charge that is being reversed.
    Reversing,
    /// Money came in.
    Captured,
    /// Provably without money, now and later.
    Dead,
    /// Money came in and went back at the provider.
    Reversed,
}

/// What can happen to an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Event {
    /// The offer exists (or is alive again after a close that failed) and may be given out.
    Shown,
    /// The charge's call ended without an answer.
    Doubt,
    /// The offer's call ended without an answer, or its worker died: it was never shown.
    Abandon,
    /// The shown offer is to be ended.
    Close,
    /// Another offer took the place of this shown one.
    Supersede,
    /// The charge is to be reversed.
    Reverse,
    /// A verified answer proves that money came in.
    Capture,
    /// A verified answer proves that no money came or can come.
    Die,
    /// A verified answer proves that the money went back.
    Reversed,
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
            (S::Sending | S::Unknown | S::Closing, E::Shown) => Ok(S::AwaitingPayer),
            (S::Sending, E::Doubt) => Ok(S::Unknown),
            (S::Sending, E::Abandon) => Ok(S::Abandoned),
            (S::AwaitingPayer, E::Close) => Ok(S::Closing),
            (S::AwaitingPayer | S::Closing, E::Supersede) => Ok(S::Superseded),
            (S::Sending | S::Unknown | S::AwaitingPayer, E::Reverse) => Ok(S::Reversing),
            (
                S::Sending
                | S::Unknown
                | S::AwaitingPayer
                | S::Closing
                | S::Reversing
                | S::Abandoned
                | S::Superseded
                | S::Dead,
                E::Capture,
            ) => Ok(S::Captured),
            (
                S::Sending
                | S::Unknown
                | S::AwaitingPayer
                | S::Closing
                | S::Reversing
                | S::Abandoned
                | S::Superseded
                | S::Dead,
                E::Die,
            ) => Ok(S::Dead),
            (S::Reversing | S::Abandoned | S::Superseded | S::Dead | S::Captured, E::Reversed) => {
                Ok(S::Reversed)
            }
            (
                S::AwaitingPayer
                | S::Abandoned
                | S::Superseded
                | S::Reversing
                | S::Captured
                | S::Dead
                | S::Reversed,
                E::Shown,
            )
            | (
                S::AwaitingPayer
                | S::Unknown
                | S::Abandoned
                | S::Closing
                | S::Superseded
                | S::Reversing
                | S::Captured
                | S::Dead
                | S::Reversed,
                E::Doubt | E::Abandon,
            )
            | (
                S::Sending
                | S::Unknown
                | S::Abandoned
                | S::Closing
                | S::Superseded
                | S::Reversing
                | S::Captured
                | S::Dead
                | S::Reversed,
                E::Close,
            )
            | (
                S::Sending
                | S::Unknown
                | S::Abandoned
                | S::Superseded
                | S::Reversing
                | S::Captured
                | S::Dead
                | S::Reversed,
                E::Supersede,
            )
            | (
                S::Abandoned
                | S::Closing
                | S::Superseded
                | S::Reversing
                | S::Captured
                | S::Dead
                | S::Reversed,
                E::Reverse,
            )
            | (S::Captured | S::Reversed, E::Capture | E::Die)
            | (
                S::Sending | S::Unknown | S::AwaitingPayer | S::Closing | S::Reversed,
                E::Reversed,
            ) => Err(Illegal {
                machine: "attempt",
                state: self.to_string(),
                event: event.to_string(),
            }),
        }
    }

    /// Whether it holds its payment's one place: no other attempt may be made meanwhile.
    #[must_use]
    pub fn is_live(self) -> bool {
        match self {
            Self::Sending
            | Self::Unknown
            | Self::AwaitingPayer
            | Self::Closing
            | Self::Reversing => true,
            Self::Abandoned | Self::Superseded | Self::Captured | Self::Dead | Self::Reversed => {
                false
            }
        }
    }

    /// Whether a payer who has seen it could still pay. An abandoned offer was never seen.
    #[must_use]
    pub fn may_be_paid_by_a_payer(self) -> bool {
        match self {
            Self::Sending
            | Self::Unknown
            | Self::AwaitingPayer
            | Self::Closing
            | Self::Superseded
            | Self::Reversing => true,
            Self::Abandoned | Self::Captured | Self::Dead | Self::Reversed => false,
        }
    }
}

/// What becomes of captured money.
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
pub enum Disposition {
    /// It is the payment's money. At most one per payment, and the database sees to that too.
    Kept,
    /// Nobody knows yet; it stands on the work list.
    Held,
    /// It goes back to the payer.
    RefundDue,
    /// It went back to the payer.
    Refunded,
    /// The provider gave it back by itself.
    ReturnedByProvider,
}

/// What can happen to captured money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum DispositionEvent {
    /// Two persons decided to keep it.
    Approve,
    /// It has to go back.
    OweRefund,
    /// It went back.
    Refunded,
    /// The statement shows that the provider returned it.
    Returned,
}

impl Disposition {
    /// The next disposition.
    ///
    /// # Errors
    /// [`Illegal`] when the event cannot happen here.
    pub fn on(self, event: DispositionEvent) -> Result<Self, Illegal> {
        use Disposition as D;
        use DispositionEvent as E;

        match (self, event) {
            (D::Held | D::RefundDue, E::Approve) => Ok(D::Kept),
            (D::Held, E::OweRefund) => Ok(D::RefundDue),
            (D::RefundDue, E::Refunded) => Ok(D::Refunded),
            (D::Held, E::Returned) => Ok(D::ReturnedByProvider),
            (D::Kept | D::Refunded | D::ReturnedByProvider, E::Approve)
            | (D::Kept | D::RefundDue | D::Refunded | D::ReturnedByProvider, E::OweRefund)
            | (D::Kept | D::Held | D::Refunded | D::ReturnedByProvider, E::Refunded)
            | (D::Kept | D::RefundDue | D::Refunded | D::ReturnedByProvider, E::Returned) => {
                Err(Illegal {
                    machine: "disposition",
                    state: self.to_string(),
                    event: event.to_string(),
                })
            }
        }
    }
}

/// What the last reversal of a charge was told, as far as it was told anything for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Reversal {
    /// It is reversed.
    Done,
    /// There was nothing to reverse at that moment.
    NothingThere,
    /// It cannot be reversed any more.
    Impossible,
}

/// An attempt as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// `att_…`.
    pub id: AttemptId,
    /// Its payment.
    pub payment_id: PaymentId,
    /// Its place among the payment's attempts, from 1.
    pub seq: i32,
    /// The payment's round it belongs to.
    pub round: i32,
    /// The account it goes over.
    pub account_id: AccountId,
    /// That account's provider.
    pub provider: ProviderName,
    /// How the payer pays.
    pub flow: Flow,
    /// Where it stands.
    pub status: State,
    /// What becomes of its money, once it captured any.
    pub disposition: Option<Disposition>,
    /// Our number at the provider; never used twice.
    pub provider_order_no: OrderNo,
    /// The provider's number of the transaction, once there is one.
    pub provider_transaction_id: Option<String>,
    /// The provider's id of our request, for its support.
    pub provider_request_id: Option<String>,
    /// What to collect.
    pub amount: Money,
    /// What was collected.
    pub captured: Option<Money>,
    /// What the payer's own pocket gave, in fen.
    pub payer_amount: Option<i64>,
    /// Who paid, masked.
    pub payer: Option<String>,
    /// When money was captured, by the provider's clock where it says.
    pub paid_at: Option<Timestamp>,
    /// What its creating call meant.
    pub outcome: Option<CallOutcome>,
    /// What went wrong.
    pub failure: Option<Failure>,
    /// What the payer has to do.
    pub next_action: Option<NextAction>,
    /// Why this route: candidates, and what was skipped.
    pub reason: serde_json::Value,
    /// When it was planned; part of the order at providers that key by time.
    pub started_at: Timestamp,
    /// Until then its call may be on the way; only after it may another worker judge the attempt.
    pub call_deadline: Timestamp,
    /// From then on the provider takes no money for it.
    pub offer_deadline: Timestamp,
    /// How long the creating call took.
    pub latency_ms: Option<i64>,
    /// When to ask the provider next.
    pub next_check_at: Option<Timestamp>,
    /// How often it was asked already; counted anew for a reversal.
    pub query_count: i32,
    /// What its last reversal was told.
    pub reversal: Option<Reversal>,
    /// Whether a reversal of it may still take effect: it is on its way, or ended without an
    /// answer.
    pub reversal_in_doubt: bool,
    /// Since when the provider does not find it, its reversal having been answered; or says that it
    /// is closed, whatever became of its reversal.
    pub not_found_since: Option<Timestamp>,
    /// The provider took the money too late and gives it back by itself.
    pub returning: bool,
    /// A verified notification said that it was paid, and no answer has said so yet.
    pub told_paid: bool,
}

impl Attempt {
    /// Changes the state.
    ///
    /// # Errors
    /// [`Illegal`].
    pub fn apply(&mut self, event: Event) -> Result<(), Illegal> {
        self.status = self.status.on(event)?;
        Ok(())
    }

    /// A verified notification says that it was paid, which is to be confirmed: an answer that
    /// denies it may be of before, and the questions begin again. A reversal counts its own.
    pub fn tell_paid(&mut self) {
        let is_news = !self.told_paid || self.next_check_at.is_none();
        if is_news && self.status != State::Reversing {
            self.query_count = 0;
        }
        self.told_paid = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator as _;

    #[test]
    fn the_table_of_attempt_states() {
        let mut table = String::new();
        for state in State::iter() {
            for event in Event::iter() {
                let next = state
                    .on(event)
                    .map_or_else(|_| "-".to_owned(), |s| s.to_string());
                table.push_str(&format!(
                    "{:15} {:10} {next}\n",
                    state.to_string(),
                    event.to_string()
                ));
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn the_table_of_dispositions() {
        let mut table = String::new();
        for state in Disposition::iter() {
            for event in DispositionEvent::iter() {
                let next = state
                    .on(event)
                    .map_or_else(|_| "-".to_owned(), |s| s.to_string());
                table.push_str(&format!(
                    "{:21} {:11} {next}\n",
                    state.to_string(),
                    event.to_string()
                ));
            }
        }
        insta::assert_snapshot!(table);
    }
}

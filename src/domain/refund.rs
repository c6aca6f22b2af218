//! A refund of one captured attempt: its states and its row.

use providers::money::Money;
use providers::outcome::Failure;

use super::id::{AttemptId, PaymentId, RefundId, RefundNo};
use super::{Illegal, Owner, Timestamp};

/// Where a refund stands.
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
#[schema(as = RefundStatus)]
pub enum State {
    /// Promised; on its way, or waiting for its turn or for funds.
    Pending,
    /// The money went back.
    Succeeded,
    /// It will not happen; the merchant may ask again.
    Failed,
    /// The money left the merchant and does not reach the payer.
    Abnormal,
}

/// What can happen to a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Event {
    /// The money went back.
    Done,
    /// A verified, final "no".
    Refuse,
    /// It left, and does not arrive.
    MarkAbnormal,
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
            // A provider's last word about money counts, also after a "no".
            (S::Pending | S::Abnormal | S::Failed, E::Done) => Ok(S::Succeeded),
            (S::Pending | S::Abnormal, E::Refuse) => Ok(S::Failed),
            (S::Pending, E::MarkAbnormal) => Ok(S::Abnormal),
            (S::Succeeded, E::Done)
            | (S::Succeeded | S::Failed, E::Refuse | E::MarkAbnormal)
            | (S::Abnormal, E::MarkAbnormal) => Err(Illegal {
                machine: "refund",
                state: self.to_string(),
                event: event.to_string(),
            }),
        }
    }
}

/// A refund as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Refund {
    /// `re_…`.
    pub id: RefundId,
    /// The payment it belongs to.
    pub payment_id: PaymentId,
    /// The captured attempt it gives back from.
    pub attempt_id: AttemptId,
    /// Whose it is.
    pub owner: Owner,
    /// The merchant's own number; unique for ever.
    pub merchant_refund_no: String,
    /// Our number at the provider; the same however often it is sent.
    pub provider_refund_no: RefundNo,
    /// The numbers it had before: each was ended by the provider without moving money.
    pub earlier_nos: Vec<RefundNo>,
    /// How much goes back.
    pub amount: Money,
    /// Where it stands.
    pub status: State,
    /// The merchant's reason, shown to the payer.
    pub reason: Option<String>,
    /// Made by Interlock itself.
    pub automatic: bool,
    /// What went wrong last.
    pub failure: Option<Failure>,
    /// The merchant's balance at the provider is too small; it goes on by itself after topping up.
    pub needs_funds: bool,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// When it was first sent under its number; part of the refund at providers that key by time.
    pub txn_time: Option<Timestamp>,
    /// When it was last sent; `None` while it waits for its turn.
    pub sent_at: Option<Timestamp>,
    /// Whether an earlier sending ended without an answer: from then on a "no" proves nothing by
    /// itself.
    pub in_doubt: bool,
    /// When to look at it next.
    pub next_check_at: Option<Timestamp>,
    /// How often the provider was asked about it.
    pub query_count: i32,
    /// A verified notification said that it was carried out, and no answer has said so yet.
    pub told_done: bool,
}

impl Refund {
    /// Changes the state.
    ///
    /// # Errors
    /// [`Illegal`].
    pub fn apply(&mut self, event: Event) -> Result<(), Illegal> {
        self.status = self.status.on(event)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::IntoEnumIterator as _;

    #[test]
    fn the_table_of_refund_states() {
        let mut table = String::new();
        for state in State::iter() {
            for event in Event::iter() {
                let next = state
                    .on(event)
                    .map_or_else(|_| "-".to_owned(), |s| s.to_string());
                table.push_str(&format!(
                    "{:10} {:10} {next}\n",
                    state.to_string(),
                    event.to_string()
                ));
            }
        }
        insta::assert_snapshot!(table);
    }
}

//! The work list: what needs a person, what a person may do about it, and that it takes two of
//! them. Says what is allowed for which kind of trouble; whether it is possible now, only the
//! payment's own state machines say.

/// What can be done about an entry of the work list.
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
#[schema(as = OperationActionName)]
pub enum Action {
    /// The captured money is the payment's.
    Keep,
    /// The captured money goes back to its payer.
    Refund,
    /// The provider has given the captured money back by itself.
    Returned,
    /// The payer has the money back: the provider's console shows it.
    Refunded,
    /// The refund did not reach its payer, and the money is back with the merchant.
    NotRefunded,
    /// The automatic refund is made once more, under another number.
    Retry,
    /// The provider is asked again, from the beginning.
    AskAgain,
    /// The account takes payments again.
    AccountOk,
    /// Nothing is done; it is noted that somebody has looked at it.
    Acknowledge,
}

impl Action {
    /// What it does, for whoever has to choose.
    #[must_use]
    pub fn effect(self) -> &'static str {
        match self {
            Self::Keep => {
                "The money is kept. The payment becomes succeeded, also if it had failed, expired \
                or been canceled, and the merchant is told so."
            }
            Self::Refund => "The whole amount is given back to the payer by an automatic refund.",
            Self::Returned => "The money is booked as given back by the provider. Nothing is sent.",
            Self::Refunded => "The money is booked as given back to the payer. Nothing is sent.",
            Self::NotRefunded => {
                "The refund has failed; its money counts as not refunded. Nothing is sent."
            }
            Self::Retry => {
                "Another automatic refund of the whole amount is sent, under a new number."
            }
            Self::AskAgain => {
                "The provider is asked again now, as often as for a new one; what waits to be sent \
                is sent."
            }
            Self::AccountOk => "The account takes new payments again at once.",
            Self::Acknowledge => {
                "The entry is closed. Nothing else changes; the same trouble makes a new entry."
            }
        }
    }
}

/// What may be done about this kind of trouble. A kind that is not known here can be acknowledged.
#[must_use]
pub fn actions(kind: &str) -> &'static [Action] {
    use Action as A;

    match kind {
        "capture_mismatch" => &[A::Keep, A::Refund, A::Returned],
        // The provider gives it back by itself: a refund beside that would give it back twice.
        "capture_returning" => &[A::Returned, A::Keep],
        "automatic_refund_failed" => &[A::Retry, A::Refunded, A::Keep],
        "refund_abnormal" => &[A::Refunded, A::NotRefunded, A::AskAgain],
        "refund_unresolved" => &[A::AskAgain, A::Refunded, A::NotRefunded],
        "refund_needs_funds" => &[A::AskAgain, A::Acknowledge],
        "unresolved" | "payment_stuck" => &[A::AskAgain],
        // Somebody told of money on an attempt that is proved dead, and its provider does not know
        // of any.
        "money_unconfirmed" | "account_unavailable" | "console_refund_unconfirmed" => {
            &[A::AskAgain, A::Acknowledge]
        }
        "account_refused" => &[A::AccountOk, A::Acknowledge],
        // Other credentials, or `providers.addresses`, mend it; then it ends by itself.
        "account_barred" => &[A::Acknowledge],
        _ => &[A::Acknowledge],
    }
}

/// What a person's word was.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::Display,
    strum::EnumString,
    serde::Serialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = OperationStepKind)]
pub enum StepKind {
    /// The first person's: it waits for the second.
    Proposed,
    /// The second person's: it was done.
    Confirmed,
}

/// A proposal waits so long for its second person.
pub const PROPOSAL_S: i64 = 86_400;
/// How an entry ends whose cause has gone without anybody's word.
pub const BY_ITSELF: &str = "by_itself";

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn every_action_is_there_for_some_trouble_and_says_what_it_does() {
        let kinds = [
            "capture_mismatch",
            "capture_returning",
            "automatic_refund_failed",
            "refund_abnormal",
            "refund_unresolved",
            "refund_needs_funds",
            "console_refund_unconfirmed",
            "unresolved",
            "payment_stuck",
            "account_unavailable",
            "account_refused",
            "notification_mismatch",
        ];

        for action in Action::iter() {
            assert!(
                kinds.iter().any(|kind| actions(kind).contains(&action)),
                "{action}"
            );
            assert!(action.effect().ends_with('.'), "{action}");
        }

        let undecided = [
            "capture_mismatch",
            "capture_returning",
            "automatic_refund_failed",
            "unresolved",
        ];

        for kind in undecided {
            assert!(
                !actions(kind).contains(&Action::Acknowledge),
                "money in doubt is never only noted: {kind}"
            );
        }
    }
}

//! The work list: what needs a person, what a person may do about it, and that it takes two of
//! them. Says what is allowed for which kind of trouble; whether it is possible now, only the
//! payment's own state machines say.

/// What needs a person. The names are stored: they are never changed.
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
pub enum ReviewKind {
    /// What was taken is not what was asked for, or came when nothing was to be paid any more.
    CaptureMismatch,
    /// The provider took it too late, and gives it back by itself.
    CaptureReturning,
    /// Money that is not to be kept could not be given back.
    AutomaticRefundFailed,
    /// The money has left the merchant and does not reach the payer.
    RefundAbnormal,
    /// Nobody can say what became of a refund.
    RefundUnresolved,
    /// The merchant has too little money at the provider.
    RefundNeedsFunds,
    /// A refund that had failed was made after all.
    RefundDoneAfterFailed,
    /// Nobody can say what became of an attempt.
    Unresolved,
    /// Work on a payment fails again and again.
    PaymentStuck,
    /// Somebody told of money, and its provider does not know of any.
    MoneyUnconfirmed,
    /// An account cannot be opened, and something of it is still open.
    AccountUnavailable,
    /// A provider refuses an account.
    AccountRefused,
    /// An account's address is not allowed any more.
    AccountBarred,
    /// A provider has never given an account a call.
    AccountFlowRefused,
    /// A refund was made in the provider's console, and is not confirmed yet.
    ConsoleRefundUnconfirmed,
    /// A genuine notification agrees with nothing of ours.
    NotificationMismatch,
    /// A genuine notification speaks of an order of another account.
    NotificationOtherAccount,
    /// A merchant's receiver takes no webhooks.
    WebhookFailing,
}

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

/// What may be done about this kind of trouble. One that this version does not know can be
/// acknowledged.
#[must_use]
pub fn actions(kind: Option<ReviewKind>) -> &'static [Action] {
    use Action as A;
    use ReviewKind as K;

    let Some(kind) = kind else {
        return &[A::Acknowledge];
    };
    match kind {
        K::CaptureMismatch => &[A::Keep, A::Refund, A::Returned],
        // The provider gives it back by itself: a refund beside that would give it back twice.
        K::CaptureReturning => &[A::Returned, A::Keep],
        K::AutomaticRefundFailed => &[A::Retry, A::Refunded, A::Keep],
        K::RefundAbnormal => &[A::Refunded, A::NotRefunded, A::AskAgain],
        K::RefundUnresolved => &[A::AskAgain, A::Refunded, A::NotRefunded],
        K::RefundNeedsFunds => &[A::AskAgain, A::Acknowledge],
        K::Unresolved | K::PaymentStuck => &[A::AskAgain],
        // Somebody told of money on an attempt that is proved dead, and its provider does not know
        // of any.
        K::MoneyUnconfirmed | K::AccountUnavailable | K::ConsoleRefundUnconfirmed => {
            &[A::AskAgain, A::Acknowledge]
        }
        K::AccountRefused => &[A::AccountOk, A::Acknowledge],
        // Other credentials, or `providers.addresses`, mend it; then it ends by itself.
        K::AccountBarred
        | K::AccountFlowRefused
        | K::NotificationMismatch
        | K::NotificationOtherAccount
        | K::RefundDoneAfterFailed
        | K::WebhookFailing => &[A::Acknowledge],
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
        for action in Action::iter() {
            assert!(
                ReviewKind::iter().any(|kind| actions(Some(kind)).contains(&action)),
                "{action}"
            );
            assert!(action.effect().ends_with('.'), "{action}");
        }

        // A newer version's trouble is at least looked at.
        assert_eq!(actions(None), [Action::Acknowledge]);

        let undecided = [
            ReviewKind::CaptureMismatch,
            ReviewKind::CaptureReturning,
            ReviewKind::AutomaticRefundFailed,
            ReviewKind::Unresolved,
        ];

        for kind in undecided {
            assert!(
                !actions(Some(kind)).contains(&Action::Acknowledge),
                "money in doubt is never only noted: {kind}"
            );
        }
    }
}

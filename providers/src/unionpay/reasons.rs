//! What UnionPay's response codes say, in the words that all providers share.

use crate::reason::{Reason, Reasons};

pub(super) const REASONS: Reasons = Reasons {
    all: &[
        (Reason::InsufficientFunds, &["64", "90"]),
        (Reason::AuthCodeInvalid, &["86", "88", "89"]),
        (Reason::AuthCodeExpired, &["80"]),
        (Reason::PayerLimitExceeded, &["81", "87"]),
        (Reason::PayerVerificationRequired, &["40", "66"]),
        (
            Reason::PaymentMethodUnsupported,
            &["62", "68", "72", "76", "77", "78", "79"],
        ),
        (Reason::PaymentMethodInvalid, &["61", "63", "73"]),
        (Reason::AuthenticationRequired, &["70", "82"]),
        (Reason::AuthenticationFailed, &["65", "71", "91"]),
        (Reason::PinTriesExceeded, &["67"]),
        (Reason::RiskDeclined, &["38"]),
        (Reason::NotConfirmed, &["69"]),
        (Reason::PromotionNotMet, &["85"]),
        (Reason::Declined, &["30"]),
        (Reason::AmountLimitExceeded, &["33"]),
        (Reason::ParameterRefused, &["10", "13"]),
        (Reason::CredentialsInvalid, &["11"]),
        (Reason::PermissionMissing, &["32", "43", "44"]),
        (
            Reason::AccountRestricted,
            &["31", "92", "93", "94", "95", "96"],
        ),
        (Reason::RateLimited, &["37"]),
        (Reason::ProviderUnavailable, &["02", "06"]),
        (Reason::OutsideServiceHours, &["39"]),
        // The issuer says no, or has not answered: what the documents do not agree on, and what
        // still goes on.
        (
            Reason::OutcomeUnknown,
            &["01", "03", "04", "05", "60", "83", "99"],
        ),
        (Reason::OrderNumberUsed, &["12", "46"]),
        // Taken, and not as it should have been.
        (Reason::PaymentStateInvalid, &["35", "42", "74", "75"]),
        (Reason::PaymentNotFound, &["34"]),
        (Reason::RefundAmountExceeded, &["36"]),
        (Reason::AlreadyRefunded, &["45"]),
    ],
    refunds: &[
        (Reason::MerchantBalanceInsufficient, &["90"]),
        (
            Reason::RefundRecipientUnavailable,
            &["61", "62", "63", "68", "72", "73", "76", "77", "78", "79"],
        ),
        (Reason::RefundRefused, &["30", "33", "38"]),
        (Reason::RefundNumberUsed, &["12"]),
    ],
};

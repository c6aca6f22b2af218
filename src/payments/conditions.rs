//! The conditions of an attempt, as they are in this installation now.

use super::transition::Conditions;
use crate::app::App;
use crate::domain::id::RefundId;
use crate::domain::{Aggregate, Attempt};

/// Of this attempt; of none of a payment's where there is no such attempt.
pub(super) fn of<'a>(
    app: &'a App,
    aggregate: &Aggregate,
    attempt: Option<&Attempt>,
) -> Conditions<'a> {
    let account = attempt.and_then(|attempt| app.directory.account(&attempt.account_id));
    Conditions {
        payments: &app.config.payments,
        capabilities: account.map(|account| account.provider.capabilities()),
        is_held: app.hold.covers(&aggregate.payment.owner),
    }
}

/// Of the attempt that a refund gives back from.
pub(super) fn of_refund<'a>(
    app: &'a App,
    aggregate: &Aggregate,
    refund_id: &RefundId,
) -> Conditions<'a> {
    let refund = aggregate
        .refunds
        .iter()
        .find(|refund| refund.id == *refund_id);
    of(
        app,
        aggregate,
        refund.and_then(|refund| aggregate.attempt(&refund.attempt_id)),
    )
}

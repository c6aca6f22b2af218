//! Refunds under another number. A provider's verified word that nothing will ever happen under a
//! number lets the refund be asked for once more under a new one, where its protocol allows that;
//! nothing else does.

use providers::outcome::Failure;

use super::Conditions;
use crate::domain::id::{self, RefundId};
use crate::domain::refund::State;
use crate::domain::{Aggregate, Refund, Timestamp};

/// A refund that its provider ended without moving money is asked for under so many numbers at the
/// most.
const NUMBERS: usize = 3;
/// A refund that the provider could not take up is sent again after this long.
pub const LATER_S: i64 = 60;

/// Whether a refund still has the number that an answer speaks of: what was said of an earlier one
/// is history.
pub fn is_still(aggregate: &Aggregate, asked: &Refund) -> bool {
    aggregate
        .refunds
        .iter()
        .any(|r| r.id == asked.id && r.provider_refund_no == asked.provider_refund_no)
}

/// Whether a refund that turns out to be ended without moving money gets another number.
pub fn is_allowed(conditions: Conditions<'_>, aggregate: &Aggregate, refund_id: &RefundId) -> bool {
    let Some(refund) = aggregate.refunds.iter().find(|r| r.id == *refund_id) else {
        return false;
    };
    refund.status == State::Pending
        && refund.earlier_nos.len() + 1 < NUMBERS
        && conditions.renumbers_refunds()
}

/// The provider has proved that nothing will ever happen under the refund's number: it is asked for
/// under another.
pub fn apply(refund: &mut Refund, failure: &Failure, now: Timestamp) {
    let given_up = refund.earlier_nos.len().saturating_add(1);
    let number = id::refund_no(
        &refund.provider_refund_no,
        &refund.merchant_refund_no,
        given_up,
    );

    refund
        .earlier_nos
        .push(std::mem::replace(&mut refund.provider_refund_no, number));
    refund.failure = Some(failure.clone());
    (
        refund.txn_time,
        refund.sent_at,
        refund.in_doubt,
        refund.query_count,
    ) = (None, None, false, 0);

    refund.next_check_at = Some(now.plus_s(LATER_S));
}

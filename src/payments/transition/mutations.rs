//! What breaking a rule takes where that is more than a condition. Only under the feature
//! `testing`; see [`crate::testing`].

use super::super::Error;
use super::schedule;
use crate::domain::Aggregate;
use crate::domain::attempt::Event as AttemptEvent;
use crate::domain::id::AttemptId;
use crate::domain::payment::Event;

/// `switch_on_unknown_charge`: takes a charge in doubt for an offer that nobody has seen.
pub(super) fn give_up(after: &mut Aggregate, attempt_id: &AttemptId) -> Result<(), Error> {
    if let Some(attempt) = after.attempt_mut(attempt_id) {
        attempt.apply(AttemptEvent::Abandon)?;
        attempt.next_check_at = Some(schedule::dead_from(attempt));
    }
    Ok(after.payment.apply(Event::OfferGone)?)
}

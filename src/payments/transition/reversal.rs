//! Beginning to reverse a charge, or to find out what became of it.

use super::super::Error;
use crate::domain::attempt::Event as AttemptEvent;
use crate::domain::id::AttemptId;
use crate::domain::payment::Event;
use crate::domain::{Aggregate, Attempt, Timestamp};

/// From now on the charge is to be reversed, whatever becomes of it meanwhile.
///
/// # Errors
/// [`Error::Illegal`].
pub fn begin(after: &mut Aggregate, attempt_id: &AttemptId, now: Timestamp) -> Result<(), Error> {
    let Some(attempt) = after.attempt_mut(attempt_id) else {
        return Ok(());
    };
    start_reversal(attempt, now)?;
    if after.payment.status.is_open() {
        after.payment.apply(Event::Doubt)?;
        after.payment.resume_at = None;
    }
    Ok(())
}

/// The attempt's part of [`begin`].
///
/// # Errors
/// [`Error::Illegal`].
pub fn start_reversal(attempt: &mut Attempt, now: Timestamp) -> Result<(), Error> {
    attempt.apply(AttemptEvent::Reverse)?;
    attempt.query_count = 0;
    (attempt.call_deadline, attempt.next_check_at) = (now, Some(now));
    Ok(())
}

/// A charge's call is over and its outcome has to be found out; or it is not wanted any more, and
/// reversed.
///
/// # Errors
/// [`Error::Illegal`].
pub fn await_outcome(
    after: &mut Aggregate,
    attempt_id: &AttemptId,
    now: Timestamp,
) -> Result<(), Error> {
    let is_wanted = after.payment.status.is_open() && after.payment.cancel_requested_at.is_none();
    if !is_wanted {
        return begin(after, attempt_id, now);
    }
    Ok(after.payment.apply(Event::Doubt)?)
}

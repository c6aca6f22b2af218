//! What a provider's word about a refund does to its row: the answer to sending it, to asking about
//! it, and a notification. Nothing here calls anybody.

use providers::outcome::{Failure, NUMBER_EXISTS, RefundOutcome, RefundQueryOutcome};

use super::super::Error;
use super::refund_retry::LATER_S;
use super::refund_turn::{mark_sent, wake_next};
use super::{Conditions, auto_refund, refund_retry, schedule};
use crate::domain::id::RefundId;
use crate::domain::operation::ReviewKind;
use crate::domain::refund::{Event, State};
use crate::domain::{Aggregate, Refund, Timestamp};
use crate::store::change::ReviewItem;

/// A refund that waits for funds is sent again after this long.
const FUNDS_S: i64 = 600;
/// A refund that its provider has, and does not find, is found after this long.
const SHOWS_WITHIN_S: i64 = 3_600;
/// After so many questions a person looks at it.
const MAX_QUESTIONS: i32 = 30;

/// What sending a refund meant.
pub fn sent(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    refund_id: &RefundId,
    outcome: &RefundOutcome,
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Error> {
    let renumbers = refund_retry::is_allowed(conditions, after, refund_id);
    let fits = still_fits(after, refund_id);
    let Some(refund) = after.refund_mut(refund_id) else {
        return Ok(Vec::new());
    };

    match (refund.status, outcome) {
        (State::Pending, _) => {}
        // Meanwhile somebody has said otherwise; that money moved counts.
        (State::Abnormal, RefundOutcome::Done) => return done(refund, now).map(|()| Vec::new()),
        (State::Failed, RefundOutcome::Done) => return after_all(refund, fits, now),
        (State::Abnormal | State::Failed | State::Succeeded, _) => return Ok(Vec::new()),
    }

    let first_look = now.plus_s(
        conditions
            .refund_ladder_s()
            .first()
            .map_or(10, |s| i64::from(*s)),
    );

    match outcome {
        RefundOutcome::Accepted => refund.next_check_at = Some(first_look),
        RefundOutcome::Done => done(refund, now)?,
        RefundOutcome::Rejected(failure) | RefundOutcome::RetryWithNewNumber(failure)
            if refund.in_doubt || refund.told_done =>
        {
            // This "no" may speak of a second sending only; what became of the first one has to be
            // asked. So it has when a notification has said that it was carried out.
            refund.failure = Some(failure.clone());
            refund.next_check_at = Some(first_look);
        }
        RefundOutcome::RetryWithNewNumber(failure) if renumbers => {
            refund_retry::apply(refund, failure, now)
        }
        RefundOutcome::Rejected(failure) | RefundOutcome::RetryWithNewNumber(failure) => {
            refused(refund, failure, now)?
        }
        RefundOutcome::Abnormal(failure) => return abnormal(refund, failure, now),
        RefundOutcome::NeedsFunds(failure) => {
            refund.failure = Some(failure.clone());
            refund.needs_funds = true;
            refund.next_check_at = Some(now.plus_s(FUNDS_S));
            let detail = "the merchant's balance at the provider is too small; it goes on by \
                          itself after topping up";
            return Ok(vec![ReviewItem::new(
                &refund.owner,
                ReviewKind::RefundNeedsFunds,
                &refund.id,
                detail,
                now,
            )?]);
        }
        RefundOutcome::RetryLater(_) => {
            refund.next_check_at = Some(now.plus_s(LATER_S));
            if !refund.in_doubt && !refund.told_done {
                // Nothing was taken up: the next sending is the first one, at its own time.
                refund.txn_time = None;
            }
        }
        RefundOutcome::Unknown(failure) => {
            if failure.code == NUMBER_EXISTS {
                refund.failure = Some(failure.clone());
            }
            refund.in_doubt = true;
            refund.next_check_at = Some(first_look);
        }
    }

    Ok(Vec::new())
}

/// The money went back.
pub fn done(refund: &mut Refund, now: Timestamp) -> Result<(), Error> {
    refund.apply(Event::Done)?;
    refund.failure = None;
    refund.completed_at = Some(now);
    (refund.next_check_at, refund.told_done) = (None, false);
    Ok(())
}

fn still_fits(aggregate: &Aggregate, refund_id: &RefundId) -> bool {
    aggregate
        .refunds
        .iter()
        .find(|r| r.id == *refund_id)
        .is_some_and(|refund| aggregate.still_fits(refund))
}

/// It counted as failed, and was carried out all the same. The money is gone, so it is booked; the
/// merchant was told otherwise and may have given it back in another way, so a person looks.
fn after_all(refund: &mut Refund, fits: bool, now: Timestamp) -> Result<Vec<ReviewItem>, Error> {
    if fits {
        done(refund, now)?;
    } else if refund.query_count < MAX_QUESTIONS {
        // Its money is promised to another refund by now, which its provider will refuse; then it
        // is asked about again.
        refund.next_check_at = Some(now.plus_s(3_600));
    }
    let detail = "the provider says that it was carried out after it had said that it would not be";
    Ok(vec![ReviewItem::new(
        &refund.owner,
        ReviewKind::RefundDoneAfterFailed,
        &refund.id,
        detail,
        now,
    )?])
}

fn refused(refund: &mut Refund, failure: &Failure, now: Timestamp) -> Result<(), Error> {
    refund.apply(Event::Refuse)?;
    refund.failure = Some(failure.clone());
    refund.completed_at = Some(now);
    refund.next_check_at = None;
    Ok(())
}

fn abnormal(
    refund: &mut Refund,
    failure: &Failure,
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Error> {
    refund.apply(Event::MarkAbnormal)?;
    refund.failure = Some(failure.clone());
    refund.next_check_at = None;
    let detail = "the money has left the merchant and does not reach the payer; mend it in the \
                  provider's console";
    Ok(vec![ReviewItem::new(
        &refund.owner,
        ReviewKind::RefundAbnormal,
        &refund.id,
        detail,
        now,
    )?])
}

/// What asking about a refund meant.
pub fn apply_refund_query(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    refund_id: &RefundId,
    outcome: &RefundQueryOutcome,
    now: Timestamp,
    send_again: &mut bool,
) -> Result<Vec<ReviewItem>, Error> {
    if let Some(refund) = after
        .refunds
        .iter_mut()
        .find(|r| r.id == *refund_id && r.status == State::Succeeded)
    {
        refund.next_check_at = None;
        return Ok(Vec::new());
    }
    after.payment.lease_until = None;
    let ladder = conditions.refund_ladder_s();
    let renumbers = refund_retry::is_allowed(conditions, after, refund_id);
    let fits = still_fits(after, refund_id);
    let Some(refund) = after.refund_mut(refund_id) else {
        return Ok(Vec::new());
    };
    refund.query_count = refund.query_count.saturating_add(1);
    if refund.status == State::Failed {
        return found_of_failed(refund, outcome, fits, ladder, now);
    }

    match outcome {
        RefundQueryOutcome::Done => done(refund, now)?,
        // A notification has said that it was carried out: until both say the same, it neither ends
        // nor is it made again.
        RefundQueryOutcome::Rejected(_) | RefundQueryOutcome::NotFound if refund.told_done => {
            return look_again(refund, ladder, now);
        }
        RefundQueryOutcome::Rejected(failure) if renumbers => {
            refund_retry::apply(refund, failure, now)
        }
        RefundQueryOutcome::Rejected(failure) => refused(refund, failure, now)?,
        RefundQueryOutcome::Abnormal(failure) if refund.status == State::Pending => {
            return abnormal(refund, failure, now);
        }
        RefundQueryOutcome::NotFound if refund.status == State::Pending => {
            match refund.failure.clone() {
                // The last sending was refused for good, or in the way that it was tried; an
                // earlier one had no answer, and may be what the refusal counted. It shows in time.
                Some(_)
                    if refund.in_doubt
                        && refund
                            .sent_at
                            .is_some_and(|at| now < at.plus_s(SHOWS_WITHIN_S)) =>
                {
                    return look_again(refund, ladder, now);
                }
                // It has something under this number and denies this refund: another sending, or
                // another number, might be a second one.
                Some(failure) if failure.code == NUMBER_EXISTS => {
                    refund.next_check_at = Some(now.plus_s(3_600));
                    let detail = "the provider has something under its number, and denies this \
                                  refund: look into its console";
                    return Ok(vec![ReviewItem::new(
                        &refund.owner,
                        ReviewKind::RefundUnresolved,
                        &refund.id,
                        detail,
                        now,
                    )?]);
                }
                Some(failure) if renumbers => refund_retry::apply(refund, &failure, now),
                Some(failure) => refused(refund, &failure, now)?,
                // It was sent so often in vain that a person has to look; meanwhile it goes on once
                // an hour.
                None if refund.query_count > MAX_QUESTIONS
                    && refund.sent_at.is_some_and(|at| now < at.plus_s(3_600)) =>
                {
                    refund.next_check_at = Some(now.plus_s(3_600));
                    let detail = format!(
                        "it was sent {} times and never received",
                        refund.query_count
                    );
                    return Ok(vec![ReviewItem::new(
                        &refund.owner,
                        ReviewKind::RefundUnresolved,
                        &refund.id,
                        detail,
                        now,
                    )?]);
                }
                // Nothing is sent that was known before a restore, until a person has said go.
                None if conditions.is_held => return look_again(refund, ladder, now),
                None => {
                    mark_sent(conditions, refund, now);
                    refund.in_doubt = true;
                    *send_again = true;
                }
            }
        }
        // It is known already, and a person was told.
        RefundQueryOutcome::Abnormal(_) => refund.next_check_at = None,
        RefundQueryOutcome::Accepted
        | RefundQueryOutcome::Unknown(_)
        | RefundQueryOutcome::NotFound => {
            return look_again(refund, ladder, now);
        }
    }

    Ok(Vec::new())
}

/// What asking about a refund meant that counts as failed: somebody had told that money moved.
fn found_of_failed(
    refund: &mut Refund,
    outcome: &RefundQueryOutcome,
    fits: bool,
    ladder: &[u32],
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Error> {
    refund.next_check_at = None;

    match outcome {
        RefundQueryOutcome::Done => after_all(refund, fits, now),
        // Somebody has told that money moved: one question without an answer does not settle that.
        RefundQueryOutcome::Unknown(_)
        | RefundQueryOutcome::Accepted
        | RefundQueryOutcome::NotFound
            if refund.query_count < MAX_QUESTIONS =>
        {
            look_again(refund, ladder, now)
        }
        RefundQueryOutcome::Rejected(_)
            if refund.told_done && refund.query_count < MAX_QUESTIONS =>
        {
            look_again(refund, ladder, now)
        }
        RefundQueryOutcome::Unknown(_)
        | RefundQueryOutcome::Accepted
        | RefundQueryOutcome::NotFound
        | RefundQueryOutcome::Rejected(_)
            if refund.told_done =>
        {
            refund.told_done = false;
            let detail = "a notification said that it was carried out, and the provider does not \
                          confirm that: look into its console";
            Ok(vec![ReviewItem::new(
                &refund.owner,
                ReviewKind::RefundDoneAfterFailed,
                &refund.id,
                detail,
                now,
            )?])
        }
        RefundQueryOutcome::Abnormal(_) => {
            refund.told_done = false;
            let detail = "the provider had said that it would not be carried out, and now that its \
                          money is on the way and does not arrive: look into its console";
            Ok(vec![ReviewItem::new(
                &refund.owner,
                ReviewKind::RefundDoneAfterFailed,
                &refund.id,
                detail,
                now,
            )?])
        }
        RefundQueryOutcome::Unknown(_)
        | RefundQueryOutcome::Accepted
        | RefundQueryOutcome::NotFound
        | RefundQueryOutcome::Rejected(_) => Ok(Vec::new()),
    }
}

/// By the adapter's ladder, counted from sending; then ever more rarely; in the end a person looks
/// at it.
fn look_again(
    refund: &mut Refund,
    ladder: &[u32],
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Error> {
    if refund.query_count < MAX_QUESTIONS {
        let step = usize::try_from(refund.query_count)
            .ok()
            .and_then(|n| ladder.get(n))
            .map(|s| i64::from(*s));
        let by_ladder = step
            .zip(refund.sent_at)
            .filter(|(_, sent)| *sent <= now)
            .map(|(s, sent)| sent.plus_s(s))
            .filter(|at| *at > now);
        let pause = schedule::backoff_s(refund.query_count, 3_600);
        refund.next_check_at = Some(by_ladder.unwrap_or_else(|| now.plus_s(pause)));
        return Ok(Vec::new());
    }

    refund.next_check_at = None;
    let detail = format!(
        "refund {} has no end after {} questions",
        refund.provider_refund_no, refund.query_count
    );

    Ok(vec![ReviewItem::new(
        &refund.owner,
        ReviewKind::RefundUnresolved,
        &refund.id,
        detail,
        now,
    )?])
}

/// A verified notification about a refund.
///
/// # Errors
/// [`Error`].
pub fn apply_refund_notification(
    conditions: Conditions<'_>,
    after: &mut Aggregate,
    refund_id: &RefundId,
    outcome: &RefundQueryOutcome,
    now: Timestamp,
) -> Result<Vec<ReviewItem>, Error> {
    let renumbers = refund_retry::is_allowed(conditions, after, refund_id);
    let was = auto_refund::status(after, refund_id);
    let fits = still_fits(after, refund_id);
    let Some(refund) = after.refund_mut(refund_id) else {
        return Ok(Vec::new());
    };
    let attempt_id = refund.attempt_id.clone();
    let mut operations = match (refund.status, outcome) {
        (State::Pending | State::Abnormal, RefundQueryOutcome::Done) => {
            done(refund, now)?;
            Vec::new()
        }
        (State::Pending | State::Abnormal, RefundQueryOutcome::Rejected(_)) if refund.told_done => {
            refund.next_check_at = Some(now);
            Vec::new()
        }
        (State::Pending, RefundQueryOutcome::Rejected(failure)) if renumbers => {
            refund_retry::apply(refund, failure, now);
            Vec::new()
        }
        (State::Pending | State::Abnormal, RefundQueryOutcome::Rejected(failure)) => {
            refused(refund, failure, now)?;
            Vec::new()
        }
        (State::Pending, RefundQueryOutcome::Abnormal(failure)) => abnormal(refund, failure, now)?,
        (State::Failed, RefundQueryOutcome::Done) => after_all(refund, fits, now)?,
        (State::Succeeded | State::Failed, _)
        | (State::Abnormal, RefundQueryOutcome::Abnormal(_))
        | (
            _,
            RefundQueryOutcome::NotFound
            | RefundQueryOutcome::Accepted
            | RefundQueryOutcome::Unknown(_),
        ) => Vec::new(),
    };

    operations.extend(auto_refund::aftermath(after, refund_id, was, now)?);
    wake_next(conditions, after, &attempt_id, now);
    Ok(operations)
}

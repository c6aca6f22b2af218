//! What happens in a life: offers, money, refusals, ends and refunds, each as the decisions that a
//! gateway would have taken.

use providers::money::Money;
use providers::outcome::{Failure, FailureKind, NextAction};
use providers::reason::Reason;
use rand::RngExt as _;

use super::fate::Fate;
use super::story::{EXPIRES_IN_S, Story};
use crate::bench::fill::error::FillError;
use crate::domain::attempt::{CallOutcome, Disposition, Event as AttemptEvent};
use crate::domain::id::{self, RefundId};
use crate::domain::operation::ReviewKind;
use crate::domain::payment::Event;
use crate::domain::refund::{self, Event as RefundEvent};
use crate::domain::{Aggregate, Attempt, Refund, Timestamp};
use crate::store::change::Inbox;

impl Story<'_> {
    pub(super) fn tell(&mut self, fate: Fate) -> Result<(), FillError> {
        match fate {
            Fate::Paid => self.show().and_then(|()| self.pay()),
            Fate::PaidElsewhere => self
                .refuse()
                .and_then(|()| self.show())
                .and_then(|()| self.pay()),
            Fate::Charged => self.pay(),
            Fate::Declined => self.decline(),
            Fate::Refunded => self.paid().and_then(|()| self.refund(RefundEvent::Done)),
            Fate::RefundFailed => self.paid().and_then(|()| self.refund(RefundEvent::Refuse)),
            Fate::RefundAbnormal => self
                .paid()
                .and_then(|()| self.refund(RefundEvent::MarkAbnormal)),
            Fate::Expired => self.show().and_then(|()| self.end(Event::Expire)),
            Fate::Canceled => self.show().and_then(|()| self.end(Event::Cancel)),
            Fate::Failed => self.decline(),
            Fate::PaidLate => self
                .show()
                .and_then(|()| self.end(Event::Expire))
                .and_then(|()| self.pay_late()),
            Fate::Parked => self.park(),
            Fate::Shown => self.show(),
            Fate::InDoubt => self.doubt(),
        }
    }

    fn paid(&mut self) -> Result<(), FillError> {
        self.show()?;
        self.pay()
    }

    fn show(&mut self) -> Result<(), FillError> {
        let latency_ms = self.rng.random_range(40..400);
        let code = self.rng.random::<u64>();
        self.commit(Some(latency_ms), |after, _| {
            let expires_at = after.payment.expires_at;
            after.payment.apply(Event::OfferShown)?;
            let attempt = last(after)?;
            attempt.apply(AttemptEvent::Shown)?;
            attempt.outcome = Some(CallOutcome::Accepted);
            attempt.latency_ms = Some(latency_ms);
            attempt.next_action = Some(NextAction::DisplayQr {
                qr: format!("https://qr.example.com/{code:016x}"),
            });
            attempt.next_check_at = Some(expires_at);
            Ok(())
        })
    }

    /// The first route cannot be reached, and another one takes its place.
    fn refuse(&mut self) -> Result<(), FillError> {
        let next = self.sending()?;
        let latency_ms = self.rng.random_range(900..1_100);
        self.commit(Some(latency_ms), |after, _| {
            let failure = Failure::new(FailureKind::Network, "connect", "connection refused");
            die(
                last(after)?,
                CallOutcome::NotSent,
                Some(failure),
                latency_ms,
            )?;
            after.attempts.push(next);
            Ok(())
        })
    }

    fn pay(&mut self) -> Result<(), FillError> {
        let (after_ms, transaction) = (self.rng.random_range(4_000..60_000), self.transaction());
        let notification_id = self.rng.random::<u64>();

        self.commit(Some(after_ms), |after, told| {
            after.payment.apply(Event::Captured)?;
            after.payment.paid_at = Some(told.now);
            after.payment.resume_at = None;
            let is_charge = after.payment.flow.is_charge();
            let attempt = last(after)?;
            capture(attempt, Disposition::Kept, &transaction, told.now)?;
            if is_charge {
                (attempt.outcome, attempt.latency_ms) =
                    (Some(CallOutcome::Captured), Some(after_ms));
            } else {
                told.inbox = Some(Inbox {
                    account_id: attempt.account_id.clone(),
                    notification_id: format!("{notification_id:016x}"),
                    verdict: "applied",
                    body: format!(
                        "{{\"order\":\"{}\",\"paid\":true}}",
                        attempt.provider_order_no
                    )
                    .into_bytes(),
                    received_at: told.now,
                });
            }
            Ok(())
        })
    }

    fn transaction(&mut self) -> String {
        format!("42000{:020}", self.rng.random::<u64>())
    }

    /// The payer's money comes after the payment has ended: a person decides.
    fn pay_late(&mut self) -> Result<(), FillError> {
        let (after_ms, transaction) = (self.rng.random_range(1_000..90_000), self.transaction());
        self.commit(Some(after_ms), |after, told| {
            capture(last(after)?, Disposition::Held, &transaction, told.now)
        })?;
        let subject = last(&mut self.aggregate)?.id.to_string();

        self.list(
            ReviewKind::CaptureMismatch,
            subject,
            "the money came after the payment had ended",
            None,
        );

        Ok(())
    }

    fn decline(&mut self) -> Result<(), FillError> {
        let latency_ms = self.rng.random_range(300..3_000);
        self.commit(Some(latency_ms), |after, _| {
            let message = "the payer has not enough money";
            let failure = Failure::new(FailureKind::Declined, "NOT_ENOUGH", message)
                .because(Some(Reason::InsufficientFunds));
            after.payment.failure = Some(failure.clone());
            after.payment.resume_at = None;
            after.payment.apply(Event::Fail)?;
            die(
                last(after)?,
                CallOutcome::Declined,
                Some(failure),
                latency_ms,
            )
        })
    }

    /// Nobody has paid: the offer is closed, and then the payment ends.
    fn end(&mut self, event: Event) -> Result<(), FillError> {
        let wait_ms = if event == Event::Expire {
            EXPIRES_IN_S * 1_000
        } else {
            self.rng.random_range(2_000..600_000)
        };

        self.commit(Some(wait_ms), |after, told| {
            if event == Event::Cancel {
                after.payment.cancel_requested_at = Some(told.now);
            }
            let attempt = last(after)?;
            attempt.apply(AttemptEvent::Close)?;
            attempt.next_check_at = Some(told.now);
            Ok(())
        })?;

        self.commit(Some(250), |after, _| {
            after.payment.apply(event)?;
            after.payment.resume_at = None;
            let attempt = last(after)?;
            attempt.query_count = 1;
            attempt.apply(AttemptEvent::Die)?;
            attempt.next_check_at = None;
            Ok(())
        })
    }

    fn park(&mut self) -> Result<(), FillError> {
        self.commit(Some(1_000), |after, told| {
            die(last(after)?, CallOutcome::NotSent, None, 1_000)?;
            after.payment.parked_at = Some(told.now);
            after.payment.resume_at = Some(told.now.plus_s(30));
            Ok(())
        })
    }

    fn doubt(&mut self) -> Result<(), FillError> {
        self.commit(Some(8_000), |after, told| {
            after.payment.apply(Event::Doubt)?;
            let attempt = last(after)?;
            attempt.apply(AttemptEvent::Doubt)?;
            attempt.outcome = Some(CallOutcome::Unknown);
            attempt.next_check_at = Some(told.now.plus_s(3));
            Ok(())
        })
    }

    fn refund(&mut self, end: RefundEvent) -> Result<(), FillError> {
        let (after_ms, id) = (
            self.rng.random_range(60_000..30 * 86_400_000),
            RefundId::of(self.rng.random()),
        );
        let is_whole = self.rng.random_bool(0.5);
        let no = format!("rf-{}", self.aggregate.payment.order_id);

        // What was made not long ago is refunded not long after.
        let left_ms = self
            .world
            .plan
            .until_ms
            .saturating_sub(self.now.0)
            .saturating_sub(60_000)
            .max(1);
        let (number, subject) = (no.clone(), id.to_string());

        self.commit(Some(after_ms.min(left_ms)), |after, told| {
            let (payment_id, owner) = (after.payment.id.clone(), after.payment.owner.clone());
            let kept = last(after)?.clone();
            let captured = kept.captured.map_or(0, Money::minor);
            let fen = if is_whole { captured } else { captured / 2 };
            after.refunds.push(Refund {
                id,
                payment_id,
                attempt_id: kept.id,
                owner,
                provider_refund_no: id::refund_no(&kept.provider_order_no, &number, 0),
                merchant_refund_no: number,
                earlier_nos: Vec::new(),
                amount: Money::fen(fen)?,
                status: refund::State::Pending,
                reason: Some("returned".to_owned()),
                automatic: false,
                failure: None,
                needs_funds: false,
                created_at: told.now,
                completed_at: None,
                txn_time: Some(told.now),
                sent_at: Some(told.now),
                in_doubt: false,
                next_check_at: Some(told.now.plus_s(5)),
                query_count: 0,
                told_done: false,
            });
            Ok(())
        })?;

        self.commit(Some(1_500), |after, told| {
            for refund in &mut after.refunds {
                refund.apply(end)?;
                refund.next_check_at = None;
                refund.completed_at = (end != RefundEvent::MarkAbnormal).then_some(told.now);
            }
            Ok(())
        })?;

        if end == RefundEvent::MarkAbnormal {
            self.list(
                ReviewKind::RefundAbnormal,
                subject,
                "the payer's card takes no refunds",
                None,
            );
        }

        Ok(())
    }
}

fn last(aggregate: &mut Aggregate) -> Result<&mut Attempt, FillError> {
    aggregate.attempts.last_mut().ok_or(FillError::Nobody)
}

fn die(
    attempt: &mut Attempt,
    outcome: CallOutcome,
    failure: Option<Failure>,
    latency_ms: i64,
) -> Result<(), FillError> {
    attempt.apply(AttemptEvent::Die)?;
    (attempt.outcome, attempt.failure) = (Some(outcome), failure);
    (attempt.latency_ms, attempt.next_check_at) = (Some(latency_ms), None);
    Ok(())
}

fn capture(
    attempt: &mut Attempt,
    disposition: Disposition,
    transaction: &str,
    now: Timestamp,
) -> Result<(), FillError> {
    attempt.apply(AttemptEvent::Capture)?;
    attempt.disposition = Some(disposition);
    attempt.captured = Some(attempt.amount);
    attempt.payer_amount = Some(attempt.amount.minor());
    attempt.payer = Some("138****0000".to_owned());
    attempt.provider_transaction_id = Some(transaction.to_owned());
    (attempt.paid_at, attempt.next_check_at) = (Some(now), None);
    Ok(())
}

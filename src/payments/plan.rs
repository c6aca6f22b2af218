//! Planning an attempt: which route is next, under which number, and until when its call may be on its way. Pure but for
//! the random numbers: what is planned here counts once its commit is durable.

use providers::Capabilities;
use providers::order::Flow;
use providers::outcome::{Failure, FailureKind};

use super::{Trouble, close, schedule};
use crate::app::App;
use crate::domain::attempt::State;
use crate::domain::id::{self, Kind};
use crate::domain::payment::Event;
use crate::domain::{Aggregate, Attempt, Timestamp};
use crate::routing::choose::{self, Wanted};

/// What planning found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Whether any account could ever serve the payment.
    pub served: bool,
}

/// Plans the next attempt of a payment that has no live one, or parks the payment when no route is able.
///
/// # Errors
/// [`Trouble::Random`].
pub fn next(app: &App, aggregate: &mut Aggregate, now: Timestamp) -> Result<Planned, Trouble> {
    let payment = &aggregate.payment;
    let tried = choose::tried_in_round(aggregate);
    let wanted = Wanted { flow: payment.flow, amount: payment.amount, providers: &payment.providers };
    let accounts = app.directory.accounts_of(&payment.merchant_id);
    let accounts: Vec<_> = accounts.iter().filter(|a| a.livemode == payment.livemode).cloned().collect();
    let routing = app.directory.routing_of(&payment.merchant_id);
    let choice = choose::choose(&accounts, &routing, wanted, &tried, now);
    let planned = Planned { served: choice.served };
    let account = choice.account.filter(|_| tried.len() < app.config.payments.max_routes);
    let Some(account) = account else {
        no_route(aggregate, now)?;
        return Ok(planned);
    };
    let capabilities = account.provider.capabilities();
    let call_ms = call_timeout_ms(app, capabilities, payment.flow);
    let call_deadline = now.plus_ms(call_ms).plus_ms(app.config.payments.call_grace_ms);
    let shortest = now.plus_s(i64::from(capabilities.shortest_offer_s));
    let offer_deadline = match capabilities.charge.as_ref().filter(|_| payment.flow.takes_money()) {
        // What a charge leaves behind must not outlive its reversal by much.
        Some(charging) => now.plus_s(i64::from(charging.patience_s) + 60).max(shortest),
        None => payment.expires_at.max(shortest),
    };
    let mut attempt = Attempt {
        id: id::new(Kind::Attempt)?,
        payment_id: payment.id.clone(),
        seq: i32::try_from(aggregate.attempts.len()).unwrap_or(i32::MAX).saturating_add(1),
        round: payment.round,
        account_id: account.id.clone(),
        provider: account.provider.name(),
        flow: payment.flow,
        status: State::Sending,
        disposition: None,
        provider_order_no: id::provider_no(&app.prefix)?,
        provider_transaction_id: None,
        provider_request_id: None,
        amount: payment.amount,
        captured: None,
        payer_amount: None,
        payer: None,
        paid_at: None,
        outcome: None,
        failure: None,
        next_action: None,
        reason: choice.reason,
        started_at: now,
        call_deadline,
        offer_deadline,
        latency_ms: None,
        next_check_at: None,
        questions: 0,
        reversal: None,
        reversal_in_doubt: false,
        not_found_since: None,
        returning: false,
    };
    attempt.next_check_at = schedule::next_check(&attempt, capabilities, now);
    if aggregate.payment.flow.takes_money() {
        // From its first byte on nobody can say that it was not paid.
        aggregate.payment.apply(Event::Doubt)?;
    }
    aggregate.payment.lease_until = Some(call_deadline);
    aggregate.payment.resume_at = Some(payment_expiry(aggregate, now));
    aggregate.attempts.push(attempt);
    Ok(planned)
}

/// No route is able: a payment that needs an offer waits for one; a charge cannot, since its payer's code gets old.
fn no_route(aggregate: &mut Aggregate, now: Timestamp) -> Result<(), Trouble> {
    aggregate.payment.lease_until = None;
    if aggregate.payment.flow.takes_money() {
        let last = aggregate.attempts.last().and_then(|a| a.failure.clone());
        let none = || Failure::new(FailureKind::Network, "no_route", "none of the accounts is able to charge now");
        aggregate.payment.failure = Some(last.unwrap_or_else(none));
        return close::conclude(aggregate, now);
    }
    aggregate.payment.resume_at = Some(schedule::next_round(aggregate, now));
    Ok(())
}

/// How long making an order may take: an offer must not keep the next route waiting; a charge is given its
/// provider's own time, since it cannot go to another one anyway.
pub(super) fn call_timeout_ms(app: &App, capabilities: &Capabilities, flow: Flow) -> i64 {
    let charging = capabilities.charge.as_ref().filter(|_| flow.takes_money());
    charging.map_or(app.config.payments.offer_timeout_ms, |c| i64::from(c.timeout_ms))
}

/// When a payment with a live offer has to be looked at for its own sake.
fn payment_expiry(aggregate: &Aggregate, now: Timestamp) -> Timestamp {
    aggregate.payment.expires_at.max(now)
}

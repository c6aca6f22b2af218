//! One payment's life, from its request to its end, as the changes that a gateway would have committed.

use providers::money::Money;
use providers::order::Flow;
use providers::outcome::{Failure, FailureKind, NextAction};
use providers::reason::Reason;
use serde_json::json;

use super::error::FillError;
use super::world::{Shop, World, drawn, draws};
use crate::domain::attempt::{Disposition, Event as AttemptEvent, State as AttemptState};
use crate::domain::id::{self, Kind};
use crate::domain::payment::{Event, State};
use crate::domain::refund::{self, Event as RefundEvent};
use crate::domain::webhook::{End, State as DeliveryState};
use crate::domain::{Aggregate, Attempt, Payment, Refund, Timestamp, ledger};
use crate::payments::pay;
use crate::payments::view::events;
use crate::store::change::{Change, Inbox, Key, KeyScope, KeyWrite};
use crate::store::{DeliveryRow, Life, OperationRow, TryRow};

/// How a life goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Paid,
    PaidElsewhere,
    Charged,
    Declined,
    Refunded,
    RefundFailed,
    RefundAbnormal,
    Expired,
    Canceled,
    Failed,
    PaidLate,
    /// These three are not over.
    Parked,
    Shown,
    InDoubt,
}

/// Of a thousand payments that are over.
const FATES: [(Fate, u32); 11] = [
    (Fate::Paid, 612),
    (Fate::PaidElsewhere, 60),
    (Fate::Charged, 60),
    (Fate::Declined, 20),
    (Fate::Refunded, 80),
    (Fate::RefundFailed, 8),
    (Fate::RefundAbnormal, 2),
    (Fate::Expired, 95),
    (Fate::Canceled, 40),
    (Fate::Failed, 18),
    (Fate::PaidLate, 5),
];
const NOT_OVER: [Fate; 3] = [Fate::Parked, Fate::Shown, Fate::InDoubt];
/// A payer who has not paid until then does not.
const EXPIRES_IN_S: i64 = 900;
/// Keys and tries of webhooks are kept for a month.
const KEPT_S: i64 = 30 * 86_400;
/// What people have to look at beside all that: of a thousand payments.
const LOOKED_AT: u32 = 10;

fn fate(world: &World, n: u64, rng: &mut fastrand::Rng) -> Fate {
    if world.is_open(n) {
        return usize::try_from(n % 3).ok().and_then(|at| NOT_OVER.get(at)).copied().unwrap_or(Fate::Parked);
    }
    let mut draw = rng.u32(..1_000);
    let found = FATES.iter().find(|(_, share)| {
        let is_it = draw < *share;
        draw = draw.saturating_sub(*share);
        is_it
    });
    found.map_or(Fate::Paid, |(fate, _)| *fate)
}

/// A life while it is told.
struct Story<'a> {
    world: &'a World,
    shop: &'a Shop,
    rng: fastrand::Rng,
    now: Timestamp,
    aggregate: Aggregate,
    key: Key,
    is_answered: bool,
    life: Life,
}

/// The life of payment `n`.
///
/// # Errors
/// None but of a mistake here: states that do not follow each other.
pub fn life(world: &World, n: u64) -> Result<Life, FillError> {
    let mut rng = draws(world.plan.seed, n);
    let shop = world.shop_of(&mut rng).ok_or(FillError::Nobody)?;
    let made_at = world.made_at(n, &mut rng);
    let fate = fate(world, n, &mut rng);

    let mut story = Story::begin(world, shop, rng, made_at, n, fate)?;
    story.commit(None, |_, _| Ok(()))?;
    story.tell(fate)?;
    story.look_at(n);
    story.deliver();
    Ok(story.life)
}

impl<'a> Story<'a> {
    fn begin(
        world: &'a World,
        shop: &'a Shop,
        mut rng: fastrand::Rng,
        now: Timestamp,
        n: u64,
        fate: Fate,
    ) -> Result<Self, FillError> {
        let flow =
            if matches!(fate, Fate::Charged | Fate::Declined | Fate::InDoubt) { Flow::Barcode } else { Flow::Qr };
        let payment = Payment {
            id: drawn(Kind::Payment, &mut rng),
            owner: shop.owner.clone(),
            order_id: order_id(n),
            amount: Money::fen(rng.i64(100..100_000))?,
            description: "Two cups of tea".to_owned(),
            flow,
            providers: Vec::new(),
            status: State::Created,
            failure: None,
            return_url: None,
            notify_url: None,
            client_ip: None,
            store: None,
            metadata: json!({"till": rng.u32(1..40)}),
            round: 0,
            version: 0,
            resume_at: Some(now.plus_s(EXPIRES_IN_S)),
            parked_at: None,
            lease_until: None,
            cancel_requested_at: None,
            paid_at: None,
            created_at: now,
            expires_at: now.plus_s(EXPIRES_IN_S),
            ledger: None,
        };
        let scope = KeyScope {
            owner: shop.owner.clone(),
            operation: "payments".to_owned(),
            key: format!("key-{}", order_id(n)),
        };
        let fingerprint = ledger::sha256(&[payment.order_id.as_bytes()]);
        let key = Key { scope, fingerprint, resource_id: payment.id.clone(), created_at: now };
        let is_recent = now >= Timestamp(world.plan.until_ms).plus_s(-KEPT_S);
        let life = Life { changes: Vec::new(), deliveries: Vec::new(), operations: Vec::new(), is_recent };
        let aggregate = Aggregate { payment, attempts: Vec::new(), refunds: Vec::new() };
        let mut story = Self { world, shop, rng, now, aggregate, key, is_answered: false, life };
        let first = story.sending()?;
        story.aggregate.attempts.push(first);
        Ok(story)
    }

    /// An attempt over the next of the merchant's accounts.
    fn sending(&mut self) -> Result<Attempt, FillError> {
        let accounts = &self.shop.accounts;
        let seq = self.aggregate.attempts.len();
        let at = self.aggregate.attempts.first().and_then(|a| accounts.iter().position(|(id, _)| *id == a.account_id));
        let at = at.map_or_else(|| self.rng.usize(..accounts.len().max(1)), |at| at.saturating_add(seq));
        let (account_id, provider) = accounts.iter().cycle().nth(at).cloned().ok_or(FillError::Nobody)?;
        let number = self.rng.u128(..);
        Ok(Attempt {
            id: drawn(Kind::Attempt, &mut self.rng),
            payment_id: self.aggregate.payment.id.clone(),
            seq: i32::try_from(seq).unwrap_or(i32::MAX).saturating_add(1),
            round: 0,
            account_id,
            provider,
            flow: self.aggregate.payment.flow,
            status: AttemptState::Sending,
            disposition: None,
            provider_order_no: self.world.prefix.as_ref().map_or_else(String::new, |p| id::provider_no_of(p, number)),
            provider_transaction_id: None,
            provider_request_id: None,
            amount: self.aggregate.payment.amount,
            captured: None,
            payer_amount: None,
            payer: None,
            paid_at: None,
            outcome: None,
            failure: None,
            next_action: None,
            reason: json!({"strategy": "priority", "position": seq + 1}),
            started_at: self.now,
            call_deadline: self.now.plus_s(8),
            offer_deadline: self.aggregate.payment.expires_at,
            latency_ms: None,
            next_check_at: Some(self.now.plus_s(9)),
            questions: 0,
            reversal: None,
            reversal_in_doubt: false,
            not_found_since: None,
            returning: false,
            told_paid: false,
        })
    }

    /// One decision, `after_ms` after the one before; the first one makes the payment.
    fn commit(
        &mut self,
        after_ms: Option<i64>,
        decide: impl FnOnce(&mut Aggregate, &mut Told) -> Result<(), FillError>,
    ) -> Result<(), FillError> {
        self.now = self.now.plus_ms(after_ms.unwrap_or(0));
        let mut after = self.aggregate.clone();
        let mut told = Told { now: self.now, inbox: None };
        decide(&mut after, &mut told)?;
        let before = after_ms.map(|_| &self.aggregate);
        let change = match before {
            None => Change::create(after),
            Some(before) => Change::update(before, after, self.now),
        };

        let mut events = events::between(before, change.after(), self.now)?;
        for event in &mut events {
            event.id = drawn(Kind::Event, &mut self.rng);
        }
        let key = match before {
            None => Some(KeyWrite::Claim(self.key.clone())),
            Some(_) if self.is_answered => None,
            Some(_) => pay::answer(change.after()).map(|answer| KeyWrite::Answer(self.key.clone(), answer)),
        };
        self.is_answered |= matches!(key, Some(KeyWrite::Answer(..)));
        self.aggregate = change.after().clone();
        self.life.changes.push(change.with_events(events).with_key(key).with_inbox(told.inbox));
        Ok(())
    }

    fn tell(&mut self, fate: Fate) -> Result<(), FillError> {
        match fate {
            Fate::Paid => self.show().and_then(|()| self.pay()),
            Fate::PaidElsewhere => self.refuse().and_then(|()| self.show()).and_then(|()| self.pay()),
            Fate::Charged => self.pay(),
            Fate::Declined => self.decline(),
            Fate::Refunded => self.paid().and_then(|()| self.refund(RefundEvent::Done)),
            Fate::RefundFailed => self.paid().and_then(|()| self.refund(RefundEvent::Refuse)),
            Fate::RefundAbnormal => self.paid().and_then(|()| self.refund(RefundEvent::GoAstray)),
            Fate::Expired => self.show().and_then(|()| self.end(Event::Expire)),
            Fate::Canceled => self.show().and_then(|()| self.end(Event::Cancel)),
            Fate::Failed => self.decline(),
            Fate::PaidLate => self.show().and_then(|()| self.end(Event::Expire)).and_then(|()| self.pay_late()),
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
        let latency_ms = self.rng.i64(40..400);
        let code = self.rng.u64(..);
        self.commit(Some(latency_ms), |after, _| {
            let expires_at = after.payment.expires_at;
            after.payment.apply(Event::OfferShown)?;
            let attempt = last(after)?;
            attempt.apply(AttemptEvent::Shown)?;
            attempt.outcome = Some("accepted".to_owned());
            attempt.latency_ms = Some(latency_ms);
            attempt.next_action = Some(NextAction::DisplayQr { qr: format!("https://qr.example.com/{code:016x}") });
            attempt.next_check_at = Some(expires_at);
            Ok(())
        })
    }

    /// The first route cannot be reached, and another one takes its place.
    fn refuse(&mut self) -> Result<(), FillError> {
        let next = self.sending()?;
        let latency_ms = self.rng.i64(900..1_100);
        self.commit(Some(latency_ms), |after, _| {
            let failure = Failure::new(FailureKind::Network, "connect", "connection refused");
            die(last(after)?, "not_sent", Some(failure), latency_ms)?;
            after.attempts.push(next);
            Ok(())
        })
    }

    fn pay(&mut self) -> Result<(), FillError> {
        let (after_ms, transaction) = (self.rng.i64(4_000..60_000), self.transaction());
        let notification_id = self.rng.u64(..);
        self.commit(Some(after_ms), |after, told| {
            after.payment.apply(Event::Captured)?;
            after.payment.paid_at = Some(told.now);
            after.payment.resume_at = None;
            let is_charge = after.payment.flow.takes_money();
            let attempt = last(after)?;
            capture(attempt, Disposition::Kept, &transaction, told.now)?;
            if is_charge {
                (attempt.outcome, attempt.latency_ms) = (Some("captured".to_owned()), Some(after_ms));
            } else {
                told.inbox = Some(Inbox {
                    account_id: attempt.account_id.clone(),
                    notification_id: format!("{notification_id:016x}"),
                    verdict: "applied",
                    body: format!("{{\"order\":\"{}\",\"paid\":true}}", attempt.provider_order_no).into_bytes(),
                    received_at: told.now,
                });
            }
            Ok(())
        })
    }

    fn transaction(&mut self) -> String {
        format!("42000{:020}", self.rng.u64(..))
    }

    /// The payer's money comes after the payment has ended: a person decides.
    fn pay_late(&mut self) -> Result<(), FillError> {
        let (after_ms, transaction) = (self.rng.i64(1_000..90_000), self.transaction());
        self.commit(Some(after_ms), |after, told| capture(last(after)?, Disposition::Held, &transaction, told.now))?;
        let subject = self.aggregate.attempts.last().map(|a| a.id.clone()).unwrap_or_default();
        self.list("capture_mismatch", subject, "the money came after the payment had ended", None);
        Ok(())
    }

    fn decline(&mut self) -> Result<(), FillError> {
        let latency_ms = self.rng.i64(300..3_000);
        self.commit(Some(latency_ms), |after, _| {
            let message = "the payer has not enough money";
            let failure =
                Failure::new(FailureKind::Declined, "NOT_ENOUGH", message).because(Some(Reason::InsufficientFunds));
            after.payment.failure = Some(failure.clone());
            after.payment.resume_at = None;
            after.payment.apply(Event::Fail)?;
            die(last(after)?, "declined", Some(failure), latency_ms)
        })
    }

    /// Nobody has paid: the offer is closed, and then the payment ends.
    fn end(&mut self, event: Event) -> Result<(), FillError> {
        let wait_ms = if event == Event::Expire { EXPIRES_IN_S * 1_000 } else { self.rng.i64(2_000..600_000) };
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
            attempt.questions = 1;
            attempt.apply(AttemptEvent::Die)?;
            attempt.next_check_at = None;
            Ok(())
        })
    }

    fn park(&mut self) -> Result<(), FillError> {
        self.commit(Some(1_000), |after, told| {
            die(last(after)?, "not_sent", None, 1_000)?;
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
            attempt.outcome = Some("unknown".to_owned());
            attempt.next_check_at = Some(told.now.plus_s(3));
            Ok(())
        })
    }

    fn refund(&mut self, end: RefundEvent) -> Result<(), FillError> {
        let (after_ms, id) = (self.rng.i64(60_000..30 * 86_400_000), drawn(Kind::Refund, &mut self.rng));
        let is_whole = self.rng.bool();
        let no = format!("rf-{}", self.aggregate.payment.order_id);
        // What was made not long ago is refunded not long after.
        let left_ms = self.world.plan.until_ms.saturating_sub(self.now.0).saturating_sub(60_000).max(1);
        let (number, subject) = (no.clone(), id.clone());
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
                questions: 0,
                told_done: false,
            });
            Ok(())
        })?;
        self.commit(Some(1_500), |after, told| {
            for refund in &mut after.refunds {
                refund.apply(end)?;
                refund.next_check_at = None;
                refund.completed_at = (end != RefundEvent::GoAstray).then_some(told.now);
            }
            Ok(())
        })?;
        if end == RefundEvent::GoAstray {
            self.list("refund_abnormal", subject, "the payer's card takes no refunds", None);
        }
        Ok(())
    }

    /// What stood on the work list for a while, and is over.
    fn look_at(&mut self, n: u64) {
        if self.world.is_open(n) || self.rng.u32(..1_000) >= LOOKED_AT {
            return;
        }
        let kind = if self.rng.bool() { "unresolved" } else { "payment_stuck" };
        let subject = self.aggregate.payment.id.clone();
        self.list(kind, subject, "nobody has answered for a day", Some("by_itself"));
    }

    fn list(&mut self, kind: &str, subject_id: String, detail: &str, resolution: Option<&str>) {
        self.life.operations.push(OperationRow {
            id: drawn(Kind::Operation, &mut self.rng),
            owner: self.shop.owner.clone(),
            kind: kind.to_owned(),
            subject_id,
            detail: detail.to_owned(),
            created_at: self.now,
            resolved_at: resolution.map(|_| self.now.plus_s(600)),
            resolution: resolution.map(str::to_owned),
            proposal_id: None,
        });
    }

    /// Each event goes to whom it is the business of.
    fn deliver(&mut self) {
        let payment_id = self.aggregate.payment.id.clone();
        for change in &self.life.changes {
            for event in change.events() {
                let endpoint = match event.kind {
                    "payment.requires_action" | "payment.action_changed" | "payment.processing" => continue,
                    kind if kind.starts_with("refund.") => &self.shop.refunds_endpoint,
                    _ => &self.shop.endpoint,
                };
                let draw = self.rng.u32(..1_000);
                let delivery = delivery(event.id.clone(), &payment_id, self.shop, endpoint, event.created_at, draw);
                self.life.deliveries.push(delivery);
            }
        }
    }
}

/// When something is decided, and what came in with it.
struct Told {
    now: Timestamp,
    inbox: Option<Inbox>,
}

/// The merchant's own number of payment `n`.
#[must_use]
pub fn order_id(n: u64) -> String {
    format!("bench-{n:09}")
}

fn last(aggregate: &mut Aggregate) -> Result<&mut Attempt, FillError> {
    aggregate.attempts.last_mut().ok_or(FillError::Nobody)
}

fn die(attempt: &mut Attempt, outcome: &str, failure: Option<Failure>, latency_ms: i64) -> Result<(), FillError> {
    attempt.apply(AttemptEvent::Die)?;
    (attempt.outcome, attempt.failure) = (Some(outcome.to_owned()), failure);
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

/// Most are received at once; `draw` of a thousand says how this one fared.
fn delivery(event_id: String, payment_id: &str, shop: &Shop, endpoint: &str, at: Timestamp, draw: u32) -> DeliveryRow {
    let (status, end, http) = match draw {
        0..20 => (DeliveryState::Failed, End::HttpStatus, Some(500)),
        20..30 => (DeliveryState::Stopped, End::EndpointDisabled, None),
        _ => (DeliveryState::Delivered, End::Delivered, Some(200)),
    };
    let tried_at = at.plus_ms(150);
    DeliveryRow {
        id: format!("{event_id}_{endpoint}"),
        event_id,
        owner: shop.owner.clone(),
        payment_id: payment_id.to_owned(),
        endpoint_id: Some(endpoint.to_owned()),
        url: None,
        lane: endpoint.to_owned(),
        status,
        tries: 1,
        fence: 1,
        next_try_at: None,
        created_at: at.plus_ms(100),
        delivered_at: (status == DeliveryState::Delivered).then(|| tried_at.plus_ms(30)),
        last: Some(TryRow { at: tried_at, end, status: http, latency_ms: 30, answer: None }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::world::Plan;
    use super::*;
    use crate::domain::ledger::check::deviations;

    fn world(seed: u64) -> World {
        World::new(Plan { seed, payments: 3_000, until_ms: 1_800_000_000_000 })
    }

    #[test]
    fn a_life_follows_from_its_seed_and_its_number() {
        let told = |seed, n| format!("{:?}", life(&world(seed), n).unwrap());
        assert_eq!(told(7, 41), told(7, 41));
        assert_ne!(told(7, 41), told(8, 41));
        assert_ne!(told(7, 41), told(7, 42));
    }

    #[test]
    fn every_life_balances_and_they_end_in_every_way() {
        let world = world(1);
        let (mut states, mut kinds, mut last) = (BTreeSet::new(), BTreeSet::new(), Timestamp(0));
        for n in 0..3_000 {
            let life = life(&world, n).unwrap();
            let end = life.changes.last().unwrap().after();
            let entries: Vec<_> = life.changes.iter().flat_map(Change::entries).cloned().collect();
            assert_eq!(deviations(end, &entries), Vec::<String>::new(), "payment {n}");
            assert!(end.payment.created_at >= last, "in the order of time");
            assert!(end.payment.status.is_open() == end.due(end.payment.created_at).is_some(), "payment {n} rests");
            last = end.payment.created_at;
            states.insert(end.payment.status.to_string());
            kinds.extend(life.changes.iter().flat_map(|change| change.events()).map(|event| event.kind));
        }
        assert_eq!(states.len(), 7, "{states:?}");
        // Offers that change and refunds that end otherwise are left.
        assert_eq!(kinds.len(), events::KINDS.len() - 1, "{kinds:?}");
    }
}

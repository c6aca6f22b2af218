//! The auditor: reads the sandbox's book, the database's rows and the merchant's log, and nothing else, and says what must
//! never be so. Each verdict is a rule that can be broken; what it says of a payment is enough to look for it. Pure.
#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for what it has not")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::forger::Forgeries;
use super::merchant::Shopped;
use super::receiver::Received;
use crate::domain::attempt::Disposition;
use crate::domain::payment::State;
use crate::domain::{Aggregate, Attempt, Timestamp, refund};
use crate::store::Deviation;
use crate::store::audit::{ForAPerson, Told};

/// So many questions about one attempt at the most, with a few for money that somebody tells of later.
const QUESTIONS: i32 = 42;

/// Every payment has ended so long after everything was mended, unless a person has to look.
const ENDED_WITHIN_S: i64 = 86_400;

/// Everything that is audited.
#[derive(Debug, Default)]
pub struct Evidence {
    /// `GET /books`: `orders`.
    pub orders: Vec<Value>,
    /// `GET /notifications`: `data`.
    pub notifications: Vec<Value>,
    /// Every payment.
    pub payments: Vec<Aggregate>,
    /// Every event and who knows of it.
    pub told: Vec<Told>,
    /// Notifications that were taken: the provider's id, and the body.
    pub taken: Vec<(String, Vec<u8>)>,
    /// What waits for a person.
    pub for_a_person: Vec<ForAPerson>,
    /// Idempotency keys and the payments that they stand for.
    pub keys: Vec<(String, String)>,
    /// What shoppers wrote down.
    pub shopped: BTreeMap<usize, Shopped>,
    /// What came to the webhook receiver.
    pub received: Vec<Received>,
    /// What gateways have logged.
    pub logs: Vec<String>,
    /// What must never stand in a log.
    pub secrets: Vec<String>,
    /// Times at which somebody saw two live or two kept attempts of a payment.
    pub seen_double: Vec<String>,
    /// Where the ledger is not what the rows say, is not balanced, or has a broken chain.
    pub ledger: Vec<Deviation>,
    /// What somebody sent who is nobody.
    pub forgeries: Forgeries,
    /// When everything was mended.
    pub mended_at: Option<Timestamp>,
    /// The point at which a gateway was to die, and whether it did.
    pub point: Option<(String, bool)>,
    /// What went wrong with processes: one that did not stop well, a run that did not come to rest.
    pub trouble: Vec<String>,
}

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule: `kept_once`, `books_agree`, …
    pub rule: &'static str,
    /// The payment, or what else it is about.
    pub subject: String,
    /// What was found.
    pub found: String,
}

/// What the figures say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Payments that were accepted.
    pub payments: u64,
    /// Among them: their payer would pay, and nobody canceled.
    pub payable: u64,
    /// Payable ones that succeeded.
    pub succeeded: u64,
    /// Orders whose money was kept beside another one's of the same payment.
    pub captured_twice_kept: u64,
    /// Accepted payments that are in no row.
    pub lost: u64,
    /// Payments that neither ended nor stand on the work list.
    pub unended: u64,
    /// Forged messages that were answered.
    pub forged: u64,
    /// So many questions were asked about one attempt at the most.
    pub most_questions: i32,
    /// So long after everything was mended the last payment ended, in seconds of the gateways' time.
    pub ended_after_s: i64,
    /// Captures that went back because another one was kept, or nobody wanted them any more.
    pub given_back: u64,
}

/// Audits all.
#[must_use]
pub fn audit(e: &Evidence) -> (Vec<Violation>, Figures) {
    let mut found = Findings::default();
    let orders: BTreeMap<&str, &Value> = e.orders.iter().filter_map(|o| Some((o["order_no"].as_str()?, o))).collect();
    for trouble in &e.trouble {
        found.add("comes_to_rest", "run", trouble.clone());
    }
    for seen in &e.seen_double {
        found.add("never_two_alive", seen, "two live or two kept attempts at one moment".to_owned());
    }
    for deviation in &e.ledger {
        found.add("ledger_agrees", &deviation.place, deviation.what.clone());
    }
    if let Some((point, false)) = &e.point {
        found.add("every_point_is_hit", point, "no gateway died there".to_owned());
    }
    for believed in &e.forgeries.believed {
        found.add("forged_is_refused", believed.what, believed.answer.clone());
    }
    for payment in &e.payments {
        one_payment(&mut found, e, payment, &orders);
    }
    known_orders(&mut found, e);
    notifications(&mut found, e);
    shoppers(&mut found, e);
    events(&mut found, e);
    logs(&mut found, e);
    found.done(e)
}

#[derive(Debug, Default)]
struct Findings {
    violations: Vec<Violation>,
    figures: Figures,
}

impl Findings {
    fn add(&mut self, rule: &'static str, subject: &str, found: String) {
        self.violations.push(Violation { rule, subject: subject.to_owned(), found });
    }

    fn require(&mut self, holds: bool, rule: &'static str, subject: &str, found: impl FnOnce() -> String) {
        if !holds {
            self.add(rule, subject, found());
        }
    }

    fn done(mut self, e: &Evidence) -> (Vec<Violation>, Figures) {
        for shopped in e.shopped.values() {
            let Some(id) = &shopped.payment else { continue };
            self.figures.payments += 1;
            let status = e.payments.iter().find(|p| p.payment.id == *id).map(|p| p.payment.status);
            if shopped.payable && shopped.payer_or_code_paid() {
                self.figures.payable += 1;
                self.figures.succeeded += u64::from(status == Some(State::Succeeded));
            }
        }
        self.figures.forged = e.forgeries.answered;
        (self.violations, self.figures)
    }
}

impl Shopped {
    /// Whether somebody went to pay it, or would have: an offer that was never shown to its payer counts as wanted.
    fn payer_or_code_paid(&self) -> bool {
        self.payment.is_some()
    }
}

fn fen(order: &Value, member: &str) -> i64 {
    order[member].as_i64().unwrap_or(0)
}

fn waits_for_a_person(e: &Evidence, payment: &Aggregate) -> bool {
    let ids: BTreeSet<&str> = std::iter::once(payment.payment.id.as_str())
        .chain(payment.attempts.iter().map(|a| a.id.as_str()))
        .chain(payment.refunds.iter().map(|r| r.id.as_str()))
        .collect();
    // A genuine notification that agrees with nothing stands there under its own id, as its provider writes it.
    let about_it = |sent: &&Value| payment.attempts.iter().any(|a| sent["order_no"] == a.provider_order_no);
    let told: BTreeSet<&str> = e.notifications.iter().filter(about_it).filter_map(|sent| sent["id"].as_str()).collect();
    let stands =
        |o: &ForAPerson| ids.contains(o.subject_id.as_str()) || told.contains(o.subject_id.replace('-', "").as_str());
    e.for_a_person.iter().any(stands)
}

fn one_payment(found: &mut Findings, e: &Evidence, payment: &Aggregate, orders: &BTreeMap<&str, &Value>) {
    let id = payment.payment.id.as_str();
    let status = payment.payment.status;
    let person = waits_for_a_person(e, payment);
    let ended = !status.is_open();
    if !ended && !person {
        found.figures.unended += 1;
        found.add("every_request_ends", id, format!("still {status}"));
    }
    let kept = payment.attempts.iter().filter(|a| a.disposition == Some(Disposition::Kept)).count();
    let wanted = usize::from(status == State::Succeeded);
    found.require(kept == wanted, "kept_once", id, || format!("{status}, and {kept} kept"));
    let alive = payment.attempts.iter().filter(|a| a.status.is_live()).count();
    found.require(alive <= usize::from(!ended), "ended_is_dead", id, || format!("{status} with {alive} live attempts"));
    let mut not_given_back = 0;
    for attempt in &payment.attempts {
        let order = orders.get(attempt.provider_order_no.as_str()).copied();
        one_attempt(found, id, attempt, order, person);
        let left = order.map_or(0, |order| fen(order, "captured") - fen(order, "refunded"));
        let takes_no_part = attempt.disposition == Some(Disposition::Kept)
            || matches!(attempt.disposition, Some(Disposition::Held | Disposition::ReturnedByProvider))
            || (attempt.disposition == Some(Disposition::RefundDue) && person);
        if left > 0 && !takes_no_part {
            not_given_back += 1;
        }
        if matches!(attempt.disposition, Some(Disposition::Refunded)) {
            found.figures.given_back += 1;
        }
    }
    if not_given_back > 0 {
        found.figures.captured_twice_kept += not_given_back;
        found.add("no_money_kept_beside", id, format!("{not_given_back} orders keep money that is not this payment's"));
    }
    refunds(found, id, payment, orders, person);
}

fn one_attempt(found: &mut Findings, id: &str, attempt: &Attempt, order: Option<&Value>, person: bool) {
    let in_book = order.map_or(0, |order| fen(order, "captured"));
    let in_rows = attempt.captured.map_or(0, providers::money::Money::minor);
    // A charge that was reversed had its money for a moment; that it was ever there may be known to the provider alone.
    let gone = order.is_some_and(|o| fen(o, "captured") == fen(o, "refunded") || o["state"] == "reversed");
    let agrees = in_book == in_rows || (in_rows == 0 && gone);
    found.require(agrees || person, "books_agree", id, || {
        format!("attempt {} ({}): {in_rows} fen in rows, {in_book} at its provider", attempt.id, attempt.status)
    });
    found.figures.most_questions = found.figures.most_questions.max(attempt.questions);
    found.require(attempt.questions <= QUESTIONS, "bounded_questions", id, || {
        format!("attempt {} was asked about {} times", attempt.id, attempt.questions)
    });
    let open = matches!(attempt.disposition, Some(Disposition::RefundDue));
    found.require(!open || person, "due_money_goes_back", id, || format!("attempt {} is still refund_due", attempt.id));
    let held = attempt.disposition == Some(Disposition::Held);
    found.require(!held || person || attempt.returning, "held_for_a_reason", id, || {
        format!("attempt {} is held, and nobody knows why", attempt.id)
    });
}

fn refunds(found: &mut Findings, id: &str, payment: &Aggregate, orders: &BTreeMap<&str, &Value>, person: bool) {
    for attempt in payment.attempts.iter().filter(|a| a.captured.is_some()) {
        let Some(order) = orders.get(attempt.provider_order_no.as_str()) else { continue };
        found.require(fen(order, "refunded") <= fen(order, "captured"), "refunds_within_capture", id, || {
            format!("{} of {} fen went back", fen(order, "refunded"), fen(order, "captured"))
        });
        let of_it: Vec<_> = payment.refunds.iter().filter(|r| r.attempt_id == attempt.id).collect();
        let done = of_it.iter().filter(|r| r.status == refund::State::Succeeded).map(|r| r.amount.minor()).sum::<i64>();
        let waits = of_it.iter().any(|r| matches!(r.status, refund::State::Pending | refund::State::Abnormal));
        let settled = done == fen(order, "refunded") || order["state"] == "reversed";
        found.require(settled || waits || person, "refunds_agree", id, || {
            format!("attempt {}: {done} fen refunded in rows, {} at its provider", attempt.id, fen(order, "refunded"))
        });
        let lost = of_it.iter().find(|r| r.status == refund::State::Pending && !r.needs_funds && !person);
        found.require(lost.is_none(), "every_refund_ends", id, || {
            format!("refund {} is still pending", lost.map_or("", |r| r.id.as_str()))
        });
    }
}

/// Whatever a provider heard of is in a row: durable before the first byte.
fn known_orders(found: &mut Findings, e: &Evidence) {
    let ours: BTreeSet<&str> =
        e.payments.iter().flat_map(|p| p.attempts.iter().map(|a| a.provider_order_no.as_str())).collect();
    for order in &e.orders {
        let number = order["order_no"].as_str().unwrap_or_default();
        found.require(ours.contains(number), "durable_before_sent", number, || {
            format!("{} knows an order that no row has", order["provider"])
        });
    }
}

/// What was acknowledged was recorded: in the inbox, or by money that is in the rows all the same.
fn notifications(found: &mut Findings, e: &Evidence) {
    let captured: BTreeSet<&str> = e
        .payments
        .iter()
        .flat_map(|p| p.attempts.iter())
        .filter(|a| a.disposition.is_some())
        .map(|a| a.provider_order_no.as_str())
        .collect();
    // WeChat Pay writes the id with hyphens; UnionPay has none, but says the number of the order for all to read.
    let ids: BTreeSet<String> = e.taken.iter().map(|(id, _)| id.replace('-', "")).collect();
    let says = |order: &str| e.taken.iter().any(|(_, body)| String::from_utf8_lossy(body).contains(order));
    for sent in &e.notifications {
        let taken = sent["answer"]["acknowledged"] == true;
        let (id, order) = (sent["id"].as_str().unwrap_or_default(), sent["order_no"].as_str().unwrap_or_default());
        let about_money = sent["event"].to_string().to_ascii_lowercase().contains("paid");
        let forged = sent["fault"].as_str() == Some("forge");
        found.require(!(forged && taken), "forged_is_refused", order, || {
            format!("a forged notification {id} was answered {}", sent["answer"])
        });
        if taken && about_money && !forged {
            found.require(
                captured.contains(order) || ids.contains(id) || says(order),
                "acknowledged_is_recorded",
                order,
                || format!("notification {id} was acknowledged, and nothing of it is in a row"),
            );
        }
    }
}

const ENDS: [&str; 4] = ["succeeded", "failed", "canceled", "expired"];

fn shoppers(found: &mut Findings, e: &Evidence) {
    for (number, shopped) in &e.shopped {
        let subject = shopped.payment.clone().unwrap_or_else(|| format!("shopper {number}"));
        let payment = shopped.payment.as_ref().and_then(|id| e.payments.iter().find(|p| p.payment.id == *id));
        if shopped.payment.is_some() && payment.is_none() {
            found.figures.lost += 1;
            found.add("accepted_is_kept", &subject, "was accepted, and is in no row".to_owned());
        }
        let Some(payment) = payment else { continue };
        let status = payment.payment.status.to_string();
        for told in shopped.statuses.iter().filter(|told| ENDS.contains(&told.as_str())) {
            found.require(*told == status, "told_one_end", &subject, || format!("told {told}, and is {status}"));
        }
        same_key_same_bytes(found, &subject, shopped);
        for (refund_no, amount) in &shopped.refunds {
            let kept = payment.refunds.iter().find(|r| r.merchant_refund_no == *refund_no);
            found.require(kept.is_some_and(|r| r.amount.minor() == *amount), "accepted_is_kept", &subject, || {
                format!("refund {refund_no} of {amount} fen was accepted, and is in no row")
            });
        }
        for (key, payment_id) in e.keys.iter().filter(|(key, _)| shopped.answers.iter().any(|a| a.key == *key)) {
            found.require(payment_id == &payment.payment.id, "one_payment_a_key", &subject, || {
                format!("key {key} stands for {payment_id}")
            });
        }
    }
    let mut by_order: BTreeMap<&str, Vec<&Aggregate>> = BTreeMap::new();
    for payment in &e.payments {
        by_order.entry(payment.payment.order_id.as_str()).or_default().push(payment);
    }
    for (order, payments) in by_order {
        let paid = payments.iter().filter(|p| p.payment.status == State::Succeeded).count();
        found.require(paid <= 1, "one_payment_an_order", order, || format!("{paid} payments of one order succeeded"));
    }
}

/// A replayed answer is the first answer, byte for byte.
fn same_key_same_bytes(found: &mut Findings, subject: &str, shopped: &Shopped) {
    for replay in shopped.answers.iter().filter(|answer| answer.replayed) {
        let other = shopped.answers.iter().filter(|a| a.key == replay.key && (a.replayed || a.status == 201));
        let differs = other.clone().any(|a| a.body != replay.body);
        found.require(!differs, "same_key_same_bytes", subject, || format!("two answers under key {}", replay.key));
    }
}

fn events(found: &mut Findings, e: &Evidence) {
    let mut ends: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for told in &e.told {
        if let Some(end) = told.kind.strip_prefix("payment.").filter(|end| ENDS.contains(end)) {
            ends.entry(told.payment_id.as_str()).or_default().push(end);
            let after_s = e.mended_at.map_or(0, |mended_at| told.at.since(mended_at) / 1_000);
            found.figures.ended_after_s = found.figures.ended_after_s.max(after_s);
            found.require(after_s <= ENDED_WITHIN_S, "ends_in_time", &told.payment_id, || {
                format!("{end} {after_s} s after everything was mended")
            });
        }
        let visible = |state: &String| matches!(state.as_str(), "delivered" | "failed" | "stopped");
        found.require(told.deliveries.iter().any(visible), "every_event_is_told", &told.payment_id, || {
            format!("{} {}: {:?}", told.kind, told.id, told.deliveries)
        });
    }
    for payment in &e.payments {
        let status = payment.payment.status.to_string();
        let told = ends.get(payment.payment.id.as_str()).cloned().unwrap_or_default();
        let wanted: Vec<&str> = if payment.payment.status.is_open() { Vec::new() } else { vec![status.as_str()] };
        found.require(told == wanted, "one_end_told_once", &payment.payment.id, || {
            format!("{status}, and events say {told:?}")
        });
    }
    let known: BTreeMap<&str, &Told> = e.told.iter().map(|told| (told.id.as_str(), told)).collect();
    for received in &e.received {
        let true_of = known.get(received.id.as_str()).is_some_and(|told| told.kind == received.kind);
        found.require(true_of, "told_only_the_truth", &received.payment, || {
            format!("{} {} was received, and is no event of ours", received.kind, received.id)
        });
    }
    let received: BTreeSet<&str> = e.received.iter().map(|r| r.id.as_str()).collect();
    for told in e.told.iter().filter(|told| told.deliveries.iter().any(|state| state == "delivered")) {
        found.require(received.contains(told.id.as_str()), "delivered_is_received", &told.payment_id, || {
            format!("{} {} counts as delivered, and nobody has received it", told.kind, told.id)
        });
    }
}

fn logs(found: &mut Findings, e: &Evidence) {
    for (number, log) in e.logs.iter().enumerate() {
        for secret in e.secrets.iter().filter(|secret| secret.len() >= 12) {
            found.require(!log.contains(secret.as_str()), "no_secret_in_logs", &format!("gateway {number}"), || {
                format!("a secret of {} characters stands in its log", secret.len())
            });
        }
        let illegal = log.lines().find(|line| line.contains("is not possible in"));
        found.require(illegal.is_none(), "no_illegal_transition", &format!("gateway {number}"), || {
            illegal.unwrap_or_default().chars().take(300).collect()
        });
        let panicked = log.lines().find(|line| line.contains("panicked at"));
        found.require(panicked.is_none(), "nothing_panics", &format!("gateway {number}"), || {
            panicked.unwrap_or_default().chars().take(300).collect()
        });
    }
}

//! The auditor: reads the sandbox's book, the database's rows and the merchant's log, and nothing else, and says what must
//! never be so. Each verdict is a rule that can be broken; what it says of a payment is enough to look for it. Pure.
#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for what it has not")]

mod figures;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use self::figures::Figures;
use super::forger::Forgeries;
use super::merchant::{Answer, Shopped};
use super::prober::Probed;
use super::receiver::Received;
use crate::domain::attempt::Disposition;
use crate::domain::payment::State;
use crate::domain::{Aggregate, Attempt, Timestamp, refund};
use crate::store::Deviation;
use crate::store::audit::{ForAPerson, Told};

/// So many questions about one payment at the most, whatever its attempts went through.
const QUESTIONS: i32 = 30;

/// Every payment has ended so long after everything was mended, unless a person has to look. The longest pause between two
/// questions is an hour, and a charge may need three of them.
pub const ENDED_WITHIN_S: i64 = 4 * 3_600;

/// So many questions, closes and reversals of an attempt at the most, and probes of routes that are out.
const CALLS_AN_ATTEMPT: u64 = 2 * 42;
const PROBES: u64 = 1_000;

/// Whatever fell silent, payments are taken again so soon; and nobody says for so long that he is ready while he is not.
const SERVED_WITHIN_MS: u64 = 15_000;
const FALSELY_READY_MS: u64 = 30_000;

/// What nobody has to look at any more once everything was mended: it goes on by itself, or says that it cannot.
const IN_VAIN: [&str; 5] =
    ["unresolved", "payment_stuck", "account_unavailable", "refund_unresolved", "refund_needs_funds"];

/// Everything that is audited.
#[derive(Debug, Default)]
pub struct Evidence {
    /// `GET /books`: `orders`.
    pub orders: Vec<Value>,
    /// `GET /calls`.
    pub calls: Value,
    /// `GET /notifications`: `data`.
    pub notifications: Vec<Value>,
    /// How many of them there were: more than are shown, if the log was too short.
    pub sent: u64,
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
    /// What differs in the rows before and after forgeries came in while nothing else happened.
    pub changed_by_forgeries: Option<String>,
    /// When everything was mended.
    pub mended_at: Option<Timestamp>,
    /// The point at which a gateway was to die, and whether it did.
    pub point: Option<(String, bool)>,
    /// Providers that were to tell of another amount than was paid.
    pub liars: BTreeSet<String>,
    /// Providers that were to refuse refunds, or not to carry them out.
    pub refusing: BTreeSet<String>,
    /// For how long gateways took no payments, where somebody has looked.
    pub probed: Vec<Probed>,
    /// Jobs that stood still after a clock was set, and payments that were known too late.
    pub too_slow: Vec<(&'static str, String)>,
    /// Providers that were mended and not back in time, and where.
    pub not_back: Vec<String>,
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

/// Audits all.
#[must_use]
pub fn audit(e: &Evidence) -> (Vec<Violation>, Figures) {
    let mut found = Findings::default();
    let orders: BTreeMap<&str, &Value> = e.orders.iter().filter_map(|o| Some((o["order_no"].as_str()?, o))).collect();
    for trouble in &e.trouble {
        found.add("comes_to_rest", "run", trouble.clone());
    }
    for (rule, found_slow) in &e.too_slow {
        found.add(rule, "run", found_slow.clone());
    }
    for seen in &e.seen_double {
        found.add("never_two_alive", seen, "two live or two kept attempts at one moment".to_owned());
    }
    for missing in &e.not_back {
        found.add("back_in_time", "run", missing.clone());
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
    if let Some(changed) = &e.changed_by_forgeries {
        found.add("forged_changes_nothing", "run", changed.clone());
    }
    probes(&mut found, e);
    calls(&mut found, e);
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
            let row = shopped.payment.as_ref().and_then(|id| e.payments.iter().find(|p| p.payment.id == *id));
            let succeeded = row.is_some_and(|p| p.payment.status == State::Succeeded);
            self.figures.payments += u64::from(shopped.payment.is_some());
            self.figures.succeeded += u64::from(shopped.payable && succeeded);
            self.figures.cut_off += u64::from(shopped.payable && !shopped.is_done && !succeeded);
        }
        // Whoever would have paid and was turned away counts, too.
        self.figures.payable = u64::try_from(e.shopped.values().filter(|s| s.payable).count()).unwrap_or(0);
        self.figures.forged = e.forgeries.answered;
        (self.violations, self.figures)
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn fen(order: &Value, member: &str) -> i64 {
    order[member].as_i64().unwrap_or(0)
}

/// Whether one of these troubles stands on the work list for this attempt, or for a refund of it.
fn stands(e: &Evidence, payment: &Aggregate, attempt: &Attempt, kinds: &[&str]) -> bool {
    let refunds = payment.refunds.iter().filter(|r| r.attempt_id == attempt.id).map(|r| r.id.as_str());
    let about: BTreeSet<&str> = refunds.chain([attempt.id.as_str()]).collect();
    e.for_a_person.iter().any(|o| kinds.contains(&o.kind.as_str()) && about.contains(o.subject_id.as_str()))
}

/// A charge that WeChat Pay never heard of cannot be proved dead there (4.8): two persons decide.
fn cannot_be_proved(attempt: &Attempt, order: Option<&Value>) -> bool {
    attempt.provider.as_str() == "wechatpay" && attempt.flow.takes_money() && order.is_none()
}

/// Whether a refund of this order never gets an end at its provider: UnionPay has no word for one that cannot reach its payer.
fn never_ends(order: Option<&Value>) -> bool {
    let all = order.filter(|order| order["provider"] == "unionpay").and_then(|order| order["refunds"].as_array());
    all.into_iter().flatten().any(|refund| refund["status"] == "abnormal")
}

/// Whether money that is due has not gone back because its provider would not give it, and a person is told of that.
fn cannot_go_back(e: &Evidence, payment: &Aggregate, attempt: &Attempt, order: Option<&Value>) -> bool {
    let why: &[&str] =
        if never_ends(order) { &["refund_unresolved"] } else { &["automatic_refund_failed", "refund_abnormal"] };
    e.refusing.contains(attempt.provider.as_str()) && stands(e, payment, attempt, why)
}

/// Whether a provider told of another amount than was paid, and a person is told of that.
fn misstated(e: &Evidence, payment: &Aggregate, attempt: &Attempt) -> bool {
    e.liars.contains(attempt.provider.as_str()) && stands(e, payment, attempt, &["capture_mismatch"])
}

/// Whether money is held because of something that its provider did, and a person is told of that.
fn held_rightly(e: &Evidence, payment: &Aggregate, attempt: &Attempt, order: Option<&Value>) -> bool {
    let goes_back_by_itself = order.is_some_and(is_late) && stands(e, payment, attempt, &["capture_returning"]);
    goes_back_by_itself || misstated(e, payment, attempt)
}

/// Paid after its time, where the provider gives it back by itself some days later (UnionPay 0.5).
fn is_late(order: &Value) -> bool {
    let at = |name: &str| order[name].as_str().and_then(|at| at.parse::<chrono::DateTime<chrono::Utc>>().ok());
    order["provider"] == "unionpay" && at("paid_at").zip(at("expires_at")).is_some_and(|(paid, over)| paid >= over)
}

fn one_payment(found: &mut Findings, e: &Evidence, payment: &Aggregate, orders: &BTreeMap<&str, &Value>) {
    let id = payment.payment.id.as_str();
    let status = payment.payment.status;
    let ended = !status.is_open();
    let order_of = |attempt: &Attempt| orders.get(attempt.provider_order_no.as_str()).copied();
    let undecided = payment.attempts.iter().any(|attempt| {
        let held = held_rightly(e, payment, attempt, order_of(attempt));
        let unproved = cannot_be_proved(attempt, order_of(attempt)) && stands(e, payment, attempt, &["unresolved"]);
        held || unproved
    });
    if !ended && !undecided {
        found.figures.unended += 1;
        found.add("every_request_ends", id, format!("still {status}"));
    }
    let questions = payment.attempts.iter().map(|attempt| attempt.questions).sum();
    found.figures.most_questions_of_a_payment = found.figures.most_questions_of_a_payment.max(questions);
    found.require(questions <= QUESTIONS, "bounded_questions", id, || {
        format!("the providers were asked about it {questions} times")
    });
    let kept = payment.attempts.iter().filter(|a| a.disposition == Some(Disposition::Kept)).count();
    let wanted = usize::from(status == State::Succeeded);
    found.require(kept == wanted, "kept_once", id, || format!("{status}, and {kept} kept"));
    let alive = payment.attempts.iter().filter(|a| a.status.is_live()).count();
    found.require(alive <= usize::from(!ended), "ended_is_dead", id, || format!("{status} with {alive} live attempts"));
    let mut not_given_back = 0;
    for attempt in &payment.attempts {
        let order = order_of(attempt);
        one_attempt(found, e, payment, attempt, order);
        let left = order.map_or(0, |order| fen(order, "captured") - fen(order, "refunded"));
        let is_excused = match attempt.disposition {
            Some(Disposition::Kept) => true,
            Some(Disposition::Held) => held_rightly(e, payment, attempt, order),
            Some(Disposition::RefundDue) => cannot_go_back(e, payment, attempt, order),
            // Nobody asks any more when it comes, and it goes back by itself.
            None | Some(Disposition::ReturnedByProvider) => order.is_some_and(is_late),
            Some(Disposition::Refunded) => false,
        };
        if left > 0 && !is_excused {
            not_given_back += 1;
        }
        // What was ended before it came stands in the book without an amount.
        if let Some(order) = order.filter(|order| fen(order, "amount") > 0 || fen(order, "captured") > 0) {
            let (asked, amount) = (payment.payment.amount.minor(), fen(order, "amount"));
            found.require(asked == amount, "one_amount", id, || format!("{asked} fen, and its order is of {amount}"));
        }
        if matches!(attempt.disposition, Some(Disposition::Refunded)) {
            found.figures.given_back += 1;
        }
    }
    found.figures.captured_twice_kept += u64::try_from(kept.saturating_sub(wanted)).unwrap_or(0);
    if not_given_back > 0 {
        found.figures.captured_twice_kept += not_given_back;
        found.add("no_money_kept_beside", id, format!("{not_given_back} orders keep money that is not this payment's"));
    }
    refunds(found, e, payment, orders);
}

fn one_attempt(found: &mut Findings, e: &Evidence, payment: &Aggregate, attempt: &Attempt, order: Option<&Value>) {
    let id = payment.payment.id.as_str();
    let stands = |kinds: &[&str]| stands(e, payment, attempt, kinds);
    let in_book = order.map_or(0, |order| fen(order, "captured"));
    let in_rows = attempt.captured.map_or(0, providers::money::Money::minor);
    let reversed = order.is_some_and(|o| o["state"] == "reversed");
    if attempt.disposition == Some(Disposition::Kept) {
        let stays = in_book > 0 && !reversed && !order.is_some_and(is_late);
        found.require(stays, "kept_is_there", id, || {
            format!("attempt {} is kept, and its order is {}", attempt.id, order.map_or(&Value::Null, |o| &o["state"]))
        });
    }
    // A charge that was reversed had its money for a moment; that it was ever there may be known to the provider alone. So
    // may money that came when nobody asked any more, and goes back by itself.
    let gone = order.is_some_and(|o| fen(o, "captured") == fen(o, "refunded") || reversed || is_late(o));
    let agrees = in_book == in_rows || (in_rows == 0 && gone);
    let agrees = agrees || misstated(e, payment, attempt);
    if !agrees && in_book > in_rows {
        found.figures.lost += 1;
    }
    found.require(agrees, "books_agree", id, || {
        format!("attempt {} ({}): {in_rows} fen in rows, {in_book} at its provider", attempt.id, attempt.status)
    });
    found.figures.most_questions = found.figures.most_questions.max(attempt.questions);
    let due = attempt.disposition == Some(Disposition::RefundDue);
    found.require(!due || cannot_go_back(e, payment, attempt, order), "due_money_goes_back", id, || {
        format!("attempt {} is still refund_due", attempt.id)
    });
    let held = attempt.disposition == Some(Disposition::Held);
    found.require(!held || held_rightly(e, payment, attempt, order), "held_for_a_reason", id, || {
        format!("attempt {} is held, and its provider did nothing that stands on the work list", attempt.id)
    });
    for kind in IN_VAIN {
        let excused = (kind == "unresolved" && cannot_be_proved(attempt, order))
            || (kind == "refund_unresolved" && never_ends(order));
        found.require(excused || !stands(&[kind]), "nothing_waits_in_vain", id, || {
            format!("{kind} of attempt {} ({}) still stands on the work list", attempt.id, attempt.status)
        });
    }
    let claimed = payment.claimed_by_refunds_fen(&attempt.id);
    found.require(claimed <= in_rows, "refunds_within_capture", id, || {
        format!("attempt {}: {claimed} of {in_rows} fen are promised or refunded", attempt.id)
    });
}

fn refunds(found: &mut Findings, e: &Evidence, payment: &Aggregate, orders: &BTreeMap<&str, &Value>) {
    let id = payment.payment.id.as_str();
    for attempt in payment.attempts.iter().filter(|a| a.captured.is_some()) {
        let Some(order) = orders.get(attempt.provider_order_no.as_str()) else { continue };
        let of_it: Vec<_> = payment.refunds.iter().filter(|r| r.attempt_id == attempt.id).collect();
        let done = of_it.iter().filter(|r| r.status == refund::State::Succeeded).map(|r| r.amount.minor()).sum::<i64>();
        // A reversal gives all of it back, without a refund of ours.
        let reversed = order["state"] == "reversed" && attempt.disposition != Some(Disposition::Kept);
        let settled = done == fen(order, "refunded") || reversed || is_late(order);
        found.require(settled || misstated(e, payment, attempt), "refunds_agree", id, || {
            format!("attempt {}: {done} fen refunded in rows, {} at its provider", attempt.id, fen(order, "refunded"))
        });
        // One at a time: the others wait for it.
        let waits = never_ends(Some(order)) && stands(e, payment, attempt, &["refund_unresolved"]);
        for refund in of_it.iter().filter(|r| r.status == refund::State::Pending && !waits) {
            found.add("every_refund_ends", id, format!("refund {} is still pending", refund.id));
        }
        for refund in of_it.iter().filter(|r| r.status == refund::State::Abnormal) {
            let listed = e.for_a_person.iter().any(|o| o.kind == "refund_abnormal" && o.subject_id == refund.id);
            found.require(listed, "every_refund_ends", id, || {
                format!("refund {} is abnormal, and nobody is told", refund.id)
            });
        }
    }
}

/// A gateway takes payments again soon, and does not say that it is ready while nothing succeeds there.
fn probes(found: &mut Findings, e: &Evidence) {
    for probed in &e.probed {
        found.require(probed.longest_ms <= SERVED_WITHIN_MS, "served_again", &probed.gateway, || {
            format!("no payment was taken for {} ms", probed.longest_ms)
        });
        found.require(probed.falsely_ready_ms <= FALSELY_READY_MS, "ready_is_true", &probed.gateway, || {
            format!("it said that it was ready for {} ms while no payment was taken", probed.falsely_ready_ms)
        });
        for job in &probed.stopped {
            found.add("every_loop_goes_on", &probed.gateway, job.clone());
        }
    }
}

/// Each attempt is sent once, whatever happens; and nobody asks without end.
fn calls(found: &mut Findings, e: &Evidence) {
    for protocol in providers::PROTOCOLS {
        let name = protocol.name.as_str();
        let made = |call: &str| e.calls[name][call].as_u64().unwrap_or(0);
        let attempts = e.payments.iter().flat_map(|p| &p.attempts).filter(|a| a.provider.as_str() == name).count();
        let attempts = u64::try_from(attempts).unwrap_or(0);
        found.require(made("create") <= attempts, "sent_once", name, || {
            format!("{} orders were sent for {attempts} attempts", made("create"))
        });
        let asked = made("query") + made("close") + made("reverse");
        // The board's probes are queries, too: one a second at the most, in a run of days of its own time.
        found.require(asked <= PROBES + attempts * CALLS_AN_ATTEMPT, "bounded_calls", name, || {
            format!("{asked} questions, closes and reversals for {attempts} attempts")
        });
    }
}

/// Whatever a provider heard of is in a row: durable before the first byte.
fn known_orders(found: &mut Findings, e: &Evidence) {
    let ours: BTreeSet<&str> =
        e.payments.iter().flat_map(|p| p.attempts.iter().map(|a| a.provider_order_no.as_str())).collect();
    for order in &e.orders {
        let number = order["order_no"].as_str().unwrap_or_default();
        if !ours.contains(number) && fen(order, "captured") > fen(order, "refunded") {
            found.figures.lost += 1;
        }
        found.require(ours.contains(number), "durable_before_sent", number, || {
            format!("{} knows an order that no row has", order["provider"])
        });
    }
}

/// What was acknowledged was recorded, each by its id; UnionPay gives none, there it is the same body.
fn notifications(found: &mut Findings, e: &Evidence) {
    let shown = u64::try_from(e.notifications.len()).unwrap_or(0);
    found.require(shown == e.sent, "everything_is_seen", "run", || {
        format!("{} notifications were sent, and the log has {shown}", e.sent)
    });
    // WeChat Pay writes the id with hyphens.
    let ids: BTreeSet<String> = e.taken.iter().map(|(id, _)| id.replace('-', "")).collect();
    let bodies: BTreeSet<String> = e.taken.iter().map(|(_, body)| sha256_hex(body)).collect();
    for sent in &e.notifications {
        let taken = sent["answer"]["acknowledged"] == true;
        let (id, order) = (sent["id"].as_str().unwrap_or_default(), sent["order_no"].as_str().unwrap_or_default());
        let forged = sent["fault"] == "forge";
        found.require(!(forged && taken), "forged_is_refused", order, || {
            format!("a forged notification {id} was answered {}", sent["answer"])
        });
        if taken && !forged {
            let recorded = ids.contains(id) || bodies.contains(sent["body_sha256"].as_str().unwrap_or_default());
            found.require(recorded, "acknowledged_is_recorded", order, || {
                format!("notification {id} was acknowledged, and no row has it")
            });
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
        let (asked, amount) = (shopped.amount, payment.payment.amount.minor());
        found.require(asked == amount, "one_amount", &subject, || format!("{asked} fen were asked for, not {amount}"));
        let status = payment.payment.status.to_string();
        for told in shopped.statuses.iter().filter(|told| ENDS.contains(&told.as_str())) {
            found.require(*told == status, "told_one_end", &subject, || format!("told {told}, and is {status}"));
        }
        same_key_same_bytes(found, &subject, &shopped.answers);
        same_key_same_bytes(found, &subject, &shopped.refund_answers);
        strange_requests(found, &subject, shopped, payment.payment.status);
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

/// Whatever stands under a key is one answer, byte for byte, whether or not it says that it was given before. (A 200 tells
/// what has become of it since.)
fn same_key_same_bytes(found: &mut Findings, subject: &str, answers: &[Answer]) {
    let mut standing: BTreeMap<&str, &Answer> = BTreeMap::new();
    for answer in answers.iter().filter(|answer| answer.replayed || answer.status == 201) {
        let first = standing.entry(answer.key.as_str()).or_insert(answer);
        let same = (first.status, &first.body) == (answer.status, &answer.body);
        found.require(same, "same_key_same_bytes", subject, || format!("two answers under key {}", answer.key));
    }
}

/// One key is one request, and one order one payment.
fn strange_requests(found: &mut Findings, subject: &str, shopped: &Shopped, status: State) {
    if let Some(answer) = &shopped.other_body {
        // Not read in time, in progress, limited, overloaded: asked again, it would be refused for what it is.
        found.require(matches!(answer.status, 408 | 409 | 422 | 429 | 503), "another_body_is_refused", subject, || {
            format!("another body under the same key was answered {}", answer.status)
        });
    }
    let Some(answer) = &shopped.other_key else { return };
    let body = answer.json();
    let is_another = matches!(answer.status, 200..=202) && body["id"] != subject;
    found.require(
        !is_another || (!status.is_open() && status != State::Succeeded),
        "one_payment_an_order",
        subject,
        || format!("the same order became {}, too, and the first one is {status}", body["id"]),
    );
    let names_it = answer.status != 409
        || body["code"] != "order_id_in_use"
        || body["resource"] == subject
        || body["retryable"] == true;
    found.require(names_it, "the_first_one_is_named", subject, || format!("{body}"));
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
    counted(found, e);
    let known: BTreeMap<&str, &Told> = e.told.iter().map(|told| (told.id.as_str(), told)).collect();
    for received in &e.received {
        let true_of = known.get(received.id.as_str()).is_some_and(|told| told.kind == received.kind);
        let says = received.kind.split_once('.').map_or("", |(_, kind)| kind);
        let as_it_is = !ENDS.contains(&says) || received.status == says;
        found.require(true_of && as_it_is, "told_only_the_truth", &received.payment, || {
            format!(
                "{} {} was received and says {:?}; it is no event of ours",
                received.kind, received.id, received.status
            )
        });
    }
    let received: BTreeSet<&str> = e.received.iter().map(|r| r.id.as_str()).collect();
    for told in e.told.iter().filter(|told| told.deliveries.iter().any(|state| state == "delivered")) {
        found.require(received.contains(told.id.as_str()), "delivered_is_received", &told.payment_id, || {
            format!("{} {} counts as delivered, and nobody has received it", told.kind, told.id)
        });
    }
}

/// Money that came too late and refunds are told of once each.
fn counted(found: &mut Findings, e: &Evidence) {
    for payment in &e.payments {
        let id = payment.payment.id.as_str();
        let told = |kind: &str| e.told.iter().filter(|t| t.payment_id == id && t.kind == kind).count();
        let refunds = |state| payment.refunds.iter().filter(|r| r.status == state).count();
        let beside = payment.attempts.iter().filter(|a| a.disposition.is_some_and(|d| d != Disposition::Kept)).count();
        let wanted = [
            ("payment.late_captured", beside, beside),
            ("refund.succeeded", refunds(refund::State::Succeeded), refunds(refund::State::Succeeded)),
            // One that had failed, or gone astray, may have been carried out after all.
            ("refund.failed", refunds(refund::State::Failed), payment.refunds.len()),
            ("refund.abnormal", refunds(refund::State::Abnormal), payment.refunds.len()),
        ];
        for (kind, least, most) in wanted {
            found.require((least..=most).contains(&told(kind)), "told_once", id, || {
                format!("{kind} was told {} times, and happened {least} times", told(kind))
            });
        }
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

#[cfg(test)]
mod tests;

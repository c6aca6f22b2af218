//! A provider without a network, for tests of what stands above. Left alone it behaves like a real
//! provider of offers or of charges, on the sandbox's book; asked to, it answers whatever a test
//! wants. It must never be offered to merchants, which is why it is not on the list of providers.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};

use crate::http::TimeTold;
use crate::notification::{
    Acknowledgement, AcknowledgementBody, Notice, Notification, RawNotification, Rejection,
    Verified,
};
use crate::order::{Call, Flow, Order, OrderRef, RefundOrder};
use crate::outcome::{
    Answer, Capture, CloseOutcome, CreateOutcome, Failure, FailureKind, NextAction, QueryOutcome,
    RefundOutcome, RefundQueryOutcome, Refusal,
};
use crate::provider::{Capabilities, Charging, Ending, FlowCapability, Provider, ProviderName};
use crate::sandbox::book::{self, Book, Code, NewRefund, OrderKey, RefundStatus, State};
use crate::sandbox::payer::PayerBehaviour;

const MERCHANT: &str = "merchant";
const SIGNATURE: &str = "memory-signature";

static CLOSABLE: Capabilities = capabilities(&[FlowCapability {
    flow: Flow::Qr,
    ending: Ending::Close,
}]);
static CLOSABLE_ONCE_OPENED: Capabilities = capabilities(&[FlowCapability {
    flow: Flow::Qr,
    ending: Ending::CloseOnceTradeExists,
}]);
static EXPIRING: Capabilities = capabilities(&[FlowCapability {
    flow: Flow::Qr,
    ending: Ending::Expire,
}]);
static CHARGING: Capabilities = Capabilities {
    charge: Some(Charging {
        is_code,
        timeout_ms: 15_000,
        ladder_s: &[1, 2, 5, 10, 20, 30],
        reverse_after_s: 30,
        reverse_from_s: 0,
        reverse_pause_s: 3,
        declined_is_reversed: true,
        confirm_not_found_after_s: Some(30),
        last_reversals: None,
    }),
    ..capabilities(&[FlowCapability {
        flow: Flow::Barcode,
        ending: Ending::Reverse,
    }])
};

/// Its codes are 18 digits that begin with 99, which is no real provider's. The last one is the
/// payer's mood, as in the sandbox.
fn is_code(code: &str) -> bool {
    code.starts_with("99") && code.len() == 18 && code.bytes().all(|b| b.is_ascii_digit())
}

const fn capabilities(flows: &'static [FlowCapability]) -> Capabilities {
    Capabilities {
        flows,
        amount_fen: (1, 10_000_000_000),
        shortest_offer_s: 60,
        probe_every_ms: 1_000,
        awaiting_ladder_s: &[5, 30, 60, 180, 300, 600, 1800],
        refund_ladder_s: &[10, 60, 300],
        refund_spacing_ms: 0,
        refund_renumbers: false,
        refund_keyed_by_time: false,
        charge: None,
    }
}

/// What a test wants the next call of a kind to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scripted<T> {
    /// Whether the call takes effect.
    pub done: bool,
    /// What it answers; `None`: nothing, ever.
    pub answer: Option<T>,
}

/// The provider. See the module.
#[derive(Debug)]
pub struct Memory {
    name: ProviderName,
    ending: Ending,
    key: hmac::Key,
    checks: Checks,
    inner: Mutex<Inner>,
}

/// When the signature of a notification is looked at.
#[derive(Debug)]
enum Checks {
    Always,
    WhatIsSigned,
    Never,
}

#[derive(Debug, Default)]
struct Inner {
    book: Book,
    calls: Vec<(&'static str, String)>,
    create: VecDeque<Scripted<CreateOutcome>>,
    query: VecDeque<Scripted<QueryOutcome>>,
    close: VecDeque<Scripted<CloseOutcome>>,
    refund: VecDeque<Scripted<RefundOutcome>>,
    query_refund: VecDeque<Scripted<RefundQueryOutcome>>,
}

impl Memory {
    /// Its own name, which is on no list.
    pub const NAME: ProviderName = ProviderName::new("memory");

    /// An empty one, under its own name or in the place of a real provider, whose offers end as
    /// `ending` says; with [`Ending::Reverse`] it makes charges and no offers.
    #[must_use]
    pub fn new(name: ProviderName, ending: Ending) -> Self {
        let key = hmac::Key::new(
            hmac::HMAC_SHA256,
            b"known to everybody: it signs for tests only",
        );
        Self {
            name,
            ending,
            key,
            checks: Checks::Always,
            inner: Mutex::default(),
        }
    }

    /// The same, but it believes whatever comes in: what the conformance suite must find out.
    #[must_use]
    pub fn gullible(self) -> Self {
        Self {
            checks: Checks::Never,
            ..self
        }
    }

    /// The same, but it checks a signature only where there is one.
    #[must_use]
    pub fn careless(self) -> Self {
        Self {
            checks: Checks::WhatIsSigned,
            ..self
        }
    }

    /// What the next creation does, behind those asked for before.
    pub fn script_create(&self, scripted: Scripted<CreateOutcome>) {
        self.lock().create.push_back(scripted);
    }

    /// Queries are answered by the book again, whatever was scripted.
    pub fn unscript_queries(&self) {
        self.lock().query.clear();
    }

    /// What the next query does.
    pub fn script_query(&self, scripted: Scripted<QueryOutcome>) {
        self.lock().query.push_back(scripted);
    }

    /// What the next close or reversal does.
    pub fn script_close(&self, scripted: Scripted<CloseOutcome>) {
        self.lock().close.push_back(scripted);
    }

    /// What the next refund does.
    pub fn script_refund(&self, scripted: Scripted<RefundOutcome>) {
        self.lock().refund.push_back(scripted);
    }

    /// What the next query of a refund does.
    pub fn script_query_refund(&self, scripted: Scripted<RefundQueryOutcome>) {
        self.lock().query_refund.push_back(scripted);
    }

    /// Every call so far: its name and the order's or refund's number.
    #[must_use]
    pub fn calls(&self) -> Vec<(&'static str, String)> {
        self.lock().calls.clone()
    }

    /// The payer pays.
    ///
    /// # Errors
    /// Why the book refuses; nothing was changed.
    pub fn pay(&self, order_no: &str, now: DateTime<Utc>) -> Result<(), book::Refusal> {
        let book = &mut self.lock().book;
        let transaction_id = transaction_id(book);
        book.pay(&key(order_no), &transaction_id, now)
    }

    /// The payer opens the order and does not pay.
    ///
    /// # Errors
    /// Why the book refuses; nothing was changed.
    pub fn open(&self, order_no: &str, now: DateTime<Utc>) -> Result<(), book::Refusal> {
        let book = &mut self.lock().book;
        let transaction_id = transaction_id(book);
        book.open_trade(&key(order_no), &transaction_id, now)
    }

    /// What the merchant has of the order's money: what was taken and did not go back, in fen.
    #[must_use]
    pub fn kept_fen(&self, order_no: &str) -> i64 {
        self.lock()
            .book
            .order(&key(order_no))
            .map_or(0, |order| order.captured_fen() - order.refunded_fen())
    }

    /// A genuine notification that the order was paid; `None` while it is not.
    #[must_use]
    pub fn paid_notification(&self, order_no: &str) -> Option<RawNotification> {
        let capture = capture(self.lock().book.order(&key(order_no))?)?;
        Some(self.signed(
            json!({"id": format!("paid-{order_no}"), "order_no": order_no, "capture": capture}),
        ))
    }

    /// A genuine notification that something happened to a refund: that it was carried out,
    /// whatever was.
    #[must_use]
    pub fn refund_notification(&self, order_no: &str, refund_no: &str) -> RawNotification {
        self.signed(
            json!({"id": format!("refunded-{refund_no}"), "order_no": order_no,
            "refund_no": refund_no}),
        )
    }

    fn signed(&self, told: Value) -> RawNotification {
        let body = told.to_string();
        let signature = BASE64.encode(hmac::sign(&self.key, body.as_bytes()));
        let signed = HeaderValue::from_str(&signature)
            .map(|value| (http::HeaderName::from_static(SIGNATURE), value));
        RawNotification {
            headers: HeaderMap::from_iter(signed),
            body: Bytes::from(body),
        }
    }

    fn check(&self, raw: &RawNotification) -> Result<(), Rejection> {
        let signature = raw
            .headers
            .get(SIGNATURE)
            .ok_or_else(|| Rejection::Unsigned(SIGNATURE.to_owned()))?;
        let signature = BASE64
            .decode(signature.as_bytes())
            .map_err(|_| Rejection::BadSignature)?;
        hmac::verify(&self.key, &raw.body, &signature).map_err(|_| Rejection::BadSignature)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Writes the call down, lets it take effect unless the script says otherwise, and answers.
    async fn run<T>(
        &self,
        call: (&'static str, &str),
        script: impl FnOnce(&mut Inner) -> Option<Scripted<T>>,
        act: impl FnOnce(&mut Inner) -> T,
    ) -> Answer<T> {
        let answer = {
            let mut inner = self.lock();
            inner.calls.push((call.0, call.1.to_owned()));
            match script(&mut inner) {
                None => Some(act(&mut inner)),
                Some(scripted) => {
                    if scripted.done {
                        act(&mut inner);
                    }
                    scripted.answer
                }
            }
        };

        match answer {
            Some(outcome) => Answer::new(outcome),
            None => std::future::pending().await,
        }
    }

    fn create_now(&self, inner: &mut Inner, order: &Order, now: DateTime<Utc>) -> CreateOutcome {
        if self.capabilities().flow(order.flow).is_none() {
            return CreateOutcome::Refused(Refusal::Request, no("flow"));
        }
        if order.flow.is_charge() {
            return charge_now(inner, order, now);
        }
        let qr = format!("memory:{}", order.order_no);
        let state = if self.trade_exists_at_once() {
            State::Payable
        } else {
            State::Shown
        };

        match inner.book.insert(entry(order, &qr, state, now)) {
            Ok(()) => CreateOutcome::Accepted(NextAction::DisplayQr { qr }),
            // As at the real ones, an order with this number lives on, whatever becomes of this
            // call.
            Err(refusal) => CreateOutcome::Unknown(no(&refusal.to_string())),
        }
    }

    fn trade_exists_at_once(&self) -> bool {
        match self.ending {
            Ending::Close | Ending::Expire | Ending::Reverse => true,
            Ending::CloseOnceTradeExists => false,
        }
    }

    fn close_now(&self, inner: &mut Inner, order: &OrderRef, now: DateTime<Utc>) -> CloseOutcome {
        let key = key(&order.order_no);
        let Some(state) = inner.book.order(&key).map(|o| o.state) else {
            return CloseOutcome::Impossible(no("no such order"));
        };

        match (state, self.ending) {
            (State::Paid | State::Reversed, _) => CloseOutcome::AlreadyPaid,
            (State::Closed, _) => CloseOutcome::Closed,
            (State::Shown, _) => CloseOutcome::Impossible(no("nobody has opened it")),
            (State::Payable, Ending::Expire | Ending::Reverse) => {
                CloseOutcome::Impossible(no("it cannot be closed"))
            }
            (State::Payable, Ending::Close | Ending::CloseOnceTradeExists) => {
                match inner.book.close(&key, now) {
                    Ok(()) => CloseOutcome::Closed,
                    Err(refusal) => CloseOutcome::Impossible(no(&refusal.to_string())),
                }
            }
        }
    }
}

fn key(order_no: &str) -> OrderKey {
    OrderKey::new("memory", MERCHANT, order_no)
}

fn transaction_id(book: &mut Book) -> String {
    format!("M{:027}", book.next_number())
}

fn no(message: &str) -> Failure {
    Failure::new(FailureKind::Request, "memory", message)
}

fn entry(order: &Order, code: &str, state: State, now: DateTime<Utc>) -> book::Order {
    book::Order {
        key: key(&order.order_no),
        amount: order.amount,
        description: order.description.clone(),
        flow: order.flow,
        notify_url: Some(order.notify_url.clone()),
        passback: Some(order.payment_id.clone()),
        details: Value::Null,
        created_at: now,
        expires_at: order.expires_at,
        codes: vec![Code {
            text: code.to_owned(),
            dies_at: order.expires_at,
        }],
        state,
        transaction_id: None,
        paid_at: None,
        ended_at: None,
        declined_at: None,
        paid_as: Default::default(),
        refunds: BTreeMap::new(),
    }
}

/// As hard as a real one may be: a payer without money leaves a trade behind that can still be
/// paid.
fn charge_now(inner: &mut Inner, order: &Order, now: DateTime<Utc>) -> CreateOutcome {
    let declined =
        |message| CreateOutcome::Declined(Failure::new(FailureKind::Declined, "memory", message));
    let Some(code) = order.auth_code.as_deref().filter(|code| is_code(code)) else {
        return CreateOutcome::Refused(Refusal::Request, no("not a code"));
    };
    let (key, mood) = (key(&order.order_no), PayerBehaviour::of(code));
    if inner.book.order(&key).is_some() {
        return CreateOutcome::Unknown(no("the number is used"));
    }
    if mood == PayerBehaviour::CodeExpired || inner.book.by_code(code).is_some() {
        return declined("the code is old or was used");
    }
    let id = transaction_id(&mut inner.book);

    let done = inner
        .book
        .insert(entry(order, code, State::Payable, now))
        .and_then(|()| match mood {
            PayerBehaviour::Pays => inner.book.pay(&key, &id, now),
            PayerBehaviour::MustConfirm | PayerBehaviour::CodeExpired => {
                inner.book.open_trade(&key, &id, now)
            }
            PayerBehaviour::HasNoMoney => inner.book.decline(&key, &id, now),
        });

    if let Err(refusal) = done {
        return CreateOutcome::Unknown(no(&refusal.to_string()));
    }
    match inner.book.order(&key).and_then(capture) {
        Some(capture) => CreateOutcome::Captured(capture),
        None if mood == PayerBehaviour::HasNoMoney => declined("no money"),
        None => CreateOutcome::Waiting,
    }
}

fn capture(order: &book::Order) -> Option<Capture> {
    Some(Capture {
        transaction_id: order.transaction_id.clone()?,
        amount: order.amount,
        payer_amount: Some(order.amount.minor()),
        payer: Some("138****0000".to_owned()),
        paid_at: Some(order.paid_at?),
        payment_id: order.passback.clone(),
        foreign_account: None,
        returns_by_itself: false,
    })
}

fn query_now(inner: &Inner, order: &OrderRef) -> QueryOutcome {
    let Some(order) = inner.book.order(&key(&order.order_no)) else {
        return QueryOutcome::NotFound;
    };
    match (order.state, capture(order)) {
        (State::Shown, _) => QueryOutcome::NotFound,
        (State::Payable, _) => QueryOutcome::Payable,
        (State::Closed, _) => QueryOutcome::Closed,
        (State::Reversed, _) => QueryOutcome::Reversed,
        (State::Paid, Some(_)) if order.refunded_fen() == order.captured_fen() => {
            QueryOutcome::Reversed
        }
        (State::Paid, Some(capture)) => QueryOutcome::Paid(capture),
        (State::Paid, None) => QueryOutcome::Unknown(no("paid, and nobody knows how")),
    }
}

fn reverse_now(inner: &mut Inner, order: &OrderRef, now: DateTime<Utc>) -> CloseOutcome {
    match inner.book.reverse(&key(&order.order_no), now) {
        Ok(State::Reversed) => CloseOutcome::Reversed,
        Ok(State::Shown | State::Payable | State::Paid | State::Closed) => CloseOutcome::Closed,
        Err(book::Refusal::Ended) => match query_now(inner, order) {
            QueryOutcome::Reversed => CloseOutcome::Reversed,
            QueryOutcome::NotFound
            | QueryOutcome::Payable
            | QueryOutcome::Paid(_)
            | QueryOutcome::Closed
            | QueryOutcome::Unknown(_) => CloseOutcome::Closed,
        },
        // Nothing to reverse, and the number lives on: a charge on its way may still make the
        // order.
        Err(book::Refusal::Unknown) => CloseOutcome::NotFound,
        Err(refusal) => CloseOutcome::Impossible(no(&refusal.to_string())),
    }
}

fn refund_now(inner: &mut Inner, refund: &RefundOrder, now: DateTime<Utc>) -> RefundOutcome {
    let key = key(&refund.order.order_no);
    let known = inner
        .book
        .order(&key)
        .and_then(|o| o.refunds.get(&refund.refund_no))
        .map(|r| r.amount);

    match known {
        Some(amount) if amount == refund.amount => return RefundOutcome::Done,
        Some(_) => return RefundOutcome::Rejected(no("another amount went with this number")),
        None => {}
    }

    let new = NewRefund {
        refund_no: refund.refund_no.clone(),
        refund_id: format!("R{:027}", inner.book.next_number()),
        amount: refund.amount,
        reason: refund.reason.clone(),
        notify_url: None,
        due_at: now,
        details: Value::Null,
    };

    match inner.book.refund(&key, new, now) {
        Ok(_) => RefundOutcome::Done,
        Err(refusal) => RefundOutcome::Rejected(no(&refusal.to_string())),
    }
}

fn query_refund_now(inner: &Inner, refund: &RefundOrder) -> RefundQueryOutcome {
    let order = inner.book.order(&key(&refund.order.order_no));
    match order
        .and_then(|o| o.refunds.get(&refund.refund_no))
        .map(|r| r.status)
    {
        None => RefundQueryOutcome::NotFound,
        Some(RefundStatus::Processing) => RefundQueryOutcome::Accepted,
        Some(RefundStatus::Done) => RefundQueryOutcome::Done,
        Some(RefundStatus::Closed) => RefundQueryOutcome::Rejected(no("closed")),
        Some(RefundStatus::Abnormal) => RefundQueryOutcome::Abnormal(no("abnormal")),
    }
}

#[async_trait]
impl Provider for Memory {
    fn name(&self) -> ProviderName {
        self.name
    }

    fn identity(&self) -> &str {
        MERCHANT
    }

    fn address(&self) -> &str {
        "memory:"
    }

    fn time_told(&self) -> Option<TimeTold> {
        None
    }

    fn capabilities(&self) -> &'static Capabilities {
        match self.ending {
            Ending::Close => &CLOSABLE,
            Ending::CloseOnceTradeExists => &CLOSABLE_ONCE_OPENED,
            Ending::Expire => &EXPIRING,
            Ending::Reverse => &CHARGING,
        }
    }

    async fn create(&self, order: &Order, call: &Call) -> Answer<CreateOutcome> {
        let act = |inner: &mut Inner| self.create_now(inner, order, call.now);
        self.run(("create", &order.order_no), |i| i.create.pop_front(), act)
            .await
    }

    async fn query(&self, order: &OrderRef, _: &Call) -> Answer<QueryOutcome> {
        self.run(
            ("query", &order.order_no),
            |i| i.query.pop_front(),
            |i| query_now(i, order),
        )
        .await
    }

    async fn close(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        let act = |inner: &mut Inner| self.close_now(inner, order, call.now);
        self.run(("close", &order.order_no), |i| i.close.pop_front(), act)
            .await
    }

    async fn reverse(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome> {
        self.run(
            ("reverse", &order.order_no),
            |i| i.close.pop_front(),
            |i| reverse_now(i, order, call.now),
        )
        .await
    }

    async fn refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundOutcome> {
        self.run(
            ("refund", &refund.refund_no),
            |i| i.refund.pop_front(),
            |i| refund_now(i, refund, call.now),
        )
        .await
    }

    async fn query_refund(&self, refund: &RefundOrder, _: &Call) -> Answer<RefundQueryOutcome> {
        let act = |inner: &mut Inner| query_refund_now(inner, refund);
        self.run(
            ("query_refund", &refund.refund_no),
            |i| i.query_refund.pop_front(),
            act,
        )
        .await
    }

    fn notification(
        &self,
        raw: &RawNotification,
        now: DateTime<Utc>,
    ) -> Result<Verified<Notification>, Rejection> {
        match self.checks {
            Checks::Always => self.check(raw)?,
            Checks::WhatIsSigned if raw.headers.contains_key(SIGNATURE) => self.check(raw)?,
            Checks::WhatIsSigned | Checks::Never => {}
        }
        let unreadable = |e: serde_json::Error| Rejection::Unreadable(e.to_string());
        let told: Told = serde_json::from_slice(&raw.body).map_err(unreadable)?;
        let order_no = told.order_no;

        let notice = match told.capture {
            Some(capture)
                if capture
                    .paid_at
                    .is_some_and(|at| at - now > TimeDelta::minutes(5)) =>
            {
                return Err(Rejection::Stale);
            }
            Some(capture) => Notice::Paid { order_no, capture },
            None => Notice::Ask {
                order_no,
                refund_no: told.refund_no,
                says_done: true,
                amount: None,
            },
        };

        Ok(Verified::new(Notification {
            id: told.id,
            notice,
        }))
    }

    fn acknowledge(&self, what: Acknowledgement) -> AcknowledgementBody {
        let (status, body) = match what {
            Acknowledgement::Stop => (StatusCode::OK, "stored"),
            Acknowledgement::SendAgain => (StatusCode::SERVICE_UNAVAILABLE, "again"),
            Acknowledgement::Refuse => (StatusCode::UNAUTHORIZED, "refused"),
        };
        AcknowledgementBody {
            status,
            content_type: "text/plain",
            body,
        }
    }
}

#[derive(serde::Deserialize)]
struct Told {
    id: String,
    order_no: String,
    capture: Option<Capture>,
    refund_no: Option<String>,
}

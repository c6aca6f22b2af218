//! How the sandbox's core asks a provider's side of the wire. A simulator checks the request's
//! signature as the real provider does, acts on the book, and signs its answers itself. It must
//! never sleep, touch a socket or keep money anywhere but in the book: faults, time and delivery
//! belong to the core.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, Method, StatusCode};

use super::book::{Event, Order, SharedBook};
use super::charset::Charset;
use super::secrets::NoRandomness;
use crate::provider::{ProviderName, SettingsError};

/// One entry of the list of simulated providers.
#[derive(Debug)]
pub struct SimulatedProvider {
    /// Which provider.
    pub name: ProviderName,
    /// Makes the keys and identities of its sandbox merchant: what `open` reads.
    pub make_keys: fn() -> Result<serde_json::Value, NoRandomness>,
    /// Its side of the wire.
    pub open: fn(&serde_json::Value) -> Result<Arc<dyn Simulator>, SettingsError>,
}

/// One provider, seen from the other side.
pub trait Simulator: Send + Sync + fmt::Debug {
    /// Which provider.
    fn provider(&self) -> ProviderName;

    /// Which call a request is; `None` for what it does not know (and then answers as the provider
    /// would). The book tells what a question is about where the request does not.
    fn call_of(&self, request: &Request, book: &SharedBook) -> Option<CallKind>;

    /// Checks and executes a request. Lock `context.book` only around reading and changing it, not
    /// while checking or making signatures.
    fn handle(&self, request: &Request, context: &SimulatorContext<'_>) -> Response;

    /// The provider's own, signed "you ask too often". Nothing was done.
    fn rate_limited(&self, request: &Request, now: DateTime<Utc>) -> Response;

    /// The provider's own "call again", to whoever wants a charge reversed. Nothing was done.
    fn again(&self, request: &Request, now: DateTime<Utc>) -> Response;

    /// The provider's own, signed "no", by a code that somebody chose. Nothing was done.
    fn says(&self, request: &Request, word: &ScriptedRefusal, now: DateTime<Utc>) -> Response;

    /// What a broken server of the provider's answers. Nothing was done.
    fn http_500(&self, request: &Request, now: DateTime<Utc>) -> Response;

    /// The provider's own number for the `number`-th transaction of the book.
    fn transaction_id(&self, number: u64, now: DateTime<Utc>) -> String;

    /// The signed request that tells the merchant of an event; `None` when this provider does not
    /// tell of it, or nobody gave an address.
    fn notification(&self, notice: &Notice<'_>) -> Option<Outgoing>;

    /// Whether an HTTP answer stops the notification from being sent again.
    fn acknowledged(&self, status: StatusCode, body: &[u8]) -> bool;

    /// Seconds between one unacknowledged notification of this order and the next.
    fn retry_schedule_s(&self, order: &Order) -> &'static [u32];

    /// After how many seconds money that was taken too late goes back by itself; `None` where no
    /// order takes any.
    fn late_money_returns_s(&self) -> Option<u32>;

    /// Whether the provider is one of those that do this.
    fn has(&self, what: Peculiarity) -> bool;

    /// The provider's block of `GET /credentials`, in the forms that its SDKs take.
    fn credentials(&self) -> serde_json::Value;
}

/// What some providers do and others never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peculiarity {
    /// It speaks in other charsets than UTF-8.
    Charsets,
    /// It looks whether signatures are checked.
    Probes,
    /// What it says names the key that it is signed with.
    NamedKeys,
    /// Refunds of one order keep a distance.
    SpacedRefunds,
    /// Payers have coupons.
    Coupons,
    /// Payments succeed with a defect.
    Defects,
}

/// The calls that faults can be aimed at; the names of the methods of the trait `Provider`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    strum::Display,
    strum::EnumString,
    strum::AsRefStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CallKind {
    /// Making an offer or a charge.
    Create,
    /// Asking about an order.
    Query,
    /// Ending an unpaid order.
    Close,
    /// Ending a charge.
    Reverse,
    /// Giving money back.
    Refund,
    /// Asking about a refund.
    QueryRefund,
}

/// A request as it came in: signatures are over these bytes.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query exactly as on the wire.
    pub target: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body, untouched.
    pub body: Bytes,
}

impl Request {
    /// A header as text, or nothing when it is missing or not ASCII.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// The target's path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The target's query as on the wire, without the `?`; empty when there is none.
    #[must_use]
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// What a provider is to say of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptedRefusal {
    /// As the provider writes it: `40004 ACQ.TOTAL_FEE_EXCEED` or `ACQ.TOTAL_FEE_EXCEED`, `403
    /// RULE_LIMIT`, `400 INVALID_REQUEST 268435464` (the number of a reason), `400 PARAM_ERROR
    /// /amount/total` (a member), `61`.
    pub code: String,
    /// In words.
    pub message: String,
}

/// A whole answer. The core adds `Content-Length` and `Date`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers, the signature among them where the provider puts it there.
    pub headers: HeaderMap,
    /// The body; empty for 204.
    pub body: Bytes,
}

/// What a face works with while it handles one request.
#[derive(Debug)]
pub struct SimulatorContext<'a> {
    /// The one book of truth.
    pub book: &'a SharedBook,
    /// The sandbox's time.
    pub now: DateTime<Utc>,
    /// What becomes of the answer.
    pub alteration: Alteration,
    /// A refund that follows another one of its order too soon is refused.
    pub spaces_refunds: bool,
}

/// What a fault makes of an answer, after what was asked for is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alteration {
    /// Nothing.
    None,
    /// It is signed, and says in the provider's own way that nobody knows what became of it: beside
    /// a code that, read alone, sounds like a "no".
    Undecided,
    /// There is none.
    Unsigned,
    /// It is of the right form and does not hold.
    BadSignature,
    /// It is written in this charset, whichever was asked for, and signed so.
    Charset(Charset),
    /// It is signed, with a key that nobody has told of.
    UnknownKey,
    /// Its signature says that it is none: the provider looks whether anybody notices.
    Probe,
}

/// One sending of a notification.
#[derive(Debug)]
pub struct Notice<'a> {
    /// What happened.
    pub event: &'a Event,
    /// The order as it is told (a forged notice tells another amount).
    pub order: &'a Order,
    /// 32 hexadecimal digits, the same when it is sent again.
    pub id: &'a str,
    /// The time of this sending.
    pub now: DateTime<Utc>,
    /// What the signing step does.
    pub alteration: Alteration,
}

/// A notification on its way: always a POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub url: String,
    /// Headers, `Content-Type` among them.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

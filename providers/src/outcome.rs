//! What a call can mean for money. Every call ends in exactly one outcome of its kind; none has a
//! default, and whoever matches on one names every variant.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::Display;

use crate::money::Money;
use crate::reason::{self, Reason};

/// An outcome together with what support will ask for.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// What the call means.
    pub outcome: T,
    /// The provider's own id of this request (`trace_id`, `Request-ID`), where it gave one.
    pub request_id: Option<String>,
}

impl<T> Answer<T> {
    /// An outcome without a provider's request id.
    pub fn new(outcome: T) -> Self {
        Self {
            outcome,
            request_id: None,
        }
    }
}

/// What kind of trouble it was, as merchants and dashboards see it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::AsRefStr,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FailureKind {
    /// The connection failed.
    Network,
    /// No whole answer in time.
    Timeout,
    /// The provider asks us to slow down.
    RateLimited,
    /// The provider is in trouble and says so.
    ServerError,
    /// An answer that we cannot read or whose signature is wrong: their version moved, or it is not
    /// them.
    Incompatible,
    /// The merchant's contract with the provider does not allow it.
    Account,
    /// Our parameters, or the merchant's, are refused.
    Request,
    /// The payer cannot or may not pay.
    Declined,
}

/// A failure as we keep it. `message` is for operators and never leaves raw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its kind.
    pub kind: FailureKind,
    /// The provider's code, or ours for what happened below HTTP (`connect`, `http_502`).
    pub code: String,
    /// What to look at, for people.
    pub message: String,
    /// Why, in the words that all providers share; `None` where no table lists the code.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "reason::known"
    )]
    pub reason: Option<Reason>,
}

/// The code for a number that the provider has something under already.
pub const NUMBER_EXISTS: &str = "number_exists";

/// The code for a call that this account was never given by its provider, while others of it work.
pub const NOT_GIVEN: &str = "not_given";

/// The code for an answer that was not signed with the key that the account has: it may be
/// another's, or nobody's.
pub const WRONGLY_SIGNED: &str = "wrongly_signed";

/// The code for a call for which this machine had no room: no descriptor, or no memory. It tells of
/// nobody else.
pub const NO_ROOM: &str = "no_room";
/// The code for a call that was not made: the account's address is not one that accounts may have.
pub const ADDRESS_NOT_ALLOWED: &str = "address_not_allowed";

impl Failure {
    /// A failure from its three parts.
    pub fn new(kind: FailureKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.into(),
            message: message.into(),
            reason: None,
        }
    }

    /// The same, for this reason.
    #[must_use]
    pub fn because(self, reason: Option<Reason>) -> Self {
        Self { reason, ..self }
    }
}

/// Who says "no" when nothing was done.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Display, strum::AsRefStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// The provider: busy, rate limit, maintenance. Another route may be tried at once.
    Provider,
    /// This account: permission, frozen, certificate. Another provider may be tried at once.
    Account,
    /// This route, to this order: a limit of amount or day, a word, a store, a terminal, a time.
    /// Another route may take it.
    Route,
    /// Our parameters. Nobody else will take them either.
    Request,
}

/// What the payer has to do now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NextAction {
    /// Scan this text as a QR code.
    DisplayQr {
        /// What the code says.
        qr: String,
    },
    /// Open this address.
    Redirect {
        /// Where to.
        url: String,
    },
    /// Load this page, which submits itself.
    SubmitForm {
        /// The page.
        html: String,
    },
    /// Hand these parameters to the wallet's SDK.
    Sdk {
        /// What the SDK takes.
        params: serde_json::Value,
    },
}

/// Money that a verified answer or notification proves was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The provider's number of the transaction.
    pub transaction_id: String,
    /// What was taken for the order, coupons included.
    pub amount: Money,
    /// What the payer's own pocket gave, in minor units.
    pub payer_amount: Option<i64>,
    /// Who paid, masked (`138****0000`, the last characters of an open id).
    pub payer: Option<String>,
    /// When, by the provider's clock.
    pub paid_at: Option<DateTime<Utc>>,
    /// Our payment id as the pass-back field returned it; `None` where the answer does not carry
    /// it.
    pub payment_id: Option<String>,
    /// The merchant or app that the answer names, when it is not ours.
    pub foreign_account: Option<String>,
    /// The provider took it too late and will give it back by itself; it must not be refunded by us
    /// as well.
    pub returns_by_itself: bool,
}

/// How creating an offer or a charge ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateOutcome {
    /// An offer exists. It takes nothing by itself.
    Accepted(NextAction),
    /// Money taken, proved by a verified answer.
    Captured(Capture),
    /// The payer is being asked, or a charge was only accepted. Query, then reverse; never another
    /// route.
    Waiting,
    /// The request provably never left.
    NotSent(Failure),
    /// A verified "no" that is not the payer's.
    Refused(Refusal, Failure),
    /// A verified "no" that is the payer's: no money, wrong code, risk control.
    Declined(Failure),
    /// Anything else.
    Unknown(Failure),
}

/// What a query found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryOutcome {
    /// No such order at this moment. Proves nothing about an offer whose code is still alive.
    NotFound,
    /// It exists, is unpaid and can be paid.
    Payable,
    /// Paid.
    Paid(Capture),
    /// Unpaid and dead.
    Closed,
    /// It was paid and all of it went back, or the charge was reversed.
    Reversed,
    /// The question failed; nothing is known.
    Unknown(Failure),
}

/// How ending an order (close, cancel, reverse) ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseOutcome {
    /// It was unpaid and is dead now.
    Closed,
    /// It had been paid and the money went back.
    Reversed,
    /// It is paid; nothing was changed.
    AlreadyPaid,
    /// Reversing found nothing to reverse, at this moment; nothing was changed.
    NotFound,
    /// It cannot be ended this way (no trade yet, a wrong kind of order, too late); nothing was
    /// changed.
    Impossible(Failure),
    /// It was not sent, or refused for now: nothing was changed by this call. Ask again.
    Retry(Failure),
    /// Anything else.
    Unknown(Failure),
}

/// How asking for a refund ended. `Rejected` speaks of this call only: after an earlier unknown
/// call, query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundOutcome {
    /// The provider works on it.
    Accepted,
    /// The money went back.
    Done,
    /// A verified "no": this refund will never happen under this number.
    Rejected(Failure),
    /// A verified "no" that speaks of this number, or of the way that was tried under it: under
    /// another number the money may go back.
    RetryWithNewNumber(Failure),
    /// It left the merchant but cannot reach the payer.
    Abnormal(Failure),
    /// The merchant's balance is too small; the same number may be sent again after topping up.
    NeedsFunds(Failure),
    /// Not taken up now (rate limit) and nothing done: send the same number again later.
    RetryLater(Failure),
    /// Anything else: query, then send the same number again.
    Unknown(Failure),
}

/// The code of a failure that a refund was found under the number, and of another amount than was
/// asked about.
pub const OTHER_REFUND: &str = "other_refund";

/// What a query found out about a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundQueryOutcome {
    /// Nothing received, or nothing finished, under this number: the same number may be sent again.
    NotFound,
    /// Being worked on.
    Accepted,
    /// The money went back.
    Done,
    /// Ended without moving money.
    Rejected(Failure),
    /// It left the merchant but cannot reach the payer.
    Abnormal(Failure),
    /// The question failed; nothing is known.
    Unknown(Failure),
}

//! What providers tell us on their own. Raw bytes become a [`Verified`] notification or a
//! [`Rejection`]; nothing else in the program can make a `Verified`, so nothing unverified can
//! reach a payment.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::money::Money;
use crate::outcome::{Capture, RefundQueryOutcome};

/// A notification as it came in: signatures are over these bytes.
#[derive(Debug, Clone)]
pub struct RawNotification {
    /// All headers.
    pub headers: HeaderMap,
    /// The body, untouched.
    pub body: Bytes,
}

/// Proof that a value came from the provider. Only adapters make one, after the signature held.
#[derive(Debug, Clone)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// For adapters: call it only behind a signature check that succeeded.
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> &T {
        &self.0
    }

    /// The value, taken out.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// One notification, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The provider's id of it; the same when it is sent again.
    pub id: String,
    /// What it says.
    pub notice: Notice,
}

/// What a notification says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// An order was paid.
    Paid {
        /// Our number of the order.
        order_no: String,
        /// The money.
        capture: Capture,
    },
    /// Something happened to a refund.
    Refund {
        /// Our number of the order, where it is told.
        order_no: String,
        /// Our number of the refund.
        refund_no: String,
        /// What happened.
        outcome: RefundQueryOutcome,
        /// How much this refund gives back, where it is told.
        amount: Option<Money>,
        /// How much all refunds of the order have given back together, where it is told.
        total: Option<Money>,
    },
    /// Something happened that has to be asked about before anything is booked.
    Ask {
        /// Our number of the order.
        order_no: String,
        /// Our number of the refund, when it is about one.
        refund_no: Option<String>,
        /// Whether it says that money moved.
        says_done: bool,
        /// How much the refund that it is about gives back, where it is told.
        amount: Option<Money>,
    },
    /// Money of this order has gone back, under a number that is not told.
    Refunded {
        /// Our number of the order.
        order_no: String,
        /// How much all refunds of the order have given back together, where it is told.
        total: Option<Money>,
    },
    /// Genuine, and about nothing that we book (a closed trade, an order waiting).
    Nothing {
        /// Our number of the order.
        order_no: String,
    },
}

/// Why a notification is not believed. Each is counted under its name.
#[derive(
    Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr, strum::VariantNames,
)]
#[strum(serialize_all = "snake_case")]
pub enum Rejection {
    /// No signature, or not all of the headers or fields that carry it.
    #[error("unsigned: {0}")]
    Unsigned(String),
    /// The signature does not hold.
    #[error("the signature does not hold")]
    BadSignature,
    /// The provider tests whether we check signatures (`WECHATPAY/SIGNTEST/`).
    #[error("a probe with a wrong signature on purpose")]
    Probe,
    /// Signed with a key that we do not have.
    #[error("unknown key {0:?}")]
    UnknownKey(String),
    /// Outside of the time window: old, or from the future.
    #[error("outside of the time window")]
    Stale,
    /// Signed, and unreadable.
    #[error("unreadable: {0}")]
    Unreadable(String),
    /// Signed, and about another merchant or app than this account's.
    #[error("for another account: {0}")]
    OtherAccount(String),
}

/// What we want the provider to do with a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// Stored: do not send it again.
    Stop,
    /// Not stored: send it again.
    SendAgain,
    /// Not believed.
    Refuse,
}

/// The HTTP answer that says so in the provider's own way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgementBody {
    /// HTTP status.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body, complete.
    pub body: &'static str,
}

//! What we ask of a provider: orders, references to them, refunds, and the frame of a single call.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::money::Money;

/// How the payer pays.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::AsRefStr,
    strum::EnumIter,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Flow {
    /// The payer scans a code that we show.
    Qr,
    /// We scan the payer's code; the call itself takes the money.
    Barcode,
    /// The provider's page in a desktop browser.
    Page,
    /// The provider's page in a phone browser.
    H5,
    /// The merchant's app opens the wallet.
    App,
    /// A page inside the wallet.
    Jsapi,
}

impl Flow {
    /// Whether the call that makes an order takes the money itself: a charge, not an offer.
    #[must_use]
    pub const fn is_charge(self) -> bool {
        match self {
            Self::Barcode => true,
            Self::Qr | Self::Page | Self::H5 | Self::App | Self::Jsapi => false,
        }
    }
}

/// The frame of one call to a provider. Adapters own no clock: the time comes in here.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The time that goes into signed timestamps.
    pub now: DateTime<Utc>,
    /// The whole call, connecting included, ends by then with an answer or without.
    pub timeout: Duration,
}

/// What a provider is asked to collect. One per attempt; its number is never used again.
#[derive(Debug, Clone)]
pub struct Order {
    /// Our number at the provider: 8 to 32 of `[0-9A-Za-z]`.
    pub order_no: String,
    /// Travels in the provider's pass-back field and is checked when it comes back.
    pub payment_id: String,
    /// How the payer pays.
    pub flow: Flow,
    /// The amount to collect.
    pub amount: Money,
    /// Shown to the payer, 1 to 127 characters.
    pub description: String,
    /// When the order was planned; a query must repeat it at providers that key orders by time.
    pub txn_time: DateTime<Utc>,
    /// From then on the provider takes no money for it.
    pub expires_at: DateTime<Utc>,
    /// Where the provider tells us what happened.
    pub notify_url: String,
    /// The payer's address, where the checkout told us.
    pub client_ip: Option<String>,
    /// What we read off the payer's phone: there for charges, and for nothing else.
    pub auth_code: Option<String>,
    /// Where it is paid, where the checkout told us.
    pub store: Option<Shop>,
}

/// A shop and its till, as the merchant names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shop {
    /// The merchant's own number of the shop, 1 to 32 characters.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// The till, 1 to 32 characters.
    pub terminal_id: Option<String>,
}

/// Names an order that was (perhaps) made before.
#[derive(Debug, Clone)]
pub struct OrderRef {
    /// The number it was made with.
    pub order_no: String,
    /// The time it was made with.
    pub txn_time: DateTime<Utc>,
    /// From then on the provider takes no money for it; what it takes all the same may go back by
    /// itself.
    pub expires_at: DateTime<Utc>,
}

/// A refund of (a part of) a captured order. Repeating it with the same number is the same refund.
#[derive(Debug, Clone)]
pub struct RefundOrder {
    /// The captured order.
    pub order: OrderRef,
    /// The provider's own number of the captured money, where we know it.
    pub transaction_id: Option<String>,
    /// Our number of this refund at the provider.
    pub refund_no: String,
    /// When it was first sent under this number; a query and a repetition must carry the same time
    /// at providers that key refunds by it.
    pub txn_time: DateTime<Utc>,
    /// Whether it had another number before, under which nothing ever happens: a way that was
    /// refused is not tried again.
    pub renumbered: bool,
    /// How much goes back.
    pub amount: Money,
    /// How much the order had taken.
    pub total: Money,
    /// Shown to the payer.
    pub reason: Option<String>,
    /// Where the provider tells us what happened.
    pub notify_url: String,
}

//! The one trait that every provider implements, and the capabilities that routing, pages and tests
//! ask instead of a provider's name.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::PROTOCOLS;
use crate::http::{TimeTold, Way};
use crate::money::Money;
use crate::notification::{
    Acknowledgement, AcknowledgementBody, Notification, RawNotification, Rejection, Verified,
};
use crate::order::{Call, Flow, Order, OrderRef, RefundOrder};
use crate::outcome::{
    Answer, CloseOutcome, CreateOutcome, QueryOutcome, RefundOutcome, RefundQueryOutcome,
};
use crate::reason::Reasons;

/// One account at one provider, ready to be called.
///
/// There are no default methods: an adapter or a layer that forgets one does not compile. Every
/// method makes at most one request, never repeats it by itself, and never panics on what a
/// provider answers. The conformance suite (`conformance.rs`) holds every implementation to what
/// the methods promise here.
#[async_trait]
pub trait Provider: Send + Sync + fmt::Debug {
    /// Which provider.
    fn name(&self) -> ProviderName;

    /// Who we are there (merchant number and app), as one text. Never changes for an account.
    fn identity(&self) -> &str;

    /// Where it is called: scheme, host and port. Accounts that call the same address at the same
    /// provider share its fate.
    fn address(&self) -> &str;

    /// What its last answer that told the time said of it.
    fn time_told(&self) -> Option<TimeTold>;

    /// What it can do and how patient one must be with it.
    fn capabilities(&self) -> &'static Capabilities;

    /// Makes an offer or a charge. The number in `order` must never have been used.
    async fn create(&self, order: &Order, call: &Call) -> Answer<CreateOutcome>;

    /// Asks what became of an order. Changes nothing at the provider.
    async fn query(&self, order: &OrderRef, call: &Call) -> Answer<QueryOutcome>;

    /// Ends an unpaid order. Never gives money back: a paid order stays paid.
    async fn close(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome>;

    /// Ends a charge whatever its state; money that was taken goes back. `Closed` and `Reversed`
    /// are final answers, `NotFound` is one as far as `Charging::confirm_not_found_after_s` says; a
    /// query after it decides.
    async fn reverse(&self, order: &OrderRef, call: &Call) -> Answer<CloseOutcome>;

    /// Gives money back. The same number and amount is the same refund, however often it is sent.
    async fn refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundOutcome>;

    /// Asks what became of a refund.
    async fn query_refund(&self, refund: &RefundOrder, call: &Call) -> Answer<RefundQueryOutcome>;

    /// Checks the signature on the raw bytes, then reads. `now` is compared with the signed time
    /// where there is one.
    ///
    /// # Errors
    /// A [`Rejection`] for everything that is not a genuine notification for this account.
    fn notification(
        &self,
        raw: &RawNotification,
        now: DateTime<Utc>,
    ) -> Result<Verified<Notification>, Rejection>;

    /// How this provider wants to be told.
    fn acknowledge(&self, what: Acknowledgement) -> AcknowledgementBody;
}

/// The name of a provider on [`PROTOCOLS`]; nothing else can be one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderName(&'static str);

impl ProviderName {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// As in the API, tables and logs: `alipay`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// No provider has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown provider {0:?}")]
pub struct UnknownProvider(pub String);

impl std::str::FromStr for ProviderName {
    type Err = UnknownProvider;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        protocol(s)
            .map(|p| p.name)
            .ok_or_else(|| UnknownProvider(s.chars().take(32).collect()))
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Makes an adapter from an account's settings, that goes out on this way.
pub type Open = fn(serde_json::Value, &Way) -> Result<Arc<dyn Provider>, SettingsError>;

/// One entry of [`PROTOCOLS`]: how to open an account at a provider.
#[derive(Debug)]
pub struct Protocol {
    /// Its name.
    pub name: ProviderName,
    /// As payers and merchants know it.
    pub title: Title,
    /// Its capabilities, the same for every account.
    pub capabilities: &'static Capabilities,
    /// Reads an account's settings (the member `credentials` of `POST /v1/accounts`, the provider's
    /// block of the sandbox's `/credentials` and a `base_url`) and makes an adapter that has not
    /// called anybody yet, and will go out on this way.
    pub open: Open,
    /// Where it is to be found.
    pub addresses: &'static [Address],
    /// What its codes say.
    pub reasons: Reasons,
}

/// What an address of a provider is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum AddressKind {
    /// Calls of the gateway's: what `base_url` of an account may be.
    Api,
    /// Pages that a payer's browser is sent to.
    Pages,
    /// Where a payer's wallet says who the payer is.
    Oauth,
}

/// Where a provider is to be found: a scheme, a host, perhaps a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// For what.
    pub kind: AddressKind,
    /// Whether real money is moved there. Test accounts never go there, and live ones nowhere else.
    pub is_live: bool,
    /// `https://…`
    pub base: &'static str,
}

impl Address {
    /// Where real money is moved.
    pub(crate) const fn live(kind: AddressKind, base: &'static str) -> Self {
        Self {
            kind,
            is_live: true,
            base,
        }
    }

    /// Where none is.
    pub(crate) const fn test(kind: AddressKind, base: &'static str) -> Self {
        Self {
            kind,
            is_live: false,
            base,
        }
    }
}

/// The entry of the provider called `name`.
#[must_use]
pub fn protocol(name: &str) -> Option<&'static Protocol> {
    PROTOCOLS.iter().find(|p| p.name.as_str() == name)
}

/// What a provider is called among people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Title {
    /// In Chinese.
    pub zh: &'static str,
    /// In English.
    pub en: &'static str,
}

/// What is wrong with an account's settings, and in which member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SettingsError {
    /// The member, as a path: `app_private_key`.
    pub field: String,
    /// What is wrong with it. Never repeats a secret.
    pub message: String,
}

impl SettingsError {
    /// An error in `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// How an order of a flow can be ended before the payer acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It takes the money inside the call: it is reversed, not closed.
    Reverse,
    /// A close ends it, at any time.
    Close,
    /// A close ends it once the payer has opened it; before that it can only expire.
    CloseOnceTradeExists,
    /// It can only expire.
    Expire,
}

/// What a provider can do in one flow.
#[derive(Debug, Clone, Copy)]
pub struct FlowCapability {
    /// The flow.
    pub flow: Flow,
    /// How its orders end.
    pub ending: Ending,
}

/// What a provider can do, and its documented patience. Seconds unless the name says otherwise.
#[derive(Debug)]
pub struct Capabilities {
    /// Flows that its adapter serves.
    pub flows: &'static [FlowCapability],
    /// Smallest and largest amount of one order, in fen.
    pub amount_fen: (i64, i64),
    /// The shortest life of an offer that the provider accepts; it lengthens shorter ones by
    /// itself.
    pub shortest_offer_s: u32,
    /// How often it may be asked, at the most, whether it is back: milliseconds between two probes.
    pub probe_every_ms: u32,
    /// After which times since its creation an offer that waits for its payer is asked for.
    pub awaiting_ladder_s: &'static [u32],
    /// After which times a refund that was accepted or is unknown is asked for, counted from
    /// sending it.
    pub refund_ladder_s: &'static [u32],
    /// Between two refunds of one order, at least this long, in milliseconds.
    pub refund_spacing_ms: u32,
    /// Whether a refund that a query or a notification showed to be ended without moving money may
    /// be asked for once more under another number. Where it may not, the refund has failed.
    pub refund_renumbers: bool,
    /// A refund's time is part of what it is known by: sent again under its number at another time,
    /// it may be another one.
    pub refund_keyed_by_time: bool,
    /// How its charges are done; `None` when it makes none.
    pub charge: Option<Charging>,
}

/// How a provider's charges are recognised, waited for and undone. Seconds are counted from when
/// the charge was sent.
#[derive(Debug, Clone, Copy)]
pub struct Charging {
    /// Whether a code read off a payer's phone is one of this provider's.
    pub is_code: fn(&str) -> bool,
    /// How long its answer may take, in milliseconds: the provider's documented wait.
    pub timeout_ms: u32,
    /// When a charge that is waiting or in doubt is asked for.
    pub ladder_s: &'static [u32],
    /// When a charge that is still waiting or in doubt is reversed.
    pub reverse_after_s: u32,
    /// No charge is reversed earlier than this.
    pub reverse_from_s: u32,
    /// Between two reversals of one charge.
    pub reverse_pause_s: u32,
    /// Whether the payer's "no" may leave something behind that can still be paid, and so has to be
    /// reversed.
    pub declined_is_reversed: bool,
    /// What proves a charge dead whose reversal succeeded or found nothing, beside a query that
    /// says closed or reversed: two queries, this far apart, that do not find it; and one whose
    /// reversal has no answer: two that say closed. `None`: they prove nothing here.
    pub confirm_not_found_after_s: Option<u32>,
    /// The hour after which no charge of the day can be reversed any more, at providers that have
    /// one.
    pub last_reversals: Option<LastReversals>,
}

/// A day after whose end its charges cannot be reversed: they are reversed sooner when it is near.
/// In seconds of the day in Beijing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastReversals {
    /// From then on a charge in doubt is reversed at once, so that there is time to try again.
    pub in_doubt_from_s: i64,
    /// Then one whose payer is still asked to confirm is reversed, too.
    pub waiting_from_s: i64,
    /// Then the day ends.
    pub until_s: i64,
}

impl Capabilities {
    /// What it can do in `flow`, or `None` when it does not serve it.
    #[must_use]
    pub fn flow(&self, flow: Flow) -> Option<&FlowCapability> {
        self.flows.iter().find(|f| f.flow == flow)
    }

    /// Whether an order of this amount is within its limits.
    #[must_use]
    pub fn takes(&self, amount: Money) -> bool {
        (self.amount_fen.0..=self.amount_fen.1).contains(&amount.minor())
    }
}

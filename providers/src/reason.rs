//! Why nothing came of a call, in words that all providers share. Each adapter maps its provider's
//! codes to them by a table of its own, so that whoever reads a failure learns one closed list
//! instead of three open ones.

use serde::{Deserialize, Deserializer, Serialize};

/// Why.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumIter,
    strum::EnumString,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Reason {
    /// The payer has not enough money there.
    InsufficientFunds,
    /// No payment code, or one that is not known.
    AuthCodeInvalid,
    /// A payment code that is too old, or was used.
    AuthCodeExpired,
    /// The payer has switched off paying by a shown code.
    BarcodeSwitchedOff,
    /// The payer's own limit of amount or number.
    PayerLimitExceeded,
    /// The payer's account is frozen, closed or missing.
    PayerAccountRestricted,
    /// The payer has to prove first who he is.
    PayerVerificationRequired,
    /// Somebody else than who may pay this.
    PayerMismatch,
    /// Payer and merchant are the same.
    PayerIsMerchant,
    /// A card or a kind of balance that is not taken for this.
    PaymentMethodUnsupported,
    /// A card that is wrong, expired or blocked.
    PaymentMethodInvalid,
    /// The payer has to enter a password.
    AuthenticationRequired,
    /// A wrong password, code or date of the payer's.
    AuthenticationFailed,
    /// Too many wrong passwords.
    PinTriesExceeded,
    /// Risk control.
    RiskDeclined,
    /// The payer did not confirm in time.
    NotConfirmed,
    /// The conditions of a promotion are not met.
    PromotionNotMet,
    /// The payer cannot pay this way, and why is not told.
    Declined,

    /// An amount that is none there.
    AmountInvalid,
    /// More than the account takes at once.
    AmountLimitExceeded,
    /// More than the account takes in a day, or in all.
    VolumeLimitExceeded,
    /// Another currency than is taken.
    CurrencyNotSupported,
    /// A word in the description.
    DescriptionRefused,
    /// The number or name of the shop.
    StoreRefused,
    /// The number of the till.
    TerminalRefused,
    /// The payer's address.
    ClientIpRefused,
    /// For how long it can be paid.
    ExpiryRefused,
    /// Something else in the request.
    ParameterRefused,
    /// The account's provider does not offer this way to pay, or not for this.
    ProductNotSupported,
    /// Nobody says why.
    Refused,

    /// Keys, certificates or numbers do not fit.
    CredentialsInvalid,
    /// Something is not signed or not granted.
    PermissionMissing,
    /// It is frozen, limited or closed.
    AccountRestricted,
    /// There is none with these numbers.
    AccountNotFound,
    /// It is refused, and why is not told.
    AccountRefused,
    /// It cannot be opened here.
    AccountUnavailable,

    /// Asked too often.
    RateLimited,
    /// Busy, broken or in maintenance.
    ProviderUnavailable,
    /// Outside of its hours.
    OutsideServiceHours,
    /// No connection, or one that broke.
    ProviderUnreachable,
    /// No answer in time.
    ProviderTimeout,
    /// An answer that cannot be verified or read, or says what nobody has listed.
    AnswerUnreadable,
    /// The provider does not know it itself as yet.
    OutcomeUnknown,
    /// Something lives under our number.
    OrderNumberUsed,
    /// Two clocks differ.
    ClockSkew,

    /// No account is able.
    NoRoute,
    /// Our own limit of calls.
    Throttled,
    /// It was interrupted here before it was sent or answered.
    Interrupted,
    /// This machine has no room for it.
    NoCapacity,

    /// More than is left of the payment.
    RefundAmountExceeded,
    /// The payment is too old.
    RefundPeriodOver,
    /// A part of it cannot go back.
    PartialRefundNotAllowed,
    /// It cannot go back this way.
    RefundNotAllowed,
    /// It went back before, or was undone.
    AlreadyRefunded,
    /// The merchant's balance is too small.
    MerchantBalanceInsufficient,
    /// Whoever should get it cannot be paid.
    RefundRecipientUnavailable,
    /// There is no such payment there.
    PaymentNotFound,
    /// It is in a state in which that cannot be.
    PaymentStateInvalid,
    /// There is another refund under this number.
    RefundNumberUsed,
    /// It is refused, and why is not told.
    RefundRefused,
}

/// A row of a table: why, and the codes that say so.
pub type Row = (Reason, &'static [&'static str]);

fn find(table: &[Row], code: &str) -> Option<Reason> {
    table
        .iter()
        .find(|(_, codes)| codes.contains(&code))
        .map(|(reason, _)| *reason)
}

/// Reads a stored one. A gateway of another version may have written one that this one does not
/// know.
pub(crate) fn known<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Reason>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    Ok(name.and_then(|name| name.parse().ok()))
}

/// The tables of a provider.
#[derive(Debug, Clone, Copy)]
pub struct Reasons {
    /// What its codes say, in whatever call.
    pub all: &'static [Row],
    /// Those that say something else about a refund.
    pub refunds: &'static [Row],
}

impl Reasons {
    /// What a code says, outside of refunds.
    #[must_use]
    pub fn of(&self, code: &str) -> Option<Reason> {
        find(self.all, code)
    }

    /// What a code says about a refund.
    #[must_use]
    pub fn of_refund(&self, code: &str) -> Option<Reason> {
        find(self.refunds, code).or_else(|| self.of(code))
    }

    /// Every code with its reason; one that says something else about refunds comes twice.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, Reason)> {
        self.all
            .iter()
            .chain(self.refunds)
            .flat_map(|(reason, codes)| codes.iter().map(move |code| (*code, *reason)))
    }
}

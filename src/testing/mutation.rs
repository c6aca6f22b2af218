//! Rules that tests and drills break on purpose, one at a time, to see that somebody notices.

use std::sync::LazyLock;

use parking_lot::Mutex;

/// A rule that keeps money from being taken twice or lost, or one merchant's or machine's trouble
/// from being everybody's.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, strum::Display, strum::EnumString, strum::EnumIter,
)]
#[strum(serialize_all = "snake_case")]
pub enum Mutation {
    /// A payment's rows are written only after its first call.
    SendBeforeCommit,
    /// A charge whose answer is lost is sent once more, under a new number.
    NewNumberOnRepeat,
    /// A charge in doubt is given up like an offer that nobody has seen, and goes to the next
    /// account.
    SwitchOnUnknownCharge,
    /// What was taken is not compared with what was asked for.
    NoAmountCheck,
    /// A notification is acknowledged before it is stored.
    AcknowledgeBeforeCommit,
    /// Neither the database nor the code minds a second live attempt.
    NoUniqueLiveAttempt,
    /// The idempotency key is claimed only after the first call.
    KeyAfterCall,
    /// A payment is its merchant's, whatever the key's mode.
    MerchantWithoutMode,
    /// A connection to the database is used again whatever has happened on it.
    TrustEveryConnection,
    /// The database is waited for without an end.
    WaitWithoutEnd,
    /// Jobs sleep as long as the wall clock says.
    SleepByTheWallClock,
    /// The resolver takes what is due oldest first, some of it at a time, with a pause after each
    /// time.
    ResolveOldestFirst,
    /// A provider is taken out for all merchants by what one of them has seen alone.
    OneMerchantTrips,
    /// What Redis says of health is taken as it is, and whoever claims there to probe is waited
    /// for.
    BelieveRedis,
    /// What an answer says counts, whatever a notification has said before it.
    BelieveTheLastWord,
}

/// Names the rule that is broken.
pub const VARIABLE: &str = "INTERLOCK_BROKEN_RULE";

/// Which rule is broken: the one that `INTERLOCK_BROKEN_RULE` names, until [`set`] says something
/// else.
static BROKEN: LazyLock<Mutex<Option<Mutation>>> = LazyLock::new(|| Mutex::new(named()));

fn named() -> Option<Mutation> {
    let name = std::env::var(VARIABLE).ok()?;
    let rule = name.parse().ok();
    match rule {
        Some(rule) => tracing::warn!(%rule, "a rule is broken on purpose"),
        None => tracing::error!(name, "no such rule"),
    }
    rule
}

/// The rule that is broken in this process, if one is.
#[must_use]
pub fn rule() -> Option<Mutation> {
    *BROKEN.lock()
}

/// Whether this rule is broken.
#[must_use]
pub fn mutated(rule: Mutation) -> bool {
    self::rule() == Some(rule)
}

/// Breaks a rule, or none any more.
pub fn set(rule: Option<Mutation>) {
    *BROKEN.lock() = rule;
}

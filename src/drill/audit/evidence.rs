//! What an audit goes by: everything that the sandbox, the database, the merchant and the gateways
//! have to say of a run. Judges nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::domain::id::PaymentId;
use crate::domain::{Aggregate, Timestamp};
use crate::drill::attacker::Forgeries;
use crate::drill::merchant::Shopped;
use crate::drill::prober::Probed;
use crate::drill::receiver::Received;
use crate::store::Deviation;
use crate::store::audit::{ForAPerson, Told};

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
    pub keys: Vec<(String, PaymentId)>,
    /// What shoppers wrote down.
    pub shopped: BTreeMap<usize, Shopped>,
    /// What came to the webhook receiver.
    pub received: Vec<Received>,
    /// What gateways have logged.
    pub logs: Vec<String>,
    /// What must never stand in a log.
    pub secrets: Vec<String>,
    /// Times at which somebody saw two live or two kept attempts of a payment.
    pub seen_double: Vec<PaymentId>,
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

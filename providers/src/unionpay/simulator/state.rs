//! One merchant's UnionPay: its keys, what is signed with them, and who asked when.

use std::collections::HashMap;
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use serde::Deserialize as _;
use serde_json::Value;

use super::super::certificate;
use super::super::sign::{BY_CERTIFICATE, CERTIFICATE, SharedKey, by_certificate, signed_text};
use super::super::wire::{Fields, local};
use super::pki::{self, Keys};
use crate::charset::{bytes, words};
use crate::provider::SettingsError;
use crate::sandbox::book::OrderKey;
use crate::sandbox::charset::Charset;
use crate::sandbox::secrets::NoRandomness;
use crate::sandbox::simulator::Alteration;
use crate::signing::{Signer, Verifier};

pub(super) const PROVIDER: &str = "unionpay";
/// More questions about one order within [`OFTEN`] are answered 37. The real limit is not
/// published.
const MOST_QUESTIONS: usize = 20;
const OFTEN: TimeDelta = TimeDelta::seconds(10);
/// From so many orders on, those that nobody asks about any more are forgotten.
const MOST_REMEMBERED: usize = 10_000;

/// Makes the sandbox merchant.
pub(super) fn make_keys() -> Result<Value, NoRandomness> {
    serde_json::to_value(pki::make()?).map_err(|_| NoRandomness)
}

/// Opens it with keys that [`make_keys`] made.
pub(super) fn open(keys: &Value) -> Result<UnionPaySimulator, SettingsError> {
    let keys = Keys::deserialize(keys)
        .map_err(|_| SettingsError::new(PROVIDER, "not the keys of a sandbox"))?;
    let wrong = |field: &str| SettingsError::new(field, "not what a sandbox makes");
    let merchant = certificate::certificates(&keys.merchant_cert).and_then(|mut all| all.pop());
    let merchant = merchant.ok_or_else(|| wrong("merchant_cert"))?;
    let public = certificate::public_key(&merchant).ok_or_else(|| wrong("merchant_cert"))?;

    Ok(UnionPaySimulator {
        merchant: Verifier::from_der(&public).map_err(|_| wrong("merchant_cert"))?,
        cert_id: certificate::serial(&merchant).ok_or_else(|| wrong("merchant_cert"))?,
        merchant_key: pki::merchant_key(&keys).ok_or_else(|| wrong("pfx"))?,
        merchants_own: as_it_travels(&keys.merchant_cert),
        platform: Signer::from_text(&keys.platform_private_key)
            .map_err(|_| wrong("platform_private_key"))?,
        certificate: as_it_travels(&keys.platform_cert),
        shared: SharedKey::new(&keys.secure_key),
        questions: Mutex::default(),
        keys,
    })
}

fn as_it_travels(pem: &str) -> String {
    pem.lines().collect::<Vec<_>>().join("\r\n")
}

/// One merchant's UnionPay.
pub(super) struct UnionPaySimulator {
    pub(super) keys: Keys,
    pub(super) merchant: Verifier,
    pub(super) cert_id: String,
    /// For messages that a merchant signs in UnionPay's name: its certificate is of the same
    /// authority.
    pub(super) merchant_key: Signer,
    pub(super) merchants_own: String,
    pub(super) platform: Signer,
    /// As it travels: CRLF between the lines and none at the end.
    pub(super) certificate: String,
    pub(super) shared: SharedKey,
    /// When which order was last asked about.
    questions: Mutex<HashMap<String, Vec<DateTime<Utc>>>>,
}

impl fmt::Debug for UnionPaySimulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnionPaySimulator")
            .field("mer_id", &self.keys.mer_id)
            .finish_non_exhaustive()
    }
}

impl UnionPaySimulator {
    pub(super) fn key(&self, order_no: &str) -> OrderKey {
        OrderKey::new(PROVIDER, &self.keys.mer_id, order_no)
    }

    /// 21 digits: the year, the time and the trace number stand where real ones have them.
    pub(super) fn query_id(&self, number: u64, now: DateTime<Utc>) -> String {
        let (high, trace) = (number / 1_000_000 % 100, number % 1_000_000);
        format!("{high:02}{}{trace:06}8", local(now).format("%y%m%d%H%M%S"))
    }

    pub(super) fn asks_too_often(&self, order_no: &str, now: DateTime<Utc>) -> bool {
        let mut questions = self.questions.lock();
        if questions.len() >= MOST_REMEMBERED {
            questions.retain(|_, times| times.last().is_some_and(|at| now - *at < OFTEN));
        }
        let times = questions.entry(order_no.to_owned()).or_default();
        times.retain(|at| now - *at < OFTEN);
        times.push(now);
        times.len() > MOST_QUESTIONS
    }

    /// Signs a message by the method that it names.
    pub(super) fn sign(&self, fields: &mut Fields, alteration: Alteration) {
        let is_certificate = fields
            .get("signMethod")
            .is_none_or(|method| method == BY_CERTIFICATE);
        let is_strange = alteration == Alteration::UnknownKey;

        if is_certificate {
            let certificate = if is_strange {
                &self.merchants_own
            } else {
                &self.certificate
            };
            fields.insert(CERTIFICATE.to_owned(), certificate.clone());
        }

        let text = match alteration {
            Alteration::None
            | Alteration::Undecided
            | Alteration::Charset(_)
            | Alteration::UnknownKey => signed_text(fields),
            // Of the right form and over something else.
            Alteration::BadSignature | Alteration::Probe => signed_text(fields) + "!",
            Alteration::Unsigned => return,
        };
        let text = bytes(&text);

        let signature = match (is_certificate, is_strange) {
            (true, false) => by_certificate(&self.platform, &text),
            (true, true) => by_certificate(&self.merchant_key, &text),
            (false, false) => self.shared.sign(&text),
            (false, true) => SharedKey::new("another").sign(&text),
        };

        fields.insert("signature".to_owned(), signature);
    }
}

/// Turns the words of a message into texts that stand for their bytes in the charset that `named`
/// is, or that somebody wants instead; the message names that one then.
pub(super) fn written_in(fields: &mut Fields, named: &str, alteration: Alteration) -> Charset {
    let charset = match alteration {
        Alteration::Charset(other) => {
            fields.insert("encoding".to_owned(), other.name().to_owned());
            other
        }
        Alteration::None
        | Alteration::Undecided
        | Alteration::Unsigned
        | Alteration::BadSignature
        | Alteration::UnknownKey
        | Alteration::Probe => Charset::named(named).unwrap_or_default(),
    };

    for value in fields.values_mut() {
        *value = charset.opaque(&words(value));
    }
    charset
}

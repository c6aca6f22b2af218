//! Whom a certificate in a message speaks for. Every answer carries the certificate it is signed
//! with, so believing the signature alone would believe anybody: the certificate has to be
//! UnionPay's, by its chain and by its name. Any merchant's certificate has the same chain; only
//! the name tells them apart.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::signing::{Verifier, unfolded};

/// Third part of the common name of UnionPay's own certificates.
const UNIONPAY: &str = "中国银联股份有限公司";
/// The same of its test environment, where the check of names may be relaxed.
const TEST: &str = "00040000:SIGN";

/// Why a certificate is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Distrust {
    #[error("not a certificate with an RSA key")]
    Unreadable,
    #[error("a certificate that is not yet valid, or not any more")]
    OutOfDate,
    #[error("a certificate from another authority")]
    Issuer,
    #[error("a certificate of somebody else than UnionPay")]
    Name,
}

/// The authorities that issue UnionPay's certificates, and the last certificate that was believed.
pub(super) struct Authorities {
    /// In DER.
    roots: Vec<Vec<u8>>,
    middles: Vec<Vec<u8>>,
    strict_name: bool,
    /// UnionPay uses one certificate for years, so nearly every look ends here.
    last: Mutex<Option<Arc<Believed>>>,
}

/// A certificate whose chain and name were checked; its validity is looked at each time.
struct Believed {
    pem: String,
    /// The days on which the whole chain is valid, in Unix seconds.
    from: i64,
    until: i64,
    key: Verifier,
}

impl Authorities {
    /// `strict_name` is off in UnionPay's test environment only.
    pub(super) fn new(roots: Vec<Vec<u8>>, middles: Vec<Vec<u8>>, strict_name: bool) -> Self {
        Self {
            roots,
            middles,
            strict_name,
            last: Mutex::default(),
        }
    }

    /// The key of a certificate that is UnionPay's at the time `now`.
    pub(super) fn check<T>(
        &self,
        pem: &str,
        now: DateTime<Utc>,
        then: impl FnOnce(&Verifier) -> T,
    ) -> Result<T, Distrust> {
        let known = self.last.lock().clone();
        let believed = match known.filter(|known| known.pem == pem) {
            Some(known) => known,
            None => {
                let believed = Arc::new(self.believe(pem)?);
                *self.last.lock() = Some(Arc::clone(&believed));
                believed
            }
        };

        if (believed.from..=believed.until).contains(&now.timestamp()) {
            Ok(then(&believed.key))
        } else {
            Err(Distrust::OutOfDate)
        }
    }

    /// Looks at the signatures of the chain, not at its names alone: a forger copies names.
    fn believe(&self, pem: &str) -> Result<Believed, Distrust> {
        let der = one_certificate(pem).ok_or(Distrust::Unreadable)?;
        let leaf = parse(&der).ok_or(Distrust::Unreadable)?;
        let middle = self
            .middles
            .iter()
            .filter_map(|der| parse(der))
            .find(|m| issued(m, &leaf));

        let middle = middle.ok_or(Distrust::Issuer)?;
        let root = self
            .roots
            .iter()
            .filter_map(|der| parse(der))
            .find(|r| issued(r, &middle));

        let root = root.ok_or(Distrust::Issuer)?;
        if !self.is_unionpay(&leaf) {
            return Err(Distrust::Name);
        }
        let mut days = (i64::MIN, i64::MAX);

        for validity in [leaf.validity(), middle.validity(), root.validity()] {
            days = (
                days.0.max(validity.not_before.timestamp()),
                days.1.min(validity.not_after.timestamp()),
            );
        }

        let key = Verifier::from_der(leaf.public_key().raw).map_err(|_| Distrust::Unreadable)?;
        Ok(Believed {
            pem: pem.to_owned(),
            from: days.0,
            until: days.1,
            key,
        })
    }

    /// The bytes are compared whatever their type says: older certificates write the name as a
    /// TeletexString, since `@` is no PrintableString.
    fn is_unionpay(&self, leaf: &X509Certificate<'_>) -> bool {
        let mut names = leaf.subject().iter_common_name();
        let (Some(name), None) = (names.next(), names.next()) else {
            return false;
        };
        let part = name.attr_value().data.split(|b| *b == b'@').nth(2);
        part == Some(UNIONPAY.as_bytes()) || (!self.strict_name && part == Some(TEST.as_bytes()))
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("strict_name", &self.strict_name)
            .finish_non_exhaustive()
    }
}

/// UnionPay's authorities still sign with SHA-1, which `verify_signature` allows beside SHA-256 and
/// better.
fn issued(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == issuer.subject().as_raw()
        && certificate
            .verify_signature(Some(issuer.public_key()))
            .is_ok()
}

/// Whether anything could be believed with these authorities.
pub(super) fn is_chain(roots: &[Vec<u8>], middles: &[Vec<u8>]) -> bool {
    let mut middles = middles.iter().filter_map(|der| parse(der));
    middles.any(|middle| {
        roots
            .iter()
            .filter_map(|der| parse(der))
            .any(|root| issued(&root, &middle))
    })
}

/// A certificate in DER, and nothing behind it.
fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der)
        .ok()
        .filter(|(rest, _)| rest.is_empty())
        .map(|(_, certificate)| certificate)
}

fn one_certificate(pem: &str) -> Option<Vec<u8>> {
    let mut all = certificates(pem)?;
    let first = all.pop()?;
    all.is_empty().then_some(first)
}

/// All certificates of a PEM text, in DER; `None` when it holds anything unreadable.
pub(super) fn certificates(pem: &str) -> Option<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for block in Pem::iter_from_buffer(unfolded(pem).as_bytes()) {
        let block = block.ok().filter(|b| b.label == "CERTIFICATE")?;
        parse(&block.contents)?;
        all.push(block.contents);
    }
    Some(all)
}

/// The serial number of a certificate, which names it in requests: decimal, of any size.
pub(super) fn serial(der: &[u8]) -> Option<String> {
    Some(parse(der)?.tbs_certificate.serial.to_string())
}

/// The public key of a certificate, in DER.
pub(super) fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    Some(parse(der)?.public_key().raw.to_vec())
}

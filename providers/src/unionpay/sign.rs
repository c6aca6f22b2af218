//! What UnionPay signs in version 5.1.0 and how: by certificate (`signMethod` 01) or with a shared
//! key (11). Which of the two is an account's own setting; a message that claims the other is not
//! believed.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use chrono::{DateTime, Utc};

use super::certificate::{Authorities, Distrust};
use super::wire::Fields;
use crate::charset::bytes;
use crate::signing::{Signer, sha256_hex};

/// The only version that is spoken or believed; 5.0.0 signs with SHA-1.
pub(super) const VERSION: &str = "5.1.0";
pub(super) const BY_CERTIFICATE: &str = "01";
pub(super) const BY_SHARED_KEY: &str = "11";
/// The field that carries a certificate.
pub(super) const CERTIFICATE: &str = "signPubKeyCert";

/// The text that is signed: every field but the signature, empty ones left out, in byte order.
pub(super) fn signed_text(fields: &Fields) -> String {
    let signed = fields
        .iter()
        .filter(|(name, value)| *name != "signature" && !value.is_empty());
    signed
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&")
}

/// A key that both sides know.
pub(super) struct SharedKey {
    hashed: String,
}

impl SharedKey {
    pub(super) fn new(key: &str) -> Self {
        Self {
            hashed: sha256_hex(key),
        }
    }

    pub(super) fn sign(&self, text: impl AsRef<[u8]>) -> String {
        sha256_hex([text.as_ref(), b"&", self.hashed.as_bytes()].concat())
    }

    pub(super) fn holds(&self, text: impl AsRef<[u8]>, signature: &str) -> bool {
        verify_slices_are_equal(self.sign(text).as_bytes(), signature.as_bytes()).is_ok()
    }
}

/// How an account signs, and what it believes.
pub(super) enum Method {
    /// With the merchant's certificate; UnionPay answers with its own.
    Certificate {
        signer: Signer,
        /// Serial number of the merchant's certificate, decimal.
        cert_id: String,
        authorities: Authorities,
    },
    /// With a key that both know.
    Shared(SharedKey),
}

/// Why a message is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Doubt {
    #[error("no {0}")]
    Missing(&'static str),
    #[error("version {0:?}")]
    Version(String),
    #[error("signMethod {0:?} instead of ours")]
    Method(String),
    #[error(transparent)]
    Certificate(#[from] Distrust),
    #[error("the signature does not hold")]
    Signature,
}

impl Method {
    /// `01` or `11`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => BY_CERTIFICATE,
            Self::Shared(_) => BY_SHARED_KEY,
        }
    }

    /// Completes a request: values trimmed, empty ones left out, as the official SDK does, then
    /// signed.
    pub(super) fn sign(&self, fields: Fields) -> Fields {
        let trimmed = fields
            .into_iter()
            .map(|(name, value)| (name, value.trim().to_owned()));
        let mut fields: Fields = trimmed.filter(|(_, value)| !value.is_empty()).collect();
        fields.insert("signMethod".to_owned(), self.name().to_owned());
        let signature = match self {
            Self::Certificate {
                signer, cert_id, ..
            } => {
                fields.insert("certId".to_owned(), cert_id.clone());
                by_certificate(signer, bytes(&signed_text(&fields)))
            }
            Self::Shared(key) => key.sign(bytes(&signed_text(&fields))),
        };

        fields.insert("signature".to_owned(), signature);
        fields
    }

    /// Whether a message is UnionPay's. Version and method are looked at first: the method that we
    /// are set to, and never the one that the message would like.
    pub(super) fn check(&self, fields: &Fields, now: DateTime<Utc>) -> Result<(), Doubt> {
        let field = |name: &'static str| {
            fields
                .get(name)
                .filter(|value| !value.is_empty())
                .map(String::as_str)
                .ok_or(Doubt::Missing(name))
        };
        let (version, method, signature) =
            (field("version")?, field("signMethod")?, field("signature")?);
        let short = |text: &str| text.chars().take(16).collect();
        if version != VERSION {
            return Err(Doubt::Version(short(version)));
        }
        if method != self.name() {
            return Err(Doubt::Method(short(method)));
        }
        let text = signed_text(fields);
        let text = bytes(&text);

        let holds = match self {
            Self::Certificate { authorities, .. } => {
                authorities.check(field(CERTIFICATE)?, now, |key| {
                    key.verify(sha256_hex(&text).as_bytes(), signature).is_ok()
                })?
            }
            Self::Shared(key) => key.holds(&text, signature),
        };

        if holds { Ok(()) } else { Err(Doubt::Signature) }
    }
}

/// The hexadecimal digest is what gets signed, so the text is hashed twice.
pub(super) fn by_certificate(signer: &Signer, text: impl AsRef<[u8]>) -> String {
    signer.sign(sha256_hex(text).as_bytes())
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Method({})", self.name())
    }
}

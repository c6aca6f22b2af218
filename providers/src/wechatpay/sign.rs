//! What WeChat Pay signs and encrypts in APIv3: requests, answers, notifications. It reads no
//! clock, and it never calls anything verified that lacks one of the four signature headers.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use http::HeaderMap;

use crate::signing::{Signer, Verifier};

/// The only kind of signature that is understood; SM2 merchants apply for the other one.
pub const SIGNATURE_TYPE: &str = "WECHATPAY2-SHA256-RSA2048";
/// Signatures that begin so are wrong on purpose: WeChat Pay looks whether we check them.
const PROBE_PREFIX: &str = "WECHATPAY/SIGNTEST/";
/// Answers and notifications this old, or this far ahead, are refused: `abs(now - ts) >= 300`.
const WINDOW_S: u64 = 300;

/// The five lines that a request's signature is over. A body that ends in LF gets one more.
#[must_use]
pub fn request_message(
    method: &str,
    target: &str,
    timestamp: &str,
    nonce: &str,
    body: &[u8],
) -> Vec<u8> {
    let head = format!("{method}\n{target}\n{timestamp}\n{nonce}\n");
    [head.as_bytes(), body, b"\n"].concat()
}

/// The three lines that the signature of an answer or a notification is over.
#[must_use]
pub fn answer_message(timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{timestamp}\n{nonce}\n");
    [head.as_bytes(), body, b"\n"].concat()
}

/// Who signs a request: the merchant and the serial number of its API certificate.
#[derive(Debug, Clone, Copy)]
pub struct Merchant<'a> {
    /// Merchant number.
    pub mchid: &'a str,
    /// Serial number of the certificate whose key is `signer`.
    pub serial: &'a str,
    /// The key.
    pub signer: &'a Signer,
}

impl Merchant<'_> {
    /// The value of `Authorization` for a request.
    #[must_use]
    pub fn authorization(
        &self,
        method: &str,
        target: &str,
        timestamp: i64,
        nonce: &str,
        body: &[u8],
    ) -> String {
        let timestamp = timestamp.to_string();
        let signature = self
            .signer
            .sign(&request_message(method, target, &timestamp, nonce, body));
        let (mchid, serial) = (self.mchid, self.serial);
        format!(
            "{SIGNATURE_TYPE} mchid=\"{mchid}\",nonce_str=\"{nonce}\",signature=\"{signature}\",\
             timestamp=\"{timestamp}\",serial_no=\"{serial}\""
        )
    }
}

/// 32 random characters; `None` when the system has no randomness to give.
#[must_use]
pub fn nonce() -> Option<String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Why an answer or a notification is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// One of the headers is missing or no text.
    #[error("no {0}")]
    Missing(&'static str),
    /// Signed too long ago, or in the future.
    #[error("signed outside of the time window")]
    Stale,
    /// Wrong on purpose.
    #[error("a probe with a wrong signature on purpose")]
    Probe,
    /// A kind of signature that we do not know.
    #[error("unknown signature type {0:?}")]
    UnknownType(String),
    /// A key that we do not have.
    #[error("unknown key {0:?}")]
    UnknownKey(String),
    /// The signature does not hold.
    #[error("the signature does not hold")]
    BadSignature,
}

/// The signature headers of an answer or a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal<'a> {
    timestamp: &'a str,
    nonce: &'a str,
    signature: &'a str,
    serial: &'a str,
    kind: Option<&'a str>,
}

impl<'a> Seal<'a> {
    /// Whether an answer carries a signature at all, or pretends to.
    #[must_use]
    pub fn is_there(headers: &HeaderMap) -> bool {
        headers.contains_key("Wechatpay-Signature") || headers.contains_key("Wechatpay-Serial")
    }

    /// Takes the signature headers.
    ///
    /// # Errors
    /// `Missing`, with the name of the first header that is not there.
    pub fn of(headers: &'a HeaderMap) -> Result<Self, SealError> {
        let text = |name: &'static str| {
            headers
                .get(name)
                .and_then(|v| v.to_str().ok())
                .filter(|v| !v.is_empty())
                .ok_or(SealError::Missing(name))
        };

        Ok(Self {
            timestamp: text("Wechatpay-Timestamp")?,
            nonce: text("Wechatpay-Nonce")?,
            signature: text("Wechatpay-Signature")?,
            serial: text("Wechatpay-Serial")?,
            // Missing means RSA to every SDK; the RSA signature is checked all the same.
            kind: headers
                .contains_key("Wechatpay-Signature-Type")
                .then(|| text("Wechatpay-Signature-Type"))
                .transpose()?,
        })
    }

    /// Checks time, kind, key and signature, in this order.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn check(
        &self,
        body: &[u8],
        now: DateTime<Utc>,
        key_id: &str,
        key: &Verifier,
    ) -> Result<(), SealError> {
        let signed_at: i64 = self.timestamp.parse().map_err(|_| SealError::Stale)?;
        if now.timestamp().abs_diff(signed_at) >= WINDOW_S {
            return Err(SealError::Stale);
        }
        if self.signature.starts_with(PROBE_PREFIX) {
            return Err(SealError::Probe);
        }
        if let Some(kind) = self.kind.filter(|k| *k != SIGNATURE_TYPE) {
            return Err(SealError::UnknownType(kind.chars().take(64).collect()));
        }

        if self.serial != key_id {
            return Err(SealError::UnknownKey(
                self.serial.chars().take(64).collect(),
            ));
        }

        let message = answer_message(self.timestamp, self.nonce, body);
        key.verify(&message, self.signature)
            .map_err(|_| SealError::BadSignature)
    }
}

/// The cipher text is not base64, its nonce has not 12 bytes, or it was not made with this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot be decrypted with the APIv3 key")]
pub struct Undecryptable;

/// The APIv3 key: AES-256-GCM, for what notifications carry. It never signs anything.
pub struct ResourceKey(LessSafeKey);

impl ResourceKey {
    /// The 32 bytes of `text` are the key; `None` when there are more or fewer.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, text.as_bytes())
            .ok()
            .map(|key| Self(LessSafeKey::new(key)))
    }

    /// Decrypts `ciphertext` (base64, the tag at its end).
    ///
    /// # Errors
    /// [`Undecryptable`], without saying more.
    pub fn open(
        &self,
        nonce: &str,
        associated_data: &str,
        ciphertext: &str,
    ) -> Result<Vec<u8>, Undecryptable> {
        let nonce =
            Nonce::try_assume_unique_for_key(nonce.as_bytes()).map_err(|_| Undecryptable)?;
        let mut bytes = BASE64.decode(ciphertext).map_err(|_| Undecryptable)?;
        let length = self
            .0
            .open_in_place(nonce, Aad::from(associated_data.as_bytes()), &mut bytes)
            .map_err(|_| Undecryptable)?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Encrypts, as WeChat Pay does: for the sandbox. `None` unless `nonce` has 12 bytes.
    #[must_use]
    pub fn seal(&self, nonce: &str, associated_data: &str, text: &[u8]) -> Option<String> {
        let nonce = Nonce::try_assume_unique_for_key(nonce.as_bytes()).ok()?;
        let mut bytes = text.to_vec();
        self.0
            .seal_in_place_append_tag(nonce, Aad::from(associated_data.as_bytes()), &mut bytes)
            .ok()?;
        Some(BASE64.encode(bytes))
    }
}

impl fmt::Debug for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResourceKey(…)")
    }
}

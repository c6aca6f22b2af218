//! One merchant's WeChat Pay: its keys, and what is signed with them.

use std::fmt;

use chrono::{DateTime, FixedOffset, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::sign::{ResourceKey, SIGNATURE_TYPE, answer_message, nonce};
use super::certificate;
use crate::provider::SettingsError;
use crate::sandbox::book::OrderKey;
use crate::sandbox::secrets::{NoRandomness, digits, hex, pem, rsa_private_keys};
use crate::sandbox::simulator::{Alteration, Request};
use crate::signing::{KeyError, Signer, Verifier};

pub(super) const PROVIDER: &str = "wechatpay";
/// What the signature of a probe begins with.
const PROBE: &str = "WECHATPAY/SIGNTEST/";
/// Of a platform certificate that nobody was given.
const NEXT_SERIAL: &str = "60000000000000000000000000000000000000A6";

/// The sandbox merchant and both of the provider's keys, as they are stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Keys {
    pub(super) mchid: String,
    pub(super) appid: String,
    pub(super) serial: String,
    pub(super) private_key: String,
    pub(super) platform_serial: String,
    pub(super) platform_private_key: String,
    pub(super) platform_certificate: String,
    pub(super) public_key_id: String,
    pub(super) public_key_private: String,
    pub(super) apiv3_key: String,
    pub(super) apiv2_key: String,
}

/// Makes the sandbox merchant.
pub(super) fn make_keys() -> Result<Value, NoRandomness> {
    let [private_key, platform_private_key, public_key_private] = rsa_private_keys()?;
    let mchid = format!("19{}", digits(8)?);
    let platform_serial = certificate_serial()?;
    let platform_certificate =
        certificate::self_signed(&platform_private_key, &platform_serial).ok_or(NoRandomness)?;
    let keys = Keys {
        appid: format!("wx{}", hex(16)?),
        serial: certificate_serial()?,
        private_key,
        platform_certificate,
        platform_serial,
        platform_private_key,
        public_key_id: format!("PUB_KEY_ID_01{mchid}{}", digits(20)?),
        public_key_private,
        apiv3_key: hex(32)?,
        apiv2_key: hex(32)?,
        mchid,
    };

    serde_json::to_value(keys).map_err(|_| NoRandomness)
}

/// 20 bytes, upper case, positive as a number.
fn certificate_serial() -> Result<String, NoRandomness> {
    Ok(format!("5{}", hex(39)?.to_ascii_uppercase()))
}

/// Opens it with keys that [`make_keys`] made.
pub(super) fn open(keys: &Value) -> Result<WechatPaySimulator, SettingsError> {
    let wrong = |field: &str, e: &KeyError| SettingsError::new(field, e.to_string());
    let keys: Keys = Keys::deserialize(keys)
        .map_err(|_| SettingsError::new(PROVIDER, "not the keys of a sandbox"))?;
    let merchant = Signer::from_text(&keys.private_key).map_err(|e| wrong("private_key", &e))?;
    let public =
        Signer::from_text(&keys.public_key_private).map_err(|e| wrong("public_key_private", &e))?;
    let public_der = public
        .public_key_der()
        .map_err(|e| wrong("public_key_private", &e))?;

    let credentials = json!({
        "mchid": keys.mchid, "appid": keys.appid, "serial": keys.serial,
        "private_key": keys.private_key,
        "public_key_id": keys.public_key_id, "public_key": pem("PUBLIC KEY", &public_der),
        "platform_serial": keys.platform_serial, "platform_certificate": keys.platform_certificate,
        "apiv3_key": keys.apiv3_key, "apiv2_key": keys.apiv2_key,
    });

    Ok(WechatPaySimulator {
        merchant: merchant.verifier(),
        platform: Signer::from_text(&keys.platform_private_key)
            .map_err(|e| wrong("platform_private_key", &e))?,
        resource_key: ResourceKey::new(&keys.apiv3_key)
            .ok_or_else(|| SettingsError::new("apiv3_key", "must have exactly 32 bytes"))?,
        public,
        credentials,
        keys,
    })
}

/// One merchant's WeChat Pay.
pub(super) struct WechatPaySimulator {
    pub(super) keys: Keys,
    pub(super) merchant: Verifier,
    pub(super) platform: Signer,
    pub(super) public: Signer,
    pub(super) resource_key: ResourceKey,
    pub(super) credentials: Value,
}

impl fmt::Debug for WechatPaySimulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WechatPaySimulator")
            .field("mchid", &self.keys.mchid)
            .finish_non_exhaustive()
    }
}

impl WechatPaySimulator {
    pub(super) fn order_key(&self, order_no: &str) -> OrderKey {
        OrderKey::new(PROVIDER, &self.keys.mchid, order_no)
    }

    /// The key that a caller asks to be answered with.
    pub(super) fn key_for(&self, request: &Request) -> &str {
        let asked = request.header("Wechatpay-Serial").unwrap_or_default();
        if asked == self.keys.public_key_id {
            &self.keys.public_key_id
        } else {
            &self.keys.platform_serial
        }
    }

    /// Signature headers over `body`, made with the key called `serial`.
    pub(super) fn sign(
        &self,
        headers: &mut HeaderMap,
        serial: &str,
        body: &[u8],
        now: DateTime<Utc>,
        alteration: Alteration,
    ) {
        let key = if serial == self.keys.public_key_id {
            &self.public
        } else {
            &self.platform
        };
        let (timestamp, nonce) = (now.timestamp().to_string(), nonce().unwrap_or_default());
        let message = answer_message(&timestamp, &nonce, body);
        let signature = match alteration {
            Alteration::None | Alteration::Undecided | Alteration::Charset(_) => key.sign(&message),
            Alteration::UnknownKey => self.platform.sign(&message),
            Alteration::Probe => format!("{PROBE}{}", key.sign(&message)),
            // Of the right length and over something else.
            Alteration::BadSignature => key.sign(&[&message, b"!".as_slice()].concat()),
            Alteration::Unsigned => return,
        };

        put(headers, "wechatpay-timestamp", &timestamp);
        put(headers, "wechatpay-nonce", &nonce);
        put(headers, "wechatpay-signature", &signature);
        put(
            headers,
            "wechatpay-serial",
            if alteration == Alteration::UnknownKey {
                NEXT_SERIAL
            } else {
                serial
            },
        );

        put(headers, "wechatpay-signature-type", SIGNATURE_TYPE);
    }
}

pub(super) fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// 38 digits that mean nothing, and the reason.
pub(super) fn request_id(reason: u32) -> String {
    format!(
        "08{}-{reason}",
        hex(36).unwrap_or_default().to_ascii_uppercase()
    )
}

/// `yyyyMMdd` in Beijing.
pub(super) fn beijing_day(time: DateTime<Utc>) -> String {
    let local = FixedOffset::east_opt(8 * 3600).map_or(time.naive_utc(), |offset| {
        time.with_timezone(&offset).naive_local()
    });
    local.format("%Y%m%d").to_string()
}

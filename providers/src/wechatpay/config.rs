//! Reads the settings of an account. A wrong one is named by its member; keys never appear in a
//! message.

use serde::Deserialize;
use serde_json::Value;

use super::sign::ResourceKey;
use crate::http::{Client, Way};
use crate::provider::SettingsError;
use crate::signing::{Signer, Verifier};

const DEFAULT_BASE_URL: &str = "https://api.mch.weixin.qq.com";

/// Public-key mode only: the id and the key are downloaded once and never expire. Other members of
/// the sandbox's `/credentials` block (certificates, the APIv2 key) are not needed and ignored.
#[derive(Deserialize)]
struct Settings {
    mchid: String,
    appid: String,
    serial: String,
    private_key: String,
    public_key_id: String,
    public_key: String,
    apiv3_key: String,
    base_url: Option<String>,
    store_id: Option<String>,
}

/// Settings that were checked.
#[derive(Debug)]
pub(super) struct Account {
    pub mchid: String,
    pub appid: String,
    /// Serial number of our API certificate: tells WeChat Pay which of our keys signed.
    pub serial: String,
    pub signer: Signer,
    /// Sent with every call, so that this key signs the answer.
    pub public_key_id: String,
    pub public_key: Verifier,
    pub resource_key: ResourceKey,
    pub client: Client,
    /// The shop that charges are reported for when an order names none.
    pub store_id: String,
}

impl Account {
    pub(super) fn read(settings: Value, way: &Way) -> Result<Self, SettingsError> {
        let settings: Settings =
            serde_path_to_error::deserialize(settings).map_err(|e| unreadable(&e))?;
        let wrong = |field: &str, why: &str| SettingsError::new(field, why);

        if !settings.public_key_id.starts_with("PUB_KEY_ID_") {
            return Err(wrong(
                "public_key_id",
                "must begin with PUB_KEY_ID_; platform certificates are not supported",
            ));
        }

        let base = settings.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL);
        let store_id = settings
            .store_id
            .as_ref()
            .unwrap_or(&settings.mchid)
            .clone();

        let signer = Signer::from_text(&settings.private_key)
            .map_err(|e| wrong("private_key", &e.to_string()))?;
        let public_key = Verifier::from_text(&settings.public_key)
            .map_err(|e| wrong("public_key", &e.to_string()))?;

        if public_key.verify(b"probe", &signer.sign(b"probe")).is_ok() {
            return Err(wrong(
                "public_key",
                "this is the merchant's own public key, not WeChat Pay's",
            ));
        }

        Ok(Self {
            signer,
            public_key,
            resource_key: ResourceKey::new(&settings.apiv3_key)
                .ok_or_else(|| wrong("apiv3_key", "must have exactly 32 bytes"))?,
            client: Client::new(base, way).map_err(|e| wrong("base_url", &e.to_string()))?,
            mchid: token("mchid", settings.mchid)?,
            appid: token("appid", settings.appid)?,
            serial: token("serial", settings.serial)?,
            public_key_id: token("public_key_id", settings.public_key_id)?,
            store_id: Some(store_id)
                .filter(|id| (1..=32).contains(&id.chars().count()))
                .ok_or_else(|| wrong("store_id", "must have 1 to 32 characters"))?,
        })
    }
}

/// What stands between quotes in a header: letters, digits, `_` and `-`.
fn token(field: &str, value: String) -> Result<String, SettingsError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if value.is_empty() || value.len() > 64 || !value.bytes().all(plain) {
        return Err(SettingsError::new(
            field,
            "must be 1 to 64 letters, digits, '_' or '-'",
        ));
    }
    Ok(value)
}

/// serde repeats the value that it did not expect, which may be a key: only its first words are
/// kept.
fn unreadable(error: &serde_path_to_error::Error<serde_json::Error>) -> SettingsError {
    let path = error.path().to_string();
    let message = error.inner().to_string();
    match message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next())
    {
        Some(field) => SettingsError::new(field, "is missing"),
        None => SettingsError::new(path, "must be a text"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings() -> Value {
        let vectors: Value =
            serde_json::from_str(include_str!("../../tests/vectors/wechatpay.json")).unwrap();
        let keys = &vectors["keys"];
        json!({
            "mchid": keys["mchid"], "appid": keys["appid"], "serial": keys["merchant_serial"],
            "private_key": keys["merchant_private_key_pem"],
            "public_key_id": keys["wechatpay_pubkey_id"],
            "public_key": keys["wechatpay_pubkey_pem"], "apiv3_key": keys["apiv3_key"],
            "platform_serial": "7", "platform_certificate": "PEM", "apiv2_key": "k",
        })
    }

    #[test]
    fn the_sandbox_block_is_taken_as_it_is() {
        assert!(Account::read(settings(), &Way::Open).is_ok());
    }

    #[test]
    fn a_wrong_setting_is_named_and_never_repeated() {
        let secret = "0123456789012345678901234567890";
        for (field, value) in [
            ("mchid", json!("19\"000")),
            ("mchid", json!("")),
            ("appid", json!(7)),
            ("serial", json!("a b")),
            ("private_key", json!(secret)),
            ("private_key", json!({ "pem": secret })),
            ("public_key", json!(secret)),
            (
                "public_key_id",
                json!("72E4FBEE595046A0AF177E1EBDAFFA54198D0440"),
            ),
            ("apiv3_key", json!(secret)),
            ("apiv3_key", json!(format!("{secret}12"))),
            ("apiv3_key", json!([secret])),
            ("base_url", json!("ftp://127.0.0.1")),
            ("store_id", json!("")),
            ("store_id", json!(1)),
        ] {
            let mut settings = settings();
            settings[field] = value.clone();
            let error = Account::read(settings, &Way::Open).unwrap_err();
            assert_eq!(error.field, field, "{value}");
            assert!(!error.to_string().contains(secret), "{error}");
        }

        for field in [
            "mchid",
            "appid",
            "serial",
            "private_key",
            "public_key_id",
            "public_key",
            "apiv3_key",
        ] {
            let mut settings = settings();
            settings.as_object_mut().unwrap().remove(field);
            assert_eq!(
                Account::read(settings, &Way::Open).unwrap_err(),
                SettingsError::new(field, "is missing")
            );
        }
    }
}

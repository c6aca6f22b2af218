//! Reads an account's settings. Nothing here calls anybody, and no message ever repeats a key.

use serde_json::{Map, Value};

use crate::provider::SettingsError;
use crate::signing::{Signer, Verifier};

/// The production address; the path is always `/gateway.do`.
const PRODUCTION: &str = "https://openapi.alipay.com";

/// One application (`app_id`) of one merchant (`seller_id`), in key mode.
#[derive(Debug)]
pub(super) struct Settings {
    pub app_id: String,
    pub seller_id: String,
    /// The application's private key: signs what we send.
    pub app_key: Signer,
    /// Alipay's public key: verifies what Alipay says.
    pub alipay_key: Verifier,
    pub base_url: String,
}

impl Settings {
    /// Reads the settings. Members that key mode does not use (certificates) may be there.
    ///
    /// # Errors
    /// [`SettingsError`] with the member that is missing or wrong.
    pub(super) fn read(settings: &Value) -> Result<Self, SettingsError> {
        let members = settings
            .as_object()
            .ok_or_else(|| SettingsError::new("", "not an object"))?;
        let app_key = Signer::from_text(required(members, "app_private_key")?)
            .map_err(|e| SettingsError::new("app_private_key", e.to_string()))?;
        let alipay_key = Verifier::from_text(required(members, "alipay_public_key")?)
            .map_err(|e| SettingsError::new("alipay_public_key", e.to_string()))?;

        // The two public keys look alike in Alipay's console and are often swapped; then nothing
        // would verify.
        if alipay_key.verify(b"probe", &app_key.sign(b"probe")).is_ok() {
            let message = "this is the application's own public key, not Alipay's";
            return Err(SettingsError::new("alipay_public_key", message));
        }

        Ok(Self {
            app_id: number(members, "app_id", 32)?,
            seller_id: number(members, "seller_id", 28)?,
            app_key,
            alipay_key,
            base_url: optional(members, "base_url")?
                .unwrap_or(PRODUCTION)
                .to_owned(),
        })
    }
}

fn optional<'a>(
    members: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a str>, SettingsError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim())),
        Some(_) => Err(SettingsError::new(name, "not a text, or empty")),
    }
}

fn required<'a>(members: &'a Map<String, Value>, name: &str) -> Result<&'a str, SettingsError> {
    optional(members, name)?.ok_or_else(|| SettingsError::new(name, "missing"))
}

/// A number that Alipay gave out: digits.
fn number(
    members: &Map<String, Value>,
    name: &str,
    longest: usize,
) -> Result<String, SettingsError> {
    let text = required(members, name)?;
    if text.len() > longest || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(SettingsError::new(
            name,
            format!("not a number of at most {longest} digits"),
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::alipay::vectors;

    fn settings() -> Value {
        let keys = vectors::keys();
        json!({
            "app_id": "2021000000000001", "seller_id": "2088000000000001",
            "app_private_key": keys.app_private, "alipay_public_key": keys.alipay_public,
            "app_cert": "ignored", "alipay_cert": "ignored", "root_cert": "ignored",
        })
    }

    #[test]
    fn the_sandbox_block_is_accepted_and_production_is_the_default_address() {
        let settings = Settings::read(&settings()).unwrap();
        assert_eq!(settings.base_url, "https://openapi.alipay.com");
        assert_eq!(
            (settings.app_id.as_str(), settings.seller_id.as_str()),
            ("2021000000000001", "2088000000000001")
        );
    }

    #[test]
    fn keys_may_be_bare_base64() {
        let mut settings = settings();
        for member in ["app_private_key", "alipay_public_key"] {
            let pem = settings[member].as_str().unwrap().to_owned();
            settings[member] = pem
                .lines()
                .filter(|l| !l.starts_with("-----"))
                .collect::<String>()
                .into();
        }
        assert!(Settings::read(&settings).is_ok());
    }

    #[test]
    fn an_error_names_the_member_and_never_repeats_a_key() {
        let keys = vectors::keys();
        let cases = [
            ("app_id", Value::Null),
            ("app_id", json!("2021 0000")),
            ("app_id", json!(2021)),
            ("seller_id", json!("")),
            ("seller_id", json!("shop@example.com")),
            ("app_private_key", Value::Null),
            ("app_private_key", json!("SECRET!")),
            ("app_private_key", json!(keys.alipay_public)),
            ("alipay_public_key", json!(keys.app_private)),
            ("alipay_public_key", json!(keys.app_public)),
            ("base_url", json!("")),
        ];

        for (member, value) in cases {
            let mut settings = settings();
            settings[member] = value.clone();
            let error = Settings::read(&settings).unwrap_err();
            assert_eq!(error.field, member, "{value}");
            assert!(!error.message.contains("SECRET"), "{error}");
        }

        assert_eq!(Settings::read(&json!([])).unwrap_err().field, "");
    }
}

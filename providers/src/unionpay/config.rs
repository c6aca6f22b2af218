//! Reads the settings of an account. A wrong one is named by its member; keys never appear in a
//! message.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use p12_keystore::Pkcs12Archive;
use serde::Deserialize;
use serde_json::Value;
use x509_parser::pem::Pem;

use super::certificate::{self, Authorities};
use super::sign::{BY_CERTIFICATE, BY_SHARED_KEY, Method, SharedKey};
use crate::http::{Client, Way};
use crate::provider::SettingsError;
use crate::signing::{Signer, unfolded};

const DEFAULT_BASE_URL: &str = "https://gateway.95516.com";

/// The sandbox's `/credentials` block and more. `root_cert` and `middle_cert` may hold several
/// certificates, so that UnionPay can change its authorities; the pair of `pfx` may also be given
/// as PEM (`PRIVATE KEY` and `CERTIFICATE`).
#[derive(Deserialize)]
struct Settings {
    mer_id: String,
    base_url: Option<String>,
    /// `01` (certificates) unless it says `11` (shared key). Never taken from a message.
    sign_method: Option<String>,
    pfx: Option<String>,
    pfx_password: Option<String>,
    root_cert: Option<String>,
    middle_cert: Option<String>,
    /// `false` only in UnionPay's test environment, whose certificates have another name.
    validate_cn: Option<bool>,
    secure_key: Option<String>,
}

/// Settings that were checked.
#[derive(Debug)]
pub(super) struct Account {
    pub mer_id: String,
    pub method: Method,
    pub client: Client,
}

impl Account {
    pub(super) fn read(settings: Value, way: &Way) -> Result<Self, SettingsError> {
        let settings: Settings =
            serde_path_to_error::deserialize(settings).map_err(|e| unreadable(&e))?;
        if settings.mer_id.len() != 15
            || !settings.mer_id.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return Err(SettingsError::new(
                "mer_id",
                "must be 15 letters and digits",
            ));
        }

        let base = settings.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL);
        // In production any merchant's certificate would pass for UnionPay's without its name.
        let is_production = base.contains("95516.com") && !base.contains(".test.95516.com");

        if is_production && settings.validate_cn == Some(false) {
            return Err(SettingsError::new(
                "validate_cn",
                "can be false in UnionPay's test environment only",
            ));
        }

        let client =
            Client::new(base, way).map_err(|e| SettingsError::new("base_url", e.to_string()))?;
        let method = match settings.sign_method.as_deref() {
            None | Some(BY_CERTIFICATE) => by_certificate(&settings)?,
            Some(BY_SHARED_KEY) => Method::Shared(SharedKey::new(required(
                "secure_key",
                settings.secure_key.as_deref(),
            )?)),
            Some(_) => return Err(SettingsError::new("sign_method", "must be 01 or 11")),
        };

        Ok(Self {
            mer_id: settings.mer_id,
            method,
            client,
        })
    }
}

fn required<'a>(field: &str, value: Option<&'a str>) -> Result<&'a str, SettingsError> {
    value
        .filter(|value| !value.is_empty())
        .ok_or_else(|| SettingsError::new(field, "is missing"))
}

fn by_certificate(settings: &Settings) -> Result<Method, SettingsError> {
    let authority = |field: &str, value: Option<&str>| {
        let all = certificate::certificates(required(field, value)?).filter(|all| !all.is_empty());
        all.ok_or_else(|| SettingsError::new(field, "must be one or more certificates in PEM"))
    };
    let pair = Pair::read(
        required("pfx", settings.pfx.as_deref())?,
        settings.pfx_password.as_deref(),
    )?;
    let (signer, cert_id) = pair.chosen()?;
    let roots = authority("root_cert", settings.root_cert.as_deref())?;
    let middles = authority("middle_cert", settings.middle_cert.as_deref())?;

    if !certificate::is_chain(&roots, &middles) {
        let message = "none of these certificates was issued by one of root_cert: nothing that \
                       UnionPay signs would hold";
        return Err(SettingsError::new("middle_cert", message));
    }

    let authorities = Authorities::new(roots, middles, settings.validate_cn.unwrap_or(true));
    Ok(Method::Certificate {
        signer,
        cert_id,
        authorities,
    })
}

/// The merchant's keys and the certificates around them, in DER.
#[derive(Default)]
struct Pair {
    keys: Vec<Vec<u8>>,
    certificates: Vec<Vec<u8>>,
}

impl Pair {
    /// Base64 of a PKCS#12 file (new encryption, 3DES or RC2-40), or PEM.
    fn read(text: &str, password: Option<&str>) -> Result<Self, SettingsError> {
        if text.contains("-----BEGIN") {
            return Ok(Self::from_pem(text));
        }
        let der = BASE64
            .decode(unfolded(text))
            .map_err(|_| SettingsError::new("pfx", "not base64, and not PEM"))?;

        // The error may be the file's or the password's; it says nothing that should be passed on.
        let archive =
            Pkcs12Archive::from_pkcs12(&der, password.unwrap_or_default()).map_err(|_| {
                SettingsError::new("pfx", "not a PKCS#12 file, or not with this pfx_password")
            })?;

        Ok(Self {
            keys: archive
                .keys
                .iter()
                .map(|bag| bag.key.as_der().to_vec())
                .collect(),
            certificates: archive
                .certs
                .iter()
                .map(|bag| bag.cert.as_der().to_vec())
                .collect(),
        })
    }

    fn from_pem(text: &str) -> Self {
        let mut pair = Self::default();
        for block in Pem::iter_from_buffer(unfolded(text).as_bytes()).flatten() {
            match block.label.as_str() {
                "CERTIFICATE" => pair.certificates.push(block.contents),
                label if label.ends_with("PRIVATE KEY") => pair.keys.push(block.contents),
                _ => {}
            }
        }
        pair
    }

    /// The key and the serial number of its own certificate: older files hold certificates of
    /// strangers, too.
    fn chosen(&self) -> Result<(Signer, String), SettingsError> {
        let wrong = |why: &str| SettingsError::new("pfx", why);
        let [key] = self.keys.as_slice() else {
            return Err(wrong("must hold one private key"));
        };
        let signer = Signer::from_der(key).map_err(|e| wrong(&e.to_string()))?;
        let public = signer.public_key_der().map_err(|e| wrong(&e.to_string()))?;
        let own = self
            .certificates
            .iter()
            .find(|der| certificate::public_key(der).as_ref() == Some(&public));
        let cert_id = own.and_then(|der| certificate::serial(der));
        Ok((
            signer,
            cert_id.ok_or_else(|| wrong("holds no certificate of its private key"))?,
        ))
    }
}

/// serde repeats the value that it did not expect, which may be a key: only its first words are
/// kept.
fn unreadable(error: &serde_path_to_error::Error<serde_json::Error>) -> SettingsError {
    let message = error.inner().to_string();
    match message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next())
    {
        Some(field) => SettingsError::new(field, "is missing"),
        None => SettingsError::new(error.path().to_string(), "is of the wrong type"),
    }
}

//! API keys: what one may do, how it looks, and the digest that is stored in its place. A key is
//! 256 random bits, so a plain SHA-256 is enough.

use sha2::{Digest as _, Sha256};

use super::id::{self, NoRandomness};

/// What a key may do.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::EnumIter,
    serde::Serialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = KeyScope)]
pub enum Scope {
    /// Make, read and cancel payments.
    Pay,
    /// Give money back.
    Refund,
    /// Read everything about money.
    Finance,
    /// Accounts, routing, webhook endpoints, keys.
    Admin,
}

/// How many keys of a merchant may be in use in one mode.
pub const MAX_IN_USE: u64 = 100;
/// How long a key's name may be.
pub const MAX_NAME: usize = 64;

/// A new key's text. It is shown once, and stored nowhere.
///
/// # Errors
/// [`NoRandomness`].
pub fn secret(livemode: bool) -> Result<String, NoRandomness> {
    let mode = if livemode { "live" } else { "test" };
    Ok(format!("sk_{mode}_{}{}", id::token()?, id::token()?))
}

/// A key as it is stored.
#[must_use]
pub fn digest(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

/// How a key is called in the history of changes: the first characters of its digest.
#[must_use]
pub fn fingerprint(digest: &str) -> String {
    digest.chars().take(12).collect()
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The scopes of a row: words, separated by blanks.
#[must_use]
pub fn scopes(text: &str) -> Vec<Scope> {
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

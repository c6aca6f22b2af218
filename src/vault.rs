//! Seals credentials for the database: AES-256-GCM with a key that lies elsewhere. A stolen
//! database opens nothing.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::domain::id;

/// The key for stored credentials.
pub struct Vault {
    key: LessSafeKey,
}

/// Why something cannot be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The key is not 32 bytes in hex.
    #[error("the key for stored credentials must be 64 hexadecimal digits")]
    Key,
    /// Sealed with another key, or damaged.
    #[error("stored credentials cannot be opened with this key")]
    Open,
    /// The system has no randomness, or the cipher refused.
    #[error("credentials cannot be sealed")]
    Seal,
}

impl Vault {
    /// A vault with this key: 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`VaultError::Key`].
    pub fn new(hex: &str) -> Result<Self, VaultError> {
        let hex = hex.trim();
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(VaultError::Key);
        }
        let bytes: Vec<u8> = (0..32)
            .map(|i| {
                hex.get(2 * i..2 * i + 2)
                    .and_then(|h| u8::from_str_radix(h, 16).ok())
            })
            .collect::<Option<_>>()
            .ok_or(VaultError::Key)?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| VaultError::Key)?;
        Ok(Self {
            key: LessSafeKey::new(key),
        })
    }

    /// A new random key, as text.
    ///
    /// # Errors
    /// [`VaultError::Seal`] without randomness.
    pub fn new_key() -> Result<String, VaultError> {
        let bytes = id::random::<32>().map_err(|_| VaultError::Seal)?;
        Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
    }

    /// Seals `plain` for the account with this id; it opens for no other.
    ///
    /// # Errors
    /// [`VaultError::Seal`].
    pub fn seal(&self, account_id: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let nonce = id::random::<NONCE_LEN>().map_err(|_| VaultError::Seal)?;
        let mut sealed = plain.to_vec();
        let aad = Aad::from(account_id.as_bytes());
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .map_err(|_| VaultError::Seal)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed for this account.
    ///
    /// # Errors
    /// [`VaultError::Open`].
    pub fn open(&self, account_id: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(VaultError::Open)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Open)?;
        let mut body = body.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(account_id.as_bytes()), &mut body)
            .map_err(|_| VaultError::Open)?;
        Ok(plain.to_vec())
    }
}

/// What is sealed to know the key again.
const CANARY: &str = "canary";
/// The fact about the installation that tells whether a key is the one; made with the installation,
/// and never again.
pub const CANARY_FACT: &str = "credentials_canary";

impl Vault {
    /// Something sealed with this key, as text: whoever can open it has the same key.
    ///
    /// # Errors
    /// [`VaultError::Seal`].
    pub fn canary(&self) -> Result<String, VaultError> {
        let sealed = self.seal(CANARY, CANARY.as_bytes())?;
        Ok(sealed.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether this was sealed with this key.
    #[must_use]
    pub fn knows(&self, canary: &str) -> bool {
        let byte = |at: usize| {
            canary
                .get(at..at + 2)
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        };
        let sealed: Option<Vec<u8>> = (0..canary.len()).step_by(2).map(byte).collect();
        sealed.is_some_and(|sealed| self.open(CANARY, &sealed).is_ok())
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_for_one_account_opens_only_for_it() {
        let vault = Vault::new(&Vault::new_key().unwrap()).unwrap();
        let sealed = vault.seal("acct_1", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_eq!(vault.open("acct_1", &sealed).unwrap(), b"secret");
        assert_eq!(vault.open("acct_2", &sealed), Err(VaultError::Open));
        let other = Vault::new(&Vault::new_key().unwrap()).unwrap();
        assert_eq!(other.open("acct_1", &sealed), Err(VaultError::Open));
        assert_eq!(vault.open("acct_1", b"short"), Err(VaultError::Open));
    }

    #[test]
    fn a_canary_is_known_by_its_own_key_alone() {
        let [one, other] = [(); 2].map(|()| Vault::new(&Vault::new_key().unwrap()).unwrap());
        let canary = one.canary().unwrap();
        assert!(one.knows(&canary) && !other.knows(&canary));
        for damaged in ["", "0", "zz", canary.get(2..).unwrap()] {
            assert!(!one.knows(damaged), "{damaged}");
        }
    }

    #[test]
    fn a_key_that_is_not_64_digits_is_refused() {
        for text in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            assert!(Vault::new(text).is_err(), "{text}");
        }
    }
}

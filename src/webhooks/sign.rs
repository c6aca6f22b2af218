//! Standard Webhooks signatures: HMAC-SHA-256 over `id.timestamp.body`. A merchant who rotates a
//! secret gets two signatures until the old one's time is over, and is right with either.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::domain::id::{self, NoRandomness};
use crate::domain::{Owner, Timestamp};
use crate::store::SealedSecrets;
use crate::vault::{Vault, VaultError};

/// What both sides know. Shown to people when it is made, and sealed in the database.
pub struct Secret([u8; 32]);

impl Secret {
    /// 256 random bits.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new() -> Result<Self, NoRandomness> {
        Ok(Self(id::random()?))
    }

    /// As merchants paste it into their receiver: `whsec_` and base64.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.0))
    }

    /// Sealed for its owner: an endpoint's id, or what [`notify_owner`] says.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn sealed(&self, vault: &Vault, owner: &str) -> Result<Vec<u8>, VaultError> {
        vault.seal(owner, &self.0)
    }

    /// Opens what was sealed for this owner.
    ///
    /// # Errors
    /// [`VaultError::Open`].
    pub fn open(vault: &Vault, owner: &str, sealed: &[u8]) -> Result<Self, VaultError> {
        vault
            .open(owner, sealed)?
            .try_into()
            .map(Self)
            .map_err(|_| VaultError::Open)
    }

    fn signature(&self, message: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(hmac(&self.0, message)))
    }
}

/// Keys are shorter than a block of SHA-256, and then filled up with zeros by definition.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block
        .iter_mut()
        .zip(key)
        .for_each(|(place, byte)| *place = *byte);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(message);
    mac.finalize().into_bytes().into()
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the secret of the webhooks to an owner's `notify_url`s is sealed for. Secrets lie in the
/// database sealed for this very text.
#[must_use]
pub fn notify_owner(owner: &Owner) -> String {
    format!("notify_url:{}:{}", owner.merchant, owner.is_live())
}

/// The secrets that are valid now: one, or two after a rotation.
#[derive(Debug)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Opens those that are valid at `now`.
    ///
    /// # Errors
    /// [`VaultError::Open`].
    pub fn open(
        vault: &Vault,
        owner: &str,
        sealed: &SealedSecrets,
        now: Timestamp,
    ) -> Result<Self, VaultError> {
        let mut secrets = vec![Secret::open(vault, owner, &sealed.secret)?];
        if let Some(old) = &sealed.old
            && sealed.old_until.is_some_and(|until| now < until)
        {
            secrets.push(Secret::open(vault, owner, old)?);
        }
        Ok(Self(secrets))
    }

    /// `webhook-signature` of a body that is sent under `id` at `at_s`, in seconds since 1970.
    #[must_use]
    pub fn signature(&self, id: &str, at_s: i64, body: &[u8]) -> String {
        let message = [format!("{id}.{at_s}.").as_bytes(), body].concat();
        let signatures: Vec<String> = self
            .0
            .iter()
            .map(|secret| secret.signature(&message))
            .collect();
        signatures.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_comes_out() {
        // From the specification's own test vectors.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = hmac(
            &key,
            br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#,
        );
        assert_eq!(
            STANDARD.encode(signed),
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn an_old_secret_signs_until_its_time_is_over() {
        let vault = Vault::new(&Vault::new_key().unwrap()).unwrap();
        let (new, old) = (Secret::new().unwrap(), Secret::new().unwrap());
        let sealed = SealedSecrets {
            secret: new.sealed(&vault, "we_1").unwrap(),
            old: Some(old.sealed(&vault, "we_1").unwrap()),
            old_until: Some(Timestamp(1000)),
        };

        let signatures = |now| {
            let secrets = Secrets::open(&vault, "we_1", &sealed, Timestamp(now)).unwrap();
            secrets
                .signature("evt_1", 7, b"{}")
                .split(' ')
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let one_by_one = [new.signature(b"evt_1.7.{}"), old.signature(b"evt_1.7.{}")];

        assert_eq!(signatures(999), one_by_one);
        assert_eq!(signatures(1000), one_by_one[..1]);
        assert!(
            Secrets::open(&vault, "we_2", &sealed, Timestamp(0)).is_err(),
            "sealed for somebody else"
        );

        assert!(
            new.shown().starts_with("whsec_") && !format!("{new:?}").contains(&new.shown()[6..])
        );
    }
}

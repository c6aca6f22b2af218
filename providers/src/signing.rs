//! RSA signatures and keys as providers hand them out: PKCS#1 v1.5 with SHA-256, PEM or bare
//! base64.

use aws_lc_rs::digest::{SHA256, digest};
use std::fmt;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::{
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Why a key cannot be used. Never repeats the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither PEM nor base64.
    #[error("not a PEM block and not base64")]
    Encoding,
    /// Decoded, but not an RSA key of the expected kind with at least 2048 bits.
    #[error("not an RSA key of at least 2048 bits")]
    NotRsa,
}

/// The signature is missing, malformed or does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not hold")]
pub struct BadSignature;

/// Our private key.
pub struct Signer {
    key: KeyPair,
    random: SystemRandom,
}

impl Signer {
    /// Reads a PKCS#8 or PKCS#1 private key, PEM or bare base64.
    ///
    /// # Errors
    /// [`KeyError`] when it is neither.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        Self::from_der(&decode(text)?)
    }

    /// Reads a PKCS#8 or PKCS#1 private key in DER.
    ///
    /// # Errors
    /// [`KeyError::NotRsa`] when it is neither.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let key = KeyPair::from_pkcs8(der)
            .or_else(|_| KeyPair::from_der(der))
            .map_err(|_| KeyError::NotRsa)?;
        Ok(Self {
            key,
            random: SystemRandom::new(),
        })
    }

    /// SHA256withRSA over `message`, in standard base64. Takes about 0.7 ms.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> String {
        let mut signature = vec![0; self.key.public_modulus_len()];
        // Signing fails only for a wrong buffer length; an empty signature is refused by every
        // verifier.
        match self
            .key
            .sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature)
        {
            Ok(()) => BASE64.encode(signature),
            Err(_) => String::new(),
        }
    }

    /// The public half as an X.509 SubjectPublicKeyInfo (DER), for the sandbox to hand out.
    ///
    /// # Errors
    /// [`KeyError::Encoding`] when the library cannot write it.
    pub fn public_key_der(&self) -> Result<Vec<u8>, KeyError> {
        let der: PublicKeyX509Der<'_> = self
            .key
            .public_key()
            .as_der()
            .map_err(|_| KeyError::Encoding)?;
        Ok(der.as_ref().to_vec())
    }

    /// The public half, for the sandbox and tests.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        let public = self.key.public_key();
        let components = RsaPublicKeyComponents {
            n: public.modulus().big_endian_without_leading_zero().to_vec(),
            e: public.exponent().big_endian_without_leading_zero().to_vec(),
        };
        Verifier(Key::Components(components))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

enum Key {
    Parsed(ParsedPublicKey),
    Components(RsaPublicKeyComponents<Vec<u8>>),
}

/// Somebody's public key.
pub struct Verifier(Key);

impl Verifier {
    /// Reads an X.509 SubjectPublicKeyInfo, PEM or bare base64.
    ///
    /// # Errors
    /// [`KeyError`] when it is not one.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        Self::from_der(&decode(text)?)
    }

    /// Reads an X.509 SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// [`KeyError::NotRsa`] when it is not one.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let key =
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).map_err(|_| KeyError::NotRsa)?;
        Ok(Self(Key::Parsed(key)))
    }

    /// Checks a base64 SHA256withRSA signature over `message`.
    ///
    /// # Errors
    /// [`BadSignature`] for everything but a match.
    pub fn verify(&self, message: &[u8], signature: &str) -> Result<(), BadSignature> {
        let signature = BASE64.decode(signature).map_err(|_| BadSignature)?;
        match &self.0 {
            Key::Parsed(key) => key
                .verify_sig(message, &signature)
                .map_err(|_| BadSignature),
            Key::Components(key) => key
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature)
                .map_err(|_| BadSignature),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

/// PEM as it is meant: on its way through environment variables, spreadsheets and editors it gets a
/// byte order mark, loses its line breaks, or has them written out as `\\n`.
pub(crate) fn unfolded(text: &str) -> String {
    let text = text
        .trim_start_matches('\u{feff}')
        .replace("\\r", "\n")
        .replace("\\n", "\n");
    let mut unfolded = String::with_capacity(text.len());
    // Between every second pair of dashes stands what a block is; between those, what is in it.
    for (nth, part) in text.split("-----").enumerate() {
        if nth % 2 == 1 {
            unfolded.extend(["\n-----", part, "-----\n"]);
        } else {
            unfolded.extend(part.split_whitespace());
        }
    }
    unfolded
}

/// DER from PEM (the first block) or from bare base64 with any white space.
fn decode(text: &str) -> Result<Vec<u8>, KeyError> {
    let text = unfolded(text);
    let body: String = text
        .lines()
        .map(str::trim)
        .skip_while(|l| text.contains("-----BEGIN") && !l.starts_with("-----BEGIN"))
        .skip_while(|l| l.starts_with("-----BEGIN"))
        .take_while(|l| !l.starts_with("-----END"))
        .collect();
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    if body.is_empty() {
        return Err(KeyError::Encoding);
    }
    BASE64.decode(body).map_err(|_| KeyError::Encoding)
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    digest(&SHA256, bytes.as_ref())
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_however_its_text_has_been_folded() {
        let signer =
            Signer::from_text(&crate::sandbox::secrets::rsa_private_keys::<1>().unwrap()[0])
                .unwrap();
        let bare = BASE64.encode(signer.public_key_der().unwrap());
        let lines: Vec<&str> = bare
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();

        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        );
        let signature = signer.sign(b"text");

        for (what, text) in [
            ("as it is", pem.clone()),
            ("bare", bare.clone()),
            ("Windows", pem.replace('\n', "\r\n")),
            ("a byte order mark", format!("\u{feff}{pem}")),
            ("breaks written out", pem.replace('\n', "\\n")),
            ("Windows' breaks written out", pem.replace('\n', "\\r\\n")),
            ("on one line", pem.replace('\n', " ")),
            ("on one line without blanks", pem.replace('\n', "")),
            ("bare and indented", format!("  {}  ", lines.join("\n   "))),
        ] {
            let key = Verifier::from_text(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(key.verify(b"text", &signature), Ok(()), "{what}");
        }
    }
}

//! What secrets are made of: private keys, digits and names by chance.

use std::fmt::Write as _;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// The machine gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes to be had for the sandbox's keys")]
pub struct NoRandomness;

/// Runs slow makers of keys on a thread each.
pub(super) fn side_by_side<T: Send>(
    makers: impl Iterator<Item = impl FnOnce() -> Result<T, NoRandomness> + Send>,
) -> Vec<Result<T, NoRandomness>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = makers.map(|make| scope.spawn(make)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err(NoRandomness)))
            .collect()
    })
}

/// `N` new RSA-2048 private keys, made side by side, as PKCS#8 PEM.
///
/// # Errors
/// [`NoRandomness`].
pub fn rsa_private_keys<const N: usize>() -> Result<[String; N], NoRandomness> {
    let pems: Result<Vec<String>, NoRandomness> = side_by_side((0..N).map(|_| rsa_private_key))
        .into_iter()
        .collect();
    pems?.try_into().map_err(|_| NoRandomness)
}

fn rsa_private_key() -> Result<String, NoRandomness> {
    let key = KeyPair::generate(KeySize::Rsa2048).map_err(|_| NoRandomness)?;
    let der = key.as_der().map_err(|_| NoRandomness)?;
    Ok(pem("PRIVATE KEY", der.as_ref()))
}

/// DER in PEM armour, 64 characters a line.
#[must_use]
pub fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// `count` random decimal digits.
///
/// # Errors
/// [`NoRandomness`].
pub fn digits(count: usize) -> Result<String, NoRandomness> {
    Ok(random_bytes(count)?
        .iter()
        .map(|b| char::from(b'0' + b % 10))
        .collect())
}

/// `count` random lower-case hexadecimal digits.
///
/// # Errors
/// [`NoRandomness`].
pub fn hex(count: usize) -> Result<String, NoRandomness> {
    let mut text = String::new();
    for byte in random_bytes(count.div_ceil(2))? {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(count);
    Ok(text)
}

fn random_bytes(count: usize) -> Result<Vec<u8>, NoRandomness> {
    let mut bytes = vec![0; count];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::Signer;

    #[test]
    fn generated_private_keys_can_be_read_and_differ() {
        let [a, b] = rsa_private_keys::<2>().unwrap();
        assert_ne!(a, b);
        for pem in [&a, &b] {
            let signer = Signer::from_text(pem).unwrap();
            assert_eq!(signer.verifier().verify(b"x", &signer.sign(b"x")), Ok(()));
        }
    }

    #[test]
    fn random_texts_have_the_length_and_alphabet_they_promise() {
        assert!(digits(16).unwrap().bytes().all(|b| b.is_ascii_digit()));
        assert_eq!(digits(16).unwrap().len(), 16);
        let text = hex(33).unwrap();
        assert!(text.len() == 33 && text.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}

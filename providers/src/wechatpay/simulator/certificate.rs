//! A self-signed X.509 certificate around the sandbox's platform key, written by hand because SDKs
//! in certificate mode want one and nothing else here does. It proves nothing to anybody outside
//! the sandbox.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::signing::Signer;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0C;
const UTC_TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, around the version.
const VERSION: u8 = 0xA0;
/// sha256WithRSAEncryption with its NULL parameter (RFC 4055).
const SHA256_WITH_RSA: [u8; 13] = [
    0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0B, 0x05, 0x00,
];
/// id-at-commonName (RFC 5280).
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
/// As long as two-digit years go: the face has no clock when it makes keys.
const NOT_BEFORE: &[u8] = b"200101000000Z";
const NOT_AFTER: &[u8] = b"491231235959Z";

/// The certificate in DER; `serial` in hexadecimal. `None` when the key cannot be written.
pub(super) fn self_signed(key: &Signer, serial: &str) -> Option<Vec<u8>> {
    let algorithm = tlv(SEQUENCE, &[&SHA256_WITH_RSA]);
    let common_name = tlv(
        SEQUENCE,
        &[&COMMON_NAME, &tlv(UTF8_STRING, &[b"Interlock sandbox"])],
    );
    let name = tlv(SEQUENCE, &[&tlv(SET, &[&common_name])]);
    let validity = tlv(
        SEQUENCE,
        &[&tlv(UTC_TIME, &[NOT_BEFORE]), &tlv(UTC_TIME, &[NOT_AFTER])],
    );
    let version = tlv(VERSION, &[&tlv(INTEGER, &[&[2]])]);
    let serial = tlv(INTEGER, &[&bytes(serial)?]);
    let public = key.public_key_der().ok()?;

    let content = tlv(
        SEQUENCE,
        &[
            &version, &serial, &algorithm, &name, &validity, &name, &public,
        ],
    );
    let signature = BASE64.decode(key.sign(&content)).ok()?;

    Some(tlv(
        SEQUENCE,
        &[&content, &algorithm, &tlv(BIT_STRING, &[&[0], &signature])],
    ))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok())
        .collect()
}

/// Tag, length and content; lengths up to 65,535.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [.., high, low] = content.len().to_be_bytes();
    let length = match (high, low) {
        (0, low) if low < 0x80 => vec![low],
        (0, low) => vec![0x81, low],
        (high, low) => vec![0x82, high, low],
    };
    [&[tag], length.as_slice(), &content].concat()
}

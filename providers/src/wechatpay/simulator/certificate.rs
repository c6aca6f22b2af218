//! A self-signed certificate around the sandbox's platform key, because SDKs in certificate mode
//! want one. It proves nothing to anybody outside the sandbox.

use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_RSA_SHA256, SerialNumber,
    date_time_ymd,
};

/// The certificate in PEM; `key` in PEM, `serial` in hexadecimal. `None` when the key cannot be
/// read.
pub(super) fn self_signed(key: &str, serial: &str) -> Option<String> {
    let mut params = CertificateParams::default();
    // The simulator has no clock when it makes keys, so this one lives long.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "Interlock sandbox");
    params.serial_number = Some(SerialNumber::from_slice(&bytes(serial)?));

    let key = KeyPair::from_pem_and_sign_algo(key, &PKCS_RSA_SHA256).ok()?;
    Some(params.self_signed(&key).ok()?.pem())
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok())
        .collect()
}

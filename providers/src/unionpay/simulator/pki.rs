//! A small certification authority, made with the sandbox's keys: a root, an authority under it,
//! UnionPay's own certificate and the merchant's. The names are shaped like the real ones, since
//! verifiers look at them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use p12_keystore::{
    EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, Pkcs12Archive, PrivateKey,
    PrivateKeyChain,
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber, date_time_ymd,
};
use serde::{Deserialize, Serialize};

use crate::sandbox::secrets::{NoRandomness, digits, hex, rsa_private_keys};
use crate::signing::Signer;

/// UnionPay's name stands in the third part.
const PLATFORM: &str = "041@8310000000083040@中国银联股份有限公司@00016495";
/// Iterations of the merchant's file: what OpenSSL takes, too.
const ITERATIONS: u32 = 2048;

/// The sandbox merchant and UnionPay's own key, as they are stored. All PEM but `pfx`, which is
/// base64.
#[derive(Serialize, Deserialize)]
pub(super) struct Keys {
    pub mer_id: String,
    pub root_cert: String,
    pub middle_cert: String,
    pub platform_private_key: String,
    pub platform_cert: String,
    pub merchant_cert: String,
    pub pfx: String,
    pub pfx_password: String,
    pub secure_key: String,
}

/// Makes everything. Any failure is one of the machine's randomness: nothing else is asked of it.
pub(super) fn make() -> Result<Keys, NoRandomness> {
    let [root_key, middle_key, platform_private_key, merchant_key] = rsa_private_keys()?;
    let mer_id = format!("777{}", digits(12)?);
    let pair = |pem: &str| KeyPair::from_pem(pem).map_err(|_| NoRandomness);
    let root = authority("INTERLOCK SANDBOX CS CA")?;
    let root_key = pair(&root_key)?;
    let root_cert = root.self_signed(&root_key).map_err(|_| NoRandomness)?;
    let root = Issuer::new(root, root_key);
    let middle = authority("INTERLOCK SANDBOX OCA1")?;
    let middle_key = pair(&middle_key)?;
    let middle_cert = middle
        .signed_by(&middle_key, &root)
        .map_err(|_| NoRandomness)?;
    let middle = Issuer::new(middle, middle_key);
    let platform = params(PLATFORM)?
        .signed_by(&pair(&platform_private_key)?, &middle)
        .map_err(|_| NoRandomness)?;
    let merchant = params(&format!("041@Z{mer_id}@{mer_id}:SIGN@00000001"))?;
    let merchant = merchant
        .signed_by(&pair(&merchant_key)?, &middle)
        .map_err(|_| NoRandomness)?;

    // Real ones have at most six characters.
    let pfx_password = hex(6)?;
    Ok(Keys {
        pfx: pfx(&pair(&merchant_key)?, merchant.der(), &pfx_password).ok_or(NoRandomness)?,
        root_cert: root_cert.pem(),
        middle_cert: middle_cert.pem(),
        platform_cert: platform.pem(),
        merchant_cert: merchant.pem(),
        secure_key: hex(32)?,
        platform_private_key,
        pfx_password,
        mer_id,
    })
}

/// The face has no clock when it makes keys, so these live long.
fn params(name: &str) -> Result<CertificateParams, NoRandomness> {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.distinguished_name.push(DnType::CountryName, "CN");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Interlock sandbox");
    params.distinguished_name.push(DnType::CommonName, name);
    // Five bytes, as real ones: some SDKs read them into a double.
    let random: Result<Vec<u8>, _> = (0..4)
        .map(|_| hex(2).map(|text| u8::from_str_radix(&text, 16).unwrap_or(1)))
        .collect();
    let serial = [vec![0x10], random?].concat();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn authority(name: &str) -> Result<CertificateParams, NoRandomness> {
    let mut params = params(name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// The merchant's key, out of its file.
pub(super) fn merchant_key(keys: &Keys) -> Option<Signer> {
    let archive =
        Pkcs12Archive::from_pkcs12(&BASE64.decode(&keys.pfx).ok()?, &keys.pfx_password).ok()?;
    Signer::from_der(archive.keys.first()?.key.as_der()).ok()
}

/// The merchant's key and certificate as the official SDK reads them: it opens nothing newer than
/// this encryption, and takes the first name in the file for the key's. So there is one name, and
/// none of an authority.
fn pfx(key: &KeyPair, certificate: &[u8], password: &str) -> Option<String> {
    let key = PrivateKey::from_der(key.serialized_der()).ok()?;
    let certificate = p12_keystore::Certificate::from_der(certificate).ok()?;
    let mut store = KeyStore::new();
    // The certificate bears its subject as a name, whatever the entry is called.
    let name = certificate.subject().to_owned();
    let entry = PrivateKeyChain::new(vec![1], key, vec![certificate]);
    store.add_entry(&name, KeyStoreEntry::PrivateKeyChain(entry));
    let writer = store
        .writer(password)
        .encryption_algorithm(EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc)
        .encryption_iterations(ITERATIONS)
        .mac_algorithm(MacAlgorithm::HmacSha1)
        .mac_iterations(ITERATIONS);
    Some(BASE64.encode(writer.write().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn times(wanted: &[u8], der: &[u8]) -> usize {
        der.windows(wanted.len())
            .filter(|bytes| *bytes == wanted)
            .count()
    }

    #[test]
    fn the_merchants_file_opens_where_only_the_old_encryption_does() {
        let keys = make().unwrap();
        let der = BASE64.decode(&keys.pfx).unwrap();
        // pbeWithSHAAnd3-KeyTripleDES-CBC for the key and for the certificates, PBES2 nowhere, and
        // a MAC of SHA-1.
        let triple_des = [
            0x06, 0x0A, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x0C, 0x01, 0x03,
        ];
        let pbes2 = [
            0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x05, 0x0D,
        ];
        let sha1 = [0x06, 0x05, 0x2B, 0x0E, 0x03, 0x02, 0x1A];
        assert_eq!(
            [
                times(&triple_des, &der),
                times(&pbes2, &der),
                times(&sha1, &der)
            ],
            [2, 0, 1]
        );

        let archive = Pkcs12Archive::from_pkcs12(&der, &keys.pfx_password).unwrap();
        let names: Vec<_> = archive
            .keys
            .iter()
            .map(|bag| bag.friendly_name.as_deref())
            .collect();
        let certificates: Vec<_> = archive
            .certs
            .iter()
            .map(|bag| bag.friendly_name.as_deref())
            .collect();
        assert_eq!(
            (names.len(), certificates),
            (1, names),
            "one name, that of the key"
        );

        // And so says somebody else, where there is one.
        let path = std::env::temp_dir().join(format!("interlock-{}.pfx", std::process::id()));
        std::fs::write(&path, &der).unwrap();
        let opened = Command::new("openssl")
            .args([
                "pkcs12",
                "-info",
                "-legacy",
                "-noout",
                "-passin",
                &format!("pass:{}", keys.pfx_password),
                "-in",
            ])
            .arg(&path)
            .output();
        std::fs::remove_file(&path).unwrap();
        let Ok(opened) = opened else { return };
        let said = String::from_utf8_lossy(&opened.stderr);
        assert!(opened.status.success(), "{said}");
        assert_eq!(
            said.matches("pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048")
                .count(),
            2,
            "{said}"
        );
        assert!(said.contains("MAC: sha1, Iteration 2048"), "{said}");
    }
}

//! What the official SDK really signed, believed and parsed (`tests/vectors/unionpay.json`): our
//! requests are signed identically, and we believe exactly what it believes.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use rcgen::string::TeletexString;
use rcgen::{CertificateParams, DnType, DnValue, Issuer, KeyPair};
use serde_json::{Value, json};

use super::certificate::{Authorities, Distrust, certificates};
use super::config::Account;
use super::sign::{Doubt, signed_text};
use super::wire::{Fields, parse_answer, parse_form, read_beijing};
use super::{PROTOCOL, notification};
use crate::http::Way;
use crate::notification::{Notice, RawNotification, Rejection};
use crate::sandbox::secrets::rsa_private_keys;

pub(super) fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/unionpay.json")).unwrap()
}

pub(super) fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member]
        .as_str()
        .unwrap_or_else(|| panic!("no {member}"))
}

pub(super) fn list<'a>(value: &'a Value, member: &str) -> &'a Vec<Value> {
    value[member].as_array().unwrap()
}

fn fields(value: &Value) -> Fields {
    let pair =
        |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_owned());
    value.as_object().unwrap().iter().map(pair).collect()
}

pub(super) fn now() -> DateTime<Utc> {
    read_beijing("20260701120500").unwrap()
}

/// The account of the vectors, with these members changed.
pub(super) fn settings(change: &Value) -> Value {
    let vectors = vectors();
    let keys = &vectors["keys"];
    let mut settings = json!({
        "mer_id": keys["mer_id"], "pfx": keys["merchant_modern_aes"],
        "pfx_password": keys["pfx_password"],
        "root_cert": keys["root"], "middle_cert": keys["middle"], "secure_key": keys["secure_key"],
    });
    settings
        .as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    settings
}

pub(super) fn account(change: &Value) -> Account {
    Account::read(settings(change), &Way::Open).unwrap()
}

/// The same, by the shared key.
pub(super) fn shared() -> Account {
    account(&json!({"sign_method": "11"}))
}

#[test]
fn requests_are_signed_like_the_official_sdk_signs_them() {
    let vectors = vectors();
    let mut counted = [0, 0];

    for vector in list(&vectors, "sign") {
        let method = text(&vector["params"], "signMethod");
        let account = account(&json!({"sign_method": method}));
        let mut expected = fields(&vector["params"]);
        expected.insert("signature".to_owned(), text(vector, "signature").to_owned());
        let signed = account.method.sign(fields(&vector["input"]));
        assert_eq!(
            signed_text(&signed),
            text(vector, "string_to_sign"),
            "{}",
            vector["id"]
        );
        assert_eq!(signed, expected, "{}", vector["id"]);
        counted[usize::from(method == "11")] += 1;
    }

    assert_eq!(counted, [12, 1]);
}

#[test]
fn a_key_is_read_from_new_and_old_files_and_from_pem() {
    let vectors = vectors();
    let keys = &vectors["keys"];
    let vector = &list(&vectors, "sign")[0];

    for file in [
        "merchant_modern_aes",
        "merchant_legacy_3des",
        "merchant_legacy_rc2",
    ] {
        let signed = account(&json!({"pfx": keys[file]}))
            .method
            .sign(fields(&vector["input"]));
        assert_eq!(signed["certId"], text(keys, "cert_id"), "{file}");
        assert_eq!(signed["signature"], text(vector, "signature"), "{file}");
        let error = Account::read(
            settings(&json!({"pfx": keys[file], "pfx_password": "000001"})),
            &Way::Open,
        )
        .unwrap_err();
        assert_eq!(error.field, "pfx", "{file}");
    }

    let [key] = rsa_private_keys().unwrap();
    let own = CertificateParams::default()
        .self_signed(&KeyPair::from_pem(&key).unwrap())
        .unwrap()
        .pem();

    // Strangers' certificates may stand before one's own; a key without its own is of no use.
    let stranger = text(keys, "merchant");
    account(&json!({"pfx": format!("{stranger}{key}{own}")}));
    let error = Account::read(
        settings(&json!({"pfx": format!("{key}{stranger}")})),
        &Way::Open,
    )
    .unwrap_err();

    assert_eq!(error.field, "pfx");
}

#[test]
fn answers_are_believed_as_the_official_sdk_believes_them() {
    let vectors = vectors();
    let mut believed = [0, 0];

    for answer in list(&vectors, "answers") {
        for (at, name) in ["strict", "relaxed"].into_iter().enumerate() {
            let account = account(&json!({"validate_cn": name == "strict",
                    "base_url": "https://gateway.test.95516.com"}));
            let checked = account.method.check(
                &parse_answer(text(answer, "body").as_bytes()).unwrap(),
                now(),
            );
            assert_eq!(
                checked.is_ok(),
                answer[name] == true,
                "{} {name}: {checked:?}",
                answer["id"]
            );
            believed[at] += usize::from(checked.is_ok());
        }
    }

    assert_eq!((list(&vectors, "answers").len(), believed), (15, [4, 5]));
}

#[test]
fn each_answer_that_is_not_believed_has_its_own_reason() {
    let vectors = vectors();

    for (id, reason) in [
        ("own-response-tampered-amount", Doubt::Signature),
        ("own-response-tampered-extra-field", Doubt::Signature),
        ("own-response-removed-field", Doubt::Signature),
        ("own-response-pem-lf", Doubt::Signature),
        (
            "own-response-wrong-cn-merchant-cert",
            Doubt::Certificate(Distrust::Name),
        ),
        ("own-response-test-cn", Doubt::Certificate(Distrust::Name)),
        (
            "own-response-evil-issuer",
            Doubt::Certificate(Distrust::Issuer),
        ),
        (
            "own-response-expired-leaf",
            Doubt::Certificate(Distrust::OutOfDate),
        ),
        ("own-response-no-cert", Doubt::Missing("signPubKeyCert")),
        ("own-response-bad-signature", Doubt::Signature),
        (
            "own-response-signature-missing",
            Doubt::Missing("signature"),
        ),
    ] {
        let answer = list(&vectors, "answers")
            .iter()
            .find(|a| a["id"] == id)
            .unwrap();
        let fields = parse_answer(text(answer, "body").as_bytes()).unwrap();
        assert_eq!(
            account(&json!({})).method.check(&fields, now()),
            Err(reason),
            "{id}"
        );
    }
}

#[test]
fn one_of_several_authorities_is_enough_and_sha_1_links_hold() {
    let vectors = vectors();
    let keys = &vectors["keys"];
    let both = |name: &str| {
        format!(
            "{}{}",
            text(keys, &format!("{name}_sha1")),
            text(keys, name)
        )
    };

    let chains = [
        json!({"root_cert": keys["root_sha1"], "middle_cert": keys["middle_sha1"]}),
        json!({"root_cert": both("root"), "middle_cert": both("middle")}),
        // An unrelated certificate before the right one.
        json!({"middle_cert": format!("{}{}", text(keys, "merchant"), text(keys, "middle"))}),
    ];

    for chain in chains {
        let account = account(&chain);
        for answer in list(&vectors, "answers").iter().take(2) {
            let fields = parse_answer(text(answer, "body").as_bytes()).unwrap();
            assert_eq!(
                account.method.check(&fields, now()),
                Ok(()),
                "{}",
                answer["id"]
            );
        }
    }

    let fields = parse_answer(text(&list(&vectors, "answers")[0], "body").as_bytes()).unwrap();
    let refused = Account::read(
        settings(&json!({"root_cert": keys["merchant"]})),
        &Way::Open,
    )
    .unwrap_err();

    assert_eq!(refused.field, "middle_cert");
    let of = |name| certificates(text(keys, name)).unwrap();
    let wrong = Authorities::new(of("merchant"), of("middle"), true);

    assert_eq!(
        wrong.check(&fields["signPubKeyCert"], now(), |_| ()),
        Err(Distrust::Issuer)
    );
}

/// The day comes from the caller, also for a certificate that was believed a moment ago.
#[test]
fn a_certificate_is_believed_on_its_days_only() {
    let vectors = vectors();
    let account = account(&json!({}));
    let fields = parse_answer(text(&list(&vectors, "answers")[0], "body").as_bytes()).unwrap();
    let late = Err(Doubt::Certificate(Distrust::OutOfDate));

    for (day, expected) in [
        ("20191231000000", late.clone()),
        ("20200102000000", Ok(())),
        ("20451231000000", Ok(())),
        ("20460103000000", late),
    ] {
        assert_eq!(
            account.method.check(&fields, read_beijing(day).unwrap()),
            expected,
            "{day}"
        );
    }
}

/// Older certificates write the name in the character set of teletex, which is how `@` gets into a
/// name at all.
#[test]
fn a_name_is_read_whatever_its_character_set() {
    let [root_key, middle_key, leaf_key] = rsa_private_keys().unwrap();
    let pair = |pem: &str| KeyPair::from_pem(pem).unwrap();
    let named = |value: DnValue| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, value);
        params
    };

    let root = named("root".into());
    let root_cert = root.self_signed(&pair(&root_key)).unwrap().der().to_vec();
    let root = Issuer::new(root, pair(&root_key));
    let middle = named("middle".into());
    let middle_cert = middle
        .signed_by(&pair(&middle_key), &root)
        .unwrap()
        .der()
        .to_vec();

    let middle = Issuer::new(middle, pair(&middle_key));
    for (name, strict) in [
        ("041@Z12@00040000:SIGN@00000062", Some(false)),
        ("00040000:SIGN@Z12@041@00000062", None),
        ("041@Z12@00040000:SIGN", Some(false)),
        ("041@Z12", None),
    ] {
        let name = DnValue::TeletexString(TeletexString::try_from(name).unwrap());
        let leaf = named(name.clone())
            .signed_by(&pair(&leaf_key), &middle)
            .unwrap()
            .pem();
        for is_strict in [true, false] {
            let authorities = Authorities::new(
                vec![root_cert.clone()],
                vec![middle_cert.clone()],
                is_strict,
            );
            let checked = authorities.check(&leaf, now(), |_| ());
            let expected = if strict == Some(is_strict) {
                Ok(())
            } else {
                Err(Distrust::Name)
            };
            assert_eq!(checked, expected, "{name:?} {is_strict}");
        }
    }
}

fn notified(account: &Account, body: &str) -> Result<Notice, Rejection> {
    let raw = RawNotification {
        headers: HeaderMap::new(),
        body: Bytes::from(body.to_owned()),
    };
    notification::read(account, &raw, now()).map(|told| told.into_inner().notice)
}

/// The method is the account's own: a message that is signed by another one is not believed,
/// however well.
#[test]
fn notifications_are_believed_by_the_method_of_the_account() {
    let vectors = vectors();
    let all = list(&vectors, "notifications");

    for vector in all {
        let fields = parse_form(text(vector, "body").as_bytes()).unwrap();
        assert_eq!(
            signed_text(&fields),
            text(vector, "string_to_sign"),
            "{}",
            vector["id"]
        );
    }

    let asks = Notice::Ask {
        order_no: "F20260701120000001".to_owned(),
        refund_no: None,
        says_done: true,
        amount: None,
    };

    for (account, believed) in [(account(&json!({})), 0), (shared(), 1)] {
        for (at, vector) in all.iter().enumerate() {
            let read = notified(&account, text(vector, "body"));
            if at == believed {
                assert_eq!(read, Ok(asks.clone()));
                let forged = text(vector, "body").replace("txnAmt=1000", "txnAmt=1001");
                assert_eq!(notified(&account, &forged), Err(Rejection::BadSignature));
                let twice = format!("{}&txnAmt=1", text(vector, "body"));
                assert!(matches!(
                    notified(&account, &twice),
                    Err(Rejection::Unsigned(_))
                ));
            } else {
                assert!(
                    matches!(read, Err(Rejection::UnknownKey(_))),
                    "{}: {read:?}",
                    vector["id"]
                );
            }
        }
    }

    let others = account(&json!({"mer_id": "777290058167152"}));
    let read = notified(&others, text(&all[0], "body"));

    assert_eq!(
        read,
        Err(Rejection::OtherAccount(
            "merId \"777290058167151\"".to_owned()
        ))
    );

    assert_eq!(all.len(), 3);
}

#[test]
fn answers_are_parsed_like_the_official_sdk_parses_them() {
    let vectors = vectors();
    for vector in list(&vectors, "parse") {
        let parsed = parse_answer(text(vector, "body").as_bytes());
        match vector["result"].as_object() {
            Some(_) => assert_eq!(parsed, Ok(fields(&vector["result"])), "{}", vector["id"]),
            None => assert!(parsed.is_err(), "{}: {parsed:?}", vector["id"]),
        }
    }
    assert_eq!(list(&vectors, "parse").len(), 13);
}

#[test]
fn a_wrong_setting_is_named_and_never_repeated() {
    let secret = "a secret that nobody may see";
    for (field, value) in [
        ("mer_id", json!("77729005816715")),
        ("mer_id", json!(777)),
        ("pfx", json!(secret)),
        ("pfx", json!("AAAA")),
        ("pfx", json!([secret])),
        ("root_cert", json!(secret)),
        ("middle_cert", json!("")),
        ("sign_method", json!("12")),
        ("validate_cn", json!(secret)),
        ("base_url", json!("ftp://127.0.0.1")),
    ] {
        let error = Account::read(settings(&json!({ field: value })), &Way::Open).unwrap_err();
        assert_eq!(error.field, field, "{value}");
        assert!(!error.to_string().contains(secret), "{error}");
    }

    let error = Account::read(
        settings(&json!({"sign_method": "11", "secure_key": null})),
        &Way::Open,
    )
    .unwrap_err();

    assert_eq!(
        (error.field.as_str(), error.message.as_str()),
        ("secure_key", "is missing")
    );

    assert!((PROTOCOL.open)(settings(&json!({})), &Way::Open).is_ok());
}

#[test]
fn the_name_in_certificates_is_checked_in_production_whatever_the_settings_say() {
    for (base_url, refused) in [
        ("https://gateway.95516.com", true),
        ("https://gateway.test.95516.com", false),
        ("http://127.0.0.1:8093", false),
    ] {
        let read = Account::read(
            settings(&json!({"validate_cn": false, "base_url": base_url})),
            &Way::Open,
        );
        assert_eq!(
            read.err().map(|e| e.field),
            refused.then(|| "validate_cn".to_owned()),
            "{base_url}"
        );
    }
}

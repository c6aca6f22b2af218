//! What merchants are told of what went wrong: words of ours for every code, in both languages, and
//! nothing of what a provider wrote.

use std::collections::BTreeMap;
use std::path::Path;

use interlock::payments::view::failure::{OWN, reason, words};
use providers::outcome::{Failure, FailureKind};
use providers::reason::Reason;
use reqwest::Method;
use serde_json::{Value, json};
use strum::IntoEnumIterator as _;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::helpers::{TestApp, barcode, order};

/// What no answer to a merchant may hold.
const MARKER: &str = "商户限额RAW-PROVIDER-WORDS";

fn kinds() -> [FailureKind; 8] {
    use FailureKind as K;
    [
        K::Network,
        K::Timeout,
        K::RateLimited,
        K::ServerError,
        K::Incompatible,
        K::Account,
        K::Request,
        K::Declined,
    ]
}

/// Says in two languages, in whole sentences, what happened.
fn has_words(reason: Reason) {
    let said = words(reason);
    assert!(
        said.en.is_ascii() && said.en.ends_with('.') && said.en.len() >= 20,
        "{reason}: {}",
        said.en
    );

    assert!(
        said.zh.ends_with('。') && said.zh.chars().count() >= 8,
        "{reason}: {}",
        said.zh
    );

    let chinese = said
        .zh
        .chars()
        .filter(|c| ('\u{4E00}'..='\u{9FFF}').contains(c))
        .count();

    assert!(chinese >= 6, "{reason}: {}", said.zh);
}

#[test]
fn every_code_of_every_provider_and_every_one_of_ours_has_words_in_both_languages() {
    let mut all = BTreeMap::new();
    for protocol in providers::PROTOCOLS {
        let mut codes = 0;
        for (code, listed) in protocol.reasons.rows() {
            let failure = Failure::new(FailureKind::Request, code, MARKER).because(Some(listed));
            assert_eq!(reason(&failure), listed, "{} {code}", protocol.name);
            has_words(listed);
            codes += 1;
        }
        assert!(codes >= 50, "{}: {codes}", protocol.name);
        all.insert(protocol.name.as_str(), codes);
    }

    let own: Vec<&str> = OWN
        .iter()
        .flat_map(|(_, codes)| codes.iter().copied())
        .collect();
    for code in &own {
        has_words(reason(&Failure::new(FailureKind::Request, *code, "")));
    }
    for kind in kinds() {
        has_words(reason(&Failure::new(kind, "nobody_has_listed_this", "")));
    }
    let mut texts: Vec<&str> = Reason::iter()
        .flat_map(|reason| [words(reason).en, words(reason).zh])
        .collect();
    let reasons = texts.len() / 2;
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 2 * reasons, "each has words of its own");

    println!("codes: {all:?}, ours: {}, reasons: {reasons}", own.len());
}

/// The codes that our own source makes failures with are all on the list of ours: a new one is not
/// forgotten.
#[test]
fn every_code_that_the_source_names_is_listed() {
    let mut found = Vec::new();
    for folder in ["src", "providers/src"] {
        collect(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
            &mut found,
        );
    }

    found.sort_unstable();
    found.dedup();
    assert!(found.len() >= 20, "{found:?}");

    let own: Vec<&str> = OWN
        .iter()
        .flat_map(|(_, codes)| codes.iter().copied())
        .collect();
    let missing: Vec<&String> = found
        .iter()
        .filter(|code| !own.contains(&code.as_str()))
        .collect();

    assert_eq!(missing, Vec::<&String>::new());
}

/// The codes in `Failure::new(kind, "code", …)` and in the adapters' shorter forms of it, tests and
/// stand-ins left out.
fn collect(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_left_out = name.contains("test")
            || ["memory.rs", "conformance.rs", "cli"].contains(&name.as_str());
        if path.is_dir() && !is_left_out {
            collect(&path, found);
        } else if name.ends_with(".rs") && !is_left_out {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            for (call, argument) in [
                ("Failure::new(", 1),
                ("incompatible(", 0),
                ("unknown(", 0),
                ("return Err((", 0),
            ] {
                found.extend(
                    code.split(call)
                        .skip(1)
                        .filter_map(|rest| literal(rest, argument)),
                );
            }
        }
    }
}

/// The argument at this place, if it is a code in quotes: small letters, digits and underscores.
fn literal(arguments: &str, place: usize) -> Option<String> {
    let argument = arguments.split(',').nth(place)?.trim();
    let code = argument.strip_prefix('"')?.strip_suffix('"')?;
    let is_code = !code.is_empty()
        && code
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    is_code.then(|| code.to_owned())
}

fn failure_of(payment: &Value) -> &Value {
    &payment["attempts"][0]["failure"]
}

/// Asserts that a failure says this, in both languages.
fn says(failure: &Value, code: &str, why: Reason, what: &str) {
    let said = words(why);
    assert_eq!(failure["code"], code, "{what}: {failure:#}");
    assert_eq!(failure["reason"], why.to_string(), "{what}: {failure:#}");
    assert_eq!(failure["param"].as_str(), said.param, "{what}: {failure:#}");
    assert_eq!(
        (&failure["message"], &failure["message_zh"]),
        (&json!(said.en), &json!(said.zh)),
        "{what}"
    );
}

/// What is said, how, and what it means.
type Row = (&'static str, &'static str, Reason);

/// For each provider: what it says of an offer, a charge, and a refund, and why that is.
const SAID: &[(&str, [Row; 3])] = &[
    (
        "alipay",
        [
            (
                "40004 ACQ.TOTAL_FEE_EXCEED",
                "ACQ.TOTAL_FEE_EXCEED",
                Reason::AmountLimitExceeded,
            ),
            (
                "40004 ACQ.BUYER_BALANCE_NOT_ENOUGH",
                "ACQ.BUYER_BALANCE_NOT_ENOUGH",
                Reason::InsufficientFunds,
            ),
            (
                "40004 ACQ.TRADE_HAS_FINISHED",
                "ACQ.TRADE_HAS_FINISHED",
                Reason::RefundPeriodOver,
            ),
        ],
    ),
    (
        "wechatpay",
        [
            (
                "400 PARAM_ERROR /description",
                "PARAM_ERROR",
                Reason::DescriptionRefused,
            ),
            (
                "400 AUTHCODEEXPIRE",
                "AUTHCODEEXPIRE",
                Reason::AuthCodeExpired,
            ),
            (
                "400 PARAM_ERROR /amount/refund",
                "PARAM_ERROR",
                Reason::RefundAmountExceeded,
            ),
        ],
    ),
    (
        "unionpay",
        [
            ("33", "33", Reason::AmountLimitExceeded),
            ("64", "64", Reason::InsufficientFunds),
            ("36", "36", Reason::RefundAmountExceeded),
        ],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_word_of_a_provider_reaches_a_merchant_and_ours_do() {
    let app = TestApp::without_breakers().await;
    let receiver = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(204))
        .mount(&receiver)
        .await;
    let mut answers = Vec::new();
    for (provider, [offer, charge, refund]) in SAID {
        let fault = async |call: &str, code: &str| {
            app.control.mend().await;
            let body = json!({"provider": provider, "call": call, "kind": "says", "code": code,
                "message": MARKER});
            app.control.fault(body).await;
        };
        let with_address = |mut body: Value| {
            body["providers"] = json!([provider]);
            body["notify_url"] = json!(receiver.uri());
            body
        };
        fault("create", offer.0).await;
        let failed = app.client.pay(&with_address(order())).await;
        assert_eq!(failed.expect(201)["status"], "failed");
        says(&failed.json()["failure"], offer.1, offer.2, provider);
        fault("create", charge.0).await;
        let mut body = with_address(barcode(provider, 0));
        body["wait"] = json!(0);
        let charged = app.client.pay(&body).await.json();
        let is_told = |payment: &Value| failure_of(payment).is_object();
        let charged = app
            .client
            .until(charged["id"].as_str().unwrap(), is_told)
            .await;
        says(failure_of(&charged), charge.1, charge.2, provider);
        // What nobody has listed is told by its kind.
        let new = [
            ("alipay", "40004 ACQ.BRAND_NEW"),
            ("wechatpay", "403 BRAND_NEW"),
            ("unionpay", "Z9"),
        ];
        let (_, code) = new.iter().find(|(name, _)| name == provider).unwrap();
        fault("create", code).await;
        let unlisted = app.client.pay(&with_address(order())).await;
        says(
            failure_of(&unlisted.json()),
            code.split(' ').next_back().unwrap(),
            Reason::AnswerUnreadable,
            provider,
        );

        app.control.mend().await;
        let paid = app.client.pay(&with_address(order())).await.expect(201);
        app.control.pay(&paid).await;
        let id = paid["id"].as_str().unwrap();
        app.client.until_status(id, "succeeded").await;
        fault("refund", refund.0).await;
        let refused = app.client.refund(id, 100).await;
        says(&refused.json()["failure"], refund.1, refund.2, provider);
        let after = app
            .client
            .until(id, |payment| payment["refunds"][0]["status"] == "failed")
            .await;
        says(
            &after["refunds"][0]["failure"],
            refund.1,
            refund.2,
            provider,
        );
        answers.extend([
            failed.bytes,
            charged.to_string().into_bytes(),
            unlisted.bytes,
            refused.bytes,
        ]);
    }
    // An account that is refused: its merchant reads why in the account as well.
    app.control.mend().await;
    for (provider, code) in [
        ("alipay", "40006 isv.insufficient-isv-permissions"),
        ("wechatpay", "403 NO_AUTH"),
        ("unionpay", "32"),
    ] {
        app.control
            .fault(
                json!({"provider": provider, "kind": "says", "call": "create", "code": code,
                "message": MARKER}),
            )
            .await;
        let mut body = order();
        body["providers"] = json!([provider]);
        answers.push(app.client.pay(&body).await.bytes);
    }
    for path in [
        "/v1/payments?limit=100",
        "/v1/refunds?limit=100",
        "/v1/events?limit=100",
        "/v1/accounts",
        "/v1/routes",
    ] {
        answers.push(app.client.get(path).await.bytes);
    }
    let told = async || {
        let told: Vec<Vec<u8>> = receiver
            .received_requests()
            .await
            .unwrap()
            .into_iter()
            .map(|r| r.body)
            .collect();
        let kinds = ["payment.failed", "refund.failed"];
        let has = |kind: &str| {
            told.iter()
                .filter(|body| String::from_utf8_lossy(body).contains(kind))
                .count()
        };
        (kinds.iter().all(|kind| has(kind) >= SAID.len())).then_some(told)
    };
    let began = std::time::Instant::now();
    let webhooks = loop {
        if let Some(told) = told().await {
            break told;
        }
        assert!(
            began.elapsed() < crate::helpers::PATIENCE,
            "webhooks of failures"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(
        webhooks
            .iter()
            .any(|body| String::from_utf8_lossy(body).contains(words(SAID[0].1[0].2).zh))
    );
    answers.extend(webhooks);
    for answer in &answers {
        let text = String::from_utf8_lossy(answer);
        assert!(
            !text.contains("RAW-PROVIDER-WORDS") && !text.contains("商户限额"),
            "{text}"
        );
    }
    // Those who run the gateway see it: the row keeps it, and so does the work list where an
    // account is refused.
    let work: Value =
        serde_json::from_slice(&app.client.get("/v1/operations?limit=100").await.bytes).unwrap();
    let entries = work["data"].as_array().unwrap();
    let refused = entries
        .iter()
        .filter(|entry| entry["kind"] == "account_refused");
    assert!(
        refused.clone().count() >= 3
            && refused
                .clone()
                .all(|entry| entry.to_string().contains(MARKER)),
        "{work:#}"
    );
    app.stop().await;
}

/// The document names the closed list.
#[tokio::test(flavor = "multi_thread")]
async fn the_document_lists_every_reason() {
    let app = TestApp::start().await;
    let document = app
        .client
        .send(Method::GET, "/openapi.json", None, None)
        .await
        .expect(200);
    let listed = document["components"]["schemas"]["Failure"]["properties"]["reason"]["enum"]
        .as_array()
        .unwrap();
    let names: Vec<Value> = Reason::iter()
        .map(|reason| json!(reason.to_string()))
        .collect();
    assert_eq!(*listed, names);
    app.stop().await;
}

//! The rows of code payments and their reversal.

use super::*;

const NO: &str = "IL00000001";

#[test]
fn every_documented_no_to_a_charge_has_its_outcome() {
    let bench = Bench::new();
    let rows = rows("codepay");
    assert!(rows.len() >= 60, "{}", rows.len());
    bench.table(
        &rows,
        |reply| charged(&bench.account, NO, reply),
        name_created,
    );
}

/// Only a signed word says that the account was never given the call; something in between may say
/// the same of a charge that was carried out.
#[test]
fn a_charge_that_does_not_exist_for_the_account_is_refused_by_a_signed_word_alone() {
    let bench = Bench::new();
    for answer in [
        bench.unsigned(404, "<html>404 page not found</html>"),
        bench.unsigned(404, ""),
        bench.unsigned(404, r#"{"code":"RESOURCE_NOT_EXISTS","message":"m"}"#),
        bench.signed(404, "<html>"),
    ] {
        let charge = name_created(&charged(&bench.account, NO, bench.verify(&answer)));
        assert_eq!(charge, "unknown incompatible", "{answer:?}");
    }
}

#[test]
fn the_state_of_a_charge_decides_and_not_the_status() {
    let bench = Bench::new();
    let charge = |status, body: &str| {
        name_created(&charged(
            &bench.account,
            NO,
            bench.verify(&bench.signed(status, body)),
        ))
    };

    for (status, state, expected) in [
        (200, "SUCCESS", "captured"),
        (202, "SUCCESS", "unknown incompatible"),
        (202, "USERPAYING", "waiting"),
        (200, "USERPAYING", "waiting"),
        (200, "PAYERROR", "unknown incompatible"),
        (202, "PAYERROR", "unknown incompatible"),
        (200, "NOTPAY", "unknown incompatible"),
        (200, "REVOKED", "unknown incompatible"),
        (201, "SUCCESS", "unknown incompatible"),
    ] {
        assert_eq!(
            charge(status, &transaction(state)),
            expected,
            "{status} {state}"
        );
    }

    for body in ["", "{}", "<html>"] {
        assert_eq!(charge(200, body), "unknown incompatible", "{body}");
        assert_eq!(charge(202, body), "unknown incompatible", "{body}");
    }
    for state in ["SUCCESS", "USERPAYING"] {
        let other = transaction(state).replace(NO, "IL00000002");
        assert_eq!(
            charge(200, &other),
            "unknown incompatible",
            "{state} of another order"
        );
    }

    for answer in [
        bench.unsigned(200, &transaction("SUCCESS")),
        bench.unsigned(202, &transaction("USERPAYING")),
    ] {
        assert_eq!(
            name_created(&charged(&bench.account, NO, bench.verify(&answer))),
            "unknown incompatible"
        );
    }
}

#[test]
fn every_documented_no_to_a_reversal_has_its_outcome() {
    Bench::new().table(
        &[
            (202, "USER_PAYING", "again declined"),
            (400, "USER_PAYING", "again declined"),
            (400, "INVALID_REQUEST", "again request"),
            (400, "INVALID_REQUEST/268435461", "again request"),
            (401, "SIGN_ERROR", "again account"),
            (403, "NO_AUTH", "again account"),
            (429, "FREQUENCY_LIMITED", "again rate_limited"),
            (404, "ORDER_NOT_EXIST", "not_found"),
            (400, "ORDER_NOT_EXIST", "unknown incompatible"),
            (400, "REVERSE_EXPIRE", "impossible request"),
            (400, "PARAM_ERROR", "impossible request"),
            (400, "INVALID_TRANSACTIONID", "impossible request"),
            (400, "REQUIRE_POST_METHOD", "impossible request"),
            (400, "APPID_MCHID_NOT_MATCH", "impossible account"),
            (400, "MCH_NOT_EXISTS", "impossible account"),
            (400, "TRADE_ERROR", "unknown request"),
            (400, "SYSTEM_ERROR", "unknown server_error"),
            (500, "SYSTEM_ERROR", "unknown server_error"),
            (500, "USER_PAYING", "unknown server_error"),
            (400, "ORDER_PAID", "unknown incompatible"),
            (400, "SOMETHING_NEW", "unknown incompatible"),
        ],
        |reply| reversed(&order(), reply),
        name_ended,
    );
}

#[test]
fn a_reversal_is_final_only_when_it_names_our_order() {
    let bench = Bench::new();
    let reversal = |answer: &HttpAnswer| name_ended(&reversed(&order(), bench.verify(answer)));
    let body = json!({"appid": "wxd678efh567hg6787", "mchid": "1900000109", "out_trade_no": NO})
        .to_string();
    assert_eq!(reversal(&bench.signed(200, &body)), "closed");
    assert_eq!(
        reversal(&bench.unsigned(200, &body)),
        "unknown incompatible"
    );

    assert_eq!(
        reversal(&bench.signed(200, &body.replace(NO, "IL00000002"))),
        "unknown incompatible"
    );

    for status in [201, 202, 204] {
        assert_eq!(
            reversal(&bench.signed(status, &body)),
            "unknown incompatible",
            "{status}"
        );
    }

    assert_eq!(reversal(&bench.signed(200, "{}")), "unknown incompatible");
}

/// What was recorded for an SDK in each mode: ours believes the one that is signed with the public
/// key.
#[test]
fn a_recorded_charge_is_captured_and_one_of_another_key_is_unknown() {
    let bench = Bench::new();
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../../tests/vectors/wechatpay.json")).unwrap();

    for (id, expected) in [
        ("py-pubkey/codepay", "captured"),
        ("py-cert/codepay", "unknown incompatible"),
    ] {
        let recorded = vectors["requests"]
            .as_array()
            .unwrap()
            .iter()
            .find(|r| r["id"] == id)
            .unwrap();
        let response = &recorded["response"];
        let mut answer = bench.unsigned(200, response["body"].as_str().unwrap());
        for (name, value) in response["headers"].as_object().unwrap() {
            let value = HeaderValue::from_str(value.as_str().unwrap()).unwrap();
            answer
                .headers
                .insert(HeaderName::try_from(name).unwrap(), value);
        }
        let signed_at = recorded["auth"]["timestamp"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let now = DateTime::from_timestamp(signed_at, 0).unwrap();
        let reply = Reply::verify(&bench.account, &answer, now);
        assert_eq!(
            name_created(&charged(&bench.account, "SBX20260105000035", reply)),
            expected,
            "{id}"
        );
        let reply = Reply::verify(&bench.account, &answer, now);
        assert_eq!(
            name_created(&charged(&bench.account, "SBX20260105000036", reply)),
            "unknown incompatible",
            "{id}"
        );
    }
}

//! Which addresses accounts may have, as configuration says it. Connections are tested where there
//! is a network.

use serde_json::json;

use super::*;
use crate::guard::System;

fn of(addresses: &[&str], networks: &[&str], live_is_played: bool) -> Addresses {
    let config = config::Providers {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        allow_networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
    };
    let lookup: Arc<dyn Lookup> = Arc::new(System);
    Addresses::of(&config, &lookup, live_is_played).unwrap()
}

fn ask(
    addresses: &Addresses,
    provider: &str,
    livemode: bool,
    base: Value,
) -> Result<String, String> {
    let protocol = providers::protocol(provider).unwrap();
    let mut settings = Map::from_iter([("base_url".to_owned(), base)]);
    addresses
        .way(protocol, livemode, &mut settings)
        .map(|way| {
            format!("{way:?} {}", settings["base_url"].as_str().unwrap())
                .split_whitespace()
                .next_back()
                .unwrap()
                .to_owned()
        })
        .map_err(|wrong| wrong.to_string())
}

fn runs(addresses: &Addresses, provider: &str, base: &str) {
    addresses.sandbox_runs(&Map::from_iter([(provider.to_owned(), base.into())]));
}

#[test]
fn live_accounts_are_called_where_money_is_real_and_test_accounts_nowhere_there() {
    let addresses = of(&[], &[], false);
    for (provider, live, test) in [
        (
            "alipay",
            "https://openapi.alipay.com",
            Some("https://openapi-sandbox.dl.alipaydev.com"),
        ),
        ("wechatpay", "https://api2.mch.weixin.qq.com", None),
        (
            "unionpay",
            "https://gateway.95516.com",
            Some("https://gateway.test.95516.com"),
        ),
    ] {
        assert_eq!(
            ask(&addresses, provider, true, json!(live)),
            Ok(live.to_owned())
        );
        let wrong = ask(&addresses, provider, false, json!(live)).unwrap_err();
        assert!(wrong.contains("providers.addresses"), "{wrong}");
        let Some(test) = test else { continue };
        assert_eq!(
            ask(&addresses, provider, false, json!(test)),
            Ok(test.to_owned())
        );
        let wrong = ask(&addresses, provider, true, json!(test)).unwrap_err();
        assert!(wrong.contains(live), "says which may be: {wrong}");
    }

    // Nobody's but its own provider's.
    assert!(
        ask(
            &addresses,
            "alipay",
            true,
            json!("https://gateway.95516.com")
        )
        .is_err()
    );

    // A slash at the end and the port that everybody has are the same address.
    for same in [
        "https://openapi.alipay.com/",
        "https://OpenAPI.alipay.com:443",
        " https://openapi.alipay.com ",
    ] {
        assert_eq!(
            ask(&addresses, "alipay", true, json!(same)),
            Ok("https://openapi.alipay.com".to_owned()),
            "{same}"
        );
    }
}

#[test]
fn an_account_without_an_address_gets_the_usual_one_of_its_mode() {
    let addresses = of(&[], &[], false);
    let completed = |provider: &str, livemode| {
        let mut settings = Map::new();
        addresses.complete(
            providers::protocol(provider).unwrap(),
            livemode,
            &mut settings,
        );
        settings
            .get("base_url")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };

    assert_eq!(
        completed("alipay", true).as_deref(),
        Some("https://openapi.alipay.com")
    );
    assert_eq!(
        completed("alipay", false).as_deref(),
        Some("https://openapi-sandbox.dl.alipaydev.com")
    );

    assert_eq!(
        completed("wechatpay", false),
        None,
        "it has no test address, and is refused by name"
    );

    runs(&addresses, "wechatpay", "http://127.0.0.1:8092");
    assert_eq!(
        completed("wechatpay", false).as_deref(),
        Some("http://127.0.0.1:8092")
    );

    assert_eq!(
        completed("wechatpay", true).as_deref(),
        Some("https://api.mch.weixin.qq.com")
    );
}

#[test]
fn the_own_sandbox_is_for_test_accounts_while_it_runs() {
    let addresses = of(&[], &[], false);
    let face = "http://127.0.0.1:8091";
    assert!(ask(&addresses, "alipay", false, json!(face)).is_err());

    runs(&addresses, "alipay", face);
    assert_eq!(
        ask(&addresses, "alipay", false, json!(face)),
        Ok(face.to_owned())
    );

    for (provider, livemode, base) in [
        ("alipay", true, face),
        ("wechatpay", false, face),
        ("alipay", false, "http://127.0.0.1:8090"),
    ] {
        assert!(
            ask(&addresses, provider, livemode, json!(base)).is_err(),
            "{provider} {livemode} {base}"
        );
    }
}

#[test]
fn the_operator_adds_addresses_and_for_tests_networks() {
    let addresses = of(
        &[
            "alipay api https://pay.example",
            "unionpay api http://test.example",
        ],
        &["127.0.0.0/8"],
        false,
    );

    for (provider, livemode, base, allowed) in [
        ("alipay", true, "https://pay.example", true),
        ("alipay", false, "https://pay.example", true),
        ("alipay", false, "http://pay.example", false),
        ("alipay", true, "https://pay.example:8443", false),
        ("wechatpay", true, "https://pay.example", false),
        ("unionpay", false, "http://test.example", true),
        ("unionpay", true, "http://test.example", false),
        // Networks are for test accounts, and names are never in one before they are looked up.
        ("alipay", false, "http://127.0.0.1:9000", true),
        ("alipay", true, "http://127.0.0.1:9000", false),
        ("alipay", true, "https://127.0.0.1:9000", false),
        ("alipay", false, "http://localhost:9000", false),
        ("alipay", false, "http://10.0.0.1", false),
    ] {
        assert_eq!(
            ask(&addresses, provider, livemode, json!(base)).is_ok(),
            allowed,
            "{provider} {livemode} {base}"
        );
    }

    let played = of(&[], &["127.0.0.0/8"], true);
    assert!(
        ask(&played, "alipay", true, json!("http://127.0.0.1:9000")).is_ok(),
        "in drills"
    );
}

#[test]
fn a_configured_address_in_a_private_network_is_none() {
    let lookup: Arc<dyn Lookup> = Arc::new(System);
    for base in [
        "https://10.1.2.3",
        "http://127.1",
        "http://[::1]:8080",
        "https://169.254.169.254",
    ] {
        let addresses = vec![format!("alipay api {base}").parse().unwrap()];
        let config = config::Providers {
            addresses,
            allow_networks: Vec::new(),
        };
        let wrong = Addresses::new(&config, &lookup).unwrap_err().to_string();
        assert!(wrong.contains("providers.addresses"), "{wrong}");
    }
}

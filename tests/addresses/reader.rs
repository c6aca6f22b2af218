//! One reader of addresses: what one place takes, all take, and what one refuses, all refuse.

use std::time::Duration;

use interlock::config::Config;
use interlock::domain::webhook::{End, Mode};
use interlock::guard::Guard;
use interlock::webhooks::client::{Client as Sender, SignedRequest};
use providers::address;
use reqwest::Method;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::made;
use crate::helpers::guarded::Liar;
use crate::helpers::{Answer, TestApp, install_crypto, order};
use crate::switchover::settings;

/// An address and how it is written out; `None`: it is none.
fn addresses() -> Vec<(String, Option<&'static str>)> {
    let taken = [
        ("https://shop.example", "https://shop.example/"),
        ("https://shop.example/", "https://shop.example/"),
        ("HTTPS://Shop.Example:443", "https://shop.example/"),
        ("https://shop.example:8443", "https://shop.example:8443/"),
        ("  https://shop.example/ ", "https://shop.example/"),
        ("https://例子.example", "https://xn--fsqu00a.example/"),
        (
            "https://xn--fsqu00a.example",
            "https://xn--fsqu00a.example/",
        ),
        ("https://例子。example", "https://xn--fsqu00a.example/"),
        ("https://ＳＨＯＰ.example", "https://shop.example/"),
        ("https://münchen.example", "https://xn--mnchen-3ya.example/"),
        (
            "https://shop.example/hook/7?a=b&c=d",
            "https://shop.example/hook/7?a=b&c=d",
        ),
        (
            "https://例子.example/通知",
            "https://xn--fsqu00a.example/%E9%80%9A%E7%9F%A5",
        ),
        (
            "https://shop.example/?单=一",
            "https://shop.example/?%E5%8D%95=%E4%B8%80",
        ),
        (
            "https://shop.example/%E9%80%9A",
            "https://shop.example/%E9%80%9A",
        ),
        (
            "https://shop.example/🍵",
            "https://shop.example/%F0%9F%8D%B5",
        ),
        ("https://shop.example/a@b", "https://shop.example/a@b"),
    ];

    let refused = [
        "",
        "shop.example",
        "//shop.example/",
        "https:shop.example",
        "https:///shop.example",
        "https://",
        "https://:443/",
        "https://shop.example:99999/",
        "https://shop%2f.example/",
        "ftp://shop.example/",
        "ws://shop.example/",
        "javascript:alert(1)",
        "data:text/plain,x",
        "file:///etc/passwd",
        "https://shop.example/a b",
        "https://shop.example/a\u{3000}b",
        "https://shop.example/\u{0}",
        "https://shop.example/\r\nHost: x",
        "https://shop.ex\tample/",
        "https:\\\\shop.example",
        "https://shop.example\\@other.example/",
        "https://me@shop.example/",
        "https://me:secret@shop.example/",
        "https://@shop.example/",
        "https://shop.example/#",
        "https://shop.example#part",
        "https://shop.example/a#b",
    ];
    let long = ["x".repeat(2_048), "汉".repeat(300)]
        .map(|path| (format!("https://shop.example/{path}"), None));
    let taken = taken
        .into_iter()
        .map(|(text, out)| (text.to_owned(), Some(out)));

    taken
        .chain(refused.into_iter().map(|text| (text.to_owned(), None)))
        .chain(long)
        .collect()
}

/// Whether an answer of the API's took it; a refusal names the member.
fn took(answer: &Answer, param: &str, text: &str) -> bool {
    if answer.status.is_success() {
        return true;
    }
    let problem = answer.problem(422, "invalid_parameter", Some(param));
    assert!(
        !problem["detail"].as_str().unwrap().contains("secret"),
        "{text:?}: {problem}"
    );
    false
}

/// A configuration that takes it, or not.
fn configured(key: &'static str, value: &str) -> bool {
    Config::load(None, &[(key, value.to_owned())]).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_place_takes_all_take() {
    let listed = [
        "shop.example",
        "shop.example:8443",
        "xn--fsqu00a.example",
        "xn--mnchen-3ya.example",
    ];
    let listed = listed
        .map(|host| format!("alipay api https://{host}"))
        .join(",");
    let app = TestApp::with(&[("providers.addresses", &listed)]).await;

    let endpoint = app
        .client
        .post(
            "/v1/webhook_endpoints",
            "unused",
            &json!({"url": "https://first.example/"}),
        )
        .await;

    let endpoint = format!(
        "/v1/webhook_endpoints/{}",
        endpoint.expect(201)["id"].as_str().unwrap()
    );
    let patch = async |path: &str, body: Value| {
        app.client
            .send(
                Method::PATCH,
                path,
                None,
                Some(body.to_string().into_bytes()),
            )
            .await
    };

    let mut credentials = settings(&app, "alipay").await;
    let mut rows = Vec::new();

    for (number, (text, out)) in addresses().into_iter().enumerate() {
        let is_one = out.is_some();
        assert_eq!(
            address::read(&text).ok().as_ref().map(address::Url::as_str),
            out,
            "{text:?}"
        );
        let mut seen = Vec::new();
        for member in ["return_url", "notify_url"] {
            let mut body = order();
            body[member] = json!(text);
            seen.push((member, took(&app.client.pay(&body).await, member, &text)));
        }
        let changed = patch(&endpoint, json!({"url": text})).await;
        seen.push(("webhook endpoint, changed", took(&changed, "url", &text)));
        let made_now = app
            .client
            .post("/v1/webhook_endpoints", "unused", &json!({"url": text}))
            .await;
        seen.push(("webhook endpoint", took(&made_now, "url", &text)));
        if is_one {
            // As it was written where that is ASCII; else as all others see it.
            let kept = if text.is_ascii() {
                text.trim()
            } else {
                out.unwrap()
            };
            assert_eq!(
                (&changed.json()["url"], &made_now.json()["url"]),
                (&json!(kept), &json!(kept)),
                "{text:?}"
            );
            let path = format!(
                "/v1/webhook_endpoints/{}",
                made_now.json()["id"].as_str().unwrap()
            );
            app.client.send(Method::DELETE, &path, None, None).await;
        }
        // Accounts, and what an operator lists for them, have no path and no query.
        let is_bare = out.is_none_or(|out| out.matches('/').count() == 3 && out.ends_with('/'));
        if is_bare && !text.is_empty() {
            credentials["base_url"] = json!(text);
            credentials["app_id"] = json!(format!("20219999{number:08}"));
            let account = made(&app.client, "alipay", &credentials).await;
            seen.push(("account", took(&account, "credentials.base_url", &text)));
            seen.push((
                "providers.addresses",
                configured("providers.addresses", &format!("alipay api {text}")),
            ));
        }
        if !text.is_empty() {
            seen.push(("traces.otlp_url", configured("traces.otlp_url", &text)));
        }
        if !text.is_empty() && !text.contains('?') {
            seen.push(("server.public_url", configured("server.public_url", &text)));
        }
        let differ: Vec<_> = seen.iter().filter(|(_, taken)| *taken != is_one).collect();
        assert!(
            differ.is_empty(),
            "{text:?} is {}one, and not for {differ:?}",
            if is_one { "" } else { "n" }
        );
        rows.push(format!(
            "{:<6} {:>2} places  {}",
            if is_one { "taken" } else { "refused" },
            seen.len(),
            short(&text)
        ));
    }

    println!("{}", rows.join("\n"));
    assert!(rows.len() >= 40);
    app.stop().await;
}

fn short(text: &str) -> String {
    let shown = format!("{text:?}");
    shown.chars().take(60).collect()
}

/// A network that is nobody's on the internet stays shut, however its name is written; and what
/// leads to a payer's own browser is not ours to connect.
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_holds_whatever_an_address_looks_like() {
    let app = TestApp::with(&[("webhooks.allow_networks", "")]).await;
    for text in [
        "https://127.0.0.1/",
        "https://１２７.０.０.１/",
        "https://127。1/",
        "https://[::1]/",
        "https://0x7f.1/通知",
    ] {
        let mut body = order();
        body["notify_url"] = json!(text);
        app.client
            .pay(&body)
            .await
            .problem(422, "invalid_parameter", Some("notify_url"));
        let made = app
            .client
            .post("/v1/webhook_endpoints", "unused", &json!({"url": text}))
            .await;
        made.problem(422, "invalid_parameter", Some("url"));
        let mut body = order();
        body["return_url"] = json!(text);
        app.client.pay(&body).await.expect(201);
    }

    app.stop().await;
}

/// Written out once, and that is what is looked up, connected and asked for; also where it was kept
/// as it was written.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_goes_to_a_name_and_a_path_that_are_not_ascii() {
    install_crypto();
    let receiver = MockServer::start().await;

    Mock::given(any())
        .respond_with(ResponseTemplate::new(204))
        .mount(&receiver)
        .await;
    let liar = Liar::new(&[&["127.0.0.1"]]);
    let second = Duration::from_secs(3);
    let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()], true);
    let sender = Sender::new(guard, liar, second, second).unwrap();
    let port = receiver.address().port();
    let written = format!("http://例子.example:{port}/通知?单=一");
    let kept = address::kept(&written, &address::read(&written).unwrap());

    for url in [written, kept] {
        let letter = SignedRequest {
            url,
            mode: Mode::Standard,
            id: "evt_1".to_owned(),
            at: interlock::domain::Timestamp(0),
            signature: "v1,x".to_owned(),
            body: b"{}".to_vec(),
        };
        assert_eq!(sender.send(letter).await.end, End::Delivered);
    }

    let asked = receiver.received_requests().await.unwrap();
    assert_eq!(asked.len(), 2);
    for request in asked {
        assert_eq!(
            request.headers["host"],
            format!("xn--fsqu00a.example:{port}")
        );
        assert_eq!(
            (request.url.path(), request.url.query()),
            ("/%E9%80%9A%E7%9F%A5", Some("%E5%8D%95=%E4%B8%80"))
        );
    }
}

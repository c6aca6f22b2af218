//! Accounts whose answers can never be verified, and a gateway whose clock is wrong: who is told,
//! and who is not blamed.

use std::time::{Duration, Instant};

use interlock::api::auth::Scope;
use providers::sandbox::secrets::rsa_private_keys;
use providers::signing::Signer;
use reqwest::Method;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer};

use crate::helpers::facts::Facts;
use crate::helpers::{Answer, PATIENCE, TestApp, attempts, order};
use crate::switchover::{live_at, settings, signed};

/// Keys that are good ones, and somebody else's: nothing that the provider signs holds under them.
async fn strangers_keys(app: &TestApp, provider: &str) -> Value {
    let key = Signer::from_text(&rsa_private_keys::<1>().unwrap()[0]).unwrap();
    let public = providers::sandbox::secrets::pem("PUBLIC KEY", &key.public_key_der().unwrap());
    let mut settings = settings(app, provider).await;

    match provider {
        "alipay" => settings["alipay_public_key"] = public.into(),
        "wechatpay" => settings["public_key"] = public.into(),
        _ => {
            // Another installation's authorities.
            let theirs = providers::sandbox::keys::Keys::generate()
                .unwrap()
                .completed()
                .unwrap();
            let theirs = theirs.of(provider).unwrap();
            for member in ["root_cert", "middle_cert"] {
                settings[member] = theirs[member].clone();
            }
        }
    }

    settings
}

/// What the provider signs holds, and what is signed here is somebody else's.
async fn strangers_own_key(app: &TestApp, provider: &str) -> Value {
    let theirs = providers::sandbox::keys::Keys::generate()
        .unwrap()
        .completed()
        .unwrap();
    let theirs = theirs.of(provider).unwrap();
    let mut settings = settings(app, provider).await;
    let own: &[&str] = match provider {
        "alipay" => &["app_private_key"],
        "wechatpay" => &["private_key"],
        _ => &["pfx", "pfx_password"],
    };

    for member in own {
        assert_ne!(settings[member], theirs[member]);
        settings[member] = theirs[member].clone();
    }

    settings
}

const PROVIDERS: [&str; 3] = ["alipay", "wechatpay", "unionpay"];

async fn send(app: &TestApp, account: &str, settings: &Value) -> Answer {
    let body = json!({ "credentials": settings }).to_string().into_bytes();
    app.client
        .send(
            Method::PATCH,
            &format!("/v1/accounts/{account}"),
            None,
            Some(body),
        )
        .await
}

async fn shown(app: &TestApp, account: &str) -> Value {
    let list = app.client.get("/v1/accounts").await.expect(200);
    list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|a| a["id"] == account)
        .cloned()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_under_which_nothing_holds_are_refused_when_they_are_entered() {
    let app = TestApp::start().await;
    for provider in PROVIDERS {
        let strange = strangers_keys(&app, provider).await;
        let other = app.other_merchant(&[Scope::Admin]).await;
        let body = json!({"provider": provider, "name": "new", "credentials": strange})
            .to_string()
            .into_bytes();
        let made = other
            .send(Method::POST, "/v1/accounts", None, Some(body))
            .await;
        let problem = made.problem(422, "invalid_parameter", Some("credentials"));
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("not signed with the key"),
            "{provider}: {problem}"
        );
        assert_eq!(
            other.get("/v1/accounts").await.expect(200)["data"],
            json!([]),
            "{provider}"
        );

        let account = app.account(provider);
        send(&app, &account, &strange)
            .await
            .problem(422, "invalid_parameter", Some("credentials"));
        assert_eq!(shown(&app, &account).await["status"], "active");
        let mut body = order();
        body["providers"] = json!([provider]);
        app.client.pay(&body).await.expect(201);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_the_provider_does_not_know_are_refused_when_they_are_entered_but_for_a_wrong_clock()
 {
    let app = TestApp::start().await;
    for provider in PROVIDERS {
        let strange = strangers_own_key(&app, provider).await;
        let account = app.account(provider);
        let refused = send(&app, &account, &strange).await;
        let problem = refused.problem(422, "invalid_parameter", Some("credentials"));
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("refuses what is signed"),
            "{provider}: {problem}"
        );
        assert_eq!(shown(&app, &account).await["status"], "active");
        let mut body = order();
        body["providers"] = json!([provider]);
        app.client.pay(&body).await.expect(201);
    }

    // A sandbox that is far ahead finds everything too old.
    app.control.advance(400).await;
    let account = app.account("wechatpay");
    let good = settings(&app, "wechatpay").await;
    assert_eq!(
        send(&app, &account, &good).await.expect(200)["status"],
        "active"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_cannot_be_what_they_are_said_to_be_are_refused_without_asking() {
    let app = TestApp::start().await;
    let (alipay, wechatpay, unionpay) = (
        settings(&app, "alipay").await,
        settings(&app, "wechatpay").await,
        settings(&app, "unionpay").await,
    );

    let own_public = |private: &Value| {
        let signer = Signer::from_text(private.as_str().unwrap()).unwrap();
        json!(providers::sandbox::secrets::pem(
            "PUBLIC KEY",
            &signer.public_key_der().unwrap()
        ))
    };
    let cases = [
        (
            "alipay",
            &alipay,
            "alipay_public_key",
            own_public(&alipay["app_private_key"]),
        ),
        (
            "wechatpay",
            &wechatpay,
            "public_key",
            own_public(&wechatpay["private_key"]),
        ),
        (
            "unionpay",
            &unionpay,
            "middle_cert",
            unionpay["root_cert"].clone(),
        ),
    ];

    for (provider, settings, member, value) in cases {
        let mut settings = settings.clone();
        settings[member] = value;
        // A root signs itself: only a middle one from elsewhere is none of its chain.
        if provider == "unionpay" {
            let theirs = providers::sandbox::keys::Keys::generate()
                .unwrap()
                .completed()
                .unwrap();
            settings[member] = theirs.of(provider).unwrap()[member].clone();
        }
        let answer = send(&app, &app.account(provider), &settings).await;
        answer.problem(
            422,
            "invalid_parameter",
            Some(&format!("credentials.{member}")),
        );
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_entered_while_its_provider_was_away_is_set_aside_once_its_answers_do_not_hold()
 {
    for provider in PROVIDERS {
        let app = TestApp::without_breakers().await;
        let (account, second) = (
            app.account(provider),
            if provider == "alipay" {
                "wechatpay"
            } else {
                "alipay"
            },
        );
        app.client
            .route(&[&account, &app.account(second)])
            .await
            .expect(200);
        app.control
            .fault(json!({"provider": provider, "call": "query", "kind": "reset"}))
            .await;
        let strange = strangers_keys(&app, provider).await;
        assert_eq!(
            send(&app, &account, &strange).await.expect(200)["status"],
            "active",
            "nothing is proved"
        );
        app.control.mend().await;

        // Payers are served over the other account meanwhile.
        for _ in 0..3 {
            let payment = app.client.pay(&order()).await.expect(201);
            assert_eq!(
                attempts(&payment)[1],
                (second.to_owned(), "awaiting_payer".to_owned()),
                "{provider}"
            );
        }
        let began = Instant::now();
        while shown(&app, &account).await["status"] != "set_aside" {
            assert!(
                began.elapsed() < PATIENCE,
                "{provider}: {}",
                shown(&app, &account).await
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(
            shown(&app, &account).await["set_aside_reason"],
            "wrongly_signed"
        );
        let facts = Facts::of(&app).await;
        assert_eq!(
            facts
                .count("operations WHERE kind = 'account_refused'")
                .await,
            1
        );
        let next = app.client.pay(&order()).await.expect(201);
        assert_eq!(
            attempts(&next),
            [(second.to_owned(), "awaiting_payer".to_owned())],
            "{provider}"
        );
        app.stop().await;
    }
}

#[cfg(feature = "testing")]
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_clock_is_400_seconds_off_says_so_and_blames_no_account() {
    for ahead in [400_i64, -400] {
        let app = TestApp::start().await;
        app.client
            .route(&[
                &app.account("wechatpay"),
                &app.account("unionpay"),
                &app.alipay,
            ])
            .await
            .expect(200);
        if ahead > 0 {
            app.app().clock.jump(Duration::from_secs(400));
        } else {
            app.control.advance(400).await;
        }
        for _ in 0..4 {
            let payment = app.client.pay(&order()).await;
            assert!(
                [201, 202].contains(&payment.status.as_u16()),
                "{}",
                payment.json()
            );
            assert_ne!(payment.json()["status"], "failed", "{:#}", payment.json());
        }
        for provider in PROVIDERS {
            assert_eq!(
                shown(&app, &app.account(provider)).await["status"],
                "active",
                "{ahead}: {provider}"
            );
        }
        assert_eq!(
            Facts::of(&app).await.count("operations").await,
            0,
            "{ahead}: it is nobody's account"
        );
        let began = Instant::now();
        loop {
            let ready = app.client.get("/readyz").await.json();
            if (ready["providers_ahead_ms"].as_i64().unwrap() + ahead * 1_000).abs() < 5_000 {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{ahead}: {ready}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        app.stop().await;
    }
}

/// A provider that refuses the account outright, and whose clock shows another time: it would
/// refuse any account.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_refused_while_no_clock_is_near_ours_is_not_set_aside() {
    for (date, status) in [
        (Some("Thu, 01 Jan 2026 00:00:00 GMT"), "active"),
        (None, "set_aside"),
    ] {
        let app = TestApp::without_breakers().await;
        app.client.route(&[&app.alipay]).await.expect(200);
        let no =
            json!({"code": "40006", "msg": "?", "sub_code": "isv.insufficient-isv-permissions"});
        let mut answer = signed(&app, "alipay", 200, &no);
        if let Some(date) = date {
            answer = answer.insert_header("Date", date);
        }
        let server = MockServer::start().await;
        Mock::given(any()).respond_with(answer).mount(&server).await;
        live_at(&app, "alipay", &app.alipay, &server.uri()).await;
        let payment = app.client.pay(&order()).await.json();
        assert_eq!(
            payment["attempts"][0]["outcome"], "refused_account",
            "{payment:#}"
        );
        assert_eq!(shown(&app, &app.alipay).await["status"], status);
        app.stop().await;
    }
}

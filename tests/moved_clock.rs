//! `POST /clock` of the sandbox: a gateway with this sandbox inside goes along, in any build, or
//! nothing is moved.

use std::path::Path;
use std::time::Duration;

use interlock::api::auth::Scope;
use interlock::config::Config;
use interlock::directory::issue;
use interlock::domain::id::AccountId;
use interlock::domain::{AllOwners, Owner};
use interlock::server::{self, Running};
use interlock::store::AccountRow;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::{Client, install_crypto, order};

/// A gateway on an embedded database, with a sandbox inside.
async fn start(folder: &Path) -> (Running, Client) {
    install_crypto();
    let flags = [
        ("server.listen", "127.0.0.1:0".to_owned()),
        ("server.workers", "1".to_owned()),
        ("data.dir", folder.display().to_string()),
        ("sandbox.listen", "127.0.0.1:0".to_owned()),
        ("resolver.interval_ms", "50".to_owned()),
        ("payments.call_grace_ms", "10000".to_owned()),
    ];
    let running = server::start(Config::load(None, &flags).unwrap())
        .await
        .unwrap();
    let demo = running.demo.clone().unwrap();
    (running, Client::new(&demo.base_url, &demo.api_key))
}

async fn clock(running: &Running, body: Value) -> (u16, Value) {
    let url = format!("{}/clock", running.demo.as_ref().unwrap().sandbox_url);
    let http = providers::http::plain_client_builder().build().unwrap();
    let answer = http.post(url).body(body.to_string()).send().await.unwrap();
    let status = answer.status().as_u16();
    (
        status,
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap(),
    )
}

/// How far the gateway and its sandbox are apart, in milliseconds.
fn apart(running: &Running) -> i64 {
    let sandbox = running
        .sandbox
        .as_ref()
        .unwrap()
        .clock()
        .now()
        .timestamp_millis();
    (running.app.clock.now().utc().timestamp_millis() - sandbox).abs()
}

fn at(provider: &str) -> Value {
    let mut body = order();
    body["providers"] = json!([provider]);
    body["expires_in"] = 300.into();
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_the_sandbox_inside_goes_along_forward_and_after_a_restart() {
    let folder = TempDir::new().unwrap();
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    let (running, client) = start(folder.path()).await;
    let old = client.pay(&at("wechatpay")).await.expect(201);
    let (status, said) = clock(&running, json!({"advance_s": 900})).await;
    assert_eq!((status, &said["ahead_s"]), (200, &json!(900)), "{said}");
    assert!(apart(&running) < 1_000, "{}", apart(&running));
    client
        .until_status(old["id"].as_str().unwrap(), "expired")
        .await;

    // Every provider takes the time of requests that are made now.
    for provider in ["alipay", "wechatpay", "unionpay"] {
        let payment = client.pay(&at(provider)).await.expect(201);
        let pay = json!({"code": payment["next_action"]["qr"], "result": "paid"});
        let sandbox = &running.demo.as_ref().unwrap().sandbox_url;
        client
            .http
            .post(format!("{sandbox}/pay"))
            .body(pay.to_string())
            .send()
            .await
            .unwrap();
        let paid = client
            .until_status(payment["id"].as_str().unwrap(), "succeeded")
            .await;
        assert_eq!(paid["attempts"].as_array().unwrap().len(), 1, "{paid:#}");
    }
    for body in [
        json!({"advance_s": -1}),
        json!({"now": "2020-01-01T00:00:00Z"}),
        json!({"now": "9999-12-31T00:00:00Z"}),
        json!({"advance_s": 1, "now": "x"}),
    ] {
        assert_eq!(clock(&running, body.clone()).await.0, 422, "{body}");
    }
    assert!(apart(&running) < 1_000, "{}", apart(&running));

    running.stop().await;
    let (running, client) = start(folder.path()).await;
    assert!(
        running
            .sandbox
            .as_ref()
            .unwrap()
            .clock()
            .ahead()
            .num_seconds()
            >= 900
    );
    assert!(apart(&running) < 1_000, "{}", apart(&running));
    assert_eq!(
        client.pay(&at("wechatpay")).await.expect(201)["status"],
        "requires_action"
    );

    // Who wants the real time for live money does not get a clock that was moved.
    let merchant = &running.demo.as_ref().unwrap().merchant;
    let owner = Owner::of(merchant.parse().unwrap(), true);
    let key = issue::new_key(&running.app.store, &owner, &[Scope::Admin])
        .await
        .unwrap();
    let live = Client::new(&client.base, &key);
    let account = json!({"provider": "alipay", "name": "till", "credentials": {}});
    live.post("/v1/accounts", "account", &account)
        .await
        .problem(409, "clock_moved", None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_live_account_needs_the_real_time_nothing_is_moved() {
    let folder = TempDir::new().unwrap();
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();

    let (running, client) = start(folder.path()).await;
    let store = &running.app.store;
    let row = store.accounts(AllOwners).await.unwrap().remove(0);
    let live = AccountRow {
        id: AccountId::new().unwrap(),
        owner: Owner::of(row.owner.merchant.clone(), true),
        ..row
    };

    assert!(store.add_account(&live).await.unwrap());
    let before = running.app.clock.now();
    let (status, said) = clock(&running, json!({"advance_s": 900})).await;
    assert_eq!(status, 409, "{said}");
    assert!(
        said["error"].as_str().unwrap().contains("live account"),
        "{said}"
    );
    assert!(running.app.clock.now().since(before) < 60_000 && !running.app.clock.is_with_sandbox());

    assert_eq!(
        running
            .sandbox
            .as_ref()
            .unwrap()
            .clock()
            .ahead()
            .num_seconds(),
        0
    );

    assert_eq!(
        client.pay(&at("wechatpay")).await.expect(201)["status"],
        "requires_action"
    );

    let (status, said) = clock(&running, json!({"advance_s": 60, "alone": true})).await;
    assert_eq!((status, &said["ahead_s"]), (200, &json!(60)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(apart(&running) > 50_000, "the sandbox's alone");

    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_controls_nothing() {
    let folder = TempDir::new().unwrap();
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();

    let (running, client) = start(folder.path()).await;
    let sandbox = running.demo.as_ref().unwrap().sandbox_url.clone();

    for (origin, status) in [
        ("https://shop.example", 403),
        ("null", 403),
        (sandbox.as_str(), 200),
    ] {
        let asked = client
            .http
            .post(format!("{sandbox}/clock"))
            .header("Origin", origin)
            .body(r#"{"advance_s":1}"#);
        assert_eq!(asked.send().await.unwrap().status(), status, "{origin}");
    }

    assert_eq!(
        running
            .sandbox
            .as_ref()
            .unwrap()
            .clock()
            .ahead()
            .num_seconds(),
        1
    );

    running.stop().await;
}

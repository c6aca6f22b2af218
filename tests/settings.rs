//! Settings that are changed at the same moment: each change that was answered 200 stands, and what
//! one after the other would be refused is refused at once, too.

use futures_util::future::join_all;
use interlock::domain::id::AccountId;
use interlock::store::AccountRow;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::TestApp;

async fn patch(app: &TestApp, account: &str, body: Value) -> u16 {
    let path = format!("/v1/accounts/{account}");
    let answer = app
        .client
        .send(
            Method::PATCH,
            &path,
            None,
            Some(body.to_string().into_bytes()),
        )
        .await;
    answer.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_of_an_account_at_once_are_both_made() {
    let app = TestApp::start().await;
    let account = app.account("alipay");
    for round in 0..20 {
        let name = format!("shop {round}");
        let limits = json!({"limits": {"payment": {"max": 100_000 + round}}});
        let window = json!({"maintenance": [{"from": "02:00", "to": format!("03:{:02}", round)}]});
        let changes = [
            json!({"name": name}),
            json!({"fee_bps": round}),
            limits,
            window,
        ];
        let answers = join_all(
            changes
                .iter()
                .map(|body| patch(&app, &account, body.clone())),
        )
        .await;
        assert_eq!(answers, [200; 4]);

        let all = app.client.get("/v1/accounts").await.expect(200);
        let is_it = |a: &&Value| a["id"] == account.as_str();
        let now = all["data"].as_array().unwrap().iter().find(is_it).unwrap();
        assert_eq!(
            (
                &now["name"],
                &now["fee_bps"],
                &now["limits"]["payment"]["max"],
                &now["maintenance"][0]["to"],
            ),
            (
                &json!(name),
                &json!(round),
                &json!(100_000 + round),
                &json!(format!("03:{round:02}")),
            ),
            "{now:#}"
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_are_switched_off_at_once_leave_a_route() {
    let app = TestApp::start().await;
    let accounts = ["alipay", "wechatpay", "unionpay"].map(|provider| app.account(provider));
    let off = || json!({"status": "disabled"});
    let mut answers = join_all(accounts.iter().map(|id| patch(&app, id, off()))).await;
    answers.sort_unstable();
    assert_eq!(answers, [200, 200, 422]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_for_what_is_made_at_once() {
    let app = TestApp::start().await;
    let make = async |path: &'static str, body: Value| {
        let answer = app
            .client
            .send(
                Method::POST,
                path,
                None,
                Some(body.to_string().into_bytes()),
            )
            .await;
        answer.status.as_u16()
    };
    let endpoints = join_all((0..30).map(|n| {
        let url = format!("https://example.com/webhooks/{n}");
        make("/v1/webhook_endpoints", json!({"url": url, "events": []}))
    }))
    .await;
    let keys = join_all((0..120).map(|n| {
        make(
            "/v1/keys",
            json!({"name": format!("till {n}"), "scopes": ["pay"]}),
        )
    }))
    .await;

    let made = |answers: &[u16]| answers.iter().filter(|status| **status == 201).count();
    let refused = |answers: &[u16]| answers.iter().filter(|status| **status == 409).count();
    assert_eq!(
        (made(&endpoints), refused(&endpoints)),
        (20, 10),
        "{endpoints:?}"
    );
    assert_eq!(made(&keys) + refused(&keys), 120, "{keys:?}");
    assert!((50..=100).contains(&made(&keys)), "{keys:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_used_again_needs_room_as_a_new_one_does() {
    let app = TestApp::start().await;
    let (store, vault) = (&app.app().store, app.app().directory.vault());
    let own = store.account_of(&app.owner(), &app.alipay).await.unwrap();
    let own = own.unwrap();
    let plain = vault.open(&own.id, &own.credentials).unwrap();

    // With the three that there are, and one that is not used.
    let mut unused = own.id.clone();
    for number in 0..198 {
        let id = AccountId::new().unwrap();
        let account = AccountRow {
            credentials: vault.seal(&id, &plain).unwrap(),
            id: id.clone(),
            identity: format!("app {number}"),
            disabled: number == 0,
            ..own.clone()
        };
        assert!(store.add_account(&account).await.unwrap());
        if account.disabled {
            unused = id;
        }
    }
    app.app().directory.changed().await.unwrap();

    let active = json!({"status": "active"});
    assert_eq!(patch(&app, unused.as_str(), active.clone()).await, 409);
    let less = json!({"status": "disabled", "force": true});
    assert_eq!(patch(&app, own.id.as_str(), less).await, 200);
    assert_eq!(patch(&app, unused.as_str(), active).await, 200);
    app.stop().await;
}

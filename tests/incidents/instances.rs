//! Several gateways on one database, and one that starts again: an outage is one incident, told of
//! once.

use interlock::config::Config;
use interlock::server::{self, Running};
use tempfile::TempDir;

use super::{Chat, NO_BREAKERS, PARKED, ROBOTS, break_alipay, break_all, nothing, pay, wait};
use crate::helpers::facts::Facts;
use crate::helpers::{Client, TestApp, order};

const KEY: (&str, &str) = (
    "credentials.key",
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
);

/// A second gateway on the first one's PostgreSQL, with the same receivers.
async fn beside(
    app: &TestApp,
    chat: &Chat,
    folder: &TempDir,
    more: &[(&'static str, &str)],
) -> Running {
    let mut flags = vec![
        ("server.listen", "127.0.0.1:0".to_owned()),
        ("server.workers", "1".to_owned()),
        ("data.dir", folder.path().display().to_string()),
        ("database.url", app.database.clone()),
        ("database.connections", "4".to_owned()),
        ("sandbox.listen", app.control.url.clone()),
        ("resolver.interval_ms", "50".to_owned()),
        ("webhooks.allow_http", "true".to_owned()),
        ("webhooks.allow_networks", "127.0.0.0/8".to_owned()),
        (KEY.0, KEY.1.to_owned()),
    ];

    flags.extend(chat.flags());
    flags.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
    server::start(Config::load(None, &flags).unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_tell_of_an_outage_that_only_one_of_them_sees_once() {
    let chat = Chat::start().await;
    let app = chat.gateway(&[KEY]).await;

    if !app.database.starts_with("postgres") {
        println!("skipped on SQLite: its folder is locked, so a second gateway cannot start on it");
        return app.stop().await;
    }
    let folder = TempDir::new().unwrap();
    let other = beside(&app, &chat, &folder, &[]).await;

    // The other one has seen Alipay work, and nothing else ever since.
    let there = Client::new(&format!("http://{}", other.address), &app.client.key);
    assert_eq!(there.pay(&order()).await.expect(201)["provider"], "alipay");

    break_alipay(&app).await;
    chat.until(1, nothing).await;
    app.control.mend().await;

    // While one of them still sees it, the other one closes nothing.
    let facts = Facts::of(&app).await;
    let open = async || facts.count("incidents WHERE closed_at IS NULL").await;

    while super::gate(&app, "alipay") == "open" {
        assert_eq!(open().await, 1);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    chat.until(2, async || drop(pay(&app).await)).await;
    chat.heard_beginning_and_end(
        "支付宝 · 扫码支付：不可用",
        "Alipay · Scan a QR code: out of order",
    )
    .await;

    assert_eq!(facts.count("incidents").await, 1);
    other.stop().await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_that_see_the_same_tell_of_it_once() {
    let chat = Chat::start().await;
    let app = chat
        .gateway(&[KEY, NO_BREAKERS, PARKED[0], PARKED[1]])
        .await;

    if !app.database.starts_with("postgres") {
        println!("skipped on SQLite: its folder is locked, so a second gateway cannot start on it");
        return app.stop().await;
    }
    let folder = TempDir::new().unwrap();
    let other = beside(&app, &chat, &folder, &[NO_BREAKERS, PARKED[0], PARKED[1]]).await;
    break_all(&app).await;
    app.client.pay(&order()).await.expect(202);
    chat.until(1, nothing).await;
    app.control.mend().await;
    chat.until(2, nothing).await;

    // Whatever either of them still has to say is said before it stops.
    other.stop().await;
    chat.heard_beginning_and_end("等待中的支付", "Waiting payments")
        .await;
    let facts = Facts::of(&app).await;

    assert_eq!(
        (
            facts.count("incidents").await,
            facts.count("alerts WHERE tries = 1").await
        ),
        (1, 8)
    );

    let told = facts
        .rows("SELECT kind FROM incident_entries ORDER BY version")
        .await;
    let told: Vec<&str> = told
        .iter()
        .map(|row| row["kind"].as_str().unwrap())
        .collect();

    assert_eq!(told, ["opened", "closed"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_neither_repeats_nor_loses_a_message() {
    let chat = Chat::start().await;
    let app = chat.gateway(&[NO_BREAKERS, PARKED[0], PARKED[1]]).await;
    chat.refuse("feishu", u32::MAX);
    break_all(&app).await;
    let parked = app.client.pay(&order()).await.expect(202);
    let facts = Facts::of(&app).await;
    wait("three have taken it", async || {
        facts.count("alerts WHERE status = 'delivered'").await == 3
    })
    .await;
    wait("the fourth has refused it", async || {
        facts
            .count("alerts WHERE tries > 0 AND status = 'pending'")
            .await
            == 1
    })
    .await;
    facts.0.close().await.unwrap();
    let ground = app.leave().await;

    chat.refuse("feishu", 0);
    let refused = chat.heard("feishu").await.len();
    let flags = chat.flags();
    let mut flags: Vec<(&str, &str)> = flags
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    flags.extend([NO_BREAKERS, PARKED[0], PARKED[1]]);
    let app = TestApp::on(ground, &flags).await;
    let facts = Facts::of(&app).await;
    wait("the fourth has it", async || {
        facts.count("alerts WHERE status = 'delivered'").await == 4
    })
    .await;
    assert_eq!(facts.count("incidents").await, 1, "it is the same outage");
    app.control.mend().await;
    app.client
        .until_status(parked["id"].as_str().unwrap(), "requires_action")
        .await;
    wait("all have heard the end", async || {
        facts.count("alerts WHERE status = 'delivered'").await == 8
    })
    .await;
    for robot in ROBOTS {
        let more = if robot == "feishu" { refused } else { 0 };
        assert_eq!(chat.heard(robot).await.len(), 2 + more, "{robot}");
    }
    app.stop().await;
}

//! What became of an outage, by API and command line: its timeline, and its figures from the
//! payments' own rows.

use serde_json::{Value, json};

use super::{Chat, break_alipay, gate, nothing, pay, wait};
use crate::helpers::facts::Facts;
use crate::helpers::process::interlock;
use crate::helpers::{TestApp, fresh};
use interlock::api::auth::Scope;
use interlock::domain::{AllOwners, Owner};

async fn command(app: &TestApp, args: &[&str]) -> (bool, String) {
    let mut command = interlock();
    command
        .arg("incident")
        .args(args)
        .arg("--data")
        .arg(app.folder.path());

    if app.database.starts_with("postgres") {
        command.args(["--database", &app.database]);
    }
    let done = command.output().await.unwrap();
    let text = if done.status.success() {
        done.stdout
    } else {
        done.stderr
    };

    (done.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_can_be_looked_up_with_its_timeline_and_what_it_meant() {
    let chat = Chat::start().await;
    let app = chat.gateway(&[]).await;
    let met = break_alipay(&app).await;
    app.control.pay(&met[0]).await;
    app.client
        .until_status(met[0]["id"].as_str().unwrap(), "succeeded")
        .await;
    chat.until(1, nothing).await;

    let list = app
        .client
        .get("/v1/incidents?status=open")
        .await
        .expect(200);
    let [open] = list["data"].as_array().unwrap().as_slice() else {
        panic!("{list:#}")
    };
    assert_eq!(
        (&open["object"], &open["cause"], &open["severity"]),
        (&json!("incident"), &json!("provider_down"), &json!("page"))
    );
    assert_eq!(
        (&open["provider"], &open["flow"], &open["account"]),
        (&json!("alipay"), &json!("qr"), &Value::Null)
    );
    assert!(
        open.get("timeline").is_none() && open["closed_at"].is_null(),
        "{open:#}"
    );

    app.control.mend().await;
    wait("it is back", async || {
        pay(&app).await;
        gate(&app, "alipay") == "ramping"
    })
    .await;
    chat.until(2, nothing).await;
    let path = format!("/v1/incidents/{}", open["id"].as_str().unwrap());
    let over = app.client.get(&path).await.expect(200);
    assert_eq!(over["status"], "closed");
    let timeline: Vec<&str> = over["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["kind"].as_str().unwrap())
        .collect();
    let (first, last) = (timeline.first().copied(), timeline.last().copied());
    assert_eq!(
        (first, last),
        (Some("opened"), Some("closed")),
        "{timeline:?}"
    );
    let steps: Vec<&&str> = timeline
        .iter()
        .filter(|kind| ["answering", "ramping"].contains(kind))
        .collect();
    assert_eq!(steps, [&"answering", &"ramping"], "{timeline:?}");
    let count = i64::try_from(met.len()).unwrap();
    let figures = &over["payments"];
    assert_eq!(
        (&figures["affected"], &figures["switched"]),
        (&json!(count), &json!(count)),
        "{figures:#}"
    );
    assert_eq!(
        (
            &figures["recovered"],
            &figures["failed"],
            &figures["in_doubt"]
        ),
        (&json!(1), &json!(0), &json!(0))
    );
    assert_eq!(
        app.client
            .get("/v1/incidents?status=open")
            .await
            .expect(200)["data"],
        json!([])
    );

    // The operator's own view.
    let (good, text) = command(&app, &[open["id"].as_str().unwrap()]).await;
    assert!(
        good && text.contains("Alipay · Scan a QR code: out of order"),
        "{text}"
    );
    assert!(
        text.contains("takes a growing share") && text.contains(&format!("{count:>10}  affected")),
        "{text}"
    );
    let (good, text) = command(&app, &[]).await;
    assert!(
        good && text.lines().count() == 1 && text.contains("over"),
        "{text}"
    );
    let (good, text) = command(&app, &["inc_none"]).await;
    assert!(!good && text.contains("there is no incident"), "{text}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_sees_what_concerns_it_and_figures_of_its_own_payments() {
    let chat = Chat::start().await;
    let app = chat.gateway(&[]).await;
    break_alipay(&app).await;
    chat.until(1, nothing).await;
    let facts = Facts::of(&app).await;
    let id = facts.rows("SELECT id FROM incidents").await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/v1/incidents/{id}");

    // Somebody without an account there is not concerned.
    let stranger = app.other_merchant(&[Scope::Admin]).await;
    assert_eq!(
        stranger.get("/v1/incidents").await.expect(200)["data"],
        json!([])
    );
    stranger.get(&path).await.problem(404, "not_found", None);
    stranger
        .get(&format!("/v1/incidents?starting_after={id}"))
        .await
        .problem(422, "invalid_parameter", Some("starting_after"));

    // Somebody with one is, and has no payments that met it.
    let name = fresh("shop");
    let merchant = interlock::directory::issue::merchant(&app.app().store, &name)
        .await
        .unwrap();
    let sql = format!(
        "INSERT INTO accounts SELECT 'acct_other', '{merchant}', provider, 'other', name, \
        disabled, fee_bps, credentials, livemode, set_aside_until, set_aside_reason, created_at, \
        terms FROM accounts WHERE id = '{}'",
        app.alipay
    );
    let columns = "id, merchant_id, provider, identity, name, disabled, fee_bps, credentials, \
                   livemode, set_aside_until, set_aside_reason, created_at, terms";
    facts
        .execute(&sql.replacen(
            "accounts SELECT",
            &format!("accounts ({columns}) SELECT"),
            1,
        ))
        .await
        .unwrap();
    let sealed = app
        .app()
        .store
        .accounts(AllOwners)
        .await
        .unwrap()
        .into_iter()
        .find(|a| a.id == app.alipay)
        .unwrap();
    let plain = app
        .app()
        .directory
        .vault()
        .open(&app.alipay, &sealed.credentials)
        .unwrap();
    let own = app
        .app()
        .directory
        .vault()
        .seal("acct_other", &plain)
        .unwrap();
    let row = app
        .app()
        .store
        .accounts(AllOwners)
        .await
        .unwrap()
        .into_iter()
        .find(|a| a.id == "acct_other")
        .unwrap();
    let after = interlock::store::AccountRow {
        credentials: own,
        ..row.clone()
    };
    assert!(app.app().store.change_account(&row, &after).await.unwrap());
    app.app().directory.changed().await.unwrap();
    let key = interlock::directory::issue::new_key(
        &app.app().store,
        &Owner::of(merchant, false),
        &[Scope::Finance],
    )
    .await
    .unwrap();
    let other = crate::helpers::Client::new(&app.client.base, &key);
    let seen = other.get(&path).await.expect(200);
    assert_eq!(
        (&seen["cause"], &seen["payments"]["affected"]),
        (&json!("provider_down"), &json!(0)),
        "{seen:#}"
    );

    // Odd questions, and keys that may not ask.
    let cashier =
        interlock::directory::issue::new_key(&app.app().store, &app.owner(), &[Scope::Pay])
            .await
            .unwrap();
    crate::helpers::Client::new(&app.client.base, &cashier)
        .get(&path)
        .await
        .problem(403, "forbidden", None);
    app.client.get("/v1/incidents?status=old").await.problem(
        422,
        "invalid_parameter",
        Some("status"),
    );
    app.client.get("/v1/incidents?order_id=1").await.problem(
        422,
        "invalid_parameter",
        Some("order_id"),
    );
    app.client
        .get("/v1/incidents/inc_none")
        .await
        .problem(404, "not_found", None);
    let deleted = app
        .client
        .send(reqwest::Method::DELETE, &path, None, None)
        .await;
    deleted.problem(405, "method_not_allowed", None);
    app.stop().await;
}

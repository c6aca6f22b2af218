//! Key scope × call × whose key: every call of the API with real ids of one owner, by that owner's
//! keys, by keys of the same merchant in the other mode, and by keys of another merchant. The two
//! strangers are told the same: it is not there.

use std::time::{Duration, Instant};

use interlock::api::auth::Scope;
use interlock::directory::issue;
use interlock::domain::Owner;
use interlock::domain::id::{self, Kind, ReviewId};
use interlock::domain::incident::{Cause, Phase, Subject};
use interlock::store::IncidentRow;
use interlock::store::change::ReviewItem;
use reqwest::Method;
use serde_json::{Value, json};
use strum::IntoEnumIterator as _;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::calls::{self, About, Call, Things};
use crate::helpers::contract::Contract;
use crate::helpers::facts::Facts;
use crate::helpers::{Answer, Client, PATIENCE, TestApp, fresh, order};

/// Somebody, with a key of each scope and one of all.
struct Keys {
    name: &'static str,
    by_scope: Vec<(&'static str, Client)>,
}

impl Keys {
    async fn of(app: &TestApp, name: &'static str, owner: &Owner) -> Self {
        let all: Vec<Scope> = Scope::iter().collect();
        let mut sets: Vec<(&'static str, Vec<Scope>)> = all
            .iter()
            .map(|scope| ((*scope).into(), vec![*scope]))
            .collect();
        sets.push(("all", all));
        let mut by_scope = Vec::new();
        for (scope, scopes) in sets {
            let key = issue::new_key(&app.app().store, owner, &scopes)
                .await
                .unwrap();
            by_scope.push((scope, Client::new(&app.client.base, &key)));
        }
        Self { name, by_scope }
    }

    fn all(&self) -> &Client {
        &self.by_scope.last().unwrap().1
    }
}

/// Makes one thing of each kind, and waits until nothing of it changes by itself any more.
async fn things(app: &TestApp, owner: &Owner, client: &Client, hook: &str) -> Things {
    let accounts = client.get("/v1/accounts").await.expect(200)["data"].clone();
    let account = accounts
        .as_array()
        .unwrap()
        .iter()
        .find(|a| a["provider"] == "alipay")
        .unwrap()["id"]
        .clone();
    let account = account.as_str().unwrap().to_owned();
    for _ in 0..3 {
        client.route(&[&account]).await.expect(200);
    }
    let version = client.get("/v1/routing").await.expect(200)["version"]
        .as_i64()
        .unwrap();
    let endpoint = client
        .post("/v1/webhook_endpoints", "unused", &json!({"url": hook}))
        .await
        .expect(201);
    let paid = super::paid(app, client, &order()).await;
    let paid = paid["id"].as_str().unwrap().to_owned();
    let refund = client.refund(&paid, 100).await.expect(201);
    let refund = refund["id"].as_str().unwrap().to_owned();
    let (key, order) = (fresh("key"), order());
    let open = client.post("/v1/payments", &key, &order).await.expect(201);
    let operation = ReviewId::new().unwrap();
    let entry = ReviewItem {
        id: operation.clone(),
        owner: owner.clone(),
        kind: interlock::domain::operation::ReviewKind::NotificationMismatch,
        subject_id: paid.clone(),
        detail: "as a test wants it".to_owned(),
        created_at: app.app().clock.now(),
    };
    app.app().store.raise(&entry).await.unwrap();
    let incident = incident(app, &account).await;

    let facts = Facts::of(app).await;
    let began = Instant::now();
    let unsettled = [
        "refunds WHERE status = 'pending'",
        "events WHERE fan_out_at IS NOT NULL",
        "deliveries WHERE status <> 'delivered'",
    ];
    for what in unsettled {
        while facts.count(what).await > 0 {
            assert!(began.elapsed() < PATIENCE, "{what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let made = client
        .post(
            "/v1/keys",
            "unused",
            &json!({"name": "spare", "scopes": ["pay"]}),
        )
        .await
        .expect(201);
    let first = async |path: &str| {
        client.get(path).await.expect(200)["data"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    Things {
        event: first("/v1/events").await,
        delivery: first("/v1/deliveries").await,
        entry: first("/v1/ledger").await,
        open: open["id"].as_str().unwrap().to_owned(),
        endpoint: endpoint["id"].as_str().unwrap().to_owned(),
        paid,
        refund,
        account,
        operation: operation.into(),
        incident,
        api_key: made["id"].as_str().unwrap().to_owned(),
        version,
        key,
        order,
    }
}

/// An outage of this account.
async fn incident(app: &TestApp, account: &str) -> String {
    let (now, cause) = (app.app().clock.now(), Cause::AccountRefused);
    let row = IncidentRow {
        id: id::new(Kind::Incident).unwrap(),
        subject: Subject::Account("alipay".parse().unwrap(), account.parse().unwrap()),
        cause,
        severity: cause.severity(),
        first_severity: cause.severity(),
        phase: Phase::Ongoing,
        detail: json!({}),
        beats: 0,
        version: 1,
        reminders: 0,
        reminded_at: now,
        began_at: now,
        opened_at: now,
        raised_at: None,
        closed_at: None,
    };

    assert!(app.app().store.open_incident(&row).await.unwrap());
    row.id
}

/// What nobody else may change, past the gateway's code. What workers move by themselves (when a
/// payment is looked at next) is left out.
async fn rows(facts: &Facts, owner: &Owner) -> Vec<(&'static str, Vec<Value>)> {
    let whose = format!(
        "merchant_id = '{}' AND livemode = {}",
        owner.merchant,
        owner.is_live()
    );
    let mine = format!("payment_id IN (SELECT id FROM payments WHERE {whose})");
    let mut all = Vec::new();

    for (table, columns, which) in [
        (
            "payments",
            "id, order_id, amount, status, cancel_requested_at, round, notify_url",
            &whose,
        ),
        (
            "attempts",
            "id, account_id, status, disposition, captured, provider_order_no",
            &mine,
        ),
        (
            "refunds",
            "id, amount, status, merchant_refund_no, provider_refund_no",
            &whose,
        ),
        ("events", "id, type, payment_id", &whose),
        ("deliveries", "id, status, tries, fence, url", &whose),
        (
            "webhook_endpoints",
            "id, url, description, version, disabled_reason, old_secret_until",
            &whose,
        ),
        ("notify_secrets", "version, old_secret_until", &whose),
        (
            "operations",
            "id, kind, subject_id, resolved_at, resolution, proposal_id",
            &whose,
        ),
        (
            "routing",
            "version, changed_by, changed_at, restored_from",
            &whose,
        ),
        (
            "accounts",
            "id, name, identity, disabled, fee_bps, set_aside_until",
            &whose,
        ),
        ("api_keys", "id, scopes, revoked_at", &whose),
        ("ledger_entries", "payment_id, seq, hash", &whose),
        (
            "idempotency_keys",
            "operation, key, payment_id, resource_id, fingerprint",
            &mine,
        ),
    ] {
        let mut found = facts
            .rows(&format!("SELECT {columns} FROM {table} WHERE {which}"))
            .await;
        found.sort_by_key(Value::to_string);
        all.push((table, found));
    }

    all
}

async fn send(client: &Client, call: &Call) -> Answer {
    let method: Method = call.name.split(' ').next().unwrap().parse().unwrap();
    let key = call.key.clone().unwrap_or_else(|| fresh("key"));
    let body = call.body.as_ref().map(|body| body.to_string().into_bytes());
    client.send(method, &call.path, Some(&key), body).await
}

/// As the table shows an answer.
fn shown(answer: &Answer) -> String {
    let is_empty = answer.json()["data"].as_array().is_some_and(Vec::is_empty);
    format!(
        "{}{}",
        answer.status.as_u16(),
        if is_empty { " empty" } else { "" }
    )
}

/// What a stranger must be told, given what the owner's key of the same scope may do.
fn is_strange(
    call: &Call,
    is_allowed: bool,
    answer: &Answer,
    things: &Things,
) -> Result<(), String> {
    let status = answer.status.as_u16();
    if !is_allowed {
        return if status == 403 {
            Ok(())
        } else {
            Err("a key without the scope is told so before all else".to_owned())
        };
    }

    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    let right = match call.about {
        About::Thing | About::Removal => status == 404,
        About::List => status == 200 && answer.json()["data"] == json!([]),
        About::Cursor => status == 422 && answer.json()["param"] == "starting_after",
        About::Own | About::Public | About::Operators => status < 500,
    };

    // An answer may repeat what was asked for, and nothing else.
    let may_name = |id: &str| call.path.contains(id) || call.about == About::Operators;
    let named = things
        .ids()
        .into_iter()
        .find(|id| text.contains(*id) && !may_name(id));

    match (right, named) {
        (true, None) => Ok(()),
        (true, Some(id)) => Err(format!("it names {id}: {text}")),
        (false, _) => Err(text),
    }
}

/// What the owner's own key must be told.
fn is_own(call: &Call, answer: &Answer, is_spoken_of: bool) -> Result<(), String> {
    let status = answer.status.as_u16();
    let hidden = call.is_about_incidents() && !is_spoken_of;
    let right = match (call.about, status) {
        (_, 403) => true,
        (About::Thing, _) if hidden => status == 404,
        (About::List, _) if hidden => answer.json()["data"] == json!([]),
        (About::Cursor, _) if hidden => status == 422,
        (About::Thing, _) => status < 500 && status != 404,
        (About::Removal, _) => matches!(status, 204 | 404),
        (About::List, _) => status == 200 && answer.json()["data"] != json!([]),
        (About::Cursor, _) => status == 200,
        (About::Own | About::Public | About::Operators, _) => status < 500,
    };

    if right {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&answer.bytes).into_owned())
    }
}

/// Tries every call with the things of an owner in this mode, and prints what everybody was told.
async fn walk(live: bool) {
    let app = TestApp::start().await;
    let hook = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(200))
        .mount(&hook)
        .await;
    let stranger = issue::merchant(&app.app().store, &fresh("shop"))
        .await
        .unwrap();
    let (victim, other_mode) = (
        Owner::of(app.merchant.clone(), live),
        Owner::of(app.merchant.clone(), !live),
    );
    let other_merchant = Owner::of(stranger, live);
    app.accounts_for(&Owner::of(app.merchant.clone(), true))
        .await;
    app.accounts_for(&other_merchant).await;
    let own = Keys::of(&app, "own mode", &victim).await;
    let strangers = [
        Keys::of(&app, "other mode", &other_mode).await,
        Keys::of(&app, "other merchant", &other_merchant).await,
    ];
    let things = things(&app, &victim, own.all(), &hook.uri()).await;
    let calls = calls::calls(&things);
    calls::are_complete(&app.client, &calls).await;
    let contract = Contract::of(&app.client).await;

    // Strangers first: afterwards nothing of it has changed. What the owner may do by each scope is
    // seen then.
    let facts = Facts::of(&app).await;
    let before = rows(&facts, &victim).await;
    assert!(
        before
            .iter()
            .all(|(table, rows)| !rows.is_empty() || *table == "notify_secrets"),
        "{before:#?}"
    );
    let mut told: Vec<Vec<Vec<Answer>>> = Vec::new();
    for call in &calls {
        let mut by_stranger = Vec::new();
        for keys in &strangers {
            let mut by_scope = Vec::new();
            for (_, client) in &keys.by_scope {
                by_scope.push(send(client, call).await);
            }
            by_stranger.push(by_scope);
        }
        told.push(by_stranger);
    }
    assert_eq!(
        rows(&facts, &victim).await,
        before,
        "strangers have changed something"
    );

    let mode = if live { "live" } else { "test" };
    let (mut wrong, mut cells) = (Vec::new(), 0);
    println!(
        "owner in {mode} mode\n{:6} | {:48} | {:9} | {:10} | other merchant",
        "scope", "call", own.name, "other mode"
    );
    for (call, by_stranger) in calls.iter().zip(&told) {
        for (place, (scope, client)) in own.by_scope.iter().enumerate() {
            let answer = send(client, call).await;
            let is_allowed = answer.status.as_u16() != 403;
            let seen: Vec<&Answer> = by_stranger
                .iter()
                .map(|by_scope| &by_scope[place])
                .collect();
            let row: Vec<String> = seen.iter().map(|answer| shown(answer)).collect();
            println!(
                "{scope:6} | {:48} | {:9} | {:10} | {}",
                call.shown(),
                shown(&answer),
                row[0],
                row[1]
            );
            cells += 3;
            for answer in seen.iter().copied().chain([&answer]) {
                wrong.extend(contract.check(call.name, answer).err());
            }
            let mut check = |who: &str, verdict: Result<(), String>| {
                if let Err(what) = verdict {
                    wrong.push(format!("{scope} {} by {who}: {what}", call.shown()));
                }
            };
            // The installation speaks of live: there are live accounts.
            check(own.name, is_own(call, &answer, live));
            for (keys, answer) in strangers.iter().zip(seen) {
                check(keys.name, is_strange(call, is_allowed, answer, &things));
            }
        }
    }
    println!("{cells} cells");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_live_key_or_another_merchants_names_of_a_test_owner_is_not_there() {
    walk(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_test_key_or_another_merchants_names_of_a_live_owner_is_not_there() {
    walk(true).await;
}

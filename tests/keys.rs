//! API keys: made with no more than their maker may do, shown once, revoked everywhere within a
//! second, and what costs nothing: keys that nobody has.

mod command;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use interlock::api::auth::{Scope, digest};
use interlock::config::Config;
use interlock::directory::issue;
use interlock::domain::id::{self, Kind, ReviewId};
use interlock::domain::key;
use interlock::domain::operation::ReviewKind;
use interlock::domain::{Owner, Timestamp};
use interlock::server;
use interlock::store::KeyRow;
use interlock::store::change::ReviewItem;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::helpers::{Answer, Client, PATIENCE, TestApp, fresh, order, wire};

async fn make(client: &Client, name: &str, scopes: &[&str]) -> Answer {
    client
        .post(
            "/v1/keys",
            "unused",
            &json!({"name": name, "scopes": scopes}),
        )
        .await
}

async fn revoke(client: &Client, id: &str) -> Answer {
    client
        .send(Method::DELETE, &format!("/v1/keys/{id}"), None, None)
        .await
}

async fn listed(client: &Client) -> Vec<Value> {
    client.get("/v1/keys?limit=100").await.expect(200)["data"]
        .as_array()
        .unwrap()
        .clone()
}

fn with(client: &Client, key: &str) -> Client {
    Client {
        key: key.to_owned(),
        ..client.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_with_no_more_than_its_maker_may_do_and_shown_once() {
    let app = TestApp::start().await;
    let store = &app.app().store;
    let made = make(&app.client, "till 3", &["pay", "refund", "pay"])
        .await
        .expect(201);
    let secret = made["key"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("sk_test_"), "{made}");
    assert_eq!(made["scopes"], json!(["pay", "refund"]));
    assert_eq!(
        (&made["object"], &made["name"], &made["livemode"]),
        (&json!("key"), &json!("till 3"), &json!(false))
    );
    assert_eq!(
        made["fingerprint"].as_str().unwrap(),
        &digest(&secret)[..12]
    );
    let till = with(&app.client, &secret);
    till.pay(&order()).await.expect(201);
    till.get("/v1/keys").await.problem(403, "forbidden", None);

    let list = listed(&app.client).await;
    assert_eq!(
        (list.len(), &list[0]["id"], &list[1]["name"]),
        (2, &made["id"], &json!("demo"))
    );
    assert!(
        !json!(list).to_string().contains(&secret[8..]),
        "never again"
    );
    assert!(
        list[0]["last_used_at"].is_string() && list[0]["revoked_at"].is_null(),
        "{list:?}"
    );

    // A page at a time, and other merchants' keys and those of the other mode are nobody's.
    let page = app.client.get("/v1/keys?limit=1").await.expect(200);
    assert_eq!(
        (&page["data"][0]["id"], &page["has_more"]),
        (&made["id"], &json!(true))
    );
    let path = format!(
        "/v1/keys?limit=1&starting_after={}",
        made["id"].as_str().unwrap()
    );
    assert_eq!(
        app.client.get(&path).await.expect(200)["data"][0]["name"],
        "demo"
    );
    let all = [Scope::Pay, Scope::Refund, Scope::Admin];
    let stranger = app.other_merchant(&all).await;
    let live = with(
        &app.client,
        &issue::new_key(store, &Owner::of(app.merchant.clone(), true), &all)
            .await
            .unwrap(),
    );
    for other in [&stranger, &live] {
        revoke(other, made["id"].as_str().unwrap())
            .await
            .problem(404, "not_found", None);
        assert_eq!(listed(other).await.len(), 1);
        let path = format!("/v1/keys?starting_after={}", made["id"].as_str().unwrap());
        other
            .get(&path)
            .await
            .problem(422, "invalid_parameter", Some("starting_after"));
    }
    assert!(
        make(&live, "x", &["pay"]).await.expect(201)["key"]
            .as_str()
            .unwrap()
            .starts_with("sk_live_")
    );

    let admin = with(
        &app.client,
        &issue::new_key(store, &app.owner(), &[Scope::Admin])
            .await
            .unwrap(),
    );
    make(&admin, "x", &["admin", "pay"])
        .await
        .problem(403, "forbidden", Some("scopes"));
    make(&admin, "x", &["fly"])
        .await
        .problem(422, "invalid_parameter", Some("scopes"));
    make(&admin, "x", &[])
        .await
        .problem(422, "invalid_parameter", Some("scopes"));
    make(&admin, "", &["admin"])
        .await
        .problem(422, "invalid_parameter", Some("name"));
    let more = json!({"name": "x", "scopes": ["admin"], "livemode": true});
    admin.post("/v1/keys", "unused", &more).await.problem(
        422,
        "invalid_parameter",
        Some("livemode"),
    );
    till.post(
        "/v1/keys",
        "unused",
        &json!({"name": "x", "scopes": ["pay"]}),
    )
    .await
    .problem(403, "forbidden", None);

    let revoked = revoke(&app.client, made["id"].as_str().unwrap())
        .await
        .expect(200);
    assert!(
        revoked["revoked_at"].is_string() && revoked["key"].is_null(),
        "{revoked}"
    );
    assert!(
        revoked["last_used_at"].is_string(),
        "not written down yet, and not forgotten: {revoked}"
    );
    till.pay(&order())
        .await
        .problem(401, "unauthorized", Some("Authorization"));
    let again = revoke(&app.client, made["id"].as_str().unwrap())
        .await
        .expect(200);
    assert_eq!(again["revoked_at"], revoked["revoked_at"], "once");
    app.app().directory.note_uses().await.unwrap();
    let row = store
        .key_of(&app.owner(), made["id"].as_str().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert!(
        row.last_used_at.is_some(),
        "whoever revoked it wants to know"
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_has_so_many_keys_and_no_more() {
    let app = TestApp::start().await;
    let mut last = Value::Null;

    for number in listed(&app.client).await.len()..100 {
        last = make(&app.client, &format!("key {number}"), &["pay"])
            .await
            .expect(201);
    }

    make(&app.client, "one more", &["pay"])
        .await
        .problem(409, "too_many_keys", None);
    revoke(&app.client, last["id"].as_str().unwrap())
        .await
        .expect(200);
    make(&app.client, "in its place", &["pay"])
        .await
        .expect(201);

    app.stop().await;
}

const VAULT: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_works_nowhere_a_second_later_and_a_new_one_everywhere_at_once() {
    let app = TestApp::with(&[("credentials.key", VAULT)]).await;
    if !app.database.starts_with("postgres") {
        println!("skipped on SQLite: its folder is locked, so a second gateway cannot start on it");
        app.stop().await;
        return;
    }

    let folder = TempDir::new().unwrap();
    let flags = [
        ("server.listen", "127.0.0.1:0".to_owned()),
        ("server.workers", "1".to_owned()),
        ("data.dir", folder.path().display().to_string()),
        ("database.url", app.database.clone()),
        ("database.connections", "4".to_owned()),
        ("sandbox.listen", app.control.url.clone()),
        ("credentials.key", VAULT.to_owned()),
    ];

    let other = server::start(Config::load(None, &flags).unwrap())
        .await
        .unwrap();
    let there = format!("http://{}", other.address);

    for round in 0..5 {
        let made = make(&app.client, "short-lived", &["pay"]).await.expect(201);
        let key = made["key"].as_str().unwrap();
        let (at_one, at_other) = (with(&app.client, key), Client::new(&there, key));
        at_other.get("/v1/payments").await.expect(200);
        at_one.get("/v1/payments").await.expect(200);
        revoke(&app.client, made["id"].as_str().unwrap())
            .await
            .expect(200);
        let revoked = Instant::now();
        at_one
            .get("/v1/payments")
            .await
            .problem(401, "unauthorized", Some("Authorization"));
        while at_other.get("/v1/payments").await.status != 401 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!(
            "round {round}: revoked on the other gateway within {:?}",
            revoked.elapsed()
        );
        assert!(revoked.elapsed() < Duration::from_secs(1));
    }

    other.stop().await;
    app.stop().await;
}

/// A gateway that hears nothing from the database cannot know whether a key was revoked, and does
/// not believe in it for longer than a second.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_no_key_is_believed_for_longer_than_a_second() {
    let app = TestApp::start().await;
    app.client.get("/v1/accounts").await.expect(200);
    app.app().store.clone().close().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let answer = app.client.get("/v1/accounts").await;
    answer.problem(503, "service_unavailable", None);
    let stranger = Client {
        key: "sk_test_nobody".to_owned(),
        ..app.client.clone()
    };
    stranger
        .get("/v1/accounts")
        .await
        .problem(503, "service_unavailable", None);
    drop(app);
}

async fn stored(app: &TestApp, secret: &str) {
    let row = KeyRow {
        id: id::new(Kind::Key).unwrap(),
        owner: app.owner(),
        digest: digest(secret),
        name: None,
        scopes: "pay".to_owned(),
        root: None,
        created_at: Timestamp(0),
        last_used_at: None,
        revoked_at: None,
    };

    app.app()
        .store
        .add_key(&row, &id::token().unwrap())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_another_gateway_makes_works_at_once_although_it_was_asked_for_just_before() {
    let app = TestApp::start().await;
    for _ in 0..10 {
        let secret = key::secret(false).unwrap();
        let client = with(&app.client, &secret);
        client
            .get("/v1/payments")
            .await
            .problem(401, "unauthorized", Some("Authorization"));
        stored(&app, &secret).await;
        client.get("/v1/payments").await.expect(200);
    }

    // Also one that a program of before makes, which tells nobody.
    let secret = key::secret(false).unwrap();
    let client = with(&app.client, &secret);

    client
        .get("/v1/payments")
        .await
        .problem(401, "unauthorized", Some("Authorization"));
    let db = app.db().await;
    let sql = format!(
        "INSERT INTO api_keys (id, merchant_id, digest, scopes, livemode, created_at) \
         VALUES ('key_old', '{}', '{}', 'pay', FALSE, 1)",
        app.merchant,
        digest(&secret)
    );

    sea_orm::ConnectionTrait::execute_unprepared(&db, &sql)
        .await
        .unwrap();
    client.get("/v1/payments").await.expect(200);

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_nobody_has_cost_next_to_nothing_and_are_refused_before_that() {
    let limits = [
        ("admission.strangers_per_s", "1"),
        ("admission.strangers_burst", "100"),
    ];
    let app = TestApp::with(&limits).await;
    app.client.get("/v1/payments").await.expect(200);
    let (began, before) = (Instant::now(), app.app().directory.questions());
    let strangers = (0..400).map(|n| Client {
        key: format!("sk_test_{n}"),
        ..app.client.clone()
    });
    let answers =
        join_all(strangers.map(|client| async move { client.get("/v1/payments").await })).await;
    let took = began.elapsed();
    let asked = app.app().directory.questions() - before;
    let (unknown, too_many): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 401);

    println!(
        "{} unknown, {} too many, {asked} questions in {took:?}",
        unknown.len(),
        too_many.len()
    );

    assert!((100..=110).contains(&unknown.len()), "{}", unknown.len());
    for answer in too_many {
        answer.problem(429, "rate_limited", None);
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert!(
        u128::from(asked) <= took.as_millis() / 100 + 2,
        "{asked} questions in {took:?}"
    );

    // Who has a key, from the same address, does not notice.
    app.client.get("/v1/payments").await.expect(200);
    app.client.pay(&order()).await.expect(201);
    let text = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();

    assert!(
        text.contains("interlock_refused_total{reason=\"strangers\"}"),
        "counted"
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_for_accounts_that_nobody_has_and_with_unknown_keys_are_not_waited_for() {
    let app = TestApp::start().await;
    let calls = [
        ("/notifications/acct_nobody", None, 404),
        ("/notifications/acct_nobody/refund", None, 404),
        ("/v1/payments", Some("Bearer sk_test_nobody"), 401),
        ("/v1/accounts", Some("Bearer sk_test_nobody"), 401),
    ];

    for (path, key, status) in calls {
        let mut headers = vec![("Content-Length", "60000"), ("Idempotency-Key", "x")];
        headers.extend(key.map(|key| ("Authorization", key)));
        let mut stream = wire::connect(&app.client.base).await;
        stream
            .write_all(format!("{}\r\nnot all", wire::head("POST", path, &headers)).as_bytes())
            .await
            .unwrap();
        let began = Instant::now();
        let mut start = [0; 12];
        let reading = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut start);
        tokio::time::timeout(Duration::from_secs(3), reading)
            .await
            .expect("answered at once")
            .unwrap();
        assert_eq!(start, format!("HTTP/1.1 {status}").as_bytes(), "{path}");
        println!("{path}: {status} after {:?}", began.elapsed());
    }

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_persons_are_two_keys_of_which_neither_came_from_the_other() {
    let app = TestApp::start().await;
    let store = &app.app().store;
    let entry = ReviewItem {
        id: ReviewId::new().unwrap(),
        owner: app.owner(),
        kind: ReviewKind::WebhookFailing,
        subject_id: "we_gone_long_ago".to_owned(),
        detail: "x".to_owned(),
        created_at: Timestamp(0),
    };

    // A `notify_url` of a payment, whose entries do not end by themselves.
    let entry = ReviewItem {
        subject_id: "pay_gone".to_owned(),
        ..entry
    };

    store.raise(&entry).await.unwrap();
    let first = with(
        &app.client,
        &issue::new_key(store, &app.owner(), &[Scope::Admin])
            .await
            .unwrap(),
    );

    let second = with(
        &app.client,
        &issue::new_key(store, &app.owner(), &[Scope::Admin])
            .await
            .unwrap(),
    );
    let of = async |maker: &Client| {
        let made = make(maker, "another", &["admin"]).await.expect(201);
        with(&app.client, made["key"].as_str().unwrap())
    };
    let (daughter, sister) = (of(&first).await, of(&first).await);
    let grandchild = of(&daughter).await;
    let path = format!("/v1/operations/{}/resolve", entry.id);

    let say = async |person: &Client| {
        let word = json!({"action": "acknowledge", "evidence": "seen"});
        person.post(&path, &fresh("key"), &word).await
    };
    say(&daughter).await.expect(202);
    for same in [&first, &daughter, &sister, &grandchild] {
        say(same).await.problem(409, "second_person_needed", None);
    }
    say(&second).await.expect(200);

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_keys_were_used_is_written_without_a_payment_waiting_for_it() {
    let app = TestApp::start().await;
    let db = app.db().await;
    let noted = async |name: &str| {
        let sql = format!("SELECT last_used_at FROM api_keys WHERE name = '{name}'");
        let backend = sea_orm::ConnectionTrait::get_database_backend(&db);
        let statement = sea_orm::Statement::from_string(backend, sql);
        let row = sea_orm::ConnectionTrait::query_one_raw(&db, statement)
            .await
            .unwrap()
            .unwrap();
        row.try_get::<Option<i64>>("", "last_used_at").unwrap()
    };

    // Uses are written when the gateway starts, and once a minute: between two payments at most
    // once.
    let (mut name, mut till) = ("", app.client.clone());
    for again in ["first", "second"] {
        name = again;
        let made = make(&app.client, name, &["pay"]).await.expect(201);
        till = with(&app.client, made["key"].as_str().unwrap());
        till.pay(&order()).await.expect(201);
        if noted(name).await.is_none() {
            break;
        }
    }
    assert_eq!(noted(name).await, None, "not on the way of a payment");

    app.app().directory.note_uses().await.unwrap();
    let first = noted(name).await.unwrap();
    app.app().directory.note_uses().await.unwrap();
    assert_eq!(
        noted(name).await,
        Some(first),
        "nothing new, nothing written"
    );

    // What is known at the end is written, too.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    till.get("/v1/payments").await.expect(200);
    let ground = app.leave().await;
    let began = Instant::now();
    while noted(name).await.unwrap() <= first {
        assert!(began.elapsed() < PATIENCE);
    }

    drop(ground);
}

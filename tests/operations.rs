//! The work list: what needs a person, and two persons who decide about it. Money moves once,
//! whatever they do.

mod actions;
mod rules;

use interlock::api::auth::Scope;
use interlock::domain::id::ReviewId;
use interlock::store::change::ReviewItem;
use serde_json::{Value, json};

use crate::helpers::facts::Facts;
use crate::helpers::{Answer, Client, TestApp, fresh, order};

/// Past the life of an offer and the margin after it.
const PAST_DEADLINES_S: i64 = 1_025;

/// A key of the demo merchant's of its own: another person.
async fn person(app: &TestApp, scopes: &[Scope]) -> Client {
    let key = interlock::directory::issue::new_key(&app.app().store, &app.owner(), scopes)
        .await
        .unwrap();
    Client::new(&app.client.base, &key)
}

/// Two persons who may decide.
pub(crate) async fn two_persons(app: &TestApp) -> (Client, Client) {
    (
        person(app, &[Scope::Finance]).await,
        person(app, &[Scope::Admin]).await,
    )
}

/// The only open entry of this kind.
pub(crate) async fn only(client: &Client, kind: &str) -> Value {
    let began = std::time::Instant::now();

    loop {
        let list = client
            .get(&format!("/v1/operations?status=open&kind={kind}"))
            .await
            .expect(200);
        if let [entry] = list["data"].as_array().unwrap().as_slice() {
            return client
                .get(&format!("/v1/operations/{}", entry["id"].as_str().unwrap()))
                .await
                .expect(200);
        }
        assert!(
            began.elapsed() < crate::helpers::PATIENCE,
            "no {kind} on the list: {list:#}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
}

async fn say(person: &Client, entry: &Value, action: &str) -> Answer {
    let body = json!({"action": action, "evidence": "screenshot 4711 of the provider's console",
        "note": "seen today"});
    let path = format!("/v1/operations/{}/resolve", entry["id"].as_str().unwrap());
    person.post(&path, &fresh("key"), &body).await
}

/// Both persons say the same, and it is done.
pub(crate) async fn decide(persons: &(Client, Client), entry: &Value, action: &str) -> Value {
    let proposed = say(&persons.0, entry, action).await.expect(202);
    assert_eq!(
        (&proposed["status"], &proposed["proposal"]["action"]),
        (&json!("open"), &json!(action))
    );

    let done = say(&persons.1, entry, action).await.expect(200);
    assert_eq!(
        (&done["status"], &done["resolution"]),
        (&json!("resolved"), &json!(action)),
        "{done:#}"
    );

    assert_eq!(
        (&done["proposal"], &done["actions"]),
        (&Value::Null, &json!([]))
    );

    let kinds: Vec<&str> = done["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["kind"].as_str().unwrap())
        .collect();

    assert!(kinds.ends_with(&["proposed", "confirmed"]), "{done:#}");
    let [.., first, second] = done["history"].as_array().unwrap().as_slice() else {
        panic!("{done:#}")
    };
    assert_ne!(first["by"], second["by"]);

    done
}

/// The actions of an entry that are possible.
fn possible(entry: &Value) -> Vec<&str> {
    let all = entry["actions"].as_array().unwrap().iter();
    all.filter(|a| a["possible"] == true)
        .map(|a| a["action"].as_str().unwrap())
        .collect()
}

/// A payment whose money is held, since it is not what was asked for.
async fn held(app: &TestApp) -> (Value, Value) {
    app.client.route(&[&app.alipay]).await.expect(200);
    let payment = app.client.pay(&order()).await.expect(201);
    let id = payment["id"].as_str().unwrap();
    let facts = Facts::of(app).await;
    app.control
        .fault(json!({"provider": "alipay", "kind": "drop"}))
        .await;

    // As if we had asked for another amount than the provider has taken.
    facts
        .execute(&format!(
            "UPDATE attempts SET amount = 8887 WHERE payment_id = '{id}'"
        ))
        .await
        .unwrap();

    app.control.pay(&payment).await;
    app.advance(PAST_DEADLINES_S).await;
    app.client
        .until(id, |p| p["attempts"][0]["disposition"] == "held")
        .await;
    app.control.mend().await;

    (payment, only(&app.client, "capture_mismatch").await)
}

/// Puts something on the list.
async fn raise(app: &TestApp, kind: &'static str, subject_id: &str) {
    let entry = ReviewItem {
        id: ReviewId::new().unwrap(),
        owner: app.owner(),
        kind: kind.parse().unwrap(),
        subject_id: subject_id.to_owned(),
        detail: "as a test wants it".to_owned(),
        created_at: app.app().clock.now(),
    };
    app.app().store.raise(&entry).await.unwrap();
}

//! `/openapi.json` says what the API does: each type and each call has a name of its own, every
//! answer is described, lists take what is said of them, and clients that others make from it work.

mod clients;
mod names;
mod requests;

use interlock::api::auth::Scope;
use reqwest::Method;
use serde_json::{Value, json};
use strum::IntoEnumIterator as _;

use crate::helpers::contract::Contract;
use crate::helpers::{Answer, TestApp, barcode, fresh, order};

/// What one call was answered.
type Told = (&'static str, Answer);

/// Payments in every state that a merchant sees, as they are told when they are made, read and
/// listed.
async fn lives(app: &TestApp) -> Vec<Told> {
    let client = &app.client;
    let mut told: Vec<Told> = Vec::new();
    let paid = app.paid().await;
    let path = format!("/v1/payments/{}", paid["id"].as_str().unwrap());
    told.push((
        "POST /v1/payments/{id}/refunds",
        client.refund(paid["id"].as_str().unwrap(), 88).await,
    ));
    let refund = told[0].1.expect(201)["id"].as_str().unwrap().to_owned();
    told.push((
        "GET /v1/refunds/{id}",
        client.get(&format!("/v1/refunds/{refund}")).await,
    ));
    told.push(("GET /v1/payments/{id}", client.get(&path).await));
    told.push((
        "POST /v1/payments/{id}/cancel",
        client
            .post(&format!("{path}/cancel"), "unused", &json!({}))
            .await,
    ));

    // One that can be closed before anybody has opened it.
    let mut body = order();
    body["providers"] = json!(["wechatpay"]);
    let open = client.pay(&body).await;
    let id = open.expect(201)["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/payments/{id}");
    told.push(("POST /v1/payments", open));
    let again = client
        .post(
            &format!("{path}/offers"),
            &fresh("key"),
            &json!({"flow": "qr", "providers": ["wechatpay"]}),
        )
        .await;
    told.push(("POST /v1/payments/{id}/offers", again));
    let cancel = client
        .post(&format!("{path}/cancel"), "unused", &json!({}))
        .await;
    told.push(("POST /v1/payments/{id}/cancel", cancel));
    client.until_status(&id, "canceled").await;

    for provider in crate::helpers::charging_providers() {
        for mood in [0, 7, 8, 9] {
            let mut charge = barcode(provider, mood);
            charge["wait"] = json!(0);
            told.push(("POST /v1/payments", client.pay(&charge).await));
        }
    }
    // Nobody is there to take it.
    for account in ["alipay", "wechatpay", "unionpay"] {
        app.control
            .fault(json!({"provider": account, "kind": "refuse"}))
            .await;
    }
    for _ in 0..4 {
        told.push(("POST /v1/payments", client.pay(&order()).await));
    }
    for (call, path) in [
        ("GET /v1/payments", "/v1/payments?limit=100"),
        ("GET /v1/refunds", "/v1/refunds"),
        ("GET /v1/events", "/v1/events?limit=100"),
        ("GET /v1/ledger", "/v1/ledger"),
        ("GET /v1/ledger/balances", "/v1/ledger/balances"),
        ("GET /v1/routes", "/v1/routes"),
        ("GET /v1/accounts", "/v1/accounts"),
        ("GET /readyz", "/readyz"),
        ("GET /status", "/status"),
        ("GET /status.json", "/status.json"),
    ] {
        told.push((call, client.get(path).await));
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_as_it_is_described_in_every_state_that_it_is_shown_in() {
    let app = TestApp::start().await;
    let contract = Contract::of(&app.client).await;
    let told = lives(&app).await;
    let faults: Vec<String> = told
        .iter()
        .filter_map(|(call, answer)| contract.check(call, answer).err())
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    let list = &told
        .iter()
        .find(|(call, _)| *call == "GET /v1/payments")
        .unwrap()
        .1
        .json();
    let mut seen: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["status"].as_str().unwrap())
        .collect();
    seen.sort_unstable();
    seen.dedup();
    println!("{} answers, payments {seen:?}", told.len());
    for status in ["canceled", "created", "failed", "succeeded"] {
        assert!(seen.contains(&status), "{status}: {seen:?}");
    }
    app.stop().await;
}

/// A checker that lets everything pass would show nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_described_is_noticed() {
    let app = TestApp::start().await;
    let contract = Contract::of(&app.client).await;
    let good = app.client.pay(&order()).await;
    contract.check("POST /v1/payments", &good).unwrap();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut body = good.json();
        change(&mut body);
        Answer {
            bytes: body.to_string().into_bytes(),
            ..good.clone()
        }
    };

    let changes: [&dyn Fn(&mut Value); 8] = [
        &|p| p["status"] = json!("pending"),
        &|p| p["attempts"][0]["status"] = json!("requires_action"),
        &|p| p["amount"] = json!("8888"),
        &|p| p["amount"] = json!(null),
        &|p| p["livemode"] = json!(0),
        &|p| p["more"] = json!(1),
        &|p| p["queue"] = json!({"position": "first"}),
        &|p| drop(p.as_object_mut().unwrap().remove("order_id")),
    ];

    for (index, change) in changes.iter().enumerate() {
        assert!(
            contract
                .check("POST /v1/payments", &changed(change))
                .is_err(),
            "{index}"
        );
    }

    let mut other = good.clone();
    other.status = reqwest::StatusCode::IM_A_TEAPOT;
    assert!(contract.check("POST /v1/payments", &other).is_err());

    let mut other = good.clone();
    other
        .headers
        .insert("content-type", "text/html".parse().unwrap());
    assert!(contract.check("POST /v1/payments", &other).is_err());

    app.stop().await;
}

/// What is refused to everybody is described for every call: no key, a key without scopes, no such
/// thing, a bad body.
#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_refused_as_is_described() {
    let app = TestApp::start().await;
    let contract = Contract::of(&app.client).await;
    let stranger = crate::helpers::Client::new(&app.client.base, "sk_test_nobody");
    let other = app.other_merchant(&Scope::iter().collect::<Vec<_>>()).await;
    let (mut faults, mut seen) = (Vec::new(), std::collections::BTreeSet::new());

    for (call, described) in contract.calls() {
        let (method, path) = call.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let path = path.replace("{id}", "x_1");
        for client in [&stranger, &other] {
            let has_body = described["requestBody"].is_object();
            let bodies: &[&str] = if has_body {
                &["{}", "{", "[]", "{\"none\":1}"]
            } else {
                &[""]
            };
            for body in bodies {
                for key in [None, Some("key")] {
                    let body = has_body.then(|| body.as_bytes().to_vec());
                    let answer = client.send(method.clone(), &path, key, body).await;
                    seen.insert(answer.status.as_u16());
                    faults.extend(contract.check(&call, &answer).err());
                }
            }
        }
        let query = described["parameters"]
            .to_string()
            .contains("\"in\":\"query\"");
        if query {
            let answer = other
                .get(&format!("{path}?limit=0&lang=eo&payment=%00"))
                .await;
            assert_eq!(answer.status, 422, "{call}");
            faults.extend(contract.check(&call, &answer).err());
        }
    }

    println!("answers {seen:?}");
    for status in [200, 400, 401, 404, 422] {
        assert!(seen.contains(&status), "{status}: {seen:?}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));

    app.stop().await;
}

/// Whoever sends no body at all is told so where one is needed, and only there.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_can_be_left_out_where_that_is_described() {
    let app = TestApp::start().await;
    let contract = Contract::of(&app.client).await;
    let mut optional = 0;

    for (call, described) in contract
        .calls()
        .into_iter()
        .filter(|(_, call)| call["requestBody"].is_object())
    {
        let (method, path) = call.split_once(' ').unwrap();
        let is_needed = described["requestBody"]["required"] == true;
        let key = fresh("key");
        let answer = app
            .client
            .send(
                method.parse().unwrap(),
                &path.replace("{id}", "x_1"),
                Some(&key),
                None,
            )
            .await;
        assert_eq!(answer.status == 400, is_needed, "{call}: {}", answer.json());
        optional += u32::from(!is_needed);
    }

    assert_eq!(optional, 3);
    app.stop().await;
}

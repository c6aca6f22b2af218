//! Requests that could be read as something that nobody has said: an array in the place of an
//! object, a body in an unknown encoding, two keys.

use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::contract::Contract;
use crate::helpers::{Answer, Client, TestApp, fresh, order, rows, wire};

/// The schema behind references and "or null".
fn plain<'a>(contract: &'a Contract, schema: &'a Value) -> &'a Value {
    if let Some(ways) = schema["oneOf"].as_array() {
        return plain(
            contract,
            ways.iter().find(|way| way["type"] != "null").unwrap(),
        );
    }
    match schema["$ref"].as_str() {
        Some(reference) => plain(
            contract,
            contract.document.pointer(&reference[1..]).unwrap(),
        ),
        None => schema,
    }
}

fn is(schema: &Value, kind: &str) -> bool {
    schema["type"] == kind
        || schema["type"]
            .as_array()
            .is_some_and(|kinds| kinds.contains(&json!(kind)))
}

/// Bodies in which one object is an array, each with the name of that member.
fn arrays_in(contract: &Contract, schema: &Value) -> Vec<(Value, String)> {
    let mut all = Vec::new();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let member = plain(contract, member);
        let items = member.get("items").map(|items| plain(contract, items));
        if is(member, "object") {
            all.push((json!({name: []}), name.clone()));
            all.push((json!({name: [1, "a"]}), name.clone()));
            for (inner, param) in arrays_in(contract, member) {
                all.push((json!({name: inner}), format!("{name}.{param}")));
            }
        }
        if let Some(items) = items.filter(|items| is(items, "object")) {
            all.push((json!({name: [[]]}), format!("{name}[0]")));
            for (inner, param) in arrays_in(contract, items) {
                all.push((json!({name: [inner]}), format!("{name}[0].{param}")));
            }
        }
    }

    all
}

/// A call with a body, and something in the place of its id.
fn with_bodies(contract: &Contract) -> Vec<(Method, String, &Value)> {
    let calls = contract
        .calls()
        .into_iter()
        .filter(|(_, call)| call["requestBody"].is_object());
    calls
        .map(|(name, call)| {
            let (method, path) = name.split_once(' ').unwrap();
            let schema = &call["requestBody"]["content"]["application/json"]["schema"];
            (method.parse().unwrap(), path.replace("{id}", "x_1"), schema)
        })
        .collect()
}

async fn send(client: &Client, method: &Method, path: &str, body: &Value) -> Answer {
    client
        .send(
            method.clone(),
            path,
            Some(&fresh("key")),
            Some(body.to_string().into_bytes()),
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_array_is_no_object_wherever_it_stands() {
    let app = TestApp::start().await;
    let contract = Contract::of(&app.client).await;
    let (mut calls, mut inside) = (0, Vec::new());
    for (method, path, schema) in with_bodies(&contract) {
        for body in [
            json!([]),
            json!([order()]),
            json!([8888, "CNY", "order-1", "Tea", "qr"]),
        ] {
            let problem = send(&app.client, &method, &path, &body).await.problem(
                422,
                "invalid_parameter",
                Some("body"),
            );
            assert_eq!(
                problem["detail"], "expected an object.",
                "{method} {path} {body}"
            );
        }
        for (body, param) in arrays_in(&contract, plain(&contract, schema)) {
            send(&app.client, &method, &path, &body).await.problem(
                422,
                "invalid_parameter",
                Some(&param),
            );
            inside.push(format!("{method} {path} {param}"));
        }
        calls += 1;
    }
    println!(
        "{calls} calls; arrays inside of them:\n{}",
        inside.join("\n")
    );
    assert!(
        calls >= 15 && inside.len() >= 20,
        "{calls} {}",
        inside.len()
    );
    for member in [
        "store",
        "payer",
        "limits.day",
        "maintenance[0]",
        "rules[0].match.hours",
        "rules[0].accounts[0]",
    ] {
        assert!(
            inside
                .iter()
                .any(|known| known.ends_with(&format!(" {member}"))),
            "{member}"
        );
    }

    // By position, this would be a refund of one fen.
    let paid = app.paid().await;
    let path = format!("/v1/payments/{}/refunds", paid["id"].as_str().unwrap());
    let refused = send(
        &app.client,
        &Method::POST,
        &path,
        &json!([1, "refund-1", "returned"]),
    )
    .await;
    refused.problem(422, "invalid_parameter", Some("body"));
    assert_eq!(rows::counts(&app.db().await, &["refunds"]).await[0].1, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_is_no_object_either() {
    let app = TestApp::start().await;
    let path = format!("/v1/accounts/{}", app.alipay);

    for status in [json!({"disabled": null}), json!(["disabled"]), json!(1)] {
        let refused = send(
            &app.client,
            &Method::PATCH,
            &path,
            &json!({"status": status, "force": true}),
        )
        .await;
        let problem = refused.problem(422, "invalid_parameter", Some("status"));
        assert_eq!(problem["detail"], "expected a string.", "{status}");
    }

    send(
        &app.client,
        &Method::PATCH,
        &path,
        &json!({"status": "disabled"}),
    )
    .await
    .expect(200);

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_an_encoding_that_is_not_understood_is_415() {
    let app = TestApp::start().await;
    let contract = Contract::of(&app.client).await;
    let exchange = async |method: &Method, path: &str, coding: &str, body: &[u8]| {
        let bearer = format!("Bearer {}", app.client.key);
        let (length, key) = (body.len().to_string(), fresh("key"));
        let head = wire::head(
            method.as_str(),
            path,
            &[
                ("Authorization", &bearer),
                ("Idempotency-Key", &key),
                ("Content-Encoding", coding),
                ("Content-Length", &length),
            ],
        );
        wire::exchange(&app.client.base, &[head.as_bytes(), b"\r\n", body].concat()).await
    };

    let mut calls: Vec<_> = with_bodies(&contract)
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .collect();
    calls.push((Method::POST, format!("/notifications/{}", app.alipay)));
    for (method, path) in calls {
        for coding in [
            "gzip",
            "br",
            "deflate, gzip",
            "identity, gzip",
            "aes128gcm",
            "x",
        ] {
            let answer = exchange(&method, &path, coding, order().to_string().as_bytes()).await;
            assert!(
                answer.starts_with("HTTP/1.1 415 "),
                "{method} {path} {coding}: {answer}"
            );
            assert!(
                answer.contains(r#""code":"content_encoding_not_supported""#),
                "{answer}"
            );
            assert!(answer.contains(r#""param":"Content-Encoding""#), "{answer}");
        }
    }

    for coding in ["identity", "Identity", "identity, identity", ""] {
        let answer = exchange(
            &Method::POST,
            "/v1/payments",
            coding,
            order().to_string().as_bytes(),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 201 "), "{coding}: {answer}");
    }

    assert_eq!(rows::counts(&app.db().await, &["payments"]).await[0].1, 4);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_authorizations_are_nobodys_request() {
    let app = TestApp::start().await;
    let contract = Contract::of(&app.client).await;
    let own = format!("Bearer {}", app.client.key);
    let other = app
        .other_merchant(&[interlock::api::auth::Scope::Pay])
        .await;
    let other = format!("Bearer {}", other.key);
    let mut calls = 0;

    for (name, call) in contract
        .calls()
        .into_iter()
        .filter(|(_, call)| call["security"].is_null())
    {
        let (method, path) = name.split_once(' ').unwrap();
        for (first, second) in [
            (&own, &own),
            (&own, &other),
            (&own, &"Basic eDp5".to_owned()),
        ] {
            let headers = [
                ("Authorization", first.as_str()),
                ("authorization", second.as_str()),
                ("Content-Length", "2"),
            ];
            let head = wire::head(method, &path.replace("{id}", "x_1"), &headers);
            let answer =
                wire::exchange(&app.client.base, format!("{head}\r\n{{}}").as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
            assert!(
                answer.contains(r#""code":"authorization_repeated""#),
                "{answer}"
            );
            assert!(answer.contains(r#""param":"Authorization""#), "{answer}");
            assert!(call["responses"].get("400").is_some(), "{name}");
        }
        calls += 1;
    }

    assert!(calls >= 40, "{calls}");
    app.stop().await;
}

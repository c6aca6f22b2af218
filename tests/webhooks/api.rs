//! Endpoints, events and the delivery log by API: what is refused, and what belongs to whom.

use interlock::api::auth::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Receiver, deliveries, said};
use crate::helpers::{Client, TestApp, order};

async fn post(client: &Client, path: &str, body: Value) -> crate::helpers::Answer {
    client
        .send(
            Method::POST,
            path,
            None,
            Some(body.to_string().into_bytes()),
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_endpoint_is_named_by_its_member() {
    let app = TestApp::start().await;
    let url = "http://127.0.0.1:9999/hook";

    for (body, param) in [
        (json!({}), "url"),
        (json!({"url": 7}), "url"),
        (json!({"url": "shop.example"}), "url"),
        (json!({"url": "ftp://shop.example/"}), "url"),
        (
            json!({"url": format!("https://shop.example/{}", "x".repeat(2_048))}),
            "url",
        ),
        (json!({"url": url, "events": ["payment.paid"]}), "events[0]"),
        (
            json!({"url": url, "events": ["payment.failed", "payment.failed"]}),
            "events[1]",
        ),
        (json!({"url": url, "events": "all"}), "events"),
        (json!({"url": url, "mode": "quick"}), "mode"),
        (json!({"url": url, "description": "a\u{0}"}), "description"),
        (json!({"url": url, "secret": "whsec_x"}), "secret"),
    ] {
        post(&app.client, "/v1/webhook_endpoints", body)
            .await
            .problem(422, "invalid_parameter", Some(param));
    }

    let made = post(&app.client, "/v1/webhook_endpoints", json!({"url": url}))
        .await
        .expect(201);
    let path = format!("/v1/webhook_endpoints/{}", made["id"].as_str().unwrap());

    for (body, param) in [
        (json!({"url": "https://10.0.0.1/"}), "url"),
        (json!({"status": "gone"}), "status"),
        (json!({"mode": 1}), "mode"),
        (json!({"livemode": true}), "livemode"),
    ] {
        let answer = app
            .client
            .send(
                Method::PATCH,
                &path,
                None,
                Some(body.to_string().into_bytes()),
            )
            .await;
        answer.problem(422, "invalid_parameter", Some(param));
    }

    for overlap_s in [json!(-1), json!(604_801), json!("1")] {
        let rotate = post(
            &app.client,
            &format!("{path}/rotate_secret"),
            json!({"overlap_s": overlap_s}),
        )
        .await;
        rotate.problem(422, "invalid_parameter", Some("overlap_s"));
    }

    post(
        &app.client,
        &format!("{path}/replay"),
        json!({"since": "yesterday"}),
    )
    .await
    .problem(422, "invalid_parameter", Some("since"));

    for (query, param) in [
        ("/v1/events?type=paid", "type"),
        ("/v1/events?order_id=1", "order_id"),
        ("/v1/events?starting_after=evt_1", "starting_after"),
        ("/v1/deliveries?status=lost", "status"),
        ("/v1/deliveries?starting_after=evt_1", "starting_after"),
        ("/v1/deliveries?limit=0", "limit"),
    ] {
        app.client
            .get(query)
            .await
            .problem(422, "invalid_parameter", Some(param));
    }

    for _ in 1..20 {
        post(&app.client, "/v1/webhook_endpoints", json!({"url": url}))
            .await
            .expect(201);
    }

    post(&app.client, "/v1/webhook_endpoints", json!({"url": url}))
        .await
        .problem(409, "too_many_endpoints", None);
    assert_eq!(
        app.client
            .send(Method::DELETE, &path, None, None)
            .await
            .status,
        204
    );

    app.client.get(&path).await.problem(404, "not_found", None);
    assert_eq!(
        app.client.get("/v1/webhook_endpoints").await.expect(200)["data"]
            .as_array()
            .unwrap()
            .len(),
        19
    );

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_merchant_is_not_there() {
    let app = TestApp::start().await;
    let receiver = Receiver::start().await;
    let made = receiver.endpoint(&app.client, "a", json!({})).await;
    app.paid().await;
    let told = deliveries(&app, "status=delivered", |l| l.len() == 2).await;
    let (endpoint, event) = (
        made["id"].as_str().unwrap(),
        told[0]["event"].as_str().unwrap(),
    );
    let other = app.other_merchant(&[Scope::Admin, Scope::Pay]).await;
    let endpoint_path = format!("/v1/webhook_endpoints/{endpoint}");
    for (method, path, body) in [
        (Method::GET, endpoint_path.clone(), None),
        (
            Method::PATCH,
            endpoint_path.clone(),
            Some(json!({"description": "x"})),
        ),
        (Method::DELETE, endpoint_path.clone(), None),
        (Method::POST, format!("{endpoint_path}/test"), None),
        (
            Method::POST,
            format!("{endpoint_path}/rotate_secret"),
            Some(json!({})),
        ),
        (
            Method::POST,
            format!("{endpoint_path}/replay"),
            Some(json!({"since": "2020-01-01T00:00:00Z"})),
        ),
        (Method::GET, format!("/v1/events/{event}"), None),
        (Method::POST, format!("/v1/events/{event}/replay"), None),
    ] {
        let body = body.map(|b| b.to_string().into_bytes());
        let answer = other.send(method.clone(), &path, None, body).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (404, &json!("not_found")),
            "{method} {path}"
        );
    }
    for path in ["/v1/webhook_endpoints", "/v1/events", "/v1/deliveries"] {
        assert_eq!(
            other.get(path).await.expect(200)["data"],
            json!([]),
            "{path}"
        );
    }
    let wrong = post(
        &app.client,
        &format!("/v1/events/{event}/replay"),
        json!({"endpoint": "we_other"}),
    )
    .await;
    wrong.problem(422, "invalid_parameter", Some("endpoint"));

    let cashier = app.other_merchant(&[Scope::Pay]).await;
    cashier
        .get("/v1/webhook_endpoints")
        .await
        .problem(403, "forbidden", None);
    cashier
        .get("/v1/notify_secret")
        .await
        .problem(403, "forbidden", None);
    cashier.get("/v1/events").await.expect(200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_and_replayed_and_a_later_endpoint_gets_no_old_ones() {
    let app = TestApp::start().await;
    let receiver = Receiver::start().await;
    let early = receiver.endpoint(&app.client, "early", json!({})).await;
    let paid = app.paid().await;
    receiver.got("early", 2).await;
    app.advance(1).await;
    let late = receiver.endpoint(&app.client, "late", json!({})).await;
    let second = app.client.pay(&order()).await.expect(201);
    let log = receiver.got("late", 1).await;
    assert_eq!(said(&log[0])["payment"], second["id"]);
    assert_eq!(receiver.log("late").await.len(), 1);

    let all = app.client.get("/v1/events").await.expect(200)["data"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0]["payment"], second["id"]);
    let of_first = app
        .client
        .get(&format!(
            "/v1/events?payment={}",
            paid["id"].as_str().unwrap()
        ))
        .await
        .expect(200);
    assert_eq!(of_first["data"].as_array().unwrap().len(), 2);
    let succeeded = app
        .client
        .get("/v1/events?type=payment.succeeded")
        .await
        .expect(200);
    assert_eq!(succeeded["data"].as_array().unwrap().len(), 1);
    let page = app.client.get("/v1/events?limit=1").await.expect(200);
    let rest = app
        .client
        .get(&format!(
            "/v1/events?starting_after={}",
            page["data"][0]["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(
        (
            &page["has_more"],
            rest.expect(200)["data"].as_array().unwrap().len()
        ),
        (&json!(true), 2)
    );

    // One event to one endpoint, which has never had it; and all of them to it.
    let old = succeeded["data"][0]["id"].as_str().unwrap();
    let one = json!({"endpoint": late["id"]});
    assert_eq!(
        post(&app.client, &format!("/v1/events/{old}/replay"), one)
            .await
            .expect(202)["deliveries"],
        1
    );
    assert_eq!(said(&receiver.got("late", 2).await[1])["id"], old);
    let path = format!(
        "/v1/webhook_endpoints/{}/replay",
        late["id"].as_str().unwrap()
    );
    let since = all[2]["created_at"].clone();
    assert_eq!(
        post(&app.client, &path, json!({"since": since}))
            .await
            .expect(202)["deliveries"],
        3
    );
    let log = receiver.got("late", 5).await;
    super::all_verified(&log);
    assert_eq!(
        receiver.log("early").await.len(),
        3,
        "nobody else is bothered"
    );
    let of_early = deliveries(
        &app,
        &format!("endpoint={}", early["id"].as_str().unwrap()),
        |l| l.len() == 3,
    )
    .await;
    assert!(
        of_early
            .iter()
            .all(|d| d["endpoint"] == early["id"] && d["object"] == "delivery")
    );
    app.stop().await;
}

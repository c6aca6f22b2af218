//! Lists and addresses: pages, filters, odd characters.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::with;
use crate::helpers::{TestApp, fresh, order};

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_list_have_no_gaps_and_no_duplicates() {
    let app = TestApp::start().await;
    let mut made = Vec::new();
    for batch in 0..3 {
        let bodies: Vec<Value> = (0..5)
            .map(|n| with("description", json!(format!("tea {batch} {n}"))))
            .collect();
        for answer in join_all(bodies.iter().map(|body| app.client.pay(body))).await {
            made.push(answer.expect(201)["id"].as_str().unwrap().to_owned());
        }
    }
    made.sort();
    for limit in [1, 4, 5, 15] {
        let (mut seen, mut times) = (Vec::new(), Vec::new());
        let mut after = String::new();
        loop {
            let page = app
                .client
                .get(&format!("/v1/payments?limit={limit}{after}"))
                .await
                .expect(200);
            let data = page["data"].as_array().unwrap();
            assert!(data.len() <= limit);
            seen.extend(data.iter().map(|p| p["id"].as_str().unwrap().to_owned()));
            times.extend(
                data.iter()
                    .map(|p| p["created_at"].as_str().unwrap().to_owned()),
            );
            assert_eq!(
                page["has_more"],
                json!(seen.len() < made.len()),
                "limit {limit}, {} seen",
                seen.len()
            );
            if page["has_more"] == false {
                break;
            }
            after = format!("&starting_after={}", seen.last().unwrap());
        }
        assert!(times.is_sorted_by(|a, b| a >= b), "newest first: {times:?}");
        seen.sort();
        assert_eq!(seen, made, "limit {limit}");
    }
    assert_eq!(
        app.client.get("/v1/payments").await.expect(200)["data"]
            .as_array()
            .unwrap()
            .len(),
        15
    );

    let paid = app.paid().await;
    let id = paid["id"].as_str().unwrap();
    for _ in 0..3 {
        app.client.refund(id, 10).await.expect(201);
    }
    let first = app.client.get("/v1/refunds?limit=2").await.expect(200);
    let last = first["data"][1]["id"].as_str().unwrap();
    let second = app
        .client
        .get(&format!("/v1/refunds?limit=2&starting_after={last}"))
        .await
        .expect(200);
    assert_eq!(
        (&first["has_more"], &second["has_more"]),
        (&json!(true), &json!(false))
    );
    let mut ids: Vec<&str> = [&first, &second]
        .iter()
        .flat_map(|p| p["data"].as_array().unwrap())
        .map(|r| r["id"].as_str().unwrap())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_filtered_by_what_it_was_asked_and_refuses_what_it_does_not_know() {
    let app = TestApp::start().await;
    let paid = app.paid().await;
    let open = app.client.pay(&order()).await.expect(201);
    let refund = app
        .client
        .refund(paid["id"].as_str().unwrap(), 10)
        .await
        .expect(201);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let ids = async |query: String| {
        let list = app.client.get(&query).await.expect(200);
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| text(&p["id"]))
            .collect::<Vec<_>>()
    };
    let both = vec![text(&open["id"]), text(&paid["id"])];
    let created = text(&paid["created_at"]);
    assert_eq!(ids("/v1/payments".to_owned()).await, both);
    assert_eq!(
        ids(format!("/v1/payments?order_id={}", text(&open["order_id"]))).await,
        both[..1]
    );
    assert_eq!(
        ids("/v1/payments?status=succeeded".to_owned()).await,
        both[1..]
    );
    assert_eq!(
        ids("/v1/payments?status=canceled".to_owned()).await,
        Vec::<String>::new()
    );
    let transaction = text(&paid["provider_transaction_id"]);
    assert_eq!(
        ids(format!(
            "/v1/payments?provider_transaction_id={transaction}"
        ))
        .await,
        both[1..]
    );
    assert_eq!(
        ids(format!(
            "/v1/payments?status=requires_action&order_id={}",
            text(&paid["order_id"])
        ))
        .await,
        Vec::<String>::new()
    );
    assert_eq!(
        ids(format!("/v1/payments?created_from={created}")).await,
        both,
        "an offset's + may come unencoded"
    );
    assert_eq!(
        ids(format!(
            "/v1/payments?created_from={}",
            created.replace('+', "%2B")
        ))
        .await,
        both
    );
    assert_eq!(
        ids("/v1/payments?created_from=2100-01-01T00:00:00Z".to_owned()).await,
        Vec::<String>::new()
    );
    assert_eq!(
        ids(format!("/v1/refunds?payment={}", both[1])).await,
        [text(&refund["id"])]
    );
    assert_eq!(
        ids(format!("/v1/refunds?payment={}", both[0])).await,
        Vec::<String>::new()
    );

    for (query, param) in [
        ("payments?limit=0", "limit"),
        ("payments?limit=101", "limit"),
        ("payments?limit=-1", "limit"),
        ("payments?limit=ten", "limit"),
        ("payments?limit=", "limit"),
        ("payments?limit=5&limit=6", "limit"),
        ("payments?page=2", "page"),
        ("payments?payment=pay_x", "payment"),
        ("payments?status=paid", "status"),
        ("payments?status=", "status"),
        ("payments?created_from=yesterday", "created_from"),
        ("payments?created_from=2026-01-01", "created_from"),
        ("payments?starting_after=pay_nonsense", "starting_after"),
        ("payments?starting_after=%00", "starting_after"),
        ("refunds?limit=0", "limit"),
        ("refunds?status=succeeded", "status"),
        ("refunds?starting_after=re_nonsense", "starting_after"),
        ("refunds?starting_after=%00", "starting_after"),
    ] {
        eprintln!("{query}");
        app.client.get(&format!("/v1/{query}")).await.problem(
            422,
            "invalid_parameter",
            Some(param),
        );
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_characters_in_an_address_find_nothing_and_break_nothing() {
    let app = TestApp::start().await;
    let odd = [
        "%00",
        "pay_%00",
        "%ff",
        "%c3%28",
        "'",
        "%22",
        "%25",
        "..%2f..",
        "a".repeat(3_000).as_str(),
        "%E8%8C%B6",
        "%0a",
    ]
    .map(str::to_owned);

    for id in &odd {
        eprintln!("{id}");
        for path in [format!("/v1/payments/{id}"), format!("/v1/refunds/{id}")] {
            app.client.get(&path).await.problem(404, "not_found", None);
        }
        app.client
            .refund(id, 1)
            .await
            .problem(404, "not_found", None);
        let offer = app
            .client
            .post(
                &format!("/v1/payments/{id}/offers"),
                &fresh("key"),
                &json!({"flow": "qr"}),
            )
            .await;
        offer.problem(404, "not_found", None);
        let cancel = app
            .client
            .send(
                Method::POST,
                &format!("/v1/payments/{id}/cancel"),
                None,
                None,
            )
            .await;
        cancel.problem(404, "not_found", None);
        let patch = app
            .client
            .send(
                Method::PATCH,
                &format!("/v1/accounts/{id}"),
                None,
                Some(b"{}".to_vec()),
            )
            .await;
        patch.problem(404, "not_found", None);
        let told = app
            .client
            .send(
                Method::POST,
                &format!("/notifications/{id}"),
                None,
                Some(b"x".to_vec()),
            )
            .await;
        told.problem(404, "not_found", None);
        for list in [
            "payments?order_id",
            "payments?provider_transaction_id",
            "refunds?payment",
        ] {
            let found = app.client.get(&format!("/v1/{list}={id}")).await;
            if id.contains("%00") {
                found.problem(422, "invalid_parameter", list.split('?').next_back());
            } else {
                assert_eq!(found.expect(200)["data"], json!([]), "{list}={id}");
            }
        }
    }

    app.stop().await;
}

//! An attempt is one call: whoever loses a race for a payment never makes the winner's call a
//! second time.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::strange_answers::live_at;
use super::{ORDERS, account, id, order_no};
use crate::helpers::facts::Facts;
use crate::helpers::{PATIENCE, TestApp, fresh, order};

/// A provider that answers every call with HTTP 500, late.
async fn failing_late(delay: Duration) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(500).set_delay(delay))
        .mount(&server)
        .await;
    server
}

fn is_question(request: &Request) -> bool {
    let address = request.url.as_str();
    request.method == Method::GET
        || address.ends_with("/queryTrans.do")
        || address.contains("method=alipay.trade.query")
}

async fn until_there_is_one(facts: &Facts, what: &str) {
    let there = async {
        while facts.count(what).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there)
        .await
        .unwrap_or_else(|_| panic!("no {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_take_a_due_payment_over_at_once_make_each_call_once() {
    for provider in ORDERS[0] {
        let app = TestApp::without_breakers().await;
        app.client
            .route(&[account(&app, provider)])
            .await
            .expect(200);
        let fault = app
            .control
            .fault(json!({"provider": provider, "kind": "refuse"}))
            .await["id"]
            .clone();
        let (key, body) = (fresh("key"), order());
        let parked = app
            .client
            .post("/v1/payments", &key, &body)
            .await
            .expect(202);
        let server = failing_late(Duration::from_millis(300)).await;
        live_at(&app, provider, account(&app, provider), &server.uri()).await;
        app.control
            .call(Method::DELETE, &format!("/faults?id={fault}"), None)
            .await;
        let facts = Facts::of(&app).await;
        let mut tried = parked["attempts"].as_array().unwrap().len();
        for _ in 0..3 {
            // The resolver and a crowd of retries find it due at the same moment.
            let retries = (0..32).map(|_| app.client.post("/v1/payments", &key, &body));
            let (answers, ()) =
                tokio::join!(futures_util::future::join_all(retries), app.advance(35));
            for answer in answers {
                assert!(
                    answer.status == 202 || answer.status == 409,
                    "{}",
                    answer.json()
                );
            }
            let over = |p: &Value| {
                p["attempts"].as_array().unwrap().len() > tried && p["queue"].is_object()
            };
            let parked = app.client.until(id(&parked), over).await;
            tried = parked["attempts"].as_array().unwrap().len();
        }
        let mut sent = server.received_requests().await.unwrap();
        // Whether the credentials are right is asked for no payment, whenever its turn comes.
        sent.retain(|request| !is_question(request));
        let calls_of = |number: &str| {
            sent.iter()
                .filter(|request| String::from_utf8_lossy(&request.body).contains(number))
                .count()
        };
        let made = facts
            .rows("SELECT provider_order_no, failure FROM attempts WHERE outcome = 'unknown'")
            .await;
        let numbers: Vec<&str> = made
            .iter()
            .map(|row| row["provider_order_no"].as_str().unwrap())
            .collect();
        let calls: Vec<usize> = numbers.iter().map(|number| calls_of(number)).collect();
        assert_eq!(
            calls.iter().sum::<usize>(),
            sent.len(),
            "every call has its attempt"
        );
        // A worker for whom the time of its call was over before it began finds that out, and sends
        // nothing.
        let was_late = |row: &Value| {
            ["held_up", "worker_lost"]
                .iter()
                .any(|code| row["failure"].to_string().contains(code))
        };
        for (row, calls) in made.iter().zip(&calls) {
            assert!(
                *calls == 1 || (*calls == 0 && was_late(row)),
                "{calls} calls: {row}"
            );
        }
        assert!(calls.iter().sum::<usize>() >= 3, "it was due each time");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_late_leaves_the_call_of_the_one_who_went_on_alone() {
    for provider in ORDERS[0] {
        let app = TestApp::without_breakers().await;
        app.client
            .route(&[account(&app, provider)])
            .await
            .expect(200);
        let server = MockServer::start().await;
        let late = |ms| ResponseTemplate::new(500).set_delay(Duration::from_millis(ms));
        Mock::given(any())
            .respond_with(late(2_000))
            .up_to_n_times(1)
            .mount(&server)
            .await;
        Mock::given(any())
            .respond_with(late(2_500))
            .mount(&server)
            .await;
        live_at(&app, provider, account(&app, provider), &server.uri()).await;
        let facts = Facts::of(&app).await;
        let body = order();
        let first_worker = app.client.pay(&body);
        let resolver = async {
            until_there_is_one(&facts, "attempts WHERE status = 'sending'").await;
            // By the clock, the time of the first call is over: the resolver goes on without it.
            app.app().clock.jump(Duration::from_secs(15));
            until_there_is_one(&facts, "attempts WHERE seq = 2 AND status = 'sending'").await;
        };
        let (answer, ()) = tokio::join!(first_worker, resolver);
        let payment = answer.expect(202);
        let judged = |p: &Value| p["attempts"][1]["outcome"].is_string();
        let after = app.client.until(id(&payment), judged).await;
        // Usually its call is on the way by then; a worker that was not yet there finds out itself,
        // and sends nothing.
        let code = after["attempts"][0]["failure"]["code"]
            .as_str()
            .unwrap_or_default();
        assert!(["worker_lost", "held_up"].contains(&code), "{after}");
        let number = order_no(&after, 1);
        let sent = server.received_requests().await.unwrap();
        let calls = sent
            .iter()
            .filter(|request| String::from_utf8_lossy(&request.body).contains(number))
            .count();
        assert_eq!(calls, 1, "one call for one attempt");
        app.stop().await;
    }
}

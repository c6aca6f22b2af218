//! Payments under way when the program is stopped, or when the connection that asked for them is
//! reset: they are made.

use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use super::serve;
use crate::helpers::process::Process;
use crate::helpers::{Control, PATIENCE, TestApp, fresh, order, rows, sandbox, wire};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_the_payment_in_flight_and_exits_with_0() {
    let sandbox = sandbox().await;
    let control = Control::new(&sandbox);
    let folder = TempDir::new().unwrap();
    let process = Process::launch(
        serve(folder.path(), &control.url, "127.0.0.1:0").await,
        folder.path(),
    )
    .await;

    for provider in ["alipay", "wechatpay"] {
        control
            .fault(
                json!({"provider": provider, "call": "create", "kind": "slow", "latency_ms": 1500}),
            )
            .await;
    }

    let client = process.client.clone();
    let asked = tokio::spawn(async move { client.pay(&order()).await });
    let under_way = async {
        while process.client.get("/v1/payments").await.expect(200)["data"] == json!([]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };

    tokio::time::timeout(PATIENCE, under_way)
        .await
        .expect("the payment is being made");
    assert!(!asked.is_finished());

    let began = Instant::now();
    process.terminate().await;
    println!("stopped after {} ms", began.elapsed().as_millis());
    let payment = asked.await.unwrap().expect(201);

    assert_eq!(payment["status"], "requires_action");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkout_that_resets_its_connection_does_not_stop_its_payment() {
    let app = TestApp::start().await;
    let db = app.db().await;
    // The key is known to the gateway, as that of any checkout that asks more than once.
    app.client.get("/v1/payments").await.expect(200);
    reset_right_after_sending(&app, 10).await;
    all_are_offered(&app, 10).await;

    // While its provider is being asked, too.
    for provider in ["alipay", "wechatpay"] {
        app.control
            .fault(
                json!({"provider": provider, "call": "create", "kind": "slow", "latency_ms": 500}),
            )
            .await;
    }

    let stream = send(&app).await;
    let began = Instant::now();

    while rows::counts(&db, &["payments"]).await[0].1 < 11 {
        assert!(began.elapsed() < PATIENCE, "the request is taken");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    reset(stream);
    all_are_offered(&app, 11).await;

    app.stop().await;
}

async fn reset_right_after_sending(app: &TestApp, times: usize) {
    for _ in 0..times {
        reset(send(app).await);
    }
}

async fn send(app: &TestApp) -> tokio::net::TcpStream {
    let body = order().to_string();
    let (bearer, key) = (format!("Bearer {}", app.client.key), fresh("key"));
    let length = body.len().to_string();
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Idempotency-Key", &key),
        ("Content-Length", &length),
    ];
    let mut stream = wire::connect(&app.client.base).await;
    stream
        .write_all(format!("{}\r\n{body}", wire::head("POST", "/v1/payments", &headers)).as_bytes())
        .await
        .unwrap();
    stream
}

/// Ends a connection with RST instead of FIN: whatever is under way on it is void.
fn reset(stream: tokio::net::TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

async fn all_are_offered(app: &TestApp, count: usize) {
    let began = Instant::now();
    loop {
        let list = app.client.get("/v1/payments?limit=100").await.expect(200);
        let data = list["data"].as_array().unwrap();
        if data.len() == count && data.iter().all(|p| p["status"] == "requires_action") {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{} of {count}: {list}",
            data.len()
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

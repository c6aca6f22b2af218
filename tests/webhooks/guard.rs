//! Addresses that webhooks must not go to, in every notation, refused at the moment of sending: a
//! listener that stands there sees no connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use interlock::domain::webhook::{End, Mode};
use interlock::guard::{Guard, Lookup, System};
use interlock::webhooks::client::{Client, SignedRequest, Try};
use serde_json::json;
use tokio::net::TcpListener;

use super::Receiver;
use crate::helpers::guarded::{FORBIDDEN, Liar, listener};
use crate::helpers::{TestApp, install_crypto, order};

fn client(allowed: &[&str], lookup: Arc<dyn Lookup>) -> Client {
    install_crypto();
    let allowed = allowed.iter().map(|net| net.parse().unwrap()).collect();
    Client::new(
        Guard::new(allowed, true),
        lookup,
        Duration::from_secs(3),
        Duration::from_secs(1),
    )
    .unwrap()
}

async fn send(client: &Client, url: &str) -> Try {
    let letter = SignedRequest {
        url: url.to_owned(),
        mode: Mode::Standard,
        id: "evt_1".to_owned(),
        at: interlock::domain::Timestamp(0),
        signature: "v1,x".to_owned(),
        body: b"{}".to_vec(),
    };
    client.send(letter).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_forms_of_forbidden_addresses_are_refused_when_they_are_dispatched() {
    let (at, came) = listener("0.0.0.0:0").await;
    let port = at.port();
    let hosts = FORBIDDEN;
    assert!(hosts.len() >= 60, "{}", hosts.len());

    let client = client(&[], Arc::new(System));
    for host in hosts {
        let done = send(&client, &format!("http://{host}:{port}/hook")).await;
        // Whether this name is looked up at all is the system's business.
        let unknown = *host == "localhost." && done.end == End::Unreachable;
        assert!(
            done.end == End::ForbiddenAddress || unknown,
            "{host}: {done:?}"
        );
    }

    for url in [
        format!("http://shop.example@127.0.0.1:{port}/"),
        format!("http://user:password@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{port}#@shop.example/"),
        format!("http://127.0.0.1:{port}\\@shop.example/"),
        format!("http:\\\\127.0.0.1:{port}/"),
        format!("http:127.0.0.1:{port}/"),
        format!("\thttp://127.0.\n0.1:{port}/"),
        format!("ftp://127.0.0.1:{port}/"),
        format!("gopher://127.0.0.1:{port}/_POST"),
        format!("ws://127.0.0.1:{port}/"),
        "file:///etc/passwd".to_owned(),
        "data:text/plain,x".to_owned(),
        "http://shop.example:22/".to_owned(),
        "http://shop.example:0/".to_owned(),
        "//127.0.0.1/".to_owned(),
        String::new(),
    ] {
        let done = send(&client, &url).await;
        assert_eq!(done.end, End::ForbiddenAddress, "{url}: {done:?}");
    }

    assert_eq!(came.load(Ordering::SeqCst), 0, "somebody connected");
    // The listener is there all right: with its network on the list, it is reached.
    let allowed = self::client(&["127.0.0.0/8"], Arc::new(System));

    assert_eq!(
        send(&allowed, &format!("http://127.1:{port}/hook"))
            .await
            .end,
        End::Delivered
    );

    assert_eq!(came.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_a_forbidden_address_is_refused_when_it_is_looked_up() {
    let (at, came) = listener("0.0.0.0:0").await;
    for ip in [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::ffff:127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "fd00:ec2::254",
    ] {
        let client = client(&[], Liar::new(&[&[ip]]));
        let done = send(&client, &format!("http://shop.example:{}/", at.port())).await;
        assert_eq!(done.end, End::ForbiddenAddress, "{ip}: {done:?}");
    }
    assert_eq!(came.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_rebound_between_check_and_connection_leads_nowhere_else() {
    // 127.0.0.2 plays the public address, 127.0.0.1 the neighbour.
    let (good, came_to_good) = listener("127.0.0.2:0").await;
    let neighbour = TcpListener::bind(("127.0.0.1", good.port())).await.unwrap();
    let came_to_neighbour = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&came_to_neighbour);
    tokio::spawn(async move {
        while neighbour.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let liar = Liar::new(&[&["127.0.0.2"], &["127.0.0.1"]]);
    let lookup: Arc<dyn Lookup> = Arc::<Liar>::clone(&liar);
    let client = client(&["127.0.0.2/32"], lookup);
    let url = format!("http://shop.example:{}/", good.port());
    assert_eq!(send(&client, &url).await.end, End::Delivered);
    assert_eq!(
        liar.asked.load(Ordering::SeqCst),
        1,
        "one lookup for check and connection"
    );
    assert_eq!(send(&client, &url).await.end, End::ForbiddenAddress);

    let mixed = self::client(
        &["127.0.0.2/32"],
        Liar::new(&[&["127.0.0.1", "127.0.0.2", "::1"]]),
    );
    assert_eq!(send(&mixed, &url).await.end, End::Delivered);
    assert_eq!(
        (
            came_to_good.load(Ordering::SeqCst),
            came_to_neighbour.load(Ordering::SeqCst)
        ),
        (2, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_refuses_forbidden_addresses_when_they_are_given_and_when_they_are_used() {
    let app = TestApp::with(&[("webhooks.allow_networks", "")]).await;
    let receiver = Receiver::start().await;
    let url = receiver.url("a");
    let made = app
        .client
        .post("/v1/webhook_endpoints", "unused", &json!({"url": url}))
        .await;
    made.problem(422, "invalid_parameter", Some("url"));
    let mut body = order();
    body["notify_url"] = json!(url);
    app.client
        .pay(&body)
        .await
        .problem(422, "invalid_parameter", Some("notify_url"));
    // A name says nothing before it is looked up.
    let url = url.replace("127.0.0.1", "localhost");
    let made = app
        .client
        .post("/v1/webhook_endpoints", "unused", &json!({"url": url}))
        .await
        .expect(201);
    let path = format!(
        "/v1/webhook_endpoints/{}/test",
        made["id"].as_str().unwrap()
    );
    let test = app
        .client
        .post(&path, "unused", &json!({}))
        .await
        .expect(200);
    assert_eq!(
        (&test["delivered"], &test["end"]),
        (&json!(false), &json!("forbidden_address")),
        "{test}"
    );
    app.client.pay(&order()).await.expect(201);
    let refused = super::deliveries(&app, "", |l| l.len() == 1 && l[0]["tries"] == 1).await;
    assert_eq!(refused[0]["log"][0]["end"], "forbidden_address");
    assert_eq!(receiver.log("a").await.len(), 0);
    app.stop().await;

    let strict = TestApp::with(&[("webhooks.allow_http", "false")]).await;
    let problem = strict
        .client
        .post(
            "/v1/webhook_endpoints",
            "unused",
            &json!({"url": receiver.url("a")}),
        )
        .await;
    problem.problem(422, "invalid_parameter", Some("url"));
    strict.stop().await;
}

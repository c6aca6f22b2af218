//! Where accounts may be: an address that a merchant gives is one of a list, and nothing is
//! connected that is not on it, whatever the way to write it, at whatever time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use interlock::api::auth::Scope;
use interlock::config;
use interlock::directory::addresses::Addresses;
use interlock::domain::Owner;
use interlock::guard::Lookup;
use providers::order::{Call, OrderRef};
use providers::outcome::QueryOutcome;
use reqwest::Method;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::helpers::guarded::{FORBIDDEN, Liar, listener};
use crate::helpers::process::interlock;
use crate::helpers::{Answer, Client, PATIENCE, TestApp, keys, order};
use crate::switchover::{live_at, settings};

mod reader;

/// Texts that a reader of addresses may take for another one than its writer meant.
fn odd(port: u16) -> Vec<String> {
    let mut all = vec![
        "".to_owned(),
        "//127.0.0.1/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "data:text/plain,x".to_owned(),
    ];

    for listed in ["openapi.alipay.com", "openapi-sandbox.dl.alipaydev.com"] {
        all.extend([
            format!("https://{listed}@127.0.0.1:{port}"),
            format!("https://{listed}:443@127.0.0.1:{port}/"),
            format!("https://me@{listed}"),
            format!("https://127.0.0.1:{port}#@{listed}"),
            format!("https://127.0.0.1:{port}\\@{listed}"),
            format!("https://127.0.0.1:{port}?x=https://{listed}"),
            format!("https://{listed}?to=127.0.0.1:{port}"),
            format!("https://{listed}/gateway.do"),
            format!("https://{listed}/../"),
            format!("https://{listed}#"),
            format!("https://{listed}:8443"),
            format!("https://{listed}."),
            format!("https://{listed}.evil.example"),
            format!("https://evil.example/{listed}"),
            format!("https://{listed}\r\nHost: 127.0.0.1:{port}"),
            format!("https://{listed}%0d%0aHost:127.0.0.1"),
            format!("https://{listed}%2f@127.0.0.1:{port}"),
            format!("https:\\\\{listed}"),
            format!("https:{listed}"),
            format!("https:///{listed}"),
            format!("\thttps://{}\n{}", &listed[..4], &listed[4..]),
            format!("http://{listed}"),
            format!("ftp://{listed}"),
            format!("ws://{listed}"),
            format!("https://{}", listed.replace('a', "а")),
            format!("https://xn--{listed}"),
        ]);
    }

    all
}

pub async fn made(client: &Client, provider: &str, settings: &Value) -> Answer {
    let body = json!({"provider": provider, "name": "x", "credentials": settings})
        .to_string()
        .into_bytes();
    client
        .send(Method::POST, "/v1/accounts", None, Some(body))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_form_of_an_address_that_is_not_listed_is_taken_or_connected_to() {
    let app = TestApp::with(&[("providers.allow_networks", "")]).await;
    let (at, came) = listener("0.0.0.0:0").await;
    let port = at.port();
    let scopes = [Scope::Admin, Scope::Pay];
    let live = interlock::directory::issue::new_key(
        &app.app().store,
        &Owner::of(app.merchant.clone(), true),
        &scopes,
    )
    .await
    .unwrap();
    let live = Client::new(&app.client.base, &live);
    let mut addresses: Vec<String> = FORBIDDEN
        .iter()
        .flat_map(|host| ["http", "https"].map(|scheme| format!("{scheme}://{host}:{port}")))
        .collect();
    addresses.extend(odd(port));
    assert!(
        FORBIDDEN.len() >= 60 && addresses.len() >= 170,
        "{}",
        addresses.len()
    );
    let mut settings = settings(&app, "alipay").await;
    settings["app_id"] = json!("2021999999999999");
    let own = app.client.get("/v1/accounts").await.expect(200)["data"]
        .as_array()
        .unwrap()
        .len();
    let mut refused = 0;
    for base in &addresses {
        settings["base_url"] = json!(base);
        for client in [&app.client, &live] {
            let answer = made(client, "alipay", &settings).await;
            let problem = answer.problem(422, "invalid_parameter", Some("credentials.base_url"));
            let detail = problem["detail"].as_str().unwrap();
            let may = if client.key == live.key {
                "openapi.alipay.com"
            } else {
                "openapi-sandbox.dl.alipaydev.com"
            };
            assert!(
                detail.contains(may) && detail.contains("providers.addresses"),
                "it says which may be: {detail}"
            );
            refused += 1;
        }
        let path = format!("/v1/accounts/{}", app.alipay);
        let change = json!({"credentials": settings}).to_string().into_bytes();
        let answer = app
            .client
            .send(Method::PATCH, &path, None, Some(change))
            .await;
        answer.problem(422, "invalid_parameter", Some("credentials.base_url"));
    }
    println!(
        "{} addresses, refused {refused} times and for as many changes",
        addresses.len()
    );
    assert_eq!(
        app.client.get("/v1/accounts").await.expect(200)["data"]
            .as_array()
            .unwrap()
            .len(),
        own
    );
    assert_eq!(came.load(Ordering::SeqCst), 0, "somebody connected");

    // What is listed is taken, in the mode that it is for.
    settings["base_url"] = json!("https://openapi-sandbox.dl.alipaydev.com/");
    made(&live, "alipay", &settings).await.problem(
        422,
        "invalid_parameter",
        Some("credentials.base_url"),
    );
    made(&app.client, "alipay", &settings).await.expect(201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_name_that_leads_into_a_private_network_is_not_connected_to() {
    crate::helpers::install_crypto();
    let (at, came) = listener("0.0.0.0:0").await;
    let listed = format!("alipay api http://pay.example:{}", at.port());
    let config = config::Providers {
        addresses: vec![listed.parse().unwrap()],
        allow_networks: Vec::new(),
    };

    for ip in [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::ffff:127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "fd00:ec2::254",
    ] {
        let liar: Arc<dyn Lookup> = Liar::new(&[&[ip]]);
        let failure = query(&Addresses::new(&config, &liar).unwrap(), at.port()).await;
        assert!(failure.contains("not public"), "{ip}: {failure}");
    }

    assert_eq!(came.load(Ordering::SeqCst), 0);
    // The listener is there all right.
    let config = config::Providers {
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..config
    };

    let liar: Arc<dyn Lookup> = Liar::new(&[&["127.0.0.1"]]);
    query(&Addresses::new(&config, &liar).unwrap(), at.port()).await;
    assert_eq!(came.load(Ordering::SeqCst), 1);
}

/// Asks an account at `pay.example` about an order; returns what went wrong.
async fn query(addresses: &Addresses, port: u16) -> String {
    let protocol = providers::protocol("alipay").unwrap();
    let face =
        (providers::sandbox::simulated("alipay").unwrap().open)(keys().of("alipay").unwrap())
            .unwrap();
    let Value::Object(mut settings) = face.credentials() else {
        panic!("credentials are members")
    };

    settings.insert(
        "base_url".to_owned(),
        json!(format!("http://pay.example:{port}")),
    );
    let way = addresses.way(protocol, false, &mut settings).unwrap();
    let account = (protocol.open)(settings.into(), &way).unwrap();
    let now = chrono::DateTime::UNIX_EPOCH;
    let order = OrderRef {
        order_no: "IL1".to_owned(),
        txn_time: now,
        expires_at: now,
    };

    let outcome = account
        .query(
            &order,
            &Call {
                now,
                timeout: Duration::from_secs(3),
            },
        )
        .await
        .outcome;
    let QueryOutcome::Unknown(failure) = outcome else {
        panic!("{outcome:?}")
    };

    failure.message
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_leads_nowhere() {
    let app = TestApp::start().await;
    let (at, came) = listener("127.0.0.1:0").await;
    let server = MockServer::start().await;

    for status in [301, 302, 303, 307, 308] {
        server.reset().await;
        let answer = ResponseTemplate::new(status)
            .insert_header("Location", format!("http://{at}/").as_str());
        Mock::given(any()).respond_with(answer).mount(&server).await;
        live_at(&app, "alipay", &app.alipay, &server.uri()).await;
        app.client
            .route(&[&app.alipay, &app.wechatpay])
            .await
            .expect(200);
        app.client.pay(&order()).await.expect(201);
    }

    assert_eq!(came.load(Ordering::SeqCst), 0);
    app.stop().await;
}

async fn account(client: &Client, id: &str) -> Value {
    let list = client.get("/v1/accounts").await.expect(200);
    list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|account| account["id"] == id)
        .unwrap()
        .clone()
}

/// An account whose address was allowed, or never was: nothing is sent, what its provider says is
/// booked, nobody loses money, and all goes on once the address is right.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_address_is_not_allowed_any_more_is_loud_and_its_open_payments_are_not_lost()
 {
    let app = TestApp::start().await;
    let listen = app.address().to_string();
    let other = app
        .other_merchant(&[Scope::Admin, Scope::Pay, Scope::Refund, Scope::Finance])
        .await;
    let good = settings(&app, "alipay").await;
    let id = made(&other, "alipay", &good).await.expect(201)["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let open = other.pay(&order()).await.expect(201);
    let payment = open["id"].as_str().unwrap();
    let (at, came) = listener("127.0.0.1:0").await;
    let mut elsewhere = good.clone();
    elsewhere["base_url"] = json!(format!("http://{at}"));
    let path = format!("/v1/accounts/{id}");
    let change = async |settings: &Value| {
        let body = json!({ "credentials": settings }).to_string().into_bytes();
        other.send(Method::PATCH, &path, None, Some(body)).await
    };
    change(&elsewhere).await.expect(200);
    let ground = app.leave().await;
    let before = came.load(Ordering::SeqCst);

    let app = TestApp::on(
        ground,
        &[("providers.allow_networks", ""), ("server.listen", &listen)],
    )
    .await;
    let shown = account(&other, &id).await;
    assert_eq!(shown["status"], "barred");
    assert!(
        shown["barred_reason"]
            .as_str()
            .unwrap()
            .contains("providers.addresses"),
        "{shown}"
    );
    let entry = crate::operations::only(&other, "account_barred").await;
    assert!(
        entry["detail"]
            .as_str()
            .unwrap()
            .contains("Nothing is sent"),
        "{entry}"
    );
    other
        .pay(&order())
        .await
        .problem(422, "flow_not_available", Some("flow"));
    assert_eq!(
        other.payment(payment).await["status"],
        "requires_action",
        "nothing is decided"
    );
    // Its provider's word is taken.
    app.control.pay(&open).await;
    other.until_status(payment, "succeeded").await;
    let refund = other.refund(payment, 100).await.expect(201);
    assert_eq!(refund["status"], "pending");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(came.load(Ordering::SeqCst), before, "nothing was sent");

    let said = interlock()
        .args(["doctor", "--database", &app.database, "--data"])
        .arg(app.folder.path())
        .env("INTERLOCK__PROVIDERS__ALLOW_NETWORKS", "")
        .env("INTERLOCK__SANDBOX__LISTEN", &app.control.url)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let line = said.lines().find(|line| line.contains(&id)).unwrap();
    assert!(line.starts_with("BAD") && line.contains("barred"), "{said}");

    change(&elsewhere)
        .await
        .problem(422, "invalid_parameter", Some("credentials.base_url"));
    change(&good).await.expect(200);
    assert_eq!(account(&other, &id).await["status"], "active");
    let refund = refund["id"].as_str().unwrap();
    let began = Instant::now();
    while other
        .get(&format!("/v1/refunds/{refund}"))
        .await
        .expect(200)["status"]
        != "succeeded"
    {
        #[cfg(feature = "testing")]
        app.advance(1).await;
        assert!(began.elapsed() < PATIENCE, "the refund goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ended = async || {
        let path = format!("/v1/operations/{}", entry["id"].as_str().unwrap());
        other.get(&path).await.expect(200)["resolution"] == "by_itself"
    };
    while !ended().await {
        assert!(began.elapsed() < PATIENCE, "the entry ends by itself");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    app.stop().await;
}

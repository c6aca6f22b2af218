//! Addresses that webhooks must not go to, in every notation, refused at the moment of sending: a listener that stands
//! there sees no connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use interlock::domain::webhook::{End, Mode};
use interlock::webhooks::client::{Client, Letter, Try};
use interlock::webhooks::guard::{Guard, Lookup, System};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::Receiver;
use crate::helpers::{TestApp, install_crypto, order};

/// Answers 200 to everybody, and counts who came.
async fn listener(address: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let at = listener.local_addr().unwrap();
    let came: Arc<AtomicUsize> = Arc::default();
    let count = Arc::clone(&came);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
            });
        }
    });
    (at, came)
}

/// A resolver that answers what it was told to, each time the next thing.
#[derive(Debug)]
struct Liar {
    answers: Mutex<Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Liar {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |ips: &&[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect();
        Arc::new(Self { answers: Mutex::new(answers.iter().map(parse).collect()), asked: AtomicUsize::new(0) })
    }
}

impl Lookup for Liar {
    fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move { Ok(answer) })
    }
}

fn client(allowed: &[&str], lookup: Arc<dyn Lookup>) -> Client {
    install_crypto();
    let allowed = allowed.iter().map(|net| net.parse().unwrap()).collect();
    Client::new(Guard::new(allowed, true), lookup, Duration::from_secs(3), Duration::from_secs(1)).unwrap()
}

async fn send(client: &Client, url: &str) -> Try {
    let letter = Letter {
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
    let hosts = [
        // Loopback, in all ways to write it.
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "127.255.255.254",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0x7F.0x0.0x0.0x1",
        "017700000001",
        "0177.0.0.1",
        "0177.1",
        "127.0.0.1.",
        "１２７.０.０.１",
        "127。0。0。1",
        "%31%32%37.0.0.1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "ⓛocalhost",
        // This host, by its other names.
        "0.0.0.0",
        "0",
        "0x0",
        "0.0.0.1",
        // IPv6, and IPv4 in disguise.
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:0001]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fec0::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[3fff::1]",
        "[5f00::1]",
        "[100::1]",
        "[fe80::1%25lo]",
        // Networks of one's own, clouds' metadata, and what is nobody's.
        "10.0.0.1",
        "10.255.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "169.254.0.23",
        "100.100.100.200",
        "100.64.0.1",
        "192.0.0.192",
        "168.63.129.16",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "192.88.99.1",
    ];
    assert!(hosts.len() >= 60, "{}", hosts.len());
    let client = client(&[], Arc::new(System));
    for host in hosts {
        let done = send(&client, &format!("http://{host}:{port}/hook")).await;
        // Whether this name is looked up at all is the system's business.
        let unknown = host == "localhost." && done.end == End::Unreachable;
        assert!(done.end == End::ForbiddenAddress || unknown, "{host}: {done:?}");
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
    assert_eq!(send(&allowed, &format!("http://127.1:{port}/hook")).await.end, End::Delivered);
    assert_eq!(came.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_a_forbidden_address_is_refused_when_it_is_looked_up() {
    let (at, came) = listener("0.0.0.0:0").await;
    for ip in ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1", "10.0.0.1", "169.254.169.254", "fd00:ec2::254"] {
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
    assert_eq!(liar.asked.load(Ordering::SeqCst), 1, "one lookup for check and connection");
    assert_eq!(send(&client, &url).await.end, End::ForbiddenAddress);

    let mixed = self::client(&["127.0.0.2/32"], Liar::new(&[&["127.0.0.1", "127.0.0.2", "::1"]]));
    assert_eq!(send(&mixed, &url).await.end, End::Delivered);
    assert_eq!((came_to_good.load(Ordering::SeqCst), came_to_neighbour.load(Ordering::SeqCst)), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_refuses_forbidden_addresses_when_they_are_given_and_when_they_are_used() {
    let app = TestApp::with(&[("webhooks.allow_networks", "")]).await;
    let receiver = Receiver::start().await;
    let url = receiver.url("a");
    let made = app.client.post("/v1/webhook_endpoints", "unused", &json!({"url": url})).await;
    made.problem(422, "invalid_parameter", Some("url"));
    let mut body = order();
    body["notify_url"] = json!(url);
    app.client.pay(&body).await.problem(422, "invalid_parameter", Some("notify_url"));
    // A name says nothing before it is looked up.
    let url = url.replace("127.0.0.1", "localhost");
    let made = app.client.post("/v1/webhook_endpoints", "unused", &json!({"url": url})).await.expect(201);
    let path = format!("/v1/webhook_endpoints/{}/test", made["id"].as_str().unwrap());
    let test = app.client.post(&path, "unused", &json!({})).await.expect(200);
    assert_eq!((&test["delivered"], &test["end"]), (&json!(false), &json!("forbidden_address")), "{test}");
    app.client.pay(&order()).await.expect(201);
    let refused = super::deliveries(&app, "", |l| l.len() == 1 && l[0]["tries"] == 1).await;
    assert_eq!(refused[0]["log"][0]["end"], "forbidden_address");
    assert_eq!(receiver.log("a").await.len(), 0);
    app.stop().await;

    let strict = TestApp::with(&[("webhooks.allow_http", "false")]).await;
    let problem = strict.client.post("/v1/webhook_endpoints", "unused", &json!({"url": receiver.url("a")})).await;
    problem.problem(422, "invalid_parameter", Some("url"));
    strict.stop().await;
}

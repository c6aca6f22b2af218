//! The gateway's own addresses: what answers where, how long connections are kept, how many, and
//! what an operator is warned of at the start.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use interlock::api::auth::Scope;
use interlock::directory::issue;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::helpers::process::{Process, interlock, logged};
use crate::helpers::{Answer, Client, Control, TestApp, database, order, sandbox};

/// Every call of the documentation, with something in the place of ids.
async fn calls(client: &Client) -> Vec<(Method, String)> {
    let spec = client.get("/openapi.json").await.expect(200);
    let mut all = Vec::new();
    for (path, methods) in spec["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            all.push((method, path.replace("{id}", "x_1")));
        }
    }
    assert!(all.len() > 40, "{}", all.len());
    all
}

async fn ask(base: &str, client: &Client, method: &Method, path: &str) -> Answer {
    let client = Client {
        base: base.to_owned(),
        ..client.clone()
    };
    client
        .send(method.clone(), path, Some("key"), Some(b"{}".to_vec()))
        .await
}

/// Whether the address has this call at all.
fn is_there(answer: &Answer) -> bool {
    let problem = answer.json();
    !(answer.status == 404 && problem["detail"] == "There is no such page.") && answer.status != 405
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_the_scope_admin_answers_at_its_own_address_and_nowhere_else() {
    let app = TestApp::with(&[("server.admin", "127.0.0.1:0")]).await;
    let (public, admin) = (
        app.client.base.clone(),
        format!("http://{}", app.admin().unwrap()),
    );
    let lesser = [Scope::Pay, Scope::Refund, Scope::Finance];
    let lesser = issue::new_key(&app.app().store, &app.owner(), &lesser)
        .await
        .unwrap();
    let lesser = Client::new(&admin, &lesser);
    let (mut here, mut there) = (0, 0);
    for (method, path) in calls(&app.client).await {
        let at_admin = ask(&admin, &lesser, &method, &path).await;
        assert!(
            is_there(&at_admin),
            "{method} {path} answers at the address for administration"
        );
        let needs_admin =
            at_admin.status == 403 && at_admin.json()["detail"].to_string().contains("admin");
        let is_public = is_there(&ask(&public, &app.client, &method, &path).await);
        assert_eq!(
            is_public,
            !needs_admin && path != "/metrics",
            "{method} {path}"
        );
        if is_public { here += 1 } else { there += 1 }
    }
    println!("{here} calls answer at both addresses, {there} for administration alone");
    assert!(here >= 20 && there >= 15, "{here} {there}");
    for path in ["/docs/", "/openapi.json", "/healthz", "/readyz", "/status"] {
        for base in [&public, &admin] {
            assert_eq!(
                ask(base, &app.client, &Method::GET, path).await.status,
                200,
                "{base}{path}"
            );
        }
    }
    // What is allowed at a path is what answers there.
    let wrong = ask(&public, &app.client, &Method::DELETE, "/v1/accounts").await;
    assert_eq!(
        (
            wrong.status.as_u16(),
            &wrong.headers["allow"].to_str().unwrap()
        ),
        (405, &"GET")
    );
    let wrong = ask(&admin, &app.client, &Method::DELETE, "/v1/accounts").await;
    assert_eq!(
        (
            wrong.status.as_u16(),
            &wrong.headers["allow"].to_str().unwrap()
        ),
        (405, &"GET, POST")
    );
    app.client.pay(&order()).await.expect(201);
    app.stop().await;

    let whole = TestApp::start().await;
    for (method, path) in calls(&whole.client).await {
        assert!(
            is_there(&ask(&whole.client.base, &whole.client, &method, &path).await),
            "{method} {path}"
        );
    }
    whole.stop().await;
}

/// Sends a request and reads its answer; the connection stays open if the gateway keeps it. Returns
/// the answer's head.
async fn over(stream: &mut TcpStream) -> Option<String> {
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
        .await
        .ok()?;
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\"ok\"}") {
        let mut chunk = [0; 1024];
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&chunk[..n]);
    }
    Some(String::from_utf8_lossy(&bytes).to_lowercase())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_outlives_the_pauses_of_a_balancer_and_ends_when_the_gateway_does() {
    let app = TestApp::start().await;
    let mut kept = TcpStream::connect(app.address()).await.unwrap();
    over(&mut kept).await.unwrap();
    // Longer than the framework keeps them by itself.
    tokio::time::sleep(Duration::from_secs(8)).await;
    over(&mut kept).await.expect("still open");
    let began = Instant::now();
    app.stop().await;
    println!("stopped with an idle connection in {:?}", began.elapsed());
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "an idle connection holds nothing up: {:?}",
        began.elapsed()
    );
    assert_eq!(
        kept.read(&mut [0; 16]).await.unwrap_or(0),
        0,
        "it has ended"
    );

    let short = TestApp::with(&[("server.keep_alive_s", "1")]).await;
    let mut kept = TcpStream::connect(short.address()).await.unwrap();
    over(&mut kept).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), kept.read(&mut [0; 16])).await;
    assert_eq!(ended.expect("it ends").unwrap_or(0), 0);
    short.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_idle_connections_leave_room_for_payments() {
    let app = TestApp::with(&[("server.max_idle_connections", "500")]).await;
    let mut idle = Vec::new();
    let mut told = 0;

    for _ in 0..2_000 {
        let mut stream = TcpStream::connect(app.address()).await.unwrap();
        let head = over(&mut stream).await.unwrap();
        told += usize::from(head.contains("connection: close"));
        idle.push(stream);
    }

    assert!(
        (1_495..=1_500).contains(&told),
        "so many were told that they are not kept: {told}"
    );

    let mut open = 0;
    for stream in &mut idle {
        let ended = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0; 1])).await;
        open += usize::from(ended.is_err());
    }
    println!("{open} of 2000 are kept");
    assert!((450..=505).contains(&open), "{open}");

    let began = Instant::now();
    for _ in 0..5 {
        app.client.pay(&order()).await.expect(201);
    }
    println!("five payments beside them in {:?}", began.elapsed());
    drop(idle);

    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_open_to_others_is_narrowed_and_the_operator_is_warned() {
    let sandbox = sandbox().await;
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let database = database(folder.path()).await;
    let serve = |listen: &str| {
        let mut command = interlock();
        command.args([
            "serve",
            "--listen",
            listen,
            "--sandbox",
            &Control::new(&sandbox).url,
            "--database",
            &database,
        ]);
        command.arg("--data").arg(&data);
        command
    };

    let process = Process::launch(serve("127.0.0.1:0"), &data).await;
    assert_eq!(
        std::fs::metadata(&data).unwrap().permissions().mode() & 0o777,
        0o700
    );

    let log = logged(&data, "providers.allow_networks").await;
    assert!(
        log.contains("it is 700 now") && log.contains("WARN"),
        "{log}"
    );
    assert!(
        !log.contains("server.public_url") && !log.contains("live accounts"),
        "{log}"
    );

    // A live account, beside the sandbox.
    let key = format!("sk_live_{}", interlock::domain::id::token().unwrap());
    let made = interlock()
        .args([
            "key",
            "demo",
            "--scopes",
            "admin",
            "--live",
            "--database",
            &database,
            "--data",
        ])
        .arg(&data)
        .output()
        .await
        .unwrap();

    let key = String::from_utf8(made.stdout)
        .map(|text| text.trim().to_owned())
        .unwrap_or(key);
    let live = Client::new(&process.demo.base_url, &key);
    let (_, credentials) = Control::new(&sandbox)
        .call(Method::GET, "/credentials", None)
        .await;
    let mut settings = credentials["alipay"].clone();
    settings["app_id"] = json!("2021999999999999");

    // Nobody is there to say that it is none.
    settings["base_url"] = json!("http://127.0.0.1:9");
    let body = json!({"provider": "alipay", "name": "real", "credentials": settings})
        .to_string()
        .into_bytes();
    let account: Value = live
        .send(Method::POST, "/v1/accounts", None, Some(body))
        .await
        .expect(201);

    assert_eq!(account["livemode"], true);
    process.terminate().await;
    std::fs::remove_file(data.join("stderr.log")).unwrap();
    let process = Process::launch(serve("0.0.0.0:0"), &data).await;
    logged(&data, "server.public_url is no https address").await;
    let log = logged(&data, "the sandbox is on beside live accounts").await;

    assert!(!log.contains("it is 700 now"), "{log}");
    drop(process);
}

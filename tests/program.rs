//! The real program: what it says when it cannot start, what its commands do, how it stops, and
//! what it still knows when it is started again.

mod output;
mod start;
mod stop;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::helpers::process::{Process, interlock, logged, signal};
use crate::helpers::{
    Client, Control, PATIENCE, connect, database, install_crypto, order, sandbox,
};

/// A key for stored credentials, as whoever has a database elsewhere must give one.
const VAULT_KEY: (&str, &str) = (
    "INTERLOCK__CREDENTIALS__KEY",
    "00000000000000000000000000000000000000000000000000000000000000e1",
);

/// What a command that ends by itself did.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn run(folder: &Path, env: &[(&str, &str)], args: &[&str]) -> Ended {
    let mut command = interlock();
    command
        .args(args)
        .current_dir(folder)
        .envs(env.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());

    let running = command.spawn().unwrap().wait_with_output();
    let ended = tokio::time::timeout(PATIENCE, running)
        .await
        .unwrap_or_else(|_| panic!("{args:?} does not end"))
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();

    Ended {
        code: ended.status.code(),
        out: text(ended.stdout),
        err: text(ended.stderr),
    }
}

/// Asserts one line on standard error that says all of this, and an exit code that is not 0.
#[track_caller]
fn complains(ended: &Ended, says: &[&str]) {
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "one line: {ended:?}");
    assert!(
        ended.err.starts_with("interlock: ") && ended.out.is_empty(),
        "{ended:?}"
    );
    for word in says {
        assert!(
            ended.err.contains(word),
            "{word:?} is not in {:?}",
            ended.err
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_a_newer_version_has_made_is_left_to_it() {
    let folder = TempDir::new().unwrap();
    let url = database(folder.path()).await;
    let migrate = ["migrate", "--database", &url, "--data", "data"];
    let made = run(folder.path(), &[], &migrate).await;
    assert_eq!(made.code, Some(0), "{made:?}");

    let db = connect(&url).await;
    let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES \
                 ('m20990101_000001_future', 1)";
    sea_orm::ConnectionTrait::execute_unprepared(&db, newer)
        .await
        .unwrap();
    db.close().await.unwrap();

    let refused = run(folder.path(), &[], &migrate).await;
    let says = [
        "a newer version has made its tables",
        "m20990101_000001_future",
    ];
    complains(&refused, &says);
    let doctor = ["doctor", "--database", &url, "--data", "data"];
    let said = run(folder.path(), &[VAULT_KEY], &doctor).await;
    assert!(
        said.out.contains(says[0]) && said.code == Some(1),
        "{said:?}"
    );
}

/// `interlock serve` on the database under test.
async fn serve(folder: &Path, sandbox: &str, listen: &str) -> Command {
    let database = database(folder).await;
    serve_on(folder, &database, sandbox, listen)
}

fn serve_on(folder: &Path, database: &str, sandbox: &str, listen: &str) -> Command {
    let mut command = interlock();
    command
        .args([
            "serve",
            "--listen",
            listen,
            "--sandbox",
            sandbox,
            "--database",
            database,
            "--data",
        ])
        .arg(folder);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_make_tables_merchants_and_keys_and_name_their_mistakes() {
    let folder = TempDir::new().unwrap();
    let database = database(folder.path()).await;
    // One of its own, which it makes for nobody else: what others could read would be narrowed with
    // a word about it.
    let data = folder.path().join("data").display().to_string();
    let place = ["--data", &data, "--database", &database];
    let command = async |args: &[&str]| run(folder.path(), &[], &[args, &place[..]].concat()).await;
    let good = async |args: &[&str]| {
        let ended = command(args).await;
        assert_eq!(
            (ended.code, ended.err.as_str(), ended.out.lines().count()),
            (Some(0), "", 1),
            "{ended:?}"
        );
        ended.out.trim().to_owned()
    };
    good(&["migrate"]).await;
    good(&["migrate"]).await;
    let shop = good(&["merchant", "Tea shop"]).await;
    assert!(shop.starts_with("mer_") && shop.len() == 26, "{shop}");
    assert_eq!(
        good(&["merchant", "Tea shop"]).await,
        shop,
        "the same name is the same merchant"
    );
    assert_ne!(good(&["merchant", "Another"]).await, shop);
    let payer = good(&["key", "Tea shop"]).await;
    let finance = good(&["key", "Tea shop", "--scopes", "finance"]).await;
    let live = good(&["key", "Tea shop", "--live", "--scopes", "pay,admin"]).await;
    assert!(
        payer.starts_with("sk_test_") && live.starts_with("sk_live_") && payer != finance,
        "{payer} {live}"
    );

    complains(
        &command(&["key", "nobody"]).await,
        &["nobody", "no merchant"],
    );
    complains(
        &command(&["key", "Tea shop", "--scopes", "pay,fly"]).await,
        &["--scopes", "fly"],
    );
    for name in ["", " shop", "a\nb"] {
        complains(&command(&["merchant", name]).await, &["name"]);
    }
    complains(&command(&["merchant", &"x".repeat(65)]).await, &["name"]);

    let sandbox = sandbox().await;
    let process = Process::start(folder.path(), &database, &Control::new(&sandbox).url, None).await;
    let client = |key: &str| Client::new(&process.demo.base_url, key);
    client(&payer).get("/v1/payments").await.expect(200);
    client(&payer)
        .route(&[])
        .await
        .problem(403, "forbidden", None);
    client(&finance).get("/v1/refunds").await.expect(200);
    client(&finance)
        .pay(&order())
        .await
        .problem(403, "forbidden", None);
    client(&live)
        .send(
            Method::PUT,
            "/v1/routing",
            None,
            Some(br#"{"rules":[]}"#.to_vec()),
        )
        .await
        .expect(200);
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_by_itself_keeps_its_keys_and_its_orders() {
    let folder = TempDir::new().unwrap();
    complains(
        &run(folder.path(), &[], &["sandbox", "--listen", "nonsense"]).await,
        &["nonsense"],
    );
    let mut known = Value::Null;

    for start in 0..2 {
        let mut command = interlock();
        command
            .args(["sandbox", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("sandbox"));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let url = line.split_whitespace().next_back().unwrap().to_owned();
        install_crypto();
        let get = async |path: &str| {
            reqwest::get(format!("{url}{path}"))
                .await
                .unwrap()
                .json::<Value>()
                .await
                .unwrap()
        };
        let credentials = get("/credentials").await;
        if start == 0 {
            known = credentials.clone();
            // A gateway against it, which makes an order that the second start has to know.
            let gateway = TempDir::new().unwrap();
            let process = Process::launch(
                serve(gateway.path(), &url, "127.0.0.1:0").await,
                gateway.path(),
            )
            .await;
            process.client.pay(&order()).await.expect(201);
            process.terminate().await;
        }
        assert_eq!(credentials, known);
        assert_eq!(get("/books").await["orders"].as_array().unwrap().len(), 1);
        // No gateway goes along with it, so its time stands, unless that is what is wanted.
        let http = providers::http::plain_client_builder().build().unwrap();
        for (body, status, ahead_s) in [
            (json!({"advance_s": 60}), 409, 60 * start),
            (
                json!({"advance_s": 60, "alone": true}),
                200,
                60 * (start + 1),
            ),
        ] {
            let answer = http
                .post(format!("{url}/clock"))
                .body(body.to_string())
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), status, "{}", answer.text().await.unwrap());
            assert_eq!(get("/clock").await["ahead_s"], ahead_s);
        }
        terminate(&mut child).await;
    }

    let keys = std::fs::metadata(folder.path().join("sandbox/sandbox-keys.json")).unwrap();
    assert_eq!(keys.permissions().mode() & 0o777, 0o600);
}

async fn terminate(child: &mut tokio::process::Child) {
    signal(child, rustix::process::Signal::TERM);
    let status = tokio::time::timeout(PATIENCE, child.wait())
        .await
        .expect("it stops")
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

/// The first of so many ports in a row that nobody has, below those that the kernel gives out.
fn free_ports(count: u16) -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = 20_000 + u16::try_from(std::process::id() % 1_100).unwrap() * 10;
    let blocks = (0..1_100_u16).map(|n| 20_000 + (start - 20_000 + n * 10) % 11_000);
    blocks
        .into_iter()
        .find(|first| (*first..first + count).all(free))
        .expect("ports that nobody has")
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_still_there_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let database = database(folder.path()).await;
    let port = free_ports(5);
    let (listen, control) = (
        format!("127.0.0.1:{port}"),
        format!("127.0.0.1:{}", port + 1),
    );
    let start = async || {
        let began = Instant::now();
        let process = Process::launch(
            serve_on(folder.path(), &database, &control, &listen),
            folder.path(),
        )
        .await;
        (process, began.elapsed())
    };
    let (first, very_first) = start().await;
    assert_eq!(first.demo.base_url, format!("http://{listen}"));
    assert_eq!(first.demo.sandbox_url, format!("http://{control}"));
    // Its terminal was closed, or somebody has moved its log away.
    signal(&first.child, rustix::process::Signal::HUP);
    logged(folder.path(), "SIGHUP").await;
    for secret in ["demo.json", "credentials.key", "sandbox-keys.json"] {
        // A database elsewhere has its key from elsewhere, unless there is a sandbox.
        let mode = std::fs::metadata(folder.path().join(secret))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let text = std::fs::read(folder.path().join("demo.json")).unwrap();
    let demo: Value = serde_json::from_slice(&text).unwrap();
    let mut members: Vec<&str> = demo
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    members.sort_unstable();
    assert_eq!(
        members,
        [
            "accounts",
            "api_key",
            "base_url",
            "faces",
            "merchant",
            "sandbox_url"
        ]
    );
    for provider in ["alipay", "wechatpay"] {
        assert!(
            demo["faces"][provider]
                .as_str()
                .unwrap()
                .starts_with("http://127.0.0.1:"),
            "{demo}"
        );
        assert!(
            demo["accounts"]
                .as_array()
                .unwrap()
                .iter()
                .any(|a| a["provider"] == provider && a["id"].is_string())
        );
    }
    let mut made = Vec::new();
    for provider in ["alipay", "wechatpay"] {
        let mut body = order();
        body["providers"] = json!([provider]);
        made.push(first.client.pay(&body).await.expect(201));
    }
    first.terminate().await;
    assert!(
        providers::http::plain_client_builder()
            .build()
            .unwrap()
            .get(format!("http://{listen}/healthz"))
            .send()
            .await
            .is_err()
    );

    let (second, later) = start().await;
    println!(
        "first start {} ms, second start {} ms",
        very_first.as_millis(),
        later.as_millis()
    );
    assert_eq!(
        std::fs::read(folder.path().join("demo.json")).unwrap(),
        text,
        "key, merchant, accounts, addresses"
    );
    for payment in &made {
        let id = payment["id"].as_str().unwrap();
        assert_eq!(
            second.client.payment(id).await["next_action"],
            payment["next_action"]
        );
        let http = providers::http::plain_client_builder().build().unwrap();
        let pay = json!({"code": payment["next_action"]["qr"], "result": "paid"});
        let paid = http
            .post(format!("http://{control}/pay"))
            .body(pay.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(paid.status(), 200, "{}", paid.text().await.unwrap());
        second.client.until_status(id, "succeeded").await;
    }
    second.terminate().await;
}

//! The real program: what it says when it cannot start, what its commands do, how it stops, and what it still knows
//! when it is started again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::helpers::process::{Process, interlock, signal};
use crate::helpers::{Client, Control, PATIENCE, TestApp, database, fresh, install_crypto, order, rows, sandbox, wire};

/// A key for stored credentials, as whoever has a database elsewhere must give one.
const VAULT_KEY: (&str, &str) =
    ("INTERLOCK__CREDENTIALS__KEY", "00000000000000000000000000000000000000000000000000000000000000e1");

/// What a command that ends by itself did.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn run(folder: &Path, env: &[(&str, &str)], args: &[&str]) -> Ended {
    let mut command = interlock();
    command.args(args).current_dir(folder).envs(env.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().unwrap().wait_with_output();
    let ended =
        tokio::time::timeout(PATIENCE, running).await.unwrap_or_else(|_| panic!("{args:?} does not end")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) }
}

/// Asserts one line on standard error that says all of this, and an exit code that is not 0.
#[track_caller]
fn complains(ended: &Ended, says: &[&str]) {
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    assert_eq!(ended.err.lines().count(), 1, "one line: {ended:?}");
    assert!(ended.err.starts_with("interlock: ") && ended.out.is_empty(), "{ended:?}");
    for word in says {
        assert!(ended.err.contains(word), "{word:?} is not in {:?}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_succeed_says_what_and_where_in_one_line() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("afile", "");
    file("unknown.toml", "[server]\ndrain_s = 1\ndrain_seconds = 1\n");
    file("section.toml", "[servers]\ndrain_s = 1\n");
    file("type.toml", "[server]\ndrain_s = \"soon\"\n");
    file("zero.toml", "[payments]\nmax_routes = 0\n");
    file("broken.toml", "[server\ndrain_s = 1\n");
    file("short.key", "0123");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (gateway_says, sandbox_says) = (["cannot listen on", &taken, "in use"], ["sandbox", &taken, "in use"]);
    let serve = ["serve", "--sandbox", "off", "--data", "data", "--listen"];
    let with = |more: &[&'static str]| [&["serve", "--sandbox", "off", "--listen", "127.0.0.1:0"], more].concat();
    type Case<'a> = (&'a [(&'a str, &'a str)], Vec<&'a str>, &'a [&'a str]);
    let cases: Vec<Case<'_>> = vec![
        (&[], [&serve[..], &[taken.as_str()]].concat(), &gateway_says),
        (&[], [&serve[..], &["nonsense"]].concat(), &["cannot listen on nonsense"]),
        (&[], [&serve[..], &["127.0.0.1:99999"]].concat(), &["127.0.0.1:99999"]),
        (&[], vec!["serve", "--listen", "127.0.0.1:0", "--data", "d1", "--sandbox", &taken], &sandbox_says),
        (
            &[],
            vec!["serve", "--listen", "127.0.0.1:0", "--data", "d2", "--sandbox", "nonsense"],
            &["sandbox", "nonsense"],
        ),
        (
            &[],
            vec!["serve", "--listen", "127.0.0.1:0", "--data", "d3", "--sandbox", "http://127.0.0.1:1"],
            &["sandbox", "http://127.0.0.1:1"],
        ),
        (
            &[VAULT_KEY],
            with(&["--data", "d4", "--database", "mysql://shop:hidden@db/shop"]),
            &["database", "mysql://shop:***@db/shop", "postgres:"],
        ),
        (
            &[VAULT_KEY],
            with(&["--data", "d4", "--database", "postgres://shop:hidden@127.0.0.1:1/shop?password=hidden"]),
            &["database postgres://shop:***@127.0.0.1:1/shop", "refused"],
        ),
        (
            &[VAULT_KEY],
            with(&["--data", "d4", "--database", "sqlite:///nowhere/shop.db"]),
            &["database sqlite:///nowhere/shop.db"],
        ),
        (&[], with(&["--data", "d4", "--database", "postgres://shop@127.0.0.1:1/shop"]), &["credentials.key"]),
        (&[], with(&["--data", "afile"]), &["afile", "is a file"]),
        (&[], with(&["--data", "afile/data"]), &["afile/data"]),
        (&[], with(&["--data", "d5", "--config", "unknown.toml"]), &["server.drain_seconds", "unknown.toml"]),
        (&[], with(&["--data", "d5", "--config", "section.toml"]), &["servers", "section.toml"]),
        (&[], with(&["--data", "d5", "--config", "type.toml"]), &["server.drain_s", "soon", "type.toml"]),
        (&[], with(&["--data", "d5", "--config", "zero.toml"]), &["payments.max_routes", "0", "zero.toml"]),
        (&[], with(&["--data", "d5", "--config", "broken.toml"]), &["line 1", "broken.toml"]),
        (&[], with(&["--data", "d5", "--config", "missing.toml"]), &["missing.toml"]),
        (
            &[("INTERLOCK__SERVER__DRAIN_S", "soon")],
            with(&["--data", "d5"]),
            &["server.drain_s", "soon", "environment"],
        ),
        (&[("INTERLOCK__SERVER__DRAIN", "1")], with(&["--data", "d5"]), &["server.drain", "environment"]),
        (&[("INTERLOCK__PAYMENTS__MAX_ROUTES", "0")], with(&["--data", "d5"]), &["payments.max_routes", "environment"]),
        (&[("INTERLOCK__PAYMENTS__ORDER_PREFIX", "no!")], with(&["--data", "d5"]), &["payments.order_prefix", "no!"]),
        (&[("INTERLOCK__LOG__LEVEL", "a=b=c")], with(&["--data", "d5"]), &["log.level", "a=b=c"]),
        (&[("INTERLOCK__CREDENTIALS__KEY", "0123")], with(&["--data", "d5"]), &["credentials.key", "64"]),
        (&[("INTERLOCK__CREDENTIALS__KEY_FILE", "short.key")], with(&["--data", "d5"]), &["short.key", "64"]),
        (&[("INTERLOCK__CREDENTIALS__KEY_FILE", "missing.key")], with(&["--data", "d5"]), &["missing.key"]),
    ];
    for (env, args, says) in cases {
        let began = Instant::now();
        let ended = run(folder.path(), env, &args).await;
        println!("{} ({} ms)", ended.err.trim(), began.elapsed().as_millis());
        complains(&ended, says);
        assert!(!ended.err.contains("hidden"), "a password: {}", ended.err);
    }
    assert!(!folder.path().join("d5/interlock.db").exists(), "a wrong configuration touches nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_of_digits_stays_as_it_was_given() {
    let sandbox = sandbox().await;
    let folder = TempDir::new().unwrap();
    let mut command = serve(folder.path(), &Control::new(&sandbox).url, "127.0.0.1:0").await;
    command.env("INTERLOCK__PAYMENTS__ORDER_PREFIX", "007");
    let process = Process::launch(command, folder.path()).await;
    let payment = process.client.pay(&order()).await.expect(201);
    let order_no = payment["attempts"][0]["provider_order_no"].as_str().unwrap();
    assert!(order_no.starts_with("007") && order_no.len() == 25, "{order_no}");
    process.terminate().await;
}

/// `interlock serve` on the database under test.
async fn serve(folder: &Path, sandbox: &str, listen: &str) -> Command {
    let database = database(folder).await;
    serve_on(folder, &database, sandbox, listen)
}

fn serve_on(folder: &Path, database: &str, sandbox: &str, listen: &str) -> Command {
    let mut command = interlock();
    command.args(["serve", "--listen", listen, "--sandbox", sandbox, "--database", database, "--data"]).arg(folder);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let sandbox = sandbox().await;
    let folder = TempDir::new().unwrap();
    let url = Control::new(&sandbox).url;
    let mut command = interlock();
    command.args(["serve", "--listen", "127.0.0.1:0", "--sandbox", &url, "--data"]).arg(folder.path());
    let first = Process::launch(command, folder.path()).await;
    let data = folder.path().display().to_string();
    for args in
        [vec!["serve", "--listen", "127.0.0.1:0", "--sandbox", &url, "--data", &data], vec!["migrate", "--data", &data]]
    {
        complains(&run(folder.path(), &[], &args).await, &[&data, "another interlock"]);
    }
    first.client.pay(&order()).await.expect(201);
    // A process that is killed leaves no lock behind.
    let mut first = first;
    first.child.kill().await.unwrap();
    let migrated = run(folder.path(), &[], &["migrate", "--data", &data]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_make_tables_merchants_and_keys_and_name_their_mistakes() {
    let folder = TempDir::new().unwrap();
    let database = database(folder.path()).await;
    // One of its own, which it makes for nobody else: what others could read would be narrowed with a word about it.
    let data = folder.path().join("data").display().to_string();
    let place = ["--data", &data, "--database", &database];
    let command = async |args: &[&str]| run(folder.path(), &[], &[args, &place[..]].concat()).await;
    let good = async |args: &[&str]| {
        let ended = command(args).await;
        assert_eq!((ended.code, ended.err.as_str(), ended.out.lines().count()), (Some(0), "", 1), "{ended:?}");
        ended.out.trim().to_owned()
    };
    good(&["migrate"]).await;
    good(&["migrate"]).await;
    let shop = good(&["merchant", "Tea shop"]).await;
    assert!(shop.starts_with("mer_") && shop.len() == 26, "{shop}");
    assert_eq!(good(&["merchant", "Tea shop"]).await, shop, "the same name is the same merchant");
    assert_ne!(good(&["merchant", "Another"]).await, shop);
    let payer = good(&["key", "Tea shop"]).await;
    let finance = good(&["key", "Tea shop", "--scopes", "finance"]).await;
    let live = good(&["key", "Tea shop", "--live", "--scopes", "pay,admin"]).await;
    assert!(payer.starts_with("sk_test_") && live.starts_with("sk_live_") && payer != finance, "{payer} {live}");

    complains(&command(&["key", "nobody"]).await, &["nobody", "no merchant"]);
    complains(&command(&["key", "Tea shop", "--scopes", "pay,fly"]).await, &["--scopes", "fly"]);
    for name in ["", " shop", "a\nb"] {
        complains(&command(&["merchant", name]).await, &["name"]);
    }
    complains(&command(&["merchant", &"x".repeat(65)]).await, &["name"]);

    let sandbox = sandbox().await;
    let process = Process::start(folder.path(), &database, &Control::new(&sandbox).url, None).await;
    let client = |key: &str| Client::new(&process.demo.base_url, key);
    client(&payer).get("/v1/payments").await.expect(200);
    client(&payer).route(&[]).await.problem(403, "forbidden", None);
    client(&finance).get("/v1/refunds").await.expect(200);
    client(&finance).pay(&order()).await.problem(403, "forbidden", None);
    client(&live).send(Method::PUT, "/v1/routing", None, Some(br#"{"rules":[]}"#.to_vec())).await.expect(200);
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_by_itself_keeps_its_keys_and_its_orders() {
    let folder = TempDir::new().unwrap();
    complains(&run(folder.path(), &[], &["sandbox", "--listen", "nonsense"]).await, &["nonsense"]);
    let mut known = Value::Null;
    for start in 0..2 {
        let mut command = interlock();
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path().join("sandbox"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let url = line.split_whitespace().next_back().unwrap().to_owned();
        install_crypto();
        let get = async |path: &str| reqwest::get(format!("{url}{path}")).await.unwrap().json::<Value>().await.unwrap();
        let credentials = get("/credentials").await;
        if start == 0 {
            known = credentials.clone();
            // A gateway against it, which makes an order that the second start has to know.
            let gateway = TempDir::new().unwrap();
            let process = Process::launch(serve(gateway.path(), &url, "127.0.0.1:0").await, gateway.path()).await;
            process.client.pay(&order()).await.expect(201);
            process.terminate().await;
        }
        assert_eq!(credentials, known);
        assert_eq!(get("/books").await["orders"].as_array().unwrap().len(), 1);
        // No gateway goes along with it, so its time stands, unless that is what is wanted.
        let http = providers::http::plain_client_builder().build().unwrap();
        for (body, status, ahead_s) in [
            (json!({"advance_s": 60}), 409, 60 * start),
            (json!({"advance_s": 60, "alone": true}), 200, 60 * (start + 1)),
        ] {
            let answer = http.post(format!("{url}/clock")).body(body.to_string()).send().await.unwrap();
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
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it stops").unwrap();
    assert_eq!(status.code(), Some(0));
}

/// The first of so many ports in a row that nobody has, below those that the kernel gives out.
fn free_ports(count: u16) -> u16 {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = 20_000 + u16::try_from(std::process::id() % 1_100).unwrap() * 10;
    let blocks = (0..1_100_u16).map(|n| 20_000 + (start - 20_000 + n * 10) % 11_000);
    blocks.into_iter().find(|first| (*first..first + count).all(free)).expect("ports that nobody has")
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_still_there_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let database = database(folder.path()).await;
    let port = free_ports(5);
    let (listen, control) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", port + 1));
    let start = async || {
        let began = Instant::now();
        let process = Process::launch(serve_on(folder.path(), &database, &control, &listen), folder.path()).await;
        (process, began.elapsed())
    };
    let (first, very_first) = start().await;
    assert_eq!(first.demo.base_url, format!("http://{listen}"));
    assert_eq!(first.demo.sandbox_url, format!("http://{control}"));
    for secret in ["demo.json", "credentials.key", "sandbox-keys.json"] {
        // A database elsewhere has its key from elsewhere, unless there is a sandbox.
        let mode = std::fs::metadata(folder.path().join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let text = std::fs::read(folder.path().join("demo.json")).unwrap();
    let demo: Value = serde_json::from_slice(&text).unwrap();
    let mut members: Vec<&str> = demo.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["accounts", "api_key", "base_url", "faces", "merchant", "sandbox_url"]);
    for provider in ["alipay", "wechatpay"] {
        assert!(demo["faces"][provider].as_str().unwrap().starts_with("http://127.0.0.1:"), "{demo}");
        assert!(demo["accounts"].as_array().unwrap().iter().any(|a| a["provider"] == provider && a["id"].is_string()));
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
    println!("first start {} ms, second start {} ms", very_first.as_millis(), later.as_millis());
    assert_eq!(std::fs::read(folder.path().join("demo.json")).unwrap(), text, "key, merchant, accounts, addresses");
    for payment in &made {
        let id = payment["id"].as_str().unwrap();
        assert_eq!(second.client.payment(id).await["next_action"], payment["next_action"]);
        let http = providers::http::plain_client_builder().build().unwrap();
        let pay = json!({"code": payment["next_action"]["qr"], "result": "paid"});
        let paid = http.post(format!("http://{control}/pay")).body(pay.to_string()).send().await.unwrap();
        assert_eq!(paid.status(), 200, "{}", paid.text().await.unwrap());
        second.client.until_status(id, "succeeded").await;
    }
    second.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_lines_make_a_payment_and_pay_it() {
    let sandbox = sandbox().await;
    let folder = TempDir::new().unwrap();
    let process =
        Process::launch(serve(folder.path(), &Control::new(&sandbox).url, "127.0.0.1:0").await, folder.path()).await;
    let mut printed = process.greeting.iter().filter(|line| line.starts_with("curl "));
    let (make, pay) = (printed.next().unwrap(), printed.next().unwrap());
    let sh = async |line: &str| {
        let output = Command::new("sh").args(["-c", line]).env("no_proxy", "*").output().await.unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{line}: {output:?}"))
    };
    let payment = sh(make).await;
    assert_eq!((&payment["object"], &payment["status"]), (&json!("payment"), &json!("requires_action")), "{payment}");
    let qr = payment["next_action"]["qr"].as_str().unwrap();
    assert_ne!(sh(make).await["id"], payment["id"], "pasted again, it makes another one");
    sh(&pay.replace("<qr>", qr)).await;
    process.client.until_status(payment["id"].as_str().unwrap(), "succeeded").await;
    for said in [&process.demo.base_url, &process.demo.api_key, &process.demo.sandbox_url] {
        assert!(process.greeting.iter().any(|line| line.contains(said)), "{said}: {:?}", process.greeting);
    }
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_serves_although_nobody_reads_what_it_prints() {
    let sandbox = sandbox().await;
    let folder = TempDir::new().unwrap();
    let mut command = serve(folder.path(), &Control::new(&sandbox).url, "127.0.0.1:0").await;
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    let demo = folder.path().join("demo.json");
    let began = Instant::now();
    while !demo.exists() {
        assert!(began.elapsed() < PATIENCE && child.try_wait().unwrap().is_none(), "it has stopped");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let demo: interlock::server::demo::Demo = serde_json::from_slice(&std::fs::read(&demo).unwrap()).unwrap();
    Client::new(&demo.base_url, &demo.api_key).pay(&order()).await.expect(201);
    terminate(&mut child).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_the_payment_in_flight_and_exits_with_0() {
    let sandbox = sandbox().await;
    let control = Control::new(&sandbox);
    let folder = TempDir::new().unwrap();
    let process = Process::launch(serve(folder.path(), &control.url, "127.0.0.1:0").await, folder.path()).await;
    for provider in ["alipay", "wechatpay"] {
        control.fault(json!({"provider": provider, "call": "create", "kind": "slow", "latency_ms": 1500})).await;
    }
    let client = process.client.clone();
    let asked = tokio::spawn(async move { client.pay(&order()).await });
    let under_way = async {
        while process.client.get("/v1/payments").await.expect(200)["data"] == json!([]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, under_way).await.expect("the payment is being made");
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
        app.control.fault(json!({"provider": provider, "call": "create", "kind": "slow", "latency_ms": 500})).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_log_that_has_stopped_reading_stops_no_payment_and_no_stop() {
    let (folder, sandbox) = (TempDir::new().unwrap(), sandbox().await);
    let url = database(folder.path()).await;
    let log = folder.path().join("stderr.log");
    assert!(Command::new("mkfifo").arg(&log).status().await.unwrap().success());
    // Open at its other end, and never read.
    let unread = std::fs::File::options().read(true).write(true).open(&log).unwrap();
    let control = Control::new(&sandbox);
    let env = [(VAULT_KEY.0, VAULT_KEY.1.to_owned())];
    let gateway = Process::with(folder.path(), &url, &control.url, &env).await;
    // Each of somebody with a key is a line of more than 200 bytes, of which a pipe takes 65,536.
    for _ in 0..600 {
        let answer = tokio::time::timeout(PATIENCE, gateway.client.get("/v1/payments")).await;
        answer.expect("it answers");
    }
    gateway.client.pay(&order()).await.expect(201);
    gateway.terminate().await;
    drop(unread);
    sandbox.stop().await;
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
    let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", &key), ("Content-Length", &length)];
    let mut stream = wire::connect(&app.client.base).await;
    stream.write_all(format!("{}\r\n{body}", wire::head("POST", "/v1/payments", &headers)).as_bytes()).await.unwrap();
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
        assert!(began.elapsed() < PATIENCE, "{} of {count}: {list}", data.len());
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

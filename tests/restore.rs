//! Going back in time while the world does not: a backup beside a running gateway, payments after
//! it, and the backup back in its place. What the providers' books say then is compared with the
//! rows, to the fen.

mod backups;
mod files;
mod shop;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::shop::{
    KEY, PREFIX, Shop, ask_back, command, give_back, id_of, in_rows, live_key, offer, order_no,
    paid,
};
use crate::helpers::process::Process;
use crate::helpers::{
    Client, Control, PATIENCE, barcode, charging_providers, database, fresh, order, sandbox,
};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_nothing_is_taken_or_given_back_twice_and_every_fen_is_explained() {
    let shop = Shop::new().await;
    let gateway = shop.open().await;
    let merchant = gateway.demo.merchant.clone();
    gateway.terminate().await;
    let key = live_key(&shop.url, &merchant).await;
    let gateway = shop.open().await;
    let client = Client::new(&gateway.demo.base_url, &key);
    let providers: Vec<&str> = providers::PROTOCOLS
        .iter()
        .map(|protocol| protocol.name.as_str())
        .collect();

    // Before: paid ones, one of them refunded in part, and codes that nobody has paid yet.
    let (mut before, mut open) = (Vec::new(), Vec::new());
    for provider in &providers {
        let payment = paid(&client, &shop.control, provider).await;
        give_back(&client, id_of(&payment), &format!("early-{provider}"), 100).await;
        before.push(payment);
        open.push(offer(&client, provider).await);
    }

    let backup = shop.file("backup.db");
    let (done, said) = shop.command(&["backup", &backup]).await;
    assert!(
        done && said.contains("6 payments") && said.contains("key for stored credentials"),
        "{said}"
    );
    assert_eq!(
        std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let (done, said) = shop.command(&["backup", &backup]).await;
    assert!(
        !done && said.contains("never written over another"),
        "{said}"
    );

    // After: fifty payments, codes from before that are paid now, and money that is given back.
    for payment in &open {
        shop.control.pay(payment).await;
        client.until_status(id_of(payment), "succeeded").await;
    }
    let (mut lost, mut lost_codes) = (Vec::new(), Vec::new());
    for number in 0..50 {
        let provider = providers[number % providers.len()];
        let payment = match number % 5 {
            0 | 1 => paid(&client, &shop.control, provider).await,
            2 => {
                let charging = charging_providers();
                let payment = client
                    .pay(&barcode(charging[number % charging.len()], 0))
                    .await
                    .expect(201);
                client.until_status(id_of(&payment), "succeeded").await
            }
            _ => {
                let payment = offer(&client, provider).await;
                lost_codes.push(payment.clone());
                payment
            }
        };
        if number % 10 == 0 {
            give_back(&client, id_of(&payment), &fresh("rf"), 1_000).await;
        }
        lost.push(order_no(&payment));
    }
    for (payment, provider) in before.iter().zip(&providers) {
        give_back(&client, id_of(payment), &format!("lost-{provider}"), 30).await;
    }

    let (done, said) = shop.command(&["restore", &backup]).await;
    assert!(
        !done && said.contains("a gateway runs on this folder: stop it first"),
        "{said}"
    );
    gateway.terminate().await;
    let (done, said) = shop.command(&["restore", &shop.file("nothing.db")]).await;
    assert!(!done && said.contains("there is no such file"), "{said}");
    let (done, said) = shop.command(&["restore", &backup]).await;
    assert!(
        done && said.contains("is back: 6 payments") && said.contains("What was there is kept as"),
        "{said}"
    );

    // Held: live payments and refunds wait, everything else goes on.
    let gateway = shop.open().await;
    let client = Client::new(&gateway.demo.base_url, &key);
    let held = client.pay(&order()).await.problem(503, "restored", None);
    assert_eq!(held["retryable"], true);
    let refund = json!({"amount": 30, "merchant_refund_no": "lost-alipay"});
    let path = format!("/v1/payments/{}/refunds", id_of(&before[0]));
    client
        .post(&path, &fresh("key"), &refund)
        .await
        .problem(503, "restored", None);
    let test = gateway.client.pay(&order()).await.expect(201);
    let new_prefix = order_no(&test)[..PREFIX.len() + 2].to_owned();
    assert!(
        new_prefix.starts_with(PREFIX) && order_no(&test).len() == PREFIX.len() + 24,
        "{new_prefix}"
    );
    assert_eq!(client.get("/readyz").await.status.as_u16(), 200);
    let (done, said) = shop.command(&["restore", "--go"]).await;
    assert!(
        !done && said.contains("interlock doctor --restored"),
        "{said}"
    );

    // What payers of codes from before have done meanwhile is found out without anybody's word.
    for payment in &open {
        client.until_status(id_of(payment), "succeeded").await;
    }
    let (done, said) = shop.command(&["doctor", "--restored"]).await;
    assert!(
        done && said.contains("live attempts and refunds are open"),
        "{said}"
    );
    let (done, said) = shop.command(&["restore", "--go"]).await;
    assert!(done, "{said}");
    let began = std::time::Instant::now();
    let first = loop {
        let answer = client.pay(&order()).await;
        if answer.status.as_u16() == 201 {
            break answer.json();
        }
        answer.problem(503, "restored", None);
        assert!(began.elapsed() < PATIENCE, "live payments do not go on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(order_no(&first).starts_with(&new_prefix));

    // A merchant that asks once more for a refund that is lost gets no second one: the provider is
    // told the same number.
    for (payment, provider) in before.iter().zip(&providers) {
        let number = format!("lost-{provider}");
        match *provider {
            // It knows refunds by their time as well, and denies this one: it stays pending.
            "unionpay" => drop(ask_back(&client, id_of(payment), &number, 30).await),
            _ => give_back(&client, id_of(payment), &number, 30).await,
        }
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    // A payer pays a code that nobody remembers: a person hears of it.
    shop.control.pay(&lost_codes[0]).await;
    let unexplained = format!("order {}", order_no(&lost_codes[0]));
    let began = std::time::Instant::now();
    loop {
        let (_, list) = (0, client.get("/v1/operations").await.expect(200));
        if list["data"]
            .as_array()
            .unwrap()
            .iter()
            .any(|op| op.to_string().contains(&unexplained))
        {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "nobody hears of it: {list:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let ours = in_rows(&shop.url).await;
    let (mut astray, mut paid_astray) = (Vec::new(), 0);
    for order in shop.control.orders().await {
        let number = order["order_no"].as_str().unwrap().to_owned();
        let fen = |name: &str| order[name].as_i64().unwrap();
        match ours.iter().find(|(ours, ..)| *ours == number) {
            Some((_, captured, refunded)) => {
                assert_eq!(
                    (*captured, *refunded),
                    (fen("captured"), fen("refunded")),
                    "{order}"
                );
            }
            None => {
                paid_astray += i64::from(fen("captured") > 0);
                astray.push(number);
            }
        }
    }
    // Of what no row knows, every number is one of before the restore, and one of those fifty.
    assert!(
        astray
            .iter()
            .all(|no| no.len() == PREFIX.len() + 22 && lost.contains(no)),
        "{astray:?}"
    );
    println!(
        "{} orders are in rows; {} are in none, {paid_astray} of them paid",
        ours.len(),
        astray.len()
    );

    gateway.terminate().await;
    let (done, said) = shop.command(&["doctor", "--ledger"]).await;
    assert!(done, "{said}");
    shop.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgresql_is_copied_by_its_own_tools_and_counts_as_brought_back_when_told() {
    let folder = TempDir::new().unwrap();
    let url = database(folder.path()).await;
    if url.starts_with("sqlite") {
        println!("about PostgreSQL alone");
        return;
    }
    let (done, said) = command(folder.path(), &url, "off", &["backup", "/nowhere/file"]).await;
    assert!(
        !done && said.contains("pg_dump") && said.contains("nothing was copied"),
        "{said}"
    );
    let (done, said) = command(folder.path(), &url, "off", &["restore", "/nowhere/file"]).await;
    assert!(!done && said.contains("pg_restore"), "{said}");
    let (done, said) = command(folder.path(), &url, "off", &["restore"]).await;
    assert!(done && said.contains("counts as brought back"), "{said}");

    let sandbox = sandbox().await;
    let control = Control::new(&sandbox);
    let env = [("INTERLOCK__CREDENTIALS__KEY", KEY.to_owned())];
    let gateway = Process::with(folder.path(), &url, &control.url, &env).await;
    let merchant = gateway.demo.merchant.clone();
    gateway.terminate().await;
    let key = live_key(&url, &merchant).await;
    let gateway = Process::with(folder.path(), &url, &control.url, &env).await;
    let client = Client::new(&gateway.demo.base_url, &key);
    client.pay(&order()).await.problem(503, "restored", None);
    assert!(
        command(folder.path(), &url, &control.url, &["doctor", "--restored"])
            .await
            .0
    );
    assert!(
        command(folder.path(), &url, &control.url, &["restore", "--go"])
            .await
            .0
    );
    let began = std::time::Instant::now();
    while client.pay(&order()).await.status.as_u16() != 201 {
        assert!(began.elapsed() < PATIENCE, "live payments do not go on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let metrics = gateway
        .client
        .send(Method::GET, "/metrics", None, None)
        .await;
    assert!(String::from_utf8_lossy(&metrics.bytes).contains("interlock_restored_hold 0"));
    gateway.terminate().await;
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_was_under_way_in_a_backup_is_not_sent_while_live_payments_are_held() {
    let shop = Shop::new().await;
    let gateway = shop.open().await;
    let merchant = gateway.demo.merchant.clone();
    gateway.terminate().await;
    let key = live_key(&shop.url, &merchant).await;
    let gateway = shop.open().await;
    let client = Client::new(&gateway.demo.base_url, &key);
    let mut payments = Vec::new();
    for provider in ["alipay", "unionpay"] {
        payments.push(paid(&client, &shop.control, provider).await);
    }
    // Two for each: the second waits for its turn, and was never sent when the backup is made.
    shop.control
        .fault(
            json!({"provider": "alipay", "call": "refund", "kind": "http_500", "probability": 1}),
        )
        .await;
    shop.control
        .fault(
            json!({"provider": "unionpay", "call": "refund", "kind": "http_500", "probability": 1}),
        )
        .await;
    for payment in &payments {
        for number in ["first", "second"] {
            ask_back(
                &client,
                id_of(payment),
                &format!("{number}-{}", id_of(payment)),
                10,
            )
            .await;
        }
    }
    let backup = shop.file("backup.db");
    assert!(shop.command(&["backup", &backup]).await.0);
    shop.control.mend().await;
    for payment in &payments {
        client
            .until(id_of(payment), |p| p["amount_refunded"] == 20)
            .await;
    }
    gateway.terminate().await;
    assert!(shop.command(&["restore", &backup]).await.0);

    let calls = async || {
        let (_, calls) = shop.control.call(Method::GET, "/calls", None).await;
        ["alipay", "unionpay"].map(|provider| calls[provider]["refund"].clone())
    };
    let before = calls().await;
    assert!(before.iter().all(Value::is_u64), "{before:?}");
    let gateway = shop.open().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(calls().await, before, "nothing is sent while it is held");
    assert!(shop.command(&["doctor", "--restored"]).await.0);
    assert!(shop.command(&["restore", "--go"]).await.0);
    tokio::time::sleep(Duration::from_secs(15)).await;
    for order in shop.control.orders().await {
        assert_eq!(
            order["refunded"], 20,
            "nothing is given back twice: {order}"
        );
    }
    gateway.terminate().await;
    shop.sandbox.stop().await;
}

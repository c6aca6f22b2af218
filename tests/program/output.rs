//! What the program prints and logs: lines that can be pasted, and no harm when nobody reads them.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{VAULT_KEY, serve, terminate};
use crate::helpers::process::Process;
use crate::helpers::{Client, Control, PATIENCE, database, order, sandbox};

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_lines_make_a_payment_and_pay_it() {
    let sandbox = sandbox().await;
    let folder = TempDir::new().unwrap();
    let process = Process::launch(
        serve(folder.path(), &Control::new(&sandbox).url, "127.0.0.1:0").await,
        folder.path(),
    )
    .await;

    let mut printed = process
        .greeting
        .iter()
        .filter(|line| line.starts_with("curl "));
    let (make, pay) = (printed.next().unwrap(), printed.next().unwrap());
    let sh = async |line: &str| {
        let output = Command::new("sh")
            .args(["-c", line])
            .env("no_proxy", "*")
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice::<Value>(&output.stdout)
            .unwrap_or_else(|_| panic!("{line}: {output:?}"))
    };

    let payment = sh(make).await;
    assert_eq!(
        (&payment["object"], &payment["status"]),
        (&json!("payment"), &json!("requires_action")),
        "{payment}"
    );

    let qr = payment["next_action"]["qr"].as_str().unwrap();
    assert_ne!(
        sh(make).await["id"],
        payment["id"],
        "pasted again, it makes another one"
    );

    sh(&pay.replace("<qr>", qr)).await;
    process
        .client
        .until_status(payment["id"].as_str().unwrap(), "succeeded")
        .await;
    for said in [
        &process.demo.base_url,
        &process.demo.api_key,
        &process.demo.sandbox_url,
    ] {
        assert!(
            process.greeting.iter().any(|line| line.contains(said)),
            "{said}: {:?}",
            process.greeting
        );
    }

    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_serves_although_nobody_reads_what_it_prints() {
    let sandbox = sandbox().await;
    let folder = TempDir::new().unwrap();
    let mut command = serve(folder.path(), &Control::new(&sandbox).url, "127.0.0.1:0").await;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    drop((child.stdout.take(), child.stderr.take()));
    let demo = folder.path().join("demo.json");
    let began = Instant::now();

    while !demo.exists() {
        assert!(
            began.elapsed() < PATIENCE && child.try_wait().unwrap().is_none(),
            "it has stopped"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let demo: interlock::server::demo::Demo =
        serde_json::from_slice(&std::fs::read(&demo).unwrap()).unwrap();
    Client::new(&demo.base_url, &demo.api_key)
        .pay(&order())
        .await
        .expect(201);

    terminate(&mut child).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_log_that_has_stopped_reading_stops_no_payment_and_no_stop() {
    let (folder, sandbox) = (TempDir::new().unwrap(), sandbox().await);
    let url = database(folder.path()).await;
    let log = folder.path().join("stderr.log");

    assert!(
        Command::new("mkfifo")
            .arg(&log)
            .status()
            .await
            .unwrap()
            .success()
    );

    // Open at its other end, and never read.
    let unread = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&log)
        .unwrap();
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

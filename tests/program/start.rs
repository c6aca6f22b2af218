//! Starts: one that cannot succeed says why, and whoever comes second on a folder is refused.

use std::time::Instant;

use tempfile::TempDir;

use super::{VAULT_KEY, complains, run, serve};
use crate::helpers::process::{Process, interlock};
use crate::helpers::{Control, order, sandbox};

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

    let (gateway_says, sandbox_says) = (
        ["cannot listen on", &taken, "in use"],
        ["sandbox", &taken, "in use"],
    );
    let serve = ["serve", "--sandbox", "off", "--data", "data", "--listen"];
    let with = |more: &[&'static str]| {
        [
            &["serve", "--sandbox", "off", "--listen", "127.0.0.1:0"],
            more,
        ]
        .concat()
    };

    type Case<'a> = (&'a [(&'a str, &'a str)], Vec<&'a str>, &'a [&'a str]);
    let cases: Vec<Case<'_>> = vec![
        (&[], [&serve[..], &[taken.as_str()]].concat(), &gateway_says),
        (
            &[],
            [&serve[..], &["nonsense"]].concat(),
            &["cannot listen on nonsense"],
        ),
        (
            &[],
            [&serve[..], &["127.0.0.1:99999"]].concat(),
            &["127.0.0.1:99999"],
        ),
        (
            &[],
            vec![
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--data",
                "d1",
                "--sandbox",
                &taken,
            ],
            &sandbox_says,
        ),
        (
            &[],
            vec![
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--data",
                "d2",
                "--sandbox",
                "nonsense",
            ],
            &["sandbox", "nonsense"],
        ),
        (
            &[],
            vec![
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--data",
                "d3",
                "--sandbox",
                "http://127.0.0.1:1",
            ],
            &["sandbox", "http://127.0.0.1:1"],
        ),
        (
            &[VAULT_KEY],
            with(&["--data", "d4", "--database", "mysql://shop:hidden@db/shop"]),
            &["database", "mysql://shop:***@db/shop", "postgres:"],
        ),
        (
            &[VAULT_KEY],
            with(&[
                "--data",
                "d4",
                "--database",
                "postgres://shop:hidden@127.0.0.1:1/shop?password=hidden",
            ]),
            &["database postgres://shop:***@127.0.0.1:1/shop", "refused"],
        ),
        (
            &[VAULT_KEY],
            with(&["--data", "d4", "--database", "sqlite:///nowhere/shop.db"]),
            &["database sqlite:///nowhere/shop.db"],
        ),
        (
            &[],
            with(&[
                "--data",
                "d4",
                "--database",
                "postgres://shop@127.0.0.1:1/shop",
            ]),
            &["credentials.key"],
        ),
        (&[], with(&["--data", "afile"]), &["afile", "is a file"]),
        (&[], with(&["--data", "afile/data"]), &["afile/data"]),
        (
            &[],
            with(&["--data", "d5", "--config", "unknown.toml"]),
            &["server.drain_seconds", "unknown.toml"],
        ),
        (
            &[],
            with(&["--data", "d5", "--config", "section.toml"]),
            &["servers", "section.toml"],
        ),
        (
            &[],
            with(&["--data", "d5", "--config", "type.toml"]),
            &["server.drain_s", "soon", "type.toml"],
        ),
        (
            &[],
            with(&["--data", "d5", "--config", "zero.toml"]),
            &["payments.max_routes", "0", "zero.toml"],
        ),
        (
            &[],
            with(&["--data", "d5", "--config", "broken.toml"]),
            &["line 1", "broken.toml"],
        ),
        (
            &[],
            with(&["--data", "d5", "--config", "missing.toml"]),
            &["missing.toml"],
        ),
        (
            &[("INTERLOCK__SERVER__DRAIN_S", "soon")],
            with(&["--data", "d5"]),
            &["server.drain_s", "soon", "environment"],
        ),
        (
            &[("INTERLOCK__SERVER__DRAIN", "1")],
            with(&["--data", "d5"]),
            &["server.drain", "environment"],
        ),
        (
            &[("INTERLOCK__PAYMENTS__MAX_ROUTES", "0")],
            with(&["--data", "d5"]),
            &["payments.max_routes", "environment"],
        ),
        (
            &[("INTERLOCK__PAYMENTS__ORDER_PREFIX", "no!")],
            with(&["--data", "d5"]),
            &["payments.order_prefix", "no!"],
        ),
        (
            &[("INTERLOCK__LOG__LEVEL", "a=b=c")],
            with(&["--data", "d5"]),
            &["log.level", "a=b=c"],
        ),
        (
            &[("INTERLOCK__CREDENTIALS__KEY", "0123")],
            with(&["--data", "d5"]),
            &["credentials.key", "64"],
        ),
        (
            &[("INTERLOCK__CREDENTIALS__KEY_FILE", "short.key")],
            with(&["--data", "d5"]),
            &["short.key", "64"],
        ),
        (
            &[("INTERLOCK__CREDENTIALS__KEY_FILE", "missing.key")],
            with(&["--data", "d5"]),
            &["missing.key"],
        ),
    ];

    for (env, args, says) in cases {
        let began = Instant::now();
        let ended = run(folder.path(), env, &args).await;
        println!("{} ({} ms)", ended.err.trim(), began.elapsed().as_millis());
        complains(&ended, says);
        assert!(!ended.err.contains("hidden"), "a password: {}", ended.err);
    }

    assert!(
        !folder.path().join("d5/interlock.db").exists(),
        "a wrong configuration touches nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_of_digits_stays_as_it_was_given() {
    let sandbox = sandbox().await;
    let folder = TempDir::new().unwrap();
    let mut command = serve(folder.path(), &Control::new(&sandbox).url, "127.0.0.1:0").await;
    command.env("INTERLOCK__PAYMENTS__ORDER_PREFIX", "007");
    let process = Process::launch(command, folder.path()).await;
    let payment = process.client.pay(&order()).await.expect(201);
    let order_no = payment["attempts"][0]["provider_order_no"]
        .as_str()
        .unwrap();
    assert!(
        order_no.starts_with("007") && order_no.len() == 25,
        "{order_no}"
    );
    process.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let sandbox = sandbox().await;
    let folder = TempDir::new().unwrap();
    let url = Control::new(&sandbox).url;
    let mut command = interlock();

    command
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--sandbox",
            &url,
            "--data",
        ])
        .arg(folder.path());

    let first = Process::launch(command, folder.path()).await;
    let data = folder.path().display().to_string();

    for args in [
        vec![
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--sandbox",
            &url,
            "--data",
            &data,
        ],
        vec!["migrate", "--data", &data],
    ] {
        complains(
            &run(folder.path(), &[], &args).await,
            &[&data, "another interlock"],
        );
    }

    first.client.pay(&order()).await.expect(201);
    // A process that is killed leaves no lock behind.
    let mut first = first;
    first.child.kill().await.unwrap();
    let migrated = run(folder.path(), &[], &["migrate", "--data", &data]).await;

    assert_eq!(migrated.code, Some(0), "{migrated:?}");
}

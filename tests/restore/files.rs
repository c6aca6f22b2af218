//! What somebody does to the files of a database by hand: nothing that was answered is thrown away,
//! and whoever brings old files back is told what that means.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::shop::{Shop, command, id_of, offer, rows};
use crate::helpers::process::logged;
use crate::helpers::{PATIENCE, order};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_database_is_gone_is_not_thrown_away() {
    let shop = Shop::new().await;
    let mut gateway = shop.open().await;
    let payment = gateway.client.pay(&order()).await.expect(201);
    gateway.child.kill().await.unwrap();

    let (file, aside) = (shop.file("interlock.db"), shop.file("moved.db"));
    std::fs::rename(&file, &aside).unwrap();
    for args in [
        &["key", "list", "demo"][..],
        &["key", "make", "demo"],
        &["merchant", "demo"],
        &["incident"],
        &["restore", "--go"],
        &["doctor", "--ledger"],
        &["migrate"],
        &["serve", "--listen", "127.0.0.1:0"],
    ] {
        let (done, said) = shop.command(args).await;
        assert!(
            !done && said.contains("the log of a database that is not there"),
            "{args:?}: {said}"
        );
    }
    std::fs::rename(&aside, &file).unwrap();
    let gateway = shop.open().await;
    assert_eq!(
        gateway.client.payment(id_of(&payment)).await["status"],
        "requires_action"
    );
    gateway.terminate().await;
    shop.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_makes_no_installation_at_a_place_that_was_mistyped() {
    let folder = TempDir::new().unwrap();
    let typo = folder.path().join("typo");
    let url = format!("sqlite://{}", typo.join("interlock.db").display());

    for args in [
        &["key", "list", "shop"][..],
        &["key", "make", "shop"],
        &["key", "revoke", "key_x"],
        &["merchant", "shop"],
        &["incident"],
        &["restore", "--go"],
        &["backup", "/nowhere/file"],
    ] {
        let (done, said) = command(&typo, &url, "off", args).await;
        assert!(
            !done && said.contains("there is no database; --data says where it is"),
            "{args:?}: {said}"
        );
        assert!(!typo.exists(), "{args:?} makes nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_put_in_place_by_hand_is_refused_until_it_is_restored() {
    let shop = Shop::new().await;
    let mut gateway = shop.open().await;
    let payment = gateway.client.pay(&order()).await.expect(201);
    let (file, backup) = (shop.file("interlock.db"), shop.file("backup.db"));
    assert!(shop.command(&["backup", &backup]).await.0);
    gateway.client.pay(&order()).await.expect(201);
    gateway.child.kill().await.unwrap();

    // Beside it lies the log of the database whose place it has taken.
    assert!(
        std::fs::metadata(shop.file("interlock.db-wal"))
            .unwrap()
            .len()
            > 0
    );
    std::fs::copy(&backup, &file).unwrap();
    for args in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["migrate"],
        &["key", "list", "demo"],
    ] {
        let (done, said) = shop.command(args).await;
        assert!(
            !done
                && said.contains("this is a backup, made 20")
                && said.contains("interlock restore"),
            "{said}"
        );
    }
    assert!(shop.command(&["restore", &backup]).await.0);
    let gateway = shop.open().await;
    assert_eq!(
        gateway.client.payment(id_of(&payment)).await["status"],
        "requires_action"
    );
    gateway.terminate().await;

    // What is restored is no copy any more, and a backup of it is one again, however soon it is
    // made.
    let again = shop.file("again.db");
    assert!(shop.command(&["restore", &backup]).await.0);
    assert!(shop.command(&["backup", &again]).await.0);
    std::fs::copy(&again, &file).unwrap();
    assert!(!shop.command(&["serve", "--listen", "127.0.0.1:0"]).await.0);
    shop.sandbox.stop().await;
}

/// Its call was on its way when the backup was made. Its code was shown and paid afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_payer_who_has_paid_what_the_backup_did_not_know_as_shown_is_asked_for_nothing_more() {
    let shop = Shop::new().await;
    let gateway = shop.open().await;
    shop.control
        .fault(
            json!({"provider": "wechatpay", "call": "create", "kind": "slow", "latency_ms": 2_000}),
        )
        .await;
    let client = gateway.client.clone();
    let paying = tokio::spawn(async move { offer(&client, "wechatpay").await });
    let file = shop.file("interlock.db");
    let began = Instant::now();
    while rows(
        &file,
        "SELECT COUNT(*) AS n FROM attempts WHERE status = 'sending'",
    )
    .await
        == 0
    {
        assert!(began.elapsed() < PATIENCE, "nothing is sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let backup = shop.file("backup.db");
    assert!(shop.command(&["backup", &backup]).await.0);
    assert_eq!(
        rows(
            &backup,
            "SELECT COUNT(*) AS n FROM attempts WHERE status = 'sending'"
        )
        .await,
        1
    );
    let payment = paying.await.unwrap();
    shop.control.mend().await;
    shop.control.pay(&payment).await;
    gateway
        .client
        .until_status(id_of(&payment), "succeeded")
        .await;
    gateway.terminate().await;

    assert!(shop.command(&["restore", &backup]).await.0);
    let gateway = shop.open().await;
    let seen = gateway
        .client
        .until_status(id_of(&payment), "succeeded")
        .await;
    assert_eq!(
        seen["attempts"].as_array().unwrap().len(),
        1,
        "no second code: {seen:#}"
    );
    gateway.terminate().await;
    shop.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database_is_called_damaged() {
    let shop = Shop::new().await;
    let gateway = shop.open().await;
    gateway.client.pay(&order()).await.expect(201);
    let backup = shop.file("backup.db");
    assert!(shop.command(&["backup", &backup]).await.0);
    gateway.terminate().await;

    let file = shop.file("interlock.db");
    let root = rows(
        &file,
        "SELECT rootpage AS n FROM sqlite_schema WHERE name = 'idempotency_keys'",
    )
    .await;
    let size = rows(&file, "SELECT page_size AS n FROM pragma_page_size").await;
    let [root, size] = [root, size].map(|n| u64::try_from(n).unwrap());
    let noise = vec![0xAA; usize::try_from(size).unwrap()];
    File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .write_all_at(&noise, (root - 1) * size)
        .unwrap();
    let (done, said) = shop.command(&["doctor"]).await;
    assert!(
        !done && said.contains("BAD   database: ") && said.contains("it is damaged"),
        "{said}"
    );

    let gateway = shop.open().await;
    assert_eq!(gateway.client.pay(&order()).await.status.as_u16(), 503);
    let began = Instant::now();
    loop {
        let ready = gateway.client.get("/readyz").await;
        let said = String::from_utf8_lossy(&ready.bytes).into_owned();
        if ready.status.as_u16() == 503 && said.contains("database_damaged") {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{said}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Whatever a payment needs: what is written now may rest on what is not there any more.
    for _ in 0..3 {
        assert_eq!(gateway.client.pay(&order()).await.status.as_u16(), 503);
    }
    gateway.terminate().await;

    // A restart forgets nothing of it; a backup that is brought back does.
    let said = shop.refused().await;
    assert!(
        said.contains("found damaged") && said.contains("interlock restore FILE"),
        "{said}"
    );
    let (done, said) = shop.command(&["doctor"]).await;
    assert!(!done && said.contains("found damaged"), "{said}");
    let (done, said) = shop.command(&["restore", &backup]).await;
    assert!(done, "{said}");
    let gateway = shop.open().await;
    assert_eq!(gateway.client.get("/healthz").await.status.as_u16(), 200);
    gateway.terminate().await;
    shop.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_a_second_name_is_nobodys() {
    let shop = Shop::new().await;
    let gateway = shop.open().await;
    gateway.client.pay(&order()).await.expect(201);
    gateway.terminate().await;

    let (file, second) = (shop.file("interlock.db"), shop.file("second.db"));
    std::fs::hard_link(&file, &second).unwrap();
    let said = shop.refused().await;
    assert!(said.contains("has a second name"), "{said}");

    std::fs::remove_file(&second).unwrap();
    let gateway = shop.open().await;
    gateway.client.pay(&order()).await.expect(201);
    gateway.terminate().await;
    shop.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_taken_away_beneath_a_gateway_is_not_written_any_more() {
    for what in ["deleted", "log deleted", "log emptied", "exchanged"] {
        let shop = Shop::new().await;
        let gateway = shop.open().await;
        let payment = gateway.client.pay(&order()).await.expect(201);
        let backup = shop.file("backup.db");
        assert!(shop.command(&["backup", &backup]).await.0);

        let file = shop.file("interlock.db");
        match what {
            "deleted" => {
                for ending in ["", "-wal", "-shm"] {
                    std::fs::remove_file(format!("{file}{ending}")).unwrap();
                }
            }
            "log deleted" => std::fs::remove_file(format!("{file}-wal")).unwrap(),
            "log emptied" => drop(File::create(format!("{file}-wal")).unwrap()),
            _ => std::fs::rename(&backup, &file).unwrap(),
        }
        for _ in 0..3 {
            let answer = gateway.client.pay(&order()).await;
            assert_eq!(
                answer.status.as_u16(),
                503,
                "{what}: {}",
                String::from_utf8_lossy(&answer.bytes)
            );
        }
        let began = std::time::Instant::now();
        loop {
            let ready = gateway.client.get("/readyz").await;
            if ready.status.as_u16() == 503 {
                println!("{what}: {}", String::from_utf8_lossy(&ready.bytes));
                break;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{what}: it says that it is ready"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        logged(shop.folder.path(), "beneath this gateway").await;
        if what == "log deleted" {
            // What was written before is still known to the connections, and goes into the file
            // when they close.
            gateway.terminate().await;
            let gateway = shop.open().await;
            assert_eq!(
                gateway.client.payment(id_of(&payment)).await["status"],
                "requires_action"
            );
            gateway.terminate().await;
        } else {
            gateway.terminate().await;
        }
        shop.sandbox.stop().await;
    }
}

/// The block that the gateway on this folder has noted beside its database.
async fn noted(shop: &Shop, after: i64) -> i64 {
    let began = Instant::now();
    loop {
        let text = std::fs::read(shop.file("ledger.last")).unwrap_or_default();
        let noted = serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .and_then(|last| last["height"].as_i64());
        if let Some(height) = noted.filter(|height| *height > after) {
            return height;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "no block is noted after {after}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn paid(shop: &Shop, gateway: &crate::helpers::process::Process) {
    let payment = gateway.client.pay(&order()).await.expect(201);
    shop.control.pay(&payment).await;
    gateway
        .client
        .until_status(id_of(&payment), "succeeded")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_that_is_put_in_place_by_hand_or_a_log_that_is_thrown_away_is_noticed() {
    let shop = Shop::new().await;
    let file = shop.file("interlock.db");
    let gateway = shop.open().await;
    paid(&shop, &gateway).await;
    let height = noted(&shop, 0).await;
    gateway.terminate().await;
    let older = shop.file("older.db");
    std::fs::copy(&file, &older).unwrap();
    let backup = shop.file("backup.db");
    assert!(shop.command(&["backup", &backup]).await.0);

    // What it has written since is in the log alone: the process is killed, and the log deleted.
    let mut gateway = shop.open().await;
    paid(&shop, &gateway).await;
    noted(&shop, height).await;
    gateway.child.kill().await.unwrap();
    let log = shop.file("interlock.db-wal");
    std::fs::rename(&log, shop.file("log")).unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    let (done, said) = shop.command(&serve).await;
    assert!(
        !done && said.contains("which this gateway has seen sealed, is not in it"),
        "{said}"
    );
    let _ = std::fs::remove_file(&log);
    std::fs::rename(shop.file("log"), &log).unwrap();
    let gateway = shop.open().await;
    paid(&shop, &gateway).await;
    gateway.terminate().await;

    std::fs::copy(&older, &file).unwrap();
    let (done, said) = shop.command(&serve).await;
    assert!(
        !done && said.contains("which this gateway has seen sealed, is not in it"),
        "{said}"
    );

    // A restore means it; and so does whoever deletes the note as well.
    assert!(shop.command(&["restore", &backup]).await.0);
    let gateway = shop.open().await;
    gateway.client.pay(&order()).await.expect(201);
    gateway.terminate().await;
    std::fs::remove_file(&file).unwrap();
    let (done, said) = shop.command(&serve).await;
    assert!(!done && said.contains("is not in it: it is gone"), "{said}");
    std::fs::remove_file(shop.file("ledger.last")).unwrap();
    let gateway = shop.open().await;
    assert_eq!(
        gateway.client.get("/v1/payments").await.expect(200)["data"],
        json!([])
    );
    gateway.terminate().await;
    shop.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_read_the_files_of_a_database_and_a_pipe_is_none() {
    use std::os::unix::fs::PermissionsExt as _;

    let shop = Shop::new().await;
    let gateway = shop.open().await;
    gateway.client.pay(&order()).await.expect(201);
    for name in ["interlock.db", "interlock.db-wal", "interlock.db-shm"] {
        let mode = std::fs::metadata(shop.file(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}: {mode:o}");
    }
    gateway.terminate().await;

    std::fs::rename(shop.file("interlock.db"), shop.file("aside.db")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(shop.file("interlock.db"))
        .status()
        .unwrap();
    assert!(made.success());
    for args in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["doctor"],
        &["key", "list", "demo"],
    ] {
        let (done, said) = shop.command(args).await;
        assert!(
            !done && said.contains("this is not a file"),
            "{args:?}: {said}"
        );
    }
    shop.sandbox.stop().await;
}

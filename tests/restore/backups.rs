//! Backups that are brought back: none that is not whole, on no database that is in use, and each
//! time what was there is kept.

use sea_orm::ConnectionTrait as _;
use tempfile::TempDir;

use super::shop::{Shop, command, id_of};
use crate::helpers::{connect, order};

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_takes_no_file_that_is_not_whole_and_changes_nothing_then() {
    let shop = Shop::new().await;
    let gateway = shop.open().await;
    let payment = gateway.client.pay(&order()).await.expect(201);
    let backup = shop.file("backup.db");
    assert!(shop.command(&["backup", &backup]).await.0);
    gateway.terminate().await;

    let whole = std::fs::read(&backup).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 8_192].fill(0xAA);
    let cut = &whole[..whole.len() / 2];
    for (name, bytes) in [
        ("damaged.db", damaged.as_slice()),
        ("cut.db", cut),
        ("text.db", b"no database"),
        ("empty.db", b""),
    ] {
        std::fs::write(shop.folder.path().join(name), bytes).unwrap();
        let (done, said) = shop.command(&["restore", &shop.file(name)]).await;
        assert!(
            !done && said.contains(name) && said.lines().count() == 1,
            "{said}"
        );
    }
    let newer = shop.file("newer.db");
    std::fs::write(&newer, &whole).unwrap();
    let db = connect(&format!("sqlite://{newer}")).await;
    db.execute_unprepared("INSERT INTO seaql_migrations VALUES ('m20991231_000001_to_come', 0)")
        .await
        .unwrap();
    db.close().await.unwrap();
    let (done, said) = shop.command(&["restore", &newer]).await;
    assert!(
        !done && said.contains("a newer version has made it"),
        "{said}"
    );
    let (done, said) = shop.command(&["restore", &shop.file("interlock.db")]).await;
    assert!(
        !done && said.contains("this is the database itself"),
        "{said}"
    );
    let (done, said) = shop.command(&["restore", "--go"]).await;
    assert!(!done && said.contains("nothing is held"), "{said}");

    // A restore that was interrupted in the middle of it: nothing starts until it was done again.
    std::fs::write(shop.folder.path().join("interlock.db.restoring"), b"").unwrap();
    let (done, said) = shop.command(&["serve", "--listen", "127.0.0.1:0"]).await;
    assert!(
        !done && said.contains("a restore was interrupted"),
        "{said}"
    );
    std::fs::remove_file(shop.folder.path().join("interlock.db")).unwrap();
    assert!(shop.command(&["restore", &backup]).await.0);
    let gateway = shop.open().await;
    assert_eq!(
        gateway.client.payment(id_of(&payment)).await["status"],
        "requires_action"
    );
    gateway.terminate().await;
    shop.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_one_process_s_wherever_its_data_folder_is_and_each_restore_keeps_what_was_there()
 {
    let shop = Shop::new().await;
    let gateway = shop.open().await;
    gateway.client.pay(&order()).await.expect(201);
    let (first, second) = (shop.file("one.db"), shop.file("two.db"));
    assert!(shop.command(&["backup", &first]).await.0);
    gateway.client.pay(&order()).await.expect(201);
    assert!(shop.command(&["backup", &second]).await.0);
    gateway.client.pay(&order()).await.expect(201);

    let elsewhere = TempDir::new().unwrap();
    for args in [
        ["restore", first.as_str()].as_slice(),
        &["serve", "--listen", "127.0.0.1:0"],
    ] {
        let (done, said) = command(elsewhere.path(), &shop.url, "off", args).await;
        assert!(
            !done && (said.contains("a gateway runs") || said.contains("another interlock runs")),
            "{said}"
        );
    }
    gateway.terminate().await;

    // What an interrupted one has left is not read into the next.
    std::fs::write(shop.file("interlock.db.next"), b"half").unwrap();
    std::fs::write(shop.file("interlock.db.next-journal"), vec![0xD9; 4_096]).unwrap();
    for backup in [&first, &second, &first] {
        let (done, said) = shop.command(&["restore", backup]).await;
        assert!(done, "{said}");
    }
    let names = std::fs::read_dir(shop.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut kept: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    kept.retain(|name| {
        name.contains(".before-") || name.contains(".next") || name.contains(".part")
    });
    assert_eq!(
        kept.len(),
        3,
        "three databases were there, each is one file: {kept:?}"
    );
    let mut payments = Vec::new();
    for name in &kept {
        let whole = interlock::store::copy::examine(&shop.folder.path().join(name), "restored")
            .await
            .unwrap();
        payments.push(whole.payments);
    }
    payments.sort_unstable();
    assert_eq!(payments, [1, 2, 3]);
    shop.sandbox.stop().await;
}

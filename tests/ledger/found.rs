//! What is done past the code is found: entries, blocks and rows that were changed, removed or
//! slipped in. By the real program, too.

use super::{agrees, unsealed, verdict};
use crate::helpers::TestApp;
use crate::helpers::facts::Facts;
use crate::helpers::process::interlock;
use interlock::jobs;

/// Three payments, one of them refunded in part: five entries, all sealed.
async fn filled() -> (TestApp, Facts, String) {
    let app = unsealed().await;
    let facts = Facts::of(&app).await;
    let refunded = app.paid().await["id"].as_str().unwrap().to_owned();
    app.paid().await;
    app.paid().await;
    app.client.refund(&refunded, 1000).await.expect(201);
    app.client
        .until(&refunded, |p| p["amount_refunded"] == 1000)
        .await;
    jobs::ledger::step(app.app()).await.unwrap();
    assert_eq!(agrees(&app).await.unsealed, 0);
    (app, facts, refunded)
}

/// Does this to the database, expects that it is found in these words, and puts everything back.
async fn is_found(app: &TestApp, facts: &Facts, sql: &str, says: &[&str]) {
    let tables = [
        "ledger_entries",
        "ledger_blocks",
        "payments",
        "attempts",
        "refunds",
    ];

    for table in tables {
        facts
            .execute(&format!(
                "CREATE TABLE saved_{table} AS SELECT * FROM {table}"
            ))
            .await
            .unwrap();
    }

    let done = facts.execute(sql).await.unwrap();
    assert!(done > 0, "{sql} changed nothing");
    let report = verdict(app).await;
    let all: Vec<String> = report
        .deviations
        .iter()
        .map(|d| format!("{}: {}", d.place, d.what))
        .collect();

    for words in says {
        assert!(
            all.iter().any(|found| found.contains(words)),
            "{sql}: {words:?} is not in {all:#?}"
        );
    }

    let backwards = ["refunds", "ledger_entries", "ledger_blocks"];
    for table in backwards {
        facts
            .execute(&format!("DELETE FROM {table}"))
            .await
            .unwrap();
    }

    for table in ["payments", "attempts"] {
        // They are referred to: their columns are put back, not the rows.
        let columns = facts
            .rows(&format!("SELECT * FROM saved_{table} LIMIT 1"))
            .await;
        let columns = columns[0]
            .as_object()
            .unwrap()
            .keys()
            .filter(|c| *c != "id")
            .cloned()
            .collect::<Vec<_>>();
        let list = columns
            .iter()
            .map(|c| format!("\"{c}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let back = format!(
            "UPDATE {table} SET ({list}) = (SELECT {list} FROM saved_{table} s WHERE s.id = \
            {table}.id)"
        );
        facts.execute(&back).await.unwrap();
    }

    for table in ["ledger_blocks", "ledger_entries", "refunds"] {
        facts
            .execute(&format!("INSERT INTO {table} SELECT * FROM saved_{table}"))
            .await
            .unwrap();
    }

    for table in tables {
        facts
            .execute(&format!("DROP TABLE saved_{table}"))
            .await
            .unwrap();
    }

    agrees(app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_done_past_the_code_is_found() {
    let (app, facts, id) = filled().await;
    let entry = |seq: i32| format!("payment_id = '{id}' AND seq = {seq}");
    let cases: Vec<(String, Vec<&str>)> = vec![
        (
            format!("UPDATE ledger_entries SET amount = 1 WHERE {}", entry(2)),
            vec!["entry 2 was changed", "by the rows"],
        ),
        (
            format!(
                "UPDATE ledger_entries SET debit = 'held' WHERE {}",
                entry(1)
            ),
            vec!["entry 1 was changed"],
        ),
        (
            format!(
                "UPDATE ledger_entries SET debit = 'nonsense' WHERE {}",
                entry(1)
            ),
            vec!["entry 1 cannot be read"],
        ),
        (
            format!("UPDATE ledger_entries SET at = at + 1 WHERE {}", entry(3)),
            vec!["entry 3 was changed"],
        ),
        (
            format!(
                "UPDATE ledger_entries SET merchant_id = 'mer_2' WHERE {}",
                entry(1)
            ),
            vec!["entry 1 belongs to"],
        ),
        (
            format!(
                "UPDATE ledger_entries SET hash = previous, amount = 1 WHERE {}",
                entry(2)
            ),
            vec!["entry 2 was changed", "entry 3 does not follow", "block 1"],
        ),
        (
            format!("DELETE FROM ledger_entries WHERE {}", entry(2)),
            vec!["entry 2 is missing", "block 1: it has sealed 5"],
        ),
        (
            format!("DELETE FROM ledger_entries WHERE {}", entry(3)),
            vec!["the chain ends with entry 2", "block 1"],
        ),
        (
            format!(
                "INSERT INTO ledger_entries SELECT payment_id, 4, merchant_id, livemode, cause, \
                attempt_id, refund_id, account_id, debit, credit, amount, currency, at, hash, \
                hash, NULL FROM ledger_entries WHERE {}",
                entry(3)
            ),
            vec!["entry 4 was changed", "the chain ends with entry 4"],
        ),
        (
            format!("UPDATE ledger_entries SET block = 7 WHERE {}", entry(1)),
            vec!["to no block", "block 1"],
        ),
        (
            "UPDATE ledger_blocks SET entries = 4".to_owned(),
            vec!["block 1: it was changed", "it has sealed 4"],
        ),
        (
            "UPDATE ledger_blocks SET hash = entries_hash".to_owned(),
            vec!["block 1: it was changed"],
        ),
        ("DELETE FROM ledger_blocks".to_owned(), vec!["to no block"]),
        (
            format!("UPDATE payments SET status = 'failed' WHERE id = '{id}'"),
            vec!["its status is failed"],
        ),
        (
            format!("UPDATE payments SET ledger_entries = 2 WHERE id = '{id}'"),
            vec!["payment's row with entry 2"],
        ),
        (
            format!("UPDATE payments SET status = 'nonsense' WHERE id = '{id}'"),
            vec!["cannot be read"],
        ),
        (
            format!("UPDATE attempts SET captured = 9999 WHERE payment_id = '{id}'"),
            vec!["at_provider is 7888 fen"],
        ),
        (
            format!("UPDATE attempts SET disposition = 'held' WHERE payment_id = '{id}'"),
            vec!["kept is -7888 fen"],
        ),
        (
            "UPDATE refunds SET amount = 999".to_owned(),
            vec!["7888 fen in the ledger and 7889 fen by the rows"],
        ),
        (
            "UPDATE refunds SET status = 'failed'".to_owned(),
            vec!["by the rows"],
        ),
    ];

    for (sql, says) in &cases {
        is_found(&app, &facts, sql, says).await;
    }
    app.stop().await;
}

/// Runs `interlock doctor --ledger` on the gateway's database, beside the gateway.
async fn doctor(app: &TestApp, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = interlock();
    command
        .args(["doctor", "--ledger", "--database", &app.database])
        .args(more);
    let ended = command.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        ended.status.code(),
        text(&ended.stdout),
        text(&ended.stderr),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_says_so_with_its_exit_code_and_needs_only_the_database() {
    let (app, facts, id) = filled().await;
    let (code, out, err) = doctor(&app, &[]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    for words in [
        "3 payments, 5 entries, 0 not sealed",
        "at_provider",
        "sealed up to block 1",
        "agrees with the books",
    ] {
        assert!(out.contains(words), "{words:?} is not in {out}");
    }
    let anchor = out
        .split("--anchor ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(doctor(&app, &["--anchor", &anchor]).await.0, Some(0));
    let wrong = format!("1:{}", "0".repeat(64));
    let (code, out, _) = doctor(&app, &["--anchor", &wrong]).await;
    assert!(
        code == Some(1) && out.contains("not the one that the anchor names"),
        "{out}"
    );
    let (code, _, err) = doctor(&app, &["--anchor", "nonsense"]).await;
    assert!(code == Some(1) && err.contains("--anchor"), "{err}");

    facts
        .execute("UPDATE ledger_entries SET amount = amount + 1 WHERE seq = 1")
        .await
        .unwrap();
    let (code, out, err) = doctor(&app, &[]).await;
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains(&format!("DEVIATION  {id}: entry 1 was changed")),
        "{out}"
    );
    assert!(
        err.starts_with("interlock: the ledger deviates in") && err.lines().count() == 1,
        "{err}"
    );
    assert!(!out.contains("agrees with the books"), "{out}");
    app.stop().await;

    let missing = interlock()
        .args([
            "doctor",
            "--ledger",
            "--database",
            "sqlite:///nowhere/shop.db",
        ])
        .output()
        .await;
    assert_eq!(missing.unwrap().status.code(), Some(1));
}

/// Everything at once that belongs to a payment, written anew in all its hashes: only what is
/// outside knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_rewritten_with_all_its_hashes_is_found_by_the_block_that_seals_it() {
    let (app, facts, id) = filled().await;
    let anchor = verdict(&app).await.last_block.unwrap();
    let rewrite = async || {
        let store = &app.app().store;
        let mut previous = String::new();
        for seq in 1..=3 {
            let mut entry = store
                .ledger_entry(&app.owner(), &id.parse().unwrap(), seq)
                .await
                .unwrap()
                .unwrap();
            entry.transfer.account_id.clone_from(&app.unionpay);
            entry.previous.clone_from(&previous);
            previous = entry.computed_hash();
            let sql = format!(
                "UPDATE ledger_entries SET account_id = '{}', previous = '{}', hash = '{previous}' \
                 WHERE payment_id = '{id}' AND seq = {seq}",
                app.unionpay, entry.previous
            );
            facts.execute(&sql).await.unwrap();
        }
        facts
            .execute(&format!(
                "UPDATE payments SET ledger_hash = '{previous}' WHERE id = '{id}'"
            ))
            .await
            .unwrap();
        let moved = format!(
            "UPDATE attempts SET account_id = '{}' WHERE payment_id = '{id}'",
            app.unionpay
        );
        facts.execute(&moved).await.unwrap();
    };
    rewrite().await;
    let found = verdict(&app).await;
    let places: Vec<&str> = found.deviations.iter().map(|d| d.place.as_str()).collect();
    assert_eq!(places, ["block 1"], "{found:#?}");

    // With the blocks made anew as well, nothing inside can tell; a block that was noted elsewhere
    // can.
    facts
        .execute("UPDATE ledger_entries SET block = NULL")
        .await
        .unwrap();
    facts.execute("DELETE FROM ledger_blocks").await.unwrap();
    jobs::ledger::step(app.app()).await.unwrap();
    agrees(&app).await;
    let store = &app.app().store;
    let found = store
        .check_ledger(Some((anchor.height, &anchor.hash)), 5)
        .await
        .unwrap();
    assert_eq!(
        found.deviations[0].what,
        "it is not the one that the anchor names"
    );
    app.stop().await;
}

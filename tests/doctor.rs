//! `interlock doctor`: it finds what is missing, says how to mend it, and changes nothing.

use serde_json::json;

use crate::helpers::facts::Facts;
use crate::helpers::process::interlock;
use crate::helpers::redis::Redis;
use crate::helpers::{TestApp, rows};

struct Said {
    code: Option<i32>,
    lines: Vec<String>,
}

impl Said {
    /// The sign of the line about this, and what follows it.
    #[track_caller]
    fn about(&self, what: &str) -> (&str, &str) {
        let at = self
            .lines
            .iter()
            .position(|line| line.get(6..).is_some_and(|rest| rest.starts_with(what)));
        let at = at.unwrap_or_else(|| panic!("nothing about {what} in {:#?}", self.lines));
        let next = self.lines.get(at + 1).map_or("", String::as_str);
        (
            self.lines[at].split_whitespace().next().unwrap(),
            if next.starts_with("      -> ") {
                next
            } else {
                ""
            },
        )
    }
}

/// The real program, with the folder and the database of a gateway that runs.
async fn doctor(app: &TestApp, more: &[&str], env: &[(&str, &str)]) -> Said {
    let mut command = interlock();
    command
        .args(["doctor", "--database", &app.database, "--data"])
        .arg(app.folder.path())
        .args(more);
    command.envs(env.iter().copied());
    let ended = command.output().await.unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    let secrets = ["hunter2", "PRIVATE KEY", "app_private_key"];
    let err = String::from_utf8(ended.stderr).unwrap();

    assert!(
        secrets
            .iter()
            .all(|secret| !text.contains(secret) && !err.contains(secret)),
        "{text}{err}"
    );

    Said {
        code: ended.status.code(),
        lines: text.lines().map(str::to_owned).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_asks_every_part_and_says_how_to_mend_what_does_not_work() {
    let app = TestApp::start().await;
    let redis = Redis::start().await;
    let facts = Facts::of(&app).await;
    let tables = ["accounts", "installation", "payments", "seaql_migrations"];
    let before = rows::of(&facts.0, &tables).await;
    let said = doctor(&app, &["--redis", &redis.url()], &[]).await;
    for what in [
        "configuration: every key",
        "credentials: the key",
        "redis: it answers",
        "database: it answers",
        "clock",
    ] {
        assert_eq!(said.about(what).0, "ok", "{:#?}", said.lines);
    }
    for id in [&app.alipay, &app.wechatpay, &app.unionpay] {
        assert_eq!(
            said.about(&format!("account {id}")).0,
            "ok",
            "{:#?}",
            said.lines
        );
    }
    // The tests' own PostgreSQL is fast and forgetful, and the doctor says so.
    let forgetful = app.database.starts_with("postgres");
    assert_eq!(said.code, Some(i32::from(forgetful)), "{:#?}", said.lines);
    if forgetful {
        assert_eq!(said.about("database: fsync is off").0, "BAD");
    }
    assert_eq!(rows::of(&facts.0, &tables).await, before, "it only looks");

    // One provider does not answer, another one's account has somebody else's key, Redis is gone.
    app.control
        .fault(json!({"provider": "wechatpay", "kind": "refuse"}))
        .await;
    let unsealed = format!(
        "UPDATE accounts SET credentials = (SELECT credentials FROM accounts WHERE id = '{}') \
                            WHERE id = '{}'",
        app.wechatpay, app.alipay
    );
    facts.execute(&unsealed).await.unwrap();
    let gone = "redis://:hunter2@127.0.0.1:1";
    let said = doctor(&app, &["--redis", gone], &[]).await;
    assert_eq!(said.code, Some(1));
    for (what, mend) in [
        ("redis", "check redis.url"),
        (&format!("account {}", app.wechatpay), "firewall"),
        (&format!("account {}", app.alipay), "credentials"),
    ] {
        let (sign, next) = said.about(what);
        assert!(
            sign == "BAD" && next.contains(mend),
            "{what}: {:#?}",
            said.lines
        );
    }
    assert_eq!(said.about(&format!("account {}", app.unionpay)).0, "ok");

    let wrong = [("INTERLOCK__CREDENTIALS__KEY", "hunter2")];
    let said = doctor(&app, &[], &wrong).await;
    assert_eq!(
        (said.about("credentials").0, said.about("accounts").0),
        ("BAD", "BAD")
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_or_not_up_to_date_is_said_to_be_so_and_stays_as_it_is() {
    let app = TestApp::start().await;
    let facts = Facts::of(&app).await;
    facts
        .execute("DELETE FROM seaql_migrations WHERE version LIKE '%ledger'")
        .await
        .unwrap();
    let said = doctor(&app, &[], &[]).await;
    let (sign, mend) = said.about("database: its tables lack m20260101_000007_ledger");
    assert!(
        sign == "BAD" && mend.contains("interlock migrate") && said.code == Some(1),
        "{:#?}",
        said.lines
    );
    assert_eq!(
        facts
            .count("seaql_migrations WHERE version LIKE '%ledger'")
            .await,
        0
    );

    let nowhere = app.folder.path().join("nowhere.db");
    let url = format!("sqlite://{}", nowhere.display());
    let ended = interlock()
        .args(["doctor", "--database", &url, "--data"])
        .arg(app.folder.path())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(
        ended.status.code() == Some(1) && text.contains("there is no such file"),
        "{text}"
    );
    assert!(!nowhere.exists(), "the doctor makes no database");
    app.stop().await;
}

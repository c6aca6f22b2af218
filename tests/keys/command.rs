//! `interlock key`, `merchant` and `incident`, beside a gateway that has the embedded database, and
//! on PostgreSQL.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::helpers::process::{Process, interlock};
use crate::helpers::{Client, Control, database, order, sandbox};

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn command(args: &[&str], place: &[&str]) -> Ended {
    let ended = interlock()
        .args(args)
        .args(place)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended {
        code: ended.status.code(),
        out: text(ended.stdout),
        err: text(ended.stderr),
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_work_beside_a_running_gateway() {
    let sandbox = sandbox().await;
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let shown = data.display().to_string();
    // The embedded one where SQLite is tried: nothing is said about it.
    let on_postgres = crate::helpers::on_postgres();
    let url = if on_postgres {
        database(folder.path()).await
    } else {
        String::new()
    };
    let mut place = vec!["--data", shown.as_str()];
    if on_postgres {
        place.extend(["--database", url.as_str()]);
    }
    let mut serving = interlock();
    serving
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--sandbox",
            &Control::new(&sandbox).url,
        ])
        .args(&place);
    let process = Process::launch(serving, &data).await;
    assert_eq!(mode(&data), 0o700);
    let socket = data.join("control.sock");
    assert_eq!(socket.exists(), !on_postgres);
    if !on_postgres {
        assert_eq!(mode(&socket), 0o600);
    }

    let good = async |args: &[&str]| {
        let ended = command(args, &place).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{args:?}");
        ended.out.trim().to_owned()
    };
    let shop = good(&["merchant", "Tea shop"]).await;
    assert!(shop.starts_with("mer_"), "{shop}");
    assert_eq!(good(&["merchant", "Tea shop"]).await, shop);
    // As scripts have always written it, and as it is written now.
    let old = good(&["key", "Tea shop", "--scopes", "pay,admin", "--live"]).await;
    let new = good(&["key", "make", "Tea shop", "--name", "till 3"]).await;
    assert!(
        old.starts_with("sk_live_") && new.starts_with("sk_test_"),
        "{old} {new}"
    );
    let client = |key: &str| Client::new(&process.demo.base_url, key);
    client(&old).get("/v1/payments").await.expect(200);
    client(&new).get("/v1/payments").await.expect(200);
    let list = good(&["key", "list", "Tea shop"]).await;
    assert_eq!(list.lines().count(), 2, "{list}");
    let line = list.lines().find(|line| line.contains("till 3")).unwrap();
    assert!(
        line.contains("pay,refund") && line.contains("in use") && !list.contains(&new[8..]),
        "{list}"
    );
    let id = line.split_whitespace().next().unwrap();
    let revoked = good(&["key", "revoke", id]).await;
    let since = Instant::now();
    assert!(revoked.contains("revoked"), "{revoked}");
    while client(&new).get("/v1/payments").await.status != 401 {
        assert!(
            since.elapsed() < Duration::from_secs(1),
            "works nowhere within a second"
        );
    }
    assert!(!good(&["incident"]).await.is_empty());

    for (args, says) in [
        (vec!["key", "nobody"], "no merchant"),
        (
            vec!["key", "make", "Tea shop", "--scopes", "fly"],
            "--scopes",
        ),
        (vec!["key", "make", "Tea shop", "--name", ""], "--name"),
        (vec!["key", "revoke", "key_nobody"], "no key"),
        (vec!["key", "revoke", "sk_live_pasted"], "no key"),
        (vec!["incident", "inc_nobody"], "no incident"),
        (vec!["merchant", " "], "name"),
    ] {
        let ended = command(&args, &place).await;
        assert!(
            ended.code == Some(1) && ended.err.contains(says) && ended.out.is_empty(),
            "{args:?}: {}",
            ended.err
        );
        assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    }
    if !on_postgres {
        for odd in [
            "\n",
            "nonsense\n",
            "{\"database\":\"x\",\"command\":{\"fly\":{}}}\n",
            "{\"database\":\"x\",\"command\":{\"merchant\":{\"name\":\"x\"}}}\n",
        ] {
            let answer = said(&socket, odd.as_bytes()).await;
            assert!(answer.starts_with("{\"failed\":"), "{odd}: {answer}");
        }
        assert!(
            !said(&socket, &vec![b'x'; 100_000]).await.contains("done"),
            "too long"
        );
        let elsewhere = format!("sqlite://{}", folder.path().join("other.db").display());
        let ended = command(
            &["merchant", "x"],
            &["--data", &shown, "--database", &elsewhere],
        )
        .await;
        assert!(ended.err.contains("another database"), "{}", ended.err);
    }
    process.client.pay(&order()).await.expect(201);
    process.terminate().await;
    assert!(!socket.exists(), "it takes its socket along");
    // Without a gateway the same commands open the database.
    assert_eq!(good(&["merchant", "Tea shop"]).await, shop);
    assert!(good(&["key", "list", "Tea shop"]).await.contains("revoked"));
}

/// What the socket answers to these bytes.
async fn said(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

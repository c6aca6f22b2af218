//! A private PostgreSQL for tests that do to a server what no other test may be disturbed by. It
//! ends when it is dropped.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

/// A running server.
pub struct Postgres {
    pub url: String,
    pub folder: TempDir,
    _server: Child,
}

/// Where its programs are.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders
        .into_iter()
        .rev()
        .find(|folder| folder.join("initdb").is_file())
        .expect("PostgreSQL's programs")
}

/// It refuses to run as root.
fn stepping_down(program: PathBuf) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(program);
    command
}

impl Postgres {
    /// Starts one with these settings.
    pub async fn start(settings: &[&str]) -> Self {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = TempDir::new().unwrap();
        let data = folder.path().join("pg");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(&data).unwrap();
        if rustix::process::geteuid().is_root() {
            let (user, group) = (Some(65_534), Some(65_534));
            std::os::unix::fs::chown(&data, user, group).unwrap();
        }
        let mut making = stepping_down(programs().join("initdb"));
        making
            .args([
                "-U",
                "interlock",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-N",
                "-D",
            ])
            .arg(&data);
        let made = making
            .current_dir("/")
            .stdout(Stdio::null())
            .output()
            .await
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = super::redis::free_port();
        let mut serving = stepping_down(programs().join("postgres"));
        serving.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        let fixed = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=100",
            "fsync=off",
        ];
        for setting in fixed.iter().chain(settings) {
            serving.args(["-c", setting]);
        }
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let server = serving
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let url = format!("postgres://interlock@127.0.0.1:{port}/postgres");
        let began = std::time::Instant::now();
        while sea_orm::Database::connect(&url).await.is_err() {
            assert!(
                began.elapsed() < super::PATIENCE,
                "PostgreSQL does not start"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Self {
            url,
            folder,
            _server: server,
        }
    }
}

//! What operators see, read by the tools that they use: Prometheus, promtool, an OTLP decoder and a
//! YAML parser that are not ours.

mod compose;
mod names;
mod prometheus;
mod traces;

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

/// The folder with the Python packages that tests need.
fn python_packages() -> String {
    std::env::var("INTERLOCK_TEST_PYTHONPATH").expect(
        "INTERLOCK_TEST_PYTHONPATH must name a folder with the Python packages of tests/run, which \
        makes one, or: python3 -m pip install --target FOLDER standardwebhooks opentelemetry-proto \
        PyYAML",
    )
}

/// A Python program, or an option, that finds those packages.
fn python(first: &str) -> Command {
    let mut command = Command::new("python3");
    command
        .arg(first)
        .env("PYTHONPATH", python_packages())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A file of the repository.
fn in_repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Any YAML as JSON, by PyYAML.
async fn yaml(path: &str) -> serde_json::Value {
    let file = in_repository(path);
    let program = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1], \
                   encoding='utf-8'))))";
    let read = python("-c").arg(program).arg(&file).output().await.unwrap();
    assert!(
        read.status.success(),
        "{path}: {}",
        String::from_utf8_lossy(&read.stderr)
    );
    serde_json::from_slice(&read.stdout).unwrap()
}

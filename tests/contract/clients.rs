//! Clients that others make from `/openapi.json` make, read and refund a payment at a running
//! gateway, and a fuzzer that reads it finds no answer outside of it. The generators are
//! openapi-typescript and openapi-python-client, the fuzzer is schemathesis; `tests/run` fetches
//! all of them.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::helpers::TestApp;

/// For so long the fuzzer goes on, in seconds.
const FUZZED_S: &str = "60";

/// What `tests/run` has fetched.
fn fetched(variable: &str) -> PathBuf {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    folder.unwrap_or_else(|| {
        panic!("{variable} must name the folder of packages that tests/run makes")
    })
}

fn python(module: &str) -> Command {
    let mut command = Command::new("python3");
    command
        .args(["-m", module])
        .env("PYTHONPATH", fetched("INTERLOCK_TEST_PYTHONPATH"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_COLOR", "1");
    command
}

/// A program of a package for Node.js, in a folder that sees the packages.
fn node(folder: &Path, program: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(program).current_dir(folder);
    command
}

#[track_caller]
fn ran(command: &mut Command) -> impl Future<Output = Output> + use<> {
    let at = std::panic::Location::caller();
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();

    async move {
        let output = output
            .await
            .unwrap_or_else(|e| panic!("{at}: {shown}: {e}"));
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "{at}: {shown}: {}\n{out}\n{err}",
            output.status
        );
        output
    }
}

/// The document in a folder of its own.
async fn document(app: &TestApp) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("openapi.json");
    std::fs::write(&path, app.client.get("/openapi.json").await.bytes).unwrap();
    (folder, path)
}

/// What a client says that it has done is what the gateway has.
async fn is_done(app: &TestApp, said: &Output) {
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    println!("{said}");
    let payment = app.client.payment(said["payment"].as_str().unwrap()).await;

    assert_eq!(
        (&payment["status"], &payment["amount"]),
        (&said["status"], &said["amount"]),
        "{payment}"
    );

    assert_eq!(
        (payment["status"].as_str(), payment["amount"].as_i64()),
        (Some("succeeded"), Some(8888))
    );
    assert_eq!(payment["refunds"][0]["id"], said["refund"], "{payment}");

    assert_eq!(
        (
            payment["refunds"].as_array().unwrap().len(),
            &payment["refunds"][0]["amount"]
        ),
        (1, &said["refunded"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_made_from_the_description_makes_reads_and_refunds_a_payment() {
    let app = TestApp::start().await;
    let (folder, document) = document(&app).await;
    // What it makes is left as it is: no formatter is looked for.
    let settings = folder.path().join("settings.json");
    std::fs::write(&settings, r#"{"post_hooks": []}"#).unwrap();
    let made = folder.path().join("interlock_client");
    let generate = ran(python("openapi_python_client")
        .args(["generate", "--meta", "none", "--fail-on-warning", "--path"])
        .arg(&document)
        .arg("--config")
        .arg(&settings)
        .arg("--output-path")
        .arg(&made));
    generate.await;

    let path = std::env::join_paths([
        folder.path().to_path_buf(),
        fetched("INTERLOCK_TEST_PYTHONPATH"),
    ])
    .unwrap();
    let said = ran(Command::new("python3")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/contract/client.py"
        ))
        .args([&app.client.base, &app.client.key, &app.control.url])
        .env("PYTHONPATH", path)
        .env("PYTHONDONTWRITEBYTECODE", "1"));
    is_done(&app, &said.await).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typescript_client_made_from_the_description_makes_reads_and_refunds_a_payment() {
    let app = TestApp::start().await;
    let (folder, _) = document(&app).await;
    let (folder, packages) = (folder.path(), fetched("INTERLOCK_TEST_NODE_MODULES"));
    std::os::unix::fs::symlink(&packages, folder.join("node_modules")).unwrap();
    std::fs::write(folder.join("package.json"), r#"{"type": "module"}"#).unwrap();
    std::fs::write(folder.join("client.ts"), include_str!("client.ts")).unwrap();
    ran(
        node(folder, "node_modules/openapi-typescript/bin/cli.js").args([
            "openapi.json",
            "--output",
            "schema.d.ts",
        ]),
    )
    .await;

    let checks = [
        "--strict",
        "--noUncheckedIndexedAccess",
        "--exactOptionalPropertyTypes",
    ];
    let target = [
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--lib",
        "es2022,dom,dom.iterable",
        "client.ts",
    ];
    ran(node(folder, "node_modules/typescript/bin/tsc")
        .args(checks)
        .args(target))
    .await;
    let said =
        ran(node(folder, "client.js").args([&app.client.base, &app.client.key, &app.control.url]));
    is_done(&app, &said.await).await;
    app.stop().await;
}

/// Calls that would end the run: a key that is revoked asks for nothing any more.
const LEFT_OUT: &str = "revoke_key";

#[tokio::test(flavor = "multi_thread")]
async fn a_fuzzer_finds_no_answer_that_is_not_described() {
    let app = TestApp::start().await;
    let (folder, document) = document(&app).await;

    // Something to be found by whoever follows lists.
    app.client
        .refund(app.paid().await["id"].as_str().unwrap(), 1)
        .await
        .expect(201);

    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                  response_schema_conformance,unsupported_method,missing_required_header,ignored_auth";
    let said = ran(python("schemathesis.cli")
        .arg("run")
        .arg(&document)
        .args([
            "--url",
            &app.client.base,
            "--header",
            &format!("Authorization: Bearer {}", app.client.key),
        ])
        .args(["--checks", checks, "--exclude-operation-id", LEFT_OUT])
        .args(["--max-time", FUZZED_S, "--warnings", "off", "--no-color"])
        .current_dir(folder.path()));

    let said = String::from_utf8_lossy(&said.await.stdout).into_owned();
    println!("{said}");
    assert!(said.contains("No issues found"), "{said}");

    app.client.get("/readyz").await.expect(200);
    app.stop().await;
}

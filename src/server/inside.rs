//! The sandbox inside a gateway, or in a program of its own: with the keys and the book that lie in
//! the data folder.

use std::path::Path;
use std::sync::Arc;

use chrono::TimeDelta;
pub use providers::sandbox::Sandbox;
use providers::sandbox::keys::Keys;
use providers::sandbox::{LOG, Options};
use serde_json::Value;

use super::sandbox_side::{SandboxSide, control_address, face_addresses};
use crate::app::App;
use crate::domain::AllOwners;
use crate::installation::StartError;
use crate::installation::folder::write_secret;

/// Starts a gateway's own sandbox, and says what the gateway has to know of it.
pub(super) async fn start(
    address: &str,
    folder: &Path,
) -> Result<(Sandbox, SandboxSide), StartError> {
    let sandbox = start_sandbox(address, folder).await?;
    let side = SandboxSide {
        control_url: format!("http://{}", sandbox.control()),
        faces: members(sandbox.face_urls()),
        credentials: members(sandbox.credentials()),
    };
    Ok((sandbox, side))
}

fn members(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            serde_json::Map::new()
        }
    }
}

/// Starts a sandbox with its control at `address` and its faces at the following ports, with the
/// keys and the book that lie in `folder`.
///
/// # Errors
/// [`StartError`].
pub async fn start_sandbox(address: &str, folder: &Path) -> Result<Sandbox, StartError> {
    let control = control_address(address)?;
    let keys = sandbox_keys(folder).await?;
    let book = std::fs::read(folder.join("sandbox-book.json")).ok();
    let book = book.and_then(|text| serde_json::from_slice(&text).ok());
    let faces = face_addresses(control);
    Sandbox::start(Options {
        control,
        faces,
        keys,
        book,
        log: LOG,
    })
    .await
    .map_err(|e| StartError::Sandbox(e.to_string()))
}

async fn sandbox_keys(folder: &Path) -> Result<Keys, StartError> {
    let path = folder.join("sandbox-keys.json");
    let known: Option<Keys> = match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).map_err(|e| StartError::file(&path, e))?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(StartError::file(&path, e)),
    };

    let before = known.clone();
    let keys = tokio::task::spawn_blocking(move || known.unwrap_or_default().completed())
        .await
        .map_err(|e| StartError::Sandbox(e.to_string()))?
        .map_err(|e| StartError::Sandbox(e.to_string()))?;

    if before.as_ref() != Some(&keys) {
        let text = serde_json::to_vec(&keys).map_err(|e| StartError::file(&path, e))?;
        write_secret(&path, &text)?;
    }

    Ok(keys)
}

/// The gateway's time goes with that of the sandbox inside it, from the start: an order of before
/// is as old to both.
pub(super) async fn take_along(app: &Arc<App>, sandbox: &Sandbox) {
    let weak = Arc::downgrade(app);
    sandbox.accompany(Box::new(move |ahead| {
        let app = weak.upgrade();
        Box::pin(async move {
            match app {
                Some(app) => go_along(&app, ahead).await,
                None => Err("the gateway has stopped".to_owned()),
            }
        })
    }));

    let ahead = sandbox.clock().ahead();
    if ahead > TimeDelta::zero()
        && let Err(why) = go_along(app, ahead).await
    {
        tracing::warn!(
            ahead_s = ahead.num_seconds(),
            why,
            "the sandbox's clock was moved, and this gateway's was not"
        );
    }
}

/// Moves the gateway's time, where nobody needs the real one.
async fn go_along(app: &App, ahead: TimeDelta) -> Result<(), String> {
    if app.config.database_file().is_none() || !app.config.redis.url.is_empty() {
        return Err(
            "gateways that share a database or a Redis keep the real time: nothing was \
            moved; \"alone\": true moves the sandbox's time without theirs"
                .to_owned(),
        );
    }

    let accounts = app
        .store
        .accounts(AllOwners)
        .await
        .map_err(|e| format!("nothing was moved: {e}"))?;

    if let Some(live) = accounts.iter().find(|account| account.owner.is_live()) {
        return Err(format!(
            "{} is a live account, which needs the real time: nothing was moved",
            live.id
        ));
    }

    app.clock
        .go_with_sandbox(ahead.to_std().unwrap_or_default());
    Ok(())
}

/// A sandbox that is a program of its own moves nobody else's time, and so none, unless that is
/// what is wanted.
pub fn stand_alone(sandbox: &Sandbox) {
    let why = "this sandbox is a program of its own, and gateways that use it keep the real time: \
               nothing was moved. `interlock serve` has a sandbox inside that takes it \
               along; \"alone\": true moves this one's time without anybody else's, and gateways \
               minutes away from it are refused";
    sandbox.accompany(Box::new(move |_| {
        Box::pin(async move { Err(why.to_owned()) })
    }));
}

/// Keeps the sandbox's book for the next start: a demo that is restarted still knows its orders.
pub fn keep_book(folder: &Path, book: &Value) {
    let path = folder.join("sandbox-book.json");
    let kept = serde_json::to_vec(book)
        .map_err(|e| StartError::file(&path, e))
        .and_then(|text| write_secret(&path, &text));
    if let Err(error) = kept {
        tracing::error!(%error, "the sandbox's book is lost");
    }
}

/// Ends it, and keeps its book.
pub(super) async fn stop(sandbox: Sandbox, folder: &Path) {
    match sandbox.book_json() {
        Ok(book) => keep_book(folder, &book),
        Err(error) => tracing::error!(%error, "the sandbox's book is lost"),
    }
    sandbox.stop().await;
}

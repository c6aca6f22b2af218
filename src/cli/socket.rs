//! The socket by which commands reach a gateway that has the embedded database: `control.sock` in
//! its data folder, for nobody but the folder's owner, who is the operator. One line of JSON in,
//! one line out, and the connection ends.
//!
//! Lines, time and the number of those who ask are bounded; a command that takes too long is
//! answered so, and may have been done all the same.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::command::{self, Command};
use super::failure::Failure;
use crate::app::App;
use crate::config::Config;
use crate::embedded;

/// The socket's name in the data folder.
const NAME: &str = "control.sock";
/// The longest line that is read as a question, and as an answer.
const MAX_QUESTION: u64 = 64 << 10;
const MAX_ANSWER: u64 = 4 << 20;
/// How long a question may take to come in.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How many are served at once; the next one waits.
const AT_ONCE: usize = 4;
/// An answer may take so much longer than its command.
const GRACE: Duration = Duration::from_secs(8);

/// One question.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    /// The file that the command is meant for: the gateway in this folder may have another one.
    database: PathBuf,
    command: Command,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// What is to be printed.
    Done(String),
    /// Why nothing was done.
    Failed(String),
}

/// Whether commands for this database go through a gateway while one runs.
#[must_use]
pub fn is_served(config: &Config) -> bool {
    config.database_file().is_some()
}

fn path(config: &Config) -> PathBuf {
    config.data.dir.join(NAME)
}

/// The database's file, whatever the way to write it.
fn file(config: &Config) -> PathBuf {
    embedded::itself(&config.database_file().unwrap_or_default())
}

/// Begins to serve commands, until the gateway drains. A folder whose name is too long for a socket
/// has none; the gateway serves all the same.
///
/// # Errors
/// The socket's.
pub fn open(app: &Arc<App>) -> std::io::Result<Option<impl Future<Output = ()> + Send + 'static>> {
    if !is_served(&app.config) {
        return Ok(None);
    }
    let at = path(&app.config);

    // Nobody can ask before it is closed to others.
    let next = at.with_extension("next");
    let _ = std::fs::remove_file(&next);
    let listener = UnixListener::bind(&next)?;
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&next, &at)?;
    let app = Arc::clone(app);

    Ok(Some(async move {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            let accepted = tokio::select! {
                () = app.draining.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of descriptors, for example: it may pass.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                break;
            };
            let app = Arc::clone(&app);
            tokio::spawn(async move {
                if let Err(error) = serve(&app, stream).await {
                    tracing::debug!(%error, "whoever asked on the control socket has gone");
                }
                drop(place);
            });
        }
        let _ = std::fs::remove_file(path(&app.config));
    }))
}

async fn serve(app: &App, stream: UnixStream) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MAX_QUESTION));
    tokio::time::timeout(READ_TIMEOUT, reader.read_line(&mut line))
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    let answer = match serde_json::from_str::<Question>(&line) {
        Ok(question) if question.database != file(&app.config) => {
            Answer::Failed("the gateway in this folder runs on another database".to_owned())
        }
        Ok(question) => done(app, &question.command).await,
        Err(error) => Answer::Failed(format!("the gateway does not know this command: {error}")),
    };

    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    tokio::time::timeout(READ_TIMEOUT, write.write_all(&text))
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}

async fn done(app: &App, command: &Command) -> Answer {
    let running = command::run(&app.store, &app.clock, command);
    let ended = match tokio::time::timeout(command.patience(), running).await {
        Ok(ended) => ended,
        Err(_) => Err(Failure::said("it takes too long; look whether it was done")),
    };
    // A key that was made works with the next request.
    if let Err(error) = app.directory.refresh().await {
        tracing::error!(%error, "accounts and routing could not be read again");
    }
    match ended {
        Ok(text) => Answer::Done(text),
        Err(failure) => Answer::Failed(failure.to_string()),
    }
}

/// Asks the gateway in the data folder.
///
/// # Errors
/// [`Failure`].
pub async fn ask(config: &Config, command: &Command) -> Result<String, Failure> {
    let unreachable = |problem: String| Failure::Unreachable {
        folder: config.data.dir.clone(),
        problem,
    };
    let question = Question {
        database: file(config),
        command: command.clone(),
    };

    let asking = async {
        let (read, mut write) = UnixStream::connect(path(config)).await?.into_split();
        let mut text = serde_json::to_vec(&question)?;
        text.push(b'\n');
        write.write_all(&text).await?;
        let mut line = String::new();
        BufReader::new(read.take(MAX_ANSWER))
            .read_line(&mut line)
            .await?;
        std::io::Result::Ok(line)
    };

    let line = tokio::time::timeout(command.patience() + GRACE, asking)
        .await
        .map_err(|_| unreachable("it does not answer in time".to_owned()))?
        .map_err(|e| unreachable(format!("{NAME}: {e}")))?;

    match serde_json::from_str(&line) {
        Ok(Answer::Done(text)) => Ok(text),
        Ok(Answer::Failed(text)) => Err(Failure::Said(text)),
        Err(_) => Err(unreachable("it has gone before it answered".to_owned())),
    }
}

//! The door by which a drill reaches a gateway that it has started: one line in, one line out, on a
//! socket in the gateway's folder. Moves its clock, says what it waits for, arms kill points. Only
//! in builds for drills, and only when the environment names the socket.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};

use crate::app::App;
use crate::domain::Timestamp;
use crate::progress::Age;
use crate::testing::kill;

/// Names the socket.
pub const VARIABLE: &str = "INTERLOCK_DRILL_DOOR";

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Move the clock to so many seconds ahead of the machine's, unless it is there already.
    Ahead(u64),
    /// Be wrong by so many seconds.
    Skew(i64),
    /// Say what is waited for.
    Due,
    /// Say how the jobs get on.
    Jobs,
    /// Die of SIGKILL when the n-th worker comes to this point: `pay_after_call:2`.
    Arm(String),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The gateway's time.
    pub now_ms: i64,
    /// When the next payment, attempt, refund or webhook is due; `None` when nothing is.
    pub due_ms: Option<i64>,
    /// How much is being worked on, whatever the rows say.
    pub at_work: usize,
    /// For how long each job should have done something and has not, in milliseconds.
    pub overdue_ms: Vec<(String, u64)>,
}

/// Opens the door, if the environment names one.
///
/// # Errors
/// The socket's.
pub fn open(app: &Arc<App>) -> std::io::Result<()> {
    let Some(path) = std::env::var_os(VARIABLE) else {
        return Ok(());
    };
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    let app = Arc::clone(app);

    // The clock was so far ahead when the process began.
    let born = std::env::var("INTERLOCK_CLOCK_AHEAD_S")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let moved = Arc::new(Advance {
        ahead_s: AtomicU64::new(born),
        skew_s: AtomicI64::new(0),
    });

    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (app, moved) = (Arc::clone(&app), Arc::clone(&moved));
            tokio::spawn(async move {
                if let Err(error) = serve(&app, &moved, stream).await {
                    tracing::debug!(%error, "the drill has gone");
                }
            });
        }
    });

    Ok(())
}

/// How far the gateway's clock was moved.
#[derive(Debug)]
struct Advance {
    ahead_s: AtomicU64,
    skew_s: AtomicI64,
}

async fn serve(app: &App, moved: &Advance, stream: UnixStream) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();

    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Command::Ahead(seconds) => {
                let before = moved.ahead_s.fetch_max(seconds, Ordering::Relaxed);
                app.clock
                    .jump(Duration::from_secs(seconds.saturating_sub(before)));
            }
            Command::Skew(seconds) => {
                let before = moved.skew_s.swap(seconds, Ordering::Relaxed);
                app.clock
                    .shift(seconds.saturating_sub(before).saturating_mul(1_000));
            }
            Command::Arm(point) => kill::arm_now(&point),
            Command::Due => {}
            Command::Jobs => {
                let overdue_ms = overdue(app);
                let reply = Reply {
                    now_ms: app.clock.now().0,
                    due_ms: None,
                    at_work: 0,
                    overdue_ms,
                };
                answer(&mut write, &reply).await?;
                continue;
            }
        }
        // Who is at work as the rows are read may leave something that is due.
        let before = app.tasks.len();
        let due_ms = due(app).await.map(|at| at.0);
        let at_work = before.max(app.tasks.len());
        answer(
            &mut write,
            &Reply {
                now_ms: app.clock.now().0,
                due_ms,
                at_work,
                overdue_ms: Vec::new(),
            },
        )
        .await?;
    }

    Ok(())
}

async fn answer(write: &mut OwnedWriteHalf, reply: &Reply) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(reply)?;
    text.push(b'\n');
    write.write_all(&text).await
}

fn overdue(app: &App) -> Vec<(String, u64)> {
    let ms = |age: &Age| u64::try_from(age.overdue().as_millis()).unwrap_or(u64::MAX);
    app.jobs
        .ages()
        .iter()
        .map(|age| (age.job.clone(), ms(age)))
        .collect()
}

/// The earliest time at which anything has to be done. While the database does not answer: now.
async fn due(app: &App) -> Option<Timestamp> {
    match tokio::try_join!(app.store.next_due(), app.store.next_delivery()) {
        Ok((payment, delivery)) => payment.into_iter().chain(delivery).min(),
        Err(_) => Some(app.clock.now()),
    }
}

/// Knocks at the door of a gateway.
///
/// # Errors
/// When it is not there, or is dying.
pub async fn command(path: &Path, command: &Command) -> std::io::Result<Reply> {
    let asking = async {
        let (read, mut write) = UnixStream::connect(path).await?.into_split();
        let mut text = serde_json::to_vec(command)?;
        text.push(b'\n');
        write.write_all(&text).await?;
        let line = BufReader::new(read).lines().next_line().await?;
        let line = line.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_str(&line)?)
    };
    tokio::time::timeout(Duration::from_secs(5), asking)
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

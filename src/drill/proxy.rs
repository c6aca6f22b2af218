//! A TCP proxy between two parts of an installation, and the trouble that it makes: connections that are cut, held or
//! refused. Of protocols it knows one word, COMMIT.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What it does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Passes them on.
    Open,
    /// Takes what comes and passes nothing on.
    Stalled,
    /// Cuts every connection, and each new one at once.
    Cut,
    /// Cuts a connection that says COMMIT, and the database never hears it.
    CutBeforeCommit,
    /// Cuts a connection that says COMMIT once the database has heard it: the answer is lost.
    CutAfterCommit,
}

/// What PostgreSQL's clients send to end a transaction, in one piece.
const COMMIT: &[u8] = b"COMMIT";
/// The database has a commit by then, and has often answered.
const HEARD: Duration = Duration::from_millis(2);

/// A proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    mood: watch::Sender<Mood>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// One that leads nowhere yet.
    ///
    /// # Errors
    /// No port.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mood, _) = watch::channel(Mood::Open);
        let targets: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let (to, moods) = (Arc::clone(&targets), mood.clone());
        let accepting = tokio::spawn(async move {
            let turn = AtomicUsize::new(0);
            while let Ok((stream, _)) = listener.accept().await {
                let targets = to.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let first = turn.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(pass(stream, targets, first, moods.subscribe()));
            }
        });
        Ok(Self { address, targets, mood, accepting })
    }

    /// Leads to these, in turn; to the next one when one does not listen.
    pub fn lead_to(&self, targets: Vec<SocketAddr>) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets;
    }

    /// Changes what it does with connections, those that stand included.
    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Cuts every connection that stands, and takes new ones.
    pub async fn cut_once(&self) {
        self.set(Mood::Cut);
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.set(Mood::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(from: TcpStream, targets: Vec<SocketAddr>, first: usize, mut mood: watch::Receiver<Mood>) {
    if *mood.borrow() == Mood::Cut {
        return;
    }
    for offset in 0..targets.len() {
        let Some(target) = targets.get((first + offset) % targets.len().max(1)) else { return };
        let Ok(to) = TcpStream::connect(target).await else { continue };
        let (from_read, from_write) = from.into_split();
        let (to_read, to_write) = to.into_split();
        let (there, back) = (mood.clone(), mood.clone());
        let cut = async { drop(mood.wait_for(|mood| *mood == Mood::Cut).await) };
        tokio::select! {
            () = copy(from_read, to_write, there) => {}
            () = copy(to_read, from_write, back) => {}
            () = cut => {}
        }
        return;
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut mood: watch::Receiver<Mood>,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 || mood.wait_for(|mood| *mood != Mood::Stalled).await.is_err() {
            return;
        }
        let Some(bytes) = buffer.get(..read) else { return };
        let aimed = *mood.borrow();
        let is_commit = || bytes.windows(COMMIT.len()).any(|window| window == COMMIT);
        if aimed == Mood::CutBeforeCommit && is_commit() {
            return;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
        if aimed == Mood::CutAfterCommit && is_commit() {
            tokio::time::sleep(HEARD).await;
            return;
        }
    }
}

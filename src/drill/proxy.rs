//! A TCP proxy between two parts of an installation, and the trouble that it makes: connections that are cut, held or
//! refused. Of protocols it knows one word, COMMIT.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
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
    /// Cuts every connection, and nobody listens: new ones are refused.
    Refusing,
    /// Cuts a connection that says COMMIT, and the database never hears it.
    CutBeforeCommit,
    /// Cuts a connection that says COMMIT once the database has heard it: the answer is lost.
    CutAfterCommit,
}

/// What PostgreSQL's clients send to end a transaction, in one piece.
const COMMIT: &[u8] = b"COMMIT";
/// The database has a commit by then, and has often answered.
const HEARD: Duration = Duration::from_millis(2);

const BACKLOG: u32 = 1024;
/// Between two looks whether the port is free again.
const REBIND_PAUSE: Duration = Duration::from_millis(5);

/// A proxy. It ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    mood: watch::Sender<Mood>,
    holding: tokio::sync::Mutex<()>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// One that leads nowhere yet.
    ///
    /// # Errors
    /// No port.
    pub async fn start() -> std::io::Result<Self> {
        let mut listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        let (mood, _) = watch::channel(Mood::Open);
        let targets: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let (to, moods) = (Arc::clone(&targets), mood.clone());
        let accepting = tokio::spawn(async move {
            let (mut turn, mut refusing) = (0, moods.subscribe());
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { return };
                        let targets = to.lock().unwrap_or_else(PoisonError::into_inner).clone();
                        tokio::spawn(pass(stream, targets, turn, moods.subscribe()));
                        turn += 1;
                        continue;
                    }
                    _ = refusing.wait_for(|mood| *mood == Mood::Refusing) => {}
                }
                drop(listener);
                // A socket that is bound and does not listen refuses connections, and nobody else gets the port.
                let held = bind_patiently(address).await;
                let _ = refusing.wait_for(|mood| *mood != Mood::Refusing).await;
                let Ok(again) = held.listen(BACKLOG) else { return };
                listener = again;
            }
        });
        Ok(Self { address, targets, mood, holding: tokio::sync::Mutex::default(), accepting })
    }

    /// One that leads to this server.
    ///
    /// # Errors
    /// No port.
    pub async fn start_before(target: SocketAddr) -> std::io::Result<Self> {
        let proxy = Self::start().await?;
        proxy.lead_to(vec![target]);
        Ok(proxy)
    }

    /// Leads to these, in turn; to the next one when one does not listen.
    pub fn lead_to(&self, targets: Vec<SocketAddr>) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets;
    }

    /// Changes what it does with connections, those that stand included.
    pub fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Does this for so many milliseconds, and then is open again; one after the other.
    pub async fn hold(&self, mood: Mood, ms: u64) {
        let _alone = self.holding.lock().await;
        self.set(mood);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.set(Mood::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A port, and nobody who listens: connections are refused, and nobody else is given the port. Whoever names it, and
/// allows for it (`SO_REUSEADDR`), may listen there.
///
/// # Errors
/// It is taken.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// The kernel frees the port of a listener in its own time.
async fn bind_patiently(address: SocketAddr) -> TcpSocket {
    loop {
        if let Ok(socket) = bind(address) {
            return socket;
        }
        tokio::time::sleep(REBIND_PAUSE).await;
    }
}

async fn pass(from: TcpStream, targets: Vec<SocketAddr>, first: usize, mut mood: watch::Receiver<Mood>) {
    let is_cut = |mood: &Mood| matches!(mood, Mood::Cut | Mood::Refusing);
    if is_cut(&mood.borrow()) {
        return;
    }
    for offset in 0..targets.len() {
        let Some(target) = targets.get((first + offset) % targets.len().max(1)) else { return };
        let Ok(to) = TcpStream::connect(target).await else { continue };
        let (from_read, from_write) = from.into_split();
        let (to_read, to_write) = to.into_split();
        let (there, back) = (mood.clone(), mood.clone());
        let cut = async { drop(mood.wait_for(is_cut).await) };
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn server() -> (TcpListener, Proxy) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start_before(listener.local_addr().unwrap()).await.unwrap();
        (listener, proxy)
    }

    async fn read(stream: &mut TcpStream) -> String {
        let mut buffer = [0; 16];
        let read = stream.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }

    #[tokio::test]
    async fn what_is_held_arrives_when_its_sender_has_gone() {
        let (listener, proxy) = server().await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(b"one").await.unwrap();
        let (mut served, _) = listener.accept().await.unwrap();
        assert_eq!(read(&mut served).await, "one");
        proxy.set(Mood::Stalled);
        client.write_all(b"two").await.unwrap();
        drop(client);
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.set(Mood::Open);
        assert_eq!(read(&mut served).await, "two");
        assert_eq!(read(&mut served).await, "", "and then it ends");
    }

    #[tokio::test]
    async fn one_that_refuses_cuts_what_stands_and_comes_back_to_its_port() {
        let (listener, proxy) = server().await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(b"one").await.unwrap();
        let (mut served, _) = listener.accept().await.unwrap();
        assert_eq!(read(&mut served).await, "one");
        proxy.set(Mood::Refusing);
        assert_eq!(read(&mut served).await, "");
        let refused = async {
            while TcpStream::connect(proxy.address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
        proxy.set(Mood::Open);
        let taken = async {
            loop {
                if let Ok(mut client) = TcpStream::connect(proxy.address).await {
                    client.write_all(b"two").await.unwrap();
                    return listener.accept().await.unwrap().0;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let mut served = tokio::time::timeout(Duration::from_secs(10), taken).await.unwrap();
        assert_eq!(read(&mut served).await, "two");
    }
}

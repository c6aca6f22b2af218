//! A TCP proxy between two parts of an installation, and the trouble that it makes: connections
//! that are cut, held, refused, or fall silent for ever. Of protocols it knows how a PostgreSQL is
//! told what to do.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What it does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
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
    /// From then on nothing passes over any connection that stands, and none is closed. New ones
    /// work.
    Silent,
    /// The same for a connection that is about to say a statement with these words, which the
    /// database never hears.
    SilentBefore(&'static str),
    /// The same once the database has heard it.
    SilentAfter(&'static str),
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
    mood: watch::Sender<LinkState>,
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
        let (mood, _) = watch::channel(LinkState::Open);
        let targets: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let (to, moods) = (Arc::clone(&targets), mood.clone());
        let accepting = tokio::spawn(async move {
            let (mut turn, mut refusing) = (0, moods.subscribe());
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { return };
                        let targets = to.lock().clone();
                        tokio::spawn(pass(stream, targets, turn, moods.subscribe()));
                        turn += 1;
                        continue;
                    }
                    _ = refusing.wait_for(|mood| *mood == LinkState::Refusing) => {}
                }
                drop(listener);
                // A socket that is bound and does not listen refuses connections, and nobody else
                // gets the port.
                let held = bind_patiently(address).await;
                let _ = refusing.wait_for(|mood| *mood != LinkState::Refusing).await;
                let Ok(again) = held.listen(BACKLOG) else {
                    return;
                };
                listener = again;
            }
        });

        Ok(Self {
            address,
            targets,
            mood,
            holding: tokio::sync::Mutex::default(),
            accepting,
        })
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
        *self.targets.lock() = targets;
    }

    /// Changes what it does with connections, those that stand included.
    pub fn set(&self, mood: LinkState) {
        self.mood.send_replace(mood);
    }

    /// Does this for so many milliseconds, and then is open again; one after the other.
    pub async fn hold(&self, mood: LinkState, ms: u64) {
        let _alone = self.holding.lock().await;
        self.set(mood);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.set(LinkState::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A port, and nobody who listens: connections are refused, and nobody else is given the port.
/// Whoever names it, and allows for it (`SO_REUSEADDR`), may listen there.
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

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is closed.
    Closed,
    /// Nobody hears of it.
    Silent,
}

async fn pass(
    from: TcpStream,
    targets: Vec<SocketAddr>,
    first: usize,
    mood: watch::Receiver<LinkState>,
) {
    let is_cut = |mood: &LinkState| matches!(mood, LinkState::Cut | LinkState::Refusing);
    if is_cut(&mood.borrow()) {
        return;
    }

    for offset in 0..targets.len() {
        let Some(target) = targets.get((first + offset) % targets.len().max(1)) else {
            return;
        };
        let Ok(to) = TcpStream::connect(target).await else {
            continue;
        };
        let (mut from_read, mut from_write) = from.into_split();
        let (mut to_read, mut to_write) = to.into_split();
        let (mut cut, mut silenced) = (mood.clone(), mood.clone());
        let end = tokio::select! {
            end = copy(&mut from_read, &mut to_write, mood.clone(),
                Some(Statements::default())) => end,
            end = copy(&mut to_read, &mut from_write, mood, None) => end,
            _ = cut.wait_for(is_cut) => End::Closed,
            _ = silenced.wait_for(|mood| *mood == LinkState::Silent) => End::Silent,
        };
        if end == End::Silent {
            // What is sent is taken as long as there is room for it, as by a machine that has lost
            // its power.
            std::future::pending::<()>().await;
        }
        return;
    }
}

async fn copy(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut mood: watch::Receiver<LinkState>,
    mut statements: Option<Statements>,
) -> End {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0
            || mood
                .wait_for(|mood| *mood != LinkState::Stalled)
                .await
                .is_err()
        {
            return End::Closed;
        }
        let Some(bytes) = buffer.get(..read) else {
            return End::Closed;
        };
        let aimed = *mood.borrow();
        let is_commit = || bytes.windows(COMMIT.len()).any(|window| window == COMMIT);
        let said = statements
            .as_mut()
            .map(|statements| statements.hear(bytes))
            .unwrap_or_default();
        let says = |words: &str| said.iter().any(|statement| statement.contains(words));
        if aimed == LinkState::CutBeforeCommit && is_commit() {
            return End::Closed;
        }
        if let LinkState::SilentBefore(words) = aimed
            && says(words)
        {
            return End::Silent;
        }
        if to.write_all(bytes).await.is_err() {
            return End::Closed;
        }
        if aimed == LinkState::CutAfterCommit && is_commit() {
            tokio::time::sleep(HEARD).await;
            return End::Closed;
        }
        if let LinkState::SilentAfter(words) = aimed
            && says(words)
        {
            return End::Silent;
        }
    }

    End::Closed
}

/// What a client of PostgreSQL has a connection do. Statements are sent once and then named, so the
/// names are remembered.
#[derive(Debug, Default)]
struct Statements {
    /// What has come of a message that is not whole yet.
    rest: Vec<u8>,
    /// After the first message, which has no type.
    is_begun: bool,
    by_name: HashMap<Vec<u8>, String>,
}

impl Statements {
    /// The statements that these bytes have carried out.
    fn hear(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut said = Vec::new();
        self.rest.extend_from_slice(bytes);
        loop {
            // One byte of type, except in the first message, and four of length, which count
            // themselves.
            let head = usize::from(self.is_begun);
            let Some(length) = self
                .rest
                .get(head..head + 4)
                .and_then(|b| <[u8; 4]>::try_from(b).ok())
            else {
                break;
            };
            let end = usize::try_from(u32::from_be_bytes(length))
                .unwrap_or(usize::MAX)
                .saturating_add(head);
            if self.rest.len() < end {
                break;
            }
            let message: Vec<u8> = self.rest.drain(..end).collect();
            if self.is_begun {
                said.extend(self.one(&message));
            }
            self.is_begun = true;
        }

        // Another protocol, or a body that nobody needs whole.
        if self.rest.len() > 1 << 20 {
            self.rest.clear();
        }

        said
    }

    fn one(&mut self, message: &[u8]) -> Option<String> {
        let (kind, body) = (message.first()?, message.get(5..)?);
        let mut texts = body.split(|byte| *byte == 0);
        match kind {
            b'Q' => Some(String::from_utf8_lossy(texts.next()?).into_owned()),
            b'P' => {
                let (name, text) = (
                    texts.next()?.to_vec(),
                    String::from_utf8_lossy(texts.next()?).into_owned(),
                );
                self.by_name.insert(name, text);
                None
            }
            b'B' => self.by_name.get(texts.nth(1)?).cloned(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn server() -> (TcpListener, Proxy) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start_before(listener.local_addr().unwrap())
            .await
            .unwrap();
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
        proxy.set(LinkState::Stalled);
        client.write_all(b"two").await.unwrap();
        drop(client);
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.set(LinkState::Open);
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

        proxy.set(LinkState::Refusing);
        assert_eq!(read(&mut served).await, "");
        let refused = async {
            while TcpStream::connect(proxy.address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };

        tokio::time::timeout(Duration::from_secs(10), refused)
            .await
            .unwrap();
        proxy.set(LinkState::Open);
        let taken = async {
            loop {
                if let Ok(mut client) = TcpStream::connect(proxy.address).await {
                    client.write_all(b"two").await.unwrap();
                    return listener.accept().await.unwrap().0;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };

        let mut served = tokio::time::timeout(Duration::from_secs(10), taken)
            .await
            .unwrap();
        assert_eq!(read(&mut served).await, "two");
    }

    #[tokio::test]
    async fn what_falls_silent_is_not_closed_and_new_connections_work() {
        let (listener, proxy) = server().await;
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(b"one").await.unwrap();
        let (mut served, _) = listener.accept().await.unwrap();
        assert_eq!(read(&mut served).await, "one");
        proxy.hold(LinkState::Silent, 5).await;
        client.write_all(b"two").await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(100), read(&mut served)).await;
        assert!(heard.is_err(), "neither bytes nor an end");
        let mut other = TcpStream::connect(proxy.address).await.unwrap();
        other.write_all(b"three").await.unwrap();
        let (mut served, _) = listener.accept().await.unwrap();
        assert_eq!(read(&mut served).await, "three");
    }

    #[test]
    fn statements_are_known_by_the_names_that_they_were_given() {
        let message = |kind: u8, body: &[u8]| {
            let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            [&[kind], length.as_slice(), body].concat()
        };
        let start = [8_u32.to_be_bytes(), 196_608_u32.to_be_bytes()].concat();
        let parse = message(b'P', b"s1\0SELECT 1\0\0\0");
        let bind = message(b'B', b"\0s1\0\0\0\0\0\0\0");
        let mut statements = Statements::default();

        assert!(statements.hear(&start).is_empty());
        assert!(statements.hear(&parse).is_empty(), "it is only prepared");
        let (first, rest) = bind.split_at(6);
        assert!(statements.hear(first).is_empty());
        assert_eq!(statements.hear(rest), ["SELECT 1"]);

        assert_eq!(
            statements.hear(&[bind, message(b'Q', b"COMMIT\0")].concat()),
            ["SELECT 1", "COMMIT"]
        );
    }
}

//! HTTP/1 over our own accept loop, because faults need the socket itself: a listener that goes
//! away and comes back on the same port, connections that are reset, answers that trickle. It knows
//! nothing of providers.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Sleep;

use super::simulator::{Request, Response};

/// The largest request that is read; providers take no more than this of JSON or forms.
const MAX_REQUEST_BYTES: usize = 256 << 10;
/// A request has to be there by then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// More connections than this wait to be accepted.
const MAX_CONNECTIONS: usize = 4096;
const BACKLOG: u32 = 1024;
/// How long calls in flight may go on when the server stops.
const DRAIN: Duration = Duration::from_millis(500);
/// Between two looks whether a port is free again.
const REBIND_PAUSE: Duration = Duration::from_millis(5);

/// Answers requests.
pub(super) type Handler = Arc<dyn Fn(Request) -> BoxFuture<'static, Reply> + Send + Sync>;

/// What to do with a connection after its request was read.
#[derive(Debug)]
pub(super) enum Reply {
    /// Answer.
    Answer(Response),
    /// Answer a few bytes at a time, the last of them after this long.
    Drip(Response, Duration),
    /// Say nothing: until the client leaves, or for this long.
    Silence(Option<Duration>),
    /// Reset the connection.
    Reset,
}

/// Whether a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// Connections are refused and those that stood were reset. The port is kept.
    Refusing,
    /// For ever.
    Stopped,
}

/// Opens and closes a server. The server stops when its door is dropped.
#[derive(Debug)]
pub(super) struct Door {
    wanted: watch::Sender<Gate>,
    actual: watch::Receiver<Gate>,
}

/// The server's side of a [`Door`].
pub(super) struct ListenerHandle {
    wanted: watch::Receiver<Gate>,
    actual: watch::Sender<Gate>,
}

impl Door {
    /// An open door, for a server that is not there yet.
    pub(super) fn new() -> (Self, ListenerHandle) {
        let (wanted, wishes) = watch::channel(Gate::Open);
        let (report, actual) = watch::channel(Gate::Open);
        (
            Self { wanted, actual },
            ListenerHandle {
                wanted: wishes,
                actual: report,
            },
        )
    }

    /// Opens, closes or stops the server, and returns once that is so.
    pub(super) async fn set(&self, gate: Gate) {
        self.wanted.send_if_modified(|wanted| {
            let changes = *wanted != gate && *wanted != Gate::Stopped;
            if changes {
                *wanted = gate;
            }
            changes
        });
        // An error means that it has ended, which is what is left to ask for then.
        let _ = self
            .actual
            .clone()
            .wait_for(|actual| *actual == gate || *actual == Gate::Stopped)
            .await;
    }
}

/// Binds and serves until the door is closed for ever. Returns the address that was bound.
pub(super) fn start(
    address: SocketAddr,
    listener_handle: ListenerHandle,
    handler: Handler,
) -> io::Result<SocketAddr> {
    let listener = bind(address)?.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    tokio::spawn(run(address, listener, listener_handle, handler));
    Ok(address)
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn run(
    address: SocketAddr,
    mut listener: TcpListener,
    listener_handle: ListenerHandle,
    handler: Handler,
) {
    let ListenerHandle {
        wanted: mut gate,
        actual: report,
    } = listener_handle;
    loop {
        let left = accept_until_closed(&listener, &mut gate, &handler).await;
        drop(listener);
        if left == Gate::Stopped {
            break;
        }
        // A socket that is bound and does not listen refuses connections, and nobody else gets the
        // port.
        let held = bind_patiently(address).await;
        report.send_replace(Gate::Refusing);
        // An error means that the sandbox is gone.
        if gate.wait_for(|g| *g != Gate::Refusing).await.is_err() {
            break;
        }
        match held.listen(BACKLOG) {
            Ok(again) => listener = again,
            Err(error) => {
                tracing::error!(%address, %error, "the sandbox cannot listen again");
                break;
            }
        }
        report.send_replace(Gate::Open);
    }

    report.send_replace(Gate::Stopped);
}

/// The port is free as soon as the old listener is gone, which the kernel does in its own time.
async fn bind_patiently(address: SocketAddr) -> TcpSocket {
    loop {
        match bind(address) {
            Ok(socket) => return socket,
            Err(error) => tracing::warn!(%address, %error, "the sandbox waits for its port"),
        }
        tokio::time::sleep(REBIND_PAUSE).await;
    }
}

/// Serves until the gate is not open any more and all connections are gone. Says what the gate is
/// then.
async fn accept_until_closed(
    listener: &TcpListener,
    gate: &mut watch::Receiver<Gate>,
    handler: &Handler,
) -> Gate {
    let mut connections = JoinSet::new();
    let left = loop {
        let wanted = *gate.borrow_and_update();
        if wanted != Gate::Open {
            break wanted;
        }
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, gate.clone(), Arc::clone(handler)));
                }
                Err(error) => tracing::warn!(%error, "the sandbox could not accept a connection"),
            },
            changed = gate.changed() => if changed.is_err() { break Gate::Stopped },
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    };

    while connections.join_next().await.is_some() {}
    left
}

enum End {
    ByItself,
    Reset,
    Stopped,
}

/// One connection.
async fn serve(stream: TcpStream, mut gate: watch::Receiver<Gate>, handler: Handler) {
    // Small answers must not wait for the client's acknowledgements. It works without, only slower.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(Notify::new());
    let service = service_fn({
        let reset = Arc::clone(&reset);
        move |request| answer(request, Arc::clone(&handler), Arc::clone(&reset))
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT * 3)
        .serve_connection(TokioIo::new(stream), service);

    let end = tokio::select! {
        // Clients that leave or talk nonsense are their own trouble.
        _ = &mut connection => End::ByItself,
        () = reset.notified() => End::Reset,
        gate = gate.wait_for(|g| *g != Gate::Open) => match gate.as_deref() {
            Ok(Gate::Refusing) => End::Reset,
            Ok(Gate::Open | Gate::Stopped) | Err(_) => End::Stopped,
        },
    };

    match end {
        End::ByItself => {}
        End::Reset => {
            let stream = connection.into_parts().io.into_inner();
            // With a linger of zero, closing sends RST. If that fails the client sees FIN: broken
            // all the same.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        End::Stopped => {
            Pin::new(&mut connection).graceful_shutdown();
            let _ = tokio::time::timeout(DRAIN, connection).await;
        }
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    handler: Handler,
    reset: Arc<Notify>,
) -> Result<hyper::Response<Trickle>, io::Error> {
    let (parts, body) = request.into_parts();
    let body = tokio::time::timeout(
        REQUEST_TIMEOUT,
        Limited::new(body, MAX_REQUEST_BYTES).collect(),
    );
    let body = body
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
        .map_err(io::Error::other)?
        .to_bytes();

    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |t| t.as_str())
        .to_owned();
    let request = Request {
        method: parts.method,
        target,
        headers: parts.headers,
        body,
    };

    let (response, over) = match handler(request).await {
        Reply::Answer(response) => (response, Duration::ZERO),
        Reply::Drip(response, over) => (response, over),
        Reply::Silence(Some(time)) => {
            tokio::time::sleep(time).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        // The connection drops this future when the client leaves.
        Reply::Silence(None) => std::future::pending().await,
        Reply::Reset => {
            reset.notify_one();
            std::future::pending().await
        }
    };
    let mut answer = hyper::Response::new(Trickle::new(response.body, over));
    *answer.status_mut() = response.status;
    *answer.headers_mut() = response.headers;

    Ok(answer)
}

/// A body that comes at once, or in small pieces with a pause before each.
struct Trickle {
    rest: Bytes,
    piece: usize,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Trickle {
    fn new(rest: Bytes, over: Duration) -> Self {
        if over.is_zero() {
            return Self {
                piece: rest.len(),
                rest,
                pause: over,
                timer: None,
            };
        }

        // About 20 pieces a second: timers tick in milliseconds, so more of them would take longer
        // than asked.
        let wished = usize::try_from(over.as_millis() / 50).unwrap_or(usize::MAX);
        let piece = rest
            .len()
            .div_ceil(wished.clamp(2, rest.len().max(2)))
            .max(1);
        let pieces = u32::try_from(rest.len().div_ceil(piece))
            .unwrap_or(u32::MAX)
            .max(1);
        let pause = over / pieces + Duration::from_nanos(1);

        Self {
            rest,
            piece,
            pause,
            timer: None,
        }
    }
}

impl Body for Trickle {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if !self.pause.is_zero() {
            let pause = self.pause;
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            std::task::ready!(pin!(timer).poll(context));
            self.timer = None;
        }
        let piece = self.piece.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}

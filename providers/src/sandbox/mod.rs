//! One server inside this process that speaks the providers' real protocols from the other side,
//! with one book of truth about money, faults on request and a clock that can be moved. For
//! development, tests and drills; it must never be reachable by anybody else, since whoever reaches
//! it can pay and break everything.

pub mod book;
pub mod charset;
pub mod clock;
mod control;
mod core;
mod exchange;
pub mod fault;
pub mod keys;
pub mod members;
mod notify;
pub mod payer;
pub mod refund_end;
pub mod secrets;
mod server;
pub mod simulator;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use chrono::TimeDelta;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

use self::book::{Book, Order, Refusal, SharedBook};
use self::clock::Clock;
pub use self::core::Companion;
use self::core::{Core, Together};
use self::fault::Faults;
use self::keys::Keys;
use self::notify::Notifier;
use self::payer::{Holding, Wish};
use self::secrets::NoRandomness;
use self::server::{Door, Gate, Handler, ListenerHandle, Reply};
use self::simulator::{Request, SimulatedProvider, Simulator};
use crate::SIMULATORS;
use crate::provider::{ProviderName, SettingsError};

/// The simulated provider called `name`.
#[must_use]
pub fn simulated(name: &str) -> Option<&'static SimulatedProvider> {
    SIMULATORS
        .iter()
        .find(|provider| provider.name.as_str() == name)
}

/// How a sandbox is started. Port 0 takes any free one.
#[derive(Debug)]
pub struct Options {
    /// Where the control API listens.
    pub control: SocketAddr,
    /// Which providers there are, and where each listens.
    pub faces: Vec<(ProviderName, SocketAddr)>,
    /// The sandbox merchants' keys and identities.
    pub keys: Keys,
    /// What [`Sandbox::book_json`] gave before, so that a restarted sandbox still knows its orders
    /// and its time.
    pub book: Option<Value>,
    /// How many sendings of notifications are remembered.
    pub log: usize,
}

/// So many sendings are enough to look at.
pub const LOG: usize = 5_000;

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Keys that a face cannot read.
    #[error("the sandbox's keys of {provider}: {source}")]
    Keys {
        /// Whose.
        provider: ProviderName,
        /// Why.
        source: SettingsError,
    },
    /// A stored book that is none.
    #[error("the stored sandbox cannot be read: {0}")]
    Stored(#[from] serde_json::Error),
    /// No HTTP client for notifications.
    #[error("no HTTP client for notifications: {0}")]
    Client(String),
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// A running sandbox. It ends when it is stopped or dropped.
#[derive(Debug)]
pub struct Sandbox {
    core: Arc<Core>,
    control: (SocketAddr, Door),
    faces: Vec<(ProviderName, SocketAddr)>,
    timers: JoinHandle<()>,
}

/// The book and the time that it was written at.
#[derive(Serialize, Deserialize)]
struct Stored {
    ahead_ms: i64,
    book: Value,
}

impl Sandbox {
    /// Starts all listeners.
    ///
    /// # Errors
    /// [`StartError`]; nothing listens then.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let mut faces = Vec::new();
        for (name, address) in options.faces {
            for provider in SIMULATORS.iter().filter(|p| p.name == name) {
                let keys = options.keys.of(name.as_str()).unwrap_or(&Value::Null);
                let face = (provider.open)(keys).map_err(|source| StartError::Keys {
                    provider: name,
                    source,
                })?;
                faces.push((face, address));
            }
        }
        Self::with_faces(options.control, faces, options.book, options.log).await
    }

    /// Starts with faces that are not on the list of providers, for tests of the sandbox itself.
    ///
    /// # Errors
    /// [`StartError`]; nothing listens then.
    pub async fn with_faces(
        control: SocketAddr,
        faces: Vec<(Arc<dyn Simulator>, SocketAddr)>,
        stored: Option<Value>,
        log: usize,
    ) -> Result<Self, StartError> {
        let (book, clock) = restored(stored)?;
        let faults = Arc::new(Faults::default());
        let notifier =
            Notifier::new(clock.clone(), Arc::clone(&faults), log).map_err(StartError::Client)?;
        let notifier = Arc::new(notifier);
        let mut hinges = Vec::new();
        let mut doors = Vec::new();

        for (face, address) in faces {
            let (door, listener_handle) = Door::new();
            hinges.push((Arc::clone(&face), address, listener_handle));
            doors.push((face, door));
        }

        let due_changed = Notify::new();
        let gates = Mutex::default();
        let core = Core {
            faces: doors,
            book,
            clock,
            faults,
            notifier,
            due_changed,
            gates,
            addresses: parking_lot::Mutex::default(),
            companion: OnceLock::new(),
            moving: Mutex::default(),
            calls: parking_lot::Mutex::default(),
        };

        let core = Arc::new(core);
        // The control first: its address is the one that people give, so it is the one to complain
        // of.
        let (door, listener_handle) = Door::new();
        let control = (
            listen(control, listener_handle, control_handler(&core))?,
            door,
        );
        let mut faces = Vec::new();

        for (face, address, listener_handle) in hinges {
            let name = face.provider();
            faces.push((
                name,
                listen(address, listener_handle, face_handler(&core, face))?,
            ));
        }
        let timers = tokio::spawn(keep_time(Arc::clone(&core)));
        let sandbox = Self {
            core,
            control,
            faces: faces.clone(),
            timers,
        };

        sandbox.advertise(faces);
        Ok(sandbox)
    }

    /// Where the control API listens.
    #[must_use]
    pub fn control(&self) -> SocketAddr {
        self.control.0
    }

    /// Where the providers listen.
    #[must_use]
    pub fn faces(&self) -> &[(ProviderName, SocketAddr)] {
        &self.faces
    }

    /// Clients are told these addresses from now on: something stands before the faces.
    pub fn advertise(&self, faces: Vec<(ProviderName, SocketAddr)>) {
        *self.core.addresses.lock() = faces;
    }

    /// Where one provider listens.
    #[must_use]
    pub fn face(&self, provider: ProviderName) -> Option<SocketAddr> {
        self.faces
            .iter()
            .find(|(name, _)| *name == provider)
            .map(|(_, address)| *address)
    }

    /// Its time, to be read and moved.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// From now on `POST /clock` moves the sandbox's time together with somebody else's, or not at
    /// all. Only the first one counts.
    pub fn accompany(&self, companion: Companion) {
        let _ = self.core.companion.set(Together(companion));
    }

    /// The truth about money.
    #[must_use]
    pub fn book(&self) -> &SharedBook {
        &self.core.book
    }

    /// The same as `GET /credentials`: one block for each provider.
    #[must_use]
    pub fn credentials(&self) -> Value {
        self.core.credentials()
    }

    /// The same as `GET /faces`: each provider's base address.
    #[must_use]
    pub fn face_urls(&self) -> Value {
        self.core.face_urls()
    }

    /// Acts as the payer, as `POST /pay` does.
    ///
    /// # Errors
    /// Why the book refuses; nothing was changed.
    pub fn pay(&self, holding: &Holding, wish: Wish) -> Result<Order, Refusal> {
        self.core.pay(holding, wish)
    }

    /// The book and the time, for [`Options::book`] of the next start.
    ///
    /// # Errors
    /// As [`Book::to_json`].
    pub fn book_json(&self) -> Result<Value, serde_json::Error> {
        let book = self.core.book.lock().to_json()?;
        serde_json::to_value(Stored {
            ahead_ms: self.core.clock.ahead().num_milliseconds(),
            book,
        })
    }

    /// Ends it: no new calls, half a second for those in flight, no more notifications.
    pub async fn stop(self) {
        let doors = self
            .core
            .faces
            .iter()
            .map(|(_, door)| door)
            .chain([&self.control.1]);
        join_all(doors.map(|door| door.set(Gate::Stopped))).await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.timers.abort();
        self.core.notifier.stop();
    }
}

/// Does what is due: refunds that end, faults that end.
async fn keep_time(core: Arc<Core>) {
    loop {
        let now = core.clock.now();
        let next_refund = core.book.lock().end_due_refunds(now);
        core.dispatch();
        core.set_gates().await;
        let next = [next_refund, core.faults.next_end(now)]
            .into_iter()
            .flatten()
            .min();
        let due = async {
            match next {
                Some(due) => core.clock.sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = core.due_changed.notified() => {}
        }
    }
}

/// The stored book and its clock, or an empty book whose numbers nobody has seen yet: the other
/// side may remember those of a sandbox before this one.
fn restored(stored: Option<Value>) -> Result<(SharedBook, Clock), StartError> {
    let (book, ahead) = match stored {
        Some(stored) => {
            let stored: Stored = serde_json::from_value(stored)?;
            (
                Book::from_json(stored.book)?,
                TimeDelta::milliseconds(stored.ahead_ms),
            )
        }
        None => (
            Book::starting_behind(secrets::digits(12)?.parse().unwrap_or(0)),
            TimeDelta::zero(),
        ),
    };
    Ok((SharedBook::new(book), Clock::new(ahead)))
}

fn listen(
    address: SocketAddr,
    listener_handle: ListenerHandle,
    handler: Handler,
) -> Result<SocketAddr, StartError> {
    server::start(address, listener_handle, handler)
        .map_err(|source| StartError::Address { address, source })
}

/// Handlers hold the core weakly: it owns the doors of the servers that own the handlers.
fn face_handler(core: &Arc<Core>, face: Arc<dyn Simulator>) -> Handler {
    let core = Arc::downgrade(core);
    Arc::new(move |request| {
        let (core, face) = (core.upgrade(), Arc::clone(&face));
        async move {
            match core {
                Some(core) => exchange::exchange(core, face, request).await,
                None => Reply::Reset,
            }
        }
        .boxed()
    })
}

fn control_handler(core: &Arc<Core>) -> Handler {
    let core = Arc::downgrade(core);
    Arc::new(move |request: Request| {
        let core = core.upgrade();
        async move {
            match core {
                Some(core) => Reply::Answer(control::handle(core, request).await),
                None => Reply::Reset,
            }
        }
        .boxed()
    })
}

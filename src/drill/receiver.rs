//! Who receives the merchant's webhooks in a drill: writes down what it took, and is down, slow or
//! confused when the plan says so. One server for all runs of a drill.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header;
use actix_web::{App, HttpResponse, HttpServer, web};
use parking_lot::Mutex;
use rand::rngs::Xoshiro256PlusPlus as Rng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

/// What it does with a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// Takes it.
    Good,
    /// So many of a thousand are refused, answered too late, or sent elsewhere.
    Bad(u32),
    /// Takes nothing, and says nothing for longer than anybody waits.
    Hang,
}

/// An event as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// `evt_…`
    pub id: String,
    /// `payment.succeeded`
    pub kind: String,
    /// Of which payment.
    pub payment: String,
    /// The status of what it tells of, as its body has it.
    pub status: String,
}

#[derive(Debug)]
struct Box_ {
    manners: Manners,
    rng: Rng,
    taken: Vec<Received>,
}

/// All runs' boxes, by their names.
#[derive(Debug, Clone, Default)]
pub struct Boxes(Arc<Mutex<HashMap<String, Box_>>>);

impl Boxes {
    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Box_) -> T) -> T {
        let mut boxes = self.0.lock();
        let fresh = || Box_ {
            manners: Manners::Good,
            rng: Rng::seed_from_u64(7),
            taken: Vec::new(),
        };
        work(boxes.entry(name.to_owned()).or_insert_with(fresh))
    }

    /// How it behaves from now on.
    pub fn behave(&self, name: &str, manners: Manners) {
        self.with(name, |b| b.manners = manners);
    }

    /// Ends a box, and returns what came into it.
    #[must_use]
    pub fn empty(&self, name: &str) -> Vec<Received> {
        let mut boxes = self.0.lock();
        boxes.remove(name).map(|b| b.taken).unwrap_or_default()
    }
}

/// The server.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it has received.
    pub boxes: Boxes,
    server: ServerHandle,
}

impl Receiver {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// No port.
    pub fn start() -> std::io::Result<Self> {
        let boxes = Boxes::default();
        let shared = web::Data::new(boxes.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .route("/{name}", web::post().to(receive))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")?;

        let address = *server
            .addrs()
            .first()
            .ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);

        Ok(Self {
            address,
            boxes,
            server: handle,
        })
    }

    /// Stops it.
    pub async fn stop(self) {
        self.server.stop(false).await;
    }
}

async fn receive(
    boxes: web::Data<Boxes>,
    name: web::Path<String>,
    body: web::Bytes,
) -> HttpResponse {
    let mood = boxes.with(&name, |b| match b.manners {
        Manners::Good => None,
        Manners::Hang => Some(4),
        Manners::Bad(permille) => {
            (b.rng.random_range(0..1_000) < permille).then(|| b.rng.random_range(0..4))
        }
    });

    // Sometimes it takes an event and the answer is lost: then it comes once more.
    if !matches!(mood, Some(0 | 1 | 4))
        && let Ok(event) = serde_json::from_slice::<Value>(&body)
    {
        let text = |name: &str| {
            event
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let status = event
            .pointer("/data/status")
            .or_else(|| event.pointer("/data/payment/status"));
        let status = status
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let received = Received {
            id: text("id"),
            kind: text("type"),
            payment: text("payment"),
            status,
        };
        boxes.with(&name, |b| b.taken.push(received));
    }

    match mood {
        Some(0) => HttpResponse::ServiceUnavailable()
            .insert_header((header::RETRY_AFTER, "5"))
            .finish(),
        Some(1) => HttpResponse::Found()
            .insert_header((header::LOCATION, "http://127.0.0.1:1/"))
            .finish(),
        Some(2) => HttpResponse::InternalServerError().finish(),
        Some(4) => {
            tokio::time::sleep(Duration::from_secs(5)).await;
            HttpResponse::ServiceUnavailable().finish()
        }
        Some(_) => {
            tokio::time::sleep(Duration::from_millis(900)).await;
            HttpResponse::Ok().finish()
        }
        None => HttpResponse::Ok().finish(),
    }
}

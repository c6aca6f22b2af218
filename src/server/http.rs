//! The addresses that a gateway serves: one, or one for everybody and one for administration. Both
//! share what is counted and limited.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::middleware::from_fn;
use actix_web::{HttpServer, web};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::admission::Admission;
use crate::api::connections::Connections;
use crate::api::strangers::Strangers;
use crate::api::{self, Side};
use crate::app::App;
use crate::installation::StartError;

/// Takes an address.
pub(super) fn listen(address: &str) -> Result<(TcpListener, SocketAddr), StartError> {
    let fail = |source| StartError::Listen {
        address: address.to_owned(),
        source,
    };
    let listener = TcpListener::bind(address).map_err(fail)?;
    let at = listener.local_addr().map_err(fail)?;
    Ok((listener, at))
}

/// An address that is served.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) handle: actix_web::dev::ServerHandle,
    pub(super) served: JoinHandle<std::io::Result<()>>,
}

/// What all addresses of a gateway share.
pub(super) struct Shared {
    app: web::Data<App>,
    metrics: web::Data<metrics_exporter_prometheus::PrometheusHandle>,
    admission: web::Data<Admission>,
    strangers: web::Data<Strangers>,
    pages: web::Data<api::status::Pages>,
    readiness: web::Data<api::readiness::Readiness>,
    connections: Arc<Connections>,
}

impl Shared {
    pub(super) fn new(
        app: &Arc<App>,
        metrics: metrics_exporter_prometheus::PrometheusHandle,
    ) -> Self {
        let config = &app.config;
        let admission = web::Data::new(Admission::new(
            &config.admission,
            config.database.connections,
        ));
        let strangers = web::Data::new(Strangers::new(&config.admission));

        // It never ends, and is no work that somebody waits for: not among the app's tasks.
        drop(app.runtime.spawn(tidy(
            app.draining.clone(),
            admission.clone(),
            strangers.clone(),
        )));

        Self {
            app: web::Data::from(Arc::clone(app)),
            metrics: web::Data::new(metrics),
            admission,
            strangers,
            pages: web::Data::new(api::status::Pages::default()),
            readiness: web::Data::new(api::readiness::Readiness::default()),
            connections: Connections::new(
                config.server.max_idle_connections.min(descriptors() / 2),
            ),
        }
    }

    /// Serves an address.
    pub(super) fn open(
        &self,
        listener: TcpListener,
        address: &str,
        side: Side,
    ) -> Result<Door, StartError> {
        let (app, metrics, admission) = (
            self.app.clone(),
            self.metrics.clone(),
            self.admission.clone(),
        );
        let (strangers, pages) = (self.strangers.clone(), self.pages.clone());
        let readiness = self.readiness.clone();
        let (connections, counted) = (
            web::Data::from(Arc::clone(&self.connections)),
            Arc::clone(&self.connections),
        );
        let server = HttpServer::new(move || {
            actix_web::App::new()
                .app_data(app.clone())
                .app_data(metrics.clone())
                .app_data(admission.clone())
                .app_data(strangers.clone())
                .app_data(pages.clone())
                .app_data(readiness.clone())
                .app_data(connections.clone())
                .wrap(from_fn(api::request::identify))
                .configure(api::routes(side))
        });

        let config = &self.app.config.server;
        let workers = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers,
        };
        // The rest is for the database, providers and receivers. A crowd at the door for everybody
        // leaves administration its own.
        let database = usize::try_from(self.app.config.database.connections).unwrap_or(usize::MAX);
        let each = if self.app.config.database_file().is_some() {
            FILES_OF_A_CONNECTION
        } else {
            1
        };
        let files = descriptors()
            .saturating_sub(database.saturating_mul(each))
            .max(descriptors() / 4);
        let room = match side {
            Side::Whole if !self.app.config.server.admin.is_empty() => files / 8,
            Side::Whole => files / 8 * 6,
            Side::Public => files / 8 * 5,
        };
        if room < config.max_connections && (side == Side::Public || config.admin.is_empty()) {
            tracing::warn!(
                room,
                "server.max_connections is more than the limit of open files lets in (ulimit -n)"
            );
        }
        let connections = config.max_connections.min(room).max(1);
        let server = server
            .on_connect(move |_, data| drop(data.insert(counted.open())))
            .disable_signals()
            .shutdown_timeout(config.drain.as_secs())
            .keep_alive(config.keep_alive)
            .max_connections(connections.div_ceil(workers))
            .workers(workers);
        let server = server
            .listen(listener)
            .map_err(|source| StartError::Listen {
                address: address.to_owned(),
                source,
            })?
            .run();
        Ok(Door {
            handle: server.handle(),
            served: tokio::spawn(server),
        })
    }
}

/// A connection to the embedded database has that open, and its log.
const FILES_OF_A_CONNECTION: usize = 2;

/// How many files, connections among them, this process may have open; where that is not told, no
/// limit.
fn descriptors() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(usize::MAX)
}

/// Forgets, now and then, who has not been seen for a while.
async fn tidy(
    until: CancellationToken,
    admission: web::Data<Admission>,
    strangers: web::Data<Strangers>,
) {
    while !until.is_cancelled() {
        tokio::select! {
            () = until.cancelled() => {}
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
        }
        admission.tidy();
        strangers.tidy();
    }
}

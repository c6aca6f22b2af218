//! The way to the collector: OTLP as protobuf over HTTP, with the HTTP client that everything else
//! uses. A collector that does not take spans is one line in the log, not one for each batch. What
//! the collector asks to have again later is sent again within the time of one sending, by the
//! exporter; then it is dropped.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use parking_lot::Mutex;
use providers::address;
use providers::http::client_builder;
use tokio::runtime::Handle;

use super::settings::{NoTraces, Settings};
use crate::redact;

/// Sends to the collector. Its requests run where all others do: the SDK's own thread has no
/// runtime.
#[derive(Debug)]
pub(super) struct Collector {
    http: reqwest::Client,
    runtime: Handle,
    is_up: Mutex<Option<bool>>,
}

impl Collector {
    pub(super) fn exporter(settings: &Settings, runtime: Handle) -> Result<SpanExporter, NoTraces> {
        let client = |error: &dyn std::fmt::Display| {
            NoTraces::Client(redact::message(&error.to_string(), &settings.otlp_url))
        };
        let http = client_builder()
            .map_err(|error| client(&error))?
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(settings.timeout.min(Duration::from_secs(1)))
            .timeout(settings.timeout)
            .build()
            .map_err(|error| client(&error))?;

        register();
        SpanExporter::builder()
            .with_http()
            .with_http_client(Self {
                http,
                runtime,
                is_up: Mutex::new(None),
            })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(address(&settings.otlp_url))
            .with_timeout(settings.timeout)
            .build()
            .map_err(|error| client(&error))
    }

    /// Notes how a sending ended; says it when that is news.
    fn note(&self, ended: &Result<(), String>) {
        let is_up = ended.is_ok();
        let result = if is_up { "taken" } else { "failed" };
        metrics::counter!("interlock_trace_exports_total", "result" => result).increment(1);
        metrics::gauge!("interlock_traces_up").set(if is_up { 1.0 } else { 0.0 });
        let before = self.is_up.lock().replace(is_up);

        match ended {
            Ok(()) if before == Some(false) => tracing::info!("the collector takes traces again"),
            Err(error) if before != Some(false) => {
                tracing::error!(
                    error,
                    "the collector takes no traces: they are lost until it does"
                );
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// Makes the series of what can become of a sending.
fn register() {
    for result in ["taken", "failed"] {
        metrics::counter!("interlock_trace_exports_total", "result" => result).increment(0);
    }
}

/// Collectors listen at `/v1/traces`; an address with another path is meant as it is.
fn address(url: &str) -> String {
    let Ok(mut address) = address::read(url) else {
        return url.to_owned();
    };
    if address.path() == "/" {
        address.set_path("/v1/traces");
    }
    address.into()
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let request = reqwest::Request::try_from(request).map_err(|e| e.to_string())?;
            http.execute(request)
                .await
                .map_err(|e| e.without_url().to_string())
        });

        let answer = sent.await.unwrap_or_else(|e| Err(e.to_string()));
        let status = answer
            .as_ref()
            .map(reqwest::Response::status)
            .map_err(Clone::clone);

        self.note(&status.and_then(|s| {
            if s.is_success() {
                Ok(())
            } else {
                Err(format!("it answers {s}"))
            }
        }));

        let mut answer = answer?;
        // What the collector says beside these (which spans it did not like) changes nothing here,
        // and is not read.
        let mut told = Response::new(Bytes::new());
        *told.status_mut() = answer.status();
        std::mem::swap(told.headers_mut(), answer.headers_mut());

        Ok(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_address_gets_the_path_that_collectors_have() {
        for (given, used) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            (
                "http://收集.example:4318",
                "http://xn--wbv461i.example:4318/v1/traces",
            ),
            (
                "https://otlp.example/tenant/v1/traces",
                "https://otlp.example/tenant/v1/traces",
            ),
        ] {
            assert_eq!(address(given), used);
        }
    }
}

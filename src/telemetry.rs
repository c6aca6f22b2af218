//! Logs as JSON on standard error, and metrics for Prometheus. No secret and no payer's data is
//! ever logged.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Seconds; a provider call is between a few milliseconds and its timeout.
const CALL_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Changes in one commit: powers of two up to the batch limit.
const COMMIT_BUCKETS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Seconds that a commit takes: from a disk that is asked to write to one that is in trouble.
const COMMIT_SECONDS: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

/// So many lines wait for whoever reads standard error; what comes beyond is dropped, and counted.
const LINES_WAITING: usize = 16_384;

/// Writes lines in a thread of its own: a reader that has stopped reading must not stop a payment.
struct Log {
    writer: NonBlocking,
    dropped: ErrorCounter,
    worker: Mutex<Option<WorkerGuard>>,
}

static LOG: OnceLock<Log> = OnceLock::new();

impl Log {
    fn begin() -> Self {
        let builder = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_WAITING)
            .thread_name("log");
        let (writer, worker) = builder.finish(std::io::stderr());
        Self {
            dropped: writer.error_counter(),
            writer,
            worker: Mutex::new(Some(worker)),
        }
    }
}

/// Writes what is left of the log; waits a second for that at the most. Nothing is logged
/// afterwards.
pub fn end_log() {
    let worker = LOG.get().and_then(|log| log.worker.lock().take());
    drop(worker);
}

/// How many lines nobody will read, for they came faster than they were taken.
#[must_use]
pub fn dropped_lines() -> u64 {
    LOG.get().map_or(0, |log| {
        u64::try_from(log.dropped.dropped_lines()).unwrap_or(u64::MAX)
    })
}

/// Begins to log. `level` is a level or a filter; a second call changes nothing.
///
/// # Errors
/// What is wrong with `level`.
pub fn log(level: &str) -> Result<(), String> {
    // A word that is no level is the name of a part of the program: alone, it would silence all
    // others.
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    if !level
        .split(',')
        .map(str::trim)
        .any(|part| part.contains(['=', '[']) || is_level(part))
    {
        return Err(format!(
            "log.level = {level:?}: a level is off, error, warn, info, debug or trace"
        ));
    }

    let mut filter =
        EnvFilter::try_new(level).map_err(|e| format!("log.level = {level:?}: {e}"))?;
    // One line for each request that nobody can read, for whoever sends them as fast as he can.
    if let Some(directive) = "actix_http=off"
        .parse()
        .ok()
        .filter(|_| !level.contains("actix_http"))
    {
        filter = filter.add_directive(directive);
    }
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(true)
        .with_env_filter(filter)
        .with_writer(LOG.get_or_init(Log::begin).writer.clone())
        // It would report what it cannot write on standard error, and panic when that is closed.
        .log_internal_errors(false)
        .try_init();

    Ok(())
}

/// The process's one recorder of metrics.
///
/// # Errors
/// When another recorder was installed by somebody else.
pub fn metrics() -> Result<PrometheusHandle, String> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();

    HANDLE
        .get_or_init(|| {
            buckets(
                PrometheusBuilder::new(),
                "interlock_provider_call_seconds",
                &CALL_BUCKETS,
            )
            .and_then(|b| buckets(b, "interlock_webhook_try_seconds", &CALL_BUCKETS))
            .and_then(|b| buckets(b, "interlock_http_request_seconds", &CALL_BUCKETS))
            .and_then(|b| buckets(b, "interlock_group_commit_changes", &COMMIT_BUCKETS))
            .and_then(|b| buckets(b, "interlock_group_commit_seconds", &COMMIT_SECONDS))
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|e| e.to_string())
        })
        .clone()
}

fn buckets(
    builder: PrometheusBuilder,
    metric: &str,
    bounds: &[f64],
) -> Result<PrometheusBuilder, BuildError> {
    builder.set_buckets_for_metric(Matcher::Full(metric.to_owned()), bounds)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_level_that_is_none_is_refused_and_not_taken_for_a_name() {
        for wrong in ["wran", "", " , ", "loud,", "interlock=wran"] {
            assert!(super::log(wrong).is_err(), "{wrong:?}");
        }
    }
}

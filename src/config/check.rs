//! Whether values can be, each by itself and beside the others. Changes none of them.

use std::time::Duration;

use providers::address;

use super::durations::in_unit;
use super::error::Wrong;
use super::sections::Config;
use crate::redact;

/// No call, pause or grace that is given in milliseconds is longer.
const DAY: Duration = Duration::from_hours(24);

/// An address that is wrong, without what may be a password in it.
fn shown(address: &str) -> String {
    if address.contains('@') {
        redact::address(address)
    } else {
        address.to_owned()
    }
}

impl Config {
    /// What has an upper end, too: beyond it a runtime gives up, or nothing would ever happen.
    fn check_ranges(&self) -> Result<(), Wrong> {
        let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let ranges = [
            (
                "server.workers",
                number(self.server.workers),
                0..=512,
                "must be from 0 to 512",
            ),
            (
                "server.keep_alive_s",
                self.server.keep_alive.as_secs(),
                1..=86_400,
                "must be from 1 to 86400",
            ),
            (
                "server.drain_s",
                self.server.drain.as_secs(),
                0..=86_400,
                "must be from 0 to 86400",
            ),
            (
                "server.drain_notice_s",
                self.server.drain_notice.as_secs(),
                0..=86_400,
                "must be from 0 to 86400",
            ),
            (
                "database.timeout_ms",
                u64::try_from(self.database.timeout.as_millis()).unwrap_or(u64::MAX),
                1_000..=600_000,
                "must be from 1000 to 600000",
            ),
            (
                "database.connections",
                u64::from(self.database.connections),
                1..=10_000,
                "must be from 1 to 10000",
            ),
        ];

        for (key, value, range, problem) in ranges {
            if !range.contains(&value) {
                return Err(Wrong {
                    key,
                    value: value.to_string(),
                    problem,
                });
            }
        }

        Ok(())
    }

    /// What must be more than 0.
    fn check_numbers(&self) -> Result<(), Wrong> {
        let p = &self.payments;
        let small = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let counts = [
            (
                "payments.max_amount_fen",
                usize::try_from(p.max_amount_fen).unwrap_or(0),
            ),
            (
                "webhooks.log_days",
                usize::try_from(self.webhooks.log_days).unwrap_or(0),
            ),
            ("payments.max_routes", p.max_routes),
            ("resolver.batch", self.resolver.batch),
            ("server.max_body_bytes", self.server.max_body_bytes),
            (
                "admission.payments_per_s",
                small(self.admission.payments_per_s),
            ),
            (
                "admission.payments_burst",
                small(self.admission.payments_burst),
            ),
            (
                "admission.requests_per_s",
                small(self.admission.requests_per_s),
            ),
            (
                "admission.requests_burst",
                small(self.admission.requests_burst),
            ),
            (
                "admission.strangers_per_s",
                small(self.admission.strangers_per_s),
            ),
            (
                "admission.strangers_burst",
                small(self.admission.strangers_burst),
            ),
            (
                "server.max_idle_connections",
                self.server.max_idle_connections,
            ),
            ("server.max_connections", self.server.max_connections),
            (
                "payments.max_parked",
                usize::try_from(p.max_parked).unwrap_or(0),
            ),
            ("admission.max_in_progress", self.admission.max_in_progress),
            ("webhooks.concurrency", self.webhooks.concurrency),
            ("webhooks.per_receiver", self.webhooks.per_receiver),
            (
                "webhooks.batch",
                usize::try_from(self.webhooks.batch).unwrap_or(0),
            ),
            ("traces.queue", self.traces.queue),
        ];

        for (key, value) in counts {
            if value == 0 {
                return Err(Wrong {
                    key,
                    value: value.to_string(),
                    problem: "must be more than 0",
                });
            }
        }

        Ok(())
    }

    /// Calls, pauses and graces: more than nothing, and none that is given in milliseconds longer
    /// than a day.
    fn check_durations(&self) -> Result<(), Wrong> {
        let p = &self.payments;
        let durations = [
            ("payments.offer_timeout_ms", p.offer_timeout),
            ("payments.query_timeout_ms", p.query_timeout),
            ("payments.reverse_timeout_ms", p.reverse_timeout),
            ("payments.refund_timeout_ms", p.refund_timeout),
            ("payments.call_grace_ms", p.call_grace),
            ("payments.account_set_aside_s", p.account_set_aside),
            (
                "admission.max_commit_wait_ms",
                self.admission.max_commit_wait,
            ),
            ("resolver.interval_ms", self.resolver.interval),
            ("resolver.lease_s", self.resolver.lease),
            ("ledger.interval_ms", self.ledger.interval),
            ("webhooks.interval_ms", self.webhooks.interval),
            ("webhooks.timeout_ms", self.webhooks.timeout),
            ("webhooks.connect_timeout_ms", self.webhooks.connect_timeout),
            ("webhooks.alert_after_s", self.webhooks.alert_after),
            ("traces.interval_ms", self.traces.interval),
            ("traces.timeout_ms", self.traces.timeout),
        ];

        for (key, duration) in durations {
            let problem = if duration.is_zero() {
                "must be more than 0"
            } else if key.ends_with("_ms") && duration > DAY {
                "must be at most 86400000"
            } else {
                continue;
            };
            return Err(Wrong {
                key,
                value: in_unit(key, duration).to_string(),
                problem,
            });
        }

        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), Wrong> {
        self.check_numbers()?;
        self.check_durations()?;
        self.check_ranges()?;
        let p = &self.payments;
        let ladder = &self.webhooks.ladder;

        if ladder.is_empty() || ladder.iter().any(Duration::is_zero) {
            let seconds: Vec<u64> = ladder.iter().map(Duration::as_secs).collect();
            let value = format!("{seconds:?}");
            return Err(Wrong {
                key: "webhooks.ladder_s",
                value,
                problem: "needs pauses, each more than 0 seconds",
            });
        }

        if !(100..=10_000).contains(&p.answer_within.as_millis()) {
            let value = in_unit("payments.answer_within_ms", p.answer_within).to_string();
            let problem = "must be from 100 to 10000: checkouts are answered within 10 seconds";
            return Err(Wrong {
                key: "payments.answer_within_ms",
                value,
                problem,
            });
        }

        if crate::domain::id::InstallationPrefix::parse(&p.order_prefix).is_none() {
            let value = p.order_prefix.clone();
            return Err(Wrong {
                key: "payments.order_prefix",
                value,
                problem: "must be 1 to 8 letters or digits",
            });
        }

        // Each entry is two parameters of one statement, of which SQLite takes 32766.
        if !(1..=10_000).contains(&self.ledger.block_entries) {
            let value = self.ledger.block_entries.to_string();
            return Err(Wrong {
                key: "ledger.block_entries",
                value,
                problem: "must be from 1 to 10000",
            });
        }

        if self.traces.percent > 100 {
            let value = self.traces.percent.to_string();
            return Err(Wrong {
                key: "traces.percent",
                value,
                problem: "must be from 0 to 100",
            });
        }

        let url = &self.traces.otlp_url;
        if !(url.is_empty() || address::read(url).is_ok()) {
            let problem = "must be an http or https address without a user";
            return Err(Wrong {
                key: "traces.otlp_url",
                value: shown(url),
                problem,
            });
        }

        self.alerts.check()?;
        let url = &self.server.public_url;
        let is_place = address::read(url).is_ok_and(|url| url.query().is_none());

        if !(url.is_empty() || is_place) {
            let problem = "must be an http or https address without a user and a query";
            return Err(Wrong {
                key: "server.public_url",
                value: shown(url),
                problem,
            });
        }

        Ok(())
    }
}

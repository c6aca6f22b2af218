//! Whether values can be, each by itself and beside the others. Changes none of them.

use providers::address;

use super::error::Wrong;
use super::sections::Config;
use crate::redact;

/// No call, pause or grace of [`Config::check_numbers`] that is given in milliseconds is longer.
const DAY_MS: i64 = 86_400_000;

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
                self.server.keep_alive_s,
                1..=86_400,
                "must be from 1 to 86400",
            ),
            (
                "server.drain_s",
                self.server.drain_s,
                0..=86_400,
                "must be from 0 to 86400",
            ),
            (
                "server.drain_notice_s",
                self.server.drain_notice_s,
                0..=86_400,
                "must be from 0 to 86400",
            ),
            (
                "database.timeout_ms",
                self.database.timeout_ms,
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
        let positive = [
            ("payments.max_amount_fen", p.max_amount_fen),
            ("payments.offer_timeout_ms", p.offer_timeout_ms),
            ("payments.query_timeout_ms", p.query_timeout_ms),
            ("payments.refund_timeout_ms", p.refund_timeout_ms),
            ("payments.call_grace_ms", p.call_grace_ms),
            ("payments.account_set_aside_s", p.account_set_aside_s),
            ("resolver.interval_ms", self.resolver.interval_ms),
            ("resolver.lease_s", self.resolver.lease_s),
            ("ledger.interval_ms", self.ledger.interval_ms),
            ("webhooks.interval_ms", self.webhooks.interval_ms),
            ("webhooks.alert_after_s", self.webhooks.alert_after_s),
            ("webhooks.log_days", self.webhooks.log_days),
        ];

        for (key, value) in positive {
            if value <= 0 {
                return Err(Wrong {
                    key,
                    value: value.to_string(),
                    problem: "must be more than 0",
                });
            }
            if key.ends_with("_ms") && value > DAY_MS {
                return Err(Wrong {
                    key,
                    value: value.to_string(),
                    problem: "must be at most 86400000",
                });
            }
        }

        let small = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let counts = [
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
            (
                "admission.max_commit_wait_ms",
                usize::try_from(self.admission.max_commit_wait_ms).unwrap_or(0),
            ),
            ("webhooks.concurrency", self.webhooks.concurrency),
            ("webhooks.per_receiver", self.webhooks.per_receiver),
            (
                "webhooks.batch",
                usize::try_from(self.webhooks.batch).unwrap_or(0),
            ),
            (
                "webhooks.timeout_ms",
                usize::try_from(self.webhooks.timeout_ms).unwrap_or(0),
            ),
            (
                "webhooks.connect_timeout_ms",
                usize::try_from(self.webhooks.connect_timeout_ms).unwrap_or(0),
            ),
            ("traces.queue", self.traces.queue),
            (
                "traces.interval_ms",
                usize::try_from(self.traces.interval_ms).unwrap_or(0),
            ),
            (
                "traces.timeout_ms",
                usize::try_from(self.traces.timeout_ms).unwrap_or(0),
            ),
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

    pub(super) fn check(&self) -> Result<(), Wrong> {
        self.check_numbers()?;
        self.check_ranges()?;
        let p = &self.payments;
        let ladder = &self.webhooks.ladder_s;

        if ladder.is_empty() || ladder.iter().any(|s| *s <= 0) {
            let value = format!("{ladder:?}");
            return Err(Wrong {
                key: "webhooks.ladder_s",
                value,
                problem: "needs pauses, each more than 0 seconds",
            });
        }

        if !(100..=10_000).contains(&p.answer_within_ms) {
            let value = p.answer_within_ms.to_string();
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

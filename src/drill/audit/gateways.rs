//! The rules about gateways: they serve again soon, do not say that they are ready while they are
//! not, and log neither secrets nor panics.

use super::evidence::Evidence;
use super::findings::Findings;

/// Whatever fell silent, payments are taken again so soon; and nobody says for so long that he is
/// ready while he is not.
const SERVED_WITHIN_MS: u64 = 15_000;
const FALSELY_READY_MS: u64 = 30_000;

/// A gateway takes payments again soon, and does not say that it is ready while nothing succeeds
/// there.
pub(super) fn probes(found: &mut Findings, e: &Evidence) {
    for probed in &e.probed {
        found.require(
            probed.longest_ms <= SERVED_WITHIN_MS,
            "served_again",
            &probed.gateway,
            || format!("no payment was taken for {} ms", probed.longest_ms),
        );
        found.require(
            probed.falsely_ready_ms <= FALSELY_READY_MS,
            "ready_is_true",
            &probed.gateway,
            || {
                format!(
                    "it said that it was ready for {} ms while no payment was taken",
                    probed.falsely_ready_ms
                )
            },
        );
        for job in &probed.stopped {
            found.add("every_loop_goes_on", &probed.gateway, job.clone());
        }
    }
}

pub(super) fn logs(found: &mut Findings, e: &Evidence) {
    for (number, log) in e.logs.iter().enumerate() {
        for secret in e.secrets.iter().filter(|secret| secret.len() >= 12) {
            found.require(
                !log.contains(secret.as_str()),
                "no_secret_in_logs",
                &format!("gateway {number}"),
                || format!("a secret of {} characters stands in its log", secret.len()),
            );
        }
        let illegal = log.lines().find(|line| line.contains("is not possible in"));
        found.require(
            illegal.is_none(),
            "no_illegal_transition",
            &format!("gateway {number}"),
            || illegal.unwrap_or_default().chars().take(300).collect(),
        );
        let panicked = log.lines().find(|line| line.contains("panicked at"));
        found.require(
            panicked.is_none(),
            "nothing_panics",
            &format!("gateway {number}"),
            || panicked.unwrap_or_default().chars().take(300).collect(),
        );
    }
}

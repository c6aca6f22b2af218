//! Named points on the path of money at which a drill kills the process with SIGKILL, to prove that whatever is
//! half done is finished by the next one. Without the `drill` feature nothing of this is compiled.

/// Every kill point, in the order in which a payment passes them. `tests/tidy.rs` compares it with the code.
pub const POINTS: &[&str] = &[
    "pay_before_first_commit",
    "pay_after_first_commit",
    "pay_after_call",
    "pay_after_switch_commit",
    "pay_after_outcome_commit",
    "pay_after_answer",
    "offer_after_commit",
    "notify_before_commit",
    "notify_after_commit",
    "resolve_after_claim",
    "resolve_after_query",
    "resolve_after_close",
    "resolve_after_commit",
    "charge_after_query",
    "reverse_after_plan_commit",
    "reverse_after_call",
    "cancel_after_commit",
    "refund_before_first_commit",
    "refund_after_first_commit",
    "refund_after_call",
    "refund_after_outcome_commit",
    "refund_after_answer",
    "refund_after_query",
    "give_back_after_commit",
    "webhook_before_fan_out_commit",
    "webhook_after_fan_out_commit",
    "webhook_after_claim",
    "webhook_after_call",
    "webhook_after_record",
    "ledger_after_seal",
];

/// Marks a kill point; nothing in release builds.
#[macro_export]
macro_rules! kill_point {
    ($name:literal) => {
        ::fail::fail_point!($name);
    };
}

/// Arms what the environment names: `INTERLOCK_KILL_POINT=point` kills the process when the first worker reaches the
/// point, `point:n` when the n-th does; `INTERLOCK_HOLD_POINT=point:ms` holds the first worker up for so long.
#[cfg(feature = "drill")]
pub fn arm() {
    if let Ok(value) = std::env::var("INTERLOCK_KILL_POINT") {
        arm_now(&value);
    }
    if let Some((point, ms)) = std::env::var("INTERLOCK_HOLD_POINT").ok().and_then(|value| armed(&value)) {
        report(fail::cfg(point, &format!("1*sleep({ms})")));
    }
}

/// What the process says last, before the point's name.
#[cfg(feature = "drill")]
pub const KILLED_AT: &str = "killed at ";

/// From now on the n-th worker that comes to `point:n` kills the process.
#[cfg(feature = "drill")]
pub fn arm_now(value: &str) {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU64, Ordering};

    let Some((point, nth)) = armed(value) else { return };
    let (left, name) = (AtomicU64::new(nth), point.clone());
    let done = fail::cfg_callback(point, move || {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Whoever armed it can tell this death from others.
            let _ = writeln!(std::io::stderr(), "{KILLED_AT}{name}");
            // The real thing: no destructor runs, no buffer is written, no connection is closed politely.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    });
    report(done);
}

/// The point that is named, and the number behind its colon: 1 if there is none.
#[cfg(feature = "drill")]
fn armed(value: &str) -> Option<(String, u64)> {
    let (point, number) = value.split_once(':').unwrap_or((value, "1"));
    match number.parse() {
        Ok(number) if POINTS.contains(&point) => Some((point.to_owned(), number)),
        Ok(_) | Err(_) => {
            tracing::error!(value, "no such kill point");
            None
        }
    }
}

#[cfg(feature = "drill")]
fn report(armed: Result<(), String>) {
    if let Err(error) = armed {
        tracing::error!(error, "a kill point could not be armed");
    }
}

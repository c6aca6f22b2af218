//! Named points on the path of money at which a drill kills the process with SIGKILL, to prove that
//! whatever is half done is finished by the next one.

/// Every kill point, in the order in which a payment passes them. `tests/tidy/kill_points.rs`
/// compares it with the code.
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

/// Arms what the environment names: `INTERLOCK_KILL_POINT=point` kills the process when the first
/// worker reaches the point, `point:n` when the n-th does; `INTERLOCK_HOLD_POINT=point:ms` holds
/// the first worker up for so long; `INTERLOCK_STOP_POINT=point` holds the first worker up until
/// there is the file `INTERLOCK_STOP_FILE`, and then stops the process until somebody lets it go
/// on.
pub fn arm() {
    if let Ok(value) = std::env::var("INTERLOCK_KILL_POINT") {
        arm_now(&value);
    }
    if let Some((point, ms)) = std::env::var("INTERLOCK_HOLD_POINT")
        .ok()
        .and_then(|value| armed(&value))
    {
        report(fail::cfg(point, &format!("1*sleep({ms})")));
    }

    if let Some((point, nth)) = std::env::var("INTERLOCK_STOP_POINT")
        .ok()
        .and_then(|value| armed(&value))
    {
        let file =
            std::path::PathBuf::from(std::env::var_os("INTERLOCK_STOP_FILE").unwrap_or_default());
        at_nth(point, nth, move |_| {
            while !file.exists() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::STOP,
            );
            // It may take a moment until all threads have stopped.
            std::thread::sleep(std::time::Duration::from_millis(100));
        });
    }
}

/// Tells a program that whoever has started it cannot go without it.
pub const DIES_WITH_PARENT: &str = "INTERLOCK_DIES_WITH_PARENT";

/// Where the environment says so, the process is killed when the one that started it dies: a drill
/// or a test that is killed leaves no gateway behind.
pub fn follow_parent() {
    use rustix::process::{Signal, getpid, getppid, kill_process, set_parent_process_death_signal};

    if std::env::var_os(DIES_WITH_PARENT).is_none() {
        return;
    }
    report(set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string()));
    // It may have died before.
    if getppid().is_none_or(rustix::process::Pid::is_init) {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// What the process says last, before the point's name.
pub const KILLED_AT: &str = "killed at ";

/// From now on the n-th worker that comes to `point:n` kills the process.
pub fn arm_now(value: &str) {
    use std::io::Write as _;

    let Some((point, nth)) = armed(value) else {
        return;
    };
    at_nth(point, nth, |name| {
        // Whoever armed it can tell this death from others.
        let _ = writeln!(std::io::stderr(), "{KILLED_AT}{name}");
        // The real thing: no destructor runs, no buffer is written, no connection is closed
        // politely.
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    });
}

/// Has the n-th worker that comes to a point do something.
fn at_nth(point: String, nth: u64, act: impl Fn(&str) + Send + Sync + 'static) {
    use std::sync::atomic::{AtomicU64, Ordering};

    let (left, name) = (AtomicU64::new(nth), point.clone());
    report(fail::cfg_callback(point, move || {
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            act(&name);
        }
    }));
}

/// The point that is named, and the number behind its colon: 1 if there is none.
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

fn report(armed: Result<(), String>) {
    if let Err(error) = armed {
        tracing::error!(error, "a kill point could not be armed");
    }
}

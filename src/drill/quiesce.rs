//! After everything was mended: days pass in seconds until nothing is due any more, and all who had
//! to be told know.
#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value gives null for what it has not"
)]

use std::time::{Duration, Instant};

use super::cluster::Stage;

/// Time goes by in steps that no notification gets stale in.
pub const STEP_S: u64 = 200;
const LEAP_S: u64 = 1_800;
/// While something is overdue, a second goes by after so long.
const NUDGED_EVERY: Duration = Duration::from_millis(200);
/// While somebody is at work, it takes so long: it may be the time that he waits for.
const NUDGED_AT_WORK: Duration = Duration::from_secs(2);
/// Overdue for so long, and nobody is at it: a lease must end, of one who died while his clock was
/// minutes ahead.
const LEFT_ALONE: Duration = Duration::from_secs(5);
/// Everything must have come to rest after so much of the gateways' time.
pub const REST_WITHIN_S: u64 = 2 * 86_400;

/// What all gateways wait for.
struct Waiting {
    /// In how many seconds the next thing is due, if anything is.
    in_s: Option<u64>,
    /// Somebody is at work, whatever is due.
    is_at_work: bool,
}

/// Lets the time pass that anything waits for, until nothing does. Returns how many seconds that
/// were.
///
/// # Errors
/// What does not come to rest.
pub async fn come_to_rest(stage: &Stage) -> Result<u64, String> {
    let (mut gone_s, mut quiet, began) = (0_u64, 0_u32, Instant::now());
    let (mut answered, mut moved, mut nudged) = (began, began, began);

    loop {
        let Some(Waiting { in_s, is_at_work }) = waiting(stage).await else {
            tokio::time::sleep(Duration::from_millis(30)).await;
            if answered.elapsed() > Duration::from_secs(120) {
                return Err(
                    "a gateway does not answer for two minutes after everything was mended"
                        .to_owned(),
                );
            }
            continue;
        };
        answered = Instant::now();
        if is_at_work {
            moved = answered;
        }
        let (step, pause_ms) = match in_s {
            // Whoever does it must not see time leap between his commit and his call, or he will
            // never call.
            _ if is_at_work => (None, 3),
            // Nothing waits; providers may still send what nobody took.
            None if quiet >= 4 && is_told(stage, quiet).await => return Ok(gone_s),
            None => (Some(STEP_S), if quiet >= 4 { 15 } else { 60 }),
            // What is due already will be taken up, or its worker's lease has to end first.
            Some(0) => (None, 20),
            Some(in_s @ ..=STEP_S) => (Some(in_s), if in_s > 30 { 10 } else { 3 }),
            // While no notification is on its way, none gets stale.
            Some(in_s) if is_told(stage, 0).await => (Some(in_s.min(LEAP_S)), 10),
            Some(_) => (Some(STEP_S), 10),
        };
        quiet = if in_s.is_none() && !is_at_work {
            quiet + 1
        } else {
            0
        };
        let step = match step {
            Some(step) => {
                (moved, nudged) = (answered, answered);
                step
            }
            None if nudged.elapsed()
                < if is_at_work {
                    NUDGED_AT_WORK
                } else {
                    NUDGED_EVERY
                } =>
            {
                0
            }
            None => {
                nudged = answered;
                if moved.elapsed() > LEFT_ALONE { 10 } else { 1 }
            }
        };
        if step > 0 {
            stage.advance(step).await;
            gone_s += step;
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        if gone_s > REST_WITHIN_S || began.elapsed() > Duration::from_secs(240) {
            return Err(format!(
                "after {gone_s} s of its own time something is still due again and again"
            ));
        }
    }
}

/// Whether every notification was taken, or its provider has sent it for a day.
async fn is_told(stage: &Stage, quiet: u32) -> bool {
    let enough = u64::from(quiet) * STEP_S > 86_400;
    enough
        || stage
            .tell("GET", "/notifications", None)
            .await
            .is_ok_and(|log| log["pending"] == 0)
}

/// What the gateways wait for; `None` while one of them does not answer.
async fn waiting(stage: &Stage) -> Option<Waiting> {
    let mut all = Waiting {
        in_s: None,
        is_at_work: false,
    };
    for number in 0..stage.gateways() {
        let reply = stage.due(number).await?;
        let in_s = reply
            .due_ms
            .map(|due| u64::try_from((due - reply.now_ms + 999).max(0) / 1_000).unwrap_or(0));
        all.in_s = all.in_s.into_iter().chain(in_s).min();
        all.is_at_work |= reply.at_work > 0;
    }
    Some(all)
}

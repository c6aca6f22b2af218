//! After everything was mended: days pass in seconds until nothing is due any more, and all who had to be told know.
#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for what it has not")]

use std::time::{Duration, Instant};

use super::stage::Stage;

/// Time goes by in steps that no notification gets stale in.
pub const STEP_S: u64 = 200;
const LEAP_S: u64 = 1_800;
/// While something is due, time goes on by a second after so many looks, which are 20 ms apart.
const STANDS_STILL: u32 = 10;
/// After so many, nobody is at work any more: a lease must end, of one who died while his clock was minutes ahead.
const NOBODY_WORKS: u32 = 250;
/// Everything must have come to rest after so much of the gateways' time.
pub const REST_WITHIN_S: u64 = 2 * 86_400;

/// Lets the time pass that anything waits for, until nothing does. Returns how many seconds that were.
///
/// # Errors
/// What does not come to rest.
pub async fn come_to_rest(stage: &Stage) -> Result<u64, String> {
    let (mut gone_s, began) = (0_u64, Instant::now());
    let (mut quiet, mut overdue): (u32, u32) = (0, 0);
    loop {
        let Some(due) = next_due(stage).await else {
            tokio::time::sleep(Duration::from_millis(30)).await;
            if began.elapsed() > Duration::from_secs(120) {
                return Err("no gateway answers for two minutes after everything was mended".to_owned());
            }
            continue;
        };
        match due {
            // Nothing waits; providers may still send what nobody took.
            None if quiet >= 4 && is_told(stage, quiet).await => return Ok(gone_s),
            None => {
                (quiet, overdue) = (quiet + 1, 0);
                stage.advance(STEP_S).await;
                gone_s += STEP_S;
                tokio::time::sleep(Duration::from_millis(if quiet > 4 { 15 } else { 60 })).await;
            }
            Some(in_s) => {
                quiet = 0;
                // What is due already is being done, or its worker's lease has to end first.
                let step = match in_s {
                    0..=STEP_S => in_s,
                    // While no notification is on its way, none gets stale.
                    _ if is_told(stage, 0).await => in_s.min(LEAP_S),
                    _ => STEP_S,
                };
                if step == 0 {
                    // Whoever does it must not see time leap between his commit and his call, or he will never call.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    overdue += 1;
                    if overdue.is_multiple_of(STANDS_STILL) {
                        let step = if overdue > NOBODY_WORKS { 10 } else { 1 };
                        stage.advance(step).await;
                        gone_s += step;
                    }
                } else {
                    overdue = 0;
                    stage.advance(step).await;
                    gone_s += step;
                    tokio::time::sleep(Duration::from_millis(if step > 30 { 10 } else { 3 })).await;
                }
            }
        }
        if gone_s > REST_WITHIN_S || began.elapsed() > Duration::from_secs(240) {
            return Err(format!("after {gone_s} s of its own time something is still due again and again"));
        }
    }
}

/// Whether every notification was taken, or its provider has sent it for a day.
async fn is_told(stage: &Stage, quiet: u32) -> bool {
    let enough = u64::from(quiet) * STEP_S > 86_400;
    enough || stage.tell("GET", "/notifications", None).await.is_ok_and(|log| log["pending"] == 0)
}

/// In how many seconds anything is due at any gateway; the outer `None`: no gateway answers.
async fn next_due(stage: &Stage) -> Option<Option<u64>> {
    let mut soonest: Option<Option<u64>> = None;
    for number in 0..stage.gateways() {
        let Some(reply) = stage.due(number).await else { continue };
        let in_s = reply.due_ms.map(|due| u64::try_from((due - reply.now_ms + 999).max(0) / 1_000).unwrap_or(0));
        soonest = Some(match (soonest.flatten(), in_s) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        });
    }
    soonest
}

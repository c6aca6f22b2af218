//! How much a receiver is asked to take at the same time. All that goes to one receiver shares a
//! lane, so that one that is slow or down holds up nobody else, and is not hammered when it
//! struggles to its feet; and owners share what is sent at all, so that one with a thousand
//! receivers that hang holds up nobody either. Times are read off a clock that nobody sets. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::domain::Timestamp;
use crate::domain::webhook::End;
use crate::routing::share::Shares;
use crate::webhooks::client::Try;

/// A receiver that takes longer is slow.
const SLOW_MS: i64 = 1_000;
/// A slow one gets so many at the same time.
const SLOW_ROOM: usize = 2;
/// A receiver that asks for a pause gets one for all its events, up to this long.
const LONGEST_PAUSE_S: i64 = 3_600;
/// Beyond so many, what is remembered is forgotten.
const MAX_LANES: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Slow,
    /// One at a time, and the next one not before.
    Failing(Timestamp),
}

/// Receivers that need care. One that is not in here is well.
#[derive(Debug, Default)]
pub(super) struct Lanes(HashMap<String, Pace>);

impl Lanes {
    /// How many more may go to a receiver that is busy with so many, and may have `most`.
    pub(super) fn room(&self, lane: &str, busy: usize, most: usize, now: Timestamp) -> usize {
        let at_once = match self.0.get(lane) {
            None => most,
            Some(Pace::Slow) => SLOW_ROOM.min(most),
            Some(Pace::Failing(not_before)) if *not_before > now => 0,
            Some(Pace::Failing(_)) => 1,
        };
        at_once.saturating_sub(busy)
    }

    /// Learns from a try that ended at `now`.
    pub(super) fn note(&mut self, lane: &str, done: &Try, failing_pace: Duration, now: Timestamp) {
        let pace = match done.end {
            End::Delivered if done.latency_ms > SLOW_MS => Some(Pace::Slow),
            End::Delivered | End::Gone | End::EndpointDisabled => None,
            End::HttpStatus
            | End::WrongBody
            | End::ForbiddenAddress
            | End::Unreachable
            | End::Timeout
            | End::Broken => {
                // Too many requests, or unavailable: it speaks of itself, not of one event.
                let asked_s = done
                    .retry_after_s
                    .filter(|_| matches!(done.status, Some(429 | 503)))
                    .unwrap_or(0);
                let asked = now.plus_s(asked_s.min(LONGEST_PAUSE_S));
                Some(Pace::Failing(asked.max(now.plus(failing_pace))))
            }
        };

        match pace {
            Some(pace) => {
                if self.0.len() >= MAX_LANES {
                    self.0.clear();
                }
                self.0.insert(lane.to_owned(), pace);
            }
            None => drop(self.0.remove(lane)),
        }
    }
}

/// A lane in which something is due, and how many more it may have.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) lane: String,
    pub(super) owner: String,
    pub(super) room: usize,
}

/// How many each lane gets of what merchants share: a place for each lane in turn, and each
/// merchant in turn, those that wait the longest first.
pub(super) fn divide(waiting: Vec<Waiting>, shares: &mut Shares<String>) -> Vec<(String, u64)> {
    let mut owners: Vec<String> = Vec::new();
    let mut lanes: HashMap<String, VecDeque<(String, usize)>> = HashMap::new();

    for Waiting { lane, owner, room } in waiting.into_iter().filter(|waiting| waiting.room > 0) {
        let queue = lanes.entry(owner.clone()).or_default();
        if queue.is_empty() {
            owners.push(owner);
        }
        queue.push_back((lane, room));
    }

    let mut granted: Vec<(String, u64)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();

    while !owners.is_empty() {
        owners.retain(|owner| {
            let Some(queue) = lanes.get_mut(owner) else {
                return false;
            };
            if queue.is_empty() || !shares.take(owner) {
                return false;
            }
            let Some((lane, room)) = queue.pop_front() else {
                return false;
            };
            let place = *places.entry(lane.clone()).or_insert_with(|| {
                granted.push((lane.clone(), 0));
                granted.len() - 1
            });
            if let Some((_, count)) = granted.get_mut(place) {
                *count += 1;
            }
            if room > 1 {
                queue.push_back((lane, room - 1));
            }
            true
        });
    }

    granted
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(0);
    const PACE: Duration = Duration::from_secs(1);

    fn done(end: End, latency_ms: i64, status: Option<u16>, retry_after_s: Option<i64>) -> Try {
        Try {
            end,
            status,
            latency_ms,
            answer: None,
            retry_after_s,
        }
    }

    #[test]
    fn a_receiver_gets_less_while_it_is_slow_and_one_at_a_time_while_it_fails() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.room("a", 3, 16, NOW), 13);
        lanes.note(
            "a",
            &done(End::Delivered, 5_000, Some(200), None),
            PACE,
            NOW,
        );

        assert_eq!(
            (lanes.room("a", 0, 16, NOW), lanes.room("a", 2, 16, NOW)),
            (2, 0)
        );

        lanes.note("a", &done(End::Timeout, 15_000, None, None), PACE, NOW);
        assert_eq!(lanes.room("a", 0, 16, Timestamp(999)), 0);
        assert_eq!(
            (
                lanes.room("a", 0, 16, Timestamp(1_000)),
                lanes.room("a", 1, 16, Timestamp(1_000))
            ),
            (1, 0)
        );

        assert_eq!(
            lanes.room("b", 0, 16, NOW),
            16,
            "another receiver does not notice"
        );

        lanes.note("a", &done(End::Delivered, 5, Some(200), None), PACE, NOW);
        assert_eq!(lanes.room("a", 0, 16, NOW), 16);
    }

    #[test]
    fn a_merchant_with_many_receivers_leaves_the_others_their_part() {
        let waiting = |merchant: &str, lanes: usize, room: usize| {
            let lane = |n| Waiting {
                lane: format!("{merchant} {n}"),
                owner: merchant.to_owned(),
                room,
            };
            (0..lanes).map(lane).collect::<Vec<_>>()
        };

        let count = |granted: &[(String, u64)], merchant: &str| {
            granted
                .iter()
                .filter(|(lane, _)| lane.starts_with(merchant))
                .map(|(_, count)| count)
                .sum::<u64>()
        };

        // The hostile one waits the longest, with two hundred receivers.
        let all = waiting("hostile", 200, 16)
            .into_iter()
            .chain(waiting("good", 2, 16))
            .collect();
        let granted = divide(all, &mut Shares::new(64));

        assert_eq!(
            (count(&granted, "hostile"), count(&granted, "good")),
            (32, 32)
        );

        // It has all places already, and its receivers hang: the good one is served all the same.
        let mut shares = Shares::new(64);
        shares.hold(&"hostile".to_owned(), 64);
        let all = waiting("hostile", 200, 16)
            .into_iter()
            .chain(waiting("good", 1, 16))
            .collect();
        let granted = divide(all, &mut shares);

        assert_eq!(
            (count(&granted, "hostile"), count(&granted, "good")),
            (0, 16)
        );

        // Alone one may have all, evenly.
        let granted = divide(waiting("one", 32, 16), &mut Shares::new(64));
        assert!(
            granted.iter().all(|(_, count)| *count == 2) && granted.len() == 32,
            "{granted:?}"
        );
    }

    #[test]
    fn a_receiver_that_asks_for_a_pause_gets_it_for_all_its_events() {
        let mut lanes = Lanes::default();
        lanes.note(
            "a",
            &done(End::HttpStatus, 5, Some(429), Some(60)),
            PACE,
            NOW,
        );

        assert_eq!(
            (
                lanes.room("a", 0, 16, Timestamp(59_999)),
                lanes.room("a", 0, 16, Timestamp(60_000))
            ),
            (0, 1)
        );

        lanes.note(
            "a",
            &done(End::HttpStatus, 5, Some(500), Some(60)),
            PACE,
            NOW,
        );

        assert_eq!(
            lanes.room("a", 0, 16, Timestamp(1_000)),
            1,
            "this one speaks of one event"
        );

        lanes.note(
            "a",
            &done(End::HttpStatus, 5, Some(503), Some(i64::MAX)),
            PACE,
            NOW,
        );

        assert_eq!(lanes.room("a", 0, 16, Timestamp(3_600_000)), 1);
    }
}

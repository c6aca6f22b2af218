//! How much a receiver is asked to take at the same time. All that goes to one receiver shares a lane, so that one
//! that is slow or down holds up nobody else, and is not hammered when it struggles to its feet. Pure.

use std::collections::HashMap;

use crate::domain::Timestamp;
use crate::domain::webhook::End;
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
    pub(super) fn note(&mut self, lane: &str, done: &Try, failing_pace_ms: i64, now: Timestamp) {
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
                let asked_s = done.retry_after_s.filter(|_| matches!(done.status, Some(429 | 503))).unwrap_or(0);
                let pause_ms = asked_s.min(LONGEST_PAUSE_S).saturating_mul(1000).max(failing_pace_ms);
                Some(Pace::Failing(now.plus_ms(pause_ms)))
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(0);

    fn done(end: End, latency_ms: i64, status: Option<u16>, retry_after_s: Option<i64>) -> Try {
        Try { end, status, latency_ms, answer: None, retry_after_s }
    }

    #[test]
    fn a_receiver_gets_less_while_it_is_slow_and_one_at_a_time_while_it_fails() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.room("a", 3, 16, NOW), 13);
        lanes.note("a", &done(End::Delivered, 5_000, Some(200), None), 1_000, NOW);
        assert_eq!((lanes.room("a", 0, 16, NOW), lanes.room("a", 2, 16, NOW)), (2, 0));
        lanes.note("a", &done(End::Timeout, 15_000, None, None), 1_000, NOW);
        assert_eq!(lanes.room("a", 0, 16, Timestamp(999)), 0);
        assert_eq!((lanes.room("a", 0, 16, Timestamp(1_000)), lanes.room("a", 1, 16, Timestamp(1_000))), (1, 0));
        assert_eq!(lanes.room("b", 0, 16, NOW), 16, "another receiver does not notice");
        lanes.note("a", &done(End::Delivered, 5, Some(200), None), 1_000, NOW);
        assert_eq!(lanes.room("a", 0, 16, NOW), 16);
    }

    #[test]
    fn a_receiver_that_asks_for_a_pause_gets_it_for_all_its_events() {
        let mut lanes = Lanes::default();
        lanes.note("a", &done(End::HttpStatus, 5, Some(429), Some(60)), 1_000, NOW);
        assert_eq!((lanes.room("a", 0, 16, Timestamp(59_999)), lanes.room("a", 0, 16, Timestamp(60_000))), (0, 1));
        lanes.note("a", &done(End::HttpStatus, 5, Some(500), Some(60)), 1_000, NOW);
        assert_eq!(lanes.room("a", 0, 16, Timestamp(1_000)), 1, "this one speaks of one event");
        lanes.note("a", &done(End::HttpStatus, 5, Some(503), Some(i64::MAX)), 1_000, NOW);
        assert_eq!(lanes.room("a", 0, 16, Timestamp(3_600_000)), 1);
    }
}

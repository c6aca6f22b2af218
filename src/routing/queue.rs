//! How fast payments that waited for a route may go on when one returns: one at first, twice as many after each batch
//! that found a route, one again and a pause after a batch that did not. And how fast that was, for who asks how long
//! it will take. Kept by each gateway for itself; the payments are rows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::payment::Line;

/// The most payments that go on at once.
const MOST: u64 = 32;
/// The pause after a batch that found no route, and the longest one.
const PAUSE_MS: i64 = 1_000;
const LONGEST_PAUSE_MS: i64 = 16_000;
/// How fast it goes where nobody has seen it yet: payments a minute.
const USUAL_PER_MINUTE: i64 = 300;

#[derive(Debug, Clone, Copy)]
struct Drain {
    length: u64,
    batch: u64,
    pause_ms: i64,
    not_before_ms: i64,
    per_minute: i64,
}

impl Default for Drain {
    fn default() -> Self {
        Self { length: 0, batch: 1, pause_ms: PAUSE_MS, not_before_ms: 0, per_minute: USUAL_PER_MINUTE }
    }
}

/// All lines. Times are milliseconds on a clock that is not set.
#[derive(Debug, Default)]
pub struct Queue {
    lines: Mutex<HashMap<Line, Drain>>,
}

impl Queue {
    fn lines(&self) -> MutexGuard<'_, HashMap<Line, Drain>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of a line may go on now.
    #[must_use]
    pub fn may_go_on(&self, line: &Line, now_ms: i64) -> u64 {
        self.lines().get(line).map_or(1, |drain| if now_ms < drain.not_before_ms { 0 } else { drain.batch })
    }

    /// A batch has gone on, and so many of it have found a route, in so many milliseconds.
    pub fn went_on(&self, line: &Line, batch: u64, found: u64, took_ms: i64, now_ms: i64) {
        if batch == 0 {
            return;
        }
        let mut lines = self.lines();
        let drain = lines.entry(line.clone()).or_default();
        if found < batch {
            (drain.batch, drain.not_before_ms) = (1, now_ms.saturating_add(drain.pause_ms));
            drain.pause_ms = drain.pause_ms.saturating_mul(2).min(LONGEST_PAUSE_MS);
            return;
        }
        let per_minute = i64::try_from(found).unwrap_or(i64::MAX).saturating_mul(60_000) / took_ms.max(1);
        drain.per_minute = (drain.per_minute.saturating_mul(3).saturating_add(per_minute) / 4).max(1);
        (drain.batch, drain.pause_ms) = (drain.batch.saturating_mul(2).min(MOST), PAUSE_MS);
    }

    /// So many wait, in these lines and in no other: what is known of others is forgotten.
    pub fn keep(&self, found: &[(Line, u64)]) {
        let mut lines = self.lines();
        lines.retain(|line, _| found.iter().any(|(kept, _)| kept == line));
        for (line, length) in found {
            lines.entry(line.clone()).or_default().length = *length;
        }
    }

    /// How many waited in a line when it was last counted.
    #[must_use]
    pub fn length(&self, line: &Line) -> u64 {
        self.lines().get(line).map_or(0, |drain| drain.length)
    }

    /// Seconds until so many have gone on, from the moment at which a route is there.
    #[must_use]
    pub fn drained_in_s(&self, line: &Line, position: u64) -> u64 {
        let per_minute = self.lines().get(line).map_or(USUAL_PER_MINUTE, |drain| drain.per_minute);
        let per_minute = u64::try_from(per_minute).unwrap_or(1).max(1);
        position.saturating_mul(60).div_ceil(per_minute)
    }
}

#[cfg(test)]
mod tests {
    use providers::order::Flow;

    use super::*;

    fn line() -> Line {
        Line { owner: crate::domain::Owner::of("mer_1", false), flow: Flow::Qr }
    }

    #[test]
    fn a_line_goes_on_one_by_one_at_first_and_stops_when_the_route_is_gone_again() {
        let (queue, line) = (Queue::default(), line());
        let mut batches = Vec::new();
        for step in 0..7 {
            let batch = queue.may_go_on(&line, step * 300);
            queue.went_on(&line, batch, batch, 300, step * 300);
            batches.push(batch);
        }
        assert_eq!(batches, [1, 2, 4, 8, 16, 32, 32]);
        queue.went_on(&line, 32, 31, 300, 10_000);
        assert_eq!(queue.may_go_on(&line, 10_999), 0, "a pause");
        assert_eq!(queue.may_go_on(&line, 11_000), 1);
        queue.went_on(&line, 1, 0, 300, 11_000);
        assert_eq!((queue.may_go_on(&line, 12_999), queue.may_go_on(&line, 13_000)), (0, 1), "a longer one");
        queue.keep(&[(line.clone(), 7)]);
        assert_eq!((queue.length(&line), queue.may_go_on(&line, 0)), (7, 0));
        queue.keep(&[]);
        assert_eq!(queue.length(&line), 0);
        assert_eq!(queue.may_go_on(&line, 0), 1);
    }

    #[test]
    fn how_long_it_takes_is_what_it_took() {
        let (queue, line) = (Queue::default(), line());
        assert_eq!(queue.drained_in_s(&line, 10), 2, "five a second until it is known");
        for _ in 0..20 {
            queue.went_on(&line, 2, 2, 1_000, 0);
        }
        assert!((4..=6).contains(&queue.drained_in_s(&line, 10)), "{}", queue.drained_in_s(&line, 10));
    }
}

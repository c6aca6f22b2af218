//! How fast payments that waited for a route may go on when one returns: one at first, twice as
//! many after each batch that found a route, one again and a pause after a batch that did not. And
//! what was seen of that by this gateway, for who asks how long it will take: how long lines were
//! without a route, how long a route that returned was tried with single payments, how long it had
//! no place, and how fast lines went on. Kept by each gateway for itself; the payments are rows.

use std::collections::{HashMap, VecDeque};

use parking_lot::{Mutex, MutexGuard};

use crate::domain::payment::WaitQueue;

/// The most payments that go on at once.
const MOST: u64 = 32;
/// The pause after a batch that found no route, and the longest one.
const PAUSE_MS: i64 = 1_000;
const LONGEST_PAUSE_MS: i64 = 16_000;
/// How fast it goes where nobody has seen it yet: payments a minute.
const USUAL_PER_MINUTE: i64 = 300;
/// So many of the latest waits are remembered, of each kind.
const REMEMBERED: usize = 64;
/// From so many that lasted longer than the one in question it is known how long that will last.
const LEARNED_FROM: usize = 3;
/// Until then: a route that is out needs so much longer at least, for it has to prove itself first;
/// one on trial takes the next payment about then; and a place is free in a second.
const LEAST_OUTAGE_MS: i64 = 5_000;
const TRIAL_MS: i64 = 2_000;
const CROWD_MS: i64 = 1_000;

/// What a line waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// All its routes are out of order.
    Outage,
    /// One is tried with single payments.
    Trial,
    /// Those that work have as much to do as they take.
    Crowd,
}

#[derive(Debug, Clone, Copy)]
struct Drain {
    length: u64,
    batch: u64,
    pause_ms: i64,
    not_before_ms: i64,
    per_minute: i64,
    /// What it waits for, and since when.
    waits: Option<(Wait, i64)>,
}

impl Drain {
    fn new(per_minute: i64) -> Self {
        Self {
            length: 0,
            batch: 1,
            pause_ms: PAUSE_MS,
            not_before_ms: 0,
            per_minute,
            waits: None,
        }
    }
}

#[derive(Debug)]
struct Known {
    lines: HashMap<WaitQueue, Drain>,
    /// How long waits have lasted, in milliseconds, the latest last.
    lasted_ms: HashMap<Wait, VecDeque<i64>>,
    /// How fast lines have gone on.
    per_minute: i64,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            lasted_ms: HashMap::new(),
            per_minute: USUAL_PER_MINUTE,
        }
    }
}

impl Known {
    fn line(&mut self, line: &WaitQueue) -> &mut Drain {
        let per_minute = self.per_minute;
        self.lines
            .entry(line.clone())
            .or_insert_with(|| Drain::new(per_minute))
    }

    /// A wait is over; another may begin.
    fn turn(&mut self, line: &WaitQueue, next: Option<(Wait, i64)>, now_ms: i64) {
        let drain = self.line(line);
        let same = drain
            .waits
            .filter(|(wait, _)| next.is_some_and(|(next, _)| next == *wait));
        let over = if same.is_some() { None } else { drain.waits };
        drain.waits = same.or(next);

        // A trial that ends in another outage does not say how long those take that end well.
        let is_lost =
            |wait| wait == Wait::Trial && next.is_some_and(|(next, _)| next == Wait::Outage);
        if let Some((wait, since_ms)) = over.filter(|(wait, _)| !is_lost(*wait)) {
            let lasted = self.lasted_ms.entry(wait).or_default();
            if lasted.len() >= REMEMBERED {
                lasted.pop_front();
            }
            lasted.push_back(now_ms.saturating_sub(since_ms).max(0));
        }
    }
}

/// All lines. Times are milliseconds on a clock that is not set.
#[derive(Debug, Default)]
pub struct Queue {
    known: Mutex<Known>,
}

impl Queue {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// How many of a line may go on now.
    #[must_use]
    pub fn may_go_on(&self, line: &WaitQueue, now_ms: i64) -> u64 {
        self.known().lines.get(line).map_or(1, |drain| {
            if now_ms < drain.not_before_ms {
                0
            } else {
                drain.batch
            }
        })
    }

    /// Nobody of a line has a route, since then and for this reason.
    pub fn waits(&self, line: &WaitQueue, wait: Wait, since_ms: i64, now_ms: i64) {
        self.known()
            .turn(line, Some((wait, since_ms.min(now_ms))), now_ms);
    }

    /// A line waits for something whose end is known, or that only a person can end: nothing is
    /// learned from it.
    pub fn waits_for_the_clock(&self, line: &WaitQueue) {
        self.known().line(line).waits = None;
    }

    /// A batch has gone on, and so many of it have found a route, in so many milliseconds.
    pub fn released(&self, line: &WaitQueue, batch: u64, found: u64, took_ms: i64, now_ms: i64) {
        if batch == 0 {
            return;
        }
        let mut known = self.known();

        if found < batch {
            // There was one, and not for all of them.
            known.turn(line, Some((Wait::Trial, now_ms)), now_ms);
            let drain = known.line(line);
            (drain.batch, drain.not_before_ms) = (1, now_ms.saturating_add(drain.pause_ms));
            drain.pause_ms = drain.pause_ms.saturating_mul(2).min(LONGEST_PAUSE_MS);
            return;
        }

        known.turn(line, None, now_ms);
        let measured = i64::try_from(found)
            .unwrap_or(i64::MAX)
            .saturating_mul(60_000)
            / took_ms.max(1);
        let drain = known.line(line);
        drain.per_minute = smoothed(drain.per_minute, measured);
        (drain.batch, drain.pause_ms) = (drain.batch.saturating_mul(2).min(MOST), PAUSE_MS);

        known.per_minute = smoothed(known.per_minute, measured);
    }

    /// So many wait, in these lines and in no other: what others were doing is forgotten.
    pub fn keep(&self, found: &[(WaitQueue, u64)]) {
        let mut known = self.known();
        known
            .lines
            .retain(|line, _| found.iter().any(|(kept, _)| kept == line));
        for (line, length) in found {
            known.line(line).length = *length;
        }
    }

    /// How many waited in a line when it was last counted.
    #[must_use]
    pub fn length(&self, line: &WaitQueue) -> u64 {
        self.known().lines.get(line).map_or(0, |drain| drain.length)
    }

    /// How long a wait will go on that has lasted so long: as long as half of those went on that
    /// have lasted so long before. Where too few have, an outage is as likely as not to last as
    /// long again: short ones are over soon, and long ones are of another kind.
    #[must_use]
    pub fn left_ms(&self, wait: Wait, lasted_ms: i64) -> i64 {
        let known = self.known();
        let measured = known.lasted_ms.get(&wait).into_iter().flatten();
        let mut left: Vec<i64> = measured
            .map(|ms| ms.saturating_sub(lasted_ms))
            .filter(|ms| *ms > 0)
            .collect();
        left.sort_unstable();
        if let Some(median) = left
            .get(left.len() / 2)
            .filter(|_| left.len() >= LEARNED_FROM)
        {
            return *median;
        }

        match wait {
            Wait::Outage => lasted_ms.max(LEAST_OUTAGE_MS),
            Wait::Trial => TRIAL_MS,
            Wait::Crowd => CROWD_MS,
        }
    }

    /// How many waits of this kind were measured, of those that are remembered.
    #[must_use]
    pub fn measured(&self, wait: Wait) -> usize {
        self.known().lasted_ms.get(&wait).map_or(0, VecDeque::len)
    }

    /// For how long a line has waited for this.
    #[must_use]
    pub fn waited_ms(&self, line: &WaitQueue, wait: Wait, now_ms: i64) -> i64 {
        let since = self
            .known()
            .lines
            .get(line)
            .and_then(|drain| drain.waits)
            .filter(|(known, _)| *known == wait);
        since.map_or(0, |(_, since_ms)| now_ms.saturating_sub(since_ms))
    }

    /// Seconds until so many have gone on, from the moment at which a route is there.
    #[must_use]
    pub fn drained_in_s(&self, line: &WaitQueue, position: u64) -> u64 {
        let known = self.known();
        let per_minute = known
            .lines
            .get(line)
            .map_or(known.per_minute, |drain| drain.per_minute);
        let per_minute = u64::try_from(per_minute).unwrap_or(1).max(1);
        position.saturating_mul(60).div_ceil(per_minute)
    }
}

/// A quarter of what was measured last, and three of what was known.
fn smoothed(known: i64, measured: i64) -> i64 {
    (known.saturating_mul(3).saturating_add(measured) / 4).max(1)
}

#[cfg(test)]
mod tests {
    use providers::order::Flow;

    use super::*;

    fn line() -> WaitQueue {
        WaitQueue {
            owner: crate::domain::Owner::of("mer_1".parse().unwrap(), false),
            flow: Flow::Qr,
        }
    }

    #[test]
    fn a_line_goes_on_one_by_one_at_first_and_stops_when_the_route_is_gone_again() {
        let (queue, line) = (Queue::default(), line());
        let mut batches = Vec::new();

        for step in 0..7 {
            let batch = queue.may_go_on(&line, step * 300);
            queue.released(&line, batch, batch, 300, step * 300);
            batches.push(batch);
        }

        assert_eq!(batches, [1, 2, 4, 8, 16, 32, 32]);
        queue.released(&line, 32, 31, 300, 10_000);
        assert_eq!(queue.may_go_on(&line, 10_999), 0, "a pause");
        assert_eq!(queue.may_go_on(&line, 11_000), 1);

        queue.released(&line, 1, 0, 300, 11_000);
        assert_eq!(
            (
                queue.may_go_on(&line, 12_999),
                queue.may_go_on(&line, 13_000)
            ),
            (0, 1),
            "a longer one"
        );

        queue.keep(&[(line.clone(), 7)]);
        assert_eq!((queue.length(&line), queue.may_go_on(&line, 0)), (7, 0));
        queue.keep(&[]);
        assert_eq!(queue.length(&line), 0);

        assert_eq!(queue.may_go_on(&line, 0), 1);
    }

    #[test]
    fn how_long_it_takes_is_what_it_took() {
        let (queue, line) = (Queue::default(), line());
        assert_eq!(
            queue.drained_in_s(&line, 10),
            2,
            "five a second until it is known"
        );
        for _ in 0..20 {
            queue.released(&line, 2, 2, 1_000, 0);
        }
        assert!(
            (4..=6).contains(&queue.drained_in_s(&line, 10)),
            "{}",
            queue.drained_in_s(&line, 10)
        );
    }

    #[test]
    fn how_fast_it_went_is_known_when_the_next_line_forms() {
        let (queue, line) = (Queue::default(), line());
        for _ in 0..40 {
            queue.released(&line, 1, 1, 1_000, 0);
        }
        queue.keep(&[]);
        let seconds = queue.drained_in_s(&line, 10);
        assert!(
            (9..=11).contains(&seconds),
            "one a second was seen: {seconds}"
        );
    }

    #[test]
    fn an_outage_lasts_as_long_as_those_that_were_seen() {
        let (queue, line) = (Queue::default(), line());
        assert_eq!(
            queue.left_ms(Wait::Outage, 0),
            5_000,
            "it has to prove itself"
        );

        assert_eq!(queue.left_ms(Wait::Outage, 40_000), 40_000, "as long again");
        for (at, length_ms) in [
            (0, 20_000),
            (100_000, 30_000),
            (200_000, 40_000),
            (300_000, 600_000),
        ] {
            queue.waits(&line, Wait::Outage, at, at);
            queue.waits(&line, Wait::Outage, at + 300, at + 300);
            queue.released(&line, 1, 1, 300, at + length_ms);
        }

        assert_eq!(queue.left_ms(Wait::Outage, 0), 40_000);
        assert_eq!(
            queue.left_ms(Wait::Outage, 25_000),
            15_000,
            "of those that have lasted so long"
        );

        assert_eq!(queue.left_ms(Wait::Outage, 50_000), 50_000, "only one has");
        assert_eq!(queue.left_ms(Wait::Trial, 0), 2_000, "another thing");
    }

    #[test]
    fn a_route_that_takes_single_payments_is_on_trial_until_all_go_on() {
        let (queue, line) = (Queue::default(), line());
        for at in [0, 100_000, 200_000] {
            queue.waits(&line, Wait::Outage, at, at);
            queue.released(&line, 1, 0, 300, at + 10_000);
            assert_eq!(queue.waited_ms(&line, Wait::Trial, at + 11_000), 1_000);
            queue.released(&line, 1, 0, 300, at + 12_000);
            queue.released(&line, 1, 1, 300, at + 14_000);
        }
        assert_eq!(queue.left_ms(Wait::Outage, 0), 10_000);
        assert_eq!(queue.left_ms(Wait::Trial, 1_000), 3_000);
    }

    #[test]
    fn what_a_clock_ends_teaches_nothing() {
        let (queue, line) = (Queue::default(), line());
        for at in [0, 100_000, 200_000] {
            queue.waits(&line, Wait::Outage, at, at);
            queue.waits_for_the_clock(&line);
            queue.released(&line, 1, 1, 300, at + 60_000);
        }
        assert_eq!(queue.left_ms(Wait::Outage, 0), 5_000);
    }
}

//! How long a condition has held, on a clock that nobody sets: what flickers opens nothing, what
//! pauses closes nothing, and a clock that jumps does neither. Pure; the time is handed in.

/// A queue is believed to be late once it was seen waiting for so long here, however late its rows
/// say it is.
const SEEN_WAITING_MS: i64 = 60_000;
/// By so much the clocks of gateways may differ, in milliseconds.
const SKEW_MS: i64 = 1_000;
/// Without any evidence trouble is over after so many times as long as with it.
const PATIENCE: i64 = 10;

/// What one look at a subject shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// There is trouble.
    Bad,
    /// There is none.
    Well,
    /// Nobody can tell: there was no traffic, or the clock was set.
    Unknown,
}

/// Since when a subject has looked as it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Debounce {
    bad_since: Option<i64>,
    well_since: Option<i64>,
    /// No trouble is seen, with evidence or without.
    quiet_since: Option<i64>,
}

impl Debounce {
    /// A look at `own_ms`, on a clock that only goes forward.
    pub fn see(&mut self, sight: Sight, own_ms: i64) {
        match sight {
            Sight::Bad => {
                self.bad_since.get_or_insert(own_ms);
                self.well_since = None;
                self.quiet_since = None;
            }
            Sight::Well => {
                self.bad_since = None;
                self.well_since.get_or_insert(own_ms);
                self.quiet_since.get_or_insert(own_ms);
            }
            Sight::Unknown => {
                self.bad_since = None;
                self.well_since = None;
                self.quiet_since.get_or_insert(own_ms);
            }
        }
    }

    /// Somebody else has just seen the trouble: it is not over.
    pub fn stir(&mut self) {
        self.well_since = None;
        self.quiet_since = None;
    }

    /// For how long it has been bad, if it has been bad for `at_least_ms`.
    #[must_use]
    pub fn bad_for(&self, at_least_ms: i64, own_ms: i64) -> Option<i64> {
        self.bad_since
            .map(|since| own_ms - since)
            .filter(|ms| *ms >= at_least_ms)
    }

    /// Whether it has been well for so long; without evidence ten times as long is waited.
    #[must_use]
    pub fn is_over(&self, after_ms: i64, own_ms: i64) -> bool {
        let since = |at: Option<i64>| at.map(|at| own_ms - at);
        since(self.well_since).is_some_and(|ms| ms >= after_ms)
            || since(self.quiet_since).is_some_and(|ms| ms >= after_ms.saturating_mul(PATIENCE))
    }
}

/// What the age of the oldest one in a queue shows. `age_ms` is told by the clock, `None` when
/// nothing waits; `waited_ms` is for how long something was seen waiting here, by a clock that
/// nobody sets: a clock that is set forward makes everything old at once.
#[must_use]
pub fn late(age_ms: Option<i64>, waited_ms: i64, limit_ms: i64) -> Sight {
    match age_ms {
        None => Sight::Well,
        // The clock was set back since: nobody knows how old it is.
        Some(age) if age < -SKEW_MS => Sight::Unknown,
        Some(age) if age < limit_ms => Sight::Well,
        Some(_) if waited_ms >= limit_ms.min(SEEN_WAITING_MS) => Sight::Bad,
        Some(_) => Sight::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_counts_once_it_has_held_and_is_over_once_it_was_gone_for_a_while() {
        let mut hold = Debounce::default();

        for (own_ms, sight, opens, over) in [
            (0, Sight::Bad, false, false),
            (900, Sight::Bad, false, false),
            (950, Sight::Well, false, false),
            (1_000, Sight::Bad, false, false),
            (2_000, Sight::Bad, true, false),
            (3_000, Sight::Well, false, false),
            (7_900, Sight::Unknown, false, false),
            (8_000, Sight::Well, false, false),
            (12_999, Sight::Well, false, false),
            (13_000, Sight::Well, false, true),
        ] {
            hold.see(sight, own_ms);
            let (opened, ended) = (
                hold.bad_for(1_000, own_ms).is_some(),
                hold.is_over(5_000, own_ms),
            );
            assert_eq!((opened, ended), (opens, over), "at {own_ms}");
        }
    }

    #[test]
    fn without_evidence_trouble_is_over_much_later_and_not_while_somebody_sees_it() {
        let mut hold = Debounce::default();
        hold.see(Sight::Unknown, 0);
        assert!(!hold.is_over(5_000, 49_999));
        assert!(hold.is_over(5_000, 50_000));
        hold.stir();
        assert!(!hold.is_over(5_000, 50_000));
        hold.see(Sight::Well, 60_000);
        assert!(!hold.is_over(5_000, 64_999));
        assert!(hold.is_over(5_000, 65_000));
    }

    #[test]
    fn a_queue_is_late_when_its_rows_and_our_own_eyes_say_so() {
        for (age_ms, waited_ms, limit_ms, sight) in [
            (None, 0, 1_000, Sight::Well),
            (Some(500), 9_000, 1_000, Sight::Well),
            (Some(1_500), 1_000, 1_000, Sight::Bad),
            // Just started, or the clock was set forward: wait and see.
            (Some(600_000), 999, 1_000, Sight::Unknown),
            (Some(600_000), 59_999, 300_000, Sight::Unknown),
            (Some(600_000), 60_000, 300_000, Sight::Bad),
            // The clock was set back.
            (Some(-600_000), 90_000, 1_000, Sight::Unknown),
            (Some(-500), 0, 1_000, Sight::Well),
        ] {
            assert_eq!(
                late(age_ms, waited_ms, limit_ms),
                sight,
                "{age_ms:?} {waited_ms} {limit_ms}"
            );
        }
    }
}

//! Log lines that others can cause as fast as they like: of each kind, and for each of those who
//! cause them, so many are written, and the rest is counted. Nobody's flood takes another one's
//! lines.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Lines of one source in a second, and at once.
const PER_SECOND: u32 = 5;
const BURST: u32 = 100;
/// Sources that are told apart; beyond that all new ones are one.
const SOURCES: usize = 10_000;
/// What those are called, who are no merchant and no account.
const STRANGERS: &str = "";

static LINES: LazyLock<Lines> = LazyLock::new(Lines::new);

/// Counts lines.
struct Lines {
    sources: DefaultKeyedRateLimiter<String>,
    left_out: AtomicU64,
}

impl Lines {
    fn new() -> Self {
        let at_least_one = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(PER_SECOND)).allow_burst(at_least_one(BURST));
        Self {
            sources: RateLimiter::keyed(quota),
            left_out: AtomicU64::new(0),
        }
    }

    fn may_write(&self, source: &str) -> bool {
        let source = if self.sources.len() < SOURCES {
            source
        } else {
            STRANGERS
        };
        let may = self.sources.check_key(&source.to_owned()).is_ok();
        if !may {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        may
    }
}

/// Whether one more line about a refusal may be written. `source` is whose doing it is: a merchant,
/// an account; none for strangers.
#[must_use]
pub fn may_write(source: Option<&str>) -> bool {
    let may = LINES.may_write(source.unwrap_or(STRANGERS));
    if !may {
        metrics::counter!("interlock_log_lines_left_out_total").increment(1);
    }
    may
}

/// Makes the series.
pub fn register() {
    metrics::counter!("interlock_log_lines_left_out_total").increment(0);
}

/// Says how many lines were left out since it was last asked, and forgets sources that have not
/// been heard of for a while.
pub fn report() {
    LINES.sources.retain_recent();
    let lines = LINES.left_out.swap(0, Ordering::Relaxed);
    if lines > 0 {
        tracing::warn!(lines, "refusals that were not logged one by one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_floods_is_cut_off_and_nobody_else() {
        let lines = Lines::new();
        let written = (0..10_000).filter(|_| lines.may_write(STRANGERS)).count();
        assert!((100..150).contains(&written), "{written}");
        assert_eq!(
            lines.left_out.load(Ordering::Relaxed),
            10_000 - u64::try_from(written).unwrap()
        );
        assert!(lines.may_write("mer_1"), "another one's line is there");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let lines = Lines::new();
        for source in 0..SOURCES + 1_000 {
            let _ = lines.may_write(&format!("mer_{source}"));
        }
        assert!(
            lines.sources.len() <= SOURCES + 1,
            "{}",
            lines.sources.len()
        );
    }
}

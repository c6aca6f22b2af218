//! Points in time as the database keeps them: whole milliseconds since 1970, UTC, so that both
//! databases compare and round them alike.

use std::time::Duration;

use chrono::{DateTime, FixedOffset, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Beijing, where business days are counted: always eight hours ahead of UTC.
const BEIJING_OFFSET_S: i32 = 8 * 3600;
const DAY_MS: i64 = 86_400_000;
/// The weekday on which 1970 began, counted from Monday.
const THURSDAY: i64 = 3;

/// A moment as clocks and calendars in Beijing show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beijing {
    /// Days since 1970-01-01: the business day.
    pub day: i64,
    /// Minutes since midnight, 0 to 1439.
    pub minute: i64,
    /// 0 is Monday, 6 is Sunday.
    pub weekday: i64,
}

/// A length in whole milliseconds, as timestamps count it.
#[must_use]
pub fn ms(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

impl Timestamp {
    /// `ms` milliseconds later (earlier when negative); never wraps.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// `s` seconds later.
    #[must_use]
    pub fn plus_s(self, s: i64) -> Self {
        self.plus_ms(s.saturating_mul(1000))
    }

    /// So much later; never wraps.
    #[must_use]
    pub fn plus(self, length: Duration) -> Self {
        self.plus_ms(ms(length))
    }

    /// So much earlier; never wraps.
    #[must_use]
    pub fn minus(self, length: Duration) -> Self {
        self.plus_ms(ms(length).saturating_neg())
    }

    /// From `earlier` to here; nothing when `earlier` is later.
    #[must_use]
    pub fn after(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.since(earlier)).unwrap_or(0))
    }

    /// Milliseconds from `earlier` to here; negative when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// What clocks and calendars in Beijing show.
    #[must_use]
    pub fn in_beijing(self) -> Beijing {
        let ms = self.0.saturating_add(i64::from(BEIJING_OFFSET_S) * 1000);
        let day = ms.div_euclid(DAY_MS);
        Beijing {
            day,
            minute: ms.rem_euclid(DAY_MS) / 60_000,
            weekday: (day + THURSDAY).rem_euclid(7),
        }
    }

    /// When the business day began.
    #[must_use]
    pub fn day_start(self) -> Self {
        let day = self.in_beijing().day;
        Self(
            day.saturating_mul(DAY_MS)
                .saturating_sub(i64::from(BEIJING_OFFSET_S) * 1000),
        )
    }

    /// For crates that speak chrono. Out of range (year 262,000) becomes 1970.
    #[must_use]
    pub fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }

    /// RFC 3339 with Beijing's offset, to the second: `2026-01-01T10:00:00+08:00`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        match FixedOffset::east_opt(BEIJING_OFFSET_S) {
            Some(offset) => self
                .utc()
                .with_timezone(&offset)
                .to_rfc3339_opts(SecondsFormat::Secs, false),
            None => self.utc().to_rfc3339_opts(SecondsFormat::Secs, false),
        }
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(t: DateTime<Utc>) -> Self {
        Self(t.timestamp_millis())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_midnight_in_beijing() {
        // 2026-01-01T00:00:00+08:00, a Thursday.
        let midnight = Timestamp(1_767_196_800_000);
        let shown = |t: Timestamp| (t.in_beijing().minute, t.in_beijing().weekday);
        assert_eq!(shown(midnight), (0, 3));
        assert_eq!(shown(midnight.plus_ms(-1)), (1439, 2));
        assert_eq!(
            midnight.in_beijing().day,
            midnight.plus_ms(-1).in_beijing().day + 1
        );
        assert_eq!(midnight.plus_s(86_399).day_start(), midnight);
        assert_eq!(midnight.plus_ms(-1).day_start(), midnight.plus_s(-86_400));
        assert_eq!(shown(Timestamp(0)), (480, 3), "1970 began on a Thursday");
    }
}

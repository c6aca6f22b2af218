//! Times that come again every day, and times that come once, as merchants write them: always by
//! Beijing's clocks. Pure; the present moment comes in.

use std::fmt;

use chrono::DateTime;
use serde::de::{self, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::validation_error::ValidationError;
use crate::domain::{Beijing, Timestamp};

const MINUTES_A_DAY: i64 = 1_440;
/// Windows of one account, or of all providers in a routing.
pub const MAX_WINDOWS: usize = 50;

/// A time of day in Beijing, in minutes since midnight; `24:00` is the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(i64);

impl TimeOfDay {
    /// Reads `22:30`.
    fn parse(text: &str) -> Option<Self> {
        let two_digits = |s: &str| {
            let are_two = s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit());
            are_two.then(|| s.parse::<i64>().ok()).flatten()
        };
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
        let at = hours * 60 + minutes;
        (minutes < 60 && at <= MINUTES_A_DAY).then_some(Self(at))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::invalid_value(Unexpected::Str(&text), &"a time of day from 00:00 to 24:00")
        })
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Weekday {
    fn number(self) -> i64 {
        match self {
            Self::Mon => 0,
            Self::Tue => 1,
            Self::Wed => 2,
            Self::Thu => 3,
            Self::Fri => 4,
            Self::Sat => 5,
            Self::Sun => 6,
        }
    }
}

/// Hours of the day in Beijing: from `from` on, until just before `to`. `22:00` to `06:00` goes
/// over midnight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RoutingHours)]
pub struct Hours {
    /// When they begin: `22:00`.
    #[schema(value_type = String, example = "22:00")]
    pub from: TimeOfDay,
    /// When they are over: `06:00`; `24:00` is the end of the day.
    #[schema(value_type = String, example = "06:00")]
    pub to: TimeOfDay,
    /// The days on which they begin: hours over midnight that begin on a `fri` last into Saturday.
    /// None: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<Weekday>,
}

impl Hours {
    /// Whether this moment is in them.
    #[must_use]
    pub fn hold(&self, now: Beijing) -> bool {
        let today = self.on(now.weekday);
        if self.from < self.to {
            return today && (self.from.0..self.to.0).contains(&now.minute);
        }
        let began_yesterday = self.on((now.weekday + 6).rem_euclid(7));
        (today && now.minute >= self.from.0) || (began_yesterday && now.minute < self.to.0)
    }

    fn on(&self, weekday: i64) -> bool {
        self.weekdays.is_empty() || self.weekdays.iter().any(|day| day.number() == weekday)
    }

    /// What is wrong with them; `at` is their path.
    ///
    /// # Errors
    /// The member and what is wrong with it.
    pub fn check(&self, at: &str) -> Result<(), ValidationError> {
        if self.from.0 == MINUTES_A_DAY {
            return Err(ValidationError::new(
                format!("{at}.from"),
                "Hours begin before 24:00.",
            ));
        }

        if self.from == self.to {
            return Err(ValidationError::new(
                format!("{at}.to"),
                "Hours end at another time than they begin.",
            ));
        }

        for (n, day) in self.weekdays.iter().enumerate() {
            if self.weekdays.iter().take(n).any(|earlier| earlier == day) {
                return Err(ValidationError::new(
                    format!("{at}.weekdays[{n}]"),
                    "Each weekday is named once.",
                ));
            }
        }

        Ok(())
    }
}

/// When a maintenance window begins or ends: every day at a time, or once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Every day at this time in Beijing: `02:00`.
    Daily(TimeOfDay),
    /// Once: `2026-01-31T02:00:00+08:00`.
    Once(Timestamp),
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Daily(time) => time.serialize(s),
            Self::Once(at) => at.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let once = || {
            DateTime::parse_from_rfc3339(&text)
                .ok()
                .map(|at| Self::Once(Timestamp(at.timestamp_millis())))
        };
        TimeOfDay::parse(&text)
            .map(Self::Daily)
            .or_else(once)
            .ok_or_else(|| {
                let expected =
                    "a time of day such as 02:00 or a moment such as 2026-01-31T02:00:00+08:00";
                de::Error::invalid_value(Unexpected::Str(&text), &expected)
            })
    }
}

/// A time in which no new payments are wanted: every day from `02:00` to `03:30` (over midnight,
/// too), or once from a moment to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = AccountMaintenance)]
pub struct Window {
    /// When it begins: `02:00` in Beijing, or a moment in RFC 3339.
    #[schema(value_type = String, example = "02:00")]
    pub from: Moment,
    /// When it is over, written in the same way.
    #[schema(value_type = String, example = "03:30")]
    pub to: Moment,
}

impl Window {
    /// Whether this moment is in it.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        match (self.from, self.to) {
            (Moment::Once(from), Moment::Once(to)) => from <= now && now < to,
            (Moment::Daily(from), Moment::Daily(to)) => Hours {
                from,
                to,
                weekdays: Vec::new(),
            }
            .hold(now.in_beijing()),
            (Moment::Once(_), Moment::Daily(_)) | (Moment::Daily(_), Moment::Once(_)) => false,
        }
    }

    /// How many seconds of it are left at a moment that it holds.
    #[must_use]
    pub fn left_s(&self, now: Timestamp) -> i64 {
        match (self.from, self.to) {
            (Moment::Once(_), Moment::Once(to)) => (to.since(now) / 1_000).max(1),
            (Moment::Daily(_), Moment::Daily(to)) => {
                let at_s = now.since(now.day_start()) / 1_000;
                (to.0 * 60 - at_s).rem_euclid(MINUTES_A_DAY * 60).max(1)
            }
            (Moment::Once(_), Moment::Daily(_)) | (Moment::Daily(_), Moment::Once(_)) => 1,
        }
    }

    /// The time that it takes, piece by piece: minutes of the day, or milliseconds since 1970.
    fn pieces(&self) -> Vec<(i64, i64)> {
        match (self.from, self.to) {
            (Moment::Once(from), Moment::Once(to)) => vec![(from.0, to.0)],
            (Moment::Daily(from), Moment::Daily(to)) if from < to => vec![(from.0, to.0)],
            (Moment::Daily(from), Moment::Daily(to)) => vec![(from.0, MINUTES_A_DAY), (0, to.0)],
            (Moment::Once(_), Moment::Daily(_)) | (Moment::Daily(_), Moment::Once(_)) => Vec::new(),
        }
    }

    fn is_daily(&self) -> bool {
        matches!(self.from, Moment::Daily(_))
    }

    fn overlaps(&self, other: &Self) -> bool {
        let pieces = other.pieces();
        self.is_daily() == other.is_daily()
            && self
                .pieces()
                .iter()
                .any(|(from, to)| pieces.iter().any(|(f, t)| from < t && f < to))
    }

    fn check(&self, at: &str) -> Result<(), ValidationError> {
        match (self.from, self.to) {
            (Moment::Once(from), Moment::Once(to)) if from >= to => Err(ValidationError::new(
                format!("{at}.to"),
                "A window ends after it begins.",
            )),
            (Moment::Daily(from), Moment::Daily(to)) => Hours {
                from,
                to,
                weekdays: Vec::new(),
            }
            .check(at),
            (Moment::Once(_), Moment::Once(_)) => Ok(()),
            (Moment::Once(_), Moment::Daily(_)) | (Moment::Daily(_), Moment::Once(_)) => {
                Err(ValidationError::new(
                    format!("{at}.to"),
                    "A window begins and ends both daily, or both once.",
                ))
            }
        }
    }
}

/// What is wrong with windows that hold for the same account or provider. Two of one sort must not
/// overlap; a window that comes once may well lie over a daily one.
///
/// # Errors
/// The member and what is wrong with it; `at` names a window by its place.
pub fn check_windows(windows: &[(Window, String)]) -> Result<(), ValidationError> {
    let mut daily = 0;
    for (n, (window, at)) in windows.iter().enumerate() {
        window.check(at)?;
        if let Some((_, other)) = windows
            .iter()
            .take(n)
            .find(|(earlier, _)| earlier.overlaps(window))
        {
            return Err(ValidationError::new(
                format!("{at}.from"),
                format!("This window overlaps {other}."),
            ));
        }
        if window.is_daily() {
            daily += window
                .pieces()
                .iter()
                .map(|(from, to)| to - from)
                .sum::<i64>();
        }
        if daily >= MINUTES_A_DAY {
            let detail = "Daily windows must leave some time of the day; what takes no payments at \
                          all is disabled.";
            return Err(ValidationError::new(at.clone(), detail));
        }
    }

    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(json: &str) -> Hours {
        serde_json::from_str(json).unwrap()
    }

    fn at(day: i64, time: &str) -> Beijing {
        Beijing {
            day: 0,
            minute: TimeOfDay::parse(time).unwrap().0,
            weekday: day,
        }
    }

    #[test]
    fn times_of_day_are_read_strictly_and_written_as_they_were_read() {
        for text in ["00:00", "06:05", "23:59", "24:00"] {
            assert_eq!(TimeOfDay::parse(text).unwrap().to_string(), text);
        }

        for text in [
            "",
            "6:00",
            "06:60",
            "24:01",
            "25:00",
            "+6:00",
            "06:00:00",
            "06",
            "06:0",
            "-1:00",
            "０６:00",
        ] {
            assert_eq!(TimeOfDay::parse(text), None, "{text}");
        }
    }

    #[test]
    fn hours_may_go_over_midnight_and_belong_to_the_day_on_which_they_began() {
        let night = hours(r#"{"from":"22:00","to":"06:00"}"#);
        for (time, held) in [
            ("21:59", false),
            ("22:00", true),
            ("00:00", true),
            ("05:59", true),
            ("06:00", false),
        ] {
            assert_eq!(night.hold(at(2, time)), held, "{time}");
        }

        let friday_night = hours(r#"{"from":"22:00","to":"06:00","weekdays":["fri"]}"#);
        for (day, time, held) in [
            (4, "22:00", true),
            (5, "05:59", true),
            (4, "05:59", false),
            (5, "22:00", false),
            (0, "01:00", false),
        ] {
            assert_eq!(friday_night.hold(at(day, time)), held, "{day} {time}");
        }

        let sunday_night = hours(r#"{"from":"23:00","to":"01:00","weekdays":["sun"]}"#);
        assert!(
            sunday_night.hold(at(0, "00:30")),
            "Monday comes after Sunday"
        );

        let all_day = hours(r#"{"from":"00:00","to":"24:00"}"#);
        assert!(all_day.hold(at(0, "00:00")) && all_day.hold(at(6, "23:59")));
    }

    #[test]
    fn a_window_holds_daily_or_once() {
        let midnight = Timestamp(1_767_196_800_000);
        let daily: Window = serde_json::from_str(r#"{"from":"23:30","to":"00:30"}"#).unwrap();
        assert!(daily.holds(midnight) && daily.holds(midnight.plus_s(-1_800)));
        assert!(!daily.holds(midnight.plus_s(1_800)) && !daily.holds(midnight.plus_s(-1_801)));
        assert_eq!(
            (
                daily.left_s(midnight.plus_s(-1_800)),
                daily.left_s(midnight.plus_s(1_790))
            ),
            (3_600, 10)
        );

        let text = r#"{"from":"2026-01-01T00:00:00+08:00","to":"2026-01-01T01:00:00+08:00"}"#;
        let once: Window = serde_json::from_str(text).unwrap();
        assert!(once.holds(midnight) && once.holds(midnight.plus_s(3_599)));
        assert!(!once.holds(midnight.plus_ms(-1)) && !once.holds(midnight.plus_s(3_600)));
        assert_eq!(once.left_s(midnight.plus_s(600)), 3_000);

        assert_eq!(serde_json::to_string(&once).unwrap(), text);
    }

    #[test]
    fn windows_that_cannot_be_are_named() {
        let check = |windows: &[(&str, &str)]| {
            let read = |(from, to): &(&str, &str)| -> Window {
                serde_json::from_value(serde_json::json!({"from": from, "to": to})).unwrap()
            };
            let named: Vec<_> = windows
                .iter()
                .enumerate()
                .map(|(n, w)| (read(w), format!("maintenance[{n}]")))
                .collect();
            check_windows(&named).map_err(|fault| fault.param)
        };

        let (one, two, three) = (
            "2026-01-01T00:00:00+08:00",
            "2026-01-01T01:00:00+08:00",
            "2026-01-01T02:00:00+08:00",
        );

        assert_eq!(
            check(&[("02:00", "03:00"), ("03:00", "04:00"), ("23:00", "01:00")]),
            Ok(())
        );
        assert_eq!(
            check(&[(one, two), (two, three), ("00:00", "12:00")]),
            Ok(()),
            "of two sorts"
        );

        for (windows, param) in [
            (vec![("02:00", "02:00")], "maintenance[0].to"),
            (vec![("24:00", "02:00")], "maintenance[0].from"),
            (vec![(two, one)], "maintenance[0].to"),
            (vec![(one, one)], "maintenance[0].to"),
            (vec![("02:00", one)], "maintenance[0].to"),
            (vec![(one, "02:00")], "maintenance[0].to"),
            (
                vec![("02:00", "03:00"), ("02:59", "04:00")],
                "maintenance[1].from",
            ),
            (
                vec![("23:00", "02:00"), ("01:59", "04:00")],
                "maintenance[1].from",
            ),
            (
                vec![(one, three), (two, "2026-02-01T00:00:00Z")],
                "maintenance[1].from",
            ),
            (vec![("00:00", "24:00")], "maintenance[0]"),
            (
                vec![("00:00", "12:00"), ("12:00", "24:00")],
                "maintenance[1]",
            ),
        ] {
            assert_eq!(check(&windows), Err(param.to_owned()), "{windows:?}");
        }
    }
}

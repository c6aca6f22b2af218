//! Messages as they travel: requests and notifications are forms, answers are raw text. Nothing in
//! this file decides anything, and nothing is decoded twice or trimmed: signatures are over these
//! very characters.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, FixedOffset, NaiveDateTime, TimeDelta, Utc};

use crate::charset;

/// The fields of a message by name; in byte order, which is the order they are signed in. Of a
/// message in another charset than UTF-8 values stand for their bytes: see [`charset`].
pub(super) type Fields = BTreeMap<String, String>;

/// Why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("empty")]
    Empty,
    #[error("a field without a name")]
    Nameless,
    #[error("a field that is there twice")]
    Twice,
}

/// Reads an answer exactly as the official SDK does: values are raw, `{…}` and `[…]` may hold `&`,
/// and of two fields with one name the last counts.
pub(super) fn parse_answer(body: &[u8]) -> Result<Fields, Unreadable> {
    let text = charset::opaque(body);
    let text = text.as_str();
    if text.trim().is_empty() {
        return Err(Unreadable::Empty);
    }
    let text = text
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'))
        .unwrap_or(text);
    let mut fields = Fields::new();
    let mut rest = Some(text);

    while let Some(text) = rest {
        let (key, value, more) = match text.split_once('=') {
            None => (text, "", None),
            Some((key, after)) => {
                let (value, more) = split_value(after);
                (key, value, more)
            }
        };
        if key.is_empty() {
            return Err(Unreadable::Nameless);
        }
        fields.insert(key.to_owned(), value.to_owned());
        rest = more;
    }

    Ok(fields)
}

/// A value ends at the first `&` that is not nested; only the closer that fits ends a nest, and
/// nests do not count their depth.
fn split_value(text: &str) -> (&str, Option<&str>) {
    let mut closer = None;
    for (at, c) in text.char_indices() {
        match closer {
            Some(wanted) if c == wanted => closer = None,
            Some(_) => {}
            None => match c {
                '{' => closer = Some('}'),
                '[' => closer = Some(']'),
                '&' => return (text.get(..at).unwrap_or(text), text.get(at + 1..)),
                _ => {}
            },
        }
    }
    (text, None)
}

/// Reads a form, decoding it once. A field that is there twice could be signed as one and read as
/// the other.
pub(super) fn parse_form(body: &[u8]) -> Result<Fields, Unreadable> {
    let mut fields = Fields::new();
    for (name, value) in charset::form(body, "encoding") {
        if name.is_empty() {
            return Err(Unreadable::Nameless);
        }
        if fields.insert(name, value).is_some() {
            return Err(Unreadable::Twice);
        }
    }
    if fields.is_empty() {
        Err(Unreadable::Empty)
    } else {
        Ok(fields)
    }
}

/// A form, as requests and notifications are.
pub(super) fn to_form(fields: &Fields) -> String {
    let pair = |(name, value): (&String, &String)| {
        format!("{}={}", charset::form_half(name), charset::form_half(value))
    };
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// `YYYYMMDDhhmmss` in Beijing time. A fraction is cut off: offers end earlier by it, never later.
pub(super) fn beijing(time: DateTime<Utc>) -> String {
    local(time).format("%Y%m%d%H%M%S").to_string()
}

/// The time in Beijing, which has had no summer time since 1991.
pub(super) fn local(time: DateTime<Utc>) -> NaiveDateTime {
    FixedOffset::east_opt(8 * 3600).map_or(time.naive_utc(), |offset| {
        time.with_timezone(&offset).naive_local()
    })
}

/// Reads `YYYYMMDDhhmmss` in Beijing time.
pub(super) fn read_beijing(text: &str) -> Option<DateTime<Utc>> {
    if text.len() != 14 {
        return None;
    }
    let local = NaiveDateTime::parse_from_str(text, "%Y%m%d%H%M%S").ok()?;
    Some((local - TimeDelta::hours(8)).and_utc())
}

/// Reads `MMDDhhmmss`, which has no year: the one that comes next after `since`, by a day's
/// tolerance. Around New Year that may be the year before.
pub(super) fn read_yearless(text: &str, since: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let year = local(since).year();
    [year - 1, year, year + 1]
        .into_iter()
        .filter_map(|year| read_beijing(&format!("{year:04}{text}")))
        .find(|time| *time >= since - TimeDelta::days(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_beijing_and_whole_seconds() {
        let time = read_beijing("20260701000000").unwrap();
        assert_eq!(time.to_rfc3339(), "2026-06-30T16:00:00+00:00");
        assert_eq!(
            beijing(time + TimeDelta::milliseconds(999)),
            "20260701000000"
        );
        for wrong in ["", "2026070100000", "20260732000000", "+2607010000000"] {
            assert_eq!(read_beijing(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_without_a_year_is_the_next_one() {
        let new_years_eve = read_beijing("20261231235930").unwrap();
        assert_eq!(
            read_yearless("0101000010", new_years_eve),
            read_beijing("20270101000010")
        );
        assert_eq!(
            read_yearless("1231235931", new_years_eve),
            read_beijing("20261231235931")
        );
        assert_eq!(read_yearless("1331235931", new_years_eve), None);
        let new_year = read_beijing("20270101000005").unwrap();
        assert_eq!(
            read_yearless("1231235959", new_year),
            read_beijing("20261231235959")
        );
    }

    #[test]
    fn a_form_with_a_field_twice_is_not_read() {
        assert_eq!(parse_form(b"a=1&b=2&a=1"), Err(Unreadable::Twice));
        assert_eq!(parse_form(b""), Err(Unreadable::Empty));
        assert_eq!(parse_form(b"=1"), Err(Unreadable::Nameless));
        let fields = parse_form(b"a=%2B+%25&b=").unwrap();
        assert_eq!(
            fields,
            Fields::from([
                ("a".to_owned(), "+ %".to_owned()),
                ("b".to_owned(), String::new())
            ])
        );
        assert_eq!(parse_form(to_form(&fields).as_bytes()), Ok(fields));
    }
}

//! Members of a merchant's own: they come back as they were, or are refused by name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::Problem;

/// Members as they came in: read as numbers of 64 bits, some would change without anybody saying
/// so.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Metadata(BTreeMap<String, Box<RawValue>>);

impl Metadata {
    /// Checks them.
    ///
    /// # Errors
    /// A problem that names the member.
    pub(super) fn check(&self) -> Result<Value, Problem> {
        let mut members = serde_json::Map::new();
        for (name, raw) in &self.0 {
            if let Some(number) = numbers(raw.get()).find(|number| !is_kept(number)) {
                let shown: String = number.chars().take(40).collect();
                let detail =
                    format!("The number {shown} would not come back as it is: send it as a text.");
                return Err(Problem::invalid(format!("metadata.{name}"), detail));
            }
            let value = serde_json::from_str(raw.get());
            members.insert(
                name.clone(),
                value.map_err(|e| Problem::invalid("metadata", e.to_string()))?,
            );
        }

        let (too_many, metadata) = (members.len() > 50, Value::Object(members));
        if too_many || metadata.to_string().len() > 8_192 || has_nul(&metadata) {
            let detail = "metadata has at most 50 members and 8192 bytes, and no NUL characters.";
            return Err(Problem::invalid("metadata", detail));
        }

        Ok(metadata)
    }
}

/// PostgreSQL keeps no NUL, in texts and in JSON alike.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
    }
}

/// The numbers in a JSON text, as they are written.
fn numbers(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;

    std::iter::from_fn(move || {
        loop {
            let at = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit())?;
            rest = rest.get(at..)?;
            if rest.starts_with('"') {
                rest = behind_string(rest)?;
                continue;
            }
            let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
            let (number, behind) =
                rest.split_at(rest.find(|c: char| !is_part(c)).unwrap_or(rest.len()));
            rest = behind;
            return Some(number);
        }
    })
}

/// What follows the string that a text begins with.
fn behind_string(text: &str) -> Option<&str> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return text.get(at + 1..),
            _ => escaped = false,
        }
    }
    None
}

/// Whether a number stays what it is in 64 bits, whole or not.
fn is_kept(number: &str) -> bool {
    if !number.contains(['.', 'e', 'E']) {
        return number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    }
    let Ok(float) = number.parse::<f64>() else {
        return false;
    };
    float.is_finite()
        && decimal(number).is_some_and(|exact| decimal(&format!("{float:e}")) == Some(exact))
}

/// The digits of a number without zeros at either end, and the power of ten of the last one.
pub(super) fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (is_negative, number) = number
        .strip_prefix('-')
        .map_or((false, number), |rest| (true, rest));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    let significant = digits.trim_end_matches('0');
    let cut = i64::try_from(digits.len() - significant.len()).ok()?;

    let exponent = exponent
        .parse::<i64>()
        .ok()?
        .checked_sub(i64::try_from(part.len()).ok()?)?
        .checked_add(cut)?;
    let significant = significant.trim_start_matches('0').to_owned();
    let exponent = if significant.is_empty() { 0 } else { exponent };

    Some((is_negative, significant, exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_or_named() {
        for kept in [
            "0",
            "-1",
            "18446744073709551615",
            "-9223372036854775808",
            "1.10",
            "1e5",
            "0.1",
            "-0.0",
            "1E-7",
            "99.08701741838819",
            "19.990000000000002",
            "9007199254740993",
        ] {
            assert!(is_kept(kept), "{kept}");
            let read: Value = serde_json::from_str(kept).unwrap();
            assert_eq!(
                decimal(&format!("{:e}", read.as_f64().unwrap())),
                decimal(&format!("{:e}", kept.parse::<f64>().unwrap()))
            );
        }

        for changed in [
            "12345678901234567890123",
            "18446744073709551616",
            "-9223372036854775809",
            "0.12345678901234567890",
            "1.0000000000000001",
            "1e400",
            "9007199254740993.0",
            "1e-400",
        ] {
            assert!(!is_kept(changed), "{changed}");
        }
    }

    #[test]
    fn numbers_are_found_outside_of_strings() {
        let json = r#"{"a 1": [1, -2.5e+3, "7\"8\\", {"b": 9}], "c": "\\", "d": true, "e": 10}"#;
        assert_eq!(
            numbers(json).collect::<Vec<_>>(),
            ["1", "-2.5e+3", "9", "10"]
        );
        assert_eq!(numbers("42").collect::<Vec<_>>(), ["42"]);
    }
}

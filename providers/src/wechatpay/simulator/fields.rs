//! Reads the members of a request as strictly as the real service: required ones first, then types
//! and lengths, then members that nobody knows. Which of several faults is reported first is not
//! documented.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::response::Said;

/// The internal reasons of a `PARAM_ERROR`.
const ILLEGAL: u32 = 268_435_461;
const OUT_OF_RANGE: u32 = 268_435_464;
const EXTRA: u32 = 270_924_358;

/// The whole body, which must be an object of characters of the basic plane.
pub(super) fn body(bytes: &[u8]) -> Result<Map<String, Value>, Said> {
    let illegal = |issue: &str| Said::param_error("", &Value::Null, issue, ILLEGAL);
    let text = std::str::from_utf8(bytes).map_err(|_| illegal("请求体不是UTF-8"))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) if within_basic_plane(&members) => Ok(members),
        Ok(Value::Object(_)) => Err(illegal("包含不支持的字符")),
        Ok(_) | Err(_) => Err(illegal("请求体不是JSON对象")),
    }
}

/// Looks at the values, since `\ud83d\ude00` in the text is an emoji too.
fn within_basic_plane(members: &Map<String, Value>) -> bool {
    fn plain(value: &Value) -> bool {
        match value {
            Value::String(text) => text.chars().all(|c| c <= '\u{FFFF}'),
            Value::Array(items) => items.iter().all(plain),
            Value::Object(members) => within_basic_plane(members),
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
        }
    }
    members.values().all(plain)
}

/// The members of one object of the body.
pub(super) struct Fields<'a> {
    members: &'a Map<String, Value>,
    /// Where it is, as a JSON pointer.
    at: String,
}

impl<'a> Fields<'a> {
    pub(super) fn of(members: &'a Map<String, Value>) -> Self {
        Self {
            members,
            at: String::new(),
        }
    }

    /// A text that must be there.
    pub(super) fn text(&self, name: &str, length: RangeInclusive<usize>) -> Result<&'a str, Said> {
        self.optional_text(name, length)?
            .ok_or_else(|| self.missing(name))
    }

    /// A text that may be there.
    pub(super) fn optional_text(
        &self,
        name: &str,
        length: RangeInclusive<usize>,
    ) -> Result<Option<&'a str>, Said> {
        let Some(value) = self.members.get(name) else {
            return Ok(None);
        };
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong(name, "类型不是字符串", ILLEGAL))?;
        // In bytes, as a public report has it: 69 characters were 135 of them.
        if !length.contains(&text.len()) {
            let issue = format!("长度应为{}到{}", length.start(), length.end());
            return Err(self.wrong(name, &issue, OUT_OF_RANGE));
        }
        if text.chars().any(|c| c > '\u{FFFF}') {
            return Err(self.wrong(name, "包含不支持的字符", ILLEGAL));
        }
        Ok(Some(text))
    }

    /// An amount of at least one fen.
    pub(super) fn fen(&self, name: &str) -> Result<i64, Said> {
        let value = self.members.get(name).ok_or_else(|| self.missing(name))?;
        let fen = value
            .as_i64()
            .ok_or_else(|| self.wrong(name, "类型不是整数", ILLEGAL))?;
        // The real upper limit is not documented.
        if (1..=10_000_000_000).contains(&fen) {
            Ok(fen)
        } else {
            Err(self.wrong(name, "金额超出范围", OUT_OF_RANGE))
        }
    }

    /// An object that must be there.
    pub(super) fn object(&self, name: &str) -> Result<Fields<'a>, Said> {
        match self.members.get(name) {
            Some(Value::Object(members)) => Ok(Fields {
                members,
                at: format!("{}/{name}", self.at),
            }),
            Some(_) => Err(self.wrong(name, "类型不是对象", ILLEGAL)),
            None => Err(self.missing(name)),
        }
    }

    /// A number of ours: its alphabet is that of the newest pages, with `@` for refunds.
    pub(super) fn number(
        &self,
        name: &str,
        length: RangeInclusive<usize>,
    ) -> Result<&'a str, Said> {
        let text = self.text(name, length)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-|*@".contains(&b);
        if text.bytes().all(plain) {
            Ok(text)
        } else {
            Err(self.wrong(name, "包含不支持的字符", ILLEGAL))
        }
    }

    /// An absolute address without a query string.
    pub(super) fn address(&self, name: &str, value: &str) -> Result<(), Said> {
        let absolute = value.starts_with("http://") || value.starts_with("https://");
        if absolute && !value.contains(['?', '#']) {
            Ok(())
        } else {
            Err(self.wrong(name, "不是合法的地址", ILLEGAL))
        }
    }

    /// `CNY`, when it is there.
    pub(super) fn renminbi(&self, name: &str) -> Result<(), Said> {
        match self.optional_text(name, 1..=16)? {
            None | Some("CNY") => Ok(()),
            Some(_) => Err(self.wrong(name, "不支持的币种", ILLEGAL)),
        }
    }

    /// Refuses members that are not in `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Said> {
        match self
            .members
            .keys()
            .find(|name| !known.contains(&name.as_str()))
        {
            Some(name) => Err(self.wrong(name, "存在多余的参数", EXTRA)),
            None => Ok(()),
        }
    }

    pub(super) fn wrong(&self, name: &str, issue: &str, reason: u32) -> Said {
        let value = self.members.get(name).cloned().unwrap_or_default();
        Said::param_error(&format!("{}/{name}", self.at), &value, issue, reason)
    }

    fn missing(&self, name: &str) -> Said {
        self.wrong(name, "必填性规则校验失败，此字段为必填项", ILLEGAL)
    }
}

//! Reads lists, whichever way they are given.

use serde::Deserialize;

/// A list: an array in a file; in the environment and in flags a text with commas.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Item {
        Number(i64),
        Text(String),
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Array(Vec<Item>),
        Text(String),
    }

    let texts: Vec<String> = match Given::deserialize(deserializer)? {
        Given::Text(text) => text
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|i| !i.is_empty())
            .collect(),
        Given::Array(items) => items
            .into_iter()
            .map(|item| match item {
                Item::Number(number) => number.to_string(),
                Item::Text(text) => text,
            })
            .collect(),
    };

    texts
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|e| serde::de::Error::custom(format!("{text:?}: {e}")))
        })
        .collect()
}

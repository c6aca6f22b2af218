//! Section `alerts`: when trouble is an incident, and who is told of it. An address of a robot is
//! as good as a password: nothing here shows one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::Error as _;

use super::durations::{in_unit, list_of_seconds, milliseconds, seconds};
use super::error::Wrong;
use crate::domain::incident::Severity;

/// Section `alerts`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Alerts {
    #[serde(deserialize_with = "receivers")]
    pub receivers: Vec<Receiver>,
    #[serde(rename = "interval_ms", deserialize_with = "milliseconds")]
    pub interval: Duration,
    #[serde(rename = "open_after_ms", deserialize_with = "milliseconds")]
    pub open_after: Duration,
    #[serde(rename = "close_after_ms", deserialize_with = "milliseconds")]
    pub close_after: Duration,
    #[serde(rename = "failing_after_ms", deserialize_with = "milliseconds")]
    pub failing_after: Duration,
    pub failing_least_percent: i64,
    pub failing_most_percent: i64,
    #[serde(rename = "parked_least_s", deserialize_with = "seconds")]
    pub parked_least: Duration,
    #[serde(rename = "parked_most_s", deserialize_with = "seconds")]
    pub parked_most: Duration,
    #[serde(rename = "in_doubt_least_s", deserialize_with = "seconds")]
    pub in_doubt_least: Duration,
    #[serde(rename = "in_doubt_most_s", deserialize_with = "seconds")]
    pub in_doubt_most: Duration,
    #[serde(rename = "webhooks_least_s", deserialize_with = "seconds")]
    pub webhooks_least: Duration,
    #[serde(rename = "webhooks_most_s", deserialize_with = "seconds")]
    pub webhooks_most: Duration,
    #[serde(rename = "work_list_s", deserialize_with = "seconds")]
    pub work_list: Duration,
    #[serde(rename = "remind_after_s", deserialize_with = "seconds")]
    pub remind_after: Duration,
    #[serde(rename = "retry_s", deserialize_with = "list_of_seconds")]
    pub retry: Vec<Duration>,
    pub per_minute: u64,
}

/// Whose chat it is: how a message is written, signed, and what counts as taken.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::EnumIter,
)]
#[strum(serialize_all = "lowercase")]
pub enum Robot {
    /// WeCom, 企业微信.
    Wecom,
    /// DingTalk, 钉钉.
    Dingtalk,
    /// Feishu, 飞书, or Lark.
    Feishu,
    /// Slack.
    Slack,
}

/// What people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Language {
    /// Chinese.
    Zh,
    /// English.
    En,
}

/// A robot that is told of incidents. Its `Debug` keeps address and secret to itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Whose chat it is.
    pub robot: Robot,
    /// Where to.
    pub url: String,
    /// What it is signed with, if it is.
    pub secret: Option<String>,
    /// What its people read.
    pub language: Language,
    /// Only incidents that are at least as bad.
    pub severity: Severity,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("robot", &self.robot)
            .finish_non_exhaustive()
    }
}

impl Receiver {
    /// From the members of its table. What is wrong is told without repeating an address or a
    /// secret.
    fn read(mut members: BTreeMap<String, String>) -> Result<Self, String> {
        fn word<T: FromStr>(
            text: Option<String>,
            member: &str,
            usual: T,
            choice: &str,
        ) -> Result<T, String> {
            text.map_or(Ok(usual), |text| {
                text.parse()
                    .map_err(|_| format!("{member} must be {choice}"))
            })
        }

        let robot = members.remove("kind").and_then(|kind| kind.parse().ok());
        let robot = robot.ok_or("kind must be wecom, dingtalk, feishu or slack")?;
        let url = members
            .remove("url")
            .filter(|url| !url.is_empty())
            .ok_or("url must be an address")?;
        let receiver = Self {
            robot,
            url,
            secret: members.remove("secret").filter(|secret| !secret.is_empty()),
            language: word(
                members.remove("language"),
                "language",
                Language::Zh,
                "zh or en",
            )?,
            severity: word(
                members.remove("severity"),
                "severity",
                Severity::Notice,
                "notice or page",
            )?,
        };

        match (members.keys().next(), &receiver.secret, robot) {
            (Some(unknown), _, _) => Err(format!("there is no key {unknown}")),
            (None, Some(_), Robot::Wecom | Robot::Slack) => {
                Err("secret is for dingtalk and feishu alone".to_owned())
            }
            (None, _, _) => Ok(receiver),
        }
    }
}

/// `slack https://… language=en`
impl FromStr for Receiver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let mut members = BTreeMap::new();
        for name in ["kind", "url"] {
            if let Some(word) = words.next() {
                members.insert(name.to_owned(), word.to_owned());
            }
        }
        for word in words {
            let (name, value) = word
                .split_once('=')
                .ok_or("behind the address stand secret=…, language=… and severity=…")?;
            members.insert(name.to_owned(), value.to_owned());
        }
        Self::read(members)
    }
}

/// An array of tables in a file; in the environment and in flags a text with commas.
fn receivers<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Receiver>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Item {
        Table(BTreeMap<String, String>),
        Text(String),
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Array(Vec<Item>),
        Text(String),
    }

    let given = Given::deserialize(deserializer).map_err(|_| {
        D::Error::custom("receivers must be tables of texts, or one text with commas")
    })?;
    let items = match given {
        Given::Text(text) => text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|i| Item::Text(i.to_owned()))
            .collect(),
        Given::Array(items) => items,
    };

    let numbered = items.into_iter().zip(1_u32..).map(|(item, number)| {
        let read = match item {
            Item::Table(members) => Receiver::read(members),
            Item::Text(text) => text.parse(),
        };
        read.map_err(|problem| D::Error::custom(format!("receiver {number}: {problem}")))
    });

    numbered.collect()
}

impl Alerts {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let length = |key, duration| (key, in_unit(key, duration));
        let positive = [
            length("alerts.interval_ms", self.interval),
            length("alerts.open_after_ms", self.open_after),
            length("alerts.close_after_ms", self.close_after),
            length("alerts.failing_after_ms", self.failing_after),
            ("alerts.failing_least_percent", self.failing_least_percent),
            length("alerts.parked_least_s", self.parked_least),
            length("alerts.in_doubt_least_s", self.in_doubt_least),
            length("alerts.webhooks_least_s", self.webhooks_least),
            length("alerts.work_list_s", self.work_list),
            (
                "alerts.per_minute",
                i64::try_from(self.per_minute).unwrap_or(i64::MAX),
            ),
        ];

        if let Some((key, value)) = positive.into_iter().find(|(_, value)| *value <= 0) {
            return Err(Wrong {
                key,
                value: value.to_string(),
                problem: "must be more than 0",
            });
        }

        let ordered = [
            (
                ("alerts.failing_most_percent", self.failing_most_percent),
                self.failing_least_percent,
            ),
            (
                length("alerts.parked_most_s", self.parked_most),
                length("alerts.parked_least_s", self.parked_least).1,
            ),
            (
                length("alerts.in_doubt_most_s", self.in_doubt_most),
                length("alerts.in_doubt_least_s", self.in_doubt_least).1,
            ),
            (
                length("alerts.webhooks_most_s", self.webhooks_most),
                length("alerts.webhooks_least_s", self.webhooks_least).1,
            ),
        ];

        if let Some(((key, value), _)) = ordered.into_iter().find(|((_, most), least)| most < least)
        {
            let problem = "must not be less than the limit that it belongs to (…_least_…)";
            return Err(Wrong {
                key,
                value: value.to_string(),
                problem,
            });
        }

        if self.failing_most_percent > 100 {
            let value = self.failing_most_percent.to_string();
            return Err(Wrong {
                key: "alerts.failing_most_percent",
                value,
                problem: "must not be more than 100",
            });
        }

        if self.retry.is_empty() || self.retry.iter().any(Duration::is_zero) {
            let seconds: Vec<u64> = self.retry.iter().map(Duration::as_secs).collect();
            let value = format!("{seconds:?}");
            return Err(Wrong {
                key: "alerts.retry_s",
                value,
                problem: "needs pauses, each more than 0 seconds",
            });
        }

        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn load(receivers: &str) -> Result<Vec<Receiver>, String> {
        Config::load(None, &[("alerts.receivers", receivers.to_owned())])
            .map(|config| config.alerts.receivers)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn receivers_are_read_from_one_text_and_show_no_secret() {
        let text = "dingtalk https://d.example/?access_token=t secret=SECx, slack \
                    https://s.example/x language=en severity=page";
        let found = load(text).unwrap();
        let [ding, slack] = found.as_slice() else {
            panic!("{found:?}")
        };

        assert_eq!(
            (ding.robot, ding.secret.as_deref(), ding.language),
            (Robot::Dingtalk, Some("SECx"), Language::Zh)
        );
        assert_eq!(
            (slack.robot, slack.severity, slack.language),
            (Robot::Slack, Severity::Page, Language::En)
        );

        let shown = format!("{found:?}");
        assert!(
            !shown.contains("SECx") && !shown.contains("example"),
            "{shown}"
        );

        assert_eq!(load("").unwrap(), []);
    }

    #[test]
    fn receivers_are_read_from_tables_in_a_file() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("interlock.toml");
        let table = "[[alerts.receivers]]\nkind = \"feishu\"\nurl = \"https://f.example/hook\"\n";
        std::fs::write(&path, table).unwrap();
        let config = Config::load(Some(&path), &[]).unwrap();
        assert_eq!(
            config.alerts.receivers.first().map(|r| r.robot),
            Some(Robot::Feishu)
        );
        std::fs::write(&path, format!("{table}colour = \"red\"\n")).unwrap();
        let error = Config::load(Some(&path), &[]).unwrap_err().to_string();
        assert!(
            error.contains("receiver 1: there is no key colour"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_receiver_is_told_without_its_address() {
        for (text, problem) in [
            ("pager https://x.example/", "kind must be"),
            ("slack", "url must be"),
            (
                "slack https://x.example/ language=fr",
                "language must be zh or en",
            ),
            ("slack https://x.example/ severity=high", "severity must be"),
            ("slack https://x.example/ secret=x", "secret is for"),
            (
                "wecom https://a.example/, slack https://x.example/ loud",
                "receiver 2: behind the address",
            ),
        ] {
            let error = load(text).unwrap_err();
            assert!(
                error.contains(problem) && error.contains("receivers"),
                "{text}: {error}"
            );
            assert!(!error.contains("example"), "{error}");
        }
    }
}

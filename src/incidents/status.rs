//! The public page: which ways to pay work, since when not, and that nothing is lost. Made of what
//! this gateway has in memory, so that it is right also while Redis or the database is away, and so
//! that a crowd costs nothing. Names no account, no merchant and no amount.

use std::collections::BTreeSet;
use std::sync::Arc;

use askama::Template;
use providers::order::Flow;
use providers::provider::ProviderName;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::messages::{self, say};
use super::status_cache::Seen;
use crate::config::Language;
use crate::directory::Directory;
use crate::domain::incident::{Cause, Subject};
use crate::domain::{AllOwners, Mode, Timestamp};
use crate::routing::account::Account;
use crate::routing::health::BreakerState;
use crate::routing::health::registry::HealthRegistry;

/// How far back the page looks.
pub const HISTORY_S: i64 = 7 * 86_400;
/// Entries of the history that are shown.
const ENTRIES: usize = 20;

/// Whether something works.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema, strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = PublicStatusLight)]
pub enum Light {
    /// It does.
    Works,
    /// Some payments go elsewhere.
    Disturbed,
    /// Nobody can pay so for the moment.
    OutOfOrder,
}

fn name<S: Serializer>(provider: &ProviderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(provider.as_str())
}

/// A way to pay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PublicStatusWay)]
pub struct Way {
    /// `alipay`, …
    #[schema(value_type = String)]
    #[serde(serialize_with = "name")]
    pub provider: ProviderName,
    /// `qr`, …
    #[schema(value_type = String)]
    pub flow: Flow,
    /// Whether it works.
    pub status: Light,
    /// Since when it does not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
}

/// An outage of the last days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PublicStatusOutage)]
pub struct Past {
    /// `alipay`, …
    #[schema(value_type = String)]
    #[serde(serialize_with = "name")]
    pub provider: ProviderName,
    /// `qr`, …
    #[schema(value_type = String)]
    pub flow: Flow,
    /// How bad it was at its worst.
    pub status: Light,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub began_at: Timestamp,
    /// When it was over; null: it lasts.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
}

/// What the public may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PublicStatus)]
pub struct Overview {
    /// Over all ways to pay, and Interlock itself.
    pub status: Light,
    /// Interlock itself takes no new payments for the moment.
    pub service_away: bool,
    /// Some payments wait until a way to pay is back.
    pub payments_wait: bool,
    /// When this was so.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// Every way to pay that any merchant offers.
    pub ways: Vec<Way>,
    /// The last seven days, newest first.
    pub history: Vec<Past>,
}

/// The ways to pay that merchants offer in the mode that is spoken of; those of all providers while
/// there is no merchant.
fn offered(directory: &Directory) -> BTreeSet<(usize, Flow)> {
    let (accounts, spoken) = (directory.accounts(AllOwners), directory.spoken_mode());
    let is_offered = |account: &&Arc<Account>| !account.disabled && account.owner.mode == spoken;
    let enabled: Vec<ProviderName> = accounts
        .iter()
        .filter(is_offered)
        .map(|account| account.provider.name())
        .collect();

    let place = |(place, protocol): (usize, &providers::Protocol)| {
        (place, protocol.name, protocol.capabilities)
    };
    providers::PROTOCOLS
        .iter()
        .enumerate()
        .map(place)
        .filter(|(_, name, _)| enabled.is_empty() || enabled.contains(name))
        .flat_map(|(place, _, capabilities)| {
            capabilities
                .flows
                .iter()
                .map(move |flow| (place, flow.flow))
        })
        .collect()
}

fn way(board: &HealthRegistry, seen: &Seen, provider: ProviderName, flow: Flow, mode: Mode) -> Way {
    let subject = Subject::Provider(provider, flow);
    let incident = seen
        .incidents
        .iter()
        .find(|i| i.closed_at.is_none() && i.subject == subject);
    let standing = board.whole(provider, flow, mode);
    let gate = standing
        .as_ref()
        .map_or(BreakerState::Closed, |standing| standing.gate);

    let status = match gate {
        BreakerState::Open | BreakerState::Trial => Light::OutOfOrder,
        BreakerState::Ramping => Light::Disturbed,
        BreakerState::Closed => match incident.map(|i| i.cause) {
            Some(Cause::ProviderFailing) => Light::Disturbed,
            // It is back and only watched; or it is another cause, which is about no provider's
            // flow.
            Some(
                Cause::ProviderDown
                | Cause::RouteDown
                | Cause::AccountRefused
                | Cause::OutcomesInDoubt
                | Cause::PaymentsParked
                | Cause::WebhooksLate
                | Cause::RedisAway
                | Cause::WorkListWaiting,
            )
            | None => Light::Works,
        },
    };
    let gate_since = standing
        .map(|standing| Timestamp(standing.since_ms))
        .filter(|at| at.0 > 0);

    let since = incident
        .map(|i| i.began_at)
        .or(gate_since)
        .filter(|_| status != Light::Works);

    Way {
        provider,
        flow,
        status,
        since,
    }
}

/// What the public may know now.
#[must_use]
pub fn overview(
    board: &HealthRegistry,
    directory: &Directory,
    seen: &Seen,
    now: Timestamp,
) -> Overview {
    let names: Vec<ProviderName> = providers::PROTOCOLS
        .iter()
        .map(|protocol| protocol.name)
        .collect();
    let mode = directory.spoken_mode();
    let ways: Vec<Way> = offered(directory)
        .into_iter()
        .filter_map(|(place, flow)| Some(way(board, seen, *names.get(place)?, flow, mode)))
        .collect();

    let payments_wait = seen
        .incidents
        .iter()
        .any(|i| i.closed_at.is_none() && i.subject == Subject::Parked);
    let status = if seen.database_away || ways.iter().all(|way| way.status == Light::OutOfOrder) {
        Light::OutOfOrder
    } else if payments_wait || ways.iter().any(|way| way.status != Light::Works) {
        Light::Disturbed
    } else {
        Light::Works
    };

    let from = now.plus_s(-HISTORY_S);
    let past = seen
        .incidents
        .iter()
        .filter(|i| i.closed_at.is_none_or(|end| end >= from));
    let history = past.filter_map(|incident| {
        let (Subject::Provider(provider, flow), status) =
            (&incident.subject, severity(incident.cause))
        else {
            return None;
        };
        let (provider, flow) = (*provider, *flow);
        Some(Past {
            provider,
            flow,
            status,
            began_at: incident.began_at,
            ended_at: incident.closed_at,
        })
    });

    Overview {
        status,
        service_away: seen.database_away,
        payments_wait,
        updated_at: now,
        history: history.take(ENTRIES).collect(),
        ways,
    }
}

const fn severity(cause: Cause) -> Light {
    match cause {
        Cause::ProviderDown => Light::OutOfOrder,
        Cause::ProviderFailing
        | Cause::RouteDown
        | Cause::AccountRefused
        | Cause::OutcomesInDoubt
        | Cause::PaymentsParked
        | Cause::WebhooksLate
        | Cause::RedisAway
        | Cause::WorkListWaiting => Light::Disturbed,
    }
}

/// The page.
#[derive(Debug, Template)]
#[template(path = "status.html", config = "src/incidents/askama.toml")]
struct Page {
    words: Words,
    light: &'static str,
    headline: &'static str,
    explanation: &'static str,
    groups: Vec<Group>,
    history: Vec<Line>,
    at: String,
}

#[derive(Debug)]
struct Group {
    provider: &'static str,
    ways: Vec<WayLine>,
}

#[derive(Debug)]
struct WayLine {
    flow: &'static str,
    light: &'static str,
    state: &'static str,
    since: Option<String>,
}

#[derive(Debug)]
struct Line {
    what: String,
    light: &'static str,
    state: &'static str,
    when: String,
}

/// What stands on the page whatever happens.
#[derive(Debug)]
struct Words {
    tag: &'static str,
    other: &'static str,
    other_tag: &'static str,
    other_name: &'static str,
    title: &'static str,
    ways: &'static str,
    questions: &'static str,
    answers: [(&'static str, &'static str); 3],
    history: &'static str,
    no_history: &'static str,
    as_of: &'static str,
}

fn page_words(language: Language) -> Words {
    Words {
        tag: say(language, "zh-CN", "en"),
        other: say(language, "en", "zh"),
        other_tag: say(language, "en", "zh-CN"),
        other_name: say(language, "English", "中文"),
        title: say(language, "支付服务状态", "Payment status"),
        ways: say(language, "支付方式", "Ways to pay"),
        questions: say(language, "付款遇到问题？", "Trouble while paying?"),
        answers: [
            (
                say(
                    language,
                    "我已经付了款，但店里还没有显示",
                    "I have paid, and the shop does not know yet",
                ),
                say(
                    language,
                    "款项不会丢失。我们会向支付机构查询，直到查清为止，然后自动通知商户。请不要急着再付一次。",
                    "Your money is not lost. We ask the provider until it is certain, and then \
                    tell the shop. Please do not pay a second time in a hurry.",
                ),
            ),
            (
                say(language, "会不会重复扣款？", "Can I be charged twice?"),
                say(
                    language,
                    "一笔订单只会留下一笔款项；万一付了两次，多出的一笔会自动原路退回。",
                    "An order keeps your money once. Should it be paid twice, the second payment \
                    goes back to you by itself.",
                ),
            ),
            (
                say(
                    language,
                    "某种支付方式不可用怎么办？",
                    "One way to pay is out of order. What now?",
                ),
                say(
                    language,
                    "请改用仍然正常的方式。正在等待的付款会在恢复后自动继续，或到期后如实告知，不会扣款。",
                    "Use one that works. Payments that wait go on by themselves once it is back, \
                    or expire without taking anything.",
                ),
            ),
        ],
        history: say(language, "最近七天", "The last seven days"),
        no_history: say(language, "没有发生故障。", "There was no disturbance."),
        as_of: say(language, "更新时间（北京时间）", "As of (Beijing time)"),
    }
}

const fn state(language: Language, light: Light) -> &'static str {
    match light {
        Light::Works => say(language, "正常", "works"),
        Light::Disturbed => say(language, "不稳定", "disturbed"),
        Light::OutOfOrder => say(language, "暂不可用", "out of order"),
    }
}

fn headline(language: Language, overview: &Overview) -> (&'static str, &'static str) {
    match (overview.service_away, overview.status) {
        (true, _) => (
            say(
                language,
                "暂时无法发起新的支付",
                "New payments are not possible for the moment",
            ),
            say(
                language,
                "我们的服务正在恢复。已经付的款不会丢失，恢复后会自动查清并通知商户。",
                "Our own service is being brought back. What was paid is not lost: it is found out \
                and told to the shop once we are back.",
            ),
        ),
        (false, Light::Works) => (
            say(language, "所有支付方式正常", "All ways to pay work"),
            say(
                language,
                "没有已知的故障。",
                "There is no known disturbance.",
            ),
        ),
        (false, Light::Disturbed) if overview.payments_wait => (
            say(language, "部分付款需要等待", "Some payments have to wait"),
            say(
                language,
                "个别支付方式有故障，等待中的付款会在恢复后自动继续。已经付的款不会丢失。",
                "Some ways to pay are disturbed. Payments that wait go on by themselves. Nothing \
                that was paid is lost.",
            ),
        ),
        (false, Light::Disturbed) => (
            say(
                language,
                "部分支付方式有故障",
                "Some ways to pay are disturbed",
            ),
            say(
                language,
                "付款会自动改走正常的渠道。已经付的款不会丢失。",
                "Payments are moved to those that work. Nothing that was paid is lost.",
            ),
        ),
        (false, Light::OutOfOrder) => (
            say(
                language,
                "所有支付方式暂不可用",
                "No way to pay works for the moment",
            ),
            say(
                language,
                "付款会保留并在恢复后自动继续，或到期后如实告知。已经付的款不会丢失。",
                "Payments wait and go on by themselves once one is back, or expire without taking \
                anything. Nothing that was paid is lost.",
            ),
        ),
    }
}

/// A time to the minute.
fn minute(at: Timestamp) -> String {
    let text = messages::time(at);
    text.get(..16).unwrap_or(&text).to_owned()
}

/// The page in a language.
///
/// # Errors
/// The template's, which cannot happen: it writes into memory.
pub fn html(language: Language, overview: &Overview) -> Result<String, askama::Error> {
    let (headline, explanation) = headline(language, overview);
    let mut groups: Vec<(ProviderName, Group)> = Vec::new();

    for way in &overview.ways {
        let line = WayLine {
            flow: messages::flow(language, way.flow),
            light: way.status.into(),
            state: state(language, way.status),
            since: way.since.map(|at| match language {
                Language::Zh => format!("自 {} 起", minute(at)),
                Language::En => format!("since {}", minute(at)),
            }),
        };
        match groups
            .last_mut()
            .filter(|(provider, _)| *provider == way.provider)
        {
            Some((_, group)) => group.ways.push(line),
            None => {
                let provider = messages::provider(language, way.provider);
                groups.push((
                    way.provider,
                    Group {
                        provider,
                        ways: vec![line],
                    },
                ));
            }
        }
    }

    let history = overview.history.iter().map(|past| Line {
        what: format!(
            "{} · {}",
            messages::provider(language, past.provider),
            messages::flow(language, past.flow)
        ),
        light: if past.ended_at.is_some() {
            "over"
        } else {
            past.status.into()
        },
        state: state(language, past.status),
        when: match past.ended_at {
            Some(end) => {
                let lasted = messages::duration(language, end.since(past.began_at));
                format!("{} – {} ({lasted})", minute(past.began_at), minute(end))
            }
            None => format!(
                "{} – {}",
                minute(past.began_at),
                say(language, "至今", "now")
            ),
        },
    });

    let page = Page {
        words: page_words(language),
        light: overview.status.into(),
        headline,
        explanation,
        history: history.collect(),
        groups: groups.into_iter().map(|(_, group)| group).collect(),
        at: minute(overview.updated_at),
    };

    page.render()
}

/// The language that a browser asks for; Chinese unless it prefers English.
#[must_use]
pub fn preferred(accept_language: &str) -> Language {
    let mut best: Option<(f32, Language)> = None;
    for wish in accept_language.split(',') {
        let mut parts = wish.trim().split(';');
        let tag = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let weight = parts
            .find_map(|p| p.trim().strip_prefix("q="))
            .map_or(Some(1.0), |q| q.trim().parse().ok());
        let language = match tag.split('-').next() {
            Some("zh") => Language::Zh,
            Some("en") => Language::En,
            Some(_) | None => continue,
        };
        let Some(weight) = weight.filter(|weight: &f32| *weight > 0.0 && *weight <= 1.0) else {
            continue;
        };
        if best.is_none_or(|(heaviest, _)| weight > heaviest) {
            best = Some((weight, language));
        }
    }

    best.map_or(Language::Zh, |(_, language)| language)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_the_language_that_it_likes_best() {
        for (wish, language) in [
            ("", Language::Zh),
            ("*", Language::Zh),
            ("de-DE,de;q=0.9", Language::Zh),
            ("en", Language::En),
            ("en-GB,en;q=0.9,zh;q=0.8", Language::En),
            ("zh-CN,zh;q=0.9,en;q=0.8", Language::Zh),
            ("en;q=0.1, zh;q=0.5", Language::Zh),
            ("fr, en;q=0.7", Language::En),
            ("zh;q=0, en;q=0.3", Language::En),
            ("en;q=x", Language::Zh),
            ("en;q=9", Language::Zh),
        ] {
            assert_eq!(preferred(wish), language, "{wish}");
        }
    }

    #[test]
    fn the_page_says_what_works_and_what_does_not_in_both_languages() {
        let alipay: ProviderName = "alipay".parse().unwrap();
        let at = Timestamp(1_767_196_800_000);
        let way = |flow, status, since| Way {
            provider: alipay,
            flow,
            status,
            since,
        };

        let ways = vec![
            way(Flow::Qr, Light::OutOfOrder, Some(at)),
            way(Flow::Barcode, Light::Works, None),
        ];
        let past = Past {
            provider: alipay,
            flow: Flow::Qr,
            status: Light::OutOfOrder,
            began_at: at,
            ended_at: None,
        };

        let overview = Overview {
            status: Light::Disturbed,
            service_away: false,
            payments_wait: false,
            updated_at: at.plus_s(60),
            ways,
            history: vec![past],
        };
        let chinese = html(Language::Zh, &overview).unwrap();

        for part in [
            "lang=\"zh-CN\"",
            "支付宝",
            "暂不可用",
            "自 2026-01-01 00:00 起",
            "不会丢失",
            "至今",
        ] {
            assert!(chinese.contains(part), "{part}");
        }

        let english = html(
            Language::En,
            &Overview {
                service_away: true,
                ..overview
            },
        )
        .unwrap();

        for part in [
            "lang=\"en\"",
            "Alipay",
            "since 2026-01-01 00:00",
            "New payments are not possible",
            "not lost",
        ] {
            assert!(english.contains(part), "{part}");
        }

        assert!(!english.contains("<script"));
    }
}

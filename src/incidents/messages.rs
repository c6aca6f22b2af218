//! What people read about incidents, in Chinese and English: what is wrong, what Interlock does
//! about it by itself, and what a human should do. No amounts and no secrets are in here.

use providers::order::Flow;
use providers::provider::ProviderName;

use crate::config::Language;
use crate::domain::Timestamp;
use crate::domain::incident::{Cause, Entry, Severity, Subject};

/// A text in the language that is read.
#[must_use]
pub const fn say(language: Language, zh: &'static str, en: &'static str) -> &'static str {
    match language {
        Language::Zh => zh,
        Language::En => en,
    }
}

/// A provider as shoppers know it. One that is on no list goes by its name.
#[must_use]
pub fn provider(language: Language, name: ProviderName) -> &'static str {
    match providers::protocol(name.as_str()) {
        Some(known) => say(language, known.title.zh, known.title.en),
        None => name.as_str(),
    }
}

/// How the payer pays, as shoppers know it.
#[must_use]
pub const fn flow(language: Language, flow: Flow) -> &'static str {
    match flow {
        Flow::Qr => say(language, "扫码支付", "Scan a QR code"),
        Flow::Barcode => say(language, "出示付款码", "Show your payment code"),
        Flow::Page => say(language, "网页支付", "In a browser"),
        Flow::H5 => say(language, "手机网页支付", "In a phone's browser"),
        Flow::App => say(language, "App 支付", "In an app"),
        Flow::Jsapi => say(language, "钱包内支付", "Inside the wallet"),
    }
}

/// What an incident is about.
#[must_use]
pub fn subject(language: Language, subject: &Subject) -> String {
    match subject {
        Subject::Provider(name, f) => {
            format!("{} · {}", provider(language, *name), flow(language, *f))
        }
        Subject::Route(name, f, account) => {
            format!(
                "{} · {} · {account}",
                provider(language, *name),
                flow(language, *f)
            )
        }
        Subject::Account(name, account) => format!("{} · {account}", provider(language, *name)),
        Subject::InDoubt(name) => provider(language, *name).to_owned(),
        Subject::Parked => say(language, "等待中的支付", "Waiting payments").to_owned(),
        Subject::Webhooks => say(language, "商户通知", "Webhooks").to_owned(),
        Subject::Redis => "Redis".to_owned(),
        Subject::WorkList => say(language, "待人工处理的事项", "Work list").to_owned(),
    }
}

/// What is wrong, in a few words.
#[must_use]
pub const fn cause(language: Language, cause: Cause) -> &'static str {
    match cause {
        Cause::ProviderDown => say(language, "不可用", "out of order"),
        Cause::ProviderFailing => say(
            language,
            "失败明显多于平时",
            "fails far more often than usual",
        ),
        Cause::RouteDown => say(
            language,
            "该账户的路由不可用",
            "this account's route is out of order",
        ),
        Cause::AccountRefused => say(
            language,
            "账户被渠道拒绝",
            "the provider refuses this account",
        ),
        Cause::OutcomesInDoubt => say(
            language,
            "有交易结果长时间未知",
            "outcomes unknown for long",
        ),
        Cause::PaymentsParked => say(
            language,
            "没有可用路由，支付在排队",
            "no route is able, payments wait",
        ),
        Cause::WebhooksLate => say(language, "通知送达延迟", "merchants are told late"),
        Cause::RedisAway => say(
            language,
            "共享健康状态的 Redis 不可用",
            "shared health is away",
        ),
        Cause::WorkListWaiting => say(
            language,
            "有资金事项等待人工处理",
            "money waits for a person's decision",
        ),
    }
}

/// What Interlock does about it by itself.
#[must_use]
pub const fn does(language: Language, cause: Cause) -> &'static str {
    match cause {
        Cause::ProviderDown => say(
            language,
            "已熔断：新支付立即改走其他路由；无路可走的码在排队，扫码扣款立即失败；每秒用签名查询探测，恢复后逐步放量；结果未知的交易继续查询，必要时撤销。",
            "Its breaker is open: new payments go to other routes at once, offers without a route \
            wait, charges fail at once. It is probed by signed queries and comes back by a growing \
            share. What is unknown is asked about, and reversed where needed.",
        ),
        Cause::ProviderFailing => say(
            language,
            "失败的支付逐笔改走其他路由；若继续恶化会自动熔断。",
            "Each payment that fails there is switched to another route. If it gets worse, the \
            breaker opens by itself.",
        ),
        Cause::RouteDown => say(
            language,
            "该账户已熔断，支付改走其他路由，并持续探测。",
            "This account's route is taken out and probed; payments go to other routes.",
        ),
        Cause::AccountRefused => say(
            language,
            "账户已暂时搁置，新支付改走其他渠道；退款、查询和对账照常。",
            "The account is set aside for new payments, which go to other providers. Refunds and \
            queries go on.",
        ),
        Cause::OutcomesInDoubt => say(
            language,
            "按渠道规定的间隔继续查询，扫码扣款到时撤销；在查清之前不会在别处重复收款，也不会说“失败”。",
            "They are asked about by the provider's ladder, and charges are reversed. Until it is \
            known, nothing is collected elsewhere and nobody is told \"failed\".",
        ),
        Cause::PaymentsParked => say(
            language,
            "支付保留在“已创建”，路由恢复后按先后自动继续，到期则如实过期。",
            "They stay in `created`, go on by themselves when a route returns, and expire \
            honestly.",
        ),
        Cause::WebhooksLate => say(
            language,
            "每个事件都已落库，按阶梯重试三天，之后可重放。",
            "Every event is stored, tried again for three days, and can be replayed after that.",
        ),
        Cause::RedisAway => say(
            language,
            "各网关按自己所见判断路由健康；没有支付会等待 Redis。",
            "Each gateway goes by what it has seen itself. No payment waits for Redis.",
        ),
        Cause::WorkListWaiting => say(
            language,
            "款项保持原状，不会自动变动。",
            "The money stays where it is; nothing is moved without a decision.",
        ),
    }
}

/// What a human should do.
#[must_use]
pub const fn advice(language: Language, cause: Cause) -> &'static str {
    match cause {
        Cause::ProviderDown => say(
            language,
            "查看渠道公告和本机到渠道的网络；无需手工切换。若没有其他渠道可用，请告知门店。",
            "Look at the provider's announcements and at your network to it. Nothing has to be \
            switched by hand. If no other provider serves this way to pay, tell the shops.",
        ),
        Cause::ProviderFailing => say(
            language,
            "查看渠道公告；留意是否继续恶化。",
            "Look at the provider's announcements, and keep an eye on it.",
        ),
        Cause::RouteDown => say(
            language,
            "同一渠道的其他账户正常：检查该账户的证书、额度和权限。",
            "Other accounts there work: check this one's certificate, limits and permissions.",
        ),
        Cause::AccountRefused => say(
            language,
            "登录渠道商户平台检查该账户的状态、权限和证书；处理后会自动恢复。",
            "Look at the account's state, permissions and certificate in the provider's console. \
            It is tried again by itself.",
        ),
        Cause::OutcomesInDoubt => say(
            language,
            "若渠道恢复后仍未查清，在渠道后台按订单号核对；不要手工重复收款。",
            "If they stay unknown after the provider is back, look the orders up in its console. \
            Do not collect twice by hand.",
        ),
        Cause::PaymentsParked => say(
            language,
            "查看哪些渠道不可用，必要时为商户增加其他渠道的账户。",
            "See which providers are out; where a merchant has one provider only, add an account \
            at another one.",
        ),
        Cause::WebhooksLate => say(
            language,
            "查看 `GET /v1/deliveries`：多半是某个接收方失败；若全部变慢，检查本机出口网络。",
            "Look at `GET /v1/deliveries`: mostly one receiver fails. If all are slow, check your \
            own way out.",
        ),
        Cause::RedisAway => say(
            language,
            "检查 Redis 进程、网络、密码和主从状态。",
            "Check the Redis process, the network, its password and who is its primary.",
        ),
        Cause::WorkListWaiting => say(
            language,
            "查看待办事项并作出处理。",
            "Look through the work list and decide.",
        ),
    }
}

/// What happened, in the timeline.
#[must_use]
pub const fn entry(language: Language, entry: Entry) -> &'static str {
    match entry {
        Entry::Opened => say(language, "发现故障", "noticed"),
        Entry::Worse => say(language, "恶化：完全不可用", "worse: out of order"),
        Entry::TrippedAgain => say(language, "恢复中再次失败", "failed again while coming back"),
        Entry::Answering => say(language, "探测有应答", "probes are answered"),
        Entry::Trial => say(language, "逐笔试行", "on trial, one payment at a time"),
        Entry::Ramping => say(language, "逐步放量", "takes a growing share"),
        Entry::Back => say(
            language,
            "恢复全部流量，观察中",
            "takes all payments again, watched",
        ),
        Entry::Closed => say(language, "结束", "over"),
    }
}

/// How bad it is.
#[must_use]
pub const fn severity(language: Language, severity: Severity) -> &'static str {
    match severity {
        Severity::Notice => say(language, "提醒", "notice"),
        Severity::Page => say(language, "紧急", "urgent"),
    }
}

/// A time of this century as people in China read it: `2026-01-31 08:00:05`, Beijing time.
#[must_use]
pub fn time(at: Timestamp) -> String {
    let text = at.rfc3339();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// How long something lasted: `2 h 5 min`, `3 min 20 s`, `45 s`.
#[must_use]
pub fn duration(language: Language, ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (days, hours, minutes, rest) = (
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    );

    match (language, days, hours, minutes) {
        (Language::Zh, 0, 0, 0) => format!("{rest} 秒"),
        (Language::Zh, 0, 0, _) => format!("{minutes} 分 {rest} 秒"),
        (Language::Zh, 0, _, _) => format!("{hours} 小时 {minutes} 分"),
        (Language::Zh, _, _, _) => format!("{days} 天 {hours} 小时"),
        (Language::En, 0, 0, 0) => format!("{rest} s"),
        (Language::En, 0, 0, _) => format!("{minutes} min {rest} s"),
        (Language::En, 0, _, _) => format!("{hours} h {minutes} min"),
        (Language::En, _, _, _) => format!("{days} d {hours} h"),
    }
}

/// Fen as yuan: `123.45`.
#[must_use]
pub fn yuan(fen: i64) -> String {
    let sign = if fen < 0 { "-" } else { "" };
    let fen = fen.unsigned_abs();
    format!("{sign}{}.{:02}", fen / 100, fen % 100)
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator as _;

    use super::*;

    #[test]
    fn every_cause_and_every_entry_has_words_in_both_languages() {
        let chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        for c in Cause::iter() {
            for text in [
                cause(Language::Zh, c),
                does(Language::Zh, c),
                advice(Language::Zh, c),
            ] {
                assert!(chinese(text), "{c}: {text}");
            }
            for text in [
                cause(Language::En, c),
                does(Language::En, c),
                advice(Language::En, c),
            ] {
                assert!(!chinese(text) && !text.is_empty(), "{c}: {text}");
            }
        }

        assert!(
            Entry::iter()
                .all(|e| chinese(entry(Language::Zh, e)) && !chinese(entry(Language::En, e)))
        );

        for protocol in providers::PROTOCOLS {
            assert_ne!(
                provider(Language::En, protocol.name),
                protocol.name.as_str(),
                "shoppers know it by a name"
            );
        }
    }

    #[test]
    fn times_durations_and_amounts_are_as_people_write_them() {
        assert_eq!(time(Timestamp(1_767_196_800_000)), "2026-01-01 00:00:00");
        for (ms, zh, en) in [
            (-5, "0 秒", "0 s"),
            (45_900, "45 秒", "45 s"),
            (200_000, "3 分 20 秒", "3 min 20 s"),
            (7_500_000, "2 小时 5 分", "2 h 5 min"),
            (180_000_000, "2 天 2 小时", "2 d 2 h"),
        ] {
            assert_eq!(
                (duration(Language::Zh, ms), duration(Language::En, ms)),
                (zh.to_owned(), en.to_owned())
            );
        }

        assert_eq!(
            [yuan(0), yuan(5), yuan(8_888), yuan(-105)],
            ["0.00", "0.05", "88.88", "-1.05"]
        );
    }
}

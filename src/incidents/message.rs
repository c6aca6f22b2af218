//! What a receiver of alerts is told of one change of an incident: what happened, since when, what
//! Interlock does, what a human should do; at the end, how long it lasted and what came of it.
//! Knows no chat.

use crate::config::Language;
use crate::domain::Timestamp;
use crate::domain::incident::{Change, Severity};
use crate::incidents::messages::{self, say};
use crate::store::{Figures, IncidentRow};

/// How a message looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Somebody is to be woken.
    Page,
    /// Worth knowing.
    Notice,
    /// It is over.
    Over,
}

/// A message, for any chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub title: String,
    /// How it looks.
    pub tone: Tone,
    /// Label and text, in order.
    pub lines: Vec<(&'static str, String)>,
}

impl Message {
    /// What is to be said at `now`. `change` is what the receiver is told of; the figures are as
    /// they are now.
    #[must_use]
    pub fn of(
        language: Language,
        incident: &IncidentRow,
        change: Change,
        figures: &Figures,
        now: Timestamp,
    ) -> Self {
        let subject = messages::subject(language, &incident.subject);
        let cause = messages::cause(language, incident.cause);
        let tone = match (change, incident.severity) {
            (Change::Closed, Severity::Page | Severity::Notice) => Tone::Over,
            (Change::Opened | Change::Worse | Change::Reminder(_), Severity::Page) => Tone::Page,
            (Change::Opened | Change::Worse | Change::Reminder(_), Severity::Notice) => {
                Tone::Notice
            }
        };

        let mark = match (change, tone) {
            (Change::Closed, _) => say(language, "已恢复", "over"),
            (Change::Reminder(_), _) => say(language, "仍未恢复", "still"),
            (Change::Worse, _) => say(language, "恶化", "worse"),
            (Change::Opened, Tone::Page) => messages::severity(language, Severity::Page),
            (Change::Opened, Tone::Notice | Tone::Over) => {
                messages::severity(language, Severity::Notice)
            }
        };

        let title = match language {
            Language::Zh => format!("【{mark}】{subject}：{cause}"),
            Language::En => format!("[{mark}] {subject}: {cause}"),
        };
        let lines = match change {
            Change::Closed => ended(language, incident, figures),
            Change::Opened | Change::Worse | Change::Reminder(_) => {
                lasting(language, incident, figures, now)
            }
        };

        Self { title, tone, lines }
    }
}

fn lasting(
    language: Language,
    incident: &IncidentRow,
    figures: &Figures,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let since = format!(
        "{} ({})",
        messages::time(incident.began_at),
        messages::duration(language, now.since(incident.began_at))
    );
    let mut lines = vec![(say(language, "开始时间", "Since"), since)];
    if let Some(seen) = seen(language, incident) {
        lines.push((say(language, "观察到", "Seen"), seen));
    }
    if let Some(met) = met(language, figures) {
        lines.push((say(language, "到目前为止", "So far"), met));
    }

    lines.push((
        say(language, "Interlock 已自动处理", "What Interlock does"),
        messages::does(language, incident.cause).to_owned(),
    ));
    lines.push((
        say(language, "需要人工", "What to do"),
        messages::advice(language, incident.cause).to_owned(),
    ));

    lines.push((
        say(language, "详情", "More"),
        format!("interlock incident {}", incident.id),
    ));

    lines
}

fn ended(
    language: Language,
    incident: &IncidentRow,
    figures: &Figures,
) -> Vec<(&'static str, String)> {
    let end = incident.closed_at.unwrap_or(incident.began_at);
    let lasted = format!(
        "{} ({} – {})",
        messages::duration(language, end.since(incident.began_at)),
        messages::time(incident.began_at),
        messages::time(end)
    );

    let met = met(language, figures)
        .unwrap_or_else(|| say(language, "没有支付受影响", "no payment met it").to_owned());
    vec![
        (say(language, "持续", "Lasted"), lasted),
        (say(language, "影响", "What came of it"), met),
        (
            say(language, "详情", "More"),
            format!("interlock incident {}", incident.id),
        ),
    ]
}

/// What was seen when it opened.
fn seen(language: Language, incident: &IncidentRow) -> Option<String> {
    let number = |name: &str| {
        incident
            .detail
            .get(name)
            .and_then(serde_json::Value::as_i64)
    };
    let mut parts = Vec::new();

    if let Some(count) = number("count") {
        parts.push(match language {
            Language::Zh => format!("{count} 笔"),
            Language::En => format!("{count} of them"),
        });
    }

    if let (Some(oldest), Some(limit)) = (number("oldest_s"), number("limit_s")) {
        let (oldest, limit) = (
            messages::duration(language, oldest * 1_000),
            messages::duration(language, limit * 1_000),
        );
        parts.push(match language {
            Language::Zh => format!("最早的已等 {oldest}（界限 {limit}）"),
            Language::En => format!("the oldest for {oldest} (limit {limit})"),
        });
    }

    if let (Some(failing), Some(usual)) = (number("failing_permille"), number("usual_permille")) {
        let (failing, usual) = (tenths(failing), tenths(usual));
        parts.push(match language {
            Language::Zh => format!("失败率约 {failing}%（平时 {usual}%）"),
            Language::En => format!("about {failing}% fail (usually {usual}%)"),
        });
    }

    (!parts.is_empty()).then(|| parts.join(say(language, "，", ", ")))
}

/// A number in a thousand as one in a hundred: `12.5`.
fn tenths(permille: i64) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}

/// What it has meant for payments; `None` when none has met it.
fn met(language: Language, figures: &Figures) -> Option<String> {
    if figures.affected == 0 && figures.in_doubt == 0 {
        return None;
    }
    let mut parts = Vec::new();

    for (count, zh, en) in [
        (figures.affected, "受影响支付", "payments affected"),
        (figures.switched, "已切换", "switched"),
        (figures.parked, "曾排队", "waited"),
        (figures.recovered, "最终成功", "succeeded after all"),
        (figures.failed, "失败", "failed"),
        (figures.expired, "过期或取消", "expired or canceled"),
    ] {
        if count > 0 {
            parts.push(match language {
                Language::Zh => format!("{zh} {count} 笔"),
                Language::En => format!("{en}: {count}"),
            });
        }
    }

    let amount = messages::yuan(figures.in_doubt_fen);
    parts.push(match (language, figures.in_doubt) {
        (Language::Zh, 0) => "没有结果未知的款项".to_owned(),
        (Language::Zh, count) => format!("结果未知 {count} 笔，共 {amount} 元"),
        (Language::En, 0) => "no money in doubt".to_owned(),
        (Language::En, count) => format!("in doubt: {count}, CNY {amount}"),
    });

    Some(parts.join(say(language, "，", ", ")))
}

#[cfg(test)]
pub(super) mod tests {
    use providers::order::Flow;

    use super::*;
    use crate::domain::incident::{Cause, Phase, Subject};

    pub(crate) fn incident() -> IncidentRow {
        let began_at = Timestamp(1_767_196_800_000);

        IncidentRow {
            id: "inc_1".to_owned(),
            subject: Subject::Provider("alipay".parse().unwrap(), Flow::Qr),
            cause: Cause::ProviderDown,
            severity: Severity::Page,
            first_severity: Severity::Page,
            phase: Phase::Out,
            detail: serde_json::json!({"failing_permille": 995, "usual_permille": 4}),
            beats: 0,
            version: 1,
            reminders: 0,
            reminded_at: began_at,
            began_at,
            opened_at: began_at.plus_s(3),
            raised_at: None,
            closed_at: None,
        }
    }

    #[test]
    fn a_message_says_what_happened_since_when_what_is_done_and_what_to_do() {
        let figures = Figures {
            affected: 5,
            switched: 4,
            in_doubt: 1,
            in_doubt_fen: 8_888,
            ..Figures::default()
        };
        let now = incident().began_at.plus_s(65);
        let english = Message::of(Language::En, &incident(), Change::Opened, &figures, now);

        assert_eq!(
            (english.title.as_str(), english.tone),
            ("[urgent] Alipay · Scan a QR code: out of order", Tone::Page)
        );

        let text = format!("{:?}", english.lines);
        for part in [
            "2026-01-01 00:00:00 (1 min 5 s)",
            "about 99.5% fail (usually 0.4%)",
            "payments affected: 5, switched: 4, in doubt: 1, CNY 88.88",
            "Its breaker is open",
            "announcements",
            "interlock incident inc_1",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }

        let chinese = Message::of(
            Language::Zh,
            &incident(),
            Change::Reminder(1),
            &Figures::default(),
            now,
        );

        assert_eq!(chinese.title, "【仍未恢复】支付宝 · 扫码支付：不可用");
        assert!(
            !format!("{:?}", chinese.lines).contains("受影响"),
            "nobody has met it"
        );
    }

    #[test]
    fn a_closing_message_says_how_long_it_lasted_and_what_came_of_it() {
        let closed = IncidentRow {
            closed_at: Some(incident().began_at.plus_s(200)),
            ..incident()
        };
        let figures = Figures {
            affected: 7,
            switched: 6,
            recovered: 5,
            failed: 1,
            ..Figures::default()
        };

        let over = Message::of(
            Language::Zh,
            &closed,
            Change::Closed,
            &figures,
            closed.began_at.plus_s(900),
        );

        assert_eq!(
            (over.title.as_str(), over.tone),
            ("【已恢复】支付宝 · 扫码支付：不可用", Tone::Over)
        );

        let text = format!("{:?}", over.lines);
        assert!(text.contains("3 分 20 秒"), "{text}");
        assert!(
            text.contains(
                "受影响支付 7 笔，已切换 6 笔，最终成功 5 笔，失败 1 笔，没有结果未知的款项"
            ),
            "{text}"
        );
    }
}

//! An incident as text for operators: `interlock incident`. Reads; changes nothing.

use crate::config::Language;
use crate::domain::Timestamp;
use crate::incidents::messages;
use crate::store::{EntryRow, Figures, IncidentRow};

/// One line for each incident, newest first.
#[must_use]
pub fn list(incidents: &[IncidentRow], now: Timestamp) -> String {
    if incidents.is_empty() {
        return "There was no incident.\n".to_owned();
    }
    incidents
        .iter()
        .map(|incident| format!("{}  {}\n", incident.id, line(incident, now)))
        .collect()
}

fn line(incident: &IncidentRow, now: Timestamp) -> String {
    let (state, end) = match incident.closed_at {
        Some(end) => ("over", end),
        None => ("open", now),
    };
    format!(
        "{state}  {}  {:>12}  {}: {}",
        messages::time(incident.began_at),
        messages::duration(Language::En, end.since(incident.began_at)),
        messages::subject(Language::En, &incident.subject),
        messages::cause(Language::En, incident.cause)
    )
}

/// Everything about one incident.
#[must_use]
pub fn whole(
    incident: &IncidentRow,
    timeline: &[EntryRow],
    figures: &Figures,
    now: Timestamp,
) -> String {
    let mut lines = vec![
        format!("{}  {}", incident.id, line(incident, now)),
        format!("  {}", messages::does(Language::En, incident.cause)),
        String::new(),
        "Timeline (Beijing time)".to_owned(),
        format!(
            "  {}  began, as far as is known",
            messages::time(incident.began_at)
        ),
    ];

    let entry = |entry: &EntryRow| {
        format!(
            "  {}  {}",
            messages::time(entry.at),
            messages::entry(Language::En, entry.kind)
        )
    };

    lines.extend(timeline.iter().map(entry));
    lines.extend([
        String::new(),
        "Payments, by their own rows as they are now".to_owned(),
    ]);
    for (count, what) in [
        (
            figures.affected,
            "affected: an attempt failed there, or they had to wait",
        ),
        (figures.failed_attempts, "attempts that failed there"),
        (figures.switched, "switched to another route"),
        (figures.parked, "waited for a route"),
        (figures.recovered, "succeeded after all"),
        (figures.failed, "failed"),
        (figures.expired, "expired or canceled"),
    ] {
        lines.push(format!("  {count:>8}  {what}"));
    }

    let amount = messages::yuan(figures.in_doubt_fen);
    lines.push(format!(
        "  {:>8}  attempts in doubt still, CNY {amount}",
        figures.in_doubt
    ));
    if incident.closed_at.is_none() {
        lines.extend([
            String::new(),
            format!(
                "What to do: {}",
                messages::advice(Language::En, incident.cause)
            ),
        ]);
    }

    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::incident::Entry;
    use crate::incidents::message::tests::incident;

    #[test]
    fn a_report_shows_the_timeline_the_payments_and_the_money_in_doubt() {
        let began = incident().began_at;
        let timeline = [EntryRow {
            kind: Entry::Opened,
            at: began.plus_s(3),
        }];
        let figures = Figures {
            affected: 3,
            switched: 2,
            in_doubt: 1,
            in_doubt_fen: 8_888,
            ..Figures::default()
        };

        let text = whole(&incident(), &timeline, &figures, began.plus_s(60));
        for part in [
            "inc_1  open  2026-01-01 00:00:00     1 min 0 s  Alipay · Scan a QR code: out of order",
            "2026-01-01 00:00:03  noticed",
            "       3  affected",
            "       2  switched",
            "       1  attempts in doubt still, CNY 88.88",
            "What to do: ",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }

        let closed = IncidentRow {
            closed_at: Some(began.plus_s(90)),
            ..incident()
        };
        assert!(
            list(&[closed], began.plus_s(900)).contains("over  2026-01-01 00:00:00    1 min 30 s")
        );

        assert_eq!(list(&[], began), "There was no incident.\n");
    }
}

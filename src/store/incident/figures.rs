//! What an incident meant for payments, read from their own rows: nothing is counted on the way, so
//! nothing can be counted wrong, and the figures go on becoming true after the incident is over.

use sea_orm::{FromQueryResult, Statement, Value};

use crate::domain::incident::Subject;
use crate::domain::{Timestamp, Whose};
use crate::store::Error;
use crate::store::Store;
use crate::store::incident::incidents::IncidentRow;
use crate::store::payment::backlog::{CHARGED, IN_DOUBT};

/// Attempts that failed for technical reasons, written as in the index `attempts_failed`, order and
/// all.
const FAILED: &str = "outcome IN ('not_sent', 'refused_provider', 'refused_account', 'unknown')";
/// Attempts that led somewhere.
const LED: &str = "outcome IN ('accepted', 'captured', 'waiting')";
/// Trouble is noticed by what has failed before: so much earlier belongs to it.
const LEAD_MS: i64 = 60_000;

/// What an incident meant for payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Attempts that failed there for technical reasons.
    pub failed_attempts: i64,
    /// Payments that met it: one of their attempts failed, or they had to wait.
    pub affected: i64,
    /// Of those: another route took them.
    pub switched: i64,
    /// They waited for a route, or still do.
    pub parked: i64,
    /// They have succeeded after all.
    pub recovered: i64,
    /// They have failed.
    pub failed: i64,
    /// They have expired, or were canceled.
    pub expired: i64,
    /// Attempts there of which nobody knows yet whether they took money.
    pub in_doubt: i64,
    /// Their amounts, in fen.
    pub in_doubt_fen: i64,
}

#[derive(Debug, FromQueryResult)]
struct Payments {
    affected: i64,
    switched: i64,
    parked: i64,
    recovered: i64,
    failed: i64,
    expired: i64,
}

#[derive(Debug, FromQueryResult)]
struct Attempts {
    failed_attempts: i64,
    in_doubt: i64,
    in_doubt_fen: i64,
}

/// A statement that is being written: parameters are numbered in the order in which they come.
#[derive(Debug, Default)]
struct Sql {
    values: Vec<Value>,
}

impl Sql {
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// Attempts `a` over what the incident is about; `None` when it is about no route.
    fn there(&mut self, subject: &Subject) -> Option<String> {
        let provider = format!("a.provider = {}", self.bind(subject.provider()?.as_str()));
        let flow = subject
            .flow()
            .map(|flow| format!(" AND a.flow = {}", self.bind(flow.to_string())));
        let account = subject
            .account()
            .map(|id| format!(" AND a.account_id = {}", self.bind(id)));
        Some(format!(
            "{provider}{}{}",
            flow.unwrap_or_default(),
            account.unwrap_or_default()
        ))
    }

    /// A filter for payments `p` of these owners.
    fn owned(&mut self, whose: Whose<'_>) -> String {
        match whose {
            Whose::One(owner) => {
                let (merchant, livemode) = (self.bind(&owner.merchant), self.bind(owner.is_live()));
                format!(" AND p.merchant_id = {merchant} AND p.livemode = {livemode}")
            }
            Whose::AllIn(mode) => format!(" AND p.livemode = {}", self.bind(mode.is_live())),
        }
    }

    /// The ids of payments that had to wait for a route, which this one would have been.
    fn waited(&mut self, subject: &Subject, from: Timestamp, to: Timestamp) -> Option<String> {
        let could = match subject {
            Subject::Parked => String::new(),
            Subject::Provider(provider, flow) => format!(
                " AND p.flow = {} AND (p.providers = '' OR ' ' || p.providers || ' ' LIKE {})",
                self.bind(flow.to_string()),
                self.bind(format!("% {provider} %")),
            ),
            Subject::Route(..)
            | Subject::Account(..)
            | Subject::InDoubt(_)
            | Subject::Webhooks
            | Subject::Redis
            | Subject::WorkList => return None,
        };
        let (from, to) = (self.bind(from.0), self.bind(to.0));

        Some(format!(
            "SELECT p.id AS id FROM payments p WHERE p.round > 0 AND p.created_at BETWEEN {from} \
            AND {to}{could} UNION SELECT p.id AS id FROM payments p WHERE p.parked_at IS NOT NULL \
            AND p.parked_at BETWEEN {from} AND {to}{could}"
        ))
    }
}

impl Store {
    /// What an incident has meant for payments so far: for everybody's in a mode, or for one
    /// owner's. An offer is in doubt when its deadline was before `overdue`.
    ///
    /// # Errors
    /// The database's.
    pub async fn figures(
        &self,
        incident: &IncidentRow,
        whose: Whose<'_>,
        now: Timestamp,
        overdue: Timestamp,
    ) -> Result<Figures, Error> {
        let from = incident.began_at.plus_ms(-LEAD_MS);
        let to = incident.closed_at.unwrap_or(now).max(from);
        let payments = self.payments_met(incident, whose, from, to).await?;
        let attempts = self
            .attempts_met(incident, whose, from, to, overdue)
            .await?;

        Ok(Figures {
            failed_attempts: attempts.as_ref().map_or(0, |a| a.failed_attempts),
            affected: payments.as_ref().map_or(0, |p| p.affected),
            switched: payments.as_ref().map_or(0, |p| p.switched),
            parked: payments.as_ref().map_or(0, |p| p.parked),
            recovered: payments.as_ref().map_or(0, |p| p.recovered),
            failed: payments.as_ref().map_or(0, |p| p.failed),
            expired: payments.as_ref().map_or(0, |p| p.expired),
            in_doubt: attempts.as_ref().map_or(0, |a| a.in_doubt),
            in_doubt_fen: attempts.as_ref().map_or(0, |a| a.in_doubt_fen),
        })
    }

    async fn payments_met(
        &self,
        incident: &IncidentRow,
        whose: Whose<'_>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Option<Payments>, Error> {
        let mut sql = Sql::default();
        let there = sql.there(&incident.subject);
        let met = there.as_ref().map(|there| {
            format!(
                "SELECT a.payment_id AS id FROM attempts a WHERE {there} AND a.{FAILED} \
                 AND a.started_at BETWEEN {} AND {}",
                sql.bind(from.0),
                sql.bind(to.0)
            )
        });

        let waited = sql.waited(&incident.subject, from, to);
        let met: Vec<String> = met.into_iter().chain(waited).collect();
        if met.is_empty() {
            return Ok(None);
        }
        let elsewhere = there.map_or_else(String::new, |there| format!(" AND NOT ({there})"));
        let owned = sql.owned(whose);
        let text = format!(
            "WITH met AS ({}) SELECT COUNT(*) AS affected, COUNT(CASE WHEN EXISTS (SELECT 1 FROM \
            attempts a WHERE a.payment_id = p.id AND a.{LED}{elsewhere}) THEN 1 END) AS switched, \
            COUNT(CASE WHEN p.parked_at IS NOT NULL OR p.round > 0 THEN 1 END) AS parked, \
            COUNT(CASE WHEN p.status = 'succeeded' THEN 1 END) AS recovered, COUNT(CASE WHEN \
            p.status = 'failed' THEN 1 END) AS failed, COUNT(CASE WHEN p.status IN ('expired', \
            'canceled') THEN 1 END) AS expired FROM payments p WHERE p.id IN (SELECT id FROM \
            met){owned}",
            met.join(" UNION ")
        );

        self.one::<Payments>(text, sql).await
    }

    async fn attempts_met(
        &self,
        incident: &IncidentRow,
        whose: Whose<'_>,
        from: Timestamp,
        to: Timestamp,
        overdue: Timestamp,
    ) -> Result<Option<Attempts>, Error> {
        let mut sql = Sql::default();
        let there = match incident.subject {
            // What waits was in no attempt, but its older attempts may be in doubt.
            Subject::Parked | Subject::Webhooks | Subject::Redis | Subject::WorkList => {
                return Ok(None);
            }
            Subject::Provider(..)
            | Subject::Route(..)
            | Subject::Account(..)
            | Subject::InDoubt(_) => sql.there(&incident.subject),
        };

        let Some(there) = there else { return Ok(None) };
        let (from, to) = (sql.bind(from.0), sql.bind(to.0));
        let doubt = format!(
            "a.{IN_DOUBT} AND (a.{CHARGED} OR a.offer_deadline < {})",
            sql.bind(overdue.0)
        );
        let owned = sql.owned(whose);
        let text = format!(
            "SELECT COUNT(*) AS failed_attempts, COUNT(CASE WHEN {doubt} THEN 1 END) AS in_doubt, \
             CAST(COALESCE(SUM(CASE WHEN {doubt} THEN a.amount END), 0) AS BIGINT) AS in_doubt_fen \
             FROM attempts a JOIN payments p ON p.id = a.payment_id \
             WHERE {there} AND a.{FAILED} AND a.started_at BETWEEN {from} AND {to}{owned}"
        );

        self.one::<Attempts>(text, sql).await
    }

    async fn one<T: FromQueryResult>(&self, text: String, sql: Sql) -> Result<Option<T>, Error> {
        let statement = Statement::from_sql_and_values(self.db.backend(), text, sql.values);
        Ok(T::find_by_statement(statement).one(&self.db).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strum::IntoEnumIterator as _;

    use super::{FAILED, LED};
    use crate::domain::attempt::CallOutcome as C;

    /// What stands in an index cannot be made from the enum: the two are compared.
    #[test]
    fn every_outcome_that_sql_names_is_one_and_each_is_where_it_belongs() {
        let named = |sql: &str| -> BTreeSet<String> {
            sql.split('\'')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect()
        };
        let of = |wanted: &dyn Fn(C) -> bool| -> BTreeSet<String> {
            C::iter()
                .filter(|c| wanted(*c))
                .map(|c| c.to_string())
                .collect()
        };

        let led = of(&|c| matches!(c, C::Accepted | C::Captured | C::Waiting));
        let failed = of(&|c| {
            matches!(
                c,
                C::NotSent | C::RefusedProvider | C::RefusedAccount | C::Unknown
            )
        });
        assert_eq!((named(LED), named(FAILED)), (led, failed));
    }
}

//! `/v1/incidents`: outages that concern you, with what they meant for your own payments.

use actix_web::{HttpRequest, HttpResponse, web};
use providers::order::Flow;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{Caller, Scope};
use super::error::Problem;
use super::list::{List, ListQuery, Page};
use super::request::Id;
use crate::app::App;
use crate::domain::incident::{Cause, Entry, Phase, Severity, Subject};
use crate::domain::{Timestamp, Whose};
use crate::payments::transition::schedule;
use crate::store::{EntryRow, Figures, IncidentFilter, IncidentRow};

/// Where an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = IncidentStatus)]
pub enum Status {
    /// It lasts.
    Open,
    /// It is over.
    Closed,
}

/// An outage.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Incident)]
pub struct IncidentView {
    /// `inc_…`
    id: String,
    /// Always `incident`.
    object: &'static str,
    /// Where it stands.
    status: Status,
    /// What is wrong.
    cause: Cause,
    /// Whether somebody was to be woken.
    severity: Severity,
    /// Where it stands; `ongoing` where there is no breaker that would say more.
    phase: Phase,
    /// The provider that it is about.
    provider: Option<&'static str>,
    /// The flow, if it is about one flow alone.
    #[schema(value_type = Option<String>)]
    flow: Option<Flow>,
    /// `acct_…`, if it is about one account alone.
    account: Option<String>,
    /// When the trouble began, as far as is known.
    #[schema(value_type = String, format = DateTime)]
    began_at: Timestamp,
    /// When it was noticed.
    #[schema(value_type = String, format = DateTime)]
    opened_at: Timestamp,
    /// When it was over; null: it lasts.
    #[schema(value_type = Option<String>, format = DateTime)]
    closed_at: Option<Timestamp>,
    /// What happened, in order. Only of one incident, not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeline: Option<Vec<EntryView>>,
    /// What it has meant for your payments, by their own rows as they are now. Only of one
    /// incident, not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    payments: Option<FiguresView>,
}

/// Something that happened in an incident.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IncidentEntry)]
pub struct EntryView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What.
    kind: Entry,
}

/// What an incident has meant for your payments.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IncidentPayments)]
pub struct FiguresView {
    /// Payments that met it: one of their attempts failed there, or they had to wait.
    affected: i64,
    /// Of those: another route took them.
    switched: i64,
    /// They waited for a route, or still do.
    parked: i64,
    /// They have succeeded after all.
    recovered: i64,
    /// They have failed.
    failed: i64,
    /// They have expired, or were canceled.
    expired: i64,
    /// Attempts that failed there for technical reasons.
    failed_attempts: i64,
    /// Attempts there of which nobody knows yet whether they took money.
    in_doubt: i64,
    /// Their amounts, in fen.
    in_doubt_amount: i64,
    /// `CNY`
    currency: &'static str,
}

impl From<Figures> for FiguresView {
    fn from(f: Figures) -> Self {
        Self {
            affected: f.affected,
            switched: f.switched,
            parked: f.parked,
            recovered: f.recovered,
            failed: f.failed,
            expired: f.expired,
            failed_attempts: f.failed_attempts,
            in_doubt: f.in_doubt,
            in_doubt_amount: f.in_doubt_fen,
            currency: "CNY",
        }
    }
}

fn shown(incident: IncidentRow, whole: Option<(Vec<EntryRow>, Figures)>) -> IncidentView {
    let (timeline, payments) = whole.unzip();

    IncidentView {
        object: "incident",
        status: if incident.closed_at.is_some() {
            Status::Closed
        } else {
            Status::Open
        },
        cause: incident.cause,
        severity: incident.severity,
        phase: incident.phase,
        provider: incident
            .subject
            .provider()
            .map(|provider| provider.as_str()),
        flow: incident.subject.flow(),
        account: incident.subject.account().map(String::from),
        began_at: incident.began_at,
        opened_at: incident.opened_at,
        closed_at: incident.closed_at,
        timeline: timeline.map(|entries| {
            entries
                .iter()
                .map(|e| EntryView {
                    at: e.at,
                    kind: e.kind,
                })
                .collect()
        }),
        payments: payments.map(FiguresView::from),
        id: incident.id,
    }
}

/// What concerns an owner: its accounts, and the providers and flows that they serve. An incident
/// is not an owner's: it is the installation's, and of the mode that the installation speaks of.
/// Where there are live accounts incidents are about those, whatever the words of an older one, and
/// none of them is a test key's business.
fn subjects(app: &App, caller: &Caller) -> Vec<String> {
    if caller.owner.mode != app.directory.spoken_mode() {
        return Vec::new();
    }
    let mut subjects = Vec::new();

    for account in app.directory.accounts_of(&caller.owner).iter() {
        let provider = account.provider.name();
        subjects.push(Subject::InDoubt(provider));
        subjects.push(Subject::Account(provider, account.id.clone()));
        for capability in account.provider.capabilities().flows {
            subjects.push(Subject::Provider(provider, capability.flow));
            subjects.push(Subject::Route(
                provider,
                capability.flow,
                account.id.clone(),
            ));
        }
    }

    subjects.sort();
    subjects.dedup();
    subjects.iter().map(Subject::to_string).collect()
}

/// Incidents that concern you, newest first: of your accounts, and of the providers and flows that
/// they serve.
#[utoipa::path(get, path = "/v1/incidents", tag = "Incidents", operation_id = "list_incidents",
    params(Page,
        ("status" = Option<Status>, Query, description = "Only incidents that stand there")),
    responses((status = 200, body = List<IncidentView>)))]
pub async fn list(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Finance])?;
    let query = ListQuery::read(&request, &["status", "limit", "starting_after"])?;
    let status = query
        .status
        .as_deref()
        .map(str::parse::<Status>)
        .transpose();

    let status =
        status.map_err(|_| Problem::invalid("status", "An incident is open or closed."))?;
    let subjects = subjects(&app, &caller);

    if let Some(after) = &query.starting_after {
        let known = app
            .store
            .incident(after)
            .await?
            .filter(|i| subjects.contains(&i.subject.to_string()));
        known.ok_or_else(|| Problem::invalid("starting_after", "There is no such incident."))?;
    }

    let limit = query.limit()?;
    let open = status.map(|status| status == Status::Open);
    let filter = IncidentFilter {
        open,
        starting_after: query.starting_after,
        limit: limit + 1,
    };

    let found = app.store.incidents(Some(&subjects), &filter).await?;
    Ok(HttpResponse::Ok().json(List::page(
        found.into_iter().map(|i| shown(i, None)).collect(),
        limit,
    )))
}

/// One incident: its timeline, and what it has meant for your payments, by their own rows as they
/// are now.
#[utoipa::path(get, path = "/v1/incidents/{id}", tag = "Incidents", operation_id = "get_incident",
    params(("id" = String, Path)),
    responses((status = 200, body = IncidentView)))]
pub async fn read(app: web::Data<App>, caller: Caller, id: Id) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Finance])?;
    let found = app.store.incident(&id).await?;
    let incident = found
        .filter(|incident| subjects(&app, &caller).contains(&incident.subject.to_string()))
        .ok_or_else(|| Problem::not_found("incident"))?;
    let now = app.clock.now();
    let overdue = now.plus_s(-schedule::OFFER_MARGIN_S);
    let figures = app
        .store
        .figures(&incident, Whose::One(&caller.owner), now, overdue)
        .await?;
    let timeline = app.store.timeline(&incident.id).await?;
    Ok(HttpResponse::Ok().json(shown(incident, Some((timeline, figures)))))
}

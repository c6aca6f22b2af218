//! `/v1/operations`: what needs a person, what is known about it, what can be done, and doing it
//! with two persons.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use providers::money::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Caller, Scope};
use super::body::RawBody;
use super::error::Problem;
use super::fields::seen;
use super::list::{List, ListQuery, Page};
use super::request::Id;
use crate::app::App;
use crate::domain::key::fingerprint;
use crate::domain::operation::{Action, PROPOSAL_S, StepKind, actions};
use crate::domain::{Aggregate, Timestamp};
use crate::payments::view::{self, PaymentView};
use crate::payments::work_list::{self, Decision};
use crate::store::change::DecisionStep;
use crate::store::{OperationFilter, OperationRow};

/// The longest evidence and note.
const MAX_TEXT: usize = 2_000;

/// Where an entry of the work list stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[schema(as = OperationStatus)]
pub enum Status {
    /// It needs a person.
    Open,
    /// It has ended.
    Resolved,
}

/// An entry of the work list.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Operation)]
pub struct OperationView {
    /// `op_…`
    pub id: String,
    /// Always `operation`.
    pub object: &'static str,
    /// Which trouble.
    pub kind: String,
    /// Where it stands.
    pub status: Status,
    /// The payment, attempt, refund, account or other thing that it is about.
    pub subject: String,
    /// What happened, in words.
    pub detail: String,
    /// What ended it: an action, or `by_itself` when its cause has gone.
    pub resolution: Option<String>,
    /// When it was seen.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resolved_at: Option<Timestamp>,
}

/// An entry with all that is known about it, and all that can be done.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = OperationDetails)]
pub struct Details {
    /// The entry.
    #[serde(flatten)]
    pub operation: OperationView,
    /// The payment that it is about, with its attempts and refunds and what their providers last
    /// said.
    pub payment: Option<PaymentView>,
    /// The money that it is about.
    pub money: Option<MoneyView>,
    /// What can be done about this trouble. Empty once it has ended.
    pub actions: Vec<ActionView>,
    /// What waits for a second person.
    pub proposal: Option<ProposalView>,
    /// All that was said, oldest first.
    pub history: Vec<StepView>,
}

/// The money of an attempt.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = OperationMoney)]
pub struct MoneyView {
    /// Which attempt's.
    pub attempt: String,
    /// What was asked for, in fen.
    pub asked: i64,
    /// What was captured, in fen.
    pub captured: Option<i64>,
    /// The provider's number of the transaction, to look it up in its console.
    pub provider_transaction_id: Option<String>,
    /// How often the provider was asked.
    pub questions: i32,
    /// When it is asked next.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_check_at: Option<Timestamp>,
}

/// Something that can be done.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = OperationAction)]
pub struct ActionView {
    /// Its name.
    pub action: Action,
    /// What it does.
    pub effect: &'static str,
    /// Whether it can be done now.
    pub possible: bool,
    /// Why not.
    pub why_not: Option<String>,
}

/// A proposal that waits for its second person.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = OperationProposal)]
pub struct ProposalView {
    /// What is to be done.
    pub action: Action,
    /// The key that proposed it; another one has to confirm.
    pub by: String,
    /// Then it is forgotten.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// What somebody said.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = OperationStep)]
pub struct StepView {
    /// `proposed` or `confirmed`.
    pub kind: StepKind,
    /// What is to be done.
    pub action: Action,
    /// What shows that it is right.
    pub evidence: String,
    /// Anything else.
    pub note: Option<String>,
    /// The key.
    pub by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// What `POST /v1/operations/{id}/resolve` takes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ResolveOperation)]
pub struct Resolve {
    /// One of the entry's actions.
    action: Action,
    /// What shows that it is right: a reference or a description, 1 to 2000 characters.
    evidence: String,
    /// Anything else, 1 to 2000 characters.
    #[serde(default)]
    note: Option<String>,
}

fn shown(row: &OperationRow) -> OperationView {
    OperationView {
        id: row.id.to_string(),
        object: "operation",
        kind: row.kind.clone(),
        status: if row.resolved_at.is_some() {
            Status::Resolved
        } else {
            Status::Open
        },
        subject: row.subject_id.clone(),
        detail: row.detail.clone(),
        resolution: row.resolution.clone(),
        created_at: row.created_at,
        resolved_at: row.resolved_at,
    }
}

fn step(step: &DecisionStep) -> StepView {
    StepView {
        kind: step.kind,
        action: step.action,
        evidence: step.evidence.clone(),
        note: step.note.clone(),
        by: step.key_name.clone(),
        at: step.at,
    }
}

fn money(row: &OperationRow, about: &Aggregate) -> Option<MoneyView> {
    let refund = about.refunds.iter().find(|r| r.id == row.subject_id);
    let attempt = about.attempt_of(&row.subject_id)?;
    Some(MoneyView {
        attempt: attempt.id.to_string(),
        asked: attempt.amount.minor(),
        captured: attempt.captured.map(Money::minor),
        provider_transaction_id: attempt.provider_transaction_id.clone(),
        questions: refund.map_or(attempt.query_count, |r| r.query_count),
        next_check_at: refund.map_or(attempt.next_check_at, |r| r.next_check_at),
    })
}

async fn details(app: &App, row: OperationRow) -> Result<Details, Problem> {
    let about = app.store.payment_of_subject(&row).await?;
    let steps = app.store.operation_steps(&row.id).await?;
    let now = app.clock.now();
    let open = row.resolved_at.is_none();
    let offered = actions(row.review_kind())
        .iter()
        .filter(|_| open)
        .map(|action| {
            let possible = work_list::possible(app, &row, about.as_ref(), *action, now);
            let why_not = possible.as_ref().err().map(ToString::to_string);
            ActionView {
                action: *action,
                effect: action.effect(),
                possible: possible.is_ok(),
                why_not,
            }
        });

    let proposal = work_list::standing(&row, &steps, now).map(|proposal| ProposalView {
        action: proposal.action,
        by: proposal.key_name.clone(),
        expires_at: proposal.at.plus_s(PROPOSAL_S),
    });

    Ok(Details {
        actions: offered.collect(),
        proposal,
        history: steps.iter().map(step).collect(),
        money: about.as_ref().and_then(|about| money(&row, about)),
        payment: about.as_ref().map(view::payment),
        operation: shown(&row),
    })
}

/// The work list, newest first.
#[utoipa::path(get, path = "/v1/operations", tag = "Operations", operation_id = "list_operations",
    params(Page,
        ("kind" = Option<String>, Query, description = "Only entries about this trouble"),
        ("status" = Option<Status>, Query, description = "Only entries that stand there")),
    responses((status = 200, body = List<OperationView>)))]
pub async fn list(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Finance])?;
    let query = ListQuery::read(&request, &["kind", "status", "limit", "starting_after"])?;
    let status = query
        .status
        .as_deref()
        .map(str::parse::<Status>)
        .transpose();

    let status = status.map_err(|_| Problem::invalid("status", "An entry is open or resolved."))?;
    let starting_after = match query.starting_after("entry")? {
        None => None,
        Some(id) => {
            let found = app.store.operation_of(&caller.owner, &id).await?;
            Some(
                found
                    .ok_or_else(|| Problem::invalid("starting_after", "There is no such entry."))?,
            )
        }
    };

    let limit = query.limit()?;
    let resolved = status.map(|status| status == Status::Resolved);
    let filter = OperationFilter {
        kind: query.kind,
        resolved,
        starting_after,
        limit: limit + 1,
    };

    let found = app.store.operations(&caller.owner, &filter).await?;
    Ok(HttpResponse::Ok().json(List::page(found.iter().map(shown).collect(), limit)))
}

/// An entry, with what is known and what each action would do.
#[utoipa::path(get, path = "/v1/operations/{id}", tag = "Operations",
    operation_id = "get_operation", params(("id" = String, Path)),
    responses((status = 200, body = Details)))]
pub async fn read(app: web::Data<App>, caller: Caller, id: Id) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Finance])?;
    let id = id.of("operation")?;
    let row = app.store.operation_of(&caller.owner, &id).await?;
    let row = row.ok_or_else(|| Problem::not_found("operation"))?;
    Ok(HttpResponse::Ok().json(details(&app, row).await?))
}

/// Proposes an action (202), or confirms the one that another key has proposed within the last day,
/// which does it (200).
#[utoipa::path(post, path = "/v1/operations/{id}/resolve", tag = "Operations",
    operation_id = "resolve_operation", request_body = Resolve,
    params(("id" = String, Path)),
    responses(
        (status = 200, body = Details, description = "confirmed, and done"),
        (status = 202, body = Details, description = "proposed; another key has to confirm it"),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "second_person_needed, operation_resolved, action_not_possible"),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "action_not_for_this_kind")))]
pub async fn resolve(
    app: web::Data<App>,
    caller: Caller,
    id: Id,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Finance])?;
    let wanted = body.json::<Resolve>()?;
    written("evidence", &wanted.evidence)?;
    if let Some(note) = &wanted.note {
        written("note", note)?;
    }
    let word = Decision {
        action: wanted.action,
        evidence: wanted.evidence,
        note: wanted.note,
        kin: app
            .store
            .kin(&caller.owner, &caller.root)
            .await?
            .iter()
            .map(|d| fingerprint(d))
            .collect(),
        key_name: caller.key_name,
    };

    // Whoever asked may be gone before it is done: it is done all the same.
    let (said_by, owner, id) = (app.clone().into_inner(), caller.owner, id.of("operation")?);
    let running = app.clone().into_inner();
    let saying =
        running.spawn(async move { work_list::submit(&said_by, &owner, &id, &word).await });
    let row = saying.await.map_err(|_| Problem::unavailable())??;
    let status = if row.resolved_at.is_some() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };

    Ok(HttpResponse::build(status).json(details(&app, row).await?))
}

/// Something that a person wrote: not blank, not too long, and nothing that a terminal would act
/// on.
fn written(param: &str, text: &str) -> Result<(), Problem> {
    let odd = |c: char| c.is_control() && c != '\n';
    if text.trim().is_empty() || text.chars().count() > MAX_TEXT || text.chars().any(odd) {
        let detail = format!(
            "1 to {MAX_TEXT} characters are needed, not all of them blank, no control characters."
        );
        return Err(Problem::invalid(param, detail));
    }
    seen(param, text)
}

//! `/v1/webhook_endpoints` and `/v1/notify_secret`: where merchants are told, and with which
//! secret. An endpoint's secret is shown when it is made and never again.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::admission::Admission;
use super::auth::{Caller, Scope};
use super::body::RawBody;
use super::error::Problem;
use super::fields::{EventType, kinds, receiver, text};
use super::list::List;
use super::request::Id;
use crate::app::App;
use crate::domain::Timestamp;
use crate::domain::id::{self, EventId, Kind};
use crate::domain::webhook::{End, Mode};
use crate::payments;
use crate::store::{EndpointRow, NotifySecretRow, SealedSecrets};
use crate::webhooks::client::SignedRequest;
use crate::webhooks::message::{self, Message};
use crate::webhooks::sign::{Secret, notify_owner};

/// A merchant's endpoints, each of which gets every event it wants.
const MAX_ENDPOINTS: usize = 20;
/// How long an old secret may go on signing.
const MAX_OVERLAP_S: i64 = 7 * 86_400;
/// Why an endpoint is disabled that its merchant has disabled.
const BY_MERCHANT: &str = "by_merchant";

/// An endpoint as merchants see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = WebhookEndpoint)]
pub struct EndpointView {
    /// `we_…`
    pub id: String,
    /// Always `webhook_endpoint`.
    pub object: &'static str,
    /// Where events go.
    pub url: String,
    /// The kinds of events that go there; empty: all.
    #[schema(value_type = Vec<EventType>)]
    pub events: Vec<String>,
    /// What counts as received.
    pub mode: Mode,
    /// For people.
    pub description: String,
    /// `enabled` or `disabled`. A disabled one gets nothing, not even later what happened
    /// meanwhile, unless it is replayed.
    pub status: &'static str,
    /// `by_merchant`, or `gone`: it has answered 410.
    pub disabled_reason: Option<String>,
    /// Since then it has received nothing.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Timestamp>,
    /// Until then webhooks are signed with the secret before this one, too.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub old_secret_until: Option<Timestamp>,
    /// Events about real money?
    pub livemode: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// `whsec_…`: only in the answer that makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// The secret that webhooks to `notify_url`s are signed with.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NotifySecret {
    /// Always `notify_secret`.
    pub object: &'static str,
    /// `whsec_…`
    pub secret: String,
    /// Until then webhooks are signed with the secret before this one, too.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub old_secret_until: Option<Timestamp>,
    /// Of payments with real money?
    pub livemode: bool,
}

/// What `POST /v1/webhook_endpoints` takes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEndpoint {
    /// An https address that is public; at most 2048 characters.
    url: String,
    /// The kinds of events that go there; none: all.
    #[serde(default)]
    #[schema(value_type = Vec<EventType>)]
    events: Vec<String>,
    /// `standard`, or `success_body` for shops that answer with the body `success`.
    #[serde(default)]
    mode: Mode,
    /// For people; at most 128 characters.
    #[serde(default)]
    description: String,
}

/// What `PATCH /v1/webhook_endpoints/{id}` takes; what is absent stays.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeEndpoint {
    /// Where events go.
    #[serde(default)]
    url: Option<String>,
    /// The kinds of events that go there; none: all.
    #[serde(default)]
    #[schema(value_type = Option<Vec<EventType>>)]
    events: Option<Vec<String>>,
    /// What counts as received.
    #[serde(default)]
    mode: Option<Mode>,
    /// For people.
    #[serde(default)]
    description: Option<String>,
    /// `enabled` or `disabled`.
    #[serde(default)]
    status: Option<Switch>,
}

/// Whether an endpoint gets events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WebhookSwitch)]
pub enum Switch {
    /// It does.
    Enabled,
    /// It does not.
    Disabled,
}

/// What rotating a secret takes.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RotateSecret)]
pub struct Rotate {
    /// For how long webhooks are signed with both: 0 to 604800 seconds, 86400 if not given.
    #[serde(default)]
    overlap_s: Option<i64>,
}

/// What came of a test.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookTest {
    /// Always `webhook_test`.
    pub object: &'static str,
    /// Whether the receiver took it.
    pub delivered: bool,
    /// How it ended.
    pub end: End,
    /// HTTP status.
    pub status: Option<u16>,
    /// From the beginning of the try to its end.
    pub latency_ms: i64,
    /// The first KiB of the answer, or what went wrong.
    pub answer: Option<String>,
}

fn shown(row: EndpointRow, now: Timestamp, secret: Option<&Secret>) -> EndpointView {
    EndpointView {
        id: row.id,
        object: "webhook_endpoint",
        url: row.url,
        events: row.events,
        mode: row.mode,
        description: row.description,
        status: if row.disabled_reason.is_some() {
            "disabled"
        } else {
            "enabled"
        },
        disabled_reason: row.disabled_reason,
        failing_since: row.failing_since,
        old_secret_until: row.secrets.old_until.filter(|until| now < *until),
        livemode: row.owner.is_live(),
        created_at: row.created_at,
        secret: secret.map(Secret::shown),
    }
}

fn described(description: &str) -> Result<(), Problem> {
    if description.is_empty() {
        Ok(())
    } else {
        text("description", description, 128)
    }
}

fn overlap(rotate: &Rotate) -> Result<i64, Problem> {
    let overlap_s = rotate.overlap_s.unwrap_or(86_400);
    match (0..=MAX_OVERLAP_S).contains(&overlap_s) {
        true => Ok(overlap_s),
        false => Err(Problem::invalid(
            "overlap_s",
            format!("An overlap is from 0 to {MAX_OVERLAP_S} seconds."),
        )),
    }
}

fn rotated(
    app: &App,
    owner: &str,
    before: &SealedSecrets,
    overlap_s: i64,
) -> Result<(Secret, SealedSecrets), Problem> {
    let secret = Secret::new().map_err(payments::Error::from)?;
    let sealed = SealedSecrets {
        secret: secret
            .sealed(app.directory.vault(), owner)
            .map_err(|_| Problem::unavailable())?,
        old: (overlap_s > 0).then(|| before.secret.clone()),
        old_until: (overlap_s > 0).then(|| app.clock.now().plus_s(overlap_s)),
    };
    Ok((secret, sealed))
}

fn conflict() -> Problem {
    let detail = "Somebody else has changed this at the same time; repeat the request.";
    Problem::new(StatusCode::CONFLICT, "version_conflict", detail).retry_after(1)
}

/// The caller's endpoint; anybody else's is not there.
pub(super) async fn own(app: &App, caller: &Caller, id: &str) -> Result<EndpointRow, Problem> {
    let found = app.store.endpoint_of(&caller.owner, id).await?;
    found.ok_or_else(|| Problem::not_found("webhook endpoint"))
}

/// Your endpoints, newest first.
#[utoipa::path(get, path = "/v1/webhook_endpoints", tag = "Webhooks",
    operation_id = "list_webhook_endpoints", responses((status = 200, body = List<EndpointView>)))]
pub async fn list(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let now = app.clock.now();
    let rows = app.store.endpoints_of(&caller.owner).await?;
    let data: Vec<EndpointView> = rows.into_iter().map(|row| shown(row, now, None)).collect();
    Ok(HttpResponse::Ok().json(List {
        object: "list",
        data,
        has_more: false,
    }))
}

/// A new endpoint: it gets every event from now on. The answer shows its secret, for the only time.
#[utoipa::path(post, path = "/v1/webhook_endpoints", tag = "Webhooks",
    operation_id = "create_webhook_endpoint", request_body = CreateEndpoint,
    responses((status = 201, body = EndpointView),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "too_many_endpoints")))]
pub async fn create(
    app: web::Data<App>,
    caller: Caller,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let wanted = body.json::<CreateEndpoint>()?;
    let url = receiver(&app, "url", &wanted.url)?;
    kinds(&wanted.events)?;
    described(&wanted.description)?;
    let _turn = app.settings_turns.of(&caller.owner.to_string()).await;
    if app.store.endpoints_of(&caller.owner).await?.len() >= MAX_ENDPOINTS {
        let detail = format!("You have {MAX_ENDPOINTS} endpoints already; remove one.");
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "too_many_endpoints",
            detail,
        ));
    }

    let id = id::new(Kind::WebhookEndpoint).map_err(payments::Error::from)?;
    let secret = Secret::new().map_err(payments::Error::from)?;
    let row = EndpointRow {
        secrets: SealedSecrets {
            secret: secret
                .sealed(app.directory.vault(), &id)
                .map_err(|_| Problem::unavailable())?,
            old: None,
            old_until: None,
        },
        id,
        owner: caller.owner.clone(),
        url,
        events: wanted.events,
        mode: wanted.mode,
        description: wanted.description,
        disabled_reason: None,
        failing_since: None,
        version: 1,
        created_at: app.clock.now(),
    };

    app.store.add_endpoint(&row).await?;
    tracing::info!(
        endpoint_id = row.id,
        by = caller.key_name,
        "webhook endpoint made"
    );

    Ok(HttpResponse::Created().json(shown(row, app.clock.now(), Some(&secret))))
}

/// An endpoint as it is now.
#[utoipa::path(get, path = "/v1/webhook_endpoints/{id}", tag = "Webhooks",
    operation_id = "get_webhook_endpoint", params(("id" = String, Path)),
    responses((status = 200, body = EndpointView)))]
pub async fn read(app: web::Data<App>, caller: Caller, id: Id) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let row = own(&app, &caller, &id).await?;
    Ok(HttpResponse::Ok().json(shown(row, app.clock.now(), None)))
}

/// Changes an endpoint. What waits for one that is disabled is given up; it can be replayed.
#[utoipa::path(patch, path = "/v1/webhook_endpoints/{id}", tag = "Webhooks",
    operation_id = "update_webhook_endpoint", request_body = ChangeEndpoint,
    params(("id" = String, Path)),
    responses((status = 200, body = EndpointView),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "version_conflict")))]
pub async fn change(
    app: web::Data<App>,
    caller: Caller,
    id: Id,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let wanted = body.json::<ChangeEndpoint>()?;
    let mut row = own(&app, &caller, &id).await?;
    if let Some(url) = wanted.url {
        row.url = receiver(&app, "url", &url)?;
    }
    if let Some(events) = wanted.events {
        kinds(&events)?;
        row.events = events;
    }

    if let Some(description) = wanted.description {
        described(&description)?;
        row.description = description;
    }
    row.mode = wanted.mode.unwrap_or(row.mode);
    match wanted.status {
        Some(Switch::Enabled) => (row.disabled_reason, row.failing_since) = (None, None),
        Some(Switch::Disabled) => {
            row.disabled_reason = row.disabled_reason.or_else(|| Some(BY_MERCHANT.to_owned()))
        }
        None => {}
    }

    if !app.store.change_endpoint(&row).await? {
        return Err(conflict());
    }
    tracing::info!(
        endpoint_id = row.id,
        by = caller.key_name,
        "webhook endpoint changed"
    );

    Ok(HttpResponse::Ok().json(shown(row, app.clock.now(), None)))
}

/// Removes an endpoint. What waits for it is given up.
#[utoipa::path(delete, path = "/v1/webhook_endpoints/{id}", tag = "Webhooks",
    operation_id = "delete_webhook_endpoint", params(("id" = String, Path)),
    responses((status = 204)))]
pub async fn remove(app: web::Data<App>, caller: Caller, id: Id) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let row = own(&app, &caller, &id).await?;
    app.store.remove_endpoint(&row.id).await?;
    tracing::info!(
        endpoint_id = row.id,
        by = caller.key_name,
        "webhook endpoint removed"
    );
    Ok(HttpResponse::NoContent().finish())
}

/// A new secret for an endpoint, shown for the only time. Until the overlap is over, each webhook
/// has two signatures.
#[utoipa::path(post, path = "/v1/webhook_endpoints/{id}/rotate_secret", tag = "Webhooks",
    operation_id = "rotate_webhook_secret", request_body = Rotate,
    params(("id" = String, Path)),
    responses((status = 200, body = EndpointView),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "version_conflict")))]
pub async fn rotate(
    app: web::Data<App>,
    caller: Caller,
    id: Id,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let overlap_s = overlap(&body.json_or_default()?)?;
    let mut row = own(&app, &caller, &id).await?;
    let (secret, sealed) = rotated(&app, &row.id, &row.secrets, overlap_s)?;
    row.secrets = sealed;
    if !app.store.change_endpoint(&row).await? {
        return Err(conflict());
    }
    tracing::info!(
        endpoint_id = row.id,
        by = caller.key_name,
        overlap_s,
        "webhook secret rotated"
    );
    Ok(HttpResponse::Ok().json(shown(row, app.clock.now(), Some(&secret))))
}

/// Sends `webhook.test` to an endpoint, once and at once, and says what came back. A disabled one
/// can be tested, too.
#[utoipa::path(post, path = "/v1/webhook_endpoints/{id}/test", tag = "Webhooks",
    operation_id = "test_webhook_endpoint", params(("id" = String, Path)),
    responses((status = 200, body = WebhookTest),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "tests_in_progress")))]
pub async fn test(
    app: web::Data<App>,
    admission: web::Data<Admission>,
    caller: Caller,
    id: Id,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let _place = admission.webhook_test(&caller.owner)?;
    let row = own(&app, &caller, &id).await?;
    let now = app.clock.now();
    let message = Message {
        id: EventId::new().map_err(payments::Error::from)?.into(),
        object: "event",
        r#type: message::TEST.to_owned(),
        payment: String::new(),
        version: 0,
        created_at: now,
        livemode: row.owner.is_live(),
        data: json!({ "webhook_endpoint": row.id }),
    };

    let signed = SignedRequest::to_endpoint(app.directory.vault(), &row, &message, now)
        .map_err(|_| Problem::unavailable())?;
    let done = app.webhooks.send(signed).await;
    let end: &'static str = done.end.into();

    tracing::info!(
        endpoint_id = row.id,
        by = caller.key_name,
        end,
        "webhook endpoint tested"
    );

    Ok(HttpResponse::Ok().json(WebhookTest {
        object: "webhook_test",
        delivered: done.end == End::Delivered,
        end: done.end,
        status: done.status,
        latency_ms: done.latency_ms,
        answer: done.answer,
    }))
}

/// The secret that webhooks to your payments' `notify_url`s are signed with; one for test mode and
/// one for live mode.
#[utoipa::path(get, path = "/v1/notify_secret", tag = "Webhooks",
    operation_id = "get_notify_secret", responses((status = 200, body = NotifySecret)))]
pub async fn notify_secret(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let (owner, row) = stored_notify_secret(&app, &caller).await?;
    let secret = Secret::open(app.directory.vault(), &owner, &row.secrets.secret)
        .map_err(|_| Problem::unavailable())?;
    tracing::info!(by = caller.key_name, "notify secret shown");
    Ok(HttpResponse::Ok().json(notify_view(&app, &caller, &row, &secret)))
}

/// A new secret for your `notify_url`s. Until the overlap is over, each webhook has two signatures.
#[utoipa::path(post, path = "/v1/notify_secret/rotate", tag = "Webhooks",
    operation_id = "rotate_notify_secret", request_body = Rotate,
    responses((status = 200, body = NotifySecret),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "version_conflict")))]
pub async fn rotate_notify_secret(
    app: web::Data<App>,
    caller: Caller,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let overlap_s = overlap(&body.json_or_default()?)?;
    let (owner, mut row) = stored_notify_secret(&app, &caller).await?;
    let (secret, sealed) = rotated(&app, &owner, &row.secrets, overlap_s)?;
    row.secrets = sealed;
    if !app.store.change_notify_secret(&caller.owner, &row).await? {
        return Err(conflict());
    }
    tracing::info!(by = caller.key_name, overlap_s, "notify secret rotated");
    Ok(HttpResponse::Ok().json(notify_view(&app, &caller, &row, &secret)))
}

async fn stored_notify_secret(
    app: &App,
    caller: &Caller,
) -> Result<(String, NotifySecretRow), Problem> {
    let owner = notify_owner(&caller.owner);
    let new = Secret::new().map_err(payments::Error::from)?;
    let new = new
        .sealed(app.directory.vault(), &owner)
        .map_err(|_| Problem::unavailable())?;
    let row = app
        .store
        .notify_secret(&caller.owner, new, app.clock.now())
        .await?;
    Ok((owner, row))
}

fn notify_view(app: &App, caller: &Caller, row: &NotifySecretRow, secret: &Secret) -> NotifySecret {
    NotifySecret {
        object: "notify_secret",
        secret: secret.shown(),
        old_secret_until: row
            .secrets
            .old_until
            .filter(|until| app.clock.now() < *until),
        livemode: caller.owner.is_live(),
    }
}

//! `/v1/events` and `/v1/deliveries`: what happened, who was told, and telling it again.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::admission::Admission;
use super::auth::{Caller, Scope};
use super::body::RawBody;
use super::error::Problem;
use super::fields::EventType;
use super::list::{List, ListQuery, Page, time};
use super::request::Id;
use super::webhooks::own;
use crate::app::App;
use crate::domain::Timestamp;
use crate::domain::webhook::{End, State};
use crate::payments::view::events::KINDS;
use crate::store::{
    DeliveryAttempt, DeliveryFilter, DeliveryRow, EndpointRow, EventFilter, EventRow, Receiver,
};
use crate::webhooks::message::Message;

/// Events of one statement when many are replayed.
const REPLAYED_AT_ONCE: u64 = 500;
/// Events of one call.
const MAX_REPLAYED: usize = 100_000;

/// What became of an event at one receiver.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub struct DeliveryView {
    /// Made of the event's id and the receiver's.
    pub id: String,
    /// Always `delivery`.
    pub object: &'static str,
    /// `evt_…`
    pub event: String,
    /// `pay_…`
    pub payment: String,
    /// `we_…`; null: the payment's own `notify_url`.
    pub endpoint: Option<String>,
    /// That `notify_url`.
    pub notify_url: Option<String>,
    /// Where it stands.
    pub status: State,
    /// How often it was tried since it was made or replayed.
    pub tries: i32,
    /// When it is tried next.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_try_at: Option<Timestamp>,
    /// When the receiver took it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub delivered_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Every try that is still remembered, oldest first.
    pub log: Vec<TryView>,
}

/// One try of telling a receiver.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = DeliveryTry)]
pub struct TryView {
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How it ended.
    pub end: End,
    /// HTTP status.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_ms: i64,
    /// The first KiB of the answer, or what went wrong.
    pub answer: Option<String>,
}

/// What `POST /v1/events/{id}/replay` takes.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReplayEvent)]
pub struct ReplayOne {
    /// Only to this endpoint, whatever events it wants. Otherwise to every endpoint that wants
    /// them, and to the payment's `notify_url`.
    #[serde(default)]
    endpoint: Option<String>,
}

/// What `POST /v1/webhook_endpoints/{id}/replay` takes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReplayEvents)]
pub struct ReplayAll {
    /// RFC 3339: everything from then on that the endpoint wants, whether it has it or not.
    since: String,
}

/// What is being told again.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Replay {
    /// Always `replay`.
    pub object: &'static str,
    /// How many deliveries that are.
    pub deliveries: usize,
    /// There is more, from then on: ask again with it as `since`.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub more_since: Option<Timestamp>,
}

impl From<DeliveryAttempt> for TryView {
    fn from(row: DeliveryAttempt) -> Self {
        Self {
            at: row.at,
            end: row.end,
            status: row.status,
            latency_ms: row.latency_ms,
            answer: row.answer,
        }
    }
}

fn shown(row: DeliveryRow, log: Vec<DeliveryAttempt>) -> DeliveryView {
    DeliveryView {
        id: row.id,
        object: "delivery",
        event: row.event_id.into(),
        payment: row.payment_id.into(),
        endpoint: row.endpoint_id,
        notify_url: row.url,
        status: row.status,
        tries: row.tries,
        next_try_at: row.next_try_at,
        delivered_at: row.delivered_at,
        created_at: row.created_at,
        log: log.into_iter().map(TryView::from).collect(),
    }
}

fn disabled() -> Problem {
    let detail = "This endpoint is disabled; enable it first.";
    Problem::new(StatusCode::CONFLICT, "endpoint_disabled", detail)
}

/// Events, newest first.
#[utoipa::path(get, path = "/v1/events", tag = "Events", operation_id = "list_events", params(Page,
        ("type" = Option<EventType>, Query, description = "Only events of this kind"),
        ("payment" = Option<String>, Query, description = "Only those of this payment"),
        ("created_from" = Option<String>, Query, format = DateTime,
            description = "RFC 3339; created then or later")),
    responses((status = 200, body = List<Message>)))]
pub async fn list(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Pay, Scope::Admin, Scope::Finance])?;
    let query = ListQuery::read(
        &request,
        &["type", "payment", "created_from", "limit", "starting_after"],
    )?;

    if query
        .r#type
        .as_ref()
        .is_some_and(|kind| !KINDS.contains(&kind.as_str()))
    {
        return Err(Problem::invalid(
            "type",
            format!("An event is one of {}.", KINDS.join(", ")),
        ));
    }

    let starting_after = query.starting_after("event")?;
    if let Some(after) = &starting_after
        && app.store.event_of(&caller.owner, after).await?.is_none()
    {
        return Err(Problem::invalid(
            "starting_after",
            "There is no such event.",
        ));
    }

    let limit = query.limit()?;
    let filter = EventFilter {
        created_from: query
            .created_from
            .as_deref()
            .map(|text| time("created_from", text))
            .transpose()?,
        kind: query.r#type,
        payment_id: query.payment,
        starting_after,
        limit: limit + 1,
    };

    let found = app.store.events(&caller.owner, &filter).await?;
    Ok(HttpResponse::Ok().json(List::page(
        found.into_iter().map(Message::from).collect(),
        limit,
    )))
}

/// An event, exactly as webhooks tell it.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "Events", operation_id = "get_event",
    params(("id" = String, Path)),
    responses((status = 200, body = Message)))]
pub async fn read(app: web::Data<App>, caller: Caller, id: Id) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Pay, Scope::Admin, Scope::Finance])?;
    Ok(HttpResponse::Ok().json(Message::from(event(&app, &caller, &id).await?)))
}

async fn event(app: &App, caller: &Caller, id: &Id) -> Result<EventRow, Problem> {
    let id = id.of("event")?;
    let found = app.store.event_of(&caller.owner, &id).await?;
    found.ok_or_else(|| Problem::not_found("event"))
}

/// Tells an event again, whoever has it already.
#[utoipa::path(post, path = "/v1/events/{id}/replay", tag = "Events", operation_id = "replay_event",
    request_body = ReplayOne,
    params(("id" = String, Path)),
    responses((status = 202, body = Replay),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "endpoint_disabled")))]
pub async fn replay(
    app: web::Data<App>,
    caller: Caller,
    id: Id,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Pay])?;
    let wanted: ReplayOne = body.json_or_default()?;
    let event = event(&app, &caller, &id).await?;
    let own = app.store.endpoints_of(&caller.owner).await?;
    let (endpoints, notify_url): (Vec<&EndpointRow>, Option<String>) = match &wanted.endpoint {
        Some(id) => {
            let one = own.iter().find(|endpoint| endpoint.id == *id);
            let one = one.ok_or_else(|| {
                Problem::invalid("endpoint", "You have no such webhook endpoint.")
            })?;
            if one.disabled_reason.is_some() {
                return Err(disabled().about("endpoint"));
            }
            (vec![one], None)
        }
        None => {
            let payment = app
                .store
                .payment_of(&caller.owner, &event.payment_id)
                .await?;
            let wanting = own
                .iter()
                .filter(|e| e.disabled_reason.is_none() && e.wants(&event.kind))
                .collect();
            (
                wanting,
                payment.and_then(|aggregate| aggregate.payment.notify_url),
            )
        }
    };

    let to = endpoints
        .iter()
        .map(|endpoint| Receiver::Endpoint(&endpoint.id));
    let to: Vec<_> = to
        .chain(notify_url.as_deref().map(Receiver::NotifyUrl))
        .map(|receiver| (&event, receiver))
        .collect();
    app.store.deliver_again(&to, app.clock.now()).await?;

    tracing::info!(
        event_id = %event.id,
        by = caller.key_name,
        deliveries = to.len(),
        "event replayed"
    );

    Ok(HttpResponse::Accepted().json(Replay {
        object: "replay",
        deliveries: to.len(),
        more_since: None,
    }))
}

/// Tells an endpoint again everything from a time on, whether it has it or not: after a day that it
/// lost.
#[utoipa::path(post, path = "/v1/webhook_endpoints/{id}/replay", tag = "Webhooks",
    operation_id = "replay_events", request_body = ReplayAll,
    params(("id" = String, Path)),
    responses((status = 202, body = Replay),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "endpoint_disabled")))]
pub async fn replay_all(
    app: web::Data<App>,
    admission: web::Data<Admission>,
    caller: Caller,
    id: Id,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let since = time("since", &body.json::<ReplayAll>()?.since)?;
    let endpoint = own(&app, &caller, &id).await?;
    if endpoint.disabled_reason.is_some() {
        return Err(disabled());
    }
    let now = app.clock.now();
    let (mut deliveries, mut after) = (0, None);

    let more_since = loop {
        let _turn = match (admission.bulk(&caller.owner).await, &after) {
            (Ok(turn), _) => turn,
            (Err(refused), None) => return Err(refused),
            (Err(_), Some((written_to, _))) => break Some(*written_to),
        };
        let events = app
            .store
            .events_since(
                &caller.owner,
                &endpoint.events,
                since,
                after,
                REPLAYED_AT_ONCE,
            )
            .await?;
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            break None;
        };
        if deliveries >= MAX_REPLAYED {
            break Some(first.created_at);
        }
        let to: Vec<_> = events
            .iter()
            .map(|event| (event, Receiver::Endpoint(&endpoint.id)))
            .collect();
        app.store.deliver_again(&to, now).await?;
        deliveries += events.len();
        after = Some((last.created_at, last.id.clone()));
    };

    tracing::info!(
        endpoint_id = endpoint.id,
        by = caller.key_name,
        deliveries,
        "events replayed"
    );

    Ok(HttpResponse::Accepted().json(Replay {
        object: "replay",
        deliveries,
        more_since,
    }))
}

/// The delivery log, newest first: every event at every receiver, with every try.
#[utoipa::path(get, path = "/v1/deliveries", tag = "Events", operation_id = "list_deliveries",
    params(Page,
        ("event" = Option<String>, Query, description = "Only deliveries of this event"),
        ("endpoint" = Option<String>, Query, description = "Only deliveries to this endpoint"),
        ("status" = Option<State>, Query, description = "Only deliveries that stand there")),
    responses((status = 200, body = List<DeliveryView>)))]
pub async fn deliveries(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Pay])?;
    let query = ListQuery::read(
        &request,
        &["event", "endpoint", "status", "limit", "starting_after"],
    )?;
    if let Some(after) = &query.starting_after
        && app.store.delivery_of(&caller.owner, after).await?.is_none()
    {
        return Err(Problem::invalid(
            "starting_after",
            "There is no such delivery.",
        ));
    }

    let limit = query.limit()?;
    let status = query.status.as_deref().map(str::parse).transpose();
    let filter = DeliveryFilter {
        status: status.map_err(|_| {
            Problem::invalid(
                "status",
                "A delivery is pending, delivered, failed or stopped.",
            )
        })?,
        event_id: query.event,
        endpoint_id: query.endpoint,
        starting_after: query.starting_after,
        limit: limit + 1,
    };

    let found = app.store.deliveries(&caller.owner, &filter).await?;
    let mut logs = app
        .store
        .tries_of(found.iter().map(|row| row.id.clone()).collect())
        .await?;
    let data = found.into_iter().map(|row| {
        let log = logs.remove(&row.id).unwrap_or_default();
        shown(row, log)
    });

    Ok(HttpResponse::Ok().json(List::page(data.collect(), limit)))
}

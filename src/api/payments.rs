//! `/v1/payments`: making, reading, re-offering and canceling payments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use tokio::sync::oneshot;
use tracing::Instrument as _;
use utoipa::ToSchema;

use super::admission::{Admission, Place};
use super::auth::{Caller, Scope};
use super::body::RawBody;
use super::error::{Problem, REQUEST_ID, is_key_taken, is_order_taken};
use super::fields::{flow, providers_of};
use super::idempotency::{self, Once};
use super::list::{List, ListQuery, Page, time};
use super::new_payment::CreatePayment;
use super::repeated::{self, Known, NotMade, Subject};
use super::request::{Id, caller_of};
use crate::app::App;
use crate::domain::Aggregate;
use crate::domain::attempt::State as AttemptState;
use crate::domain::id::PaymentId;
use crate::domain::payment::State;
use crate::kill_point;
use crate::payments::call::RequestContext;
use crate::payments::commit::reload;
use crate::payments::offer::{self, NewOffer, OfferError, Planned};
use crate::payments::pay::{self, OpenError, RunResult};
use crate::payments::view::{self, PaymentView};
use crate::payments::{self, cancel, queue, resolve};
use crate::store::change::{Key, StoredAnswer};
use crate::store::{CommitError, PaymentFilter};
use crate::traces::{self, Span};

/// What `POST /v1/payments/{id}/offers` takes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOffer {
    /// How the payer wants to pay now: `qr`.
    flow: String,
    /// Only these providers.
    #[serde(default)]
    providers: Vec<String>,
}

/// Work whose first part tells what was made, and which goes on whatever becomes of the connection.
struct Running {
    made: oneshot::Receiver<Result<(Aggregate, Key), NotMade>>,
    done: tokio::task::JoinHandle<Result<RunResult, payments::Error>>,
}

/// Makes a payment and, in the same breath, its offer.
#[utoipa::path(post, path = "/v1/payments", tag = "Payments", operation_id = "create_payment",
    request_body = CreatePayment,
    params(("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters")),
    responses(
        (status = 200, body = PaymentView, description = "The same key again: the payment has gone \
                                                          on since"),
        (status = 201, body = PaymentView, description = "The payer can act, or the payment has \
                                                          ended"),
        (status = 202, body = PaymentView, description = "Still being worked on, or waiting for a \
                                                          route"),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "order_id_in_use, request_in_progress"),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "A member is wrong; or the key was used for another request"),
    ))]
pub async fn create(
    app: web::Data<App>,
    admission: web::Data<Admission>,
    caller: Caller,
    request: HttpRequest,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Pay)?;
    let once = Once::read(&app, &request, &caller, "payments", &body)?;
    let new = body.json::<CreatePayment>()?.check(&app, &caller)?;
    refuse_while_draining(&app)?;
    let place = admission.payment(&app, &request, &caller.owner)?;
    let app = app.into_inner();
    let began = Instant::now();
    let writing_by = answer_by(&app);
    let answer_by = new.wait.map_or(writing_by, |wait| began + wait);
    let order_id = new.payment.order_id.clone();

    let context = RequestContext {
        key: None,
        planned_at: began,
        answer_by,
        auth_code: new.auth_code,
    };
    let asked = RequestTrace {
        name: "payment",
        makes: true,
        began,
        caller: caller_of(&request),
        _place: place,
    };

    let running = start(&app, context, asked, {
        let (app, once) = (Arc::clone(&app), once.clone());
        async move { pay::open(&app, new.payment, once.scope, once.fingerprint).await }
    });

    // A database that hangs must not keep a checkout waiting: it may ask again with the same key.
    let made = tokio::time::timeout_at(writing_by.into(), running.made)
        .await
        .map_err(|_| Problem::unavailable())?;

    match made.map_err(|_| Problem::unavailable())? {
        Ok((made, key)) => finish(&app, running.done, &made.payment.id, &key, answer_by).await,
        Err(NotMade::KeyTaken) => again(&app, &once, answer_by).await,
        Err(NotMade::OrderTaken) => Err(order_in_use(&app, &caller, &order_id).await),
        Err(NotMade::Refused(problem)) => Err(*problem),
    }
}

/// How often a checkout that waits for a charge looks for its outcome.
const LOOK_EVERY: Duration = Duration::from_millis(100);

fn answer_by(app: &App) -> Instant {
    Instant::now() + app.config.payments.answer_within
}

fn refuse_while_draining(app: &App) -> Result<(), Problem> {
    if app.draining.is_cancelled() {
        let detail =
            "This gateway is stopping; another one, or the next one, will take the same request.";
        return Err(
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", detail).retry_after(2),
        );
    }
    Ok(())
}

/// A request that was let in, as its payment's trace shows it.
struct RequestTrace {
    name: &'static str,
    /// Whether it makes the payment: then it is the root of the trace.
    makes: bool,
    began: Instant,
    caller: Option<traces::Caller>,
    /// Held until its work is done.
    _place: Place,
}

impl RequestTrace {
    fn span(&self, app: &App, aggregate: &Aggregate) -> Span {
        let (payment, began) = (&aggregate.payment, app.clock.began(self.began.elapsed()));
        let caller = self.caller.as_ref();
        let trace = match self.makes {
            true => app.traces.root(&payment.id, self.name, began, caller),
            false => app.traces.incoming(&payment.id, self.name, began, caller),
        };
        trace.set("merchant.id", payment.owner.merchant.to_string());
        trace.set("mode", payment.owner.mode.as_str());
        trace.set("flow", payment.flow.to_string());
        trace.set("amount_fen", payment.amount.minor());
        if let Ok(request_id) = REQUEST_ID.try_with(Clone::clone) {
            trace.set("request.id", request_id);
        }
        trace
    }
}

fn start<F>(app: &Arc<App>, context: RequestContext, asked: RequestTrace, open: F) -> Running
where
    F: Future<Output = Result<(Aggregate, Key), OpenError>> + Send + 'static,
{
    let (tell, made) = oneshot::channel();
    let worker = Arc::clone(app);
    let request_id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
    let work = async move {
        match open.await {
            Ok((aggregate, key)) => {
                let _ = tell.send(Ok((aggregate.clone(), key.clone())));
                let trace = asked.span(&worker, &aggregate);
                let done = trace
                    .around(pay::run(
                        &worker,
                        aggregate,
                        RequestContext {
                            key: Some(key),
                            ..context
                        },
                    ))
                    .await;
                match &done {
                    Ok(ran) => {
                        trace.set("payment.status", ran.aggregate.payment.status.to_string())
                    }
                    Err(_) => trace.failed("trouble"),
                }
                done
            }
            Err(error) => {
                let not_made = match &error {
                    OpenError::Other(trouble) if is_key_taken(trouble) => NotMade::KeyTaken,
                    OpenError::Other(trouble) if is_order_taken(trouble) => NotMade::OrderTaken,
                    OpenError::Other(_) | OpenError::NotServed | OpenError::QueueFull { .. } => {
                        NotMade::Refused(Box::new(error.into()))
                    }
                };
                let _ = tell.send(Err(not_made));
                Err(CommitError::VersionConflict.into())
            }
        }
    };

    let done = app.spawn(REQUEST_ID.scope(request_id, work).in_current_span());
    Running { made, done }
}

/// Waits for the work as long as a checkout may wait, and answers with what there is then.
async fn finish(
    app: &Arc<App>,
    done: tokio::task::JoinHandle<Result<RunResult, payments::Error>>,
    payment_id: &PaymentId,
    key: &Key,
    answer_by: Instant,
) -> Result<HttpResponse, Problem> {
    // A little longer than the last call may take, so that its outcome is told rather than "still
    // working".
    let grace = Duration::from_millis(300);
    let finished = tokio::time::timeout_at((answer_by + grace).into(), done).await;
    let ran = match finished {
        Ok(Ok(Ok(ran))) => ran,
        Ok(Ok(Err(error))) => {
            tracing::warn!(%payment_id, %error, "the resolver goes on with this payment");
            RunResult::unanswered(reload(app, payment_id).await?)
        }
        Ok(Err(_)) | Err(_) => RunResult::unanswered(reload(app, payment_id).await?),
    };

    if let Some(answer) = ran.answer {
        return Ok(idempotency::answer(answer));
    }
    let is_charge = ran.aggregate.payment.flow.is_charge();
    if is_charge && ran.aggregate.payment.status == State::Processing {
        return charged(app, ran.aggregate, key, answer_by).await;
    }

    standing(app, key, ran.aggregate).await
}

/// Somebody stands at a till: the resolver asks what became of the charge, and this looks what it
/// has found.
async fn charged(
    app: &Arc<App>,
    mut aggregate: Aggregate,
    key: &Key,
    answer_by: Instant,
) -> Result<HttpResponse, Problem> {
    while aggregate.payment.status == State::Processing
        && Instant::now() < answer_by
        && !app.draining.is_cancelled()
    {
        tokio::time::sleep(LOOK_EVERY.min(answer_by.saturating_duration_since(Instant::now())))
            .await;
        aggregate = reload(app, &aggregate.payment.id).await?;
    }
    standing(app, key, aggregate).await
}

/// The answer that stands under the key, while it tells what is; otherwise the payment as it is.
/// 202 while there is none.
async fn standing(app: &App, key: &Key, aggregate: Aggregate) -> Result<HttpResponse, Problem> {
    let Some(answer) = pay::answer(&aggregate) else {
        return aggregate.view(app, StatusCode::ACCEPTED).await;
    };
    let stands = repeated::store(app, &key.scope, answer).await?;
    kill_point!("pay_after_answer");

    repeated::tell(app, aggregate, stands).await
}

impl Subject for Aggregate {
    fn is_told_by(&self, answer: &StoredAnswer) -> bool {
        answer.state == self.payment.status.to_string()
            && answer.attempt_id.as_deref() == self.live().map(|a| a.id.as_str())
    }

    fn under_way(&self, app: &App) -> Option<Problem> {
        let is_sending = self
            .live()
            .is_some_and(|a| a.status == AttemptState::Sending);
        let lease = self.payment.lease_until.filter(|_| is_sending)?;
        (lease > app.clock.now())
            .then(|| idempotency::in_progress(&self.payment.id, self.payment.status))
    }

    async fn reload(&self, app: &App) -> Result<Self, Problem> {
        Ok(reload(app, &self.payment.id).await?)
    }

    async fn view(&self, app: &App, status: StatusCode) -> Result<HttpResponse, Problem> {
        Ok(HttpResponse::build(status).json(queue::view(app, self).await?))
    }
}

/// The key is known, and what is unfinished is taken over: the worker of the first request is gone,
/// or has left the payment waiting.
async fn again(app: &Arc<App>, once: &Once, answer_by: Instant) -> Result<HttpResponse, Problem> {
    let known = repeated::known(app, once, |aggregate, _| Some(aggregate)).await?;
    let (key, aggregate) = match known {
        Known::Answered(response) => return Ok(response),
        Known::TakenOver(key, aggregate) => (key, aggregate),
    };

    let payment_id = aggregate.payment.id;
    let (worker, id) = (Arc::clone(app), payment_id.clone());
    let going_on = async move {
        resolve::advance(&worker, &id)
            .await
            .map(RunResult::unanswered)
    };
    let done = app.spawn(going_on.in_current_span());

    finish(app, done, &payment_id, &key, answer_by).await
}

async fn order_in_use(app: &App, caller: &Caller, order_id: &str) -> Problem {
    let detail = "A payment with this order_id exists. Use it, or another order_id.";
    let problem = Problem::new(StatusCode::CONFLICT, "order_id_in_use", detail).about("order_id");
    match app
        .store
        .payment_holding_order(&caller.owner, order_id)
        .await
    {
        Ok(Some(holding)) => problem.because_of(holding.payment.id, holding.payment.status),
        // It has ended since: the order number is free again.
        Ok(None) => problem.retry_after(1),
        Err(error) => error.into(),
    }
}

/// A payment as it is now, from our own database.
#[utoipa::path(get, path = "/v1/payments/{id}", tag = "Payments", operation_id = "get_payment",
    params(("id" = String, Path)),
    responses((status = 200, body = PaymentView)))]
pub async fn read(app: web::Data<App>, caller: Caller, id: Id) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Pay, Scope::Finance, Scope::Refund])?;
    let id = id.of("payment")?;
    let found = app.store.payment_of(&caller.owner, &id).await?;
    let aggregate = found.ok_or_else(|| Problem::not_found("payment"))?;
    Ok(HttpResponse::Ok().json(queue::view(&app, &aggregate).await?))
}

/// Payments, newest first.
#[utoipa::path(get, path = "/v1/payments", tag = "Payments", operation_id = "list_payments",
    params(Page,
        ("order_id" = Option<String>, Query, description = "The merchant's own number"),
        ("status" = Option<State>, Query, description = "Only payments that stand there"),
        ("provider_transaction_id" = Option<String>, Query,
            description = "The provider's number of a transaction"),
        ("created_from" = Option<String>, Query, format = DateTime,
            description = "RFC 3339; created then or later")),
    responses((status = 200, body = List<PaymentView>)))]
pub async fn list(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Pay, Scope::Finance])?;
    let query = ListQuery::read(
        &request,
        &[
            "order_id",
            "status",
            "provider_transaction_id",
            "created_from",
            "limit",
            "starting_after",
        ],
    )?;

    let status = query.status.as_deref().map(|s| {
        s.parse::<State>()
            .map_err(|_| Problem::invalid("status", "Not a payment status."))
    });
    let starting_after = query.starting_after("payment")?;
    if let Some(after) = &starting_after
        && app.store.payment_of(&caller.owner, after).await?.is_none()
    {
        return Err(Problem::invalid(
            "starting_after",
            "There is no such payment.",
        ));
    }

    let limit = query.limit()?;
    let filter = PaymentFilter {
        order_id: query.order_id.clone(),
        status: status.transpose()?,
        provider_transaction_id: query.provider_transaction_id.clone(),
        created_from: query
            .created_from
            .as_deref()
            .map(|t| time("created_from", t))
            .transpose()?,
        starting_after,
        limit: limit + 1,
    };

    let found = app.store.payments(&caller.owner, &filter).await?;
    Ok(HttpResponse::Ok().json(List::page(queue::views(&app, &found).await?, limit)))
}

/// The payer wants to pay another way: the old offer is superseded, a new one is made.
#[utoipa::path(post, path = "/v1/payments/{id}/offers", tag = "Payments",
    operation_id = "create_offer", request_body = CreateOffer,
    params(("id" = String, Path), ("Idempotency-Key" = String, Header)),
    responses(
        (status = 200, body = PaymentView, description = "The same key again: the payment has gone \
                                                          on since"),
        (status = 201, body = PaymentView), (status = 202, body = PaymentView),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "payment_not_open, request_in_progress"),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "flow_not_available, a wrong member, or a key that was used for another request"),
    ))]
pub async fn offer(
    app: web::Data<App>,
    admission: web::Data<Admission>,
    caller: Caller,
    request: HttpRequest,
    id: Id,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Pay)?;
    let once = Once::read(&app, &request, &caller, &format!("offers/{id}"), &body)?;
    let wanted = body.json::<CreateOffer>()?;
    let (flow, providers) = (flow(&wanted.flow)?, providers_of(&wanted.providers)?);
    if flow.is_charge() {
        return Err(Problem::invalid(
            "flow",
            "A barcode is a payment of its own, not another offer for this one.",
        ));
    }
    refuse_while_draining(&app)?;
    let place = admission.payment(&app, &request, &caller.owner)?;
    let id = id.of("payment")?;
    let app = app.into_inner();
    let answer_by = answer_by(&app);
    let new = NewOffer { flow, providers };
    let planned = offer::open(
        &app,
        &caller.owner,
        &id,
        &new,
        once.scope.clone(),
        once.fingerprint.clone(),
    )
    .await;
    let Planned {
        aggregate,
        key,
        planned_at,
    } = match planned {
        Ok(planned) => planned,
        Err(OfferError::Other(trouble)) if is_key_taken(&trouble) => {
            return again(&app, &once, answer_by).await;
        }
        Err(error) => return Err(error.into()),
    };

    let payment_id = aggregate.payment.id.clone();
    let context = RequestContext {
        key: None,
        planned_at,
        answer_by,
        auth_code: None,
    };
    let asked = RequestTrace {
        name: "offer",
        makes: false,
        began: planned_at,
        caller: caller_of(&request),
        _place: place,
    };
    let claimed = key.clone();
    let running = start(
        &app,
        context,
        asked,
        async move { Ok((aggregate, claimed)) },
    );
    finish(&app, running.done, &payment_id, &key, answer_by).await
}

/// Cancels a payment: 200 once it is certain that nobody can pay it, 202 until then.
#[utoipa::path(post, path = "/v1/payments/{id}/cancel", tag = "Payments",
    operation_id = "cancel_payment", params(("id" = String, Path)),
    responses(
        (status = 200, body = PaymentView),
        (status = 202, body = PaymentView, description = "Not certain yet"),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "payment_not_open"),
    ))]
pub async fn cancel(app: web::Data<App>, caller: Caller, id: Id) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Pay)?;
    let id = id.of("payment")?;
    let app = app.into_inner();
    let answer_by = answer_by(&app);
    let noted = cancel::cancel(&app, &caller.owner, &id)
        .await?
        .ok_or_else(|| Problem::not_found("payment"))?;
    let aggregate = if noted.payment.status.is_open() {
        let (worker, id) = (Arc::clone(&app), noted.payment.id.clone());
        let work = app.spawn(async move { resolve::advance(&worker, &id).await }.in_current_span());
        match tokio::time::timeout_at(answer_by.into(), work).await {
            Ok(Ok(Ok(aggregate))) => aggregate,
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => reload(&app, &noted.payment.id).await?,
        }
    } else {
        noted
    };

    match aggregate.payment.status {
        State::Canceled => Ok(HttpResponse::Ok().json(view::payment(&aggregate))),
        State::Created | State::RequiresAction | State::Processing => {
            Ok(HttpResponse::Accepted().json(queue::view(&app, &aggregate).await?))
        }
        State::Succeeded | State::Failed | State::Expired => {
            let detail = "This payment has ended already.";
            let problem = Problem::new(StatusCode::CONFLICT, "payment_not_open", detail);
            Err(problem.because_of(aggregate.payment.id.clone(), aggregate.payment.status))
        }
    }
}

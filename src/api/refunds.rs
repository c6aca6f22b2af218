//! `/v1/refunds` and `POST /v1/payments/{id}/refunds`: giving money back.

use std::sync::Arc;
use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use tokio::sync::oneshot;
use tracing::Instrument as _;
use utoipa::ToSchema;

use super::admission;
use super::auth::{Caller, Scope};
use super::body::RawBody;
use super::error::{Problem, is_key_taken};
use super::fields::text;
use super::idempotency::{self, Once};
use super::list::{List, ListQuery, Page};
use super::repeated::{self, Known, Subject};
use super::request::{Id, caller_of};
use crate::app::App;
use crate::domain::id::PaymentId;
use crate::domain::refund::State;
use crate::domain::{Aggregate, Refund};
use crate::payments::refund::{self, NewRefund, RefundError};
use crate::payments::transition::console_refund::NUMBERS;
use crate::payments::view::{self, RefundView};
use crate::store::change::{Key, StoredAnswer};

/// What `POST /v1/payments/{id}/refunds` takes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRefund {
    /// Fen, from 1 to what is left.
    amount: i64,
    /// The merchant's own number, unique for ever: 1 to 64 characters.
    merchant_refund_no: String,
    /// Shown to the payer; at most 80 characters.
    #[serde(default)]
    reason: Option<String>,
}

impl CreateRefund {
    fn check(self) -> Result<NewRefund, Problem> {
        if self.amount < 1 {
            return Err(Problem::invalid(
                "amount",
                "An amount is a whole number of fen from 1.",
            ));
        }

        text("merchant_refund_no", &self.merchant_refund_no, 64)?;
        if ["auto-", NUMBERS]
            .iter()
            .any(|own| self.merchant_refund_no.starts_with(own))
        {
            let detail = "Numbers that begin with auto- or provider- belong to refunds that the \
                          merchant has not asked for here.";
            return Err(Problem::invalid("merchant_refund_no", detail));
        }

        if let Some(reason) = &self.reason {
            text("reason", reason, 80)?;
        }
        Ok(NewRefund {
            merchant_refund_no: self.merchant_refund_no,
            amount_fen: self.amount,
            reason: self.reason,
        })
    }
}

/// Gives money of a payment back to its payer.
#[utoipa::path(post, path = "/v1/payments/{id}/refunds", tag = "Refunds",
    operation_id = "create_refund", request_body = CreateRefund,
    params(("id" = String, Path), ("Idempotency-Key" = String, Header)),
    responses(
        (status = 200, body = RefundView, description = "The same key again: the refund has gone \
                                                         on since"),
        (status = 201, body = RefundView),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "payment_not_refundable, merchant_refund_no_in_use, request_in_progress"),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "refund_too_large, a wrong member, or a key that was used for another request"),
    ))]
pub async fn create(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
    id: Id,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Refund)?;
    let once = Once::read(&app, &request, &caller, &format!("refunds/{id}"), &body)?;
    let new = body.json::<CreateRefund>()?.check()?;
    admission::held(&app, &caller.owner)?;
    let id = id.of::<PaymentId>("payment")?;
    let app = app.into_inner();
    let asked_at = Instant::now();
    let answer_by = asked_at + app.config.payments.answer_within;
    let (tell, made) = oneshot::channel();
    let sender = caller_of(&request);

    let done = app.spawn({
        let (app, once, owner) = (Arc::clone(&app), once.clone(), caller.owner.clone());
        async move {
            match refund::open(&app, &owner, &id, &new, once.scope, once.fingerprint).await {
                Ok((aggregate, refund_id, key)) => {
                    let _ = tell.send(Ok((aggregate.payment.id.clone(), refund_id.clone())));
                    let began = app.clock.began(asked_at.elapsed());
                    let trace = app.traces.incoming(
                        &aggregate.payment.id,
                        "refund request",
                        began,
                        sender.as_ref(),
                    );
                    trace.set("refund.id", refund_id.to_string());
                    let finished = trace
                        .around(refund::run(&app, aggregate, &refund_id, &key, asked_at))
                        .await;
                    finished.map_err(|error| {
                        tracing::warn!(%refund_id, %error,
                            "the resolver goes on with this refund");
                    })
                }
                Err(error) => {
                    let _ = tell.send(Err(error));
                    Err(())
                }
            }
        }
        .in_current_span()
    });
    let made = tokio::time::timeout_at(answer_by.into(), made)
        .await
        .map_err(|_| Problem::unavailable())?;

    match made.map_err(|_| Problem::unavailable())? {
        Ok((payment_id, refund_id)) => {
            if let Ok(Ok(Ok((refund, stands)))) =
                tokio::time::timeout_at(answer_by.into(), done).await
            {
                return repeated::tell(&app, refund, stands).await;
            }
            let refund = refund::current(&app, &payment_id, &refund_id).await?;
            answered(&app, &once, refund.ok_or_else(Problem::unavailable)?).await
        }
        Err(RefundError::Other(trouble)) if is_key_taken(&trouble) => again(&app, &once).await,
        Err(error) => Err(error.into()),
    }
}

/// Nobody has stored an answer yet, or somebody is about to.
async fn answered(app: &App, once: &Once, refund: Refund) -> Result<HttpResponse, Problem> {
    let stands = repeated::store(app, &once.scope, refund::answer(&refund)).await?;
    repeated::tell(app, refund, stands).await
}

impl Subject for Refund {
    fn is_told_by(&self, answer: &StoredAnswer) -> bool {
        answer.state == self.status.to_string()
    }

    fn under_way(&self, app: &App) -> Option<Problem> {
        let payments = &app.config.payments;
        let lasts = payments.refund_timeout + payments.call_grace;
        let sent_at = self.sent_at.filter(|_| self.status == State::Pending)?;
        (sent_at.plus(lasts) > app.clock.now())
            .then(|| idempotency::in_progress(&self.id, self.status))
    }

    async fn reload(&self, app: &App) -> Result<Self, Problem> {
        let now = refund::current(app, &self.payment_id, &self.id).await?;
        now.ok_or_else(Problem::unavailable)
    }

    async fn view(&self, _: &App, status: StatusCode) -> Result<HttpResponse, Problem> {
        Ok(HttpResponse::build(status).json(view::refund(self)))
    }
}

/// The key is known. Where the worker of the first request is gone, the resolver goes on with its
/// refund.
async fn again(app: &App, once: &Once) -> Result<HttpResponse, Problem> {
    let of_key = |aggregate: Aggregate, key: &Key| {
        let mut refunds = aggregate.refunds.into_iter();
        refunds.find(|refund| refund.id == key.resource_id)
    };
    match repeated::known(app, once, of_key).await? {
        Known::Answered(response) => Ok(response),
        Known::TakenOver(_, refund) => answered(app, once, refund).await,
    }
}

/// A refund as it is now.
#[utoipa::path(get, path = "/v1/refunds/{id}", tag = "Refunds", operation_id = "get_refund",
    params(("id" = String, Path)),
    responses((status = 200, body = RefundView)))]
pub async fn read(app: web::Data<App>, caller: Caller, id: Id) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Refund, Scope::Finance, Scope::Pay])?;
    let id = id.of("refund")?;
    let found = app.store.refund_of(&caller.owner, &id).await?;
    Ok(HttpResponse::Ok().json(view::refund(
        &found.ok_or_else(|| Problem::not_found("refund"))?,
    )))
}

/// Refunds, newest first.
#[utoipa::path(get, path = "/v1/refunds", tag = "Refunds", operation_id = "list_refunds",
    params(Page,
        ("payment" = Option<String>, Query, description = "Only those of this payment")),
    responses((status = 200, body = List<RefundView>)))]
pub async fn list(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Refund, Scope::Finance])?;
    let query = ListQuery::read(&request, &["payment", "limit", "starting_after"])?;
    let starting_after = query.starting_after("refund")?;
    if let Some(after) = &starting_after
        && app.store.refund_of(&caller.owner, after).await?.is_none()
    {
        return Err(Problem::invalid(
            "starting_after",
            "There is no such refund.",
        ));
    }

    let limit = query.limit()?;
    let found = app
        .store
        .refunds(
            &caller.owner,
            query.payment.as_deref(),
            starting_after.as_ref(),
            limit + 1,
        )
        .await?;

    Ok(HttpResponse::Ok().json(List::page(found.iter().map(view::refund).collect(), limit)))
}

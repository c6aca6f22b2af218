//! What merchants see of a payment. The only place that turns stored values into API members; what
//! a provider wrote in words never passes it.

pub mod events;
pub mod failure;

use providers::outcome::NextAction;
use serde::Serialize;
use utoipa::ToSchema;

use self::failure::FailureView;
use crate::domain::attempt::{Disposition, State as AttemptState};
use crate::domain::id::{AccountId, AttemptId, OrderNo, PaymentId, RefundId, RefundNo};
use crate::domain::payment::State;
use crate::domain::{Aggregate, Attempt, Refund, Timestamp, refund};

/// A payment. Amounts are fen; times are RFC 3339 with offset.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Payment)]
pub struct PaymentView {
    /// `pay_…`
    #[schema(value_type = String)]
    pub id: PaymentId,
    /// Always `payment`.
    pub object: &'static str,
    /// Where it stands.
    pub status: State,
    /// What was asked for, in fen.
    pub amount: i64,
    /// `CNY`
    pub currency: String,
    /// What was captured and kept, in fen.
    pub amount_captured: i64,
    /// What has gone back to the payer, in fen.
    pub amount_refunded: i64,
    /// The merchant's own number.
    pub order_id: String,
    /// Shown to the payer.
    pub description: String,
    /// How the payer pays.
    pub flow: String,
    /// The provider of the attempt that counts: the kept one, else the live one.
    pub provider: Option<String>,
    /// That attempt's account.
    #[schema(value_type = Option<String>)]
    pub account: Option<AccountId>,
    /// The provider's number of the kept transaction.
    pub provider_transaction_id: Option<String>,
    /// Who paid, masked.
    pub payer: Option<String>,
    /// What the payer's own pocket gave (coupons not counted), in fen.
    pub payer_amount: Option<i64>,
    /// The provider's fee in fen, known once its statement was read.
    pub fee: Option<i64>,
    /// What the payer has to do now.
    pub next_action: NextActionView,
    /// Every try, oldest first.
    pub attempts: Vec<AttemptView>,
    /// Every refund, oldest first.
    pub refunds: Vec<RefundView>,
    /// Why it ended without money.
    pub failure: Option<FailureView>,
    /// Its place among waiting payments, when it waits for a route.
    pub queue: Option<QueueView>,
    /// The merchant's own members.
    #[schema(value_type = Object)]
    pub metadata: serde_json::Value,
    /// When cancelling was asked for.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cancel_requested_at: Option<Timestamp>,
    /// When the kept money was captured.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paid_at: Option<Timestamp>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// From then on nothing new is offered.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Real money?
    pub livemode: bool,
}

/// A parked payment's place. Both members are unknown until routes are watched.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Queue)]
pub struct QueueView {
    /// From 1.
    pub position: Option<u64>,
    /// Seconds.
    pub estimated_wait_seconds: Option<u64>,
}

/// What the payer has to do: `display_qr` {`qr`}, `redirect` {`url`}, `submit_form` {`html`}, `sdk`
/// {`params`} (each with `expires_at`), or `none`.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = NextAction)]
pub struct NextActionView {
    /// Which of them.
    pub r#type: &'static str,
    /// The text to show as a QR code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qr: Option<String>,
    /// The address to open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A page that submits itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// For the wallet's SDK.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub params: Option<serde_json::Value>,
    /// Useless from then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// One try over one route.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptView {
    /// `att_…`
    #[schema(value_type = String)]
    pub id: AttemptId,
    /// Which provider.
    pub provider: String,
    /// Which account.
    #[schema(value_type = String)]
    pub account: AccountId,
    /// How the payer pays.
    pub flow: String,
    /// Where it stands.
    pub status: AttemptState,
    /// What becomes of its money, once it captured any.
    pub disposition: Option<Disposition>,
    /// Our number at the provider.
    #[schema(value_type = String)]
    pub provider_order_no: OrderNo,
    /// The provider's id of our request, for its support.
    pub provider_request_id: Option<String>,
    /// What the creating call meant.
    pub outcome: Option<String>,
    /// What went wrong.
    pub failure: Option<FailureView>,
    /// Why this route.
    #[schema(value_type = Object)]
    pub reason: serde_json::Value,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// How long the creating call took.
    pub latency_ms: Option<i64>,
}

/// A refund. Amounts are fen.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Refund)]
pub struct RefundView {
    /// `re_…`
    #[schema(value_type = String)]
    pub id: RefundId,
    /// Always `refund`.
    pub object: &'static str,
    /// The payment.
    #[schema(value_type = String)]
    pub payment: PaymentId,
    /// The captured attempt that it gives back from.
    #[schema(value_type = String)]
    pub attempt: AttemptId,
    /// The merchant's own number.
    pub merchant_refund_no: String,
    /// In fen.
    pub amount: i64,
    /// `CNY`
    pub currency: String,
    /// Where it stands.
    pub status: refund::State,
    /// The merchant's reason.
    pub reason: Option<String>,
    /// Made by Interlock itself.
    pub automatic: bool,
    /// Our number at the provider.
    #[schema(value_type = String)]
    pub provider_refund_no: RefundNo,
    /// What went wrong last.
    pub failure: Option<FailureView>,
    /// Waits until the merchant's balance at the provider is topped up.
    pub needs_funds: bool,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub completed_at: Option<Timestamp>,
}

/// A payment as merchants see it.
#[must_use]
pub fn payment(aggregate: &Aggregate) -> PaymentView {
    let p = &aggregate.payment;
    let kept = aggregate.kept();
    let counts = kept.or_else(|| aggregate.live());

    PaymentView {
        id: p.id.clone(),
        object: "payment",
        status: p.status,
        amount: p.amount.minor(),
        currency: p.currency().to_string(),
        amount_captured: aggregate.captured_fen(),
        amount_refunded: aggregate.refunded_fen(),
        order_id: p.order_id.clone(),
        description: p.description.clone(),
        flow: p.flow.to_string(),
        provider: counts.map(|a| a.provider.to_string()),
        account: counts.map(|a| a.account_id.clone()),
        provider_transaction_id: kept.and_then(|a| a.provider_transaction_id.clone()),
        payer: kept.and_then(|a| a.payer.clone()),
        payer_amount: kept.and_then(|a| a.payer_amount),
        fee: None,
        next_action: next_action(aggregate),
        attempts: aggregate.attempts.iter().map(attempt).collect(),
        refunds: aggregate.refunds.iter().map(refund).collect(),
        // While its end is being found out, money may still turn up.
        failure: p
            .failure
            .as_ref()
            .filter(|_| !p.status.is_open())
            .map(failure::view),
        queue: is_parked(aggregate).then_some(QueueView {
            position: None,
            estimated_wait_seconds: None,
        }),
        metadata: p.metadata.clone(),
        cancel_requested_at: p.cancel_requested_at,
        paid_at: p.paid_at,
        created_at: p.created_at,
        expires_at: p.expires_at,
        livemode: p.owner.is_live(),
    }
}

/// A refund as merchants see it.
#[must_use]
pub fn refund(r: &Refund) -> RefundView {
    RefundView {
        id: r.id.clone(),
        object: "refund",
        payment: r.payment_id.clone(),
        attempt: r.attempt_id.clone(),
        merchant_refund_no: r.merchant_refund_no.clone(),
        amount: r.amount.minor(),
        currency: r.amount.currency().to_string(),
        status: r.status,
        reason: r.reason.clone(),
        automatic: r.automatic,
        provider_refund_no: r.provider_refund_no.clone(),
        failure: r.failure.as_ref().map(failure::view),
        needs_funds: r.needs_funds,
        created_at: r.created_at,
        completed_at: r.completed_at,
    }
}

/// Whether a payment waits for a route.
fn is_parked(aggregate: &Aggregate) -> bool {
    aggregate.payment.status == State::Created && aggregate.live().is_none()
}

/// Only a live offer of a payment that asks for action may be acted on; never an old code.
fn next_action(aggregate: &Aggregate) -> NextActionView {
    let none = NextActionView {
        r#type: "none",
        qr: None,
        url: None,
        html: None,
        params: None,
        expires_at: None,
    };
    let shown = aggregate.live().filter(|a| {
        aggregate.payment.status == State::RequiresAction && a.status == AttemptState::AwaitingPayer
    });
    let Some((offer, action)) = shown.and_then(|a| Some((a, a.next_action.clone()?))) else {
        return none;
    };

    let view = NextActionView {
        expires_at: Some(offer.offer_deadline),
        ..none
    };

    match action {
        NextAction::DisplayQr { qr } => NextActionView {
            r#type: "display_qr",
            qr: Some(qr),
            ..view
        },
        NextAction::Redirect { url } => NextActionView {
            r#type: "redirect",
            url: Some(url),
            ..view
        },
        NextAction::SubmitForm { html } => NextActionView {
            r#type: "submit_form",
            html: Some(html),
            ..view
        },
        NextAction::Sdk { params } => NextActionView {
            r#type: "sdk",
            params: Some(params),
            ..view
        },
    }
}

fn attempt(a: &Attempt) -> AttemptView {
    AttemptView {
        id: a.id.clone(),
        provider: a.provider.to_string(),
        account: a.account_id.clone(),
        flow: a.flow.to_string(),
        status: a.status,
        disposition: a.disposition,
        provider_order_no: a.provider_order_no.clone(),
        provider_request_id: a.provider_request_id.clone(),
        outcome: a.outcome.map(|outcome| outcome.to_string()),
        failure: a.failure.as_ref().map(failure::view),
        reason: a.reason.clone(),
        started_at: a.started_at,
        latency_ms: a.latency_ms,
    }
}

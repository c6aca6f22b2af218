//! Between rows and domain values. A row that cannot be read is an error that names the column,
//! never a guess.

use providers::money::Money;
use providers::provider::ProviderName;
use sea_orm::{ActiveModelTrait as _, IntoActiveModel as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::ledger::Head;
use crate::domain::{Aggregate, Attempt, Owner, Payment, Refund, Timestamp, Urgency};
use crate::store::Error;
use crate::store::convert::{bad, money, word};
use crate::store::payment::entity::{attempt, payment, refund};

fn object<T: DeserializeOwned>(
    table: &str,
    id: &str,
    column: &str,
    value: Option<serde_json::Value>,
) -> Result<Option<T>, Error> {
    value
        .map(|v| serde_json::from_value(v).map_err(|_| bad(table, id, column)))
        .transpose()
}

fn json<T: Serialize>(value: &Option<T>) -> Option<serde_json::Value> {
    value.as_ref().and_then(|v| serde_json::to_value(v).ok())
}

/// As it stands in rows.
#[expect(
    clippy::as_conversions,
    reason = "the enum says which numbers these are"
)]
pub(in crate::store) const fn number(urgency: Urgency) -> i16 {
    urgency as i16
}

impl TryFrom<payment::Model> for Payment {
    type Error = Error;

    fn try_from(m: payment::Model) -> Result<Self, Error> {
        const T: &str = "payment";
        let providers: Vec<ProviderName> = m
            .providers
            .split_whitespace()
            .map(|p| word(T, &m.id, "providers", p))
            .collect::<Result<_, _>>()?;

        Ok(Self {
            amount: money(T, &m.id, m.amount, &m.currency)?,
            flow: word(T, &m.id, "flow", &m.flow)?,
            status: word(T, &m.id, "status", &m.status)?,
            failure: object(T, &m.id, "failure", m.failure)?,
            providers,
            owner: Owner::of(m.merchant_id, m.livemode),
            order_id: m.order_id,
            description: m.description,
            return_url: m.return_url,
            notify_url: m.notify_url,
            client_ip: m.client_ip,
            store: object(T, &m.id, "store", m.store)?,
            metadata: m.metadata,
            round: m.round,
            version: m.version,
            resume_at: m.resume_at.map(Timestamp),
            parked_at: m.parked_at.map(Timestamp),
            lease_until: m.lease_until.map(Timestamp),
            cancel_requested_at: m.cancel_requested_at.map(Timestamp),
            paid_at: m.paid_at.map(Timestamp),
            created_at: Timestamp(m.created_at),
            expires_at: Timestamp(m.expires_at),
            ledger: m
                .ledger_entries
                .zip(m.ledger_hash)
                .map(|(entries, hash)| Head { entries, hash }),
            id: m.id,
        })
    }
}

/// The payment's row, written at `now`; when it is due and how urgent that is are the whole
/// aggregate's.
pub(in crate::store) fn payment_row(aggregate: &Aggregate, now: Timestamp) -> payment::ActiveModel {
    let p = &aggregate.payment;
    let due = aggregate.due(now);

    payment::Model {
        id: p.id.clone(),
        merchant_id: p.owner.merchant.clone(),
        order_id: p.order_id.clone(),
        amount: p.amount.minor(),
        currency: p.amount.currency().to_string(),
        description: p.description.clone(),
        flow: p.flow.to_string(),
        providers: p
            .providers
            .iter()
            .map(|p| p.as_str())
            .collect::<Vec<_>>()
            .join(" "),
        status: p.status.to_string(),
        failure: json(&p.failure),
        return_url: p.return_url.clone(),
        notify_url: p.notify_url.clone(),
        client_ip: p.client_ip.clone(),
        store: json(&p.store),
        metadata: p.metadata.clone(),
        livemode: p.owner.is_live(),
        round: p.round,
        version: p.version,
        resume_at: p.resume_at.map(|t| t.0),
        parked_at: p.parked_at.map(|t| t.0),
        next_check_at: due.map(|due| due.at.0),
        lease_until: p.lease_until.map(|t| t.0),
        cancel_requested_at: p.cancel_requested_at.map(|t| t.0),
        paid_at: p.paid_at.map(|t| t.0),
        created_at: p.created_at.0,
        expires_at: p.expires_at.0,
        ledger_entries: p.ledger.as_ref().map(|head| head.entries),
        ledger_hash: p.ledger.as_ref().map(|head| head.hash.clone()),
        urgency: number(due.map_or(Urgency::DEFAULT, |due| due.urgency)),
        due_provider: due
            .and_then(|due| due.provider)
            .map(|p| p.as_str().to_owned())
            .unwrap_or_default(),
        scheduled_at: Some(now.0),
    }
    .into_active_model()
    .reset_all()
}

impl TryFrom<attempt::Model> for Attempt {
    type Error = Error;

    fn try_from(m: attempt::Model) -> Result<Self, Error> {
        const T: &str = "attempt";

        Ok(Self {
            provider: word(T, &m.id, "provider", &m.provider)?,
            flow: word(T, &m.id, "flow", &m.flow)?,
            status: word(T, &m.id, "status", &m.status)?,
            disposition: m
                .disposition
                .as_deref()
                .map(|d| word(T, &m.id, "disposition", d))
                .transpose()?,
            amount: money(T, &m.id, m.amount, &m.currency)?,
            captured: m
                .captured
                .map(|c| money(T, &m.id, c, &m.currency))
                .transpose()?,
            outcome: m
                .outcome
                .as_deref()
                .map(|o| word(T, &m.id, "outcome", o))
                .transpose()?,
            failure: object(T, &m.id, "failure", m.failure)?,
            next_action: object(T, &m.id, "next_action", m.next_action)?,
            reversal: m
                .reversal
                .as_deref()
                .map(|r| word(T, &m.id, "reversal", r))
                .transpose()?,
            reversal_in_doubt: m.reversal_in_doubt,
            not_found_since: m.not_found_since.map(Timestamp),
            returning: m.returning,
            told_paid: m.told_paid,
            payment_id: m.payment_id,
            seq: m.seq,
            round: m.round,
            account_id: m.account_id,
            provider_order_no: m.provider_order_no,
            provider_transaction_id: m.provider_transaction_id,
            provider_request_id: m.provider_request_id,
            payer_amount: m.payer_amount,
            payer: m.payer,
            paid_at: m.paid_at.map(Timestamp),
            reason: m.reason,
            started_at: Timestamp(m.started_at),
            call_deadline: Timestamp(m.call_deadline),
            offer_deadline: Timestamp(m.offer_deadline),
            latency_ms: m.latency_ms,
            next_check_at: m.next_check_at.map(Timestamp),
            query_count: m.questions,
            id: m.id,
        })
    }
}

/// The attempt's row.
pub(in crate::store) fn attempt_row(a: &Attempt) -> attempt::ActiveModel {
    attempt::Model {
        id: a.id.clone(),
        payment_id: a.payment_id.clone(),
        seq: a.seq,
        round: a.round,
        account_id: a.account_id.clone(),
        provider: a.provider.to_string(),
        flow: a.flow.to_string(),
        status: a.status.to_string(),
        disposition: a.disposition.map(|d| d.to_string()),
        provider_order_no: a.provider_order_no.clone(),
        provider_transaction_id: a.provider_transaction_id.clone(),
        provider_request_id: a.provider_request_id.clone(),
        amount: a.amount.minor(),
        currency: a.amount.currency().to_string(),
        captured: a.captured.map(Money::minor),
        payer_amount: a.payer_amount,
        payer: a.payer.clone(),
        paid_at: a.paid_at.map(|t| t.0),
        outcome: a.outcome.map(|outcome| outcome.to_string()),
        failure: json(&a.failure),
        next_action: json(&a.next_action),
        reason: a.reason.clone(),
        started_at: a.started_at.0,
        call_deadline: a.call_deadline.0,
        offer_deadline: a.offer_deadline.0,
        latency_ms: a.latency_ms,
        next_check_at: a.next_check_at.map(|t| t.0),
        questions: a.query_count,
        reversal: a.reversal.map(|r| r.to_string()),
        reversal_in_doubt: a.reversal_in_doubt,
        not_found_since: a.not_found_since.map(|t| t.0),
        returning: a.returning,
        told_paid: a.told_paid,
    }
    .into_active_model()
    .reset_all()
}

impl TryFrom<refund::Model> for Refund {
    type Error = Error;

    fn try_from(m: refund::Model) -> Result<Self, Error> {
        const T: &str = "refund";

        Ok(Self {
            amount: money(T, &m.id, m.amount, &m.currency)?,
            status: word(T, &m.id, "status", &m.status)?,
            failure: object(T, &m.id, "failure", m.failure)?,
            payment_id: m.payment_id,
            attempt_id: m.attempt_id,
            owner: Owner::of(m.merchant_id, m.livemode),
            merchant_refund_no: m.merchant_refund_no,
            provider_refund_no: m.provider_refund_no,
            earlier_nos: m
                .earlier_nos
                .split_whitespace()
                .map(|no| word(T, &m.id, "earlier_nos", no))
                .collect::<Result<_, _>>()?,
            reason: m.reason,
            automatic: m.automatic,
            needs_funds: m.needs_funds,
            created_at: Timestamp(m.created_at),
            completed_at: m.completed_at.map(Timestamp),
            txn_time: m.txn_time.map(Timestamp),
            sent_at: m.sent_at.map(Timestamp),
            in_doubt: m.in_doubt,
            next_check_at: m.next_check_at.map(Timestamp),
            query_count: m.questions,
            told_done: m.told_done,
            id: m.id,
        })
    }
}

/// The refund's row.
pub(in crate::store) fn refund_row(r: &Refund) -> refund::ActiveModel {
    refund::Model {
        id: r.id.clone(),
        payment_id: r.payment_id.clone(),
        attempt_id: r.attempt_id.clone(),
        merchant_id: r.owner.merchant.clone(),
        livemode: r.owner.is_live(),
        merchant_refund_no: r.merchant_refund_no.clone(),
        provider_refund_no: r.provider_refund_no.clone(),
        earlier_nos: r.earlier_nos.join(" "),
        amount: r.amount.minor(),
        currency: r.amount.currency().to_string(),
        status: r.status.to_string(),
        reason: r.reason.clone(),
        automatic: r.automatic,
        failure: json(&r.failure),
        needs_funds: r.needs_funds,
        created_at: r.created_at.0,
        completed_at: r.completed_at.map(|t| t.0),
        txn_time: r.txn_time.map(|t| t.0),
        sent_at: r.sent_at.map(|t| t.0),
        in_doubt: r.in_doubt,
        next_check_at: r.next_check_at.map(|t| t.0),
        questions: r.query_count,
        told_done: r.told_done,
    }
    .into_active_model()
    .reset_all()
}

//! Notifications: checked in the documented order, decrypted, read. Nothing is read from a body
//! whose signature does not hold.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::de::DeserializeOwned;

use super::config::Account;
use super::outcome;
use super::sign::{Seal, SealError};
use super::wire::{Envelope, OtherNotice, RefundNotice, Transaction, json};
use crate::money::Money;
use crate::notification::{
    Acknowledgement, AcknowledgementBody, Notice, Notification, RawNotification, Rejection,
    Verified,
};

pub(super) fn read(
    account: &Account,
    raw: &RawNotification,
    now: DateTime<Utc>,
) -> Result<Verified<Notification>, Rejection> {
    let seal = Seal::of(&raw.headers).map_err(rejection)?;
    seal.check(&raw.body, now, &account.public_key_id, &account.public_key)
        .map_err(rejection)?;
    let envelope: Envelope = parse(&raw.body)?;
    let resource = decrypt(account, &envelope)?;
    let notice = match envelope.event_type.as_str() {
        "TRANSACTION.SUCCESS" => transaction(account, &resource)?,
        kind => match kind.strip_prefix("REFUND.") {
            Some(said) => refund(account, said, &resource)?,
            None => other(account, &resource)?,
        },
    };

    Ok(Verified::new(Notification {
        id: envelope.id,
        notice,
    }))
}

fn rejection(error: SealError) -> Rejection {
    match error {
        SealError::Missing(header) => Rejection::Unsigned(format!("no {header}")),
        SealError::Stale => Rejection::Stale,
        SealError::Probe => Rejection::Probe,
        SealError::UnknownType(name) | SealError::UnknownKey(name) => Rejection::UnknownKey(name),
        SealError::BadSignature => Rejection::BadSignature,
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Rejection> {
    json(body).map_err(|e| Rejection::Unreadable(e.to_string()))
}

fn decrypt(account: &Account, envelope: &Envelope) -> Result<Bytes, Rejection> {
    let resource = &envelope.resource;
    if resource.algorithm != "AEAD_AES_256_GCM" {
        return Err(Rejection::Unreadable(format!(
            "encrypted with {:?}",
            resource.algorithm
        )));
    }
    let associated_data = resource.associated_data.as_deref().unwrap_or_default();
    let opened = account
        .resource_key
        .open(&resource.nonce, associated_data, &resource.ciphertext);
    opened
        .map(Bytes::from)
        .map_err(|e| Rejection::Unreadable(e.to_string()))
}

/// Only what was paid is notified. A success that shows another state says two things, and is asked
/// about.
fn transaction(account: &Account, resource: &[u8]) -> Result<Notice, Rejection> {
    let transaction: Transaction = parse(resource)?;
    if let Some(other) = outcome::foreign_account(account, &transaction) {
        return Err(Rejection::OtherAccount(other));
    }
    let order_no = transaction.out_trade_no.clone();

    match transaction.trade_state.as_str() {
        "SUCCESS" | "REFUND" => {
            let capture = outcome::capture(account, transaction)
                .map_err(|f| Rejection::Unreadable(f.message))?;
            Ok(Notice::Paid { order_no, capture })
        }
        _ => Ok(Notice::Ask {
            order_no,
            refund_no: None,
            says_done: true,
            amount: None,
        }),
    }
}

/// What the event says of the refund, and what its status says, have to be the same: otherwise it
/// is asked about.
fn refund(account: &Account, said: &str, resource: &[u8]) -> Result<Notice, Rejection> {
    const DONE: &str = "SUCCESS";

    let refund: RefundNotice = parse(resource)?;
    same_merchant(account, Some(&refund.mchid))?;

    let amount = refund
        .amount
        .and_then(|amount| Money::fen(amount.refund).ok());
    let (order_no, refund_no) = (refund.out_trade_no, refund.out_refund_no);
    let says_done = said == DONE || refund.refund_status == DONE;

    if refund_no.is_empty() {
        return Ok(if says_done {
            Notice::Refunded {
                order_no,
                total: None,
            }
        } else {
            Notice::Ask {
                order_no,
                refund_no: None,
                says_done,
                amount,
            }
        });
    }

    if said != refund.refund_status {
        return Ok(Notice::Ask {
            order_no,
            refund_no: Some(refund_no),
            says_done,
            amount,
        });
    }

    let outcome = outcome::refund_state(&refund.refund_status);
    Ok(Notice::Refund {
        order_no,
        refund_no,
        outcome,
        amount,
        total: None,
    })
}

/// Notifications of products that we do not use.
fn other(account: &Account, resource: &[u8]) -> Result<Notice, Rejection> {
    let notice: OtherNotice = parse(resource)?;
    same_merchant(account, notice.mchid.as_deref())?;
    Ok(Notice::Nothing {
        order_no: notice.out_trade_no.unwrap_or_default(),
    })
}

fn same_merchant(account: &Account, mchid: Option<&str>) -> Result<(), Rejection> {
    match mchid {
        Some(other) if other != account.mchid => Err(Rejection::OtherAccount(other.to_owned())),
        Some(_) | None => Ok(()),
    }
}

/// 200 or 204 within 5 s ends it; anything else is sent again for about 24 h.
pub(super) fn acknowledge(what: Acknowledgement) -> AcknowledgementBody {
    let (status, body) = match what {
        Acknowledgement::Stop => (StatusCode::NO_CONTENT, ""),
        Acknowledgement::SendAgain => (
            StatusCode::INTERNAL_SERVER_ERROR,
            r#"{"code":"FAIL","message":"not stored, send again"}"#,
        ),
        Acknowledgement::Refuse => (
            StatusCode::UNAUTHORIZED,
            r#"{"code":"FAIL","message":"refused"}"#,
        ),
    };

    AcknowledgementBody {
        status,
        content_type: "application/json",
        body,
    }
}

//! Notifications of payments, refunds and undos: forms, signed as answers are. Only success is told.

use http::{HeaderMap, HeaderValue, header};

use super::super::outcome::{APPLY, CONSUME, SCAN};
use super::super::wire::{Fields, to_form};
use super::payments::{detail, paid};
use super::{UnionPayFace, returns};
use crate::order::Flow;
use crate::sandbox::book::{Event, Order};
use crate::sandbox::face::{Notice, Outgoing};

pub(super) fn outgoing(face: &UnionPayFace, notice: &Notice<'_>) -> Option<Outgoing> {
    let (url, sign_method, mut told) = match notice.event {
        Event::Paid { .. } => payment(notice.order)?,
        Event::RefundEnded { refund_no, .. } => refund(notice.order, refund_no)?,
        Event::Closed { .. } => return None,
    };
    told.extend(super::super::fields([
        ("version", super::super::VERSION),
        ("encoding", "UTF-8"),
        ("accessType", "0"),
        ("merId", &face.keys.mer_id),
        ("signMethod", sign_method),
        ("currencyCode", "156"),
        ("respCode", "00"),
        ("respMsg", "success"),
    ]));
    told.retain(|_, value| !value.is_empty());
    face.sign(&mut told, notice.alteration);
    let content_type = HeaderValue::from_static("application/x-www-form-urlencoded;charset=UTF-8");
    Some(Outgoing {
        url: url.to_owned(),
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
        body: to_form(&told).into(),
    })
}

/// Where to, signed how, and what.
type Told<'o> = (&'o str, &'o str, Fields);

fn payment(order: &Order) -> Option<Told<'_>> {
    let mut told = paid(order);
    told.extend(super::super::fields([
        ("txnType", CONSUME),
        ("txnSubType", if order.flow == Flow::Barcode { SCAN } else { APPLY }),
        ("bizType", detail(&order.details, "bizType")),
        ("orderId", &order.key.order_no),
        ("txnTime", detail(&order.details, "txnTime")),
        ("txnAmt", &order.amount.minor().to_string()),
        ("reqReserved", order.passback.as_deref().unwrap_or_default()),
    ]));
    if let (Flow::Barcode, Some(code)) = (order.flow, order.codes.last()) {
        told.insert("qrNo".to_owned(), code.text.clone());
    }
    Some((order.notify_url.as_deref()?, detail(&order.details, "signMethod"), told))
}

fn refund<'o>(order: &'o Order, number: &str) -> Option<Told<'o>> {
    let refund = returns::done(order, number)?;
    let mut told = returns::described(order, refund);
    told.extend(super::super::fields([
        ("bizType", detail(&refund.details, "bizType")),
        ("orderId", refund.refund_no.as_str()),
        ("txnTime", detail(&refund.details, "txnTime")),
    ]));
    Some((refund.notify_url.as_deref()?, detail(&refund.details, "signMethod"), told))
}

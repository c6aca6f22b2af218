//! Notifications of payments, refunds and undos: forms, signed as answers are. Only success is
//! told.

use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use super::super::outcome::{APPLY, CONSUME, SCAN};
use super::super::wire::{Fields, to_form};
use super::payments::paid;
use super::returns;
use super::state::{UnionPaySimulator, written_in};
use super::transaction::detail;
use crate::order::Flow;
use crate::sandbox::book::{Event, Order};
use crate::sandbox::charset::Charset;
use crate::sandbox::refund_end::PaymentEnd;
use crate::sandbox::simulator::{Notice, Outgoing};

pub(super) fn outgoing(face: &UnionPaySimulator, notice: &Notice<'_>) -> Option<Outgoing> {
    let (url, details, mut told) = match notice.event {
        Event::Paid { .. } => payment(notice.order)?,
        Event::RefundEnded { refund_no, .. } => refund(notice.order, refund_no)?,
        Event::Closed { .. } => return None,
    };

    // Only success is told, with a defect or without.
    let resp_code = match (notice.event, notice.order.paid_as) {
        (Event::Paid { .. }, PaymentEnd::Unsettled | PaymentEnd::UnsettledForGood) => return None,
        (Event::Paid { .. }, PaymentEnd::Defect) => "A6",
        (Event::Paid { .. } | Event::RefundEnded { .. } | Event::Closed { .. }, _) => "00",
    };

    // Orders from before it was remembered were asked for in this one.
    let encoding = Some(detail(details, "encoding"))
        .filter(|name| !name.is_empty())
        .unwrap_or("UTF-8");
    told.extend(super::super::fields([
        ("version", super::super::VERSION),
        ("encoding", encoding),
        ("accessType", "0"),
        ("merId", &face.keys.mer_id),
        ("signMethod", detail(details, "signMethod")),
        ("currencyCode", "156"),
        ("respCode", resp_code),
        ("respMsg", "success"),
    ]));

    told.retain(|_, value| !value.is_empty());
    let charset = written_in(&mut told, encoding, notice.alteration);
    face.sign(&mut told, notice.alteration);
    let content_type = HeaderValue::from_static(match charset {
        Charset::Utf8 => "application/x-www-form-urlencoded;charset=UTF-8",
        Charset::Gbk => "application/x-www-form-urlencoded;charset=GBK",
        Charset::Gb18030 => "application/x-www-form-urlencoded;charset=GB18030",
    });

    Some(Outgoing {
        url: url.to_owned(),
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
        body: to_form(&told).into(),
    })
}

/// Where to, what the request for it named, and what.
type Told<'o> = (&'o str, &'o Value, Fields);

fn payment(order: &Order) -> Option<Told<'_>> {
    let mut told = paid(order);
    told.extend(super::super::fields([
        ("txnType", CONSUME),
        (
            "txnSubType",
            if order.flow == Flow::Barcode {
                SCAN
            } else {
                APPLY
            },
        ),
        ("bizType", detail(&order.details, "bizType")),
        ("orderId", &order.key.order_no),
        ("txnTime", detail(&order.details, "txnTime")),
        ("txnAmt", &order.amount.minor().to_string()),
        ("reqReserved", order.passback.as_deref().unwrap_or_default()),
    ]));

    if let (Flow::Barcode, Some(code)) = (order.flow, order.codes.last()) {
        told.insert("qrNo".to_owned(), code.text.clone());
    }
    Some((order.notify_url.as_deref()?, &order.details, told))
}

fn refund<'o>(order: &'o Order, number: &str) -> Option<Told<'o>> {
    let refund = returns::done(order, number)?;
    let mut told = returns::described(order, refund);
    told.extend(super::super::fields([
        ("bizType", detail(&refund.details, "bizType")),
        ("orderId", refund.refund_no.as_str()),
        ("txnTime", detail(&refund.details, "txnTime")),
    ]));
    Some((refund.notify_url.as_deref()?, &refund.details, told))
}

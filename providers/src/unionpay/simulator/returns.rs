//! Refunds and undos. Each has its own number and time, is accepted at once and done about two
//! seconds later by the sandbox's clock; an undo gives back the whole of a payment of the same
//! clearing day.

use chrono::TimeDelta;
use serde_json::json;

use super::super::PROTOCOL;
use super::super::wire::{Fields, read_beijing};
use super::request::{Asked, Checked, UNDO};
use super::response::Said;
use super::state::UnionPaySimulator;
use super::transaction::{clearing_day, detail, is_used, same_clearing_day, settled};
use crate::sandbox::book::{Book, NewRefund, Order, Refund, RefundStatus, Refusal, State};
use crate::sandbox::refund_end::RefundEnd;
use crate::sandbox::simulator::SimulatorContext;

const WORK: TimeDelta = TimeDelta::seconds(2);
/// The gateway's text: eleven months.
const LATEST: TimeDelta = TimeDelta::days(330);

pub(super) fn give_back(
    face: &UnionPaySimulator,
    asked: Asked,
    request: &Checked<'_>,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    let amount = request.amount().ok_or_else(|| Said::invalid("txnAmt"))?;
    let number = request.text("orderId");
    let mut book = context.book.lock();
    if is_used(face, &book, number) {
        return Err(Said::duplicate());
    }
    let order = original(face, &book, request).ok_or_else(Said::no_original)?;
    let (key, query_id) = (
        order.key.clone(),
        order.transaction_id.clone().unwrap_or_default(),
    );

    let paid_at = order
        .paid_at
        .filter(|_| order.state == State::Paid)
        .ok_or_else(Said::no_original)?;
    if asked == Asked::Undo {
        undoable(
            order,
            amount.minor(),
            same_clearing_day(paid_at, context.now),
        )?;
    }
    if context.now > paid_at + LATEST || order.refunding_fen() == order.captured_fen() {
        return Err(Said::gone_back());
    }

    let ends_as = match book.refund_ends.draw(PROTOCOL.name.as_str()) {
        RefundEnd::Done => RefundStatus::Done,
        RefundEnd::Closed => RefundStatus::Closed,
        RefundEnd::Abnormal => RefundStatus::Abnormal,
        RefundEnd::NoFunds => return Err(Said::new("90", "账户余额不足[1000090]")),
    };
    let refund_id = face.query_id(book.next_number(), context.now);
    let details = json!({
        "txnTime": request.text("txnTime"),
        "txnType": if asked == Asked::Undo { UNDO } else { "04" },
        "signMethod": request.text("signMethod"), "bizType": request.text("bizType"),
        "reqReserved": request.some("reqReserved"), "encoding": request.text("encoding"),
    });

    let new = NewRefund {
        refund_no: number.to_owned(),
        refund_id: refund_id.clone(),
        amount,
        reason: None,
        notify_url: request.some("backUrl"),
        due_at: context.now + WORK,
        details,
    };

    book.refund(&key, new, context.now).map_err(refused)?;
    book.refund_will_end(&key, number, ends_as);
    Ok(Said::ok().with([
        ("queryId", refund_id),
        ("txnAmt", amount.minor().to_string()),
        ("origQryId", query_id),
        ("origOrderId", request.text("origOrderId").to_owned()),
        ("origTxnTime", request.text("origTxnTime").to_owned()),
    ]))
}

/// By UnionPay's number of the payment, or by ours with its time.
fn original<'b>(
    face: &UnionPaySimulator,
    book: &'b Book,
    request: &Checked<'_>,
) -> Option<&'b Order> {
    let order = match request.text("origQryId") {
        "" => book
            .order(&face.key(request.text("origOrderId")))
            .filter(|order| {
                read_beijing(request.text("origTxnTime")).is_some()
                    && detail(&order.details, "txnTime") == request.text("origTxnTime")
            }),
        query_id => book.by_transaction(query_id),
    };
    order.filter(|order| order.key == face.key(&order.key.order_no))
}

fn undoable(order: &Order, fen: i64, same_day: bool) -> Result<(), Said> {
    if !same_day {
        return Err(Said::no_original());
    }
    if order.refunding_fen() > 0 {
        return Err(Said::gone_back());
    }
    if fen != order.amount.minor() {
        return Err(Said::new("36", "撤销金额与原交易金额不一致[2050001]"));
    }
    Ok(())
}

fn refused(refusal: Refusal) -> Said {
    match refusal {
        Refusal::TooMuch => Said::new("36", "与原交易信息不符[2050004]"),
        Refusal::Exists => Said::duplicate(),
        Refusal::Unknown
        | Refusal::NotPaid
        | Refusal::Ended
        | Refusal::AlreadyPaid
        | Refusal::Expired
        | Refusal::NotLate => Said::no_original(),
    }
}

/// `origRespCode` of a refund.
fn state(refund: &Refund) -> (&'static str, &'static str) {
    match refund.status {
        RefundStatus::Processing => ("05", "交易已受理，请稍后查询交易结果[6154037]"),
        RefundStatus::Done => ("00", "成功[0000000]"),
        RefundStatus::Closed => ("63", "卡状态不正确[1000014]"),
        // There is no word for money that is on the way and does not arrive: the file tells.
        RefundStatus::Abnormal => ("04", "交易状态未明，请查询对账结果[1000004]"),
    }
}

/// What a query by the refund's own number and time says.
pub(super) fn told(order: &Order, number: &str, time: &str) -> Option<Said> {
    let refund = order
        .refunds
        .get(number)
        .filter(|r| detail(&r.details, "txnTime") == time)?;
    let (code, message) = state(refund);
    let mut said = Said::ok().with([
        ("origRespCode", code.to_owned()),
        ("origRespMsg", message.to_owned()),
    ]);
    said.fields.extend(described(order, refund));
    if code == "05" {
        said.fields.remove("currencyCode");
    }
    Some(said)
}

/// A refund or an undo, as queries and notifications describe it.
pub(super) fn described(order: &Order, refund: &Refund) -> Fields {
    let amount = refund.amount.minor().to_string();
    let settled = settled(
        refund.completed_at.unwrap_or(refund.created_at),
        &refund.refund_id,
        &amount,
    );

    let mut fields = super::super::fields([
        ("txnType", detail(&refund.details, "txnType")),
        ("txnSubType", "00"),
        ("txnAmt", amount.as_str()),
        ("currencyCode", "156"),
        ("queryId", refund.refund_id.as_str()),
        ("settleAmt", "0"),
        ("settleDate", &clearing_day(refund.created_at)),
        (
            "origQryId",
            order.transaction_id.as_deref().unwrap_or_default(),
        ),
        ("origOrderId", &order.key.order_no),
        ("origTxnTime", detail(&order.details, "txnTime")),
        ("reqReserved", detail(&refund.details, "reqReserved")),
    ]);

    if refund.status == RefundStatus::Done {
        fields.extend(settled);
    }
    fields
}

/// The order of a refund, and the refund, when a merchant asked for it and it succeeded.
pub(super) fn done<'o>(order: &'o Order, number: &str) -> Option<&'o Refund> {
    order
        .refunds
        .get(number)
        .filter(|r| r.status == RefundStatus::Done && r.notify_url.is_some())
}

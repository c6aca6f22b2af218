//! Refunds. A refund number belongs to its first request for ever; a refund is accepted at once and
//! done about two seconds later, by the sandbox's clock.

use chrono::TimeDelta;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::beijing;
use super::fields::{Fields, body};
use super::orders::COUPON;
use super::response::Said;
use super::state::{PROVIDER, WechatPaySimulator, beijing_day};
use crate::money::Money;
use crate::sandbox::book::{Book, NewRefund, Order, Refund, RefundStatus, Refusal, State};
use crate::sandbox::refund_end::RefundEnd;
use crate::sandbox::simulator::{Request, SimulatorContext};

const WORK: TimeDelta = TimeDelta::seconds(2);
/// Partial refunds of one order, and how long after the payment.
const MOST: usize = 50;
const LATEST: TimeDelta = TimeDelta::days(365);
/// The internal reasons of an `INVALID_REQUEST`.
const ILLEGAL: u32 = 268_435_461;
const OUT_OF_RANGE: u32 = 268_435_464;
const REENTRY: u32 = 268_498_688;

/// A refund request, read.
struct Asked {
    transaction_id: Option<String>,
    order_no: Option<String>,
    refund_no: String,
    reason: Option<String>,
    notify_url: Option<String>,
    amount: Money,
    total: Money,
}

pub(super) fn create(
    face: &WechatPaySimulator,
    request: &Request,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    let asked = read(&body(&request.body)?)?;
    let mut book = context.book.lock();
    let order = order_of(face, &book, &asked).ok_or_else(no_order)?;
    if let Some(first) = book.by_refund(PROVIDER, &face.keys.mchid, &asked.refund_no) {
        return repeated(first, order, &asked);
    }
    refundable(order, &asked, context)?;
    let key = order.key.clone();

    let ends_as = match book.refund_ends.draw(PROVIDER) {
        RefundEnd::Done => RefundStatus::Done,
        RefundEnd::Closed => RefundStatus::Closed,
        RefundEnd::Abnormal => RefundStatus::Abnormal,
        // Not accepted: the same number may come again.
        RefundEnd::NoFunds => {
            return Err(Said::no(
                StatusCode::FORBIDDEN,
                "NOT_ENOUGH",
                0,
                "基本账户余额不足，请充值后重新发起",
            ));
        }
    };

    let refund_id = format!(
        "50300000012{}{:09}",
        beijing_day(context.now),
        book.next_number()
    );
    let new = NewRefund {
        refund_no: asked.refund_no,
        refund_id,
        amount: asked.amount,
        reason: asked.reason,
        notify_url: asked.notify_url,
        due_at: context.now + WORK,
        details: Value::Null,
    };

    let refund = book
        .refund(&key, new, context.now)
        .map_err(|refusal| refused(&refusal))?
        .clone();
    book.refund_will_end(&key, &refund.refund_no, ends_as);
    let order = book.order(&key).ok_or_else(Said::system_error)?;

    Ok(Said::ok(described(order, &refund)))
}

fn read(members: &Map<String, Value>) -> Result<Asked, Said> {
    let fields = Fields::of(members);
    let refund_no = fields.number("out_refund_no", 1..=64)?.to_owned();
    let transaction_id = fields
        .optional_text("transaction_id", 1..=32)?
        .map(str::to_owned);
    let order_no = fields
        .optional_text("out_trade_no", 6..=32)?
        .map(str::to_owned);
    let reason = fields.optional_text("reason", 1..=80)?.map(str::to_owned);
    let notify_url = fields
        .optional_text("notify_url", 1..=256)?
        .map(str::to_owned);
    notify_url
        .as_deref()
        .map_or(Ok(()), |url| fields.address("notify_url", url))?;
    let amount = fields.object("amount")?;
    let (refund, total) = (amount.fen("refund")?, amount.fen("total")?);
    amount.text("currency", 1..=16)?;
    amount.renminbi("currency")?;
    amount.only(&["refund", "total", "currency", "from"])?;

    fields.only(&[
        "transaction_id",
        "out_trade_no",
        "out_refund_no",
        "reason",
        "notify_url",
        "funds_account",
        "amount",
        "goods_detail",
    ])?;

    if transaction_id.is_none() && order_no.is_none() {
        return Err(fields.wrong(
            "out_trade_no",
            "transaction_id和out_trade_no二选一",
            ILLEGAL,
        ));
    }

    let money = |fen| Money::fen(fen).map_err(|_| Said::system_error());
    Ok(Asked {
        transaction_id,
        order_no,
        refund_no,
        reason,
        notify_url,
        amount: money(refund)?,
        total: money(total)?,
    })
}

fn order_of<'b>(face: &WechatPaySimulator, book: &'b Book, asked: &Asked) -> Option<&'b Order> {
    let order = match (&asked.transaction_id, &asked.order_no) {
        (Some(id), _) => book.by_transaction(id),
        (None, Some(order_no)) => book.order(&face.order_key(order_no)),
        (None, None) => None,
    };
    order.filter(|o| o.key == face.order_key(&o.key.order_no))
}

/// No such order, or it was never paid: the same answer.
fn no_order() -> Said {
    Said::no(
        StatusCode::NOT_FOUND,
        "RESOURCE_NOT_EXISTS",
        268_512_771,
        "订单不存在或未支付",
    )
}

/// The same number again: the refund as it is, or a "no" when anything differs.
fn repeated(first: &Order, order: &Order, asked: &Asked) -> Result<Said, Said> {
    let same = |r: &&Refund| {
        first.key == order.key
            && r.amount == asked.amount
            && order.amount == asked.total
            && r.reason == asked.reason
            && r.notify_url == asked.notify_url
    };
    match first.refunds.get(&asked.refund_no).filter(same) {
        Some(refund) => Ok(Said::ok(described(first, refund))),
        None => Err(Said::bad_request(
            "INVALID_REQUEST",
            REENTRY,
            "请求重入时，参数与首次请求时不一致",
        )),
    }
}

fn refundable(order: &Order, asked: &Asked, context: &SimulatorContext<'_>) -> Result<(), Said> {
    let paid_at = order
        .paid_at
        .filter(|_| order.state == State::Paid)
        .ok_or_else(no_order)?;
    if asked.total != order.amount {
        return Err(Said::bad_request(
            "INVALID_REQUEST",
            ILLEGAL,
            "订单金额与之前请求不一致，请核实后再试",
        ));
    }

    if asked.amount.minor() > order.captured_fen() - order.refunding_fen() {
        return Err(refused(&Refusal::TooMuch));
    }
    if context.now > paid_at + LATEST {
        return Err(Said::bad_request(
            "INVALID_REQUEST",
            OUT_OF_RANGE,
            "订单已超过可退款的最大期限",
        ));
    }

    if order.refunds.len() >= MOST {
        return Err(Said::bad_request(
            "INVALID_REQUEST",
            OUT_OF_RANGE,
            "超过最大退款次数",
        ));
    }

    Ok(())
}

fn refused(refusal: &Refusal) -> Said {
    match refusal {
        Refusal::TooMuch => {
            Said::bad_request("INVALID_REQUEST", OUT_OF_RANGE, "退款金额大于可退金额")
        }
        Refusal::Unknown | Refusal::NotPaid | Refusal::Ended => no_order(),
        Refusal::Exists | Refusal::AlreadyPaid | Refusal::Expired | Refusal::NotLate => {
            Said::system_error()
        }
    }
}

pub(super) fn query(
    face: &WechatPaySimulator,
    refund_no: &str,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    let not_found = || {
        Said::no(
            StatusCode::NOT_FOUND,
            "RESOURCE_NOT_EXISTS",
            268_512_771,
            "退款单不存在",
        )
    };
    let book = context.book.lock();
    let order = book
        .by_refund(PROVIDER, &face.keys.mchid, refund_no)
        .ok_or_else(not_found)?;
    let refund = order.refunds.get(refund_no).ok_or_else(not_found)?;
    Ok(Said::ok(described(order, refund)))
}

/// `status` of an answer, `refund_status` of a notification.
pub(super) fn status(refund: &Refund) -> &'static str {
    match refund.status {
        RefundStatus::Processing => "PROCESSING",
        RefundStatus::Done => "SUCCESS",
        RefundStatus::Closed => "CLOSED",
        RefundStatus::Abnormal => "ABNORMAL",
    }
}

/// `success_time` exists for successful refunds only.
pub(super) fn success_time(refund: &Refund) -> Option<String> {
    refund
        .completed_at
        .filter(|_| refund.status == RefundStatus::Done)
        .map(beijing)
}

/// The coupon's share of a refund.
pub(super) fn coupon_back(order: &Order, refund: &Refund) -> i64 {
    refund.amount.minor() * order.coupon_fen() / order.amount.minor().max(1)
}

fn described(order: &Order, refund: &Refund) -> Value {
    let (total, back) = (order.amount.minor(), refund.amount.minor());
    let (payer_total, coupon_back) = (total - order.coupon_fen(), coupon_back(order, refund));
    let payer_back = back - coupon_back;
    let promotions = match coupon_back {
        0 => json!([]),
        fen => json!([{
            "promotion_id": COUPON, "scope": "GLOBAL", "type": "COUPON",
            "amount": order.coupon_fen(),
            "refund_amount": fen,
        }]),
    };

    let mut members = json!({
        "amount": {
            "currency": "CNY", "discount_refund": coupon_back, "from": [],
            "payer_refund": payer_back,
            "payer_total": payer_total, "refund": back, "refund_fee": 0,
            "settlement_refund": payer_back,
            "settlement_total": payer_total, "total": total,
        },
        "channel": "ORIGINAL", "create_time": beijing(refund.created_at),
        "funds_account": "AVAILABLE",
        "out_refund_no": refund.refund_no, "out_trade_no": order.key.order_no,
        "promotion_detail": promotions,
        "refund_id": refund.refund_id, "status": status(refund),
        "transaction_id": order.transaction_id,
        "user_received_account": "支付用户零钱",
    });

    if let (Some(members), Some(time)) = (members.as_object_mut(), success_time(refund)) {
        members.insert("success_time".to_owned(), Value::String(time));
    }
    members
}

//! Codes that the payer scans, codes that we scan, questions about both, and reversals. A number
//! belongs to its first request for ever, and what has been reversed is not found any more.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::super::outcome::{APPLY, CONSUME, SCAN};
use super::super::wire::{Fields, read_beijing};
use super::request::Checked;
use super::response::Said;
use super::returns;
use super::state::{PROVIDER, UnionPaySimulator};
use super::transaction::{detail, is_used, same_clearing_day, settled};
use crate::order::Flow;
use crate::sandbox::book::{Book, Code, Order, OrderKey, Refusal, State};
use crate::sandbox::payer::PayerBehaviour;
use crate::sandbox::refund_end::PaymentEnd;
use crate::sandbox::simulator::SimulatorContext;

/// An applied code without a `payTimeout` was seen to live this long.
const LIFE: TimeDelta = TimeDelta::seconds(86_362);
/// A payer who is asked for a password has this long.
const PATIENCE: TimeDelta = TimeDelta::minutes(3);
/// The card of every payer.
pub(super) const CARD: &str = "621626******0018";

/// Its issuer, in the words of another charset where that is asked for.
const ISSUER: &str = "联通沙盒银行";

fn entered(
    face: &UnionPaySimulator,
    request: &Checked<'_>,
    flow: Flow,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<Order> {
    let details = json!({
        "txnTime": request.text("txnTime"), "txnSubType": request.text("txnSubType"),
        "signMethod": request.text("signMethod"), "bizType": request.text("bizType"),
        "encoding": request.text("encoding"),
    });

    Some(Order {
        key: face.key(request.text("orderId")),
        amount: request.amount()?,
        description: String::new(),
        flow,
        notify_url: request.some("backUrl"),
        passback: request.some("reqReserved"),
        details,
        created_at: now,
        expires_at,
        codes: Vec::new(),
        state: State::Payable,
        transaction_id: None,
        paid_at: None,
        ended_at: None,
        declined_at: None,
        paid_as: Default::default(),
        refunds: std::collections::BTreeMap::new(),
    })
}

/// 00 makes a code and takes nothing.
pub(super) fn apply(
    face: &UnionPaySimulator,
    request: &Checked<'_>,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    let expires_at = read_beijing(request.text("payTimeout")).unwrap_or(context.now + LIFE);
    let order = entered(face, request, Flow::Qr, expires_at, context.now)
        .ok_or_else(|| Said::invalid("txnAmt"))?;
    let key = order.key.clone();
    let mut book = context.book.lock();
    if is_used(face, &book, &key.order_no) {
        return Err(Said::duplicate());
    }
    let text = format!("https://qr.95516.com/00010001/62{:030}", book.next_number());
    book.insert(order).map_err(|_| Said::duplicate())?;

    let code = Code {
        text: text.clone(),
        dies_at: expires_at,
    };
    book.give_code(&key, code).map_err(|_| Said::busy())?;

    Ok(Said::ok().with([("qrCode", text)]))
}

/// 00 says that the charge was accepted. What becomes of it, the query tells, and a notification.
pub(super) fn scan(
    face: &UnionPaySimulator,
    request: &Checked<'_>,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    let qr_no = request.text("qrNo");
    let order = entered(
        face,
        request,
        Flow::Barcode,
        context.now + PATIENCE,
        context.now,
    );
    let order = order.ok_or_else(|| Said::invalid("txnAmt"))?;
    let (key, expires_at) = (order.key.clone(), order.expires_at);
    let amount = request.text("txnAmt").to_owned();
    let mut book = context.book.lock();
    if is_used(face, &book, &key.order_no) {
        return Err(Said::duplicate());
    }
    if book.by_code(qr_no).is_some() {
        return Err(Said::new("01", "二维码已被使用，交易失败[1000001]"));
    }
    if !super::super::is_code(qr_no) {
        return Err(Said::new("88", "无此二维码[1000088]"));
    }
    let mood = PayerBehaviour::of(qr_no);
    if mood == PayerBehaviour::CodeExpired {
        return Err(Said::new("86", "二维码状态错误[1000086]"));
    }
    let number = book.next_number();
    let query_id = face.query_id(number, context.now);
    book.insert(order).map_err(|_| Said::duplicate())?;

    let code = Code {
        text: qr_no.to_owned(),
        dies_at: expires_at,
    };
    let mut done = book.give_code(&key, code);

    match mood {
        PayerBehaviour::Pays => done = done.and_then(|()| book.pay(&key, &query_id, context.now)),
        PayerBehaviour::HasNoMoney => {
            done = done.and_then(|()| book.open_trade(&key, &query_id, context.now));
            done = done.and_then(|()| book.close(&key, context.now));
        }
        // It keeps the number that the answer tells.
        PayerBehaviour::MustConfirm => {
            done = done.and_then(|()| book.open_trade(&key, &query_id, context.now))
        }
        PayerBehaviour::CodeExpired => {}
    }

    done.map_err(|_| Said::busy())?;
    Ok(Said::ok().with([
        ("queryId", query_id),
        ("txnAmt", amount),
        ("currencyCode", "156".to_owned()),
    ]))
}

/// A scan ends when its payer says no, or nothing for too long.
fn settle(book: &mut Book, key: &OrderKey, now: DateTime<Utc>) {
    let is_over = |order: &Order| {
        order.flow == Flow::Barcode
            && matches!(order.state, State::Shown | State::Payable)
            && (order.declined_at.is_some() || now >= order.expires_at)
    };
    if book.order(key).is_some_and(is_over) {
        // It was unpaid a moment ago, under the same lock.
        let _ = book.close(key, now);
    }
}

/// Asks about a payment, a refund or an undo, each by its own number and time.
pub(super) fn query(
    face: &UnionPaySimulator,
    request: &Checked<'_>,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    let (number, time) = (request.text("orderId"), request.text("txnTime"));
    if face.asks_too_often(number, context.now) {
        return Err(Said::too_often());
    }
    let key = face.key(number);
    let mut book = context.book.lock();
    settle(&mut book, &key, context.now);
    if let Some(order) = book
        .order(&key)
        .filter(|o| detail(&o.details, "txnTime") == time)
    {
        return told(order, context.now).ok_or_else(not_found);
    }
    let order = book
        .by_refund(PROVIDER, &face.keys.mer_id, number)
        .ok_or_else(not_found)?;

    returns::told(order, number, time).ok_or_else(not_found)
}

/// The type of a transaction that is not there is that of the question.
fn not_found() -> Said {
    Said::not_found().with([
        ("txnType", "00".to_owned()),
        ("txnSubType", "00".to_owned()),
    ])
}

/// `origRespCode` of a payment; `None` when it is not found.
fn state(order: &Order, now: DateTime<Utc>) -> Option<(&'static str, &'static str)> {
    let is_scan = order.flow == Flow::Barcode;
    let no_money = ("64", "卡上余额不足[1000051]");
    let declined = order.declined_at.is_some();

    match order.state {
        State::Paid if order.is_late() => Some(("42", "扣款成功但交易超过规定支付时间[1000042]")),
        State::Paid => Some(match order.paid_as {
            PaymentEnd::Plain | PaymentEnd::Coupon => ("00", "成功[0000000]"),
            PaymentEnd::Defect => ("A6", "有缺陷的成功[10000A6]"),
            PaymentEnd::Unsettled => ("74", "扣款成功，销账未知[1000074]"),
            PaymentEnd::UnsettledForGood => ("75", "扣款成功，销账失败[1000075]"),
        }),
        // A second card can still pay an applied code.
        State::Shown | State::Payable if !is_scan && now >= order.expires_at => None,
        State::Shown | State::Payable if declined => Some(no_money),
        State::Shown | State::Payable => Some(("05", "交易已受理，请稍后查询交易结果[6154037]")),
        State::Closed
            if order
                .codes
                .last()
                .is_some_and(|c| PayerBehaviour::of(&c.text) == PayerBehaviour::HasNoMoney) =>
        {
            Some(no_money)
        }
        State::Closed if declined => Some(("30", "交易未通过，请尝试使用其他银联卡支付[1000030]")),
        State::Closed if order.ended_at.is_some_and(|at| at >= order.expires_at) => {
            Some(("69", "输入超时[1000069]"))
        }
        State::Closed | State::Reversed => None,
    }
}

fn told(order: &Order, now: DateTime<Utc>) -> Option<Said> {
    let (code, message) = state(order, now)?;
    let mut said = Said::ok().with([
        ("txnType", CONSUME.to_owned()),
        (
            "txnSubType",
            if order.flow == Flow::Barcode {
                SCAN
            } else {
                APPLY
            }
            .to_owned(),
        ),
        ("origRespCode", code.to_owned()),
        ("origRespMsg", message.to_owned()),
        ("issuerIdentifyMode", "0".to_owned()),
        ("settleAmt", "0".to_owned()),
        ("txnAmt", order.amount.minor().to_string()),
        ("currencyCode", "156".to_owned()),
        ("reqReserved", order.passback.clone().unwrap_or_default()),
    ]);

    said.fields.extend(paid(order));
    if code == "05" {
        said.fields.remove("currencyCode");
    }

    Some(said)
}

/// What only a paid order has.
pub(super) fn paid(order: &Order) -> Fields {
    let (Some(at), Some(query_id)) = (order.paid_at, order.transaction_id.as_deref()) else {
        return Fields::new();
    };
    let amount = order.amount.minor().to_string();
    let mut fields = settled(at, query_id, &amount);
    fields.extend(super::super::fields([
        ("accNo", CARD),
        ("payCardType", "01"),
        ("payCardIssueName", ISSUER),
    ]));
    fields
}

/// Undoes a scan of the same clearing day, whatever became of it.
pub(super) fn reverse(
    face: &UnionPaySimulator,
    request: &Checked<'_>,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    let key = face.key(request.text("orderId"));
    let mut book = context.book.lock();
    settle(&mut book, &key, context.now);
    let order = book
        .order(&key)
        .filter(|o| detail(&o.details, "txnTime") == request.text("txnTime"));
    let order = order.ok_or_else(Said::not_found)?;
    if order.flow != Flow::Barcode || !same_clearing_day(order.created_at, context.now) {
        return Err(Said::no_original());
    }
    if order.state == State::Reversed {
        return Err(Said::new("46", "交易已被冲正[1000046]"));
    }

    match book.reverse(&key, context.now) {
        // It had ended without money: there is nothing to undo, and nothing will be.
        Ok(_) | Err(Refusal::Ended) => Ok(Said::ok()),
        Err(Refusal::TooMuch) => Err(Said::gone_back()),
        Err(
            Refusal::Unknown
            | Refusal::Exists
            | Refusal::AlreadyPaid
            | Refusal::NotPaid
            | Refusal::Expired
            | Refusal::NotLate,
        ) => Err(Said::busy()),
    }
}

//! Native orders: making, asking, closing. A number belongs to its first request for ever; only
//! the newest code of an order lives; an order that nobody pays closes itself after seven days.

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::beijing;
use super::fields::{Fields, body};
use super::response::Said;
use super::state::WechatPaySimulator;
use crate::money::Money;
use crate::order::Flow;
use crate::sandbox::book::{Book, Code, Order, OrderKey, RefundStatus, State};
use crate::sandbox::secrets::hex;
use crate::sandbox::simulator::{Request, SimulatorContext};

/// A code lives this long, whatever `time_expire` says.
const CODE_LIFE: TimeDelta = TimeDelta::hours(2);
const ORDER_LIFE: TimeDelta = TimeDelta::days(7);
const SHORTEST_OFFER: TimeDelta = TimeDelta::minutes(1);
/// The number of the payer's coupon.
pub(super) const COUPON: &str = "109519";
/// The payer, always the same one.
pub(super) const OPENID: &str = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o";

/// A create request, read.
struct NewOrder {
    key: OrderKey,
    amount: Money,
    description: String,
    attach: Option<String>,
    notify_url: String,
    time_expire: Option<DateTime<Utc>>,
    /// To be compared with a later request under the same number.
    request: Value,
}

pub(super) fn create(
    face: &WechatPaySimulator,
    request: &Request,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    let new = read(face, body(&request.body)?)?;
    let dice = hex(8).map_err(|_| Said::system_error())?;
    let mut book = context.book.lock();
    retire(&mut book, &new.key, context.now);
    match book.order(&new.key) {
        Some(order) => reentered(order, &new, context.now)?,
        None => {
            let order = entered(&new, face.key_for(request), context.now);
            book.insert(order).map_err(|_| Said::system_error())?;
        }
    }

    let text = format!("weixin://wxpay/bizpayurl?pr={dice}{:x}", book.next_number());
    let code = Code {
        text: text.clone(),
        dies_at: context.now + CODE_LIFE,
    };
    book.give_code(&new.key, code)
        .map_err(|_| Said::system_error())?;

    Ok(Said::ok(json!({"code_url": text})))
}

fn read(face: &WechatPaySimulator, members: Map<String, Value>) -> Result<NewOrder, Said> {
    let fields = Fields::of(&members);
    let (appid, mchid) = (fields.text("appid", 1..=32)?, fields.text("mchid", 1..=32)?);
    let description = fields.text("description", 1..=127)?.to_owned();
    let order_no = fields.number("out_trade_no", 6..=32)?;
    let notify_url = fields.text("notify_url", 1..=255)?.to_owned();
    fields.address("notify_url", &notify_url)?;
    let attach = fields.optional_text("attach", 0..=128)?.map(str::to_owned);
    fields.optional_text("goods_tag", 0..=32)?;
    let amount = fields.object("amount")?;
    let fen = amount.fen("total")?;
    amount.renminbi("currency")?;
    amount.only(&["total", "currency"])?;

    let time_expire = fields
        .optional_text("time_expire", 1..=64)?
        .map(|text| {
            DateTime::parse_from_rfc3339(text)
                .map_err(|_| fields.wrong("time_expire", "格式错误", 268_435_461))
        })
        .transpose()?
        .map(|time| time.to_utc());

    fields.only(&[
        "appid",
        "mchid",
        "description",
        "out_trade_no",
        "time_expire",
        "attach",
        "notify_url",
        "goods_tag",
        "support_fapiao",
        "limit_pay",
        "amount",
        "detail",
        "scene_info",
        "settle_info",
    ])?;

    if mchid != face.keys.mchid {
        return Err(fields.wrong("mchid", "商户号与签名的商户号不一致", 268_435_461));
    }
    if appid != face.keys.appid {
        return Err(Said::bad_request(
            "APPID_MCHID_NOT_MATCH",
            268_445_527,
            "appid和mch_id不匹配",
        ));
    }

    let amount = Money::fen(fen).map_err(|_| Said::system_error())?;
    let key = face.order_key(order_no);

    Ok(NewOrder {
        key,
        amount,
        description,
        attach,
        notify_url,
        time_expire,
        request: Value::Object(members),
    })
}

fn entered(new: &NewOrder, signed_by: &str, now: DateTime<Utc>) -> Order {
    let expires_at = new
        .time_expire
        .map_or(now + ORDER_LIFE, |time| time.max(now + SHORTEST_OFFER));

    Order {
        key: new.key.clone(),
        amount: new.amount,
        description: new.description.clone(),
        flow: Flow::Qr,
        notify_url: Some(new.notify_url.clone()),
        passback: new.attach.clone(),
        details: json!({"request": new.request, "signed_by": signed_by}),
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
    }
}

/// What a second request under the same number gets: a new code, or the reason why not.
fn reentered(order: &Order, new: &NewOrder, now: DateTime<Utc>) -> Result<(), Said> {
    let closed = || Said::bad_request("ORDER_CLOSED", 268_447_914, "该订单已关闭/已失效");
    if is_burnt(order) {
        return Err(reentry());
    }
    match order.state {
        State::Closed | State::Reversed if order.flow == Flow::Barcode => Err(used()),
        State::Paid | State::Reversed => Err(paid()),
        State::Closed => Err(closed()),
        State::Shown | State::Payable if order.details.get("request") != Some(&new.request) => {
            Err(reentry())
        }
        State::Shown | State::Payable if now >= order.expires_at => Err(closed()),
        State::Shown | State::Payable => Ok(()),
    }
}

pub(super) fn paid() -> Said {
    Said::bad_request("ORDERPAID", 268_449_538, "该订单已支付")
}

/// A number that a reversal killed.
pub(super) fn used() -> Said {
    Said::no(
        StatusCode::FORBIDDEN,
        "OUT_TRADE_NO_USED",
        0,
        "商户订单号重复",
    )
}

pub(super) fn reentry() -> Said {
    Said::bad_request(
        "INVALID_REQUEST",
        268_498_688,
        "请求重入时，参数与首次请求时不一致",
    )
}

/// Closed before it was ever made: no order, and a number that cannot be used.
pub(super) fn is_burnt(order: &Order) -> bool {
    order.details.get("burnt").is_some()
}

/// An order that nobody made and nobody can make any more.
pub(super) fn dead(key: &OrderKey, flow: Flow, now: DateTime<Utc>) -> Option<Order> {
    Some(Order {
        key: key.clone(),
        amount: Money::fen(0).ok()?,
        description: String::new(),
        flow,
        notify_url: None,
        passback: None,
        details: json!({"burnt": true}),
        created_at: now,
        expires_at: now,
        codes: Vec::new(),
        state: State::Closed,
        transaction_id: None,
        paid_at: None,
        ended_at: Some(now),
        declined_at: None,
        paid_as: Default::default(),
        refunds: std::collections::BTreeMap::new(),
    })
}

fn retire(book: &mut Book, key: &OrderKey, now: DateTime<Utc>) {
    let is_old = |o: &Order| {
        o.flow == Flow::Qr && o.state == State::Payable && now >= o.created_at + ORDER_LIFE
    };
    if book.order(key).is_some_and(is_old) {
        // It was unpaid a moment ago, under the same lock.
        let _ = book.close(key, now);
    }
}

fn not_found() -> Said {
    Said::no(
        StatusCode::NOT_FOUND,
        "ORDER_NOT_EXIST",
        268_512_771,
        "订单不存在",
    )
}

/// The query's `mchid`; another merchant's order is as good as none.
fn same_merchant(face: &WechatPaySimulator, request: &Request) -> Result<(), Said> {
    let mchid =
        form_urlencoded::parse(request.query().as_bytes()).find(|(name, _)| name == "mchid");
    match mchid {
        Some((_, mchid)) if mchid == face.keys.mchid.as_str() => Ok(()),
        Some(_) => Err(not_found()),
        None => Err(mchid_missing()),
    }
}

/// As two independent dumps have it.
fn mchid_missing() -> Said {
    let message =
        "输入源“/uri_template/mchid”映射到字段“直连商户号”必填性规则校验失败，此字段为必填项";
    let detail = json!({"location": "uri_template", "value": ""});
    let body = json!({"code": "PARAM_ERROR", "detail": detail, "message": message});
    Said {
        status: StatusCode::BAD_REQUEST,
        reason: 268_435_461,
        body: Some(body),
        signed: true,
    }
}

pub(super) fn query(
    face: &WechatPaySimulator,
    request: &Request,
    order_no: &str,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    same_merchant(face, request)?;
    let key = face.order_key(order_no);
    let mut book = context.book.lock();
    retire(&mut book, &key, context.now);
    // A close of a number that was never made leaves no order to be asked for; a reversal does.
    let order = book
        .order(&key)
        .filter(|o| !is_burnt(o) || o.flow == Flow::Barcode)
        .ok_or_else(not_found)?;
    Ok(Said::ok(transaction(face, order, context.now)))
}

pub(super) fn query_transaction(
    face: &WechatPaySimulator,
    request: &Request,
    id: &str,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    same_merchant(face, request)?;
    let book = context.book.lock();
    let ours = |o: &&Order| o.key == face.order_key(&o.key.order_no) && o.paid_at.is_some();
    let order = book.by_transaction(id).filter(ours).ok_or_else(not_found)?;
    Ok(Said::ok(transaction(face, order, context.now)))
}

fn trade_state(order: &Order, now: DateTime<Utc>) -> (&'static str, &'static str) {
    let refunded = order
        .refunds
        .values()
        .any(|r| r.status != RefundStatus::Closed);
    match order.state {
        State::Shown | State::Payable if order.flow == Flow::Barcode => unpaid_charge(order, now),
        State::Closed if order.flow == Flow::Barcode => ("REVOKED", "订单已撤销"),
        State::Shown | State::Payable => ("NOTPAY", "订单未支付"),
        State::Paid if refunded => ("REFUND", "订单发生过退款"),
        State::Paid => ("SUCCESS", "支付成功"),
        State::Closed => ("CLOSED", "订单已关闭"),
        State::Reversed => ("REVOKED", "订单已撤销"),
    }
}

/// Whether the dialog in which a payer confirms a charge is open.
pub(super) fn asks_the_payer(order: &Order, now: DateTime<Utc>) -> bool {
    order.state == State::Payable && order.declined_at.is_none() && now < order.expires_at
}

/// An unpaid charge: the dialog is open, or it failed.
fn unpaid_charge(order: &Order, now: DateTime<Utc>) -> (&'static str, &'static str) {
    if asks_the_payer(order, now) {
        ("USERPAYING", "用户支付中，需要输入密码")
    } else {
        ("PAYERROR", "支付失败，请撤销订单重新下单")
    }
}

/// An order as queries and notifications tell it: an unpaid one lacks most members.
pub(super) fn transaction(face: &WechatPaySimulator, order: &Order, now: DateTime<Utc>) -> Value {
    let (state, description) = trade_state(order, now);
    let trade_type = if order.flow == Flow::Barcode {
        "MICROPAY"
    } else {
        "NATIVE"
    };

    let mut members = json!({
        "appid": face.keys.appid, "mchid": face.keys.mchid, "out_trade_no": order.key.order_no,
        "promotion_detail": [], "trade_state": state, "trade_state_desc": description,
    });
    let total = order.amount.minor();
    let more = match (order.paid_at, &order.transaction_id) {
        (Some(paid_at), Some(id)) => json!({
            "amount": {
                "currency": "CNY", "payer_currency": "CNY",
                "payer_total": total - order.coupon_fen(), "total": total,
            },
            "promotion_detail": promotions(order),
            "attach": order.passback.clone().unwrap_or_default(), "bank_type": "OTHERS",
            "payer": {"openid": OPENID}, "success_time": beijing(paid_at), "trade_type": trade_type,
            "transaction_id": id,
        }),
        _ => {
            json!({"amount": {"payer_currency": "CNY", "total": total},
                "scene_info": {"device_id": ""}})
        }
    };

    if let (Some(members), Value::Object(more)) = (members.as_object_mut(), more) {
        members.extend(more);
    }
    members
}

/// The coupon that the payer had, if any: the shop's own, for all of its goods.
fn promotions(order: &Order) -> Value {
    match order.coupon_fen() {
        0 => json!([]),
        fen => json!([{
            "coupon_id": COUPON, "name": "店庆满减券", "scope": "GLOBAL", "type": "NOCASH",
            "amount": fen,
            "stock_id": "931386", "wechatpay_contribute": 0, "merchant_contribute": fen,
            "other_contribute": 0,
            "currency": "CNY",
        }]),
    }
}

pub(super) fn close(
    face: &WechatPaySimulator,
    request: &Request,
    order_no: &str,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    let members = body(&request.body)?;
    let fields = Fields::of(&members);
    let mchid = fields
        .optional_text("mchid", 1..=32)?
        .ok_or_else(mchid_missing)?;
    fields.only(&["mchid"])?;
    if mchid != face.keys.mchid {
        return Err(Said::bad_request(
            "INVALID_REQUEST",
            268_447_843,
            "商户号和订单不匹配",
        ));
    }

    let key = face.order_key(order_no);
    let mut book = context.book.lock();

    match book.order(&key).map(|order| order.state) {
        None => {
            let order = dead(&key, Flow::Qr, context.now).ok_or_else(Said::system_error)?;
            book.insert(order).map_err(|_| Said::system_error())?;
        }
        Some(_)
            if book
                .order(&key)
                .is_some_and(|order| order.flow == Flow::Barcode) =>
        {
            return Err(Said::bad_request(
                "INVALID_REQUEST",
                268_449_641,
                "付款码支付订单不支持关单，请调用撤销接口",
            ));
        }
        Some(State::Shown | State::Payable) => {
            book.close(&key, context.now)
                .map_err(|_| Said::system_error())?;
        }
        Some(State::Closed) => {}
        Some(State::Paid | State::Reversed) => {
            return Err(paid());
        }
    }

    Ok(Said::no_content())
}

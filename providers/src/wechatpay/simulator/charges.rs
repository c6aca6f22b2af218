//! Code payments and their reversal. The payer's mood is in the code. A payer who has to confirm
//! has a minute for it on the sandbox's clock; while that dialog is open nothing can be reversed,
//! and a payment that failed stays PAYERROR until it is. Nobody is ever notified of one.

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::is_code;
use super::fields::{Fields, body};
use super::orders::{asks_the_payer, dead, paid, reentry, transaction, used};
use super::response::Said;
use super::state::WechatPaySimulator;
use crate::money::Money;
use crate::order::Flow;
use crate::sandbox::book::{Book, Code, Order, OrderKey, Refusal, State};
use crate::sandbox::payer::PayerBehaviour;
use crate::sandbox::simulator::{Request, Simulator as _, SimulatorContext};

/// How long the payer may type the password.
const DIALOG: TimeDelta = TimeDelta::seconds(60);
/// A payment is not reversed before, and not after so long.
const REVERSE_FROM: TimeDelta = TimeDelta::seconds(15);
const REVERSE_UNTIL: TimeDelta = TimeDelta::days(7);
const ILLEGAL: u32 = 268_435_461;

/// A code payment, read.
struct NewCharge {
    key: OrderKey,
    amount: Money,
    description: String,
    attach: Option<String>,
    auth_code: String,
    /// To be compared with a later request under the same number.
    request: Value,
}

pub(super) fn create(
    face: &WechatPaySimulator,
    request: &Request,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    let new = read(face, body(&request.body)?)?;
    let mut book = context.book.lock();
    let key = new.key.clone();

    if let Some(order) = book.order(&key) {
        reentered(order, &new)?;
    } else {
        let mood = PayerBehaviour::of(&new.auth_code);
        if !is_code(&new.auth_code) {
            return Err(Said::bad_request(
                "AUTH_CODE_INVALID",
                0,
                "请扫描微信支付授权码(以10/11/12/13/14/15开头的18位数字)",
            ));
        }
        if book.by_code(&new.auth_code).is_some() {
            return Err(Said::bad_request(
                "AUTH_CODE_INVALID",
                0,
                "101 每个二维码只能使用一次，请刷新再试",
            ));
        }
        if mood == PayerBehaviour::CodeExpired {
            return Err(Said::bad_request(
                "AUTHCODEEXPIRE",
                0,
                "101 付款码已过期，请用户在微信上刷新后再试",
            ));
        }
        let id = face.transaction_id(book.next_number(), context.now);
        enter(&mut book, new, mood, &id, context.now).map_err(|_| Said::system_error())?;
        if mood == PayerBehaviour::HasNoMoney {
            return Err(Said::no(
                StatusCode::FORBIDDEN,
                "NOT_ENOUGH",
                0,
                "用户账号余额不足",
            ));
        }
    }

    let order = book.order(&key).ok_or_else(Said::system_error)?;
    let mut said = Said::ok(transaction(face, order, context.now));
    if order.state == State::Payable {
        said.status = StatusCode::ACCEPTED;
    }

    Ok(said)
}

fn read(face: &WechatPaySimulator, members: Map<String, Value>) -> Result<NewCharge, Said> {
    let fields = Fields::of(&members);
    let (appid, mchid) = (fields.text("appid", 1..=32)?, fields.text("mchid", 1..=32)?);
    let description = fields.text("description", 1..=127)?.to_owned();
    let order_no = fields.number("out_trade_no", 6..=32)?;
    let attach = fields.optional_text("attach", 0..=128)?.map(str::to_owned);
    fields.optional_text("goods_tag", 0..=32)?;
    let amount = fields.object("amount")?;
    let fen = amount.fen("total")?;
    amount.renminbi("currency")?;
    amount.only(&["total", "currency"])?;
    let payer = fields.object("payer")?;
    let auth_code = payer.text("auth_code", 1..=32)?.to_owned();
    payer.only(&["auth_code"])?;
    let scene = fields.object("scene_info")?;
    scene.optional_text("device_id", 0..=32)?;
    scene.only(&["device_id", "device_ip", "store_info"])?;
    let store = scene.object("store_info")?;

    let (id, out_id) = (
        store.optional_text("id", 1..=32)?,
        store.optional_text("out_id", 1..=32)?,
    );
    store.only(&["id", "out_id"])?;
    if id.is_none() && out_id.is_none() {
        return Err(store.wrong("out_id", "id和out_id二选一", ILLEGAL));
    }

    fields.only(&[
        "appid",
        "mchid",
        "description",
        "out_trade_no",
        "attach",
        "goods_tag",
        "support_fapiao",
        "amount",
        "payer",
        "detail",
        "scene_info",
        "settle_info",
    ])?;

    if mchid != face.keys.mchid {
        return Err(fields.wrong("mchid", "商户号与签名的商户号不一致", ILLEGAL));
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

    Ok(NewCharge {
        key,
        amount,
        description,
        attach,
        auth_code,
        request: Value::Object(members),
    })
}

/// The same request again tells how the payment stands; anything else under the number is refused.
fn reentered(order: &Order, new: &NewCharge) -> Result<(), Said> {
    match order.state {
        State::Paid => Err(paid()),
        State::Closed | State::Reversed if order.flow == Flow::Barcode => Err(used()),
        State::Shown | State::Payable if order.details.get("request") == Some(&new.request) => {
            Ok(())
        }
        State::Shown | State::Payable | State::Closed | State::Reversed => Err(reentry()),
    }
}

/// Writes the payment into the book and does what the payer's mood says. What has failed is not
/// payable any more.
fn enter(
    book: &mut Book,
    new: NewCharge,
    mood: PayerBehaviour,
    id: &str,
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    let key = new.key.clone();
    let expires_at = if mood == PayerBehaviour::HasNoMoney {
        now
    } else {
        now + DIALOG
    };

    book.insert(Order {
        key: new.key,
        amount: new.amount,
        description: new.description,
        flow: Flow::Barcode,
        notify_url: None,
        passback: new.attach,
        details: json!({"request": new.request}),
        created_at: now,
        expires_at,
        codes: vec![Code {
            text: new.auth_code,
            dies_at: expires_at,
        }],
        state: State::Payable,
        transaction_id: None,
        paid_at: None,
        ended_at: None,
        declined_at: None,
        paid_as: Default::default(),
        refunds: std::collections::BTreeMap::new(),
    })?;

    match mood {
        PayerBehaviour::Pays => book.pay(&key, id, now),
        PayerBehaviour::MustConfirm | PayerBehaviour::HasNoMoney | PayerBehaviour::CodeExpired => {
            Ok(())
        }
    }
}

pub(super) fn reverse(
    face: &WechatPaySimulator,
    request: &Request,
    order_no: &str,
    context: &SimulatorContext<'_>,
) -> Result<Said, Said> {
    let members = body(&request.body)?;
    let fields = Fields::of(&members);
    let mchid = fields.text("mchid", 1..=32)?;

    // Without it the real service breaks.
    let appid = fields
        .optional_text("appid", 1..=32)?
        .ok_or_else(Said::system_error)?;
    fields.only(&["appid", "mchid"])?;
    if mchid != face.keys.mchid {
        return Err(Said::bad_request(
            "INVALID_REQUEST",
            268_447_843,
            "商户号和订单不匹配",
        ));
    }

    if appid != face.keys.appid {
        return Err(Said::bad_request(
            "APPID_MCHID_NOT_MATCH",
            268_445_527,
            "appid和mch_id不匹配",
        ));
    }

    let key = face.order_key(order_no);
    let mut book = context.book.lock();

    match book.order(&key) {
        // A number that never came in is burnt.
        None => {
            let order = dead(&key, Flow::Barcode, context.now).ok_or_else(Said::system_error)?;
            book.insert(order).map_err(|_| Said::system_error())?;
        }
        Some(order) => {
            reversible(order, context.now)?;
            match book.reverse(&key, context.now) {
                // Reversing again says the same again.
                Ok(_) | Err(Refusal::Ended) => {}
                Err(Refusal::TooMuch) => {
                    return Err(Said::bad_request(
                        "TRADE_ERROR",
                        0,
                        "订单已发生退款，不能撤销",
                    ));
                }
                Err(_) => return Err(Said::system_error()),
            }
        }
    }

    Ok(Said::ok(
        json!({"appid": face.keys.appid, "mchid": face.keys.mchid, "out_trade_no": order_no}),
    ))
}

fn reversible(order: &Order, now: DateTime<Utc>) -> Result<(), Said> {
    if order.flow != Flow::Barcode {
        return Err(Said::bad_request(
            "INVALID_REQUEST",
            ILLEGAL,
            "仅付款码支付订单支持撤销",
        ));
    }

    if !matches!(order.state, State::Payable | State::Paid) {
        return Ok(());
    }
    if asks_the_payer(order, now) {
        return Err(Said::bad_request(
            "USERPAYING",
            0,
            "正在支付中，不能发起撤销",
        ));
    }

    if now < order.created_at + REVERSE_FROM {
        return Err(Said::bad_request(
            "INVALID_REQUEST",
            ILLEGAL,
            "支付后15秒内不能发起撤销",
        ));
    }

    if now > order.created_at + REVERSE_UNTIL {
        return Err(Said::bad_request(
            "REVERSE_EXPIRE",
            0,
            "订单已超过可撤销的最大期限",
        ));
    }

    Ok(())
}

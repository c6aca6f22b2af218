//! The life of a trade as Alipay tells it: when it begins to exist, which numbers may be used
//! again, what can be closed, cancelled and refunded. All money is in the book, and what the book
//! refuses is refused here.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::super::wire::{Method, beijing_time, from_beijing_time};
use super::response::{Refused, Said};
use crate::alipay::NAME;
use crate::money::Money;
use crate::order::Flow;
use crate::sandbox::book::{Book, Code, NewRefund, Order, OrderKey, RefundStatus, Refusal, State};
use crate::sandbox::charset::Charset;
use crate::sandbox::refund_end::RefundEnd;

/// The one payer of the sandbox.
pub(super) const BUYER_ID: &str = "2088000000000002";
/// Masked, as the real ones are.
pub(super) const BUYER_LOGON_ID: &str = "138****0000";

/// What is remembered of a first request.
const CHARSET: &str = "charset";
/// The shop as Alipay's answers call it.
pub(super) const STORE_NAME: &str = "联通沙盒小店";
pub(super) const COUPON_NAME: &str = "店庆满减券";
const LARGEST_FEN: i64 = 10_000_000_000;
/// A code lives this long whatever is asked.
const LONGEST_CODE: TimeDelta = TimeDelta::hours(2);
/// A trade of a face-to-face payment, when nothing is asked.
const DEFAULT_LIFE: TimeDelta = TimeDelta::hours(3);
/// A `timeout_express`: until the end of today, Beijing's.
const UNTIL_MIDNIGHT: &str = "1c";
const REFUND_SPACING: TimeDelta = TimeDelta::seconds(3);
const CANCEL_WINDOW: TimeDelta = TimeDelta::hours(24);

pub(super) const INVALID_PARAMETER: Refused = Refused("40004", "ACQ.INVALID_PARAMETER", "参数无效");
pub(super) const TRADE_NOT_EXIST: Refused = Refused("40004", "ACQ.TRADE_NOT_EXIST", "交易不存在");
const TRADE_HAS_CLOSE: Refused = Refused("40004", "ACQ.TRADE_HAS_CLOSE", "交易已经关闭");
const CONTEXT_INCONSISTENT: Refused =
    Refused("40004", "ACQ.CONTEXT_INCONSISTENT", "交易信息被篡改");
const TRADE_STATUS_ERROR: Refused = Refused("40004", "ACQ.TRADE_STATUS_ERROR", "交易状态不合法");
/// Nobody knows what was done. Which code a refund gets that comes too soon is not documented, so
/// it is this one.
const SYSTEM_ERROR: Refused = Refused("40004", "ACQ.SYSTEM_ERROR", "接口返回错误");
const SELLER_BALANCE_NOT_ENOUGH: Refused =
    Refused("40004", "ACQ.SELLER_BALANCE_NOT_ENOUGH", "卖家余额不足");
const REFUND_TOO_MUCH: Refused =
    Refused("40004", "ACQ.REASON_TRADE_REFUND_FEE_ERR", "退款金额无效");

/// 28 digits that begin with the day, as Alipay's do.
pub(super) fn transaction_id(number: u64, now: DateTime<Utc>) -> String {
    let time = beijing_time(now);
    let day: String = time.chars().take(10).filter(char::is_ascii_digit).collect();
    format!("{day}22001{number:015}")
}

/// A merchant at one moment.
pub(super) struct Shop<'a> {
    pub seller_id: &'a str,
    /// Of the request.
    pub charset: Charset,
    /// Whether a refund that follows another one too soon is refused.
    pub spaces_refunds: bool,
    pub now: DateTime<Utc>,
}

pub(super) type Biz = Map<String, Value>;

/// An order that is asked for.
pub(super) struct Asked {
    pub key: OrderKey,
    pub amount: Money,
    pub description: String,
    pub passback: Option<String>,
    pub expires_at: DateTime<Utc>,
}

impl Shop<'_> {
    /// Executes one call.
    ///
    /// # Errors
    /// The answer too, as the business "no" that it is.
    pub(super) fn execute(
        &self,
        method: Method,
        biz: &Biz,
        notify_url: Option<&str>,
        book: &mut Book,
    ) -> Result<Said, Said> {
        match method {
            Method::Precreate => Ok(self.precreate(biz, notify_url, book)?),
            Method::Pay => self.pay(biz, notify_url, book),
            Method::Query => self.query(biz, book),
            Method::Close => Ok(self.close(biz, book)?),
            Method::Cancel => Ok(self.cancel(biz, book)?),
            Method::Refund => self.refund(biz, book).map_err(|refused| {
                let mut said = Said::from(refused);
                said.push("refund_fee", "0.00");
                said
            }),
            Method::RefundQuery => Ok(self.query_refund(biz, book)?),
        }
    }

    fn key(&self, order_no: &str) -> OrderKey {
        OrderKey::new(NAME.as_str(), self.seller_id, order_no)
    }

    /// The trade that a request names; `trade_no` wins. A code that nobody has scanned has no
    /// trade.
    fn trade(&self, biz: &Biz, book: &mut Book) -> Result<Order, Refused> {
        let order = match (text(biz, "trade_no"), text(biz, "out_trade_no")) {
            (Some(trade_no), _) => book
                .by_transaction(trade_no)
                .filter(|o| o.key.merchant == self.seller_id),
            (None, Some(order_no)) => book.order(&self.key(order_no)),
            (None, None) => return Err(INVALID_PARAMETER),
        };
        let order = order
            .filter(|order| order.transaction_id.is_some())
            .ok_or(TRADE_NOT_EXIST)?
            .clone();
        if order.state != State::Payable || self.now < order.expires_at {
            return Ok(order);
        }

        // Its time is over: Alipay closes it by itself, when it was due.
        book.close(&order.key, order.expires_at)
            .map_err(|_| TRADE_STATUS_ERROR)?;
        book.order(&order.key).cloned().ok_or(TRADE_NOT_EXIST)
    }

    fn precreate(
        &self,
        biz: &Biz,
        notify_url: Option<&str>,
        book: &mut Book,
    ) -> Result<Said, Refused> {
        let asked = self.asked(biz, &["FACE_TO_FACE_PAYMENT", "QR_CODE_OFFLINE"])?;
        let code_life = match text(biz, "qr_code_timeout_express") {
            Some(express) => timeout(express)?.min(LONGEST_CODE),
            None => LONGEST_CODE,
        };
        self.reusable(book, &asked, Flow::Qr)?;
        let code = Code {
            text: format!("https://qr.alipay.com/bax{:017}", book.next_number()),
            dies_at: asked.expires_at.min(self.now + code_life),
        };
        let qr_code = code.text.clone();
        let order_no = asked.key.order_no.clone();
        self.enter(book, asked, code, Flow::Qr, notify_url)?;

        Ok(Said::success([
            ("out_trade_no", order_no),
            ("qr_code", qr_code),
        ]))
    }

    /// What a request to precreate or to pay asks for, as far as both are checked alike.
    pub(super) fn asked(&self, biz: &Biz, products: &[&str]) -> Result<Asked, Refused> {
        let order_no = text(biz, "out_trade_no")
            .filter(|no| is_order_no(no))
            .ok_or(INVALID_PARAMETER)?;
        let description = text(biz, "subject")
            .filter(|s| s.len() <= 256)
            .ok_or(INVALID_PARAMETER)?;
        let amount = amount(biz, "total_amount")?;

        if amount.minor() > LARGEST_FEN {
            return Err(Refused(
                "40004",
                "ACQ.TOTAL_FEE_EXCEED",
                "订单总金额超过限额",
            ));
        }

        if text(biz, "seller_id").is_some_and(|seller_id| seller_id != self.seller_id) {
            return Err(Refused(
                "40004",
                "ACQ.INVALID_RECEIVE_ACCOUNT",
                "收款账户不支持",
            ));
        }

        if text(biz, "product_code").is_some_and(|product| !products.contains(&product)) {
            return Err(Refused(
                "40004",
                "ACQ.ACCESS_FORBIDDEN",
                "没有权限使用该产品",
            ));
        }

        Ok(Asked {
            key: self.key(order_no),
            amount,
            description: description.to_owned(),
            passback: text(biz, "passback_params").map(str::to_owned),
            expires_at: self.expires_at(biz)?,
        })
    }

    /// Writes a new order, or another code of one that is there, into the book.
    pub(super) fn enter(
        &self,
        book: &mut Book,
        asked: Asked,
        code: Code,
        flow: Flow,
        notify_url: Option<&str>,
    ) -> Result<(), Refused> {
        if book.order(&asked.key).is_some() {
            return book
                .give_code(&asked.key, code)
                .map_err(|_| TRADE_NOT_EXIST);
        }

        let order = Order {
            key: asked.key,
            amount: asked.amount,
            description: asked.description,
            flow,
            notify_url: notify_url.map(str::to_owned),
            passback: asked.passback,
            details: json!({ CHARSET: self.charset.name() }),
            created_at: self.now,
            expires_at: asked.expires_at,
            codes: vec![code],
            state: State::Shown,
            transaction_id: None,
            paid_at: None,
            ended_at: None,
            declined_at: None,
            paid_as: Default::default(),
            refunds: Default::default(),
        };

        book.insert(order).map_err(|_| CONTEXT_INCONSISTENT)
    }

    /// Until when the order takes money: absolute, or counted from now.
    fn expires_at(&self, biz: &Biz) -> Result<DateTime<Utc>, Refused> {
        let Some(time_expire) = text(biz, "time_expire") else {
            return match text(biz, "timeout_express") {
                Some(UNTIL_MIDNIGHT) => Ok(midnight_after(self.now)),
                Some(express) => Ok(self.now + timeout(express)?),
                None => Ok(self.now + DEFAULT_LIFE),
            };
        };
        let expires_at = from_beijing_time(time_expire).ok_or(INVALID_PARAMETER)?;

        if expires_at <= self.now {
            return Err(Refused(
                "40004",
                "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR",
                "当前时间已经超过允许支付的时间",
            ));
        }

        Ok(expires_at)
    }

    /// Whether a number may be used: it is new, or unpaid and the same in all that counts.
    pub(super) fn reusable(&self, book: &Book, asked: &Asked, flow: Flow) -> Result<(), Refused> {
        let Some(order) = book.order(&asked.key) else {
            return Ok(());
        };
        let same = (order.amount, &order.description, order.flow)
            == (asked.amount, &asked.description, flow);
        match order.state {
            State::Paid => Err(Refused("40004", "ACQ.TRADE_HAS_SUCCESS", "交易已被支付")),
            State::Closed | State::Reversed => Err(TRADE_HAS_CLOSE),
            State::Shown | State::Payable if !same => Err(CONTEXT_INCONSISTENT),
            State::Payable if self.now >= order.expires_at => Err(TRADE_HAS_CLOSE),
            State::Shown | State::Payable => Ok(()),
        }
    }

    fn query(&self, biz: &Biz, book: &mut Book) -> Result<Said, Said> {
        let order = self.trade(biz, book).map_err(|refused| {
            let mut said = Said::from(refused);
            said.push("buyer_pay_amount", "0.00");
            said.push("invoice_amount", "0.00");
            said.push(
                "out_trade_no",
                text(biz, "out_trade_no").unwrap_or_default(),
            );
            said.push("point_amount", "0.00");
            said.push("receipt_amount", "0.00");
            said
        })?;

        let status = match order.state {
            State::Shown | State::Payable => "WAIT_BUYER_PAY",
            State::Paid if order.refunded_fen() < order.captured_fen() => "TRADE_SUCCESS",
            // All of it went back: the same word as for one that was never paid.
            State::Paid | State::Closed | State::Reversed => "TRADE_CLOSED",
        };
        let paid = if order.paid_at.is_some() {
            paid_by_payer(&order)
        } else {
            "0.00".to_owned()
        };

        let mut said = Said::success([
            ("buyer_logon_id", BUYER_LOGON_ID.to_owned()),
            ("buyer_pay_amount", paid.clone()),
            ("buyer_user_id", BUYER_ID.to_owned()),
            ("invoice_amount", paid.clone()),
            ("out_trade_no", order.key.order_no.clone()),
        ]);

        if let Some(passback) = &order.passback {
            said.push("passback_params", passback.as_str());
        }
        said.push("point_amount", "0.00");
        said.push("receipt_amount", paid);
        if let Some(paid_at) = order.paid_at {
            said.push("send_pay_date", beijing_time(paid_at));
            said.push("store_name", STORE_NAME);
        }
        if let Some(coupon) = coupon(&order) {
            said.push("discount_amount", coupon);
        }
        said.push("total_amount", order.amount.to_yuan());
        said.push("trade_no", order.transaction_id.unwrap_or_default());
        said.push("trade_status", status);

        Ok(said)
    }

    fn close(&self, biz: &Biz, book: &mut Book) -> Result<Said, Refused> {
        let order = self.trade(biz, book)?;
        // Works on WAIT_BUYER_PAY only, and gives no money back.
        book.close(&order.key, self.now)
            .map_err(|_| TRADE_STATUS_ERROR)?;
        Ok(Said::success(names(&order)))
    }

    fn cancel(&self, biz: &Biz, book: &mut Book) -> Result<Said, Refused> {
        let retry_flag = ("retry_flag", "N".to_owned());
        let order = match (
            self.trade(biz, book),
            text(biz, "trade_no"),
            text(biz, "out_trade_no"),
        ) {
            (Ok(order), _, _) => order,
            // Nothing to cancel is no error when it was asked for by our own number. The code lives
            // on.
            (Err(Refused(_, "ACQ.TRADE_NOT_EXIST", _)), None, Some(order_no)) => {
                return Ok(Said::success([
                    ("out_trade_no", order_no.to_owned()),
                    retry_flag,
                ]));
            }
            (Err(refused), _, _) => return Err(refused),
        };

        if self.now >= order.created_at + CANCEL_WINDOW {
            return Err(Refused(
                "40004",
                "ACQ.TRADE_CANCEL_TIME_OUT",
                "超过撤销时间范围",
            ));
        }

        if order.state == State::Paid && book.refund_ends.next(NAME.as_str()) == RefundEnd::NoFunds
        {
            book.refund_ends.draw(NAME.as_str());
            return Err(SELLER_BALANCE_NOT_ENOUGH);
        }
        let state = match book.reverse(&order.key, self.now) {
            Ok(state) => state,
            // Cancelling again says the same again.
            Err(Refusal::Ended) => order.state,
            Err(Refusal::TooMuch) => return Err(REFUND_TOO_MUCH),
            Err(_) => return Err(TRADE_STATUS_ERROR),
        };

        let action = if state == State::Reversed {
            "refund"
        } else {
            "close"
        };
        let mut said = Said::success(names(&order));
        said.push("action", action);
        said.extend([retry_flag]);

        Ok(said)
    }

    fn refund(&self, biz: &Biz, book: &mut Book) -> Result<Said, Refused> {
        let amount = amount(biz, "refund_amount")?;
        let order = self.trade(biz, book)?;

        match order.state {
            State::Shown | State::Payable => return Err(TRADE_STATUS_ERROR),
            State::Closed | State::Reversed => return Err(TRADE_HAS_CLOSE),
            State::Paid => {}
        }

        let refund_no = match text(biz, "out_request_no") {
            Some(refund_no) if refund_no.chars().count() <= 64 => refund_no,
            Some(_) => return Err(INVALID_PARAMETER),
            // Without a number it is the refund of the whole, known by the number of the order.
            None if amount == order.amount => order.key.order_no.as_str(),
            None => {
                return Err(Refused(
                    "40004",
                    "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL",
                    "退款金额与订单金额不一致",
                ));
            }
        };

        let fund_change = match order.refunds.get(refund_no) {
            Some(refund) if refund.amount == amount => "N",
            Some(_) => {
                return Err(Refused(
                    "40004",
                    "ACQ.DISCORDANT_REPEAT_REQUEST",
                    "不一致的请求",
                ));
            }
            None if order.refunding_fen() == order.captured_fen() => return Err(TRADE_HAS_CLOSE),
            None if self.spaces_refunds && follows_too_soon(&order, self.now) => {
                return Err(SYSTEM_ERROR);
            }
            None if order.captured_fen() - order.refunding_fen() < amount.minor() => {
                return Err(REFUND_TOO_MUCH);
            }
            None if !self.takes_up_refund(book)? => "N",
            None => {
                let refund = NewRefund {
                    refund_no: refund_no.to_owned(),
                    refund_id: transaction_id(book.next_number(), self.now),
                    amount,
                    reason: text(biz, "refund_reason").map(str::to_owned),
                    notify_url: None,
                    due_at: self.now,
                    details: Value::Null,
                };
                book.refund(&order.key, refund, self.now)
                    .map_err(|_| REFUND_TOO_MUCH)?;
                "Y"
            }
        };
        let order = book.order(&order.key).ok_or(TRADE_NOT_EXIST)?;

        // The sum of all refunds, not this one's amount.
        let sum = Money::fen(order.refunded_fen()).map_err(|_| REFUND_TOO_MUCH)?;
        let mut said = Said::success([
            ("buyer_logon_id", BUYER_LOGON_ID.to_owned()),
            ("buyer_user_id", BUYER_ID.to_owned()),
            ("fund_change", fund_change.to_owned()),
            ("gmt_refund_pay", beijing_time(self.now)),
        ]);

        said.extend(names(order));
        said.push("refund_fee", sum.to_yuan());
        said.push("send_back_fee", "0.00");
        Ok(said)
    }

    /// Whether a new refund is carried out. One that is not may be answered as if it were
    /// ("fund_change" tells), and leaves nothing behind: the same number may be sent again.
    fn takes_up_refund(&self, book: &mut Book) -> Result<bool, Refused> {
        match book.refund_ends.draw(NAME.as_str()) {
            RefundEnd::Done => Ok(true),
            RefundEnd::Closed => Ok(false),
            RefundEnd::Abnormal => Err(Refused(
                "40004",
                "ACQ.BUYER_ENABLE_STATUS_FORBID",
                "买家状态异常",
            )),
            RefundEnd::NoFunds => Err(SELLER_BALANCE_NOT_ENOUGH),
        }
    }

    fn query_refund(&self, biz: &Biz, book: &mut Book) -> Result<Said, Refused> {
        let refund_no = text(biz, "out_request_no").ok_or(INVALID_PARAMETER)?;
        let order = self.trade(biz, book)?;
        // A number that is not there is answered without any of a refund's fields.
        let Some(refund) = order.refunds.get(refund_no) else {
            return Ok(Said::success([]));
        };
        let mut said = Said::success(names(&order));
        said.push("out_request_no", refund_no);
        said.push("refund_amount", refund.amount.to_yuan());
        if refund.status == RefundStatus::Done {
            said.push("refund_status", "REFUND_SUCCESS");
        }
        said.push("total_amount", order.amount.to_yuan());
        Ok(said)
    }
}

/// The charset that the order was asked for in, and that its notifications are in.
pub(super) fn charset(order: &Order) -> Charset {
    order
        .details
        .get(CHARSET)
        .and_then(Value::as_str)
        .and_then(Charset::named)
        .unwrap_or_default()
}

fn names(order: &Order) -> [(&'static str, String); 2] {
    [
        ("out_trade_no", order.key.order_no.clone()),
        ("trade_no", order.transaction_id.clone().unwrap_or_default()),
    ]
}

pub(super) fn text<'a>(biz: &'a Biz, name: &str) -> Option<&'a str> {
    biz.get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

/// A positive amount of yuan. SDKs send it as a text or as a number.
fn amount(biz: &Biz, name: &str) -> Result<Money, Refused> {
    let yuan = match biz.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Err(INVALID_PARAMETER),
    };
    Money::from_yuan(&yuan)
        .ok()
        .filter(|amount| amount.minor() > 0)
        .ok_or(INVALID_PARAMETER)
}

/// What is left of the amount when a coupon of the shop's has paid its part.
pub(super) fn paid_by_payer(order: &Order) -> String {
    let fen = order.amount.minor() - order.coupon_fen();
    Money::fen(fen).unwrap_or(order.amount).to_yuan()
}

/// The coupon's part, if there is one.
pub(super) fn coupon(order: &Order) -> Option<String> {
    Money::fen(order.coupon_fen())
        .ok()
        .filter(|coupon| coupon.minor() > 0)
        .map(Money::to_yuan)
}

fn follows_too_soon(order: &Order, now: DateTime<Utc>) -> bool {
    order
        .refunds
        .values()
        .any(|refund| now - refund.created_at < REFUND_SPACING)
}

fn midnight_after(now: DateTime<Utc>) -> DateTime<Utc> {
    let today: String = beijing_time(now).chars().take(10).collect();
    from_beijing_time(&format!("{today} 00:00:00")).map_or(now, |began| began + TimeDelta::days(1))
}

fn is_order_no(no: &str) -> bool {
    (1..=64).contains(&no.len()) && no.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// `90m`, `1h`, `2d`: one minute to 15 days, no fractions.
fn timeout(express: &str) -> Result<TimeDelta, Refused> {
    let units = [
        ("m", TimeDelta::minutes(1)),
        ("h", TimeDelta::hours(1)),
        ("d", TimeDelta::days(1)),
    ];
    let (count, unit) = units
        .iter()
        .find_map(|(suffix, unit)| {
            Some((express.strip_suffix(suffix)?.parse::<u16>().ok()?, *unit))
        })
        .ok_or(INVALID_PARAMETER)?;
    unit.checked_mul(i32::from(count))
        .filter(|life| (TimeDelta::minutes(1)..=TimeDelta::days(15)).contains(life))
        .ok_or(INVALID_PARAMETER)
}

//! Charges as Alipay takes them: the payer's mood is in the code, the money is in the book. A payer
//! who has to confirm, and one without money, leave a trade behind that can still be paid: the real
//! one may, so nobody should rely on less.

use serde_json::json;

use super::super::is_code;
use super::super::wire::beijing_time;
use super::response::{Refused, Said};
use super::trade::{
    BUYER_ID, BUYER_LOGON_ID, Biz, COUPON_NAME, INVALID_PARAMETER, STORE_NAME, Shop,
    TRADE_NOT_EXIST, coupon, paid_by_payer, text, transaction_id,
};
use crate::order::Flow;
use crate::sandbox::book::{Book, Code, Order};
use crate::sandbox::payer::PayerBehaviour;

const CODE_INVALID: Refused = Refused(
    "40004",
    "ACQ.PAYMENT_AUTH_CODE_INVALID",
    "支付失败，获取顾客账户信息失败",
);
const NO_MONEY: Refused = Refused("40004", "ACQ.BUYER_BALANCE_NOT_ENOUGH", "买家余额不足");
const INVALID_STORE: Refused = Refused("40004", "ACQ.INVALID_STORE_ID", "商户门店编号无效");

impl Shop<'_> {
    /// Takes the money, or says what keeps it from being taken.
    pub(super) fn pay(
        &self,
        biz: &Biz,
        notify_url: Option<&str>,
        book: &mut Book,
    ) -> Result<Said, Said> {
        self.charge(biz, notify_url, book).map_err(|refused| {
            let mut said = Said::from(refused);
            let order_no = text(biz, "out_trade_no").unwrap_or_default();
            said.extend(unpaid_amounts());
            said.push("out_trade_no", order_no);
            said
        })
    }

    fn charge(
        &self,
        biz: &Biz,
        notify_url: Option<&str>,
        book: &mut Book,
    ) -> Result<Said, Refused> {
        let asked = self.asked(biz, &["FACE_TO_FACE_PAYMENT", "OFFLINE_PAYMENT"])?;
        if !matches!(
            text(biz, "scene"),
            Some("bar_code" | "security_code" | "wave_code")
        ) {
            return Err(INVALID_PARAMETER);
        }

        if text(biz, "store_id").is_some_and(|id| id.len() > 32) {
            return Err(INVALID_STORE);
        }
        let auth_code = text(biz, "auth_code").ok_or(INVALID_PARAMETER)?;
        self.reusable(book, &asked, Flow::Barcode)?;

        // A code works once; the order that it was read for may ask again.
        let used = book
            .by_code(auth_code)
            .is_some_and(|order| order.key != asked.key);
        let mood = PayerBehaviour::of(auth_code);
        if used || !is_code(auth_code) || mood == PayerBehaviour::CodeExpired {
            return Err(CODE_INVALID);
        }
        let key = asked.key.clone();
        let id = transaction_id(book.next_number(), self.now);

        let code = Code {
            text: auth_code.to_owned(),
            dies_at: asked.expires_at,
        };
        self.enter(book, asked, code, Flow::Barcode, notify_url)?;

        // The trade exists from now on, whatever comes of it.
        let done = match mood {
            PayerBehaviour::Pays => book.pay(&key, &id, self.now),
            PayerBehaviour::MustConfirm | PayerBehaviour::CodeExpired => {
                book.open_trade(&key, &id, self.now)
            }
            PayerBehaviour::HasNoMoney => book.decline(&key, &id, self.now),
        };

        done.map_err(|_| TRADE_NOT_EXIST)?;
        let order = book.order(&key).ok_or(TRADE_NOT_EXIST)?;

        if mood == PayerBehaviour::HasNoMoney {
            Err(NO_MONEY)
        } else {
            Ok(told(order))
        }
    }
}

/// Taken, or (10003) the payer is being asked: the same shape without a time of payment.
fn told(order: &Order) -> Said {
    let paid = paid_by_payer(order);
    let mut said = if order.paid_at.is_some() {
        Said::success([])
    } else {
        Said(vec![
            ("code", "10003".into()),
            ("msg", " order success pay inprocess".into()),
        ])
    };

    said.push("buyer_logon_id", BUYER_LOGON_ID);
    said.push("buyer_user_id", BUYER_ID);
    match order.paid_at {
        Some(paid_at) => {
            for name in ["buyer_pay_amount", "invoice_amount", "receipt_amount"] {
                said.push(name, paid.as_str());
            }
            said.push("point_amount", "0.00");
            said.push(
                "fund_bill_list",
                json!([{"amount": paid, "fund_channel": "ALIPAYACCOUNT"}]),
            );
            said.push("gmt_payment", beijing_time(paid_at));
            said.push("store_name", STORE_NAME);
            if let Some(coupon) = coupon(order) {
                said.push(
                    "voucher_detail_list",
                    json!([{"amount": coupon, "name": COUPON_NAME}]),
                );
            }
        }
        None => said.extend(unpaid_amounts()),
    }

    said.push("out_trade_no", order.key.order_no.as_str());
    said.push("total_amount", order.amount.to_yuan());
    said.push("trade_no", order.transaction_id.clone().unwrap_or_default());
    said
}

fn unpaid_amounts() -> [(&'static str, String); 4] {
    [
        "buyer_pay_amount",
        "invoice_amount",
        "point_amount",
        "receipt_amount",
    ]
    .map(|name| (name, "0.00".to_owned()))
}

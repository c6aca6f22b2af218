//! Notifications of payments and refunds: encrypted with the APIv3 key, then signed with the key
//! that the merchant asked for when it made the order. A failed or closed payment is never told.

use http::HeaderMap;
use serde_json::{Value, json};

use super::super::beijing;
use super::state::{WechatPaySimulator, put, request_id};
use super::{orders, refunds};
use crate::sandbox::book::{Event, Order, RefundStatus};
use crate::sandbox::secrets::hex;
use crate::sandbox::simulator::{Notice, Outgoing};

/// What is told, before encryption.
struct Told {
    url: String,
    event_type: &'static str,
    summary: &'static str,
    original_type: &'static str,
    create_time: String,
    resource: Value,
}

pub(super) fn outgoing(face: &WechatPaySimulator, notice: &Notice<'_>) -> Option<Outgoing> {
    let told = match notice.event {
        Event::Paid { .. } => paid(face, notice)?,
        Event::RefundEnded { refund_no, .. } => refund_ended(face, notice.order, refund_no)?,
        Event::Closed { .. } => return None,
    };
    let nonce = hex(12).ok()?;
    let ciphertext = face.resource_key.seal(
        &nonce,
        told.original_type,
        told.resource.to_string().as_bytes(),
    )?;

    let body = json!({
        "id": uuid(notice.id), "create_time": told.create_time, "resource_type": "encrypt-resource",
        "event_type": told.event_type, "summary": told.summary,
        "resource": {
            "original_type": told.original_type, "algorithm": "AEAD_AES_256_GCM",
            "ciphertext": ciphertext,
            "associated_data": told.original_type, "nonce": nonce,
        },
    })
    .to_string();
    let mut headers = HeaderMap::new();
    put(&mut headers, "content-type", "application/json");
    put(&mut headers, "user-agent", "Mozilla/4.0");
    put(&mut headers, "request-id", &request_id(0));

    let signed_by = notice
        .order
        .details
        .get("signed_by")
        .and_then(Value::as_str);
    let serial = signed_by.unwrap_or(&face.keys.public_key_id);

    face.sign(
        &mut headers,
        serial,
        body.as_bytes(),
        notice.now,
        notice.alteration,
    );

    Some(Outgoing {
        url: told.url,
        headers,
        body: body.into(),
    })
}

fn paid(face: &WechatPaySimulator, notice: &Notice<'_>) -> Option<Told> {
    let order = notice.order;
    let mut resource = orders::transaction(face, order, notice.now);
    let members = resource.as_object_mut()?;
    // It tells of the moment of payment, whatever happened since.
    members.insert("trade_state".to_owned(), json!("SUCCESS"));
    members.insert("trade_state_desc".to_owned(), json!("支付成功"));
    Some(Told {
        url: order.notify_url.clone()?,
        event_type: "TRANSACTION.SUCCESS",
        summary: "支付成功",
        original_type: "transaction",
        create_time: beijing(order.paid_at?),
        resource,
    })
}

/// `refund_status`, and neither a currency nor an appid.
fn refund_ended(face: &WechatPaySimulator, order: &Order, refund_no: &str) -> Option<Told> {
    let refund = order.refunds.get(refund_no)?;
    let (event_type, summary) = match refund.status {
        RefundStatus::Done => ("REFUND.SUCCESS", "退款成功"),
        RefundStatus::Closed => ("REFUND.CLOSED", "退款关闭"),
        RefundStatus::Abnormal => ("REFUND.ABNORMAL", "退款异常"),
        RefundStatus::Processing => return None,
    };

    let (total, back) = (order.amount.minor(), refund.amount.minor());
    let mut resource = json!({
        "mchid": face.keys.mchid, "transaction_id": order.transaction_id,
        "out_trade_no": order.key.order_no,
        "refund_id": refund.refund_id, "out_refund_no": refund.refund_no,
        "refund_status": refunds::status(refund),
        "user_received_account": "支付用户零钱",
        "amount": {
            "total": total, "refund": back, "payer_total": total - order.coupon_fen(),
            "payer_refund": back - refunds::coupon_back(order, refund),
        },
    });

    if let (Some(members), Some(time)) = (resource.as_object_mut(), refunds::success_time(refund)) {
        members.insert("success_time".to_owned(), Value::String(time));
    }
    Some(Told {
        url: refund.notify_url.clone()?,
        event_type,
        summary,
        original_type: "refund",
        create_time: beijing(refund.completed_at?),
        resource,
    })
}

/// 32 hexadecimal digits in the form of a UUID, as real ids are.
fn uuid(id: &str) -> String {
    let part = |from, to| id.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

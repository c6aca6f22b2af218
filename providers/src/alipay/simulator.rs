//! Alipay's side of the wire, for the sandbox: the gateway with its checks in the real order,
//! answers in the real layout, and notifications. Trades are in `trade.rs`, charges in `pay.rs`. It
//! never keeps money anywhere but in the book, and its keys open nothing but this sandbox.

mod params;
mod pay;
mod response;
mod trade;

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use self::params::Params;
use self::response::{Refused, Said, UNDECIDED};
use super::NAME;
use super::sign::notification_string;
use super::wire::{Method, beijing_time, from_beijing_time, node_name};
use crate::money::Money;
use crate::provider::{ProviderName, SettingsError};
use crate::sandbox::book::{Event, Order, RefundStatus, SharedBook};
use crate::sandbox::charset::Charset;
use crate::sandbox::secrets::{NoRandomness, digits, pem, rsa_private_keys};
use crate::sandbox::simulator::{
    Alteration, CallKind, Notice, Outgoing, Peculiarity, Request, Response, ScriptedRefusal,
    SimulatedProvider, Simulator, SimulatorContext,
};
use crate::signing::{Signer, Verifier};

/// Between unacknowledged notifications of a face-to-face payment: three at once, then 4 min, 10
/// min, 10 min, 1 h, 2 h, 6 h and 15 h.
const RETRIES_S: &[u32] = &[0, 0, 0, 240, 600, 600, 3_600, 7_200, 21_600, 54_000];

/// The entry on the list of simulated providers.
pub const SIMULATOR: SimulatedProvider = SimulatedProvider {
    name: NAME,
    make_keys,
    open,
};

/// Makes the keys and numbers of a merchant that only this sandbox knows.
pub(super) fn make_keys() -> Result<Value, NoRandomness> {
    let [app, alipay] = rsa_private_keys()?;
    Ok(json!({
        "app_id": format!("2021{}", digits(12)?),
        "seller_id": format!("2088{}", digits(12)?),
        "app_private_key": app,
        "alipay_private_key": alipay,
    }))
}

/// Opens it with keys that [`make_keys`] made.
fn open(keys: &Value) -> Result<Arc<dyn Simulator>, SettingsError> {
    let text = |name: &str| {
        keys.get(name)
            .and_then(Value::as_str)
            .ok_or_else(|| SettingsError::new(name, "missing"))
    };
    let signer = |name: &str| {
        Signer::from_text(text(name)?).map_err(|e| SettingsError::new(name, e.to_string()))
    };
    let alipay_key = signer("alipay_private_key")?;
    let alipay_public = alipay_key
        .public_key_der()
        .map_err(|e| SettingsError::new("alipay_private_key", e.to_string()))?;

    let credentials = json!({
        "app_id": text("app_id")?,
        "seller_id": text("seller_id")?,
        "app_private_key": text("app_private_key")?,
        "alipay_public_key": pem("PUBLIC KEY", &alipay_public),
    });

    Ok(Arc::new(AlipaySimulator {
        app_id: text("app_id")?.to_owned(),
        seller_id: text("seller_id")?.to_owned(),
        app_key: signer("app_private_key")?.verifier(),
        alipay_key,
        credentials,
    }))
}

#[derive(Debug)]
struct AlipaySimulator {
    app_id: String,
    seller_id: String,
    app_key: Verifier,
    alipay_key: Signer,
    credentials: Value,
}

impl Method {
    const ALL: [Self; 7] = [
        Self::Precreate,
        Self::Pay,
        Self::Query,
        Self::Close,
        Self::Cancel,
        Self::Refund,
        Self::RefundQuery,
    ];

    /// The call of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }
}

impl Simulator for AlipaySimulator {
    fn provider(&self) -> ProviderName {
        NAME
    }

    fn call_of(&self, request: &Request, _: &SharedBook) -> Option<CallKind> {
        let params = Params::of(request);
        Method::named(params.text("method")?).map(|method| match method {
            Method::Precreate | Method::Pay => CallKind::Create,
            Method::Query => CallKind::Query,
            Method::Close => CallKind::Close,
            Method::Cancel => CallKind::Reverse,
            Method::Refund => CallKind::Refund,
            Method::RefundQuery => CallKind::QueryRefund,
        })
    }

    fn handle(&self, request: &Request, context: &SimulatorContext<'_>) -> Response {
        if path(request) != "/gateway.do" {
            return html(StatusCode::NOT_FOUND, "<html><body>404</body></html>");
        }
        let params = Params::of(request);
        let (said, signed) = match self.checked(&params) {
            Ok((method, biz_content)) => {
                let charset = params.charset.unwrap_or_default();
                let shop = trade::Shop {
                    seller_id: &self.seller_id,
                    charset,
                    spaces_refunds: context.spaces_refunds,
                    now: context.now,
                };
                let said = shop.execute(
                    method,
                    &biz_content,
                    params.text("notify_url"),
                    &mut context.book.lock(),
                );
                (said.unwrap_or_else(Into::into), true)
            }
            // It knows no key of an application that it does not know, and does not sign either.
            Err(refused) => (Said::from(refused), refused.1 != "isv.invalid-app-id"),
        };

        let alteration = if signed {
            context.alteration
        } else {
            Alteration::Unsigned
        };
        let said = if alteration == Alteration::Undecided {
            UNDECIDED.into()
        } else {
            said
        };

        let trace = context.book.lock().next_number();
        let mut response = self.answer(&params, &said, alteration);

        if let Ok(id) = HeaderValue::from_str(&format!("{trace:032x}")) {
            response
                .headers
                .insert(HeaderName::from_static("trace_id"), id);
        }

        response
    }

    fn rate_limited(&self, request: &Request, _: DateTime<Utc>) -> Response {
        let refused = Refused(
            "40005",
            "isv.app-call-limited",
            "应用调用次数超限，包含调用频率超限",
        );
        self.answer(&Params::of(request), &refused.into(), Alteration::None)
    }

    /// `retry_flag` is Y, and no `action` tells of anything.
    fn again(&self, request: &Request, _: DateTime<Utc>) -> Response {
        let params = Params::of(request);
        let said = match self.checked(&params) {
            Ok((_, biz_content)) => {
                let order_no = trade::text(&biz_content, "out_trade_no")
                    .unwrap_or_default()
                    .to_owned();
                Said::success([("out_trade_no", order_no), ("retry_flag", "Y".to_owned())])
            }
            Err(refused) => refused.into(),
        };
        self.answer(&params, &said, Alteration::None)
    }

    fn says(&self, request: &Request, word: &ScriptedRefusal, _: DateTime<Utc>) -> Response {
        let (code, sub_code) = word.code.split_once(' ').unwrap_or(("40004", &word.code));
        let mut said = Said(vec![
            ("code", code.into()),
            ("msg", word.message.as_str().into()),
        ]);
        said.push("sub_code", sub_code);
        said.push("sub_msg", word.message.as_str());
        self.answer(&Params::of(request), &said, Alteration::None)
    }

    fn http_500(&self, _: &Request, _: DateTime<Utc>) -> Response {
        html(
            StatusCode::INTERNAL_SERVER_ERROR,
            "<html><body><h1>500 Internal Server Error</h1></body></html>",
        )
    }

    fn transaction_id(&self, number: u64, now: DateTime<Utc>) -> String {
        trade::transaction_id(number, now)
    }

    fn notification(&self, notice: &Notice<'_>) -> Option<Outgoing> {
        let order = notice.order;
        let url = order.notify_url.clone()?;
        let charset = written_in(trade::charset(order), notice.alteration);
        let mut fields = notification_fields(self, notice)?;
        fields.push(("charset", shown(charset).to_owned()));
        let text = notification_string(fields.iter().map(|(name, value)| (*name, value.as_str())));

        if let Some(sign) = self.signature(&charset.write(&text), notice.alteration) {
            fields.push(("sign_type", "RSA2".to_owned()));
            fields.push(("sign", sign));
        }
        let half =
            |text: &str| crate::charset::form_half(&crate::charset::opaque(&charset.write(text)));
        let pairs: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", half(value)))
            .collect();
        let body = pairs.join("&");

        let content_type = HeaderValue::from_static(match charset {
            Charset::Utf8 => "application/x-www-form-urlencoded; charset=utf-8",
            Charset::Gbk => "application/x-www-form-urlencoded; charset=GBK",
            Charset::Gb18030 => "application/x-www-form-urlencoded; charset=GB18030",
        });

        Some(Outgoing {
            url,
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
            body: Bytes::from(body),
        })
    }

    fn acknowledged(&self, status: StatusCode, body: &[u8]) -> bool {
        status == StatusCode::OK && body == b"success"
    }

    fn retry_schedule_s(&self, _: &Order) -> &'static [u32] {
        RETRIES_S
    }

    fn late_money_returns_s(&self) -> Option<u32> {
        None
    }

    fn has(&self, what: Peculiarity) -> bool {
        match what {
            Peculiarity::Charsets | Peculiarity::SpacedRefunds | Peculiarity::Coupons => true,
            Peculiarity::Probes | Peculiarity::NamedKeys | Peculiarity::Defects => false,
        }
    }

    fn credentials(&self) -> Value {
        self.credentials.clone()
    }
}

impl AlipaySimulator {
    /// The gateway's checks, in its order: the application, the frame, the signature, the method,
    /// the content.
    fn checked(&self, params: &Params) -> Result<(Method, Map<String, Value>), Refused> {
        let required = |name: &str, sub_code| {
            params
                .text(name)
                .ok_or(Refused("40001", sub_code, "缺少参数"))
        };

        if required("app_id", "isv.missing-app-id")? != self.app_id {
            return Err(Refused("40002", "isv.invalid-app-id", "无效的AppID参数"));
        }
        let method = required("method", "isv.missing-method")?;
        let sign = required("sign", "isv.missing-signature")?;
        let sign_type = required("sign_type", "isv.missing-signature-type")?;
        let timestamp = required("timestamp", "isv.missing-timestamp")?;
        required("version", "isv.missing-version")?;

        let invalid = |wrong: bool, sub_code, sub_msg| {
            if wrong {
                Err(Refused("40002", sub_code, sub_msg))
            } else {
                Ok(())
            }
        };
        let json = params
            .text("format")
            .is_none_or(|format| format.eq_ignore_ascii_case("json"));

        invalid(
            params.charset.is_none(),
            "isv.invalid-charset",
            "字符集错误",
        )?;

        invalid(!json, "isv.invalid-format", "无效的数据格式")?;
        invalid(
            sign_type != "RSA2",
            "isv.invalid-signature-type",
            "无效的签名类型",
        )?;

        invalid(
            from_beijing_time(timestamp).is_none(),
            "isv.invalid-timestamp",
            "非法的时间戳参数",
        )?;

        invalid(
            !params.are_signed_by(&self.app_key, sign),
            "isv.invalid-signature",
            "验签出错",
        )?;

        invalid(params.repeated, "isv.invalid-parameter", "参数重复")?;
        let method = Method::named(method).ok_or(Refused(
            "40002",
            "isv.invalid-method",
            "不存在的方法名",
        ))?;

        let biz_content = params
            .text("biz_content")
            .and_then(|text| serde_json::from_str(text).ok());
        Ok((
            method,
            biz_content.ok_or(Refused(
                "40002",
                "isv.illegal-json",
                "biz_content不是合法的JSON",
            ))?,
        ))
    }

    /// Exactly `{"x_response":{…},"sign":"…"}`: SDKs cut the signed text out by position.
    fn answer(&self, params: &Params, said: &Said, alteration: Alteration) -> Response {
        let named = params
            .text("method")
            .filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'.'));
        let name = named.map_or_else(|| "error_response".to_owned(), node_name);
        let mut said = said.clone();

        if said.is("isv.invalid-signature") {
            // The real text shows what it verified, HTML-escaped.
            let text = params.string_to_sign().replace('&', "&amp;");
            said.0.retain(|(name, _)| *name != "sub_msg");
            said.push(
                "sub_msg",
                format!("验签出错，建议检查签名字符串或签名私钥与应用公钥是否匹配，网关生成的验签字符串为：{text}"),
            );
        }

        let charset = written_in(params.charset.unwrap_or_default(), alteration);
        let node = said.to_json();
        let body = match self.signature(&charset.write(&node), alteration) {
            Some(sign) => format!(r#"{{"{name}":{node},"sign":"{sign}"}}"#),
            None => format!(r#"{{"{name}":{node}}}"#),
        };

        html_in(StatusCode::OK, charset, charset.write(&body).into_owned())
    }

    /// A signature over `text`, or what a fault makes of it.
    fn signature(&self, text: &[u8], alteration: Alteration) -> Option<String> {
        match alteration {
            Alteration::None | Alteration::Undecided | Alteration::Charset(_) => {
                Some(self.alipay_key.sign(text))
            }
            Alteration::Unsigned => None,
            // No message of Alipay's names its key, so a strange one is a signature that does not
            // hold.
            Alteration::BadSignature | Alteration::UnknownKey | Alteration::Probe => {
                Some(self.alipay_key.sign(&[text, b" "].concat()))
            }
        }
    }
}

/// The charset that was asked for, unless somebody wants another.
fn written_in(asked_for: Charset, alteration: Alteration) -> Charset {
    match alteration {
        Alteration::Charset(other) => other,
        Alteration::None
        | Alteration::Undecided
        | Alteration::Unsigned
        | Alteration::BadSignature
        | Alteration::UnknownKey
        | Alteration::Probe => asked_for,
    }
}

/// As notifications name it.
fn shown(charset: Charset) -> &'static str {
    if charset == Charset::Utf8 {
        "utf-8"
    } else {
        charset.name()
    }
}

/// Everything that the gateway says comes as `text/html`, though it is JSON.
fn html(status: StatusCode, body: impl Into<Bytes>) -> Response {
    html_in(status, Charset::Utf8, body)
}

fn html_in(status: StatusCode, charset: Charset, body: impl Into<Bytes>) -> Response {
    let content_type = HeaderValue::from_static(match charset {
        Charset::Utf8 => "text/html;charset=utf-8",
        Charset::Gbk => "text/html;charset=GBK",
        Charset::Gb18030 => "text/html;charset=GB18030",
    });
    Response {
        status,
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
        body: body.into(),
    }
}

/// The path, of an absolute-form target too: an official SDK sends those.
fn path(request: &Request) -> &str {
    let target = request.path();
    target.split_once("://").map_or(target, |(_, rest)| {
        rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
    })
}

/// What a notification says before it is signed; `None` for what face-to-face payments are not told
/// of.
fn notification_fields(
    face: &AlipaySimulator,
    notice: &Notice<'_>,
) -> Option<Vec<(&'static str, String)>> {
    let order = notice.order;
    let amount = order.amount.to_yuan();
    let paid = trade::paid_by_payer(order);
    let mut fields = vec![
        ("gmt_create", beijing_time(order.created_at)),
        ("subject", order.description.clone()),
        ("buyer_id", trade::BUYER_ID.to_owned()),
        ("buyer_logon_id", trade::BUYER_LOGON_ID.to_owned()),
        ("invoice_amount", paid.clone()),
        ("version", "1.0".to_owned()),
        ("notify_id", notice.id.to_owned()),
        (
            "fund_bill_list",
            format!(r#"[{{"amount":"{paid}","fundChannel":"ALIPAYACCOUNT"}}]"#),
        ),
        ("notify_type", "trade_status_sync".to_owned()),
        ("notify_time", beijing_time(notice.now)),
        ("out_trade_no", order.key.order_no.clone()),
        ("total_amount", amount),
        ("trade_status", "TRADE_SUCCESS".to_owned()),
        ("trade_no", order.transaction_id.clone()?),
        ("auth_app_id", face.app_id.clone()),
        ("receipt_amount", paid.clone()),
        ("point_amount", "0.00".to_owned()),
        ("app_id", face.app_id.clone()),
        ("buyer_pay_amount", paid),
        ("seller_id", face.seller_id.clone()),
        ("gmt_payment", beijing_time(order.paid_at?)),
    ];

    fields.extend(trade::coupon(order).map(|coupon| {
        (
            "voucher_detail_list",
            format!(
                r#"[{{"amount":"{coupon}","name":"{}"}}]"#,
                trade::COUPON_NAME
            ),
        )
    }));

    fields.extend(
        order
            .passback
            .clone()
            .map(|passback| ("passback_params", passback)),
    );

    match notice.event {
        Event::Paid { .. } => {}
        // Documented at one time for partial refunds: the same status again. Not to be taken for a
        // payment.
        Event::RefundEnded { refund_no, .. } => {
            let refund = order
                .refunds
                .get(refund_no)
                .filter(|refund| refund.status == RefundStatus::Done)?;
            let refunded = Money::fen(order.refunded_fen())
                .ok()
                .filter(|sum| sum.minor() < order.captured_fen())?;
            fields.push((
                "gmt_refund",
                format!("{}.000", beijing_time(refund.completed_at?)),
            ));
            fields.push(("refund_fee", refunded.to_yuan()));
            fields.push(("send_back_fee", "0.00".to_owned()));
            fields.push(("out_biz_no", refund_no.clone()));
        }
        Event::Closed { .. } => return None,
    }

    Some(fields)
}

//! WeChat Pay's side of the wire for the sandbox: APIv3 for native orders, code payments, refunds
//! and certificates. It is as strict as the real service where money or signatures are concerned;
//! it keeps nothing of its own beside keys, and it never answers a request whose `Authorization`
//! does not hold with anything but 401.

mod auth;
mod certificate;
mod charges;
mod fields;
mod notices;
mod orders;
mod refunds;
mod response;
mod state;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use self::response::Said;
use self::state::{WechatPaySimulator, beijing_day, put, request_id};
use super::beijing;
use crate::provider::ProviderName;
use crate::sandbox::book::{Order, SharedBook};
use crate::sandbox::secrets::hex;
use crate::sandbox::simulator::{
    Alteration, CallKind, Notice, Outgoing, Peculiarity, Request, Response, ScriptedRefusal,
    SimulatedProvider, Simulator, SimulatorContext,
};

/// Between one unacknowledged notification and the next.
const RETRIES_S: [u32; 15] = [
    15, 15, 30, 180, 600, 1200, 1800, 1800, 1800, 3600, 10_800, 10_800, 10_800, 21_600, 21_600,
];

/// The entry on the list of simulated providers.
pub const SIMULATOR: SimulatedProvider = SimulatedProvider {
    name: super::PROTOCOL.name,
    make_keys: state::make_keys,
    open: |keys| Ok(Arc::new(state::open(keys)?)),
};

/// What a request asks for.
enum Asked {
    Create,
    Charge,
    Query { order_no: String },
    QueryTransaction { id: String },
    Close { order_no: String },
    Reverse { order_no: String },
    Refund,
    QueryRefund { refund_no: String },
    Certificates,
}

fn asked(request: &Request) -> Option<Asked> {
    let decoded = |s: &str| {
        percent_decode_str(s)
            .decode_utf8()
            .ok()
            .map(|s| s.into_owned())
    };
    let path: Vec<&str> = request.path().strip_prefix("/v3/")?.split('/').collect();

    match (&request.method, path.as_slice()) {
        (&Method::POST, ["pay", "transactions", "native"]) => Some(Asked::Create),
        (&Method::POST, ["pay", "transactions", "codepay"]) => Some(Asked::Charge),
        (&Method::GET, ["pay", "transactions", "out-trade-no", no]) => Some(Asked::Query {
            order_no: decoded(no)?,
        }),
        (&Method::GET, ["pay", "transactions", "id", id]) => {
            Some(Asked::QueryTransaction { id: decoded(id)? })
        }
        (&Method::POST, ["pay", "transactions", "out-trade-no", no, "close"]) => {
            Some(Asked::Close {
                order_no: decoded(no)?,
            })
        }
        (&Method::POST, ["pay", "transactions", "out-trade-no", no, "reverse"]) => {
            Some(Asked::Reverse {
                order_no: decoded(no)?,
            })
        }
        (&Method::POST, ["refund", "domestic", "refunds"]) => Some(Asked::Refund),
        (&Method::GET, ["refund", "domestic", "refunds", no]) => Some(Asked::QueryRefund {
            refund_no: decoded(no)?,
        }),
        (&Method::GET, ["certificates"]) => Some(Asked::Certificates),
        _ => None,
    }
}

impl WechatPaySimulator {
    fn execute(&self, request: &Request, context: &SimulatorContext<'_>) -> Said {
        let Some(asked) = asked(request) else {
            return Said::no(
                StatusCode::NOT_FOUND,
                "RESOURCE_NOT_EXISTS",
                0,
                "请求的资源不存在",
            );
        };

        let said = match asked {
            Asked::Create => orders::create(self, request, context),
            Asked::Charge => charges::create(self, request, context),
            Asked::Query { order_no } => orders::query(self, request, &order_no, context),
            Asked::QueryTransaction { id } => {
                orders::query_transaction(self, request, &id, context)
            }
            Asked::Close { order_no } => orders::close(self, request, &order_no, context),
            Asked::Reverse { order_no } => charges::reverse(self, request, &order_no, context),
            Asked::Refund => refunds::create(self, request, context),
            Asked::QueryRefund { refund_no } => refunds::query(self, &refund_no, context),
            Asked::Certificates => self.certificates(context.now),
        };

        said.unwrap_or_else(|no| no)
    }

    /// The platform certificate, for SDKs that do not use public-key mode.
    fn certificates(&self, now: DateTime<Utc>) -> Result<Said, Said> {
        let broken = || Said::system_error();
        let nonce = hex(12).map_err(|_| broken())?;
        let certificate = self.keys.platform_certificate.as_bytes();
        let ciphertext = self
            .resource_key
            .seal(&nonce, "certificate", certificate)
            .ok_or_else(broken)?;

        Ok(Said::ok(json!({"data": [{
            "serial_no": self.keys.platform_serial,
            "effective_time": beijing(now - chrono::TimeDelta::days(30)),
            "expire_time": beijing(now + chrono::TimeDelta::days(1800)),
            "encrypt_certificate": {
                "algorithm": "AEAD_AES_256_GCM", "nonce": nonce, "associated_data": "certificate",
                "ciphertext": ciphertext,
            },
        }]})))
    }

    /// Headers and signature around an answer.
    fn answer(
        &self,
        said: &Said,
        request: &Request,
        now: DateTime<Utc>,
        alteration: Alteration,
    ) -> Response {
        let body = said.body.as_ref().map(Value::to_string).unwrap_or_default();
        let mut headers = HeaderMap::new();

        put(
            &mut headers,
            "content-type",
            "application/json; charset=utf-8",
        );

        put(&mut headers, "cache-control", "no-cache, must-revalidate");
        put(&mut headers, "x-content-type-options", "nosniff");
        put(&mut headers, "content-language", "zh-CN");
        put(&mut headers, "request-id", &request_id(said.reason));
        if said.signed {
            self.sign(
                &mut headers,
                self.key_for(request),
                body.as_bytes(),
                now,
                alteration,
            );
        }

        Response {
            status: said.status,
            headers,
            body: body.into(),
        }
    }
}

impl Simulator for WechatPaySimulator {
    fn provider(&self) -> ProviderName {
        super::PROTOCOL.name
    }

    fn call_of(&self, request: &Request, _: &SharedBook) -> Option<CallKind> {
        match asked(request)? {
            Asked::Create | Asked::Charge => Some(CallKind::Create),
            Asked::Query { .. } | Asked::QueryTransaction { .. } => Some(CallKind::Query),
            Asked::Close { .. } => Some(CallKind::Close),
            Asked::Reverse { .. } => Some(CallKind::Reverse),
            Asked::Refund => Some(CallKind::Refund),
            Asked::QueryRefund { .. } => Some(CallKind::QueryRefund),
            Asked::Certificates => None,
        }
    }

    fn handle(&self, request: &Request, context: &SimulatorContext<'_>) -> Response {
        let said = match auth::check(self, request, context.now) {
            Ok(()) => self.execute(request, context),
            Err(no) => no,
        };
        let said = if context.alteration == Alteration::Undecided && said.signed {
            Said::system_error()
        } else {
            said
        };
        self.answer(&said, request, context.now, context.alteration)
    }

    fn rate_limited(&self, request: &Request, now: DateTime<Utc>) -> Response {
        let said = Said::no(
            StatusCode::TOO_MANY_REQUESTS,
            "FREQUENCY_LIMITED",
            268_447_840,
            "频率超限",
        );
        self.answer(&said, request, now, Alteration::None)
    }

    /// The payer is typing the password: it cannot be reversed now.
    fn again(&self, request: &Request, now: DateTime<Utc>) -> Response {
        let said = match auth::check(self, request, now) {
            Ok(()) => Said::bad_request("USERPAYING", 0, "正在支付中，不能发起撤销"),
            Err(no) => no,
        };
        self.answer(&said, request, now, Alteration::None)
    }

    fn says(&self, request: &Request, word: &ScriptedRefusal, now: DateTime<Utc>) -> Response {
        self.answer(&Said::of(word), request, now, Alteration::None)
    }

    fn http_500(&self, request: &Request, now: DateTime<Utc>) -> Response {
        self.answer(&Said::system_error(), request, now, Alteration::None)
    }

    /// 28 digits that begin with 4 and carry the day, as real ones do.
    fn transaction_id(&self, number: u64, now: DateTime<Utc>) -> String {
        format!("4200000001{}{number:010}", beijing_day(now))
    }

    fn notification(&self, notice: &Notice<'_>) -> Option<Outgoing> {
        notices::outgoing(self, notice)
    }

    fn acknowledged(&self, status: StatusCode, _: &[u8]) -> bool {
        status == StatusCode::OK || status == StatusCode::NO_CONTENT
    }

    fn retry_schedule_s(&self, _: &Order) -> &'static [u32] {
        &RETRIES_S
    }

    fn late_money_returns_s(&self) -> Option<u32> {
        None
    }

    fn has(&self, what: Peculiarity) -> bool {
        match what {
            // JSON in UTF-8, in both directions.
            Peculiarity::Charsets | Peculiarity::SpacedRefunds | Peculiarity::Defects => false,
            Peculiarity::Probes | Peculiarity::NamedKeys | Peculiarity::Coupons => true,
        }
    }

    fn credentials(&self) -> Value {
        self.credentials.clone()
    }
}

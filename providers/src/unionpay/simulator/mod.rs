//! UnionPay's side of the wire for the sandbox: codes that are scanned and codes that we scan,
//! queries, reversals, refunds and undos. It is as strict as the real gateway where money or
//! signatures are concerned, keeps nothing but keys and who asked when, and executes nothing that
//! the merchant did not sign.

mod notices;
mod payments;
mod pki;
mod request;
mod response;
mod returns;
mod state;
mod transaction;

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use self::request::{Asked, Broken, Checked};
use self::response::Said;
use self::state::{PROVIDER, UnionPaySimulator, written_in};
use super::sign::CERTIFICATE;
use super::wire::Fields;
use crate::charset::bytes;
use crate::provider::ProviderName;
use crate::sandbox::book::{Order, SharedBook};
use crate::sandbox::charset::Charset;
use crate::sandbox::simulator::{
    Alteration, CallKind, Notice, Outgoing, Peculiarity, Request, Response, ScriptedRefusal,
    SimulatedProvider, Simulator, SimulatorContext,
};

/// Five sendings: at once, again, and after one, two and four minutes.
const RETRIES_S: [u32; 4] = [0, 60, 120, 240];
/// "About five working days" until late money goes back.
const LATE_MONEY_RETURNS_S: u32 = 5 * 86_400;
/// The entry on the list of simulated providers.
pub const SIMULATOR: SimulatedProvider = SimulatedProvider {
    name: super::PROTOCOL.name,
    make_keys: state::make_keys,
    open: |keys| Ok(Arc::new(state::open(keys)?)),
};

impl UnionPaySimulator {
    fn execute(
        &self,
        asked: Asked,
        fields: &Fields,
        context: &SimulatorContext<'_>,
    ) -> Result<Said, Said> {
        if !request::is_signed(self, fields) {
            return Err(Said::not_signed());
        }
        if asked == Asked::Other {
            return Err(Said::no_permission());
        }
        let request = Checked::new(asked, fields, context.now)?;
        match asked {
            Asked::Apply => payments::apply(self, &request, context),
            Asked::Scan => payments::scan(self, &request, context),
            Asked::Query => payments::query(self, &request, context),
            Asked::Reversal => payments::reverse(self, &request, context),
            Asked::Refund | Asked::Undo => returns::give_back(self, asked, &request, context),
            Asked::Other => Err(Said::no_permission()),
        }
    }

    /// Orders and refunds are asked about by one call: only the number tells them apart.
    fn question(&self, fields: &Fields, book: &SharedBook) -> CallKind {
        let number = fields.get("orderId").map_or("", String::as_str);
        let of_a_refund = book
            .lock()
            .by_refund(PROVIDER, &self.keys.mer_id, number)
            .is_some();
        if of_a_refund {
            CallKind::QueryRefund
        } else {
            CallKind::Query
        }
    }

    /// The fields that every answer repeats, the words, and the signature: raw text in the order of
    /// real answers.
    fn answer(&self, asked: &Fields, said: Said, alteration: Alteration) -> Response {
        const REPEATED: [&str; 11] = [
            "version",
            "encoding",
            "signMethod",
            "txnType",
            "txnSubType",
            "bizType",
            "accessType",
            "merId",
            "orderId",
            "txnTime",
            "reqReserved",
        ];

        let mut fields: Fields = asked
            .iter()
            .filter(|(name, _)| REPEATED.contains(&name.as_str()))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        let said = if alteration == Alteration::Undecided {
            said.of_a_silent_issuer()
        } else {
            said
        };

        fields.extend(super::fields([
            ("respCode", &*said.code),
            ("respMsg", &said.message),
        ]));
        fields.extend(said.fields);
        fields.retain(|_, value| !value.is_empty());
        let named = fields.get("encoding").cloned().unwrap_or_default();
        let charset = written_in(&mut fields, &named, alteration);
        self.sign(&mut fields, alteration);
        let last = [CERTIFICATE, "signature"];
        let first = fields
            .iter()
            .filter(|(name, _)| !last.contains(&name.as_str()));
        let behind = last.iter().filter_map(|name| fields.get_key_value(*name));

        let body = first
            .chain(behind)
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("&");

        in_charset(StatusCode::OK, charset, bytes(&body).into_owned())
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response {
    in_charset(status, Charset::Utf8, body)
}

fn in_charset(status: StatusCode, charset: Charset, body: impl Into<Bytes>) -> Response {
    let content_type = HeaderValue::from_static(match charset {
        Charset::Utf8 => "text/html;charset=UTF-8",
        Charset::Gbk => "text/html;charset=GBK",
        Charset::Gb18030 => "text/html;charset=GB18030",
    });
    Response {
        status,
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
        body: body.into(),
    }
}

fn broken(Broken(status, text): Broken) -> Response {
    plain(status, text)
}

impl Simulator for UnionPaySimulator {
    fn provider(&self) -> ProviderName {
        super::PROTOCOL.name
    }

    /// A question about what is not there is a `Query`.
    fn call_of(&self, request: &Request, book: &SharedBook) -> Option<CallKind> {
        let (asked, fields) = request::read(request).ok()?;
        match asked {
            Asked::Apply | Asked::Scan => Some(CallKind::Create),
            Asked::Query => Some(self.question(&fields, book)),
            Asked::Refund | Asked::Undo => Some(CallKind::Refund),
            Asked::Reversal => Some(CallKind::Reverse),
            Asked::Other => None,
        }
    }

    fn handle(&self, request: &Request, context: &SimulatorContext<'_>) -> Response {
        match request::read(request) {
            Ok((asked, fields)) => {
                let said = self
                    .execute(asked, &fields, context)
                    .unwrap_or_else(|no| no);
                self.answer(&fields, said, context.alteration)
            }
            Err(no) => broken(no),
        }
    }

    fn rate_limited(&self, request: &Request, _: DateTime<Utc>) -> Response {
        match request::read(request) {
            Ok((asked, fields)) => {
                let said = if asked == Asked::Query {
                    Said::too_often()
                } else {
                    Said::busy()
                };
                self.answer(&fields, said, Alteration::None)
            }
            Err(no) => broken(no),
        }
    }

    fn again(&self, request: &Request, _: DateTime<Utc>) -> Response {
        match request::read(request) {
            Ok((_, fields)) => self.answer(&fields, Said::busy(), Alteration::None),
            Err(no) => broken(no),
        }
    }

    fn says(&self, request: &Request, word: &ScriptedRefusal, _: DateTime<Utc>) -> Response {
        match request::read(request) {
            Ok((_, fields)) => self.answer(
                &fields,
                Said::new(&word.code, &word.message),
                Alteration::None,
            ),
            Err(no) => broken(no),
        }
    }

    fn http_500(&self, _: &Request, _: DateTime<Utc>) -> Response {
        plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "<html><body><h1>HTTP Status 500</h1></body></html>",
        )
    }

    fn transaction_id(&self, number: u64, now: DateTime<Utc>) -> String {
        self.query_id(number, now)
    }

    fn notification(&self, notice: &Notice<'_>) -> Option<Outgoing> {
        notices::outgoing(self, notice)
    }

    fn acknowledged(&self, status: StatusCode, _: &[u8]) -> bool {
        status == StatusCode::OK
    }

    fn retry_schedule_s(&self, _: &Order) -> &'static [u32] {
        &RETRIES_S
    }

    fn late_money_returns_s(&self) -> Option<u32> {
        Some(LATE_MONEY_RETURNS_S)
    }

    fn has(&self, what: Peculiarity) -> bool {
        match what {
            Peculiarity::Charsets | Peculiarity::NamedKeys | Peculiarity::Defects => true,
            Peculiarity::Probes | Peculiarity::SpacedRefunds | Peculiarity::Coupons => false,
        }
    }

    fn credentials(&self) -> Value {
        json!({
            "mer_id": self.keys.mer_id, "pfx": self.keys.pfx,
            "pfx_password": self.keys.pfx_password,
            "root_cert": self.keys.root_cert, "middle_cert": self.keys.middle_cert,
            "secure_key": self.keys.secure_key,
        })
    }
}

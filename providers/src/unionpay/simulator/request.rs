//! Reads a request as strictly as the real gateway: an unknown field is no request at all, a wrong
//! one is named. Nothing is looked at behind a signature that does not hold.

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;

use super::super::outcome::{APPLY, CNY, CONSUME, QUERY, REFUND, REVERSAL, SCAN};
use super::super::sign::{BY_CERTIFICATE, BY_SHARED_KEY, VERSION, signed_text};
use super::super::wire::{Fields, parse_form, read_beijing};
use super::response::Said;
use super::state::UnionPaySimulator;
use crate::charset::{bytes, words};
use crate::money::Money;
use crate::sandbox::charset::Charset;
use crate::sandbox::simulator::Request;
use crate::signing::sha256_hex;

/// `txnType` of an undo.
pub(super) const UNDO: &str = "31";
pub(super) const BACK: &str = "/gateway/api/backTransReq.do";
pub(super) const QUERIES: &str = "/gateway/api/queryTrans.do";
const FRONT: &str = "/gateway/api/frontTransReq.do";
/// The real tolerance is not published; this one lets a refund be sent again on the same day.
const SKEW: TimeDelta = TimeDelta::hours(24);

/// What every request may have.
const HEAD: [&str; 12] = [
    "version",
    "encoding",
    "certId",
    "signature",
    "signMethod",
    "txnType",
    "txnSubType",
    "bizType",
    "accessType",
    "merId",
    "txnTime",
    "orderId",
];

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Apply,
    Scan,
    Query,
    Refund,
    Undo,
    Reversal,
    /// A product that this merchant has no contract for: page, app, pre-authorisation and so on.
    Other,
}

impl Asked {
    pub(super) fn of(path: &str, fields: &Fields) -> Option<Self> {
        let text = |name: &str| fields.get(name).map_or("", String::as_str);
        Some(match (path, text("txnType"), text("txnSubType")) {
            // Some SDKs ask at the address for transactions.
            (QUERIES | BACK, QUERY, _) => Self::Query,
            (BACK, CONSUME, APPLY) => Self::Apply,
            (BACK, CONSUME, SCAN) => Self::Scan,
            (BACK, REFUND, _) => Self::Refund,
            (BACK, UNDO, _) => Self::Undo,
            (BACK, REVERSAL, _) => Self::Reversal,
            (BACK | QUERIES, ..) => Self::Other,
            _ => return None,
        })
    }

    /// Fields beside the head: those that must be there, and those that may.
    fn fields(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Apply => (
                &["channelType", "txnAmt", "currencyCode", "backUrl"],
                &[
                    "payTimeout",
                    "termId",
                    "termInfo",
                    "reqReserved",
                    "reserved",
                    "ctrlRule",
                    "accSplitData",
                ],
            ),
            Self::Scan => (
                &["channelType", "txnAmt", "currencyCode", "backUrl", "qrNo"],
                &[
                    "termId",
                    "accType",
                    "riskRateInfo",
                    "termInfo",
                    "reqReserved",
                ],
            ),
            Self::Query => (&[], &["channelType", "queryId"]),
            Self::Refund | Self::Undo => (
                &["channelType", "txnAmt", "backUrl"],
                &[
                    "currencyCode",
                    "origQryId",
                    "origOrderId",
                    "origTxnTime",
                    "reqReserved",
                    "termId",
                ],
            ),
            Self::Reversal => (&["channelType"], &["termId", "reqReserved"]),
            Self::Other => (&[], &[]),
        }
    }
}

/// Why there is no answer in the protocol's own words.
#[derive(Debug)]
pub(super) struct Broken(pub StatusCode, pub &'static str);

/// The form and what it asks for, before its signature was looked at.
pub(super) fn read(request: &Request) -> Result<(Asked, Fields), Broken> {
    let invalid = Broken(StatusCode::BAD_REQUEST, "Invalid request.");
    if request.method != http::Method::POST {
        return Err(Broken(StatusCode::NOT_IMPLEMENTED, ""));
    }
    if request.path() == FRONT {
        // A page for a browser: this merchant has no contract for payments on pages.
        return Err(Broken(
            StatusCode::OK,
            "<html><body><div class=\"end_error\">交易失败 32无此权限</div></body></html>",
        ));
    }

    let form = request
        .header("content-type")
        .is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
    let fields = parse_form(&request.body)
        .ok()
        .filter(|_| form)
        .ok_or(invalid)?;
    let asked =
        Asked::of(request.path(), &fields).ok_or(Broken(StatusCode::NOT_FOUND, "Not Found"))?;
    let (must, may) = asked.fields();
    let known = |name: &str| HEAD.contains(&name) || must.contains(&name) || may.contains(&name);
    if asked != Asked::Other && !fields.keys().all(|name| known(name)) {
        return Err(Broken(StatusCode::BAD_REQUEST, "Invalid request."));
    }

    Ok((asked, fields))
}

/// Whether the merchant signed it, by the method that it names.
pub(super) fn is_signed(face: &UnionPaySimulator, fields: &Fields) -> bool {
    let text = |name: &str| fields.get(name).map_or("", String::as_str);
    if text("merId") != face.keys.mer_id || text("version") != VERSION {
        return false;
    }
    let (signed, signature) = (signed_text(fields), text("signature"));
    let signed = bytes(&signed);

    match text("signMethod") {
        BY_CERTIFICATE => {
            text("certId") == face.cert_id
                && face
                    .merchant
                    .verify(sha256_hex(&signed).as_bytes(), signature)
                    .is_ok()
        }
        BY_SHARED_KEY => face.shared.holds(&signed, signature),
        _ => false,
    }
}

/// A request whose fields were checked.
pub(super) struct Checked<'a> {
    fields: &'a Fields,
}

impl<'a> Checked<'a> {
    pub(super) fn new(asked: Asked, fields: &'a Fields, now: DateTime<Utc>) -> Result<Self, Said> {
        let checked = Self { fields };
        let (must, _) = asked.fields();

        if let Some(name) = must
            .iter()
            .chain(&["orderId", "txnTime"])
            .find(|name| checked.text(name).is_empty())
        {
            return Err(Said::invalid(name));
        }
        let business = ["000000", "000201"].contains(&checked.text("bizType"));
        let order_no = checked.text("orderId");
        let number = (8..=40).contains(&order_no.len())
            && order_no.bytes().all(|b| b.is_ascii_alphanumeric());

        // A query and a reversal repeat the time of their order.
        let repeats = matches!(asked, Asked::Query | Asked::Reversal);
        let time = read_beijing(checked.text("txnTime"))
            .is_some_and(|at| repeats || (now - at).abs() <= SKEW);
        let channel = ["", "07", "08"].contains(&checked.text("channelType"));
        let currency = ["", CNY].contains(&checked.text("currencyCode"));
        let url = checked.text("backUrl");
        let address = url.is_empty()
            || (url.len() <= 256
                && !url.contains('?')
                && (url.starts_with("http://") || url.starts_with("https://")));
        let amount = checked.text("txnAmt").is_empty() || checked.amount().is_some();
        let deadline = checked.text("payTimeout");
        let deadline = deadline.is_empty() || read_beijing(deadline).is_some_and(|at| at > now);

        let rules = [
            (
                "encoding",
                Charset::named(checked.text("encoding")).is_some(),
            ),
            ("accessType", checked.text("accessType") == "0"),
            ("bizType", business),
            ("orderId", number),
            ("txnTime", time),
            ("channelType", channel),
            ("currencyCode", currency),
            ("backUrl", address),
            ("txnAmt", amount),
            ("payTimeout", deadline),
        ];

        match rules.into_iter().find(|(_, holds)| !holds) {
            Some((name, _)) => Err(Said::invalid(name)),
            None => Ok(checked),
        }
    }

    /// A field; empty when it is not there.
    pub(super) fn text(&self, name: &str) -> &'a str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub(super) fn some(&self, name: &str) -> Option<String> {
        Some(self.text(name))
            .filter(|text| !text.is_empty())
            .map(|text| words(text).into_owned())
    }

    /// Digits without a leading zero.
    pub(super) fn amount(&self) -> Option<Money> {
        let text = self.text("txnAmt");
        let plain =
            text.len() <= 12 && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        Money::fen(text.parse().ok().filter(|_| plain)?).ok()
    }
}

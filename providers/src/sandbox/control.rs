//! The control API: act as the payer, break things, move time, look into the book. JSON in and out;
//! every refusal names the member that is wrong.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::book::{Order, Refusal};
use super::core::{Core, Together};
use super::fault::Fault;
use super::members::{Invalid, Members};
use super::payer::{Holding, Wish};
use super::refund_end::{PaymentEnd, RefundEnd};
use super::simulator::{Peculiarity, Request, Response};
use crate::money::Money;

const HELP: &str = "\
The sandbox's control. Amounts are in fen, times in RFC 3339.
GET    /                what you read
POST   /pay             {\"code\" | \"order_no\", \"result\": \"paid\" | \"declined\" | \"late\"}: act as the payer
GET    /faults          what is broken on purpose
PUT    /faults          {\"provider\", \"call\", \"kind\", \"probability\", \"latency_ms\", \"seed\", \"duration_s\",
                        \"count\"}: the next \"count\" calls (all, when it is missing) that it is aimed at; \"says\" has
                        \"code\" and \"message\" too: the provider's own no, \"40004 ACQ.TOTAL_FEE_EXCEED\",
                        \"403 RULE_LIMIT\", \"400 PARAM_ERROR /amount/total\", \"61\"
DELETE /faults[?id=]    mend it
GET    /refunds         how the next refunds end
PUT    /refunds         {\"provider\", \"result\": \"done\" | \"closed\" | \"abnormal\" | \"no_funds\", \"count\"}: the next \"count\"
                        refunds (all, when it is missing) end so, each provider in its own words. Alipay knows no
                        closed and no abnormal refund: it says fund_change N and does nothing, or that the buyer's
                        account is blocked; its cancel of a paid trade meets no_funds too
GET    /payments        how the next payments end
PUT    /payments        {\"provider\", \"result\": \"plain\" | \"coupon\" | \"defect\" | \"unsettled\" | \"unsettled_for_good\",
                        \"count\"}: the next \"count\" payments (all, when it is missing) end so. Payers of Alipay and WeChat
                        Pay have coupons; UnionPay's succeed with a defect (A6) or are taken and not settled (74, 75)
POST   /refunds         {\"order_no\", \"amount\"}: somebody gives money back in the provider's own console
GET    /clock           the sandbox's time
POST   /clock           {\"advance_s\"} or {\"now\"}: move it forward, and with it the time of the gateway that has this
                        sandbox inside itself. 409, and nothing is moved, where a gateway could not go along; \"alone\":
                        true moves the sandbox's time without anybody else's
GET    /faces           where each provider listens
GET    /credentials     the sandbox merchants' keys
GET    /books           the truth about money [?provider=&order_no=]
GET    /calls           how often each provider was called since the start, by call
GET    /notifications   what was sent where, and what came back; how many were sent in all (the last 5,000 are shown), and
                        how many are still to be sent again
";

/// Its time is at most so far ahead of the real one.
const MOST_AHEAD: TimeDelta = TimeDelta::days(3_653);

/// Why a request is refused.
#[derive(Debug)]
enum Refused {
    Invalid(Invalid),
    NotFound,
    WrongMethod(&'static str),
    Conflict(String),
    OtherSite,
    ByBook(Refusal, &'static str),
}

impl From<Invalid> for Refused {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

/// Answers one request.
pub(super) async fn handle(core: Arc<Core>, request: Request) -> Response {
    match route(&core, &request).await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

/// Whether a page of another site has a browser send this: the sandbox's own pages, and programs,
/// do not. A name may be another site's that leads here; an address is not.
fn is_of_another_site(request: &Request) -> bool {
    let header = |name| {
        request
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let Some(origin) = request.headers.get(header::ORIGIN) else {
        return false;
    };

    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, host)| host);
    let is_address =
        |host: &str| host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok();
    let is_here =
        |host: &str| is_address(host) || host == "localhost" || host.starts_with("localhost:");

    origin.is_none_or(|origin| Some(origin) != header(header::HOST) || !is_here(origin))
}

async fn route(core: &Core, request: &Request) -> Result<Response, Refused> {
    if is_of_another_site(request) {
        return Err(Refused::OtherSite);
    }

    match (request.path(), request.method.as_str()) {
        ("/", "GET") => Ok(text(HELP)),
        ("/pay", "POST") => pay(core, &request.body),
        ("/faults", "GET") => Ok(faults(core)),
        ("/faults", "PUT") => add_fault(core, &request.body).await,
        ("/faults", "DELETE") => remove_faults(core, request.query()).await,
        ("/refunds", "GET") => Ok(refund_ends(core)),
        ("/payments", "GET") => Ok(payment_ends(core)),
        ("/payments", "PUT") => set_payment_ends(core, &request.body),
        ("/payments", _) => Err(Refused::WrongMethod("GET, PUT")),
        ("/refunds", "POST") => refund_by_hand(core, &request.body),
        ("/refunds", "PUT") => set_refund_ends(core, &request.body),
        ("/clock", "GET") => Ok(clock(core)),
        ("/clock", "POST") => move_clock(core, &request.body).await,
        ("/faces", "GET") => Ok(json_response(StatusCode::OK, &core.face_urls())),
        ("/credentials", "GET") => Ok(json_response(StatusCode::OK, &core.credentials())),
        ("/books", "GET") => Ok(books(core, request.query())),
        ("/calls", "GET") => Ok(json_response(StatusCode::OK, &core.calls())),
        ("/notifications", "GET") => Ok(json_response(StatusCode::OK, &core.notifier.told())),
        ("/" | "/faces" | "/credentials" | "/books" | "/calls" | "/notifications", _) => {
            Err(Refused::WrongMethod("GET"))
        }
        ("/pay", _) => Err(Refused::WrongMethod("POST")),
        ("/faults", _) => Err(Refused::WrongMethod("GET, PUT, DELETE")),
        ("/refunds", _) => Err(Refused::WrongMethod("GET, POST, PUT")),
        ("/clock", _) => Err(Refused::WrongMethod("GET, POST")),
        _ => Err(Refused::NotFound),
    }
}

fn pay(core: &Core, body: &[u8]) -> Result<Response, Refused> {
    let mut members = Members::of(body, &["code", "order_no", "result"])?;
    let (holding, param) = match (members.optional("code")?, members.optional("order_no")?) {
        (Some(code), None) => (Holding::Code(code), "code"),
        (None, Some(order_no)) => (Holding::OrderNo(order_no), "order_no"),
        (None, None) => return Err(Invalid::new("code", "is missing, and so is order_no").into()),
        (Some(_), Some(_)) => {
            return Err(Invalid::new("order_no", "is too much beside code").into());
        }
    };
    let wish: Wish = members.required("result")?;
    let order = core
        .pay(&holding, wish)
        .map_err(|refusal| Refused::ByBook(refusal, param))?;
    Ok(json_response(StatusCode::OK, &order_json(&order)))
}

fn faults(core: &Core) -> Response {
    let list: Vec<Value> = core
        .faults
        .running(core.clock.now())
        .iter()
        .map(Fault::to_json)
        .collect();
    json_response(StatusCode::OK, &json!({"data": list}))
}

async fn add_fault(core: &Core, body: &[u8]) -> Result<Response, Refused> {
    let now = core.clock.now();
    let fault = Fault::read(body, &core.providers(), now)?;
    does(core, "kind", fault.provider().as_str(), fault.needs())?;
    let fault = core.faults.add(fault, now)?;
    core.faults_changed().await;
    Ok(json_response(StatusCode::OK, &fault.to_json()))
}

/// Refuses what a provider is not asked for because it never does it.
fn does(
    core: &Core,
    param: &'static str,
    provider: &str,
    what: Option<Peculiarity>,
) -> Result<(), Invalid> {
    let faces = || {
        core.faces
            .iter()
            .map(|(face, _)| face)
            .filter(|face| face.provider().as_str() == provider)
    };
    match what {
        Some(what) if !faces().any(|face| face.has(what)) => {
            Err(Invalid::new(param, format!("{provider} never does that")))
        }
        Some(_) | None => Ok(()),
    }
}

async fn remove_faults(core: &Core, query: &str) -> Result<Response, Refused> {
    let wrong = || Invalid::new("id", "is not the id of a fault");
    let id = parameter(query, "id")
        .map(|id| id.parse::<u64>().map_err(|_| wrong()))
        .transpose()?;
    let removed = core.faults.remove(id);
    if removed == 0 && id.is_some() {
        return Err(wrong().into());
    }
    core.faults_changed().await;
    Ok(json_response(StatusCode::OK, &json!({"removed": removed})))
}

fn refund_ends(core: &Core) -> Response {
    let book = core.book.lock();
    let asked = book.refund_ends.asked();
    let list: Vec<Value> = asked
        .map(|(p, end, n)| json!({"provider": p, "result": end, "count": n}))
        .collect();
    drop(book);
    json_response(StatusCode::OK, &json!({"data": list}))
}

fn payment_ends(core: &Core) -> Response {
    let book = core.book.lock();
    let asked = book.payment_ends.asked();
    let list: Vec<Value> = asked
        .map(|(p, end, n)| json!({"provider": p, "result": end, "count": n}))
        .collect();
    drop(book);
    json_response(StatusCode::OK, &json!({"data": list}))
}

fn set_payment_ends(core: &Core, body: &[u8]) -> Result<Response, Refused> {
    let mut members = Members::of(body, &["provider", "result", "count"])?;
    let provider: String = members.required("provider")?;
    if !core.providers().iter().any(|p| p.as_str() == provider) {
        return Err(Invalid::new("provider", "is not one of the sandbox's").into());
    }
    let (end, count): (PaymentEnd, Option<u32>) =
        (members.required("result")?, members.optional("count")?);
    let needs = match end {
        PaymentEnd::Plain => None,
        PaymentEnd::Coupon => Some(Peculiarity::Coupons),
        PaymentEnd::Defect | PaymentEnd::Unsettled | PaymentEnd::UnsettledForGood => {
            Some(Peculiarity::Defects)
        }
    };

    does(core, "result", &provider, needs)?;
    core.book.lock().payment_ends.ask(&provider, end, count);
    Ok(payment_ends(core))
}

fn set_refund_ends(core: &Core, body: &[u8]) -> Result<Response, Refused> {
    let mut members = Members::of(body, &["provider", "result", "count"])?;
    let provider: String = members.required("provider")?;
    if !core.providers().iter().any(|p| p.as_str() == provider) {
        return Err(Invalid::new("provider", "is not one of the sandbox's").into());
    }
    let (end, count): (RefundEnd, Option<u32>) =
        (members.required("result")?, members.optional("count")?);
    core.book.lock().refund_ends.ask(&provider, end, count);
    Ok(refund_ends(core))
}

fn refund_by_hand(core: &Core, body: &[u8]) -> Result<Response, Refused> {
    let mut members = Members::of(body, &["order_no", "amount"])?;
    let (order_no, fen): (String, i64) =
        (members.required("order_no")?, members.required("amount")?);
    let amount = Money::fen(fen).map_err(|_| Invalid::new("amount", "is not an amount in fen"))?;
    let order = core.refund_by_hand(&order_no, amount).map_err(|refusal| {
        Refused::ByBook(
            refusal,
            if refusal == Refusal::TooMuch {
                "amount"
            } else {
                "order_no"
            },
        )
    })?;
    Ok(json_response(StatusCode::OK, &order_json(&order)))
}

fn clock(core: &Core) -> Response {
    let ahead_s = core.clock.ahead().num_seconds();
    json_response(
        StatusCode::OK,
        &json!({"now": core.clock.now(), "ahead_s": ahead_s}),
    )
}

async fn move_clock(core: &Core, body: &[u8]) -> Result<Response, Refused> {
    let _one_at_a_time = core.moving.lock().await;
    let mut members = Members::of(body, &["advance_s", "now", "alone"])?;
    let (param, by) = match (
        members.optional::<i64>("advance_s")?,
        members.optional::<DateTime<Utc>>("now")?,
    ) {
        (Some(seconds), None) => {
            let by = TimeDelta::try_seconds(seconds)
                .ok_or_else(|| Invalid::new("advance_s", "is out of range"))?;
            ("advance_s", by)
        }
        (None, Some(to)) => ("now", to - core.clock.now()),
        (None, None) => return Err(Invalid::new("advance_s", "is missing, and so is now").into()),
        (Some(_), Some(_)) => {
            return Err(Invalid::new("now", "is too much beside advance_s").into());
        }
    };

    let ahead = core
        .clock
        .after(by)
        .map_err(|e| Invalid::new(param, e.to_string()))?;
    if ahead > MOST_AHEAD {
        return Err(Invalid::new(
            param,
            "is more than ten years ahead, and there is no way back",
        )
        .into());
    }

    let alone = members.optional("alone")?.unwrap_or(false);
    if let Some(Together(companion)) = core.companion.get().filter(|_| !alone) {
        companion(ahead).await.map_err(Refused::Conflict)?;
    }
    core.clock
        .advance(by)
        .map_err(|e| Invalid::new(param, e.to_string()))?;

    Ok(clock(core))
}

fn books(core: &Core, query: &str) -> Response {
    let (provider, order_no) = (parameter(query, "provider"), parameter(query, "order_no"));
    let wanted = |key: &super::book::OrderKey| {
        provider.as_ref().is_none_or(|p| *p == key.provider)
            && order_no.as_ref().is_none_or(|n| *n == key.order_no)
    };
    let book = core.book.lock();
    let orders: Vec<Value> = book
        .orders()
        .into_iter()
        .filter(|o| wanted(&o.key))
        .map(order_json)
        .collect();

    let movements: Vec<Value> = book
        .movements()
        .iter()
        .filter(|m| wanted(&m.order))
        .map(|m| {
            json!({"kind": m.kind, "provider": m.order.provider, "order_no": m.order.order_no,
                "refund_no": m.refund_no, "amount": m.amount.minor(), "at": m.at})
        })
        .collect();

    drop(book);
    json_response(
        StatusCode::OK,
        &json!({"orders": orders, "movements": movements}),
    )
}

fn order_json(order: &Order) -> Value {
    let refunds: Vec<Value> = order
        .refunds
        .values()
        .map(|r| {
            json!({"refund_no": r.refund_no, "refund_id": r.refund_id, "amount": r.amount.minor(),
                "status": r.status, "created_at": r.created_at, "completed_at": r.completed_at})
        })
        .collect();

    json!({
        "provider": order.key.provider,
        "merchant": order.key.merchant,
        "order_no": order.key.order_no,
        "amount": order.amount.minor(),
        "flow": order.flow,
        "state": order.state,
        "captured": order.captured_fen(),
        "coupon": order.coupon_fen(),
        "refunded": order.refunded_fen(),
        "refunds": refunds,
        "transaction_id": order.transaction_id,
        "created_at": order.created_at,
        "expires_at": order.expires_at,
        "paid_at": order.paid_at,
        "ended_at": order.ended_at,
    })
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(n, _)| n == name)
        .map(|(_, value)| value.into_owned())
}

impl Refused {
    fn into_response(self) -> Response {
        let (status, error, param, allow) = match self {
            Self::Invalid(invalid) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                invalid.message,
                Some(invalid.param),
                None,
            ),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "GET / says what is here".to_owned(),
                None,
                None,
            ),
            Self::WrongMethod(allow) => (
                StatusCode::METHOD_NOT_ALLOWED,
                format!("only {allow}"),
                None,
                Some(allow),
            ),
            Self::OtherSite => (
                StatusCode::FORBIDDEN,
                "asked for by a page of another site".to_owned(),
                None,
                None,
            ),
            Self::Conflict(why) => (StatusCode::CONFLICT, why, None, None),
            Self::ByBook(Refusal::Unknown, param) => (
                StatusCode::NOT_FOUND,
                Refusal::Unknown.to_string(),
                Some(param),
                None,
            ),
            Self::ByBook(refusal, param) => {
                (StatusCode::CONFLICT, refusal.to_string(), Some(param), None)
            }
        };
        let mut response = json_response(status, &json!({"error": error, "param": param}));

        if let Some(allow) = allow {
            response
                .headers
                .insert(header::ALLOW, HeaderValue::from_static(allow));
        }

        response
    }
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    response(status, "application/json", value.to_string().into())
}

fn text(text: &'static str) -> Response {
    response(
        StatusCode::OK,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let headers =
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
    Response {
        status,
        headers,
        body,
    }
}

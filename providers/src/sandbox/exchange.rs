//! One request at a face, with what faults make of it. Whether something was done before the
//! trouble is what each fault promises, and what drills rely on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

use super::book::SharedBook;
use super::book::stale_read::Misreading;
use super::charset::Charset;
use super::core::Core;
use super::fault::{CallFault, Strike};
use super::server::Reply;
use super::simulator::{Alteration, CallKind, Request, Response, Simulator, SimulatorContext};

/// Answers one request, or not. Answers tell the time, as every web server's do.
pub(super) async fn exchange(core: Arc<Core>, face: Arc<dyn Simulator>, request: Request) -> Reply {
    let mut reply = answered(&core, face, request).await;
    let date = core
        .clock
        .now()
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    if let (Reply::Answer(response) | Reply::Drip(response, _), Ok(date)) =
        (&mut reply, HeaderValue::from_str(&date))
    {
        response.headers.insert(header::DATE, date);
    }
    reply
}

async fn answered(core: &Arc<Core>, face: Arc<dyn Simulator>, request: Request) -> Reply {
    let call = face.call_of(&request, &core.book);
    core.count(face.provider(), call);
    let now = core.clock.now();
    let handle = |alteration| handled(core, face.as_ref(), call, &request, (alteration, false));
    let misread = |how| {
        let book = SharedBook::new(core.book.lock().stale_read(how, now));
        face.handle(
            &request,
            &SimulatorContext {
                book: &book,
                now,
                alteration: Alteration::None,
                spaces_refunds: false,
            },
        )
    };

    let Some(strike) = core.faults.strike_call(face.provider(), call, now) else {
        return Reply::Answer(handle(Alteration::None));
    };
    let reply = match strike.kind {
        CallFault::Refuse | CallFault::Reset => Reply::Reset,
        CallFault::TimeoutBefore => return Reply::Silence(strike.latency),
        CallFault::TimeoutAfter => {
            handle(Alteration::None);
            return Reply::Silence(strike.latency);
        }
        CallFault::Http500 => Reply::Answer(face.http_500(&request, now)),
        CallFault::RateLimited => Reply::Answer(face.rate_limited(&request, now)),
        CallFault::Says => match &strike.word {
            Some(word) => Reply::Answer(face.says(&request, word, now)),
            None => Reply::Reset,
        },
        CallFault::Garbled => Reply::Answer(garbled(handle(Alteration::None))),
        CallFault::Unsigned => Reply::Answer(handle(Alteration::Unsigned)),
        CallFault::BadSignature => Reply::Answer(handle(Alteration::BadSignature)),
        CallFault::Undecided => Reply::Answer(handle(Alteration::Undecided)),
        CallFault::Gbk => Reply::Answer(handle(Alteration::Charset(Charset::Gbk))),
        CallFault::Gb18030 => Reply::Answer(handle(Alteration::Charset(Charset::Gb18030))),
        CallFault::UnknownKey => Reply::Answer(handle(Alteration::UnknownKey)),
        CallFault::Again => Reply::Answer(face.again(&request, now)),
        CallFault::Spaced => Reply::Answer(handled(
            core,
            face.as_ref(),
            call,
            &request,
            (Alteration::None, true),
        )),
        CallFault::Slow => Reply::Answer(handle(Alteration::None)),
        CallFault::Drip => return drip(handle(Alteration::None), strike.lateness()).await,
        CallFault::Behind => Reply::Answer(misread(Misreading::Behind(strike.lateness()))),
        CallFault::SaysClosed => Reply::Answer(misread(Misreading::Closed)),
        CallFault::PaidMeanwhile => {
            let said = misread(Misreading::Closed);
            core.pay_what_is_asked_about(face.provider(), &request);
            Reply::Answer(said)
        }
        CallFault::OtherAmount => Reply::Answer(misread(Misreading::OtherAmount)),
    };

    tokio::time::sleep(wait_before(&strike)).await;
    reply
}

/// Executes the request and sends out what it brought about.
fn handled(
    core: &Core,
    face: &dyn Simulator,
    call: Option<CallKind>,
    request: &Request,
    (alteration, spaces_refunds): (Alteration, bool),
) -> Response {
    let response = face.handle(
        request,
        &SimulatorContext {
            book: &core.book,
            now: core.clock.now(),
            alteration,
            spaces_refunds,
        },
    );
    core.dispatch();
    if call == Some(CallKind::Refund) {
        core.due_changed.notify_one();
    }
    response
}

/// Being late is what `slow` is about; any other answer is only as late as it was asked to be.
fn wait_before(strike: &Strike<CallFault>) -> Duration {
    match strike.kind {
        CallFault::Slow => strike.lateness(),
        // How far behind it is says nothing of how long it takes.
        CallFault::Refuse | CallFault::Behind => Duration::ZERO,
        CallFault::Reset
        | CallFault::TimeoutBefore
        | CallFault::TimeoutAfter
        | CallFault::Http500
        | CallFault::RateLimited
        | CallFault::Says
        | CallFault::Garbled
        | CallFault::Unsigned
        | CallFault::BadSignature
        | CallFault::Undecided
        | CallFault::UnknownKey
        | CallFault::Again
        | CallFault::Spaced
        | CallFault::Gbk
        | CallFault::Gb18030
        | CallFault::Drip
        | CallFault::SaysClosed
        | CallFault::PaidMeanwhile
        | CallFault::OtherAmount => strike.latency.unwrap_or(Duration::ZERO),
    }
}

/// An answer without a body cannot drip: it is late as a whole.
async fn drip(response: Response, over: Duration) -> Reply {
    if response.body.is_empty() {
        tokio::time::sleep(over).await;
        return Reply::Answer(response);
    }
    Reply::Drip(response, over)
}

/// The first half, with the highest bit of every byte turned over: neither JSON nor text in any
/// encoding. An answer without a body gets one.
fn garbled(mut response: Response) -> Response {
    if response.body.is_empty() {
        response.status = StatusCode::OK;
        response.body = Bytes::from_static(&[0xFF; 4]);
    } else {
        let half = response.body.len().div_ceil(2);
        response.body = response.body.iter().take(half).map(|b| b ^ 0x80).collect();
    }
    response
}

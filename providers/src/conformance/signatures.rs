//! What is believed: what the provider has signed, as it has signed it. Everything else proves
//! nothing, and a call that ends with it is unknown.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::subject::{AMOUNT_FEN, Broken, Checks, Kept, Subject, ensure, reference, taken_up};
use crate::notification::{Notice, Notification, RawNotification, Rejection};
use crate::order::{Call, Order};
use crate::outcome::{
    CloseOutcome, CreateOutcome, Failure, FailureKind, QueryOutcome, RefundOutcome,
    RefundQueryOutcome,
};
use crate::provider::Ending;
use crate::sandbox::fault::CallFault;
use crate::sandbox::payer::PayerBehaviour;
use crate::sandbox::simulator::CallKind;

/// Answers that are not the provider's, or none; what was asked for may be done.
const SPOILED: [CallFault; 8] = [
    CallFault::Unsigned,
    CallFault::BadSignature,
    CallFault::UnknownKey,
    CallFault::Garbled,
    CallFault::Undecided,
    CallFault::Http500,
    CallFault::Reset,
    CallFault::TimeoutAfter,
];
/// Bytes from one that is changed to the next: no divisor of what texts are usually made of.
const CHANGED_EVERY: usize = 7;
/// The same where something else is missing as well.
const CHANGED_SELDOM: usize = 23;
/// So long an answer is waited for that never comes.
const SILENCE: Duration = Duration::from_millis(500);
const GENUINE: &str = "a genuine notification is believed";

pub(super) async fn run(subject: &Subject) -> Checks {
    let mut checks = vec![(
        "an_unsigned_notification_is_rejected",
        an_unsigned_notification_is_rejected(subject),
    )];

    let told = genuine(subject).await;
    let changed = match &told {
        Ok(Some(genuine)) => a_changed_notification_says_nothing_else(subject, genuine),
        Ok(None) | Err(_) => Ok(()),
    };
    checks.extend([
        ("a_genuine_notification_is_believed", told.map(drop)),
        ("a_changed_notification_says_nothing_else", changed),
        (
            "what_is_not_the_providers_word_proves_nothing",
            what_is_not_the_providers_word_proves_nothing(subject).await,
        ),
    ]);
    checks
}

fn an_unsigned_notification_is_rejected(subject: &Subject) -> Kept {
    for body in [
        "",
        "{}",
        "out_trade_no=1&trade_status=TRADE_SUCCESS",
        "\u{0}",
    ] {
        let raw = RawNotification {
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        let read = subject
            .provider
            .notification(&raw, subject.other_side.now());
        ensure(read.is_err(), "nothing unsigned is believed", &read)?;
    }

    Ok(())
}

/// The notification that an order was paid, and what it says. Not everybody tells of charges: there
/// the call itself has said it.
async fn genuine(subject: &Subject) -> Result<Option<(RawNotification, Notification)>, Broken> {
    let order = subject.paid_order("told").await?;
    let mut disbelieved = Vec::new();

    while let Some(raw) = subject.other_side.next_told().await {
        let now = subject.other_side.now();
        match subject.provider.notification(&raw, now) {
            Ok(read) if tells_of(&read.get().notice, &order) => {
                ensure(disbelieved.is_empty(), GENUINE, &disbelieved)?;
                return Ok(Some((raw, read.into_inner())));
            }
            // What the checks before this one were told of, some of it an hour ago.
            Ok(_) | Err(Rejection::Stale) => {}
            Err(rejection) => disbelieved.push(rejection),
        }
    }

    ensure(
        subject.flow.is_charge() && disbelieved.is_empty(),
        GENUINE,
        &disbelieved,
    )?;
    Ok(None)
}

fn tells_of(notice: &Notice, order: &Order) -> bool {
    match notice {
        Notice::Paid { order_no, capture } => {
            *order_no == order.order_no && capture.amount == order.amount
        }
        Notice::Ask {
            order_no,
            says_done,
            ..
        } => *order_no == order.order_no && *says_done,
        Notice::Refund { .. } | Notice::Refunded { .. } | Notice::Nothing { .. } => false,
    }
}

/// Bytes of the body, headers, fields of a form: one after the other is changed, taken away, or both
/// at once. What is signed is not believed any more, and what is not says nothing.
fn a_changed_notification_says_nothing_else(
    subject: &Subject,
    (genuine, said): &(RawNotification, Notification),
) -> Kept {
    let without: Vec<RawNotification> = less(genuine).collect();
    let both = without
        .iter()
        .flat_map(|less| changed(less, CHANGED_SELDOM));
    let all = changed(genuine, CHANGED_EVERY)
        .chain(other_headers(genuine))
        .chain(without.iter().cloned())
        .chain(both);

    for raw in all {
        let now = subject.other_side.now();
        if let Ok(read) = subject.provider.notification(&raw, now) {
            ensure(
                read.get() == said,
                "a notification that was changed says nothing else",
                &(read, &raw),
            )?;
        }
    }

    Ok(())
}

/// With one byte of the body changed, with some between them.
fn changed(raw: &RawNotification, every: usize) -> impl Iterator<Item = RawNotification> {
    raw.body
        .iter()
        .enumerate()
        .step_by(every)
        .map(move |(at, byte)| {
            let (before, after) = raw.body.split_at(at);
            let other: &[u8] = if *byte == b'1' { b"2" } else { b"1" };
            RawNotification {
                headers: raw.headers.clone(),
                body: [before, other, after.get(1..).unwrap_or_default()]
                    .concat()
                    .into(),
            }
        })
}

/// With another last character in one header.
fn other_headers(raw: &RawNotification) -> impl Iterator<Item = RawNotification> {
    raw.headers.iter().filter_map(|(name, value)| {
        let (last, before) = value.as_bytes().split_last()?;
        let other: &[u8] = if *last == b'1' { b"2" } else { b"1" };
        let mut headers = raw.headers.clone();
        let value = HeaderValue::from_bytes(&[before, other].concat()).ok()?;
        headers.insert(name, value);
        Some(RawNotification {
            headers,
            body: raw.body.clone(),
        })
    })
}

/// Without one of its headers, without all of them, and, of a form, without one of its fields.
fn less(raw: &RawNotification) -> impl Iterator<Item = RawNotification> {
    let heads = raw.headers.keys().map(|name| {
        let mut headers = raw.headers.clone();
        headers.remove(name);
        headers
    });
    let heads = heads
        .chain([HeaderMap::new()])
        .map(|headers| RawNotification {
            headers,
            body: raw.body.clone(),
        });

    let fields: Vec<&[u8]> = raw.body.split(|byte| *byte == b'&').collect();
    let bodies = (0..fields.len()).map(move |gone| {
        let kept = fields.iter().enumerate().filter(|(at, _)| *at != gone);
        let kept: Vec<&[u8]> = kept.map(|(_, field)| *field).collect();
        RawNotification {
            headers: raw.headers.clone(),
            body: kept.join(&b'&').into(),
        }
    });
    heads.chain(bodies)
}

async fn what_is_not_the_providers_word_proves_nothing(subject: &Subject) -> Kept {
    for (n, fault) in SPOILED.into_iter().enumerate() {
        spoiled_create(subject, fault, &format!("spoilC{n}")).await?;
        spoiled_query(subject, fault, &format!("spoilQ{n}")).await?;
        spoiled_end(subject, fault, &format!("spoilE{n}")).await?;
        spoiled_refund(subject, fault, &format!("spoilR{n}")).await?;
    }
    Ok(())
}

async fn spoiled_create(subject: &Subject, fault: CallFault, suffix: &str) -> Kept {
    if !subject.other_side.spoil(CallKind::Create, fault).await {
        return Ok(());
    }
    let order = subject.order(suffix)?;
    let created = subject.provider.create(&order, &call(subject, fault)).await;
    let is_unknown =
        matches!(&created.outcome, CreateOutcome::Unknown(f) if is_seen_through(fault, f));
    ensure(is_unknown, "so ends a creation", &(fault, created.outcome))
}

async fn spoiled_query(subject: &Subject, fault: CallFault, suffix: &str) -> Kept {
    let order = subject.paid_order(suffix).await?;
    if !subject.other_side.spoil(CallKind::Query, fault).await {
        return Ok(());
    }
    let queried = subject
        .provider
        .query(&reference(&order), &call(subject, fault))
        .await
        .outcome;
    let is_unknown = matches!(&queried, QueryOutcome::Unknown(f) if is_seen_through(fault, f));
    ensure(is_unknown, "so ends a query", &(fault, queried))
}

/// Where an offer or a charge can be ended by a call.
async fn spoiled_end(subject: &Subject, fault: CallFault, suffix: &str) -> Kept {
    let (order, kind) = match subject.ending() {
        None | Some(Ending::Expire) => return Ok(()),
        Some(Ending::Close | Ending::CloseOnceTradeExists) => {
            let order = subject.offer(suffix).await?;
            subject.other_side.open(&order.order_no).await;
            (order, CallKind::Close)
        }
        Some(Ending::Reverse) => {
            let (order, _) = subject.charge(suffix, PayerBehaviour::MustConfirm).await?;
            subject.pass_s(subject.charging()?.reverse_from_s).await;
            (order, CallKind::Reverse)
        }
    };

    if !subject.other_side.spoil(kind, fault).await {
        return Ok(());
    }
    let (order, call_now) = (reference(&order), call(subject, fault));
    let ended = match kind {
        CallKind::Reverse => subject.provider.reverse(&order, &call_now).await,
        CallKind::Create
        | CallKind::Query
        | CallKind::Close
        | CallKind::Refund
        | CallKind::QueryRefund => subject.provider.close(&order, &call_now).await,
    };
    let is_unknown =
        matches!(&ended.outcome, CloseOutcome::Unknown(f) if is_seen_through(fault, f));
    ensure(is_unknown, "so ends an ending", &(fault, ended.outcome))
}

async fn spoiled_refund(subject: &Subject, fault: CallFault, suffix: &str) -> Kept {
    let order = subject.paid_order(suffix).await?;
    let refund = subject.refund_order(&order, &format!("{suffix}A"), AMOUNT_FEN / 2)?;

    if subject.other_side.spoil(CallKind::Refund, fault).await {
        let refunded = subject
            .provider
            .refund(&refund, &call(subject, fault))
            .await
            .outcome;
        let is_unknown =
            matches!(&refunded, RefundOutcome::Unknown(f) if is_seen_through(fault, f));
        ensure(is_unknown, "so ends a refund", &(fault, refunded))?;
    }

    let known = subject.refund_order(&order, &format!("{suffix}B"), 100)?;
    let refunded = subject.refund(&known).await;
    ensure(taken_up(&refunded), "a refund is taken up", &refunded)?;
    if subject.other_side.spoil(CallKind::QueryRefund, fault).await {
        let queried = subject
            .provider
            .query_refund(&known, &call(subject, fault))
            .await
            .outcome;
        let is_unknown =
            matches!(&queried, RefundQueryOutcome::Unknown(f) if is_seen_through(fault, f));
        ensure(is_unknown, "so ends a query of a refund", &(fault, queried))?;
    }

    Ok(())
}

fn call(subject: &Subject, fault: CallFault) -> Call {
    let mut call = subject.call();
    if fault == CallFault::TimeoutAfter {
        call.timeout = SILENCE;
    }
    call
}

/// Unknown for what came, and not because nothing came in time.
fn is_seen_through(fault: CallFault, failure: &Failure) -> bool {
    (failure.kind == FailureKind::Timeout) == (fault == CallFault::TimeoutAfter)
}

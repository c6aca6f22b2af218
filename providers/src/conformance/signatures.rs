//! What is believed: what the provider has signed, as it has signed it. Everything else proves
//! nothing, and a call that ends with it is unknown.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::subject::{AMOUNT_FEN, Broken, Checks, Kept, Subject, ensure, reference, taken_up};
use crate::notification::{Notice, RawNotification, Rejection};
use crate::order::{Call, Order};
use crate::outcome::{
    CloseOutcome, CreateOutcome, QueryOutcome, RefundOutcome, RefundQueryOutcome,
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
/// Long enough for every answer that comes at all.
const PATIENCE: Duration = Duration::from_millis(500);

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
async fn genuine(subject: &Subject) -> Result<Option<(RawNotification, Notice)>, Broken> {
    let order = subject.paid_order("told").await?;
    let mut disbelieved = Vec::new();

    while let Some(raw) = subject.other_side.next_told().await {
        let now = subject.other_side.now();
        match subject.provider.notification(&raw, now) {
            Ok(read) if tells_of(&read.get().notice, &order) => {
                return Ok(Some((raw, read.into_inner().notice)));
            }
            // What the checks before this one were told of, some of it an hour ago.
            Ok(_) | Err(Rejection::Stale) => {}
            Err(rejection) => disbelieved.push(rejection),
        }
    }

    ensure(
        subject.flow.is_charge() && disbelieved.is_empty(),
        "a genuine notification is believed",
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

/// One byte of the body after the other, with some between them, and every header taken away: what
/// is signed is not believed any more, and what is not says nothing.
fn a_changed_notification_says_nothing_else(
    subject: &Subject,
    (genuine, said): &(RawNotification, Notice),
) -> Kept {
    let said_bytes = genuine.body.iter().enumerate().step_by(CHANGED_EVERY);
    let bodies = said_bytes.map(|(at, byte)| {
        let (before, after) = genuine.body.split_at(at);
        let other: &[u8] = if *byte == b'1' { b"2" } else { b"1" };
        RawNotification {
            headers: genuine.headers.clone(),
            body: [before, other, after.get(1..).unwrap_or_default()]
                .concat()
                .into(),
        }
    });
    let heads = genuine.headers.keys().map(|name| {
        let mut headers = genuine.headers.clone();
        headers.remove(name);
        RawNotification {
            headers,
            body: genuine.body.clone(),
        }
    });

    for raw in bodies.chain(heads) {
        let now = subject.other_side.now();
        if let Ok(read) = subject.provider.notification(&raw, now) {
            ensure(
                read.get().notice == *said,
                "a notification that was changed says nothing else",
                &(read, &raw),
            )?;
        }
    }

    Ok(())
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
    let created = subject.provider.create(&order, &hasty(subject)).await;
    let is_unknown = matches!(created.outcome, CreateOutcome::Unknown(_));
    ensure(is_unknown, "so ends a creation", &(fault, created.outcome))
}

async fn spoiled_query(subject: &Subject, fault: CallFault, suffix: &str) -> Kept {
    let order = subject.paid_order(suffix).await?;
    if !subject.other_side.spoil(CallKind::Query, fault).await {
        return Ok(());
    }
    let queried = subject
        .provider
        .query(&reference(&order), &hasty(subject))
        .await
        .outcome;
    let is_unknown = matches!(queried, QueryOutcome::Unknown(_));
    ensure(is_unknown, "so ends a query", &(fault, queried))
}

/// Where an offer or a charge can be ended by a call.
async fn spoiled_end(subject: &Subject, fault: CallFault, suffix: &str) -> Kept {
    let (order, call) = match subject.ending() {
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

    if !subject.other_side.spoil(call, fault).await {
        return Ok(());
    }
    let (order, hasty) = (reference(&order), hasty(subject));
    let ended = match call {
        CallKind::Reverse => subject.provider.reverse(&order, &hasty).await,
        CallKind::Create
        | CallKind::Query
        | CallKind::Close
        | CallKind::Refund
        | CallKind::QueryRefund => subject.provider.close(&order, &hasty).await,
    };
    let is_unknown = matches!(ended.outcome, CloseOutcome::Unknown(_));
    ensure(is_unknown, "so ends an ending", &(fault, ended.outcome))
}

async fn spoiled_refund(subject: &Subject, fault: CallFault, suffix: &str) -> Kept {
    let order = subject.paid_order(suffix).await?;
    let refund = subject.refund_order(&order, &format!("{suffix}A"), AMOUNT_FEN / 2)?;

    if subject.other_side.spoil(CallKind::Refund, fault).await {
        let refunded = subject
            .provider
            .refund(&refund, &hasty(subject))
            .await
            .outcome;
        let is_unknown = matches!(refunded, RefundOutcome::Unknown(_));
        ensure(is_unknown, "so ends a refund", &(fault, refunded))?;
    }

    let known = subject.refund_order(&order, &format!("{suffix}B"), 100)?;
    let refunded = subject.refund(&known).await;
    ensure(taken_up(&refunded), "a refund is taken up", &refunded)?;
    if subject.other_side.spoil(CallKind::QueryRefund, fault).await {
        let queried = subject
            .provider
            .query_refund(&known, &hasty(subject))
            .await
            .outcome;
        let is_unknown = matches!(queried, RefundQueryOutcome::Unknown(_));
        ensure(is_unknown, "so ends a query of a refund", &(fault, queried))?;
    }

    Ok(())
}

fn hasty(subject: &Subject) -> Call {
    Call {
        timeout: PATIENCE,
        ..subject.call()
    }
}

//! The suite that every provider passes, whatever its protocol: what `provider.rs` promises to
//! those who decide about money. It asks capabilities, never names, and changes nothing but orders
//! of its own.

mod charges;
mod signatures;
mod subject;

use std::time::Duration;

use chrono::TimeDelta;

use self::subject::{AMOUNT_FEN, Checks, Kept, ensure, paid, taken_up};
pub use self::subject::{Broken, OtherSide, Subject};
use crate::notification::Acknowledgement;
use crate::order::RefundOrder;
use crate::outcome::{CloseOutcome, QueryOutcome, RefundOutcome, RefundQueryOutcome};
use crate::provider::Ending;

/// Longer than any provider's refund takes in the sandbox.
const REFUND_TIME: Duration = Duration::from_secs(3600);

/// Runs every check for the flow and names those that failed; an empty list is what one wants.
pub async fn run_all(subject: &Subject) -> Vec<(&'static str, Broken)> {
    let mut checks = vec![
        ("capabilities_make_sense", capabilities_make_sense(subject)),
        (
            "a_number_never_made_is_not_found",
            a_number_never_made_is_not_found(subject).await,
        ),
    ];

    checks.extend(if subject.flow.is_charge() {
        charges::run(subject).await
    } else {
        offers(subject).await
    });

    checks.extend(refunds(subject).await);
    checks.extend(signatures::run(subject).await);
    checks
        .into_iter()
        .filter_map(|(name, kept)| kept.err().map(|broken| (name, broken)))
        .collect()
}

async fn offers(subject: &Subject) -> Checks {
    vec![
        (
            "a_paid_offer_is_told_completely",
            a_paid_offer_is_told_completely(subject).await,
        ),
        (
            "an_unpaid_offer_ends_as_declared",
            an_unpaid_offer_ends_as_declared(subject).await,
        ),
        (
            "an_opened_offer_ends_as_declared",
            an_opened_offer_ends_as_declared(subject).await,
        ),
        (
            "a_close_keeps_the_money",
            a_close_keeps_the_money(subject).await,
        ),
        (
            "an_expired_offer_takes_no_money",
            an_expired_offer_takes_no_money(subject).await,
        ),
        (
            "an_unpaid_offer_is_not_refunded",
            an_unpaid_offer_is_not_refunded(subject).await,
        ),
    ]
}

async fn refunds(subject: &Subject) -> Checks {
    vec![
        (
            "refunds_give_back_each_fen_once",
            refunds_give_back_each_fen_once(subject).await,
        ),
        (
            "a_refund_number_means_one_amount",
            a_refund_number_means_one_amount(subject).await,
        ),
        (
            "a_refund_never_made_is_not_found",
            a_refund_never_made_is_not_found(subject).await,
        ),
    ]
}

fn capabilities_make_sense(subject: &Subject) -> Kept {
    let capabilities = subject.provider.capabilities();
    let (least, most) = capabilities.amount_fen;

    ensure(
        0 < least && least <= most,
        "amounts have a range",
        &capabilities.amount_fen,
    )?;

    for ladder in [capabilities.awaiting_ladder_s, capabilities.refund_ladder_s] {
        ensure(
            !ladder.is_empty() && ladder.is_sorted(),
            "ladders go up",
            &ladder,
        )?;
    }

    let reversed = subject.ending().map(|ending| ending == Ending::Reverse);
    let served = reversed == Some(subject.flow.is_charge());

    ensure(
        served,
        "the flow under test is served, and only charges are reversed",
        &capabilities.flows,
    )?;

    let stop = subject.provider.acknowledge(Acknowledgement::Stop);
    ensure(
        stop.status.is_success(),
        "what is stored is acknowledged with success",
        &stop,
    )
}

async fn a_number_never_made_is_not_found(subject: &Subject) -> Kept {
    let queried = subject.query(&subject.order("never")?).await;
    ensure(
        queried == QueryOutcome::NotFound,
        "a number never made is not found",
        &queried,
    )
}

async fn a_paid_offer_is_told_completely(subject: &Subject) -> Kept {
    let order = subject.offer("paid").await?;
    let before = subject.query(&order).await;
    let unpaid = if subject.ending() == Some(Ending::CloseOnceTradeExists) {
        before == QueryOutcome::NotFound
    } else {
        before == QueryOutcome::Payable
    };

    ensure(unpaid, "an offer that nobody opened is unpaid", &before)?;
    subject.other_side.open(&order.order_no).await;
    let opened = subject.query(&order).await;

    ensure(
        opened == QueryOutcome::Payable,
        "an opened offer is payable",
        &opened,
    )?;

    let taken = subject.other_side.pay(&order.order_no).await;
    ensure(taken, "an opened offer can be paid", &taken)?;
    let again = subject.other_side.pay(&order.order_no).await;
    ensure(!again, "a paid offer is not paid again", &again)?;
    let capture = paid(subject.query(&order).await)?;

    ensure(
        capture.amount == order.amount,
        "a capture tells the amount",
        &capture,
    )?;

    ensure(
        !capture.transaction_id.is_empty(),
        "a capture tells the provider's number",
        &capture,
    )?;

    ensure(
        capture.foreign_account.is_none(),
        "a capture is our own account's",
        &capture,
    )?;

    let ours = capture
        .payment_id
        .as_ref()
        .is_none_or(|id| *id == order.payment_id);
    ensure(ours, "what is passed back is what we passed", &capture)?;
    let recent = capture
        .paid_at
        .is_none_or(|at| (subject.other_side.now() - at).abs() < TimeDelta::minutes(1));

    ensure(recent, "a capture's time is the time of paying", &capture)
}

async fn an_unpaid_offer_ends_as_declared(subject: &Subject) -> Kept {
    let order = subject.offer("unpaid").await?;
    let ended = subject.close(&order).await;

    if subject.ending() == Some(Ending::Close) {
        ensure(
            ended == CloseOutcome::Closed,
            "an offer that can be closed is closed",
            &ended,
        )?;
        return subject.is_dead(&order).await;
    }

    let untouched = matches!(ended, CloseOutcome::Impossible(_));
    ensure(
        untouched,
        "an offer that cannot be closed yet says so",
        &ended,
    )?;

    let taken = subject.other_side.pay(&order.order_no).await;
    ensure(taken, "an offer that could not be closed is alive", &taken)?;
    paid(subject.query(&order).await).map(drop)
}

async fn an_opened_offer_ends_as_declared(subject: &Subject) -> Kept {
    let order = subject.offer("opened").await?;
    subject.other_side.open(&order.order_no).await;
    let ended = subject.close(&order).await;
    if subject.ending() == Some(Ending::Expire) {
        return ensure(
            matches!(ended, CloseOutcome::Impossible(_)),
            "an offer that only expires is not closed",
            &ended,
        );
    }
    ensure(
        ended == CloseOutcome::Closed,
        "an opened offer is closed",
        &ended,
    )?;
    subject.is_dead(&order).await
}

async fn a_close_keeps_the_money(subject: &Subject) -> Kept {
    let order = subject.paid_order("kept").await?;
    let ended = subject.close(&order).await;
    // As above: a close may be unable to tell, and must not claim that it ended anything.
    let honest = matches!(ended, CloseOutcome::AlreadyPaid | CloseOutcome::Unknown(_))
        || (subject.ending() == Some(Ending::Expire)
            && matches!(ended, CloseOutcome::Impossible(_)));
    ensure(
        honest,
        "closing a paid order says that it is paid, or that it takes a query to know",
        &ended,
    )?;
    paid(subject.query(&order).await).map(drop)
}

async fn an_expired_offer_takes_no_money(subject: &Subject) -> Kept {
    let order = subject.offer("expired").await?;
    let life = (order.expires_at - subject.other_side.now())
        .to_std()
        .unwrap_or_default();

    subject
        .other_side
        .let_pass(life + Duration::from_secs(1))
        .await;
    let taken = subject.other_side.pay(&order.order_no).await;
    ensure(!taken, "an offer takes no money after its deadline", &taken)?;
    let queried = subject.query(&order).await;
    let unpaid = matches!(
        queried,
        QueryOutcome::NotFound | QueryOutcome::Payable | QueryOutcome::Closed
    );

    ensure(unpaid, "an expired offer is unpaid", &queried)
}

async fn an_unpaid_offer_is_not_refunded(subject: &Subject) -> Kept {
    let order = subject.offer("norefund").await?;
    let refunded = subject
        .refund(&subject.refund_order(&order, "norefundR", 1)?)
        .await;
    ensure(
        !taken_up(&refunded),
        "what was not paid is not refunded",
        &refunded,
    )
}

async fn refunds_give_back_each_fen_once(subject: &Subject) -> Kept {
    let order = subject.paid_order("refund").await?;
    let part = subject.refund_order(&order, "refundA", 3_000)?;
    let too_much = subject.refund_order(&order, "refundB", AMOUNT_FEN - 3_000 + 1)?;
    let rest = subject.refund_order(&order, "refundC", AMOUNT_FEN - 3_000)?;

    let refunded = subject.refund(&part).await;
    ensure(
        taken_up(&refunded),
        "a part of a paid order is refunded",
        &refunded,
    )?;
    let again = subject.refund(&part).await;
    // UnionPay has one "no" for every number that was used before: then it takes a query to know.
    let harmless = taken_up(&again) || matches!(again, RefundOutcome::Unknown(_));
    ensure(harmless, "the same refund may be sent again", &again)?;
    is_done(subject, &part).await?;
    paid(subject.query(&order).await)?;

    let refused = subject.refund(&too_much).await;
    let terminal = matches!(refused, RefundOutcome::Rejected(_));
    ensure(
        terminal,
        "a refund over what is left never happens",
        &refused,
    )?;
    // Had the repeated part been refunded twice, so much would not be left.
    let refunded = subject.refund(&rest).await;
    ensure(
        taken_up(&refunded),
        "the rest of a paid order is refunded",
        &refunded,
    )?;
    is_done(subject, &rest).await?;

    let nothing_left = subject
        .refund(&subject.refund_order(&order, "refundD", 1)?)
        .await;
    ensure(
        !taken_up(&nothing_left),
        "a refunded order gives nothing more",
        &nothing_left,
    )?;
    // Not every provider's query tells a whole refund from a part.
    let queried = subject.query(&order).await;
    ensure(
        matches!(queried, QueryOutcome::Reversed | QueryOutcome::Paid(_)),
        "a refunded order is not unpaid",
        &queried,
    )
}

async fn is_done(subject: &Subject, refund: &RefundOrder) -> Kept {
    let soon = subject
        .provider
        .query_refund(refund, &subject.call())
        .await
        .outcome;
    let known = matches!(
        soon,
        RefundQueryOutcome::Accepted | RefundQueryOutcome::Done
    );
    ensure(known, "a refund that was taken up is known", &soon)?;
    subject.other_side.let_pass(REFUND_TIME).await;
    let later = subject
        .provider
        .query_refund(refund, &subject.call())
        .await
        .outcome;
    ensure(
        later == RefundQueryOutcome::Done,
        "a refund gets done",
        &later,
    )
}

async fn a_refund_number_means_one_amount(subject: &Subject) -> Kept {
    let order = subject.paid_order("number").await?;
    let refund = subject.refund_order(&order, "numberR", 100)?;
    let refunded = subject.refund(&refund).await;

    ensure(
        taken_up(&refunded),
        "a part of a paid order is refunded",
        &refunded,
    )?;

    let other = subject
        .refund(&subject.refund_order(&order, "numberR", 200)?)
        .await;
    ensure(
        !taken_up(&other),
        "the same number with another amount is refused",
        &other,
    )?;

    is_done(subject, &refund).await
}

async fn a_refund_never_made_is_not_found(subject: &Subject) -> Kept {
    let order = subject.paid_order("nothing").await?;
    let refund = subject.refund_order(&order, "nothingR", 100)?;
    let queried = subject
        .provider
        .query_refund(&refund, &subject.call())
        .await
        .outcome;
    ensure(
        queried == RefundQueryOutcome::NotFound,
        "a refund never made is not found",
        &queried,
    )
}

//! Charges: the call itself takes the money, or only begins to, and a reversal undoes it whatever
//! came of it.

use super::subject::{
    AMOUNT_FEN, Broken, Checks, Kept, Subject, ensure, paid as is_paid, paid_charge, taken_up,
};
use crate::order::Order;
use crate::outcome::{CloseOutcome, CreateOutcome, QueryOutcome};
use crate::sandbox::payer::PayerBehaviour;

const MOODS: [PayerBehaviour; 4] = [
    PayerBehaviour::Pays,
    PayerBehaviour::MustConfirm,
    PayerBehaviour::HasNoMoney,
    PayerBehaviour::CodeExpired,
];

pub(super) async fn run(subject: &Subject) -> Checks {
    vec![
        ("charging_makes_sense", charging_makes_sense(subject)),
        (
            "a_charge_is_told_completely",
            a_charge_is_told_completely(subject).await,
        ),
        (
            "a_payer_who_must_confirm_is_waited_for",
            a_payer_who_must_confirm_is_waited_for(subject).await,
        ),
        (
            "a_payer_who_says_no_is_not_charged",
            a_payer_who_says_no_is_not_charged(subject).await,
        ),
        (
            "a_payer_without_money_is_not_charged",
            a_payer_without_money_is_not_charged(subject).await,
        ),
        (
            "an_old_code_is_not_charged",
            an_old_code_is_not_charged(subject).await,
        ),
        ("a_code_works_once", a_code_works_once(subject).await),
        (
            "reversing_ends_a_charge_that_waits",
            reversing_ends_a_charge_that_waits(subject).await,
        ),
        (
            "reversing_gives_the_money_back_once",
            reversing_gives_the_money_back_once(subject).await,
        ),
        (
            "reversing_nothing_takes_nothing",
            reversing_nothing_takes_nothing(subject).await,
        ),
    ]
}

fn charging_makes_sense(subject: &Subject) -> Kept {
    let charging = subject.charging()?;
    let ladder = charging.ladder_s;

    ensure(
        !ladder.is_empty() && ladder.is_sorted(),
        "ladders go up",
        &ladder,
    )?;

    let patient = charging.reverse_after_s >= charging.reverse_from_s && charging.timeout_ms > 0;
    ensure(
        patient,
        "nobody has to reverse earlier than is allowed",
        charging,
    )?;

    ensure(
        charging.reverse_pause_s > 0,
        "there is a pause between two reversals",
        charging,
    )?;

    for mood in MOODS {
        let code = subject.other_side.auth_code(mood);
        ensure(
            (charging.is_code)(&code),
            "a code of its payers is known as one",
            &code,
        )?;
        let another = subject.other_side.auth_code(mood);
        ensure(
            code != another && PayerBehaviour::of(&code) == mood,
            "codes are new, and of the mood asked for",
            &another,
        )?;
        let longer = format!("{code}00000000000000000000");
        ensure(
            !(charging.is_code)(&longer),
            "what is too long is no code",
            &longer,
        )?;
    }

    for other in [
        "",
        "fp",
        "0000000000000000000",
        "https://example.com/pay",
        "２８１２３４５６７８９０１２３４５６",
    ] {
        ensure(
            !(charging.is_code)(other),
            "what is no code is not taken for one",
            &other,
        )?;
    }

    Ok(())
}

async fn a_charge_is_told_completely(subject: &Subject) -> Kept {
    let (order, capture) = paid_charge(subject, "chgpaid").await?;
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
    let again = subject.other_side.pay(&order.order_no).await;
    ensure(!again, "a paid charge is not paid again", &again)?;

    subject.keeps(&order, AMOUNT_FEN)
}

async fn waiting(subject: &Subject, suffix: &str) -> Result<Order, Broken> {
    let (order, created) = subject.charge(suffix, PayerBehaviour::MustConfirm).await?;
    ensure(
        created == CreateOutcome::Waiting,
        "a payer who must confirm is waited for",
        &created,
    )?;
    subject.keeps(&order, 0)?;
    Ok(order)
}

async fn a_payer_who_must_confirm_is_waited_for(subject: &Subject) -> Kept {
    let order = waiting(subject, "chgwait").await?;
    let before = subject.query(&order).await;
    ensure(
        before == QueryOutcome::Payable,
        "a charge that waits can be paid",
        &before,
    )?;
    let taken = subject.other_side.pay(&order.order_no).await;
    ensure(taken, "a payer who confirms pays", &taken)?;
    is_paid(subject.settled(&order).await?)?;
    subject.keeps(&order, AMOUNT_FEN)
}

async fn a_payer_who_says_no_is_not_charged(subject: &Subject) -> Kept {
    let order = waiting(subject, "chgno").await?;
    subject.other_side.open(&order.order_no).await;
    let queried = subject.query(&order).await;
    let unpaid = matches!(queried, QueryOutcome::Payable | QueryOutcome::Closed);
    ensure(unpaid, "a payer who says no has not paid", &queried)?;
    subject.is_dead_charge(&order).await
}

/// No money moves, at once or later: by itself where a "no" ends it, otherwise after a reversal.
async fn refused(subject: &Subject, order: &Order, created: &CreateOutcome) -> Kept {
    let declined = match created {
        CreateOutcome::Declined(_) => true,
        CreateOutcome::Waiting => false,
        CreateOutcome::Accepted(_)
        | CreateOutcome::Captured(_)
        | CreateOutcome::NotSent(_)
        | CreateOutcome::Refused(..)
        | CreateOutcome::Unknown(_) => {
            return ensure(
                false,
                "a payer who cannot pay is declined, or found to be by asking",
                created,
            );
        }
    };
    let queried = subject.settled(order).await?;

    ensure(
        !matches!(queried, QueryOutcome::Paid(_)),
        "who cannot pay has not paid",
        &queried,
    )?;

    if declined && !subject.charging()?.declined_is_reversed {
        let taken = subject.other_side.pay(&order.order_no).await;
        ensure(!taken, "a declined charge takes no money", &taken)?;
    }

    subject.is_dead_charge(order).await
}

async fn a_payer_without_money_is_not_charged(subject: &Subject) -> Kept {
    let (order, created) = subject
        .charge("chgpoor", PayerBehaviour::HasNoMoney)
        .await?;
    refused(subject, &order, &created).await
}

async fn an_old_code_is_not_charged(subject: &Subject) -> Kept {
    let (order, created) = subject
        .charge("chgold", PayerBehaviour::CodeExpired)
        .await?;
    refused(subject, &order, &created).await
}

async fn a_code_works_once(subject: &Subject) -> Kept {
    let (first, _) = paid_charge(subject, "chgone").await?;
    let mut second = subject.order("chgtwo")?;
    second.auth_code.clone_from(&first.auth_code);
    let created = subject
        .provider
        .create(&second, &subject.call())
        .await
        .outcome;

    ensure(
        !matches!(created, CreateOutcome::Captured(_)),
        "a code that was used takes nothing",
        &created,
    )?;

    let queried = subject.settled(&second).await?;
    ensure(
        !matches!(queried, QueryOutcome::Paid(_)),
        "a code that was used takes nothing later",
        &queried,
    )?;

    subject.keeps(&second, 0)?;
    subject.keeps(&first, AMOUNT_FEN)
}

async fn reversing_ends_a_charge_that_waits(subject: &Subject) -> Kept {
    let order = waiting(subject, "chgrev").await?;
    subject.pass_s(subject.charging()?.reverse_after_s).await;
    subject.is_dead_charge(&order).await
}

async fn reversing_gives_the_money_back_once(subject: &Subject) -> Kept {
    let (order, _) = paid_charge(subject, "chgback").await?;
    for _ in 0..2 {
        let ended = subject.reversed(&order).await?;
        let back = matches!(ended, CloseOutcome::Reversed | CloseOutcome::Closed);
        ensure(
            back,
            "a paid charge is reversed, and reversing it again says so",
            &ended,
        )?;
        subject.keeps(&order, 0)?;
    }

    let mut queried = subject.query(&order).await;
    // Some forget a charge that was reversed, and say what proves that it is dead.
    let apart_s = subject.charging()?.confirm_not_found_after_s;
    let is_forgotten = queried == QueryOutcome::NotFound && apart_s.is_some();
    if is_forgotten {
        subject.pass_s(apart_s.unwrap_or_default()).await;
        queried = subject.query(&order).await;
    }
    ensure(
        queried == QueryOutcome::Reversed || (queried == QueryOutcome::NotFound && is_forgotten),
        "a paid charge that was reversed is queried as reversed",
        &queried,
    )?;

    let refunded = subject
        .refund(&subject.refund_order(&order, "chgbackR", 1)?)
        .await;
    ensure(
        !taken_up(&refunded),
        "what was reversed is not refunded as well",
        &refunded,
    )?;

    subject.keeps(&order, 0)
}

/// Either the number is burnt, and no charge can be made under it any more; or nothing was found,
/// and then what proves a charge dead has to be said.
async fn reversing_nothing_takes_nothing(subject: &Subject) -> Kept {
    let order = subject.order("chgnone")?;
    let ended = subject.reversed(&order).await?;

    match ended {
        CloseOutcome::NotFound => {
            let said = subject.charging()?.confirm_not_found_after_s;
            ensure(
                said.is_some(),
                "who finds nothing says what proves a charge dead",
                &said,
            )?;
        }
        CloseOutcome::Closed | CloseOutcome::Reversed => {
            let created = subject
                .provider
                .create(&order, &subject.call())
                .await
                .outcome;
            let dead = matches!(
                created,
                CreateOutcome::Refused(..) | CreateOutcome::Declined(_) | CreateOutcome::Unknown(_)
            );
            ensure(
                dead,
                "a number that a reversal ended is not charged",
                &created,
            )?;
        }
        CloseOutcome::AlreadyPaid
        | CloseOutcome::Impossible(_)
        | CloseOutcome::Retry(_)
        | CloseOutcome::Unknown(_) => {
            ensure(
                false,
                "reversing a number that never was ends it or finds nothing",
                &ended,
            )?;
        }
    }

    let queried = subject.query(&order).await;
    let dead = matches!(
        queried,
        QueryOutcome::NotFound | QueryOutcome::Closed | QueryOutcome::Reversed
    );
    ensure(dead, "what never was is not alive", &queried)?;

    subject.keeps(&order, 0)
}

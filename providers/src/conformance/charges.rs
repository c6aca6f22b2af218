//! Charges: the call itself takes the money, or only begins to, and a reversal undoes it whatever came of it.

use std::time::Duration;

use super::{AMOUNT_FEN, Broken, Checks, Kept, Subject, ensure, paid as is_paid, reference, taken_up};
use crate::order::Order;
use crate::outcome::{Capture, Created, Ended, Queried};
use crate::provider::Charging;
use crate::sandbox::payer::Mood;

const MOODS: [Mood; 4] = [Mood::Pays, Mood::MustConfirm, Mood::HasNoMoney, Mood::CodeExpired];
/// More reversals of one charge than anybody should need.
const MOST_REVERSALS: usize = 30;

pub(super) async fn run(subject: &Subject) -> Checks {
    vec![
        ("charging_makes_sense", charging_makes_sense(subject)),
        ("a_charge_is_told_completely", a_charge_is_told_completely(subject).await),
        ("a_payer_who_must_confirm_is_waited_for", a_payer_who_must_confirm_is_waited_for(subject).await),
        ("a_payer_who_says_no_is_not_charged", a_payer_who_says_no_is_not_charged(subject).await),
        ("a_payer_without_money_is_not_charged", a_payer_without_money_is_not_charged(subject).await),
        ("an_old_code_is_not_charged", an_old_code_is_not_charged(subject).await),
        ("a_code_works_once", a_code_works_once(subject).await),
        ("reversing_ends_a_charge_that_waits", reversing_ends_a_charge_that_waits(subject).await),
        ("reversing_gives_the_money_back_once", reversing_gives_the_money_back_once(subject).await),
        ("reversing_nothing_takes_nothing", reversing_nothing_takes_nothing(subject).await),
    ]
}

impl Subject {
    fn charging(&self) -> Result<&'static Charging, Broken> {
        let charging = self.provider.capabilities().charge.as_ref();
        charging.ok_or_else(|| Broken { promise: "who charges says how", got: "no `charge`".to_owned() })
    }

    async fn pass_s(&self, seconds: u32) {
        self.other_side.let_pass(Duration::from_secs(u64::from(seconds))).await;
    }

    async fn charge(&self, suffix: &str, mood: Mood) -> Result<(Order, Created), Broken> {
        let mut order = self.order(suffix)?;
        order.auth_code = Some(self.other_side.auth_code(mood));
        let created = self.provider.create(&order, &self.call()).await.outcome;
        Ok((order, created))
    }

    /// Asks as the ladder says, from `from_s` after the charge on, until it is not payable any more.
    async fn settled(&self, order: &Order) -> Result<Queried, Broken> {
        let mut asked_at = 0;
        let mut queried = self.query(order).await;
        for at in self.charging()?.ladder_s {
            if matches!(queried, Queried::Paid(_) | Queried::Closed | Queried::Reversed) {
                break;
            }
            self.pass_s(at - asked_at).await;
            asked_at = *at;
            queried = self.query(order).await;
        }
        Ok(queried)
    }

    /// Reverses until the answer is final, with the provider's pause between two.
    async fn reversed(&self, order: &Order) -> Result<Ended, Broken> {
        let charging = self.charging()?;
        self.pass_s(charging.reverse_from_s).await;
        let mut ended = self.provider.reverse(&reference(order), &self.call()).await.outcome;
        for _ in 0..MOST_REVERSALS {
            if !matches!(ended, Ended::Again(_)) {
                break;
            }
            self.pass_s(charging.reverse_pause_s).await;
            ended = self.provider.reverse(&reference(order), &self.call()).await.outcome;
        }
        Ok(ended)
    }

    /// A reversal succeeded or found nothing, nobody can pay any more, and the merchant has none of the money.
    async fn is_dead_charge(&self, order: &Order) -> Kept {
        let ended = self.reversed(order).await?;
        let known = matches!(ended, Ended::Closed | Ended::Reversed | Ended::NotFound);
        ensure(known, "a charge is reversed, or there is none", &ended)?;
        let queried = self.query(order).await;
        match (&queried, self.charging()?.not_found_twice_s) {
            (Queried::Closed | Queried::Reversed, _) => {}
            (Queried::NotFound, Some(apart_s)) => {
                self.pass_s(apart_s).await;
                let queried = self.query(order).await;
                ensure(queried == Queried::NotFound, "what is not there does not come back", &queried)?;
            }
            (Queried::NotFound | Queried::Payable | Queried::Paid(_) | Queried::Unknown(_), _) => {
                ensure(false, "a reversed charge is queried as dead", &queried)?;
            }
        }
        let taken = self.other_side.pay(&order.order_no).await;
        ensure(!taken, "a reversed charge takes no money", &taken)?;
        self.keeps(order, 0)
    }

    fn keeps(&self, order: &Order, fen: i64) -> Kept {
        let kept = self.other_side.kept_fen(&order.order_no);
        ensure(kept == fen, "the merchant has what was paid, and nothing that was not", &kept)
    }
}

/// A charge whose payer pays at once, told by the call or by a query after it.
pub(super) async fn paid(subject: &Subject, suffix: &str) -> Result<(Order, Capture), Broken> {
    let (order, created) = subject.charge(suffix, Mood::Pays).await?;
    let told = matches!(created, Created::Captured(_) | Created::Waiting);
    ensure(told, "a charge whose payer pays is taken or waited for", &created)?;
    let capture = is_paid(subject.settled(&order).await?)?;
    if let Created::Captured(at_once) = created {
        let same = (&at_once.transaction_id, at_once.amount) == (&capture.transaction_id, capture.amount);
        ensure(same, "call and query tell of the same money", &(at_once, &capture))?;
    }
    Ok((order, capture))
}

fn charging_makes_sense(subject: &Subject) -> Kept {
    let charging = subject.charging()?;
    let ladder = charging.ladder_s;
    ensure(!ladder.is_empty() && ladder.is_sorted(), "ladders go up", &ladder)?;
    let patient = charging.patience_s >= charging.reverse_from_s && charging.timeout_ms > 0;
    ensure(patient, "nobody has to reverse earlier than is allowed", charging)?;
    ensure(charging.reverse_pause_s > 0, "there is a pause between two reversals", charging)?;
    for mood in MOODS {
        let code = subject.other_side.auth_code(mood);
        ensure((charging.is_code)(&code), "a code of its payers is known as one", &code)?;
        let another = subject.other_side.auth_code(mood);
        ensure(code != another && Mood::of(&code) == mood, "codes are new, and of the mood asked for", &another)?;
        let longer = format!("{code}00000000000000000000");
        ensure(!(charging.is_code)(&longer), "what is too long is no code", &longer)?;
    }
    for other in ["", "fp", "0000000000000000000", "https://example.com/pay", "２８１２３４５６７８９０１２３４５６"]
    {
        ensure(!(charging.is_code)(other), "what is no code is not taken for one", &other)?;
    }
    Ok(())
}

async fn a_charge_is_told_completely(subject: &Subject) -> Kept {
    let (order, capture) = paid(subject, "chgpaid").await?;
    ensure(capture.amount == order.amount, "a capture tells the amount", &capture)?;
    ensure(!capture.transaction_id.is_empty(), "a capture tells the provider's number", &capture)?;
    ensure(capture.foreign_account.is_none(), "a capture is our own account's", &capture)?;
    let ours = capture.payment_id.as_ref().is_none_or(|id| *id == order.payment_id);
    ensure(ours, "what is passed back is what we passed", &capture)?;
    let again = subject.other_side.pay(&order.order_no).await;
    ensure(!again, "a paid charge is not paid again", &again)?;
    subject.keeps(&order, AMOUNT_FEN)
}

async fn waiting(subject: &Subject, suffix: &str) -> Result<Order, Broken> {
    let (order, created) = subject.charge(suffix, Mood::MustConfirm).await?;
    ensure(created == Created::Waiting, "a payer who must confirm is waited for", &created)?;
    subject.keeps(&order, 0)?;
    Ok(order)
}

async fn a_payer_who_must_confirm_is_waited_for(subject: &Subject) -> Kept {
    let order = waiting(subject, "chgwait").await?;
    let before = subject.query(&order).await;
    ensure(before == Queried::Payable, "a charge that waits can be paid", &before)?;
    let taken = subject.other_side.pay(&order.order_no).await;
    ensure(taken, "a payer who confirms pays", &taken)?;
    is_paid(subject.settled(&order).await?)?;
    subject.keeps(&order, AMOUNT_FEN)
}

async fn a_payer_who_says_no_is_not_charged(subject: &Subject) -> Kept {
    let order = waiting(subject, "chgno").await?;
    subject.other_side.open(&order.order_no).await;
    let queried = subject.query(&order).await;
    let unpaid = matches!(queried, Queried::Payable | Queried::Closed);
    ensure(unpaid, "a payer who says no has not paid", &queried)?;
    subject.is_dead_charge(&order).await
}

/// No money moves, at once or later: by itself where a "no" ends it, otherwise after a reversal.
async fn refused(subject: &Subject, order: &Order, created: &Created) -> Kept {
    let declined = match created {
        Created::Declined(_) => true,
        Created::Waiting => false,
        Created::Accepted(_)
        | Created::Captured(_)
        | Created::NotSent(_)
        | Created::Refused(..)
        | Created::Unknown(_) => {
            return ensure(false, "a payer who cannot pay is declined, or found to be by asking", created);
        }
    };
    let queried = subject.settled(order).await?;
    ensure(!matches!(queried, Queried::Paid(_)), "who cannot pay has not paid", &queried)?;
    if declined && !subject.charging()?.declined_is_reversed {
        let taken = subject.other_side.pay(&order.order_no).await;
        ensure(!taken, "a declined charge takes no money", &taken)?;
    }
    subject.is_dead_charge(order).await
}

async fn a_payer_without_money_is_not_charged(subject: &Subject) -> Kept {
    let (order, created) = subject.charge("chgpoor", Mood::HasNoMoney).await?;
    refused(subject, &order, &created).await
}

async fn an_old_code_is_not_charged(subject: &Subject) -> Kept {
    let (order, created) = subject.charge("chgold", Mood::CodeExpired).await?;
    refused(subject, &order, &created).await
}

async fn a_code_works_once(subject: &Subject) -> Kept {
    let (first, _) = paid(subject, "chgone").await?;
    let mut second = subject.order("chgtwo")?;
    second.auth_code.clone_from(&first.auth_code);
    let created = subject.provider.create(&second, &subject.call()).await.outcome;
    ensure(!matches!(created, Created::Captured(_)), "a code that was used takes nothing", &created)?;
    let queried = subject.settled(&second).await?;
    ensure(!matches!(queried, Queried::Paid(_)), "a code that was used takes nothing later", &queried)?;
    subject.keeps(&second, 0)?;
    subject.keeps(&first, AMOUNT_FEN)
}

async fn reversing_ends_a_charge_that_waits(subject: &Subject) -> Kept {
    let order = waiting(subject, "chgrev").await?;
    subject.pass_s(subject.charging()?.patience_s).await;
    subject.is_dead_charge(&order).await
}

async fn reversing_gives_the_money_back_once(subject: &Subject) -> Kept {
    let (order, _) = paid(subject, "chgback").await?;
    for _ in 0..2 {
        let ended = subject.reversed(&order).await?;
        let back = matches!(ended, Ended::Reversed | Ended::Closed);
        ensure(back, "a paid charge is reversed, and reversing it again says so", &ended)?;
        subject.keeps(&order, 0)?;
    }
    let queried = subject.query(&order).await;
    ensure(queried == Queried::Reversed, "a paid charge that was reversed is queried as reversed", &queried)?;
    let refunded = subject.refund(&subject.refund_order(&order, "chgbackR", 1)?).await;
    ensure(!taken_up(&refunded), "what was reversed is not refunded as well", &refunded)?;
    subject.keeps(&order, 0)
}

/// Either the number is burnt, and no charge can be made under it any more; or nothing was found, and then what proves
/// a charge dead has to be said.
async fn reversing_nothing_takes_nothing(subject: &Subject) -> Kept {
    let order = subject.order("chgnone")?;
    let ended = subject.reversed(&order).await?;
    match ended {
        Ended::NotFound => {
            let said = subject.charging()?.not_found_twice_s;
            ensure(said.is_some(), "who finds nothing says what proves a charge dead", &said)?;
        }
        Ended::Closed | Ended::Reversed => {
            let created = subject.provider.create(&order, &subject.call()).await.outcome;
            let dead = matches!(created, Created::Refused(..) | Created::Declined(_) | Created::Unknown(_));
            ensure(dead, "a number that a reversal ended is not charged", &created)?;
        }
        Ended::AlreadyPaid | Ended::Impossible(_) | Ended::Again(_) | Ended::Unknown(_) => {
            ensure(false, "reversing a number that never was ends it or finds nothing", &ended)?;
        }
    }
    let queried = subject.query(&order).await;
    let dead = matches!(queried, Queried::NotFound | Queried::Closed | Queried::Reversed);
    ensure(dead, "what never was is not alive", &queried)?;
    subject.keeps(&order, 0)
}

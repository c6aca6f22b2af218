//! Asking a provider about a refund that somebody made by hand in its console, before anything of
//! it is booked.

use providers::outcome::{OTHER_REFUND, RefundQueryOutcome};

use super::transition::console_refund::ConsoleRefund;
use super::{Error, call};
use crate::app::App;
use crate::domain::{Aggregate, Refund};

/// What a provider says of a refund that its notification told of.
#[derive(Debug, PartialEq)]
pub(super) enum Confirmed {
    /// It has given this back.
    Yes(Box<ConsoleRefund>),
    /// It is not done, or another one than the rows allow for as they are now: that may change, so
    /// the notification has to come again.
    NotYet,
    /// It has failed. The notification says otherwise: a person looks at what does not agree.
    No,
}

/// Asks the provider which of the amounts this number has given back.
///
/// # Errors
/// [`Error::ProviderUnclear`]: nobody knows; the notification has to come again.
pub(super) async fn confirmed(
    app: &App,
    aggregate: &Aggregate,
    found: &ConsoleRefund,
) -> Result<Confirmed, Error> {
    for amount in &found.amounts {
        let refund = Refund {
            amount: *amount,
            ..found.refund.clone()
        };
        let Some((account, order, call)) = call::refund_order(app, aggregate, &refund) else {
            return Ok(Confirmed::NotYet);
        };
        match call::query_refund(&account, &order, &call).await.outcome {
            RefundQueryOutcome::Done => {
                return Ok(Confirmed::Yes(Box::new(ConsoleRefund {
                    refund,
                    amounts: vec![*amount],
                })));
            }
            // There is one, and of another amount.
            RefundQueryOutcome::Unknown(failure) if failure.code == OTHER_REFUND => {}
            RefundQueryOutcome::Unknown(failure) => {
                return Err(Error::ProviderUnclear(failure.message));
            }
            // At Alipay the same word for "not finished" and "failed".
            RefundQueryOutcome::NotFound | RefundQueryOutcome::Accepted => {
                return Ok(Confirmed::NotYet);
            }
            RefundQueryOutcome::Rejected(_) | RefundQueryOutcome::Abnormal(_) => {
                return Ok(Confirmed::No);
            }
        }
    }

    // Another one, of which nobody has told yet, or one of ours that is not known to be done is
    // part of the sum.
    Ok(Confirmed::NotYet)
}

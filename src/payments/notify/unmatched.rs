//! What becomes of a genuine notification that agrees with nothing of ours: a person hears of it,
//! and it is kept.

use std::sync::Arc;

use super::apply::apply;
use super::matching::{MISMATCH, Matched, Mismatch};
use crate::app::App;
use crate::domain::Aggregate;
use crate::domain::id::AttemptId;
use crate::domain::operation::ReviewKind;
use crate::lines;
use crate::payments::Error;
use crate::routing::account::Account;
use crate::store::OperationFilter;
use crate::store::change::{Inbox, ReviewItem};

/// So many of an owner's wait for a person at the most.
const MOST_OPEN: u64 = 100;

pub(super) async fn raise(
    app: &App,
    account: &Account,
    kind: ReviewKind,
    subject_id: &str,
    detail: String,
) -> Result<(), Error> {
    let entry = ReviewItem::new(&account.owner, kind, subject_id, detail, app.clock.now())?;
    Ok(app.store.raise(&entry).await?)
}

/// A genuine notification that agrees with nothing of ours: it is kept, and a person looks at it.
/// Where so many wait for one already, its provider keeps it: whoever has an account can sign as
/// many as it likes. If it speaks of an order of ours that nobody would ask about any more, that is
/// done: something happened to it, whatever that was.
pub(super) async fn unmatched(
    app: &Arc<App>,
    account: &Account,
    mismatch: Mismatch,
    order_no: &str,
    found: Option<(Aggregate, AttemptId)>,
    inbox: Inbox,
) -> Result<(), Error> {
    let name: &'static str = mismatch.into();
    if lines::may_write(Some(&account.id)) {
        tracing::error!(
            account_id = %account.id,
            order_no,
            verdict = name,
            "a genuine notification does not match"
        );
    }
    // Whether somebody else has such an order is nobody's business.
    let is_anothers = found
        .as_ref()
        .is_some_and(|(payment, _)| payment.payment.owner != account.owner);
    let told = if is_anothers {
        Mismatch::UnknownOrder.into()
    } else {
        name
    };
    let detail = format!(
        "{told}: notification {} for order {order_no}",
        inbox.notification_id
    );

    let kind = Some(MISMATCH.to_string());
    let open = OperationFilter {
        kind,
        resolved: Some(false),
        limit: MOST_OPEN,
        starting_after: None,
    };
    let is_full = u64::try_from(app.store.operations(&account.owner, &open).await?.len())
        .unwrap_or(0)
        >= MOST_OPEN;
    // In this order: dying in between, it is raised once more, and not never.
    if is_full {
        let detail = format!(
            "{MOST_OPEN} and more notifications wait for a person; further ones are sent again \
            until then"
        );
        raise(app, account, MISMATCH, &account.id, detail).await?;
    } else {
        raise(app, account, MISMATCH, &inbox.notification_id, detail).await?;
    }

    let is_left_alone = |(payment, attempt_id): &(Aggregate, AttemptId)| {
        let attempt = payment
            .attempt(attempt_id)
            .filter(|attempt| attempt.account_id == account.id);
        attempt.is_some_and(|attempt| attempt.captured.is_none() && attempt.next_check_at.is_none())
    };
    match found.filter(is_left_alone) {
        Some((before, attempt_id)) => {
            let ask = Matched::Ask {
                attempt_id,
                refund_id: None,
                says_done: true,
            };
            apply(app, &before, &ask, inbox).await
        }
        None if is_full => Err(Error::ProviderUnclear(
            "too many wait for a person already".to_owned(),
        )),
        None => Ok(app.store.keep_notification(&inbox).await?),
    }
}

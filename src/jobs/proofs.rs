//! Accounts of which nobody knows yet whether what they are answered can be verified: their
//! provider could not be reached when they were entered, or this gateway has just begun. They are
//! asked about a few at a time, and not for ever; those whose answers never hold are set aside.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use providers::outcome::{Failure, FailureKind, WRONGLY_SIGNED};

use super::{Failed, Job, Next, periodic};
use crate::app::App;
use crate::domain::{AllOwners, Timestamp};
use crate::payments::suspend::suspend;
use crate::routing::account::Account;
use crate::routing::proof;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Asked so often, and about so many at the most.
const ASKED_EVERY: u32 = 20;
/// One that was set aside for it may have been its provider's trouble, and is asked about more
/// often.
const ASIDE_ASKED_EVERY: u32 = 5;
const AT_ONCE: usize = 8;

/// Runs until the gateway drains.
pub async fn run(app: Arc<App>) {
    periodic(
        app,
        LOOK_EVERY,
        "proofs",
        Proofs {
            rounds: 0,
            next: 0,
            next_aside: 0,
        },
    )
    .await;
}

struct Proofs {
    rounds: u32,
    /// Where it goes on, among those that serve and those that were set aside.
    next: usize,
    next_aside: usize,
}

impl Job for Proofs {
    const FOLLOWS_JUMPS: bool = false;

    async fn step(&mut self, app: &Arc<App>) -> Result<Next, Failed> {
        let now = app.clock.now();
        let serves = |account: &Arc<Account>| {
            !account.disabled
                && account.set_aside_until.is_none_or(|until| until <= now)
                && !account.proof.holds()
        };
        let unproved: Vec<_> = app
            .directory
            .accounts(AllOwners)
            .into_iter()
            .filter(serves)
            .collect();
        for account in unproved
            .iter()
            .filter(|account| account.proof.is_hopeless())
        {
            let message = "its answers are not signed with the key that was entered: compare the \
                           provider's public key, or its certificates";
            suspend(
                app,
                account,
                &Failure::new(FailureKind::Account, WRONGLY_SIGNED, message),
            )
            .await;
            account.proof.begin_anew();
        }

        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(ASKED_EVERY) {
            let some = in_turn(by_id(unproved), &mut self.next);
            join_all(
                some.iter()
                    .filter(|account| account.proof.is_to_be_asked())
                    .map(|a| ask(app, a)),
            )
            .await;
        }
        if self.rounds.is_multiple_of(ASIDE_ASKED_EVERY) {
            let all = app
                .directory
                .accounts(AllOwners)
                .into_iter()
                .filter(|account| is_aside(account, now));
            let some = in_turn(by_id(all.collect()), &mut self.next_aside);
            join_all(some.iter().map(|account| let_in(app, account))).await;
        }
        Ok(Next::Pause)
    }
}

fn by_id(mut accounts: Vec<Arc<Account>>) -> Vec<Arc<Account>> {
    accounts.sort_by(|a, b| a.id.cmp(&b.id));
    accounts
}

/// The next few of them: those whose answers never hold keep none of the others waiting.
fn in_turn<T>(all: Vec<T>, next: &mut usize) -> Vec<T> {
    let begin = if *next < all.len() { *next } else { 0 };
    let some: Vec<_> = all.into_iter().skip(begin).take(AT_ONCE).collect();
    *next = begin.saturating_add(some.len());
    some
}

fn is_aside(account: &Account, now: Timestamp) -> bool {
    !account.disabled
        && account.set_aside_until.is_some_and(|until| until > now)
        && account.set_aside_reason.as_deref() == Some(WRONGLY_SIGNED)
}

/// Lets an account in again that was set aside for its provider's signatures, as soon as one holds.
async fn let_in(app: &App, account: &Account) {
    ask(app, account).await;
    if !account.proof.holds() {
        return;
    }
    let done = async {
        app.store.set_account_aside(&account.id, None, "").await?;
        app.directory.changed().await
    };

    match done.await {
        Ok(()) => tracing::info!(
            account_id = %account.id,
            "what its provider signs holds: the account is let in again"
        ),
        Err(error) => {
            tracing::error!(account_id = %account.id, %error,
                "the account could not be let in again")
        }
    }
}

async fn ask(app: &App, account: &Account) {
    let timeout = app.config.health.probe_timeout;
    proof::ask(
        account.provider.as_ref(),
        &app.hold.prefix(),
        app.clock.now().utc(),
        timeout,
    )
    .await;
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE, in_turn};

    #[test]
    fn hopeless_ones_keep_nobody_waiting() {
        let mut next = 0;
        let all: Vec<usize> = (0..=AT_ONCE).collect();
        assert_eq!(in_turn(all.clone(), &mut next), all[..AT_ONCE]);
        assert_eq!(
            in_turn(all.clone(), &mut next),
            [AT_ONCE],
            "whoever is behind the first few comes next"
        );
        assert_eq!(in_turn(all.clone(), &mut next), all[..AT_ONCE]);
        // Most of them are gone meanwhile.
        assert_eq!(in_turn(vec![7], &mut next), [7]);
        assert!(in_turn(Vec::<usize>::new(), &mut next).is_empty());
    }
}

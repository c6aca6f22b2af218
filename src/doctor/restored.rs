//! `interlock doctor --restored`: asks the providers about everything live that is open in a
//! database that was brought back, and says what they know. It changes no payment: gateways ask,
//! too, and book what they hear.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use providers::order::{Call, RefundOrder};
use providers::outcome::{QueryOutcome, RefundQueryOutcome};
use providers::provider::Provider;

use super::{addresses, vault};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::id::AccountId;
use crate::domain::{Aggregate, AllOwners, Attempt, Refund, attempt, refund};
use crate::payments::call;
use crate::store::{self, Store};

/// Questions at the same time.
const AT_ONCE: usize = 8;
/// Payments that are read at once.
const PAGE: u64 = 200;
/// Those that nobody knows about that are named; all are counted.
const NAMED: usize = 20;

/// What the providers have said.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// How many are open.
    pub open: usize,
    /// How many nobody knows about.
    pub unknown: usize,
}

/// Why nobody was asked.
#[derive(Debug, thiserror::Error)]
pub enum NotAsked {
    /// The database.
    #[error(transparent)]
    Open(#[from] crate::store::OpenError),
    /// The database, after it was opened.
    #[error("database: {0}")]
    Database(#[from] store::Error),
    /// Something that `interlock doctor` finds, too.
    #[error("{0}: see `interlock doctor`")]
    Config(String),
    /// Nobody reads it.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// One that is open, and what its provider says.
struct Answer {
    what: String,
    provider: String,
    said: &'static str,
}

const UNKNOWN: &str = "nobody knows";

/// Asks about all of them.
///
/// # Errors
/// [`NotAsked`].
pub async fn run(config: &Config, out: &mut dyn Write) -> Result<Answers, NotAsked> {
    let store = Store::look(&config.database_url(), super::CONNECTIONS).await?;
    let vault =
        vault(config).map_err(|_| NotAsked::Config("the key for stored credentials".to_owned()))?;
    let addresses = addresses(config)
        .await
        .map_err(|e| NotAsked::Config(e.to_string()))?;
    let mut opened: BTreeMap<AccountId, Arc<dyn Provider>> = BTreeMap::new();
    for row in store.accounts(AllOwners).await? {
        match super::provider(&addresses, &row, &vault) {
            Ok(provider) => drop(opened.insert(row.id, provider)),
            Err(_) => writeln!(
                out,
                "account {} cannot be opened: see `interlock doctor`",
                row.id
            )?,
        }
    }

    let mut answers = Answers::default();
    let mut said: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = store.unsettled(AllOwners, after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.payment.id.clone());
        let questions: Vec<_> = page
            .iter()
            .flat_map(|aggregate| questions(config, &opened, aggregate))
            .collect();
        let mut asked = stream::iter(questions).buffer_unordered(AT_ONCE);
        while let Some(answer) = asked.next().await {
            answers.open += 1;
            if answer.said == UNKNOWN {
                answers.unknown += 1;
                if answers.unknown <= NAMED {
                    writeln!(
                        out,
                        "nobody knows about {} ({})",
                        answer.what, answer.provider
                    )?;
                }
            }
            *said.entry((answer.provider, answer.said)).or_default() += 1;
        }
    }
    store.close().await?;

    writeln!(out, "{} live attempts and refunds are open.", answers.open)?;
    for ((provider, said), count) in said {
        writeln!(out, "{provider:<12} {said:<24} {count:>8}")?;
    }
    writeln!(
        out,
        "Gateways book what is paid or over by themselves. Orders and refunds that were made after \
        the backup are in no row: providers' consoles and statements show them, under numbers that \
        begin as they did before."
    )?;
    Ok(answers)
}

/// What is to be asked about a payment.
fn questions<'a>(
    config: &'a Config,
    opened: &'a BTreeMap<AccountId, Arc<dyn Provider>>,
    aggregate: &'a Aggregate,
) -> impl Iterator<Item = std::pin::Pin<Box<dyn Future<Output = Answer> + 'a>>> {
    let attempts = aggregate
        .attempts
        .iter()
        .filter(|attempt| is_open(attempt.status));
    let attempts = attempts.map(
        move |attempt| -> std::pin::Pin<Box<dyn Future<Output = Answer> + 'a>> {
            Box::pin(about_attempt(
                config,
                opened.get(&attempt.account_id),
                attempt,
            ))
        },
    );

    let refunds = aggregate
        .refunds
        .iter()
        .filter(|refund| refund.status == refund::State::Pending);

    attempts.chain(refunds.map(
        move |refund| -> std::pin::Pin<Box<dyn Future<Output = Answer> + 'a>> {
            Box::pin(about_refund(config, opened, aggregate, refund))
        },
    ))
}

/// Whether its end is not known for certain.
const fn is_open(status: attempt::State) -> bool {
    use attempt::State::{
        Abandoned, AwaitingPayer, Captured, Closing, Dead, Reversed, Reversing, Sending,
        Superseded, Unknown,
    };
    match status {
        Sending | Unknown | AwaitingPayer | Closing | Reversing | Abandoned | Superseded => true,
        Captured | Dead | Reversed => false,
    }
}

fn call(timeout: Duration) -> Call {
    Call {
        now: Clock::new().now().utc(),
        timeout,
    }
}

async fn about_attempt(
    config: &Config,
    provider: Option<&Arc<dyn Provider>>,
    attempt: &Attempt,
) -> Answer {
    let said = match provider {
        None => UNKNOWN,
        Some(provider) => {
            let call = call(config.payments.query_timeout);
            match provider
                .query(&call::reference(attempt), &call)
                .await
                .outcome
            {
                QueryOutcome::Paid(_) => "paid",
                QueryOutcome::Payable => "can still be paid",
                QueryOutcome::Closed => "closed",
                QueryOutcome::Reversed => "given back",
                QueryOutcome::NotFound => "not found",
                QueryOutcome::Unknown(_) => UNKNOWN,
            }
        }
    };

    Answer {
        what: format!("attempt {}", attempt.id),
        provider: attempt.provider.to_string(),
        said,
    }
}

async fn about_refund(
    config: &Config,
    opened: &BTreeMap<AccountId, Arc<dyn Provider>>,
    aggregate: &Aggregate,
    refund: &Refund,
) -> Answer {
    let attempt = aggregate.attempt(&refund.attempt_id);
    let provider = attempt.and_then(|attempt| opened.get(&attempt.account_id));
    let said = match (attempt, provider) {
        (Some(attempt), Some(provider)) => {
            let order = RefundOrder {
                order: call::reference(attempt),
                transaction_id: attempt.provider_transaction_id.clone(),
                refund_no: refund.provider_refund_no.to_string(),
                txn_time: refund.txn_time.unwrap_or(refund.created_at).utc(),
                renumbered: !refund.earlier_nos.is_empty(),
                amount: refund.amount,
                total: attempt.captured.unwrap_or(attempt.amount),
                reason: None,
                notify_url: String::new(),
            };
            match provider
                .query_refund(&order, &call(config.payments.refund_timeout))
                .await
                .outcome
            {
                RefundQueryOutcome::Done => "refund carried out",
                RefundQueryOutcome::Accepted => "refund under way",
                RefundQueryOutcome::NotFound => "refund not found",
                RefundQueryOutcome::Rejected(_) | RefundQueryOutcome::Abnormal(_) => {
                    "refund refused"
                }
                RefundQueryOutcome::Unknown(_) => UNKNOWN,
            }
        }
        _ => UNKNOWN,
    };

    let provider = attempt.map_or_else(String::new, |attempt| attempt.provider.to_string());
    Answer {
        what: format!("refund {}", refund.id),
        provider,
        said,
    }
}

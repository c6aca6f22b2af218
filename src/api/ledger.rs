//! `/v1/ledger`: what was booked, and what it adds up to. Reads only; the ledger is written with
//! the changes that it books.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use strum::IntoEnumIterator as _;
use utoipa::ToSchema;

use super::auth::{Caller, Scope};
use super::error::Problem;
use super::list::{List, ListQuery, Page, time};
use crate::app::App;
use crate::domain::Timestamp;
use crate::domain::ledger::{Cause, Entry, LedgerAccount};
use crate::store::{LedgerFilter, Moved};

/// One amount that went from one ledger account to another.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = LedgerEntry)]
pub struct EntryView {
    /// `pay_….n`: the payment, and the entry's place among the payment's, from 1.
    pub id: String,
    /// Always `ledger_entry`.
    pub object: &'static str,
    /// The payment.
    pub payment: String,
    /// The captured attempt whose money it is.
    pub attempt: String,
    /// The refund that moved it.
    pub refund: Option<String>,
    /// The account at the provider: `acct_…`.
    pub account: String,
    /// Why: `captured`, `decided`, `went_back`, `refund_pending`, `refund_succeeded`,
    /// `refund_failed`, `refund_abnormal`, or `opening` for what was there before the ledger.
    #[schema(value_type = String)]
    pub cause: Cause,
    /// The ledger account that gets it.
    pub debit: LedgerAccount,
    /// The ledger account that gives it.
    pub credit: LedgerAccount,
    /// In fen; more than 0.
    pub amount: i64,
    /// `CNY`
    pub currency: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// SHA-256 of the entry before it of the same payment; empty for the first.
    pub previous: String,
    /// SHA-256 of all this.
    pub hash: String,
}

/// What a ledger account holds, over one account at a provider.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = LedgerBalance)]
pub struct BalanceView {
    /// Always `ledger_balance`.
    pub object: &'static str,
    /// Which one.
    pub ledger_account: LedgerAccount,
    /// The account at the provider: `acct_…`.
    pub account: String,
    /// All that it got, in fen.
    pub debits: i64,
    /// All that it gave, in fen.
    pub credits: i64,
    /// What it holds: debits less credits for `at_provider`, `astray` and `fees`, the reverse for
    /// the others.
    pub balance: i64,
    /// `CNY`
    pub currency: &'static str,
}

fn shown(entry: Entry) -> EntryView {
    let t = entry.transfer;

    EntryView {
        id: format!("{}.{}", entry.payment_id, entry.seq),
        object: "ledger_entry",
        payment: entry.payment_id.into(),
        attempt: t.attempt_id.into(),
        refund: t.refund_id.map(String::from),
        account: t.account_id.into(),
        cause: t.cause,
        debit: t.debit,
        credit: t.credit,
        amount: t.amount.minor(),
        currency: t.amount.currency().to_string(),
        at: entry.at,
        previous: entry.previous,
        hash: entry.hash,
    }
}

fn filter(query: &ListQuery) -> Result<LedgerFilter, Problem> {
    let names: Vec<String> = LedgerAccount::iter()
        .map(|account| account.to_string())
        .collect();
    let account = |text: &String| {
        text.parse().map_err(|_| {
            Problem::invalid(
                "ledger_account",
                format!("A ledger account is one of {}.", names.join(", ")),
            )
        })
    };

    Ok(LedgerFilter {
        payment_id: query.payment.clone(),
        account_id: query.account.clone(),
        ledger_account: query.ledger_account.as_ref().map(account).transpose()?,
        from: query
            .created_from
            .as_deref()
            .map(|text| time("created_from", text))
            .transpose()?,
        until: query
            .created_until
            .as_deref()
            .map(|text| time("created_until", text))
            .transpose()?,
    })
}

/// The entries of your ledger, newest first; those of one payment from its last to its first.
#[utoipa::path(get, path = "/v1/ledger", tag = "Ledger", operation_id = "list_ledger_entries",
    params(Page,
        ("payment" = Option<String>, Query, description = "Only those of this payment"),
        ("account" = Option<String>, Query, description = "Only those over this account at a \
                                                           provider"),
        ("ledger_account" = Option<LedgerAccount>, Query,
            description = "Only entries that debit or credit this one"),
        ("created_from" = Option<String>, Query, format = DateTime,
            description = "RFC 3339; created then or later"),
        ("created_until" = Option<String>, Query, format = DateTime,
            description = "RFC 3339; created before then")),
    responses((status = 200, body = List<EntryView>)))]
pub async fn list(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Finance)?;
    let known = [
        "payment",
        "account",
        "ledger_account",
        "created_from",
        "created_until",
        "limit",
        "starting_after",
    ];

    let query = ListQuery::read(&request, &known)?;
    let (limit, filter) = (query.limit()?, filter(&query)?);
    let after = match &query.starting_after {
        None => None,
        Some(id) => {
            let unknown = || Problem::invalid("starting_after", "There is no such entry.");
            let (payment_id, seq) = id.split_once('.').ok_or_else(unknown)?;
            let payment_id = payment_id.parse().map_err(|_| unknown())?;
            let seq = seq.parse().map_err(|_| unknown())?;
            let found = app
                .store
                .ledger_entry(&caller.owner, &payment_id, seq)
                .await?;
            Some(found.ok_or_else(unknown)?)
        }
    };

    let found = app
        .store
        .ledger_entries(&caller.owner, &filter, after.as_ref(), limit + 1)
        .await?;

    Ok(HttpResponse::Ok().json(List::page(found.into_iter().map(shown).collect(), limit)))
}

/// What your ledger adds up to, by ledger account and account at a provider; of a period, if you
/// name one.
#[utoipa::path(get, path = "/v1/ledger/balances", tag = "Ledger",
    operation_id = "list_ledger_balances",
    params(("payment" = Option<String>, Query, description = "Only those of this payment"),
        ("account" = Option<String>, Query, description = "Only those over this account at a \
                                                           provider"),
        ("created_from" = Option<String>, Query, format = DateTime,
            description = "RFC 3339; created then or later"),
        ("created_until" = Option<String>, Query, format = DateTime,
            description = "RFC 3339; created before then")),
    responses((status = 200, body = List<BalanceView>)))]
pub async fn balances(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Finance)?;
    let query = ListQuery::read(
        &request,
        &["payment", "account", "created_from", "created_until"],
    )?;
    let moved = app
        .store
        .ledger_sums(&caller.owner, &filter(&query)?)
        .await?;
    Ok(HttpResponse::Ok().json(List {
        object: "list",
        data: added_up(&moved),
        has_more: false,
    }))
}

fn added_up(moved: &[Moved]) -> Vec<BalanceView> {
    let mut keys: Vec<(&str, LedgerAccount)> = moved
        .iter()
        .flat_map(|m| {
            [
                (m.account_id.as_str(), m.debit),
                (m.account_id.as_str(), m.credit),
            ]
        })
        .collect();

    keys.sort_unstable();
    keys.dedup();
    let balance = |(account_id, ledger_account): (&str, LedgerAccount)| {
        let sum = |is_side: fn(&Moved) -> LedgerAccount| -> i64 {
            moved
                .iter()
                .filter(|m| m.account_id == account_id && is_side(m) == ledger_account)
                .map(|m| m.fen)
                .sum()
        };
        let (debits, credits) = (sum(|m| m.debit), sum(|m| m.credit));
        let net = debits.saturating_sub(credits);
        BalanceView {
            object: "ledger_balance",
            ledger_account,
            account: account_id.to_owned(),
            debits,
            credits,
            balance: if ledger_account.grows_by_debit() {
                net
            } else {
                net.saturating_neg()
            },
            currency: "CNY",
        }
    };

    keys.into_iter().map(balance).collect()
}

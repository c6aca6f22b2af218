//! `/v1/accounts`: a merchant's contracts with providers. Credentials go in and never come out.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use providers::Provider;
use providers::outcome::{QueryOutcome, WRONGLY_SIGNED};
use providers::reason::Reason;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::auth::{Caller, Scope};
use super::body::RawBody;
use super::error::Problem;
use super::fields::text;
use super::list::List;
use super::request::Id;
use crate::app::App;
use crate::domain::Timestamp;
use crate::domain::id::AccountId;
use crate::payments::suspend::CLOCK_OFF_MS;
use crate::routing::account::Account;
use crate::routing::account_limits::Used;
use crate::routing::account_limits::{Limits, Terms};
use crate::routing::coverage;
use crate::routing::proof;
use crate::routing::time_windows::Window;
use crate::store::{AccountRow, NewAccount};

/// Accounts of one owner in use: each has a client, keys in memory, and a place in every gateway's
/// health.
const MAX_ACCOUNTS: usize = 200;
/// So many providers are asked at the same time whether keys that were entered are right.
const QUESTIONS_AT_ONCE: usize = 8;

/// An account as merchants see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountView {
    /// `acct_…`
    pub id: String,
    /// Always `account`.
    pub object: &'static str,
    /// At which provider.
    pub provider: String,
    /// What people call it.
    pub name: String,
    /// Who the merchant is there: app and merchant number. Never changes.
    pub identity: String,
    /// `active`, `disabled` (takes no new payments), `set_aside` (its provider refuses it), or
    /// `barred` (its address is not allowed: nothing is sent for it).
    pub status: &'static str,
    /// What is wrong with the address of one that is barred, and which it may have.
    pub barred_reason: Option<String>,
    /// What the provider said when it refused the account.
    pub set_aside_reason: Option<String>,
    /// Until then.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub set_aside_until: Option<Timestamp>,
    /// The provider's fee in basis points (60 is 0.6 %).
    pub fee_bps: i32,
    /// How much it takes.
    pub limits: Limits,
    /// How much of its day it has used, by the sum that is read every second. Null without a limit
    /// of the day.
    pub used_today: Option<Used>,
    /// When it takes no new payments.
    pub maintenance: Vec<Window>,
    /// The flows it serves.
    #[schema(value_type = Vec<String>)]
    pub flows: Vec<String>,
    /// Real money?
    pub livemode: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// What `POST /v1/accounts` takes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccount {
    /// `alipay`, `wechatpay` or `unionpay`.
    provider: String,
    /// What people call it, 1 to 64 characters.
    name: String,
    /// Basis points.
    #[serde(default)]
    fee_bps: i32,
    /// The provider's settings: keys, identity, and `base_url` where it is called: one of its own
    /// addresses, those of the sandbox, or what the operator has added. Left out: the usual one.
    #[schema(value_type = Object)]
    credentials: serde_json::Map<String, serde_json::Value>,
}

/// What `PATCH /v1/accounts/{id}` takes; what is absent stays.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeAccount {
    /// What people call it.
    #[serde(default)]
    name: Option<String>,
    /// `active` or `disabled`. `active` also lets in again what its provider had refused.
    #[serde(default)]
    status: Option<Switch>,
    /// Basis points.
    #[serde(default)]
    fee_bps: Option<i32>,
    /// How much it takes: of each payment, and on each business day (midnight to midnight in
    /// Beijing). All of it is replaced; an empty object takes all limits away. On a day counts what
    /// was captured on it, whatever was given back later, and what may still be: offers that wait
    /// for their payer, charges in doubt. A payment beyond the limits goes to the next account.
    /// Several gateways together may exceed a limit of the day by what they take within about a
    /// second.
    #[serde(default)]
    limits: Option<Limits>,
    /// When it takes no new payments: daily, such as `{"from": "02:00", "to": "03:30"}` in Beijing,
    /// or once, from a moment to another in RFC 3339. All windows are replaced. Two of one sort
    /// must not overlap.
    #[serde(default)]
    maintenance: Option<Vec<Window>>,
    /// Disable it even if a flow, or a part of its payments, is left without any account.
    #[serde(default)]
    force: bool,
    /// New keys of the same identity.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    credentials: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Whether an account takes new payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AccountSwitch)]
pub enum Switch {
    /// It does.
    Active,
    /// It does not; what is under way goes on.
    Disabled,
}

fn shown(app: &App, account: &Account) -> AccountView {
    let set_aside = account
        .set_aside_until
        .filter(|until| *until > app.clock.now());

    AccountView {
        id: account.id.to_string(),
        object: "account",
        provider: account.provider.name().to_string(),
        name: account.name.clone(),
        identity: account.provider.identity().to_owned(),
        status: match (&account.barred, account.disabled, set_aside) {
            (Some(_), _, _) => "barred",
            (None, true, _) => "disabled",
            (None, false, Some(_)) => "set_aside",
            (None, false, None) => "active",
        },
        barred_reason: account
            .barred
            .as_ref()
            .map(|why| format!("Its address {why}")),
        set_aside_reason: set_aside.and(account.set_aside_reason.clone()),
        set_aside_until: set_aside,
        fee_bps: account.fee_bps,
        limits: account.terms.limits,
        used_today: account
            .terms
            .limits
            .day
            .map(|_| app.directory.usage().used(&account.id, app.clock.now())),
        maintenance: account.terms.maintenance.clone(),
        flows: account
            .provider
            .capabilities()
            .flows
            .iter()
            .map(|f| f.flow.to_string())
            .collect(),
        livemode: account.owner.is_live(),
        created_at: account.created_at,
    }
}

fn fee(param: &str, bps: i32) -> Result<i32, Problem> {
    match (0..=10_000).contains(&bps) {
        true => Ok(bps),
        false => Err(Problem::invalid(param, "Basis points are from 0 to 10000.")),
    }
}

/// Settings that were opened as the adapter would.
struct Opened {
    provider: Arc<dyn Provider>,
    /// To be sealed.
    plain: Vec<u8>,
}

/// A wrong key is found here and not at the first payment.
fn opened(
    app: &App,
    provider: &str,
    livemode: bool,
    mut settings: serde_json::Map<String, serde_json::Value>,
) -> Result<Opened, Problem> {
    let protocol = providers::protocol(provider).ok_or_else(|| {
        let known: Vec<&str> = providers::PROTOCOLS
            .iter()
            .map(|p| p.name.as_str())
            .collect();
        Problem::invalid(
            "provider",
            format!("A provider is one of {}.", known.join(", ")),
        )
    })?;

    let addresses = app.directory.addresses();
    addresses.complete(protocol, livemode, &mut settings);
    let way = addresses
        .way(protocol, livemode, &mut settings)
        .map_err(|wrong| {
            Problem::invalid("credentials.base_url", format!("The address {wrong}"))
        })?;

    let plain = serde_json::to_vec(&settings).unwrap_or_default();
    let provider = (protocol.open)(settings.into(), &way).map_err(|e| {
        let param = if e.field.is_empty() {
            "credentials".to_owned()
        } else {
            format!("credentials.{}", e.field)
        };
        Problem::invalid(param, e.message)
    })?;
    Ok(Opened { provider, plain })
}

/// Asks the provider about an order that does not exist. Credentials that it refuses, or under
/// which its answer does not hold, are refused here. One that cannot be reached proves nothing
/// against them, and is asked again once the account is there: see `jobs::proofs`. So is one for
/// which there is no place just now: whoever enters keys has their provider asked in somebody's
/// name.
async fn verifies(app: &App, opened: &Opened) -> Result<(), Problem> {
    static PLACES: Semaphore = Semaphore::const_new(QUESTIONS_AT_ONCE);
    let Ok(_place) = PLACES.try_acquire() else {
        return Ok(());
    };
    let timeout = app.config.health.probe_timeout;
    let asked = proof::ask(
        opened.provider.as_ref(),
        &app.hold.prefix(),
        app.clock.now().utc(),
        timeout,
    )
    .await;

    match asked {
        Some(QueryOutcome::Unknown(failure)) if failure.code == WRONGLY_SIGNED => {
            let detail = "What the provider answers is not signed with the key that is given here: \
                          compare its public key or its certificates, and who the merchant is.";
            Err(Problem::invalid("credentials", detail))
        }
        Some(QueryOutcome::Unknown(failure))
            if failure.reason == Some(Reason::CredentialsInvalid)
                && !is_clock_off(app, opened.provider.as_ref()) =>
        {
            let detail = format!(
                "The provider refuses what is signed with these credentials ({}): compare the \
                private key with what is registered there, its serial number, and who the merchant \
                is.",
                failure.code
            );
            Err(Problem::invalid("credentials", detail))
        }
        None
        | Some(
            QueryOutcome::Unknown(_)
            | QueryOutcome::Paid(_)
            | QueryOutcome::Payable
            | QueryOutcome::NotFound
            | QueryOutcome::Closed
            | QueryOutcome::Reversed,
        ) => Ok(()),
    }
}

/// What is signed at another time than the provider's is refused whatever it is signed with.
fn is_clock_off(app: &App, provider: &dyn Provider) -> bool {
    let ahead = provider
        .time_told()
        .map(|told| told.ahead(app.clock.now().utc()).num_milliseconds());
    ahead.is_some_and(|ms| ms.saturating_abs() > CLOCK_OFF_MS)
}

/// Your accounts, oldest first.
#[utoipa::path(get, path = "/v1/accounts", tag = "Accounts", operation_id = "list_accounts",
    responses((status = 200, body = List<AccountView>)))]
pub async fn list(app: web::Data<App>, caller: Caller) -> Result<HttpResponse, Problem> {
    caller.may_any(&[Scope::Admin, Scope::Finance, Scope::Pay])?;
    let accounts = app.directory.accounts_of(&caller.owner);
    let data: Vec<AccountView> = accounts.iter().map(|a| shown(&app, a)).collect();
    Ok(HttpResponse::Ok().json(List {
        object: "list",
        data,
        has_more: false,
    }))
}

/// A new account.
#[utoipa::path(post, path = "/v1/accounts", tag = "Accounts", operation_id = "create_account",
    request_body = CreateAccount,
    responses((status = 201, body = AccountView),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "account_exists, clock_moved, too_many_accounts")))]
pub async fn create(
    app: web::Data<App>,
    caller: Caller,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let wanted = body.json::<CreateAccount>()?;
    text("name", &wanted.name, 64)?;
    has_room(&app, &caller)?;

    if caller.owner.is_live() && app.clock.is_with_sandbox() {
        let detail = "The sandbox's clock was moved, and this gateway's with it: a live account \
                      needs the real time. Start the gateway without a sandbox, or with a data \
                      folder that has no sandbox-book.json.";
        return Err(Problem::new(StatusCode::CONFLICT, "clock_moved", detail));
    }

    let fee_bps = fee("fee_bps", wanted.fee_bps)?;
    let opened = opened(
        &app,
        &wanted.provider,
        caller.owner.is_live(),
        wanted.credentials,
    )?;

    let identity = opened.provider.identity().to_owned();
    let exists = || {
        let detail = format!("You have an account for {identity} already; change that one.");
        Problem::new(StatusCode::CONFLICT, "account_exists", detail).about("credentials")
    };
    let is_it = |account: &Arc<Account>| {
        account.provider.name().as_str() == wanted.provider
            && account.provider.identity() == identity
    };
    if app.directory.accounts_of(&caller.owner).iter().any(is_it) {
        return Err(exists());
    }
    verifies(&app, &opened).await?;

    let _turn = app.settings_turns.of(&caller.owner.to_string()).await;
    has_room(&app, &caller)?;
    let account_id = AccountId::new().map_err(crate::payments::Error::from)?;

    let row = NewAccount {
        credentials: app
            .directory
            .vault()
            .seal(&account_id, &opened.plain)
            .map_err(|_| Problem::unavailable())?,
        id: account_id.clone(),
        owner: caller.owner.clone(),
        provider: wanted.provider.clone(),
        identity: identity.clone(),
        name: wanted.name,
        disabled: false,
        fee_bps,
        set_aside_until: None,
        set_aside_reason: None,
        terms: None,
        created_at: app.clock.now(),
    };

    if !app.store.add_account(&row).await? {
        return Err(exists());
    }
    app.directory.changed().await?;
    tracing::info!(%account_id, by = caller.key_name, "account made");
    let account = app
        .directory
        .account(&account_id)
        .ok_or_else(Problem::unavailable)?;

    Ok(HttpResponse::Created().json(shown(&app, &account)))
}

/// Whether this owner may have one more account in use.
fn has_room(app: &App, caller: &Caller) -> Result<(), Problem> {
    let accounts = app.directory.accounts_of(&caller.owner);
    if accounts.iter().filter(|a| !a.disabled).count() < MAX_ACCOUNTS {
        return Ok(());
    }
    let detail =
        format!("You have {MAX_ACCOUNTS} accounts in use in this mode; disable one first.");
    Err(Problem::new(
        StatusCode::CONFLICT,
        "too_many_accounts",
        detail,
    ))
}

/// An account's terms with these members replaced.
fn terms(
    before: Option<serde_json::Value>,
    limits: Option<Limits>,
    maintenance: Option<Vec<Window>>,
) -> Result<serde_json::Value, Problem> {
    let before: Terms = before
        .map(serde_json::from_value)
        .transpose()
        .map_err(|_| Problem::unavailable())?
        .unwrap_or_default();
    let after = Terms {
        limits: limits.unwrap_or(before.limits),
        maintenance: maintenance.unwrap_or(before.maintenance),
    };
    after.check()?;
    serde_json::to_value(after).map_err(|_| Problem::unavailable())
}

/// Refuses to switch off the last account of a flow.
async fn leaves_a_route(app: &App, row: &AccountRow) -> Result<(), Problem> {
    // What another gateway switched off since the last look counts, too.
    app.directory.refresh().await?;
    let accounts = app.directory.accounts_of(&row.owner);
    let routing = app.directory.routing_of(&row.owner);
    let before = coverage::gaps(&accounts, &routing, &|account| !account.disabled);
    let after = coverage::gaps(&accounts, &routing, &|account| {
        !account.disabled && account.id != row.id
    });
    coverage::newly_open(&before, &after).map_or(Ok(()), |flow| {
        Err(super::routing::without_route(flow, "status"))
    })
}

/// Renames, switches or re-keys an account, sets its limits and its maintenance windows. Its
/// identity never changes.
#[utoipa::path(patch, path = "/v1/accounts/{id}", tag = "Accounts", operation_id = "update_account",
    request_body = ChangeAccount,
    params(("id" = String, Path)), responses((status = 200, body = AccountView),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "version_conflict, too_many_accounts")))]
pub async fn change(
    app: web::Data<App>,
    caller: Caller,
    id: Id,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let wanted = body.json::<ChangeAccount>()?;
    let id = id.of("account")?;
    let row = async || {
        app.store
            .account_of(&caller.owner, &id)
            .await?
            .ok_or_else(|| Problem::not_found("account"))
    };
    let mut plain = None;
    if let Some(credentials) = wanted.credentials {
        let row: AccountRow = row().await?;
        let opened = opened(&app, &row.provider, row.owner.is_live(), credentials)?;
        let identity = opened.provider.identity();
        if identity != row.identity {
            let detail = format!(
                "These keys are for {identity}; this account is {}.",
                row.identity
            );
            return Err(Problem::invalid("credentials", detail));
        }
        verifies(&app, &opened).await?;
        plain = Some(opened.plain);
    }

    // Asking takes a while, and meanwhile somebody else may have changed it. What is not given
    // stays as it is then.
    let _turn = app.settings_turns.of(&caller.owner.to_string()).await;
    let mut row: AccountRow = row().await?;
    let before = row.clone();
    if let Some(name) = wanted.name {
        text("name", &name, 64)?;
        row.name = name;
    }
    if let Some(bps) = wanted.fee_bps {
        row.fee_bps = fee("fee_bps", bps)?;
    }
    if let Some(plain) = plain {
        row.credentials = app
            .directory
            .vault()
            .seal(&row.id, &plain)
            .map_err(|_| Problem::unavailable())?;
    }
    if wanted.limits.is_some() || wanted.maintenance.is_some() {
        row.terms = Some(terms(row.terms, wanted.limits, wanted.maintenance)?);
    }
    if let Some(status) = wanted.status {
        row.disabled = status == Switch::Disabled;
    }
    if row.disabled && !wanted.force {
        leaves_a_route(&app, &row).await?;
    }
    if before.disabled && !row.disabled {
        has_room(&app, &caller)?;
    }

    if !app.store.change_account(&before, &row).await? {
        let detail = "Somebody else has changed this account at the same moment; read it again.";
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "version_conflict",
            detail,
        ));
    }
    if wanted.status == Some(Switch::Active) {
        app.store.set_account_aside(&row.id, None, "").await?;
    }
    app.directory.changed().await?;
    app.directory.refresh_usage(app.clock.now()).await?;
    tracing::info!(account_id = %row.id, by = caller.key_name, "account changed");
    let account = app
        .directory
        .account(&row.id)
        .ok_or_else(Problem::unavailable)?;
    Ok(HttpResponse::Ok().json(shown(&app, &account)))
}

//! What `POST /v1/payments` takes, and what is wrong with it when it is not taken.

use std::net::IpAddr;
use std::time::Duration;

use providers::money::{Currency, Money};
use providers::order::{Flow, Shop};
use providers::{PROTOCOLS, ProviderName};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::error::Problem;
use super::fields::{flow, providers_of, receiver, text, web_address};
use super::metadata::Metadata;
use crate::app::App;
use crate::payments::pay::NewPayment;

/// What `POST /v1/payments` takes.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePayment {
    /// Fen, from 1.
    amount: i64,
    /// `CNY`
    currency: String,
    /// The merchant's own number, 1 to 64 characters.
    order_id: String,
    /// Shown to the payer: 1 to 127 characters. What a provider does not take of it, or has no room
    /// for, is left out there.
    description: String,
    /// How the payer pays: `qr` or `barcode`.
    pub(super) flow: String,
    /// Only these providers.
    #[serde(default)]
    providers: Vec<String>,
    /// For `barcode`: what was read off the payer's phone. Its first digits say whose it is.
    #[serde(default)]
    auth_code: Option<String>,
    /// For `barcode`: for how long to wait for the outcome, 0 to 30 seconds, 10 if not given; then
    /// 202 `processing`.
    #[serde(default)]
    wait: Option<u64>,
    /// Where it is paid.
    #[serde(default)]
    store: Option<NewStore>,
    /// The payer, as far as the checkout knows.
    #[serde(default)]
    payer: Option<Payer>,
    /// Where the checkout wants the payer back.
    #[serde(default)]
    return_url: Option<String>,
    /// Where this payment's webhooks go, beside those to your endpoints: an https address, public,
    /// signed with the secret that `GET /v1/notify_secret` shows.
    #[serde(default)]
    notify_url: Option<String>,
    /// For how long it can be paid: 300 to 7200 seconds, 900 if not given.
    #[serde(default)]
    expires_in: Option<i64>,
    /// The merchant's own members; at most 50, 8 KiB in all.
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: Metadata,
}

/// The payer, as far as the checkout knows.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPayer)]
pub struct Payer {
    /// The payer's address.
    #[serde(default)]
    client_ip: Option<String>,
}

impl std::fmt::Debug for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The payer's code stays out of logs.
        f.debug_struct("Checked")
            .field("payment", &self.payment)
            .finish_non_exhaustive()
    }
}

/// A shop and its till, as the merchant names them.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Store)]
pub struct NewStore {
    /// The merchant's own number of the shop: 1 to 32 letters, digits, `-` or `_`.
    id: String,
    /// Its name, 1 to 100 characters.
    #[serde(default)]
    name: Option<String>,
    /// The till: 1 to 32 letters, digits, `-` or `_`.
    #[serde(default)]
    terminal_id: Option<String>,
}

/// A request that is in order.
pub struct Checked {
    /// The payment.
    pub payment: NewPayment,
    /// What was read off the payer's phone. Never stored.
    pub auth_code: Option<String>,
    /// For how long the checkout wants to wait for a charge.
    pub wait: Option<Duration>,
}

impl CreatePayment {
    /// Checks everything that can be checked without asking anybody.
    ///
    /// # Errors
    /// A problem that names the member.
    pub fn check(self, app: &App, caller: &Caller) -> Result<Checked, Problem> {
        let max = app.config.payments.max_amount_fen;
        if !(1..=max).contains(&self.amount) {
            return Err(Problem::invalid(
                "amount",
                format!("An amount is a whole number of fen from 1 to {max}."),
            ));
        }

        if self.currency.parse() != Ok(Currency::Cny) {
            return Err(Problem::invalid("currency", "The currency must be CNY."));
        }
        let amount =
            Money::fen(self.amount).map_err(|e| Problem::invalid("amount", e.to_string()))?;
        text("order_id", &self.order_id, 64)?;
        if self.order_id.trim() != self.order_id {
            return Err(Problem::invalid(
                "order_id",
                "An order_id must not begin or end with blanks.",
            ));
        }

        text("description", &self.description, 127)?;
        let expires_in_s = self.expires_in.unwrap_or(900);

        if !(300..=7200).contains(&expires_in_s) {
            return Err(Problem::invalid(
                "expires_in",
                "expires_in is from 300 to 7200 seconds.",
            ));
        }

        let client_ip = self.payer.and_then(|payer| payer.client_ip);
        if client_ip
            .as_ref()
            .is_some_and(|ip| ip.parse::<IpAddr>().is_err())
        {
            return Err(Problem::invalid("payer.client_ip", "Not an IP address."));
        }
        let return_url = self
            .return_url
            .map(|url| web_address("return_url", &url))
            .transpose()?;

        let notify_url = self
            .notify_url
            .map(|url| receiver(app, "notify_url", &url))
            .transpose()?;
        let metadata = self.metadata.check()?;
        let flow = flow(&self.flow)?;
        let wait = wait(flow, self.wait)?;
        let providers = whose(
            flow,
            self.auth_code.as_deref(),
            providers_of(&self.providers)?,
        )?;

        let payment = NewPayment {
            owner: caller.owner.clone(),
            flow,
            providers,
            store: self.store.map(NewStore::check).transpose()?,
            order_id: self.order_id,
            amount,
            description: self.description,
            return_url,
            notify_url,
            client_ip,
            metadata,
            expires_in_s,
        };

        Ok(Checked {
            payment,
            auth_code: self.auth_code,
            wait,
        })
    }
}

impl NewStore {
    fn check(self) -> Result<Shop, Problem> {
        let number = |param: &str, value: &str| {
            let is_one = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if (1..=32).contains(&value.len()) && value.chars().all(is_one) {
                return Ok(());
            }
            Err(Problem::invalid(
                param,
                "1 to 32 letters, digits, - or _ are needed.",
            ))
        };

        number("store.id", &self.id)?;
        if let Some(name) = &self.name {
            text("store.name", name, 100)?;
        }
        if let Some(terminal_id) = &self.terminal_id {
            number("store.terminal_id", terminal_id)?;
        }

        Ok(Shop {
            id: self.id,
            name: self.name,
            terminal_id: self.terminal_id,
        })
    }
}

fn wait(flow: Flow, seconds: Option<u64>) -> Result<Option<Duration>, Problem> {
    match seconds {
        Some(_) if !flow.is_charge() => Err(Problem::invalid(
            "wait",
            "Only a barcode payment is waited for.",
        )),
        Some(seconds) if seconds > 30 => {
            Err(Problem::invalid("wait", "wait is from 0 to 30 seconds."))
        }
        Some(_) | None => Ok(seconds.map(Duration::from_secs)),
    }
}

/// Whose the payer's code is: a charge can go nowhere else.
fn whose(
    flow: Flow,
    auth_code: Option<&str>,
    asked: Vec<ProviderName>,
) -> Result<Vec<ProviderName>, Problem> {
    let code = match (flow.is_charge(), auth_code) {
        (false, None) => return Ok(asked),
        (false, Some(_)) => {
            return Err(Problem::invalid(
                "auth_code",
                "Only a barcode payment has an auth_code.",
            ));
        }
        (true, None) => {
            return Err(Problem::invalid(
                "auth_code",
                "A barcode payment needs the payer's code.",
            ));
        }
        (true, Some(code)) => code,
    };

    let knows = |p: &&providers::Protocol| {
        p.capabilities
            .charge
            .is_some_and(|charging| (charging.is_code)(code))
    };
    let Some(provider) = PROTOCOLS.iter().find(knows).map(|p| p.name) else {
        return Err(Problem::invalid(
            "auth_code",
            "No provider's payment codes look like this.",
        ));
    };

    if !asked.is_empty() && !asked.contains(&provider) {
        let detail =
            format!("This is a code of {provider}, which is not among the providers asked for.");
        return Err(Problem::invalid("auth_code", detail));
    }

    Ok(vec![provider])
}

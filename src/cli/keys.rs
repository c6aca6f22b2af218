//! `interlock key`: makes, lists and revokes API keys. Whoever may read the database's folder, or
//! has its password, is the operator, and needs no key.

use std::fmt::Write as _;

use strum::IntoEnumIterator as _;

use super::failure::Failure;
use crate::clock::Clock;
use crate::directory::issue;
use crate::domain::id::{self, MerchantId};
use crate::domain::key::{MAX_NAME, Scope, fingerprint};
use crate::domain::{Owner, Timestamp};
use crate::store::{KeyFilter, KeyRow, Store};

/// How many keys are listed.
const LISTED: u64 = 1_000;

async fn merchant_id(store: &Store, name: &str) -> Result<MerchantId, Failure> {
    let known = store
        .merchants()
        .await?
        .into_iter()
        .find(|(_, known)| known == name);
    known.map(|(id, _)| id).ok_or_else(|| {
        Failure::said(format!(
            "there is no merchant {name:?}; `interlock merchant` makes one"
        ))
    })
}

pub(super) async fn make(
    store: &Store,
    merchant: &str,
    name: Option<&str>,
    scopes: &[String],
    live: bool,
) -> Result<String, Failure> {
    let unknown = |s: &String| {
        Failure::said(format!(
            "--scopes: {s:?} is none of pay, refund, finance, admin"
        ))
    };
    let wanted: Vec<Scope> = scopes
        .iter()
        .map(|s| s.parse().map_err(|_| unknown(s)))
        .collect::<Result<_, Failure>>()?;
    let wanted: Vec<Scope> = Scope::iter()
        .filter(|scope| wanted.contains(scope))
        .collect();

    if wanted.is_empty() {
        return Err(Failure::said(
            "--scopes: a key that may do nothing is no use",
        ));
    }

    if let Some(name) = name
        && (!(1..=MAX_NAME).contains(&name.chars().count()) || name.chars().any(char::is_control))
    {
        return Err(Failure::said(format!(
            "--name: a key's name has 1 to {MAX_NAME} characters"
        )));
    }

    let merchant_id = merchant_id(store, merchant).await?;
    Ok(format!(
        "{}\n",
        issue::named_key(store, &Owner::of(merchant_id, live), name, &wanted).await?
    ))
}

pub(super) async fn list(store: &Store, merchant: &str) -> Result<String, Failure> {
    let merchant_id = merchant_id(store, merchant).await?;
    let filter = KeyFilter {
        limit: LISTED,
        ..KeyFilter::default()
    };
    let mut keys = store
        .keys_of(&Owner::of(merchant_id.clone(), false), &filter)
        .await?;

    keys.extend(
        store
            .keys_of(&Owner::of(merchant_id, true), &filter)
            .await?,
    );

    keys.sort_by_key(|key| std::cmp::Reverse(key.created_at));
    if keys.is_empty() {
        return Ok("There are no keys.\n".to_owned());
    }
    let mut text = String::new();
    for key in &keys {
        let _ = writeln!(text, "{}", line(key));
    }

    Ok(text)
}

/// `key_…  till 3  test  pay,refund  0f3a…  made …  last used …`
fn line(key: &KeyRow) -> String {
    let time = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| at.rfc3339());
    let state = match key.revoked_at {
        Some(at) => format!("revoked {}", at.rfc3339()),
        None => "in use".to_owned(),
    };
    format!(
        "{}  {}  {}  {}  {}  made {}  last used {}  {state}",
        key.id,
        if key.owner.is_live() { "live" } else { "test" },
        key.scopes.replace(' ', ","),
        fingerprint(&key.digest),
        key.name.as_deref().unwrap_or("-"),
        key.created_at.rfc3339(),
        time(key.last_used_at),
    )
}

pub(super) async fn revoke(store: &Store, clock: &Clock, id: &str) -> Result<String, Failure> {
    let version = id::token().map_err(|e| Failure::said(e.to_string()))?;
    let row = store.revoke_key(None, id, clock.now(), &version).await?;
    // What was given is not repeated: it may be a key's secret.
    let row = row.ok_or_else(|| {
        Failure::said(
            "there is no key with this id; give the one (key_…) that `interlock key list \
                       MERCHANT` shows",
        )
    })?;
    Ok(format!("{}\n", line(&row)))
}

//! `/v1/keys`: your API keys. One is made with no more than the maker may do, in the maker's mode;
//! its text is shown once. A revoked one works nowhere within a second.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Caller, Scope};
use super::body::RawBody;
use super::error::Problem;
use super::fields::text;
use super::list::{List, ListQuery, Page};
use super::request::Id;
use crate::app::App;
use crate::domain::Timestamp;
use crate::domain::id::{self, Kind};
use crate::domain::key::{self, MAX_IN_USE, MAX_NAME, fingerprint};
use crate::store::{KeyFilter, KeyRow};

/// An API key, as it can be shown: never its text.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyView {
    /// `key_…`
    pub id: String,
    /// Always `key`.
    pub object: &'static str,
    /// What people call it; null for one that was made without.
    pub name: Option<String>,
    /// How it is called in the history of changes: `changed_by` of a routing version, `by` of a
    /// word on the work list.
    pub fingerprint: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// Real money?
    pub livemode: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last used, within a minute or so.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// Since when it is worth nothing.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// A key that was just made.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NewKey {
    /// What is shown of it later.
    #[serde(flatten)]
    pub shown: KeyView,
    /// `sk_test_…` or `sk_live_…`: shown this once.
    pub key: String,
}

/// What `POST /v1/keys` takes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What people call it, 1 to 64 characters.
    name: String,
    /// What it may do: some or all of what the key may that makes it.
    #[schema(value_type = Vec<Scope>)]
    scopes: Vec<String>,
}

fn shown(app: &App, row: KeyRow) -> KeyView {
    KeyView {
        object: "key",
        fingerprint: fingerprint(&row.digest),
        scopes: key::scopes(&row.scopes),
        livemode: row.owner.is_live(),
        created_at: row.created_at,
        last_used_at: row.last_used_at.max(app.directory.key_used(&row.id)),
        revoked_at: row.revoked_at,
        name: row.name,
        id: row.id,
    }
}

/// Your keys of this mode, revoked ones too, newest first.
#[utoipa::path(get, path = "/v1/keys", tag = "Keys", operation_id = "list_keys", params(Page),
    responses((status = 200, body = List<KeyView>)))]
pub async fn list(
    app: web::Data<App>,
    caller: Caller,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let query = ListQuery::read(&request, &["limit", "starting_after"])?;
    let limit = query.limit()?;

    let starting_after = match &query.starting_after {
        Some(id) => Some(
            app.store
                .key_of(&caller.owner, id)
                .await?
                .ok_or_else(|| Problem::invalid("starting_after", "There is no such key."))?,
        ),
        None => None,
    };
    let filter = KeyFilter {
        starting_after,
        limit: limit.saturating_add(1),
    };
    let rows = app.store.keys_of(&caller.owner, &filter).await?;

    Ok(HttpResponse::Ok().json(List::page(
        rows.into_iter().map(|row| shown(&app, row)).collect(),
        limit,
    )))
}

/// What was asked for, as far as the caller may give it.
fn granted(caller: &Caller, wanted: &[String]) -> Result<Vec<Scope>, Problem> {
    let mut scopes: Vec<Scope> = Vec::new();
    for word in wanted {
        let scope: Scope = word.parse().map_err(|_| {
            Problem::invalid("scopes", "A scope is one of pay, refund, finance, admin.")
        })?;
        if !caller.scopes().contains(&scope) {
            let name: &'static str = scope.into();
            let detail =
                format!("This key does not have the scope {name:?}, so it cannot give it either.");
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).about("scopes"));
        }
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }

    match scopes.is_empty() {
        true => Err(Problem::invalid("scopes", "A key needs a scope at least.")),
        false => Ok(scopes),
    }
}

/// A new key, of your mode and with no more than yours may do. Its text is in this answer and
/// nowhere else.
#[utoipa::path(post, path = "/v1/keys", tag = "Keys", operation_id = "create_key",
    request_body = CreateKey,
    responses((status = 201, body = NewKey),
        (status = 403, body = Problem, content_type = "application/problem+json",
            description = "forbidden"),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "too_many_keys")))]
pub async fn create(
    app: web::Data<App>,
    caller: Caller,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let wanted = body.json::<CreateKey>()?;
    text("name", &wanted.name, MAX_NAME)?;
    let scopes = granted(&caller, &wanted.scopes)?;
    let _turn = app.settings_turns.of(&caller.owner.to_string()).await;
    if app.store.count_keys_of(&caller.owner).await? >= MAX_IN_USE {
        let detail = format!("You have {MAX_IN_USE} keys in this mode; revoke one first.");
        return Err(Problem::new(StatusCode::CONFLICT, "too_many_keys", detail));
    }

    let none = crate::payments::Error::from;
    let secret = key::secret(caller.owner.is_live()).map_err(none)?;
    let names: Vec<&'static str> = scopes.iter().map(|scope| (*scope).into()).collect();
    let row = KeyRow {
        id: id::new(Kind::Key).map_err(none)?,
        owner: caller.owner.clone(),
        digest: key::digest(&secret),
        name: Some(wanted.name),
        scopes: names.join(" "),
        root: Some(caller.root.clone()),
        created_at: app.clock.now(),
        last_used_at: None,
        revoked_at: None,
    };
    app.store.add_key(&row, &id::token().map_err(none)?).await?;
    app.directory.refresh().await?;

    tracing::info!(
        key_id = row.id,
        key_name = fingerprint(&row.digest),
        by = caller.key_name,
        "API key made"
    );
    Ok(HttpResponse::Created().json(NewKey {
        shown: shown(&app, row),
        key: secret,
    }))
}

/// Revokes a key for good, your own if you like. Nothing happens to one that was revoked before.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "Keys", operation_id = "revoke_key",
    params(("id" = String, Path)),
    responses((status = 200, body = KeyView)))]
pub async fn revoke(app: web::Data<App>, caller: Caller, id: Id) -> Result<HttpResponse, Problem> {
    caller.may(Scope::Admin)?;
    let version = id::token().map_err(crate::payments::Error::from)?;
    let row = app
        .store
        .revoke_key(Some(&caller.owner), &id, app.clock.now(), &version)
        .await?;
    let row = row.ok_or_else(|| Problem::not_found("key"))?;
    app.directory.refresh().await?;

    tracing::info!(
        key_id = row.id,
        key_name = fingerprint(&row.digest),
        by = caller.key_name,
        "API key revoked"
    );
    Ok(HttpResponse::Ok().json(shown(&app, row)))
}

//! `/notifications/…`: where providers tell us things.

use std::sync::Arc;

use actix_web::http::header::HeaderMap as ActixHeaders;
use actix_web::{FromRequest as _, HttpMessage as _, HttpRequest, HttpResponse, web};
use providers::notification::RawNotification;

use super::auth::RequestOwner;
use super::body::RawBody;
use super::error::Problem;
use crate::app::App;
use crate::payments::notify;
use crate::routing::account::Account;

/// A notification for an account. It is taken in its own task: whether the provider waits for our
/// answer or not, what it said is stored.
pub async fn receive(
    app: web::Data<App>,
    request: HttpRequest,
    account_id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    // Before its body is waited for: whoever sends to nobody gets nothing of our time.
    let Some(account) = named(&app, &account_id) else {
        notify::count(None, "unknown_account");
        return Err(Problem::not_found("account"));
    };

    // Too long, too slow, or it broke off.
    let body = RawBody::from_request(&request, &mut payload.into_inner()).await;
    let body = body.inspect_err(|problem| notify::count(Some(&account), problem.code))?;
    let raw = RawNotification {
        headers: headers(request.headers()),
        body: body.0,
    };
    let app = app.into_inner();
    let worker = Arc::clone(&app);
    let owner = account.owner.clone();
    let work = app.spawn(async move { notify::receive(&worker, &account, raw).await });
    let (answer, is_believed) = work.await.map_err(|_| Problem::unavailable())?;
    if is_believed {
        request.extensions_mut().insert(RequestOwner(owner));
    }
    let status = actix_web::http::StatusCode::from_u16(answer.status.as_u16())
        .map_err(|_| Problem::unavailable())?;

    Ok(HttpResponse::build(status)
        .content_type(answer.content_type)
        .body(answer.body))
}

/// Providers post; whoever looks here in another way is counted, too.
pub async fn wrong_method(
    app: web::Data<App>,
    account_id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let account = named(&app, &account_id);
    notify::count(account.as_deref(), "method_not_allowed");
    Err(Problem::wrong_method("POST"))
}

fn named(app: &App, account_id: &str) -> Option<Arc<Account>> {
    app.directory.account(&account_id.parse().ok()?)
}

/// actix-web and the adapters use different versions of the `http` crate.
fn headers(from: &ActixHeaders) -> http::HeaderMap {
    from.iter()
        .filter_map(|(name, value)| {
            let name = http::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
            Some((name, http::HeaderValue::from_bytes(value.as_bytes()).ok()?))
        })
        .collect()
}

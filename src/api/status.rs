//! `/status` and `/status.json`: the public page about which ways to pay work. Needs no key, asks
//! no database, and tells whoever stands between how long to keep it, so that a crowd costs
//! nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::auth::hex;
use super::error::Problem;
use crate::app::App;
use crate::config::Language;
use crate::incidents::status::{self, Overview};

/// For so long the same page is given to everybody.
const KEPT: Duration = Duration::from_secs(1);
const CACHE: HeaderValue =
    HeaderValue::from_static("public, max-age=10, stale-while-revalidate=30, stale-if-error=300");
/// Its own style and nothing else: no script, no picture, nothing from elsewhere.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action \
    'none'; frame-ancestors 'none'",
);

/// What is given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Page {
    Html(Language),
    Json,
}

#[derive(Debug, Clone)]
struct Rendered {
    at: Instant,
    body: web::Bytes,
    tag: HeaderValue,
}

/// Pages that were made a moment ago, for all threads that serve.
#[derive(Debug, Clone, Default)]
pub struct Pages(Arc<Mutex<HashMap<Page, Rendered>>>);

impl Pages {
    fn give(&self, app: &App, page: Page) -> Result<Rendered, Problem> {
        let mut pages = self.0.lock();
        if let Some(kept) = pages.get(&page).filter(|kept| kept.at.elapsed() < KEPT) {
            return Ok(kept.clone());
        }
        let overview = overview(app);
        let body = match page {
            Page::Html(language) => status::html(language, &overview)
                .map(String::into_bytes)
                .map_err(|e| e.to_string()),
            Page::Json => serde_json::to_vec(&overview).map_err(|e| e.to_string()),
        };

        let body = body.map_err(|error| {
            tracing::error!(error, "the public page cannot be written");
            Problem::unavailable()
        })?;
        let digest: String = hex(&Sha256::digest(&body)).chars().take(16).collect();
        let tag =
            HeaderValue::from_str(&format!("\"{digest}\"")).map_err(|_| Problem::unavailable())?;
        let rendered = Rendered {
            at: Instant::now(),
            body: body.into(),
            tag,
        };

        pages.insert(page, rendered.clone());
        Ok(rendered)
    }
}

fn overview(app: &App) -> Overview {
    status::overview(
        app.health.board(),
        &app.directory,
        &app.incidents.seen(),
        app.clock.now(),
    )
}

/// Which ways to pay work, for shoppers and merchants, in Chinese or English.
#[utoipa::path(get, path = "/status", tag = "System", operation_id = "get_status_page",
    security(()),
    params(("lang" = Option<String>, Query, description = "`zh` or `en`; otherwise what \
                                                           `Accept-Language` says")),
    responses((status = 200, body = String, content_type = "text/html"),
        (status = 304, description = "It is as you know it")))]
pub async fn page(
    app: web::Data<App>,
    pages: web::Data<Pages>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let asked = web::Query::<HashMap<String, String>>::from_query(request.query_string())
        .map_err(|_| Problem::invalid("query", "The query cannot be read."))?;
    let language = match asked.get("lang") {
        Some(lang) => lang
            .parse()
            .map_err(|_| Problem::invalid("lang", "A language is zh or en."))?,
        None => {
            let wish = request
                .headers()
                .get(header::ACCEPT_LANGUAGE)
                .and_then(|v| v.to_str().ok());
            status::preferred(wish.unwrap_or_default())
        }
    };

    let tag: &'static str = if language == Language::Zh {
        "zh-CN"
    } else {
        "en"
    };
    let mut response = answer(
        &request,
        pages.give(&app, Page::Html(language))?,
        "text/html; charset=utf-8",
    );

    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(tag));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Language"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);

    Ok(response)
}

/// The same for programs.
#[utoipa::path(get, path = "/status.json", tag = "System", operation_id = "get_status",
    security(()), responses((status = 200, body = Overview),
        (status = 304, description = "It is as you know it")))]
pub async fn json(
    app: web::Data<App>,
    pages: web::Data<Pages>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut response = answer(&request, pages.give(&app, Page::Json)?, "application/json");
    response.headers_mut().insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    Ok(response)
}

fn answer(request: &HttpRequest, page: Rendered, content_type: &'static str) -> HttpResponse {
    let known = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok());
    let is_known = known
        .zip(page.tag.to_str().ok())
        .is_some_and(|(known, tag)| known.contains(tag));
    let mut response = match is_known {
        true => HttpResponse::NotModified().finish(),
        false => HttpResponse::Ok()
            .content_type(content_type)
            .body(page.body),
    };

    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, CACHE);
    headers.insert(header::ETAG, page.tag);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );

    response
}

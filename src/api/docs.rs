//! `/docs` and `/openapi.json`. The files are in the program; an answer refers to them and is
//! written a piece at a time, so that whoever asks for a large one and does not read it takes no
//! memory.

use std::convert::Infallible;
#[cfg(feature = "docs")]
use std::sync::Arc;
use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::body::SizedStream;
#[cfg(feature = "docs")]
use actix_web::http::header::{CONTENT_ENCODING, ContentEncoding};
use actix_web::web::{self, ServiceConfig};
use bytes::Bytes;
use futures_util::stream;
use utoipa::OpenApi as _;

use super::describe::ApiDoc;
#[cfg(feature = "docs")]
use super::error::Problem;

/// Written at once.
const PIECE: usize = 16 << 10;

#[cfg(feature = "docs")]
static CONFIG: LazyLock<Arc<utoipa_swagger_ui::Config<'static>>> =
    LazyLock::new(|| Arc::new(utoipa_swagger_ui::Config::from("/openapi.json")));
static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(serde_json::to_vec(&ApiDoc::openapi()).unwrap_or_default()));

/// The description of the API, and the page that shows it where the build has one.
pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(web::resource("/openapi.json").get(document));
    #[cfg(feature = "docs")]
    config
        .service(web::redirect("/docs", "/docs/"))
        .service(web::resource("/docs/{_:.*}").get(file));
}

/// The description of the API.
async fn document() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .body(in_pieces(DOCUMENT.clone()))
}

/// A file of the page that shows it.
///
/// # Errors
/// There is no such file.
#[cfg(feature = "docs")]
async fn file(path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let found = utoipa_swagger_ui::serve(&path, Arc::clone(&CONFIG))
        .ok()
        .flatten();
    let file = found.ok_or_else(|| Problem::not_found("page"))?;
    let bytes = match file.bytes {
        std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
    };

    let mut answer = HttpResponse::Ok();
    if file.gzpipped {
        answer.insert_header((CONTENT_ENCODING, ContentEncoding::Gzip));
    }
    Ok(answer
        .content_type(file.content_type)
        .body(in_pieces(bytes)))
}

fn in_pieces(
    bytes: Bytes,
) -> SizedStream<impl futures_util::Stream<Item = Result<Bytes, Infallible>> + use<>> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let pieces = (0..bytes.len()).step_by(PIECE);
    let pieces =
        pieces.map(move |from| Ok(bytes.slice(from..bytes.len().min(from.saturating_add(PIECE)))));
    SizedStream::new(length, stream::iter(pieces))
}

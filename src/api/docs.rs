//! `/docs` and `/openapi.json`. The files are in the program; an answer refers to them and is written a piece at a time, so
//! that whoever asks for a large one and does not read it takes no memory.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use actix_web::body::SizedStream;
use actix_web::http::header::{CONTENT_ENCODING, ContentEncoding};
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use utoipa::OpenApi as _;
use utoipa_swagger_ui::Config;

use super::describe::ApiDoc;
use super::error::Problem;

/// Written at once.
const PIECE: usize = 16 << 10;

static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| Arc::new(Config::from("/openapi.json")));
static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(serde_json::to_vec(&ApiDoc::openapi()).unwrap_or_default()));

/// The description of the API.
pub async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(in_pieces(DOCUMENT.clone()))
}

/// A file of the page that shows it.
///
/// # Errors
/// There is no such file.
pub async fn file(path: web::Path<String>) -> Result<HttpResponse, Problem> {
    let found = utoipa_swagger_ui::serve(&path, Arc::clone(&CONFIG)).ok().flatten();
    let file = found.ok_or_else(|| Problem::not_found("page"))?;
    let bytes = match file.bytes {
        std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
    };

    let mut answer = HttpResponse::Ok();
    if file.gzpipped {
        answer.insert_header((CONTENT_ENCODING, ContentEncoding::Gzip));
    }
    Ok(answer.content_type(file.content_type).body(in_pieces(bytes)))
}

fn in_pieces(bytes: Bytes) -> SizedStream<impl futures_util::Stream<Item = Result<Bytes, Infallible>> + use<>> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let pieces = (0..bytes.len()).step_by(PIECE);
    let pieces = pieces.map(move |from| Ok(bytes.slice(from..bytes.len().min(from.saturating_add(PIECE)))));
    SizedStream::new(length, stream::iter(pieces))
}

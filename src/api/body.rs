//! Reading bodies: at most so many bytes in at most so much time, strict JSON, and an error that
//! names the member.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_ENCODING;
use actix_web::{FromRequest, HttpRequest, dev, web};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use super::error::Problem;
use super::objects::Objects;
use crate::app::App;

/// A body as it came in: signatures are over these bytes.
#[derive(Debug, Clone)]
pub struct RawBody(pub bytes::Bytes);

impl FromRequest for RawBody {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let limits =
            request
                .app_data::<web::Data<App>>()
                .map_or((65_536, Duration::from_secs(10)), |app| {
                    (
                        app.config.server.max_body_bytes,
                        app.config.server.body_timeout,
                    )
                });
        let payload = payload.take();
        let is_plain = is_plain(request);

        Box::pin(async move {
            if !is_plain {
                let detail =
                    "Bodies are read as they are: send this one without a Content-Encoding.";
                let problem = Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "content_encoding_not_supported",
                    detail,
                );
                return Err(problem.about("Content-Encoding"));
            }
            let (max_bytes, timeout) = limits;
            match tokio::time::timeout(timeout, read(payload, max_bytes)).await {
                Ok(read) => read.map(Self),
                Err(_) => {
                    let seconds = timeout.as_secs();
                    let detail = format!("The body did not come in within {seconds} seconds.");
                    Err(
                        Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
                            .about("body"),
                    )
                }
            }
        })
    }
}

/// Whether a body is sent as it is. What is not would be read as something that nobody has said.
fn is_plain(request: &HttpRequest) -> bool {
    let is_none = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
    let mut values = request.headers().get_all(CONTENT_ENCODING);
    values.all(|value| {
        value
            .to_str()
            .is_ok_and(|codings| codings.split(',').all(|coding| is_none(coding.trim())))
    })
}

async fn read(mut payload: dev::Payload, max_bytes: usize) -> Result<bytes::Bytes, Problem> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_body",
                "The body broke off.",
            )
            .about("body")
        })?;
        if body.len() + chunk.len() > max_bytes {
            let detail = format!("The body has more than {max_bytes} bytes.");
            return Err(
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail).about("body"),
            );
        }
        body.extend_from_slice(&chunk);
    }

    Ok(body.freeze())
}

impl RawBody {
    /// As [`Self::json`]; no body at all is an object without members.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.0.is_empty() {
            Ok(T::default())
        } else {
            self.json()
        }
    }

    /// Reads strict JSON: every member once and known, every value of its type.
    ///
    /// # Errors
    /// 400 for what is not such JSON, 422 for members that are unknown or of a wrong type; both
    /// name the member.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let mut checker = serde_json::Deserializer::from_slice(&self.0);
        let unique = Unique {
            path: String::new(),
        }
        .deserialize(&mut checker)
        .and_then(|()| checker.end());

        unique.map_err(|e| {
            let text = e.to_string();
            let named = |start| {
                text.strip_prefix(start)
                    .and_then(|rest| rest.split(" at line").next())
            };
            if let Some(param) = named("reserved member ") {
                return Problem::invalid(param, "No member can be called like this.");
            }
            let param = named("duplicate member ");
            let param = param.unwrap_or("body").to_owned();
            Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_body",
                format!("Not strict JSON: {text}."),
            )
            .about(param)
        })?;

        let mut reader = serde_json::Deserializer::from_slice(&self.0);
        serde_path_to_error::deserialize(Objects(&mut reader)).map_err(|e| {
            let text = e.inner().to_string();
            let text = text.split(" at line").next().unwrap_or_default().to_owned();
            // A missing or unknown member is named by the text, not by the path.
            let named = ["missing field `", "unknown field `"]
                .iter()
                .find_map(|start| text.strip_prefix(start))
                .and_then(|rest| rest.split('`').next());
            let path = e.path().to_string();
            let param = match (path.as_str(), named) {
                (".", Some(name)) => name.to_owned(),
                (".", None) => "body".to_owned(),
                (path, Some(name)) if !path.ends_with(name) => format!("{path}.{name}"),
                (path, _) => path.to_owned(),
            };
            Problem::invalid(param, format!("{}.", without_value(&text)))
        })
    }
}

/// What serde says, without the value that it found there: that may be a key in the wrong place.
fn without_value(text: &str) -> String {
    let is_about_a_value = !text.starts_with("unknown field") && !text.starts_with("missing field");
    match text.rsplit_once(", expected ").filter(|_| is_about_a_value) {
        Some((_, expected)) => {
            let number = ["i64", "i32", "u64", "usize"].contains(&expected);
            format!(
                "expected {}",
                if number { "a whole number" } else { expected }
            )
        }
        None => text.to_owned(),
    }
}

/// What serde_json itself calls members.
const RESERVED: &str = "$serde_json::private::";

/// Accepts any JSON in which no object has a member twice: serde takes the last one silently,
/// others the first.
struct Unique {
    path: String,
}

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0_usize;
        while seq
            .next_element_seed(Self {
                path: format!("{}[{index}]", self.path),
            })?
            .is_some()
        {
            index += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let path = if self.path.is_empty() {
                name.clone()
            } else {
                format!("{}.{name}", self.path)
            };
            // Inside of a value serde_json would take what this holds for JSON of its own,
            // unchecked.
            if name.starts_with(RESERVED) {
                return Err(A::Error::custom(format!("reserved member {path}")));
            }
            if !seen.insert(name) {
                return Err(A::Error::custom(format!("duplicate member {path}")));
            }
            map.next_value_seed(Self { path })?;
        }

        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only its reading is tested")]
        amount: i64,
        #[serde(default)]
        #[expect(dead_code, reason = "only its reading is tested")]
        inner: Option<Inner>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only its reading is tested")]
        id: String,
    }

    fn problem(text: &str) -> (u16, String) {
        let problem = RawBody(text.to_owned().into())
            .json::<Sample>()
            .unwrap_err();
        (problem.status, problem.param.unwrap())
    }

    #[test]
    fn every_fault_names_its_member() {
        for (text, status, param) in [
            ("", 400, "body"),
            ("{", 400, "body"),
            ("[]", 422, "body"),
            (r#"{"amount":1} x"#, 400, "body"),
            (r#"{"amount":1,"amount":2}"#, 400, "amount"),
            (
                r#"{"amount":1,"inner":{"id":"a","id":"b"}}"#,
                400,
                "inner.id",
            ),
            (r#"{"amount":1.5}"#, 422, "amount"),
            (r#"{"amount":"1"}"#, 422, "amount"),
            (r#"{"amount":1,"more":1}"#, 422, "more"),
            (r#"{}"#, 422, "amount"),
            (r#"{"amount":1,"inner":{"id":5}}"#, 422, "inner.id"),
            (r#"{"amount":1,"inner":{"id":"a","x":5}}"#, 422, "inner.x"),
            (r#"{"amount":1,"inner":{}}"#, 422, "inner.id"),
        ] {
            assert_eq!(problem(text), (status, param.to_owned()), "{text}");
        }

        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(problem(&deep), (400, "body".to_owned()));
    }
}

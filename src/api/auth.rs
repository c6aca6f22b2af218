//! Who calls: an API key in `Authorization: Bearer`. Keys are stored as digests; they are 128 random bits or more,
//! so a plain SHA-256 is enough.

use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, dev, web};
use futures_util::future::LocalBoxFuture;
use sha2::{Digest as _, Sha256};

use super::admission::Admission;
use super::error::Problem;
use crate::app::App;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Scope {
    /// Make, read and cancel payments.
    Pay,
    /// Give money back.
    Refund,
    /// Read everything about money.
    Finance,
    /// Accounts, routing, webhook endpoints, keys.
    Admin,
}

/// The caller, by its key.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose key it is.
    pub merchant_id: String,
    /// Real money?
    pub livemode: bool,
    /// The first characters of the key's digest: names the key in the history of changes.
    pub key_name: String,
    scopes: Vec<Scope>,
}

impl Caller {
    /// Whether the key may do this.
    ///
    /// # Errors
    /// 403.
    pub fn may(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let name: &'static str = scope.into();
        let detail = format!("This key does not have the scope {name:?}.");
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
    }

    /// Whether the key may do one of these.
    ///
    /// # Errors
    /// 403, naming the first.
    pub fn may_any(&self, scopes: &[Scope]) -> Result<(), Problem> {
        match scopes.iter().any(|scope| self.scopes.contains(scope)) {
            true => Ok(()),
            false => scopes.first().map_or(Ok(()), |scope| self.may(*scope)),
        }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let app = request.app_data::<web::Data<App>>().cloned();
        let admission = request.app_data::<web::Data<Admission>>().cloned();
        let request = request.clone();
        let header = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok()).map(str::to_owned);
        Box::pin(async move {
            let (app, admission) = app.zip(admission).ok_or_else(Problem::unavailable)?;
            let key = header
                .as_deref()
                .and_then(|h| h.split_once(' '))
                .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
            let Some((_, key)) = key else {
                return Err(unauthorized("Give an API key: `Authorization: Bearer sk_…`."));
            };
            let digest = digest(key.trim());
            let row = app.directory.key(&digest).await?.ok_or_else(|| unauthorized("This API key is not known."))?;
            admission.request(&request, &row.merchant_id)?;
            Ok(Self {
                merchant_id: row.merchant_id,
                livemode: row.livemode,
                key_name: digest.chars().take(12).collect(),
                scopes: row.scopes.split_whitespace().filter_map(|s| s.parse().ok()).collect(),
            })
        })
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).about("Authorization")
}

/// A key as it is stored.
#[must_use]
pub fn digest(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes()))
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

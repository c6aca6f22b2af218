//! Who calls: an API key in `Authorization: Bearer`.

use actix_web::http::header::AUTHORIZATION;
use actix_web::http::{Method, StatusCode};
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev, web};
use futures_util::future::LocalBoxFuture;

use super::admission::Admission;
use super::error::Problem;
use super::strangers::Strangers;
use crate::app::App;
use crate::domain::Owner;
use crate::domain::key;
pub use crate::domain::key::{Scope, digest, hex};

/// The caller, by its key.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose key it is: the merchant, in the key's mode.
    pub owner: Owner,
    /// The first characters of the key's digest: names the key in the history of changes.
    pub key_name: String,
    /// `key_name` of the first in the chain of keys that made this one: whoever had that one may
    /// have this one, too.
    pub root: String,
    scopes: Vec<Scope>,
}

/// Whose request it is, for those who see it when it has been answered.
#[derive(Debug, Clone)]
pub struct RequestOwner(pub Owner);

impl Caller {
    /// What the key may do.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

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
        let strangers = request.app_data::<web::Data<Strangers>>().cloned();
        let request = request.clone();
        let mut headers = request.headers().get_all(AUTHORIZATION);
        let header = headers
            .next()
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let is_alone = headers.next().is_none();

        Box::pin(async move {
            let (app, (admission, strangers)) = app
                .zip(admission.zip(strangers))
                .ok_or_else(Problem::unavailable)?;
            if !is_alone {
                strangers.count(&request)?;
                let detail = "There is more than one Authorization header: whose request is it?";
                let problem =
                    Problem::new(StatusCode::BAD_REQUEST, "authorization_repeated", detail);
                return Err(problem.about("Authorization"));
            }
            let given = header
                .as_deref()
                .and_then(|h| h.split_once(' '))
                .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
            let Some((_, given)) = given else {
                strangers.count(&request)?;
                return Err(unauthorized(
                    "Give an API key: `Authorization: Bearer sk_…`.",
                ));
            };
            let digest = digest(given.trim());
            if !app.directory.knows_key(&digest) {
                strangers.count(&request)?;
            }
            let known = app
                .directory
                .key(&digest)
                .await?
                .ok_or_else(|| unauthorized("This API key is not known."))?;
            request
                .extensions_mut()
                .insert(RequestOwner(known.row.owner.clone()));
            known.use_at(app.clock.now());
            let row = &known.row;
            admission.request(&request, &row.owner)?;
            if request.method() == Method::GET {
                admission.reading(&request, &row.owner).await?;
            }
            let key_name = key::fingerprint(&digest);
            Ok(Self {
                owner: row.owner.clone(),
                root: row.root.clone().unwrap_or_else(|| key_name.clone()),
                key_name,
                scopes: key::scopes(&row.scopes),
            })
        })
    }
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail).about("Authorization")
}

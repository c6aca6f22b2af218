//! How a request is done once: whoever comes first does it, and whoever comes again is told what
//! was made of it. Payments, offers and refunds differ in what stands under their keys, and in
//! nothing else. (The header is read in [`super::idempotency`].)

use actix_web::HttpResponse;
use actix_web::http::StatusCode;

use super::error::Problem;
use super::idempotency::{self, Once, STORED_WITHIN};
use crate::app::App;
use crate::domain::Aggregate;
use crate::payments;
use crate::store::change::{Key, KeyScope, StoredAnswer};

/// Why a request that came first has made nothing.
pub(super) enum NotMade {
    /// It did not come first.
    KeyTaken,
    /// Its order number is another payment's.
    OrderTaken,
    /// Anything else.
    Refused(Box<Problem>),
}

/// What a key stands for: a payment, or a refund.
pub(super) trait Subject: Sized {
    /// Whether an answer still tells how it is.
    fn is_told_by(&self, answer: &StoredAnswer) -> bool;

    /// Why the first request may still be at work on it, if it may.
    fn under_way(&self, app: &App) -> Option<Problem>;

    /// As it is now.
    async fn reload(&self, app: &App) -> Result<Self, Problem>;

    /// What a client sees of it.
    async fn view(&self, app: &App, status: StatusCode) -> Result<HttpResponse, Problem>;
}

/// How a request goes on whose key is known.
pub(super) enum Known<S> {
    /// It is answered.
    Answered(HttpResponse),
    /// Nobody has answered it, and nobody is at work on it: this one goes on from there.
    TakenOver(Key, S),
}

/// The key is known: the same answer again, while it tells what is; otherwise what is.
///
/// # Errors
/// 422 when the key was used for another request, 409 while that one is at work, 503 when the claim
/// was given back meanwhile: the client simply repeats.
pub(super) async fn known<S: Subject>(
    app: &App,
    once: &Once,
    subject: impl FnOnce(Aggregate, &Key) -> Option<S>,
) -> Result<Known<S>, Problem> {
    let found = app.store.key_with_payment(&once.scope).await?;
    let Some((stored, aggregate)) = found else {
        return Err(Problem::unavailable());
    };
    if !once.is(&stored.key) || aggregate.payment.owner != once.scope.owner {
        return Err(idempotency::reused());
    }
    let subject = subject(aggregate, &stored.key).ok_or_else(Problem::unavailable)?;

    if let Some(answer) = stored.answer {
        return Ok(Known::Answered(match subject.is_told_by(&answer) {
            true => idempotency::replay(answer),
            false => subject.view(app, StatusCode::OK).await?,
        }));
    }
    match subject.under_way(app) {
        Some(problem) => Err(problem),
        None => Ok(Known::TakenOver(stored.key, subject)),
    }
}

/// Stores what is told, if nothing is stored yet, and says what stands: what is told now is what
/// the same key is told again.
///
/// # Errors
/// 503: the client repeats, with the same key.
pub(super) async fn store(
    app: &App,
    scope: &KeyScope,
    answer: StoredAnswer,
) -> Result<StoredAnswer, Problem> {
    let storing = tokio::time::timeout(STORED_WITHIN, app.store.answer_key(scope, answer));
    let stands = storing.await.map_err(|_| Problem::unavailable())?;
    Ok(stands.map_err(payments::Error::from)?)
}

/// The answer that stands under a key, while it tells how its subject is; otherwise the subject as
/// it is.
///
/// # Errors
/// 503.
pub(super) async fn tell<S: Subject>(
    app: &App,
    subject: S,
    stands: StoredAnswer,
) -> Result<HttpResponse, Problem> {
    if subject.is_told_by(&stands) {
        return Ok(idempotency::answer(stands));
    }

    // Somebody was first, and may have told of something that is newer than this.
    let now = subject.reload(app).await?;
    match now.is_told_by(&stands) {
        true => Ok(idempotency::answer(stands)),
        false => now.view(app, StatusCode::OK).await,
    }
}

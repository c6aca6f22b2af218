//! Keeping an account out of new payments for a while, since its provider refuses it, or nothing
//! that it is answered can be verified. A person is told.

use providers::outcome::Failure;

use super::Error;
use crate::app::App;
use crate::domain::operation::ReviewKind;
use crate::routing::account::Account;
use crate::store::change::ReviewItem;

/// Beyond this a provider refuses what was signed by a clock like ours, and says so in many ways.
pub const CLOCK_OFF_MS: i64 = 60_000;

/// Keeps the account out of new payments for a while, and puts it on the work list. When this is
/// lost (the process dies here), the next payment meets the same refusal and does it again.
///
/// A refusal while this gateway's clock is minutes off is the clock's: another account would be
/// refused as well, and this one would stay out for longer than the clock is wrong.
pub async fn suspend(app: &App, account: &Account, failure: &Failure) {
    let ahead_ms = app.directory.providers_ahead_ms(&app.clock);
    if ahead_ms.saturating_abs() > CLOCK_OFF_MS {
        tracing::error!(
            account_id = %account.id,
            code = failure.code,
            ahead_ms,
            "the provider refuses this account, and no provider's clock is near this gateway's: it \
            is not set aside"
        );
        return;
    }

    tracing::error!(
        account_id = %account.id,
        code = failure.code,
        "the provider refuses this account; set aside"
    );

    let (mode, provider) = (
        account.owner.mode.as_str(),
        account.provider.name().as_str(),
    );
    metrics::counter!("interlock_accounts_set_aside_total", "mode" => mode, "provider" => provider)
        .increment(1);

    if let Err(error) = written(app, account, failure).await {
        tracing::error!(account_id = %account.id, %error, "the account could not be set aside");
    }
}

async fn written(app: &App, account: &Account, failure: &Failure) -> Result<(), Error> {
    let now = app.clock.now();
    let until = now.plus(app.config.payments.account_set_aside);
    app.store
        .set_account_aside(&account.id, Some(until), &failure.code)
        .await?;
    let detail = format!("{}: {}", failure.code, failure.message);

    app.store
        .raise(&ReviewItem::new(
            &account.owner,
            ReviewKind::AccountRefused,
            &account.id,
            detail,
            now,
        )?)
        .await?;

    app.directory
        .changed()
        .await
        .map_err(|e| Error::Missing(e.to_string()))
}

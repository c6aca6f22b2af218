//! What an operator should hear at the start although everything works: it is right for trying, and
//! not in production.

use std::net::SocketAddr;

use crate::app::App;
use crate::domain::AllOwners;

/// Whether somebody on another machine can come by this address.
fn is_public(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// Everything that is worth a warning.
#[must_use]
pub fn of(app: &App, address: SocketAddr, has_sandbox: bool) -> Vec<String> {
    let config = &app.config;
    let mut all = Vec::new();

    if app.hold.is_on() {
        all.push(
            "this installation was brought back from a backup: live payments and refunds are \
            answered 503 until `interlock doctor --restored` has asked the providers, and \
            `interlock restore --go`"
                .to_owned(),
        );
    }

    if is_public(address) && !app.public_url.starts_with("https://") {
        all.push(format!(
            "this gateway listens on {address}, which others reach, and server.public_url is no \
            https address: API keys and what providers say go over the network as they are"
        ));
    }

    if has_sandbox
        && app
            .directory
            .accounts(AllOwners)
            .iter()
            .any(|account| account.owner.is_live())
    {
        all.push(
            "the sandbox is on beside live accounts: whoever reaches it can pay and break what is \
            not real; in production: sandbox.listen = \"off\""
                .to_owned(),
        );
    }

    if !config.providers.allow_networks.is_empty() {
        let networks: Vec<String> = config
            .providers
            .allow_networks
            .iter()
            .map(ToString::to_string)
            .collect();
        all.push(format!(
            "providers.allow_networks lets accounts in test mode be at any address in {}: for \
            drills",
            networks.join(", ")
        ));
    }

    all
}

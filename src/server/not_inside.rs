//! A build without a sandbox inside: one that runs elsewhere can be used, and none can be started.

use std::path::Path;
use std::sync::Arc;

use super::sandbox_side::{SandboxSide, control_address};
use crate::app::App;
use crate::installation::StartError;

/// There is never one.
#[derive(Debug)]
pub struct Sandbox(());

/// Starts none.
pub(super) async fn start(address: &str, _: &Path) -> Result<(Sandbox, SandboxSide), StartError> {
    control_address(address)?;
    let detail = "this build has none inside: sandbox.listen is off, or the http address of one \
                  that runs elsewhere";
    Err(StartError::Sandbox(detail.to_owned()))
}

pub(super) async fn take_along(_: &Arc<App>, _: &Sandbox) {}

pub(super) async fn stop(_: Sandbox, _: &Path) {}

//! The ways between gateways and servers that a stage has not made: through proxies, which can be
//! cut.

use super::parts::in_vain;
use crate::drill::error::Error;
use crate::drill::proxy::Proxy;

/// A proxy before the server of this address.
pub(super) async fn proxied(url: Option<&str>) -> Result<Option<Proxy>, Error> {
    let Some(url) = url else { return Ok(None) };
    let parsed = url::Url::parse(url).map_err(|e| Error(format!("an address: {e}")))?;
    let default = if parsed.scheme().starts_with("redis") {
        6_379
    } else {
        5_432
    };

    let host = parsed.host_str().unwrap_or("127.0.0.1").to_owned();
    let target = tokio::net::lookup_host((host.as_str(), parsed.port().unwrap_or(default)))
        .await
        .map_err(in_vain("an address"))?
        .next()
        .ok_or_else(|| Error(format!("{host} has no address")))?;

    Proxy::start_before(target)
        .await
        .map(Some)
        .map_err(in_vain("proxy"))
}

/// The same address through a proxy.
pub(super) fn through(url: &str, proxy: &Proxy) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) => {
            let _ = parsed.set_ip_host(proxy.address.ip());
            let _ = parsed.set_port(Some(proxy.address.port()));
            parsed.to_string()
        }
        Err(_) => url.to_owned(),
    }
}

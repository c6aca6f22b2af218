//! Section `providers`: where accounts may be. A wrong address is told with its place in the list,
//! and not repeated when it could hold a password.

use std::str::FromStr;

use ipnet::IpNet;
use providers::ProviderName;
use providers::http::base_address;
use providers::provider::AddressKind;
use serde::Deserialize;

use super::list::list;

/// Section `providers`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/default.toml describes every key")]
pub struct Providers {
    #[serde(deserialize_with = "list")]
    pub addresses: Vec<ListedAddress>,
    #[serde(deserialize_with = "list")]
    pub allow_networks: Vec<IpNet>,
}

/// An address that accounts at a provider may have beside those that everybody has: `alipay api
/// https://…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedAddress {
    /// Whose.
    pub provider: ProviderName,
    /// For what.
    pub kind: AddressKind,
    /// `https://host`, or `http://host` for accounts in test mode alone.
    pub base: String,
}

impl ListedAddress {
    /// Whether accounts with real money may have it.
    #[must_use]
    pub fn is_for_live(&self) -> bool {
        self.base.starts_with("https://")
    }
}

impl FromStr for ListedAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [provider, kind, address] = words.as_slice() else {
            return Err("an address is given as: alipay api https://host");
        };
        let base = base_address(address)
            .map_err(|_| "an address is http:// or https://, a host and perhaps a port")?;
        Ok(Self {
            provider: provider
                .parse()
                .map_err(|_| "begins with a provider: alipay, wechatpay or unionpay")?,
            kind: kind
                .parse()
                .map_err(|_| "its second word says what for: api, pages or oauth")?,
            base: base.origin().ascii_serialization(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_its_provider_what_it_is_for_and_a_host() {
        let read: ListedAddress = "wechatpay api https://Pay.Example:8443/".parse().unwrap();
        assert_eq!(
            (read.base.as_str(), read.is_for_live()),
            ("https://pay.example:8443", true)
        );
        assert!(
            !"alipay pages http://10.1.2.3"
                .parse::<ListedAddress>()
                .unwrap()
                .is_for_live()
        );

        for wrong in [
            "",
            "https://pay.example",
            "paypal api https://pay.example",
            "alipay files https://pay.example",
            "alipay api pay.example",
            "alipay api https://pay.example/gateway.do",
            "alipay api https://me@pay.example",
            "alipay api https://pay.example?x=",
            "alipay api https://pay.example live",
        ] {
            assert!(wrong.parse::<ListedAddress>().is_err(), "{wrong}");
        }
    }
}

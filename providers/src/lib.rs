//! The protocols of Alipay, WeChat Pay and UnionPay, and nothing else: no database, no clock, no
//! routing.
//!
//! * [`provider`] – the trait, the capabilities, names;
//! * [`money`], [`order`], [`outcome`], [`reason`], [`notification`] – what crosses the trait;
//! * [`address`], [`http`], [`signing`], and within this crate `charset` and `text` – what adapters
//!   share;
//! * [`layer`] – wrappers around any provider; [`layer::stack`] fixes their order;
//! * [`alipay`], [`wechatpay`], [`unionpay`] – the adapters, each with its simulator;
//! * [`sandbox`] – one server that speaks all of these protocols from the other side (feature
//!   `sandbox`);
//! * `conformance` – the suite that every provider passes, and `memory`, a provider without a
//!   network (feature `testing`).

pub mod address;
pub mod alipay;
mod charset;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(test)]
#[path = "../../tests/fuzz/driver.rs"]
mod fuzz;
pub mod http;
pub mod layer;
#[cfg(any(test, feature = "testing"))]
pub mod memory;
pub mod money;
pub mod notification;
pub mod order;
pub mod outcome;
pub mod provider;
pub mod reason;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod signing;
mod text;
pub mod unionpay;
pub mod wechatpay;

pub use provider::{Capabilities, Protocol, Provider, ProviderName, protocol};

/// The one list of providers, in the order in which a merchant without a rule uses them.
pub static PROTOCOLS: &[Protocol] = &[alipay::PROTOCOL, wechatpay::PROTOCOL, unionpay::PROTOCOL];

/// The same providers, seen from the other side.
#[cfg(feature = "sandbox")]
pub static SIMULATORS: &[sandbox::simulator::SimulatedProvider] = &[
    alipay::simulator::SIMULATOR,
    wechatpay::simulator::SIMULATOR,
    unionpay::simulator::SIMULATOR,
];

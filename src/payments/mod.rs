//! What is done with payments. A verb is a file of its own: it reads a payment, calls its provider
//! if it has to, and hands what it has learned to [`transition`], which says what that means;
//! [`commit`] writes it, and decides again when somebody else was first. No transaction is open
//! while a provider is called.
//!
//! * [`transition`] – what a fact means for a payment: pure, asks nobody, writes nothing;
//! * [`commit`] – the one loop of compare-and-set, and what is told of each change;
//! * [`call`] – every provider call on the path of money;
//! * [`plan`] and [`settle`] – before a creating call, and after it; `unwritten` – an outcome that
//!   cannot be written yet; `conditions` – what of the gateway a transition may know;
//! * [`view`] – what merchants see and are told.

mod auto_refund;
pub mod call;
pub mod cancel;
pub mod commit;
mod conditions;
mod console_refund;
mod error;
#[cfg(feature = "testing")]
mod mutations;
pub mod notify;
pub mod offer;
pub mod pay;
pub mod plan;
pub mod queue;
pub mod refund;
pub mod resolve;
mod reverse;
mod settle;
pub mod suspend;
pub mod transition;
mod unwritten;
pub mod view;
pub mod work_list;

pub use self::error::Error;

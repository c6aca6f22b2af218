//! Members that several calls take: texts, addresses, flows, providers, kinds of events. Each is
//! read in one way, and what is wrong with it is said in one way.

use providers::order::Flow;
use providers::{ProviderName, address};
use unicode_properties::UnicodeEmoji as _;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::error::Problem;
use crate::app::App;
use crate::payments::view::events::KINDS;

/// A kind of event.
#[derive(Debug)]
pub struct EventType;

impl PartialSchema for EventType {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(KINDS.iter().copied()))
            .into()
    }
}

impl ToSchema for EventType {}

pub(super) fn kinds(events: &[String]) -> Result<(), Problem> {
    for (index, kind) in events.iter().enumerate() {
        let param = || format!("events[{index}]");
        if !KINDS.contains(&kind.as_str()) {
            return Err(Problem::invalid(
                param(),
                format!("An event is one of {}.", KINDS.join(", ")),
            ));
        }
        if events.iter().take(index).any(|earlier| earlier == kind) {
            return Err(Problem::invalid(param(), "Each event is named once."));
        }
    }
    Ok(())
}

pub(super) fn flow(text: &str) -> Result<Flow, Problem> {
    text.parse().map_err(|_| {
        Problem::invalid(
            "flow",
            "A flow is one of qr, barcode, page, h5, app, jsapi; your accounts tell which they \
            serve.",
        )
    })
}

pub(super) fn providers_of(names: &[String]) -> Result<Vec<ProviderName>, Problem> {
    let mut providers = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let param = || format!("providers[{index}]");
        let known: Vec<&str> = providers::PROTOCOLS
            .iter()
            .map(|p| p.name.as_str())
            .collect();
        let provider: ProviderName = name.parse().map_err(|_| {
            Problem::invalid(
                param(),
                format!("A provider is one of {}.", known.join(", ")),
            )
        })?;
        if providers.contains(&provider) {
            return Err(Problem::invalid(param(), "Each provider is named once."));
        }
        providers.push(provider);
    }

    Ok(providers)
}

/// 1 to `max` characters, none of them a control character or one that nobody sees.
pub(super) fn text(param: &str, value: &str, max: usize) -> Result<(), Problem> {
    let length = value.chars().count();
    if !(1..=max).contains(&length) || value.chars().any(char::is_control) {
        let detail = format!("1 to {max} characters without control characters are needed.");
        return Err(Problem::invalid(param, detail));
    }
    seen(param, value)
}

/// That nothing in a text is hidden from whoever reads it.
pub(super) fn seen(param: &str, value: &str) -> Result<(), Problem> {
    match hidden(value) {
        None => Ok(()),
        Some(hidden) => {
            let detail = format!(
                "The invisible character U+{:04X} must not be in it.",
                u32::from(hidden)
            );
            Err(Problem::invalid(param, detail))
        }
    }
}

/// A character that is not seen, and makes a text look like another one: what turns the direction
/// of writing, and blanks without a width. A joiner joins two emoji and nothing else.
fn hidden(text: &str) -> Option<char> {
    let is_emoji = |c: &char| (!c.is_ascii() && c.is_emoji_char()) || *c == '\u{FE0F}';
    let characters: Vec<char> = text.chars().collect();
    let joins = |at: usize| {
        let before = at.checked_sub(1).and_then(|at| characters.get(at));
        before.is_some_and(is_emoji) && characters.get(at + 1).is_some_and(is_emoji)
    };
    let is_hidden = |(at, c): &(usize, &char)| match c {
        '\u{061C}'
        | '\u{200E}'
        | '\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}' => true,
        '\u{200B}' | '\u{2060}' | '\u{FEFF}' => true,
        '\u{200D}' => !joins(*at),
        _ => false,
    };

    characters
        .iter()
        .enumerate()
        .find(is_hidden)
        .map(|(_, c)| *c)
}

/// An address for the payer's browser, as it is kept.
pub(super) fn web_address(param: &str, url: &str) -> Result<String, Problem> {
    match address::read(url) {
        Ok(read) => Ok(address::kept(url, &read)),
        Err(bad) => Err(Problem::invalid(param, format!("The address {bad}."))),
    }
}

/// An address that webhooks may go to, as it is kept.
pub(super) fn receiver(app: &App, param: &str, url: &str) -> Result<String, Problem> {
    match app.webhooks.guard().check(url) {
        Ok(read) => Ok(address::kept(url, &read)),
        Err(forbidden) => Err(Problem::invalid(param, format!("The address {forbidden}."))),
    }
}

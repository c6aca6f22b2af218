//! Names: a type that shares its schema with another, or a call that shares its id, is lost to whoever makes a client.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::helpers::TestApp;
use crate::helpers::contract::Contract;
use crate::tidy::sources;

/// The name of the type's schema that is declared at the beginning of this text.
fn schema_name(declaration: &str) -> Option<String> {
    let head = declaration.find("pub struct ").into_iter().chain(declaration.find("pub enum ")).min()?;
    let (attributes, rest) = declaration.split_at(head);
    if let Some((_, named)) = attributes.split_once("#[schema(as = ") {
        return Some(named.split([')', ',']).next()?.to_owned());
    }
    let name = rest.split(' ').nth(2)?;
    Some(name.split(['<', '{', ';', '(']).next()?.to_owned())
}

#[test]
fn no_two_types_share_one_schema() {
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, code) in sources("src/") {
        // What is derived, and what is written by hand.
        let derived = code.match_indices("ToSchema").filter_map(|(at, _)| {
            let after = code.get(at..)?;
            let is_derived = code.get(..at)?.rsplit_once("#[derive(").is_some_and(|(_, list)| !list.contains(")]"));
            is_derived.then(|| schema_name(after)).flatten()
        });
        let by_hand = code
            .match_indices("impl ToSchema for ")
            .filter_map(|(at, begin)| code.get(at + begin.len()..)?.split(' ').next().map(str::to_owned));
        for name in derived.chain(by_hand) {
            types.entry(name).or_default().push(path.clone());
        }
    }
    println!("{} types", types.len());
    assert!(types.len() > 60, "{}", types.len());
    let shared: Vec<_> = types.iter().filter(|(_, places)| places.len() > 1).collect();
    assert!(shared.is_empty(), "give each a name with #[schema(as = …)]: {shared:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_has_an_id_of_its_own_and_every_reference_leads_somewhere() {
    let app = TestApp::start().await;
    let contract = Contract::of(&app.client).await;
    let mut ids = BTreeSet::new();
    for (name, call) in contract.calls() {
        let id = call["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()), "{name}: {id} is another call's");
    }
    let mut references = BTreeSet::new();
    collect(&contract.document, &mut references);
    assert!(references.len() > 60, "{}", references.len());
    for reference in &references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(contract.document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    app.stop().await;
}

fn collect(part: &Value, references: &mut BTreeSet<String>) {
    match part {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

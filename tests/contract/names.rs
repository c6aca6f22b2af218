//! Names: a type that shares its schema with another, or a call that shares its id, is lost to
//! whoever makes a client.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::helpers::TestApp;
use crate::helpers::contract::Contract;
use crate::tidy::sources;

/// The name of the type's schema that is declared at the beginning of this text.
fn schema_name(declaration: &str) -> Option<String> {
    let head = declaration
        .find("pub struct ")
        .into_iter()
        .chain(declaration.find("pub enum "))
        .min()?;
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
            let is_derived = code
                .get(..at)?
                .rsplit_once("#[derive(")
                .is_some_and(|(_, list)| !list.contains(")]"));
            is_derived.then(|| schema_name(after)).flatten()
        });
        let by_hand = code
            .match_indices("impl ToSchema for ")
            .filter_map(|(at, begin)| {
                code.get(at + begin.len()..)?
                    .split(' ')
                    .next()
                    .map(str::to_owned)
            });
        for name in derived.chain(by_hand) {
            types.entry(name).or_default().push(path.clone());
        }
    }

    println!("{} types", types.len());
    assert!(types.len() > 60, "{}", types.len());
    let shared: Vec<_> = types
        .iter()
        .filter(|(_, places)| places.len() > 1)
        .collect();

    assert!(
        shared.is_empty(),
        "give each a name with #[schema(as = …)]: {shared:#?}"
    );
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
        assert!(
            contract.document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }

    for section in ["schemas", "responses"] {
        for name in contract.document["components"][section]
            .as_object()
            .unwrap()
            .keys()
        {
            let used = format!("#/components/{section}/{name}");
            assert!(references.contains(&used), "{used} is used nowhere");
        }
    }

    app.stop().await;
}

fn collect(part: &Value, references: &mut BTreeSet<String>) {
    match part {
        Value::Object(members) => {
            references.extend(
                members
                    .get("$ref")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            members
                .values()
                .for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What a parameter's schema says that it takes: something that is right, and something that is
/// not.
fn samples(contract: &Contract, parameter: &Value) -> (String, String) {
    let name = parameter["name"].as_str().unwrap();
    let schema = &parameter["schema"];
    let schema = match schema["oneOf"].as_array() {
        Some(ways) => ways.iter().find(|way| way["$ref"].is_string()).unwrap(),
        None => schema,
    };
    let schema = match schema["$ref"].as_str() {
        Some(reference) => contract.document.pointer(&reference[1..]).unwrap(),
        None => schema,
    };
    if let Some(words) = schema["enum"].as_array() {
        return (words[0].as_str().unwrap().to_owned(), "nonsense".to_owned());
    }

    match (name, schema["format"].as_str()) {
        ("limit", _) => (
            schema["maximum"].to_string(),
            (schema["maximum"].as_i64().unwrap() + 1).to_string(),
        ),
        (_, Some("date-time")) => (
            "2026-01-01T00:00:00%2B08:00".to_owned(),
            "2026-01-01".to_owned(),
        ),
        _ => ("x_1".to_owned(), "%00".to_owned()),
    }
}

/// A list takes every parameter that is described and no other, and each as it is described.
#[tokio::test(flavor = "multi_thread")]
async fn lists_take_the_parameters_that_are_described() {
    let app = TestApp::start().await;
    let contract = Contract::of(&app.client).await;
    let mut lists = 0;

    for (name, call) in contract
        .calls()
        .into_iter()
        .filter(|(name, _)| name.starts_with("GET /v1/"))
    {
        let parameters: Vec<&Value> = call["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        let of_query: Vec<&Value> = parameters
            .into_iter()
            .filter(|p| p["in"] == "query")
            .collect();
        if of_query.is_empty() {
            continue;
        }
        let path = name.strip_prefix("GET ").unwrap();
        let refused = app.client.get(&format!("{path}?nonsense=1")).await;
        let problem = refused.problem(422, "invalid_parameter", Some("nonsense"));
        let taken = problem["detail"]
            .as_str()
            .unwrap()
            .split("takes ")
            .nth(1)
            .unwrap()
            .trim_end_matches('.');
        let taken: BTreeSet<&str> = taken.split(", ").collect();
        let described: BTreeSet<&str> = of_query
            .iter()
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        assert_eq!(described, taken, "{name}");
        for parameter in of_query {
            let param = parameter["name"].as_str().unwrap();
            let (good, bad) = samples(&contract, parameter);
            if param != "starting_after" {
                app.client
                    .get(&format!("{path}?{param}={good}"))
                    .await
                    .expect(200);
            }
            app.client
                .get(&format!("{path}?{param}={bad}"))
                .await
                .problem(422, "invalid_parameter", Some(param));
        }
        lists += 1;
    }

    println!("{lists} lists");
    assert!(lists >= 10, "{lists}");
    app.stop().await;
}

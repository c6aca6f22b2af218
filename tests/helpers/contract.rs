//! The API's own description, and answers held against it: an answer that it does not describe is a
//! fault, and so is a member that it does not name.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Answer, Client};

/// What `/openapi.json` says.
#[derive(Debug, Clone)]
pub struct Contract {
    pub document: Value,
}

impl Contract {
    pub async fn of(client: &Client) -> Self {
        Self {
            document: client.get("/openapi.json").await.expect(200),
        }
    }

    /// Every call: `GET /v1/payments/{id}`, and how it is described.
    pub fn calls(&self) -> Vec<(String, &Value)> {
        let mut all = Vec::new();
        for (path, methods) in self.document["paths"].as_object().unwrap() {
            for (method, call) in methods.as_object().unwrap() {
                all.push((format!("{} {path}", method.to_uppercase()), call));
            }
        }
        all
    }

    /// What is wrong with an answer to this call, named as above.
    pub fn check(&self, call: &str, answer: &Answer) -> Result<(), String> {
        let status = answer.status.as_u16().to_string();
        let (method, path) = call.split_once(' ').unwrap();
        let described = &self.document["paths"][path][method.to_lowercase()];
        let told = || {
            format!(
                "{call}: {status} {}",
                String::from_utf8_lossy(&answer.bytes)
            )
        };

        let response = described["responses"]
            .get(&status)
            .ok_or_else(|| format!("{}: not described", told()))?;
        let response = self.resolved(response);
        let kind = answer
            .headers
            .get("content-type")
            .map_or("", |value| value.to_str().unwrap());
        let kind = kind.split(';').next().unwrap();

        let Some(content) = response["content"].as_object() else {
            return if answer.bytes.is_empty() {
                Ok(())
            } else {
                Err(format!("{}: a body is not described", told()))
            };
        };
        let content = content
            .get(kind)
            .ok_or_else(|| format!("{}: {kind:?} is not described", told()))?;
        if !kind.ends_with("json") {
            return Ok(());
        }
        let mut faults = Vec::new();
        self.look(&content["schema"], &answer.json(), "", &mut faults);

        if faults.is_empty() {
            Ok(())
        } else {
            Err(format!("{}:\n  {}", told(), faults.join("\n  ")))
        }
    }

    fn resolved<'a>(&'a self, part: &'a Value) -> &'a Value {
        let Some(reference) = part["$ref"].as_str() else {
            return part;
        };
        let pointer = reference.strip_prefix('#').unwrap();
        self.document
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    fn look(&self, schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
        let schema = self.resolved(schema);
        if let Some(ways) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
            let fits = |way: &&Value| {
                let mut faults = Vec::new();
                self.look(way, value, at, &mut faults);
                faults.is_empty()
            };
            if ways.iter().filter(fits).count() != 1 {
                faults.push(format!("{at}: {value} is not one of {}", schema["oneOf"]));
            }
            return;
        }

        if schema.get("type").is_some_and(|kind| !is_of(kind, value)) {
            faults.push(format!("{at}: {value} is no {}", schema["type"]));
        }
        if schema["enum"]
            .as_array()
            .is_some_and(|words| !words.contains(value))
        {
            faults.push(format!("{at}: {value} is none of {}", schema["enum"]));
        }

        if let (Some(items), Some(schema)) = (value.as_array(), schema.get("items")) {
            for (index, item) in items.iter().enumerate() {
                self.look(schema, item, &format!("{at}[{index}]"), faults);
            }
        }

        if let Some(members) = value.as_object() {
            self.look_at_members(schema, members, at, faults);
        }
    }

    fn look_at_members(
        &self,
        schema: &Value,
        members: &Map<String, Value>,
        at: &str,
        faults: &mut Vec<String>,
    ) {
        let (mut known, mut required) = (Map::new(), BTreeSet::new());
        self.members(schema, &mut known, &mut required);
        for name in required
            .iter()
            .filter(|name| !members.contains_key(name.as_str()))
        {
            faults.push(format!("{at}.{name} is missing"));
        }

        // An object of the merchant's own, or of a provider's.
        if known.is_empty() {
            return;
        }

        for (name, value) in members {
            match known.get(name) {
                Some(schema) => self.look(schema, value, &format!("{at}.{name}"), faults),
                None => faults.push(format!("{at}.{name} is not described")),
            }
        }
    }

    /// The members of an object, also where it is put together of several.
    fn members(
        &self,
        schema: &Value,
        known: &mut Map<String, Value>,
        required: &mut BTreeSet<String>,
    ) {
        let schema = self.resolved(schema);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.members(part, known, required);
        }
        known.extend(
            schema["properties"]
                .as_object()
                .cloned()
                .unwrap_or_default(),
        );
        let names = schema["required"].as_array().into_iter().flatten();
        required.extend(names.map(|name| name.as_str().unwrap().to_owned()));
    }
}

fn is_of(kind: &Value, value: &Value) -> bool {
    if let Some(kinds) = kind.as_array() {
        return kinds.iter().any(|kind| is_of(kind, value));
    }
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

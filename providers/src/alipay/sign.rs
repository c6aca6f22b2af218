//! What Alipay signs, in both directions: the sorted parameters of a request or notification, and
//! the raw text of an answer's node. It never rebuilds a text that was received: the signature is
//! over what came.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::charset::bytes;
use crate::signing::{BadSignature, Verifier};

/// The text that is signed: `name=value` joined by `&`, sorted by name in byte order, values not
/// URL-encoded. `sign` is no part of it, and neither are empty values (open platform, "signature":
/// drop empty parameters).
pub(super) fn string_to_sign<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    join(params.into_iter().filter(|(_, value)| !value.is_empty()))
}

/// As [`string_to_sign`] without `sign_type`: the "V1" rule of trade notifications.
pub(super) fn notification_string<'a>(
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    string_to_sign(fields.into_iter().filter(|(name, _)| *name != "sign_type"))
}

/// Joins everything but `sign`, empty values too: what the Node and Python SDKs sign.
pub(super) fn join<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut params: Vec<_> = params
        .into_iter()
        .filter(|(name, _)| *name != "sign")
        .collect();
    params.sort_unstable();
    let pairs: Vec<String> = params
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// The members of an answer's outermost object, each value as the text that came in.
#[derive(Debug)]
pub(super) struct Envelope<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Envelope<'a> {
    /// Reads the outermost object only. `None` when it is not one, or when it has a member twice:
    /// SDKs disagree about which one counts, so a forger could have one verified and the other one
    /// believed.
    pub(super) fn read(body: &'a str) -> Option<Self> {
        let envelope: Self = serde_json::from_str(body).ok()?;
        let mut names: Vec<_> = envelope.0.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        let distinct = names.windows(2).all(|pair| pair.first() != pair.last());
        distinct.then_some(envelope)
    }

    /// The raw text of a member, blanks around it excluded: of a node, the bytes that are signed.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.get())
    }

    /// The signature; `None` when it is missing, empty or no string.
    pub(super) fn signature(&self) -> Option<String> {
        self.text("sign")
            .and_then(|raw| serde_json::from_str::<String>(raw).ok())
            .filter(|sign| !sign.is_empty())
    }
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Envelope(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Checks the signature over a node. Some paths sign the text with `/` and send it with `\/`, so
/// that is tried second, as the official SDKs do; both texts mean the same JSON.
///
/// # Errors
/// [`BadSignature`] when neither holds.
pub(super) fn verify_node(key: &Verifier, node: &str, signature: &str) -> Result<(), BadSignature> {
    key.verify(&bytes(node), signature).or_else(|bad| {
        if !node.contains("\\/") {
            return Err(bad);
        }
        key.verify(&bytes(&node.replace("\\/", "/")), signature)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_sorted_in_byte_order_without_the_signature_and_empty_values() {
        let params = [
            ("b", "2"),
            ("sign", "x"),
            ("a_b", "1"),
            ("aB", "0"),
            ("c", ""),
            ("sign_type", "RSA2"),
        ];
        assert_eq!(string_to_sign(params), "aB=0&a_b=1&b=2&sign_type=RSA2");
        assert_eq!(notification_string(params), "aB=0&a_b=1&b=2");
        assert_eq!(join(params), "aB=0&a_b=1&b=2&c=&sign_type=RSA2");
    }

    #[test]
    fn a_node_is_cut_out_as_it_came_whatever_its_strings_hold() {
        let node = r#"{ "code" : "10000", "s":"}\"{\\", "n":{"a":["]}"]} }"#;
        let body = format!("{{ \"x_response\"  :  {node}  , \"sign\":\"abc\"}}");
        let envelope = Envelope::read(&body).unwrap();
        assert_eq!(envelope.text("x_response"), Some(node));
        assert_eq!(envelope.signature().as_deref(), Some("abc"));
    }

    #[test]
    fn a_member_that_comes_twice_spoils_the_answer_even_when_its_name_is_escaped() {
        assert!(Envelope::read(r#"{"x_response":{},"x_response":{},"sign":"a"}"#).is_none());
        assert!(Envelope::read(r#"{"x_response":{},"sign":"a","x\u005fresponse":{}}"#).is_none());
        assert!(Envelope::read(r#"{"x_response":{},"sign":"a"} trailing"#).is_none());
        assert!(Envelope::read(r#"["x_response"]"#).is_none());
    }

    #[test]
    fn an_empty_signature_is_none() {
        for body in [
            r#"{"x":{},"sign":""}"#,
            r#"{"x":{},"sign":null}"#,
            r#"{"x":{}}"#,
        ] {
            assert_eq!(Envelope::read(body).unwrap().signature(), None, "{body}");
        }
    }
}

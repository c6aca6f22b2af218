//! The parameters of a request: the union of query and body, decoded once. Their signature is over the bytes, whatever
//! characters they are.

use std::collections::BTreeMap;

use super::super::sign::{join, string_to_sign};
use crate::charset::{byte_by_byte, bytes, form_pairs};
use crate::sandbox::charset::Charset;
use crate::sandbox::face::Request;
use crate::signing::Verifier;

pub(super) struct Params {
    values: BTreeMap<String, Parameter>,
    /// The charset that they name, if it is one that requests may be in.
    pub charset: Option<Charset>,
    /// A name came twice. What the real gateway does with that is not known, so nobody should rely on it.
    pub repeated: bool,
}

struct Parameter {
    words: String,
    /// Stands for the bytes.
    opaque: String,
}

impl Params {
    pub(super) fn of(request: &Request) -> Self {
        let pairs: Vec<(Vec<u8>, Vec<u8>)> =
            [request.query().as_bytes(), &request.body].into_iter().flat_map(form_pairs).collect();
        let named = pairs.iter().find(|(name, _)| name == b"charset");
        let named = named.and_then(|(_, value)| Charset::named(std::str::from_utf8(value).ok()?));
        // GB18030 has been seen in what the real gateway sends, and is not on the list of what it takes.
        let charset = named.filter(|charset| *charset != Charset::Gb18030);
        let mut params = Self { values: BTreeMap::new(), charset, repeated: false };
        for (name, value) in &pairs {
            let read = |bytes: &[u8]| charset.unwrap_or_default().read(bytes);
            let parameter = Parameter { words: read(value), opaque: byte_by_byte(value) };
            params.repeated |= params.values.insert(read(name), parameter).is_some();
        }
        params
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|parameter| parameter.words.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether empty parameters belong into the signed text is not known, and SDKs differ: both are taken.
    pub(super) fn are_signed_by(&self, key: &Verifier, sign: &str) -> bool {
        let pairs = || self.values.iter().map(|(name, value)| (name.as_str(), value.opaque.as_str()));
        [string_to_sign(pairs()), join(pairs())].iter().any(|text| key.verify(&bytes(text), sign).is_ok())
    }

    /// For people.
    pub(super) fn string_to_sign(&self) -> String {
        string_to_sign(self.values.iter().map(|(name, value)| (name.as_str(), value.words.as_str())))
    }
}

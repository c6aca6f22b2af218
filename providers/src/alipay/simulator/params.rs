//! The parameters of a request: the union of query and body, decoded once. Their signature is over
//! the bytes, whatever characters they are.

use std::collections::BTreeMap;

use super::super::sign::{join, string_to_sign};
use crate::charset::{byte_by_byte, bytes, form_pairs};
use crate::sandbox::charset::Charset;
use crate::sandbox::simulator::Request;
use crate::signing::Verifier;

pub(super) struct Params {
    values: BTreeMap<String, Parameter>,
    /// The charset that they name, if it is one that requests may be in.
    pub charset: Option<Charset>,
    /// A name came twice. What the real gateway does with that is not known, so nobody should rely
    /// on it.
    pub repeated: bool,
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What stands between the parts of `multipart/form-data`.
fn boundary(content_type: &str) -> Option<Vec<u8>> {
    let (kind, rest) = content_type.split_once(';')?;
    let is_multipart = kind.trim().eq_ignore_ascii_case("multipart/form-data");
    let boundary = rest
        .split(';')
        .find_map(|parameter| parameter.trim().strip_prefix("boundary="))?;
    is_multipart.then(|| format!("--{}", boundary.trim_matches('"')).into_bytes())
}

/// The parts that are parameters: what a file holds is not signed, and no call here takes one.
fn parts(body: &[u8], boundary: &[u8]) -> Pairs {
    // The first boundary may begin the body; every other one begins a line.
    let body = [b"\r\n", body].concat();
    let between = [b"\r\n", boundary].concat();
    let mut read = Pairs::new();
    let mut rest = body.as_slice();

    while let Some((_, behind)) = cut(rest, &between) {
        let part = cut(behind, &between).map_or(behind, |(part, _)| part);
        rest = behind;
        let Some((head, value)) = cut(part, b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(head);
        if let Some(name) =
            parameter(&head, "name").filter(|_| parameter(&head, "filename").is_none())
        {
            read.push((name.as_bytes().to_vec(), value.to_vec()));
        }
    }

    read
}

fn parameter<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let quoted = |piece: &'h str| {
        piece
            .trim()
            .strip_prefix(name)?
            .strip_prefix("=\"")?
            .strip_suffix('"')
    };
    head.lines()
        .flat_map(|line| line.split(';'))
        .find_map(quoted)
}

fn cut<'b>(bytes: &'b [u8], at: &[u8]) -> Option<(&'b [u8], &'b [u8])> {
    let place = bytes.windows(at.len()).position(|window| window == at)?;
    Some((bytes.get(..place)?, bytes.get(place + at.len()..)?))
}

struct Parameter {
    words: String,
    /// Stands for the bytes.
    opaque: String,
}

impl Params {
    pub(super) fn of(request: &Request) -> Self {
        let mut pairs: Pairs = form_pairs(request.query().as_bytes()).collect();
        match request.header("content-type").and_then(boundary) {
            Some(boundary) => pairs.extend(parts(&request.body, &boundary)),
            None => pairs.extend(form_pairs(&request.body)),
        }
        let named = pairs.iter().find(|(name, _)| name == b"charset");
        let named = named.and_then(|(_, value)| Charset::named(std::str::from_utf8(value).ok()?));

        // GB18030 has been seen in what the real gateway sends, and is not on the list of what it
        // takes.
        let charset = named.filter(|charset| *charset != Charset::Gb18030);
        let mut params = Self {
            values: BTreeMap::new(),
            charset,
            repeated: false,
        };

        for (name, value) in &pairs {
            let read = |bytes: &[u8]| charset.unwrap_or_default().read(bytes);
            let parameter = Parameter {
                words: read(value),
                opaque: byte_by_byte(value),
            };
            params.repeated |= params.values.insert(read(name), parameter).is_some();
        }

        params
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .map(|parameter| parameter.words.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether empty parameters belong into the signed text is not known, and SDKs differ: both are
    /// taken.
    pub(super) fn are_signed_by(&self, key: &Verifier, sign: &str) -> bool {
        let pairs = || {
            self.values
                .iter()
                .map(|(name, value)| (name.as_str(), value.opaque.as_str()))
        };
        [string_to_sign(pairs()), join(pairs())]
            .iter()
            .any(|text| key.verify(&bytes(text), sign).is_ok())
    }

    /// For people.
    pub(super) fn string_to_sign(&self) -> String {
        string_to_sign(
            self.values
                .iter()
                .map(|(name, value)| (name.as_str(), value.words.as_str())),
        )
    }
}

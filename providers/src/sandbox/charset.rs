//! The charsets that a face can write: the one that a request names, or the one that somebody asked
//! for. Whatever is signed is signed over the bytes that [`Charset::write`] makes.

use std::borrow::Cow;

use encoding_rs::{Encoding, GB18030, GBK};

use crate::charset::byte_by_byte;

/// A charset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Charset {
    /// What our own requests name.
    #[default]
    Utf8,
    /// GB2312 as well, which is a part of it.
    Gbk,
    /// Has every character, some of them in four bytes.
    Gb18030,
}

impl Charset {
    /// The one of this name, in capitals or not.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let known = [
            ("utf-8", Self::Utf8),
            ("gbk", Self::Gbk),
            ("gb2312", Self::Gbk),
            ("gb18030", Self::Gb18030),
        ];
        known
            .into_iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known))
            .map(|(_, charset)| charset)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Gbk => "GBK",
            Self::Gb18030 => "GB18030",
        }
    }

    /// A text as its bytes, with `?` for what it has no character for.
    #[must_use]
    pub fn write(self, text: &str) -> Cow<'_, [u8]> {
        let encoding = match self {
            Self::Utf8 => return Cow::Borrowed(text.as_bytes()),
            Self::Gbk => GBK,
            Self::Gb18030 => GB18030,
        };
        Cow::Owned(
            text.chars()
                .flat_map(|character| written(encoding, character))
                .collect(),
        )
    }

    /// Bytes as a text, with � for what cannot be read.
    #[must_use]
    pub fn read(self, bytes: &[u8]) -> String {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Gbk | Self::Gb18030 => GB18030.decode_without_bom_handling(bytes).0.into_owned(),
        }
    }

    /// A text that stands for those bytes.
    pub(crate) fn opaque(self, text: &str) -> String {
        match self {
            Self::Utf8 => text.to_owned(),
            Self::Gbk | Self::Gb18030 => byte_by_byte(&self.write(text)),
        }
    }
}

fn written(encoding: &'static Encoding, character: char) -> Vec<u8> {
    let text = character.to_string();
    match encoding.encode(&text) {
        (bytes, _, false) => bytes.into_owned(),
        (_, _, true) => vec![b'?'],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charset::{bytes, words};

    #[test]
    fn what_is_written_is_what_the_gateway_reads() {
        for (charset, text, read) in [
            (Charset::Utf8, "茶 𠀀🍵", "茶 𠀀🍵"),
            (Charset::Gbk, "联通€丂乗|", "联通€丂乗|"),
            (Charset::Gbk, "茶𠀀🍵<", "茶??<"),
            (Charset::Gb18030, "茶𠀀🍵<", "茶𠀀🍵<"),
        ] {
            let opaque = charset.opaque(text);
            assert_eq!(bytes(&opaque), charset.write(text), "{text}");
            assert_eq!(words(&opaque), read);
        }
        assert_eq!(Charset::named("gb2312").map(Charset::name), Some("GBK"));
        assert_eq!(Charset::named("latin1"), None);
    }
}

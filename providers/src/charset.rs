//! Bytes that are signed and may be in another charset than UTF-8, as a text whose ASCII can be
//! read and whose bytes come back.
//!
//! Providers are asked in UTF-8 and still answer in GBK now and then, and their signatures are over
//! the bytes as they were sent. So nothing is decoded before a signature has held: bytes that are
//! no UTF-8 become a text in which ASCII stands for itself and every other byte for a character of
//! its own ([`opaque`]); [`bytes()`] turns it back, [`words`] decodes it for people. Whatever
//! decides anything is ASCII in all these charsets.

use std::borrow::Cow;

use encoding_rs::GB18030;

/// Byte `b` of a text in another charset is the character `PLACE + b`, of the range for private
/// use.
const PLACE: u32 = 0xF700;

/// Whether a charset that a message names is one of those in which bytes are pairs: GB18030 reads
/// them all.
pub(crate) fn is_chinese(name: &str) -> bool {
    ["gbk", "gb2312", "gb18030"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// Bytes as a text: UTF-8 as it is, anything else byte by byte.
pub(crate) fn opaque(bytes: &[u8]) -> String {
    match plain(bytes) {
        Some(text) => text.to_owned(),
        None => byte_by_byte(bytes),
    }
}

/// UTF-8 without a character that stands for a byte.
pub(crate) fn plain(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| byte_of_any(text).is_none())
}

/// As [`opaque`], of bytes that are in another charset, even if they could be read as UTF-8. In GBK
/// the second byte of a character may look like a letter, a brace or a backslash; in GB18030 the
/// second and the fourth like a digit. None of them is one.
pub(crate) fn byte_by_byte(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    let mut rest = bytes;

    while let Some((first, more)) = rest.split_first() {
        let length = match (first, more) {
            (0x81..=0xFE, [0x30..=0x39, 0x81..=0xFE, 0x30..=0x39, ..]) => 4,
            (0x81..=0xFE, [0x40..=0x7E | 0x80..=0xFE, ..]) => 2,
            _ => 1,
        };
        let (character, behind) = rest.split_at(length);
        match character {
            [ascii @ 0..=0x7F] => text.push(char::from(*ascii)),
            bytes => text.extend(
                bytes
                    .iter()
                    .filter_map(|byte| char::from_u32(PLACE + u32::from(*byte))),
            ),
        }
        rest = behind;
    }

    text
}

/// The bytes that a text stands for.
pub(crate) fn bytes(text: &str) -> Cow<'_, [u8]> {
    if byte_of_any(text).is_none() {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// A text for people: decoded if it is in another charset, with � for what cannot be.
pub(crate) fn words(text: &str) -> Cow<'_, str> {
    if byte_of_any(text).is_none() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        GB18030
            .decode_without_bom_handling(&bytes(text))
            .0
            .into_owned(),
    )
}

/// One half of a pair of a form. Every byte of a character that is no ASCII is escaped, as Java
/// does, also one that looks like a letter.
pub(crate) fn form_half(text: &str) -> String {
    let mut half = String::with_capacity(text.len());
    for character in text.chars() {
        match byte_of(character) {
            Some(byte) => half.push_str(percent_encoding::percent_encode_byte(byte)),
            None => half.extend(form_urlencoded::byte_serialize(
                character.encode_utf8(&mut [0; 4]).as_bytes(),
            )),
        }
    }
    half
}

/// The pairs of a form, percent-decoded once, as bytes.
pub(crate) fn form_pairs(body: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let decoded = |part: &[u8]| -> Vec<u8> {
        let spaced: Vec<u8> = part
            .iter()
            .map(|byte| if *byte == b'+' { b' ' } else { *byte })
            .collect();
        percent_encoding::percent_decode(&spaced).collect()
    };

    body.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(move |pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            (
                decoded(halves.next().unwrap_or_default()),
                decoded(halves.next().unwrap_or_default()),
            )
        })
}

fn byte_of(character: char) -> Option<u8> {
    u32::from(character)
        .checked_sub(PLACE)
        .and_then(|byte| u8::try_from(byte).ok())
}

fn byte_of_any(text: &str) -> Option<u8> {
    text.chars().find_map(byte_of)
}

/// The pairs of a form, percent-decoded once, as texts that their bytes can be had back from.
/// `charset` is the field that names the charset of all the others.
pub(crate) fn form(body: &[u8], charset: &str) -> Vec<(String, String)> {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> = form_pairs(body).collect();

    // One form is in one charset: what looks like UTF-8 in it by chance is none.
    let names_another = |(name, value): &(Vec<u8>, Vec<u8>)| {
        name == charset.as_bytes() && std::str::from_utf8(value).is_ok_and(is_chinese)
    };
    // What is empty is signed nowhere: anybody can add it.
    let is_plain = |(name, value): &(Vec<u8>, Vec<u8>)| {
        value.is_empty() || (plain(name).is_some() && plain(value).is_some())
    };
    let text = if pairs.iter().any(names_another) || !pairs.iter().all(is_plain) {
        byte_by_byte
    } else {
        opaque
    };
    pairs
        .iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_character_is_escaped_although_it_looks_like_a_letter() {
        // 镕 in GBK ends with an F; 𠀀 in GB18030 has two digits.
        assert_eq!(form_half(&opaque(&[0xE9, 0x46, b'F', b' '])), "%E9%46F+");
        assert_eq!(
            form_half(&opaque(&[0x95, 0x32, 0x82, 0x36])),
            "%95%32%82%36"
        );
        assert_eq!(form_half("茶 &"), "%E8%8C%B6+%26");
    }

    #[test]
    fn every_byte_comes_back_and_only_ascii_is_read() {
        let gbk = GB18030.encode("余额不足{丂乗}|「」").0.into_owned();
        let four = GB18030.encode("𠀀ä€").0.into_owned();
        let all: Vec<u8> = (0..=255).collect();
        let private = "\u{F77B}x".as_bytes().to_vec();

        for given in [
            gbk,
            four,
            all,
            private,
            b"{\"a\":1}".to_vec(),
            "联通".as_bytes().to_vec(),
            vec![0x81],
            vec![0x81, 0x30],
        ] {
            assert_eq!(bytes(&opaque(&given)).as_ref(), given, "{given:x?}");
            assert_eq!(bytes(&byte_by_byte(&given)).as_ref(), given, "{given:x?}");
        }

        // The second byte of 乗 is a backslash, that of 丂 an @.
        let tricky = [
            b"\"".as_slice(),
            &[0x81, 0x5C, 0x81, 0x7D, 0x81, 0x40],
            b"\"",
        ]
        .concat();

        assert_eq!(
            opaque(&tricky)
                .chars()
                .filter(char::is_ascii)
                .collect::<String>(),
            "\"\""
        );

        assert_eq!(words(&opaque(&GB18030.encode("余额不足").0)), "余额不足");
        assert_eq!(words("余额不足"), "余额不足");
    }

    #[test]
    fn a_form_is_in_one_charset() {
        // 联通 in GBK is UTF-8 of something else as well.
        let pairs = form(b"charset=GBK&a=%C1%AA%CD%A8&b=1+2", "charset");
        let read: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), words(value)))
            .collect();

        assert_eq!(
            read,
            [
                ("charset", "GBK".into()),
                ("a", "联通".into()),
                ("b", "1 2".into())
            ]
        );

        let unnamed = form(b"a=%C1%AA%CD%A8&b=%D6%D0", "charset");
        assert_eq!(words(&unnamed[0].1), "联通");
        let plain = form("a=%E4%B8%AD&&=x&b".as_bytes(), "charset");

        assert_eq!(
            plain,
            [("a", "中"), ("", "x"), ("b", "")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
    }
}

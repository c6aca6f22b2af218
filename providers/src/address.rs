//! The one reader of web addresses: whatever takes one, takes what this takes. A name or a path in
//! any language is written out in ASCII, once; a text that readers understand differently (a
//! backslash, a blank that some drop, a user in front of the host) is no address here. Where an
//! address may lead to is for others to say.

pub use reqwest::Url;

/// As many characters as an address may have, as it was written and as it is written out.
pub const MAX: usize = 2_048;

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It begins with something else than `http://` or `https://`, or has no host.
    #[error("must be http:// or https://, a host, and perhaps a port, a path and a query")]
    Shape,
    /// It is too long.
    #[error("must have at most 2048 characters, written out in ASCII")]
    TooLong,
    /// A blank, a control character or a backslash.
    #[error("must not contain blanks, control characters or backslashes")]
    Character,
    /// A user or a password.
    #[error("must not contain a user or a password")]
    User,
    /// Something behind a `#`, which is never sent.
    #[error("must not contain a fragment")]
    Fragment,
}

/// Reads an address.
///
/// # Errors
/// [`BadAddress`].
pub fn read(text: &str) -> Result<Url, BadAddress> {
    let text = trimmed(text);
    if text.chars().count() > MAX {
        return Err(BadAddress::TooLong);
    }
    if text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
    {
        return Err(BadAddress::Character);
    }
    let (scheme, rest) = text.split_once("://").ok_or(BadAddress::Shape)?;
    if !["http", "https"]
        .iter()
        .any(|web| scheme.eq_ignore_ascii_case(web))
    {
        return Err(BadAddress::Shape);
    }

    // Before anybody reads it: a host is what stands up to here, an empty one is none.
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(BadAddress::User);
    }
    if authority.is_empty() {
        return Err(BadAddress::Shape);
    }
    let url = Url::parse(text).map_err(|_| BadAddress::Shape)?;
    if url.fragment().is_some() {
        return Err(BadAddress::Fragment);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadAddress::User);
    }

    if url.as_str().len() > MAX {
        Err(BadAddress::TooLong)
    } else {
        Ok(url)
    }
}

/// An address as it is kept: as it was written if that is ASCII, else written out.
#[must_use]
pub fn kept(text: &str, url: &Url) -> String {
    if text.is_ascii() {
        trimmed(text).to_owned()
    } else {
        url.as_str().to_owned()
    }
}

/// Blanks around an address come from copying it, and change nothing.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_matches(' ')
}

/// An address that was kept, perhaps when other texts were taken: what is checked is what is
/// connected.
///
/// # Errors
/// [`BadAddress::Shape`].
pub fn stored(text: &str) -> Result<Url, BadAddress> {
    Url::parse(text).map_err(|_| BadAddress::Shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_of_any_language_are_written_out() {
        for (text, ascii) in [
            (
                "https://例子.example/通知?单=一",
                "https://xn--fsqu00a.example/%E9%80%9A%E7%9F%A5?%E5%8D%95=%E4%B8%80",
            ),
            ("https://支付。example", "https://xn--bnq875c.example/"),
            (
                "https://ＳＨＯＰ.example/a%20b",
                "https://shop.example/a%20b",
            ),
            ("HTTPS://Shop.Example:443/a/../b", "https://shop.example/b"),
            ("http://[2001:DB8::1]:8080/", "http://[2001:db8::1]:8080/"),
            ("http://127.1/", "http://127.0.0.1/"),
            (
                "https://shop.example/a@b?c@d",
                "https://shop.example/a@b?c@d",
            ),
            (" https://shop.example/a ", "https://shop.example/a"),
        ] {
            let url = read(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(url.as_str(), ascii, "{text}");
            assert_eq!(read(&kept(text, &url)).as_ref(), Ok(&url), "{text}");
            assert!(kept(text, &url).is_ascii(), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        use BadAddress as B;

        let long = |host: &str, sign: &str, times| format!("https://{host}/{}", sign.repeat(times));
        for (text, why) in [
            (String::new(), B::Shape),
            ("shop.example/a".to_owned(), B::Shape),
            ("//shop.example/".to_owned(), B::Shape),
            ("https:shop.example".to_owned(), B::Shape),
            ("https:///shop.example".to_owned(), B::Shape),
            ("https://".to_owned(), B::Shape),
            ("https://?a".to_owned(), B::Shape),
            ("https://:443/".to_owned(), B::Shape),
            ("https://shop.example:99999/".to_owned(), B::Shape),
            ("https://[fe80::1%25eth0]/".to_owned(), B::Shape),
            ("https://shop%2f.example/".to_owned(), B::Shape),
            ("ftp://shop.example/".to_owned(), B::Shape),
            ("javascript:alert(1)".to_owned(), B::Shape),
            ("file:///etc/passwd".to_owned(), B::Shape),
            ("\thttps://shop.example/".to_owned(), B::Character),
            ("https://shop.example/\n".to_owned(), B::Character),
            ("https://shop.example/a b".to_owned(), B::Character),
            ("https://shop.example/a\u{3000}b".to_owned(), B::Character),
            ("https://shop.example/\r\nHost: x".to_owned(), B::Character),
            ("https://shop.ex\tample/".to_owned(), B::Character),
            ("https:\\\\shop.example".to_owned(), B::Character),
            ("https://10.0.0.1\\@shop.example/".to_owned(), B::Character),
            ("https://me@shop.example/".to_owned(), B::User),
            ("https://me:secret@shop.example/".to_owned(), B::User),
            ("https://@shop.example/".to_owned(), B::User),
            ("https://10.0.0.1#@shop.example/".to_owned(), B::Fragment),
            ("https://shop.example/#".to_owned(), B::Fragment),
            ("https://shop.example/a#b".to_owned(), B::Fragment),
            (long("shop.example", "x", 2_048), B::TooLong),
            // Nine characters a sign when they are written out.
            (long("shop.example", "汉", 300), B::TooLong),
        ] {
            assert_eq!(read(&text), Err(why), "{text:?}");
        }

        assert!(read(&long("shop.example", "x", 2_048 - 21)).is_ok());
    }
}

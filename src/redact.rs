//! Addresses that may be shown. Passwords stand in them in more ways than parsers know: unescaped,
//! in queries, with the characters that end a host. So nothing is cut out of an address; what is
//! known to be harmless is shown, and the rest is not.

use url::Url;

/// Schemes that are ours, or that people take for ours. Anything else may be a password in the
/// wrong place.
const SCHEMES: &[&str] = &[
    "sqlite",
    "postgres",
    "postgresql",
    "mysql",
    "mariadb",
    "redis",
    "rediss",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
    "http",
    "https",
];
/// In the place of what is not shown.
const HIDDEN: &str = "***";
/// Parts of an address that are shorter than this are in every text.
const SHORTEST: usize = 3;

/// An address as it may be shown: `postgres://user:***@host/name`. What cannot be told apart is not
/// shown.
#[must_use]
pub fn address(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once(':') else {
        return HIDDEN.to_owned();
    };
    if !SCHEMES.contains(&scheme) {
        return HIDDEN.to_owned();
    }
    let hidden = format!("{scheme}://{HIDDEN}");
    let plain = rest.split(['?', '#']).next().unwrap_or_default();

    if scheme == "sqlite" {
        // A path, which has no user.
        return if rest.contains('@') {
            hidden
        } else {
            format!("{scheme}:{plain}")
        };
    }

    // What stands behind the last `@` is the host, unless the password holds what ends one.
    let place = plain.strip_prefix("//").unwrap_or(plain);
    let (user, place) = place
        .rsplit_once('@')
        .map_or((None, place), |(user, place)| (Some(user), place));
    let is_torn =
        rest.matches('@').count() > 1 || user.is_some_and(|user| user.contains(['/', '\\']));

    if is_torn
        || rest
            .get(plain.len()..)
            .is_some_and(|behind| behind.contains('@'))
    {
        return hidden;
    }

    // Read by itself, so that nothing of the user can be taken for a host.
    let is_place =
        Url::parse(&format!("postgres://{place}")).is_ok_and(|url| url.username().is_empty());
    if !is_place || place.contains(['\\', ' ']) {
        return hidden;
    }

    match user {
        // Without a colon it may be either.
        Some(user) => match user.split_once(':') {
            Some((name, _)) if is_name(name) => format!("{scheme}://{name}:{HIDDEN}@{place}"),
            Some(_) | None => format!("{scheme}://{HIDDEN}@{place}"),
        },
        None => format!("{scheme}://{place}"),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// What somebody else wrote about an address, without the parts of it that are not shown.
#[must_use]
pub fn message(text: &str, given: &str) -> String {
    let shown = address(given);
    if shown == given {
        return text.to_owned();
    }
    let mut text = text.replace(given, &shown);
    let is_end = |c: char| "/@:?#&=,;".contains(c);
    let userinfo = given
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'))
        .map(|(user, _)| user);
    let password = userinfo
        .and_then(|user| user.split_once(':'))
        .map(|(_, password)| password);
    let parts = given.split(is_end).chain(userinfo).chain(password);
    let mut parts: Vec<&str> = parts
        .filter(|part| part.len() >= SHORTEST && !shown.contains(part))
        .collect();

    // The longest first: it may hold a shorter one.
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    for part in parts {
        text = text.replace(part, HIDDEN);
    }

    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_helps_is_shown() {
        for (given, shown) in [
            (
                "postgres://shop:hunter2@db:5432/shop?password=hunter2",
                "postgres://shop:***@db:5432/shop",
            ),
            ("postgres://shop@db/shop", "postgres://***@db/shop"),
            ("postgres://db/shop", "postgres://db/shop"),
            ("mysql://shop:hunter2@db/shop", "mysql://shop:***@db/shop"),
            ("sqlite:///nowhere/shop.db", "sqlite:///nowhere/shop.db"),
            ("sqlite:shop.db?key=hunter2", "sqlite:shop.db"),
            ("redis://:hunter2@cache:6379/1", "redis://***@cache:6379/1"),
            (
                "redis+sentinel://me:hunter2@a:1,b:2/primary",
                "redis+sentinel://***",
            ),
            (
                "https://me:hunter2@collector:4318",
                "https://me:***@collector:4318",
            ),
        ] {
            assert_eq!(address(given), shown, "{given}");
        }
    }

    #[test]
    fn odd_forms_show_no_password() {
        for given in [
            "hunter2",
            "hunter2:postgres://db",
            "postgres:hunter2@db/shop",
            "postgres:shop:hunter2@db",
            "postgres://shop:hunter2",
            "postgres://shop:12/hunter2@db/shop",
            "postgres://shop:12#hunter2@db/shop",
            "postgres://shop:12?hunter2@db/shop",
            "postgres://shop:hunter2@hunter2@db/shop",
            "postgres://shop:hun:ter2@db/shop",
            "postgres://shop:a@b:hunter2@db",
            "postgres:///shop?host=db&user=shop&password=hunter2",
            "postgres://db/shop#hunter2",
            "POSTGRES://shop:hunter2@db",
            " postgres://shop:hunter2@db",
            "postgres//shop:hunter2@db",
            "host=db user=shop password=hunter2",
            "postgres://hunter2@db",
            "postgres://[::1:hunter2@db",
            "postgres://shop\\:hunter2@db",
            "jdbc:postgresql://shop:hunter2@db/shop",
            "sqlite://shop:hunter2@db",
        ] {
            let shown = address(given);
            assert!(
                !shown.contains("hunter2") && !shown.contains("ter2"),
                "{given}: {shown}"
            );
            let said = message(
                &format!("cannot read {given:?}: bad hunter2 in {given}"),
                given,
            );
            assert!(!said.contains("hunter2"), "{given}: {said}");
        }
    }

    proptest! {
        /// Whatever a password holds, and wherever it stands, nothing of it comes out.
        #[test]
        fn no_password_comes_out(
            scheme in prop::sample::select(SCHEMES),
            before in "[a-z0-9/:?#@.%\\\\\\[\\], =&]{0,12}",
            after in "[a-z0-9/:?#@.%\\\\\\[\\], =&]{0,12}",
            user in "[a-z]{0,6}",
            place in prop::sample::select(vec!["db", "db:5432", "db/shop", "[::1]:6379",
                "a:1,b:2/m", ""]),
        ) {
            prop_assume!(scheme != "sqlite");
            let password = format!("{before}HUNTER2{after}");
            for given in [
                format!("{scheme}://{user}:{password}@{place}"),
                format!("{scheme}:{user}:{password}@{place}"),
                format!("{scheme}://{place}?password={password}"),
                format!("{scheme}://{place}#{password}"),
                format!("{user}:{password}@{place}"),
            ] {
                let shown = address(&given);
                prop_assert!(!shown.contains("HUNTER2"), "{}: {}", given, shown);
                let said = message(&format!("invalid: {given}"), &given);
                prop_assert!(!said.contains("HUNTER2"), "{}: {}", given, said);
            }
        }
    }
}

//! Words of a merchant's, made to fit what a provider takes: they decorate a payment, and never
//! make one fail.

/// What is shown where nothing is left: "goods".
const NOTHING_LEFT: &str = "商品";

/// As [`fit`], with a word where nothing is left.
#[must_use]
pub(crate) fn shown(text: &str, bytes: usize, forbidden: &[char]) -> String {
    Some(fit(text, bytes, forbidden))
        .filter(|fitted| !fitted.is_empty())
        .unwrap_or_else(|| NOTHING_LEFT.to_owned())
}

/// Cuts a text at a character so that it has at most so many bytes in UTF-8. What the provider
/// forbids becomes a blank, and characters beyond the basic plane (emoji, with what joins and
/// colours them) are left out.
#[must_use]
pub(crate) fn fit(text: &str, bytes: usize, forbidden: &[char]) -> String {
    let is_left_out =
        |c: char| c > '\u{FFFF}' || matches!(c, '\u{200D}' | '\u{20E3}' | '\u{FE00}'..='\u{FE0F}');
    let mut fitted = String::with_capacity(text.len().min(bytes));
    for c in text.chars().filter(|c| !is_left_out(*c)) {
        let c = if forbidden.contains(&c) { ' ' } else { c };
        if c == ' ' && (fitted.is_empty() || fitted.ends_with(' ')) {
            continue;
        }
        if fitted.len() + c.len_utf8() > bytes {
            break;
        }
        fitted.push(c);
    }
    fitted.truncate(fitted.trim_end().len());
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_a_character_and_says_something_in_any_case() {
        assert_eq!(fit("一杯茶", 127, &[]), "一杯茶");
        assert_eq!(fit(&"茶".repeat(43), 127, &[]), "茶".repeat(42));
        assert_eq!(fit("ab茶", 4, &[]), "ab");
        assert_eq!(fit("M&M's  a/b=c", 127, &['/', '=', '&']), "M M's a b c");
        assert_eq!(fit("🧋👩‍👩‍👧 tea 1️⃣", 127, &[]), "tea 1");
        for nothing in ["🧋", "&/=", "👍🏽", "𠮷"] {
            assert_eq!(fit(nothing, 127, &['/', '=', '&']), "", "{nothing}");
            assert_eq!(shown(nothing, 127, &['/', '=', '&']), "商品", "{nothing}");
        }
    }
}

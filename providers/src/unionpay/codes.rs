//! UnionPay's response codes, sorted by what they say about money. Only codes that are certain are
//! named; whatever is not here is unknown, and a query or the statement decides.
//!
//! The text beside a code ends or begins with a detail of seven digits in brackets. Some details
//! say that the issuer has not answered: nothing is known then until a final state is told,
//! whatever the code is that came with them.

use crate::charset::bytes;

/// What a code and its text say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CodeClass {
    /// 00, and A6, a success with a defect: money moved all the same.
    Yes,
    /// 42: debited after the pay time. UnionPay gives it back by itself in about five working days.
    TooLate,
    /// 74, 75: debited, while UnionPay's own books about it are unsettled.
    Unsettled,
    /// 05: accepted, not ended.
    Accepted,
    /// 70, 82: the payer has something to do.
    Asking,
    /// A "no" of the payer's side: card, balance, password, risk, the code itself.
    Payer,
    /// A "no" to this merchant: signature, permission, state, licence.
    Account,
    /// 11: our signature did not hold. Mended by the right key, and then nothing was done.
    Signature,
    /// A "no" to our parameters.
    Request,
    /// 39: outside of its hours.
    Closed,
    /// 01, 02, 60: a failure that the documents do not agree on. Certain where no money can have
    /// been asked for.
    Failed,
    /// 06: busy. As 02.
    Busy,
    /// 12: an order with this number exists.
    Duplicate,
    /// 34: no such order, as yet.
    NotFound,
    /// 35, 36: the original is missing, in a wrong state, or does not fit.
    Original,
    /// 37: asked too often.
    TooOften,
    /// 45: the original was refunded or undone before.
    GoneBack,
    /// 46: reversed.
    Reversed,
    /// 03, 04, 83, and the details of an issuer that has not answered: nobody knows as yet.
    Open,
    /// Everything else: 99, four-digit codes, codes that nobody has listed.
    Unknown,
}

impl CodeClass {
    /// The word of a code with its text.
    pub(super) fn of(code: &str, text: &str) -> Self {
        if is_open(text) {
            return Self::Open;
        }

        match code {
            "00" | "A6" => Self::Yes,
            "42" => Self::TooLate,
            "74" | "75" => Self::Unsettled,
            "05" => Self::Accepted,
            "70" | "82" => Self::Asking,
            "30" | "38" | "40" | "61" | "62" | "63" | "64" | "65" | "66" | "67" | "68" | "69"
            | "71" | "72" | "73" | "76" | "77" | "78" | "79" | "80" | "81" | "85" | "86" | "87"
            | "88" | "89" | "90" | "91" => Self::Payer,
            "31" | "32" | "43" | "44" | "92" | "93" | "94" | "95" | "96" => Self::Account,
            "11" => Self::Signature,
            "10" | "13" | "33" => Self::Request,
            "39" => Self::Closed,
            "01" | "02" | "60" => Self::Failed,
            "06" => Self::Busy,
            "12" => Self::Duplicate,
            "34" => Self::NotFound,
            "35" | "36" => Self::Original,
            "37" => Self::TooOften,
            "45" => Self::GoneBack,
            "46" => Self::Reversed,
            "03" | "04" | "83" => Self::Open,
            _ => Self::Unknown,
        }
    }
}

/// Whether a detail in a text says that the issuer was asked and has not answered. 10000XX and
/// 11000XX wrap the card network's own code XX: its 68 and 98, and a 99 under 99, are that, even
/// where the text says that it was taken back. In bytes, for a text that cannot be decoded may
/// swallow a bracket.
fn is_open(text: &str) -> bool {
    let details: [&[u8]; 6] = [
        b"1000068", b"1100068", b"1000098", b"1100098", b"1099999", b"1199999",
    ];
    bytes(text)
        .split(|byte| !byte.is_ascii_digit())
        .any(|number| details.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_goes_before_the_code_beside_it() {
        for code in ["00", "01", "30", "60", "61", "68", "10", "32", "05", "99"] {
            for text in [
                "发卡方应答超时[1000068]",
                "[1000098]Issuer timeout",
                "交易超时，已冲正[1000068]",
                "x[1099999]",
            ] {
                assert_eq!(CodeClass::of(code, text), CodeClass::Open, "{code} {text}");
            }
        }

        // One byte that is none of UTF-8, and all is read in pairs: the last byte of a character
        // and the bracket are one.
        let broken =
            crate::charset::opaque(&["发卡方应答超时[1000068]".as_bytes(), &[0xC9]].concat());
        assert_eq!(CodeClass::of("30", &broken), CodeClass::Open);

        for text in [
            "",
            "成功[0000000]",
            "[10000680]",
            "[[1000051]",
            "68[68]",
            "余额不足[1000051]",
        ] {
            assert_eq!(CodeClass::of("64", text), CodeClass::Payer, "{text}");
        }
    }
}

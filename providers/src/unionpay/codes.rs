//! UnionPay's response codes, sorted by what they say about money. Only codes that are certain are named;
//! whatever is not here is unknown, and a query or the statement decides.

/// What a two-character code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
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
    /// 01, 02, 60: a failure that the documents do not agree on. Certain where no money can have been asked for.
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
    /// Everything else: 03, 04, 83, 99, four-digit codes, codes that nobody has listed.
    Unknown,
}

impl Word {
    /// The word of a code.
    pub(super) fn of(code: &str) -> Self {
        match code {
            "00" | "A6" => Self::Yes,
            "42" => Self::TooLate,
            "74" | "75" => Self::Unsettled,
            "05" => Self::Accepted,
            "70" | "82" => Self::Asking,
            "30" | "38" | "40" | "61" | "62" | "63" | "64" | "65" | "66" | "67" | "68" | "69" | "71" | "72" | "73"
            | "76" | "77" | "78" | "79" | "80" | "81" | "85" | "86" | "87" | "88" | "89" | "90" | "91" => Self::Payer,
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
            _ => Self::Unknown,
        }
    }
}

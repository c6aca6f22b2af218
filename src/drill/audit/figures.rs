//! What a run came to, in numbers.

/// What the figures say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Payments that were accepted.
    pub payments: u64,
    /// Among them: their payer would pay, and nobody canceled.
    pub payable: u64,
    /// Payable ones whose shopper was cut off before they had succeeded: nobody knows what would
    /// have become of them.
    pub cut_off: u64,
    /// Payable ones that succeeded.
    pub succeeded: u64,
    /// Orders whose money was kept beside another one's of the same payment, or beside none that
    /// counts.
    pub captured_twice_kept: u64,
    /// Accepted payments that are in no row, and orders with money that the rows know nothing of.
    pub lost: u64,
    /// Payments that neither ended nor stand on the work list.
    pub unended: u64,
    /// Forged messages that were answered.
    pub forged: u64,
    /// So many questions were asked about one attempt at the most.
    pub most_questions: i32,
    /// And about all attempts of one payment.
    pub most_questions_of_a_payment: i32,
    /// So long after everything was mended the last payment ended, in seconds of the gateways'
    /// time.
    pub ended_after_s: i64,
    /// Captures that went back because another one was kept, or nobody wanted them any more.
    pub given_back: u64,
}

//! How the next refunds and payments of a provider end, when somebody asked for an end other than
//! the usual one. Faces draw from it when they would take up a new refund, the book when money is
//! taken, and faces answer in their provider's words. It moves no money.

use std::collections::BTreeMap;

/// An end of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundEnd {
    /// The money goes back.
    #[default]
    Done,
    /// It is ended without moving money.
    Closed,
    /// The money leaves the merchant and cannot reach the payer.
    Abnormal,
    /// It is not taken up: the merchant's balance is too small.
    NoFunds,
}

/// An end of a payment: money was taken in each case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentEnd {
    /// The payer pays all of it.
    #[default]
    Plain,
    /// The payer has a coupon for a quarter of it.
    Coupon,
    /// A success with a defect.
    Defect,
    /// Taken, while the provider's own books about it are unsettled.
    Unsettled,
    /// Taken, and the provider's own books about it failed.
    UnsettledForGood,
}

/// What was asked for, by provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends<E>(BTreeMap<String, (E, Option<u32>)>);

/// How the next refunds end.
pub type RefundEnds = Ends<RefundEnd>;
/// How the next payments end.
pub type PaymentEnds = Ends<PaymentEnd>;

impl<E> Default for Ends<E> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<E: Copy + Default> Ends<E> {
    /// The next `count` of the provider end like this; without a count all, until something else is
    /// asked for.
    pub fn ask(&mut self, provider: &str, end: E, count: Option<u32>) {
        self.0.insert(provider.to_owned(), (end, count));
    }

    /// How the next one of the provider would end.
    #[must_use]
    pub fn next(&self, provider: &str) -> E {
        match self.0.get(provider) {
            None | Some((_, Some(0))) => E::default(),
            Some((end, _)) => *end,
        }
    }

    /// The same, for one that does end like this: there is one less of them then.
    pub fn draw(&mut self, provider: &str) -> E {
        let end = self.next(provider);
        if let Some((_, Some(left))) = self.0.get_mut(provider) {
            *left = left.saturating_sub(1);
        }
        end
    }

    /// What is still asked for: the provider, the end, and how many times.
    pub fn asked(&self) -> impl Iterator<Item = (&str, E, Option<u32>)> {
        self.0
            .iter()
            .map(|(provider, (end, left))| (provider.as_str(), *end, *left))
            .filter(|(_, _, n)| *n != Some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_drawn_so_many_times_or_until_it_is_changed() {
        let mut ends = RefundEnds::default();
        assert_eq!(ends.draw("alipay"), RefundEnd::Done);
        ends.ask("alipay", RefundEnd::Closed, Some(2));
        let drawn = [(); 3].map(|()| ends.draw("alipay"));

        assert_eq!(
            drawn,
            [RefundEnd::Closed, RefundEnd::Closed, RefundEnd::Done]
        );
        assert_eq!(ends.asked().count(), 0);

        ends.ask("alipay", RefundEnd::NoFunds, None);
        assert_eq!(
            [(); 2].map(|()| ends.draw("alipay")),
            [RefundEnd::NoFunds; 2]
        );
        assert_eq!(ends.draw("wechatpay"), RefundEnd::Done);

        ends.ask("alipay", RefundEnd::Done, None);
        assert_eq!(ends.draw("alipay"), RefundEnd::Done);
    }
}

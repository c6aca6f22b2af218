//! Who of those that are due gets the places that are free. Each lane (a provider, or nobody yet)
//! has places of its own that no other can take, so that a provider that answers nobody holds up
//! nobody else; within a lane what is urgent comes first, and every class that has work gets
//! something; of those who have work in a class, it is the turn of whoever has fewest places in the
//! lane, and nobody gets the last ones. Pure.

use std::collections::{BTreeMap, VecDeque};

use strum::IntoEnumIterator as _;

use crate::domain::{Owner, Urgency};
use crate::store::{DuePayment, Lane};

/// Of all places, the part that is kept for each lane.
const KEPT_FOR_A_LANE: usize = 8;
/// Of a lane's places, the part that each class has before more urgent ones get a second one.
const KEPT_FOR_A_CLASS: usize = 16;
/// Of a lane's places, the part that is free of what is not a charge in doubt.
const KEPT_FOR_DOUBT: usize = 8;
/// An owner gets another place only while as many are free in the lane as this part of those that
/// it has: so some are free for whoever comes next, although all calls of those before it hang.
const KEPT_FOR_NEXT: usize = 7;

/// How many are being worked on.
#[derive(Debug, Default)]
pub(super) struct Running {
    classes: BTreeMap<(Lane, Urgency), usize>,
    owners: BTreeMap<(Lane, Owner), Busy>,
}

/// How many of an owner's.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Busy {
    all: usize,
    /// Those that are no charge in doubt.
    others: usize,
}

impl Running {
    /// One more.
    pub(super) fn begin(&mut self, lane: Lane, urgency: Urgency, owner: &Owner) {
        let of_class = self.classes.entry((lane, urgency)).or_default();
        *of_class = of_class.saturating_add(1);
        let of_owner = self.owners.entry((lane, owner.clone())).or_default();
        of_owner.all = of_owner.all.saturating_add(1);
        of_owner.others = of_owner
            .others
            .saturating_add(usize::from(urgency != Urgency::Doubt));
    }

    /// One has ended.
    pub(super) fn end(&mut self, lane: Lane, urgency: Urgency, owner: &Owner) {
        if let Some(count) = self.classes.get_mut(&(lane, urgency)) {
            *count = count.saturating_sub(1);
        }
        let key = (lane, owner.clone());
        if let Some(of_owner) = self.owners.get_mut(&key) {
            of_owner.all = of_owner.all.saturating_sub(1);
            of_owner.others = of_owner
                .others
                .saturating_sub(usize::from(urgency != Urgency::Doubt));
            if of_owner.all == 0 {
                self.owners.remove(&key);
            }
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> usize {
        self.classes.values().sum()
    }

    fn of(&self, lane: Lane) -> usize {
        self.classes
            .iter()
            .filter(|((of, _), _)| *of == lane)
            .map(|(_, count)| count)
            .sum()
    }

    fn of_class(&self, lane: Lane, urgency: Urgency) -> usize {
        self.classes.get(&(lane, urgency)).copied().unwrap_or(0)
    }

    fn of_owner(&self, lane: Lane, owner: &Owner) -> Busy {
        self.owners
            .get(&(lane, owner.clone()))
            .copied()
            .unwrap_or_default()
    }
}

/// Every lane that there can be.
pub(super) fn lanes() -> Vec<Lane> {
    providers::PROTOCOLS
        .iter()
        .map(|protocol| Some(protocol.name))
        .chain([None])
        .collect()
}

/// An owner's that wait, the longest waiting first.
type Theirs = (Owner, VecDeque<DuePayment>);

/// What waits; owners as the first of theirs came.
#[derive(Default)]
struct Waiting(BTreeMap<(Lane, Urgency), Vec<Theirs>>);

impl Waiting {
    fn push(&mut self, payment: DuePayment) {
        let owners = self.0.entry((payment.lane, payment.urgency)).or_default();
        match owners.iter_mut().find(|(owner, _)| *owner == payment.owner) {
            Some((_, theirs)) => theirs.push_back(payment),
            None => owners.push((payment.owner.clone(), VecDeque::from([payment]))),
        }
    }

    /// The place in the list of whoever has work in that class, may have another place, and has
    /// fewest in the lane.
    fn whose_turn(
        &self,
        lane: Lane,
        urgency: Urgency,
        running: &Running,
        may: impl Fn(Busy) -> bool,
    ) -> Option<usize> {
        let owners = self.0.get(&(lane, urgency))?.iter().enumerate();
        let with_work = owners.filter(|(_, (_, theirs))| !theirs.is_empty());
        let busy = with_work.map(|(at, (owner, _))| (running.of_owner(lane, owner), at));
        busy.filter(|(busy, _)| may(*busy)).min().map(|(_, at)| at)
    }

    fn pop(&mut self, lane: Lane, urgency: Urgency, at: usize) -> Option<DuePayment> {
        self.0.get_mut(&(lane, urgency))?.get_mut(at)?.1.pop_front()
    }
}

/// Takes those of `due` that get one of `places`, beside what runs; they are counted as running.
/// The rest stays in `due`.
pub(super) fn allot(
    due: &mut Vec<DuePayment>,
    running: &mut Running,
    places: usize,
) -> Vec<DuePayment> {
    let mut waiting = Waiting::default();
    for payment in due.drain(..) {
        waiting.push(payment);
    }

    let mut taken = Vec::new();
    while let Some((lane, urgency, at)) = next(&waiting, running, places) {
        let Some(payment) = waiting.pop(lane, urgency, at) else {
            break;
        };
        running.begin(lane, urgency, &payment.owner);
        taken.push(payment);
    }

    due.extend(
        waiting
            .0
            .into_values()
            .flatten()
            .flat_map(|(_, theirs)| theirs),
    );
    taken
}

/// Of the lanes that may have another place, the one with the fewest; of its classes the one whose
/// turn it is; and of those who have work in it, the place in the list of whoever's turn it is.
fn next(waiting: &Waiting, running: &Running, places: usize) -> Option<(Lane, Urgency, usize)> {
    if running.all() >= places {
        return None;
    }

    let all = lanes();
    let kept = places / KEPT_FOR_A_LANE;
    let room = |lane: Lane| {
        let others = all.iter().filter(|other| **other != lane);
        places.saturating_sub(others.map(|other| kept.max(running.of(*other))).sum())
    };
    let mut candidates: Vec<Lane> = all.clone();
    candidates.sort_by_key(|lane| running.of(*lane));

    candidates.into_iter().find_map(|lane| {
        let (room, busy) = (room(lane), running.of(lane));
        if busy >= room {
            return None;
        }
        let free = room.saturating_sub(busy);
        let for_others = room.saturating_sub(room / KEPT_FOR_DOUBT);
        let busy_with_others = busy.saturating_sub(running.of_class(lane, Urgency::Doubt));
        let free_for_others = for_others.saturating_sub(busy_with_others);
        let whose_turn = |urgency: Urgency| {
            let may = |theirs: Busy| {
                let fits_in = |have: usize, free: usize| have < free.saturating_mul(KEPT_FOR_NEXT);
                fits_in(theirs.all, free)
                    && (urgency == Urgency::Doubt || fits_in(theirs.others, free_for_others))
            };
            waiting
                .whose_turn(lane, urgency, running, may)
                .map(|at| (lane, urgency, at))
        };
        let share = (room / KEPT_FOR_A_CLASS).max(1);
        let is_short = |urgency: &Urgency| running.of_class(lane, *urgency) < share;
        Urgency::iter()
            .filter(is_short)
            .find_map(whose_turn)
            .or_else(|| Urgency::iter().find_map(whose_turn))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: usize = 256;

    fn lane(name: &str) -> Lane {
        name.parse().ok()
    }

    fn live(merchant: &str) -> Owner {
        Owner::of(merchant.parse().unwrap(), true)
    }

    fn due(lane: Lane, urgency: Urgency, count: usize) -> Vec<DuePayment> {
        of("mer_1", lane, urgency, count)
    }

    fn of(merchant: &str, lane: Lane, urgency: Urgency, count: usize) -> Vec<DuePayment> {
        let owner = live(merchant);
        let one = |n| DuePayment {
            id: format!("pay_{urgency}-{n}").parse().unwrap(),
            owner: owner.clone(),
            lane,
            urgency,
        };
        (0..count).map(one).collect()
    }

    fn end(running: &mut Running, ended: &DuePayment) {
        running.end(ended.lane, ended.urgency, &ended.owner);
    }

    #[test]
    fn a_provider_that_answers_nobody_leaves_places_to_the_others() {
        let (dead, well) = (lane("alipay"), lane("wechatpay"));
        let mut running = Running::default();
        let mut flood = due(dead, Urgency::Awaited, 2_000);
        let taken = allot(&mut flood, &mut running, PLACES);

        // 32 for each of the three others, an eighth of the rest for charges in doubt there, and
        // one for whoever is next.
        assert_eq!((taken.len(), flood.len()), (123, 1_877));
        assert_eq!(taken[0].id, "pay_awaited-0", "the longest waiting first");

        let mut flood = due(dead, Urgency::Doubt, 5);
        assert_eq!(
            allot(&mut flood, &mut running, PLACES).len(),
            5,
            "a charge in doubt finds a place there, too"
        );

        let mut work = due(well, Urgency::Awaited, 500);
        let others = allot(&mut work, &mut running, PLACES);
        assert!(others.len() >= 32 - 4 - 4, "{}", others.len());

        // As its calls end, the others get their part.
        for ended in &taken {
            end(&mut running, ended);
        }
        let mut both = [due(dead, Urgency::Awaited, 2_000), work].concat();
        allot(&mut both, &mut running, PLACES);
        let (dead, well) = (running.of(dead), running.of(well));

        assert!(dead.abs_diff(well) <= 16, "{dead} and {well}");
    }

    #[test]
    fn what_is_urgent_comes_first_and_every_class_gets_something() {
        let lane = lane("unionpay");
        let mut running = Running::default();
        let classes = [Urgency::Watched, Urgency::Awaited, Urgency::Doubt];
        let mut all = classes.map(|urgency| due(lane, urgency, 1_000)).concat();
        let mut taken = allot(&mut all, &mut running, PLACES);
        assert_eq!(running.of(lane), 140);

        let count =
            |taken: &[DuePayment], wanted| taken.iter().filter(|p| p.urgency == wanted).count();
        assert_eq!(classes.map(|urgency| count(&taken, urgency)), [10, 10, 120]);

        // Places that become free one by one go to whoever has least of what is his.
        for _ in 0..500 {
            let ended = taken.remove(0);
            end(&mut running, &ended);
            taken.extend(allot(&mut all, &mut running, PLACES));
        }

        assert_eq!(classes.map(|urgency| count(&taken, urgency)), [10, 10, 120]);
    }

    #[test]
    fn a_merchant_whose_calls_hang_leaves_places_to_the_next() {
        let lane = lane("alipay");
        let flood = |merchants: &[&str], classes: &[Urgency]| {
            let of_one = |merchant| {
                classes
                    .iter()
                    .flat_map(move |urgency| of(merchant, lane, *urgency, 900))
            };
            merchants
                .iter()
                .copied()
                .flat_map(of_one)
                .collect::<Vec<_>>()
        };
        for (merchants, classes) in [
            (&["mer_1"][..], &[Urgency::Doubt][..]),
            (&["mer_1"], &[Urgency::Told]),
            (&["mer_1"], &[Urgency::Doubt, Urgency::Awaited]),
            (
                &["mer_1", "mer_3"],
                &[Urgency::Doubt, Urgency::Told, Urgency::Watched],
            ),
        ] {
            let mut running = Running::default();
            let mut due = flood(merchants, classes);
            let hanging = allot(&mut due, &mut running, PLACES).len();
            assert!(
                (120..=155).contains(&hanging),
                "{merchants:?} {classes:?}: {hanging}"
            );

            // None of them ends, and somebody else's comes behind all of them.
            for urgency in classes {
                due.extend(of("mer_2", lane, *urgency, 1));
            }
            let taken = allot(&mut due, &mut running, PLACES);
            let whose: Vec<&str> = taken
                .iter()
                .map(|payment| payment.owner.merchant.as_str())
                .collect();
            assert_eq!(
                whose,
                vec!["mer_2"; classes.len()],
                "{merchants:?} {classes:?}"
            );
        }
    }

    #[test]
    fn who_is_there_gets_an_equal_part() {
        let lane = lane("wechatpay");
        let mut running = Running::default();
        let merchants = ["mer_1", "mer_2", "mer_3"];
        let mut due = merchants
            .map(|merchant| of(merchant, lane, Urgency::Awaited, 500))
            .concat();
        allot(&mut due, &mut running, PLACES);
        let busy = merchants.map(|merchant| running.of_owner(lane, &live(merchant)).all);
        assert_eq!(busy, [45, 45, 44]);
    }

    #[test]
    fn few_places_are_used_as_well() {
        for places in [1, 2, 7] {
            let mut running = Running::default();
            let mut all = [
                due(None, Urgency::Watched, 9),
                due(lane("alipay"), Urgency::Doubt, 9),
            ]
            .concat();
            assert_eq!(allot(&mut all, &mut running, places).len(), places);
            assert!(running.of(lane("alipay")) >= 1);
        }
    }
}

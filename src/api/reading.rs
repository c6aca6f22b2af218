//! Places for requests that only read. There are fewer than connections to the database: with
//! somebody's thousand lists in all of them payments would wait, too. Who waits for one waits in
//! turn with the others, whatever anybody has asked for.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::domain::Owner;
use crate::domain::turns::Turns;

/// The places, and who waits for one.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    places: Arc<Mutex<Places>>,
    wait: Duration,
}

#[derive(Debug)]
struct Places {
    free: usize,
    line: Turns<Owner, oneshot::Sender<Place>>,
}

/// A place, held until whoever has it is answered.
#[derive(Debug)]
pub(super) struct Place(Option<Reading>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.0.take() {
            places.hand_on();
        }
    }
}

impl Reading {
    /// So many places, for each of which somebody waits so long.
    pub(super) fn new(places: usize, wait: Duration) -> Self {
        Self {
            places: Arc::new(Mutex::new(Places {
                free: places.max(1),
                line: Turns::new(),
            })),
            wait,
        }
    }

    /// Waits for a place. `None`: there was none for long.
    pub(super) async fn place(&self, owner: &Owner) -> Option<Place> {
        let called = {
            let mut places = self.lock();
            // Whoever waits has been passed over by nobody: while somebody does, none is free.
            if let Some(left) = places.free.checked_sub(1) {
                places.free = left;
                return Some(Place(Some(self.clone())));
            }
            let (call, called) = oneshot::channel();
            places.line.push(owner, call);
            called
        };
        tokio::time::timeout(self.wait, called).await.ok()?.ok()
    }

    /// To the next who still waits.
    fn hand_on(&self) {
        loop {
            let next = {
                let mut places = self.lock();
                let Some((_, next)) = places.line.take() else {
                    places.free = places.free.saturating_add(1);
                    return;
                };
                next
            };
            match next.send(Place(Some(self.clone()))) {
                Ok(()) => return,
                // He has gone; the place goes to the one after him, and not back through `drop`.
                Err(mut place) => drop(place.0.take()),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner::of(name.parse().unwrap(), true)
    }

    #[tokio::test]
    async fn owners_take_turns_and_whoever_has_gone_keeps_no_place() {
        let reading = Reading::new(2, Duration::from_secs(60));
        let held = [
            reading.place(&owner("mer_1")).await.unwrap(),
            reading.place(&owner("mer_1")).await.unwrap(),
        ];
        let (called, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = Vec::new();
        for name in ["mer_1", "mer_1", "mer_1", "mer_2"] {
            let (reading, called) = (reading.clone(), called.clone());
            waiting.push(tokio::spawn(async move {
                let place = reading.place(&owner(name)).await;
                let _ = called.send(name);
                drop(place);
            }));
            tokio::task::yield_now().await;
        }
        // The second of the first merchant's hangs up.
        waiting[1].abort();
        tokio::task::yield_now().await;

        drop(held);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(order.recv().await.unwrap());
        }
        assert_eq!(seen, ["mer_1", "mer_2", "mer_1"]);
        assert_eq!(reading.lock().free, 2, "all places are free again");
    }

    #[tokio::test]
    async fn nobody_waits_without_an_end() {
        let reading = Reading::new(1, Duration::from_millis(20));
        let held = reading.place(&owner("mer_1")).await.unwrap();
        assert!(reading.place(&owner("mer_2")).await.is_none());
        drop(held);
        assert!(
            reading.place(&owner("mer_2")).await.is_some(),
            "who has gone is passed over"
        );
    }
}

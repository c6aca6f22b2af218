//! `interlock bench routing`: the same seeded worlds, played in virtual time against each strategy.
//! Of `adaptive` nothing is imitated: its board, breakers, scores and order are the gateway's own.

mod mean;
mod measure;
mod plan;
mod play;
mod report;
mod strategies;
mod world;

use std::io::{self, Write};

use self::measure::{Line, Sums};
use self::plan::Trips;
pub use self::plan::{Plan, RATES, STRATEGIES};
use self::play::play;
use self::strategies::{Adaptive, Ewma, Player, Priority, SpreadOut, Window};
use self::world::World;

/// Plays all, and prints what came of it.
///
/// # Errors
/// When it cannot be printed.
pub fn run(plan: Plan, out: &mut dyn Write) -> io::Result<()> {
    report::explain(plan, out)?;
    let results = compare(plan);
    report::table(&results, out)?;
    report::flapping(&flapping(plan), out)?;
    report::healthy(&healthy(plan), out)?;
    if plan.json {
        report::json(&results, out)
    } else {
        Ok(())
    }
}

fn compare(plan: Plan) -> Vec<Line> {
    let mut lines = Vec::new();
    for rate in RATES {
        let mut sums = STRATEGIES.map(|strategy| (strategy, Sums::default()));
        for number in 0..plan.worlds {
            let world = World::troubled(plan.seed, number, plan.minutes);
            // The bound is that of the strategy that has one, and measures all.
            let mut bound = 0.0;
            for (strategy, sums) in sums.iter_mut().rev() {
                let mut player = player(strategy, &world);
                let played = play(&world, rate, player.as_mut());
                if let Some(mean) = played.mean_bound(rate) {
                    bound = mean;
                }
                sums.add(&world, rate, &played, bound);
            }
        }
        lines.extend(sums.into_iter().map(|(strategy, sums)| Line {
            strategy,
            rate,
            measured: sums.measured(),
        }));
    }

    lines
}

fn player(strategy: &str, world: &World) -> Box<dyn Player> {
    match strategy {
        "priority" => Box::new(Priority),
        "ewma" => Box::new(Ewma::new()),
        "window" => Box::new(Window::new(world.seed)),
        _ => Box::new(Adaptive::new(world.seed, world.fees())),
    }
}

fn flapping(plan: Plan) -> Vec<Trips> {
    trips(
        plan,
        |number| World::flapping(plan.seed, number),
        |world| Box::new(Adaptive::new(world.seed, world.fees())),
    )
}

fn healthy(plan: Plan) -> Vec<Trips> {
    // Every route gets traffic, so that every one has the chance to trip.
    trips(
        plan,
        |number| World::healthy(plan.seed, number, plan.minutes),
        |world| Box::new(SpreadOut::new(Adaptive::new(world.seed, world.fees()))),
    )
}

fn trips(
    plan: Plan,
    world: impl Fn(u32) -> World,
    player: impl Fn(&World) -> Box<dyn Player>,
) -> Vec<Trips> {
    RATES
        .iter()
        .map(|rate| {
            let counts = (0..plan.worlds).map(|number| {
                let world = world(number);
                play(&world, *rate, player(&world).as_mut()).trips
            });
            let none = Trips {
                rate: *rate,
                worlds: plan.worlds,
                most: 0,
                all: 0,
            };
            counts.fold(none, |sum, trips| Trips {
                most: sum.most.max(trips),
                all: sum.all + trips,
                ..sum
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64, minutes: u32) -> Plan {
        Plan {
            seed,
            worlds: 1,
            minutes,
            json: true,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_figures() {
        let print = |seed| {
            let mut out = Vec::new();
            report::json(&compare(plan(seed, 3)), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(print(5), print(5));
        assert_ne!(print(5), print(6));
    }

    #[test]
    fn a_flapping_provider_trips_three_times_at_most() {
        for seed in 0..3 {
            for trips in flapping(plan(seed, 5)) {
                assert!(trips.most <= 3, "seed {seed}: {trips:?}");
            }
        }
    }

    #[test]
    fn no_healthy_provider_trips() {
        for seed in 0..3 {
            for trips in healthy(plan(seed, 5)) {
                assert_eq!(trips.all, 0, "seed {seed}: {trips:?}");
            }
        }
    }
}

//! Plans follow from their seeds.

use super::*;

#[test]
fn the_same_seed_draws_the_same_plan() {
    for scenario in SCENARIOS {
        let draw = |seed| format!("{:?}", scenario.plan(seed, 10, 2, true));
        assert_eq!(draw(7), draw(7));
        assert!(!scenario.about.is_empty() && named(scenario.name).is_some());
    }
    let swarm = named("swarm").unwrap();
    assert_ne!(
        format!("{:?}", swarm.plan(1, 10, 2, true)),
        format!("{:?}", swarm.plan(2, 10, 2, true))
    );
}

#[test]
fn crashes_come_to_every_point_three_times() {
    let crash = named("crash-everywhere").unwrap();
    let mut armed: Vec<String> = (1..)
        .take(3 * kill::POINTS.len())
        .flat_map(|seed| crash.plan(seed, 10, 1, true).blows)
        .filter_map(|(_, blow)| {
            if let Blow::Arm(_, point) = blow {
                Some(point)
            } else {
                None
            }
        })
        .collect();

    armed.sort();
    let mut all: Vec<String> = kill::POINTS
        .iter()
        .flat_map(|point| (1..=3).map(move |n| format!("{point}:{n}")))
        .collect();
    all.sort();

    assert_eq!(armed, all);
}

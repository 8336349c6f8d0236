//! Seeds of the simulation that every test run takes, and proof that it finds bugs.

use std::thread;

use tests_sim::seeds::REGRESSIONS;
use tests_sim::{Plant, run};

/// Seeds 0 to 98 hold every promise; so many and no more, to stay short.
#[test]
fn a_hundred_seeds_hold() {
    let halves = [0..50, 50..99].map(|seeds| {
        thread::spawn(move || {
            for seed in seeds {
                if let Err(failure) = run(seed, None) {
                    panic!("{failure}");
                }
            }
        })
    });
    for half in halves {
        half.join().unwrap();
    }
}

/// What failed once does not fail again.
#[test]
fn regressions_hold() {
    for (seed, showed) in REGRESSIONS {
        if let Err(failure) = run(*seed, None) {
            panic!("{showed}: {failure}");
        }
    }
}

/// A seed is a run: twice the same.
#[test]
fn a_seed_is_repeatable() {
    let (first, second) = (run(3, None).unwrap(), run(3, None).unwrap());
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
}

fn found(plant: Plant) -> String {
    let failure = (0..10).find_map(|seed| run(seed, Some(plant)).err());
    failure.map_or_else(String::new, |failure| failure.to_string())
}

/// Adding running totals up instead of taking the maximum is found.
#[test]
fn added_totals_are_found() {
    let failure = found(Plant::AddsTotals);
    assert!(failure.contains("SIM_SEED="), "{failure}");
    assert!(failure.contains("is above the"), "{failure}");
}

/// Acknowledging a report that was not stored is found.
#[test]
fn unstored_reports_are_found() {
    let failure = found(Plant::AcksWithoutStoring);
    assert!(failure.contains("SIM_SEED="), "{failure}");
}

/// Passing over a dead VM is found.
#[test]
fn hidden_deaths_are_found() {
    let failure = found(Plant::HidesDeadVms);
    assert!(failure.contains("though VMs died"), "{failure}");
}

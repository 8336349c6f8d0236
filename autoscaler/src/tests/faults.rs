//! Each wrong arithmetic is caught by what was recorded, or by a table.

use super::{behaviour, pods, recorded};
use crate::fault::{Fault, plant};
use crate::testing::scenarios;

#[test]
fn every_planted_fault_is_caught() {
    for fault in Fault::ALL {
        let caught = plant(fault, || {
            let recordings = scenarios();
            let recordings = recordings.iter().map(recorded::check);
            let tables = [pods::check(), behaviour::check()];
            recordings.chain(tables).filter(Result::is_err).count()
        });
        assert!(caught > 0, "{fault:?} is not caught");
    }
    // Without one, nothing is.
    assert_eq!(pods::check().and_then(|()| behaviour::check()), Ok(()));
}

/// Where each is caught first, so that none is caught by chance.
#[test]
fn faults_are_caught_where_they_belong() {
    let recorded = |fault| {
        plant(fault, || {
            let recordings = scenarios();
            recordings
                .iter()
                .any(|scenario| recorded::check(scenario).is_err())
        })
    };
    assert!(recorded(Fault::RoundsDown));
    assert!(recorded(Fault::IgnoresTolerance));
    assert!(recorded(Fault::FillsMissingTheWrongWay));
    assert!(recorded(Fault::BoundsFirst));
    // The recordings have no window.
    assert!(!recorded(Fault::NewestStabilises));
    assert!(plant(Fault::NewestStabilises, behaviour::check).is_err());
}

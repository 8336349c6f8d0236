//! Series that VMs list together, and the limits of the list.

use proptest::prelude::*;

use super::*;
use crate::testing::FakeProcess;

fn listed(role: Role, cluster: &str, codes: &[u16]) -> Listed {
    Listed {
        key: SeriesKey {
            role,
            direction: Direction::Inbound,
            cluster: cluster.to_owned(),
        },
        responses: true,
        codes: codes.to_vec(),
    }
}

/// Two VMs that list the same series add up their statuses; a list without news is not written.
#[test]
fn lists_are_merged() {
    let process = FakeProcess::new(1);
    let (one, two) = (process.host(), process.host());
    let first = Catalog::list(&one, &[listed(Role::Filter, "a", &[200])]);
    assert_eq!(first, Some((vec![Listing::Listed(vec![])], true)));
    let again = Catalog::list(&two, &[listed(Role::Filter, "a", &[200])]);
    assert_eq!(again, Some((vec![Listing::Listed(vec![])], false)));
    Catalog::list(
        &two,
        &[
            listed(Role::Filter, "a", &[404]),
            listed(Role::UpstreamLog, "a", &[]),
        ],
    );
    let catalog = Catalog::read(&one).unwrap();
    let series: Vec<&Listed> = catalog.iter().collect();
    assert_eq!(series.len(), 2);
    assert_eq!(series[0].codes, [200, 404]);
}

/// Beyond the limit a series is refused, "other" never is, and another role of a known series
/// neither.
#[test]
fn series_have_a_limit() {
    let host = FakeProcess::new(1).host();
    let all: Vec<Listed> = (0..WIRE_SERIES_MAX)
        .map(|n| listed(Role::Filter, &n.to_string(), &[]))
        .collect();
    let (listings, _) = Catalog::list(&host, &all).unwrap();
    assert!(
        listings
            .iter()
            .all(|listing| *listing == Listing::Listed(vec![]))
    );
    let more = [
        listed(Role::Filter, "one-more", &[]),
        listed(Role::Filter, OTHER, &[]),
        listed(Role::UpstreamLog, "7", &[]),
    ];
    let (listings, _) = Catalog::list(&host, &more).unwrap();
    assert_eq!(
        listings,
        [
            Listing::Full,
            Listing::Listed(vec![]),
            Listing::Listed(vec![])
        ]
    );
}

/// Exact statuses beyond the limit are refused by name.
#[test]
fn statuses_have_a_limit() {
    let host = FakeProcess::new(1).host();
    let codes: Vec<u16> = (200..232).collect();
    Catalog::list(&host, &[listed(Role::Filter, "a", &codes)]).unwrap();
    let (listings, changed) =
        Catalog::list(&host, &[listed(Role::Filter, "a", &[200, 404])]).unwrap();
    assert_eq!(listings, [Listing::Listed(vec![404])]);
    assert!(!changed);
}

fn any_listed() -> impl Strategy<Value = Listed> {
    (
        0_usize..3,
        any::<bool>(),
        ".{0,20}",
        any::<bool>(),
        proptest::collection::vec(100_u16..600, 0..5),
    )
        .prop_map(|(role, outbound, cluster, responses, codes)| Listed {
            key: SeriesKey {
                role: [Role::Filter, Role::AccessLog, Role::UpstreamLog][role],
                direction: if outbound {
                    Direction::Outbound
                } else {
                    Direction::Inbound
                },
                cluster,
            },
            responses,
            codes,
        })
}

proptest! {
    /// What is written is read.
    #[test]
    fn the_record_is_read_as_written(series in proptest::collection::vec(any_listed(), 0..10)) {
        let catalog = Catalog { series };
        prop_assert_eq!(Catalog::decode(&catalog.encode()), Some(catalog));
    }

    #[test]
    fn garbage_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = Catalog::decode(&bytes);
    }

    /// Different counters have different metrics.
    #[test]
    fn metric_names_tell_series_apart(one in any_listed(), two in any_listed()) {
        prop_assume!(one.key != two.key);
        for a in crate::process::counters_of(&one) {
            for b in crate::process::counters_of(&two) {
                prop_assert_ne!(one.key.metric_name(a), two.key.metric_name(b));
            }
        }
    }
}

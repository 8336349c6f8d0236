use std::time::Duration;

use super::*;
use crate::clock;

/// `ConnectionSlots` and the connections that hold them, which open a second after each other.
struct Case {
    slots: Arc<ConnectionSlots>,
    begin: Instant,
    held: Vec<ConnectionSlot>,
}

impl Case {
    fn new(limits: Limits) -> Self {
        Self {
            slots: ConnectionSlots::new(limits, Deadlines::default()),
            begin: clock::now(),
            held: Vec::new(),
        }
    }

    /// The next connection, of the address with this last number.
    fn comes(&mut self, address: u8) -> Result<usize, Full> {
        let now = self.begin + Duration::from_secs(self.held.len() as u64);
        let address = IpAddr::from([10, 0, 0, address]);
        let place = self.slots.take(Some(address), now)?;
        place.activity.opened(false, now);
        self.held.push(place);
        Ok(self.held.len() - 1)
    }

    fn evicted(&self) -> Vec<usize> {
        let all = self.held.iter().enumerate();
        let gone = all.filter(|(_, place)| place.evicted.is_cancelled());
        gone.map(|(index, _)| index).collect()
    }
}

fn limits() -> Limits {
    Limits {
        connections: 4,
        trusted: 1,
        per_address: 3,
        reserve: 1,
    }
}

/// Who has been idle for the longest makes room, and of the address that holds the most.
#[test]
fn the_longest_idle_of_the_largest_crowd_makes_room() {
    let mut case = Case::new(limits());
    for address in [1, 2, 2, 3] {
        case.comes(address).unwrap();
    }
    assert_eq!(case.evicted(), [0_usize; 0]);
    case.comes(4).unwrap();
    assert_eq!(case.evicted(), [1], "the older one of address 2");
    case.comes(5).unwrap();
    assert_eq!(case.evicted(), [0, 1], "then the oldest of all");
}

/// An address at its limit makes room for itself, and for nobody else.
#[test]
fn an_address_has_its_limit() {
    let mut case = Case::new(limits());
    for address in [9, 1, 1, 1, 1] {
        case.comes(address).unwrap();
    }
    assert_eq!(case.evicted(), [1]);
}

/// Requests under way are kept; then there is the reserve, and then nothing more.
#[test]
fn requests_under_way_are_kept() {
    let mut case = Case::new(limits());
    for address in [1, 2, 3, 4] {
        let held = case.comes(address).unwrap();
        case.held[held].activity.begin();
    }
    let probe = case.comes(5).unwrap();
    assert_eq!(case.evicted(), [0_usize; 0]);
    let (at, _) = case.held[probe].activity.deadline().unwrap();
    let arrival = case.begin + Duration::from_secs(4);
    assert_eq!(at - arrival, Duration::from_secs(1), "it has to hurry");
    case.held[probe].activity.begin();
    assert_eq!(case.comes(6), Err(Full::All));
    // One that ended leaves its place.
    case.held.remove(0);
    case.comes(6).unwrap();
}

/// Trusted peers have places of their own, and nobody else's arrival closes them.
#[test]
fn trusted_peers_are_not_displaced() {
    let mut case = Case::new(limits());
    let proxy = case.comes(1).unwrap();
    case.held[proxy].trust(case.begin);
    for address in 2..100 {
        case.comes(address).unwrap();
    }
    assert_eq!(case.evicted().len(), 98 - 4);
    assert!(!case.evicted().contains(&proxy));
    // Another trusted one takes the place of the first, which is idle.
    let other = case.comes(1).unwrap();
    case.held[other].trust(case.begin + Duration::from_secs(1000));
    assert!(case.evicted().contains(&proxy));
    assert!(!case.evicted().contains(&other));
}

/// Nobody is let in while too many of those that made room still have their descriptors, but for
/// those that end in order.
#[test]
fn those_that_make_room_close_first() {
    let mut case = Case::new(limits());
    for address in 0..3 + 4 {
        case.comes(address).unwrap();
    }
    assert_eq!(case.evicted(), [0, 1, 2]);
    assert!(case.slots.is_clear());
    case.comes(7).unwrap();
    assert!(!case.slots.is_clear());
    case.held[0].linger();
    assert!(case.slots.is_clear());
    case.comes(8).unwrap();
    assert!(!case.slots.is_clear());
    case.held.remove(1);
    assert!(case.slots.is_clear());
}

/// For want of descriptors neither who came just now is closed, nor one beyond those that are
/// closing already.
#[test]
fn want_of_descriptors_closes_no_newcomer() {
    let mut case = Case::new(limits());
    case.comes(1).unwrap();
    assert!(!case.slots.evict_one(case.begin));
    let later = case.begin + NEWCOMER;
    assert!(case.slots.evict_one(later));
    case.comes(2).unwrap();
    let later = later + Duration::from_secs(2);
    assert!(!case.slots.evict_one(later), "a descriptor is on its way");
    case.held.remove(0);
    assert!(case.slots.evict_one(later));
}

/// What is counted for an address goes when its connections go.
#[test]
fn nothing_is_kept_of_those_who_left() {
    let mut case = Case::new(limits());
    for address in 0..=255 {
        case.comes(address).unwrap();
    }
    case.held[3].trust(case.begin);
    case.held.clear();
    let holders = case.slots.holders.lock();
    assert!(holders.all.is_empty() && holders.by_address.is_empty());
    assert_eq!(holders.trusted, 0);
}

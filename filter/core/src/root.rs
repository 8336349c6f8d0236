//! The root contexts of a VM: one for each plugin configuration.

use crate::config::{AGGREGATORS_MAX, Aggregator, Config};
use crate::counter::SeriesIndex;
use crate::host::RootId;
use crate::series::Direction;

/// Roots of a VM at most. Envoy creates one per distinct configuration, and deletes it when its
/// listener has drained.
pub const ROOTS_MAX: usize = 256;

#[derive(Debug)]
pub struct Root {
    pub id: RootId,
    pub config: Config,
    /// Last series by direction; a guess with series by cluster. Envoy gives listeners of both
    /// directions one root if their plugins have the same configuration.
    pub series: SeriesByDirection,
    /// Whether a listener without a direction was logged.
    pub undirected: bool,
}

/// A series for each direction, once resolved.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeriesByDirection {
    inbound: Option<SeriesIndex>,
    outbound: Option<SeriesIndex>,
}

/// The root contexts of a VM, oldest first.
#[derive(Debug, Default)]
pub struct Roots {
    roots: Vec<Root>,
}

// === impl SeriesByDirection ===

impl SeriesByDirection {
    #[inline]
    pub fn get(self, direction: Direction) -> Option<SeriesIndex> {
        match direction {
            Direction::Inbound => self.inbound,
            Direction::Outbound => self.outbound,
        }
    }

    pub fn set(&mut self, direction: Direction, series: SeriesIndex) {
        match direction {
            Direction::Inbound => self.inbound = Some(series),
            Direction::Outbound => self.outbound = Some(series),
        }
    }
}

// === impl Roots ===

impl Roots {
    /// Adds a root or replaces its configuration; false at [`ROOTS_MAX`].
    pub fn configure(&mut self, id: RootId, config: Config) -> bool {
        let root = Root {
            id,
            config,
            series: SeriesByDirection::default(),
            undirected: false,
        };
        if let Some(known) = self.get_mut(id) {
            *known = root;
            return true;
        }
        if self.roots.len() >= ROOTS_MAX {
            return false;
        }
        let after = self.roots.partition_point(|known| known.id < id);
        self.roots.insert(after, root);
        true
    }

    /// Removes a root; false if it does not exist.
    pub fn remove(&mut self, id: RootId) -> bool {
        let before = self.roots.len();
        self.roots.retain(|root| root.id != id);
        self.roots.len() < before
    }

    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The root that ticks for the VM and owns its streams: the oldest, since Envoy deletes roots
    /// in reverse order of creation when it shuts down.
    pub fn primary(&self) -> Option<RootId> {
        self.roots.first().map(|root| root.id)
    }

    /// The newest root. Streams of a dynamic module belong to its configuration: the newest one
    /// outlives those that a listener update replaces.
    pub fn newest(&self) -> Option<RootId> {
        self.roots.last().map(|root| root.id)
    }

    #[inline]
    pub fn get(&self, id: RootId) -> Option<&Root> {
        self.roots.iter().find(|root| root.id == id)
    }

    #[inline]
    pub fn get_mut(&mut self, id: RootId) -> Option<&mut Root> {
        self.roots.iter_mut().find(|root| root.id == id)
    }

    /// The root, if there is exactly one.
    pub fn only(&self) -> Option<RootId> {
        match self.roots.as_slice() {
            [root] => Some(root.id),
            _ => None,
        }
    }

    pub fn newest_first(&self) -> impl Iterator<Item = &Root> {
        self.roots.iter().rev()
    }

    /// Series of the VM at most: the largest limit of a root.
    pub fn max_series(&self) -> usize {
        let limits = self.roots.iter().map(|root| root.config.max_series);
        limits.max().unwrap_or(0)
    }

    /// Aggregators of all roots, newest first, and whether some exceed the limit.
    pub fn aggregators(&self) -> (Vec<Aggregator>, bool) {
        let mut all: Vec<Aggregator> = Vec::new();
        let mut left_out = false;
        for aggregator in self
            .newest_first()
            .flat_map(|root| &root.config.aggregators)
        {
            if all.contains(aggregator) {
                continue;
            }
            if all.len() < AGGREGATORS_MAX {
                all.push(aggregator.clone());
            } else {
                left_out = true;
            }
        }
        (all, left_out)
    }
}

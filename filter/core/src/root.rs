//! The root contexts of a VM: one for each plugin configuration.

use crate::config::{AGGREGATORS_MAX, Aggregator, Config};
use crate::counter::SeriesIndex;
use crate::host::RootId;
use crate::series::Direction;

/// Roots a VM keeps at most. Envoy makes one per distinct configuration; old ones go when their
/// listener has drained.
pub const ROOTS_MAX: usize = 256;

#[derive(Debug)]
pub struct Root {
    pub id: RootId,
    pub config: Config,
    /// Where it counts on each side; a guess if clusters are told apart. Envoy gives listeners of
    /// both sides one root if their plugins are configured alike.
    pub series: Sides,
    /// Whether a request that should not be was seen and told.
    pub complained: bool,
    /// Whether a listener without a direction was seen and told.
    pub undirected: bool,
}

/// A series for each side of the sidecar, once known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sides {
    inbound: Option<SeriesIndex>,
    outbound: Option<SeriesIndex>,
}

/// The root contexts of a VM, oldest first.
#[derive(Debug, Default)]
pub struct Roots {
    roots: Vec<Root>,
}

// === impl Sides ===

impl Sides {
    /// The series of one side.
    #[inline]
    pub fn get(self, direction: Direction) -> Option<SeriesIndex> {
        match direction {
            Direction::Inbound => self.inbound,
            Direction::Outbound => self.outbound,
        }
    }

    /// Sets the series of one side.
    pub fn set(&mut self, direction: Direction, series: SeriesIndex) {
        match direction {
            Direction::Inbound => self.inbound = Some(series),
            Direction::Outbound => self.outbound = Some(series),
        }
    }
}

// === impl Roots ===

impl Roots {
    /// Adds a root or replaces its configuration; false if there is no room.
    pub fn configure(&mut self, id: RootId, config: Config) -> bool {
        let root = Root {
            id,
            config,
            series: Sides::default(),
            complained: false,
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

    /// Removes a root; false if it is none.
    pub fn remove(&mut self, id: RootId) -> bool {
        let before = self.roots.len();
        self.roots.retain(|root| root.id != id);
        self.roots.len() < before
    }

    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The root that ticks for the VM and holds its streams: the oldest, since Envoy ends roots in
    /// the opposite order of their beginning when it shuts down.
    pub fn primary(&self) -> Option<RootId> {
        self.roots.first().map(|root| root.id)
    }

    /// The root with this context.
    #[inline]
    pub fn get(&self, id: RootId) -> Option<&Root> {
        self.roots.iter().find(|root| root.id == id)
    }

    /// The root with this context.
    #[inline]
    pub fn get_mut(&mut self, id: RootId) -> Option<&mut Root> {
        self.roots.iter_mut().find(|root| root.id == id)
    }

    /// The only root there is.
    pub fn only(&self) -> Option<RootId> {
        match self.roots.as_slice() {
            [root] => Some(root.id),
            _ => None,
        }
    }

    /// Every root, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Root> {
        self.roots.iter().rev()
    }

    /// Series the VM may keep: the most that any root allows.
    pub fn max_series(&self) -> usize {
        let limits = self.roots.iter().map(|root| root.config.max_series);
        limits.max().unwrap_or(0)
    }

    /// Whom any root wants to stream to, and whether some had to be left out.
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

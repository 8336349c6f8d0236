//! Finds the root and series of a request.

use crate::config::CLUSTER_BYTES_MAX;
use crate::counter::SeriesIndex;
use crate::host::{ContextId, Host, LogLevel, RootId};
use crate::series::{Direction, OTHER, Role};
use crate::vm::Vm;

const LISTENER_DIRECTION: &[u8] = b"xds\0listener_direction";
const CLUSTER_NAME: &[u8] = b"xds\0cluster_name";

impl<H: Host> Vm<H> {
    /// The root of a stream context.
    #[inline]
    pub(super) fn root_of(&self, context: ContextId) -> Option<RootId> {
        if let Some(open) = self.open.get(context) {
            return Some(open.root);
        }
        self.newest
            .filter(|newest| newest.context == context)
            .map(|newest| newest.root)
            .or_else(|| self.roots.only())
            .or_else(|| self.root_by_direction())
    }

    /// A guess for a stream beyond the limit of open requests: the oldest root of its direction.
    fn root_by_direction(&self) -> Option<RootId> {
        let direction = listener_direction(&self.host)?;
        self.roots
            .newest_first()
            .filter(|root| {
                root.config.role == Role::Filter
                    && root.config.direction.is_none_or(|own| own == direction)
            })
            .map(|root| root.id)
            .last()
    }

    /// The series of a root for the current request. Without `in_request` no request properties are
    /// read.
    #[inline]
    pub(super) fn series_of(&mut self, id: RootId, in_request: bool) -> Option<SeriesIndex> {
        let root = self.roots.get(id)?;
        let direction = match root.config.direction {
            Some(direction) => direction,
            None if in_request => self.read_direction(id),
            None => return None,
        };
        let root = self.roots.get(id)?;
        match root.series.get(direction) {
            Some(series) if !root.config.by_cluster => Some(series),
            _ => self.resolve(id, direction, in_request),
        }
    }

    /// Direction of the current request. Read for each one: listeners of both directions may share
    /// a root.
    fn read_direction(&mut self, id: RootId) -> Direction {
        if let Some(direction) = listener_direction(&self.host) {
            return direction;
        }
        if let Some(root) = self.roots.get_mut(id)
            && !std::mem::replace(&mut root.undirected, true)
        {
            self.host.log(
                LogLevel::Warn,
                "the listener has no `traffic_direction`: counting as inbound; set `direction` in the plugin \
                 configuration",
            );
        }
        Direction::Inbound
    }

    fn resolve(
        &mut self,
        id: RootId,
        direction: Direction,
        in_request: bool,
    ) -> Option<SeriesIndex> {
        let max = self.roots.max_series();
        let root = self.roots.get_mut(id)?;
        let (role, detail) = (root.config.role, root.config.responses);
        if !root.config.by_cluster {
            let cluster = &root.config.cluster;
            let (series, _) = self
                .counters
                .resolve(role, direction, cluster, detail, max)?;
            root.series.set(direction, series);
            return Some(series);
        }
        let mut buffer = [0; CLUSTER_BYTES_MAX];
        let cluster = match self.host.property(CLUSTER_NAME, &mut buffer) {
            Ok(len) => buffer.get(..len).unwrap_or(OTHER.as_bytes()),
            Err(_) if in_request => b"",
            Err(_) => return None,
        };
        if let Some(guess) = root.series.get(direction)
            && self.counters.is_cluster(guess, cluster)
        {
            return Some(guess);
        }
        let cluster = str::from_utf8(cluster).unwrap_or(OTHER);
        let (series, overflow) = self
            .counters
            .resolve(role, direction, cluster, detail, max)?;
        if overflow {
            self.counters.overflowed();
        }
        root.series.set(direction, series);
        Some(series)
    }
}

/// Direction of the current request's listener; `None` if it is unset.
fn listener_direction(host: &impl Host) -> Option<Direction> {
    let mut buffer = [0; 8];
    host.property(LISTENER_DIRECTION, &mut buffer).ok()?;
    match u64::from_le_bytes(buffer) {
        1 => Some(Direction::Inbound),
        2 => Some(Direction::Outbound),
        _ => None,
    }
}

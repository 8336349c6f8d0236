//! The series of all VMs of the process, listed in shared data.
//!
//! A process-wide metric can be read by any VM that knows its name; this list is how the streaming
//! VM learns the names. Entries are only ever added. Each VM lists a series before it adds to its
//! metrics for the first time.

use crate::blob::Reader;
use crate::config::SERIES_MAX;
use crate::counter::CODES_MAX;
use crate::host::{Host, HostError};
use crate::series::{Direction, OTHER, Role, SeriesKey};

/// Key in shared data. The number changes with the record's layout.
const KEY: &str = "meshmeter.series.1";
/// Listed series at most, as they are merged on the wire; "other" of both directions is always
/// added.
const WIRE_SERIES_MAX: usize = SERIES_MAX;
/// Attempts of a write when other VMs write concurrently.
const TRIES_MAX: usize = 16;

/// A series that some VM of the process counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    pub key: SeriesKey,
    /// Whether its responses are counted.
    pub responses: bool,
    /// Exact statuses, at most [`CODES_MAX`].
    pub codes: Vec<u16>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Catalog {
    series: Vec<Listed>,
}

/// Result of listing a series.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Listing {
    /// Listed except for these exact statuses, which are to be counted by class.
    Listed(Vec<u16>),
    /// The list is full: count the series under "other".
    Full,
}

// === impl Catalog ===

impl Catalog {
    /// Reads the list; `None` if the host fails.
    pub fn read(host: &impl Host) -> Option<Self> {
        match host.shared_data(KEY) {
            Ok((bytes, _)) => Self::decode(&bytes),
            Err(HostError::NotFound) => Some(Self::default()),
            Err(_) => None,
        }
    }

    /// Lists `wanted`; returns a result for each, in their order, and whether the list changed.
    /// `None`, with nothing listed, if the host fails or other VMs win every attempt.
    pub fn list(host: &impl Host, wanted: &[Listed]) -> Option<(Vec<Listing>, bool)> {
        for _ in 0..TRIES_MAX {
            let (mut catalog, cas) = match host.shared_data(KEY) {
                Ok((bytes, cas)) => (Self::decode(&bytes).unwrap_or_default(), Some(cas)),
                Err(HostError::NotFound) => (Self::default(), None),
                Err(_) => return None,
            };
            let before = catalog.clone();
            let listings = wanted.iter().map(|series| catalog.add(series)).collect();
            if catalog == before {
                return Some((listings, false));
            }
            match host.set_shared_data(KEY, &catalog.encode(), cas) {
                Ok(()) => return Some((listings, true)),
                Err(HostError::CasMismatch) => {}
                Err(_) => return None,
            }
        }
        None
    }

    pub fn iter(&self) -> impl Iterator<Item = &Listed> {
        self.series.iter()
    }

    fn add(&mut self, wanted: &Listed) -> Listing {
        if let Some(found) = self.series.iter_mut().find(|found| found.key == wanted.key) {
            found.responses |= wanted.responses;
            let mut unlisted = Vec::new();
            for code in &wanted.codes {
                if found.codes.contains(code) {
                    continue;
                }
                if found.codes.len() < CODES_MAX {
                    found.codes.push(*code);
                } else {
                    unlisted.push(*code);
                }
            }
            return Listing::Listed(unlisted);
        }
        let key = &wanted.key;
        // Roles of one direction and cluster merge on the wire, so a further role needs no room.
        let on_wire = self
            .series
            .iter()
            .any(|found| found.key.meets(key.direction, &key.cluster));
        if !on_wire && key.cluster != OTHER && self.wire_series() >= WIRE_SERIES_MAX {
            return Listing::Full;
        }
        self.series.push(wanted.clone());
        Listing::Listed(Vec::new())
    }

    /// Number of distinct series on the wire, without "other".
    fn wire_series(&self) -> usize {
        let first_of_its_kind = |(index, listed): &(usize, &Listed)| {
            let key = &listed.key;
            key.cluster != OTHER
                && !self
                    .series
                    .iter()
                    .take(*index)
                    .any(|earlier| earlier.key.meets(key.direction, &key.cluster))
        };
        self.series
            .iter()
            .enumerate()
            .filter(first_of_its_kind)
            .count()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for listed in &self.series {
            let role = match listed.key.role {
                Role::Filter => 0_u8,
                Role::AccessLog => 1,
                Role::UpstreamLog => 2,
            };
            let outbound = u8::from(listed.key.direction == Direction::Outbound);
            bytes.push(role | (outbound << 2) | (u8::from(listed.responses) << 3));
            // Names have at most 256 bytes, and statuses are few.
            let cluster = listed.key.cluster.as_bytes();
            bytes.extend_from_slice(&u16::try_from(cluster.len()).unwrap_or(0).to_le_bytes());
            bytes.extend_from_slice(cluster);
            bytes.extend_from_slice(&u16::try_from(listed.codes.len()).unwrap_or(0).to_le_bytes());
            for code in &listed.codes {
                bytes.extend_from_slice(&code.to_le_bytes());
            }
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let mut catalog = Self::default();
        while !reader.0.is_empty() {
            let head = reader.u8()?;
            let role = match head & 3 {
                0 => Role::Filter,
                1 => Role::AccessLog,
                _ => Role::UpstreamLog,
            };
            let direction = if head & 4 == 0 {
                Direction::Inbound
            } else {
                Direction::Outbound
            };
            let len = usize::from(reader.u16()?);
            let cluster = str::from_utf8(reader.bytes(len)?).ok()?.to_owned();
            let count = reader.u16()?;
            let codes = (0..count)
                .map(|_| reader.u16())
                .collect::<Option<Vec<u16>>>()?;
            catalog.series.push(Listed {
                key: SeriesKey {
                    role,
                    direction,
                    cluster,
                },
                responses: head & 8 != 0,
                codes,
            });
        }
        Some(catalog)
    }
}

#[cfg(test)]
mod tests;

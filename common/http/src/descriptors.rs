//! File descriptors: as many as the system allows, shared out among listeners, with a reserve for
//! everything else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::Limits;

/// Kept for files, clients of our own, and what the runtime needs; at most half of what there is.
pub const RESERVED: usize = 256;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Descriptors {
    /// This process may have so many.
    pub limit: usize,
}

// === impl Descriptors ===

impl Descriptors {
    /// Raises what this process may have to what it may raise it to, and says so.
    pub fn raise() -> Self {
        let before = getrlimit(Resource::Nofile);
        let Rlimit { current, maximum } = before;
        let wanted = Rlimit {
            current: maximum,
            maximum,
        };
        if current != maximum
            && let Err(error) = setrlimit(Resource::Nofile, wanted)
        {
            tracing::warn!(%error, "limit of file descriptors not raised");
        }
        let limit = getrlimit(Resource::Nofile).current;
        let count = |limit: Option<u64>| {
            limit.map_or(usize::MAX, |limit| {
                usize::try_from(limit).unwrap_or(usize::MAX)
            })
        };
        let descriptors = Self {
            limit: count(limit),
        };
        tracing::info!(
            limit = descriptors.limit,
            before = count(current),
            reserved = descriptors.reserved(),
            "file descriptors"
        );
        descriptors
    }

    fn reserved(self) -> usize {
        RESERVED.min(self.limit / 2)
    }

    /// Shares them out among listeners that want `limits`: each has at least an eighth of what
    /// there is (or all that it wants), the rest goes by what is wanted.
    #[must_use]
    pub fn share<const N: usize>(self, limits: [Limits; N]) -> [Limits; N] {
        let available = self.limit - self.reserved();
        let wanted = limits.map(|limits| limits.total());
        let least = wanted.map(|wanted| wanted.min(available / 8));
        let left = available.saturating_sub(least.iter().sum());
        let missing: usize = wanted.iter().sum::<usize>() - least.iter().sum::<usize>();
        let mut shared = limits;
        for (index, limits) in shared.iter_mut().enumerate() {
            let more = wanted[index] - least[index];
            let part = match missing {
                0 => 0,
                missing if missing <= left => more,
                missing => more * left / missing,
            };
            *limits = limits.within(least[index] + part);
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where there are enough, all have what they want; where there are few, none is left without,
    /// and the reserve stays.
    #[test]
    fn shares_out() {
        let wanted = [Limits::of(100_000), Limits::of(1024), Limits::of(64)];
        let plenty = Descriptors { limit: 1 << 20 };
        assert_eq!(plenty.share(wanted), wanted);
        for limit in [64, 256, 1024, 4096, 65_536] {
            let descriptors = Descriptors { limit };
            let shared = descriptors.share(wanted).map(|limits| limits.total());
            let all = shared.iter().sum::<usize>();
            assert!(all + descriptors.reserved() <= limit, "{limit}: {shared:?}");
            assert!(shared.iter().all(|one| *one >= 4), "{limit}: {shared:?}");
            assert!(shared[0] >= shared[1], "{limit}: {shared:?}");
        }
    }
}

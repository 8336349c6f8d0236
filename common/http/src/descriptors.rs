//! File descriptors: raises the limit of the process and divides it among listeners, with a reserve
//! for everything else.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::Limits;

/// Reserved for files, outgoing connections and the runtime; at most half of the limit.
pub const RESERVED: usize = 256;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Descriptors {
    /// The soft limit of this process.
    pub limit: usize,
}

// === impl Descriptors ===

impl Descriptors {
    /// Raises the soft limit of this process to its hard limit, and logs it.
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

    /// Divides them among listeners that want `limits`: each gets at least an eighth (or all that
    /// it wants), and of the rest a share in proportion to what it lacks.
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

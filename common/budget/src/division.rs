//! How a limit is divided among the parts of a program.

use thiserror::Error;

use crate::size::Size;

/// A part of a program that holds memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// Its name in logs.
    pub name: &'static str,
    /// The minimum it needs.
    pub least: Size,
    /// Its share of what remains after every part has its `least`; a share above `most` goes to the
    /// other parts.
    pub weight: u64,
    /// The maximum it can use.
    pub most: Size,
}

/// A limit under which a program cannot work.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error(
    "a memory limit of {limit} is too small: at least {needed} are needed. Raise the container's memory limit, or \
     give --memory-limit"
)]
pub struct TooSmall {
    pub limit: Size,
    pub needed: Size,
}

/// The size of each part, in the order of `parts`: between its `least` and its `most`, in total at
/// most `limit`.
pub fn divide<const N: usize>(limit: Size, parts: &[Part; N]) -> Result<[Size; N], TooSmall> {
    let needed = sum(parts.iter().map(|part| part.least));
    if needed > u128::from(limit.get()) {
        let needed = Size::bytes(u64::try_from(needed).unwrap_or(u64::MAX));
        return Err(TooSmall { limit, needed });
    }
    let mut sizes = parts.map(|part| part.least);
    // Each round fills at least one more part or distributes all that is left, so N rounds suffice.
    for _ in 0..N {
        let left = u128::from(limit.get()) - sum(sizes.into_iter());
        let is_below_most = |(part, size): (&Part, &Size)| part.most > *size;
        let weights = parts.iter().zip(&sizes).filter(|pair| is_below_most(*pair));
        let weights: u128 = weights.map(|(part, _)| u128::from(part.weight)).sum();
        for (part, size) in parts.iter().zip(&mut sizes) {
            if part.most > *size {
                let share = left * u128::from(part.weight) / weights.max(1);
                let share = u64::try_from(share).unwrap_or(u64::MAX);
                *size = Size::bytes(size.get() + share).min(part.most);
            }
        }
    }
    Ok(sizes)
}

fn sum(sizes: impl Iterator<Item = Size>) -> u128 {
    sizes.map(|size| u128::from(size.get())).sum()
}

/// One line for the log: `base 48Mi, sidecars 300Mi`.
pub fn line<const N: usize>(parts: &[Part; N], sizes: &[Size; N]) -> String {
    let entries = parts
        .iter()
        .zip(sizes)
        .map(|(part, size)| format!("{} {size}", part.name));
    entries.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(name: &'static str, least: u64, weight: u64, most: u64) -> Part {
        Part {
            name,
            least: Size::mib(least),
            weight,
            most: Size::mib(most),
        }
    }

    #[test]
    fn a_limit_is_divided_by_weight() {
        let parts = [part("base", 40, 1, 40), part("sidecars", 10, 3, 1000)];
        let sizes = divide(Size::mib(90), &parts).unwrap();
        assert_eq!(sizes, [Size::mib(40), Size::mib(50)]);
        let more = divide(Size::mib(200), &parts).unwrap();
        assert_eq!(more[1], Size::mib(160), "what the base does not need");
        assert_eq!(line(&parts, &sizes), "base 40Mi, sidecars 50Mi");
        let refused = divide(Size::mib(49), &parts).unwrap_err();
        assert_eq!(refused.needed, Size::mib(50));
        assert!(refused.to_string().contains("--memory-limit"));
    }

    proptest! {
        /// Whatever the limit and the parts: never more than there is, nobody below the least or
        /// above the most.
        #[test]
        fn parts_fit_together(
            limit in 0..1_u64 << 40,
            parts in proptest::array::uniform4((0..1_u64 << 30, 0..16_u64, 0..1_u64 << 36)),
        ) {
            let parts = parts.map(|(least, weight, most)| Part {
                name: "part",
                least: Size::bytes(least),
                weight,
                most: Size::bytes(most),
            });
            let least: u64 = parts.iter().map(|part| part.least.get()).sum();
            match divide(Size::bytes(limit), &parts) {
                Err(refused) => prop_assert!(least > limit && refused.needed.get() == least),
                Ok(sizes) => {
                    prop_assert!(sizes.iter().map(|size| size.get()).sum::<u64>() <= limit);
                    for (part, size) in parts.iter().zip(sizes) {
                        prop_assert!(size >= part.least && size <= part.most.max(part.least));
                    }
                }
            }
        }
    }
}

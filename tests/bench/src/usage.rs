//! What a process has used, from the kernel's own accounting.

use std::fs;

use anyhow::{Context, Result};

use crate::cpus;

/// CPU time of all threads of a process since each began, in nanoseconds: time on a processor, not time waited.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in cpus::threads(pid)? {
        let file = format!("/proc/{pid}/task/{thread}/schedstat");
        let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
        sum += first_number(&text).with_context(|| format!("{file} holds {text:?}"))?;
    }
    Ok(sum)
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(first_number);
    Ok(kib.with_context(|| format!("{file} has no VmRSS"))? * 1024)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{cpu_ns, resident_bytes};

    /// CPU time grows with work done, and by no more than the work can have taken; memory is there.
    #[test]
    fn work_shows_in_the_accounts() {
        let pid = std::process::id();
        let before = cpu_ns(pid).unwrap();
        let mut sum = 1_u64;
        let mut rounds = 0_u64;
        while cpu_ns(pid).unwrap() - before < 20_000_000 {
            for i in 0..100_000 {
                sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(i));
            }
            rounds += 1;
            assert!(rounds < 1_000_000, "CPU time does not move");
        }
        assert!(resident_bytes(pid).unwrap() > 100_000);
    }
}

//! What a process has used, from the kernel's own accounting.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};

use crate::cpus;

/// CPU time of all threads that a process has, since each began, in nanoseconds: time on a
/// processor, not time waited.
///
/// A thread that ends takes its share with it, so two readings can be compared only if no thread
/// ended in between.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in cpus::threads(pid)? {
        let file = format!("/proc/{pid}/task/{thread}/schedstat");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            // It ended after it was listed (ENOENT), or between opening and reading (ESRCH).
            Err(error)
                if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(3) =>
            {
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("read {file}")),
        };
        sum += first_number(&text).with_context(|| format!("{file} holds {text:?}"))?;
    }
    Ok(sum)
}

/// CPU time of the calling thread since it began, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> Result<u64> {
    let file = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    first_number(&text).with_context(|| format!("{file} holds {text:?}"))
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// The most that it ever was, in bytes.
pub(crate) fn resident_peak_bytes(pid: u32) -> Result<u64> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, field: &str) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(first_number);
    Ok(kib.with_context(|| format!("{file} has no {field}"))? * 1024)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::Duration;

    use super::{cpu_ns, resident_bytes, resident_peak_bytes};

    /// A process of one thread that only works: the test's own process has threads that come and go
    /// with other tests.
    struct Busy(Child);

    impl Busy {
        fn start() -> Self {
            let mut command = Command::new("sh");
            command
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null());
            Self(command.spawn().unwrap())
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            let _gone = self.0.kill();
            let _status = self.0.wait();
        }
    }

    /// CPU time grows while a process works; memory is there.
    #[test]
    fn work_shows_in_the_accounts() {
        let busy = Busy::start();
        let pid = busy.0.id();
        let before = cpu_ns(pid).unwrap();
        let grown = (0..1_000).any(|_| {
            thread::park_timeout(Duration::from_millis(20));
            cpu_ns(pid).unwrap() >= before + 20_000_000
        });
        assert!(grown, "CPU time does not move");
        let resident = resident_bytes(pid).unwrap();
        assert!(resident > 100_000 && resident_peak_bytes(pid).unwrap() >= resident);
    }

    /// Threads that end between the listing and the reading are no error.
    #[test]
    fn threads_may_come_and_go() {
        let coming_and_going = thread::spawn(|| {
            for _ in 0..2_000 {
                thread::spawn(|| {}).join().unwrap();
            }
        });
        while !coming_and_going.is_finished() {
            cpu_ns(std::process::id()).unwrap();
        }
        coming_and_going.join().unwrap();
    }
}

//! How pods are shared out among workloads: few large ones and many small ones.

/// Workloads altogether.
pub(super) const WORKLOADS: usize = 10_000;
/// Large ones, the first: half of the pods are theirs.
const LARGE: usize = 50;
const SMALL: usize = WORKLOADS - LARGE;

/// So many pods in [`WORKLOADS`] workloads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workloads {
    pub(super) pods: usize,
}

// === impl Workloads ===

impl Workloads {
    /// Pods of a large workload.
    pub(super) fn large_pods(self) -> usize {
        self.pods / 2 / LARGE
    }

    /// Pods of the large workloads together.
    fn half(self) -> usize {
        self.large_pods() * LARGE
    }

    pub(super) fn of_pod(self, pod: usize) -> usize {
        match pod.checked_sub(self.half()) {
            None => pod / self.large_pods(),
            Some(small) => LARGE + small * SMALL / (self.pods - self.half()),
        }
    }

    /// The first pod of a workload.
    pub(super) fn first_pod(self, workload: usize) -> usize {
        match workload.checked_sub(LARGE) {
            None => workload * self.large_pods(),
            Some(small) => self.half() + (small * (self.pods - self.half())).div_ceil(SMALL),
        }
    }

    /// The name of a pod, as a Deployment makes them.
    pub(super) fn pod_name(self, pod: usize) -> String {
        let app = name(self.of_pod(pod));
        format!("{app}-7d9c8b6f5-{pod:05}")
    }
}

pub(super) fn is_large(workload: usize) -> bool {
    workload < LARGE
}

pub(super) fn name(workload: usize) -> String {
    format!("shop-app-{workload}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pods of a workload follow one another, and each workload has some.
    #[test]
    fn each_workload_has_its_pods() {
        for pods in [2 * WORKLOADS, 50_001, 100_000] {
            let workloads = Workloads { pods };
            let of: Vec<usize> = (0..pods).map(|pod| workloads.of_pod(pod)).collect();
            assert!(of.is_sorted());
            for workload in 0..WORKLOADS {
                let first = of.iter().position(|of| *of == workload);
                assert_eq!(first, Some(workloads.first_pod(workload)), "{pods}");
            }
            assert_eq!(of[pods - 1], WORKLOADS - 1);
        }
    }
}

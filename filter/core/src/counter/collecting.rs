//! One table takes over what others count: the dynamic module has a table for each worker thread,
//! and one [`Vm`](crate::vm::Vm) that reports their sum.

use crate::counter::{CODES_MAX, CodeTotal, Counters, Series, SeriesIndex, Total};
use crate::series::{Counter, Outcome};

impl Counters {
    /// Takes over what `worker` counted since the last time; `max` series at most, the others are
    /// added to "other". The integral of `inflight` comes from the workers too, so this table does
    /// not integrate from now on. What finds no room stays with the worker.
    pub fn collect(&mut self, worker: &mut Self, max: usize) {
        self.collects = true;
        for series in worker.iter_mut() {
            if series.totals_mut().all(|(_, total)| total.pending() == 0) {
                continue;
            }
            let (role, direction, detail) = (series.key.role, series.key.direction, series.detail);
            let place = self.resolve(role, direction, &series.key.cluster, detail, max);
            let Some((index, overflow)) = place else {
                continue;
            };
            for (counter, total) in series.totals_mut() {
                let pending = total.take_pending();
                if overflow && counter == Counter::Events {
                    self.refused.series_overflow.add(pending);
                }
                self.absorb(index, counter, pending);
            }
        }
        for (own, other) in [
            (
                &mut self.refused.series_overflow,
                &mut worker.refused.series_overflow,
            ),
            (
                &mut self.refused.untracked_streams,
                &mut worker.refused.untracked_streams,
            ),
            (
                &mut self.refused.code_overflow,
                &mut worker.refused.code_overflow,
            ),
        ] {
            own.add(other.take_pending());
        }
    }

    /// Whether something was counted that no other table has taken over yet.
    pub fn has_pending(&mut self) -> bool {
        self.series
            .iter_mut()
            .flat_map(Series::totals_mut)
            .any(|(_, total)| total.pending() != 0)
    }

    fn absorb(&mut self, index: SeriesIndex, counter: Counter, amount: u64) {
        if amount == 0 {
            return;
        }
        let Some(series) = self.get_mut(index) else {
            return;
        };
        let Counter::Responses(outcome) = counter else {
            return series.add(counter, amount);
        };
        if !outcome.is_exact() || series.has_room(outcome.0) {
            return series.add(counter, amount);
        }
        series.add(Counter::Responses(Outcome::class(Some(outcome.0))), amount);
        self.refused.code_overflow.add(amount);
    }
}

impl Series {
    /// Adds to a counter that exists.
    fn add(&mut self, wanted: Counter, amount: u64) {
        for (counter, total) in self.totals_mut() {
            if counter == wanted {
                total.add(amount);
            }
        }
    }

    /// Makes room for an exact status; false if there is none.
    fn has_room(&mut self, code: u16) -> bool {
        if self.codes.iter().any(|known| known.code == code) {
            return true;
        }
        if self.codes.len() >= CODES_MAX {
            return false;
        }
        self.codes.push(CodeTotal {
            code,
            total: Total::default(),
            refused: false,
        });
        true
    }
}

impl Total {
    /// The pending part, which counts as flushed from now on; below 0 as a wrapped number.
    fn take_pending(&mut self) -> u64 {
        let pending = self.pending().cast_unsigned();
        self.flushed = self.value;
        pending
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::ResponseDetail;
    use crate::series::{Direction, OTHER, Role};
    use crate::time::Monotonic;

    const WORKERS: usize = 3;
    /// Clusters that requests go to: more than the limit of series.
    const CLUSTERS: u8 = 4;
    const SERIES_MAX: usize = 3;

    #[derive(Clone, Debug)]
    enum Step {
        Begin { worker: usize, cluster: u8 },
        End { open: usize, status: Option<u16> },
        Collect { worker: usize },
        Wait { nanos: u16 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..WORKERS, 0..CLUSTERS).prop_map(|(worker, cluster)| Step::Begin { worker, cluster }),
            4 => (any::<usize>(), prop::option::of(195..260_u16))
                .prop_map(|(open, status)| Step::End { open, status }),
            1 => (0..WORKERS).prop_map(|worker| Step::Collect { worker }),
            2 => any::<u16>().prop_map(|nanos| Step::Wait { nanos }),
        ]
    }

    /// Each counter of all series together, by class of the status.
    fn sums(counters: &mut Counters) -> Vec<(Counter, u64)> {
        let mut sums: Vec<(Counter, u64)> = Vec::new();
        for series in counters.iter_mut() {
            for (counter, total) in series.totals_mut() {
                let counter = match counter {
                    Counter::Responses(outcome) if outcome.is_exact() => {
                        Counter::Responses(Outcome::class(Some(outcome.0)))
                    }
                    counter => counter,
                };
                match sums.iter_mut().find(|(known, _)| *known == counter) {
                    Some((_, sum)) => *sum = sum.wrapping_add(total.value),
                    None => sums.push((counter, total.value)),
                }
            }
        }
        sums.sort_by_key(|(counter, _)| *counter);
        sums
    }

    proptest! {
        /// Whatever workers count and whenever it is taken over: the sum is what one table of all
        /// requests has, integral included, nothing is left behind and nothing counted twice.
        #[test]
        fn the_sum_is_that_of_one_table(steps in prop::collection::vec(step(), 1..200)) {
            let mut now = Monotonic(1);
            let mut workers: Vec<Counters> = (0..WORKERS).map(|_| Counters::default()).collect();
            let mut main = Counters::default();
            let mut model = Counters::default();
            let mut open: Vec<(usize, SeriesIndex, SeriesIndex)> = Vec::new();
            let resolve = |counters: &mut Counters, cluster: u8, max| {
                counters
                    .resolve(Role::Filter, Direction::Inbound, &cluster.to_string(), ResponseDetail::Code, max)
                    .unwrap()
                    .0
            };
            for step in steps {
                match step {
                    Step::Begin { worker, cluster } => {
                        let own = resolve(&mut workers[worker], cluster, SERIES_MAX);
                        let all = resolve(&mut model, cluster, usize::MAX);
                        for (counters, series) in [(&mut workers[worker], own), (&mut model, all)] {
                            counters.event(series);
                            counters.enter(series, now);
                        }
                        open.push((worker, own, all));
                    }
                    Step::End { open: which, status } if !open.is_empty() => {
                        let (worker, own, all) = open.swap_remove(which % open.len());
                        for (counters, series) in [(&mut workers[worker], own), (&mut model, all)] {
                            counters.leave(series, now);
                            counters.respond(series, || status);
                        }
                    }
                    Step::End { .. } => {}
                    Step::Collect { worker } => {
                        workers[worker].advance(now);
                        main.collect(&mut workers[worker], SERIES_MAX);
                        main.advance(now);
                    }
                    Step::Wait { nanos } => now.0 += u64::from(nanos),
                }
            }
            for worker in &mut workers {
                worker.advance(now);
                main.collect(worker, SERIES_MAX);
                prop_assert!(!worker.has_pending());
            }
            now.0 += 1000;
            main.advance(now);
            model.advance(Monotonic(now.0 - 1000));
            prop_assert_eq!(sums(&mut main), sums(&mut model));
            let named = main.iter().filter(|series| series.key.cluster != OTHER).count();
            prop_assert!(named <= SERIES_MAX);
        }
    }

    /// A series that the process has no room for goes to "other", and that is counted.
    #[test]
    fn the_limit_holds_for_all_workers_together() {
        let mut main = Counters::default();
        for cluster in ["a", "b"] {
            let mut worker = Counters::default();
            let detail = ResponseDetail::Class;
            let found = worker.resolve(Role::Filter, Direction::Inbound, cluster, detail, 1);
            let (series, overflow) = found.unwrap();
            assert!(!overflow, "each worker has room for one");
            worker.event(series);
            main.collect(&mut worker, 1);
        }
        let keys: Vec<_> = main
            .iter()
            .map(|series| series.key.cluster.as_str())
            .collect();
        assert_eq!(keys, ["a", OTHER]);
        assert_eq!(main.refused.series_overflow.value, 1);
    }
}

//! The event loops of all threads, merged: ticks and network events in the order of their time.

use std::time::Duration;

use super::Envoy;
use crate::connection::{ConnectionId, Down, VmIndex};
use crate::network::Event;

impl Envoy {
    /// Time since the machine started.
    pub fn now(&self) -> Duration {
        self.process.borrow().now()
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now() + time;
        while let Some(next) = self.next_due().filter(|next| *next <= end) {
            self.process.borrow_mut().clock.advance_to(next);
            self.run_network();
            self.run_ticks();
        }
        self.process.borrow_mut().clock.advance_to(end);
    }

    /// Lets so many seconds pass.
    pub fn run_seconds(&mut self, seconds: u64) {
        self.run_for(Duration::from_secs(seconds));
    }

    fn next_due(&self) -> Option<Duration> {
        let ticks = self.live().filter(|vm| !vm.failed());
        let ticks = ticks.flat_map(|vm| vm.state().timers.values());
        let tick = ticks.map(|timer| timer.due).min();
        let event = self.process.borrow().network.next_due();
        tick.into_iter().chain(event).min()
    }

    fn run_network(&mut self) {
        let now = self.now();
        loop {
            let event = self.process.borrow_mut().network.pop(now);
            match event {
                Some(Event::Up(id, what)) => {
                    self.process.borrow_mut().network.arrive(now, id, what);
                }
                Some(Event::Down(id, what)) => self.deliver(id, what),
                None => return,
            }
        }
    }

    fn deliver(&mut self, id: ConnectionId, what: Down) {
        let owner = self.process.borrow_mut().network.deliver(id, &what);
        let Some(owner) = owner else {
            return;
        };
        let Some((_, vm)) = self.vms.get_mut(&owner.vm) else {
            return;
        };
        match what {
            Down::Message(message) => vm.on_grpc_receive(owner.root, owner.token, message),
            Down::Close { status, message } => {
                vm.on_grpc_close(owner.root, owner.token, status, &message);
            }
        }
    }

    fn run_ticks(&mut self) {
        let now = self.now();
        let mut due: Vec<(Duration, VmIndex, u32)> = Vec::new();
        for (index, (_, vm)) in &self.vms {
            let timers = vm.state().timers.iter();
            let ripe = timers.filter(|(_, timer)| timer.due <= now && !vm.failed());
            due.extend(ripe.map(|(root, timer)| (timer.due, *index, *root)));
        }
        due.sort_unstable();
        for (_, index, root) in due {
            let Some((_, vm)) = self.vms.get_mut(&index) else {
                continue;
            };
            vm.on_tick(root);
            if let Some(timer) = vm.state_mut().timers.get_mut(&root) {
                timer.due = now + timer.period;
            }
        }
    }
}

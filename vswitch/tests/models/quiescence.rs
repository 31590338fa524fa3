//! Model check of `dpdk::quiescence`: the same source compiled over loom, which tries every
//! interleaving and every memory order that the standard allows (within a bound of three
//! preemptions).

#[path = "../../src/dpdk/quiescence.rs"]
mod source;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use source::Domain;

use crate::dpdk::sync;

/// Guest memory with its flag. Loom fails the test if a read of the cell is not ordered
/// before, or is concurrent with, the write that stands for unmapping it: it follows accesses
/// to a cell whatever they do, so that nothing here has to look inside.
struct Guest {
    live: AtomicBool,
    memory: UnsafeCell<()>,
    /// Not loom's: it is looked at in the order in which loom runs things.
    unmapped: std::sync::atomic::AtomicBool,
}

impl Guest {
    fn new() -> Arc<Self> {
        Arc::new(Guest {
            live: AtomicBool::new(true),
            memory: UnsafeCell::new(()),
            unmapped: false.into(),
        })
    }

    fn touch(&self) {
        if self.live.load(Ordering::Acquire) {
            self.memory.with(|_| ());
            assert!(!self.unmapped.load(Ordering::Relaxed));
        }
    }

    fn take_away(&self, domain: &Domain) {
        self.live.store(false, Ordering::Release);
        domain.synchronize();
        self.memory.with_mut(|_| ());
        self.unmapped.store(true, Ordering::Relaxed);
    }
}

fn check(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(f);
}

#[test]
fn nobody_is_inside_after_synchronize() {
    check(|| {
        let (domain, guest) = (Domain::new(), Guest::new());
        let reader = domain.reader("worker");
        let worker = {
            let guest = Arc::clone(&guest);
            thread::spawn(move || {
                for _ in 0..2 {
                    guest.touch();
                    reader.quiesce();
                }
            })
        };
        guest.take_away(&domain);
        worker.join().unwrap();
    });
}

#[test]
fn coming_back_online_races_with_synchronize() {
    check(|| {
        let (domain, guest) = (Domain::new(), Guest::new());
        let mut reader = domain.reader("worker");
        let worker = {
            let guest = Arc::clone(&guest);
            thread::spawn(move || {
                reader.offline(|| ());
                guest.touch();
                reader.quiesce();
            })
        };
        guest.take_away(&domain);
        worker.join().unwrap();
    });
}

#[test]
fn registering_races_with_synchronize() {
    check(|| {
        let (domain, guest) = (Domain::new(), Guest::new());
        let worker = {
            let (domain, guest) = (domain.clone(), Arc::clone(&guest));
            thread::spawn(move || {
                let reader = domain.reader("worker");
                guest.touch();
                drop(reader);
            })
        };
        guest.take_away(&domain);
        worker.join().unwrap();
    });
}

#[test]
fn one_teardown_after_the_other() {
    check(|| {
        let (domain, first, second) = (Domain::new(), Guest::new(), Guest::new());
        let mut reader = domain.reader("worker");
        let worker = {
            let (first, second) = (Arc::clone(&first), Arc::clone(&second));
            thread::spawn(move || {
                first.touch();
                reader.quiesce();
                second.touch();
                reader.offline(|| ());
                second.touch();
            })
        };
        first.take_away(&domain);
        second.take_away(&domain);
        worker.join().unwrap();
    });
}

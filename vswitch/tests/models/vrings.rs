//! Model check of what librte_vhost's event thread, control and workers share of a device: the
//! same source compiled over loom, which tries every interleaving.
//!
//! Loom takes sequentially consistent accesses for acquire and release, so what holds here
//! does not depend on more.

#[path = "../../src/dpdk/vhost/vrings.rs"]
mod source;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use source::{Handles, Vrings};

fn check(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(f);
}

/// The guest changes queues while control looks at them. Whatever the order, when all
/// announcements were looked at, control knows the last state.
#[test]
fn no_change_of_a_queue_goes_unseen() {
    check(|| {
        let vrings = Arc::new(Vrings::new(1));
        // The channel from the event thread to control.
        let announced = Arc::new(Mutex::new(0));
        let guest = {
            let (vrings, announced) = (Arc::clone(&vrings), Arc::clone(&announced));
            thread::spawn(move || {
                for (index, on) in [(0, true), (1, true), (0, false)] {
                    if vrings.set(index, on) {
                        *announced.lock().unwrap() += 1;
                    }
                }
            })
        };
        // The device came up: control looks at all queues, then at each announcement.
        let look = || {
            vrings.looks();
            vrings.pairs()
        };
        let mut known = look();
        let one = || {
            let mut waiting = announced.lock().unwrap();
            let some = *waiting > 0;
            *waiting -= u32::from(some);
            some
        };
        if one() {
            known = look();
        }
        guest.join().unwrap();
        while one() {
            known = look();
        }
        assert_eq!(known, [(true, false)]);
    });
}

/// Two workers that want one queue: never both, and what the first did with it is done.
#[test]
fn a_queue_has_one_owner_at_a_time() {
    check(|| {
        let shared = Arc::new((Handles::new(2), UnsafeCell::new(())));
        let work = |shared: &(Handles, UnsafeCell<()>)| {
            if shared.0.take(1) {
                // Loom fails the test if another access is concurrent with this one.
                shared.1.with_mut(|_| ());
                shared.0.give_back(1);
            }
        };
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || work(&shared))
        };
        work(&shared);
        other.join().unwrap();
        // By one thread, on new ones: loom lets a swap that read an older value come last.
        let handles = Handles::new(2);
        assert!(handles.take(1) && !handles.take(1) && handles.take(0));
        handles.give_back(1);
        assert!(handles.take(1));
        assert!(!handles.take(2), "there are two");
    });
}

/// How a worker ends (`Worker::finish_up`, `ring::Consumer::is_abandoned`): the colleague puts
/// its last packet into the ring and drops its end; who then finds itself the only owner and
/// the ring empty has seen everything. The ring is a stand-in of one slot; the question is
/// whether the order of the two looks is right, and it is DPDK's barriers that it leans on
/// otherwise.
#[test]
fn an_abandoned_ring_that_is_empty_was_emptied() {
    struct Ring {
        full: AtomicBool,
        packet: UnsafeCell<()>,
    }
    check(|| {
        let mut ours = Arc::new(Ring {
            full: AtomicBool::new(false),
            packet: UnsafeCell::new(()),
        });
        let theirs = Arc::clone(&ours);
        let colleague = thread::spawn(move || {
            theirs.packet.with_mut(|_| ());
            theirs.full.store(true, Ordering::Release);
        });
        let mut taken = 0;
        loop {
            // In this order: the other way round, a packet that comes between is lost.
            let closed = Arc::get_mut(&mut ours).is_some();
            if ours.full.load(Ordering::Acquire) {
                ours.packet.with_mut(|_| ());
                ours.full.store(false, Ordering::Relaxed);
                taken += 1;
            } else if closed {
                break;
            } else {
                thread::yield_now();
            }
        }
        assert_eq!(taken, 1);
        colleague.join().unwrap();
    });
}

//! Which virtqueues of a connection may be used, and which are out: what librte_vhost's event
//! thread, the control thread and workers share without a lock.
//!
//! A model check over every interleaving is in `tests/models/vrings.rs`, which compiles this
//! source over loom.

use crate::dpdk::sync::{AtomicBool, Ordering};

/// Which virtqueues of a connection are enabled.
pub(super) struct Vrings {
    enabled: Box<[AtomicBool]>,
    /// A change is announced and not yet looked at.
    announced: AtomicBool,
}

impl Vrings {
    pub(super) fn new(pairs: u16) -> Self {
        Vrings {
            enabled: flags(usize::from(pairs) * 2),
            announced: AtomicBool::new(false),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.enabled.len()
    }

    /// Sets one; true if that is to be announced.
    pub(super) fn set(&self, index: u16, on: bool) -> bool {
        let Some(vring) = self.enabled.get(usize::from(index)) else {
            return false;
        };
        vring.swap(on, Ordering::SeqCst) != on && !self.announced.swap(true, Ordering::SeqCst)
    }

    /// Whoever calls this looks at all of them next: a change from here on is announced anew.
    pub(super) fn looks(&self) {
        // A swap: it reads the announcement that it takes away, and so sees what was set
        // before. A change that found it made already could go unseen otherwise.
        self.announced.swap(false, Ordering::SeqCst);
    }

    /// By pair: is the guest's transmit queue enabled, is its receive queue?
    pub(super) fn pairs(&self) -> Vec<(bool, bool)> {
        let on = |v: &AtomicBool| v.load(Ordering::SeqCst);
        let pairs = self.enabled.chunks_exact(2);
        pairs
            .filter_map(|pair| Some((on(pair.get(1)?), on(pair.first()?))))
            .collect()
    }

    #[inline]
    pub(super) fn get(&self, index: u16) -> bool {
        self.enabled
            .get(usize::from(index))
            .is_some_and(|v| v.load(Ordering::Relaxed))
    }
}

/// By virtqueue: whether a handle is out, of which there is one at a time.
pub(super) struct Handles(Box<[AtomicBool]>);

impl Handles {
    pub(super) fn new(vrings: usize) -> Self {
        Handles(flags(vrings))
    }

    /// True for who gets it.
    pub(super) fn take(&self, vring: u16) -> bool {
        let slot = self.0.get(usize::from(vring));
        slot.is_some_and(|taken| !taken.swap(true, Ordering::AcqRel))
    }

    /// Ends what was done with it before the next one begins.
    pub(super) fn give_back(&self, vring: u16) {
        if let Some(taken) = self.0.get(usize::from(vring)) {
            taken.store(false, Ordering::Release);
        }
    }
}

fn flags(n: usize) -> Box<[AtomicBool]> {
    (0..n).map(|_| AtomicBool::new(false)).collect()
}

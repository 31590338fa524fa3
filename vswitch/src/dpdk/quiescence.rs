//! Publish, then synchronize: how control takes something away from running workers
//! without a lock that a worker takes.
//!
//! Control first publishes that a thing is gone (a flag, a pointer), then calls
//! [`Domain::synchronize`], which returns when every [`Reader`] has passed a burst boundary
//! since. After that no worker uses the thing. This is quiescent-state-based reclamation
//! (Desnoyers et al., "User-Level Implementations of Read-Copy Update", IEEE TPDS 2012).
//!
//! Why it holds. A reader that shows an epoch at or above the target read it from the
//! writer's release increment, so it also sees what was published before; and its release
//! store puts its earlier uses before the writer's return. A reader that comes online and a
//! writer that looks for it each store, fence, then load: at least one sees the other.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::PoisonError;

use super::sync::{Arc, AtomicU64, Mutex, Ordering, Wait, fence};

/// The value of a reader that uses nothing now.
const OFFLINE: u64 = 0;

/// The set of readers that [`Domain::synchronize`] waits for. Clones are the same set.
#[derive(Clone)]
pub struct Domain {
    shared: Arc<Shared>,
}

struct Shared {
    /// Starts at one; only ever grows. Read by every reader, so alone on its lines.
    epoch: Line,
    readers: Mutex<Vec<Arc<Slot>>>,
}

/// Two cache lines: the adjacent-line prefetcher makes pairs of them travel together.
#[repr(align(128))]
struct Line(AtomicU64);

struct Slot {
    /// The epoch at the reader's last boundary, or [`OFFLINE`]. Written by the reader only.
    seen: Line,
    name: Box<str>,
}

impl Default for Domain {
    fn default() -> Self {
        Self::new()
    }
}

impl Domain {
    /// An empty set.
    pub fn new() -> Self {
        let shared = Shared {
            epoch: Line(AtomicU64::new(1)),
            readers: Mutex::new(Vec::new()),
        };
        Domain {
            shared: Arc::new(shared),
        }
    }

    /// Registers the calling worker, online. `name` is for the log.
    pub fn reader(&self, name: &str) -> Reader {
        let slot = Arc::new(Slot {
            seen: Line(AtomicU64::new(OFFLINE)),
            name: name.into(),
        });
        self.lock().push(Arc::clone(&slot));
        let reader = Reader {
            shared: Arc::clone(&self.shared),
            slot,
            not_sync: PhantomData,
        };
        reader.online();
        reader
    }

    /// Returns when every reader that is online has passed a boundary since the call began.
    ///
    /// Waits as long as that takes: to return earlier would hand memory back that a worker
    /// may be using. Says so in the log once a second. Never call it with an online reader
    /// of the same domain on the calling thread, nor holding a lock that a worker may want.
    pub fn synchronize(&self) {
        let target = self.shared.epoch.0.fetch_add(1, Ordering::AcqRel) + 1;
        // Pairs with the fence in `Reader::online`.
        fence(Ordering::SeqCst);
        // A reader registered after this copy took the lock after us, and so sees what was
        // published. The lock is not held while waiting.
        let readers = self.lock().clone();
        for slot in readers {
            let mut wait = Wait::new();
            loop {
                let seen = slot.seen.0.load(Ordering::Acquire);
                if seen == OFFLINE || seen >= target {
                    break;
                }
                wait.step(&slot.name);
            }
        }
    }

    fn lock(&self) -> impl std::ops::DerefMut<Target = Vec<Arc<Slot>>> {
        self.shared
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's membership. Having a `&Reader` means: this thread is online, and what it
/// found published stays usable until its next [`Reader::quiesce`]. Dropping it unregisters.
pub struct Reader {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    /// May move to its thread, but belongs to one at a time.
    not_sync: PhantomData<Cell<()>>,
}

impl Reader {
    /// A burst boundary: this thread uses nothing it found published before. One load of a
    /// shared line; a store to its own line only when a teardown is under way.
    #[inline]
    pub fn quiesce(&self) {
        let epoch = self.shared.epoch.0.load(Ordering::Acquire);
        if self.slot.seen.0.load(Ordering::Relaxed) != epoch {
            self.slot.seen.0.store(epoch, Ordering::Release);
        }
    }

    /// Runs `wait` (a sleep, a blocking receive) without holding teardowns up. A closure, so
    /// that nobody can have a `&Reader` in hand while offline.
    pub fn offline<R>(&mut self, wait: impl FnOnce() -> R) -> R {
        struct Back<'a>(&'a Reader);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.online();
            }
        }
        self.slot.seen.0.store(OFFLINE, Ordering::Release);
        let _back = Back(self);
        wait()
    }

    /// Whether this reader is one of `domain`'s.
    #[inline]
    pub fn is_of(&self, domain: &Domain) -> bool {
        std::ptr::eq(&*self.shared, &*domain.shared)
    }

    fn online(&self) {
        let epoch = self.shared.epoch.0.load(Ordering::Acquire);
        // Release: a writer that sees this and not the offline before it must still find our
        // uses before that done.
        self.slot.seen.0.store(epoch, Ordering::Release);
        // Pairs with the fence in `Domain::synchronize`: either it sees us online, or we see
        // what it published.
        fence(Ordering::SeqCst);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // First, for a synchronize that already copied the list.
        self.slot.seen.0.store(OFFLINE, Ordering::Release);
        self.shared
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|slot| !Arc::ptr_eq(slot, &self.slot));
    }
}

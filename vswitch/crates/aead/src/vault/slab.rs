//! Slots of equal size in arenas, and the list of those given back.
//!
//! What tells which slots are free is ordinary memory; a free slot itself is all zeros but
//! for the link of the list it may be on.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroize;

use super::VaultError;
use super::arena::{Arena, Memory, PAGE};

/// Slots begin at a cache line.
pub(super) const LINE: usize = 64;

/// Pages of the first arena of a size; each further one has twice as many.
const FIRST_PAGES: usize = 4;
/// Pages of one arena at most.
const MOST_PAGES: usize = 256;

/// Slots that were given back and not yet taken over: a stack to which anybody pushes, and
/// which is only ever taken whole (so there is no ABA).
static RETURNED: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

static SLABS: Mutex<Vec<Slab>> = Mutex::new(Vec::new());

fn slabs() -> MutexGuard<'static, Vec<Slab>> {
    SLABS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All slots of one size.
struct Slab {
    /// Bytes of a slot, a multiple of [`LINE`] and at most a page.
    slot: usize,
    chunks: Vec<Chunk>,
}

struct Chunk {
    arena: Arena,
    /// Byte offsets of free slots.
    free: Vec<u32>,
    slots: usize,
}

impl Chunk {
    fn new(pages: usize, slot: usize) -> Result<Self, VaultError> {
        let arena = Arena::new(pages)?;
        // No slot crosses a page: that would cost a second entry of the TLB.
        let in_page = (0..PAGE / slot).map(|i| i * slot);
        let mut free: Vec<u32> = (0..pages)
            .flat_map(|page| in_page.clone().map(move |at| (page * PAGE + at) as u32))
            .collect();
        // Taken from the end: lowest first, so that neighbours in time are so in memory.
        free.reverse();
        let slots = free.len();
        Ok(Chunk { arena, free, slots })
    }

    fn take(&mut self) -> Option<NonNull<u8>> {
        let offset = self.free.pop()?;
        // SAFETY: made from an offset within the arena.
        Some(unsafe { self.arena.base().add(offset as usize) })
    }
}

impl Slab {
    fn take(&mut self) -> Result<NonNull<u8>, VaultError> {
        if let Some(slot) = self.chunks.iter_mut().rev().find_map(Chunk::take) {
            return Ok(slot);
        }
        let pages = (FIRST_PAGES << self.chunks.len().min(8)).min(MOST_PAGES);
        let mut chunk = Chunk::new(pages, self.slot)?;
        let slot = chunk.take();
        self.chunks.push(chunk);
        slot.ok_or(VaultError::TooLong { len: self.slot })
    }

    /// Takes a slot back if it is one of this slab's.
    fn put_back(&mut self, slot: NonNull<u8>) -> bool {
        let Some(chunk) = self.chunks.iter_mut().find(|c| c.arena.contains(slot)) else {
            return false;
        };
        let offset = slot.as_ptr() as usize - chunk.arena.base().as_ptr() as usize;
        chunk.free.push(offset as u32);
        true
    }

    /// Unmaps arenas that nothing is in, but for one.
    fn shrink(&mut self) {
        let mut kept = false;
        self.chunks.retain(|chunk| {
            let unused = chunk.free.len() == chunk.slots;
            !unused || !std::mem::replace(&mut kept, true)
        });
    }
}

/// A slot of at least `bytes`, all zeros.
pub(super) fn take(bytes: usize) -> Result<NonNull<u8>, VaultError> {
    let slot = bytes.max(1).next_multiple_of(LINE);
    if slot > PAGE {
        return Err(VaultError::TooLong { len: bytes });
    }
    let mut slabs = slabs();
    collect(&mut slabs);
    if let Some(slab) = slabs.iter_mut().find(|slab| slab.slot == slot) {
        return slab.take();
    }
    let mut slab = Slab {
        slot,
        chunks: Vec::new(),
    };
    let first = slab.take()?;
    slabs.push(slab);
    Ok(first)
}

/// Takes over what was given back.
fn collect(slabs: &mut [Slab]) {
    let mut next = NonNull::new(RETURNED.swap(ptr::null_mut(), Ordering::Acquire));
    if next.is_none() {
        return;
    }
    while let Some(slot) = next {
        let link = slot.cast::<*mut u8>();
        // SAFETY: a slot on the list is nobody's but ours since the swap, and begins with the
        // link that `give_back` wrote. A slot in use is all zeros at first.
        next = unsafe {
            let next = link.read();
            link.write(ptr::null_mut());
            NonNull::new(next)
        };
        slabs.iter_mut().any(|slab| slab.put_back(slot));
    }
    slabs.iter_mut().for_each(Slab::shrink);
}

/// Wipes a slot of [`take`] and gives it back. Takes no lock and makes no system call: a
/// worker may do it.
///
/// # Safety
/// The slot is of at least `bytes`, came from [`take`], and nobody uses it any more.
pub(super) unsafe fn give_back(slot: NonNull<u8>, bytes: usize) {
    // SAFETY: as this function's. Bytes that a type left uninitialized are of no concern: a
    // slot is zeros from the kernel and written by us since.
    unsafe { core::slice::from_raw_parts_mut(slot.as_ptr(), bytes) }.zeroize();
    let mut head = RETURNED.load(Ordering::Relaxed);
    loop {
        // SAFETY: the slot is a line long and aligned to it, and still ours.
        unsafe { slot.cast::<*mut u8>().write(head) };
        let pushed = RETURNED.compare_exchange_weak(
            head,
            slot.as_ptr(),
            Ordering::Release,
            Ordering::Relaxed,
        );
        match pushed {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

/// The kind of memory in use, if any is.
pub(super) fn memory() -> Option<Memory> {
    let slabs = slabs();
    let mut chunks = slabs.iter().flat_map(|slab| &slab.chunks);
    // The weakest counts.
    chunks
        .clone()
        .find(|chunk| chunk.arena.memory() == Memory::Locked)
        .or_else(|| chunks.next())
        .map(|chunk| chunk.arena.memory())
}

/// Bytes of all arenas.
pub(super) fn mapped() -> usize {
    let mut slabs = slabs();
    collect(&mut slabs);
    let chunks = slabs.iter().flat_map(|slab| &slab.chunks);
    chunks.map(|chunk| chunk.arena.bytes()).sum()
}

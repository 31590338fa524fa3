//! Anti-replay window over 64-bit sequence numbers (RFC 4303 section 3.4.3), as a ring of
//! bitmap words that moves without shifting (RFC 6479).

use thiserror::Error;

/// Narrowest window, in packets.
pub const MIN_WINDOW: usize = 1024;
/// Widest window, in packets.
pub const MAX_WINDOW: usize = 65_536;

const WORD: u64 = u64::BITS as u64;

/// The width is not a multiple of 64 from [`MIN_WINDOW`] to [`MAX_WINDOW`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("replay window of {0} packets; a multiple of 64 from 1024 to 65536 is needed")]
pub struct WindowError(pub usize);

/// Why a sequence number was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// Number 0 is never sent.
    #[error("sequence number 0")]
    Zero,
    /// Seen before, or at or below the floor.
    #[error("sequence number seen before")]
    Replayed,
    /// Below the window.
    #[error("sequence number below the window")]
    TooOld,
}

/// Which of the last `width` sequence numbers were received.
#[derive(Debug, Clone)]
pub struct ReplayWindow {
    /// A power of two of words, at least one more than the width needs, so that the word
    /// being entered never holds numbers still inside the window.
    ring: Box<[u64]>,
    mask: u64,
    width: u64,
    highest: u64,
    floor: u64,
}

impl ReplayWindow {
    /// Bytes that it has on the heap.
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.ring)
    }

    /// An empty window of `width` packets.
    ///
    /// # Errors
    /// When `width` is not a multiple of 64 from [`MIN_WINDOW`] to [`MAX_WINDOW`].
    pub fn new(width: usize) -> Result<Self, WindowError> {
        if !(MIN_WINDOW..=MAX_WINDOW).contains(&width) || !width.is_multiple_of(64) {
            return Err(WindowError(width));
        }
        let words = (width / 64 + 1).next_power_of_two();
        Ok(Self {
            ring: vec![0; words].into_boxed_slice(),
            mask: words as u64 - 1,
            width: width as u64,
            highest: 0,
            floor: 0,
        })
    }

    /// Whether `seq` may be received; changes nothing.
    ///
    /// # Errors
    /// When it may not.
    #[inline(always)]
    pub fn check(&self, seq: u64) -> Result<(), ReplayError> {
        if seq == 0 {
            return Err(ReplayError::Zero);
        }
        if seq > self.highest {
            return Ok(());
        }
        if self.highest - seq >= self.width {
            return Err(ReplayError::TooOld);
        }
        if seq <= self.floor || self.word(seq) & bit(seq) != 0 {
            return Err(ReplayError::Replayed);
        }
        Ok(())
    }

    /// Checks `seq` again and marks it received; only for authenticated packets.
    ///
    /// # Errors
    /// As for [`Self::check`]; then nothing is changed.
    #[inline(always)]
    pub fn update(&mut self, seq: u64) -> Result<(), ReplayError> {
        self.check(seq)?;
        self.advance(seq);
        if let Some(word) = self.ring.get_mut(((seq / WORD) & self.mask) as usize) {
            *word |= bit(seq);
        }
        Ok(())
    }

    /// The word that the next packets' bits are in.
    #[inline]
    pub(crate) fn next_word(&self) -> Option<&u64> {
        self.ring.get(((self.highest / WORD) & self.mask) as usize)
    }

    /// The highest number received, or the floor; 0 before the first packet.
    #[must_use]
    #[inline]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Width in packets.
    #[must_use]
    #[inline]
    pub fn width(&self) -> u64 {
        self.width
    }

    /// Takes everything up to and including `floor` for received: after a restart, what an
    /// earlier process may have accepted. A lower floor than the present one changes
    /// nothing.
    pub fn restore_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        self.advance(floor);
    }

    /// Moves the upper edge to `seq`, emptying the words entered.
    #[inline]
    fn advance(&mut self, seq: u64) {
        if seq <= self.highest {
            return;
        }
        let from = self.highest / WORD;
        let entered = (seq / WORD - from).min(self.ring.len() as u64);
        for step in 1..=entered {
            if let Some(word) = self.ring.get_mut(((from + step) & self.mask) as usize) {
                *word = 0;
            }
        }
        self.highest = seq;
    }

    #[inline]
    fn word(&self, seq: u64) -> u64 {
        let at = ((seq / WORD) & self.mask) as usize;
        self.ring.get(at).copied().unwrap_or(u64::MAX)
    }
}

#[inline]
fn bit(seq: u64) -> u64 {
    1 << (seq % WORD)
}

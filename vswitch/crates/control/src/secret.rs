//! Bytes that nobody may find after they have served: on the heap in one place (a move leaves no
//! copy behind), overwritten when dropped, never printed.

use core::fmt;

use zeroize::Zeroizing;

/// `N` secret bytes. There is no `Clone`: who needs them borrows them.
pub struct Secret<const N: usize> {
    bytes: Box<Zeroizing<[u8; N]>>,
    #[cfg(test)]
    _live: live::Live,
}

impl<const N: usize> Secret<N> {
    /// Zeroes, to be filled in place.
    pub(crate) fn zeroed() -> Self {
        Self {
            bytes: Box::new(Zeroizing::new([0; N])),
            #[cfg(test)]
            _live: live::Live::new(),
        }
    }

    /// Where they are filled in.
    pub(crate) fn fill(&mut self) -> &mut [u8; N] {
        &mut self.bytes
    }

    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        &self.bytes
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>")
    }
}

/// How many secrets of a thread are alive: tests see that none outlives its purpose.
#[cfg(test)]
pub(crate) mod live {
    use std::cell::Cell;

    thread_local! {
        static LIVE: Cell<usize> = const { Cell::new(0) };
    }

    /// Counted from its making to its drop.
    pub struct Live(());

    impl Live {
        /// One more.
        pub fn new() -> Self {
            LIVE.set(LIVE.get() + 1);
            Self(())
        }
    }

    impl Drop for Live {
        fn drop(&mut self) {
            LIVE.set(LIVE.get() - 1);
        }
    }

    /// Secrets of this thread that have not been dropped.
    pub fn count() -> usize {
        LIVE.get()
    }
}

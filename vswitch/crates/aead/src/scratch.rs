//! Memory for messages that do not lie in one piece. It may hold plaintext, so it never
//! grows in place (that would leave a copy behind) and is zeroized before reuse and drop.

use zeroize::{Zeroize, Zeroizing};

/// A reusable buffer; allocates nothing until it is first needed.
#[derive(Default)]
pub(crate) struct Scratch(Zeroizing<Vec<u8>>);

impl Scratch {
    /// The pieces one after the other.
    pub(crate) fn gather<'p>(
        &mut self,
        len: usize,
        pieces: impl Iterator<Item = &'p [u8]>,
    ) -> &mut [u8] {
        self.0.zeroize();
        if self.0.capacity() < len {
            self.0 = Zeroizing::new(Vec::with_capacity(len));
        }
        for piece in pieces {
            self.0.extend_from_slice(piece);
        }
        &mut self.0
    }

    /// What was gathered, and changed since.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Copies `from` back into the pieces it was gathered from.
pub(crate) fn scatter(mut from: &[u8], pieces: &mut [&mut [u8]]) {
    for piece in pieces {
        let Some((now, later)) = from.split_at_checked(piece.len()) else {
            return;
        };
        piece.copy_from_slice(now);
        from = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathers_and_scatters() {
        let mut scratch = Scratch::default();
        let (mut a, mut b) = ([1, 2, 3], [4, 5]);
        let all = scratch.gather(5, [&a[..], &[], &b[..]].into_iter());
        assert_eq!(all, [1, 2, 3, 4, 5]);
        all.reverse();
        let all = all.to_vec();
        scatter(&all, &mut [&mut a, &mut [], &mut b]);
        assert_eq!((a, b), ([5, 4, 3], [2, 1]));
        assert_eq!(scratch.gather(1, [&[9][..]].into_iter()), [9]);
    }
}

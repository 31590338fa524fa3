//! Owners of slots.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use subtle::ConstantTimeEq;

use super::VaultError;
use super::slab;
use super::stack::without_traces;

/// A value in the vault. Wiped when dropped, never printed.
pub struct Secret<T> {
    at: NonNull<T>,
}

// SAFETY: it owns the value as a `Box` does.
unsafe impl<T: Send> Send for Secret<T> {}
// SAFETY: likewise.
unsafe impl<T: Sync> Sync for Secret<T> {}

impl<T> Secret<T> {
    /// Puts what `make` returns into the vault. On its way there it may pass over the stack,
    /// of which as much is wiped as `make` can have used.
    ///
    /// # Errors
    /// When there is no memory of the kind.
    pub fn new(make: impl FnOnce() -> T) -> Result<Self, VaultError> {
        const { assert!(align_of::<T>() <= slab::LINE) };
        let at = slab::take(size_of::<T>())?.cast::<T>();
        without_traces(|| {
            let value = make();
            // SAFETY: a fresh slot, large and aligned enough, and nobody else's.
            unsafe { at.write(value) };
        });
        Ok(Self { at })
    }
}

impl<T> Deref for Secret<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the slot holds a value from `new` to `drop`.
        unsafe { self.at.as_ref() }
    }
}

impl<T> DerefMut for Secret<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { self.at.as_mut() }
    }
}

impl<T> Drop for Secret<T> {
    fn drop(&mut self) {
        // SAFETY: the value is dropped once, and its slot, which came from the slab, is not
        // used after.
        unsafe {
            self.at.drop_in_place();
            slab::give_back(self.at.cast(), size_of::<T>());
        }
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Bytes of a key as it was configured, in the vault. Compared by [`Self::ct_eq`] only.
pub struct SecretBytes(Secret<Bytes>);

struct Bytes {
    bytes: [u8; SecretBytes::MAX],
    len: u8,
}

impl SecretBytes {
    /// Bytes of one at most: a cache line with the length.
    pub const MAX: usize = 63;

    /// `len` bytes, zeros until `fill` writes them in place.
    ///
    /// # Errors
    /// When they are too many or there is no memory for them.
    pub fn new(len: usize, fill: impl FnOnce(&mut [u8])) -> Result<Self, VaultError> {
        let too_long = VaultError::TooLong { len };
        let held = u8::try_from(len).ok().filter(|_| len <= Self::MAX);
        let held = held.ok_or(too_long)?;
        let mut secret = Secret::new(|| Bytes {
            bytes: [0; Self::MAX],
            len: held,
        })?;
        if let Some(bytes) = secret.bytes.get_mut(..len) {
            without_traces(|| fill(bytes));
        }
        Ok(Self(secret))
    }

    /// The bytes, for control threads that must pass them on (a cipher's expansion, a key
    /// export that is allowed). Do not copy them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        let len = usize::from(self.0.len);
        self.0.bytes.get(..len).unwrap_or(&self.0.bytes)
    }

    /// Whether both are equal, found out in a time that depends on their lengths only.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        // What is behind the length is zero in both.
        let same = self.0.bytes[..].ct_eq(&other.0.bytes) & self.0.len.ct_eq(&other.0.len);
        same.into()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({})", self.0.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// What is mapped is the process's.
    static ONE: Mutex<()> = Mutex::new(());

    #[test]
    fn slots_are_aligned_distinct_and_wiped() {
        let _one = ONE.lock();
        let secrets: Vec<Secret<[u8; 100]>> = (0..200)
            .map(|i| Secret::new(|| [i as u8; 100]).unwrap())
            .collect();
        let mut at: Vec<usize> = secrets.iter().map(|s| s.at.as_ptr() as usize).collect();
        for (i, secret) in secrets.iter().enumerate() {
            assert_eq!(**secret, [i as u8; 100]);
            assert_eq!(at[i] % 64, 0);
            assert_eq!(at[i] / 4096, (at[i] + 127) / 4096, "one page");
        }
        let last = secrets.last().unwrap().at;
        drop(secrets);
        // SAFETY: the arena is still mapped: nothing collects before the next `new`. Behind
        // the link of the free list nothing is left.
        let left = unsafe { last.cast::<[u8; 100]>().read() };
        assert_eq!(left[8..], [0; 92]);
        at.sort_unstable();
        at.dedup();
        assert_eq!(at.len(), 200);
    }

    #[test]
    fn memory_is_used_again_and_given_back() {
        let _one = ONE.lock();
        type Big = [u64; 90];
        let many = |n: u64| -> Vec<Secret<Big>> {
            (0..n).map(|i| Secret::new(|| [i; 90]).unwrap()).collect()
        };
        let keys = many(if cfg!(miri) { 50 } else { 10_000 });
        let full = super::super::mapped();
        if !cfg!(miri) {
            // 768 bytes each, five to a page, and less than one arena more.
            assert!(
                (2_000 * 4096..2_000 * 4096 + (2 << 20)).contains(&full),
                "{full}"
            );
        }
        drop(keys);
        // Other tests of the process have keys of other sizes.
        const OTHERS: usize = 1 << 20;
        let empty = super::super::mapped();
        assert!(empty <= full.min((1 << 20) + OTHERS), "{empty} of {full}");
        let again = many(1);
        assert_eq!(again[0][0], 0);
        assert!(super::super::mapped() <= empty + OTHERS);
    }

    #[test]
    fn threads_drop_what_others_made() {
        let _one = ONE.lock();
        let rounds = if cfg!(miri) { 3 } else { 300 };
        std::thread::scope(|scope| {
            for t in 0..4_u8 {
                scope.spawn(move || {
                    for i in 0..rounds {
                        let kept: Vec<_> = (0..7)
                            .map(|n| SecretBytes::new(36, |b| b.fill(t ^ n ^ i as u8)).unwrap())
                            .collect();
                        for (n, secret) in kept.iter().enumerate() {
                            assert_eq!(secret.expose(), [t ^ n as u8 ^ i as u8; 36]);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn bytes_compare_by_length_and_content() {
        let _one = ONE.lock();
        let of =
            |bytes: &[u8]| SecretBytes::new(bytes.len(), |b| b.copy_from_slice(bytes)).unwrap();
        assert!(of(&[1, 2, 3]).ct_eq(&of(&[1, 2, 3])));
        assert!(!of(&[1, 2, 3]).ct_eq(&of(&[1, 2, 4])));
        assert!(!of(&[1, 2, 0]).ct_eq(&of(&[1, 2])));
        assert!(of(&[]).ct_eq(&of(&[])));
        assert_eq!(format!("{:?}", of(&[7; 20])), "SecretBytes(20)");
        let long = SecretBytes::new(64, |_| {});
        assert_eq!(long.err(), Some(VaultError::TooLong { len: 64 }));
    }
}

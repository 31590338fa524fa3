//! A keyed hash of 64-bit keys: fast, and not predictable without the seed.
//!
//! Tenants choose MAC addresses, so an unkeyed hash would let one fill a single chain of a
//! table that all virtual networks share. This is two rounds of multiply-and-fold (the
//! 64×64→128 bit product, its halves combined by xor), as in wyhash, with four secret
//! constants expanded from the seed. It is not a cryptographic hash: a tenant who could
//! measure single lookups very precisely may learn something about the secrets, therefore
//! the table also bounds how long a chain learning may build ([`crate::Fdb`]).

use std::hash::{BuildHasher, Hasher};

/// The secrets of one table.
#[derive(Clone, Copy)]
pub(crate) struct KeyedHash {
    mask: [u64; 2],
    factor: [u64; 2],
}

impl KeyedHash {
    /// Expands a random seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        // SplitMix64 (Steele, Lea, Flood 2014): turns any seed into well-mixed words.
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        // Odd factors with the top bit set: both halves of the product depend on the key.
        let high = 1 << 63;
        Self {
            mask: [next(), next()],
            factor: [next() | 1 | high, next() | 1 | high],
        }
    }

    /// The hash of a key; all 64 bits are usable.
    #[inline]
    pub(crate) fn hash(&self, key: u64) -> u64 {
        let first = fold(key ^ self.mask[0], self.factor[0]);
        fold(first ^ self.mask[1], self.factor[1])
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

impl std::fmt::Debug for KeyedHash {
    // The secrets stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedHash")
    }
}

/// The same hash for the standard library's maps.
impl BuildHasher for KeyedHash {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher {
            hash: *self,
            state: 0,
        }
    }
}

/// Absorbs a key word by word.
pub(crate) struct KeyedHasher {
    hash: KeyedHash,
    state: u64,
}

impl Hasher for KeyedHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
        // Strings of zero bytes of different length must differ.
        self.write_u64(bytes.len() as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.state = self.hash.hash(self.state.rotate_left(5) ^ value);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_give_unrelated_tables() {
        let (a, b) = (KeyedHash::new(1), KeyedHash::new(2));
        let same = (0..4096u64)
            .filter(|&k| a.hash(k) & 0xfff == b.hash(k) & 0xfff)
            .count();
        // One in 4096 is expected by chance.
        assert!(same < 16, "{same} of 4096 keys fall on the same slot");
    }

    #[test]
    #[cfg_attr(miri, ignore = "statistics, minutes under Miri")]
    fn low_bits_are_spread_over_typical_keys() {
        // Vendor-prefixed MACs that count up, in several virtual networks.
        let hash = KeyedHash::new(7);
        let mut load = vec![0u32; 1 << 12];
        for vn in 0..16u64 {
            for mac in 0..(1u64 << 10) {
                let key = vn << 48 | 0x5254_0000_0000 | mac;
                load[(hash.hash(key) & 0xfff) as usize] += 1;
            }
        }
        // Mean 4; Poisson makes more than 20 in any of 4096 bins practically impossible.
        assert!(load.iter().all(|&n| n <= 20));
        let empty = load.iter().filter(|&&n| n == 0).count();
        assert!(
            (30..150).contains(&empty),
            "{empty} empty bins, expected 75"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", KeyedHash::new(7)), "KeyedHash");
    }
}

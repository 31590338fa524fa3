//! Expanded AES-GCM keys. They stay at one place in the vault from creation to drop, so that
//! moving a table of them leaves no secret behind, and are zeroized when dropped.

use core::fmt;

use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::aes::{Aes128, Aes256, Block};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use thiserror::Error;

use crate::vault::{Secret, VaultError, without_traces};

/// The cipher and its key length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
}

impl Algorithm {
    /// Key length in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm => 32,
        }
    }
}

/// Why a key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The key's length is not the algorithm's.
    #[error("key of {found} bytes where {expected} are needed")]
    Length {
        /// Bytes the algorithm needs.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// There is no protected memory for it.
    #[error(transparent)]
    Memory(#[from] VaultError),
}

/// Input of [`Key::fingerprint`]. GCM enciphers the zero block (for its hash key) and
/// counter blocks, whose last 32 bits start at 1 and never reach 0 within the length
/// limit of a message; so this block, not zero and with counter 0, is never enciphered
/// otherwise, and publishing its image reveals no hash key, keystream or tag mask.
const FINGERPRINT_BLOCK: [u8; 16] = *b"vswitch keys\0\0\0\0";

/// Round keys and hash key of one AES-GCM key, in the [vault](crate::vault): one indirection
/// from here. Zeroized on drop; never printed.
pub struct Key {
    cipher: Cipher,
    fingerprint: [u8; 16],
}

/// The `aes-gcm` crate's own expansion. Its parts zeroize themselves on drop (its feature
/// `zeroize`), and the vault wipes their slot.
pub(crate) enum Cipher {
    Aes128(Secret<Aes128Gcm>),
    Aes256(Secret<Aes256Gcm>),
}

impl Key {
    /// Bytes of the vault that an expanded key takes at most.
    pub const MEMORY: usize = size_of::<Aes256Gcm>();

    /// Expands `key`, which must have the algorithm's length.
    ///
    /// # Errors
    /// When it has another length, or there is no memory for it.
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        // Nothing of the key stays on the stack, nor on the way into the vault.
        without_traces(|| Self::expand(algorithm, key))
    }

    fn expand(algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        let wrong = |_| KeyError::Length {
            expected: algorithm.key_len(),
            found: key.len(),
        };
        let mut block = Block::from(FINGERPRINT_BLOCK);
        let cipher = match algorithm {
            Algorithm::Aes128Gcm => {
                let aes = Aes128::new_from_slice(key).map_err(wrong)?;
                aes.encrypt_block(&mut block);
                Cipher::Aes128(Secret::new(|| aes.into())?)
            }
            Algorithm::Aes256Gcm => {
                let aes = Aes256::new_from_slice(key).map_err(wrong)?;
                aes.encrypt_block(&mut block);
                Cipher::Aes256(Secret::new(|| aes.into())?)
            }
        };
        Ok(Self {
            cipher,
            fingerprint: block.into(),
        })
    }

    /// The key's algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.cipher {
            Cipher::Aes128(_) => Algorithm::Aes128Gcm,
            Cipher::Aes256(_) => Algorithm::Aes256Gcm,
        }
    }

    /// Identifies the key without revealing it: AES of a constant block under the key, a
    /// block that GCM itself never enciphers. Equal keys of one algorithm have equal
    /// fingerprints.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 16] {
        self.fingerprint
    }

    pub(crate) fn cipher(&self) -> &Cipher {
        &self.cipher
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.algorithm()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_the_algorithms() {
        for alg in [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm] {
            for found in 0..40 {
                let key = Key::new(alg, &vec![7; found]);
                let expected = alg.key_len();
                match key {
                    Ok(k) => assert!(found == expected && k.algorithm() == alg),
                    Err(e) => {
                        assert!(found != expected);
                        assert_eq!(e, KeyError::Length { expected, found });
                    }
                }
            }
        }
    }

    #[test]
    fn debug_prints_no_bytes() {
        let key = Key::new(Algorithm::Aes128Gcm, &[0xab; 16]).unwrap();
        assert_eq!(format!("{key:?}"), "Key(Aes128Gcm)");
    }

    #[test]
    fn fingerprint_tells_keys_apart() {
        let of = |alg, key: &[u8]| Key::new(alg, key).unwrap().fingerprint();
        let a = of(Algorithm::Aes128Gcm, &[1; 16]);
        assert_eq!(a, of(Algorithm::Aes128Gcm, &[1; 16]));
        assert_ne!(a, of(Algorithm::Aes128Gcm, &[2; 16]));
        assert_ne!(a, of(Algorithm::Aes256Gcm, &[1; 32]));
        assert_ne!(a, [1; 16]);
        // Recorded durably elsewhere, so it must never change (computed with OpenSSL).
        let recorded = u128::from_be_bytes(a);
        assert_eq!(recorded, 0xf08c_fe9b_696e_59f8_4b20_dacd_0bc9_f6fd);
    }

    #[test]
    fn parts_zeroize_on_drop() {
        fn zeroizes<T: zeroize::ZeroizeOnDrop>() {}
        zeroizes::<Aes128Gcm>();
        zeroizes::<Aes256Gcm>();
    }

    #[test]
    fn keys_cross_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Key>();
    }
}

//! Expanded AES-GCM keys. They stay at one place in the vault from creation to drop, so that
//! moving a table of them leaves no secret behind, and are zeroized when dropped.

use core::fmt;

use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::aes::{Aes128, Aes256, Block};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use thiserror::Error;

use crate::backend::Backend;
use crate::vault::{Secret, VaultError, without_traces};
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::wide::{FEW_BYTES, Schedule};

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

/// How a key is expanded: backends of one form share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// As the `aes-gcm` crate has it.
    Portable,
    /// Round keys and a table of powers of the hash key, for vector registers.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Wide,
}

impl Form {
    /// Bytes of the vault that an expanded key takes at most.
    #[must_use]
    pub const fn memory(self) -> usize {
        match self {
            Self::Portable => size_of::<Aes256Gcm>(),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Self::Wide => size_of::<Schedule>(),
        }
    }
}

/// One AES-GCM key, expanded for the backends of one [`Form`], in the [vault](crate::vault):
/// one indirection from here. Zeroized on drop; never printed.
pub struct Key {
    cipher: Cipher,
    algorithm: Algorithm,
    fingerprint: [u8; 16],
}

/// What a key is expanded to.
pub(crate) enum Cipher {
    // The `aes-gcm` crate's own expansion. Its parts zeroize themselves on drop (its feature
    // `zeroize`), and the vault wipes their slot.
    Aes128(Secret<Aes128Gcm>),
    Aes256(Secret<Aes256Gcm>),
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    Wide(Secret<Schedule>),
}

impl Key {
    /// Expands `key`, which must have the algorithm's length, for `backend` and those that
    /// share its form.
    ///
    /// # Errors
    /// When it has another length, or there is no memory for it.
    pub fn new(backend: &dyn Backend, algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        // Nothing of the key stays on the stack, nor on the way into the vault.
        without_traces(|| Self::expand(backend.form(), algorithm, key))
    }

    fn expand(form: Form, algorithm: Algorithm, key: &[u8]) -> Result<Self, KeyError> {
        let wrong = |_| KeyError::Length {
            expected: algorithm.key_len(),
            found: key.len(),
        };
        let mut block = Block::from(FINGERPRINT_BLOCK);
        let cipher = match algorithm {
            Algorithm::Aes128Gcm => {
                let aes = Aes128::new_from_slice(key).map_err(wrong)?;
                aes.encrypt_block(&mut block);
                match form {
                    Form::Portable => Cipher::Aes128(Secret::new(|| aes.into())?),
                    #[cfg(all(target_arch = "x86_64", not(miri)))]
                    Form::Wide => Cipher::Wide(Secret::new(|| Schedule::new(key))?),
                }
            }
            Algorithm::Aes256Gcm => {
                let aes = Aes256::new_from_slice(key).map_err(wrong)?;
                aes.encrypt_block(&mut block);
                match form {
                    Form::Portable => Cipher::Aes256(Secret::new(|| aes.into())?),
                    #[cfg(all(target_arch = "x86_64", not(miri)))]
                    Form::Wide => Cipher::Wide(Secret::new(|| Schedule::new(key))?),
                }
            }
        };
        Ok(Self {
            cipher,
            algorithm,
            fingerprint: block.into(),
        })
    }

    /// The key's algorithm.
    #[must_use]
    #[inline]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The form it is expanded to.
    #[must_use]
    pub fn form(&self) -> Form {
        match self.cipher {
            Cipher::Aes128(_) | Cipher::Aes256(_) => Form::Portable,
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            Cipher::Wide(_) => Form::Wide,
        }
    }

    /// Asks the CPU to fetch what a packet of so many bytes needs of the key. Costs a few
    /// instructions; of use for keys that are not in cache, some hundred nanoseconds before
    /// their job.
    #[inline]
    pub fn prefetch(&self, len: usize) {
        #[cfg(any(not(target_arch = "x86_64"), miri))]
        let _ = len;
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if let Cipher::Wide(schedule) = &self.cipher {
            schedule.prefetch(len > FEW_BYTES, self.algorithm == Algorithm::Aes256Gcm);
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

    /// The expanded key, if it is of the wide form.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline(always)]
    pub(crate) fn schedule(&self) -> Option<&Schedule> {
        match &self.cipher {
            Cipher::Wide(schedule) => Some(schedule),
            Cipher::Aes128(_) | Cipher::Aes256(_) => None,
        }
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
    use crate::backend::portable;

    #[test]
    fn length_is_the_algorithms() {
        for alg in [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm] {
            for found in 0..40 {
                let key = Key::new(portable(), alg, &vec![7; found]);
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
        let key = Key::new(portable(), Algorithm::Aes128Gcm, &[0xab; 16]).unwrap();
        assert_eq!(format!("{key:?}"), "Key(Aes128Gcm)");
    }

    #[test]
    fn fingerprint_tells_keys_apart() {
        let of = |alg, key: &[u8]| Key::new(portable(), alg, key).unwrap().fingerprint();
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
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn a_wide_key_is_eight_cache_lines() {
        assert_eq!(Form::Wide.memory(), 512);
        assert!(Form::Portable.memory() <= 4096);
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

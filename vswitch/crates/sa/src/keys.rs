//! Secrets of an association: key and salt, how they are read from text, and how a key is
//! named without being shown.

use core::fmt;

use thiserror::Error;
use vswitch_aead::vault::{SecretBytes, VaultError};
use vswitch_aead::{Backend, Key, KeyError};
use zeroize::Zeroizing;

use crate::fingerprint::Fingerprint;

/// Length of the salt in bytes (RFC 4106 section 4, RFC 4543 section 3.2).
pub const SALT_LEN: usize = 4;

/// Transform of an association. All have a 16-byte ICV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// AES-GCM-16 with a 128-bit key (RFC 4106).
    Aes128Gcm,
    /// AES-GCM-16 with a 256-bit key (RFC 4106).
    Aes256Gcm,
    /// ENCR_NULL_AUTH_AES_GMAC with a 128-bit key (RFC 4543): authenticated, in the clear.
    Aes128Gmac,
    /// ENCR_NULL_AUTH_AES_GMAC with a 256-bit key (RFC 4543): authenticated, in the clear.
    Aes256Gmac,
}

impl Algorithm {
    /// Whether an observer cannot read the payload.
    #[must_use]
    pub const fn is_confidential(self) -> bool {
        matches!(self, Self::Aes128Gcm | Self::Aes256Gcm)
    }

    /// Length of the key in bytes, without the salt.
    #[must_use]
    pub const fn key_len(self) -> usize {
        self.aead().key_len()
    }

    /// The name used in configuration and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes-128-gcm",
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Aes128Gmac => "aes-128-gmac",
            Self::Aes256Gmac => "aes-256-gmac",
        }
    }

    pub(crate) const fn aead(self) -> vswitch_aead::Algorithm {
        match self {
            Self::Aes128Gcm | Self::Aes128Gmac => vswitch_aead::Algorithm::Aes128Gcm,
            Self::Aes256Gcm | Self::Aes256Gmac => vswitch_aead::Algorithm::Aes256Gcm,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why key material was refused. Never contains a byte of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyMaterialError {
    /// Key and salt together have another length than the algorithm needs.
    #[error("{algorithm} needs {expected} bytes of key and salt together, found {found}")]
    Length {
        /// Algorithm the material is for.
        algorithm: Algorithm,
        /// Bytes of key and salt.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A character that is not a hexadecimal digit.
    #[error("character {at} is not a hexadecimal digit")]
    NotHex {
        /// Its position, counted from 1 and without leading white space.
        at: usize,
    },
    /// Half a byte.
    #[error("odd number of hexadecimal digits ({digits})")]
    Odd {
        /// Digits given.
        digits: usize,
    },
    /// A key of zeros: an unfilled template, not a secret.
    #[error("the key is all zeros")]
    Zero,
    /// There is no protected memory for it.
    #[error(transparent)]
    Memory(#[from] VaultError),
}

/// Key and salt one after the other from hexadecimal, decoded in place in the vault; `0x`
/// before and white space around them are allowed. The algorithm is given and never guessed
/// from the length.
///
/// # Errors
/// When the text is not hexadecimal or not of the algorithm's length.
pub fn decode_hex(algorithm: Algorithm, text: &str) -> Result<SecretBytes, KeyMaterialError> {
    let text = text.trim();
    let prefix = if text.starts_with("0x") { 2 } else { 0 };
    let digits = text.as_bytes().get(prefix..).unwrap_or_default();
    if let Some(bad) = digits.iter().position(|d| !d.is_ascii_hexdigit()) {
        return Err(KeyMaterialError::NotHex {
            at: prefix + bad + 1,
        });
    }
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(KeyMaterialError::Odd {
            digits: digits.len(),
        });
    }
    let expected = algorithm.key_len() + SALT_LEN;
    if pairs.len() != expected {
        return Err(KeyMaterialError::Length {
            algorithm,
            expected,
            found: pairs.len(),
        });
    }
    let decoded = SecretBytes::new(expected, |bytes| {
        for (to, [hi, lo]) in bytes.iter_mut().zip(pairs) {
            *to = digit(*hi) << 4 | digit(*lo);
        }
    });
    Ok(decoded?)
}

/// Key and salt of one association. Zeroized on drop, never printed, and not `Clone`: an
/// association consumes it, so that two senders do not share a key by accident.
pub struct KeyMaterial {
    algorithm: Algorithm,
    key: Key,
    salt: Zeroizing<[u8; SALT_LEN]>,
}

impl KeyMaterial {
    /// Key and salt one after the other (RFC 4106 section 8.1), the key expanded for `backend`.
    ///
    /// # Errors
    /// When the length is not the algorithm's key and 4 bytes of salt, or the key is zero.
    pub fn from_bytes(
        backend: &dyn Backend,
        algorithm: Algorithm,
        key_and_salt: &[u8],
    ) -> Result<Self, KeyMaterialError> {
        let length = KeyMaterialError::Length {
            algorithm,
            expected: algorithm.key_len() + SALT_LEN,
            found: key_and_salt.len(),
        };
        let (key, salt) = key_and_salt.split_last_chunk::<SALT_LEN>().ok_or(length)?;
        let expanded = Key::new(backend, algorithm.aead(), key).map_err(|error| match error {
            KeyError::Length { .. } => length,
            KeyError::Memory(error) => error.into(),
        })?;
        if key.iter().fold(0, |any, b| any | b) == 0 {
            return Err(KeyMaterialError::Zero);
        }
        Ok(Self {
            algorithm,
            key: expanded,
            salt: Zeroizing::new(*salt),
        })
    }

    /// As [`decode_hex`].
    ///
    /// # Errors
    /// When the text is not hexadecimal or not of the algorithm's length, or the key is zero.
    pub fn from_hex(
        backend: &dyn Backend,
        algorithm: Algorithm,
        text: &str,
    ) -> Result<Self, KeyMaterialError> {
        Self::from_bytes(backend, algorithm, decode_hex(algorithm, text)?.expose())
    }

    /// The algorithm it is for.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Names the key without revealing it. The salt has no part in it, so a changed salt
    /// under an unchanged key counts as the same key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(self.key.fingerprint())
    }

    pub(crate) fn into_parts(self) -> (Algorithm, Key, Zeroizing<[u8; SALT_LEN]>) {
        (self.algorithm, self.key, self.salt)
    }
}

/// The value of one hexadecimal digit, without a table or a branch on the secret.
fn digit(d: u8) -> u8 {
    // Letters have bit 6 set; `A` and `a` have 1 in the low nibble and stand for 10.
    (d & 0xf) + 9 * (d >> 6)
}

impl fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMaterial")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_aead::portable;

    const ALL: [Algorithm; 4] = [
        Algorithm::Aes128Gcm,
        Algorithm::Aes256Gcm,
        Algorithm::Aes128Gmac,
        Algorithm::Aes256Gmac,
    ];

    #[test]
    fn hex_and_bytes_agree() {
        for algorithm in ALL {
            let bytes: Vec<u8> = (0..algorithm.key_len() + SALT_LEN)
                .map(|i| (i * 37 + 11) as u8)
                .collect();
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            let plain = KeyMaterial::from_bytes(portable(), algorithm, &bytes).unwrap();
            for text in [
                hex.clone(),
                hex.to_uppercase(),
                format!("0x{hex}"),
                format!("  {hex}\n"),
            ] {
                let read = KeyMaterial::from_hex(portable(), algorithm, &text).unwrap();
                assert_eq!(read.fingerprint(), plain.fingerprint());
                assert_eq!(*read.salt, *plain.salt);
                assert_eq!(read.salt[..], bytes[algorithm.key_len()..]);
            }
        }
    }

    #[test]
    fn length_decides_nothing() {
        for algorithm in ALL {
            let expected = algorithm.key_len() + SALT_LEN;
            for found in (0..80).filter(|f| *f != expected) {
                let error = KeyMaterialError::Length {
                    algorithm,
                    expected,
                    found,
                };
                let bytes = KeyMaterial::from_bytes(portable(), algorithm, &vec![1; found]);
                assert_eq!(bytes.err(), Some(error));
                let hex = KeyMaterial::from_hex(portable(), algorithm, &"01".repeat(found));
                assert_eq!(hex.err(), Some(error));
            }
        }
    }

    #[test]
    fn bad_text() {
        let read = |t: &str| KeyMaterial::from_hex(portable(), Algorithm::Aes128Gcm, t).err();
        assert_eq!(read("00112g"), Some(KeyMaterialError::NotHex { at: 6 }));
        assert_eq!(read(" 0x1z"), Some(KeyMaterialError::NotHex { at: 4 }));
        assert_eq!(read("001é"), Some(KeyMaterialError::NotHex { at: 4 }));
        assert_eq!(read("00112"), Some(KeyMaterialError::Odd { digits: 5 }));
        assert_eq!(read(&"00".repeat(20)), Some(KeyMaterialError::Zero));
    }

    #[test]
    fn debug_prints_no_bytes() {
        let key = KeyMaterial::from_bytes(portable(), Algorithm::Aes128Gcm, &[0xab; 20]).unwrap();
        let shown = format!("{key:?}");
        assert_eq!(shown, "KeyMaterial { algorithm: Aes128Gcm, .. }");
    }
}

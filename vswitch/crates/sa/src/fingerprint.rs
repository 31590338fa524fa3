//! The name of a key, for records and logs, that does not reveal it.

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

/// AES of a constant block under the key; see [`vswitch_aead::Key::fingerprint`]. Written
/// as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 16]);

/// The text is not 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a key fingerprint (32 lower-case hexadecimal digits)")]
pub struct FingerprintError;

impl Fingerprint {
    pub(crate) const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digit = |d: &u8| matches!(d, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.as_bytes().iter().all(digit) {
            return Err(FingerprintError);
        }
        u128::from_str_radix(text, 16)
            .map(|v| Self(v.to_be_bytes()))
            .map_err(|_| FingerprintError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let f = Fingerprint::new(*b"\x00\x01abcdefghijklm\xff");
        assert_eq!(f.to_string(), "00016162636465666768696a6b6c6dff");
        assert_eq!(f.to_string().parse(), Ok(f));
        for bad in [
            "",
            "+0016162636465666768696a6b6c6dff",
            &"A".repeat(32),
            &"0".repeat(33),
        ] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError));
        }
    }
}

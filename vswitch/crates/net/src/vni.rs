//! Virtual Network Identifiers: the 24-bit names of tenant networks in Geneve and VXLAN.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A Virtual Network Identifier, 0 to 2²⁴ − 1 (RFC 8926, 3.4; RFC 7348, 5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// The number does not fit 24 bits, or the text is not a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a VNI is a number from 0 to 16777215")]
pub struct VniRangeError;

impl Vni {
    /// The greatest: 2²⁴ − 1.
    pub const MAX: Self = Self(0xff_ffff);

    /// `None` above [`Vni::MAX`].
    #[inline]
    pub const fn new(value: u32) -> Option<Self> {
        if value <= Self::MAX.0 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The three octets of the tunnel headers, most significant first.
    #[inline]
    pub const fn to_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }

    /// From the three octets of the tunnel headers.
    #[inline]
    pub const fn from_bytes([a, b, c]: [u8; 3]) -> Self {
        Self(u32::from_be_bytes([0, a, b, c]))
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vni {
    type Err = VniRangeError;

    fn from_str(s: &str) -> Result<Self, VniRangeError> {
        s.parse::<u32>().map_err(|_| VniRangeError)?.try_into()
    }
}

impl TryFrom<u32> for Vni {
    type Error = VniRangeError;

    fn try_from(value: u32) -> Result<Self, VniRangeError> {
        Self::new(value).ok_or(VniRangeError)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, U32Deserializer};

    fn from_serde(value: u32) -> Result<Vni, Error> {
        let number: U32Deserializer<Error> = value.into_deserializer();
        Vni::deserialize(number)
    }

    proptest! {
        #[test]
        fn range_is_24_bits(value: u32) {
            for v in [value, value >> 8] {
                let vni = Vni::new(v);
                prop_assert_eq!(vni.is_some(), v < 1 << 24);
                prop_assert_eq!(from_serde(v).ok(), vni);
                prop_assert_eq!(v.to_string().parse().ok(), vni);
                if let Some(vni) = vni {
                    prop_assert_eq!(vni.get(), v);
                    prop_assert_eq!(Vni::from_bytes(vni.to_bytes()), vni);
                }
            }
        }
    }

    #[test]
    fn edges() {
        assert_eq!(Vni::new(0xff_ffff), Some(Vni::MAX));
        assert_eq!(Vni::new(0x100_0000), None);
        assert_eq!(Vni::new(0x010203).map(Vni::to_bytes), Some([1, 2, 3]));
    }
}

//! The Security Parameters Index.

use core::fmt;

use thiserror::Error;

/// An SPI that names an association: 0 and 1 to 255 are reserved (RFC 4303 section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spi(u32);

/// The SPI is in the reserved range, below 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("SPI {0} is reserved (below 256)")]
pub struct SpiError(pub u32);

impl Spi {
    /// Checks the range.
    ///
    /// # Errors
    /// When `spi` is below 256.
    pub const fn new(spi: u32) -> Result<Self, SpiError> {
        if spi < 256 {
            Err(SpiError(spi))
        } else {
            Ok(Self(spi))
        }
    }

    /// The number, as on the wire in network byte order.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Spi {
    type Error = SpiError;

    fn try_from(spi: u32) -> Result<Self, SpiError> {
        Self::new(spi)
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_range() {
        assert_eq!(Spi::new(0), Err(SpiError(0)));
        assert_eq!(Spi::new(255), Err(SpiError(255)));
        assert_eq!(Spi::new(256).map(Spi::get), Ok(256));
        assert_eq!(
            Spi::try_from(0xdead_beef).unwrap().to_string(),
            "0xdeadbeef"
        );
        assert_eq!(Spi::new(0x100).unwrap().to_string(), "0x00000100");
    }
}

//! Names and numbers that all parts of the control plane share.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Longest name of a VN or an edge, in bytes.
pub const MAX_NAME: usize = 63;

/// A name that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name: 1 to 63 of a-z, A-Z, 0-9, '-', '_' and '.'")]
pub struct NameError(String);

/// Checks what all names have in common.
fn check(name: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=MAX_NAME).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(NameError(name.chars().take(2 * MAX_NAME).collect()))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(name: String) -> Result<Self, NameError> {
                check(&name)?;
                Ok(Self(name))
            }
        }

        impl core::str::FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::try_from(name.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// Name of a virtual network, unique in a trust domain.
    VnName
}
name! {
    /// Name of an edge: the last part of `spiffe://<domain>/nve/<name>`.
    NveName
}

name! {
    /// Name of an operator: the last part of `spiffe://<domain>/operator/<name>`.
    OperatorName
}
name! {
    /// Name of a port of an edge, unique there.
    PortName
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        pub struct $name(pub u64);
    };
}

number! {
    /// Which membership of a VN: grows whenever an edge becomes a member or ceases to be one.
    Epoch
}
number! {
    /// How new a mapping is; of one (VN, MAC) it only grows, whoever registers it.
    Generation
}
number! {
    /// How far a VN's log of mappings has been told.
    Version
}

/// One run of a process, drawn at random when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootId(pub [u8; 16]);

/// An Ethernet address (IEEE 802).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_wherever_they_come_from() {
        assert_eq!("host-a".parse::<NveName>().unwrap().as_str(), "host-a");
        for wrong in ["", "a/b", "a b", "\u{e9}", &"x".repeat(64)] {
            assert!(wrong.parse::<VnName>().is_err(), "{wrong:?}");
            assert!(serde_json::from_value::<VnName>(wrong.into()).is_err());
        }
    }
}

//! Values of the file that are written in more than one way.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

use super::types::Algorithm;

/// `auto`, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auto {
    Auto,
    Number(u64),
}

impl<'de> Deserialize<'de> for Auto {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutoVisitor;
        impl Visitor<'_> for AutoVisitor {
            type Value = Auto;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a number")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Auto, E> {
                Ok(Auto::Number(value))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Auto, E> {
                match text {
                    "auto" => Ok(Auto::Auto),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(AutoVisitor)
    }
}

/// A user or a group: a name, or its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Account {
    Name(String),
    Number(u64),
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AccountVisitor;
        impl Visitor<'_> for AccountVisitor {
            type Value = Account;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a number")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Account, E> {
                Ok(Account::Number(value))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Account, E> {
                Ok(Account::Name(text.to_owned()))
            }
        }
        deserializer.deserialize_any(AccountVisitor)
    }
}

/// Octal permission bits in quotes. A bare number would be ambiguous: YAML reads 660 as decimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileMode(pub(super) String);

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ModeVisitor;
        impl Visitor<'_> for ModeVisitor {
            type Value = FileMode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an octal number in quotes, such as \"0660\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<FileMode, E> {
                Ok(FileMode(text.to_owned()))
            }
        }
        deserializer.deserialize_any(ModeVisitor)
    }
}

/// The algorithms by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum AlgorithmName {
    #[serde(rename = "aes-128-gcm")]
    Aes128Gcm,
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    #[serde(rename = "aes-128-gmac")]
    Aes128Gmac,
    #[serde(rename = "aes-256-gmac")]
    Aes256Gmac,
}

impl From<AlgorithmName> for Algorithm {
    fn from(name: AlgorithmName) -> Self {
        match name {
            AlgorithmName::Aes128Gcm => Self::Aes128Gcm,
            AlgorithmName::Aes256Gcm => Self::Aes256Gcm,
            AlgorithmName::Aes128Gmac => Self::Aes128Gmac,
            AlgorithmName::Aes256Gmac => Self::Aes256Gmac,
        }
    }
}

//! Who somebody is: `spiffe://<domain>/<role>/<name>`, and nothing that merely looks like it.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::types::{MAX_NAME, NveName};

/// Longest trust domain, in bytes (SPIFFE-ID, section 2.1).
const MAX_DOMAIN: usize = 255;

/// How much of somebody else's text goes into an error.
const SHOWN: usize = 120;

/// Why a text is no identity of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme, or another shape.
    #[error("{0:?} is not of the form spiffe://<domain>/<nve|ima|operator>/<name>")]
    Shape(String),
    /// The domain.
    #[error("{0:?} is no trust domain: 1 to 255 of a-z, 0-9, '.', '-' and '_'")]
    Domain(String),
    /// The first part of the path.
    #[error("{0:?} is no role: nve, ima or operator")]
    Role(String),
    /// The second part of the path.
    #[error("{0:?} is no name: 1 to 63 of a-z, A-Z, 0-9, '-', '_' and '.', and not '.' or '..'")]
    Name(String),
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// The authority below which all identities of one overlay are (SPIFFE-ID, section 2.1).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// As text, without the scheme.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if (1..=MAX_DOMAIN).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.into()));
        }
        Err(UriError::Domain(shown(text)))
    }
}

/// What somebody may be. An identity has exactly one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// An edge.
    Nve,
    /// A server of the mapping authority.
    Ima,
    /// A person or program that declares networks and members.
    Operator,
}

impl Role {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Nve, Self::Ima, Self::Operator];

    /// As it is written in the URI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nve => "nve",
            Self::Ima => "ima",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| UriError::Role(shown(text)))
    }
}

/// One edge, one server of the authority, or one operator. Cheap to clone; written as its URI.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity {
    domain: TrustDomain,
    role: Role,
    name: Arc<str>,
}

impl Identity {
    /// Of its parts.
    ///
    /// # Errors
    /// When `name` is none: 1 to 63 letters, digits, `-`, `_` and `.`, but neither `.` nor `..`,
    /// which a path segment must not be (SPIFFE-ID, section 2.2).
    pub fn new(domain: &TrustDomain, role: Role, name: &str) -> Result<Self, UriError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let fits = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed);
        if !fits || matches!(name, "." | "..") {
            return Err(UriError::Name(shown(name)));
        }
        Ok(Self {
            domain: domain.clone(),
            role,
            name: name.into(),
        })
    }

    /// Its trust domain.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Its role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The last part of its URI.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name, if this is an edge.
    #[must_use]
    pub fn nve(&self) -> Option<NveName> {
        (self.role == Role::Nve).then(|| self.name.parse().ok())?
    }
}

impl FromStr for Identity {
    type Err = UriError;

    /// Byte for byte: no other case of the scheme, no port, no query, nothing percent-encoded.
    fn from_str(uri: &str) -> Result<Self, UriError> {
        let shape = || UriError::Shape(shown(uri));
        let rest = uri.strip_prefix("spiffe://").ok_or_else(shape)?;
        let mut parts = rest.split('/');
        let (Some(domain), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(shape());
        };
        Self::new(&domain.parse()?, role.parse()?, name)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.domain, self.role, self.name)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl TryFrom<String> for $name {
            type Error = UriError;

            fn try_from(text: String) -> Result<Self, UriError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

text!(TrustDomain);
text!(Identity);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_byte_for_byte() {
        let uri = "spiffe://lab.example/nve/Host-a.1";
        let identity: Identity = uri.parse().unwrap();
        assert_eq!(identity.domain().as_str(), "lab.example");
        assert_eq!(identity.role(), Role::Nve);
        assert_eq!(identity.name(), "Host-a.1");
        assert_eq!(identity.nve().unwrap().as_str(), "Host-a.1");
        assert_eq!(identity.to_string(), uri);
        let ima: Identity = "spiffe://lab.example/ima/host-a".parse().unwrap();
        assert_eq!(ima.nve(), None);
        assert_eq!(
            serde_json::to_string(&ima).unwrap(),
            r#""spiffe://lab.example/ima/host-a""#
        );
    }

    #[test]
    fn what_only_looks_like_an_identity_is_none() {
        let shape = |uri: &str| matches!(uri.parse::<Identity>(), Err(UriError::Shape(_)));
        for uri in [
            "",
            "https://lab/nve/a",
            "SPIFFE://lab/nve/a",
            "spiffe:/lab/nve/a",
            "spiffe://lab/nve",
            "spiffe://lab/nve/a/b",
            "spiffe://lab/nve/a/",
        ] {
            assert!(shape(uri), "{uri}");
        }
        let domain = |uri: &str| matches!(uri.parse::<Identity>(), Err(UriError::Domain(_)));
        for uri in [
            "spiffe:///nve/a",
            "spiffe://Lab/nve/a",
            "spiffe://lab:443/nve/a",
            "spiffe://u@lab/nve/a",
            "spiffe://l%61b/nve/a",
            &format!("spiffe://{}/nve/a", "x".repeat(256)),
        ] {
            assert!(domain(uri), "{uri}");
        }
        for uri in [
            "spiffe://lab//a",
            "spiffe://lab/NVE/a",
            "spiffe://lab/root/a",
        ] {
            assert!(matches!(uri.parse::<Identity>(), Err(UriError::Role(_))));
        }
        for name in [
            "",
            ".",
            "..",
            "a?b",
            "a#b",
            "a%2f",
            "a b",
            "\u{e9}",
            &"x".repeat(64),
        ] {
            let uri = format!("spiffe://lab/nve/{name}");
            assert!(
                matches!(uri.parse::<Identity>(), Err(UriError::Name(_))),
                "{uri}"
            );
        }
        // However long what somebody sends is, what is logged of it is short.
        let long = format!("spiffe://lab/nve/{}", "x".repeat(60_000));
        assert!(long.parse::<Identity>().unwrap_err().to_string().len() < 300);
    }
}

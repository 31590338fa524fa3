//! What travels between control planes: `postcard` (a compact, not self-describing form of serde),
//! one message a frame. A message is taken only in its one canonical encoding, whole, within
//! [`MAX_MESSAGE`], and every collection in it within its own bound.

pub mod ima;
pub mod operator;
pub mod overlay;
pub mod peer;
pub mod prefix;

use serde::de::{DeserializeOwned, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;

/// Largest message, in bytes (a frame's body).
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Why bytes are no message, or a message no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than any message.
    #[error("a message of {0} bytes; at most {MAX_MESSAGE} are allowed")]
    TooLong(usize),
    /// Not the encoding of any message.
    #[error("not a message: {0}")]
    Malformed(postcard::Error),
    /// The encoding of a message, but not the one it would get here: bytes behind its end, or a
    /// number written longer than it need be.
    #[error("not the canonical encoding of a message")]
    NotCanonical,
}

/// A message as it travels.
///
/// # Errors
///
/// It is longer than [`MAX_MESSAGE`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, MessageError> {
    let bytes = postcard::to_stdvec(message).map_err(MessageError::Malformed)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(MessageError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// The message that `bytes` are.
///
/// # Errors
///
/// They are none, or not in its canonical encoding.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(MessageError::TooLong(bytes.len()));
    }
    let message = postcard::from_bytes(bytes).map_err(MessageError::Malformed)?;
    // Postcard takes a number in more than one form, and ignores what is behind the end.
    if encode(&message)? != bytes {
        return Err(MessageError::NotCanonical);
    }
    Ok(message)
}

/// More elements than a collection may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} elements; at most {max} are allowed")]
pub struct BoundError {
    /// How many there are.
    pub len: usize,
    /// How many there may be.
    pub max: usize,
}

/// At most `N` elements, wherever they come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bounded<T, const N: usize>(Vec<T>);

impl<T, const N: usize> Bounded<T, N> {
    /// The elements themselves.
    #[must_use]
    pub fn into_inner(self) -> Vec<T> {
        self.0
    }
}

impl<T, const N: usize> Default for Bounded<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const N: usize> Deref for Bounded<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const N: usize> TryFrom<Vec<T>> for Bounded<T, N> {
    type Error = BoundError;

    fn try_from(elements: Vec<T>) -> Result<Self, BoundError> {
        if elements.len() > N {
            return Err(BoundError {
                len: elements.len(),
                max: N,
            });
        }
        Ok(Self(elements))
    }
}

impl<T: Serialize, const N: usize> Serialize for Bounded<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Bounded<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const N: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Elements<T, N> {
            type Value = Bounded<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} elements")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let len = seq.size_hint().unwrap_or(0);
                if len > N {
                    return Err(de::Error::custom(BoundError { len, max: N }));
                }
                // Memory follows the elements that are really there, not the number announced.
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    if elements.len() == N {
                        return Err(de::Error::custom(BoundError { len: N + 1, max: N }));
                    }
                    elements.push(element);
                }
                Ok(Bounded(elements))
            }
        }

        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        number: u32,
        list: Bounded<u16, 3>,
    }

    fn sample(len: u16) -> Vec<u8> {
        postcard::to_stdvec(&(5_u32, (0..len).collect::<Vec<_>>())).unwrap()
    }

    #[test]
    fn collections_keep_their_bound() {
        let three = decode::<Sample>(&sample(3)).unwrap();
        assert_eq!(*three.list, [0, 1, 2]);
        assert!(matches!(
            decode::<Sample>(&sample(4)),
            Err(MessageError::Malformed(_))
        ));
        assert_eq!(
            Bounded::<u8, 2>::try_from(vec![0; 3]),
            Err(BoundError { len: 3, max: 2 })
        );
    }

    #[test]
    fn only_the_canonical_encoding_is_taken() {
        let bytes = sample(1);
        assert!(decode::<Sample>(&bytes).is_ok());
        let mut behind = bytes.clone();
        behind.push(0);
        assert_eq!(decode::<Sample>(&behind), Err(MessageError::NotCanonical));
        // 5 as a varint of two bytes.
        let long = [&[0x85, 0x00], &bytes[1..]].concat();
        assert_eq!(decode::<Sample>(&long), Err(MessageError::NotCanonical));
        for len in 0..bytes.len() {
            assert!(decode::<Sample>(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn long_messages_are_refused_both_ways() {
        let long = MAX_MESSAGE + 1;
        assert_eq!(
            decode::<Sample>(&vec![0; long]),
            Err(MessageError::TooLong(long))
        );
        let message = vec![1_u8; MAX_MESSAGE];
        assert!(matches!(encode(&message), Err(MessageError::TooLong(_))));
    }
}

//! The ephemeral exchange from which every key of the control plane's own making comes: X25519 and
//! ML-KEM-768 together (draft-ietf-tls-ecdhe-mlkem, X25519MLKEM768), so that what is recorded today
//! stays closed unless both are broken.
//!
//! Whoever begins sends an [`Offer`], the other answers once with an [`Answer`]; each then has the
//! same [`Root`], by HKDF-SHA-256 (RFC 5869): extracted from `ML-KEM secret | X25519 secret` with
//! the hash of the whole [`Transcript`] as salt. Nothing here says who the other is: the exchange
//! runs inside a mutually authenticated session, whose exporter value belongs to the transcript.

use core::fmt;

use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{digest, hkdf, kem};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use vswitch_aead::vault::without_traces;
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::types::{Epoch, VnName};

/// Bytes of an X25519 public key, and of the secret (RFC 7748, section 6.1).
const X25519_LEN: usize = 32;
/// Bytes of an ML-KEM-768 encapsulation key (FIPS 203, table 3).
const KEM_KEY_LEN: usize = 1184;
/// Bytes of an ML-KEM-768 ciphertext (FIPS 203, table 3).
const KEM_CIPHERTEXT_LEN: usize = 1088;
/// Bytes of an ML-KEM shared secret (FIPS 203, table 3).
const KEM_SECRET_LEN: usize = 32;
/// Bytes of an offer: ML-KEM encapsulation key, X25519 public key.
pub const OFFER_LEN: usize = KEM_KEY_LEN + X25519_LEN;
/// Bytes of an answer: ML-KEM ciphertext, X25519 public key.
pub const ANSWER_LEN: usize = KEM_CIPHERTEXT_LEN + X25519_LEN;

/// First in every transcript: this protocol and no other.
const LABEL: &[u8] = b"vswitch hybrid exchange 1";

/// Why there is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HybridError {
    /// Neither key nor ciphertext has this length.
    #[error("{0} bytes are neither an offer ({OFFER_LEN}) nor an answer ({ANSWER_LEN})")]
    Length(usize),
    /// A key that is none, or whose X25519 secret would be zero (RFC 7748, section 6.1).
    #[error("the peer's share is no valid key")]
    Share,
    /// The library failed to make a key.
    #[error("no key could be made")]
    Generate,
}

macro_rules! share {
    ($(#[$doc:meta])* $name:ident, $len:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Box<[u8; $len]>);

        impl $name {
            /// As it travels.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = HybridError;

            fn try_from(bytes: &[u8]) -> Result<Self, HybridError> {
                let fixed = bytes.try_into().map_err(|_| HybridError::Length(bytes.len()))?;
                Ok(Self(Box::new(fixed)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(self.0.as_slice())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "{} bytes", $len)
                    }

                    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                        $name::try_from(bytes).map_err(E::custom)
                    }
                }
                deserializer.deserialize_bytes(Visitor)
            }
        }
    };
}

share! {
    /// What the initiator sends: ML-KEM-768 encapsulation key, then X25519 public key.
    Offer, OFFER_LEN
}
share! {
    /// What the responder sends back: ML-KEM-768 ciphertext, then X25519 public key.
    Answer, ANSWER_LEN
}

/// Which exchange, drawn at random by the initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExchangeId(pub [u8; 16]);

/// What both sides must agree on, besides offer and answer, or have different secrets.
#[derive(Debug, Clone, Copy)]
pub struct Transcript<'a> {
    /// The initiator's identity: its SPIFFE URI, as its certificate has it.
    pub initiator: &'a str,
    /// The responder's.
    pub responder: &'a str,
    /// The network.
    pub vn: &'a VnName,
    /// Its membership epoch, as the initiator named it.
    pub epoch: Epoch,
    /// This exchange.
    pub exchange: ExchangeId,
    /// The session's exporter value (RFC 8446, section 7.5): an exchange belongs to its session.
    pub binding: &'a [u8],
}

impl Transcript<'_> {
    /// SHA-256 of all of it, every field behind its length.
    fn hash(&self, offer: &Offer, answer: &Answer) -> digest::Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        let epoch = self.epoch.0.to_be_bytes();
        let fields: [&[u8]; 9] = [
            LABEL,
            self.initiator.as_bytes(),
            self.responder.as_bytes(),
            self.vn.as_str().as_bytes(),
            &epoch,
            &self.exchange.0,
            self.binding,
            offer.as_bytes(),
            answer.as_bytes(),
        ];
        for field in fields {
            context.update(&(field.len() as u64).to_be_bytes());
            context.update(field);
        }
        context.finish()
    }
}

/// The initiator's private half, until the answer comes. Both keys are overwritten when dropped.
pub struct Initiator {
    kem: kem::DecapsulationKey,
    x25519: EphemeralPrivateKey,
    offer: Offer,
    #[cfg(test)]
    _live: crate::secret::live::Live,
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator")
    }
}

impl Initiator {
    /// Fresh keys.
    ///
    /// # Errors
    ///
    /// The library could not make them.
    pub fn new() -> Result<Self, HybridError> {
        let make = || {
            let kem = kem::DecapsulationKey::generate(&kem::ML_KEM_768)?;
            let x25519 = EphemeralPrivateKey::generate(&agreement::X25519, &SystemRandom::new())?;
            let mut offer = Box::new([0; OFFER_LEN]);
            join(
                offer.as_mut_slice(),
                kem.encapsulation_key()?.key_bytes()?.as_ref(),
                x25519.compute_public_key()?.as_ref(),
            )?;
            Ok(Self {
                kem,
                x25519,
                offer: Offer(offer),
                #[cfg(test)]
                _live: crate::secret::live::Live::new(),
            })
        };
        make().map_err(|_: aws_lc_rs::error::Unspecified| HybridError::Generate)
    }

    /// What to send.
    #[must_use]
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The secret, from the responder's answer. An answer that was tampered with gives another
    /// secret than the responder's, or an error.
    ///
    /// # Errors
    ///
    /// The answer is no valid key.
    pub fn finish(self, answer: &Answer, transcript: &Transcript<'_>) -> Result<Root, HybridError> {
        without_traces(move || {
            let (ciphertext, public) = answer.0.split_at(KEM_CIPHERTEXT_LEN);
            let secret = self.kem.decapsulate(ciphertext.into());
            let secret = secret.map_err(|_| HybridError::Share)?;
            let salt = transcript.hash(&self.offer, answer);
            Root::agree(secret.as_ref(), self.x25519, public, &salt)
        })
    }
}

/// The responder's whole part: the answer to send, and the secret.
///
/// # Errors
///
/// The offer is no valid key, or the library could not make one.
pub fn respond(offer: &Offer, transcript: &Transcript<'_>) -> Result<(Answer, Root), HybridError> {
    without_traces(|| answered(offer, transcript))
}

fn answered(offer: &Offer, transcript: &Transcript<'_>) -> Result<(Answer, Root), HybridError> {
    let (key, public) = offer.0.split_at(KEM_KEY_LEN);
    let key = kem::EncapsulationKey::new(&kem::ML_KEM_768, key).map_err(|_| HybridError::Share)?;
    let (ciphertext, secret) = key.encapsulate().map_err(|_| HybridError::Share)?;
    let x25519 = EphemeralPrivateKey::generate(&agreement::X25519, &SystemRandom::new());
    let x25519 = x25519.map_err(|_| HybridError::Generate)?;
    let own = x25519.compute_public_key();
    let own = own.map_err(|_| HybridError::Generate)?;
    let mut answer = Box::new([0; ANSWER_LEN]);
    join(answer.as_mut_slice(), ciphertext.as_ref(), own.as_ref())
        .map_err(|_| HybridError::Generate)?;
    let answer = Answer(answer);
    let salt = transcript.hash(offer, &answer);
    let root = Root::agree(secret.as_ref(), x25519, public, &salt)?;
    Ok((answer, root))
}

/// Puts `a | b` into `out`, which they fill.
fn join(out: &mut [u8], a: &[u8], b: &[u8]) -> Result<(), aws_lc_rs::error::Unspecified> {
    if out.len() != a.len() + b.len() {
        return Err(aws_lc_rs::error::Unspecified);
    }
    let (first, second) = out.split_at_mut(a.len());
    first.copy_from_slice(a);
    second.copy_from_slice(b);
    Ok(())
}

/// What an exchange gave: a pseudorandom key (RFC 5869) from which others are expanded, and which is
/// itself never used. Overwritten when dropped; on the heap, because the library's type has its bytes
/// inside, and every move would leave a copy that nobody overwrites.
pub struct Root {
    prk: Box<hkdf::Prk>,
    #[cfg(test)]
    _live: crate::secret::live::Live,
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root")
    }
}

/// Bytes of an expanded secret, known at compile time.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Root {
    /// Of `ML-KEM secret | X25519 secret`.
    fn agree(
        kem_secret: &[u8],
        own: EphemeralPrivateKey,
        public: &[u8],
        salt: &digest::Digest,
    ) -> Result<Self, HybridError> {
        let public = UnparsedPublicKey::new(&agreement::X25519, public);
        agreement::agree_ephemeral(own, public, HybridError::Share, |shared| {
            let mut both = Zeroizing::new([0; KEM_SECRET_LEN + X25519_LEN]);
            join(both.as_mut_slice(), kem_secret, shared).map_err(|_| HybridError::Share)?;
            Ok(Self::extract(both.as_slice(), salt.as_ref()))
        })
    }

    /// HKDF-Extract.
    fn extract(secret: &[u8], salt: &[u8]) -> Self {
        // The library gives it by value, so it is on the stack first, however often.
        let prk =
            without_traces(|| Box::new(hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret)));
        Self {
            prk,
            #[cfg(test)]
            _live: crate::secret::live::Live::new(),
        }
    }

    /// HKDF-Expand: `N` bytes for the purpose that `fields` say, each behind its length (2 bytes),
    /// so that no two lists of fields read alike. `None` if a field is longer than 65,535 bytes or
    /// `N` more than 8,160: neither depends on anything secret.
    #[must_use]
    pub fn expand<const N: usize>(&self, fields: &[&[u8]]) -> Option<Secret<N>> {
        let mut info = Vec::with_capacity(fields.iter().map(|field| field.len() + 2).sum());
        for field in fields {
            info.extend_from_slice(&u16::try_from(field.len()).ok()?.to_be_bytes());
            info.extend_from_slice(field);
        }
        let mut secret = Secret::zeroed();
        let info = [info.as_slice()];
        without_traces(|| {
            let okm = self.prk.expand(&info, Length(N)).ok()?;
            okm.fill(secret.fill()).ok()
        })?;
        Some(secret)
    }
}

#[cfg(test)]
mod tests;

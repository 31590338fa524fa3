//! What the fuzzers do with their bytes. The targets in `vswitch/fuzz` are one line each; the
//! rest is here, so that stable Rust can play seeds, fixtures and mutations in the tests.

pub mod aead;
pub mod api;
pub mod certificate;
pub mod config;
pub mod frames;
mod honest;
pub mod ima_message;
pub mod operator_message;
pub mod peer_message;
pub mod record;
pub mod tenant;
pub mod underlay;

/// Something that eats bytes and panics if a promise was broken.
pub type Eat = Box<dyn FnMut(&[u8])>;

/// A fuzz target.
pub struct Target {
    /// Its name: of the cargo-fuzz target and of the directories of its inputs.
    pub name: &'static str,
    /// Makes ready, once in a process.
    pub start: fn() -> Eat,
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: [Target; 11] = [
    Target {
        name: "underlay",
        start: underlay::start,
        seeds: underlay::seeds,
    },
    Target {
        name: "tenant",
        start: tenant::start,
        seeds: tenant::seeds,
    },
    Target {
        name: "config",
        start: config::start,
        seeds: config::seeds,
    },
    Target {
        name: "api",
        start: api::start,
        seeds: api::seeds,
    },
    Target {
        name: "aead",
        start: aead::start,
        seeds: aead::seeds,
    },
    Target {
        name: "peer_message",
        start: peer_message::start,
        seeds: peer_message::seeds,
    },
    Target {
        name: "ima_message",
        start: ima_message::start,
        seeds: ima_message::seeds,
    },
    Target {
        name: "operator_message",
        start: operator_message::start,
        seeds: operator_message::seeds,
    },
    Target {
        name: "frames",
        start: frames::start,
        seeds: frames::seeds,
    },
    Target {
        name: "certificate",
        start: certificate::start,
        seeds: certificate::seeds,
    },
    Target {
        name: "record",
        start: record::start,
        seeds: record::seeds,
    },
];

/// Panics unless bytes that are a message are the one encoding of it.
fn canonical<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let message = vswitch_control::message::decode::<T>(bytes).ok()?;
    let again = vswitch_control::message::encode(&message).expect("what was read can be written");
    assert_eq!(again, bytes);
    Some(message)
}

/// Frames of an input: one byte of choice, two of length, then as many bytes as there are.
fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [choice, a, b, rest @ ..] = bytes
        && frames.len() < 32
    {
        let len = usize::from(u16::from_le_bytes([*a, *b])).min(rest.len());
        let (frame, rest) = rest.split_at(len);
        frames.push((*choice, frame));
        bytes = rest;
    }
    frames
}

/// The inverse of [`frames`].
fn joined<'a>(frames: impl IntoIterator<Item = (u8, &'a [u8])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (choice, frame) in frames {
        bytes.push(choice);
        bytes.extend((frame.len() as u16).to_le_bytes());
        bytes.extend(frame);
    }
    bytes
}

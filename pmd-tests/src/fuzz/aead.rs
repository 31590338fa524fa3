//! AES-GCM: every backend that this CPU can run against the `aes-gcm` crate, over batches of
//! mixed keys, lengths, alignments, associated data and layouts; then with every part tampered
//! with.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, KeyInit, Nonce};
use vswitch_aead::{Aad, Algorithm, Backend, Data, Job, Key, Outcome, backends};

use super::Eat;

/// Bytes of an input that make one message.
const RECORD: usize = 10;
/// Messages of a batch at most.
const BATCH: usize = 64;
/// Longest data.
const LONGEST: usize = 9200;
/// What is around the data and must stay as it is.
const FENCE: u8 = 0xa5;
/// Bytes of it behind the data: more than a register.
const BEHIND: usize = 80;

/// Keys of both lengths, in no order.
const SECRETS: [(Algorithm, [u8; 32]); 6] = [
    (Algorithm::Aes128Gcm, [1; 32]),
    (Algorithm::Aes256Gcm, [2; 32]),
    (Algorithm::Aes128Gcm, [3; 32]),
    (Algorithm::Aes128Gcm, [4; 32]),
    (Algorithm::Aes256Gcm, [5; 32]),
    (Algorithm::Aes256Gcm, *b"an ordinary key, not of one byte"),
];

/// One message, and what is done to it on its way.
struct Message {
    key: usize,
    nonce: [u8; 12],
    aad: Vec<u8>,
    /// Whether the first bytes of the associated data are given by value.
    head: bool,
    plain: Vec<u8>,
    /// Bytes of the buffer before the data.
    before: usize,
    /// Where the data is cut into segments.
    cut: Option<usize>,
    /// Which part is tampered with; 0 and from 6 on: none.
    tamper: u8,
    /// Which bit of it.
    bit: usize,
}

impl Message {
    fn read(number: usize, record: &[u8; RECORD]) -> Self {
        let [key, low, high, before, shape, more, seed, tamper, bit, cut] = *record;
        let len = usize::from(u16::from_le_bytes([low, high]));
        // Most packets are short, and most kernels change their ways there.
        let len = len % if shape & 1 == 0 { 600 } else { LONGEST + 1 };
        let aad_len = match shape >> 1 & 7 {
            0 => 0,
            1 => 8,
            2 => 16,
            3 => 20,
            4 => usize::from(more),
            5 => usize::from(more) * 7,
            _ => 12,
        };
        let byte = |i: usize| (i as u8).wrapping_mul(31).wrapping_add(seed) ^ (i >> 8) as u8;
        let mut nonce = [seed; 12];
        nonce[0] = number as u8;
        Self {
            key: usize::from(key) % SECRETS.len(),
            nonce,
            aad: (0..aad_len).map(|i| byte(i) ^ 0x55).collect(),
            head: shape & 0x10 != 0,
            plain: (0..len).map(byte).collect(),
            before: usize::from(before % 64),
            cut: (shape & 0x60 == 0x60).then(|| usize::from(cut) * len / 255),
            tamper: tamper % 12,
            bit: usize::from(bit) << 4 | usize::from(seed & 15),
        }
    }

    /// Ciphertext and tag, by the `aes-gcm` crate.
    fn sealed(&self) -> (Vec<u8>, [u8; 16]) {
        let (algorithm, secret) = &SECRETS[self.key];
        let secret = &secret[..algorithm.key_len()];
        let mut data = self.plain.clone();
        let (nonce, buffer) = (Nonce::from(self.nonce), InOutBuf::from(&mut data[..]));
        let tag = match algorithm {
            Algorithm::Aes128Gcm => Aes128Gcm::new_from_slice(secret)
                .expect("a key")
                .encrypt_inout_detached(&nonce, &self.aad, buffer),
            Algorithm::Aes256Gcm => Aes256Gcm::new_from_slice(secret)
                .expect("a key")
                .encrypt_inout_detached(&nonce, &self.aad, buffer),
        };
        (data, tag.expect("short enough").into())
    }
}

/// A message as it lies in memory.
struct Place {
    key: usize,
    nonce: [u8; 12],
    aad: Vec<u8>,
    buffer: Vec<u8>,
    tag: [u8; 16],
}

impl Place {
    fn of(message: &Message) -> Self {
        // Aligned as asked for, wherever the allocation begins.
        let mut buffer = vec![FENCE; 64 + message.before + message.plain.len() + BEHIND];
        let from = 64 + message.before;
        buffer[from..from + message.plain.len()].copy_from_slice(&message.plain);
        Self {
            key: message.key,
            nonce: message.nonce,
            aad: message.aad.clone(),
            buffer,
            tag: [0; 16],
        }
    }

    fn data(&mut self, message: &Message) -> &mut [u8] {
        &mut self.buffer[64 + message.before..][..message.plain.len()]
    }

    /// Flips a bit of the part that the message says; false if there is nothing to flip.
    fn tamper(&mut self, message: &Message) -> bool {
        let bit = message.bit;
        let part = match message.tamper {
            1 => self.data(message),
            2 => &mut self.aad,
            3 => &mut self.tag,
            4 => &mut self.nonce,
            5 => {
                self.key = (self.key + 1) % SECRETS.len();
                return true;
            }
            _ => return false,
        };
        let bits = part.len() * 8;
        if bits == 0 {
            return false;
        }
        part[bit % bits / 8] ^= 1 << (bit % 8);
        true
    }
}

/// Does the whole batch at once.
fn run(
    backend: &dyn Backend,
    keys: &[Key],
    messages: &[Message],
    places: &mut [Place],
    seal: bool,
) -> Vec<Outcome> {
    let mut parts = Vec::new();
    for (message, place) in messages.iter().zip(places) {
        let from = 64 + message.before;
        let data = &mut place.buffer[from..from + message.plain.len()];
        let (first, second) = data.split_at_mut(message.cut.unwrap_or(message.plain.len()));
        let pieces = [first, second];
        parts.push((
            message,
            &keys[place.key],
            place.nonce,
            &place.aad,
            pieces,
            &mut place.tag,
        ));
    }
    let mut jobs: Vec<Job<'_>> = parts
        .iter_mut()
        .map(|(message, key, nonce, aad, pieces, tag)| {
            let aad = match aad.first_chunk::<12>() {
                Some(head) if message.head => Aad::with_tail(*head, &aad[12..]),
                _ => Aad::borrowed(aad),
            };
            let data = if message.cut.is_some() {
                Data::Segments(pieces)
            } else {
                Data::Contiguous(pieces[0])
            };
            if seal {
                Job::seal(key, *nonce, aad, data, tag)
            } else {
                Job::open(key, *nonce, aad, data, **tag)
            }
        })
        .collect();
    if seal {
        backend.seal(&mut jobs);
    } else {
        backend.open(&mut jobs);
    }
    jobs.iter().map(Job::outcome).collect()
}

fn batch(backend: &dyn Backend, keys: &[Key], messages: &[Message]) {
    let name = backend.name();
    let mut places: Vec<Place> = messages.iter().map(Place::of).collect();
    let outcomes = run(backend, keys, messages, &mut places, true);
    for ((message, place), outcome) in messages.iter().zip(&mut places).zip(outcomes) {
        let (data, tag) = message.sealed();
        assert_eq!(outcome, Outcome::Sealed, "{name}");
        assert_eq!(place.tag, tag, "{name}");
        assert_eq!(place.data(message), data, "{name}");
    }
    let bad: Vec<bool> = messages
        .iter()
        .zip(&mut places)
        .map(|(message, place)| place.tamper(message))
        .collect();
    let outcomes = run(backend, keys, messages, &mut places, false);
    for (i, (message, place)) in messages.iter().zip(&mut places).enumerate() {
        if bad[i] {
            assert_eq!(outcomes[i], Outcome::Failed, "{name}");
            assert!(place.data(message).iter().all(|b| *b == 0), "{name}");
        } else {
            assert_eq!(outcomes[i], Outcome::Authentic, "{name}");
            assert_eq!(place.data(message), message.plain, "{name}");
        }
        place.data(message).fill(FENCE);
        assert!(place.buffer.iter().all(|b| *b == FENCE), "{name}");
    }
}

/// Expands the keys for every backend.
pub fn start() -> Eat {
    let expand = |backend: &dyn Backend| {
        SECRETS
            .iter()
            .map(|(algorithm, secret)| {
                let secret = &secret[..algorithm.key_len()];
                Key::new(backend, *algorithm, secret).expect("memory")
            })
            .collect::<Vec<_>>()
    };
    let all: Vec<_> = backends().map(|b| (b, expand(b))).collect();
    Box::new(move |bytes| {
        let (records, _) = bytes.as_chunks::<RECORD>();
        let messages: Vec<Message> = records
            .iter()
            .take(BATCH)
            .enumerate()
            .map(|(i, record)| Message::read(i, record))
            .collect();
        for (backend, keys) in &all {
            batch(*backend, keys, &messages);
        }
    })
}

/// Batches of all sizes that matter; short, long, and mixed.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for (size, shape) in [
        (1, 12),
        (3, 12),
        (4, 0),
        (5, 13),
        (32, 12),
        (33, 0x1c),
        (64, 0x6d),
    ] {
        let records = (0..size as u8).flat_map(|i| {
            let shape = shape ^ if i % 7 == 6 { 9 } else { 0 };
            let (low, high) = (i.wrapping_mul(16).wrapping_sub(i & 1), i % 3);
            [
                i,
                low,
                high,
                i,
                shape,
                i.wrapping_mul(3),
                i,
                i % 6,
                i.wrapping_mul(5),
                i * 2,
            ]
        });
        seeds.push(records.collect());
    }
    seeds
}

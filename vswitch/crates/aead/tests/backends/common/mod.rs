//! What every test of a backend shares: a message in a chosen layout, a batch of them run
//! through a backend, and a reference written from SP 800-38D alone.

use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::aes::{Aes128, Aes256, Block};
use vswitch_aead::{Aad, Algorithm, Backend, Data, Job, Key, Outcome};

/// One message, and how it is laid out in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Index into the keys of the batch.
    pub(crate) key: usize,
    pub(crate) nonce: [u8; 12],
    pub(crate) aad: Vec<u8>,
    /// Bytes of the AAD given by value: 0, 8, 12, 16 or 20.
    pub(crate) head: usize,
    pub(crate) data: Vec<u8>,
    pub(crate) tag: [u8; 16],
    /// Segment lengths; `None` is one contiguous slice. The last segment takes the rest.
    pub(crate) cuts: Option<Vec<usize>>,
}

impl Message {
    pub(crate) fn contiguous(nonce: &[u8], aad: &[u8], data: &[u8]) -> Self {
        Self {
            key: 0,
            nonce: nonce.try_into().unwrap(),
            aad: aad.to_vec(),
            head: 0,
            data: data.to_vec(),
            tag: [0; 16],
            cuts: None,
        }
    }
}

fn pieces<'a>(mut all: &'a mut [u8], cuts: Option<&[usize]>) -> Vec<&'a mut [u8]> {
    let mut out = Vec::new();
    for cut in cuts.unwrap_or_default() {
        let (now, later) = all.split_at_mut((*cut).min(all.len()));
        out.push(now);
        all = later;
    }
    out.push(all);
    out
}

fn aad<'a>(head: &[u8], tail: &'a mut [&'a mut [u8]], segments: bool) -> Aad<'a> {
    macro_rules! with {
        ($head:expr) => {
            if segments {
                Aad::with_segments($head, tail)
            } else if tail[0].is_empty() {
                Aad::new($head)
            } else {
                Aad::with_tail($head, &*tail[0])
            }
        };
    }
    match head.len() {
        0 if !segments => Aad::borrowed(&*tail[0]),
        0 => with!([0; 0]),
        8 => with!(<[u8; 8]>::try_from(head).unwrap()),
        12 => with!(<[u8; 12]>::try_from(head).unwrap()),
        16 => with!(<[u8; 16]>::try_from(head).unwrap()),
        20 => with!(<[u8; 20]>::try_from(head).unwrap()),
        n => panic!("no head of {n} bytes"),
    }
}

/// Seals or opens the messages as one batch, in place.
pub(crate) fn run(
    backend: &dyn Backend,
    keys: &[Key],
    messages: &mut [Message],
    seal: bool,
) -> Vec<Outcome> {
    let mut parts: Vec<_> = messages
        .iter_mut()
        .map(|m| {
            let cuts = m.cuts.as_deref();
            let (head, tail) = m.aad.split_at_mut(m.head);
            (
                &keys[m.key],
                m.nonce,
                &*head,
                pieces(tail, cuts),
                pieces(&mut m.data, cuts),
                cuts.is_some(),
                &mut m.tag,
            )
        })
        .collect();
    let mut jobs: Vec<Job<'_>> = parts
        .iter_mut()
        .map(|(key, nonce, head, tail, data, segments, tag)| {
            let aad = aad(head, tail, *segments);
            let data = if *segments {
                Data::Segments(data)
            } else {
                Data::Contiguous(data[0])
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

/// Product in GF(2^128), bit by bit (SP 800-38D algorithm 1).
pub(crate) fn multiply(x: u128, y: u128) -> u128 {
    let (mut z, mut v) = (0, y);
    for bit in (0..128).rev() {
        if (x >> bit) & 1 == 1 {
            z ^= v;
        }
        v = (v >> 1) ^ if v & 1 == 1 { 0xe1 << 120 } else { 0 };
    }
    z
}

/// Ciphertext and tag (SP 800-38D algorithm 4), with nothing of the code under test but
/// the block cipher.
pub(crate) fn reference(
    algorithm: Algorithm,
    key: &[u8],
    nonce: [u8; 12],
    aad: &[u8],
    data: &[u8],
) -> (Vec<u8>, [u8; 16]) {
    let encipher = |block: u128| {
        let mut b = Block::from(block.to_be_bytes());
        match algorithm {
            Algorithm::Aes128Gcm => Aes128::new_from_slice(key).unwrap().encrypt_block(&mut b),
            Algorithm::Aes256Gcm => Aes256::new_from_slice(key).unwrap().encrypt_block(&mut b),
        }
        u128::from_be_bytes(b.into())
    };
    let h = encipher(0);
    let counter = |n: u32| {
        let mut b = [0; 16];
        b[..12].copy_from_slice(&nonce);
        b[12..].copy_from_slice(&n.to_be_bytes());
        u128::from_be_bytes(b)
    };
    let mut out = data.to_vec();
    for (n, block) in out.chunks_mut(16).enumerate() {
        let stream = encipher(counter(n as u32 + 2)).to_be_bytes();
        block.iter_mut().zip(stream).for_each(|(b, s)| *b ^= s);
    }
    let mut hash = 0;
    for block in aad.chunks(16).chain(out.chunks(16)) {
        let mut b = [0; 16];
        b[..block.len()].copy_from_slice(block);
        hash = multiply(hash ^ u128::from_be_bytes(b), h);
    }
    let lengths = (aad.len() as u128 * 8) << 64 | (data.len() as u128 * 8);
    hash = multiply(hash ^ lengths, h);
    (out, (hash ^ encipher(counter(1))).to_be_bytes())
}

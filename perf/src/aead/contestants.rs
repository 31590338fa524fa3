//! Who is compared: every backend of ours that this CPU can run, and the libraries that others
//! use, each as its documentation says to use it for packets.

use std::hint::black_box;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, KeyInit, Nonce};
use anyhow::anyhow;
use arrayvec::ArrayVec;
use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad as AwsAad, LessSafeKey, Nonce as AwsNonce, UnboundKey,
};
use vswitch::dpdk::time;
use vswitch_aead::{Aad, Algorithm, Backend, Data, Job, Key, Outcome, TAG_LEN};

use super::packets::{Material, Packet};

/// Packets of one call at most.
pub const MAX_BATCH: usize = 64;

/// Not a cipher: what it costs to make our backends' jobs, which is in their figures.
pub const JOBS: &str = "jobs";

/// An implementation of AES-GCM with its keys, at most [`MAX_BATCH`] packets a call.
pub trait Contestant {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Seals packets in place and says how many it has sealed.
    fn seal(&mut self, packets: &mut [Packet]) -> usize;

    /// Opens packets in place and says how many were authentic.
    fn open(&mut self, packets: &mut [Packet]) -> usize;

    /// Whether it works at all; the others must get every packet right.
    fn is_cipher(&self) -> bool {
        true
    }

    /// The ticks since this was last asked, if only a part of its work shall count.
    fn own_ticks(&mut self) -> Option<u64> {
        None
    }
}

/// All of them with the same keys. Reading the counter twice takes `idle` ticks.
pub fn all(material: &Material, idle: u64) -> anyhow::Result<Vec<Box<dyn Contestant>>> {
    let mut all: Vec<Box<dyn Contestant>> = Vec::new();
    for backend in vswitch_aead::backends() {
        let keys = keys(backend, material)?;
        all.push(Box::new(Ours { backend, keys }));
        let keys = self::keys(backend, material)?;
        all.push(Box::new(Call {
            backend,
            keys,
            ticks: 0,
            idle,
        }));
    }
    if let Some(first) = vswitch_aead::backends().next() {
        let keys = keys(first, material)?;
        all.push(Box::new(Jobs { keys }));
    }
    all.push(Box::new(AwsLc::new(material)?));
    all.push(reference(material)?);
    Ok(all)
}

/// The `aes-gcm` crate, whose word counts.
pub fn reference(material: &Material) -> anyhow::Result<Box<dyn Contestant>> {
    Ok(match material.algorithm {
        Algorithm::Aes128Gcm => Box::new(RustCrypto::<Aes128Gcm>::new(material)?),
        Algorithm::Aes256Gcm => Box::new(RustCrypto::<Aes256Gcm>::new(material)?),
    })
}

/// Keys as a backend wants them.
pub fn keys(backend: &'static dyn Backend, material: &Material) -> anyhow::Result<Vec<Key>> {
    let of = |bytes: &Vec<u8>| expand(backend, material.algorithm, bytes);
    material.keys.iter().map(of).collect()
}

/// One key as a backend wants it.
pub fn expand(
    backend: &'static dyn Backend,
    algorithm: Algorithm,
    bytes: &[u8],
) -> anyhow::Result<Key> {
    Ok(Key::new(backend, algorithm, bytes)?)
}

struct Ours {
    backend: &'static dyn Backend,
    keys: Vec<Key>,
}

/// Makes jobs for packets, in the kind of place where the worker has them: not returned, which would
/// copy all of it.
#[inline(always)]
fn fill<'a>(
    jobs: &mut ArrayVec<Job<'a>, MAX_BATCH>,
    keys: &'a [Key],
    packets: &'a mut [Packet],
    job: impl Fn(&'a Key, &'a mut Packet) -> Option<Job<'a>>,
) {
    for packet in packets.iter_mut().take(MAX_BATCH) {
        if let Some(job) = keys.get(packet.key).and_then(|key| job(key, packet)) {
            jobs.push(job);
        }
    }
}

#[inline(always)]
fn to_seal<'a>(key: &'a Key, packet: &'a mut Packet) -> Option<Job<'a>> {
    let (nonce, aad) = (packet.nonce, Aad::new(packet.aad));
    let (data, tag) = packet.parts()?;
    Some(Job::seal(key, nonce, aad, Data::Contiguous(data), tag))
}

#[inline(always)]
fn to_open<'a>(key: &'a Key, packet: &'a mut Packet) -> Option<Job<'a>> {
    let (nonce, aad) = (packet.nonce, Aad::new(packet.aad));
    let (data, tag) = packet.parts()?;
    Some(Job::open(key, nonce, aad, Data::Contiguous(data), *tag))
}

fn ended(jobs: &[Job<'_>], outcome: Outcome) -> usize {
    jobs.iter().filter(|job| job.outcome() == outcome).count()
}

impl Contestant for Ours {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn seal(&mut self, packets: &mut [Packet]) -> usize {
        let mut jobs = ArrayVec::new();
        fill(&mut jobs, &self.keys, packets, to_seal);
        self.backend.seal(&mut jobs);
        ended(&jobs, Outcome::Sealed)
    }

    fn open(&mut self, packets: &mut [Packet]) -> usize {
        let mut jobs = ArrayVec::new();
        fill(&mut jobs, &self.keys, packets, to_open);
        self.backend.open(&mut jobs);
        ended(&jobs, Outcome::Authentic)
    }
}

/// A backend of which only the call counts, without the jobs: each call between fences.
struct Call {
    backend: &'static dyn Backend,
    keys: Vec<Key>,
    ticks: u64,
    idle: u64,
}

impl Call {
    fn timed(&mut self, packets: &mut [Packet], open: bool) -> usize {
        let mut jobs = ArrayVec::new();
        let outcome = match open {
            false => {
                fill(&mut jobs, &self.keys, packets, to_seal);
                Outcome::Sealed
            }
            true => {
                fill(&mut jobs, &self.keys, packets, to_open);
                Outcome::Authentic
            }
        };
        let start = time::tsc_in_order();
        match open {
            false => self.backend.seal(&mut jobs),
            true => self.backend.open(&mut jobs),
        }
        let ticks = time::tsc_in_order().wrapping_sub(start);
        self.ticks += ticks.saturating_sub(self.idle);
        ended(&jobs, outcome)
    }
}

impl Contestant for Call {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn seal(&mut self, packets: &mut [Packet]) -> usize {
        self.timed(packets, false)
    }

    fn open(&mut self, packets: &mut [Packet]) -> usize {
        self.timed(packets, true)
    }

    fn own_ticks(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.ticks))
    }
}

struct Jobs {
    keys: Vec<Key>,
}

impl Contestant for Jobs {
    fn name(&self) -> &'static str {
        JOBS
    }

    fn seal(&mut self, packets: &mut [Packet]) -> usize {
        let mut jobs = ArrayVec::new();
        fill(&mut jobs, &self.keys, packets, to_seal);
        ended(black_box(&jobs), Outcome::Pending)
    }

    fn open(&mut self, packets: &mut [Packet]) -> usize {
        let mut jobs = ArrayVec::new();
        fill(&mut jobs, &self.keys, packets, to_open);
        ended(black_box(&jobs), Outcome::Pending)
    }

    fn is_cipher(&self) -> bool {
        false
    }
}

struct RustCrypto<C> {
    keys: Vec<C>,
}

impl<C: KeyInit> RustCrypto<C> {
    fn new(material: &Material) -> anyhow::Result<Self> {
        let key = |bytes: &Vec<u8>| C::new_from_slice(bytes);
        let keys = material.keys.iter().map(key).collect::<Result<_, _>>();
        let keys = keys.map_err(|error| anyhow!("aes-gcm: {error}"))?;
        Ok(RustCrypto { keys })
    }
}

macro_rules! rust_crypto {
    ($cipher:ty) => {
        impl Contestant for RustCrypto<$cipher> {
            fn name(&self) -> &'static str {
                "aes-gcm"
            }

            fn seal(&mut self, packets: &mut [Packet]) -> usize {
                let one = |packet: &mut Packet| {
                    let cipher = self.keys.get(packet.key)?;
                    let (nonce, aad) = (Nonce::from(packet.nonce), packet.aad);
                    let (data, tag) = packet.parts()?;
                    let data = InOutBuf::from(data);
                    *tag = cipher
                        .encrypt_inout_detached(&nonce, &aad, data)
                        .ok()?
                        .into();
                    Some(())
                };
                packets.iter_mut().filter_map(one).count()
            }

            fn open(&mut self, packets: &mut [Packet]) -> usize {
                let one = |packet: &mut Packet| {
                    let cipher = self.keys.get(packet.key)?;
                    let (nonce, aad) = (Nonce::from(packet.nonce), packet.aad);
                    let (data, tag) = packet.parts()?;
                    let tag = aes_gcm::Tag::from(*tag);
                    let data = InOutBuf::from(data);
                    cipher.decrypt_inout_detached(&nonce, &aad, data, &tag).ok()
                };
                packets.iter_mut().filter_map(one).count()
            }
        }
    };
}
rust_crypto!(Aes128Gcm);
rust_crypto!(Aes256Gcm);

struct AwsLc {
    keys: Vec<LessSafeKey>,
}

impl AwsLc {
    fn new(material: &Material) -> anyhow::Result<Self> {
        let algorithm = match material.algorithm {
            Algorithm::Aes128Gcm => &AES_128_GCM,
            Algorithm::Aes256Gcm => &AES_256_GCM,
        };
        let key = |bytes: &Vec<u8>| UnboundKey::new(algorithm, bytes).map(LessSafeKey::new);
        let keys = material.keys.iter().map(key).collect::<Result<_, _>>();
        let keys = keys.map_err(|error| anyhow!("aws-lc-rs: {error}"))?;
        Ok(AwsLc { keys })
    }
}

impl Contestant for AwsLc {
    fn name(&self) -> &'static str {
        "aws-lc-rs"
    }

    fn seal(&mut self, packets: &mut [Packet]) -> usize {
        let one = |packet: &mut Packet| {
            let key = self.keys.get(packet.key)?;
            let nonce = AwsNonce::assume_unique_for_key(packet.nonce);
            let aad = AwsAad::from(packet.aad);
            let (data, tag) = packet.parts()?;
            let made = key.seal_in_place_separate_tag(nonce, aad, data).ok()?;
            let made: &[u8; TAG_LEN] = made.as_ref().try_into().ok()?;
            *tag = *made;
            Some(())
        };
        packets.iter_mut().filter_map(one).count()
    }

    fn open(&mut self, packets: &mut [Packet]) -> usize {
        let one = |packet: &mut Packet| {
            let key = self.keys.get(packet.key)?;
            let nonce = AwsNonce::assume_unique_for_key(packet.nonce);
            let aad = AwsAad::from(packet.aad);
            key.open_in_place(nonce, aad, packet.whole()?)
                .ok()
                .map(drop)
        };
        packets.iter_mut().filter_map(one).count()
    }
}

//! What is timed, with two classes of input that take turns at random.
//!
//! Everything but the class is the same: the same buffers and the same place for the key,
//! written anew before every measurement in both classes, by code that does not know which.

use std::hint::black_box;

use anyhow::{Context, ensure};
use arrayvec::ArrayVec;
use vswitch::dpdk::time;
use vswitch_aead::{Aad, Algorithm, Backend, Data, Job, Key, Outcome, TAG_LEN};

use super::dudect::Class;
use crate::aead::contestants::{MAX_BATCH, expand};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Does sealing take longer for some plaintext?
    SealData,
    /// For some keys?
    SealKeys,
    /// Does opening what is authentic take longer for some plaintext?
    OpenData,
    /// Does refusing a packet tell where its tag is wrong: in the first byte, or the last?
    OpenTag,
    /// The same of a comparison that is meant to tell: it must be found, or the method sees
    /// nothing here.
    Control,
}

impl Question {
    /// All of them.
    pub const ALL: [Question; 5] = [
        Question::SealData,
        Question::SealKeys,
        Question::OpenData,
        Question::OpenTag,
        Question::Control,
    ];

    /// Name for cases.
    pub const fn name(self) -> &'static str {
        match self {
            Question::SealData => "seal-data",
            Question::SealKeys => "seal-keys",
            Question::OpenData => "open-data",
            Question::OpenTag => "open-tag",
            Question::Control => "leaky-control",
        }
    }

    /// The classes, fixed first.
    pub const fn classes(self) -> &'static str {
        match self {
            Question::SealData | Question::OpenData => "fixed / random plaintext",
            Question::SealKeys => "fixed / random key",
            Question::OpenTag => "tag wrong in first / last byte",
            Question::Control => "the same, then a comparison that stops early",
        }
    }
}

/// How many jobs of how many bytes one measurement has. Backends work differently on short
/// and long ones, on many and on few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Jobs, at most [`MAX_BATCH`].
    pub jobs: usize,
    /// Bytes of each.
    pub bytes: usize,
}

/// One job's place.
struct Slot {
    data: Vec<u8>,
    tag: [u8; TAG_LEN],
    /// The tag that would be right.
    right: [u8; TAG_LEN],
}

/// A place to measure at.
pub struct Bench {
    backend: &'static dyn Backend,
    algorithm: Algorithm,
    question: Question,
    slots: Vec<Slot>,
    random: fastrand::Rng,
    fixed: Vec<u8>,
    fixed_key: Vec<u8>,
    nonce: u64,
}

impl Bench {
    /// For one question about one backend.
    pub fn new(
        backend: &'static dyn Backend,
        algorithm: Algorithm,
        question: Question,
        shape: Shape,
    ) -> Bench {
        let mut random = fastrand::Rng::new();
        let mut some = |n: usize| -> Vec<u8> { (0..n).map(|_| random.u8(..)).collect() };
        let (fixed, fixed_key) = (some(shape.bytes), some(algorithm.key_len()));
        let slot = |_| Slot {
            data: vec![0; shape.bytes],
            tag: [0; TAG_LEN],
            right: [0; TAG_LEN],
        };
        Bench {
            backend,
            algorithm,
            question,
            slots: (0..shape.jobs.min(MAX_BATCH)).map(slot).collect(),
            random,
            fixed,
            fixed_key,
            nonce: 0,
        }
    }

    /// Measures so many times. The first twentieth, which warms up, does not count.
    pub fn measure(&mut self, times: usize) -> anyhow::Result<Vec<(Class, u64)>> {
        let mut found = Vec::with_capacity(times);
        for i in 0..times + times / 20 {
            let class = match self.random.bool() {
                true => Class::Fixed,
                false => Class::Other,
            };
            let ticks = self.once(class)?;
            if i >= times / 20 {
                found.push((class, ticks));
            }
        }
        Ok(found)
    }

    fn once(&mut self, class: Class) -> anyhow::Result<u64> {
        let by_key = self.question == Question::SealKeys;
        let by_data = matches!(self.question, Question::SealData | Question::OpenData);
        // All ones where the class has random bytes.
        let mask = |applies: bool| 0u8.wrapping_sub(u8::from(applies && class == Class::Other));
        let mut key = vec![0; self.fixed_key.len()];
        self.random.fill(&mut key);
        blend(&mut key, &self.fixed_key, mask(by_key));
        let key = expand(self.backend, self.algorithm, &key)?;
        for slot in &mut self.slots {
            self.random.fill(&mut slot.data);
            blend(&mut slot.data, &self.fixed, mask(by_data));
        }
        self.nonce += 1;
        match self.question {
            Question::SealData | Question::SealKeys => self.seal(&key),
            Question::OpenData => {
                self.seal(&key)?;
                self.open(&key, Outcome::Authentic)
            }
            Question::OpenTag | Question::Control => {
                self.seal(&key)?;
                let wrong = [
                    u8::from(class == Class::Fixed),
                    u8::from(class == Class::Other),
                ];
                for slot in &mut self.slots {
                    slot.right = slot.tag;
                    let [first, .., last] = &mut slot.tag;
                    *first ^= wrong[0];
                    *last ^= wrong[1];
                }
                self.open(&key, Outcome::Failed)
            }
        }
    }

    /// Ticks to seal all slots.
    fn seal(&mut self, key: &Key) -> anyhow::Result<u64> {
        let mut jobs: ArrayVec<Job<'_>, MAX_BATCH> = ArrayVec::new();
        for (i, slot) in self.slots.iter_mut().enumerate() {
            let data = Data::Contiguous(&mut slot.data);
            let (nonce, aad) = headers(self.nonce, i);
            jobs.push(Job::seal(key, nonce, Aad::new(aad), data, &mut slot.tag));
        }
        let start = time::tsc_in_order();
        self.backend.seal(&mut jobs);
        let ticks = time::tsc_in_order().wrapping_sub(start);
        let sealed = jobs.iter().all(|job| job.outcome() == Outcome::Sealed);
        ensure!(sealed, "{} does not seal", self.backend.name());
        Ok(ticks)
    }

    /// Ticks to open all slots, which must end so.
    fn open(&mut self, key: &Key, end: Outcome) -> anyhow::Result<u64> {
        let leaky = self.question == Question::Control;
        let tags: ArrayVec<_, MAX_BATCH> = self.slots.iter().map(|s| (s.tag, s.right)).collect();
        let mut jobs: ArrayVec<Job<'_>, MAX_BATCH> = ArrayVec::new();
        for (i, slot) in self.slots.iter_mut().enumerate() {
            let data = Data::Contiguous(&mut slot.data);
            let (nonce, aad) = headers(self.nonce, i);
            jobs.push(Job::open(key, nonce, Aad::new(aad), data, slot.tag));
        }
        let start = time::tsc_in_order();
        self.backend.open(&mut jobs);
        if leaky {
            for (a, b) in &tags {
                black_box(equal_leaking(a, b));
            }
        }
        let ticks = time::tsc_in_order().wrapping_sub(start);
        let ended = jobs.iter().all(|job| job.outcome() == end);
        ensure!(ended, "{} does not end as {end:?}", self.backend.name());
        Ok(ticks)
    }
}

/// Keeps bytes where the mask is ones, and puts the fixed ones where it is zeros.
fn blend(bytes: &mut [u8], fixed: &[u8], mask: u8) {
    let mask = black_box(mask);
    for (byte, fixed) in bytes.iter_mut().zip(fixed) {
        *byte = (*byte & mask) | (fixed & !mask);
    }
}

/// A nonce for each job, and ESP's associated data.
fn headers(number: u64, job: usize) -> ([u8; 12], [u8; 12]) {
    let mut nonce = [0; 12];
    let (salt, rest) = nonce.split_at_mut(4);
    salt.copy_from_slice(&(job as u32).to_be_bytes());
    rest.copy_from_slice(&number.to_be_bytes());
    (nonce, nonce)
}

/// How not to compare tags: it stops at the first difference.
#[inline(never)]
fn equal_leaking(a: &[u8; TAG_LEN], b: &[u8; TAG_LEN]) -> bool {
    for (a, b) in a.iter().zip(b) {
        if black_box(*a) != black_box(*b) {
            return false;
        }
    }
    true
}

/// The median of a question's times in ticks, so that a difference can be judged.
pub fn typical(times: &[(Class, u64)]) -> anyhow::Result<f64> {
    let ticks: Vec<f64> = times.iter().map(|(_, ticks)| *ticks as f64).collect();
    crate::stats::median(&ticks).context("nothing measured")
}

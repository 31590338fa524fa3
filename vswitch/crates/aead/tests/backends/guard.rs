//! Nothing is read or written outside the given ranges: data, tag and associated data lie at
//! the edge of a page that may not be touched, before them or behind them.
//!
//! And nothing unauthenticated is left, whatever the length: a kernel has classes of them.
#![cfg(not(miri))]

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes128Gcm, Aes256Gcm, KeyInit, Nonce};
use vswitch_aead::{Aad, Algorithm, Backend, Data, Job, Key, Outcome, backends};

const PAGE: usize = 4096;
const PAGES: usize = 4;

/// Pages between two that fault.
struct Guarded {
    base: *mut u8,
}

impl Guarded {
    fn new() -> Self {
        let whole = (PAGES + 2) * PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping; then access to all of it but its first and last page.
        let base = unsafe {
            let at = libc::mmap(std::ptr::null_mut(), whole, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            let base = at.cast::<u8>().add(PAGE);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mprotect(base.cast(), PAGES * PAGE, access), 0);
            base
        };
        Self { base }
    }

    /// The first `len` bytes, or the last.
    fn edge(&mut self, len: usize, last: bool) -> &mut [u8] {
        let skip = if last { PAGES * PAGE - len } else { 0 };
        // SAFETY: within the accessible pages, and borrowed as they are.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(skip), len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: our own mapping.
        unsafe { libc::munmap(self.base.sub(PAGE).cast(), (PAGES + 2) * PAGE) };
    }
}

const SECRET: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";

fn algorithms() -> [Algorithm; 2] {
    [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm]
}

fn key(backend: &dyn Backend, algorithm: Algorithm) -> Key {
    Key::new(backend, algorithm, &SECRET[..algorithm.key_len()]).unwrap()
}

/// By the `aes-gcm` crate.
fn expected(algorithm: Algorithm, nonce: [u8; 12], aad: &[u8], data: &mut [u8]) -> [u8; 16] {
    let (nonce, data) = (Nonce::from(nonce), InOutBuf::from(data));
    match algorithm {
        Algorithm::Aes128Gcm => Aes128Gcm::new_from_slice(&SECRET[..16])
            .unwrap()
            .encrypt_inout_detached(&nonce, aad, data),
        Algorithm::Aes256Gcm => Aes256Gcm::new_from_slice(&SECRET)
            .unwrap()
            .encrypt_inout_detached(&nonce, aad, data),
    }
    .unwrap()
    .into()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + 13) as u8).collect()
}

/// Every short length, then all around the borders of chunks, and jumbo frames.
fn lengths() -> impl Iterator<Item = usize> {
    let borders = [
        960, 976, 992, 1024, 1420, 1504, 1536, 2048, 4096, 9184, 9200,
    ];
    let around = borders
        .into_iter()
        .flat_map(|b: usize| b.saturating_sub(5)..=b + 5);
    (0..=700).chain(around)
}

#[test]
fn nothing_beyond_the_edges_is_touched() {
    let (mut data, mut tags, mut more) = (Guarded::new(), Guarded::new(), Guarded::new());
    for backend in backends() {
        for algorithm in algorithms() {
            let key = key(backend, algorithm);
            for len in lengths() {
                for last in [false, true] {
                    let nonce = [len as u8; 12];
                    let head = [9; 12];
                    // Associated data of a length that is borrowed, from none to some blocks.
                    let aad_len = len % 71;
                    more.edge(aad_len, last).copy_from_slice(&pattern(aad_len));
                    let aad = more.edge(aad_len, last);
                    let data = data.edge(len, last);
                    data.copy_from_slice(&pattern(len));
                    let tag: &mut [u8; 16] = tags.edge(16, last).try_into().unwrap();
                    let mut cipher = pattern(len);
                    let all = [&head[..], aad].concat();
                    let right = expected(algorithm, nonce, &all, &mut cipher);

                    let with = Aad::with_tail(head, aad);
                    let mut jobs = [Job::seal(&key, nonce, with, Data::Contiguous(data), tag)];
                    backend.seal(&mut jobs);
                    assert_eq!(jobs[0].outcome(), Outcome::Sealed);
                    assert_eq!((&*data, &*tag), (&cipher[..], &right));

                    let with = Aad::with_tail(head, aad);
                    let mut jobs = [Job::open(&key, nonce, with, Data::Contiguous(data), right)];
                    backend.open(&mut jobs);
                    assert_eq!(jobs[0].outcome(), Outcome::Authentic);
                    assert_eq!(*data, pattern(len));
                }
            }
        }
    }
}

#[test]
fn neighbours_of_the_data_are_not_written() {
    const BEFORE: u8 = 0xa5;
    for backend in backends() {
        let key = key(backend, Algorithm::Aes128Gcm);
        for len in (0..=260).chain([481, 496, 512, 530, 1008, 1420]) {
            for alignment in 0..64 {
                // At least a register on either side.
                let start = 64 + alignment;
                let mut buffer = vec![BEFORE; start + len + 80];
                let mut tag = [0; 16];
                let (nonce, aad) = ([3; 12], [alignment as u8; 8]);
                let plain = pattern(len);
                buffer[start..start + len].copy_from_slice(&plain);
                let data = Data::Contiguous(&mut buffer[start..start + len]);
                let mut jobs = [Job::seal(&key, nonce, Aad::new(aad), data, &mut tag)];
                backend.seal(&mut jobs);
                let mut cipher = plain.clone();
                let right = expected(Algorithm::Aes128Gcm, nonce, &aad, &mut cipher);
                assert_eq!((&buffer[start..start + len], tag), (&cipher[..], right));
                // Forged, which wipes the data and nothing else.
                let data = Data::Contiguous(&mut buffer[start..start + len]);
                tag[alignment % 16] ^= 1;
                let mut jobs = [Job::open(&key, nonce, Aad::new(aad), data, tag)];
                backend.open(&mut jobs);
                assert_eq!(jobs[0].outcome(), Outcome::Failed);
                let around = buffer[..start].iter().chain(&buffer[start + len..]);
                assert!(around.clone().all(|b| *b == BEFORE));
                assert!(buffer[start..start + len].iter().all(|b| *b == 0));
            }
        }
    }
}

#[test]
fn a_failed_open_leaves_no_plaintext() {
    for backend in backends() {
        for algorithm in algorithms() {
            let key = key(backend, algorithm);
            for len in lengths() {
                let (nonce, aad) = ([5; 12], [6; 12]);
                let mut sealed = pattern(len);
                let tag = expected(algorithm, nonce, &aad, &mut sealed);
                // One bit, of the tag or of the data: its first, middle or last byte.
                for place in 0..4 {
                    let (mut data, mut tag) = (sealed.clone(), tag);
                    let at = [0, len / 2, len.saturating_sub(1)].get(place).copied();
                    match at.and_then(|at| data.get_mut(at)) {
                        Some(byte) => *byte ^= 0x10,
                        None => tag[len % 16] ^= 0x80,
                    }
                    let with = Data::Contiguous(&mut data);
                    let mut jobs = [Job::open(&key, nonce, Aad::new(aad), with, tag)];
                    backend.open(&mut jobs);
                    assert_eq!(jobs[0].outcome(), Outcome::Failed, "{len} {place}");
                    assert!(data.iter().all(|b| *b == 0), "{len} {place}");
                }
            }
        }
    }
}

/// A key that was expanded for backends of another form is of no use, and does no harm.
#[test]
fn keys_of_another_form_fail() {
    for backend in backends() {
        for other in backends() {
            let key = key(other, Algorithm::Aes256Gcm);
            let same = other.form() == backend.form();
            let (mut data, mut tag) = (pattern(100), [0; 16]);
            let with = Data::Contiguous(&mut data);
            let mut jobs = [Job::seal(&key, [0; 12], Aad::new([]), with, &mut tag)];
            backend.seal(&mut jobs);
            let outcome = jobs[0].outcome();
            if same {
                assert_eq!(outcome, Outcome::Sealed);
                continue;
            }
            assert_eq!(outcome, Outcome::Failed);
            assert_eq!((&data, tag), (&vec![0; 100], [0; 16]));
            let mut data = pattern(100);
            let with = Data::Contiguous(&mut data);
            let mut jobs = [Job::open(&key, [0; 12], Aad::new([]), with, [0; 16])];
            backend.open(&mut jobs);
            assert_eq!(jobs[0].outcome(), Outcome::Failed);
            assert_eq!(data, [0; 100]);
        }
    }
}

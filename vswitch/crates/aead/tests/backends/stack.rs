//! What a batch leaves on the stack below its caller: nothing of keys, keystream or plaintext,
//! whichever backend, kernel and batch size. The stack is looked through as a crash dump would be.
#![cfg(all(target_arch = "x86_64", not(miri)))]

use std::collections::HashSet;

use crate::common::{Message, run};
use aes_gcm::aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::aes::{Aes128, Aes256, Block};
use vswitch_aead::{Algorithm, Backend, Key, Outcome, backends};

/// How far below the caller is looked: deeper than any backend goes.
const DEPTH: usize = 96 * 1024;

/// Overwrites the stack below the caller, so that nothing older is found.
#[inline(never)]
fn scrub() {
    let mut below = [0_u8; DEPTH + 4096];
    std::hint::black_box(&mut below);
}

/// Copies the stack below the caller.
#[inline(never)]
fn copy_below(into: &mut [u8; DEPTH]) {
    let here: usize;
    // SAFETY: reads one register. The copy reads mapped memory of this thread's stack (all of
    // which is mapped at its start), which nothing else uses; it is done without the stack, by
    // one instruction, which Rust's rules on uninitialized memory do not concern.
    unsafe {
        core::arch::asm!("mov {}, rsp", out(reg) here, options(nomem, nostack));
        core::arch::asm!(
            "rep movsb",
            inout("rcx") DEPTH => _,
            inout("rsi") here - DEPTH => _,
            inout("rdi") into.as_mut_ptr() => _,
            options(nostack),
        );
    }
}

/// What must not be found, as the machine's words.
#[derive(Default)]
struct Secrets(HashSet<u64>);

impl Secrets {
    fn add(&mut self, bytes: &[u8]) {
        for word in bytes.as_chunks().0 {
            self.0.insert(u64::from_le_bytes(*word));
        }
    }

    /// The key as given (its first round key), and the first powers of the hash key, as bytes and
    /// as the kernels have them: times x, bits reflected.
    fn add_key(&mut self, key: &[u8]) {
        self.add(key);
        let mut block = Block::default();
        match key.len() {
            16 => Aes128::new_from_slice(key)
                .unwrap()
                .encrypt_block(&mut block),
            _ => Aes256::new_from_slice(key)
                .unwrap()
                .encrypt_block(&mut block),
        }
        let h = u128::from_be_bytes(block.into());
        let mut power = h;
        for _ in 0..16 {
            self.add(&power.to_be_bytes());
            let carry = (power >> 127).wrapping_neg();
            let form = (power << 1) ^ (carry & (0xc200_0000_0000_0000 << 64 | 1));
            self.add(&form.to_le_bytes());
            power = crate::common::multiply(power, h);
        }
    }

    /// How many words of the stack are one of these, at any address.
    fn found(&self, stack: &[u8]) -> usize {
        let words = stack.windows(8).filter_map(|w| w.try_into().ok());
        words
            .filter(|w| self.0.contains(&u64::from_le_bytes(*w)))
            .count()
    }
}

/// A batch of packets of some lengths under some keys; what comes of it is not told to depend on
/// what the stack had.
fn messages(lens: &[usize], keys: usize) -> Vec<Message> {
    let of = |i: usize, len: usize| {
        let data: Vec<u8> = (0..len).map(|_| fastrand::u8(..)).collect();
        let mut nonce = [0; 12];
        nonce.fill_with(|| fastrand::u8(..));
        Message {
            key: i % keys,
            head: 12,
            ..Message::contiguous(&nonce, &[7; 12], &data)
        }
    };
    lens.iter()
        .enumerate()
        .map(|(i, len)| of(i, *len))
        .collect()
}

#[inline(never)]
fn observed(
    backend: &dyn Backend,
    keys: &[Key],
    messages: &mut [Message],
    seal: bool,
    stack: &mut [u8; DEPTH],
) -> Vec<Outcome> {
    // What `run` itself has on the stack are pointers and nonces; its frame is deeper than this one,
    // so what it called is looked at as well.
    scrub();
    let outcomes = run(backend, keys, messages, seal);
    copy_below(stack);
    outcomes
}

fn nothing_is_left(
    backend: &dyn Backend,
    algorithm: Algorithm,
    len: usize,
    count: usize,
    gmac: bool,
) {
    let raw: Vec<Vec<u8>> = (0..3)
        .map(|_| (0..algorithm.key_len()).map(|_| fastrand::u8(..)).collect())
        .collect();
    let keys: Vec<Key> = raw
        .iter()
        .map(|raw| Key::new(backend, algorithm, raw).unwrap())
        .collect();
    let mut batch = messages(&vec![len; count], keys.len());
    if gmac {
        // Over all of it, which is no secret (RFC 4543, section 3.3).
        for message in &mut batch {
            message.aad.append(&mut message.data);
        }
    }
    let plain = batch.clone();
    let mut stack = vec![0_u8; DEPTH];
    let stack: &mut [u8; DEPTH] = stack.as_mut_slice().try_into().unwrap();

    let sealed = observed(backend, &keys, &mut batch, true, stack);
    assert!(sealed.iter().all(|it| *it == Outcome::Sealed));
    let mut secrets = Secrets::default();
    raw.iter().for_each(|raw| secrets.add_key(raw));
    for (plain, sealed) in plain.iter().zip(&batch) {
        secrets.add(&plain.data);
        let stream = plain.data.iter().zip(&sealed.data).map(|(a, b)| a ^ b);
        secrets.add(&stream.collect::<Vec<_>>());
    }
    let case = format!("{} {algorithm:?} {count} x {len} {gmac}", backend.name());
    assert_eq!(secrets.found(stack), 0, "{case}: sealed");

    // One in four is forged: those are wiped, and leave nothing either.
    for message in batch.iter_mut().step_by(4) {
        message.tag[3] ^= 0x10;
    }
    let opened = observed(backend, &keys, &mut batch, false, stack);
    assert_eq!(opened.first(), Some(&Outcome::Failed));
    assert_eq!(secrets.found(stack), 0, "{case}: opened");
}

#[test]
fn a_batch_leaves_no_secret_on_the_stack() {
    // A stack of its own, of which all that is looked at is there.
    let work = || {
        for backend in backends() {
            for algorithm in [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm] {
                for len in [16, 64, 150, 224, 230, 600, 1420, 4000] {
                    for count in [1, 2, 3, 4, 5, 32, 64] {
                        nothing_is_left(backend, algorithm, len, count, false);
                        nothing_is_left(backend, algorithm, len, count, true);
                    }
                }
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    thread.spawn(work).unwrap().join().unwrap();
}

/// The search finds what is there.
#[test]
fn what_is_left_is_found() {
    #[inline(never)]
    fn careless(secret: &[u8; 32]) {
        let mut copy = [0_u8; 4096];
        copy[1000..1032].copy_from_slice(secret);
        std::hint::black_box(&mut copy);
    }
    let work = || {
        let mut secret = [0; 32];
        secret.fill_with(|| fastrand::u8(..));
        let mut secrets = Secrets::default();
        secrets.add(&secret);
        let mut stack = vec![0_u8; DEPTH];
        let stack: &mut [u8; DEPTH] = stack.as_mut_slice().try_into().unwrap();
        scrub();
        careless(&secret);
        copy_below(stack);
        assert_eq!(secrets.found(stack), 4);
    };
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    thread.spawn(work).unwrap().join().unwrap();
}

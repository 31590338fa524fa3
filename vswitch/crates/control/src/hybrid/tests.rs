use super::*;
use crate::testing::in_memory;

fn transcript<'a>(vn: &'a VnName, binding: &'a [u8]) -> Transcript<'a> {
    Transcript {
        initiator: "spiffe://lab/nve/a",
        responder: "spiffe://lab/nve/b",
        vn,
        epoch: Epoch(7),
        exchange: ExchangeId([3; 16]),
        binding,
    }
}

fn bytes(root: &Root) -> [u8; 32] {
    *root.expand::<32>(&[b"test"]).unwrap().expose()
}

fn vn() -> VnName {
    "red".parse().unwrap()
}

#[test]
fn both_sides_have_the_same_secret_and_no_two_exchanges_do() {
    let vn = vn();
    let transcript = transcript(&vn, b"exporter");
    let mut seen = Vec::new();
    for _ in 0..4 {
        let initiator = Initiator::new().unwrap();
        let (answer, theirs) = respond(initiator.offer(), &transcript).unwrap();
        let ours = initiator.finish(&answer, &transcript).unwrap();
        assert_eq!(bytes(&ours), bytes(&theirs));
        assert!(!seen.contains(&bytes(&ours)));
        seen.push(bytes(&ours));
    }
}

#[test]
fn whoever_sees_another_transcript_has_another_secret() {
    let (red, blue) = (vn(), "blue".parse().unwrap());
    let right = transcript(&red, b"exporter");
    let wrong = [
        Transcript {
            initiator: "spiffe://lab/nve/c",
            ..right
        },
        Transcript {
            responder: "spiffe://lab/nve/c",
            ..right
        },
        // The same bytes, cut elsewhere.
        Transcript {
            initiator: "spiffe://lab/nve/aspiffe:",
            responder: "//lab/nve/b",
            ..right
        },
        Transcript { vn: &blue, ..right },
        Transcript {
            epoch: Epoch(8),
            ..right
        },
        Transcript {
            exchange: ExchangeId([4; 16]),
            ..right
        },
        Transcript {
            binding: b"another session",
            ..right
        },
    ];
    for wrong in wrong {
        let initiator = Initiator::new().unwrap();
        let (answer, theirs) = respond(initiator.offer(), &right).unwrap();
        let ours = initiator.finish(&answer, &wrong).unwrap();
        assert_ne!(bytes(&ours), bytes(&theirs), "{wrong:?}");
    }
}

#[test]
fn a_bit_changed_on_the_way_leaves_no_common_secret() {
    let vn = vn();
    let transcript = transcript(&vn, b"exporter");
    // The last byte's top bit is one that X25519 ignores (RFC 7748, section 5): the hash of the
    // transcript notices that one.
    for at in [0, 500, KEM_KEY_LEN - 1, KEM_KEY_LEN, OFFER_LEN - 1] {
        for bit in [1, 0x80] {
            let initiator = Initiator::new().unwrap();
            let mut offer = initiator.offer().clone();
            offer.0[at] ^= bit;
            let Ok((answer, theirs)) = respond(&offer, &transcript) else {
                continue; // Not a key any more.
            };
            let ours = initiator.finish(&answer, &transcript).unwrap();
            assert_ne!(bytes(&ours), bytes(&theirs), "offer {at} {bit:x}");
        }
    }
    for at in [
        0,
        500,
        KEM_CIPHERTEXT_LEN - 1,
        KEM_CIPHERTEXT_LEN,
        ANSWER_LEN - 1,
    ] {
        for bit in [1, 0x80] {
            let initiator = Initiator::new().unwrap();
            let (mut answer, theirs) = respond(initiator.offer(), &transcript).unwrap();
            answer.0[at] ^= bit;
            let ours = initiator.finish(&answer, &transcript).unwrap();
            assert_ne!(bytes(&ours), bytes(&theirs), "answer {at} {bit:x}");
        }
    }
}

#[test]
fn a_share_that_forces_the_secret_is_refused() {
    let vn = vn();
    let transcript = transcript(&vn, b"exporter");
    let initiator = Initiator::new().unwrap();
    let mut offer = initiator.offer().clone();
    offer.0[KEM_KEY_LEN..].fill(0); // Of small order: the X25519 secret would be zero.
    assert_eq!(
        respond(&offer, &transcript).unwrap_err(),
        HybridError::Share
    );
    let (mut answer, _) = respond(initiator.offer(), &transcript).unwrap();
    answer.0[KEM_CIPHERTEXT_LEN..].fill(0);
    assert_eq!(
        initiator.finish(&answer, &transcript).unwrap_err(),
        HybridError::Share
    );
    // Coefficients above the modulus (FIPS 203, section 7.2).
    offer.0[..KEM_KEY_LEN].fill(0xff);
    assert_eq!(
        respond(&offer, &transcript).unwrap_err(),
        HybridError::Share
    );
}

#[test]
fn other_lengths_are_neither_offer_nor_answer() {
    for len in [0, 1, OFFER_LEN - 1, OFFER_LEN + 1] {
        assert_eq!(
            Offer::try_from(vec![0; len].as_slice()),
            Err(HybridError::Length(len))
        );
    }
    for len in [0, ANSWER_LEN - 1, ANSWER_LEN + 1, OFFER_LEN] {
        assert_eq!(
            Answer::try_from(vec![0; len].as_slice()),
            Err(HybridError::Length(len))
        );
    }
    let wire = postcard::to_stdvec(&Answer(Box::new([7; ANSWER_LEN]))).unwrap();
    assert_eq!(wire.len(), 2 + ANSWER_LEN);
    assert!(postcard::from_bytes::<Answer>(&wire).is_ok());
    assert!(postcard::from_bytes::<Offer>(&wire).is_err());
}

#[test]
fn secrets_go_when_dropped() {
    let before = crate::secret::live::count();
    let vn = vn();
    let transcript = transcript(&vn, b"exporter");
    let initiator = Initiator::new().unwrap();
    let (answer, theirs) = respond(initiator.offer(), &transcript).unwrap();
    let ours = initiator.finish(&answer, &transcript).unwrap();
    let key = ours.expand::<36>(&[b"key"]).unwrap();
    assert_eq!(crate::secret::live::count(), before + 3);
    assert_eq!(format!("{key:?} {ours:?}"), "Secret<36> Root");
    drop((ours, theirs, key));
    assert_eq!(crate::secret::live::count(), before);
}

#[test]
fn fields_of_an_expansion_do_not_run_together() {
    let vn = vn();
    let initiator = Initiator::new().unwrap();
    let (_, root) = respond(initiator.offer(), &transcript(&vn, b"")).unwrap();
    let of = |fields: &[&[u8]]| *root.expand::<32>(fields).unwrap().expose();
    assert_eq!(of(&[b"ab", b"c"]), of(&[b"ab", b"c"]));
    assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
    assert_ne!(of(&[b"ab"]), of(&[b"ab", b""]));
    assert!(root.expand::<32>(&[&vec![0; 65_536]]).is_none());
}

#[test]
fn a_root_that_is_moved_leaves_no_copy_behind() {
    assert_eq!(size_of::<Root>(), size_of::<usize>());
}

/// The complement of what is made, without a trace of it.
fn complement(make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    without_traces(|| {
        let made = zeroize::Zeroizing::new(make());
        made.iter().map(|byte| !byte).collect()
    })
}

/// Root and expanded secrets as they are in memory: there while they live, in one place and on no stack, and
/// nowhere after. Whether the root is what was agreed on or what is extracted from that is the library's
/// choice.
#[test]
fn nothing_is_left_in_memory() {
    let salt = digest::digest(&digest::SHA256, b"salt");
    let mut secret = Zeroizing::new(vec![0_u8; 64]);
    aws_lc_rs::rand::fill(&mut secret).unwrap();
    let agreed = complement(|| secret.to_vec());
    // What HKDF-Extract is (RFC 5869, section 2.2).
    let extracted = complement(|| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, salt.as_ref());
        let tag = aws_lc_rs::hmac::sign(&key, &secret);
        tag.as_ref().to_vec()
    });
    assert_eq!((in_memory(&agreed), in_memory(&extracted)), (1, 0), "ours");
    let root = Root::extract(&secret, salt.as_ref());
    drop(secret);
    let roots = || in_memory(&agreed) + in_memory(&extracted);
    assert_eq!(roots(), 1, "on the heap and not on the stack");
    let expanded = root.expand::<36>(&[b"sa"]).unwrap();
    let key = complement(|| expanded.expose().to_vec());
    assert_eq!((roots(), in_memory(&key)), (1, 1));
    drop(root);
    assert_eq!((roots(), in_memory(&key)), (0, 1));
    drop(expanded);
    assert_eq!((roots(), in_memory(&key)), (0, 0));
}

/// The same of a whole exchange: what both expand is nowhere when both are gone.
#[test]
fn nothing_of_an_exchange_is_left_in_memory() {
    let vn = vn();
    let transcript = transcript(&vn, b"exporter");
    let initiator = Initiator::new().unwrap();
    let (answer, theirs) = respond(initiator.offer(), &transcript).unwrap();
    let ours = initiator.finish(&answer, &transcript).unwrap();
    let keys = [&ours, &theirs].map(|root| root.expand::<44>(&[b"sa", b"1"]).unwrap());
    let key = complement(|| keys[0].expose().to_vec());
    assert_eq!(in_memory(&key), 2);
    drop(keys);
    assert_eq!(in_memory(&key), 0);
    drop((ours, theirs));
    assert_eq!(in_memory(&key), 0);
}

use super::*;

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
